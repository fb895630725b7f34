"""Skips what cannot be tested where the registry's newest libraries refuse each other."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from pathlib import Path
from traceback import walk_tb

import pytest

_INSTALLED = tuple({Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")})


@contextmanager
def skipping_refusals() -> Iterator[None]:
    """Skip a test, or a file while it is imported, where one library refuses another's version; say why."""
    try:
        yield
    except Exception as error:
        if (reason := refusal(error)) is None:
            raise
        pytest.skip(reason, allow_module_level=True)


def refusal(error: BaseException | None, installed: tuple[Path, ...] = _INSTALLED) -> str | None:
    """Return the reason for which one library refuses another; None for any other error.

    It says so in code of its own: it wants another version of a library that it names, or misses a name in it.
    """
    while error is not None:
        library = _raised_in(error, installed)
        if library is not None and _speaks_of_another(error, library):
            return f"{library}: {error}"
        error = error.__cause__ or error.__context__
    return None


def _raised_in(error: BaseException, installed: tuple[Path, ...]) -> str | None:
    """Return the library whose code raised an error; None for ours, Python's and a test's."""
    files = [Path(frame.f_code.co_filename) for frame, _ in walk_tb(error.__traceback__)]
    last = next((file for file in reversed(files) if "importlib" not in str(file)), None)
    for folder in installed:
        if last is not None and last.is_relative_to(folder):
            return last.relative_to(folder).parts[0].removesuffix(".py")
    return None


def _speaks_of_another(error: BaseException, library: str) -> bool:
    if isinstance(error, ImportError) and error.name is not None:
        missed = error.name.partition(".")[0]
        return missed not in {library, "paramcount", "tests"}
    words = set(re.findall(r"[a-z][a-z0-9_-]+", str(error).lower()))
    distributions = packages_distributions()
    others = {name.lower() for each in distributions.values() for name in each} | {
        each.lower() for each in distributions
    }
    own = {library.lower(), *(name.lower() for name in distributions.get(library, ()))}
    says_version = re.search(r"(?i)\bversions?\b|[<>=]=\s*[0-9]", str(error)) is not None
    is_of_a_kind = isinstance(error, (ImportError, ValueError, RuntimeError))
    return is_of_a_kind and says_version and bool(words & (others - own))
