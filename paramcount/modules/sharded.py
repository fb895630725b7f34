"""Parameters of which each process holds a part: the whole of them, and this process's share, without communication."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import distributed, nn

from paramcount.inventory import Note
from paramcount.modules.packed import in_four_bits, may_hold_packed_buffers, packed_weights
from paramcount.modules.stock import Holding, Share, Stock, dtype_of, local_part, nbytes_of
from paramcount.units import exact, plural

_FSDP = "torch.distributed.fsdp"
# What FSDP, in its first form, puts between the name of a module and the names of what is in it.
WRAPPED = "_fsdp_wrapped_module"


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the user's own module where FSDP, in its first form, stands in its place."""
    while WRAPPED in module._modules:  # noqa: SLF001  # the registry itself
        module = module.get_submodule(WRAPPED)
    return module


def is_wrapped(model: nn.Module) -> bool:
    """Whether FSDP, in its first form, stands in the place of any of the model's modules."""
    return _FSDP in sys.modules and any(WRAPPED in module._modules for module in model.modules())  # noqa: SLF001


def plain_name(name: str) -> str:
    """Return a tensor's name without what FSDP adds to it."""
    return name.replace(f"{WRAPPED}.", "")


def plain_type(kind: type[nn.Module]) -> type[nn.Module]:
    """Return the user's own class where ``fully_shard()`` has put one with a name of its own in its place."""
    first, *bases = kind.__bases__
    return bases[0] if bases and first.__name__ == "FSDPModule" and first.__module__.startswith(_FSDP) else kind


def stored_weights(modules: Iterable[nn.Module]) -> Callable[[nn.Module], Iterable[Holding]]:
    """Return what reads, in any one of the modules, the weights that it does not simply hold.

    Nothing that it does involves another process.
    """
    flattened = _flattened_weights(modules) if _FSDP in sys.modules else {}

    def read(module: nn.Module) -> Iterable[Holding]:
        parts = flattened.get(id(module), [])
        return _weights(module, parts) if parts or not _is_plain(module) else ()

    return read


def _is_plain(module: nn.Module) -> bool:
    """Whether a module simply holds its weights: a quick answer for nearly all of them."""
    for param in module._parameters.values():  # noqa: SLF001  # the registry itself
        if param is not None and (
            type(param) is not nn.Parameter or param.dtype not in _COMPUTED_WITH or "ds_shape" in param.__dict__
        ):
            return False
    return not may_hold_packed_buffers(module)


_COMPUTED_WITH = frozenset({torch.float32, torch.bfloat16, torch.float16, torch.float64})


def _weights(module: nn.Module, parts: list[Holding]) -> Iterator[Holding]:
    done: set[int] = set()
    for part in parts:
        yield in_four_bits(module, part)
        done.update(map(id, part.sources))
    for weight in packed_weights(module):
        if done.isdisjoint(map(id, weight.sources)):
            yield _shared_out(weight)
        done.update(map(id, (*weight.sources, *weight.overhead.values())))
    for key, param in module._parameters.items():  # noqa: SLF001
        if param is None or id(param) in done:
            continue
        if "ds_shape" in vars(param):
            yield _partitioned(key, param)
        elif type(param) is not nn.Parameter and local_part(param) is not param:
            shape, nbytes = tuple(param.shape), nbytes_of(param)
            yield _shared_out(Holding(key, shape, dtype_of(param), nbytes, packed=False, sources=(param,)))


def _shared_out(weight: Holding) -> Holding:
    """Return the weight with this process's share of it, if it is made of a DTensor."""
    source: Any = weight.sources[0] if weight.sources else None
    if source is None or weight.shape is None or (here := local_part(source)) is source:
        return weight
    local = here.numel()
    if source.numel() != prod(weight.shape):  # packed, and then spread
        local = local * prod(weight.shape) // source.numel()
    mesh = source.device_mesh
    return replace(weight, share=Share(local, _mesh(mesh.size(), tuple(mesh.shape), mesh.mesh_dim_names)))


def _mesh(ranks: int, sizes: tuple[int, ...] = (), names: Iterable[str] | None = None) -> str:
    said = plural(ranks, "rank")
    if len(sizes) > 1:
        axes = [f"{name} {size}" for name, size in zip(names, sizes, strict=True)] if names else map(str, sizes)
        return f"{said} ({' × '.join(axes)})"
    return f"{said} ({', '.join(names)})" if names else said


def _partitioned(key: str, param: Any) -> Holding:
    """Read a parameter of DeepSpeed's ZeRO-3, which is empty but for what is noted on it.

    Its elements are split evenly in the order of ranks, filled up at the end.
    """
    shape = tuple(param.ds_shape)
    numel = prod(shape)
    each = numel if param.ds_tensor is None else param.ds_tensor.numel()
    rank, ranks = _place_in(getattr(param, "ds_process_group", None))
    local = max(0, min(each, numel - each * rank))
    nbytes = numel * param.element_size()
    share = Share(local, _mesh(ranks))
    return Holding(key, shape, dtype_of(param), nbytes, packed=False, sources=(param,), share=share)


def _place_in(group: Any) -> tuple[int, int]:
    """Return this process's rank in a group, and how many there are."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return max(0, distributed.get_rank(group)), max(1, distributed.get_world_size(group))


def _flattened_weights(modules: Iterable[nn.Module]) -> dict[int, list[Holding]]:
    """Return the parameters that FSDP, in its first form, has put end to end, by the ``id()`` of their module.

    https://docs.pytorch.org/docs/stable/fsdp.html: with ``use_orig_params`` each is still registered, but as what this
    process holds of it; without, only all of a wrapped module's together are, filled up at the end.
    """
    weights: dict[int, list[Holding]] = {}
    for module in modules:
        if WRAPPED in module._modules and (handle := vars(module).get("_handle")) is not None:  # noqa: SLF001
            for owner, weight in _unflattened(handle):
                weights.setdefault(id(owner), []).append(weight)
    return weights


def _unflattened(handle: Any) -> Iterator[tuple[nn.Module, Holding]]:
    flat, dtype = handle.flat_param, handle._orig_param_dtype  # noqa: SLF001  # nothing public says what is in it
    originals = flat._params or [flat] * len(flat._param_infos)  # noqa: SLF001
    weights = {}
    for part, info in enumerate(flat._param_infos):  # noqa: SLF001
        shape, held = tuple(flat._shapes[part]), flat._shard_param_infos[part]  # noqa: SLF001
        share = Share(held.numel_in_shard or 0, _mesh(handle.world_size))
        weights[id(info.module), info.param_name] = weight = Holding(
            info.param_name,
            shape,
            str(dtype).removeprefix("torch."),
            prod(shape) * dtype.itemsize,
            packed=False,
            sources=(flat, originals[part]),
            share=share,
            trainable=originals[part].requires_grad,
            part=part,
        )
        yield info.module, weight
    for number, info in enumerate(flat._shared_param_infos):  # noqa: SLF001
        weight = weights[id(info.prim_module), info.prim_param_name]
        further = flat._shared_params[number : number + 1] if flat._shared_params else []  # noqa: SLF001
        yield info.module, replace(weight, key=info.param_name, sources=(*weight.sources, *further))


def sharded_notes(stock: Stock) -> Iterator[Note]:
    """Note that the counts are of the whole, where this process holds a part."""
    spread = [param for param in stock.all_params() if param.local is not None and param.tied_to is None]
    if spread:
        total, local = sum(param.numel or 0 for param in spread), sum(param.local or 0 for param in spread)
        message = (
            f"spread over {', '.join(stock.meshes)}: the counts are of the whole, "
            f"and this rank holds {exact(local)} of its {plural(total, 'element')}"
        )
        yield Note("sharded", "", message)
