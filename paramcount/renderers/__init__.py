"""The output formats: each module here that has ``render`` is one, and its file name is the word that ``-f`` takes."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from paramcount.grid import Result, Style


class Renderer(Protocol):
    """A module under ``paramcount.renderers``."""

    def render(self, result: Result, style: Style) -> str:
        """Return the result as text, without a newline at its end."""


def renderer(format_name: str) -> Renderer:
    """Return the renderer of a format."""
    return cast("Renderer", import_module(f"{__name__}.{format_name}"))
