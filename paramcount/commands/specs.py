"""Counts models as models.yaml states them: the options of all commands that do, and the job itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

import paramcount
from paramcount.commands.counting import Job
from paramcount.commands.session import Session
from paramcount.errors import UnknownTarget, UnmatchedPattern, UsageError
from paramcount.routing import WrongRouting
from paramcount.shards import Shard
from paramcount.units import plural
from paramcount.urls import shown

if TYPE_CHECKING:
    from paramcount.cache import Cache
    from paramcount.config import Config, ModelSpec
    from paramcount.report import Report


Names = Annotated[
    list[str] | None, typer.Argument(metavar="NAME", help="Which models; all by default.", show_default=False)
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


@contextmanager
def _placed(spec: ModelSpec) -> Iterator[None]:
    """Say where in the file a pattern is that does not fit the model: the message begins with the key it is under."""
    try:
        yield
    except (UnmatchedPattern, WrongRouting) as error:
        place = spec.places.get(error.message.partition(" ")[0], spec.location)
        raise type(error)(f"{place}: {error.message}", hint=error.hint) from error


def job(spec: ModelSpec, config: Config, cache: Cache | None) -> Job[Report]:
    """Return the job that counts one model of a file; its paths are relative to the file."""

    def counted(cache: Cache | None) -> Report:
        with chdir(config.base), _placed(spec):
            return paramcount.count(
                spec.target,
                args=spec.args,
                weights=spec.weights,
                freeze=spec.freeze,
                unfreeze=spec.unfreeze,
                active=spec.active,
                inputs=spec.inputs,
                device=spec.device,
                trust_remote_code=spec.trust_remote_code,
                cache=cache,
            )

    recall = None if cache is None else partial(counted, cache.only_kept())
    return Job(spec.name, shown(spec.target), partial(counted, cache), recall, isolated=not _is_catalogued(spec.target))


def _is_catalogued(target: str) -> bool:
    """Whether a library's own code builds the model, which leaves a process as it was."""
    from paramcount.sources import resolve

    try:
        return resolve(target)[0].IS_CATALOGUE
    except UnknownTarget:
        return False
