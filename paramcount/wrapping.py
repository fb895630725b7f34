"""Tensors that are not their weights: made of several others, as torchao's and quanto's, or with two in an element."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

_Part = TypeVar("_Part")

# What tensor subclasses, those of torchao above all, call their parts that are no weights.
_OF_SCALING = re.compile(r"scale|zero|factor|shift|offset|mean|codebook|lut|compensation|^nf4$")
_BYTE = 8  # bits
IN_PAIRS = "float4_e2m1fn_x2"  # the dtype of which each of PyTorch's elements is two floats, which share a byte


def weights(parts: Mapping[str, _Part]) -> dict[str, _Part]:
    """Return the parts that hold weights, by their dotted names; the others say how they are scaled."""
    return {name: part for name, part in parts.items() if not _OF_SCALING.search(name.rpartition(".")[2])}


def apart(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the floats in a tensor of pairs, which lie side by side; safetensors has them so."""
    return (*shape[:-1], 2 * shape[-1]) if shape else (2,)


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
