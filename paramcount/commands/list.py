"""``paramcount list``: the models that torchvision and timm offer, and how many parameters each has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from paramcount.catalogue import Counted, Limits, Name, Sort, ordered, table, table_of_names
from paramcount.commands import completion
from paramcount.commands.counting import Failure, Job, count_all, envelope
from paramcount.commands.session import Output, Session
from paramcount.commands.specs import Jobs, ShardOf, sharded
from paramcount.errors import Interrupted, MissingLibrary, UnmatchedPattern, UsageError, closest, did_you_mean, gravest
from paramcount.grid import Grid
from paramcount.patterns import compiled
from paramcount.renderers import renderer
from paramcount.shards import Shard
from paramcount.units import parse_count, plural

if TYPE_CHECKING:
    from paramcount.cache.totals import Answer, Totals

Format = Literal["table", "csv", "tsv", "markdown", "json"]
_FORMATS_BY_ENDING: dict[str, Format] = {".md": "markdown", ".csv": "csv", ".tsv": "tsv", ".json": "json"}


@dataclass(frozen=True, slots=True)
class Names:
    """The result of a run without counts."""

    models: tuple[Name, ...]
    shard: Shard | None = None

    def grids(self) -> list[Grid]:
        """Return one table."""
        return [table_of_names(self.models)]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        return envelope({"models": [model.to_dict() for model in self.models], "errors": []}, shard=self.shard)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The result of a run with counts: of each model, or what kept it from having any."""

    counted: tuple[Counted, ...]
    uncounted: tuple[Name, ...] = ()
    errors: tuple[dict[str, Any], ...] = ()  # as the JSON format has them
    among: int | None = None  # models there were before limits left some out
    shard: Shard | None = None

    def grids(self) -> list[Grid]:
        """Return one table."""
        return [table(self.counted, self.uncounted, among=self.among)]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        body = {"models": [model.to_dict() for model in self.counted], "errors": list(self.errors)}
        return envelope(body, shard=self.shard)


def list_models(
    context: typer.Context,
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="PATTERN",
            help="Which models, such as '*vit*'; all by default.",
            show_default=False,
            autocompletion=completion.models,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Whose models: torchvision or timm; by default those of all that are there.",
            autocompletion=completion.catalogues,
        ),
    ] = None,
    counts: Annotated[bool, typer.Option("--counts", help="Count each model, without building its weights.")] = False,
    most: Annotated[
        str | None, typer.Option("--max", metavar="N", help="Only models of at most N parameters, such as 5M.")
    ] = None,
    least: Annotated[
        str | None, typer.Option("--min", metavar="N", help="Only models of at least N parameters.")
    ] = None,
    sort: Annotated[Sort, typer.Option(help="By name, or the largest first.")] = "name",
    jobs: Jobs = None,
    shard: ShardOf = None,
    format_name: Annotated[
        Format | None,
        typer.Option(
            "-f",
            "--format",
            help="Form of the result; by default bare names, a table of counts, or what the ending of --output says.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Write the result to a file.")
    ] = None,
) -> int:
    """List the models of torchvision and timm, each a target; --max, --min and --sort size count them, too."""
    session: Session = context.obj
    chosen = format_name or _FORMATS_BY_ENDING.get(PurePath(output or "").suffix)
    limits = _limits(least, most)
    names, part = sharded(session, _matching(pattern, source), shard)
    with Output(output) as destination:
        style = session.style(destination.stream)
        if counts or limits != Limits() or sort == "size":
            result = _counted(session, names, limits, sort, part, processes=jobs or os.cpu_count() or 1)
            destination.write(renderer(chosen or "table").render(result, style))
        elif chosen is None:
            destination.write("\n".join(name.target for name in names))
        else:
            destination.write(renderer(chosen).render(Names(tuple(names), part), style))
    return gravest(session.exit_codes)


def _counted(
    session: Session, names: Sequence[Name], limits: Limits, sort: Sort, shard: Shard | None, *, processes: int
) -> Catalogue:
    cache = session.cache()
    totals = {} if cache is None else {source: cache.totals(source) for source in {name.source for name in names}}
    jobs = [_job(name, totals.get(name.source)) for name in names]
    results = count_all(session, jobs, processes=processes, forked=True)
    answers = [result for result in results if not isinstance(result, Failure)]
    failures = [result for result in results if isinstance(result, Failure)]
    if not any(isinstance(failure.error, Interrupted) for failure in failures):  # or an answer may be lost on the way
        for source, kept in totals.items():
            kept.keep(answer for answer in answers if answer.counted.model.source == source)
    lost = {failure.target for failure in failures}
    admitted = [answer.counted for answer in answers if limits.admit(answer.counted.tally)]
    return Catalogue(
        tuple(ordered(admitted, sort)),
        tuple(name for name in names if name.target in lost),
        tuple(failure.to_dict() for failure in failures),
        among=len(results),
        shard=shard,
    )


def _job(name: Name, totals: Totals | None) -> Job[Answer]:
    from paramcount.cache.totals import Answer
    from paramcount.sources import Target, sources

    def counted() -> Answer:
        return Answer(Counted.of(name, sources()[name.source].read(Target(name.target), name.name)))

    if totals is None:
        return Job(name.target, name.target, counted, isolated=False, kind=Answer)
    return Job(
        name.target, name.target, partial(totals.count, name), partial(totals.recall, name), isolated=False, kind=Answer
    )


def _matching(pattern: str | None, source: str | None) -> list[Name]:
    """Return the models that are asked for.

    Raises:
        UsageError: there is no such source, or the pattern matches nothing.
        MissingLibrary: the source's library is not installed.

    """
    from paramcount.sources import catalogues

    known = catalogues()
    prefix, colon, rest = (pattern or "").partition(":")
    if colon and prefix in known and source in {None, prefix}:  # timm:*vit* is a pattern like timm:NAME a target
        pattern, source = rest, prefix
    if source is not None and source not in known:
        hint = did_you_mean(closest(source, known)) or f"sources: {', '.join(known)}"
        raise UsageError(f"--source {source!r} has no list of models", hint=hint)
    chosen = known if source is None else {source: known[source]}
    names = [Name(target, key) for key, catalogue in chosen.items() for target in catalogue.names()]
    if source is not None and not names and find_spec(source) is None:
        raise MissingLibrary.of(f"a list of {source}'s models", source)
    if pattern is None:
        return names
    wanted = pattern.lower()
    matches = compiled(wanted).match
    matching = [name for name in names if matches(name.name.lower())]
    if not matching:
        problem = f"no model matches {pattern!r}" if set(pattern) & set("*?[") else f"no model is named {pattern!r}"
        raise UnmatchedPattern(problem, hint=_nearest(pattern, names))
    return matching


def _nearest(pattern: str, names: Iterable[Name]) -> str:
    """Return what to try instead of a pattern that matches nothing."""
    wider = f"*{pattern.strip('*').lower()}*"
    by_name = {name.name: name.target for name in names}
    matches = compiled(wider).match
    found = [] if set(pattern) <= set("*?") else [name for name in by_name if matches(name.lower())]
    is_pattern = bool(set(pattern) & set("*?["))
    near = [] if found and is_pattern else closest(pattern.replace("*", ""), by_name)
    said = [did_you_mean([by_name[name] for name in near])]
    if not set(found) <= set(near):
        matched = by_name[found[0]] if len(found) == 1 else plural(len(found), "model")
        said.append(f"{wider!r} matches {matched}")
    return " ".join(filter(None, said)) or "paramcount list shows all"


def _limits(least: str | None, most: str | None) -> Limits:
    def parsed(option: str, text: str | None) -> int | None:
        if text is None:
            return None
        try:
            return parse_count(text)
        except ValueError as error:
            raise UsageError(f"{option} {error}") from error

    limits = Limits(parsed("--min", least), parsed("--max", most))
    if limits.min is not None and limits.max is not None and limits.min > limits.max:
        raise UsageError(f"--min {least} is more than --max {most}: no model can be both", hint="swap the two")
    return limits
