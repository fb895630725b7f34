"""One entry of the cache: an inventory, what it depends on, and what its model printed; as bytes with a checksum."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from paramcount.cache.facts import FACTS, Facts
from paramcount.cache.hashes import CHECKSUM, checksum
from paramcount.inventory import Inventory
from paramcount.pause import paused_collector
from paramcount.typed_json import Mistyped, dumps, read


class Malformed(ValueError):
    """These bytes are no entry, or not all of one."""


class Entry(NamedTuple):
    """What is kept of one build."""

    facts: Facts
    printed: str  # to stdout and stderr, while it was built
    value: Any  # the inventory, or as JSON has it: it is put together only where the facts still hold

    @paused_collector()
    def inventory(self) -> Inventory:
        """Return what the model holds.

        Raises:
            Malformed: the value is no inventory.

        """
        try:
            return read(Inventory, self.value)
        except Mistyped as error:
            raise Malformed from error

    @paused_collector()
    def dumps(self) -> bytes:
        """Return the entry as bytes."""
        body = dumps(list(self))
        return checksum(body) + body

    @classmethod
    @paused_collector()
    def loads(cls, data: bytes) -> Entry:
        """Return the entry that ``dumps`` made these bytes of.

        Raises:
            Malformed: these are not all of its bytes, or others, or have another form.

        """
        body = data[CHECKSUM:]
        if data[:CHECKSUM] != checksum(body):
            raise Malformed
        try:
            entry = cls(*json.loads(body))
        except (ValueError, TypeError, RecursionError) as error:
            raise Malformed from error
        if not isinstance(entry.printed, str) or not _are_facts(entry.facts):
            raise Malformed
        return entry


def _are_facts(facts: object) -> bool:
    return isinstance(facts, Mapping) and all(
        kind in FACTS and isinstance(known, Mapping) for kind, known in facts.items()
    )
