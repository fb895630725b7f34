"""``python -m paramcount``."""

import os
import sys

# Python puts the current folder first, where a user's torch.py or types.py would stand in for the real one.
if sys.path and sys.path[0] in {"", os.getcwd()}:  # noqa: PTH109  # pathlib costs an import
    del sys.path[0]

from paramcount.cli import run

run()
