"""GGUF, the format of llama.cpp: one file or all parts of a split one; only headers are read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from paramcount.errors import MissingLibrary, UnknownTarget, UnreadableFile
from paramcount.files.ranges import expanded, last, listed, opened, parent, within
from paramcount.inventory import Inventory, Note
from paramcount.pause import paused_collector
from paramcount.sources import Target
from paramcount.units import exact, plural
from paramcount.urls import is_url, shown, split

if TYPE_CHECKING:
    from paramcount.files.gguf import Header
    from paramcount.files.stored import Stored

EXAMPLE = "model.gguf, model-00001-of-00003.gguf"
LIBRARIES = ("gguf",)
IS_CATALOGUE = False
MEANING = "weights in GGUF; the first part of several means them all"

_FILE = ".gguf"
# How llama.cpp names the parts: https://github.com/ggml-org/llama.cpp/tree/master/tools/gguf-split
_PART = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<of>[0-9]{5})\.gguf", re.DOTALL)
_OF_ANOTHER_KIND = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".index.json")
_NUMBER, _COUNT, _TENSORS = "split.no", "split.count", "split.tensors.count"


def claims(word: str) -> bool:
    """Whether the word has the form of such a file."""
    path = split(word).path
    return (path.endswith(_FILE) and path != _FILE) or (not is_url(word) and _first(listed(word) or []) is not None)


def _first(inside: Iterable[str]) -> str | None:
    """Return the one model in a folder, or the first of its parts; None where there are others, or in other formats."""
    names = sorted(name for name in inside if not name.startswith("."))
    found = [name for name in names if name.endswith(_FILE)]
    parts = {name: _PART.fullmatch(name) for name in found}
    models = {name if part is None else (part["stem"], part["of"]) for name, part in parts.items()}
    is_alone = len(models) == 1 and not any(name.endswith(_OF_ANOTHER_KIND) for name in names)
    return found[0] if is_alone else None


def names() -> Iterable[str]:
    """Return the files in the current folder."""
    return sorted(path.name for path in Path.cwd().glob("*.gguf") if claims(path.name))


def read(target: Target, name: str) -> Inventory:
    """Read the headers of a file, or of all parts; a weight in a block of a quantised type counts as one weight.

    Raises:
        MissingLibrary: the ``gguf`` library is not installed.
        UnknownTarget: there is no such file.
        UsageError: arguments are given.
        UnreadableFile: a file cannot be read, breaks a rule of the format, or a part is missing.

    """
    from paramcount.files.state_dict import inventory

    target.demand_bare("a file of weights")
    with paused_collector():
        path = expanded(name)
        inside = None if is_url(path) else listed(path)
        if inside is not None:
            first = _first(inside)
            if first is None:
                hint = f"name the file in it, as {shown(within(path, 'model.gguf'))}"
                raise UnreadableFile(f"{shown(path)} is a directory that holds not just one model in GGUF", hint=hint)
            path = within(path, first)
        stored, notes = _read(path)
        notes = (*notes, *_packed(stored))
        counted = inventory(stored, target=target.word, source="gguf", notes=notes)
        return replace(counted, form="other")  # its names are llama.cpp's


def _packed(stored: Iterable[Stored]) -> Iterable[Note]:
    stored = list(stored)
    found = [tensor for tensor in stored if tensor.packed]
    if found:
        dtypes, elements = ", ".join(sorted({tensor.dtype for tensor in found})), sum(each.numel for each in found)
        message = f"{plural(len(found), 'tensor')} in blocks ({dtypes}) count as the {exact(elements)} weights in them"
        yield Note("packed", "", message)
    from paramcount.files.gguf import UNKNOWN

    if unknown := [tensor for tensor in stored if tensor.dtype.startswith(UNKNOWN)]:
        others = f", as {plural(len(unknown) - 1, 'other')}," if len(unknown) > 1 else ""
        message = f"is of {unknown[0].dtype}{others} which the gguf library does not know: the dimensions tell how many"
        yield Note("unknown-type", unknown[0].name, f"{message} weights it has, and the next tensor's place its bytes")


def _read(path: str) -> tuple[tuple[Stored, ...], tuple[Note, ...]]:
    named = _header(path)
    part = _PART.fullmatch(last(path))
    number, of = (int(part["number"]), int(part["of"])) if part else (1, 1)
    _demand_part(named, path, number, of)
    if part is None or of <= 1:
        return named.tensors, ()
    if number > 1:
        message = f"this is part {number} of {of}: name the first to count them all"
        return named.tensors, (Note("left-out", "", message),)
    others = [within(parent(path), f"{part['stem']}-{other:05}-of-{of:05}{_FILE}") for other in range(2, of + 1)]
    return _whole(path, named, others)


def _header(path: str) -> Header:
    from paramcount.files.gguf import header

    with opened(path) as file:
        try:
            return header(file)
        except ImportError as error:
            raise MissingLibrary.of(shown(path), "gguf") from error


def _header_or_none(path: str) -> Header | None:
    try:
        return _header(path)
    except UnknownTarget:
        return None


def _headers(paths: list[str]) -> Iterator[Header | None]:
    """Yield the headers of files, None for those that are missing; those that are far away are read several at once."""
    if not is_url(paths[0]):
        return map(_header_or_none, paths)
    from paramcount.files.together import outcomes

    return outcomes(_header_or_none, paths)


def _demand_part(found: Header, path: str, number: int, of: int) -> None:
    """Demand that a file is the part that its name says."""
    said = found.values.get(_NUMBER, 0) + 1, max(found.values.get(_COUNT, 1), 1)
    if said != (number, of):
        raise UnreadableFile(
            f"{shown(path)} is part {number} of {of} by its name, and {said[0]} of {said[1]} by its header",
            hint="give the parts their names back: NAME-00001-of-00003.gguf",
        )


def _demand_none_missing(first: str, missing: list[str]) -> None:
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        problem = f"{shown(first)}: the part {shown(missing[0])} is missing{more}"
        raise UnreadableFile(problem, hint="fetch the missing part")


def _whole(first: str, named: Header, others: list[str]) -> tuple[tuple[Stored, ...], tuple[Note, ...]]:
    """Return what all parts hold."""
    from paramcount.files.gguf import MOST_TENSORS
    from paramcount.files.safetensors import quoted

    if not is_url(first):  # one look, however many parts a name promises
        there = set(listed(parent(first) or ".") or ())
        _demand_none_missing(first, [path for path in others if last(path) not in there])
    holders = {tensor.name: first for tensor in named.tensors}
    stored = list(named.tensors)
    for number, (path, part) in enumerate(zip(others, _headers(others), strict=True), 2):
        if part is None:  # what else is missing is not asked
            _demand_none_missing(first, [path])
            continue
        _demand_part(part, path, number, len(others) + 1)
        for tensor in part.tensors:
            holder = holders.setdefault(tensor.name, path)
            if holder != path:
                problem = f"{quoted(tensor.name)} is in {shown(holder)} and in {shown(path)}"
                raise UnreadableFile(problem, hint="fetch or split them again")
        stored.extend(part.tensors)
        if len(stored) > MOST_TENSORS:
            raise UnreadableFile(f"{shown(first)}: its parts have over {MOST_TENSORS:,} tensors, which no model has")
    said = named.values.get(_TENSORS, len(stored))
    if said == len(stored):
        return tuple(stored), ()
    message = (
        f"the first part says that there are {said:,} tensors, and there are {len(stored):,}, which is what counts"
    )
    return tuple(stored), (Note("index-total", "", message),)
