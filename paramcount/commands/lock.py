"""``paramcount lock``: write down what the models of models.yaml have, for later checks to compare with."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from paramcount.commands.counting import Failure, count_all
from paramcount.commands.session import Output, Session
from paramcount.commands.specs import Jobs, Names, job
from paramcount.errors import EXIT_DIFFERS, Interrupted, UsageError, gravest
from paramcount.harmless import visible
from paramcount.units import plural


def lock(
    context: typer.Context,
    names: Names = None,
    config: Annotated[
        str, typer.Option("-c", "--config", metavar="FILE", help="The file that states the models.")
    ] = "models.yaml",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 where the lock is out of date.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write although CI is set.")] = False,
    jobs: Jobs = None,
) -> int:
    """Write the counts of models.yaml's models to models.lock.json."""
    from paramcount.config import load
    from paramcount.lock import Entry, differences, dumps, read

    session: Session = context.obj
    if os.environ.get("CI") and not (check or force):
        raise UsageError("lock does not write in CI", hint="lock --check compares; --force writes all the same")
    models = load(config)
    specs = models.select(names or [])
    path = models.lock_file
    old = new = read(path)
    if not names:
        new = new.only(model.name for model in models.models)
    said = [f"{name}: is in {path.name}, and not in {config}" for name in old.entries if name not in new.entries]
    with Output(None if check else str(path)) as file, Output(None) as stdout:
        cache = session.cache()
        results = count_all(
            session, [job(spec, models, cache) for spec in specs], processes=jobs or os.cpu_count() or 1, forked=True
        )
        if any(isinstance(result, Failure) and isinstance(result.error, Interrupted) for result in results):
            return gravest(session.exit_codes)  # what is not whole is not written
        for spec, result in zip(specs, results, strict=False):  # an interrupt leaves the rest out
            if isinstance(result, Failure):
                continue  # what the lock says of it stays
            entry = Entry.of(result)
            before = old.entries.get(spec.name)
            new = new.updated(spec.name, entry)
            if before is None:
                said.append(
                    f"{spec.name}: is new in {path.name}, total {'≥ ' * bool(entry.tally.uninitialized)}{entry.total:,}"
                )
            else:
                said += [f"{spec.name}: {difference}" for difference in differences(before, entry)]
        if not check and (said or not old.exists):
            file.write(dumps(new).rstrip("\n"))
        lines = said or [f"{path.name} is up to date: {plural(len(new.entries), 'model')}"]
        stdout.write("\n".join(map(visible, lines)))
    return gravest([*session.exit_codes, *([EXIT_DIFFERS] if check and said else [])])
