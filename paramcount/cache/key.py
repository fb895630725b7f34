"""What determines any answer: what was asked for, of which Python, with what installed, where, on which machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from paramcount.cache import current_folder
from paramcount.cache.hashes import digest
from paramcount.cache.installed import PROGRAM
from paramcount.inventory import Buffer, Inventory, Module, Note, Param, Special

# To be raised where an entry or its facts get another meaning; a new field of an inventory counts by itself.
FORMAT = 3

# Of the environment, all counts but what differs between two terminals, or two commands in one, and says nothing else.
HARMLESS = frozenset(
    (
        *("PWD", "OLDPWD", "SHLVL", "_"),  # the shell's: the current folder is in the key, the last one and itself not
        *("COLUMNS", "LINES", "WINDOWID"),  # the window and its size
        *("TERM", "COLORTERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "TERM_SESSION_ID"),  # which terminal it is
        *("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "LS_COLORS"),  # colours
        *("TMUX", "TMUX_PANE", "STY", "WINDOW"),  # which pane of tmux or screen
        *("SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "SSH_AUTH_SOCK"),  # from where one has logged in
        *("XDG_SESSION_ID", "INVOCATION_ID", "JOURNAL_STREAM"),  # which session or unit of systemd
        *("PARAMCOUNT_CACHE", "PARAMCOUNT_TIMEOUT"),  # where answers are kept, how long a server is waited for
    )
)
_ACCELERATORS = ("nvidia", "kfd", "dri", "accel", "habana", "neuron", "davinci")  # in /dev


def key(asked: object, environment: Mapping[str, str], version: str) -> str:
    """Return the key of an answer. What was asked for, a target as a rule, is told from all else by its ``repr``.

    Values of the environment are in no file: the key is a hash.
    """
    variables = sorted((name, value) for name, value in environment.items() if name not in HARMLESS)
    known = (version, *_program(), *_machine(), *_installed(), variables, current_folder(), asked)
    return digest("\n".join(map(repr, known)).encode("utf-8", "surrogateescape"))


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


def _machine() -> Iterator[object]:
    yield sys.version, sys.executable, sys.prefix, sys.platform, tuple(sys.flags), sys.getfilesystemencoding()
    yield sys.warnoptions, sorted(sys._xoptions.items())  # noqa: SLF001  # documented: python -X
    yield tuple(os.uname()) if hasattr(os, "uname") else None, os.cpu_count()
    yield [getattr(os, name)() for name in ("getuid", "geteuid", "getgid", "getgroups") if hasattr(os, name)]
    yield sorted(name for name in _entries("/dev") if name.startswith(_ACCELERATORS))


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
