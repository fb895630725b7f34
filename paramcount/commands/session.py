"""One run of the program: where results and messages go, and how they look there."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, NamedTuple, TextIO

from paramcount import __version__
from paramcount.commands.overwriting import demand_kept
from paramcount.errors import EXIT_CLOSED_PIPE, ParamcountError, UsageError
from paramcount.files.patience import seconds
from paramcount.grid import Style
from paramcount.harmless import shortened, visible, visible_lines
from paramcount.signals import undone

if TYPE_CHECKING:
    from paramcount.cache import Cache
    from paramcount.inventory import Inventory
    from paramcount.sources import Target

Color = Literal["auto", "always", "never"]

_LONGEST_SUBJECT = 500  # characters
_A_MOMENT = 0.7  # seconds without progress
_BETWEEN_LOOKS = 0.02  # seconds, at a pipe that nobody reads yet
# What stands in for characters that an output's encoding may lack.
_PLAIN = str.maketrans(
    {
        "×": "x",
        "≥": ">=",
        "≤": "<=",
        "≠": "!=",
        "−": "-",
        "→": "->",
        "·": "-",
        "…": "...",
        "─": "-",
        "━": "-",
        "│": "|",
        "├": "|",
        "└": "`",
        **dict.fromkeys("▏▎▍▌▋▊▉█", "#"),
    }
)


class Reading(NamedTuple):
    """How to get what a target holds."""

    read: Callable[[Target], Inventory]
    recall: Callable[[Target], Inventory] | None = None  # the same out of the cache alone, or NotKept


@dataclass(slots=True)
class Session:
    """The global options, and the two streams."""

    color: Color = "auto"
    quiet: bool = False
    verbose: bool = False
    no_cache: bool = False
    exit_codes: list[int] = field(default_factory=list)
    _cache: Cache | None = None
    _told: set[str] = field(default_factory=set)  # the tracebacks of users' code that were shown

    def style(self, stream: TextIO | None) -> Style:
        """Return how text is to look on ``stream``; None is a file."""
        if stream is None:
            return Style(color=self.color == "always")
        return Style(width=_width(stream), color=self._colored(stream))

    def _colored(self, stream: TextIO) -> bool:
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        if os.environ.get("FORCE_COLOR"):
            return True
        return stream.isatty() and os.environ.get("TERM") != "dumb"

    def error(self, error: ParamcountError, *, subject: str | None = None) -> None:
        """Say what went wrong, where, and what to do; ``subject`` is named unless the message does."""
        self.exit_codes.append(error.exit_code)
        is_named = (subject and error.message.startswith((f"{subject}:", f"{subject} "))) or repr(
            subject
        ) in error.message
        about = f"{shortened(subject, _LONGEST_SUBJECT)}: " if subject and not is_named else ""
        lines = [f"{about}{error.message}", *([error.hint] if error.hint else [])]
        self._say("error", "\n  ".join(map(visible, lines)), "bold red")
        error.keep_traceback()
        details = error.traceback if self.verbose and error.traceback else error.details
        if details and details not in self._told:  # of one file that is broken, for each target in it
            self._told.add(details)
            self._plain(details)

    def cache(self) -> Cache | None:
        """Return where what a target holds is kept from one run to the next; None where nothing is to be."""
        off = "--no-cache" if self.no_cache else cache_off()
        if off is not None:
            self._tell_of_cache(f"off: {off}")
        elif self._cache is None:
            from paramcount.cache import Cache

            if "PARAMCOUNT_CACHE" in os.environ:
                cache_folder()  # a mistake in it is said once, and not of each model
            self._cache = Cache(cache_folder, dict(os.environ), version=__version__, say=self._tell_of_cache)
        return self._cache

    def reading(self) -> Reading:
        """Return how to read targets: with the cache, if there is one."""
        from paramcount.sources import read

        cache = self.cache()
        return Reading(read) if cache is None else Reading(cache.read, cache.recall)

    def recording(self, words: Iterable[str]) -> AbstractContextManager[object]:
        """Let the cache note what libraries read that are imported inside, if what any of the words names is kept."""
        if self._cache is None:
            return nullcontext()
        from paramcount.cache import may_be_of_library

        return self._cache.recording() if any(map(may_be_of_library, words)) else nullcontext()

    def _tell_of_cache(self, text: str) -> None:
        if self.verbose:
            self._plain(f"cache: {text}")

    def warn(self, texts: Iterable[str]) -> None:
        """Say what a result of bare numbers cannot."""
        for text in texts:
            self._say("warning", visible(text), "yellow")

    def _say(self, label: str, text: str, style: str) -> None:
        stream = sys.stderr
        if self._colored(stream):
            from rich.console import Console
            from rich.text import Text

            console = Console(file=stream, force_terminal=True, legacy_windows=False, soft_wrap=True)
            console.print(Text.assemble((f"{label}: ", style), text))
        else:
            self._plain(f"{label}: {text}")

    def _plain(self, text: str) -> None:
        with suppress(BrokenPipeError):
            print(encodable(visible_lines(text.rstrip("\n")), sys.stderr), file=sys.stderr)

    @contextmanager
    def working(self, on: str) -> Iterator[Callable[[str], None]]:
        """Show what takes long, on a terminal's stderr only; yield what changes that line."""
        if self.quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            yield lambda _: None
            return
        import threading

        from rich.console import Console
        from rich.status import Status
        from rich.text import Text

        status = Status(Text(visible(on)), console=Console(file=sys.stderr), refresh_per_second=8)
        timer = threading.Timer(_A_MOMENT, status.start)
        timer.daemon = True
        timer.start()
        try:
            yield lambda text: status.update(Text(visible(text)))
        finally:
            timer.cancel()
            timer.join()
            status.stop()


_OFF = {"", "0", "off", "no", "false"}  # as a value of PARAMCOUNT_CACHE, and so no folder's name


def cache_off() -> str | None:
    """Return what in the environment turns the cache off; None if nothing does."""
    named = os.environ.get("PARAMCOUNT_CACHE")
    if named is not None and named.lower() in _OFF:
        return f"PARAMCOUNT_CACHE={named}"
    return "CI is set" if os.environ.get("CI") else None


def cache_folder() -> Path:
    """Return the folder of the cache: that of PARAMCOUNT_CACHE, or one where the platform has its caches."""
    named = os.environ.get("PARAMCOUNT_CACHE", "")
    if named.lower() not in _OFF:
        try:
            return Path(named).expanduser().absolute()
        except (RuntimeError, OSError) as error:  # ~ and the name of nobody; relative to a folder that is gone
            raise UsageError(f"PARAMCOUNT_CACHE={named} is no folder: {error}", hint="name it in full") from error
    from platformdirs import user_cache_path

    return user_cache_path("paramcount", appauthor=False)


def _width(stream: TextIO) -> int | None:
    """Return the columns of a terminal; None for what is none, which nothing needs to fit."""
    if not stream.isatty():
        return None
    with suppress(ValueError):
        if (columns := int(os.environ.get("COLUMNS", ""))) > 0:
            return columns
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def encodable(text: str, stream: TextIO) -> str:
    """Return ``text`` in characters that ``stream`` can encode."""
    encoding = stream.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    return text


_SET_ASIDE: set[int] = set()  # stdout, while others print to stderr


def _let_go() -> None:
    """Close stdout in a process that a model forks, or the reader of the result would wait for that to end, too."""
    while _SET_ASIDE:
        os.close(_SET_ASIDE.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def others_print_to_stderr() -> Iterator[None]:
    """Send what anybody but us prints to stderr: Python's ``print``, and what C code and child processes write."""
    sys.stdout.flush()
    try:
        stdout, stderr = sys.__stdout__.fileno(), sys.__stderr__.fileno()  # type: ignore[union-attr]
        kept = os.dup(stdout)
    except (AttributeError, OSError, ValueError):  # no real streams: a test's or a notebook's
        with redirect_stdout(sys.stderr):
            yield
        return
    os.dup2(stderr, stdout)
    _SET_ASIDE.add(kept)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _SET_ASIDE.discard(kept)
        with suppress(Exception):  # a user may have closed or replaced the stream
            sys.stderr.flush()
        os.dup2(kept, stdout)
        os.close(kept)


class Output:
    """Where one result goes: stdout, or a file that is written whole or not at all."""

    def __init__(self, path: str | None, inputs: Iterable[str | Path] = (), *, is_new: bool = False) -> None:
        """Find out whether the file can be written, before the work starts.

        ``inputs`` are never overwritten, and where the file is to be new, nothing is.
        """
        self._path = None if path is None or path == "-" else Path(path).absolute()
        self._is_new = is_new
        self._device: IO[str] | None = None  # /dev/stdout, a named pipe
        if path is None or self._path is None:
            return
        import tempfile

        if self._path.is_dir():
            raise UsageError(f"cannot write to {path}: it is a folder")
        demand_kept(path, inputs)
        try:
            if self._path.parent == Path("/dev") or (self._path.exists() and not self._path.is_file()):
                self._device = _opened(self._path)
            else:
                tempfile.TemporaryFile(dir=self._path.resolve().parent).close()
        except OSError as error:
            raise UsageError(f"cannot write to {path}: {error.strerror}") from error

    @property
    def stream(self) -> TextIO | None:
        """The terminal or pipe this goes to; None for a file."""
        return sys.stdout if self._path is None else None

    def write(self, text: str) -> None:
        """Write the whole result."""
        if self._path is None:
            _print(text)
            return
        try:
            if self._device is not None:
                self._device.write(text + "\n")
                self._device.close()
            else:
                _put(self._path, text + "\n", is_new=self._is_new)
        except OSError as error:
            raise UsageError(f"cannot write to {self._path}: {error.strerror}") from error

    def __enter__(self) -> Output:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what was opened."""
        if self._device is not None:
            with suppress(OSError):  # what could not be written is told already
                self._device.close()


def _put(path: Path, text: str, *, is_new: bool) -> None:
    """Put a file in its place in one step, so that nobody ever reads half of it; a draft lives for no longer."""
    import tempfile

    place = path.resolve()
    mode = place.stat().st_mode if place.exists() else 0o666 & ~_umask()
    draft, name = tempfile.mkstemp(dir=place.parent, prefix=f".{path.name}.")
    drop = partial(Path(name).unlink, missing_ok=True)
    with ExitStack() as stack:
        stack.callback(drop)
        stack.enter_context(undone(drop))
        with os.fdopen(draft, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        Path(name).chmod(mode)
        if is_new and place.exists():
            raise FileExistsError(errno.EEXIST, "it is there already", str(place))
        Path(name).replace(place)


def _opened(path: Path) -> IO[str]:
    """Open what is no plain file; a named pipe once somebody reads it, for which plain opening would wait for ever."""
    opener = _once_read if path.is_fifo() else None
    return open(str(path), "w", encoding="utf-8", newline="", opener=opener)


def _once_read(path: str, flags: int) -> int:
    deadline = time.monotonic() + seconds()
    while True:
        try:
            descriptor = os.open(path, (flags | os.O_NONBLOCK) & ~os.O_CREAT)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > deadline:
                name = Path(path).name
                hint = f"PARAMCOUNT_TIMEOUT={2 * seconds():g} waits longer"
                raise UsageError(
                    f"cannot write to {name}: nobody read it in {seconds():g} seconds", hint=hint
                ) from error
            time.sleep(_BETWEEN_LOOKS)
        else:
            os.set_blocking(descriptor, True)
            return descriptor


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _print(text: str) -> None:
    """Print to stdout; where nobody reads it any more, end quietly."""
    try:
        if text:
            print(encodable(text, sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError:
        # What Python still holds for stdout goes nowhere, or it would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_CLOSED_PIPE) from None
    except OSError as error:  # a full disk
        raise UsageError(f"cannot write the result: {error.strerror}") from error
