"""Tells by its name which packed weight a small tensor scales: its own is that weight's, and words of quantising.

Libraries agree on the words, and not on how they are put together: ``weight_scale_inv`` beside ``weight``,
``gate_up_proj_weight_scale_2`` beside ``gate_up_proj``, ``scale_input`` beside ``weight``, ``w13_input_scale`` beside
``w13_weight``.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from functools import cache

from paramcount.files.stored import Stored

_TELLING = frozenset({"scale", "scales", "scaling", "qscale", "zero", "zeros", "zp", "amax", "absmax"})
_WORDS = _TELLING | {
    *("weight", "w", "input", "in", "output", "out", "act", "activation", "global", "block", "per", "tensor"),
    *("channel", "group", "row", "pre", "quant", "dequant", "double", "inv", "factor", "point", "static", "max", "and"),
}
_OF_ACTIVATIONS = frozenset({"input", "in", "output", "out", "act", "activation", "pre", "zero", "zeros", "zp"})
# Scales of what attention computes, which belong to no weight.
_OF_ATTENTION = r"(?:[qkv]|kv|qk|prob|bmm[12]?|softmax|attn|kv_cache|[kv]_cache)_(?:output_)?scale(?:_inv)?"
_MARKERS = frozenset({"scaled_fp8"})  # which ComfyUI puts at the root of a model
_LONGEST_MARKER = 2  # elements
_TILE = 128 * 4  # elements, to whose multiples some kernels pad a tensor of scales


def scaled(tensors: Mapping[str, Stored], packed: Container[str]) -> dict[str, list[Stored]]:
    """Return the tensors that scale others, by the names of those; each name begins with a dot.

    Args:
        tensors: all of a file.
        packed: the names of those that are packed, or may be.

    """
    found: dict[str, list[Stored]] = {}
    for name, tensor in tensors.items():
        module, _, key = name.rpartition(".")
        for ending in _endings(key):
            weight = module + ending
            if weight in packed and weight != name:
                found.setdefault(weight, []).append(tensor)
                break
    return found


def is_of_weights(tensor: Stored) -> bool:
    """Whether what scales a weight is for its own elements, and not for what its layer takes or puts out."""
    return _OF_ACTIVATIONS.isdisjoint(_split(tensor.name.rpartition(".")[2]))


def is_of_none(tensor: Stored) -> bool:
    """Whether a tensor beside packed weights says something of all of them, or scales what attention computes."""
    key = tensor.name.rpartition(".")[2]
    if key in _MARKERS:
        return tensor.numel <= _LONGEST_MARKER
    if tensor.dtype == "uint8" and len(tensor.shape) == 1 and "comfy_" in tensor.name:
        return True
    return tensor.numel == 1 and re.fullmatch(_OF_ATTENTION, key) is not None


def fits(scale: Stored, weight: Stored) -> bool:
    """Whether a scale is one for all of a weight, or one for each of its rows, columns or blocks."""
    sizes = [size for size in scale.shape if size != 1]
    if any(_are_blocks(sizes, shape) for shape in (weight.shape, weight.shape[::-1])):
        return True
    return scale.numel % _TILE == 0 and 0 < scale.numel <= max(weight.numel, _TILE)


def _are_blocks(sizes: list[int], shape: tuple[int, ...]) -> bool:
    """Whether each size is the number of equal blocks in a size of the shape, in that order."""
    left = iter(shape)
    return all(any(is_grouped(size, blocks) for size in left) for blocks in sizes)


def is_grouped(elements: int, groups: int) -> bool:
    """Whether so many elements make so many groups of one size, the last of which may be smaller."""
    return 0 < groups <= elements and -(-elements // -(-elements // groups)) == groups


@cache
def _endings(key: str) -> tuple[str, ...]:
    """Return how the names may end, after the module's, of what a tensor with this key scales."""
    found: list[str] = []
    for at in (*(match.start() for match in re.finditer("_", key)), 0)[::-1]:
        words = _split(key[at:])
        if not words or not all(word in _WORDS or word.isdecimal() for word in words):
            continue
        if _TELLING.isdisjoint(words):
            continue
        held = key[:at]
        found += [f".{held}", f".{held}_weight", f".{held}.weight"] if held else [".weight", ""]
    # The longest name that is a tensor's is the one that is meant.
    return tuple(sorted(dict.fromkeys(found), key=len, reverse=True))


@cache
def _split(key: str) -> tuple[str, ...]:
    return tuple(word for word in key.split("_") if word)
