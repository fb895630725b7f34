"""``python -m paramcount``, and the program ``paramcount``."""

import os
import sys
from typing import NoReturn

# Python puts the current folder first, where a user's torch.py or types.py would stand in for the real one.
if sys.path and sys.path[0] in {"", os.getcwd()}:  # noqa: PTH109  # pathlib costs an import
    del sys.path[0]


def main() -> NoReturn:
    """Run the program; one that is interrupted while it is still being imported ends as quietly as later."""
    try:
        from paramcount.process import run

        run()
    except KeyboardInterrupt:
        os._exit(130)


if __name__ == "__main__":
    main()
