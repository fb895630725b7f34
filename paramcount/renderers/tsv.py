"""Tab-separated values: as csv, but for the delimiter."""

from __future__ import annotations

from paramcount.grid import Result, Style
from paramcount.renderers.csv import separated


def render(result: Result, style: Style) -> str:  # noqa: ARG001
    """Return the rows of all grids under one header; the first column says what a row is about."""
    return separated(result, "\t")
