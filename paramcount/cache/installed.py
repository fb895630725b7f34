"""What is installed: Python's own modules, and those in the folders that pip installs into."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

PROGRAM = str(Path(__file__).parent.parent)
_CUSTOMIZING = {"sitecustomize", "usercustomize"}  # run a user's code in every process, if they are not Python's own


@cache
def standard() -> tuple[str, ...]:
    """Return the folders of Python's own modules, each with a separator at its end."""
    return (f"{Path(os.__file__).parent}{os.sep}", f"{sys.base_exec_prefix}{os.sep}DLLs{os.sep}")


@cache
def sites() -> tuple[str, ...]:
    """Return this Python's folders of installed distributions, each with a separator at its end."""
    return tuple(f"{folder}{os.sep}" for folder in (*site.getsitepackages(), site.getusersitepackages()))


def is_installed(path: str) -> bool:
    """Whether a path is one of Python's own, or in a folder of installed distributions."""
    return path.startswith(sites()) or _is_standard(path)


def _is_standard(path: str) -> bool:
    return path.startswith(standard()) and "-packages" not in path


def is_ours(path: str) -> bool:
    """Whether a path is in paramcount, which may be anywhere while it is developed."""
    return path.startswith(PROGRAM + os.sep)


def stranger(modules: Mapping[str, Any]) -> str | None:
    """Return the name of a loaded module that is not installed; None if there is none.

    A module without a file was made by one that has one: Cython, PyTorch and six make some.
    """
    main = modules.get("__main__")
    for name, module in modules.items():
        places = _places_of_main(module) if module is main else _places(module)
        is_known = _is_standard if name in _CUSTOMIZING else _is_known
        if not all(map(is_known, places)):
            return name
    return None


def _is_known(place: str) -> bool:
    return is_installed(place + os.sep) or is_ours(place)


def attributes(module: object) -> Mapping[str, Any]:
    """Return a module's attributes without asking the module, which may run code to answer."""
    try:
        known: Mapping[str, Any] = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return {}
    return known


def _places(module: object) -> Iterable[str]:
    """Return the absolute paths that a module comes from."""
    known = attributes(module)
    file = known.get("__file__")
    if isinstance(file, str):
        return (file,) if os.path.isabs(file) else ()  # noqa: PTH117  # of thousands
    return [place for place in known.get("__path__") or () if isinstance(place, str)]


def _places_of_main(module: object) -> Iterable[str]:
    """Return the same of the module that was run: none of the script that starts the program."""
    file = attributes(module).get("__file__")
    if not isinstance(file, str):
        return (os.sep,)  # python -c, or a prompt
    return () if Path(file).stem == "paramcount" else (os.path.abspath(file),)  # noqa: PTH100  # as everywhere here
