from __future__ import annotations

import pytest

from paramcount.grid import AtLeast, Cell, Column, Grid, Kind, Row, ShareAtLeast, ShareAtMost
from paramcount.harmless import visible
from paramcount.renderers.cells import own_names, printed


@pytest.mark.parametrize(
    ("cell", "kind", "text"),
    [
        (None, "count", "?"),
        (25_557_032, "count", "25,557,032"),
        (AtLeast(1234), "count", "≥ 1,234"),
        (AtLeast(0), "count", "≥ 0"),
        (102_228_128, "bytes", "102.23 MB"),
        (AtLeast(102_228_128), "bytes", "≥ 102.23 MB"),
        (1.0, "ratio", "1.00×"),
        (1234.5678, "ratio", "1,234.57×"),
        (0.00123, "ratio", "0.0012×"),
        (0, "share", "0.0%"),
        (1, "share", "100.0%"),
        (0.5, "share", "50.0%"),
        (1e-9, "share", "<0.1%"),
        (0.0006, "share", "0.1%"),
        (0.99999, "share", ">99.9%"),
        (ShareAtLeast(0.3339), "share", "≥ 33.3%"),
        (ShareAtLeast(0.0), "share", "≥ 0.0%"),
        (ShareAtMost(0.3331), "share", "≤ 33.4%"),
        (ShareAtMost(0.99999), "share", "≤ 100.0%"),
        (ShareAtMost(0.0), "share", "0.0%"),
        ("a\nb", "name", "a\\nb"),
    ],
)
def test_a_cell_as_people_read_it(cell: Cell, kind: Kind, text: str) -> None:
    assert printed(cell, Column("key", "Title", kind)) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("层 é 🙂 [bold]", "层 é 🙂 [bold]"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202e", "\\u202e"),
        ("a\r\n\tb", "a\\r\\n\\tb"),
        ("\x00\x85\xa0", "\\x00\\x85\\xa0"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_control_characters_are_spelt_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_an_own_name_is_what_follows_the_name_of_the_row_above_it_in_the_hierarchy() -> None:
    rows = [("net.py:Net", 0), ("a", 1), ("a.b", 2), ("a.b.c.d", 3), ("a.e", 2), ("ab", 1), ("ab.c", 2)]
    grid = Grid("title", (Column("name", "Layer", "name"),), tuple(Row((name,), depth) for name, depth in rows))
    assert own_names(grid) == ["net.py:Net", "a", "b", "c.d", "e", "ab", "c"]
