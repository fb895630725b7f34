"""One process of the program: its streams, its signals, and how it ends."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from paramcount import __version__
from paramcount.errors import EXIT_CLOSED_PIPE, EXIT_OK, EXIT_TERMINATED, EXIT_USAGE

_OBJECTS_BETWEEN_COLLECTIONS = 500_000  # by default 700: what reading a large file makes stays until the end


def run() -> NoReturn:
    """Run the program."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # the shell closed it: 2>&-
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: PTH123, SIM115  # for all of the run
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    signal.signal(signal.SIGTERM, lambda *_: os._exit(EXIT_TERMINATED))  # until there is more to end
    code = EXIT_OK
    try:
        code = _answer(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        code = EXIT_CLOSED_PIPE
    except OSError as error:  # a full disk
        code = code or EXIT_USAGE
        with suppress(OSError):
            print(f"error: cannot write the result: {error.strerror}", file=sys.stderr)
    with suppress(OSError):
        os.dup2(2, 1)  # what a user's code prints at exit is no result either
    leave, os._exit = os._exit, sys.exit  # type: ignore[assignment]  # nor is the code it exits with
    with suppress(BaseException):
        _end_children()
    with suppress(BaseException):
        atexit._run_exitfuncs()  # noqa: SLF001  # while the exit code is still ours
    with suppress(OSError):
        sys.stderr.flush()
    leave(code)


def _end_children() -> None:
    """End the processes that models left behind, which multiprocessing would wait for at exit, maybe for ever."""
    if "multiprocessing" in sys.modules:
        from multiprocessing import active_children

        for child in active_children():
            child.kill()


def _answer(args: list[str]) -> int:
    if args == ["--version"]:  # what scripts ask first needs no command line
        print(f"paramcount {__version__}")
        return EXIT_OK
    from paramcount.cli import main
    from paramcount.signals import end_on_sigterm

    end_on_sigterm()
    return main(args)
