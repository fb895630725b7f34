"""Comma-separated values (RFC 4180): one header whatever the number of targets, every number with all its digits."""

from __future__ import annotations

import csv
import io

from paramcount.grid import Result, Style


def render(result: Result, style: Style) -> str:  # noqa: ARG001
    """Return the rows of all grids under one header; the first column says what a row is about."""
    return separated(result, ",")


def separated(result: Result, delimiter: str) -> str:
    """Return the rows with another delimiter; a cell that holds it is quoted."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    header: list[str] = []
    for grid in result.grids():
        table = grid.for_machines()
        columns = ["target", *(column.key for column in table.columns if column.key != "target")]
        if columns != header:
            if header:
                continue  # a comparison repeats the totals
            header = columns
            writer.writerow(header)
        for row in (*table.totals, *table.rows):
            cells = dict(zip((column.key for column in table.columns), row.cells, strict=True))
            cells.setdefault("target", table.subject)
            writer.writerow(["" if cells[key] is None else cells[key] for key in header])
    return text.getvalue().rstrip("\n")
