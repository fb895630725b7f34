"""``paramcount init``: write a models.yaml to start from, out of measured values."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from paramcount.commands import completion
from paramcount.commands.counting import Failure, Job, count_all
from paramcount.commands.session import Output, Reading, Session, others_print_to_stderr
from paramcount.errors import EXIT_OK, ParamcountError, UsageError, gravest
from paramcount.report import Report
from paramcount.units import exact, plural, short, size
from paramcount.urls import shown, split
from paramcount.words import count_word

_HEAD = """\
# What each model may cost; paramcount check holds them to it.
# Counts take K, M, B and T; bytes take KB, MB, GB and KiB, MiB, GiB. A bare value is an inclusive maximum;
# {max: …, min: …} and {exactly: …} say more. paramcount schema prints the schema for your editor.
version: 1
models:
"""


def init(
    context: typer.Context,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET",
            help="What to count; by default the models of the files here.",
            show_default=False,
            autocompletion=completion.targets,
        ),
    ] = None,
    config: Annotated[str, typer.Option("-c", "--config", metavar="FILE", help="The file to write.")] = "models.yaml",
) -> int:
    """Write a commented models.yaml from measured values; never over one that is there."""
    session: Session = context.obj
    path = Path(config)
    if path.exists():
        raise UsageError(f"{config} is there already, and is not overwritten", hint="give another name with -c")
    with Output(config, is_new=True) as file:
        reports = _counted(session, targets) if targets else _found(session)
        if not reports:
            if targets:
                return gravest(session.exit_codes)
            raise UsageError("no model was found in the files here", hint="name one: paramcount init net.py:Net")
        file.write(_HEAD + "\n".join(_entry(name, report, path.parent) for name, report in _named(reports)))
    Output(None).write(f"{config}: {plural(len(reports), 'model')}; paramcount check holds them to it")
    return gravest([EXIT_OK, *session.exit_codes])


def _counted(session: Session, targets: list[str]) -> list[Report]:
    reading = session.reading()
    results = count_all(session, [_job(target, reading) for target in targets])
    return [result for result in results if not isinstance(result, Failure)]


def _found(session: Session) -> list[Report]:
    """Count each Python file here that holds just one model that can be built as it stands; the others are no fault."""
    files = sorted(Path().glob("*.py"))
    print(f"importing the {plural(len(files), 'Python file')} here, to look for models", file=sys.stderr)
    found, reading = [], session.reading()
    for file in files:
        with session.working(f"looking into {file}"), others_print_to_stderr():
            try:
                found.append(count_word(str(file), reading.read))
            except ParamcountError as error:
                print(f"skipped: {error.message}", file=sys.stderr)
    return found


def _job(target: str, reading: Reading) -> Job[Report]:
    return Job(shown(target), shown(target), lambda: count_word(target, reading.read))


def _named(reports: list[Report]) -> list[tuple[str, Report]]:
    """Name each model after its class or its target; of two that would have one name, the second gets a number."""
    named: dict[str, Report] = {}
    for report in reports:
        path = split(report.target).path
        base = path.rpartition(":")[2] if ":" in path else Path(path).stem
        name, number = base, 2
        while name in named:
            name, number = f"{base}_{number}", number + 1
        named[name] = report
    return list(named.items())


def _entry(name: str, report: Report, base: Path) -> str:
    target = report.target
    place = Path(target.partition(":")[0])
    if place.exists() and not place.is_absolute():  # what the file wants relative to itself
        target = os.path.relpath(target, base)
    budget = [f"total: {_ceiling(report.total)}"]
    if report.frozen:
        budget.append(f"trainable: {_ceiling(report.trainable)}")
    measured = f"{exact(report.total)} parameters, of which {exact(report.trainable)} train; {size(report.nbytes)}"
    if report.uninitialized:
        measured += f"; {plural(report.uninitialized, 'parameter')} without a shape: it cannot be judged yet"
    return "\n".join(
        [
            f"  {json.dumps(name)}:",
            f"    # measured: {measured}",
            f"    target: {json.dumps(target)}",
            f"    budget: {{{', '.join(budget)}}}",
        ]
    )


def _ceiling(number: int) -> str:
    """Return the next number of three digits and a unit that is not below ``number``."""
    unit = 10 ** max(len(str(number)) - 3, 0)
    return short(-(-number // unit) * unit)
