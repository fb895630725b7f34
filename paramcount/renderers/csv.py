"""Comma-separated values (RFC 4180): one header whatever the number of targets, every number with all its digits.

Names are as in a table, without control characters; one that a spreadsheet would calculate has an apostrophe in front.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from paramcount.grid import Grid, Result, Style
from paramcount.harmless import cell

_ENDING = "\r\n"  # told to the writer, which quotes a cell that holds any character of it


class _Lines(io.StringIO):
    """Lines that end as they do everywhere else in a terminal or a pipe."""

    def write(self, line: str, /) -> int:
        return super().write(line.removesuffix(_ENDING) + "\n")


def render(result: Result, style: Style) -> str:  # noqa: ARG001
    """Return the rows of all grids under one header; the first column says what a row is about."""
    return separated(result, ",")


def separated(result: Result, delimiter: str) -> str:
    """Return the rows with another delimiter; a cell that holds it is quoted."""
    grids = result.grids()
    tables = [grid.for_machines() for grid in grids if not grid.summary] or [grid.for_machines() for grid in grids]
    if not tables:
        return ""
    header = list(dict.fromkeys(["target", *(column.key for table in tables for column in table.columns)]))
    text = _Lines()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=_ENDING)
    writer.writerow(header)
    for table in tables:
        writer.writerows(_records(table, header))
    return text.getvalue().removesuffix("\n")


def _records(table: Grid, header: Sequence[str]) -> Iterator[list[object]]:
    """Yield the rows, those that sum up the others first; what is not known, or not in this table, is blank."""
    places = {column.key: place for place, column in enumerate(table.columns)}
    subject, blank = len(table.columns), len(table.columns) + 1  # behind the cells
    chosen = [places.get(key, subject if key == "target" else blank) for key in header]
    for row in (*table.totals, *table.rows):
        values = (*row.cells, table.subject, None)
        yield [cell(value) if type(value) is str else value for value in map(values.__getitem__, chosen)]
