"""Notes what a process reads, lists and looks for, from before the libraries are imported until a model is built.

Python tells of every file and folder that is opened (https://docs.python.org/3/library/audit_events.html). It does not
tell of those that are only looked for: for these, ``os`` is stood in for. What Python's import does is known from what
is loaded and where it looked.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Self, TextIO, cast

from paramcount.cache import current_folder
from paramcount.cache.facts import FACTS, Doubt, Facts, stamps, together
from paramcount.cache.installed import attributes, is_installed, is_ours, stranger

_STARTED = time.time_ns() - 20_000_000  # the clock of a file system ticks every 10 ms or so
_WRITES = os.O_WRONLY | os.O_RDWR
_EVENTS = {"open", "os.listdir", "os.scandir"}
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.sendto")
_OF_THE_SYSTEM = ("/proc/", "/sys/")  # what these say changes by itself, and is about the machine and the process
_DEVICES = {"/dev/null", "/dev/random", "/dev/urandom"}
_IMPORT = "<frozen importlib"
_SOURCES = (".py", ".pyc")


class Record:
    """What this process has used since recording began: each answer after that may depend on all of it."""

    def __init__(self) -> None:
        """Note nothing yet."""
        self._facts: dict[str, dict[str, Any]] = {kind: {} for kind in FACTS if kind != "stamps"}
        self._stamped: dict[str, dict[str, None]] = {}  # names of installed files, by folder
        self._stamps: dict[str, str] = {}  # what was found of them
        # Where python -m looked for paramcount itself, which takes the current folder off the path before all else.
        self._left = {current_folder()} - set(sys.path)
        self._doubt: str | None = None
        self._loaded: set[str] = set()  # names of modules that are noted
        self._probed: set[object] = set()  # absolute paths: libraries ask for each of theirs many times
        self._busy = threading.local()
        self._told: dict[str, set[str]] = {}  # what news() has told

    @contextmanager
    def active(self) -> Iterator[None]:
        """Note inside what is used."""
        if self in _records:
            yield
            return
        _install_hook()
        self._note_imports()
        with _stand_ins(self):
            _records.append(self)
            try:
                yield
            finally:
                _records.remove(self)

    def facts(self) -> Facts:
        """Return all that is noted.

        Raises:
            Doubt: an answer may depend on something else, or what it depends on has changed meanwhile.

        """
        self._note_imports()
        if self._doubt is not None:
            raise Doubt(self._doubt)
        if (foreign := stranger(dict(sys.modules))) is not None:
            raise Doubt(f"the module {foreign} was loaded, which is not installed")
        subjects = ["\n".join([folder, *files]) for folder, files in self._stamped.items()]
        for subject in subjects:
            if subject not in self._stamps:
                numbers, folder = stamps(subject), subject.partition("\n")[0]
                # Python itself puts bytecode there, of what is imported for the first time.
                if max(numbers) > _STARTED and not folder.endswith("__pycache__"):
                    raise Doubt(f"something in {folder} changed while it was counted")
                self._stamps[subject] = together(numbers)
        return {**self._facts, "stamps": {subject: self._stamps[subject] for subject in subjects}}

    def news(self) -> Facts:
        """Return what is noted and was not told before.

        Raises:
            Doubt: as for ``facts``.

        """
        facts = self.facts()
        news = {
            kind: {subject: fact for subject, fact in known.items() if subject not in self._told.get(kind, ())}
            for kind, known in facts.items()
        }
        self._told = {kind: set(known) for kind, known in facts.items()}
        return news

    def notice(self, event: str, place: object, flags: object = 0) -> None:
        """Note what one of Python's events, or of the stand-ins, tells of."""
        if getattr(self._busy, "is_so", False):  # with a fact
            return
        if event == "state" and isinstance(place, str) and place.startswith(os.sep):
            if place in self._probed:
                return
            self._probed.add(place)
        self._busy.is_so = True
        try:
            if isinstance(place, str | bytes | os.PathLike):
                self._notice(event, os.path.abspath(os.fsdecode(place)), flags)  # noqa: PTH100  # of thousands
            elif event == "open" and place == 0:
                self._doubt = "it reads its standard input"
            elif event not in _EVENTS and event != "state":
                self._doubt = "it uses the network"
        except Doubt as doubt:
            self._doubt = str(doubt)
        except Exception as error:  # noqa: BLE001  # it would be raised where a library opens a file
            self._doubt = f"{place!r} cannot be noted: {type(error).__name__}: {error}"
        finally:
            self._busy.is_so = False

    def _notice(self, event: str, path: str, flags: object) -> None:
        if is_ours(path) or path in _DEVICES or (path.startswith(_OF_THE_SYSTEM) and "/fd/" not in path):
            return
        by_import = _asker().startswith(_IMPORT)
        if event == "open":
            if isinstance(flags, int) and flags & _WRITES:
                return
            if by_import or (path.endswith(_SOURCES) and is_installed(path)):
                self._stamp(path)
            else:
                self._note("content", path)
        elif is_installed(path + os.sep):
            self._note_installed(os.path.dirname(path) if event == "state" else path)  # noqa: PTH120  # of thousands
        else:
            self._note("state" if event == "state" else "modules" if by_import else "names", path)

    def _note(self, kind: str, path: str) -> None:
        known = self._facts[kind]
        if path not in known:
            known[path] = FACTS[kind](path)

    def _note_installed(self, folder: str) -> None:
        """Note what is in an installed folder: as long as its time is the same, nothing has come or gone there."""
        if "" in self._stamped.get(folder, ()):
            return
        if os.path.isdir(folder):  # noqa: PTH112  # of hundreds
            self._stamp(folder + os.sep)
        else:
            self._note("state", folder)

    def _stamp(self, path: str) -> None:
        """Note when an installed file was changed; of bytecode, which is never written in place, its folder."""
        folder, name = os.path.split(path)
        if name.endswith(".pyc"):
            name = ""
        self._stamped.setdefault(folder, {})[name] = None

    def _note_imports(self) -> None:
        """Note the files of all loaded modules, with their bytecode, and the folders where import looked."""
        for name in sys.modules.keys() - self._loaded:
            self._loaded.add(name)
            known = attributes(sys.modules[name])
            for file in (known.get("__file__"), known.get("__cached__")):
                if isinstance(file, str) and is_installed(file):
                    self._stamp(file)
        for place in list(sys.path_importer_cache):
            folder = os.path.abspath(place)  # noqa: PTH100  # of hundreds
            if is_installed(folder + os.sep):
                self._note_installed(folder)
            elif not is_ours(folder + os.sep) and folder not in self._left:
                self._note("modules", folder)


# A hook cannot be removed: it is installed once, and asks which records there are.
_records: list[Record] = []


@cache
def _install_hook() -> None:
    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in _EVENTS or event.startswith(_NETWORK):
            for record in _records:
                if event in _EVENTS:
                    record.notice(event, "." if args[0] is None else args[0], args[-1])
                else:
                    record.notice(event, None)

    sys.addaudithook(hook)


@contextmanager
def _stand_ins(record: Record) -> Iterator[None]:
    """Tell ``record`` inside which files are looked for."""
    replaced: dict[str, Callable[..., Any]] = {}

    def replace(name: str) -> None:
        function = replaced[name] = getattr(os, name)

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            if record in _records:
                record.notice("state", args[0] if args else kwargs.get("path"))
            return function(*args, **kwargs)

        # As a function of a module's, it may be put into a class, and is then no method.
        setattr(os, name, staticmethod(stand_in))

    for name in ("stat", "lstat", "access", "readlink"):
        replace(name)
    try:
        yield
    finally:
        for name, function in replaced.items():
            setattr(os, name, function)


class Printed:
    """Stands in the place of both output streams, and keeps what goes through."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self.text = ""

    def __enter__(self) -> Self:
        """Take the place of both."""
        self._streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (cast("Any", _Tee(self, stream)) for stream in self._streams)
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        sys.stdout, sys.stderr = self._streams


class _Tee:
    def __init__(self, printed: Printed, stream: TextIO) -> None:
        self._printed = printed
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._printed.text += text
        return self._stream.write(text)


def _asker() -> str:
    """Return the file of the function that opened or looked for something."""
    frame = sys._getframe(1)  # noqa: SLF001  # the only way to know
    here = frame.f_code.co_filename
    while frame.f_back is not None and frame.f_code.co_filename == here:
        frame = frame.f_back
    return frame.f_code.co_filename
