"""The files of the cache: written whole or not at all, found by their keys, and never too many."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MOST_ENTRIES = 1_000
MOST_BYTES = 64 * 2**20

# Nothing else in the folder is ours: a user may have named one that is in use.
_ENTRY = r"[0-9a-f]{40}\.entry"
_DRAFT = r"\.[0-9a-f]{40}\.\w+\.draft"
_FORSAKEN = 3600  # seconds after which nobody writes at a draft any more


class File(NamedTuple):
    """One entry's file."""

    path: str
    nbytes: int
    used: int  # when it was last written or found, in nanoseconds


class Store:
    """A folder of entries, which any number of processes may use at once."""

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda _text: None) -> None:
        """Use ``folder``, which is made when the first entry is; ``say`` is told which entries are not believed."""
        self.folder = folder
        self._say = say

    def get(self, key: str) -> bytes | None:
        """Return the entry, which counts as used by that; None if there is none, or none that is believed."""
        path = self.folder / f"{key}.entry"
        try:
            if not _is_own(self.folder.stat()):
                self._say(f"{self.folder} is not believed: others can write to it")
                return None
            with open(path, "rb", opener=_open_at_once) as file:  # pathlib has no opener
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or not _is_own(status) or status.st_size > MOST_BYTES:
                    self._say(f"{path} is not believed: it is no file of one's own")
                    return None
                data = file.read()
        except OSError:
            return None
        with suppress(OSError):  # in a folder that can only be read, nothing is dropped either
            os.utime(path)
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep an entry, and drop the ones that were not used for longest where it gets too much.

        Raises:
            OSError: the folder cannot be written to.

        """
        import tempfile

        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(prefix=f".{key}.", suffix=".draft", dir=self.folder)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor
                file.write(data)
            Path(draft).replace(self.folder / f"{key}.entry")
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        self._trim()

    def entries(self) -> list[File]:
        """Return what there is, what was used last coming last."""
        return sorted(self._files(_ENTRY), key=lambda file: file.used)

    def clear(self) -> None:
        """Drop all entries."""
        for file in (*self._files(_ENTRY), *self._files(_DRAFT)):
            Path(file.path).unlink(missing_ok=True)

    def _trim(self) -> None:
        entries = self.entries()
        nbytes = sum(file.nbytes for file in entries)
        count = len(entries)
        dropped = [file for file in self._files(_DRAFT) if file.used < time.time_ns() - _FORSAKEN * 10**9]
        for file in entries[:-1]:  # the last is the one that was just written
            if count <= MOST_ENTRIES and nbytes <= MOST_BYTES:
                break
            dropped.append(file)
            count, nbytes = count - 1, nbytes - file.nbytes
        for file in dropped:
            with suppress(OSError):  # another process was first
                Path(file.path).unlink()

    def _files(self, form: str) -> Iterator[File]:
        try:
            found = list(os.scandir(self.folder))
        except OSError:
            return
        for entry in found:
            if re.fullmatch(form, entry.name):
                with suppress(OSError):  # dropped by another process
                    status = entry.stat()
                    yield File(entry.path, status.st_size, status.st_mtime_ns)


def _open_at_once(path: str, flags: int) -> int:
    """Open a file itself, and wait for nobody: neither through a link, nor until somebody writes to a named pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))


def _is_own(status: os.stat_result) -> bool:
    """Whether a file or folder is this user's, and nobody else can write to it."""
    if not hasattr(os, "geteuid"):  # Windows keeps users apart by their folders
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
