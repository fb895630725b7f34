"""Reads parts of a file, here or far away: a format's reader asks for the bytes it needs, and no others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from paramcount.errors import UnknownTarget, UnreadableFile, closest, did_you_mean


class Ranges(Protocol):
    """A file that can be read in parts."""

    name: str  # for messages, without credentials
    size: int  # bytes

    def read(self, start: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``start``.

        Raises:
            UnreadableFile: the file ends before, or cannot be read.

        """


@contextmanager
def opened(word: str) -> Iterator[Ranges]:
    """Open a file for as long as the context lasts.

    Raises:
        UnknownTarget: there is no such file.
        UnreadableFile: it cannot be opened.

    """
    path = Path(word).expanduser()
    try:
        stream = path.open("rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError):
        beside = [str(found) for found in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UnknownTarget(f"there is no file {word}", hint=did_you_mean(closest(str(path), beside))) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UnreadableFile(f"cannot read {word}: {getattr(error, 'strerror', None) or error}") from error
    with stream:
        yield _Local(word, stream)


class _Local:
    def __init__(self, name: str, stream: BinaryIO) -> None:
        self.name = name
        self.size = os.fstat(stream.fileno()).st_size
        self._stream = stream

    def read(self, start: int, length: int) -> bytes:
        if start < 0 or length < 0 or start + length > self.size:
            raise UnreadableFile(f"{self.name} ends after {self.size:,} bytes, and should go on: it is cut short")
        self._stream.seek(start)
        parts = []
        while length:
            part = self._stream.read(length)
            if not part:
                raise UnreadableFile(f"{self.name} ends before its time: it is cut short, or still being written")
            parts.append(part)
            length -= len(part)
        return b"".join(parts)
