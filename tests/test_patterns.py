"""A pattern is one of fnmatch, and a folded name stands for what it shows."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import paramcount
from paramcount.outline import Options, outline
from paramcount.patterns import Matcher, compiled

NUMBERS = st.integers(0, 12_345)


@given(NUMBERS, NUMBERS, st.lists(NUMBERS, max_size=20))
def test_a_range_of_numbers_holds_them_and_no_others(first: int, last: int, others: list[int]) -> None:
    if max(first, last) < 10:
        return  # which fnmatch has as a range of characters
    matches = compiled(f"blocks.[{first}-{last}].fc").match
    for number in (first - 1, first, first + 1, last - 1, last, last + 1, *others):
        if number >= 0:
            assert bool(matches(f"blocks.{number}.fc")) == (first <= number <= last)
    assert not matches(f"blocks.0{first}.fc")
    assert not matches("blocks..fc")


@given(st.text("ab.[]!*?-01^\\", max_size=9), st.text("ab.01[]!-^\\", max_size=6))
def test_all_else_means_what_it_means_to_fnmatch(pattern: str, name: str) -> None:
    if not re.search(r"\[[0-9]+-[0-9]+\]", pattern):
        assert bool(compiled(pattern).match(name)) == fnmatchcase(name, pattern)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("[0-3]", ["0", "1", "2", "3"]),
        ("1[0-3]", ["10", "11", "12", "13"]),
        ("[!0]", [str(number) for number in range(1, 10)]),
        ("[19]", ["1", "9"]),
        ("[9-12]", ["9", "10", "11", "12"]),
        ("[0-0]", ["0"]),
        ("[11-9]", []),
        ("*[10-11]", ["10", "11"]),
        ("?[10-11]", []),
    ],
)
def test_what_looks_like_a_range(pattern: str, found: list[str]) -> None:
    assert [name for name in map(str, range(20)) if compiled(pattern).match(name)] == found


def test_a_folded_name_covers_what_is_beneath_it() -> None:
    matcher = Matcher(["encoder.[8-11].norm[1-2]", "head"])
    covered = ["encoder.8.norm1", "encoder.11.norm2.weight", "head.bias"]
    others = ["encoder.1.norm1", "encoder.12.norm1", "encoder.8.norm3.weight", "encoder.8"]
    assert [name for name in (*covered, *others) if matcher.covers(name)] == covered


class Deep(nn.Module):
    """Has twelve blocks that a table folds, with two layers each that it folds, too."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"norm1": nn.Linear(2, 2), "norm2": nn.Linear(2, 2), "fc": nn.Linear(2, 3)})
            for _ in range(12)
        )


def test_every_folded_name_of_a_table_stands_for_what_is_in_its_row() -> None:
    model = Deep()
    whole = paramcount.count(model)
    names = {str(row.cells[0]) for row in outline(whole, Options(depth=3)).rows if "[" in str(row.cells[0])}
    assert names >= {"blocks.[0-11]", "blocks.[0-11].norm[1-2]", "blocks.[0-11].fc"}
    for name in names:
        family = re.sub(r"\[[^\]]*\]", "[0-9]+", name.replace(".", r"\."))
        right = sum(param.numel() for key, param in model.named_parameters() if re.match(rf"{family}(\.|$)", key))
        assert paramcount.count(model, include=[name]).total == right
        assert paramcount.count(model, freeze=[name]).frozen == right
        assert paramcount.count(model, exclude=[name]).total == whole.total - right
