"""Imports a user's code as ``python -m`` would, and gives the interpreter back as it was."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, invalidate_caches
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from paramcount.errors import BuildError, UnknownTarget, closest, did_you_mean
from paramcount.modules.attributes import module_attributes
from paramcount.modules.failure import is_installed


class Code(NamedTuple):
    """Where a user's code is, and how Python gets to it."""

    module: str  # dotted, as it is imported
    file: Path | None  # None: wherever the module is found
    roots: tuple[str, ...] = ()  # to go on sys.path, first first


def code_in_file(place: str, word: str) -> Code:
    """Return how to import a file: under its package, if it is in one, so that its relative imports work."""
    try:
        path = Path(place).expanduser().resolve()
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:  # a link to itself, a name that is too long, no such user
        raise UnknownTarget(f"{word}: there is no file of that name: {error}") from error
    if path.is_dir():
        raise UnknownTarget(f"{word}: {place} is a folder, not a file")
    if not is_file:
        folder = Path(place).parent
        siblings = [str(folder / found.name) for found in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise UnknownTarget(f"{word}: there is no file {place}", hint=did_you_mean(closest(place, siblings)))
    package = path.parent
    while (package / "__init__.py").is_file() and package.name.isidentifier():
        package = package.parent
    if package == path.parent or not path.stem.isidentifier():
        return Code(_free_name(path), path, (str(path.parent),))
    parts = path.relative_to(package).with_suffix("").parts
    return Code(".".join(parts).removesuffix(".__init__"), path, (str(package), str(path.parent)))


def _free_name(path: Path) -> str:
    """Return the name a lone file is imported under: its own, unless that belongs to another module."""
    taken = path.stem in sys.stdlib_module_names or path.stem in sys.modules or not path.stem.isidentifier()
    if not taken:
        spec = find_spec(path.stem)
        taken = spec is not None and spec.origin is not None and is_installed(spec.origin)
    return "_target_" + re.sub(r"\W", "_", path.stem) if taken else path.stem


@contextmanager
def on_loan(code: Code) -> Iterator[None]:
    """Run a user's code as ``python -m`` would, and give the interpreter back as it was.

    The user's modules are forgotten afterwards, so that the next target's ``utils`` is its own; installed ones stay.
    """
    path, argv, folder, known = sys.path[:], sys.argv, Path.cwd(), set(sys.modules)
    set_aside = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_homonym(name, code)}
    sys.path[:0] = [*code.roots, *([] if code.file else [str(folder)])]
    sys.argv = [str(code.file or code.module)]
    program, leave = os.getpid(), os._exit
    # No model ends the program; what it forks ends as it would elsewhere.
    os._exit = lambda status: sys.exit(status) if os.getpid() == program else leave(status)
    # Python takes bytecode for fresh where a file has kept its size and the second it was written in: an edit and a
    # count from a script may be so close. What is never written is never stale, and litters no folder.
    compiled, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    invalidate_caches()  # a file may be younger than Python's list of its folder
    try:
        yield
    finally:
        sys.path[:], sys.argv, sys.dont_write_bytecode = path, argv, compiled
        os._exit = leave
        os.chdir(folder)
        # All are found before any is forgotten: a namespace package looks its parent up to say where it is.
        for name in [name for name in sys.modules.keys() - known if _is_users(sys.modules[name])]:
            del sys.modules[name]
        sys.modules.update(set_aside)


def _is_homonym(name: str, code: Code) -> bool:
    """Whether a loaded module has the name of the user's package, but comes from elsewhere."""
    top = code.module.partition(".")[0]
    if code.file is None or name.partition(".")[0] != top:
        return False
    origin = module_attributes(sys.modules.get(top)).get("__file__")
    return isinstance(origin, str) and not Path(origin).resolve().is_relative_to(code.roots[0])


def _is_users(module: object) -> bool:
    # What stands in sys.modules may import more, and fail, as soon as it is asked for an attribute.
    held = module_attributes(module)
    spec: Any = held.get("__spec__")
    if not issubclass(type(spec), ModuleSpec):  # made by hand
        folders: Any = held.get("__path__")
        return type(folders) in {list, tuple} and any(map(_is_elsewhere, folders))
    if spec.origin is None:  # a namespace package
        return any(map(_is_elsewhere, spec.submodule_search_locations or ()))
    return (
        not isinstance(spec.loader, ExtensionFileLoader)
        and spec.origin not in {"built-in", "frozen"}
        and _is_elsewhere(spec.origin)
    )


def _is_elsewhere(place: object) -> bool:
    return isinstance(place, str) and not is_installed(place)


def load(code: Code, word: str) -> ModuleType:
    if code.file is None:
        return _import_by_name(code.module, word)
    if "." in code.module or len(code.roots) > 1:
        return import_module(code.module)
    spec = spec_from_file_location(code.module, code.file)
    if spec is None or spec.loader is None:
        raise BuildError(f"{word}: Python cannot import {code.file}")
    module = module_from_spec(spec)
    sys.modules[code.module] = module  # before it runs, as import does: dataclasses and circular imports look there
    spec.loader.exec_module(module)
    return module


def _import_by_name(name: str, word: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            hint = "run from the folder that holds it, or give the path of the file: path/to/file.py:NAME"
            raise UnknownTarget(f"{word}: there is no module {missing!r}", hint=hint) from error
        raise
