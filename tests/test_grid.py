from __future__ import annotations

import pytest

from paramcount.grid import AtLeast, Cell, Column, Grid, Row, ShareAtLeast, ShareAtMost, is_nothing

COLUMNS = (
    Column("layer", "Layer", "name"),
    Column("bytes", "Bytes", "bytes", readers="machines"),
    Column("each", "Each", "count", readers="people", hide_if_zero=True),
    Column("total", "Parameters", "count"),
    Column("unknown", "Unknown", "count", hide_if_zero=True),
)


def grid(*rows: tuple[Cell, ...], totals: tuple[tuple[Cell, ...], ...] = ()) -> Grid:
    return Grid("a title", COLUMNS, tuple(map(Row, rows)), tuple(Row(cells, role="total") for cells in totals))


def keys(grid: Grid) -> list[str]:
    return [column.key for column in grid.columns]


def test_people_see_no_column_that_is_zero_or_blank_in_every_row() -> None:
    shown = grid(("a", 8, "", 2, 0), ("b", 4, "", 0, 0)).for_people()

    assert keys(shown) == ["layer", "total"]
    assert [row.cells for row in shown.rows] == [("a", 2), ("b", 0)]


def test_people_see_a_column_that_says_something_in_one_row_or_in_a_total() -> None:
    assert keys(grid(("a", 8, 1, 2, 0), ("b", 4, "", 0, 0)).for_people()) == ["layer", "each", "total"]
    assert keys(grid(("a", 8, "", 2, 0), totals=(("", 8, "", 2, 5),)).for_people()) == ["layer", "total", "unknown"]


def test_a_count_that_may_grow_is_not_hidden_as_zero() -> None:
    assert keys(grid(("a", 8, "", 2, AtLeast(0))).for_people()) == ["layer", "total", "unknown"]


def test_machines_get_the_same_columns_whatever_the_data() -> None:
    assert keys(grid(("a", 8, 1, 2, 0)).for_machines()) == ["layer", "bytes", "total", "unknown"]
    assert keys(grid().for_machines()) == ["layer", "bytes", "total", "unknown"]


def test_a_column_is_found_by_its_key() -> None:
    assert grid().column("total") == 3
    assert grid().column("share") is None


@pytest.mark.parametrize("cell", [0, 0.0, "", ShareAtMost(0.0)])
def test_zero_and_blank_are_nothing(cell: Cell) -> None:
    assert is_nothing(cell)


@pytest.mark.parametrize("cell", [None, 1, "a", 0.1, AtLeast(0), ShareAtLeast(0.0)])
def test_what_is_there_or_is_not_known_is_something(cell: Cell) -> None:
    assert not is_nothing(cell)
