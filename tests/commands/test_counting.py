"""Counting several models at once gives what counting them in turn gives."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import paramcount
from paramcount.commands.counting import Failure, Job, count_all
from paramcount.commands.session import Session
from paramcount.report import Report
from tests.conftest import MODELS

WORDS = [f"{MODELS / name}.py:Net" for name in ("tutorial_cnn", "no_such", "lazy", "frozen_backbone")]


def job(word: str, count: Callable[[], Report] | None = None) -> Job[Report]:
    return Job(word, word, count or (lambda: paramcount.count(word)))


def test_several_processes_give_the_same_results_in_the_same_order(capfd: pytest.CaptureFixture[str]) -> None:
    jobs = [job(word) for word in WORDS]
    in_turn = count_all(Session(), jobs)
    said_in_turn = capfd.readouterr()
    at_once = count_all(Session(), jobs, processes=3)
    assert [r for r in at_once if isinstance(r, Report)] == [r for r in in_turn if isinstance(r, Report)]
    assert [r.to_dict() for r in at_once] == [r.to_dict() for r in in_turn]
    assert [type(r) for r in at_once] == [Report, Failure, Report, Report]
    assert capfd.readouterr() == said_in_turn


def test_what_models_print_is_shown_in_their_order_and_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    def saying(word: str, seconds: float) -> Callable[[], Report]:
        def count() -> Report:
            time.sleep(seconds)
            print(f"said {seconds}")
            return paramcount.count(word)

        return count

    count_all(Session(), [job("slow", saying(WORDS[0], 0.3)), job("fast", saying(WORDS[0], 0.0))], processes=2)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "said 0.3\nsaid 0.0\n")


def test_a_model_that_takes_its_process_down_loses_only_itself(capfd: pytest.CaptureFixture[str]) -> None:
    def die() -> Report:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    session = Session()
    crashed, counted = count_all(session, [job("crash", die), job(WORDS[0])], processes=2)
    assert isinstance(crashed, Failure)
    assert crashed.error.message == "crash took its process down with it: SIGKILL"
    assert isinstance(counted, Report)
    assert session.exit_codes == [3]


def test_verbose_shows_each_traceback_from_another_process_once(capfd: pytest.CaptureFixture[str]) -> None:
    def bug() -> Report:
        raise ZeroDivisionError("oh no")

    def another() -> Report:
        raise ZeroDivisionError("not again")

    session = Session(verbose=True)
    count_all(session, [job("a", bug), job("b", bug), job("c", another)], processes=2)
    assert session.exit_codes == [70, 70, 70]
    said = capfd.readouterr().err
    assert (said.count("in bug\n"), said.count("in another\n")) == (1, 1)


def library_job(label: str, count: Callable[[], int]) -> Job[int]:
    return Job(label, label, count, isolated=False, kind=int)


def test_models_of_a_library_share_a_worker_and_isolated_ones_share_none() -> None:
    shared = count_all(Session(), [library_job(str(n), os.getpid) for n in range(6)], processes=2)
    assert len(set(shared)) <= 2
    assert os.getpid() not in shared
    apart = count_all(Session(), [Job(str(n), str(n), os.getpid, kind=int) for n in range(6)], processes=2)
    assert len(set(apart)) == 6


def test_a_worker_that_a_model_takes_down_is_replaced_and_the_model_loses_one_row(
    capfd: pytest.CaptureFixture[str],
) -> None:
    jobs = [library_job(str(n), (lambda: os._exit(7)) if n % 3 == 1 else (lambda: 1)) for n in range(7)]
    session = Session()
    results = count_all(session, jobs, forked=True)
    assert [isinstance(result, Failure) for result in results] == [n % 3 == 1 for n in range(7)]
    assert [result for result in results if not isinstance(result, Failure)] == [1] * 5
    assert capfd.readouterr().err == "".join(f"error: {n} took its process down with it: exit code 7\n" for n in (1, 4))
    assert session.exit_codes == [3, 3]


def test_a_model_does_not_pay_for_what_the_one_before_it_did_to_their_process(folder: Path) -> None:
    """A crash counts only where the model had the process to itself."""

    def poison() -> int:
        os.environ["POISONED"] = "1"
        return 1

    def frail() -> int:
        if "POISONED" in os.environ:
            os._exit(1)
        return 2

    assert count_all(Session(), [library_job("a", poison), library_job("b", frail)], forked=True) == [1, 2]


def test_what_a_model_leaves_running_ends_with_it() -> None:
    def lingering() -> int:
        threading.Thread(target=time.sleep, args=(10_000,)).start()
        return os.getpid()

    (process,) = count_all(Session(), [Job("lingering", "lingering", lingering, kind=int)], forked=True)
    assert isinstance(process, int)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_dead_worker_whose_child_holds_its_pipe_is_noticed() -> None:
    def orphaning() -> int:
        if os.fork() == 0:
            time.sleep(5)
            os._exit(0)
        os._exit(5)

    (result,) = count_all(Session(), [library_job("orphaning", orphaning)], forked=True)
    assert isinstance(result, Failure)
    assert result.error.message == "orphaning took its process down with it: exit code 5"


def test_an_interrupt_ends_all_workers_at_once_and_keeps_what_is_counted(capfd: pytest.CaptureFixture[str]) -> None:
    def endless() -> int:
        os.kill(os.getppid(), signal.SIGINT)
        while True:
            time.sleep(60)

    session = Session()
    jobs = [library_job("done", lambda: 1), library_job("endless", endless), library_job("never", lambda: 3)]
    done, interrupted = count_all(session, jobs, forked=True)
    assert done == 1
    assert isinstance(interrupted, Failure)
    assert interrupted.error.exit_code == 130
    assert 130 in session.exit_codes
    assert capfd.readouterr().err == "error: endless: interrupted\n"


def test_no_jobs_are_no_trouble() -> None:
    assert count_all(Session(), [], forked=True) == []
