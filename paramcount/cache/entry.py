"""One entry of the cache: an inventory, what it depends on, and what its model printed; as bytes with a checksum."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from paramcount.cache.hashes import CHECKSUM, checksum
from paramcount.cache.manifest import Manifest
from paramcount.inventory import Buffer, Inventory, Module, Note, Param, Special
from paramcount.pause import paused_collector


class Malformed(ValueError):
    """These bytes are no entry, or not all of one."""


class Entry(NamedTuple):
    """What is kept of one build."""

    manifest: Manifest
    printed: str  # to stdout and stderr, while it was built
    rows: list[Any]  # the inventory, in plain lists: it is put together only where the manifest still holds

    @classmethod
    def of(cls, manifest: Manifest, printed: str, inventory: Inventory) -> Entry:
        """Return what to keep of a build."""
        return cls(manifest, printed, _rows(inventory))

    @paused_collector()
    def inventory(self) -> Inventory:
        """Return what the model holds.

        Raises:
            Malformed: the rows have another form.

        """
        try:
            return _inventory(self.rows)
        except (ValueError, TypeError) as error:
            raise Malformed from error

    @paused_collector()
    def dumps(self) -> bytes:
        """Return the entry as bytes."""
        body = json.dumps([self.manifest.facts, self.printed, self.rows], separators=(",", ":")).encode("ascii")
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
            facts, printed, rows = json.loads(body)
            manifest = Manifest.read(facts)
        except (ValueError, TypeError, RecursionError) as error:
            raise Malformed from error
        if not isinstance(printed, str) or not isinstance(rows, list):
            raise Malformed
        return cls(manifest, printed, rows)


# A value is the list of its fields, in their order: which they are is part of the key. Of these there are many each.
_ROWS: Mapping[str, type[NamedTuple]] = {
    "modules": Module,
    "params": Param,
    "buffers": Buffer,
    "notes": Note,
    "overhead": Buffer,
    "special": Special,
}


def _rows(inventory: Inventory) -> list[Any]:
    return [getattr(inventory, name) for name in Inventory.__slots__]  # JSON takes named tuples for lists


def _inventory(values: list[Any]) -> Inventory:
    parts: list[Any] = []
    for name, value in zip(Inventory.__slots__, values, strict=True):
        kind = _ROWS.get(name)
        parts.append(value if kind is None else tuple(kind._make(map(_frozen, row)) for row in value))
    return Inventory(*parts)


def _frozen(value: Any) -> Any:
    return tuple(value) if type(value) is list else value
