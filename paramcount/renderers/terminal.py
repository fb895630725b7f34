"""What the formats drawn by rich have in common: a console that writes to a string."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.text import Text

from paramcount.grid import Remark, Style
from paramcount.renderers.cells import visible

_UNLIMITED = 100_000  # columns: rich wants a number


def drawn(parts: Iterable[RenderableType], style: Style) -> str:
    """Return what rich makes of ``parts``, one below the other, without spaces at the ends of lines."""
    text = io.StringIO()
    console = Console(
        file=text,
        width=style.width or _UNLIMITED,
        force_terminal=style.color,
        color_system="standard" if style.color else None,
        no_color=not style.color,
        legacy_windows=False,
    )
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text) and style.width is None)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def title(text: str) -> Text:
    """Return a heading."""
    return Text(visible(text), style="bold")


def remark(said: Remark) -> Text:
    """Return a line under a table."""
    return Text(("! " if said.fault else "  ") + visible(said.text), style="yellow" if said.fault else "dim")
