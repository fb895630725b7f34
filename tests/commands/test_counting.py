"""Counting several models at once gives what counting them in turn gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import paramcount
from paramcount.commands.counting import Failure, Job, count_all
from paramcount.commands.session import Session
from paramcount.report import Report
from tests.conftest import MODELS

WORDS = [f"{MODELS / name}.py:Net" for name in ("tutorial_cnn", "no_such", "lazy", "frozen_backbone")]


def job(word: str, count: Callable[[], Report] | None = None) -> Job:
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
            import time

            time.sleep(seconds)
            print(f"said {seconds}")
            return paramcount.count(word)

        return count

    count_all(Session(), [job("slow", saying(WORDS[0], 0.3)), job("fast", saying(WORDS[0], 0.0))], processes=2)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "said 0.3\nsaid 0.0\n")


def test_a_model_that_takes_its_process_down_loses_only_itself(capfd: pytest.CaptureFixture[str]) -> None:
    def die() -> Report:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    session = Session()
    crashed, counted = count_all(session, [job("crash", die), job(WORDS[0])], processes=2)
    assert isinstance(crashed, Failure)
    assert crashed.error.message == "crash took its process down with it: SIGKILL"
    assert isinstance(counted, Report)
    assert session.exit_codes == [3]


def test_verbose_shows_the_traceback_from_another_process(capfd: pytest.CaptureFixture[str]) -> None:
    def bug() -> Report:
        raise ZeroDivisionError("oh no")

    session = Session(verbose=True)
    count_all(session, [job("a", bug), job("b", bug)], processes=2)
    assert session.exit_codes == [70, 70]
    assert capfd.readouterr().err.count("in bug\n") == 2
