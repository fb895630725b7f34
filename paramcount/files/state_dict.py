"""Turns the named tensors of a checkpoint into an Inventory: modules by their dotted names, buffers by theirs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from paramcount.inventory import Buffer, Inventory, Module, Note, Param
from paramcount.units import plural

# What PyTorch's own modules register as buffers under names that no parameter of theirs has:
# https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as a file describes it."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # as PyTorch names it: "bfloat16"
    numel: int
    nbytes: int  # that its elements take in the file
    requires_grad: bool | None = None  # None: the file does not say
    memory: Hashable = None  # equal for tensors that are the same memory; None: it shares none


def inventory(
    tensors: Iterable[Stored],
    *,
    target: str,
    source: str,
    types: dict[str, str] | None = None,
    buffers: frozenset[str] | None = None,
    notes: tuple[Note, ...] = (),
) -> Inventory:
    """Return what a file holds.

    Args:
        tensors: in the file's order.
        target: the word that the user wrote.
        source: the kind of target.
        types: the classes of modules by dotted name, where the file says ("" is the model itself).
        buffers: the names of buffers, where the file says; else they are told by their names, and a note says so.
        notes: what else there is to say.

    """
    types = types or {}
    modules: dict[str, Module] = {"": Module("", types.get("", ""))}
    for name in types:
        _add_module(name, modules, types)
    params, stored_buffers = [], []
    firsts: dict[Hashable, str] = {}
    for tensor in tensors:
        _add_module(tensor.name.rpartition(".")[0], modules, types)
        first = tensor.name if tensor.memory is None else firsts.setdefault(tensor.memory, tensor.name)
        tied_to = None if first == tensor.name else first
        if tensor.name in buffers if buffers is not None else tensor.name.rpartition(".")[2] in _BUFFERS:
            stored_buffers.append(Buffer(tensor.name, tensor.shape, tensor.dtype, tensor.numel, tensor.nbytes, tied_to))
        else:
            params.append(
                Param(
                    tensor.name, tensor.shape, tensor.dtype, tensor.numel, tensor.nbytes, tensor.requires_grad, tied_to
                )
            )
    if buffers is None and params:
        notes = (*notes, _told_by_name(len(stored_buffers)))
    return Inventory(target, source, tuple(modules.values()), tuple(params), tuple(stored_buffers), notes)


def _add_module(name: str, modules: dict[str, Module], types: dict[str, str]) -> None:
    """Add a module and all above it, those first."""
    missing = []
    while name not in modules:
        missing.append(name)
        name = name.rpartition(".")[0]
    for below in reversed(missing):
        modules[below] = Module(below, types.get(below, ""))


def _told_by_name(number: int) -> Note:
    found = (
        f"{plural(number, 'buffer')} {'is' if number == 1 else 'are'} told by name"
        if number
        else "none has the name of a buffer"
    )
    message = f"the file does not say which tensors are buffers: {found}, and all others count as parameters"
    return Note("buffers-by-name", "", message)
