"""How long to wait for a file that is elsewhere, or that another program writes into a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Thread
from typing import TypeVar

from paramcount.errors import UnreadableFile

_T = TypeVar("_T")

DEFAULT = 20.0
_SECONDS = ContextVar("seconds", default=DEFAULT)


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Wait so many seconds for each answer, as long as the context lasts."""
    token = _SECONDS.set(seconds)
    try:
        yield
    finally:
        _SECONDS.reset(token)


def seconds() -> float:
    """Return how many seconds to wait for an answer."""
    return _SECONDS.get()


def out_of_patience(name: str, *, what: str = "no answer came") -> UnreadableFile:
    """Return the error for what took too long."""
    return UnreadableFile(
        f"cannot read {name}: {what} in {seconds():g} seconds",
        hint=f"PARAMCOUNT_TIMEOUT={2 * seconds():g} waits longer",
    )


def in_time(work: Callable[[], _T], name: str) -> _T:
    """Return what ``work`` returns, or raises; it may go on in the background where that takes too long.

    Raises:
        UnreadableFile: it took longer than there is patience for.

    """
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  # raised again below, where it is waited for
            errors.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds())
    if errors:
        raise errors[0]
    if not results:
        raise out_of_patience(name)
    return results[0]
