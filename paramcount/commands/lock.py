"""``paramcount lock``: write down what the models of models.yaml have, for later checks to compare with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paramcount.commands.counting import Failure, count_all
from paramcount.commands.session import Output, Session
from paramcount.commands.specs import Jobs, Names, job
from paramcount.errors import EXIT_DIFFERS, Interrupted, UsageError, gravest
from paramcount.harmless import visible
from paramcount.outline import dangers
from paramcount.units import plural

if TYPE_CHECKING:
    from paramcount.lock import Entry


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
    from paramcount.lock import Entry, dumps, read

    session: Session = context.obj
    if os.environ.get("CI") and not (check or force):
        raise UsageError("lock does not write in CI", hint="lock --check compares; --force writes all the same")
    models = load(config)
    specs = models.select(names or [])
    path = models.lock_file
    read(path)  # one that cannot be read is an error before the work, too
    with Output(None if check else str(path)) as file, Output(None) as stdout:
        reading = session.reading()
        results = count_all(
            session, [job(spec, models, reading) for spec in specs], processes=jobs or os.cpu_count() or 1, forked=True
        )
        if any(isinstance(result, Failure) and isinstance(result.error, Interrupted) for result in results):
            return gravest(session.exit_codes)  # what is not whole is not written
        session.warn(danger for result in results if not isinstance(result, Failure) for danger in dangers(result))
        # What the lock says of a model that could not be counted stays; an interrupt leaves the rest out.
        counted = {
            spec.name: Entry.of(result)
            for spec, result in zip(specs, results, strict=False)
            if not isinstance(result, Failure)
        }
        with nullcontext() if check else _alone_in(path.absolute().parent):
            old = read(path)  # as it is now: another lock may have been written meanwhile
            new = old if names else old.only(model.name for model in models.models)
            said = [
                f"{name}: is in {path.name}, and not in {config}" for name in old.entries if name not in new.entries
            ]
            for name, entry in counted.items():
                said += [f"{name}: {change}" for change in _changes(old.entries.get(name), entry, path.name)]
                new = new.updated(name, entry)
            if not check and (said or not old.exists):
                file.write(dumps(new).rstrip("\n"))
        lines = said or [f"{path.name} is up to date: {plural(len(new.entries), 'model')}"]
        stdout.write("\n".join(map(visible, lines)))
    return gravest([*session.exit_codes, *([EXIT_DIFFERS] if check and said else [])])


def _changes(before: Entry | None, now: Entry, lock: str) -> Iterator[str]:
    from paramcount.lock import differences

    if before is None:
        yield f"is new in {lock}, total {'≥ ' * bool(now.tally.uninitialized)}{now.total:,}"
    else:
        yield from map(str, differences(before, now))


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until nobody else writes a lock in a folder: two that read and write at once would lose an entry.

    It is the folder that is locked, so nothing is left behind; where the system cannot, one goes on without.
    """
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
