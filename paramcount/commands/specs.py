"""Counts models as models.yaml states them: the options of all commands that do, and the job itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from paramcount.budgets import judge
from paramcount.commands import completion
from paramcount.commands.counting import Job
from paramcount.commands.session import Reading, Session
from paramcount.errors import Mistakes, ParamcountError, UnknownTarget, UnmatchedPattern, UsageError
from paramcount.shards import Shard
from paramcount.units import plural
from paramcount.urls import shown

if TYPE_CHECKING:
    from paramcount.budgets import Location
    from paramcount.config import Config, ModelSpec
    from paramcount.inventory import Inventory
    from paramcount.report import Report
    from paramcount.sources import Target


Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="Which models; all by default.",
        show_default=False,
        autocompletion=completion.configured,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "-j", "--jobs", metavar="N", min=1, help="Count in N processes; by default one a core.", show_default=False
    ),
]
ShardOf = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only the Ith of N parts, for as many machines; paramcount merge joins what they write with -f json.",
        show_default=False,
    ),
]
Item = TypeVar("Item")


def sharded(session: Session, items: Sequence[Item], written: str | None) -> tuple[list[Item], Shard | None]:
    """Return the part of some work that this run is to do, and which it is.

    Raises:
        UsageError: ``written`` is no shard.

    """
    if written is None:
        return list(items), None
    try:
        shard = Shard.parse(written)
    except ValueError as error:
        raise UsageError(f"--shard {error}") from error
    part = shard.part(items)
    if not part:
        all_there_is = plural(len(items), "model")
        session.warn([f"shard {shard} has nothing to do: there are no more than {all_there_is} for {shard.of} shards"])
    return part, shard


def mistakes(error: ParamcountError, spec: ModelSpec) -> Iterator[tuple[ParamcountError, Location]]:
    """Yield each of the mistakes that an error of a model tells, with its place in the file."""
    layers = (limit.layers.location for limit in spec.budget.limits if limit.layers is not None)
    places = [place for place in (*spec.places.values(), *layers) if place is not None]
    for each in error.errors if isinstance(error, Mistakes) else [error]:
        yield each, next((place for place in places if each.message.startswith(f"{place}: ")), spec.location)


def _placed(error: UsageError, spec: ModelSpec) -> Iterator[UsageError]:
    """Yield what does not fit the model, with its place in the file: a message begins with the key it is under."""
    for each in error.errors if isinstance(error, Mistakes) else [error]:
        place = spec.places.get(each.message.partition(" ")[0], spec.location)
        yield type(each)(f"{place}: {each.message}", hint=each.hint)


def _unmatched_layers(report: Report, spec: ModelSpec) -> Iterator[UsageError]:
    """Yield what else would be found only once the rules are mended: patterns of limits that match no layer."""
    for finding in judge(report, spec.budget, today=date.min).unmatched:
        yield UnmatchedPattern(f"{finding.location}: {finding.message}")


def job(spec: ModelSpec, config: Config, reading: Reading) -> Job[Report]:
    """Return the job that counts one model of a file; its paths are relative to the file."""

    def counted(read: Callable[[Target], Inventory]) -> Report:
        from paramcount.inputs import Input
        from paramcount.report import Report
        from paramcount.routing import Routing
        from paramcount.rules import Rules, apply
        from paramcount.sources import Target

        inputs = tuple(map(Input.parse, spec.inputs))
        target = Target(spec.target, spec.args, spec.weights, spec.device, inputs, spec.trust_remote_code, spec.like)
        rules = Rules(spec.freeze, spec.unfreeze, active=tuple(map(Routing.parse, spec.active)))
        with chdir(config.base):
            inventory = read(target)
        try:
            return Report.of(apply(rules, inventory))
        except UsageError as error:
            raise Mistakes.of([*_placed(error, spec), *_unmatched_layers(Report.of(inventory), spec)]) from error

    recall = None if reading.recall is None else partial(counted, reading.recall)
    count = partial(counted, reading.read)
    return Job(spec.name, shown(spec.target), count, recall, isolated=not _is_catalogued(spec.target))


def _is_catalogued(target: str) -> bool:
    """Whether a library's own code builds the model, which leaves a process as it was."""
    from paramcount.sources import resolve

    try:
        return resolve(target)[0].IS_CATALOGUE
    except UnknownTarget:
        return False
