"""``python -m paramcount``."""

from paramcount.cli import run

run()
