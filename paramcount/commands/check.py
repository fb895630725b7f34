"""``paramcount check``: hold the models of models.yaml to their budgets."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from paramcount.commands.annotations import for_servers
from paramcount.commands.counting import Failure, count_all, document
from paramcount.commands.overwriting import is_same
from paramcount.commands.session import Output, Session, encodable
from paramcount.commands.specs import Jobs, Names, ShardOf, job, mistakes, sharded
from paramcount.errors import ParamcountError, UsageError, closest, did_you_mean, gravest
from paramcount.grid import Grid, Result, Style
from paramcount.harmless import visible
from paramcount.outline import dangers
from paramcount.renderers import renderer
from paramcount.urls import shown

if TYPE_CHECKING:
    from paramcount.shards import Shard
    from paramcount.verdicts import Checked

Format = Literal["table", "markdown", "json", "github", "gitlab", "junit", "sarif"]
_WITH_NOTES = {"table", "markdown", "json"}


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one run: a verdict for each model, and what kept a model, or the whole file, from having one."""

    models: tuple[Checked, ...]
    errors: tuple[dict[str, Any], ...] = ()  # as the JSON format has them
    shard: Shard | None = None

    def grids(self) -> list[Grid]:
        """Return one table."""
        from paramcount.verdicts import table

        return [table(self.models, [_said(error) for error in self.errors])]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        return document([model.to_dict() for model in self.models], list(self.errors), shard=self.shard)


def _said(error: dict[str, Any]) -> str:
    name = f"{error['name']}: " if error["name"] else ""
    place = error.get("location")
    at = f"{place['file']}:{place['line']}:{place['column']}" if place else ""
    return f"{name}{error['message']}" + (f" ({at})" if at and at not in error["message"] else "")


def check(
    context: typer.Context,
    names: Names = None,
    config: Annotated[
        str, typer.Option("-c", "--config", metavar="FILE", help="The file that states the budgets.")
    ] = "models.yaml",
    locked: Annotated[bool, typer.Option("--locked", help="Demand that every model equals models.lock.json.")] = False,
    jobs: Jobs = None,
    shard: ShardOf = None,
    format_name: Annotated[Format, typer.Option("-f", "--format", help="Form of the result on stdout.")] = "table",
    export: Annotated[
        list[str] | None,
        typer.Option(metavar="FORMAT=FILE", help="Write the result in another form, too. Repeatable."),
    ] = None,
    annotations: Annotated[
        bool,
        typer.Option(
            "--annotations/--no-annotations", help="Under GitHub Actions, annotate and write the step summary."
        ),
    ] = True,
) -> int:
    """Hold the models of models.yaml to their budgets."""
    session: Session = context.obj
    with ExitStack() as stack:
        forms = _exports(export or [])
        if any(is_same(one, other) for (_, one), (_, other) in combinations(forms, 2)):
            raise UsageError("two exports go to one file")
        inputs = _inputs(config) if forms else []
        exports = [(form, stack.enter_context(Output(path, inputs))) for form, path in forms]
        stdout = stack.enter_context(Output(None))
        result = _checked(session, config, names or [], shard, locked=locked, processes=jobs or os.cpu_count() or 1)
        for form, output in exports:
            output.write(renderer(form).render(for_servers(form, result), Style()))
        if result.models or format_name != "table":
            shaped = for_servers(format_name, result)
            stdout.write(renderer(format_name).render(shaped, session.style(sys.stdout)))
        if format_name not in _WITH_NOTES:
            session.warn(danger for model in result.models if model.report for danger in dangers(model.report))
        if annotations and os.environ.get("GITHUB_ACTIONS") == "true":
            _tell_github(result, annotate=format_name != "github")
    return gravest([*session.exit_codes, *(model.verdict.exit_code for model in result.models)])


def _inputs(file: str) -> list[Path]:
    """Return what a check reads; of a file that is not sound, that alone: its mistakes are told elsewhere."""
    from paramcount.config import load

    try:
        return list(load(file).files())
    except ParamcountError:
        return [Path(file)]


def _checked(
    session: Session, file: str, names: Sequence[str], shard: str | None, *, locked: bool, processes: int
) -> Check:
    """Count the models, and judge each; a file that cannot be read is a result too, for every form to report."""
    from datetime import date

    from paramcount import lock
    from paramcount.budgets import judge
    from paramcount.config import ConfigError, load
    from paramcount.verdicts import Checked

    try:
        config = load(file)
        specs, part = sharded(session, config.select(names), shard)
        baselines = lock.read(config.lock_file)
    except ConfigError as error:
        session.error(error)
        problems = [
            Failure("", file, UsageError(problem.message)).to_dict() | {"location": problem.location.to_dict()}
            for problem in error.problems
        ]
        return Check((), tuple({**problem, "name": None, "code": error.code} for problem in problems))
    except ParamcountError as error:
        session.error(error)
        return Check((), ({**Failure("", file, error).to_dict(), "name": None},))
    errors: list[dict[str, Any]] = []
    for name in (
        sorted(baselines.entries.keys() - {model.name for model in config.models}) if locked and not names else ()
    ):
        gone = lock.Unlisted(name, config.lock_file.name, file)
        session.error(gone)
        errors.append({**Failure("", file, gone).to_dict(), "name": name})
    reading = session.reading()
    results = count_all(session, [job(spec, config, reading) for spec in specs], processes=processes, forked=True)
    models = []
    for spec, result in zip(specs, results, strict=False):  # an interrupt leaves the rest out
        entry = baselines.entries.get(spec.name)
        total = entry.total if entry else None
        if isinstance(result, Failure):
            for mistake, place in mistakes(result.error, spec):
                said = result._replace(error=mistake).to_dict()
                errors.append({**said, "name": spec.name, "location": place.to_dict()})
            models.append(Checked(spec.name, shown(spec.target), None, locked=total))
            continue
        baseline = entry.baseline(result) if entry else None
        verdict = judge(
            result,
            spec.budget,
            today=date.today(),  # the user's own day
            baseline=baseline,
            lock=config.lock_file.name if baselines.exists else None,
            locked=locked,
            location=spec.location,
        )
        models.append(Checked(spec.name, shown(spec.target), result, verdict, total, compare=baselines.exists))
    return Check(tuple(models), tuple(errors), part)


def _exports(pairs: list[str]) -> list[tuple[str, str]]:
    parted = []
    for pair in pairs:
        form, equals, path = pair.partition("=")
        if not equals or not path or form not in get_args(Format):
            hint = did_you_mean(closest(form, get_args(Format))) or f"formats: {', '.join(get_args(Format))}"
            raise UsageError(f"--export {pair!r} is not FORMAT=FILE", hint=hint)
        parted.append((form, path))
    return parted


def _tell_github(result: Result, *, annotate: bool) -> None:
    """Annotate the pull request by what the runner reads off stderr, and add to the page of the run."""
    if annotate and (text := renderer("github").render(for_servers("github", result), Style())):
        print(encodable(text, sys.stderr), file=sys.stderr)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        text = renderer("markdown").render(result, Style())
        try:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(text + "\n")
        except OSError as error:
            print(visible(f"warning: cannot write the step summary: {error}"), file=sys.stderr)
