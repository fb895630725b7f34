"""Times whole processes in turn, and prints how long each takes against bare imports.

Every round runs each command once, so that a machine whose speed drifts is as unfair to one as to another; the table
has the medians of the rounds. «Again» is out of the cache, all else is without. torchinfo, fvcore and timm take part
where they are installed (``pip install '.[bench,timm]'``).
Run it from the top of the repository: ``python tests/benchmarks/compare.py``; ``--long`` adds what takes minutes, once.
"""

from __future__ import annotations

import argparse
import compileall
import os
import statistics
import sys
import tempfile
import time
from importlib.util import find_spec

from rich.console import Console
from rich.table import Table

IMPORTS = "import torch, torchvision"
TORCH = "import torch"
SCRIPT = "{imports}; m = torchvision.models.{name}(); print(sum(p.numel() for p in m.parameters()))"
TORCHINFO = "{imports}, torchinfo; torchinfo.summary(torchvision.models.{name}())"
FVCORE = "{imports}; from fvcore.nn import parameter_count_table as table; print(table(torchvision.models.{name}()))"
USERS_FILE = "tests/models/tutorial_cnn.py:Net"
CATALOGUE = "paramcount list --source torchvision --counts"
TIMM = "paramcount list timm:*vit* --counts"
# What one would write instead: each model on the meta device, where PyTorch can build it there.
META_LOOP = "plain loop on meta, timm's *vit*"
PLAINLY_ON_META = """
import timm, torch, warnings
warnings.simplefilter("ignore")
for name in timm.list_models("*vit*"):
    try:
        with torch.device("meta"):
            model = timm.create_model(name)
    except RuntimeError:
        continue
    print(name, sum(p.numel() for p in model.parameters()))
"""
# What each may take at most, as a multiple of another's time; and in MiB over that, if that is promised.
BARS: dict[str, tuple[str, float, float | None]] = {
    "paramcount resnet50": (IMPORTS, 0.80, None),
    "paramcount vit_h_14": (IMPORTS, 0.80, None),
    "paramcount regnet_y_128gf": (IMPORTS, 0.80, None),
    CATALOGUE: (IMPORTS, 1.60, 200.0),
    "paramcount resnet50, again": (IMPORTS, 0.06, None),
    f"paramcount {USERS_FILE}": (TORCH, 0.70, None),
    TIMM: (META_LOOP, 0.25, None),
}


def commands(names: list[str]) -> dict[str, list[str]]:
    """Return what is timed, by label; the first is what all else is set against."""
    python = [sys.executable, "-c"]
    program = [sys.executable, "-m", "paramcount"]
    afresh = [*program, "--no-cache"]
    timed = {
        IMPORTS: [*python, IMPORTS],
        TORCH: [*python, TORCH],
        "paramcount --help": [*program, "--help"],
        f"paramcount {USERS_FILE}": [*afresh, USERS_FILE],
    }
    timed[CATALOGUE] = [*afresh, *CATALOGUE.split()[1:]]
    timed[f"{CATALOGUE}, again"] = [*program, *CATALOGUE.split()[1:]]
    for name in names:
        timed[f"paramcount {name}"] = [*afresh, name]
        timed[f"paramcount {name}, again"] = [*program, name]
        timed[f"plain script, {name}"] = [*python, SCRIPT.format(imports=IMPORTS, name=name)]
        for library, code in (("torchinfo", TORCHINFO), ("fvcore", FVCORE)):
            if find_spec(library):
                timed[f"{library}, {name}"] = [*python, code.format(imports=IMPORTS, name=name)]
    return timed


def long_commands() -> dict[str, list[str]]:
    """Return what takes minutes, by label."""
    if not find_spec("timm"):
        return {}
    program = [sys.executable, "-m", "paramcount"]
    return {
        META_LOOP: [sys.executable, "-c", PLAINLY_ON_META],
        TIMM: [*program, "--no-cache", *TIMM.split()[1:]],
        f"{TIMM}, again": [*program, *TIMM.split()[1:]],
    }


def run(command: list[str]) -> tuple[float, float, float]:
    """Return the seconds that a process took, those of them on a processor, and its peak memory in MiB."""
    started = time.perf_counter()
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  # a device, not a path
        child = os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1), (os.POSIX_SPAWN_DUP2, nowhere.fileno(), 2)],
        )
        _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", default=["resnet50", "vit_h_14", "regnet_y_128gf"], help="torchvision names"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long", action="store_true", help="count timm's *vit* names, too, which takes minutes")
    options = parser.parse_args()
    compileall.compile_dir("paramcount", quiet=1)  # as installing it does
    timed, long = commands(options.names), long_commands() if options.long else {}
    runs: dict[str, list[tuple[float, float, float]]] = {label: [] for label in (*timed, *long)}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PARAMCOUNT_CACHE"] = cache
        os.environ.pop("CI", None)
        for command in (command for label, command in (timed | long).items() if label.endswith(", again")):
            run(command)
        for _ in range(options.rounds):
            for label, command in timed.items():
                runs[label].append(run(command))
        for label, command in long.items():
            runs[label].append(run(command))
    medians = {label: [statistics.median(column) for column in zip(*of, strict=True)] for label, of in runs.items()}
    base_wall, base_cpu, base_peak = medians[IMPORTS]

    table = Table("whole process", title=f"medians of {options.rounds} rounds")
    for title in ("seconds", "× imports", "CPU seconds", "× imports", "peak MiB", "MiB over"):
        table.add_column(title, justify="right")
    for label, (wall, cpu, peak) in medians.items():
        figures = (f"{wall:.2f}", f"{wall / base_wall:.2f}", f"{cpu:.2f}", f"{cpu / base_cpu:.2f}")
        table.add_row(label, *figures, f"{peak:,.0f}", f"{peak - base_peak:+,.0f}")
    Console(width=130).print(table)

    bars = Table("promised", "× what", "at most", "measured", "MiB over, at most", "measured")
    for label, (base, ratio, mebibytes) in BARS.items():
        if label in medians:
            (wall, _, peak), (its_wall, _, its_peak) = medians[label], medians[base]
            over = ("", "") if mebibytes is None else (f"{mebibytes:,.0f}", f"{peak - its_peak:+,.0f}")
            bars.add_row(label, base, f"{ratio:.2f}", f"{wall / its_wall:.2f}", *over)
    Console(width=150).print(bars)


if __name__ == "__main__":
    main()
