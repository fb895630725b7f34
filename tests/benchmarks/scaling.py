"""Prints what reading, tallying and ``to_dict()`` cost a parameter as models grow: it should stay flat."""

from __future__ import annotations

import statistics
import time

from rich.console import Console
from rich.table import Table
from torch import nn

from paramcount.modules.read import read
from paramcount.pause import paused_collector
from paramcount.report import Report

ROUNDS = 5


def main() -> None:
    """Print the table."""
    table = Table("layers", title=f"CPU microseconds a parameter, medians of {ROUNDS} rounds")
    for title in ("read", "tally", "to_dict", "all", "× 2,000 layers"):
        table.add_column(title, justify="right")
    base = None
    for layers in (2_000, 10_000, 40_000):
        model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(layers)))
        rounds = [timed(model) for _ in range(ROUNDS)]
        costs = [1e6 * statistics.median(column) / (2 * layers) for column in zip(*rounds, strict=True)]
        base = base or sum(costs)
        table.add_row(
            f"{layers:,}", *(f"{cost:.1f}" for cost in costs), f"{sum(costs):.1f}", f"{sum(costs) / base:.2f}"
        )
    Console(width=110).print(table)


def timed(model: nn.Module) -> tuple[float, float, float]:
    """Return the CPU seconds that each step takes: those are the same on a busy machine."""
    with paused_collector():
        start = time.process_time()
        inventory = read(model, target="model", source="module")
        read_in = time.process_time()
        report = Report.of(inventory)
        tallied = time.process_time()
        report.to_dict()
        return read_in - start, tallied - read_in, time.process_time() - tallied


if __name__ == "__main__":
    main()
