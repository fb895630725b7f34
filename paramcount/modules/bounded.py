"""Runs a constructor as it is, in real memory but little of it: what it makes is then what PyTorch makes.

A loop of small operations takes several times as long where a mode hears of each of them, so here none does. In
exchange, the memory that the process may take is limited, and what the limit could have changed spoils the outcome: an
error like those that come of missing memory, or of a device that is not here, even where the constructor catches it.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

_MOST = 128 << 20  # that the constructor may take
# What one request may ask for at once before it is refused: memory that libraries reserve and never touch, as a BLAS
# does for each of its threads, must not be, because some end the process then.
_AT_ONCE = (256 << 20) + (64 << 20) * (os.cpu_count() or 1)
_CALLS_A_LOOK = 32  # how many calls of Python functions go by before the memory is looked at


class Spoiled(BaseException):
    """The constructor takes more than it may, or does what could have another outcome without a limit."""


def can_bound(available: int | None) -> bool:
    """Whether a constructor can be run within bounds in this process, now that so many bytes are available.

    The bounds are the process's: there must be no thread that could suffer from them, and no debugger.
    """
    return (
        sys.platform == "linux"
        and available is not None
        and available > 2 * _AT_ONCE
        and sys.gettrace() is None
        and all(map(_is_ours, threading.enumerate()))
        and not _has_accelerator()
    )


def _is_ours(thread: threading.Thread) -> bool:
    """Whether a thread is this one, or one that is known to need little memory."""
    modules = {type(thread).__module__, getattr(getattr(thread, "_target", None), "__module__", None)}
    return thread is threading.current_thread() or modules & {"tqdm._monitor", "paramcount.signals"} != set()


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()


class Bounded:
    """The bounds of one try."""

    def __init__(self) -> None:
        """Be ready."""
        self.is_spoiled = False
        self._is_paused = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Bound what runs inside this context.

        Raises:
            Spoiled: it did not keep within its bounds. It may have caught this: ``is_spoiled`` says so as well.

        """
        before, children = resource.getrlimit(resource.RLIMIT_DATA), resource.getrusage(resource.RUSAGE_CHILDREN)
        self._before = before
        with ExitStack() as stack:
            statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, statm)
            self._statm = statm
            stack.callback(resource.setrlimit, resource.RLIMIT_DATA, before)
            self._restrict()
            if not _is_refused(2 * _AT_ONCE):
                self.spoil()
            set_trace = sys.settrace
            stack.enter_context(self._alone())
            set_trace(self._tracer())
            try:
                yield
            finally:
                set_trace(None)
                # A program that it ran is under the same limit.
                if resource.getrusage(resource.RUSAGE_CHILDREN) != children:
                    self.is_spoiled = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Bound nothing inside a context."""
        was_paused, self._is_paused = self._is_paused, True
        resource.setrlimit(resource.RLIMIT_DATA, self._before)
        try:
            yield
        finally:
            self._is_paused = was_paused
            if not was_paused:
                self._restrict()

    def spoil(self, *_args: object, **_options: object) -> None:
        """Give up."""
        self.is_spoiled = True
        raise Spoiled

    def _taken(self) -> int:
        """Return how many bytes of memory the process has that is its own and can be written to."""
        return int(os.pread(self._statm, 200, 0).split()[5]) * mmap.PAGESIZE

    def _restrict(self) -> None:
        soft, hard = self._before
        taken = self._taken()
        self._most, limit = taken + _MOST, taken + _AT_ONCE
        resource.setrlimit(resource.RLIMIT_DATA, (limit if soft == resource.RLIM_INFINITY else min(soft, limit), hard))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Compute in one thread, and let no other start, nor trace: it might need more, and not all would be heard."""
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        refused: list[tuple[Any, str]] = [(threading.Thread, "start"), (torch, "set_num_threads"), (sys, "settrace")]
        before = [getattr(place, name) for place, name in refused]
        for place, name in refused:
            setattr(place, name, self.spoil)
        try:
            yield
        finally:
            for (place, name), function in zip(refused, before, strict=True):
                setattr(place, name, function)
            torch.set_num_threads(threads)

    def _tracer(self) -> Callable[[FrameType, str, Any], Any]:
        """Return what Python calls for each call, and for each exception that passes where one might be caught."""
        calls = 0

        def on_call(frame: FrameType, _event: str, _arg: Any) -> Any:
            nonlocal calls
            calls += 1
            if not calls % _CALLS_A_LOOK and not self._is_paused and self._taken() > self._most:
                self.spoil()
            frame.f_trace_lines = False
            return on_event if frame.f_code.co_exceptiontable else None

        def on_event(_frame: FrameType, event: str, arg: Any) -> Any:
            if event == "exception" and not self._is_paused and not _is_harmless(arg[1]):
                self.is_spoiled = True
            return on_event

        return on_call


def _is_refused(size: int) -> bool:
    """Whether the operating system heeds a limit: not all that call themselves Linux do."""
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return True
    return False


def _is_harmless(error: object) -> bool:
    """Whether an exception can come neither of missing memory nor of a missing device."""
    if isinstance(error, OSError):
        return error.errno not in (None, errno.ENOMEM, errno.EAGAIN)
    return isinstance(error, _HARMLESS)


_HARMLESS = (
    *(AttributeError, LookupError, NameError, TypeError, ValueError, ModuleNotFoundError),
    *(StopIteration, StopAsyncIteration, GeneratorExit),
)
