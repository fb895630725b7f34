"""A table for a person at a terminal, as wide as the terminal allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from paramcount.grid import Cell, Column, Grid, Result, Row, Style
from paramcount.renderers.cells import printed
from paramcount.renderers.terminal import drawn, remark, title

_BAR = 10  # columns
_GAP = 2  # between columns
_NARROWEST_TYPE = 12
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def render(result: Result, style: Style) -> str:
    """Return each grid under its title, with its remarks below."""
    return "\n\n".join(drawn(_parts(grid.for_people(), style), style) for grid in result.grids())


def _parts(grid: Grid, style: Style) -> Iterator[RenderableType]:
    yield title(grid.title)
    yield _table(grid, style.width)
    for said in grid.remarks:
        yield remark(said)


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a table gives up, step by step, to fit."""

    bars: bool = True
    dotted: bool = True  # whole names; else the last part, indented
    each: bool = True
    type_width: int | None = None
    name_width: int | None = None


def _table(grid: Grid, width: int | None) -> Table:
    layout = _fitting(grid, width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, _GAP, 0, 0), collapse_padding=True)
    columns = [column for column in grid.columns if layout.each or column.key != "each"]
    for column in columns:
        left = column.kind in {"name", "text"}
        table.add_column(column.title, justify="left" if left or column.kind == "share" else "right", no_wrap=True)
    for row in grid.rows:
        table.add_row(*(Text(cell) for cell in _cells(row, grid, layout)), style=_row_style(row, grid))
    for row in grid.totals:
        table.add_section()
        table.add_row(*(Text(cell) for cell in _cells(row, grid, layout)), style="bold")
    return table


def _row_style(row: Row, grid: Grid) -> str:
    nothing = row.cells[grid.column("total")] == 0
    return "dim" if nothing or row.role != "layer" else ""


def _fitting(grid: Grid, width: int | None) -> _Layout:
    """Return the first layout that is no wider than ``width``, or the narrowest there is."""
    layouts = [
        _Layout(),
        _Layout(bars=False),
        _Layout(bars=False, dotted=False),
        _Layout(bars=False, dotted=False, type_width=_NARROWEST_TYPE),
        _Layout(bars=False, dotted=False, type_width=_NARROWEST_TYPE, each=False),
    ]
    if width is None:
        return layouts[0]
    for layout in layouts:
        if _width(grid, layout) <= width:
            return layout
    excess = _width(grid, layout) - width
    names = max(cell_len(_name(row, grid, layout)) for row in (*grid.rows, *grid.totals))
    return _Layout(bars=False, dotted=False, type_width=_NARROWEST_TYPE, each=False, name_width=max(names - excess, 8))


def _width(grid: Grid, layout: _Layout) -> int:
    titles = [column.title for column in grid.columns if layout.each or column.key != "each"]
    lines = [titles, *(_cells(row, grid, layout) for row in (*grid.rows, *grid.totals))]
    return sum(max(map(cell_len, cells)) for cells in zip(*lines, strict=True)) + _GAP * (len(titles) - 1)


def _cells(row: Row, grid: Grid, layout: _Layout) -> list[str]:
    return [
        _cell(row, cell, column, grid, layout)
        for cell, column in zip(row.cells, grid.columns, strict=True)
        if layout.each or column.key != "each"
    ]


def _cell(row: Row, cell: Cell, column: Column, grid: Grid, layout: _Layout) -> str:
    if column.key == grid.columns[0].key:
        return _shortened(_name(row, grid, layout), layout.name_width, keep_end=True)
    if column.kind == "share":
        return _share(cell, bars=layout.bars, column=column)
    if column.key == "each" and cell == 0:
        return ""
    text = printed(cell, column)
    return _shortened(text, layout.type_width) if column.kind == "text" else text


def _name(row: Row, grid: Grid, layout: _Layout) -> str:
    if row.role == "total":
        return "Total"
    name = printed(row.cells[0], grid.columns[0])
    if layout.dotted or not row.depth:
        return name
    return "  " * (row.depth - 1) + name.rpartition(".")[2]


def _share(cell: Cell, *, bars: bool, column: Column) -> str:
    share = float(cell or 0)
    percent = f"{printed(share, column):>6}"
    return f"{percent} {_bar(share)}".rstrip() if bars else percent


def _bar(share: float) -> str:
    """Return a bar of up to ``_BAR`` columns, in eighths; what is there at all shows."""
    eighths = max(round(share * _BAR * 8), 1 if share else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _shortened(text: str, width: int | None, *, keep_end: bool = False) -> str:
    if width is None or cell_len(text) <= width:
        return text
    return f"…{text[len(text) - width + 1 :]}" if keep_end else f"{text[: width - 1]}…"
