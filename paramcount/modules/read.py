"""Reads an nn.Module, as it stands, into an Inventory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from paramcount.inventory import Buffer, Inventory, Module, Note, Param
from paramcount.modules.adapters import find_adapters
from paramcount.modules.own_loading import find_special
from paramcount.modules.packed import packed_notes
from paramcount.modules.sharded import (
    WRAPPED,
    is_wrapped,
    plain_name,
    plain_type,
    sharded_notes,
    stored_weights,
    unwrapped,
)
from paramcount.modules.stock import take_stock
from paramcount.modules.unregistered import find_unregistered
from paramcount.pause import paused_collector
from paramcount.units import exact, plural

# Modules listed again under further names before it is enough: sharing within sharing doubles them at each level.
_MOST_REPEATS = 20_000

_Tensor = TypeVar("_Tensor", bound=Tensor)


@paused_collector()
def read(model: nn.Module, *, target: str, source: str) -> Inventory:
    """Return what ``model`` holds.

    Which parameters count is what ``model.named_parameters()`` says, by PyTorch's own rule: each tensor once, under
    its first name. Every other name of a tensor is listed too, tied to the first.
    """
    sightings = list(_walk(model))
    places = [(sighting.name, sighting.module) for sighting in sightings]
    firsts = [place for place, sighting in zip(places, sightings, strict=True) if sighting.same_as is None]
    stock = take_stock(places, stored_weights(model.modules()))
    # What tensors there are is asked of the model only where it may say anything else than its registries do.
    asks = not _is_named_by_pytorch(model, firsts)
    named = _named(model.named_parameters(), stock.taken) if asks else []
    named_buffers = _named(model.named_buffers(), stock.taken) if asks else []
    first_names = {id(tensor): name for name, tensor in named}
    first_buffers = {id(tensor): name for name, tensor in named_buffers}

    params: dict[str, Param] = {}
    buffers: dict[str, Buffer] = {}
    counted: list[tuple[str, Tensor]] = []
    forms = _Forms()
    for place, module in places:
        prefix = f"{place}." if place else ""
        for stocked in stock.params.get(place, ()):
            params[stocked.name] = stocked
        # The registries themselves: unlike named_parameters() they have every name.
        for key, param in module._parameters.items():  # noqa: SLF001
            if param is None or id(param) in stock.taken:
                continue
            name = prefix + key
            first = first_names.get(id(param)) if asks else first_names.setdefault(id(param), name)
            if first is not None and name not in params:
                params[name] = _param(name, param, first, forms)
                if first == name:
                    counted.append((name, param))
        for key, buffer in module._buffers.items():  # noqa: SLF001
            if buffer is None or id(buffer) in stock.taken:
                continue
            name = prefix + key
            first = first_buffers.get(id(buffer)) if asks else first_buffers.setdefault(id(buffer), name)
            if first is not None:
                is_persistent = key not in module._non_persistent_buffers_set  # noqa: SLF001
                buffers[name] = _buffer(name, buffer, first, forms, persistent=is_persistent)
    if asks and not params.keys() >= set(first_names.values()):
        # The model has a named_parameters() of its own, with names of its own: those are the names.
        counted = [*named]
        params = {name: _param(name, tensor, name, forms) for name, tensor in counted}
        params.update((param.name, param) for param in stock.all_params())
    if asks and not buffers.keys() >= set(first_buffers.values()):
        buffers = {name: _buffer(name, tensor, name, forms) for name, tensor in named_buffers}

    params, of_adapters = find_adapters(places, params)
    type_names = _TypeNames()
    return Inventory(
        target,
        source,
        modules=tuple(
            Module(sighting.name, type_names.of(sighting.module), sighting.same_as)
            for sighting in sightings
            if not sighting.beneath_repeat
        ),
        params=tuple(params.values()),
        buffers=tuple(buffers.values()),
        overhead=stock.overhead,
        notes=(
            *packed_notes(stock.all_params()),
            *sharded_notes(stock),
            *of_adapters,
            *_uninitialized_notes(firsts, params.values()),
            *find_unregistered(firsts, first_names.keys() | stock.taken),
            *_shared_storage_notes(counted),
            *(_pruned_notes(firsts) if any(name.endswith("_mask") for name in buffers) else ()),
            *_repeat_notes(sightings),
        ),
        special=tuple(find_special(places, model)),
    )


def _is_named_by_pytorch(model: nn.Module, modules: Iterable[tuple[str, nn.Module]]) -> bool:
    """Whether ``model.named_parameters()`` is PyTorch's own in all that it does: no need to ask it then."""
    kinds = {type(module) for _, module in modules}
    return (
        all(_is_own(type(model), method) and method not in vars(model) for method in _NAMING)
        and all(
            _is_own(kind, "named_modules")
            and _is_own(kind, "__hash__")
            and not issubclass(kind, torch.jit.ScriptModule)
            for kind in kinds
        )
        and not any("named_modules" in vars(module) for _, module in modules)
        and not is_wrapped(model)
    )


# All but the names of modules, which each module has a say in.
_NAMING = ("named_parameters", "named_buffers", "_named_members")


def _is_own(kind: type[nn.Module], method: str) -> bool:
    return getattr(kind, method) is getattr(nn.Module, method)


def _named(tensors: Iterable[tuple[str, _Tensor]], taken: Set[int]) -> list[tuple[str, _Tensor]]:
    return [(plain_name(name), tensor) for name, tensor in tensors if id(tensor) not in taken]


class _Sighting(NamedTuple):
    """A module under one of its names."""

    name: str
    module: nn.Module
    same_as: str | None  # its first name, where this is another
    beneath_repeat: bool  # whether it is only here because a module above it is seen again
    above: _Sighting | None


def _walk(model: nn.Module) -> Iterator[_Sighting]:
    """Yield every module under every name, in the order of ``named_modules(remove_duplicate=False)``.

    Unlike that, it ends where modules refer to each other in a circle, and needs no recursion.
    """
    first_names: dict[int, str] = {}
    repeats = 0
    waiting: list[tuple[str, nn.Module, _Sighting | None]] = [("", model, None)]
    while waiting:
        name, module, above = waiting.pop()
        if WRAPPED in module._modules:  # noqa: SLF001  # the registry itself
            module = unwrapped(module)
        same_as = first_names.get(id(module))
        sighting = _Sighting(name, module, same_as, above is not None and above.same_as is not None, above)
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
        children = [(prefix + key, child, sighting) for key, child in module._modules.items() if child is not None]  # noqa: SLF001
        waiting.extend(reversed(children))


def _is_in_circle(sighting: _Sighting) -> bool:
    above = sighting.above
    while above is not None:
        if above.module is sighting.module:
            return True
        above = above.above
    return False


class _TypeNames(dict[type[nn.Module], str]):
    """The name of each kind of module that was met."""

    def of(self, module: nn.Module) -> str:
        kind = type(module)
        name = self.get(kind)
        if name is None:
            # A scripted module's own class says only that it is scripted.
            original = getattr(module, "original_name", None) if issubclass(kind, torch.jit.ScriptModule) else None
            if isinstance(original, str):
                return original
            name = self[kind] = plain_type(kind).__name__
        return name


# Shape (None: not known yet, or of a nested tensor, which has several), dtype, elements and bytes.
_Form = tuple[tuple[int, ...] | None, str, int | None, int | None]


class _Forms(dict[tuple[torch.Size, torch.dtype], _Form]):
    """What follows from a shape and a dtype, which most tensors share with another."""

    def of(self, tensor: Tensor) -> _Form:
        if type(tensor) in _PLAIN and not tensor.is_nested:
            return self[tensor.shape, tensor.dtype]
        if is_lazy(tensor):
            return None, _name(tensor.dtype), None, None
        numel = int(tensor.numel())  # as a subclass has it; of a fake tensor, a size may be a symbol, with a value
        return _form(None if tensor.is_nested else tuple(map(int, tensor.shape)), tensor.dtype, numel)

    def __missing__(self, form: tuple[torch.Size, torch.dtype]) -> _Form:
        shape, dtype = form
        known = self[form] = _form(tuple(shape), dtype, shape.numel())
        return known


_PLAIN = {nn.Parameter, Tensor}


def _form(shape: tuple[int, ...] | None, dtype: torch.dtype, numel: int) -> _Form:
    return shape, _name(dtype), numel, numel * dtype.itemsize


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _param(name: str, tensor: Tensor, first_name: str, forms: _Forms) -> Param:
    return Param(name, *forms.of(tensor), tensor.requires_grad, None if name == first_name else first_name)


def _buffer(name: str, tensor: Tensor, first_name: str, forms: _Forms, *, persistent: bool = True) -> Buffer:
    return Buffer(name, *forms.of(tensor), None if name == first_name else first_name, persistent)


def _uninitialized_notes(modules: Iterable[tuple[str, nn.Module]], params: Iterable[Param]) -> Iterator[Note]:
    if all(param.shape is not None for param in params):
        return
    for name, module in modules:
        lazy = [key for key, param in module._parameters.items() if param is not None and is_lazy(param)]  # noqa: SLF001
        if lazy:
            kind = _TypeNames().of(module)
            message = (
                f"{kind} has {plural(len(lazy), 'parameter')} without a shape before a first forward "
                f"({', '.join(lazy)}): totals are lower bounds; give it its sizes, or the model an --input"
            )
            yield Note("uninitialized", name, message)


class _Extent(NamedTuple):
    """Which bytes of a storage a parameter takes."""

    start: int
    position: int  # among the model's parameters
    stop: int
    name: str
    numel: int


def _shared_storage_notes(counted: Sequence[tuple[str, Tensor]]) -> Iterator[Note]:
    """Note parameters that are meant to be tied, but are two to PyTorch: ``nn.Parameter(other.weight)``."""
    storages = [_storage(tensor) for _, tensor in counted]
    if len(set(storages)) == len(storages):
        return
    stored = [
        (name, tensor, storage)
        for (name, tensor), storage in zip(counted, storages, strict=True)
        if storage is not None
    ]
    uses = Counter(storage for _, _, storage in stored)
    held: dict[int, list[_Extent]] = {}
    for position, (name, tensor, storage) in enumerate(stored):
        if uses[storage] > 1 and (extent := _extent(name, tensor, position)) is not None:
            held.setdefault(storage, []).append(extent)
    for extents in held.values():
        yield from _overlaps(sorted(extents))


def _extent(name: str, tensor: Tensor, position: int) -> _Extent | None:
    """Return what a tensor takes of its storage; None where it leaves gaps, or takes nothing."""
    start, numel, width = int(tensor.storage_offset()), tensor.numel(), tensor.element_size()
    reach = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    if numel == 0 or reach != numel:
        return None
    return _Extent(start * width, position, (start + numel) * width, name, numel)


def _overlaps(extents: list[_Extent]) -> Iterator[Note]:
    furthest = extents[0]
    for extent in extents[1:]:
        if extent.start < furthest.stop:
            other, one = sorted((furthest, extent), key=lambda each: each.position)
            sizes = f"{exact(one.numel)} each"
            if one.numel != other.numel:
                sizes = f"{exact(one.numel)}, and {exact(other.numel)}"
            message = (
                f"shares its memory with {other.name}, but is a parameter of its own: PyTorch counts both "
                f"({sizes}); to tie them, assign the same nn.Parameter"
            )
            yield Note("shared-storage", one.name, message)
        furthest = max(furthest, extent, key=lambda each: each.stop)


def _storage(tensor: Tensor) -> int | None:
    """Return what tells storages apart, meta ones too, which all have 0 for data_ptr(); None where there is none."""
    if type(tensor) not in _PLAIN and is_lazy(tensor):
        return None
    try:
        return int(tensor.untyped_storage()._cdata)  # noqa: SLF001
    except (RuntimeError, NotImplementedError):  # a tensor subclass without a storage of its own
        return None


def _pruned_notes(modules: list[tuple[str, nn.Module]]) -> Iterator[Note]:
    """Note tensors under a mask of torch.nn.utils.prune: all their elements are parameters still."""
    for name, module in modules:
        for key, mask in module._buffers.items():  # noqa: SLF001
            pruned = module._parameters.get(f"{key.removesuffix('_mask')}_orig") if key.endswith("_mask") else None  # noqa: SLF001
            if mask is None or pruned is None:
                continue
            off = "some" if mask.is_meta else exact(int((mask == 0).sum()))
            place = f"{name}.{key.removesuffix('_mask')}".removeprefix(".")
            message = (
                f"is pruned: {off} of its {plural(pruned.numel(), 'element')} are masked to 0, and all of them count"
            )
            yield Note("pruned", place, message)


def _repeat_notes(sightings: list[_Sighting]) -> Iterator[Note]:
    if sum(sighting.same_as is not None for sighting in sightings) == _MOST_REPEATS:
        yield Note(
            "repeats-cut",
            "",
            f"modules are shared so often that only the first {exact(_MOST_REPEATS)} repeats are listed",
        )
