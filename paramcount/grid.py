"""The form that every result takes before it is rendered: a table whose numbers are still numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

Kind = Literal[
    "name",  # a dotted name or a target
    "text",
    "figure",  # a number in words of its own: "≤ 22,500,000"
    "count",  # elements
    "change",  # elements more or less
    "bytes",
    "share",  # of the whole, as a fraction
    "ratio",  # to the first row
    "number",  # any other integer
]
# rest: the sum of rows that are not shown
Role = Literal["layer", "param", "buffer", "overhead", "rest", "total", "fault"]
Cell = str | int | float | None  # None: not known


class AtLeast(int):
    """A count that may be higher: parameters without a shape are part of it."""


class ShareAtLeast(float):
    """A share that may be higher: its part may grow."""


class ShareAtMost(float):
    """A share that may be lower: the whole may grow."""


class Column(NamedTuple):
    """What one column holds, and who wants to see it."""

    key: str  # stable, for csv and tsv
    title: str
    kind: Kind
    readers: Literal["all", "people", "machines"] = "all"
    hide_if_zero: bool = False  # from people, where it is 0 or empty in every row
    expendable: int = 0  # a narrow terminal does without it, the highest first; 0: never


class Row(NamedTuple):
    """One line; its place in a hierarchy is its depth."""

    cells: tuple[Cell, ...]
    depth: int = 0
    role: Role = "layer"


class Remark(NamedTuple):
    """A line under a table: a plain fact, or a fault to look into."""

    text: str
    fault: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A table with a title, its totals and what is to be said about it.

    The first column names a row; the name of a row with a depth starts with the name of the row above it in the
    hierarchy, and a dot.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    totals: tuple[Row, ...] = ()
    remarks: tuple[Remark, ...] = ()
    subject: str = ""  # what all of the rows are about: the first column of csv and tsv
    summary: bool = False  # repeats the totals of the grids before it

    @property
    def lines(self) -> tuple[Row, ...]:
        """All rows, the totals last."""
        return (*self.rows, *self.totals)

    def column(self, key: str) -> int | None:
        """Return the position of a column; None where there is none of that key."""
        return next((position for position, column in enumerate(self.columns) if column.key == key), None)

    def for_people(self) -> Grid:
        """Return the grid without the columns that tell people nothing."""
        return self._with_columns(
            [
                position
                for position, column in enumerate(self.columns)
                if column.readers != "machines" and not (column.hide_if_zero and self.is_empty(position))
            ]
        )

    def for_machines(self) -> Grid:
        """Return the grid with every column that holds data, whatever the data: a fixed schema."""
        return self._with_columns([i for i, column in enumerate(self.columns) if column.readers != "people"])

    def is_empty(self, position: int) -> bool:
        """Whether a column is 0 or blank in every row."""
        return all(is_nothing(row.cells[position]) for row in self.lines)

    def _with_columns(self, positions: list[int]) -> Grid:
        def picked(rows: tuple[Row, ...]) -> tuple[Row, ...]:
            return tuple(Row(tuple(row.cells[i] for i in positions), row.depth, row.role) for row in rows)

        columns = tuple(self.columns[i] for i in positions)
        return replace(self, columns=columns, rows=picked(self.rows), totals=picked(self.totals))


def is_nothing(cell: Cell) -> bool:
    """Whether a cell is blank, or 0 for certain."""
    return cell in {0, ""} and not isinstance(cell, (AtLeast, ShareAtLeast))


class Style(NamedTuple):
    """How text is to look where it is going."""

    width: int | None = None  # columns; None: as wide as it needs
    color: bool = False


class Result(Protocol):
    """What a command hands to a renderer: a renderer picks the form that it prints."""

    def grids(self) -> list[Grid]:
        """Return the result as tables."""

    def to_dict(self) -> dict[str, Any]:
        """Return the result as the JSON format has it."""
