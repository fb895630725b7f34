"""An entry gives back, field by field, what was put into it."""

from __future__ import annotations

from hypothesis import given

from paramcount.cache.entry import Entry
from paramcount.cache.manifest import Manifest
from paramcount.inventory import Inventory
from tests.strategies import inventories


@given(inventories())
def test_an_entry_is_what_it_was(inventory: Inventory) -> None:
    manifest = Manifest({"content": {"a.py": [3, "abc"]}, "variable": {"B": None}})
    entry = Entry.loads(Entry.of(manifest, "said\n", inventory).dumps())
    assert entry.inventory() == inventory
    assert (entry.manifest, entry.printed) == (manifest, "said\n")
