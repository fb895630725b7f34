"""A file that torch.save wrote: counted from its structure, and nothing in it is ever run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from paramcount.errors import UnknownTarget, UnreadableFile, closest, did_you_mean
from paramcount.files import deepspeed, state_dict, torch_archive, torch_modules
from paramcount.files.configuration import beside
from paramcount.files.packed import Config
from paramcount.files.pickles import MalformedPickle, Record
from paramcount.files.ranges import expanded, opened
from paramcount.files.torch_archive import Archive
from paramcount.files.torch_modules import Modules
from paramcount.files.torch_parts import Named, Part, Parts, memory, stored
from paramcount.files.torch_tensors import Tensors, fields
from paramcount.inventory import Inventory, Note
from paramcount.pause import paused_collector
from paramcount.sources import Target
from paramcount.units import exact, plural, size
from paramcount.urls import parted, shown

EXAMPLE = "model.pt, checkpoint.ckpt:state_dict"
LIBRARIES = ()
IS_CATALOGUE = False
MEANING = "a file of torch.save, never run; a dotted path picks a part of it"

_NAME = "torch_file"
_FORM = re.compile(r"(?P<file>.+?\.(?:pt|pth|bin|ckpt|pt2))(?::(?P<part>.+))?", re.DOTALL)
_ANY = re.compile(r"(?P<file>[^:]+)(?::(?P<part>.+))?", re.DOTALL)  # which only a prefix makes such a file
_PARTS_LISTED = 8


def claims(word: str) -> bool:
    """Whether the word ends as torch.save's files do, with or without the path of a part."""
    return parted(word, _FORM) is not None


def names() -> Iterable[str]:
    """Return such files in the current folder."""
    return sorted(path.name for path in Path.cwd().iterdir() if claims(path.name))


def read(target: Target, name: str) -> Inventory:
    """Read a checkpoint or a pickled module, without importing torch or reading any tensor's data.

    Raises:
        UnknownTarget: there is no such file, or no such part of it.
        UsageError: arguments are given.
        UnreadableFile: it is not what torch.save writes, or holds no weights.

    """
    named = parted(name, _FORM) or parted(name, _ANY)
    if named is None:
        raise UnknownTarget(f"{name!r} names no file of torch.save", hint=f"for example: {EXAMPLE}")
    target.demand_bare("a file")
    place, part = shown(named[0]), named[1]
    with opened(named[0]) as file:
        archive = torch_archive.read(file)
    try:
        with paused_collector():
            return _inventory(archive, place, part, target.word, partial(beside, expanded(named[0])))
    except MalformedPickle as error:
        raise UnreadableFile(f"{place}: {error}", hint=torch_archive.HINT) from error


def _inventory(archive: Archive, file: str, path: str | None, word: str, config: Config) -> Inventory:
    parts = Parts(archive.root, Modules(Tensors(), archive.code))
    part = parts.weights() if path is None else parts.at(path)
    if part is None:
        raise _no_weights(file, parts, archive) if path is None else _no_part(file, path, parts)
    notes = (*_left_out(file, part, parts), *_constants(archive)) if path is None else ()
    if isinstance(part.value, Record) and parts.modules.of(part.value):
        return torch_modules.read(part.value, parts.modules, target=word, source=_NAME, notes=notes)
    tensors = list(parts.tensors(part))
    buffers = _buffers(tensors)
    sharded: tuple[Note, ...] = ()
    if part.path == (deepspeed.WEIGHTS,) and (found := fields(parts.root)) is not None:
        tensors, sharded = deepspeed.whole(tensors, found)
        buffers = deepspeed.buffers(tensors, found) if buffers is None else buffers
    if not tensors and path is not None and fields(part.value) != {}:
        raise UnreadableFile(f"{file}: {path} holds no tensors", hint=_choices(file, parts))
    inventory = state_dict.inventory(
        [stored(each) for each in tensors],
        target=word,
        source=_NAME,
        buffers=buffers,
        notes=(*notes, *sharded, *_views(tensors)),
        config=config,
    )
    if sharded or any(param.packed for param in inventory.params):
        inventory = replace(inventory, form="other")
    else:
        inventory = replace(inventory, form="state dict" if _has_versions(part.value) else "bare state dict")
    return _with_lazy(inventory, {each.name for each in tensors if each.tensor.shape is None})


def _has_versions(value: object) -> bool:
    """Whether a state dict says which version of its modules wrote it: torch/nn/modules/module.py, state_dict().

    Version 2 is the one since which batch norm has a ``num_batches_tracked``.
    """
    attributes = fields(value.state) if isinstance(value, Record) else None
    versions = [fields(each) for each in (fields((attributes or {}).get("_metadata")) or {}).values()]
    return any(isinstance(of := (each or {}).get("version"), int) and of >= 2 for each in versions)  # noqa: PLR2004


def _no_weights(file: str, parts: Parts, archive: Archive) -> UnreadableFile:
    if archive.code:
        hint = "count the module itself, FILE.py:Net, or save its state_dict() by torch.save"
        return UnreadableFile(f"{file} is a TorchScript program whose modules cannot be told", hint=hint)
    return UnreadableFile(f"{file} holds no weights of a model", hint=_choices(file, parts))


def _with_lazy(inventory: Inventory, lazy: set[str]) -> Inventory:
    """Return the inventory with the parameters that had no shape yet as such."""
    if not lazy:
        return inventory
    message = f"had no shape yet when it was saved, as {plural(len(lazy) - 1, 'other')}: totals are lower bounds"
    params = (
        param._replace(shape=None, numel=None, nbytes=None) if param.name in lazy else param
        for param in inventory.params
    )
    return replace(inventory, params=tuple(params), notes=(*inventory.notes, Note("uninitialized", min(lazy), message)))


def _no_part(file: str, path: str, parts: Parts) -> UnknownTarget:
    near = [f"{file}:{each}" for each in closest(path, parts.paths())]
    return UnknownTarget(f"{file} has no part {path!r}", hint=did_you_mean(near) or _choices(file, parts))


def _choices(file: str, parts: Parts) -> str | None:
    found = [f"{file}:{key}" for key, value in parts.children(parts.root).items() if parts.holds_tensors(value)]
    return f"parts with tensors: {', '.join(found[:_PARTS_LISTED])}" if found else None


# Tensors --------------------------------------------------------------------------------------------------------------


def _buffers(tensors: list[Named]) -> frozenset[str] | None:
    """Return the names of buffers where parameters are marked as such, as by ``state_dict(keep_vars=True)``."""
    # A lazy parameter is kept as one by any state dict.
    if not any(each.tensor.is_parameter and each.tensor.shape is not None for each in tensors):
        return None
    return frozenset(each.name for each in tensors if not each.tensor.is_parameter)


# Notes ----------------------------------------------------------------------------------------------------------------


def _left_out(file: str, part: Part, parts: Parts) -> Iterable[Note]:
    beside = list(parts.beside(part))
    if not beside:
        return
    listed = [f"{path} ({_extent(tensors)})" for path, tensors in beside]
    more = len(listed) - _PARTS_LISTED
    names = ", ".join(listed[:_PARTS_LISTED]) + (f" and {exact(more)} more" if more > 0 else "")
    counted = f"what is counted is {'.'.join(part.path)}" if part.path else "what is counted are the weights"
    message = f"{counted}; left out: {names}. To count one of those, name it: {file}:{beside[0][0]}"
    yield Note("left-out", "", message)


def _extent(tensors: list[Named]) -> str:
    each = {memory(named): named.tensor for named in tensors}.values()
    elements = plural(sum(tensor.numel for tensor in each), "element")
    return f"{plural(len(each), 'tensor')}, {elements}, {size(sum(tensor.nbytes for tensor in each))}"


def _constants(archive: Archive) -> Iterable[Note]:
    if archive.constants:
        message = f"TorchScript keeps {size(archive.constants)} as constants in its code: no parameters to PyTorch"
        yield Note("left-out", "", message)


def _views(tensors: list[Named]) -> Iterable[Note]:
    """Note tensors that share memory, but are not the same tensor."""
    firsts: dict[str, Named] = {}
    for named in tensors:
        storage = named.tensor.storage
        if storage is None or not named.tensor.numel:
            continue
        first = firsts.setdefault(storage.key, named)
        if memory(first) != memory(named):
            message = f"is a view of the same storage as {first.name}, and not the same tensor: both count in full"
            yield Note("shared-storage", named.name, message)
