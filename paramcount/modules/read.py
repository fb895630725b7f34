"""Reads an nn.Module, as it stands, into an Inventory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from paramcount.errors import BuildError
from paramcount.inventory import Buffer, Inventory, Module, Note, Param
from paramcount.modules.adapters import find_adapters
from paramcount.modules.attributes import class_name, definer
from paramcount.modules.failure import without_hash
from paramcount.modules.lightning_hooks import hook_notes
from paramcount.modules.names import Names, names_in, repeat_notes
from paramcount.modules.own_loading import find_special
from paramcount.modules.own_parameters import own_parameters_notes
from paramcount.modules.packed import packed_notes
from paramcount.modules.sharded import is_wrapped, plain_name, plain_type, sharded_notes, stored_weights
from paramcount.modules.stock import take_stock
from paramcount.modules.unregistered import find_unregistered
from paramcount.pause import paused_collector
from paramcount.units import exact, plural

_Tensor = TypeVar("_Tensor", bound=Tensor)
_Listed = TypeVar("_Listed", Param, Buffer)


@paused_collector()
def read(model: nn.Module, *, target: str, source: str) -> Inventory:
    """Return what ``model`` holds.

    Which parameters count is what ``model.named_parameters()`` says, by PyTorch's own rule: each tensor once, under
    its first name. Every other name of a tensor is listed too, tied to the first.

    Raises:
        BuildError: PyTorch itself cannot list what the model holds.

    """
    names = names_in(model)
    sightings = names.sightings
    places = [(sighting.name, sighting.module) for sighting in sightings]
    firsts = [place for place, sighting in zip(places, sightings, strict=True) if sighting.same_as is None]
    # What tensors there are is asked of the model only where it may say anything else than its registries do.
    asks = not _is_named_by_pytorch(model, firsts)
    asked, asked_buffers = _asked(model, firsts) if asks else ([], [])
    stock = take_stock(places, stored_weights(nn.Module.modules(model)))
    named, named_buffers = _named(asked, names, stock.taken), _named(asked_buffers, names, stock.taken)
    first_names, first_buffers = _first_names(named), _first_names(named_buffers)

    params: dict[str, Param] = {}
    buffers: dict[str, Buffer] = {}
    counted: list[tuple[str, Tensor]] = []
    forms = _Forms()
    written = names.written
    for place, module in places:
        prefix = f"{place}." if place else ""
        for stocked in stock.params.get(place, ()):
            params[stocked.name] = stocked
        # The registries themselves: unlike named_parameters() they have every name.
        for key, param in module._parameters.items():  # noqa: SLF001
            if param is None or id(param) in stock.taken:
                continue
            name = written[place, key] if written else prefix + key
            first = first_names.get(id(param)) if asks else first_names.setdefault(id(param), name)
            if first is not None and name not in params:
                params[name] = _param(name, param, first, forms)
                if first == name:
                    counted.append((name, param))
        for key, buffer in module._buffers.items():  # noqa: SLF001
            if buffer is None or id(buffer) in stock.taken:
                continue
            name = written[place, key] if written else prefix + key
            first = first_buffers.get(id(buffer)) if asks else first_buffers.setdefault(id(buffer), name)
            if first is not None:
                is_persistent = key not in module._non_persistent_buffers_set  # noqa: SLF001
                buffers[name] = _buffer(name, buffer, first, forms, persistent=is_persistent)
    if asks and not params.keys() >= set(first_names.values()):
        # The model has a named_parameters() of its own, with names of its own: those are the names.
        counted = [(name, tensor) for name, tensor in named if first_names[id(tensor)] == name]
        params = {name: _param(name, tensor, first_names[id(tensor)], forms) for name, tensor in named}
        params.update((param.name, param) for param in stock.all_params())
    if asks and not buffers.keys() >= set(first_buffers.values()):
        buffers = {name: _buffer(name, tensor, first_buffers[id(tensor)], forms) for name, tensor in named_buffers}

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
        params=_with_keys(params, names.keys),
        buffers=_with_keys(buffers, names.keys),
        overhead=stock.overhead,
        notes=(
            *names.notes,
            *own_parameters_notes(firsts, [tensor for _, tensor in asked] if asks else None),
            *hook_notes(firsts),
            *packed_notes(stock.all_params()),
            *sharded_notes(stock),
            *of_adapters,
            *_uninitialized_notes(firsts, params.values()),
            *find_unregistered(firsts, first_names.keys() | stock.taken),
            *_shared_storage_notes(counted),
            *(_pruned_notes(firsts) if any(name.endswith("_mask") for name in buffers) else ()),
            *repeat_notes(sightings),
        ),
        special=tuple(find_special([(sighting.plain, sighting.module) for sighting in sightings], model)),
    )


def _is_named_by_pytorch(model: nn.Module, modules: Iterable[tuple[str, nn.Module]]) -> bool:
    """Whether ``model.named_parameters()`` is PyTorch's own in all that it does: no need to ask it then."""
    kinds = {type(module) for _, module in modules}
    return (
        all(definer(type(model), method) is nn.Module and method not in vars(model) for method in _NAMING)
        and all(
            definer(kind, "named_modules") is nn.Module
            and definer(kind, "__hash__") is object
            and not issubclass(kind, torch.jit.ScriptModule)
            for kind in kinds
        )
        and not any("named_modules" in vars(module) for _, module in modules)
        and not is_wrapped(model)
    )


# All but the names of modules, which each module has a say in.
_NAMING = ("named_parameters", "named_buffers", "_named_members")
_MOST_NAMED = 1_000_000  # tensors that a model may name, before it is taken to name them without end

_Named = list[tuple[str, _Tensor]]


def _asked(model: nn.Module, modules: Sequence[tuple[str, nn.Module]]) -> tuple[_Named[Tensor], _Named[Tensor]]:
    """Return the parameters and the buffers, as the model's own methods name them."""
    try:
        params: _Named[Tensor] = list(islice(model.named_parameters(), _MOST_NAMED))
        buffers = list(islice(model.named_buffers(), _MOST_NAMED))
    except TypeError:
        for place, module in modules:
            if (said := without_hash(type(module))) is not None:
                kind = class_name(type(module))
                where = f"{place}, of class {kind}," if place else f"its class {kind}"
                problem = f"PyTorch cannot list what it holds: {where} has no hash, because {said[0]}"
                raise BuildError(problem, hint=said[1]) from None
        raise
    for method, named in (("named_parameters", params), ("named_buffers", buffers)):
        if len(named) == _MOST_NAMED:
            raise BuildError(f"the {method}() of {class_name(type(model))} does not end")
    return params, buffers


def _named(asked: _Named[_Tensor], names: Names, taken: Set[int]) -> _Named[_Tensor]:
    """Return tensors under names of which no two are the same."""
    found: dict[str, _Tensor] = {}
    for said, tensor in asked:
        if id(tensor) in taken:
            continue
        plain = plain_name(said)
        name = names.by_tensor.get((id(tensor), plain), plain) or "''"
        while found.get(name, tensor) is not tensor:
            name = f"'{name}'"
        found[name] = tensor
    return list(found.items())


def _first_names(named: _Named[_Tensor]) -> dict[int, str]:
    first_names: dict[int, str] = {}
    for name, tensor in named:
        first_names.setdefault(id(tensor), name)
    return first_names


def _with_keys(tensors: Mapping[str, _Listed], keys: Mapping[str, str]) -> tuple[_Listed, ...]:
    """Return the tensors, with PyTorch's name where it is written otherwise."""
    if not keys:
        return tuple(tensors.values())
    return tuple(each._replace(key=keys.get(each.name)) for each in tensors.values())


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
            name = self[kind] = class_name(plain_type(kind))
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
