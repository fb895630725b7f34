"""GitHub-flavoured Markdown tables: https://github.github.com/gfm/."""

from __future__ import annotations

import re
from collections.abc import Iterable

from paramcount.grid import Cell, Column, Grid, Result, Row, Style
from paramcount.harmless import visible
from paramcount.renderers.cells import printed

# What Markdown takes for its own. An underscore within a word means nothing to it.
_SPECIAL = re.compile(r"[\\`*\[~|&<>]|(?<![^\W_])_|_(?![^\W_])")
# What GitHub makes something of even where it is escaped: $mathematics$, @users, #issues, :emoji:.
_LIVE = re.compile(r"(\S*(?:[$@#]|:[\w+-]+:)\S*)")


def render(result: Result, style: Style) -> str:  # noqa: ARG001
    """Return each grid as a heading, a table and its remarks."""
    return "\n\n".join(_section(grid.for_people()) for grid in result.grids())


def _section(grid: Grid) -> str:
    columns = grid.columns
    lines = [
        f"### {_line_of(grid.title)}",
        "",
        _joined(_text(column.title) for column in columns),
        _joined("---" if column.kind in {"name", "text"} else "---:" for column in columns),
        *(_joined(_cells(row, columns)) for row in grid.rows),
        *(_joined(f"**{cell}**" if cell else "" for cell in _cells(row, columns)) for row in grid.totals),
    ]
    if grid.remarks:
        lines += ["", *(f"- {_line_of(remark.text)}" for remark in grid.remarks)]
    return "\n".join(lines)


def _cells(row: Row, columns: tuple[Column, ...]) -> list[str]:
    cells = [_cell(cell, column, row) for cell, column in zip(row.cells, columns, strict=True)]
    return ["Total", *cells[1:]] if row.role == "total" else cells


def _cell(cell: Cell, column: Column, row: Row) -> str:
    text = printed(cell, column)
    if not isinstance(cell, str):
        return text
    return _code(text) if column.kind == "name" and row.role != "rest" else _text(text)


def _joined(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _line_of(text: str) -> str:
    """Return ``text`` for a heading or a list item, where it makes no list or rule of its own."""
    return re.sub(r"\A(\d*)([-+=.)])", r"\1\\\2", _text(visible(text)))


def _text(text: str) -> str:
    """Return ``text`` with all escaped that Markdown or HTML would take for its own."""
    words = _LIVE.split(text)  # every other part is one that only a code span keeps as it is
    escaped = "".join(_code(word) if number % 2 else _SPECIAL.sub(_escape, word) for number, word in enumerate(words))
    return re.sub(r"\A | \Z", "&#32;", escaped)


def _escape(special: re.Match[str]) -> str:
    # Entities where a backslash would mean one thing to the table and another to what is in its cell.
    char = special[0]
    return f"&#{ord(char)};" if char in "\\|&<>" else f"\\{char}"


def _code(text: str) -> str:
    """Return a code span, fenced with more backticks than the text has in a row; a table needs its pipes escaped."""
    if not text:
        return ""
    if "\\|" in text or "##" in text:  # tables of different programs read the one in different ways; runners obey ##[
        return f"<code>{re.sub(r'[^a-zA-Z0-9]', lambda char: f'&#{ord(char[0])};', text)}</code>"
    fence = "`" * (max(map(len, re.findall(r"`+", text)), default=0) + 1)
    is_stripped = text.strip(" ") != "" and text.startswith(" ") and text.endswith(" ")
    padding = " " if is_stripped or text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{padding}{text}{padding}{fence}".replace("|", "\\|")
