"""``paramcount count``: how many parameters each target has, and where they sit."""

# Annotations are not put off here, as elsewhere: Typer would compile the text of each, twice, at every start.

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from paramcount.commands import completion
from paramcount.commands.counting import Failure, Job, count_all, document
from paramcount.commands.session import Output, Reading, Session
from paramcount.errors import (
    ParamcountError,
    UnknownTarget,
    UnknownValue,
    UsageError,
    closest,
    did_you_mean,
    gravest,
)
from paramcount.grid import Grid
from paramcount.groups import BY, By, embedding_breakdown, grouping, groups
from paramcount.outline import Depth, Options, Sort, comparison, faults, outline
from paramcount.report import Report
from paramcount.sources import resolve
from paramcount.units import exact
from paramcount.urls import shown, with_part
from paramcount.words import count_word

if TYPE_CHECKING:
    from paramcount.inventory import Inventory
    from paramcount.sources import Target

Format = Literal["table", "tree", "markdown", "csv", "tsv", "json"]
Value = Literal["total", "trainable", "frozen", "unknown", "bytes", "buffers", "active"]
_CURE = "give the lazy layers their sizes, or the model an --input"
_CURE_OF_A_FILE = "run the model once before it is saved"
_GROUPINGS = tuple(by for by in BY if by != "embedding")  # which is no grouping to train by, but a breakdown
_FORMATS_BY_ENDING: dict[str, Format] = {".md": "markdown", ".csv": "csv", ".tsv": "tsv", ".json": "json"}


@dataclass(frozen=True, slots=True)
class Counts:
    """The result of one run: a report or a failure for each target."""

    reports: tuple[Report, ...]
    failures: tuple[Failure, ...]
    options: Options
    by: tuple[By, ...] = ()  # further tables, of groups

    def grids(self) -> list[Grid]:
        """Return a table for each report, and one that compares several; at depth 0 that one alone."""
        several = len(self.reports) > 1
        if several and self.options.depth == 0 and not self.options.params:
            grouped = [grouping(report, by) for report in self.reports for by in self.by]
            return [comparison(self.reports, alone=True), *grouped]
        each = [
            grid
            for report in self.reports
            for grid in (outline(report, self.options), *(grouping(report, by) for by in self.by))
        ]
        return [*each, comparison(self.reports)] if several else each

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        reports = [report.to_dict() | self._groups(report) for report in self.reports]
        return document(reports, [failure.to_dict() for failure in self.failures])

    def _groups(self, report: Report) -> dict[str, Any]:
        """Return what a report has further, where groups are asked for."""
        said: dict[str, Any] = {}
        if plain := [by for by in self.by if by != "embedding"]:
            said["groups"] = {by: [group.to_dict() for group in groups(report, by)] for by in plain}
        if "embedding" in self.by:
            said["breakdown"] = {"embedding": embedding_breakdown(report).to_dict()}
        return said


def count(
    context: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET",
            help="What to count; - reads targets from stdin, one a line, /dev/stdin a file.",
            show_default=False,
            autocompletion=completion.targets,
        ),
    ],
    arg: Annotated[
        list[str] | None,
        typer.Option(
            "-a",
            "--arg",
            metavar="KEY=VALUE",
            help="An argument for the model's constructor, typed as YAML. Repeatable.",
            rich_help_panel="Model",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Build the variant that goes with these published weights (DEFAULT: the best), without fetching them.",
            rich_help_panel="Model",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The part of a checkpoint to count, such as state_dict_ema; FILE:PATH is the same.",
            rich_help_panel="Model",
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="SHAPE[:DTYPE]",
            help="Run the model once, without memory, so that lazy layers get their shapes: 1,3,224,224. Repeatable; "
            "NAME=SHAPE for an argument by name.",
            rich_help_panel="Model",
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "meta", "cpu"],
        typer.Option(
            help="Build without memory (meta), in real memory (cpu), or in real memory as the last resort (auto).",
            rich_help_panel="Model",
        ),
    ] = "auto",
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Run the Python code that comes with a transformers configuration, where it has no other.",
            rich_help_panel="Model",
        ),
    ] = False,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The model that a file's weights are for, such as net.py:Net: it decides which of them are buffers.",
            rich_help_panel="Model",
        ),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Count these parameters as frozen. Repeatable.", rich_help_panel="Rules"),
    ] = None,
    unfreeze: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Count these as trainable; wins over --freeze. Repeatable.", rich_help_panel="Rules"
        ),
    ] = None,
    active: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN=K/N",
            help="Of these N experts a token passes through K: '*.experts=2/8'. Repeatable.",
            rich_help_panel="Rules",
        ),
    ] = None,
    only: Annotated[
        Literal["trainable", "frozen"] | None,
        typer.Option(help="Count only what trains, or only what does not.", rich_help_panel="Rules"),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Count only these modules and parameters. Repeatable.", rich_help_panel="Rules"
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Leave these out; wins over --include. Repeatable.", rich_help_panel="Rules"
        ),
    ] = None,
    depth: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="Levels of layers to show; by default as many as fit in 40 rows.",
            rich_help_panel="Display",
        ),
    ] = None,
    sort: Annotated[Sort, typer.Option(help="Order of siblings.", rich_help_panel="Display")] = "order",
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar=f"<{'|'.join(_GROUPINGS)}>",
            help="Sort the parameters into groups, as a further table. Repeatable.",
            autocompletion=lambda: _GROUPINGS,
            rich_help_panel="Display",
        ),
    ] = None,
    breakdown: Annotated[
        Literal["embedding"] | None,
        typer.Option(help="Split the total into embeddings and the rest.", rich_help_panel="Display"),
    ] = None,
    params: Annotated[bool, typer.Option("--params", help="Show every parameter.", rich_help_panel="Display")] = False,
    buffers: Annotated[bool, typer.Option("--buffers", help="Show buffers, too.", rich_help_panel="Display")] = False,
    format_name: Annotated[
        Format | None,
        typer.Option(
            "-f",
            "--format",
            help="Form of the result; by default a table, or what the ending of --output says.",
            rich_help_panel="Output",
            show_default=False,
        ),
    ] = None,
    value: Annotated[
        Value | None, typer.Option(help="Print just this number, one line a target.", rich_help_panel="Output")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write the result to a file.", rich_help_panel="Output"),
    ] = None,
) -> int:
    """Count the parameters of models, yours or a library's, and of checkpoints."""
    session: Session = context.obj
    if value is not None and format_name is not None:
        raise UsageError("--value prints a bare number, and --format something else", hint="give one of the two")
    chosen: Format = format_name or _FORMATS_BY_ENDING.get(PurePath(output or "").suffix, "table")
    machine = chosen in {"csv", "tsv"}
    at_terminal = output is None and sys.stdout.isatty()
    options = Options(_depth(depth, machine=machine), sort, params, buffers, fold=not machine, cut=at_terminal)
    groupings = _groupings(by or (), breakdown)
    keywords: dict[str, Any] = {
        "args": _arguments(arg or []),
        "weights": weights,
        "device": device,
        "trust_remote_code": trust_remote_code,
        "like": like,
        "freeze": freeze or (),
        "unfreeze": unfreeze or (),
        "include": include or (),
        "exclude": exclude or (),
        "only": only,
        "active": active or (),
        "inputs": inputs or (),
    }
    _demand_well_formed(active or (), inputs or ())
    commands = context.parent.command.list_commands(context) if context.parent else ()  # type: ignore[attr-defined]  # a group's
    with Output(output, targets) as destination:
        with _begun(_jobs(_words(targets, key), keywords, session.reading(), commands)) as jobs:
            are_apart = len(jobs) > 1 and any(job.isolated for job in jobs)
            counted = count_all(session, jobs, forked=are_apart)
        reports = [result for result in counted if isinstance(result, Report)]
        if value is not None or machine:  # which say nothing but numbers
            session.warn(fault.text for report in reports for fault in faults(report))
        if value is not None:
            destination.write("\n".join(_value_lines(session, counted, value)))
        elif reports or chosen == "json":
            from paramcount.renderers import renderer

            failures = [result for result in counted if isinstance(result, Failure)]
            result = Counts(tuple(reports), tuple(failures), options, groupings)
            destination.write(renderer(chosen).render(result, session.style(destination.stream)))
    return gravest(session.exit_codes)


def _demand_well_formed(active: Iterable[str], inputs: Iterable[str]) -> None:
    """Refuse what cannot be read: a slip there is one of the command, not of every target."""
    if active:
        from paramcount.routing import Routing

        for text in active:
            Routing.parse(text)
    if inputs:
        from paramcount.inputs import Input

        for text in inputs:
            Input.parse(text)


def _jobs(words: list[str], keywords: dict[str, Any], reading: Reading, commands: Iterable[str]) -> list[Job[Report]]:
    several = len(words) > 1

    def job(word: str) -> Job[Report]:
        def counted(read: "Callable[[Target], Inventory]") -> Report:
            try:
                return count_word(word, read, **keywords)
            except UnknownTarget as error:
                _name_commands_too(error, word, commands)
                raise

        count = partial(counted, reading.read)
        recall = None if reading.recall is None else partial(counted, reading.recall)
        is_isolated = several and any(map(_runs_code, filter(None, (word, keywords["like"]))))
        return Job(shown(word), shown(word), count, recall, isolated=is_isolated)

    return [job(word) for word in words]


def _runs_code(word: str) -> bool:
    """Whether code that is no library's may run, and change this process for the models after it."""
    try:
        source, _ = resolve(word)
    except ParamcountError:  # the job itself will say so
        return False
    return "torch" in source.LIBRARIES


@contextmanager
def _begun(jobs: list[Job[Report]]) -> Iterator[list[Job[Report]]]:
    """Ask for all that is far away at once; each is then waited for in its turn."""
    far = [number for number, job in enumerate(jobs) if "://" in job.target]
    if len(far) < 2:  # noqa: PLR2004  # one is waited for as it is
        yield jobs
        return
    from paramcount.files.together import together

    with together(lambda number: jobs[number].count(), far) as waits:
        begun = dict(zip(far, waits, strict=True))
        yield [replace(job, count=begun[number]) if number in begun else job for number, job in enumerate(jobs)]


def _name_commands_too(error: UnknownTarget, word: str, commands: Iterable[str]) -> None:
    """A word that is neither command nor target may be either one misspelt."""
    command = closest(word, commands, most=1)
    if command:
        rest = f", or {error.hint}" if error.hint and error.hint.startswith("did you mean") else ""
        error.hint = f"did you mean the command {command[0]}{rest or '?'}"


def _words(targets: list[str], key: str | None) -> list[str]:
    words = [word for target in targets for word in (_from_stdin() if target == "-" else [target])]
    words = [word.strip() for word in words if word.strip()]
    if not words:
        raise UsageError("no target given", hint="for example: paramcount resnet50")
    return words if key is None else [with_part(word, key) for word in words]


def _from_stdin() -> list[str]:
    """Return the lines of stdin, which are targets, and not the bytes of a file."""
    lines: list[str] = []
    try:
        for line in sys.stdin:
            if "\0" in line or any("\udc80" <= char <= "\udcff" for char in line):  # bytes that are no text
                raise _no_words()
            lines.append(line)
    except UnicodeDecodeError as error:
        raise _no_words() from error
    return lines


def _no_words() -> UsageError:
    hint = "to count the file itself: cat model.safetensors | paramcount /dev/stdin"
    return UsageError("- reads targets from stdin, one a line, and what comes there is no text", hint=hint)


def _groupings(words: Iterable[str], breakdown: By | None) -> tuple[By, ...]:
    for word in words:
        if word not in _GROUPINGS:
            hint = did_you_mean(closest(word, _GROUPINGS)) or f"there is {', '.join(_GROUPINGS)}"
            raise UsageError(f"--by {word!r} is no way to group parameters", hint=hint)
    return tuple(by for by in BY if by in words or by == breakdown)


def _depth(text: str | None, *, machine: bool) -> Depth:
    if text is None:
        return "all" if machine else None
    if text == "all":
        return "all"
    if text.isascii() and text.isdigit():
        return int(text)
    raise UsageError(f"--depth {text!r} is neither a number of levels nor all", hint="for example: --depth 2")


def _arguments(pairs: list[str]) -> dict[str, Any]:
    if not pairs:
        return {}
    import yaml

    from paramcount.yamls import load

    arguments = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"-a {pair!r} is not KEY=VALUE", hint="for example: -a num_classes=10")
        try:
            arguments[key] = load(text)
        except yaml.YAMLError as error:
            problem = str(getattr(error, "problem", None) or error).splitlines()[0]
            raise UsageError(
                f"-a {pair!r}: the value is not YAML: {problem}", hint="quote it: -a 'key=\"text\"'"
            ) from error
    return arguments


def _value_lines(session: Session, counted: list[Report | Failure], value: Value) -> list[str]:
    """Return a line for each target; an empty one, and an error, for a number that is not known."""
    lines = []
    for result in counted:
        if isinstance(result, Failure):
            lines.append("")
            continue
        try:
            lines.append(str(_value(result, value)))
        except UnknownValue as error:
            lines.append("")
            session.error(error)
    return lines


def _cure(report: Report) -> str:
    return _CURE_OF_A_FILE if report.source == "torch_file" else _CURE


def _value(report: Report, value: Value) -> int:
    if report.uninitialized and value not in {"unknown", "buffers"}:
        least = f"it is at least {exact(_number(report, value))}"
        unknown = f"{value} of {report.target} is not known: {report.uninitialized} of its parameters"
        if all(param.packed for param in report.params if param.numel is None):
            raise UnknownValue(f"{unknown} are packed in a form that does not say their size", hint=least)
        raise UnknownValue(f"{unknown} have no shape yet", hint=f"{least}; {_cure(report)}")
    if value == "buffers" and any(buffer.numel is None for layer in report.root.walk() for buffer in layer.buffers):
        raise UnknownValue(
            f"buffers of {report.target} is not known: a lazy buffer has no shape yet",
            hint=f"it is at least {exact(report.buffers.total)}; {_cure(report)}",
        )
    if report.unknown and value in {"trainable", "frozen"}:
        raise UnknownValue(
            f"{value} of {report.target} is not known: a checkpoint does not say what trains",
            hint="--freeze and --unfreeze say it",
        )
    return _number(report, value)


def _number(report: Report, value: Value) -> int:
    if value == "buffers":
        return report.buffers.total
    return {
        "total": report.total,
        "trainable": report.trainable,
        "frozen": report.frozen,
        "unknown": report.unknown,
        "bytes": report.nbytes,
        "active": report.active,
    }[value]
