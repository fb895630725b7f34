"""What determines any build: what was asked for, of which Python, with what installed, on which machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from paramcount.cache.hashes import digest
from paramcount.inventory import Buffer, Inventory, Module, Note, Param, Special

# To be raised where an entry or its manifest gets another meaning; a new field of an inventory counts by itself.
FORMAT = 2

# Variables that PyTorch and its libraries read where nothing written in Python sees it; what decodes a file's text; and
# what hash() gives of it.
_UNSEEN = (
    *("TORCH", "PYTORCH", "ATEN", "CUDA", "NVIDIA", "HIP", "ROCR", "HSA", "XLA", "OMP", "MKL", "LC_", "LANG"),
    "PYTHONHASHSEED",
)
PROGRAM = Path(__file__).parent.parent
_ACCELERATORS = ("nvidia", "kfd", "dri", "accel", "habana", "neuron", "davinci")  # in /dev


def keys(asked: object, environment: Mapping[str, str], version: str) -> tuple[str, str]:
    """Return the key of an outcome that is the same in every folder, and of one that belongs to the current folder.

    What was asked for, a target as a rule, is told from all else by its ``repr``.
    """
    shared = "\n".join(map(repr, (version, *_program(), *_machine(environment), *_installed(), asked)))
    return _digest(shared), _digest(f"{shared}\n{os.getcwd()!r}")  # noqa: PTH109  # pathlib would only wrap it


def _digest(text: str) -> str:
    return digest(text.encode("utf-8", "surrogateescape"))


def _program() -> Iterator[object]:
    """Yield what we are ourselves: a developer's paramcount changes without its version."""
    yield FORMAT
    yield [kind.__annotations__ for kind in (Inventory, Module, Param, Buffer, Note, Special)]
    yield from _stamps(PROGRAM)


def _stamps(folder: str | Path) -> Iterator[object]:
    """Yield of each Python file in a folder and those in it when it was changed, and how large it is."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.endswith(".py"):
                yield _stamped(entry)
            elif "." not in entry.name and entry.name != "__pycache__" and entry.is_dir():
                yield from _stamps(entry.path)


def _machine(environment: Mapping[str, str]) -> Iterator[object]:
    yield sys.version, sys.executable, sys.prefix, sys.platform, tuple(sys.flags), sys.getfilesystemencoding()
    yield os.uname().machine if hasattr(os, "uname") else None, os.cpu_count()
    yield sorted(name for name in _entries("/dev") if name.startswith(_ACCELERATORS))
    yield sorted((name, value) for name, value in environment.items() if name.startswith(_UNSEEN))


def _installed() -> Iterator[object]:
    """Yield where Python looks for modules, and every distribution there by name, version and time of installation."""
    for place in sys.path:
        yield place, os.path.isdir(place)  # noqa: PTH112  # pathlib would only wrap it
        if place.endswith(("site-packages", "dist-packages")):
            with suppress(OSError), os.scandir(place) as entries:
                yield [
                    _stamped(entry) if _says_what_it_is(entry.name) else entry.name
                    for entry in sorted(entries, key=lambda entry: entry.name)
                    if entry.name != "__pycache__"
                ]


def _says_what_it_is(name: str) -> bool:
    return name.endswith((".dist-info", ".egg-info", ".egg-link", ".pth", ".py"))


def _entries(folder: str) -> Iterable[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  # the same
    except OSError:
        return ()


def _stamped(entry: os.DirEntry[str]) -> tuple[str, int, int] | str:
    try:
        status = entry.stat()
    except OSError:
        return entry.path
    return entry.path, status.st_size, status.st_mtime_ns
