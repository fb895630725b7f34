"""An entry gives back, field by field, what was put into it."""

from __future__ import annotations

import json
from hashlib import blake2b

import pytest
from hypothesis import given

from paramcount.cache.entry import Entry, Malformed
from paramcount.cache.manifest import Manifest
from paramcount.inventory import Inventory
from tests.strategies import inventories


@given(inventories())
def test_an_entry_is_what_it_was(inventory: Inventory) -> None:
    manifest = Manifest({"content": {"a.py": [3, "abc"]}, "variable": {"B": None}})
    entry = Entry.loads(Entry.of(manifest, "said\n", inventory).dumps())
    assert entry.inventory() == inventory
    assert (entry.manifest, entry.printed) == (manifest, "said\n")


@pytest.mark.parametrize(
    "body",
    [[], {}, 3, None, [{}, ""], [[], "", []], [{"content": []}, "", []], [{"another": {}}, "", []], [{}, 3, []]],
)
def test_what_has_another_form_is_malformed(body: object) -> None:
    data = json.dumps(body).encode()
    with pytest.raises(Malformed):
        Entry.loads(blake2b(data, digest_size=16).digest() + data)


@pytest.mark.parametrize("rows", [[], [3], [[3]] * 9])
def test_rows_of_another_form_are_malformed(rows: list[object]) -> None:
    with pytest.raises(Malformed):
        Entry(Manifest({}), "", rows).inventory()
