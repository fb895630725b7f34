"""Quantised weights, by whatever library: each counts as what it stands for, and its scales as overhead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from paramcount import wrapping
from paramcount.inventory import Note, Param
from paramcount.modules.stock import Holding, dtype_of, local_part, nbytes_of
from paramcount.units import exact, plural


def packed_weights(module: nn.Module) -> Iterator[Holding]:
    """Yield the quantised weights of one module, and what comes with them outside of PyTorch's registries.

    Which library made them is told by names alone: none is imported.
    """
    if type(module).__module__.startswith(_TORCH_AO):
        yield from _torch_ao(module)
    else:
        yield from _objects(module)
    params, buffers = module._parameters, module._buffers  # noqa: SLF001  # the registries themselves
    if isinstance(module, torch.jit.ScriptModule) or not (params or buffers):
        return  # a scripted module's registries are no dicts, and hold plain tensors
    if "qweight" in buffers and "scales" in buffers:
        yield from _packed_buffers(module)
    if "W_q" in params and isinstance(vars(module).get("meta"), dict):
        yield from _half_quadratic(module)
    if len(params) > 1 and any(key.endswith(_SCALES) for key in params):
        yield from _scaled(module)
    yield from _in_pairs(module)
    kinds = set(map(type, params.values())) - _PLAIN
    if any(hasattr(kind, "__tensor_flatten__") for kind in kinds):
        yield from _subclasses(module)
    if "quant_state" in vars(module) or any(kind.__name__ in _OF_BITSANDBYTES for kind in kinds):
        yield from _bitsandbytes(module)


def may_hold_packed_buffers(module: nn.Module) -> bool:
    """Whether there may be quantised weights in a module that has none among its parameters."""
    kind: Any = type(module)
    return (
        "qweight" in module._buffers  # noqa: SLF001
        or _is_of_packed(kind)
        or _PACKED_OBJECT in map(type, vars(module).values())
    )


@lru_cache(maxsize=1024)
def _is_of_packed(kind: type) -> bool:
    return kind.__module__.startswith(_TORCH_AO) or issubclass(kind, torch.jit.ScriptModule)


_PLAIN = {nn.Parameter, type(None)}
_PACKED_OBJECT = torch.ScriptObject
_OF_BITSANDBYTES = ("Params4bit", "Int8Params")
_TORCH_AO = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.sparse.quantized")
_BY_CHANNEL = (torch.per_channel_affine, torch.per_channel_symmetric, torch.per_channel_affine_float_qparams)
_RECURRENT = "torch.ao.nn.quantized.dynamic.modules.rnn"
# The attributes of torch.ao's modules that hold packed objects: a script does not list its own.
_OBJECTS = ("_packed_params", "_packed_weight", "param", "_packed_weight_ih", "_packed_weight_hh")
_OF_A_GRAPH = re.compile(r"self\.(\w*_packed_weight_[0-9]+)\b")  # as torch.ao calls those of functions in its code


def packed_notes(params: Iterable[Param]) -> Iterator[Note]:
    """Note that quantised weights are part of a count, which ``named_parameters()`` would not show so."""
    packed = [param for param in params if param.packed and param.tied_to is None]
    known = [param for param in packed if param.numel is not None]
    if known:
        elements = exact(sum(param.numel or 0 for param in known))
        tensors = plural(len(known), "tensor")
        message = f"{tensors} of quantised layers, {elements} elements, count as what they stand for"
        yield Note("packed", "", message)
    for param in packed:
        if param.numel is None:
            yield Note("packed", param.name, "its quantised form does not say its size: totals are lower bounds")


def _torch_ao(module: nn.Module) -> Iterator[Holding]:
    """Read a module of PyTorch's own, which has its weights in all but the registry.

    Methods return them, of all but recurrent ones. An object is in a module of its own, too, below such a layer.
    """
    if type(module).__module__ == _RECURRENT:
        yield from _objects(module)
        return
    for key in ("weight", "bias"):
        unpack = getattr(module, key, None)
        tensor = unpack() if callable(unpack) else None
        if isinstance(tensor, Tensor):
            yield _unpacked(key, tensor)


def _unpacked(key: str, tensor: Tensor) -> Holding:
    overhead = {}
    if tensor.is_quantized and tensor.qscheme() in _BY_CHANNEL:
        scales, zero_points = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
        overhead = {f"{key}.scales": scales, f"{key}.zero_points": zero_points}
    return Holding(key, tuple(tensor.shape), dtype_of(tensor), nbytes_of(tensor), tensor.is_quantized, overhead)


def _objects(module: nn.Module) -> Iterator[Holding]:
    """Read the objects in which a recurrent layer, a script or a graph keeps weights as operators take them.

    What cannot be unpacked is a parameter of unknown size.
    """
    for attribute, packed in _packed_objects(module):
        parts = _within(packed)
        for name, tensor in parts.items():
            yield _unpacked(wrapping.packed_key(attribute, name), tensor)
        if not any(name.startswith("weight") for name in parts):
            yield Holding(attribute, None, "qint8", None)


def _packed_objects(module: nn.Module) -> Iterator[tuple[str, Any]]:
    if isinstance(module, torch.jit.ScriptModule):
        scripted: Any = module._c  # noqa: SLF001  # has attributes that are no tensors and no modules
        of_a_graph = _OF_A_GRAPH.findall(module.code) if module.original_name.startswith("GraphModule") else ()
        held = {key: scripted.getattr(key) for key in (*_OBJECTS, *of_a_graph) if scripted.hasattr(key)}
    else:
        held = vars(module)
    for key, value in held.items():
        if type(value) is torch.ScriptObject and wrapping.is_packer(value._type().qualified_name()):  # noqa: SLF001
            yield key, value


def _within(packed: Any) -> dict[str, Tensor]:
    """Return the tensors in a packed object, which it gives as its state to be saved."""
    try:
        state, _ = packed.__getstate__()
    except RuntimeError:  # its class has no such state
        return {}
    tensors, inner = [], []
    for value in _flat(state):
        if isinstance(value, torch.ScriptObject):
            inner.append(_within(value))
        elif isinstance(value, Tensor) and (value.is_quantized or value.is_floating_point()):
            tensors.append(value)
    return wrapping.packed_parts(tensors, inner, Tensor.dim)


def _flat(state: object) -> Iterator[object]:
    for value in state if isinstance(state, (tuple, list)) else (state,):
        if isinstance(value, (tuple, list)):
            yield from _flat(value)
        else:
            yield value


def _in_pairs(module: nn.Module) -> Iterator[Holding]:
    """Read parameters of floats of four bits, of which PyTorch has two in an element."""
    for key, param in module._parameters.items():  # noqa: SLF001
        if param is None or dtype_of(param) != wrapping.IN_PAIRS:
            continue
        if param.numel() and not hasattr(type(local_part(param)), "__tensor_flatten__"):
            shape = wrapping.apart(tuple(param.shape))
            yield Holding(key, shape, wrapping.IN_PAIRS, nbytes_of(param), sources=(param,))


def _subclasses(module: nn.Module) -> Iterator[Holding]:
    """Read parameters of a subclass that is made of several tensors, such as torchao's and quanto's."""
    for key, param in module._parameters.items():  # noqa: SLF001
        if param is None or not hasattr(type(param), "__tensor_flatten__"):
            continue
        here = local_part(param)
        if not (hasattr(type(here), "__tensor_flatten__") and here.numel()):
            continue
        parts = dict(_parts(here, key))
        data = wrapping.weights(parts)
        if not data:
            continue
        nbytes = sum(map(nbytes_of, data.values()))
        if nbytes < here.numel() * here.element_size():
            overhead = {place: part for place, part in parts.items() if place not in data}
            first = next(iter(data.values()))
            dtype = wrapping.stored_dtype(type(here).__name__, dtype_of(first), nbytes, here.numel())
            whole = nbytes * param.numel() // here.numel()
            yield Holding(key, tuple(param.shape), dtype, whole, overhead=overhead, sources=(param,))


def _parts(tensor: Any, place: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the plain tensors that a tensor is made of, with their names, by PyTorch's own protocol for that."""
    if not hasattr(type(tensor), "__tensor_flatten__"):
        yield place, tensor
        return
    names, _ = tensor.__tensor_flatten__()
    for name in names:
        yield from _parts(getattr(tensor, name), f"{place}.{name}")


def _bitsandbytes(module: nn.Module) -> Iterator[Holding]:
    """Read parameters of bitsandbytes, which are plain until they are moved to a device, and only then quantised.

    FSDP takes the class and the state off a 4-bit weight; the module keeps that then.
    """
    for key, param in module._parameters.items():  # noqa: SLF001
        if param is None:
            continue
        state = getattr(param, "quant_state", None) or (vars(module).get("quant_state") if key == "weight" else None)
        if state is not None and getattr(state, "shape", None):
            plain = Holding(key, tuple(param.shape), dtype_of(param), nbytes_of(param), sources=(param,))
            yield _four_bit(plain, state)
        elif type(param).__name__ == "Int8Params" and dtype_of(param) == "int8":
            scales = getattr(param, "SCB", None)
            if scales is None:  # a first forward takes them off the weight
                scales = getattr(vars(module).get("state"), "SCB", None)
            overhead = {} if scales is None else {f"{key}.SCB": scales}
            yield Holding(key, tuple(param.shape), "int8", param.numel(), overhead=overhead, sources=(param,))


def in_four_bits(module: nn.Module, weight: Holding) -> Holding:
    """Return a weight, which FSDP has taken to pieces, as what it stands for if the module says it is quantised."""
    state = vars(module).get("quant_state") if weight.key == "weight" else None
    return weight if state is None or not getattr(state, "shape", None) else _four_bit(weight, state)


def _four_bit(stored: Holding, state: Any) -> Holding:
    """Return what a stored tensor stands for, by the state that bitsandbytes keeps beside it."""
    shape, overhead = tuple(state.shape), {f"{stored.key}.{name}": part for name, part in _state_parts(state)}
    share = stored.share
    if share is not None and stored.shape is not None:
        share = replace(share, local=share.local * prod(shape) // prod(stored.shape))
    return replace(stored, shape=shape, dtype=state.quant_type, packed=True, overhead=overhead, share=share)


def _state_parts(state: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield what a quantised weight keeps beside itself, under the names it has in a checkpoint."""
    nested = getattr(state, "state2", None)
    parts = {"absmax": state.absmax, "quant_map": state.code, "nested_offset": getattr(state, "offset", None)}
    if nested is not None:
        parts |= {"nested_absmax": nested.absmax, "nested_quant_map": nested.code}
    for name, part in parts.items():
        if isinstance(part, Tensor):
            yield name, part


def _packed_buffers(module: nn.Module) -> Iterator[Holding]:
    """Read a linear layer of the GPTQ or the AWQ kind: packed integers, scales and zero points, all in buffers.

    Where it says neither how many features it has nor in how many bits it holds them, their sizes do: scales have a
    column for each feature that goes out, ``g_idx`` an element for each that comes in.
    """
    buffers = {key: buffer for key, buffer in module._buffers.items() if buffer is not None}  # noqa: SLF001
    weight, scales = buffers["qweight"], buffers["scales"]
    stored_bits = 8 * nbytes_of(weight)
    bits = _said(module, "bits", "w_bit", "wbits")
    leaving = _said(module, "out_features", "outfeatures") or scales.shape[-1]
    index = buffers.get("g_idx")
    entering = _said(module, "in_features", "infeatures") or (index.numel() if index is not None else 0)
    if not entering:
        # AWQ packs what goes out, so the other dimension is what comes in.
        entering = stored_bits // (bits * leaving) if bits else weight.shape[0]
    bits = bits or stored_bits // (entering * leaving)
    overhead = {key: buffer for key, buffer in buffers.items() if key in {"scales", "qzeros", "g_idx"}}
    yield Holding("weight", (leaving, entering), f"int{bits}", nbytes_of(weight), overhead=overhead, sources=(weight,))
    if (bias := buffers.get("bias")) is not None:
        yield Holding("bias", tuple(bias.shape), dtype_of(bias), nbytes_of(bias), packed=False, sources=(bias,))


def _said(module: nn.Module, *names: str) -> int:
    """Return the first of these attributes that is a whole number, or 0."""
    return next((value for name in names if type(value := getattr(module, name, None)) is int), 0)


def _half_quadratic(module: nn.Module) -> Iterator[Holding]:
    """Read a linear layer of HQQ: an integer parameter, and a dict of what it stands for."""
    meta: dict[str, Any] = vars(module)["meta"]
    weight = module._parameters["W_q"]  # noqa: SLF001
    shape = meta.get("shape")
    if weight is None or not shape:
        return
    overhead = {f"W_q.{key}": meta[key] for key in ("scale", "zero") if isinstance(meta.get(key), Tensor)}
    dtype = f"int{meta['nbits']}" if "nbits" in meta else dtype_of(weight)
    yield Holding("W_q", tuple(shape), dtype, nbytes_of(weight), overhead=overhead, sources=(weight,))
    bias = vars(module).get("bias")  # neither a parameter nor a buffer
    if isinstance(bias, Tensor):
        yield Holding("bias", tuple(bias.shape), dtype_of(bias), nbytes_of(bias), packed=False)


_SCALES = ("_scale", "_scales", "_scale_inv", "_zero_point")


def _scaled(module: nn.Module) -> Iterator[Holding]:
    """Read weights of one byte an element whose scales are parameters beside them: FP8 and int8 layers."""
    params = {key: param for key, param in module._parameters.items() if param is not None}  # noqa: SLF001
    for key, param in params.items():
        scales = {key + end: params[key + end] for end in _SCALES if key + end in params}
        if scales and type(param) is nn.Parameter and param.element_size() == 1:
            if "activation_scale" in params:
                scales["activation_scale"] = params["activation_scale"]
            yield Holding(key, tuple(param.shape), dtype_of(param), param.numel(), overhead=scales, sources=(param,))
