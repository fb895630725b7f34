"""Counts one model after the other, or several at once: one that fails does not stop the others."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from paramcount import __version__
from paramcount.commands.session import Session, others_print_to_stderr
from paramcount.errors import EXIT_INTERRUPTED, Bug, BuildCrash, Interrupted, ParamcountError
from paramcount.report import Report

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

FORMAT_VERSION = "1.0"


@dataclass(frozen=True, slots=True)
class Job:
    """One model to count."""

    label: str  # what the user calls it
    target: str
    count: Callable[[], Report]


@dataclass(frozen=True, slots=True)
class Failure:
    """A model that has no report, and why."""

    label: str
    target: str
    error: ParamcountError

    def to_dict(self) -> dict[str, Any]:
        """Return the failure as the JSON format has it."""
        return {"target": self.target, "code": self.error.code, "message": self.error.message, "hint": self.error.hint}


def document(reports: list[dict[str, Any]], errors: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the JSON document that every command's reports and errors go into."""
    return {
        "format_version": FORMAT_VERSION,
        "paramcount_version": __version__,
        "reports": reports,
        "errors": errors,
    }


def count_all(
    session: Session, jobs: Sequence[Job], *, processes: int = 1, forked: bool = False
) -> list[Report | Failure]:
    """Return a report or a failure for each job, in their order; after an interrupt, for those up to it.

    With several processes, or if ``forked``, each model is counted in a process of its own, forked once the libraries
    are imported: whatever it does there, it does to itself. What it prints is shown in the jobs' order all the same.
    """
    if (forked or processes > 1) and hasattr(os, "fork"):
        return _count_in_parallel(session, jobs, processes)
    results: list[Report | Failure] = []
    for position, job in enumerate(jobs, start=1):
        of_many = f" ({position} of {len(jobs)})" if len(jobs) > 1 else ""
        with session.working(f"counting {job.label}{of_many}"), others_print_to_stderr():
            result = _outcome(job)
        results.append(result)
        if isinstance(result, Failure):
            session.error(result.error, subject=job.label)
            if isinstance(result.error, Interrupted):
                break
    return results


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Remember that Ctrl-C was pressed, also where a model, or an import, catches it and goes on."""
    seen: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only the main one may handle signals
        yield seen
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def _outcome(job: Job) -> Report | Failure:
    with _interrupts() as seen:
        result = _tried(job)
    return Failure(job.label, job.target, Interrupted("interrupted")) if seen else result


def _tried(job: Job) -> Report | Failure:
    try:
        return job.count()
    except ParamcountError as error:
        return Failure(job.label, job.target, error)
    except KeyboardInterrupt:
        return Failure(job.label, job.target, Interrupted("interrupted"))
    except Exception as error:  # noqa: BLE001  # a bug of ours must not cost the other targets
        return Failure(job.label, job.target, Bug.of(error))


def _count_in_parallel(session: Session, jobs: Sequence[Job], processes: int) -> list[Report | Failure]:
    from multiprocessing import connection

    with session.working(f"counting {len(jobs)} models"), others_print_to_stderr():
        children: list[_Child] = []
        try:
            with _interrupts() as seen:
                _import_libraries(jobs)
            if seen:
                raise KeyboardInterrupt
            for job in jobs:
                running = [child for child in children if child.is_running]
                if len(running) >= processes:
                    connection.wait([child.pipe for child in running])
                    for child in running:
                        child.collect_if_ready()
                children.append(_Child(job))
            for child in children:
                child.collect()
        except KeyboardInterrupt:
            pass  # what is not counted yet says that it was interrupted
        finally:
            for child in children:
                child.stop()
    results: list[Report | Failure] = []
    if len(children) < len(jobs):
        missing = jobs[len(children)]
        session.exit_codes.append(EXIT_INTERRUPTED)
        results = [] if children else [Failure(missing.label, missing.target, Interrupted("interrupted"))]
    for child in children:
        child.show_log()
        results.append(child.result)
        if isinstance(child.result, Failure):
            session.error(child.result.error, subject=child.job.label)
    return results


def _import_libraries(jobs: Sequence[Job]) -> None:
    """Import what the jobs need before they are forked: once, and not in each of them."""
    from paramcount.sources import resolve

    for job in jobs:
        with suppress(ParamcountError, ImportError, RuntimeError, OSError):  # the job itself will say so
            for library in resolve(job.target)[0].LIBRARIES:
                import_module(library)


class _Child:
    """One job in a process of its own, whose output waits in a file until its turn."""

    def __init__(self, job: Job) -> None:
        import tempfile
        from multiprocessing import get_context

        self.job = job
        self.result: Report | Failure = Failure(job.label, job.target, Interrupted("interrupted"))
        self.is_running = True
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed in show_log()
        context = get_context("fork")
        self.pipe, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=self._run, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def _run(self, pipe: Connection[Any, Any]) -> None:
        import pickle

        for stream in (1, 2):
            os.dup2(self._log.fileno(), stream)
        sys.stdout = sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
        result = _outcome(self.job)
        if isinstance(result, Failure) and result.error.__cause__ is not None:
            result.error.keep_traceback()  # an exception loses its cause on the way
        sys.setrecursionlimit(1_000_000)  # a report is as deep as its model
        pipe.send_bytes(pickle.dumps(result))
        sys.stderr.flush()

    def collect_if_ready(self) -> None:
        if self.pipe.poll():
            self.collect()

    def collect(self) -> None:
        if not self.is_running:
            return
        import pickle

        try:
            self.result = pickle.loads(self.pipe.recv_bytes())  # noqa: S301  # from our own child
        except EOFError:
            self._process.join()
            crash = BuildCrash(
                f"{self.job.label} took its process down with it: {_cause_of_death(self._process.exitcode)}"
            )
            self.result = Failure(self.job.label, self.job.target, crash)
        self._process.join()
        self.is_running = False
        self.pipe.close()

    def stop(self) -> None:
        if self.is_running:
            self._process.terminate()
            self._process.join()
            self.is_running = False

    def show_log(self) -> None:
        import shutil

        with self._log as log:
            log.seek(0)
            sys.stderr.flush()
            with suppress(OSError, ValueError, AttributeError):
                shutil.copyfileobj(log, sys.stderr.buffer)
                sys.stderr.flush()


def _cause_of_death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"
