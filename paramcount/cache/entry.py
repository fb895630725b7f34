"""One entry of the cache: an inventory, what it depends on, and what its model printed; as bytes with a checksum."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, get_args, get_type_hints

from paramcount.cache.hashes import CHECKSUM, checksum
from paramcount.cache.manifest import Manifest
from paramcount.inventory import Inventory
from paramcount.pause import paused_collector


class Malformed(ValueError):
    """These bytes are no entry, or not all of one."""


@dataclass(frozen=True, slots=True)
class Entry:
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


# A value is the list of its fields, in their order: which they are is part of the key.


def _rows(inventory: Inventory) -> list[Any]:
    return [getattr(inventory, field.name) for field in fields(Inventory)]  # JSON takes named tuples for lists


def _inventory(values: list[Any]) -> Inventory:
    hints = get_type_hints(Inventory)
    parts: list[Any] = []
    for field, value in zip(fields(Inventory), values, strict=True):
        row_type, *_ = get_args(hints[field.name]) or (None,)
        is_rows = isinstance(row_type, type) and hasattr(row_type, "_fields")
        parts.append(tuple(row_type(*map(_frozen, row)) for row in value) if is_rows else value)
    return Inventory(*parts)


def _frozen(value: Any) -> Any:
    return tuple(value) if type(value) is list else value
