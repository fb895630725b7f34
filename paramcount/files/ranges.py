"""Reads parts of a file, here or far away: a format's reader asks for the bytes it needs, and no others."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO, Protocol

from paramcount.errors import UnknownTarget, UnreadableFile, closest, did_you_mean
from paramcount.urls import is_url, is_web, split

_BETWEEN_LOOKS = 0.02  # seconds, at a pipe that nobody writes to yet
_FIRST = 2**16  # bytes
_DESCRIPTOR = re.compile(r"/dev/stdin|/(?:dev|proc/self)/fd/(?P<number>[0-9]{1,9})", re.ASCII)


_HELD: ContextVar[tuple[str, Ranges] | None] = ContextVar("held", default=None)


class Ranges(Protocol):
    """A file that can be read in parts."""

    name: str  # for messages, without credentials
    is_far: bool  # whether reading at another place is another request

    @property
    def known_size(self) -> int | None:
        """The file's bytes; None where only reading to its end would tell, as of a pipe."""

    @property
    def size(self) -> int:
        """The file's bytes, which of a pipe takes reading to its end."""

    def read(self, start: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``start``.

        Raises:
            UnreadableFile: the file ends before, or cannot be read.

        """

    def upto(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``, or those of them that there are.

        Raises:
            UnreadableFile: the file cannot be read.

        """


def opened(word: str) -> AbstractContextManager[Ranges]:
    """Open a file, by its path or URL, for as long as the context lasts.

    Raises:
        MissingLibrary: the package for the URL's protocol is not installed.
        UnknownTarget: there is no such file.
        UnreadableFile: it cannot be opened.

    """
    held = _HELD.get()
    if held is not None and held[0] == word:
        return nullcontext(held[1])
    if is_web(word):
        from paramcount.files import web

        return web.opened(word)
    if is_url(word):
        from paramcount.files import remote

        return remote.opened(word)
    return _opened(word)


@contextmanager
def held(word: str) -> Iterator[Ranges]:
    """Open a file that may come only once: whoever opens it inside this context gets it as it was opened here.

    Raises:
        UnknownTarget: there is no such file.
        UnreadableFile: it cannot be opened.

    """
    with opened(word) as file:
        token = _HELD.set((word, file))
        try:
            yield file
        finally:
            _HELD.reset(token)


# Folders --------------------------------------------------------------------------------------------------------------


def expanded(word: str) -> str:
    """Return a path with ~ as the home that it stands for; a Path would drop the ./ that the user wrote."""
    return word if is_url(word) else os.path.expanduser(word)  # noqa: PTH111


def listed(folder: str) -> list[str] | None:
    """Return the names in a folder, or None where there is none; the web has no folders.

    Raises:
        MissingLibrary: the package for the URL's protocol is not installed.
        UnreadableFile: a folder in a store cannot be listed.

    """
    if is_web(folder):
        return None
    if is_url(folder):
        from paramcount.files import remote

        return remote.listed(folder)
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208  # as for expanded()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None


def within(folder: str, name: str) -> str:
    """Return what opens the file of a name in a folder."""
    if not is_url(folder):
        return os.path.join(folder, name)  # noqa: PTH118  # as for expanded()
    root, path, query = split(folder)
    between = "" if (root.endswith("/") and not path) or path.endswith("/") else "/"
    return f"{root}{path}{between}{_written(folder, name)}{query}"


def is_pipe(path: str) -> bool:
    """Whether a path is that of a pipe, or of what may be one: /dev/stdin, and what a shell makes of <(command)."""
    if _DESCRIPTOR.fullmatch(path):
        return True
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # as for expanded()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def is_file(path: str) -> bool:
    """Whether a path is that of a file, or of a pipe."""
    return is_pipe(path) or os.path.isfile(path)  # noqa: PTH113  # as for expanded()


def last(word: str) -> str:
    """Return the name of a file in its folder."""
    return split(word).path.rpartition("/")[2] if is_url(word) else os.path.basename(word)  # noqa: PTH119  # the same


def parent(word: str) -> str:
    """Return the folder that a file is in; of a URL its query, which may be what gives access, stays."""
    root, path, query = split(word)
    return f"{root}{path.rpartition('/')[0]}{query}" if root else os.path.dirname(word)  # noqa: PTH120  # the same


def _written(url: str, name: str) -> str:
    from urllib.parse import quote

    return quote(name) if is_web(url) else name


# Files and pipes here -------------------------------------------------------------------------------------------------


@contextmanager
def _opened(word: str) -> Iterator[Ranges]:
    path = Path(word).expanduser()
    try:
        stream = open(str(path), "rb", buffering=0, opener=_without_waiting)  # noqa: SIM115  # closed below; a Path's open() takes no opener
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            message = f"{word} is a link to {os.readlink(path)}, which is not there"  # noqa: PTH115  # as it is written
            raise UnknownTarget(message, hint="fetch the file that it links to, or name another") from None
        beside = [str(found) for found in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = _STDIN if word == "-" else did_you_mean(closest(str(path), beside))
        raise UnknownTarget(f"there is no file {word}", hint=hint) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _unreadable(word, error) from error
    with stream:
        found = os.fstat(stream.fileno())
        if stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode):
            yield _Local(word, stream, found.st_size)
        elif stat.S_ISCHR(found.st_mode):
            raise UnreadableFile(f"cannot read {word}: it is a terminal or another device", hint=_PIPE)
        else:
            from paramcount.files.streams import Stream

            start = _start_of_pipe(word, path, stream)
            with closing(Stream(word, lambda most: _piped(word, stream, most), start=start)) as pipe:
                yield pipe


_PIPE = "pipe a file into it, as in: cat model.safetensors | paramcount /dev/stdin"
_STDIN = "a file from a pipe is /dev/stdin, as in: cat model.safetensors | paramcount /dev/stdin"


def _unreadable(word: str, error: Exception) -> UnreadableFile:
    hint = "name a file in it" if isinstance(error, IsADirectoryError) else None
    return UnreadableFile(f"cannot read {word}: {getattr(error, 'strerror', None) or error}", hint=hint)


def _without_waiting(path: str, flags: int) -> int:
    """Open a named pipe although nobody writes to it yet, which would wait without an end."""
    try:
        return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        descriptor = _DESCRIPTOR.fullmatch(path)
        if error.errno != errno.ENXIO or descriptor is None:
            raise
        return os.dup(int(descriptor["number"] or 0))  # a socket, as stdin is under ssh: Linux opens none by its name


def _start_of_pipe(word: str, path: Path, stream: BinaryIO) -> bytes:
    """Return what a pipe begins with, once somebody writes to it; nothing, where somebody may yet."""
    from paramcount.files.patience import out_of_patience, seconds

    deadline = time.monotonic() + seconds()
    is_named = path.resolve().is_fifo()
    # Of a pipe that nobody has opened to write, there is nothing to read; of one whose writer is silent, None.
    while (start := _piped(word, stream, _FIRST)) == b"" and is_named:
        if time.monotonic() > deadline:
            raise out_of_patience(word, what="nobody wrote to the pipe")
        time.sleep(_BETWEEN_LOOKS)
    os.set_blocking(stream.fileno(), True)
    return start or b""


def _piped(word: str, stream: BinaryIO, most: int) -> bytes:
    try:
        return stream.read(most)
    except OSError as error:
        raise _unreadable(word, error) from error


class Held:
    """A file that is in memory as a whole."""

    is_far = False

    def __init__(self, name: str, data: bytes) -> None:
        """Take its bytes, and the name that messages give it."""
        self.name = name
        self.size = self.known_size = len(data)
        self._data = data

    def upto(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``, or what there is of them."""
        return self._data[start : start + length]

    def read(self, start: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``start``."""
        if start < 0 or length < 0 or start + length > self.size:
            raise UnreadableFile(f"{self.name} ends after {self.size:,} bytes, and should go on: it is cut short")
        return self._data[start : start + length]


class _Local:
    is_far = False

    def __init__(self, name: str, stream: BinaryIO, size: int) -> None:
        self.name = name
        self.size = self.known_size = size
        self._stream = stream

    def upto(self, start: int, length: int) -> bytes:
        return self.read(start, min(length, self.size - start)) if start < self.size else b""

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


class Inside:
    """Part of a file, as a file of its own."""

    def __init__(self, file: Ranges, name: str, start: int, size: int) -> None:
        """Take ``size`` bytes from ``start``, which the file may not have."""
        self.name = f"{file.name}, {name}"
        self.is_far = file.is_far
        self.size = self.known_size = size
        self._file = file
        self._start = start

    def read(self, start: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``start``."""
        if start < 0 or length < 0 or start + length > self.size:
            raise UnreadableFile(f"{self.name} is cut short")
        return self._file.read(self._start + start, length)

    def upto(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``, or those of them that there are."""
        return self.read(start, min(length, self.size - start)) if start < self.size else b""
