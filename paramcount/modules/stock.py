"""Weights that a module does not keep as it computes with them: quantised, or in part on other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from torch import Tensor, nn

from paramcount.inventory import Buffer, Param


@dataclass(frozen=True, slots=True)
class Share:
    """What one process holds of a weight."""

    local: int  # elements
    mesh: str  # over what it is spread: "4 ranks (dp 2 × tp 2)"


@dataclass(frozen=True, slots=True)
class Holding:
    """A weight of a module, as it is computed with, and what of it is stored."""

    key: str  # its name in the module
    shape: tuple[int, ...] | None  # of the whole of what it stands for; None: nothing says so
    dtype: str  # of what is stored: "nf4", "int4", "qint8"
    nbytes: int | None  # of the whole
    packed: bool = True
    overhead: Mapping[str, Tensor] = field(default_factory=dict)  # scales and the like, by their names in the module
    sources: tuple[Tensor, ...] = ()  # the registered tensors that it is made of
    share: Share | None = None  # None: this process holds all of it
    trainable: bool | None = None  # None: as the first of its sources
    part: int | None = None  # which part of the first of its sources it is, where that holds several weights


@dataclass(frozen=True, slots=True)
class Stock:
    """All such weights of a model."""

    params: dict[str, list[Param]]  # by the module's name; tied ones too
    overhead: tuple[Buffer, ...]
    taken: frozenset[int]  # ``id()`` of registered tensors that are accounted for: no parameters or buffers any more
    meshes: tuple[str, ...]  # over what weights are spread

    def all_params(self) -> Iterator[Param]:
        """Yield them, module by module."""
        for held in self.params.values():
            yield from held


def take_stock(modules: Iterable[tuple[str, nn.Module]], read: Callable[[nn.Module], Iterable[Holding]]) -> Stock:
    """Gather what ``read`` finds in each of the modules.

    Args:
        modules: each under each of its names.
        read: returns what there is in one module itself, not in those below.

    """
    params: dict[str, list[Param]] = {}
    overhead: list[Buffer] = []
    taken: set[int] = set()
    firsts: dict[tuple[int, object], str] = {}  # the first name of each tensor, or part of one, or part of a module
    meshes: dict[str, None] = {}
    found: dict[int, tuple[Holding, ...]] = {}
    for name, module in modules:
        weights = tuple(read(module))
        if not weights:
            continue
        weights = found.setdefault(id(module), weights)  # of a module under a further name, the same tensors
        prefix = f"{name}." if name else ""
        for weight in weights:
            params.setdefault(name, []).append(_param(prefix + weight.key, module, weight, firsts))
            for key, tensor in weight.overhead.items():
                overhead.append(_overhead(prefix + key, tensor, firsts))
            if weight.share is not None:
                meshes[weight.share.mesh] = None
            taken.update(map(id, (*weight.sources, *weight.overhead.values())))
    return Stock(params, tuple(overhead), frozenset(taken), tuple(meshes))


def _param(name: str, module: nn.Module, weight: Holding, firsts: dict[tuple[int, object], str]) -> Param:
    source = weight.sources[0] if weight.sources else None
    first = firsts.setdefault((id(module), weight.key) if source is None else (id(source), weight.part), name)
    trainable = weight.trainable
    if trainable is None:
        trainable = isinstance(source, nn.Parameter) and source.requires_grad
    return Param(
        name,
        weight.shape,
        weight.dtype,
        None if weight.shape is None else prod(weight.shape),
        weight.nbytes,
        trainable,
        tied_to=None if first == name else first,
        packed=weight.packed,
        local=None if weight.share is None else weight.share.local,
    )


def _overhead(name: str, tensor: Tensor, firsts: dict[tuple[int, object], str]) -> Buffer:
    first = firsts.setdefault((id(tensor), None), name)
    tied_to = None if first == name else first
    return Buffer(name, tuple(tensor.shape), dtype_of(tensor), tensor.numel(), nbytes_of(tensor), tied_to)


def local_part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a DTensor, and any other tensor as it is; nothing is communicated."""
    part = getattr(tensor, "_local_tensor", None)
    return part if isinstance(part, Tensor) else tensor


def dtype_of(tensor: Tensor) -> str:
    """Return the name of a tensor's dtype: "float32", without "torch."."""
    return str(tensor.dtype).removeprefix("torch.")


def nbytes_of(tensor: Tensor) -> int:
    """Return the bytes that a tensor's elements take."""
    return tensor.numel() * tensor.element_size()
