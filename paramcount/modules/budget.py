"""Says how much of a model may be real while it is built without memory, and when its constructor is found to loop."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from paramcount.modules.storages import Storages, address_of

# Elements up to which a tensor is real. One without values of its own yet (empty, random) is most likely a weight.
LARGEST_COMPUTED = 1 << 16
LARGEST_UNINITIALIZED = 1 << 8
# The same of one that is drawn with a seed that the constructor gave, which it does to read what it draws: the mean of
# a million values, say. Weights are drawn with a seed as well; so of those the first 2 million, 8 MB, are real.
LARGEST_SEEDED = 1 << 21
# A constructor that has done this many operations on a few elements each, of unknown values, does so in a loop, for
# which an operation without memory takes too long: it is run again. Where nothing but the modes can keep it from taking
# all memory, it has this many elements in all, 64 MB, for all that is not larger.
BUSY = 1000
FEW = 1 << 12
LARGEST_BUSY = 1 << 22
ALL_BUSY = 1 << 24
# Where it can be run as it is, it is found to loop by all that it does with tensors' values, but for making and
# initialising them, which layers do: to hear of this many requests takes as long as to run it anew. And to hear of one
# takes as long as to initialise this many of the elements that have no memory so far, which it has then.
REQUESTS = 300
REQUESTS_A_DISPATCH = 4  # for how many it stands that one goes all the way through the dispatcher
ELEMENTS_A_REQUEST = 300
_NEVER = 1 << 62


class Loops(BaseException):
    """The constructor runs thousands of small operations, which take less time in memory."""


class Budget:
    """What may be real of those tensors that are larger than usual."""

    def __init__(self, *, loops: bool = False) -> None:
        """Allow more to a constructor that ``loops`` over small tensors."""
        self.loops = loops
        self.largest = LARGEST_BUSY if loops else LARGEST_COMPUTED
        self._real = Storages()  # of tensors above the usual limit
        self._elements = 0  # in those

    def allows(self, numel: int, limit: int, *, is_seeded: bool = False) -> bool:
        """Whether a tensor of so many elements is real. Of those above the usual limit not too many live at once."""
        if numel <= limit:
            return True
        if not (self.loops and numel <= LARGEST_BUSY) and not (is_seeded and numel <= LARGEST_SEEDED):
            return False
        most = ALL_BUSY if self.loops else 2 * LARGEST_SEEDED
        if self._elements + numel > most:
            self._real.drop()
            self._elements = sum(storage.nbytes() for storage in self._real.values()) // 4
        return self._elements + numel <= most

    def keep(self, tensors: Iterable[torch.Tensor], limit: int) -> None:
        """Take down what is real and above the usual limit."""
        for tensor in tensors:
            if tensor.numel() > limit and not tensor.is_meta and (address := address_of(tensor)) is not None:
                self._real.keep(address, tensor)
                self._elements += tensor.numel()


class LoopCount:
    """Counts what a constructor does, until that shows that it loops."""

    def __init__(self, shells: Storages, *, gives_up: bool, can_run_plain: bool) -> None:
        """Know what has no memory so far, whether a loop is to be given up, and whether it can then run as it is."""
        self.requests = 0  # counted by whoever hears of them; at look_at it looks here
        self.look_at = REQUESTS if gives_up and can_run_plain else _NEVER
        self._shells = shells
        self._gives_up = gives_up
        self._operations = 0  # on a few elements of unknown values

    def is_loop(self) -> bool:
        """Whether so many requests, beside so little that has no memory, are a loop."""
        if self._shells.nbytes() // 4 > self.requests * ELEMENTS_A_REQUEST:
            self.look_at = 2 * self.requests
            return False
        self.look_at = _NEVER
        return True

    def is_loop_of(self, made: object) -> bool:
        """Whether another operation on unknown values that made this is one too many."""
        if self._gives_up and isinstance(made, torch.Tensor) and made.numel() <= FEW:
            self._operations += 1
        return self._operations > BUSY
