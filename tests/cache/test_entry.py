"""An entry gives back, field by field, what was put into it, and nothing that is no inventory."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given

from paramcount.cache.entry import Entry, Malformed
from paramcount.inventory import Inventory, Module, Param
from tests.strategies import inventories

FACTS: dict[str, dict[str, Any]] = {"content": {"a.json": [3, "abc"]}, "state": {"b": None}}


def signed(body: object) -> bytes:
    """Return bytes with the checksum that an entry has, which whoever writes one can add."""
    data = json.dumps(body).encode()
    return blake2b(data, digest_size=16).digest() + data


@given(inventories())
def test_an_entry_is_what_it_was(inventory: Inventory) -> None:
    entry = Entry.loads(Entry(FACTS, "said\n", inventory).dumps())
    assert entry.inventory() == inventory
    assert (entry.facts, entry.printed) == (FACTS, "said\n")


@pytest.mark.parametrize(
    "body",
    [[], {}, 3, None, [{}, ""], [[], "", []], [{"content": []}, "", []], [{"another": {}}, "", []], [{}, 3, []]],
)
def test_what_has_another_form_is_malformed(body: object) -> None:
    with pytest.raises(Malformed):
        Entry.loads(signed(body))


WEIGHT = Param("weight", (2, 3), "float32", 6, 24, trainable=True)
ROWS = json.loads(Entry({}, "", Inventory("m", "timm", (Module("", "Net"),), (WEIGHT,))).dumps()[16:])[2]


@pytest.mark.parametrize("value", ["6", 6.0, -6, True, [6], {}])
@pytest.mark.parametrize("field", [1, 3, 4])  # shape, numel, nbytes
def test_a_number_that_is_no_count_is_malformed(field: int, value: object) -> None:
    rows: list[Any] = json.loads(json.dumps(ROWS))
    assert Entry.loads(signed([{}, "", rows])).inventory().params == (WEIGHT,)
    rows[3][0][field] = value if field != 1 else [2, value]
    with pytest.raises(Malformed):
        Entry.loads(signed([{}, "", rows])).inventory()


@pytest.mark.parametrize("rows", [[], [3], [[3]] * 9, {}, None])
def test_rows_of_another_form_are_malformed(rows: object) -> None:
    with pytest.raises(Malformed):
        Entry.loads(signed([{}, "", rows])).inventory()
