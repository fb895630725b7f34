"""The command line: global options, the default command, exit codes, and how an error is shown."""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from paramcount import __version__
from paramcount.commands.cache import cache
from paramcount.commands.check import check
from paramcount.commands.count import count
from paramcount.commands.counting import document
from paramcount.commands.diff import diff
from paramcount.commands.init import init
from paramcount.commands.list import list_models
from paramcount.commands.lock import lock
from paramcount.commands.merge import merge_files
from paramcount.commands.schema import schema
from paramcount.commands.session import Color, Session
from paramcount.commands.values import leave_unconverted
from paramcount.errors import (
    EXIT_CLOSED_PIPE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    Bug,
    ParamcountError,
    UsageError,
    gravest,
)
from paramcount.files.patience import DEFAULT, patience

_LONGEST_TIMEOUT = 86_400  # seconds, a day
_OBJECTS_BETWEEN_COLLECTIONS = 500_000  # by default 700: what reading a large file makes stays until the end
_GLOBAL_FLAGS = {"-q", "--quiet", "-v", "--verbose", "--no-cache"}


class _Commands(TyperGroup):
    """Commands of which ``count`` may be left out, and whose global options may stand anywhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        leave_unconverted(self.get_params(ctx))
        return super().parse_args(ctx, _in_full(args, self.commands))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            leave_unconverted(command.get_params(ctx))
        return command


def _in_full(args: Sequence[str], commands: Sequence[str] | Any) -> list[str]:
    """Return the arguments with the global options first, and the default command named."""
    rest, first = [], []
    waiting = list(args)
    while waiting:
        arg = waiting.pop(0)
        if arg == "--":
            rest += [arg, *waiting]
            break
        if arg in _GLOBAL_FLAGS or arg.startswith("--color="):
            first.append(arg)
        elif arg == "--color":
            first += [arg, *waiting[:1]]
            waiting = waiting[1:]
        else:
            rest.append(arg)
    leads = rest[0] if rest else None
    if (
        leads is None
        or leads in commands
        or leads in {"--help", "--version", "--install-completion", "--show-completion"}
    ):
        return [*first, *rest]
    return [*first, "count", *rest]


app = typer.Typer(
    cls=_Commands,
    name="paramcount",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="paramcount TARGET is short for paramcount count TARGET. PARAMCOUNT_TIMEOUT: seconds to wait for each answer"
    f" of a server, {DEFAULT:g} by default.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"paramcount {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    context: typer.Context,
    color: Annotated[
        Color, typer.Option(help="Colour the output; auto: on a terminal, unless NO_COLOR is set.")
    ] = "auto",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Show no progress.")] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show whole tracebacks, and what the cache did.")
    ] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor write the cache.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Exactly how many parameters a PyTorch model has, which of them train, and where they sit."""
    del version
    session: Session = context.obj
    session.color, session.quiet, session.verbose, session.no_cache = color, quiet, verbose, no_cache


app.command()(count)
app.command("list")(list_models)
app.command("merge")(merge_files)
for command in (check, lock, diff, init, schema, cache):
    app.command()(command)


def main(args: Sequence[str]) -> int:
    """Run one command, and return the exit code."""
    session = Session()
    try:
        with patience(_timeout()):
            code = app(list(args) or ["--help"], prog_name="paramcount", standalone_mode=False, obj=session)
        return gravest([code or EXIT_OK, *session.exit_codes]) if args else EXIT_USAGE
    except ParamcountError as error:
        session.error(error)
        _json_error(args, error)
        return error.exit_code
    except typer.TyperException as error:
        said = error.format_message().replace("Value error, ", "")  # pydantic's words, which Typer passes on
        usage = UsageError(said, hint="paramcount --help and paramcount COMMAND --help list what there is")
        session.error(usage)
        _json_error(args, usage)
        return EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except SystemExit as leaving:  # Typer's own end where nobody reads its help any more; ours says which it is
        return EXIT_CLOSED_PIPE if isinstance(leaving.__context__, BrokenPipeError) else int(leaving.code or EXIT_OK)
    except Exception as error:  # noqa: BLE001  # a bug of ours
        bug = Bug.of(error)
        session.error(bug)
        _json_error(args, bug)
        return bug.exit_code


def _timeout() -> float:
    """Return how many seconds to wait for each answer of a server, or for who writes into a pipe."""
    said = os.environ.get("PARAMCOUNT_TIMEOUT", "")
    try:
        seconds = float(said or DEFAULT)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        problem = f"PARAMCOUNT_TIMEOUT={said!r} is no number of seconds"
        raise UsageError(problem, hint=f"for example: PARAMCOUNT_TIMEOUT={DEFAULT:g}")
    return seconds


def _json_error(args: Sequence[str], error: ParamcountError) -> None:
    """Give a reader of JSON its document also where the command could not be carried out."""
    asked = " ".join(args)
    if any(f"{option}json" in asked for option in ("-f ", "-f", "--format ", "--format=")):
        errors = [{"target": None, "code": error.code, "message": error.message, "hint": error.hint}]
        print(json.dumps(document([], errors), indent=2))


def run() -> NoReturn:
    """Run the program."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # the shell closed it: 2>&-
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: PTH123, SIM115  # for all of the run
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that drafts and children go, too
    code = main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = EXIT_CLOSED_PIPE
    except OSError:
        code = code or EXIT_USAGE
    with suppress(OSError):
        os.dup2(2, 1)  # what a user's code prints at exit is no result either
    leave, os._exit = os._exit, sys.exit  # type: ignore[assignment]  # nor is the code it exits with
    with suppress(BaseException):
        atexit._run_exitfuncs()  # noqa: SLF001  # while the exit code is still ours
    with suppress(OSError):
        sys.stderr.flush()
    leave(code)
