"""What the formats for a terminal have in common: styled lines, fitted to its width."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from rich.text import Text

from paramcount.grid import Grid, Remark, Style
from paramcount.harmless import visible

if TYPE_CHECKING:
    from rich.console import Console

_MOST_LINES = 40  # that one text is wrapped to
_NARROWEST = 20  # columns that wrapped text gets, however far it is indented


def drawn(lines: Iterable[Text], style: Style) -> str:
    """Return the lines as they are, one below the other, with or without colours."""
    if not style.color:
        return "\n".join(line.plain for line in lines)
    text = io.StringIO()
    console = _console(text)
    for line in lines:
        console.print(line, soft_wrap=True)
    return text.getvalue().removesuffix("\n")


def wrapped(text: Text, width: int | None, *, first: str = "", rest: str = "") -> list[Text]:
    """Return ``text`` in lines of ``width`` columns, each behind its prefix; None: in one line."""
    if width is None or text.cell_len <= width - len(first):
        lines = [text]
    else:
        text = text.copy()
        text.truncate(_MOST_LINES * width, overflow="ellipsis")
        lines = list(text.wrap(_console(io.StringIO()), max(width - max(len(first), len(rest)), _NARROWEST)))
    for line in lines:
        line.rstrip()
        if line.plain.lstrip().startswith("::"):  # which a line of a log of CI must not
            line.plain = line.plain.replace(":", "\ua789", 1)
    return [Text.assemble((rest if number else first, "dim"), line) for number, line in enumerate(lines)]


def heading(grid: Grid, style: Style) -> list[Text]:
    """Return the lines above a table."""
    return wrapped(Text(visible(grid.title), style="bold"), style.width)


def footing(grid: Grid, style: Style) -> list[Text]:
    """Return the lines under a table: its remarks, behind an empty one."""
    lines = [line for remark in grid.remarks for line in _remark(remark, style)]
    return [Text(), *lines] if lines else []


def _remark(remark: Remark, style: Style) -> list[Text]:
    text = Text(visible(remark.text), style="yellow" if remark.fault else "dim")
    return wrapped(text, style.width, first="! " if remark.fault else "  ", rest="    ")


def _console(file: TextIO) -> Console:
    from rich.console import Console  # which plain lines do without

    # Nothing of where it runs may show: neither the environment nor a notebook nor the size of a terminal.
    return Console(
        file=file,
        force_terminal=True,
        force_jupyter=False,
        force_interactive=False,
        color_system="standard",
        no_color=False,
        legacy_windows=False,
        width=80,
        height=25,
        _environ={},
    )
