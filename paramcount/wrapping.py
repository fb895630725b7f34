"""Weights that are no plain tensors: made of several, two in an element, or in an object that operators packed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

_Part = TypeVar("_Part")

# What tensor subclasses, those of torchao above all, call their parts that are no weights.
_OF_SCALING = re.compile(r"scale|zero|factor|shift|offset|mean|codebook|lut|compensation|^nf4$")
_BYTE = 8  # bits
# What operators make of weights beforehand: TorchScript's classes of aten/src/ATen/native/quantized, and of XNNPACK.
_PACKER = r"__torch__\.torch\.classes\.(?:quantized|rnn|sparse|xnnpack|mkldnn\w*|vulkan|metal)\.\w+"
_ATTRIBUTE = r"_packed_(?:weight|params)|^param$"  # what torch.ao calls an attribute that has such an object
_OF_A_CELL = ("_ih", "_hh")  # from the input, and from the hidden state
IN_PAIRS = "float4_e2m1fn_x2"  # the dtype of which each of PyTorch's elements is two floats, which share a byte


def weights(parts: Mapping[str, _Part]) -> dict[str, _Part]:
    """Return the parts that hold weights, by their dotted names; the others say how they are scaled."""
    return {name: part for name, part in parts.items() if not _OF_SCALING.search(name.rpartition(".")[2])}


def apart(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the floats in a tensor of pairs, which lie side by side; safetensors has them so."""
    return (*shape[:-1], 2 * shape[-1]) if shape else (2,)


def is_packer(class_name: str) -> bool:
    """Whether an object of TorchScript is one that holds weights as operators take them, by its class's full name."""
    return re.fullmatch(_PACKER, class_name) is not None


def packed_parts(
    tensors: Iterable[_Part], inner: Iterable[Mapping[str, _Part]], dimensions: Callable[[_Part], int]
) -> dict[str, _Part]:
    """Return what a packed object holds, by name: "weight" and "bias"; of a recurrent cell "weight_ih" and so on.

    Args:
        tensors: in its state, but for those of integers, which are a convolution's strides and the like.
        inner: what the packed objects in its state hold. A cell keeps its biases there, and once more in its own state.
        dimensions: returns how many a tensor has.

    """
    found: dict[str, _Part] = {}
    for ending, parts in zip(_OF_A_CELL, inner, strict=False):
        found.update({f"{name}{ending}": part for name, part in parts.items()})
    if not found:
        for tensor in tensors:
            found.setdefault("weight" if dimensions(tensor) > 1 else "bias", tensor)
    return found


def packed_key(attribute: str, part: str) -> str:
    """Return a weight's name in a module, by that of the attribute with the packed object, and its own in that.

    A "weight" in "_packed_params" is the module's "weight", and in "_packed_weight_ih" its "weight_ih".
    """
    key, number = re.subn(_ATTRIBUTE, f"_{part}", attribute, count=1)
    return key.lstrip("_") if number else f"{attribute}_{part}"


def stored_dtype(kind: str, dtype: str, nbytes: int, numel: int) -> str:
    """Return the dtype of weights as they are stored: "nf4", "int4", "int8".

    Args:
        kind: the name of the tensor's class.
        dtype: of the first of the parts that hold weights.
        nbytes: that these take together.
        numel: elements that they stand for.

    """
    bits, rest = divmod(_BYTE * nbytes, numel)
    if (said := re.search(r"NF4|FP4", kind)) and bits == 4:  # noqa: PLR2004
        return said[0].lower()
    return dtype if rest or bits >= _BYTE or "float" in dtype else f"int{bits}"
