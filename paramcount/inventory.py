"""What a model holds, as plain values: the form that every kind of target is read into.

What a model has tens of thousands of is a named tuple: a frozen dataclass takes four times as long to make.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar


class Param(NamedTuple):
    """One name of one parameter.

    A tensor that has several names is listed under each of them; all but the first say in ``tied_to`` which name
    counts, and add nothing to a total.
    """

    name: str  # dotted, as named_parameters() gives it
    shape: tuple[int, ...] | None  # None: a lazy parameter has none yet, and a nested one several
    dtype: str  # "float32", without "torch."
    numel: int | None  # elements; None: not known yet
    nbytes: int | None  # what the elements take in storage
    trainable: bool | None  # requires_grad; None: a checkpoint does not say
    tied_to: str | None = None  # the first name of the same tensor
    packed: bool = False  # stored in fewer bits than it computes with: shape and numel are of what it stands for
    active: int | None = None  # elements that one token passes through; None: all
    local: int | None = None  # elements that this process holds of a sharded tensor; None: all
    adapter: str | None = None  # the name of the one it belongs to; "": that has none; None: the base model's
    key: str | None = None  # PyTorch's name, in a state dict too, where another tensor has that as well; None: the same


class Buffer(NamedTuple):
    """One name of one buffer: state that is kept with the model, but is no parameter."""

    name: str
    shape: tuple[int, ...] | None
    dtype: str
    numel: int | None
    nbytes: int | None
    tied_to: str | None = None
    persistent: bool = True  # whether the model's state dict has it
    key: str | None = None  # as of a Param


class Module(NamedTuple):
    """One module, or one more name of a module that is listed already."""

    name: str  # dotted; "" is the model itself
    type: str  # the class's name; "" where a file does not say
    same_as: str | None = None  # the first name of the same module


class Note(NamedTuple):
    """Something a reader of the count should know, with its place and, where it is a fault, the cure."""

    code: str  # stable, for scripts: "unregistered", "uninitialized", …
    where: str  # the place in the model; "" is the model itself
    message: str


EXTRA_STATE = "_extra_state"  # what the last part of a key is under which get_extra_state() has its say

COUNTER = "num_batches_tracked"  # batch norm's, which it fills in where a state dict of an early version has none


class Special(NamedTuple):
    """Something in which loading a state dict is more than filling tensors by their names."""

    name: str
    kind: Literal[
        # Of a state dict.
        "extra state",  # a key, for what set_extra_state() takes; also of a module, which expects it
        "no tensor",  # a key, for what nothing takes
        "left out",  # a key of a tensor that is none of the weights, such as the best accuracy so far
        "nested",  # a key of a mapping, whose tensors are counted under their dotted names
        "part",  # the path of what is counted, in a file that holds more
        "DTensor",  # a tensor that copy_() puts into its like only
        "sparse",  # the same
        "meta",  # a tensor without data
        "counts batches",  # a module that said it is of version 2: batch norm fills in no counter for it
        # Of a module.
        "weight norm",  # a parameter, which may come as the two that it had before parametrizations
        "own counter",  # a buffer with the name of batch norm's counter, in a module that is none
        "own",  # a module, with a hook or an override of its own
        "old names",  # the same, of which it is known that it only takes the names of earlier versions
    ]
    shape: tuple[int, ...] | None = None  # of what is left out
    dtype: str = ""


Form = Literal[
    "module",  # its state dict has all its parameters and persistent buffers
    "state dict",
    "other",  # part of a model, or names that are no state dict's
]


@dataclass(frozen=True, slots=True)
class Inventory:
    """All of a model that counting needs."""

    target: str  # as the user wrote it
    source: str  # the kind of target: the name of a module under paramcount.sources
    modules: tuple[Module, ...]  # in named_modules() order, the model itself first
    params: tuple[Param, ...]  # in named_parameters(remove_duplicate=False) order
    buffers: tuple[Buffer, ...] = ()
    notes: tuple[Note, ...] = ()
    overhead: tuple[Buffer, ...] = ()  # scales, zero points and code books of packed parameters: neither of the two
    form: Form = "module"
    special: tuple[Special, ...] = ()  # of its state dict


_Tensor = TypeVar("_Tensor", Param, Buffer)


def retie(tensors: Iterable[_Tensor]) -> tuple[_Tensor, ...]:
    """Let the first remaining name of each tensor count, and tie its other names to that one."""
    heirs: dict[str, str] = {}
    retied = []
    for tensor in tensors:
        heir = heirs.setdefault(tensor.tied_to or tensor.name, tensor.name)
        tied_to = None if heir == tensor.name else heir
        retied.append(tensor if tied_to == tensor.tied_to else tensor._replace(tied_to=tied_to))
    return tuple(retied)
