"""``paramcount cache``: what is kept of earlier counts, and where."""

from __future__ import annotations

from typing import Annotated

import typer

from paramcount.commands.session import Output, cache_folder, cache_off
from paramcount.errors import UsageError
from paramcount.units import plural, size


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Drop all that is kept.")] = False,
) -> int:
    """Show where models that were counted are kept, and how many; or drop them."""
    from paramcount.cache.store import MOST_BYTES, MOST_ENTRIES, Store

    store = Store(cache_folder())
    entries = store.entries()
    kept = f"{plural(len(entries), 'entry')}, {size(sum(entry.nbytes for entry in entries))}"
    if clear:
        try:
            store.clear()
        except OSError as error:
            raise UsageError(f"cannot clear {store.folder}: {error.strerror}") from error
        Output(None).write(f"{store.folder}: dropped {kept}")
        return 0
    off = cache_off()
    lines = [f"{store.folder}: {kept}, of at most {MOST_ENTRIES:,} and {MOST_BYTES // 2**20} MiB"]
    Output(None).write("\n".join([*lines, *([f"off: {off}"] if off else [])]))
    return 0
