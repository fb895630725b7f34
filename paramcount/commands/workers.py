"""Worker processes: each counts one model after the other, and answers in JSON, as its model may have written to it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import IO, Any, NamedTuple, TypeVar

from paramcount.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_UNREADABLE,
    EXIT_USAGE,
    Interrupted,
    Mistakes,
    ParamcountError,
    UsageError,
)
from paramcount.pause import paused_collector
from paramcount.typed_json import Mistyped, dumps, loads

_Error = TypeVar("_Error", bound=ParamcountError)

_LONGEST_ANSWER = 2**30  # bytes
_AT_ONCE = 2**20  # bytes to read
_A_MOMENT = 1.0  # seconds
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


class _Said(NamedTuple):
    """One error, without what only its own process knows of it."""

    code: str
    exit_code: int
    message: str
    hint: str | None
    details: str
    traceback: str


class _Answer(NamedTuple):
    """What came of one job."""

    number: int
    errors: tuple[_Said, ...]  # none, or the error, and after it those it stands for
    value: Any


class Reply(NamedTuple):
    """What a worker says: a value as JSON has it, or an error."""

    value: Any = None
    error: ParamcountError | None = None


class Log(NamedTuple):
    """What one job printed: a part of a file."""

    file: IO[bytes]
    start: int
    end: int

    def show(self) -> None:
        """Print it on stderr."""
        sys.stderr.flush()
        position = self.start
        with suppress(OSError, ValueError, AttributeError):
            while chunk := os.pread(self.file.fileno(), min(self.end - position, _AT_ONCE), position):
                sys.stderr.buffer.write(chunk)
                position += len(chunk)
            sys.stderr.flush()


class Worker:
    """A process in a session of its own, which ends with all that a model started in it."""

    def __init__(self, do: Callable[[int], object], others: Iterable[Worker]) -> None:
        """Start a process that does jobs by their numbers: ``do`` returns a value, or the error that kept it from one.

        Raises:
            OSError: there is no room for one more process, or for its files.

        """
        from multiprocessing import get_context

        self.number = -1  # of the job it is at, or was at last
        self.is_busy = False
        self.has_done_others = False
        self._do = do
        self._logged = 0
        self._said = bytearray()
        self.held: list[int] = []  # ends of pipes, in the program
        self._log = scratch()
        try:
            orders, self._orders = self._pipe()
            self.answers, answers = self._pipe()  # one line of JSON each
            os.set_blocking(self.answers, False)
            held = [end for worker in others for end in worker.held] + [self._orders, self.answers]
            _prctl()
            # Not a daemon, which may have no children: a model may start processes of its own.
            self._process = get_context("fork").Process(target=self._run, args=(orders, answers, held, os.getpid()))
            self._process.start()
        except OSError:
            self._close()
            raise
        for theirs in (orders, answers):
            os.close(theirs)
            self.held.remove(theirs)

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self.held += ends
        return ends

    def _close(self) -> None:
        while self.held:
            os.close(self.held.pop())
        self._log.close()

    # In the worker

    def _run(self, orders: int, answers: int, held: Iterable[int], parent: int) -> None:
        os.setsid()  # no signal that a model sends to its group is for the program, and all it started ends with it
        if (prctl := _prctl()) is not None:
            prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            return
        for descriptor in held:  # or no worker would notice that the program has gone
            os.close(descriptor)
        for stream in (1, 2):
            os.dup2(self._log.fileno(), stream)
        sys.stdout = sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
        pipe = os.fstat(answers)
        with suppress(KeyboardInterrupt), open(orders, encoding="ascii", closefd=False) as given:
            for order in given:
                answer = _answer(int(order), self._do(int(order)))
                with suppress(OSError):  # the log may have no more room
                    sys.stderr.flush()
                if not os.path.samestat(os.fstat(answers), pipe):  # the model closed it, and opened something else
                    return
                while answer:
                    answer = answer[os.write(answers, answer) :]

    # In the program

    def take(self, number: int) -> None:
        """Start on a job.

        Raises:
            OSError: the process has ended.

        """
        self.has_done_others = self.number >= 0
        self.number, self.is_busy = number, True
        os.write(self._orders, b"%d\n" % number)

    def reply(self) -> Reply | None:
        """Return what came of the job; None where that is not known yet.

        Raises:
            EOFError: the process will say no more.
            Mistyped: what it says is no answer to that job.

        """
        while not self._said.endswith(b"\n"):
            try:
                data = os.read(self.answers, _AT_ONCE)
            except BlockingIOError:
                return None
            if not data:
                raise EOFError
            self._said += data
            if len(self._said) > _LONGEST_ANSWER:
                raise Mistyped("it is too long")
        line, self._said = bytes(self._said), bytearray()
        with paused_collector():
            answer = loads(_Answer, line)
        if answer.number != self.number:
            raise Mistyped("it is the answer to another job")
        return Reply(error=_error(answer.errors)) if answer.errors else Reply(answer.value)

    def hand_over_log(self, logs: Logs) -> Log:
        """Return what the job printed; the worker is ready for the next one."""
        self.is_busy = False
        start, self._logged = self._logged, os.fstat(self._log.fileno()).st_size
        return logs.keep(self._log, start, self._logged)

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.is_alive()

    @property
    def cause_of_death(self) -> str:
        """How the process ended."""
        exit_code = self._process.exitcode
        if exit_code is not None and exit_code < 0:
            return signal.Signals(-exit_code).name
        return f"exit code {exit_code}"

    def end(self) -> None:
        """Let the process come to the end that it is at, so that its exit code is its own."""
        self._process.join(_A_MOMENT)

    def stop(self) -> None:
        """End the process at once, and what its model started: threads, or what is done at exit, may take for ever."""
        self.kill()
        self._process.join()
        self._process.close()
        self._close()

    def kill(self) -> None:
        """Kill the process and what its model started, and wait for nothing."""
        with suppress(OSError):  # it has come to no session of its own yet, or nothing of it is left
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        self._process.kill()


class Logs:
    """What all jobs printed, in one file: there may be more jobs than a process may have files open."""

    def __init__(self) -> None:
        """Open the file once there is something to keep."""
        self._file: IO[bytes] | None = None
        self._end = 0

    def keep(self, file: IO[bytes], start: int, end: int) -> Log:
        """Copy a part of a worker's file; what there is no room for is lost."""
        if self._file is None:
            if start == end:
                return Log(file, 0, 0)
            self._file = scratch()
        first = self._end
        with suppress(OSError):
            while start < end and (chunk := os.pread(file.fileno(), min(end - start, _AT_ONCE), start)):
                self._end += os.pwrite(self._file.fileno(), chunk, self._end)
                start += len(chunk)
        return Log(self._file, first, self._end)

    def close(self) -> None:
        """Give back what they take."""
        if self._file is not None:
            self._file.close()


def scratch() -> IO[bytes]:
    """Return a file that nobody else sees: a temporary one, or one in memory where no folder has room.

    Raises:
        OSError: there is no room for either.

    """
    import tempfile

    try:
        return tempfile.TemporaryFile()
    except OSError:
        if not hasattr(os, "memfd_create"):
            raise
        return open(os.memfd_create("paramcount"), "w+b")  # noqa: PTH123  # a descriptor


def _answer(number: int, outcome: object) -> bytes:
    with paused_collector():
        if not isinstance(outcome, ParamcountError):
            return dumps(_Answer(number, (), outcome)) + b"\n"
        if outcome.__cause__ is not None:
            outcome.keep_traceback()  # an exception loses its cause on the way
        of_several = outcome.errors if isinstance(outcome, Mistakes) else ()
        return dumps(_Answer(number, tuple(map(_said, (outcome, *of_several))), None)) + b"\n"


def _said(error: ParamcountError) -> _Said:
    return _Said(error.code, error.exit_code, error.message, error.hint, error.details, error.traceback)


def _error(said: tuple[_Said, ...]) -> ParamcountError:
    """Return the error that a worker met, or all of several."""
    first = said[0]
    error: ParamcountError
    if len(said) > 1:
        mistakes = [_like(UsageError(each.message, hint=each.hint, details=each.details), each) for each in said[1:]]
        error = Mistakes(first.message, errors=mistakes, hint=first.hint, details=first.details)
    else:
        kind = Interrupted if first.code == Interrupted.code else ParamcountError
        error = kind(first.message, hint=first.hint, details=first.details)
    return _like(error, first)


def _like(error: _Error, said: _Said) -> _Error:
    if said.exit_code not in {EXIT_USAGE, EXIT_UNREADABLE, EXIT_BUG, EXIT_INTERRUPTED}:
        raise Mistyped(f"no error has the exit code {said.exit_code}")
    error.code, error.exit_code, error.traceback = said.code, said.exit_code, said.traceback
    return error


@cache
def _prctl() -> Callable[[int, int], int] | None:
    """Return the call by which a process of Linux has itself killed as soon as its parent has gone."""
    if sys.platform != "linux":
        return None
    import ctypes

    found: Callable[[int, int], int] | None = getattr(ctypes.CDLL(None), "prctl", None)
    return found
