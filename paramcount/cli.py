"""The command line: global options, the default command, exit codes, and how an error is shown."""

# Annotations are not put off here, as elsewhere: Typer would compile the text of each, twice, at every start.

import json
import os
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from paramcount import __version__
from paramcount.commands import completion
from paramcount.commands.counting import document
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
from paramcount.harmless import in_json

_LONGEST_TIMEOUT = 86_400  # seconds, a day
# By the module of each, under paramcount.commands: one is imported where it is wanted, or where all are listed.
_COMMANDS = {
    "count": "count",
    "list": "list_models",
    "merge": "merge_files",
    "check": "check",
    "lock": "lock",
    "diff": "diff",
    "init": "init",
    "schema": "schema",
    "cache": "cache",
}
_GLOBAL_FLAGS = {"-q", "--quiet", "-v", "--verbose", "--no-cache"}


class _Commands(TyperGroup):
    """Commands of which ``count`` may be left out, and whose global options may stand anywhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        leave_unconverted(self.get_params(ctx))
        return super().parse_args(ctx, _in_full(args))

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # Typer's
        return list(_COMMANDS)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return what the word may become: a command, or what may follow the one that may be left out."""
        found = super().shell_complete(ctx, incomplete)
        if not incomplete:
            return found
        count = self.get_command(ctx, "count")
        with count.make_context("count", [], parent=ctx, resilient_parsing=True) as inside:
            left_out = count if incomplete.startswith("-") else count.params[0]
            words = {item.value for item in found}
            return found + [item for item in left_out.shell_complete(inside, incomplete) if item.value not in words]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        if cmd_name not in self.commands:
            alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
            alone.command(cmd_name)(getattr(import_module(f"paramcount.commands.{cmd_name}"), _COMMANDS[cmd_name]))
            self.commands[cmd_name] = typer.main.get_command(alone)
            leave_unconverted(self.commands[cmd_name].get_params(ctx))
        return self.commands[cmd_name]


def _in_full(args: Sequence[str]) -> list[str]:
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
        or leads in _COMMANDS
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


def main(args: Sequence[str]) -> int:
    """Run one command, or complete one for a shell, and return the exit code."""
    if os.environ.get(completion.INSTRUCTION):
        return completion.complete(lambda: app([], prog_name="paramcount", standalone_mode=False))
    return _carried_out(args)


def _carried_out(args: Sequence[str]) -> int:
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
        print(in_json(json.dumps(document([], errors), indent=2)))
