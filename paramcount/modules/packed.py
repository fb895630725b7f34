"""Quantised weights, wherever a library keeps them: each counts as what it stands for, its scales as overhead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from paramcount.inventory import Buffer, Note, Param
from paramcount.units import exact, plural


@dataclass(frozen=True, slots=True)
class Stored:
    """A weight that a module keeps in another form than it computes with, or where PyTorch does not see it."""

    key: str  # its name in the module
    shape: tuple[int, ...] | None  # of what it stands for; None: nothing says so
    dtype: str  # of what is stored: "nf4", "int4", "qint8"
    nbytes: int | None
    packed: bool = True
    overhead: Mapping[str, Tensor] = field(default_factory=dict)  # scales and the like, by their names in the module
    sources: tuple[Tensor, ...] = ()  # the registered tensors that it is made of


@dataclass(frozen=True, slots=True)
class Packed:
    """All quantised weights of a model."""

    params: dict[str, list[Param]]  # by the module's name; tied ones too
    overhead: tuple[Buffer, ...]
    taken: frozenset[int]  # ``id()`` of registered tensors that are accounted for: no parameters or buffers any more

    def notes(self) -> Iterator[Note]:
        """Note that quantised weights are part of a count, which ``named_parameters()`` would not show so."""
        params = [param for held in self.params.values() for param in held if param.packed and param.tied_to is None]
        known = [param for param in params if param.numel is not None]
        if known:
            elements = exact(sum(param.numel or 0 for param in known))
            tensors = plural(len(known), "tensor")
            yield Note(
                "packed", "", f"{tensors} of quantised layers, {elements} elements, count as what they stand for"
            )
        for param in params:
            if param.numel is None:
                yield Note("packed", param.name, "its quantised form does not say its size: totals are lower bounds")


def find_packed(modules: Iterable[tuple[str, nn.Module]]) -> Packed:
    """Return what the modules hold of quantised weights, by no more than their own attributes.

    Elements and shapes are those of the weights that are stood for, bytes as stored, without scales and zero points.

    Args:
        modules: each under each of its names.

    """
    params: dict[str, list[Param]] = {}
    overhead: list[Buffer] = []
    taken: set[int] = set()
    firsts: dict[tuple[int, str], str] = {}  # the first name of each tensor, and of each part of a module
    read: dict[int, list[Stored]] = {}
    for name, module in modules:
        if id(module) not in read:
            read[id(module)] = [weight for reader in _readers(module) for weight in reader(module)]
        if not read[id(module)]:
            continue
        prefix = f"{name}." if name else ""
        for weight in read[id(module)]:
            source = weight.sources[0] if weight.sources else None
            identity = (id(module), weight.key) if source is None else (id(source), "")
            trains = isinstance(source, nn.Parameter) and source.requires_grad
            params.setdefault(name, []).append(_param(prefix + weight.key, weight, firsts, identity, trainable=trains))
            for key, tensor in weight.overhead.items():
                overhead.append(_overhead(prefix + key, tensor, firsts))
            taken.update(map(id, (*weight.sources, *weight.overhead.values())))
    return Packed(params, tuple(overhead), frozenset(taken))


def _param(
    name: str, weight: Stored, firsts: dict[tuple[int, str], str], identity: tuple[int, str], *, trainable: bool
) -> Param:
    first = firsts.setdefault(identity, name)
    numel = None if weight.shape is None else prod(weight.shape)
    tied_to = None if first == name else first
    return Param(name, weight.shape, weight.dtype, numel, weight.nbytes, trainable, tied_to, weight.packed)


def _overhead(name: str, tensor: Tensor, firsts: dict[tuple[int, str], str]) -> Buffer:
    first = firsts.setdefault((id(tensor), ""), name)
    tied_to = None if first == name else first
    return Buffer(name, tuple(tensor.shape), _dtype(tensor), tensor.numel(), _nbytes(tensor), tied_to)


Reader = Callable[[nn.Module], Iterator[Stored]]


def _readers(module: nn.Module) -> Iterator[Reader]:
    """Yield what can read a module's quantised weights. No library is imported to find that out."""
    if type(module).__module__.startswith(_TORCH_AO):
        yield _torch_ao
    params, buffers = module._parameters, module._buffers  # noqa: SLF001  # the registries themselves
    if isinstance(module, torch.jit.ScriptModule) or not (params or buffers):
        return  # a scripted module's registries are no dicts, and hold plain tensors
    if "qweight" in buffers and "scales" in buffers:
        yield _packed_buffers
    if "W_q" in params and isinstance(vars(module).get("meta"), dict):
        yield _half_quadratic
    if len(params) > 1 and any(key.endswith(_SCALES) for key in params):
        yield _scaled
    kinds = set(map(type, params.values())) - _PLAIN
    if any(hasattr(kind, "__tensor_flatten__") for kind in kinds):
        yield _subclasses
    if "quant_state" in vars(module) or any(kind.__name__ in _OF_BITSANDBYTES for kind in kinds):
        yield _bitsandbytes


_PLAIN = {nn.Parameter, type(None)}
_OF_BITSANDBYTES = ("Params4bit", "Int8Params")
_TORCH_AO = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
_RECURRENT = "torch.ao.nn.quantized.dynamic.modules.rnn"


def _torch_ao(module: nn.Module) -> Iterator[Stored]:
    """Read a module of PyTorch's own, which has its weights in all but the registry.

    What a recurrent layer packs cannot be unpacked: it has a parameter of unknown size.
    """
    if type(module).__module__ == _RECURRENT and type(module).__name__ == "PackedParameter":
        yield Stored("param", None, "qint8", None)
        return
    for key in ("weight", "bias"):
        unpack = getattr(module, key, None)
        tensor = unpack() if callable(unpack) else None
        if isinstance(tensor, Tensor):
            overhead = {}
            if tensor.is_quantized and tensor.qscheme() in {torch.per_channel_affine, torch.per_channel_symmetric}:
                scales, zero_points = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
                overhead = {f"{key}.scales": scales, f"{key}.zero_points": zero_points}
            yield Stored(key, tuple(tensor.shape), _dtype(tensor), _nbytes(tensor), tensor.is_quantized, overhead)


# What tensor subclasses, those of torchao above all, call their parts that are no weights.
_PART_OF_SCALING = re.compile(r"scale|zero|factor|shift|offset|mean|codebook|lut|compensation|^nf4$")


def _subclasses(module: nn.Module) -> Iterator[Stored]:
    """Read parameters of a subclass that is made of several tensors, such as torchao's and quanto's."""
    for key, param in module._parameters.items():  # noqa: SLF001
        if param is None or not hasattr(type(param), "__tensor_flatten__"):
            continue
        # What a DTensor holds of one here, as a share of the whole.
        here = getattr(param, "_local_tensor", param)
        if not (hasattr(type(here), "__tensor_flatten__") and here.numel()):
            continue
        parts = dict(_parts(here, key))
        data = {place: part for place, part in parts.items() if not _PART_OF_SCALING.search(place.rpartition(".")[2])}
        if not data:
            continue
        nbytes = sum(map(_nbytes, data.values()))
        if nbytes < here.numel() * here.element_size():
            overhead = {place: part for place, part in parts.items() if place not in data}
            dtype = _stored_dtype(type(here).__name__, list(data.values()), here.numel())
            whole = nbytes * param.numel() // here.numel()
            yield Stored(key, tuple(param.shape), dtype, whole, overhead=overhead, sources=(param,))


def _parts(tensor: Any, place: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the plain tensors that a tensor is made of, with their names, by PyTorch's own protocol for that."""
    if not hasattr(type(tensor), "__tensor_flatten__"):
        yield place, tensor
        return
    names, _ = tensor.__tensor_flatten__()
    for name in names:
        yield from _parts(getattr(tensor, name), f"{place}.{name}")


def _stored_dtype(kind: str, data: list[Tensor], numel: int) -> str:
    bits, rest = divmod(8 * sum(map(_nbytes, data)), numel)
    if (said := re.search(r"NF4|FP4", kind)) and bits == 4:  # noqa: PLR2004
        return said[0].lower()
    is_dense = rest or bits >= 8 or data[0].is_floating_point()  # noqa: PLR2004  # bits of a byte
    return _dtype(data[0]) if is_dense else f"int{bits}"


def _bitsandbytes(module: nn.Module) -> Iterator[Stored]:
    """Read parameters of bitsandbytes, which are plain until they are moved to a device, and only then quantised.

    FSDP takes the class and the state off a 4-bit weight; the module keeps that then.
    """
    for key, param in module._parameters.items():  # noqa: SLF001
        if param is None:
            continue
        state = getattr(param, "quant_state", None) or (vars(module).get("quant_state") if key == "weight" else None)
        if state is not None and getattr(state, "shape", None):
            overhead = {f"{key}.{name}": part for name, part in _state_parts(state)}
            yield Stored(key, tuple(state.shape), state.quant_type, _nbytes(param), overhead=overhead, sources=(param,))
        elif type(param).__name__ == "Int8Params" and _dtype(param) == "int8":
            scales = getattr(param, "SCB", None)
            if scales is None:  # a first forward takes them off the weight
                scales = getattr(vars(module).get("state"), "SCB", None)
            overhead = {} if scales is None else {f"{key}.SCB": scales}
            yield Stored(key, tuple(param.shape), "int8", param.numel(), overhead=overhead, sources=(param,))


def _state_parts(state: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield what a quantised weight keeps beside itself, under the names it has in a checkpoint."""
    nested = getattr(state, "state2", None)
    parts = {"absmax": state.absmax, "quant_map": state.code, "nested_offset": getattr(state, "offset", None)}
    if nested is not None:
        parts |= {"nested_absmax": nested.absmax, "nested_quant_map": nested.code}
    for name, part in parts.items():
        if isinstance(part, Tensor):
            yield name, part


def _packed_buffers(module: nn.Module) -> Iterator[Stored]:
    """Read a linear layer of the GPTQ or the AWQ kind: packed integers, scales and zero points, all in buffers.

    Where it says neither how many features it has nor in how many bits it holds them, their sizes do: scales have a
    column for each feature that goes out, ``g_idx`` an element for each that comes in.
    """
    buffers = {key: buffer for key, buffer in module._buffers.items() if buffer is not None}  # noqa: SLF001
    weight, scales = buffers["qweight"], buffers["scales"]
    stored_bits = 8 * _nbytes(weight)
    bits = _said(module, "bits", "w_bit", "wbits")
    leaving = _said(module, "out_features", "outfeatures") or scales.shape[-1]
    index = buffers.get("g_idx")
    entering = _said(module, "in_features", "infeatures") or (index.numel() if index is not None else 0)
    if not entering:
        # AWQ packs what goes out, so the other dimension is what comes in.
        entering = stored_bits // (bits * leaving) if bits else weight.shape[0]
    bits = bits or stored_bits // (entering * leaving)
    overhead = {key: buffer for key, buffer in buffers.items() if key in {"scales", "qzeros", "g_idx"}}
    yield Stored("weight", (leaving, entering), f"int{bits}", _nbytes(weight), overhead=overhead, sources=(weight,))
    if (bias := buffers.get("bias")) is not None:
        yield Stored("bias", tuple(bias.shape), _dtype(bias), _nbytes(bias), packed=False, sources=(bias,))


def _said(module: nn.Module, *names: str) -> int:
    """Return the first of these attributes that is a whole number, or 0."""
    return next((value for name in names if type(value := getattr(module, name, None)) is int), 0)


def _half_quadratic(module: nn.Module) -> Iterator[Stored]:
    """Read a linear layer of HQQ: an integer parameter, and a dict of what it stands for."""
    meta: dict[str, Any] = vars(module)["meta"]
    weight = module._parameters["W_q"]  # noqa: SLF001
    shape = meta.get("shape")
    if weight is None or not shape:
        return
    overhead = {f"W_q.{key}": meta[key] for key in ("scale", "zero") if isinstance(meta.get(key), Tensor)}
    dtype = f"int{meta['nbits']}" if "nbits" in meta else _dtype(weight)
    yield Stored("W_q", tuple(shape), dtype, _nbytes(weight), overhead=overhead, sources=(weight,))
    bias = vars(module).get("bias")  # neither a parameter nor a buffer
    if isinstance(bias, Tensor):
        yield Stored("bias", tuple(bias.shape), _dtype(bias), _nbytes(bias), packed=False)


_SCALES = ("_scale", "_scales", "_scale_inv", "_zero_point")


def _scaled(module: nn.Module) -> Iterator[Stored]:
    """Read weights of one byte an element whose scales are parameters beside them: FP8 and int8 layers."""
    params = {key: param for key, param in module._parameters.items() if param is not None}  # noqa: SLF001
    for key, param in params.items():
        scales = {key + end: params[key + end] for end in _SCALES if key + end in params}
        if scales and type(param) is nn.Parameter and param.element_size() == 1:
            if "activation_scale" in params:
                scales["activation_scale"] = params["activation_scale"]
            yield Stored(key, tuple(param.shape), _dtype(param), param.numel(), overhead=scales, sources=(param,))


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _nbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
