"""What an answer depends on: facts about files and folders, as they were and as they are."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import Any

from paramcount.cache.hashes import digest

LARGEST = 16 * 2**20  # bytes of a file up to which hashing it is nothing beside building a model
Facts = Mapping[str, Mapping[str, Any]]  # by kind, and by the absolute path that each is about


class Doubt(Exception):
    """It cannot be known what determines an answer; the message says why."""


def change(facts: Facts) -> str | None:
    """Return in a few words the first fact that is no longer so; None if all are."""
    for kind, known in facts.items():
        look_up = FACTS[kind]
        for subject, was in known.items():
            try:
                is_so = look_up(subject) == was
            except (Doubt, OSError, ValueError):
                is_so = False
            if not is_so:
                place = subject.partition("\n")[0]
                return f"{place} {_CHANGED[kind]}"
    return None


def content(file: str) -> list[Any] | None:
    """Return the size and hash of what is in a file, or the hash of the names in a folder; None if there is neither."""
    try:
        with open(file, "rb", opener=_open_at_once) as opened:  # pathlib has no opener
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Doubt(f"it reads {file}, which is no regular file")
            if status.st_size > LARGEST:
                raise Doubt(f"it reads {file}, which is large")
            data = opened.read(LARGEST + 1)
    except IsADirectoryError:
        return [names(file)]
    except OSError:
        return None
    return [len(data), digest(data)]


def _open_at_once(path: str, flags: int) -> int:
    """Open a file, and do not wait until somebody writes to a named pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def state(path: str) -> list[Any] | None:
    """Return what is at a path, and where it leads if it is a link; None if there is nothing."""
    try:
        status = os.lstat(path)
        leads = os.readlink(path) if stat.S_ISLNK(status.st_mode) else None  # noqa: PTH115  # pathlib would wrap it
        status = os.stat(path)  # noqa: PTH116  # the same
    except (OSError, ValueError):  # ValueError: no name a file can have
        return None
    if stat.S_ISDIR(status.st_mode):
        return [leads, "folder"]
    return [leads, status.st_mode, status.st_size, status.st_mtime_ns]  # the mode has who may read, write or run it


def names(folder: str) -> str | None:
    """Return the hash of all names in a folder, and of which are folders; None if it is not there."""
    return _names(folder, lambda _entry: True)


def modules(folder: str) -> str | None:
    """Return the hash of the names in a folder that Python may import; None if it is not there."""
    return _names(folder, _is_module)


def stamps(subject: str) -> list[int]:
    """Return the sizes and times of change of files, written as their folder and their names, a line each.

    Nobody sets back the second time, at which the system noted a change. The name "" is the folder itself: what changes
    its time is a name in it that comes or goes.
    """
    folder, *files = subject.split("\n")
    found: list[int] = []
    for name in files:
        try:
            status = os.stat(f"{folder}/{name}")  # noqa: PTH116  # the same
        except (FileNotFoundError, NotADirectoryError):
            found += (-1, 0, 0)
        else:
            found += (status.st_size if name else 0, status.st_mtime_ns, status.st_ctime_ns)
    return found


def together(numbers: list[int]) -> str:
    """Return as what stamps are kept: of a library there are thousands."""
    return digest(" ".join(map(str, numbers)).encode("ascii"))


def _names(folder: str, counts: Callable[[os.DirEntry[str]], bool]) -> str | None:
    try:
        with os.scandir(folder) as entries:
            found = [entry.name + "/" * entry.is_dir() for entry in entries if counts(entry)]
    except (OSError, ValueError):
        return None
    return digest(os.fsencode("\0".join(sorted(found))))


def _is_module(entry: os.DirEntry[str]) -> bool:
    if entry.name.endswith((".py", ".pyc", ".so", ".pyd")):
        return True
    return entry.name.isidentifier() and entry.name != "__pycache__" and entry.is_dir()


FACTS: Mapping[str, Callable[[str], Any]] = {
    "content": content,
    "state": state,
    "names": names,
    "modules": modules,
    "stamps": lambda subject: together(stamps(subject)),
}
_CHANGED = {
    "content": "has changed",
    "state": "has come, gone or changed",
    "names": "has other files in it",
    "modules": "has other modules in it",
    "stamps": "has an installed file that has changed",
}
