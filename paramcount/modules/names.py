"""Names every module and tensor of a model as PyTorch does, and tells apart what PyTorch gives one name.

``setattr(model, "layer1.0.conv", layer)`` adds a child whose name has dots, beside the one at that path. PyTorch counts
both, and calls both the same. Here such a name is written in quotation marks, as ``'layer1.0.conv'.weight``, wherever
it would be taken for another thing's, or would lead into a module that does not hold it; so is an empty name, ``''``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import ProxyTypes

from torch import Tensor, nn

from paramcount.inventory import Note
from paramcount.modules.sharded import WRAPPED, unwrapped
from paramcount.units import exact

# Modules listed again under further names before it is enough: sharing within sharing doubles them at each level.
_MOST_REPEATS = 20_000


class Sighting(NamedTuple):
    """A module under one of its names."""

    name: str
    module: nn.Module
    same_as: str | None  # its first name, where this is another
    beneath_repeat: bool  # whether it is only here because a module above it is seen again
    above: Sighting | None
    key: str  # its name in the module above
    plain: str  # as named_modules() calls it


@dataclass(frozen=True, slots=True)
class Names:
    """All modules of a model, and what its tensors are called where that is not simply their place."""

    sightings: list[Sighting]
    written: Mapping[tuple[str, str], str] = field(default_factory=dict)  # by the module's name and the tensor's in it
    keys: Mapping[str, str] = field(default_factory=dict)  # how PyTorch calls what is written otherwise
    by_tensor: Mapping[tuple[int, str], str] = field(default_factory=dict)  # the written name, by id() and PyTorch's
    notes: tuple[Note, ...] = ()


def names_in(model: nn.Module) -> Names:
    """Return every module under every name, in the order of ``named_modules(remove_duplicate=False)``."""
    sightings = list(_walk(model))
    keys = {sighting.key for sighting in sightings}
    for sighting in sightings:
        module = sighting.module
        if module._parameters:  # noqa: SLF001  # the registries themselves
            keys.update(module._parameters.keys())  # noqa: SLF001
        if module._buffers:  # noqa: SLF001
            keys.update(module._buffers.keys())  # noqa: SLF001
    return _told_apart(sightings) if any("." in key or not key for key in keys) else Names(sightings)


_ROOT = "(the model itself)"


def _walk(model: nn.Module) -> Iterator[Sighting]:
    """Yield the modules. Unlike ``named_modules()`` this ends where they refer to each other in a circle."""
    first_names: dict[int, str] = {}
    repeats = 0
    waiting: list[tuple[str, str, nn.Module, Sighting | None]] = [("", _ROOT, model, None)]
    while waiting:  # not recursive: users nest deeper than Python's stack
        name, key, module, above = waiting.pop()
        if type(module) in ProxyTypes:  # as PyTorch takes it: for the module that it stands for
            module = module.__init__.__self__  # type: ignore[misc]
        if WRAPPED in module._modules:  # noqa: SLF001  # the registry itself
            module = unwrapped(module)
        same_as = first_names.get(id(module))
        sighting = Sighting(name, module, same_as, above is not None and above.same_as is not None, above, key, name)
        if same_as is None:
            first_names[id(module)] = name
        else:
            repeats += 1
            if repeats > _MOST_REPEATS:
                continue
        yield sighting
        if not module._modules or (same_as is not None and _is_in_circle(sighting)):  # noqa: SLF001
            continue
        prefix = f"{name}." if name else ""
        children = [(prefix + key, key, child, sighting) for key, child in module._modules.items() if child is not None]  # noqa: SLF001
        waiting.extend(reversed(children))


def _is_in_circle(sighting: Sighting) -> bool:
    above = sighting.above
    while above is not None:
        if above.module is sighting.module:
            return True
        above = above.above
    return False


def repeat_notes(sightings: Iterable[Sighting]) -> Iterator[Note]:
    """Note that sharing within sharing was not followed to its end."""
    if sum(sighting.same_as is not None for sighting in sightings) == _MOST_REPEATS:
        yield Note(
            "repeats-cut",
            "",
            f"modules are shared so often that only the first {exact(_MOST_REPEATS)} repeats are listed",
        )


# Names that stand for two things --------------------------------------------------------------------------------------


def _told_apart(plain: list[Sighting]) -> Names:
    """Return the modules with names of which each stands for one, and so for their tensors."""
    modules = Counter(sighting.plain for sighting in plain)
    tensors = Counter(name for sighting in plain for name, _, _ in _tensors(sighting))
    anew: dict[int, Sighting] = {}  # by id() of the sighting before
    firsts: dict[int, str] = {}
    taken: set[str] = set()
    written: dict[tuple[str, str], str] = {}
    keys: dict[str, str] = {}
    by_tensor: dict[tuple[int, str], str] = {}
    for sighting in plain:
        above = None if sighting.above is None else anew[id(sighting.above)]
        name = ""
        if above is not None:
            name = _free(above, sighting.key, modules, modules, taken)
        taken.add(name)
        here = sighting._replace(name=name, same_as=firsts.get(id(sighting.module)), above=above)
        firsts.setdefault(id(here.module), name)
        anew[id(sighting)] = here
        for full, key, tensor in _tensors(here):
            given = written[name, key] = _free(here, key, modules, tensors, set())
            if given != full:
                keys[given] = full
            by_tensor.setdefault((id(tensor), full), given)
    sightings = list(anew.values())
    return Names(sightings, written, keys, by_tensor, tuple(_notes(sightings, written)))


def _tensors(sighting: Sighting) -> Iterator[tuple[str, str, Tensor]]:
    """Yield a module's own tensors: PyTorch's name, the name in the module, and the tensor."""
    prefix = f"{sighting.plain}." if sighting.plain else ""
    for registry in (sighting.module._parameters, sighting.module._buffers):  # noqa: SLF001  # the registries themselves
        for key, tensor in registry.items():
            if tensor is not None:
                yield prefix + key, key, tensor


def _joined(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _free(holder: Sighting, key: str, modules: Mapping[str, int], same: Mapping[str, int], taken: Set[str]) -> str:
    """Return what to call something in a module: by its key, in quotation marks where that alone would mislead."""
    if not key or ("." in key and _misleads(holder.plain, key, modules, same)):
        key = f"'{key}'"
    while _joined(holder.name, key) in taken:
        key = f"'{key}'"
    return _joined(holder.name, key)


def _misleads(place: str, key: str, modules: Mapping[str, int], same: Mapping[str, int]) -> bool:
    """Whether a key with dots reads as the name of another thing, or of one that is in another module."""
    steps = key.split(".")
    above = (_joined(place, ".".join(steps[:stop])) for stop in range(1, len(steps)))
    return same[_joined(place, key)] > 1 or any(way in modules for way in above)


def _notes(sightings: list[Sighting], written: Mapping[tuple[str, str], str]) -> Iterator[Note]:
    """Note what is written otherwise than PyTorch has it, and what a state dict loses by it."""
    firsts = [sighting for sighting in sightings if sighting.same_as is None]
    owners: dict[str, dict[int, str]] = {}  # of each name that PyTorch gives: whose it is, by id()
    for sighting in firsts:
        for full, key, tensor in _tensors(sighting):
            if key not in sighting.module._non_persistent_buffers_set:  # noqa: SLF001
                owners.setdefault(full, {}).setdefault(id(tensor), written[sighting.name, key])
    lost = {name for each in owners.values() if len(each) > 1 for name in each.values()}
    for sighting in firsts:
        if sighting.above is not None and sighting.name != _joined(sighting.above.name, sighting.key):
            below = sum(name.startswith(f"{sighting.name}.") for name in lost)
            yield Note("name-twice", sighting.name, _message("module", sighting.key, below))
        for _, key, _ in _tensors(sighting):
            name = written[sighting.name, key]
            if name != _joined(sighting.name, key):
                yield Note("name-twice", name, _message("tensor", key, int(name in lost)))


def _message(kind: str, key: str, lost: int) -> str:
    named = f"this {kind}'s name, {key!r}, is no path, for all its dots" if key else f"this {kind}'s name is empty"
    cure = "to replace a layer by its path, set it on the module that holds it"
    if not lost:
        return f"{named}; it counts; {cure}"
    shared = "1 name is" if lost == 1 else f"{exact(lost)} names are"
    return f"{named}. To PyTorch {shared} also another tensor's: both count, and a state dict keeps one; {cure}"
