"""Weights in several files: what the index of them, or their names, say of how they belong together."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from math import prod
from operator import add
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from paramcount.errors import UnknownTarget, UnreadableFile
from paramcount.files.configuration import mapping
from paramcount.files.ranges import last, listed, parent, within
from paramcount.files.safetensors import quoted
from paramcount.files.stored import Stored
from paramcount.inventory import Note
from paramcount.units import plural
from paramcount.urls import is_url, shown

Held = Callable[[str], list[Stored]]  # returns what the file at a path holds
Read = tuple[list[Stored], tuple[Note, ...]]

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<of>[0-9]{5})(?P<ending>\.[a-z]+)", re.DOTALL)
_LONGEST_INDEX = 30_000_000  # bytes; one of 200,000 tensors takes 22,000,000
_NAMES_LISTED = 3


def one_of_several(path: str) -> tuple[Note, ...]:
    """Return what to say of a file whose name says that it is one of several."""
    shard = _SHARD.fullmatch(last(path))
    if shard is None or int(shard["of"]) <= 1:
        return ()
    message = f"this is shard {int(shard['number'])} of {int(shard['of'])}: name the folder to count them all"
    return (Note("left-out", "", message),)


def stem(name: str) -> str | None:
    """Return what is before the number of a shard; None where the name is that of none."""
    shard = _SHARD.fullmatch(name)
    return shard and shard["stem"]


def beside_note(counted: Sequence[str], others: Sequence[str]) -> Note:
    """Return what to say of a folder of whose files some are not counted."""
    verb = "is" if len(others) == 1 else "are"
    return Note("left-out", "", f"what is counted is {several(counted)}; beside it {verb} {several(others)}")


def are_one(files: Iterable[str]) -> bool:
    """Whether files are shards of one model, by their names."""
    found = [_SHARD.fullmatch(name) for name in files]
    return len({None if shard is None else (shard["stem"], shard["of"], shard["ending"]) for shard in found}) == 1 and (
        found[0] is not None
    )


def demand_complete(folder: str, files: Iterable[str]) -> None:
    """Demand that no shard is missing, where the names say how many there are.

    Raises:
        UnreadableFile: one is.

    """
    present = set(files)
    for name in sorted(present):
        shard = _SHARD.fullmatch(name)
        for number in range(1, int(shard["of"]) + 1) if shard else ():
            expected = f"{shard['stem']}-{number:05}-of-{shard['of']}{shard['ending']}" if shard else ""
            if expected not in present:
                raise UnreadableFile(f"{folder} has no {expected}, and {name} is there", hint="fetch the missing shard")


def each_held(folder: str, names: Sequence[str], held: Held) -> Iterator[list[Stored]]:
    """Yield what each of the files in a folder holds; those that are far away are read several at once."""
    paths = [within(folder, name) for name in names]
    if not is_url(folder):
        return map(held, paths)
    from paramcount.files.together import outcomes

    return outcomes(held, paths)


def merged(shards: Mapping[str, Iterable[Stored]], place: str) -> list[Stored]:
    """Return what all shards hold, each name once.

    Raises:
        UnreadableFile: a name is in two of them.

    """
    holders: dict[str, str] = {}
    for shard, stored in shards.items():
        for tensor in stored:
            first = holders.setdefault(tensor.name, shard)
            if first != shard:
                problem = f"{quoted(tensor.name)} is in {quoted(first)} and in {quoted(shard)}"
                raise UnreadableFile(f"{place}: {problem}", hint="name the one file to count")
    return [tensor for stored in shards.values() for tensor in stored]


def joined(shards: Mapping[str, Iterable[Stored]], place: str) -> list[Stored]:
    """Return the tensors whose pieces are in several files, each whole.

    Raises:
        UnreadableFile: the pieces leave a hole.

    """
    pieces: dict[str, dict[tuple[int, ...], Stored]] = {}
    for stored in shards.values():
        for tensor in stored:
            pieces.setdefault(tensor.name, {})[tensor.offset or (0,) * len(tensor.shape)] = tensor
    return [_whole(list(each.items()), place) for each in pieces.values()]


def _whole(pieces: Sequence[tuple[tuple[int, ...], Stored]], place: str) -> Stored:
    first = pieces[0][1]
    ends = [tuple(map(add, offset, piece.shape)) for offset, piece in pieces]
    shape = tuple(map(max, zip(*ends, strict=True)))
    numel = sum(piece.numel for _, piece in pieces)
    if any(len(piece.shape) != len(first.shape) for _, piece in pieces) or numel != prod(shape):
        problem = f"the pieces of {quoted(first.name)} make no whole of {list(shape)}"
        raise UnreadableFile(f"{place}: {problem}", hint="fetch the missing files: each process saved one")
    return first._replace(shape=shape, numel=numel, nbytes=sum(piece.nbytes for _, piece in pieces), offset=None)


PIECE = Note(
    "left-out",
    "",
    "this is what one of several processes saved, and holds pieces of tensors: name the folder to count them whole",
)
PIECES = Note(
    "pieces",
    "",
    "each file has pieces of tensors, of one process, and none says how many processes there were:"
    " what is counted is whole if no file is missing",
)


def below_note(files: Sequence[str]) -> tuple[Note, ...]:
    """Return what to say of weights in the folders of the folder that is counted."""
    if not files:
        return ()
    verb = "is" if len(files) == 1 else "are"
    return (Note("left-out", "", f"in folders below {verb} {several(files)}: not counted"),)


# An index -------------------------------------------------------------------------------------------------------------


def indexed(path: str, held: Held, is_alike: Callable[[str], bool]) -> Read:
    """Return what the shards of an index hold; what it says itself is held against that.

    The form is that of transformers: https://huggingface.co/docs/transformers/main/en/big_models#sharded-checkpoints.

    Args:
        path: of the index.
        held: returns what a shard holds.
        is_alike: whether a file in the same folder has a name that a note is to give if the index does not.

    Raises:
        UnreadableFile: it is no index, or contradicts its shards; or one of them is missing, or is read in vain.

    """
    place = shown(path)
    document = mapping(path, "index of shards", most=_LONGEST_INDEX)
    shard_of = _weight_map(document, place)
    folder = parent(path)
    firsts: dict[str, str] = {}  # of each shard the first name that it should hold
    for name, shard in shard_of.items():
        if shard not in firsts:
            _demand_inside(shard, name, place)
            firsts[shard] = name
    shards: dict[str, list[Stored]] = {}
    each = each_held(folder, list(firsts), held)
    for shard, name in firsts.items():
        try:
            shards[shard] = next(each)
        except UnknownTarget as error:
            problem = f"the shard {quoted(shard)} is missing, which should hold {quoted(name)}"
            raise UnreadableFile(f"{place}: {problem}", hint="fetch the missing shard") from error
    _demand_held(shard_of, shards, place)
    stored = merged({shard: shards[shard] for shard in sorted(shards)}, place)
    notes = _total_note(document, stored), _unlisted_note(shard_of, stored), _beside_note(folder, shards, is_alike)
    return stored, tuple(note for note in notes if note is not None)


def _weight_map(document: Mapping[str, Any], path: str) -> dict[str, str]:
    found = document.get("weight_map")
    if not isinstance(found, dict):
        raise UnreadableFile(f"{path} is no index of shards: it has no mapping weight_map")
    for name, shard in found.items():
        if not isinstance(shard, str):
            raise UnreadableFile(f"{path}: weight_map says of {quoted(name)} no shard, but {_brief(shard)}")
    return found


def _demand_inside(shard: str, name: str, path: str) -> None:
    """Demand that a shard is in the folder of its index; whether it is a link there is the user's own affair."""
    parts = PurePosixPath(shard).parts + PureWindowsPath(shard).parts
    if not shard or ".." in parts or PurePosixPath(shard).is_absolute() or PureWindowsPath(shard).anchor:
        raise UnreadableFile(f"{path}: the shard {quoted(shard)} of {quoted(name)} is not in the index's folder")
    if "\0" in shard:
        raise UnreadableFile(f"{path}: the shard {quoted(shard)} of {quoted(name)} cannot be the name of a file")


def _demand_held(shard_of: Mapping[str, str], shards: Mapping[str, Iterable[Stored]], path: str) -> None:
    held = {shard: {tensor.name for tensor in stored} for shard, stored in shards.items()}
    for name, shard in shard_of.items():
        if name not in held[shard]:
            raise UnreadableFile(f"{path}: {quoted(name)} should be in {quoted(shard)}, which does not hold it")


def _total_note(document: Mapping[str, Any], stored: Iterable[Stored]) -> Note | None:
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or "total_size" not in metadata:
        return None
    tensors = list(stored)
    said, held = metadata["total_size"], sum(tensor.nbytes for tensor in tensors)
    # Of tensors that are tied, writers count all, or one.
    sizes: dict[Hashable, int] = {tensor.memory or tensor.name: tensor.nbytes for tensor in tensors}
    once = sum(sizes.values())
    if type(said) is int and said in {held, once}:
        return None
    message = f"the index says that the shards hold {_brief(said)} bytes, and they hold {held:,}, which is what counts"
    return Note("index-total", "", message)


def _unlisted_note(shard_of: Mapping[str, str], stored: Iterable[Stored]) -> Note | None:
    """Return what to say of tensors that shards hold beside those of the index: loaders load them, so they count."""
    unlisted = [tensor.name for tensor in stored if tensor.name not in shard_of]
    if not unlisted:
        return None
    message = f"the shards hold {plural(len(unlisted), 'tensor')} that the index does not list: {several(unlisted)}"
    return Note("index-unlisted", "", f"{message}; they count")


def _beside_note(folder: str, shards: Iterable[str], is_alike: Callable[[str], bool]) -> Note | None:
    named = set(shards)
    beside = sorted(name for name in listed(folder or ".") or [] if is_alike(name) and name not in named)
    if not beside:
        return None
    verb = "is" if len(beside) == 1 else "are"
    return Note("left-out", "", f"the index does not name {several(beside)}, which {verb} not counted")


def several(found: Sequence[str]) -> str:
    """Return names for a message, of many the first."""
    more = len(found) - _NAMES_LISTED
    return ", ".join(map(quoted, found[:_NAMES_LISTED])) + (f" and {more} more" if more > 0 else "")


def _brief(value: object) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"{value:,}" if type(value) is int else quoted(value) if isinstance(value, str) else repr(value)
