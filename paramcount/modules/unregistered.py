"""Finds modules and parameters that a model refers to, but that ``named_parameters()`` cannot see."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from paramcount.inventory import Note
from paramcount.units import plural

# Plain objects looked into for one model: a trainer or a data set that a model refers to may lead anywhere.
_MOST_OBJECTS = 50_000


def find_unregistered(modules: Iterable[tuple[str, nn.Module]], counted: set[int]) -> tuple[Note, ...]:
    """Return a note for each module, and each trainable tensor, that hides from ``named_parameters()``.

    Args:
        modules: the registered modules by name.
        counted: ``id()`` of every parameter that is counted; those that are found are added.

    A reference to a registered module or parameter is no fault, nor is a module without parameters.

    """
    modules = list(modules)
    search = _Search({id(module) for _, module in modules}, counted)
    for name, module in modules:
        search.look_into(module, name)
    return tuple(search.notes)


@dataclass(frozen=True, slots=True)
class _Holder:
    """What keeps a hidden module, and what would register it."""

    kind: str  # "in a plain list"
    module_cure: str
    tensor_cure: str


_LIST = _Holder("in a plain {}", "use nn.ModuleList", "use nn.ParameterList")
_DICT = _Holder("in a plain {}", "use nn.ModuleDict", "use nn.ParameterDict")
_OBJECT = _Holder(
    "in a plain object of class {}", "let that class inherit from nn.Module", "let that class inherit from nn.Module"
)
_CLASS = _Holder("on the class {}", "assign it to self in __init__()", "assign it to self in __init__()")
_ATTRIBUTE = _Holder(
    "set past nn.Module's own __setattr__", "assign it as a plain attribute", "wrap it in nn.Parameter"
)

_INTERNALS = frozenset(vars(nn.Module())) | {"_flat_weights", "_is_full_backward_hook"}
_OPAQUE = (str, bytes, int, float, complex, bool, type(None), type, FunctionType, MethodType, ModuleType)
_PLAIN = frozenset(_OPAQUE)
_SEQUENCES = (list, tuple, set, frozenset, deque)


class _Search:
    """One pass over a model; everything is looked at once."""

    def __init__(self, registered: set[int], counted: set[int]) -> None:
        self.registered = registered
        self.counted = counted
        self.notes: list[Note] = []
        self._seen: dict[int, object] = {}  # keeps what it has seen alive, so that an id stands for one object
        self._class_attributes: dict[type, list[tuple[str, object, type]]] = {}

    def look_into(self, module: nn.Module, name: str) -> None:
        """Search the attributes of a registered module."""
        prefix = f"{name}." if name else ""
        for key, value in vars(module).items():
            if key not in _INTERNALS and type(value) not in _PLAIN and not _is_plain_tuple(value):
                self._look_at(value, prefix + key, _ATTRIBUTE, "")
        for key, value, owner in self._on_class(type(module)):
            self._look_at(value, prefix + key, _CLASS, owner.__name__)

    def _on_class(self, kind: type) -> list[tuple[str, object, type]]:
        if kind not in self._class_attributes:
            self._class_attributes[kind] = [
                (key, value, owner)
                for owner in kind.__mro__
                if not _is_library(owner)
                for key, value in vars(owner).items()
                if isinstance(value, (nn.Module, Tensor, *_SEQUENCES, dict)) and not key.startswith("__")
            ]
        return self._class_attributes[kind]

    def _look_at(self, value: object, where: str, holder: _Holder, kind: str) -> None:
        waiting = deque([(value, where, holder, kind)])
        while waiting:
            value, where, holder, kind = waiting.popleft()
            if isinstance(value, _OPAQUE) or id(value) in self._seen or len(self._seen) > _MOST_OBJECTS:
                continue
            if isinstance(value, nn.Module):
                if id(value) not in self.registered:
                    self._found_module(value, where, holder.kind.format(kind), holder.module_cure)
                continue
            self._seen[id(value)] = value
            if isinstance(value, Tensor):
                self._found_tensor(value, where, holder.kind.format(kind), holder.tensor_cure)
            else:
                waiting.extend(_contents(value, where))

    def _found_module(self, module: nn.Module, where: str, place: str, cure: str) -> None:
        inside = list(module.named_modules())
        self.registered.update(id(inner) for _, inner in inside)
        self._seen.update((id(inner), inner) for _, inner in inside)
        hidden = [param for param in module.parameters() if id(param) not in self.counted]
        if hidden:
            self.counted.update(map(id, hidden))
            self._seen.update((id(param), param) for param in hidden)
            self._note(where, f"{type(module).__name__} with {_amount(hidden)}", place, cure)
        for name, inner in inside:
            self.look_into(inner, f"{where}.{name}" if name else where)

    def _found_tensor(self, tensor: Tensor, where: str, place: str, cure: str) -> None:
        is_parameter = isinstance(tensor, nn.Parameter) or is_lazy(tensor)
        if id(tensor) in self.counted or not (is_parameter or _is_trained(tensor)):
            return
        self.counted.add(id(tensor))
        what = "Parameter" if is_parameter else "tensor that requires a gradient,"
        self._note(
            where, f"{what} with {_amount([tensor], 'element')}", place if is_parameter else "no nn.Parameter", cure
        )

    def _note(self, where: str, what: str, place: str, cure: str) -> None:
        message = f"{what} {place}: parameters() does not see it, and it is not in the count; {cure} to register it"
        self.notes.append(Note("unregistered", where, message))


def _is_trained(tensor: Tensor) -> bool:
    try:
        return tensor.requires_grad and tensor.is_leaf
    except RuntimeError:  # a view of memory that has changed since: FSDP leaves such in the place of parameters
        return False


def _is_plain_tuple(value: object) -> bool:
    """Whether it is a tuple of plain values: kernel sizes, shapes, names."""
    return type(value) is tuple and all(type(item) in _PLAIN for item in value)


def _contents(value: object, where: str) -> Iterator[tuple[object, str, _Holder, str]]:
    """Yield what a container or a plain object holds, each with its place and the kind of holder."""
    kind = type(value).__name__
    if isinstance(value, _SEQUENCES):
        for index, item in enumerate(value):
            yield item, f"{where}[{index}]", _LIST, kind
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield item, f"{where}[{key!r}]", _DICT, kind
    elif not _is_library(type(value)):
        for key, item in _attributes(value):
            yield item, f"{where}.{key}", _OBJECT, kind


def _attributes(value: object) -> list[tuple[str, Any]]:
    try:
        return list(vars(value).items())
    except TypeError:  # no __dict__
        return []


def _is_library(kind: type) -> bool:
    """Whether a class belongs to PyTorch, numpy or Python: its objects hold nothing that a user forgot to register."""
    root = (kind.__module__ or "").partition(".")[0]
    return root in {"torch", "numpy", "builtins"} or (root in sys.stdlib_module_names and root != "__main__")


def _amount(params: list[Any], noun: str = "parameter") -> str:
    if any(is_lazy(param) for param in params):
        return f"{noun}s of unknown shape"
    return plural(sum(param.numel() for param in params), noun)
