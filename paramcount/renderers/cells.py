"""How people's formats print a cell."""

from __future__ import annotations

import math

from paramcount.grid import AtLeast, Cell, Column, Grid, ShareAtLeast, ShareAtMost
from paramcount.harmless import visible
from paramcount.units import exact, size

_SMALLEST_WITH_TWO_DECIMALS = 0.1


def printed(cell: Cell, column: Column) -> str:
    """Return a cell's text, in which no name can break a line, a terminal or a log."""
    if cell is None:
        return "?"
    if isinstance(cell, str):
        return visible(cell)
    if column.kind == "share":
        return percent(cell)
    if column.kind == "ratio":
        return f"{cell:,.2f}×" if cell >= _SMALLEST_WITH_TWO_DECIMALS else f"{cell:.2g}×"
    number = int(cell)
    if column.kind == "change":
        return f"{'+' if number > 0 else '−'}{exact(abs(number))}" if number else "0"
    return ("≥ " if isinstance(cell, AtLeast) else "") + (size(number) if column.kind == "bytes" else exact(number))


def percent(share: float) -> str:
    """Return a share with one decimal: «<0.1%» for what is there but would round to none, «>99.9%» likewise."""
    if isinstance(share, ShareAtLeast):
        return f"≥ {math.floor(share * 1000) / 10:.1f}%"
    if isinstance(share, ShareAtMost) and share:
        return f"≤ {math.ceil(share * 1000) / 10:.1f}%"
    text = f"{share:.1%}"
    if share > 0 and text == "0.0%":
        return "<0.1%"
    if text == "100.0%" and share != 1:
        return ">99.9%" if share < 1 else ">100%"
    return text


def own_names(grid: Grid) -> list[str]:
    """Return each row's name without the name of the row that it is beneath."""
    names: list[str] = []
    above: list[tuple[int, str]] = []  # depth and full name of the rows that the current one is beneath
    for row in grid.rows:
        while above and above[-1][0] >= row.depth:
            above.pop()
        name = str(row.cells[0])
        names.append(visible(name.removeprefix(f"{above[-1][1]}.") if above else name))
        above.append((row.depth, name))
    return names
