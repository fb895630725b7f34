"""``paramcount diff``: what is different between two models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from paramcount.commands import completion
from paramcount.commands.counting import Failure, Job, count_all, document
from paramcount.commands.session import Output, Session
from paramcount.commands.specs import job
from paramcount.errors import EXIT_DIFFERS, UsageError, closest, did_you_mean, gravest
from paramcount.grid import Grid
from paramcount.outline import dangers
from paramcount.renderers import renderer
from paramcount.urls import shown
from paramcount.words import count_word

if TYPE_CHECKING:
    from paramcount.config import Config
    from paramcount.diff import Changes, Side

Format = Literal["table", "tree", "markdown", "csv", "tsv", "json"]

_LOCK = "lock:"


@dataclass(frozen=True, slots=True)
class Diff:
    """The result of one run."""

    changes: Changes | None  # None: one of the two could not be counted
    failures: tuple[Failure, ...] = ()
    fold: bool = True  # what people need not read line by line

    def grids(self) -> list[Grid]:
        """Return one table."""
        return self.changes.grids(fold=self.fold) if self.changes else []

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        compared = self.changes.to_dict() if self.changes else {}
        return {**document([], [failure.to_dict() for failure in self.failures]), **compared}


def diff(
    context: typer.Context,
    old: Annotated[
        str,
        typer.Argument(
            metavar="OLD",
            help="A target, a saved report, a name in models.yaml, or lock:NAME.",
            autocompletion=completion.comparable,
        ),
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same.", autocompletion=completion.comparable)],
    config: Annotated[
        str | None, typer.Option("-c", "--config", metavar="FILE", help="Where names are looked up.")
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 1 where there is a difference.")] = False,
    format_name: Annotated[Format, typer.Option("-f", "--format", help="Form of the result.")] = "table",
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Write the result to a file.")
    ] = None,
) -> int:
    """Show what is different between two models, or whether a checkpoint has what a model would load."""
    from paramcount.diff import changes

    session: Session = context.obj
    needed = config is not None or any(word.startswith(_LOCK) for word in (old, new))
    models = _config(config or "models.yaml", needed=needed)
    with Output(output, _files(models, old, new)) as destination:
        before, after = _side(session, old, models), _side(session, new, models)
        failures = tuple(side for side in (before, after) if isinstance(side, Failure))
        found = None if isinstance(before, Failure) or isinstance(after, Failure) else changes(before, after)
        if found is not None or format_name == "json":
            style = session.style(destination.stream)
            fold = format_name not in {"csv", "tsv"}
            destination.write(renderer(format_name).render(Diff(found, failures, fold), style))
    differs = found is not None and found.different
    return gravest([*session.exit_codes, *([EXIT_DIFFERS] if exit_code and differs else [])])


def _config(file: str, *, needed: bool) -> Config | None:
    """Return models.yaml, if there is one: two targets can be compared without."""
    if not needed and not Path(file).exists():
        return None
    from paramcount.config import load

    return load(file)


def _files(models: Config | None, *words: str) -> Iterator[str | Path]:
    """Yield what is read, as it is named."""
    yield from words
    if models is not None:
        yield from models.files(words)


def _side(session: Session, word: str, models: Config | None) -> Side | Failure:
    from paramcount.diff import Side

    if models is not None and word.startswith(_LOCK):
        return _locked(word.removeprefix(_LOCK), models)
    spec = next((model for model in models.models if model.name == word), None) if models else None
    reading = session.reading()
    counting = (
        job(spec, models, reading)
        if spec and models
        else Job(shown(word), shown(word), lambda: count_word(word, reading.read))
    )
    (result,) = count_all(session, [counting])
    if isinstance(result, Failure):
        return result
    session.warn(dangers(result))
    return Side.of(result, shown(word))


def _locked(name: str, models: Config) -> Side:
    from paramcount.lock import read

    entries = read(models.lock_file).entries
    if name not in entries:
        hint = did_you_mean([f"{_LOCK}{close}" for close in closest(name, entries)]) or "paramcount lock writes it"
        raise UsageError(f"{models.lock_file.name} has no model {name!r}", hint=hint)
    return entries[name].side(f"{_LOCK}{name}")
