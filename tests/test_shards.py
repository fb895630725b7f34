"""Shards split work without loss and without overlap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramcount.shards import Shard


@given(st.lists(st.integers()), st.integers(1, 9))
def test_every_item_is_in_exactly_one_shard(items: list[int], of: int) -> None:
    parts = [Shard(index, of).part(list(enumerate(items))) for index in range(1, of + 1)]
    assert sorted(item for part in parts for item in part) == list(enumerate(items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("written", ["1/1", "1/3", "3/3", "12/120"])
def test_a_shard_is_written_as_it_is_read(written: str) -> None:
    assert str(Shard.parse(written)) == written


@pytest.mark.parametrize(
    "written", ["", "1", "1/", "/3", "0/3", "4/3", "1/0", "a/b", "1/3/5", " 1/3", "01/3", "-1/3", 1]
)
def test_anything_else_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match=r"is no shard: (write 1/3 for the first of three|there is none after 3/3)"):
        Shard.parse(written)
