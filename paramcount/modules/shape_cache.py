"""Remembers what form an operation's result has: to ask PyTorch takes longer than all that a small operation does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

PLAIN_TENSORS = {torch.Tensor, nn.Parameter}
SEQUENCES = {tuple, list, torch.Size}
ATOMS = {int, float, bool, str, type(None)}
_NAMES = {torch.dtype, torch.device, torch.layout, torch.memory_format, type(torch.ops.aten.add.Tensor)}
_MOST_SHAPES = 4096


class _Form(NamedTuple):
    size: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype


class ShapeCache:
    """The forms of results, by the operation and all of its arguments that these can depend on."""

    def __init__(self) -> None:
        """Know none."""
        self._forms: dict[Any, _Form] = {}

    def key(self, parts: Iterable[Any]) -> Any:
        """Return what stands for an operation and its arguments; None for one that it is better to ask PyTorch of."""
        return _outline(parts)

    def get(self, key: Any) -> _Form | None:
        """Return the form of the result."""
        return self._forms.get(key)

    def keep(self, key: Any, made: Any) -> None:
        """Remember a result's form, if another tensor can be made like it from that."""
        if type(made) is torch.Tensor and _outline((made,)) and not made.storage_offset():
            if len(self._forms) >= _MOST_SHAPES:
                self._forms.clear()
            self._forms[key] = _Form(made.shape, made.stride(), made.dtype)


def _outline(arguments: Iterable[Any]) -> tuple[Any, ...] | None:
    outline: list[Any] = []
    for argument in arguments:
        kind = type(argument)
        if kind in PLAIN_TENSORS:
            if not is_simple(argument) or argument.dtype.is_complex:
                return None
            outline.append((argument.shape, argument.stride(), argument.dtype))
        elif kind in SEQUENCES:
            if (inner := _outline(argument)) is None:
                return None
            outline.append(inner)
        elif kind in ATOMS or kind in _NAMES:
            outline.append((kind, argument))
        else:
            return None
    return tuple(outline)


def is_simple(tensor: torch.Tensor) -> bool:
    """Whether another tensor can be made like it from its shape and dtype."""
    return tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_nested
