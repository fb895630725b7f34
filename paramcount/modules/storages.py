"""Tells tensors' memory apart, on whichever device, and keeps account of it."""

from __future__ import annotations

import torch

_count_uses = torch._C._storage_Use_Count  # noqa: SLF001  # for want of a public one


def address_of(tensor: torch.Tensor) -> int | None:
    """Return what identifies the tensor's memory, whichever its device; None for one that has none of its own."""
    try:
        return int(tensor.untyped_storage()._cdata)  # noqa: SLF001  # the one identity a storage has
    except (RuntimeError, ValueError):  # sparse, or lazy
        return None


class Storages(dict[int, torch.UntypedStorage]):
    """Storages by their address, kept alive as long as a tensor has them: now and then the others are dropped."""

    _limit = 1024

    def keep(self, address: int, tensor: torch.Tensor) -> None:
        """Take in a tensor's storage."""
        if len(self) >= self._limit:
            self.drop()
        self[address] = tensor.untyped_storage()

    def drop(self) -> None:
        """Let go of what no tensor has any more."""
        for gone in [address for address in self if _count_uses(address) == 1]:  # it is here alone
            del self[gone]
        self._limit = max(1024, 2 * len(self))

    def nbytes(self) -> int:
        """Return how many bytes those have that tensors still have."""
        return sum(storage.nbytes() for address, storage in self.items() if _count_uses(address) > 1)
