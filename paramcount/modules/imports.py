"""Imports a user's code as ``python -m`` would, and gives the interpreter back as it was."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module, invalidate_caches
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from paramcount.errors import BuildError, UnknownTarget, closest, did_you_mean
from paramcount.modules.attributes import module_attributes
from paramcount.modules.failure import build_error, is_installed


class Code(NamedTuple):
    """Where a user's code is, and how Python gets to it."""

    module: str  # dotted, as it is imported
    file: Path | None  # None: wherever the module is found
    roots: tuple[str, ...] = ()  # to go on sys.path, first first
    is_project: bool = False  # whether it is run from its project's root: then its own folder is none of scripts


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
    return _code(path)


def _code(path: Path) -> Code:
    """Return how to import a file: as ``python -m`` would from the folder that its own imports start at.

    That is the folder above its outermost package; and one further up, where the file imports from that by name, or
    relative to it. Else the file is alone, beside its siblings.
    """
    own, here = path.parent, Path.cwd()
    root = own
    while (root / "__init__.py").is_file() and root.name.isidentifier():
        root = root.parent
    named, level = _imports_of(path)
    wanted = [each.parent for each in own.parents[::-1] if each.name in named] + [own.parent] * (own.name in named)
    if level and not (above := own.parents[min(level, len(own.parents)) - 1]).is_relative_to(root):
        wanted += [here] * above.is_relative_to(here) + [above]
    root = next((each for each in wanted if root.is_relative_to(each) and _can_start(each, path)), root)
    is_inside = own.is_relative_to(here) and own != here
    roots = tuple(dict.fromkeys(map(str, (root, own, here))))
    parts = path.relative_to(root).with_suffix("").parts
    if root == own or not path.stem.isidentifier():
        return Code(_free_name(path), path, roots, is_inside)
    return Code(".".join(parts).removesuffix(".__init__"), path, roots, is_inside)


def _can_start(root: Path, path: Path) -> bool:
    """Whether Python can import a file from a folder above it, under a name that is no library's."""
    parts = path.relative_to(root).with_suffix("").parts
    return all(map(str.isidentifier, parts)) and not _is_library(parts[0])


def _imports_of(path: Path) -> tuple[set[str], int]:
    """Return the packages that a file imports from, and how many folders up its relative imports go."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # importing it will say so
        return set(), 0
    named, level = set(), 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named |= {alias.name.partition(".")[0] for alias in node.names if "." in alias.name}
        elif isinstance(node, ast.ImportFrom):
            level = max(level, node.level)
            named |= {node.module.partition(".")[0]} if node.module and not node.level else set()
    return named, level


def _free_name(path: Path) -> str:
    """Return the name a lone file is imported under: its own, unless that belongs to another module."""
    taken = path.stem in sys.modules or not path.stem.isidentifier() or _is_library(path.stem)
    return "_target_" + re.sub(r"\W", "_", path.stem) if taken else path.stem


def _is_library(name: str) -> bool:
    if name in sys.stdlib_module_names:
        return True
    spec = PathFinder.find_spec(name)
    return spec is not None and spec.origin is not None and is_installed(spec.origin)


@contextmanager
def on_loan(code: Code) -> Iterator[None]:
    """Run a user's code as ``python -m`` would, and give the interpreter back as it was.

    The user's modules are forgotten afterwards, so that the next target's ``utils`` is its own; installed ones stay.
    """
    path, argv, folder, known = sys.path[:], sys.argv, Path.cwd(), set(sys.modules)
    set_aside = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_homonym(name, code)}
    roots = code.roots if code.file else (str(folder),)
    choice = _Choice(code, roots, tuple(path))
    sys.path[:0] = roots
    sys.meta_path.insert(0, choice)
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
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not choice]
        os._exit = leave
        os.chdir(folder)
        # All are found before any is forgotten: a namespace package looks its parent up to say where it is.
        for name in [name for name in sys.modules.keys() - known if _is_users(sys.modules[name])]:
            del sys.modules[name]
        sys.modules.update(set_aside)


class _Choice:
    """Finds a module whose name stands for two: one of the user's, and one that is installed or in another folder."""

    def __init__(self, code: Code, roots: Sequence[str], path: Sequence[str]) -> None:
        self._roots, self._path, self._installed_first = list(roots), list(path), code.is_project
        self._target = code.module.partition(".")[0]
        self._names: set[str] = set()  # that stand for two

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002  # Python's
        if path is not None or name == self._target:
            return None
        own = [spec for root in self._roots if (spec := _spec(name, [root])) is not None]
        if not own:
            return None
        installed = _spec(name, self._path)
        if installed is not None and (installed.origin is None or not is_installed(installed.origin)):
            installed = None
        if installed is None:
            self._names |= {name} if len(own) > 1 else set()
            return None
        self._names.add(name)
        return installed if self._installed_first else own[0]

    def turn_round(self) -> set[str]:
        """Choose the others from now on; return the names that stood for two."""
        names, self._names = self._names, set()
        self._installed_first = not self._installed_first
        self._roots.reverse()
        sys.path[:] = [*self._roots, *(each for each in sys.path if each not in self._roots)]
        return names


def _spec(name: str, path: Sequence[str]) -> ModuleSpec | None:
    """Return a module or a package, which a folder of Python files is only with an __init__.py."""
    spec = PathFinder.find_spec(name, path)
    return None if spec is None or spec.loader is None else spec


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
    """Import a user's module, inside ``on_loan()``.

    Raises:
        UnknownTarget: there is no module of that name.
        BuildError: it imports what is not found, though it is near.

    """
    known = set(sys.modules)
    try:
        try:
            return _import(code, word)
        except (ImportError, AttributeError):  # as a module without what is asked of it raises, too
            choice = next((finder for finder in sys.meta_path if isinstance(finder, _Choice)), None)
            names = set() if choice is None else choice.turn_round()
            if not names:
                raise
        for name in sys.modules.keys() - known:
            if name.partition(".")[0] in names or _is_users(sys.modules[name]):
                del sys.modules[name]
        return _import(code, word)
    except ModuleNotFoundError as error:
        raise _where_it_is(error, code, word) or error from error.__cause__


def _import(code: Code, word: str) -> ModuleType:
    if code.file is None:
        return _import_by_name(code.module, word)
    if "." in code.module or (code.file.name == "__init__.py"):
        return import_module(code.module)
    spec = spec_from_file_location(code.module, code.file)
    if spec is None or spec.loader is None:
        raise BuildError(f"{word}: Python cannot import {code.file}")
    module = module_from_spec(spec)
    sys.modules[code.module] = module  # before it runs, as import does: dataclasses and circular imports look there
    spec.loader.exec_module(module)
    return module


def _where_it_is(error: ModuleNotFoundError, code: Code, word: str) -> BuildError | None:
    """Return the error for a module that is not found, where a folder above the file has it."""
    name = (error.name or "").partition(".")[0]
    if code.file is None or not name:
        return None
    near = (*code.file.parent.parents, *sorted(Path.cwd().glob("*/")))[:_MOST_SEARCHED]
    found = next((str(each) for each in near if (each / name).is_dir() or (each / f"{name}.py").is_file()), None)
    if found is None or found in code.roots:
        return None
    failure = build_error(word, error)
    searched = ", ".join(code.roots)
    failure.hint = f"{name} is in {found}, and was looked for in {searched}: run from there, or PYTHONPATH={found}"
    failure.__cause__ = error
    return failure


_MOST_SEARCHED = 50


def _import_by_name(name: str, word: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            hint = "run from the folder that holds it, or give the path of the file: path/to/file.py:NAME"
            raise UnknownTarget(f"{word}: there is no module {missing!r}", hint=hint) from error
        raise
