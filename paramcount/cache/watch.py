"""Watches what a build uses: the files and folders it reads or looks for, the variables, the modules.

Python tells of every file, process and connection that is opened (https://docs.python.org/3/library/audit_events.html).
It does not tell of variables that are read, or of files that are only looked for: for these, ``os`` is stood in for.
Which modules are sought, a finder of our own is told, which finds none.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Literal, TextIO

from paramcount.cache.doubts import doubtful_name, doubts_in, seeds_in
from paramcount.cache.key import PROGRAM
from paramcount.cache.manifest import Doubt, Manifest, fact, library
from paramcount.modules.failure import is_installed

Origin = Literal["user", "library", "import", "paramcount"]

_HERE = f"{Path(__file__).parent}{os.sep}"
_PROGRAM = f"{PROGRAM}{os.sep}"
_MACHINE = ("/proc/", "/sys/", "/dev/")  # what these say changes by itself
_LOOKED_FOR, _VARIABLE, _VARIABLES, _PLACE = "look for", "read variable", "read variables", "read place"
_SOUGHT, _CLOCK, _STDIN = "seek module", "read clock", "read standard input"
_MACHINERY = ("<frozen importlib", "<frozen zipimport")
_LIBRARY = re.compile(r"[\\/](site|dist)-packages[\\/]")
_LOGGING = re.compile(r"site-packages/(torch|torchvision|timm|transformers|huggingface_hub|tqdm|filelock)/")
_STARTED = time.time_ns()  # and what is loaded already was loaded before
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# What a build must not do if its outcome is to be kept, by the events that tell of it.
_NETWORK = "it uses the network"
_CHANCE = "it reads values that are drawn by chance"
_RANDOM = "it draws from Python's random or NumPy's"
_DOINGS = {
    _NETWORK: ("socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.bind", "socket.sendto", "urllib."),
    "it runs a process": ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn"),
    "it changes files": (
        *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"),
        *("os.chown", "os.utime", "shutil.", "tempfile."),
    ),
    "it changes the current folder": ("os.chdir", "os.fchdir"),
    "it loads compiled code": ("ctypes.dl",),
    _CHANCE: ("paramcount.chance",),
    _RANDOM: ("paramcount.random",),
    "it opens a database": ("sqlite3.connect",),
    "it asks its user": ("builtins.input",),
}


@dataclass(slots=True)
class Uses:
    """What a build used."""

    files: set[str] = field(default_factory=set)  # read
    modules: set[str] = field(default_factory=set)  # the sources of modules that were run, outside installed ones
    libraries: set[tuple[str, int]] = field(default_factory=set)  # installed modules, and a time before each was loaded
    probes: set[str] = field(default_factory=set)  # paths of which it was asked what is there
    missed: set[str] = field(default_factory=set)  # paths at which any folder would be a package that was sought
    listings: set[str] = field(default_factory=set)  # folders whose names were read
    searches: set[str] = field(default_factory=set)  # folders where modules were looked for
    variables: set[str] = field(default_factory=set)
    doubts: dict[str, None] = field(default_factory=dict)  # in their order
    is_placed: bool = False  # whether it depends on which folder is the current one
    printed: str = ""
    started: int = field(default_factory=time.time_ns)
    seen: dict[tuple[str, str], Any] = field(default_factory=dict)  # facts, by kind and subject, before they were used

    def see(self, kind: str, subject: str) -> None:
        """Take down what is so now, lest it change before the build has ended."""
        if (kind, subject) not in self.seen:
            self.seen[kind, subject] = fact(kind, subject)

    def read(self, file: str) -> None:
        """Let a file count as read."""
        self.see("identity", file)
        self.files.add(file)

    def run(self, file: str) -> None:
        """Let the source of a module count as run."""
        self.see("identity", file)
        self.modules.add(file)

    def probe(self, path: str) -> None:
        """Let it count as asked what is at a path."""
        self.see("state", path)
        self.see("lead", path)
        self.probes.add(path)

    def miss(self, path: str) -> None:
        """Let it count as asked whether a package is at a path."""
        self.see("state", path)
        self.missed.add(path)

    def list_names(self, folder: str) -> None:
        """Let the names in a folder count as read."""
        self.see("names", folder)
        self.listings.add(folder)

    def search(self, folder: str) -> None:
        """Let it count as searched for a module."""
        self.see("modules", folder)
        self.searches.add(folder)

    def add(self, other: Uses) -> None:
        """Let what the other used count as used here, too."""
        self.files |= other.files
        self.variables |= other.variables
        self.doubts |= other.doubts
        self.seen = self.seen | other.seen

    def beyond(self, known: Uses) -> Uses:
        """Return what is used here and not there; doubts are doubts all the same."""
        return replace(self, **{name: getattr(self, name) - getattr(known, name) for name in _SUBJECTS})

    def add_all(self, other: Uses) -> None:
        """Let all that the other used count as used here, too."""
        for name in _SUBJECTS:
            getattr(self, name).update(getattr(other, name))

    def manifest(self, environment: Mapping[str, str]) -> Manifest:
        """Return what the outcome depends on.

        Raises:
            Doubt: it cannot be known; the message says why.

        """
        for file in sorted(self.modules):
            for doubt in doubts_in(file):  # these tell the place
                raise Doubt(doubt)
        for doubt in self.doubts:
            raise Doubt(doubt)
        content = self.files | self.modules
        for file in sorted(content):
            try:
                status = Path(file).stat()
            except (OSError, ValueError) as error:
                raise Doubt(f"{file}, which it read, cannot be read any more") from error
            if max(status.st_mtime_ns, status.st_ctime_ns) > self.started:
                raise Doubt(f"{file} changed while it was counted")
        for file, before in self.libraries:
            status = os.stat(file)  # noqa: PTH116  # of thousands
            if max(status.st_mtime_ns, status.st_ctime_ns) > before:
                raise Doubt(f"{file} may have changed since it was loaded")
        for (kind, subject), was in self.seen.items():
            if fact(kind, subject) != was:
                raise Doubt(f"{subject} changed while it was counted")
        known = {os.path.realpath(path) for path in (*content, *self.listings, *self.searches)}
        return Manifest.of(
            {
                "variable": self.variables,
                "content": content,
                "library": library(file for file, _ in self.libraries),
                "state": {path for path in self.probes | self.missed if os.path.realpath(path) not in known},
                "lead": self.probes,
                "names": self.listings,
                "modules": self.searches,
            },
            environment,
        )


_SUBJECTS = ("files", "modules", "libraries", "probes", "missed", "listings", "searches", "variables")


class Watch:
    """Notices what is used while it is active."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        # What installed modules use while they are imported, which they are but once, determines every later build.
        self._imports = Uses()
        self.has_run_code = False  # of a user's, in a build: who knows what that has changed
        # Modules that anybody wanted and that were not loaded, and where those in a package would be.
        self._sought: dict[str, set[str]] = {}
        self._at_first = _top_names()
        self._brought: set[str] = set()  # names of modules that builds loaded, and that stay
        self._known: dict[str, object] = {}  # loaded modules whose sources are installed, or ours
        self._libraries: set[tuple[str, int]] = set()  # the sources of those of libraries, as in Uses
        self._looked = _STARTED  # when that was last looked up
        self._build: Uses | None = None
        self._sweep: tuple[int, int] | None = None  # where the whole environment is being copied
        self._busy = threading.local()
        self._handlers: dict[str, Callable[..., None]] = {
            "open": self._opened,
            "exec": self._ran,
            "import": self._imported,
            "os.listdir": self._listed,
            "os.scandir": self._scanned,
            _LOOKED_FOR: self._looked_for,
            _VARIABLE: self._read_variable,
            _VARIABLES: self._read_variables,
            _PLACE: self._asked_for_place,
            _SOUGHT: self._sought_module,
            _CLOCK: self._read_clock,
            _STDIN: self._read_stdin,
        }

    @contextmanager
    def active(self) -> Iterator[None]:
        """Notice inside what is used."""
        if self in _watches:
            yield
            return
        _install_hook()
        _is_installed(_HERE)  # finds out which folders are: not while watched
        with _stand_ins(self):
            _watches.append(self)
            try:
                yield
            finally:
                _watches.remove(self)

    @contextmanager
    def build(self) -> Iterator[Uses]:
        """Return what is used inside; complete at the end."""
        self._build = used = Uses()
        for file in self._loaded_sources():
            used.read(file)
        try:
            with _Tee(used, "stdout"), _Tee(used, "stderr"):
                yield used
        finally:
            self._build = None
            used.add(self._imports)
            if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
                used.doubts["it changes how Python looks for modules"] = None
            self._loaded_sources()
            used.libraries |= self._libraries
            self._search(used)
            for name in self._sought.keys() - sys.modules.keys():
                is_top = "." not in name
                for path in _paths_of(name, used.searches) if is_top else self._sought[name]:
                    used.miss(path)
            for name in sorted(self._brought & {name for place in used.searches for name in _names_in(place)}):
                used.doubts[f"it may mean another {name} than the one that an earlier target has loaded"] = None
            self._brought = _top_names() - self._at_first
            self.has_run_code = self.has_run_code or bool(used.modules)

    def _loaded_sources(self) -> set[str]:
        """Return the sources of all loaded modules that are neither installed nor ours; note those that are."""
        found = set()
        before, self._looked = self._looked, time.time_ns()
        for name, module in list(sys.modules.items()):
            if self._known.get(name, self) is module:  # thousands, at every build
                continue
            file = getattr(module, "__dict__", {}).get("__file__")
            if isinstance(file, str) and not _is_installed(file) and not file.startswith(_PROGRAM):
                found.add(file)
                continue
            self._known[name] = module
            if isinstance(file, str) and _LIBRARY.search(file) and os.path.isfile(file):  # noqa: PTH113  # of thousands
                self._libraries.add((file, before))
        return found

    def _search(self, build: Uses) -> None:
        """Let modules count as looked for wherever Python looks now."""
        for place in _open_places() - build.searches:
            build.search(place)

    def notice(self, event: str, args: tuple[Any, ...]) -> None:
        """Take down what an event tells of: one of Python's, or of the stand-ins below."""
        if getattr(self._busy, "is_so", False):
            return
        self._busy.is_so = True
        try:
            handle = self._handlers.get(event)
            if handle is not None:
                handle(*args)
            else:
                self._did(_doing(event) or event)
        except Exception as error:  # noqa: BLE001  # it would be raised where the user's code opens a file
            self._imports.doubts[f"what it does is not understood: {type(error).__name__}: {error}"] = None
        finally:
            self._busy.is_so = False

    def _did(self, doing: str) -> None:
        origin = _origin()
        if doing == _RANDOM and self._build is not None and any(map(seeds_in, self._build.modules)):
            return
        if doing in {_NETWORK, _CHANCE, _RANDOM} or (origin in {"user", "library"} and not _by_import()):
            self._doubt(doing, lasting=origin == "import")

    def _doubt(self, why: str, *, lasting: bool = False) -> None:
        uses = self._imports if lasting else self._build
        if uses is not None:
            uses.doubts[why] = None

    def _opened(self, file: object, _mode: str | None, flags: int) -> None:
        path = _path(file)
        if path is None:
            if file == 0 and self._build is not None:
                self._doubt("it reads its standard input")
            return
        if _is_installed(path) or path.startswith(_PROGRAM):
            return
        if _by_import() and (path.endswith(".py") or "__pycache__" in path):
            return  # the event of running it tells of the source
        origin = _origin()
        if path.startswith(_MACHINE):
            if origin == "user" and path != os.devnull:
                self._doubt(f"it reads {path}")
            return
        if flags & _WRITES:
            if origin in {"user", "library"}:
                self._doubt(f"it writes {path}")
        elif origin == "import":
            if Path(path).is_file():
                self._imports.read(path)
        elif self._build is not None and os.path.exists(path):  # noqa: PTH110  # pathlib would only wrap it
            self._build.read(path)
        elif self._build is not None:
            self._build.probe(path)

    def _ran(self, code: object) -> None:
        if self._build is None or not isinstance(code, CodeType):
            return
        if code.co_filename.startswith("<"):
            if _origin() == "user" and (name := doubtful_name(code)):
                self._doubt(f"it runs text that names {name}")
        elif not code.co_filename.startswith(_PROGRAM) and not _is_installed(code.co_filename):
            self._build.run(code.co_filename)
            self._search(self._build)  # where its imports may look, also if they find all loaded

    def _listed(self, folder: object) -> None:
        path = "." if folder is None else _path(folder)
        if self._build is None or path is None or _is_installed(path):
            return
        if f"{path}{os.sep}".startswith((_PROGRAM, *_MACHINE)):
            return
        if _by_import():
            self._build.search(path)
        elif _origin() != "import":
            self._build.list_names(path)

    def _scanned(self, folder: object) -> None:
        self._listed(folder)
        if _asker_is_user():  # what it asks of the entries, such as their sizes, makes no event
            self._doubt("it scans a folder by itself")

    def _looked_for(self, target: object, *_how: object) -> None:
        path = _path(target)
        if self._build is not None and path is not None and _origin() != "import":
            self._build.probe(path)

    def _imported(self, _name: str, file: str | None, *_paths: object) -> None:
        if file is not None and not _is_installed(file):
            self._doubt(f"it loads compiled code: {file}")

    def _sought_module(self, name: str, places: Iterable[str] | None) -> None:
        build = self._build
        if build is not None:
            self._search(build)
        if places is None:
            found = _paths_of(name, build.searches if build is not None else ())
        else:
            found = _paths_of(name.rpartition(".")[2], places)
            if not isinstance(places, list):  # a package without __init__.py has parts wherever Python looks
                found |= _paths_of(name, _open_places())
        self._sought.setdefault(name, set()).update(found)
        if build is not None:
            for path in found:
                build.see("state", path)

    def _read_clock(self) -> None:
        # Python's own and the libraries of models time what they log; what others make of it, nobody knows.
        asker = _asker()
        if asker.startswith(("<", _PROGRAM)) or _LOGGING.search(asker) or self._build is None:
            return
        if (not _is_installed(asker) or "site-packages" in asker) and _origin() == "user":
            self._doubt("it reads the clock")

    def _read_stdin(self, *_args: object) -> None:
        if _origin() in {"user", "library"}:
            self._doubt("it reads its standard input")

    def _read_variables(self, _environ: object) -> None:
        if _origin() in {"user", "library"}:
            self._doubt("it reads all of the environment")
        self._sweep = _place()

    def _read_variable(self, _environ: object, key: str | bytes) -> None:
        if self._sweep is not None and self._sweep == _place():
            return  # a library that copies the environment, for a process or its own variables, reads them all
        origin, name = _origin(), os.fsdecode(key)
        if origin == "import" or self._build is None:
            self._imports.variables.add(name)
        elif origin != "paramcount":
            self._build.variables.add(name)

    def _asked_for_place(self) -> None:
        if self._build is not None and _origin() != "import":
            self._build.is_placed = True


_TOLD = {"open", "exec", "import", "os.listdir", "os.scandir"}

# A hook cannot be removed: it is installed once, and asks whom there is to tell.
_watches: list[Watch] = []


@cache
def _install_hook() -> None:
    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in _TOLD or _doing(event) is not None:  # of most, of which there are tens of thousands, nothing is
            for watch in _watches:
                watch.notice(event, args)

    sys.addaudithook(hook)


@contextmanager
def _stand_ins(watch: Watch) -> Iterator[None]:
    """Tell ``watch`` inside of what Python has no events for."""
    environ: Any = type(os.environ)
    replaced: list[tuple[Any, str, Callable[..., Any]]] = []

    def replace(owner: Any, name: str, event: str, matters: Callable[..., bool] = lambda *_args: True) -> None:
        function = getattr(owner, name)

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            told = args or tuple(kwargs.values())
            if matters(*told[:1]):
                watch.notice(event, told)
            return function(*args, **kwargs)

        # As a function of a module's, it may be put into a class, and is then no method.
        setattr(owner, name, stand_in if isinstance(owner, type) else staticmethod(stand_in))
        replaced.append((owner, name, function))

    replace(environ, "__getitem__", _VARIABLE)
    for name in ("__iter__", "__len__", "__repr__"):
        replace(environ, name, _VARIABLES)
    for name in ("stat", "lstat", "access", "readlink"):
        replace(os, name, _LOOKED_FOR, _is_elsewhere)
    for name in ("getcwd", "getcwdb"):
        replace(os, name, _PLACE)
    replace(os, "read", _STDIN, lambda descriptor=None, *_args: descriptor == 0)
    for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"):
        replace(time, name, _CLOCK)
    finder: Any = _Finder(watch)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        with suppress(ValueError):  # a user's code has its own list
            sys.meta_path.remove(finder)
        for owner, name, function in replaced:
            setattr(owner, name, function)


class _Finder:
    """Finds no module, and tells which ones are looked for: by a statement, a function, or somebody's plugin."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def find_spec(self, name: str, places: Iterable[str] | None, _target: object = None) -> None:
        self._watch.notice(_SOUGHT, (name, places))


class _Tee:
    """Stands in the place of an output stream, and keeps what goes through."""

    def __init__(self, used: Uses, name: Literal["stdout", "stderr"]) -> None:
        self._used = used
        self._name = name

    def __enter__(self) -> None:
        self._stream: TextIO | None = getattr(sys, self._name)
        if self._stream is not None:
            setattr(sys, self._name, self)

    def __exit__(self, *_exception: object) -> None:
        setattr(sys, self._name, self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._used.printed += text
        return self._stream.write(text) if self._stream is not None else len(text)


# Whose doing it is ----------------------------------------------------------------------------------------------------


@cache
def _is_installed(path: str) -> bool:
    return is_installed(path) or is_installed(path + os.sep)


@cache
def _is_elsewhere(place: object) -> bool:
    """Whether a path is none of ours, of what is installed or of the machine."""
    path = _path(place)
    return path is not None and not path.startswith(("<", _PROGRAM, *_MACHINE)) and not _is_installed(path)


@cache
def _doing(event: str) -> str | None:
    """Return what an event tells of that no build whose outcome is kept may do."""
    return next((doing for doing, events in _DOINGS.items() if event.startswith(events)), None)


def _origin() -> Origin:
    """Return on whose behalf something happens: the first on the stack who is neither Python's machinery nor ours.

    An installed module that is being imported acts for itself, whoever imports it: what it reads is checked, and what
    else it does goes with its version. One whose function is called acts for the caller. A user's acts for the user.
    """
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001  # the caller's caller
    is_library = False
    inside = True  # our own functions, that lead here
    is_ours = False
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if file.startswith(_HERE):
            if not inside:
                is_ours = True
                break
        elif file.startswith(("<", _PROGRAM)):
            is_ours = is_ours or file.startswith(_PROGRAM)
            inside = False
        elif not _is_installed(file):
            return "user"
        elif code.co_name == "<module>":
            return "import"
        else:
            inside = False
            is_library = is_library or "site-packages" in file
        frame = frame.f_back
    if not is_ours:  # a thread's, of which it does not show who started it
        return "user"
    return "library" if is_library else "paramcount"


def _by_import() -> bool:
    """Whether it is Python's own import that does something."""
    return _asker().startswith(_MACHINERY)


def _asker_is_user() -> bool:
    """Whether it is neither a library nor Python's own that does something, on whosever behalf."""
    file = _asker()
    return bool(file) and not file.startswith(("<", _PROGRAM)) and not _is_installed(file)


def _asker() -> str:
    """Return the file of the first on the stack that is none of these."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001  # the same
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    return "" if frame is None else frame.f_code.co_filename


def _place() -> tuple[int, int]:
    """Return the instruction by which somebody reads the environment, in whatever way Python brings it here."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001  # the same
    while frame is not None and frame.f_code.co_filename.startswith((_HERE, "<frozen ")):
        frame = frame.f_back
    return (id(frame), frame.f_lasti) if frame is not None else (0, 0)


def _path(place: object) -> str | None:
    """Return the path that a function of ``os`` was called with; None for a descriptor."""
    return os.fsdecode(place) if isinstance(place, str | bytes | os.PathLike) else None


def _paths_of(name: str, places: Iterable[str]) -> set[str]:
    """Return the paths at which any folder would be the package of that name, but for installed ones."""
    return {
        os.path.join(place, *name.split("."))  # noqa: PTH118  # as often as modules are sought
        for place in places
        if not _is_installed(place)
    }


def _open_places() -> set[str]:
    """Return where Python looks for modules besides installed ones."""
    return {place for place in sys.path if not _is_installed(place)}


def _top_names() -> set[str]:
    return {name.partition(".")[0] for name in list(sys.modules)}


def _names_in(folder: str) -> set[str]:
    try:
        return {name.partition(".")[0] for name in os.listdir(folder)}  # noqa: PTH208  # as ever here
    except OSError:
        return set()
