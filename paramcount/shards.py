"""Splits work over several machines: ``1/3`` is the first of three shards, and every item is in exactly one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from paramcount.units import as_written

Item = TypeVar("Item")

_FORM = re.compile(r"(?P<index>[1-9][0-9]{0,3})/(?P<of>[1-9][0-9]{0,3})")


@dataclass(frozen=True, slots=True)
class Shard:
    """One of so many parts of some work."""

    index: int  # from 1
    of: int

    @classmethod
    def parse(cls, written: object) -> Shard:
        """Return the shard that ``written`` stands for.

        Raises:
            ValueError: it is none; the message says what to write.

        """
        match = _FORM.fullmatch(written) if isinstance(written, str) else None
        if match is None:
            raise ValueError(f"{as_written(written)} is no shard: write 1/3 for the first of three")
        index, of = int(match["index"]), int(match["of"])
        if index > of:
            raise ValueError(f"{as_written(written)} is no shard: there is none after {of}/{of}")
        return cls(index, of)

    def part(self, items: Sequence[Item]) -> list[Item]:
        """Return this shard's items, in their order; neighbours, often alike in size, go to different shards."""
        return list(items[self.index - 1 :: self.of])

    def __str__(self) -> str:
        """Return «1/3»."""
        return f"{self.index}/{self.of}"
