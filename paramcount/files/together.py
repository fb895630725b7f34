"""Reads several files that are far away at once, as most of the time goes by in waiting for answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from threading import Event, Lock, Thread
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_AT_A_TIME = 256  # items that are waited for, of what may be many more
_AT_ONCE = 8  # as many requests as a browser makes, about


class _Common:
    """What those that work together have in common."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.found: dict[str, Any] = {}


_COMMON: ContextVar[_Common | None] = ContextVar("common", default=None)


def in_common(key: str, make: Callable[[], _Result]) -> _Result:
    """Return what is made once for all that work together; who works alone makes its own."""
    common = _COMMON.get()
    if common is None:
        return make()
    with common.lock:
        if key not in common.found:
            common.found[key] = make()
        found: _Result = common.found[key]
        return found


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

    common = _Common()
    for _ in range(min(_AT_ONCE, len(items))):
        context = copy_context()
        context.run(_COMMON.set, common)
        # Of threads that are no daemons the end would be waited for, also after Ctrl-C.
        Thread(target=context.run, args=(run,), daemon=True).start()
    try:
        yield [outcome.result for outcome in outcomes]
    finally:
        left.set()


def outcomes(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
    """Yield the outcome of the work for each of several items, in their order; the first failure ends it."""
    for start in range(0, len(items), _AT_A_TIME):
        with together(work, items[start : start + _AT_A_TIME]) as waits:
            for wait in waits:
                yield wait()
