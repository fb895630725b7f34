"""How people's formats print a cell."""

from __future__ import annotations

from paramcount.grid import AtLeast, Cell, Column
from paramcount.units import exact, size


def printed(cell: Cell, column: Column) -> str:
    """Return a cell's text; control characters are spelt out, so that no name can break a line or a terminal."""
    if cell is None:
        return "?"
    if isinstance(cell, str):
        return visible(cell)
    bound = "≥ " if isinstance(cell, AtLeast) else ""
    if column.kind == "bytes":
        return bound + size(int(cell))
    if column.kind == "share":
        return percent(float(cell))
    if column.kind == "ratio":
        return f"{cell:.3g}"
    return bound + exact(int(cell))


def percent(share: float) -> str:
    """Return a share with one decimal: «<0.1%» for what is there but would round to none, «>99.9%» likewise."""
    if 0 < share < 0.0005:  # noqa: PLR2004  # rounds to 0.0
        return "<0.1%"
    if 0.9995 <= share < 1:  # noqa: PLR2004  # rounds to 100.0
        return ">99.9%"
    return f"{share:.1%}"


def visible(text: str) -> str:
    """Return ``text`` with its control characters escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
