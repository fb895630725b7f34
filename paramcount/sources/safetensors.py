"""safetensors: one file, the index of several, or the folder that they are in; only headers are read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from paramcount.errors import UnknownTarget, UnreadableFile
from paramcount.files.configuration import beside
from paramcount.files.packed import Config
from paramcount.files.ranges import expanded, last, listed, opened, parent, within
from paramcount.files.safetensors import in_order, quoted, tensors
from paramcount.files.state_dict import Stored, inventory
from paramcount.inventory import Inventory, Note
from paramcount.jsons import MalformedJson, load
from paramcount.pause import paused_collector
from paramcount.routing import WrongRouting, parts, route, routings
from paramcount.sources import Target
from paramcount.units import plural
from paramcount.urls import is_url, is_web, shown, split

EXAMPLE = "model.safetensors, model.safetensors.index.json"
LIBRARIES = ()
IS_CATALOGUE = False
MEANING = "weights in safetensors, or the folder that they are in"

_FILE = ".safetensors"
_INDEX = ".safetensors.index.json"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<of>[0-9]{5})\.safetensors", re.DOTALL)
_OF_ANOTHER_KIND = re.compile(r".*\.(?:gguf|json|pt2?|pth|bin|ckpt|py)(?::.*)?", re.DOTALL)
_LONGEST_INDEX = 30_000_000  # bytes; one of 200,000 tensors takes 22,000,000
_NAMES_LISTED = 3


def claims(word: str) -> bool:
    """Whether the word has the form of such a file, or is a folder that holds one."""
    path = split(word).path
    if path.endswith((_FILE, _INDEX)):
        return path not in {_FILE, _INDEX}
    if is_url(word):  # a folder, if anything: who has read no content can only tell by the name
        return not is_web(word) and _OF_ANOTHER_KIND.fullmatch(path) is None
    return bool(_of_this_kind(listed(word) or []))


def names() -> Iterable[str]:
    """Return the files in the current folder."""
    return _of_this_kind(listed(".") or [])


def read(target: Target, name: str) -> Inventory:
    """Read the headers of a file, or of all shards; of no tensor is it known whether it trains.

    The format is described in ``paramcount.files.safetensors``; an index maps names to shards, as ``transformers``
    writes it: https://huggingface.co/docs/transformers/main/en/big_models#sharded-checkpoints.

    Raises:
        UnknownTarget: there is no such file.
        UsageError: arguments are given.
        UnreadableFile: a file cannot be read, breaks a rule of the format, or contradicts another.

    """
    target.demand_bare("a file of weights")
    with paused_collector():
        stored, notes = _read(name)
        config = cache(partial(beside, _inner(name)))
        counted = inventory(stored, target=target.word, source="safetensors", notes=notes, config=config)
        is_plain = not any(param.packed for param in counted.params)
        return replace(_routed(counted, config), form="bare state dict" if is_plain else "other")


def _routed(counted: Inventory, config: Config) -> Inventory:
    """Say what a token passes through, where the weights hold experts and the config beside them says how many."""
    if not any("experts" in param.name for param in counted.params):
        return counted
    try:
        return route(counted, routings(counted, parts(config() or {})))
    except (UnreadableFile, WrongRouting):  # a config that is broken, or of more experts than are in one of many shards
        return counted


_Read = tuple[list[Stored], tuple[Note, ...]]


def _inner(name: str) -> str:
    """Return the path of a file beside which the model's config is."""
    path = expanded(name)
    is_folder = not _is_named_file(path) if is_url(path) else listed(path) is not None
    return within(path, "") if is_folder else path


def _is_named_file(path: str) -> bool:
    return split(path).path.endswith((_FILE, _INDEX))


def _read(name: str) -> _Read:
    path = expanded(name)
    inside = None if is_url(path) and _is_named_file(path) else listed(path)  # which spares a store the question
    if inside is not None:
        return _folder(path, inside)
    if split(path).path.endswith(_INDEX):
        return _indexed(path)
    return _held(path), _one_of_several(path)


def _held(path: str) -> list[Stored]:
    with opened(path) as file:
        return tensors(file)


def _one_of_several(path: str) -> tuple[Note, ...]:
    shard = _SHARD.fullmatch(last(path))
    if shard is None or int(shard["of"]) <= 1:
        return ()
    message = f"this is shard {int(shard['number'])} of {int(shard['of'])}: name the folder to count them all"
    return (Note("left-out", "", message),)


# A folder -------------------------------------------------------------------------------------------------------------


def _of_this_kind(inside: Iterable[str]) -> list[str]:
    """Return the names of the files of this kind among those in a folder."""
    # A hidden one is another program's: macOS leaves ._model.safetensors beside model.safetensors.
    return sorted(name for name in inside if name.endswith((_FILE, _INDEX)) and not name.startswith("."))


def _folder(folder: str, inside: Iterable[str]) -> _Read:
    found = _of_this_kind(inside)
    indexes = [name for name in found if name.endswith(_INDEX)]
    files = [name for name in found if name.endswith(_FILE)]
    if len(indexes) > 1:
        raise UnreadableFile(f"{shown(folder)} holds {_listed(indexes)}: which is meant?", hint="name one of them")
    if indexes:
        return _indexed(within(folder, indexes[0]))
    if not files:
        others = [name for name in sorted(inside) if _OF_ANOTHER_KIND.fullmatch(name)]
        hint = f"it holds {_listed(others)}: name one of them" if others else None
        raise UnreadableFile(f"{shown(folder)} is a folder, and holds no safetensors file", hint=hint)
    _demand_complete(shown(folder), files)
    return _merged({name: _held(within(folder, name)) for name in files}, shown(folder)), ()


def _demand_complete(folder: str, files: Iterable[str]) -> None:
    """Demand that no shard is missing, where the names say how many there are."""
    present = set(files)
    for name in sorted(present):
        shard = _SHARD.fullmatch(name)
        for number in range(1, int(shard["of"]) + 1) if shard else ():
            expected = f"{shard['stem']}-{number:05}-of-{shard['of']}{_FILE}" if shard else ""
            if expected not in present:
                raise UnreadableFile(f"{folder} has no {expected}, and {name} is there", hint="fetch the missing shard")


def _merged(shards: Mapping[str, Iterable[Stored]], place: str) -> list[Stored]:
    """Return what all shards hold, each name once."""
    holders: dict[str, str] = {}
    for shard, stored in shards.items():
        for tensor in stored:
            first = holders.setdefault(tensor.name, shard)
            if first != shard:
                problem = f"{quoted(tensor.name)} is in {quoted(first)} and in {quoted(shard)}"
                raise UnreadableFile(f"{place}: {problem}", hint="name the one file to count")
    return in_order(tensor for stored in shards.values() for tensor in stored)


# An index -------------------------------------------------------------------------------------------------------------


def _indexed(path: str) -> _Read:
    """Return what the shards of an index hold; what it says itself is held against that."""
    place = shown(path)
    document = _document(path, place)
    shard_of = _weight_map(document, place)
    folder = parent(path)
    shards: dict[str, list[Stored]] = {}
    for name, shard in shard_of.items():
        if shard not in shards:
            _demand_inside(shard, name, place)
            try:
                shards[shard] = _held(within(folder, shard))
            except UnknownTarget as error:
                problem = f"the shard {quoted(shard)} is missing, which should hold {quoted(name)}"
                raise UnreadableFile(f"{place}: {problem}", hint="fetch the missing shard") from error
    _demand_held(shard_of, shards, place)
    stored = _merged(shards, place)
    notes = _total_note(document, stored), _unlisted_note(shard_of, stored), _beside_note(folder, shards)
    return stored, tuple(note for note in notes if note is not None)


def _document(path: str, place: str) -> Mapping[str, Any]:
    with opened(path) as file:
        if file.size > _LONGEST_INDEX:
            raise UnreadableFile(f"{place} is no index of shards: it is {file.size:,} bytes long")
        data = file.read(0, file.size)
    try:
        document = load(data)
    except MalformedJson as error:
        raise UnreadableFile(f"{error.place(place)}: {error.problem}") from error
    if not isinstance(document, dict):
        raise UnreadableFile(f"{place} is no index of shards: it is no mapping")
    return document


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
    said, held = metadata["total_size"], sum(tensor.nbytes for tensor in stored)
    if said == held and not isinstance(said, bool):
        return None
    message = f"the index says that the shards hold {_brief(said)} bytes, and they hold {held:,}, which is what counts"
    return Note("index-total", "", message)


def _unlisted_note(shard_of: Mapping[str, str], stored: Iterable[Stored]) -> Note | None:
    """Return what to say of tensors that shards hold beside those of the index: loaders load them, so they count."""
    unlisted = [tensor.name for tensor in stored if tensor.name not in shard_of]
    if not unlisted:
        return None
    message = f"the shards hold {plural(len(unlisted), 'tensor')} that the index does not list: {_listed(unlisted)}"
    return Note("index-unlisted", "", f"{message}; they count")


def _beside_note(folder: str, shards: Iterable[str]) -> Note | None:
    inside = _of_this_kind(listed(folder or ".") or [])
    beside = [name for name in inside if name not in set(shards) and name.endswith(_FILE)]
    if not beside:
        return None
    verb = "is" if len(beside) == 1 else "are"
    return Note("left-out", "", f"the index does not name {_listed(beside)}, which {verb} not counted")


def _listed(found: list[str]) -> str:
    more = len(found) - _NAMES_LISTED
    return ", ".join(map(quoted, found[:_NAMES_LISTED])) + (f" and {more} more" if more > 0 else "")


def _brief(value: object) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"{value:,}" if type(value) is int else quoted(value) if isinstance(value, str) else repr(value)
