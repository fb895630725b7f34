"""Reads several files that are far away at once, as most of the time goes by in waiting for answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event, Thread
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_AT_ONCE = 8  # as many requests as a browser makes, about


@contextmanager
def together(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[list[Callable[[], _Result]]]:
    """Do some work for each of several items, a few at a time, from the first on.

    Yields what waits for the outcome of each, in their order: it returns or raises what the work did. What has not
    begun when the context is left does not begin any more.
    """
    left = Event()
    outcomes: list[Future[_Result]] = [Future() for _ in items]
    waiting = iter(list(zip(items, outcomes, strict=True)))

    def run() -> None:
        for item, outcome in waiting:
            if left.is_set():
                return
            try:
                outcome.set_result(work(item))
            except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
                outcome.set_exception(error)

    for _ in range(min(_AT_ONCE, len(items))):
        # Of threads that are no daemons the end would be waited for, also after Ctrl-C.
        Thread(target=copy_context().run, args=(run,), daemon=True).start()
    try:
        yield [outcome.result for outcome in outcomes]
    finally:
        left.set()


def outcomes(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
    """Yield the outcome of the work for each of several items, in their order; the first failure ends it."""
    with together(work, items) as waits:
        for wait in waits:
            yield wait()
