"""Reads parts of a file that is far away, in as few requests as its reader's steps allow."""

from __future__ import annotations

from collections.abc import Callable

from paramcount.errors import UnreadableFile

BLOCK = 128 * 2**10  # bytes to ask for at least: most headers are smaller
_LARGEST_BLOCK = 8 * 2**20  # to read ahead
_KEPT = 3  # blocks, beside the first


class Blocks:
    """A file of which blocks are fetched, and kept for a while."""

    is_far = True

    def __init__(self, name: str, size: int, fetch: Callable[[int, int], bytes], first: bytes = b"") -> None:
        """Take what fetches the bytes from one place up to another; the ``first`` may be there already."""
        self.name = name
        self.size = self.known_size = size
        self._fetch = fetch
        self._blocks = [(0, first)]
        self._ahead = BLOCK

    def upto(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``, or what there is of them."""
        return self.read(start, min(length, self.size - start)) if start < self.size else b""

    def read(self, start: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``start``."""
        end = start + length
        if start < 0 or length < 0 or end > self.size:
            raise UnreadableFile(f"{self.name} ends after {self.size:,} bytes, and should go on: it is cut short")
        at, block = self._block(start, end)
        if at + len(block) < end:
            raise UnreadableFile(f"{self.name} ends before its time: it was changed while it was read")
        return block[start - at : end - at]

    def _block(self, start: int, end: int) -> tuple[int, bytes]:
        """Return a block that holds the bytes up to ``end``, and where it begins."""
        known = next((kept for kept in self._blocks if kept[0] <= start < kept[0] + len(kept[1])), (start, b""))
        at, block = known
        begin = at + len(block)
        if end <= begin:
            return known
        # Who reads on where a block ended will do so again.
        self._ahead = min(2 * self._ahead, _LARGEST_BLOCK) if block or self._ended(begin) else BLOCK
        stop = min(self.size, max(end, begin + self._ahead))
        if stop == self.size and not block:  # at its end formats have what is read backwards
            at = begin = max(0, min(begin, self.size - BLOCK))
        fetched = (at, block + self._fetch(begin, stop))
        self._blocks = [self._blocks[0], *self._blocks[1:][-_KEPT + 1 :], fetched]
        return fetched

    def _ended(self, place: int) -> bool:
        return any(at + len(block) == place for at, block in self._blocks if block)
