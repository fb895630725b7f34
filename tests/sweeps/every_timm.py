"""Compares every name that timm has: ``python -m tests.sweeps.every_timm [PATTERN]``."""

from __future__ import annotations

import sys
from functools import partial

import timm

import paramcount
from tests.sweeps import Case, sweep


def case(name: str) -> Case:
    """Return the comparison of one name."""
    return Case(name, partial(timm.create_model, name), partial(paramcount.count, f"timm:{name}"))


if __name__ == "__main__":
    names = timm.list_models(sys.argv[1] if len(sys.argv) > 1 else "")
    sys.exit(sweep(map(case, names), subject=f"timm {timm.__version__}"))
