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
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from paramcount import __version__
from paramcount.commands.session import Session, encodable, others_print_to_stderr
from paramcount.errors import EXIT_INTERRUPTED, EXIT_OK, Bug, BuildCrash, Interrupted, ParamcountError
from paramcount.pause import paused_collector
from paramcount.signals import undone
from paramcount.units import plural

if TYPE_CHECKING:
    from paramcount.commands.workers import Log, Reply, Worker
    from paramcount.shards import Shard

FORMAT_VERSION = "1.0"
Counted = TypeVar("Counted")

# What a source whose models are torch's imports of ours when it builds its first one.
_BUILDING = ("paramcount.modules.build", "paramcount.modules.read", "paramcount.modules.weightless")
_leave = os._exit  # while a model runs, that name is something else
_A_MOMENT = 1.0  # seconds after which a worker that says nothing is looked after


@dataclass(frozen=True, slots=True)
class Job(Generic[Counted]):
    """One model to count."""

    label: str  # what the user calls it
    target: str
    count: Callable[[], Counted]
    recall: Callable[[], Counted] | None = None  # the same out of the cache, or NotKept
    isolated: bool = True  # whether it runs code that might change a process for the models after it
    kind: type | None = None  # of what it counts; None is a Report


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
    program = os.getpid()
    try:
        return job.count()
    except ParamcountError as error:
        return Failure(job.label, job.target, error)
    except KeyboardInterrupt:
        return _interrupted(job)
    except Exception as error:  # noqa: BLE001  # a bug of ours must not cost the other targets
        return Failure(job.label, job.target, Bug.of(error))
    finally:
        if os.getpid() != program:  # a process that the model forked, which is not to go on as a second program
            _leave(EXIT_OK)


def _interrupted(job: Job[Any]) -> Failure:
    return Failure(job.label, job.target, Interrupted("interrupted"))


# Several at once ------------------------------------------------------------------------------------------------------


def _count_in_workers(session: Session, jobs: Sequence[Job[Counted]], processes: int) -> list[Counted | Failure]:
    crew = _Crew(jobs)
    with session.working(f"counting {plural(len(jobs), 'model')}") as say, others_print_to_stderr(), undone(crew.kill):
        try:
            with _interrupts() as seen:
                if left := crew.recall():
                    with session.recording(job.target for job in left):
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
        from paramcount.commands.workers import Logs

        self.results: dict[int, Counted | Failure] = {}  # by the number of the job
        self.started = 0  # jobs up to this number have been given to a worker
        self._jobs = jobs
        self._workers: list[Worker] = []
        self._logs: dict[int, Log | _OldLog] = {}  # what each job printed
        self._kept = Logs()

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
                if not self._give(waiting[0]):
                    break
                waiting.popleft()
            busy = [worker for worker in self._workers if worker.is_busy]
            # A process that a model started may hold the pipe of its dead parent open: so those still are asked, too.
            connection.wait([worker.answers for worker in busy], timeout=_A_MOMENT if busy else 0)
            for worker in busy:
                waiting.extendleft(self._collect(worker))
            yield len(self.results)
        self.started = len(self._jobs)

    def _give(self, number: int) -> bool:
        """Give a job to a worker that has nothing to do, or else to a new one; False: there is no room for one yet."""
        from paramcount.commands.workers import Worker

        self.started = max(self.started, number + 1)
        for worker in [worker for worker in self._workers if not worker.is_busy]:
            with suppress(OSError):  # what it did before has killed it since
                worker.take(number)
                return True
            self._leave(worker)
        try:
            worker = Worker(self._outcome, self._workers)
        except OSError as error:
            if self._workers:
                return False
            job = self._jobs[number]
            problem = f"cannot start a process for {job.label}: {error.strerror or error}"
            hint = "make room for temporary files, or allow more processes and open files: ulimit -a"
            self.results[number] = Failure(job.label, job.target, ParamcountError(problem, hint=hint))
            return True
        self._workers.append(worker)
        with suppress(OSError):  # that it is dead is noticed when its answer is waited for
            worker.take(number)
        return True

    def _outcome(self, number: int) -> object:
        """Do a job in a worker, and return what is to be sent."""
        from paramcount.report import Report

        result = _outcome(self._jobs[number])
        if isinstance(result, Failure):
            return result.error
        return result.inventory() if isinstance(result, Report) else result

    def _collect(self, worker: Worker) -> list[int]:
        """Take over what a worker has counted, if it has; return the jobs that are to be done again."""
        from paramcount.typed_json import Mistyped

        job = self._jobs[worker.number]
        is_alive = worker.is_alive  # asked first: a last answer may come before the end
        try:
            if (reply := worker.reply()) is None:
                return [] if is_alive else self._bury(worker)
            result = _result(job, reply)
        except EOFError:
            return self._bury(worker)
        except Mistyped as error:
            return self._discard(worker, f"{job.label} wrote to the program what is no answer: {error}")
        self.results[worker.number], self._logs[worker.number] = result, worker.hand_over_log(self._kept)
        if job.isolated:
            self._leave(worker)
        return []

    def _bury(self, worker: Worker) -> list[int]:
        """Note that a job killed its worker."""
        worker.end()
        label = self._jobs[worker.number].label
        return self._discard(worker, f"{label} took its process down with it: {worker.cause_of_death}")

    def _discard(self, worker: Worker, problem: str) -> list[int]:
        """Note that a job spoilt its worker; if the worker had done others before, which may be to blame, try again."""
        number, job = worker.number, self._jobs[worker.number]
        log = worker.hand_over_log(self._kept)
        self._leave(worker)
        if worker.has_done_others:
            return [number]
        self.results[number], self._logs[number] = Failure(job.label, job.target, BuildCrash(problem)), log
        return []

    def _leave(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.stop()

    def dismiss(self) -> None:
        """End all workers at once, whatever they are doing."""
        for worker in self._workers:
            if worker.is_busy:
                self._logs[worker.number] = worker.hand_over_log(self._kept)
            worker.stop()
        self._workers.clear()

    def kill(self) -> None:
        """End all workers, and leave the rest to the end of the program."""
        for worker in self._workers:
            worker.kill()

    def show_log(self, number: int) -> None:
        """Show what a job printed."""
        if number in self._logs:
            self._logs[number].show()

    def close_logs(self) -> None:
        """Give back what the logs take."""
        self._kept.close()


def _result(job: Job[Counted], reply: Reply) -> Counted | Failure:
    """Return what a worker's reply says of a job.

    Raises:
        Mistyped: it cannot be what the job counts.

    """
    from paramcount.inventory import Inventory
    from paramcount.report import Report
    from paramcount.typed_json import Mistyped, read

    if reply.error is not None:
        return Failure(job.label, job.target, reply.error)
    if job.kind is not None:
        return cast("Counted", read(job.kind, reply.value))
    with paused_collector():
        inventory = read(Inventory, reply.value)
        try:
            return cast("Counted", Report.of(inventory))
        except LookupError as error:
            raise Mistyped("its names do not fit together") from error


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
