"""Ends the program at once on SIGTERM, and on a Ctrl-C that a model's code does not heed, whatever that code does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from paramcount.errors import EXIT_INTERRUPTED, EXIT_TERMINATED

if TYPE_CHECKING:
    import socket

_GRACE = 1.0  # seconds that a model's code has to let go of Ctrl-C
_leave = os._exit  # while a model's code runs, os._exit is another function: no model ends the program


class _Ending:
    """What is to be done before the program ends, and whether a model's code runs."""

    def __init__(self) -> None:
        self.process: int | None = None  # the program; None where we are a library
        self.is_watched = False
        self.undo: list[Callable[[], object]] = []
        self.is_let_go = threading.Event()
        self.is_let_go.set()


_ending = _Ending()


def end_on_sigterm() -> None:
    """End this process with 143 on SIGTERM; those forked from it end as any other. To be called in the main thread."""
    _ending.process = os.getpid()
    signal.signal(signal.SIGTERM, lambda *_: end(EXIT_TERMINATED))
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def others_code() -> Iterator[None]:
    """Run a model's code, which may catch Ctrl-C, or be held up in C code: a moment later the program ends."""
    if _ending.process != os.getpid() or not _ending.is_let_go.is_set():  # some of it runs already
        yield
        return
    if not _ending.is_watched:
        _ending.is_watched = True
        _begin_watch()
    _ending.is_let_go.clear()
    try:
        yield
    finally:
        _ending.is_let_go.set()


def _begin_watch() -> None:
    """Have a thread hear of signals: Python tells the main thread between two steps of its own, not while C code runs.

    Code that keeps Python's lock as well, such as ``sum(range(10**12))``, is waited for all the same.
    """
    import socket

    if not hasattr(socket, "SO_PASSCRED"):  # not Linux
        return
    read, write = socket.socketpair(type=socket.SOCK_DGRAM)
    read.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    write.setblocking(False)  # noqa: FBT003  # its only argument
    signal.set_wakeup_fd(write.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=[read], daemon=True).start()


def _watch(read: socket.socket) -> None:
    import struct

    credentials = struct.Struct("3i")  # of who writes to the socket: process, user, group
    while True:
        numbers, said, *_ = read.recvmsg(1, 8 * credentials.size)
        # A process that was forked a moment ago, and gets a signal at once, still writes to the same socket.
        if [credentials.unpack(data)[0] for *_, data in said] != [_ending.process]:
            continue
        if numbers[0] == signal.SIGTERM:
            end(EXIT_TERMINATED)
        if numbers[0] == signal.SIGINT and not _ending.is_let_go.wait(_GRACE):
            end(EXIT_INTERRUPTED)


@contextmanager
def undone(undo: Callable[[], object]) -> Iterator[None]:
    """Call ``undo`` if a signal ends the program inside this context."""
    _ending.undo.append(undo)
    try:
        yield
    finally:
        _ending.undo.remove(undo)


def end(code: int) -> NoReturn:
    """End the program without running any more of a model's code, be it an ``except`` or a ``finally``."""
    for undo in _ending.undo[::-1] if os.getpid() == _ending.process else ():
        with suppress(Exception):
            undo()
    _leave(code)
