"""Counts every model that a library has by a pattern, in one process, against building each on PyTorch's meta device.

The two take turns, model by model, and CPU time is what is compared, so that a busy machine is unfair to neither. Run
it from the top of the repository: ``python -m tests.benchmarks.catalogues [PATTERN]``; it takes some minutes.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress

import timm
import torch
from rich.console import Console
from rich.table import Table

import paramcount


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds that some work takes, also if it fails."""
    started = time.process_time()
    with suppress(RuntimeError):  # PyTorch cannot build all on the meta device
        work()
    return time.process_time() - started


def plainly(name: str) -> int:
    """Count as one would without us."""
    with torch.device("meta"):
        model = timm.create_model(name)
    return sum(parameter.numel() for parameter in model.parameters())


def main(pattern: str) -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    names = timm.list_models(pattern)
    paramcount.count(f"timm:{names[0]}")  # what is imported but once
    plainly(names[0])
    plain = counted = 0.0
    for name in names:
        counted += seconds(lambda name=name: paramcount.count(f"timm:{name}"))  # type: ignore[misc]  # a default binds it
        plain += seconds(lambda name=name: plainly(name))  # type: ignore[misc]  # the same
    table = Table(f"{len(names)} names of timm, {pattern}", "CPU seconds", "× plainly on meta")
    table.add_row("plainly on meta", f"{plain:.1f}", "1.00")
    table.add_row("counted", f"{counted:.1f}", f"{counted / plain:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main(*sys.argv[1:] or ["*vit*"])
