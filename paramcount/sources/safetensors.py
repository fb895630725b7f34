"""safetensors: one file, the index of several, or the folder that they are in; only headers are read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache, partial

from paramcount.errors import UnreadableFile
from paramcount.files import shards
from paramcount.files.configuration import beside
from paramcount.files.packed import Config
from paramcount.files.ranges import expanded, listed, opened, within
from paramcount.files.safetensors import in_order, tensors
from paramcount.files.safetensors_folders import FILE, INDEX, below, of_this_kind, one_model
from paramcount.files.state_dict import Stored, inventory
from paramcount.inventory import Inventory, Note
from paramcount.pause import paused_collector
from paramcount.sources import Target
from paramcount.urls import is_url, is_web, shown, split

EXAMPLE = "model.safetensors, model.safetensors.index.json"
LIBRARIES = ()
IS_CATALOGUE = False
MEANING = "weights in safetensors, or the folder that they are in"

_OF_ANOTHER_KIND = re.compile(r".*\.(?:gguf|json|pt2?|pth|bin|ckpt|py)(?::.*)?", re.DOTALL)


def claims(word: str) -> bool:
    """Whether the word has the form of such a file, or is a folder that holds one."""
    path = split(word).path
    if path.endswith((FILE, INDEX)):
        return path not in {FILE, INDEX}
    if is_url(word):  # a folder, if anything: who has read no content can only tell by the name
        return not is_web(word) and _OF_ANOTHER_KIND.fullmatch(path) is None
    return bool(of_this_kind(listed(word) or []))


def names() -> Iterable[str]:
    """Return the files in the current folder."""
    return of_this_kind(listed(".") or [])


def read(target: Target, name: str) -> Inventory:
    """Read the headers of a file, or of all shards; of no tensor is it known whether it trains.

    The format is described in ``paramcount.files.safetensors``, that of an index in ``paramcount.files.shards``.

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
        is_plain = shards.PIECE not in notes and not any(param.packed for param in counted.params)
        return replace(_routed(counted, config), form="state dict" if is_plain else "other")


def _routed(counted: Inventory, config: Config) -> Inventory:
    """Say what a token passes through, where the weights hold experts and the config beside them says how many."""
    if not any("experts" in param.name for param in counted.params):
        return counted
    from paramcount.routing import WrongRouting, parts, route, routings

    try:
        return route(counted, routings(counted, parts(config() or {})))
    except (UnreadableFile, WrongRouting):  # a config that is broken, or of more experts than are in one of many shards
        return counted


def _inner(name: str) -> str:
    """Return the path of a file beside which the model's config is."""
    path = expanded(name)
    is_folder = not _is_named_file(path) if is_url(path) else listed(path) is not None
    return within(path, "") if is_folder else path


def _is_named_file(path: str) -> bool:
    return split(path).path.endswith((FILE, INDEX))


def _read(name: str) -> shards.Read:
    path = expanded(name)
    inside = None if is_url(path) and _is_named_file(path) else listed(path)  # which spares a store the question
    if inside is not None:
        return _folder(path, inside)
    if split(path).path.endswith(INDEX):
        return _indexed(path)
    stored = _held(path)
    if any(tensor.offset is not None for tensor in stored):
        return stored, (shards.PIECE,)
    return stored, shards.one_of_several(path)


def _held(path: str) -> list[Stored]:
    with opened(path) as file:
        return tensors(file)


def _indexed(path: str) -> shards.Read:
    stored, notes = shards.indexed(path, _held, lambda name: name.endswith(FILE) and not name.startswith("."))
    return in_order(stored), notes


# A folder -------------------------------------------------------------------------------------------------------------


def _folder(folder: str, inside: Iterable[str]) -> shards.Read:
    found = of_this_kind(inside)
    indexes = [name for name in found if name.endswith(INDEX)]
    files = [name for name in found if name.endswith(FILE)]
    if len(indexes) > 1:
        raise UnreadableFile(
            f"{shown(folder)} holds {shards.several(indexes)}: which is meant?", hint="name one of them"
        )
    beside = tuple(_beside(folder, inside))
    if indexes:
        stored, notes = _indexed(within(folder, indexes[0]))
        return stored, (*notes, *beside)
    if not files:
        others = [name for name in sorted(inside) if _OF_ANOTHER_KIND.fullmatch(name)]
        hint = f"it holds {shards.several(others)}: name one of them" if others else None
        raise UnreadableFile(f"{shown(folder)} is a folder, and holds no safetensors file", hint=hint)
    chosen = one_model(folder, files)
    if others := [name for name in files if name not in chosen]:
        beside = (shards.beside_note(chosen, others), *beside)
    shards.demand_complete(shown(folder), chosen)
    held = dict(zip(chosen, shards.each_held(folder, chosen, _held), strict=True))
    if any(tensor.offset is not None for stored in held.values() for tensor in stored):
        return in_order(shards.joined(held, shown(folder))), (shards.PIECES, *beside)
    return in_order(shards.merged(held, shown(folder))), beside


def _beside(folder: str, inside: Iterable[str]) -> Iterable[Note]:
    """Note what else there is: torch files of the same weights or of training, and what is in the folders below."""
    from paramcount.files.torch_folders import pickles

    if found := pickles(inside):
        verb = "is" if len(found) == 1 else "are"
        yield Note("left-out", "", f"what is counted are the safetensors; beside them {verb} {shards.several(found)}")
    yield from shards.below_note(below(folder, inside))
