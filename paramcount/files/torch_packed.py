"""Finds the quantised weights of a pickled module, where its library keeps them apart or hides how many they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from paramcount import wrapping
from paramcount.files.pickles import Global, Pairs, Record
from paramcount.files.torch_tensors import Tensor, Tensors, attributes, class_name, fields, sizes

_TORCH_AO = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "torch.ao.nn.sparse.quantized",
    "torch.nn.quantized",
    "torch.nn.intrinsic.quantized",
)
_RECURRENT = "quantized.dynamic.modules.rnn"  # whose modules keep packed objects alone
_OBJECT = Global("torch", "ScriptObject")  # as a pickle has it; TorchScript's own files name its class instead
_IN_OBJECT = re.compile(r"_packed_(?:params|weight)\w*\.|\b_all_weight_values\.[0-9]+\.param\.")
# What a script's lists are built by, so that it is known of which kind they are: torch/jit/_pickle.py.
_SCRIPTED = re.compile(
    r"__torch__\.torch\.(?:ao\.)?nn\.(?:\w+\.)*quantized\."
)  # some of whose modules have their state in a tuple
_LISTS = ("build_tensorlist", "restore_type_tag")
_INTEGERS = ("int", "uint", "bool")  # dtypes
_PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_DEEPEST = 6
_BY_CHANNEL = ("per_channel_affine", "per_channel_symmetric")


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter that a module has beside those in its registry, or that stands for more than its elements."""

    value: object  # as the pickle has it, which tells whether two are one
    shape: tuple[int, ...] | None  # None: nothing says it
    dtype: str
    nbytes: int | None
    is_packed: bool = True
    overhead: Mapping[str, Tensor] = field(default_factory=dict)  # scales and the like, by what follows the name


def is_packed(module: Record) -> bool:
    """Whether an object is a quantised module of PyTorch's own, some of which keep no registries in a pickle."""
    return isinstance(module.callable, Global) and module.callable.module.startswith(_TORCH_AO)


def weights(
    module: Record, parameters: Mapping[str, object], modules: Mapping[str, object], tensors: Tensors
) -> dict[str, Weight]:
    """Return the packed weights of a module, and what is kept with them, by the keys that the live module has.

    Raises:
        MalformedPickle: a tensor could not be built.

    """
    if is_packed(module):
        return dict(_torch_ao(module, modules, tensors))
    found = {
        key: _bitsandbytes(value, tensors) or wrapped(value, tensors) or _in_pairs(value, tensors)
        for key, value in parameters.items()
    }
    others = {key: weight for key, weight in found.items() if weight is not None}
    return {**dict(_objects(module, tensors)), **others}


def _in_pairs(value: object, tensors: Tensors) -> Weight | None:
    tensor = tensors.of(value)
    if tensor is None or tensor.dtype != wrapping.IN_PAIRS or not tensor.shape:
        return None
    return Weight(value, wrapping.apart(tensor.shape), tensor.dtype, tensor.nbytes)


# Subclasses of tensors ------------------------------------------------------------------------------------------------


def wrapped(value: object, tensors: Tensors) -> Weight | None:
    """Return what a tensor that is made of several stands for, as torchao's are; None if it is as it is stored.

    Raises:
        MalformedPickle: a tensor could not be built.

    """
    if isinstance(value, Record) and value.known is not None:  # as plain tensors are read
        return None
    whole, kind = tensors.of(value), _subclass(value)
    if whole is None or kind is None or not whole.numel:
        return None
    parts = dict(_parts(value, "", tensors))
    data = wrapping.weights(parts)
    nbytes = sum(part.nbytes for part in data.values())
    if not data or nbytes >= whole.nbytes:
        return None
    overhead = {name: part for name, part in parts.items() if name not in data}
    dtype = wrapping.stored_dtype(kind, next(iter(data.values())).dtype, nbytes, whole.numel)
    return Weight(value, whole.shape, dtype, nbytes, overhead=overhead)


def _subclass(value: object) -> str | None:
    """Return the name of the class of a tensor that is made of several here; of a DTensor some are elsewhere."""
    record = _within_parameter(value)
    args = record.args if record is not None else ()
    if not isinstance(args, tuple) or len(args) < 4 or not isinstance(args[1], Global):  # noqa: PLR2004  # as in _parts()
        return None
    is_wrapper = isinstance(args[0], Global) and args[0].name == "_rebuild_wrapper_subclass"
    return args[1].name if is_wrapper and args[1].name != "DTensor" else None


def _parts(value: object, name: str, tensors: Tensors, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield the plain tensors that a tensor is made of, which torch/_tensor.py keeps as its attributes."""
    record = _within_parameter(value)
    if _subclass(value) is None or record is None or not isinstance(record.args, tuple) or depth > _DEEPEST:
        if (tensor := tensors.of(value)) is not None:
            yield name, tensor
        return
    attributes = record.args[3][0] if isinstance(record.args[3], tuple) and record.args[3] else record.args[3]
    for key, each in (fields(attributes) or {}).items():
        yield from _parts(each, f"{name}.{key}", tensors, depth + 1)


def _within_parameter(value: object) -> Record | None:
    if not isinstance(value, Record) or not isinstance(value.callable, Global):
        return None
    if value.callable.name in _PARAMETERS and isinstance(value.args, tuple) and value.args:
        return value.args[0] if isinstance(value.args[0], Record) else None
    return value


# PyTorch's own --------------------------------------------------------------------------------------------------------


def _torch_ao(module: Record, modules: Mapping[str, object], tensors: Tensors) -> Iterator[tuple[str, Weight]]:
    """Yield what ``weight()`` and ``bias()`` of the live module would return.

    A convolution has them in its state, which is a tuple; other layers in a module ``_packed_params``, in an object of
    TorchScript: torch/ao/nn/quantized/modules/conv.py, linear.py and embedding_ops.py.
    """
    if isinstance(module.callable, Global) and module.callable.module.endswith(_RECURRENT):
        yield from _objects(module, tensors)
        return
    inner = modules.get("_packed_params")
    held = module.state if inner is None else _kept(inner)
    yield from _in_state(held, tensors)


def _in_state(state: object, tensors: Tensors) -> Iterator[tuple[str, Weight]]:
    for name, value in within(state, tensors).items() if isinstance(state, tuple) else ():
        if (tensor := tensors.of(value)) is not None:
            yield name, _unpacked(value, tensor, tensors)


def _unpacked(value: object, tensor: Tensor, tensors: Tensors) -> Weight:
    is_packed, overhead = tensor.dtype.startswith("q"), channels(value, tensors)
    return Weight(value, tensor.shape, tensor.dtype, tensor.nbytes, is_packed, overhead)


# Objects of TorchScript -----------------------------------------------------------------------------------------------


def is_in_object(name: str) -> bool:
    """Whether a tensor of a state dict is one in a packed object, or in the tuple that it became, by its name."""
    return _IN_OBJECT.search(name) is not None


def packed_object(value: object) -> object | None:
    """Return the state of an object that holds weights as operators take them; None where a value is something else."""
    if not isinstance(value, Record) or not isinstance(value.callable, Global):
        return None
    if value.callable == _OBJECT:  # beside its state, the name of its class
        match value.state:
            case (state, str(name)) if wrapping.is_packer(name):
                return state
        return None
    return value.state if wrapping.is_packer(f"{value.callable.module}.{value.callable.name}") else None


def within(state: object, tensors: Tensors, depth: int = 0) -> dict[str, object]:
    """Return the values of the tensors in the state of a packed object, by their names in it.

    Raises:
        MalformedPickle: a tensor could not be built.

    """
    found, inner = list[object](), list[dict[str, object]]()
    for value in _flat(state):
        below = packed_object(value)
        if below is not None and depth < _DEEPEST:
            inner.append(within(below, tensors, depth + 1))
        elif (tensor := tensors.of(value)) is not None and not tensor.dtype.startswith(_INTEGERS):
            found.append(value)
    return wrapping.packed_parts(found, inner, lambda value: _dimensions(value, tensors))


def _dimensions(value: object, tensors: Tensors) -> int:
    tensor = tensors.of(value)
    return 0 if tensor is None else len(tensor.shape or ())


def _flat(state: object, depth: int = 0) -> Iterator[object]:
    """Yield what is in the tuples and lists of a state."""
    if isinstance(state, Record) and isinstance(state.callable, Global) and state.callable.name in _LISTS:
        state = state.args[0] if isinstance(state.args, tuple) and state.args else ()
    if isinstance(state, (tuple, list)) and depth < _DEEPEST:
        for value in state:
            yield from _flat(value, depth + 1)
    else:
        yield state


def _objects(module: Record, tensors: Tensors) -> Iterator[tuple[str, Weight]]:
    """Yield the weights in the packed objects that are attributes of a module."""
    state = module.state
    if isinstance(state, tuple) and isinstance(module.callable, Global) and _SCRIPTED.match(module.callable.module):
        yield from _in_state(state, tensors)
        return
    for attribute, value in attributes(module).items():
        held = packed_object(value)
        if held is None:
            continue
        parts = within(held, tensors)
        for name, part in parts.items():
            tensor = tensors.of(part)
            if tensor is not None:
                yield wrapping.packed_key(attribute, name), _unpacked(part, tensor, tensors)
        if not any(name.startswith("weight") for name in parts):
            yield attribute, Weight(value, None, "qint8", None)


def _kept(module: object) -> object:
    """Return the state of the object of TorchScript that a module of packed weights holds."""
    attributes = fields(module.state) if isinstance(module, Record) and isinstance(module.state, Pairs) else None
    kept = (attributes or {}).get("_packed_params") or (attributes or {}).get("_packed_weight")
    return kept.state if isinstance(kept, Record) else None


def channels(value: object, tensors: Tensors) -> dict[str, Tensor]:
    """Return the scales and zero points of each channel, as ``_rebuild_qtensor`` of torch/_utils.py takes them.

    Raises:
        MalformedPickle: one of them could not be built.

    """
    args = value.args if isinstance(value, Record) else ()
    scheme = args[4] if isinstance(args, tuple) and len(args) > 4 else None  # noqa: PLR2004  # after storage, offset, size and strides
    if not isinstance(scheme, tuple) or len(scheme) < 3:  # noqa: PLR2004  # what it is, scales, zero points
        return {}
    kind, *parts = scheme[:3]
    if not isinstance(kind, Global) or kind.name not in _BY_CHANNEL:
        return {}
    found = zip((".scales", ".zero_points"), map(tensors.of, parts), strict=True)
    return {name: tensor for name, tensor in found if tensor is not None}


# bitsandbytes ---------------------------------------------------------------------------------------------------------


def _bitsandbytes(value: object, tensors: Tensors) -> Weight | None:
    """Return what a parameter stands for, by the attributes that it is pickled with; None if it is no packed one.

    ``Params4bit`` and ``Int8Params`` of
    https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/nn/modules.py, and ``QuantState`` of
    https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/functional.py.
    """
    if not isinstance(value, Record) or not isinstance(value.args, tuple) or len(value.args) < 4:  # noqa: PLR2004  # data, requires_grad, hooks, attributes
        return None
    said, tensor = fields(value.args[3]) or {}, tensors.of(value)
    if tensor is None:
        return None
    state = said.get("quant_state")
    if isinstance(state, Record) and class_name(state) == "QuantState" and tensor.dtype != "int8":
        return _four_bit(value, tensor, fields(state.state) or {}, tensors)
    scales = tensors.of(said.get("SCB"))
    if "SCB" in said and tensor.dtype == "int8":
        return Weight(value, tensor.shape, "int8", tensor.nbytes, overhead={".SCB": scales} if scales else {})
    return None


def _four_bit(value: Record, tensor: Tensor, state: dict[str, object], tensors: Tensors) -> Weight | None:
    kind = state.get("quant_type")
    if "shape" not in state or not isinstance(kind, str):
        return None
    nested = state.get("state2")
    below = (fields(nested.state) if isinstance(nested, Record) else None) or {}
    parts = {
        ".absmax": state.get("absmax"),
        ".quant_map": state.get("code"),
        ".nested_offset": state.get("offset"),
        ".nested_absmax": below.get("absmax"),
        ".nested_quant_map": below.get("code"),
    }
    overhead = {name: found for name, part in parts.items() if (found := tensors.of(part)) is not None}
    return Weight(value, sizes(state["shape"]), kind, tensor.nbytes, overhead=overhead)
