"""Work that mostly waits is done a few at a time, and its outcomes come in order."""

from __future__ import annotations

import threading

import pytest

from paramcount.files.patience import patience, seconds
from paramcount.files.together import in_common, outcomes, together


def test_outcomes_come_in_the_order_of_the_items() -> None:
    second = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second.wait(60)  # the first is done last
        elif number == 1:
            second.set()
        return number * number

    assert list(outcomes(work, range(50))) == [number * number for number in range(50)]
    assert list(outcomes(work, [])) == []


def test_eight_are_at_it_at_once() -> None:
    meeting = threading.Barrier(8, timeout=60)
    assert sorted(outcomes(lambda _: meeting.wait(), range(16))) == sorted([*range(8), *range(8)])


def test_the_first_failure_in_order_is_what_is_raised() -> None:
    later = threading.Event()

    def work(number: int) -> None:
        if number == 3:
            later.set()
            raise ValueError(number)
        if number == 2:
            assert later.wait(60)
            raise LookupError(number)

    with pytest.raises(LookupError):
        list(outcomes(work, range(9)))


def test_after_a_failure_nothing_more_is_begun() -> None:
    begun, go_on = [], threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise LookupError
        assert go_on.wait(60)

    with pytest.raises(LookupError):
        list(outcomes(work, range(100)))
    go_on.set()
    assert max(begun) < 100 - 8


def test_each_is_waited_for_apart_from_the_failures_of_others() -> None:
    with together(lambda number: 6 // number, [1, 0, 2]) as (first, second, third):
        assert (third(), first()) == (3, 6)
        with pytest.raises(ZeroDivisionError):
            second()


def test_what_is_in_common_is_made_once_and_apart_from_that_each_time() -> None:
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    assert set(outcomes(lambda number: in_common(f"{number % 2}", make), range(40))) == set(made)
    assert len(made) == 2
    assert in_common("0", make) is not in_common("0", make)


def test_all_have_the_patience_of_who_asks() -> None:
    with patience(7.5):
        assert set(outcomes(lambda _: seconds(), range(9))) == {7.5}
