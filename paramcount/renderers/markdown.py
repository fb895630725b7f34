"""GitHub-flavoured Markdown tables."""

from __future__ import annotations

import html
import re

from paramcount.grid import Cell, Column, Grid, Result, Row, Style
from paramcount.renderers.cells import printed, visible

_SPECIAL = re.compile(r"[\\`*_\[\]|~#$]")


def render(result: Result, style: Style) -> str:  # noqa: ARG001
    """Return each grid as a heading, a table and its remarks."""
    return "\n\n".join(_section(grid.for_people()) for grid in result.grids())


def _section(grid: Grid) -> str:
    lines = [
        f"### {_text(grid.title)}",
        "",
        _line([_text(column.title) for column in grid.columns]),
        _line(["---" if column.kind in {"name", "text"} else "---:" for column in grid.columns]),
        *(_line(_cells(row, grid.columns)) for row in grid.rows),
        *(_line([f"**{cell}**" if cell else "" for cell in _cells(row, grid.columns)]) for row in grid.totals),
    ]
    if grid.remarks:
        lines += ["", *(f"- {_text(remark.text)}" for remark in grid.remarks)]
    return "\n".join(lines)


def _cells(row: Row, columns: tuple[Column, ...]) -> list[str]:
    if row.role == "total":
        return ["Total", *(_cell(cell, column) for cell, column in list(zip(row.cells, columns, strict=True))[1:])]
    return [_cell(cell, column) for cell, column in zip(row.cells, columns, strict=True)]


def _cell(cell: Cell, column: Column) -> str:
    if column.kind == "name" and isinstance(cell, str):
        return _code(visible(cell))
    text = printed(cell, column)
    return _text(text) if isinstance(cell, str) else text


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    """Escape all that Markdown or HTML would take for its own."""
    return html.escape(_SPECIAL.sub(r"\\\g<0>", visible(text)), quote=False)


def _code(text: str) -> str:
    """Return a code span, fenced with more backticks than the text has in a row; a table needs its pipes escaped."""
    if not text:
        return ""
    fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    padding = " " if text.startswith("`") or text.endswith("`") or (text.startswith(" ") and text.endswith(" ")) else ""
    return f"{fence}{padding}{text}{padding}{fence}".replace("|", "\\|")
