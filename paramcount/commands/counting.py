"""Counts one model after the other, or several at once: one that fails does not stop the others."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from typing import IO, TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from paramcount import __version__
from paramcount.commands.session import Session, encodable, others_print_to_stderr
from paramcount.errors import EXIT_INTERRUPTED, Bug, BuildCrash, Interrupted, ParamcountError
from paramcount.units import plural

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from paramcount.shards import Shard

FORMAT_VERSION = "1.0"
Counted = TypeVar("Counted")

# What a source whose models are torch's imports of ours when it builds its first one.
_BUILDING = ("paramcount.modules.build", "paramcount.modules.read", "paramcount.modules.weightless")
_A_MOMENT = 1.0  # seconds after which a worker that says nothing is looked after


@dataclass(frozen=True, slots=True)
class Job(Generic[Counted]):
    """One model to count."""

    label: str  # what the user calls it
    target: str
    count: Callable[[], Counted]
    recall: Callable[[], Counted] | None = None  # the same out of the cache, or NotKept
    isolated: bool = True  # whether it runs code that might change a process for the models after it


class Failure(NamedTuple):
    """A model that has no report, and why."""

    label: str
    target: str
    error: ParamcountError

    def to_dict(self) -> dict[str, Any]:
        """Return the failure as the JSON format has it."""
        return {"target": self.target, "code": self.error.code, "message": self.error.message, "hint": self.error.hint}


def document(
    reports: list[dict[str, Any]], errors: list[dict[str, Any]], *, shard: Shard | None = None
) -> dict[str, Any]:
    """Return the JSON document that every command's reports and errors go into."""
    return envelope({"reports": reports, "errors": errors}, shard=shard)


def envelope(body: Mapping[str, Any], *, shard: Shard | None = None) -> dict[str, Any]:
    """Return a JSON document that says which version wrote it, and which part of the whole it is."""
    part = {} if shard is None else {"shard": str(shard)}
    return {"format_version": FORMAT_VERSION, "paramcount_version": __version__, **part, **body}


def count_all(
    session: Session, jobs: Sequence[Job[Counted]], *, processes: int = 1, forked: bool = False
) -> list[Counted | Failure]:
    """Return what each job counted, or a failure, in their order; after an interrupt, for those up to it.

    With several processes, or if ``forked``, those that are not in the cache are counted in worker processes, forked
    once the libraries are imported, and replaced when a model takes one down; an isolated job gets one to itself, so
    whatever it does there, it does to itself. What they print is shown in the jobs' order all the same.
    """
    if (forked or processes > 1) and hasattr(os, "fork"):
        return _count_in_workers(session, jobs, processes)
    results: list[Counted | Failure] = []
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


def _outcome(job: Job[Counted]) -> Counted | Failure:
    with _interrupts() as seen:
        result = _tried(job)
    return _interrupted(job) if seen else result


def _tried(job: Job[Counted]) -> Counted | Failure:
    try:
        return job.count()
    except ParamcountError as error:
        return Failure(job.label, job.target, error)
    except KeyboardInterrupt:
        return _interrupted(job)
    except Exception as error:  # noqa: BLE001  # a bug of ours must not cost the other targets
        return Failure(job.label, job.target, Bug.of(error))


def _interrupted(job: Job[Any]) -> Failure:
    return Failure(job.label, job.target, Interrupted("interrupted"))


# Several at once ------------------------------------------------------------------------------------------------------


def _count_in_workers(session: Session, jobs: Sequence[Job[Counted]], processes: int) -> list[Counted | Failure]:
    crew = _Crew(jobs)
    with session.working(f"counting {plural(len(jobs), 'model')}") as say, others_print_to_stderr():
        try:
            with _interrupts() as seen:
                if left := crew.recall():
                    with session.watching():
                        _import_libraries(left)
            if seen:
                raise KeyboardInterrupt
            gc.freeze()  # or each worker would copy all that is imported, by looking for garbage in it
            for done in crew.work(processes):
                say(f"counting {plural(len(jobs), 'model')} ({done} done)")
        except KeyboardInterrupt:
            session.exit_codes.append(EXIT_INTERRUPTED)  # what is not counted yet says that it was interrupted
        finally:
            crew.dismiss()
            gc.unfreeze()
    started = max(crew.started, 1) if jobs else 0
    results = [crew.results.get(number, _interrupted(jobs[number])) for number in range(started)]
    for number, result in enumerate(results):
        crew.show_log(number)
        if isinstance(result, Failure):
            session.error(result.error, subject=jobs[number].label)
    crew.close_logs()
    return results


def _import_libraries(jobs: Iterable[Job[Any]]) -> None:
    """Import what the jobs need before workers are forked: once, and not in each of them."""
    from paramcount.modules.compiler import compiler_put_off
    from paramcount.sources import resolve

    libraries: dict[str, None] = {}
    for job in jobs:
        with suppress(ParamcountError):  # the job itself will say so
            libraries |= dict.fromkeys(resolve(job.target)[0].LIBRARIES)
    for library in libraries:
        with suppress(ImportError, RuntimeError, OSError), compiler_put_off():  # likewise
            import_module(library)
    if "torch" in sys.modules:
        for module in _BUILDING:
            import_module(module)


class _Crew(Generic[Counted]):
    """The workers that share some jobs, and what came of each job."""

    def __init__(self, jobs: Sequence[Job[Counted]]) -> None:
        self.results: dict[int, Counted | Failure] = {}  # by the number of the job
        self.started = 0  # jobs up to this number have been given to a worker
        self._jobs = jobs
        self._workers: list[_Worker] = []
        self._logs: dict[int, _Log | _OldLog] = {}  # what each job printed
        self._files: list[IO[bytes]] = []  # that the logs are in

    def recall(self) -> list[Job[Counted]]:
        """Take what can be had out of the cache, and return the jobs that are left."""
        for number, job in enumerate(self._jobs):
            if (found := _recalled(job)) is not None:
                self.results[number], self._logs[number] = found
        return [job for number, job in enumerate(self._jobs) if number not in self.results]

    def work(self, processes: int) -> Iterator[int]:
        """Do all jobs, and yield the number of those done as it grows."""
        waiting = deque(number for number in range(len(self._jobs)) if number not in self.results)
        if waiting:
            from multiprocessing import connection
        while waiting or any(worker.is_busy for worker in self._workers):
            while waiting and sum(worker.is_busy for worker in self._workers) < processes:
                self._give(waiting.popleft())
            busy = [worker for worker in self._workers if worker.is_busy]
            # A process that a model started may hold the pipe of its dead parent open: so those still are asked, too.
            connection.wait([worker.pipe for worker in busy], timeout=_A_MOMENT)
            for worker in busy:
                is_alive = worker.is_alive  # asked first: a last answer may come before the end
                if worker.pipe.poll():
                    waiting.extendleft(self._collect(worker))
                elif not is_alive:
                    waiting.extendleft(self._bury(worker))
            yield len(self.results)
        self.started = len(self._jobs)

    def _give(self, number: int) -> None:
        """Give a job to a worker that has nothing to do, or else to a new one."""
        self.started = max(self.started, number + 1)
        for worker in [worker for worker in self._workers if not worker.is_busy]:
            with suppress(OSError):  # what it did before has killed it since
                worker.take(number)
                return
            self._leave(worker)
        worker = _Worker(self._jobs, [worker.pipe for worker in self._workers])
        self._workers.append(worker)
        self._files.append(worker.log)
        with suppress(OSError):  # that it is dead is noticed when its answer is waited for
            worker.take(number)

    def _collect(self, worker: _Worker) -> list[int]:
        """Take over what a worker has counted; return the jobs that are to be done again."""
        import pickle

        try:
            result = pickle.loads(worker.pipe.recv_bytes())  # noqa: S301  # from our own child
        except (EOFError, OSError):
            return self._bury(worker)
        number = worker.number
        self.results[number], self._logs[number] = result, worker.hand_over_log()
        if self._jobs[number].isolated:
            self._leave(worker)
        return []

    def _bury(self, worker: _Worker) -> list[int]:
        """Note that a job killed its worker; if the worker had done others before, which may be to blame, try again."""
        number, job = worker.number, self._jobs[worker.number]
        worker.end()
        self._leave(worker)
        if worker.has_done_others:
            return [number]
        crash = BuildCrash(f"{job.label} took its process down with it: {_cause_of_death(worker.exit_code)}")
        self.results[number], self._logs[number] = Failure(job.label, job.target, crash), worker.hand_over_log()
        return []

    def _leave(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.stop()

    def dismiss(self) -> None:
        """End all workers at once, whatever they are doing."""
        for worker in self._workers:
            if worker.is_busy:
                self._logs[worker.number] = worker.hand_over_log()
            worker.stop()
        self._workers.clear()

    def show_log(self, number: int) -> None:
        """Show what a job printed."""
        if number in self._logs:
            self._logs[number].show()

    def close_logs(self) -> None:
        """Give back what the logs take."""
        for file in self._files:
            file.close()


def _recalled(job: Job[Counted]) -> tuple[Counted | Failure, _OldLog] | None:
    if job.recall is None:
        return None
    from paramcount.cache import NotKept

    with StringIO() as log, redirect_stdout(log), redirect_stderr(log):
        try:
            return job.recall(), _OldLog(log.getvalue())
        except NotKept:
            return None
        except ParamcountError as error:
            return Failure(job.label, job.target, error), _OldLog(log.getvalue())


class _OldLog(NamedTuple):
    """What one job printed when it was counted, some other day."""

    text: str

    def show(self) -> None:
        sys.stderr.write(encodable(self.text, sys.stderr))


class _Log(NamedTuple):
    """What one job printed: a part of the file that its worker's output goes to."""

    file: IO[bytes]
    start: int
    end: int

    def show(self) -> None:
        sys.stderr.flush()
        position = self.start
        with suppress(OSError, ValueError, AttributeError):
            while chunk := os.pread(self.file.fileno(), min(self.end - position, 2**20), position):
                sys.stderr.buffer.write(chunk)
                position += len(chunk)
            sys.stderr.flush()


class _Worker:
    """A process that counts one model after the other, and whose output waits in a file."""

    def __init__(self, jobs: Sequence[Job[Any]], others: Iterable[Connection[Any, Any]]) -> None:
        import tempfile
        from multiprocessing import get_context

        self.number = -1  # of the job it is at, or was at last
        self.is_busy = False
        self.has_done_others = False
        self._jobs = jobs
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  # closed in close_logs()
        self._logged = 0
        context = get_context("fork")
        self.pipe, theirs = context.Pipe()
        # Not a daemon, which may have no children: a model may start processes of its own.
        self._process = context.Process(target=self._run, args=(theirs, [self.pipe, *others]))
        self._process.start()
        theirs.close()

    def _run(self, pipe: Connection[Any, Any], others: Iterable[Connection[Any, Any]]) -> None:
        for other in others:  # or no worker would notice that the program has gone
            other.close()
        for stream in (1, 2):
            os.dup2(self.log.fileno(), stream)
        sys.stdout = sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
        with suppress(EOFError, KeyboardInterrupt):
            while True:
                pipe.send_bytes(_pickled(_outcome(self._jobs[pipe.recv()])))

    def take(self, number: int) -> None:
        """Start on a job.

        Raises:
            OSError: the process has ended.

        """
        self.has_done_others = self.number >= 0
        self.number, self.is_busy = number, True
        self.pipe.send(number)

    def hand_over_log(self) -> _Log:
        """Return what the job printed; the worker is ready for the next one."""
        self.is_busy = False
        start, self._logged = self._logged, os.fstat(self.log.fileno()).st_size
        return _Log(self.log, start, self._logged)

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    @property
    def exit_code(self) -> int | None:
        return self._process.exitcode

    def end(self) -> None:
        """Let the process come to the end that it is at, so that its exit code is its own."""
        self._process.join(_A_MOMENT)

    def stop(self) -> None:
        """End the process at once: a model's threads, or what it does at exit, may take for ever."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _pickled(result: Any) -> bytes:
    import pickle

    if isinstance(result, Failure) and result.error.__cause__ is not None:
        result.error.keep_traceback()  # an exception loses its cause on the way
    sys.stderr.flush()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)  # a report is as deep as its model
    try:
        return pickle.dumps(result)
    finally:
        sys.setrecursionlimit(limit)


def _cause_of_death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"
