"""What a file says of one of its tensors."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple


class Stored(NamedTuple):
    """A tensor as a file describes it."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # as PyTorch names it: "bfloat16"
    numel: int
    nbytes: int  # that its elements take in the file
    requires_grad: bool | None = None  # None: the file does not say
    memory: Hashable = None  # equal for tensors that are the same memory; None: it shares none
    packed: bool = False  # stored in fewer bits than it computes with: shape and numel are of what it stands for
    value: bytes | None = None  # its elements, of the few tensors that say how others are packed; None: not read
    is_of_another: bool = False  # whether the value is that of another tensor of the same kind
    offset: tuple[int, ...] | None = None  # where it begins in the whole, of a piece of one; None: it is whole
