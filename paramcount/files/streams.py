"""Reads what comes once, from its start to its end, as from a pipe."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from tempfile import SpooledTemporaryFile

from paramcount.errors import UnreadableFile

_CHUNK = 2**20  # bytes to read at a time
_IN_MEMORY = 16 * 2**20
_START_KEPT = 256 * 2**20  # more than any format's header takes
_END_KEPT = 80 * 2**20  # and than a zip archive's directory


class Stream:
    """A file that comes once. Its start and its end are kept; what is between them is forgotten, if it is much."""

    is_far = True  # once it has passed

    def __init__(
        self,
        name: str,
        more: Callable[[int], bytes],
        *,
        start: bytes = b"",
        size: int | None = None,
        most: int | None = None,
    ) -> None:
        """Take what returns some of the next bytes, or none at the end.

        Args:
            name: for messages.
            more: is given the number of bytes to return at most.
            start: what has been read already.
            size: of the file, where it is known before.
            most: how many bytes to read and no more; None is all there are.

        """
        self.name = name
        self._more = more
        self.known_size = size
        self._most = most
        self._ended = False
        self._position = 0
        self._start = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # closed in close()
        self._start_length = 0
        self._end: deque[bytes] = deque()
        self._end_length = 0
        self._keep(start)

    @property
    def size(self) -> int:
        """The file's bytes; where nobody has said how many there are, it is read to its end."""
        if self.known_size is None:
            self._advance(None)
            self.known_size = self._position
        return self.known_size

    def upto(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``, or what there is of them."""
        if self.known_size is None:
            self._advance(start + length)
        size = self._position if self.known_size is None else self.known_size
        return self.read(start, min(length, size - start)) if start < size else b""

    def read(self, start: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``start``."""
        end = start + length
        if start < 0 or length < 0 or (self.known_size is not None and end > self.known_size):
            raise self._cut_short(self.known_size or 0)
        self._advance(end)
        if end > self._position:
            raise self._cut_short(self._position)
        if end <= self._start_length:
            return self._from_start(start, length)
        end_at = self._position - self._end_length
        if end_at > self._start_length and start < end_at:
            raise UnreadableFile(
                f"{self.name} is needed from byte {start:,}, which has passed: it comes only once",
                hint="save it as a file, and count that",
            )
        head = self._from_start(start, self._start_length - start) if start < self._start_length else b""
        self._end = deque([b"".join(self._end)])
        return head + self._end[0][max(0, start - end_at) : end - end_at]

    def close(self) -> None:
        """Forget what was kept."""
        self._start.close()

    def _cut_short(self, size: int) -> UnreadableFile:
        return UnreadableFile(f"{self.name} ends after {size:,} bytes, and should go on: it is cut short")

    def _from_start(self, start: int, length: int) -> bytes:
        self._start.seek(start)
        return self._start.read(length)

    def _advance(self, end: int | None) -> None:
        """Read on up to a place, or to the end."""
        if self._most is not None and end is not None and end > self._most:
            raise self._too_far()
        while not self._ended and (end is None or self._position < end):
            wanted = _CHUNK if end is None else min(_CHUNK, end - self._position)
            if self._most is not None and self._position + wanted > self._most:
                raise self._too_far()
            data = self._more(wanted)
            self._ended = not data
            try:
                self._keep(data)
            except OSError as error:
                raise UnreadableFile(f"cannot keep what {self.name} begins with: {error}") from error

    def _too_far(self) -> UnreadableFile:
        return UnreadableFile(
            f"{self.name} cannot be read in parts, and over {self._most or 0:,} bytes would have to be fetched",
            hint="save it as a file, and count that",
        )

    def _keep(self, data: bytes) -> None:
        self._position += len(data)
        room = _START_KEPT - self._start_length
        if room:
            self._start.seek(self._start_length)
            self._start_length += self._start.write(data[:room])
            data = data[room:]
        if data:
            self._end.append(data)
            self._end_length += len(data)
        while self._end and self._end_length - len(self._end[0]) >= _END_KEPT:
            self._end_length -= len(self._end.popleft())
