"""What an outcome depends on: facts about files, folders and variables, as they were and as they are."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from paramcount.cache.hashes import digest

LARGEST = 16 * 2**20  # bytes of a file up to which hashing it is nothing beside building a model


class Doubt(Exception):
    """It cannot be known what determines an outcome."""


class Manifest(NamedTuple):  # which is made sooner than a dataclass, as all that finding an entry takes
    """Facts, by kind and by what they are about."""

    facts: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, subjects: Mapping[str, Iterable[str]], environment: Mapping[str, str]) -> Manifest:
        """Look up what there is to know of ``subjects``, which are listed by kind."""
        return cls(
            {
                kind: {subject: _look_up(kind, subject, environment) for subject in sorted(named)}
                for kind, named in subjects.items()
            }
        )

    @classmethod
    def read(cls, facts: object) -> Manifest:
        """Return the manifest of facts as they were written down.

        Raises:
            ValueError: they have another form.

        """
        if not isinstance(facts, dict) or not all(
            kind in _WORDS and isinstance(known, dict) for kind, known in facts.items()
        ):
            raise ValueError(facts)
        return cls(facts)

    def change(self, environment: Mapping[str, str]) -> str | None:
        """Return in a few words the first fact that is no longer so; None where all are."""
        for kind, facts in self.facts.items():
            for subject, known in facts.items():
                try:
                    is_so = _look_up(kind, subject, environment) == known
                except (Doubt, OSError):
                    is_so = False
                if not is_so:
                    return _WORDS[kind].format(subject.partition("\n")[0])
        return None


_WORDS = {
    "content": "{} has changed",
    "state": "{} has come, gone or changed",
    "lead": "{} leads elsewhere",
    "names": "what {} holds has changed",
    "library": "an installed module in {} has changed",
    "modules": "the modules in {} have changed",
    "variable": "the environment variable {} has changed",
}


def _look_up(kind: str, subject: str, environment: Mapping[str, str]) -> Any:
    if kind == "variable":  # of which only the hash is kept: it may be a secret
        value = environment.get(subject)
        return None if value is None else digest(os.fsencode(value))
    return fact(kind, subject)


def fact(kind: str, subject: str) -> Any:
    """Return what is so of anything but a variable."""
    return _FACTS[kind](subject)


def _content(file: str) -> list[Any]:
    """Return the size and hash of what is in a file."""
    with open(file, "rb") as opened:  # noqa: PTH123  # pathlib would only wrap it
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Doubt(f"it reads {file}, which is no regular file")
        if status.st_size > LARGEST:
            raise Doubt(f"it reads {file}, which is large")
        data = opened.read(LARGEST + 1)
    return [len(data), digest(data)]


def _state(path: str) -> list[Any] | None:
    """Return what is at a path; None for nothing."""
    try:
        status = os.stat(path)  # noqa: PTH116  # the same
    except (OSError, ValueError):  # ValueError: no name a file can have
        return None
    if stat.S_ISDIR(status.st_mode):
        return ["folder"]
    return [status.st_mode, status.st_size, status.st_mtime_ns]  # the mode has who may read, write or run it


def _identity(path: str) -> list[int] | None:
    """Return which file it is that goes by a path, and which state of it: of use while one process runs."""
    try:
        status = os.stat(path)  # noqa: PTH116  # the same
    except (OSError, ValueError):
        return None
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _lead(path: str) -> str | None:
    """Return the path that a path stands for by way of links; None where there is none on the way."""
    real = os.path.realpath(path)
    return None if real == os.path.abspath(path) else real  # noqa: PTH100  # the same


def _names(folder: str) -> str | None:
    """Return the hash of all names in a folder, and of which are folders; None where it is not there."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name + "/" * entry.is_dir() for entry in entries if entry.name != "__pycache__"]
    except OSError:
        return None
    return digest(os.fsencode("\0".join(sorted(names))))


def _modules(folder: str) -> str | None:
    """Return the hash of the names that are modules in a folder; None where it is not there.

    A folder without an ``__init__.py`` is a package only to who finds no other: that is a question of its state.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _is_module(entry)]
    except OSError:
        return None
    return digest(os.fsencode("\0".join(sorted(names))))


def library(files: Iterable[str]) -> list[str]:
    """Return as what modules of libraries are written down, of which there are thousands: a folder, and names in it."""
    names: dict[str, list[str]] = {}
    for file in sorted(files):
        folder, name = os.path.split(file)
        names.setdefault(folder, []).append(name)
    return ["\n".join([folder, *inside]) for folder, inside in names.items()]


def _library(subject: str) -> str:
    """Return the hash of the sizes and times of files: nobody changes an installed one and sets back its time."""
    folder, *names = subject.split("\n")
    found: list[int] = []
    for name in names:
        status = os.stat(f"{folder}/{name}")  # noqa: PTH116  # the same
        found += (status.st_size, status.st_mtime_ns)
    return digest(" ".join(map(str, found)).encode("ascii"))


def _is_module(entry: os.DirEntry[str]) -> bool:
    if entry.name.endswith((".py", ".pyc", ".so", ".pyd")):
        return True
    return entry.name.isidentifier() and os.path.exists(f"{entry.path}/__init__.py")  # noqa: PTH110  # the same


_FACTS: Mapping[str, Callable[[str], Any]] = {
    "content": _content,
    "state": _state,
    "lead": _lead,
    "names": _names,
    "modules": _modules,
    "identity": _identity,
    "library": _library,
}
