"""Finds modules and parameters that a model refers to, but that ``named_parameters()`` cannot see.

A model may refer to anything: a data set on a disk, a file that is closed, a server. So the search runs no code but
Python's own: it reads what objects store, and of containers only what lists, tuples, dicts, sets and deques store, a
subclass of them read as the one it derives from. It ends after a number of objects, and says so.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import _lru_cache_wrapper, partial, partialmethod
from gc import get_referents
from itertools import islice
from types import BuiltinMethodType, FunctionType, MappingProxyType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from paramcount.inventory import Note
from paramcount.modules.attributes import (
    bases,
    class_attributes,
    class_module,
    class_name,
    instance_attributes,
    slots,
)
from paramcount.units import exact, plural

# Looked into for one model: a trainer or a data set that a model refers to may lead anywhere.
_MOST_OBJECTS = 50_000
_MOST_ITEMS = 2_000_000  # of containers, most of them plain numbers and texts
_LONGEST_PLACE, _LONGEST_KEY = 1_000, 60  # characters


def find_unregistered(modules: Iterable[tuple[str, nn.Module]], counted: set[int]) -> tuple[Note, ...]:
    """Return a note for each module, and each trainable tensor, that hides from ``named_parameters()``.

    Args:
        modules: the registered modules by name.
        counted: ``id()`` of every parameter that is counted; those that are found are added.

    A reference to a registered module or parameter is no fault, nor is a module without parameters, nor what Lightning
    keeps of a constructor's arguments.

    """
    modules = list(modules)
    search = _Search({id(module) for _, module in modules}, counted)
    for name, module in modules:
        search.look_into(module, name)
    with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001  # a subclass of Tensor may have code of its own
        search.run()
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
_OPEN_OBJECT = _Holder("in a plain object of class {}", "assign it to self as well", "assign it to self as well")
_CALL = _Holder("in a {}", "assign it to self as well", "assign it to self as well")
_CLASS = _Holder("on the class {}", "assign it to self in __init__()", "assign it to self in __init__()")
_ATTRIBUTE = _Holder(
    "set past nn.Module's own __setattr__", "assign it as a plain attribute", "wrap it in nn.Parameter"
)

_INTERNALS = frozenset(vars(nn.Module())) | {"_flat_weights", "_is_full_backward_hook"}
_ARGUMENTS = frozenset({"_hparams", "_hparams_initial"})  # what save_hyperparameters() of Lightning keeps
_PLAIN = frozenset({str, bytes, int, float, complex, bool, type(None), type})
_SOUGHT = (nn.Module, Tensor)
_SEQUENCES = (list, tuple, set, frozenset, deque)
_CALLS = (FunctionType, MethodType, BuiltinMethodType, partial)
# Classes of Python's own that hold whatever a user puts into them.
_OPEN = (SimpleNamespace, Namespace, UserList, UserDict, ChainMap, partial, partialmethod, _lru_cache_wrapper)

_Found = tuple[Any, str, _Holder, str]  # a thing, its place, and what holds it


class _Search:
    """One pass over a model; everything is looked at once, what is near before what is far."""

    def __init__(self, registered: set[int], counted: set[int]) -> None:
        self.registered = registered
        self.counted = counted
        self.notes: list[Note] = []
        self._waiting: deque[_Found] = deque()
        self._items = _MOST_ITEMS
        self._seen: dict[int, object] = {}  # keeps what it has seen alive, so that an id stands for one object
        self._kinds: dict[type, tuple[frozenset[str], list[tuple[str, object, type]]]] = {}

    def look_into(self, module: nn.Module, name: str) -> None:
        """Have the attributes of a registered module searched."""
        prefix = f"{name}." if name else ""
        kind = type(module)
        left_out, on_class = self._kinds.get(kind) or self._kinds.setdefault(kind, (_left_out(kind), _on_class(kind)))
        for key, value in vars(module).items():  # of a module, as PyTorch itself does
            if key not in left_out and type(value) not in _PLAIN and not _is_plain(value):
                self._waiting.append((value, f"{prefix}{key}", _ATTRIBUTE, ""))
        for key, value, owner in on_class:
            self._waiting.append((value, prefix + key, _CLASS, class_name(owner)))

    def run(self) -> None:
        """Look at all that waits, and at what that holds."""
        while self._waiting:
            value, where, holder, kind = self._waiting.popleft()
            if id(value) in self._seen or id(value) in self.registered or issubclass(type(value), (type, ModuleType)):
                continue
            if issubclass(type(value), nn.Module):
                self._found_module(value, where, holder.kind.format(kind), holder.module_cure)
                continue
            self._seen[id(value)] = value
            if issubclass(type(value), Tensor):
                self._found_tensor(value, where, holder.kind.format(kind), holder.tensor_cure)
                continue
            if len(where) > _LONGEST_PLACE:
                self._cut(f"{where[:_LONGEST_KEY]}…", "it is nested too deeply")
                continue
            if len(self._seen) > _MOST_OBJECTS or self._items <= 0:
                self._cut(where, f"{exact(len(self._seen))} objects were looked into before")
                return
            held = list(islice(self._contents(value, where), _MOST_OBJECTS + 1))
            self._waiting.extendleft(found for found in reversed(held) if issubclass(type(found[0]), _SOUGHT))
            self._waiting.extend(found for found in held if not issubclass(type(found[0]), _SOUGHT))

    def _contents(self, value: Any, where: str) -> Iterator[_Found]:
        """Yield what a container, a function or a plain object holds."""
        kind = type(value)
        yield from self._items_of(value, where)
        if issubclass(kind, _CALLS):
            what = (
                "function" if kind is FunctionType else "functools.partial" if issubclass(kind, partial) else "method"
            )
            for key, item in _held_by_call(value):
                yield item, f"{where}.{key}", _CALL, what
        elif issubclass(kind, _OPEN) or not _is_library(kind):
            holder = _OPEN_OBJECT if _is_library(kind) else _OBJECT
            for key, item in (*dict.items(instance_attributes(value)), *slots(value).items()):
                if not _is_plain(item):
                    yield item, f"{where}.{_plain(key)}", holder, class_name(kind)

    def _items_of(self, value: Any, where: str) -> Iterator[_Found]:
        """Yield what a container holds, read as the one of Python's own that it is or derives from."""
        kind = type(value)
        sequence = next((base for base in _SEQUENCES if issubclass(kind, base)), None)
        if sequence is not None:
            items: Iterator[Any] = sequence.__iter__(value)
            for index, item in enumerate(self._rationed(items)):
                if not _is_plain(item):
                    yield item, f"{where}[{index}]", _LIST, class_name(kind)
        elif issubclass(kind, dict):
            for key, item in self._rationed(iter(dict.items(value))):
                if not _is_plain(item):
                    yield item, f"{where}[{_shown(key)}]", _DICT, class_name(kind)
        elif kind is MappingProxyType:  # the mapping that it stands for may be of any class
            yield from ((item, where, _DICT, class_name(kind)) for item in get_referents(value))

    def _rationed(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in islice(items, self._items):
            self._items -= 1
            yield item

    def _found_module(self, module: nn.Module, where: str, place: str, cure: str) -> None:
        inside = _modules_in(module)
        hidden: dict[int, Tensor] = {}
        for _, inner in inside:
            self.registered.add(id(inner))
            self._seen[id(inner)] = inner
            tensors = (param for _, param in _registry(inner, "_parameters") if param is not None)
            hidden.update((id(param), param) for param in tensors if id(param) not in self.counted)
        if hidden:
            self.counted.update(hidden)
            self._seen.update(hidden)
            self._note(where, f"{class_name(type(module))} with {_amount(hidden.values())}", place, cure)
        for name, inner in inside:
            self.look_into(inner, f"{where}.{name}" if name else where)

    def _found_tensor(self, tensor: Tensor, where: str, place: str, cure: str) -> None:
        is_parameter = (
            issubclass(type(tensor), nn.Parameter)
            or is_lazy(tensor)
            or instance_attributes(tensor).get("_is_param") is True
        )
        if id(tensor) in self.counted or not (is_parameter or _is_trained(tensor)):
            return
        self.counted.add(id(tensor))
        what = "Parameter" if is_parameter else "tensor that requires a gradient,"
        self._note(
            where, f"{what} with {_amount([tensor], 'element')}", place if is_parameter else "no nn.Parameter", cure
        )

    def _cut(self, where: str, why: str) -> None:
        said = f"the search for unregistered modules ends here: {why}, and there may be some that are not named"
        self.notes.append(Note("search-cut", where, said))

    def _note(self, where: str, what: str, place: str, cure: str) -> None:
        message = f"{what} {place}: parameters() does not see it, and it is not in the count; {cure} to register it"
        self.notes.append(Note("unregistered", where, message))


def _left_out(kind: type) -> frozenset[str]:
    """Return the attributes of modules of a class that are not looked into."""
    keeps_arguments = any(class_name(base) == "HyperparametersMixin" for base in bases(kind))
    return _INTERNALS | _ARGUMENTS if keeps_arguments else _INTERNALS


def _on_class(kind: type) -> list[tuple[str, object, type]]:
    """Return what is on a class, or one that it inherits from, and may hold a module."""
    holding = (*_SOUGHT, *_SEQUENCES, dict, *_OPEN)
    return [
        (key, value, owner)
        for owner in bases(kind)
        if not _is_library(owner)
        for key, value in class_attributes(owner).items()
        if not _plain(key).startswith("__")
        and (issubclass(type(value), holding) or (type(value) is FunctionType and value.__closure__ is not None))
    ]


def _held_by_call(value: Any) -> Iterator[tuple[str, object]]:
    """Yield what a function, a method or a partial keeps for when it is called."""
    if type(value) is FunctionType:
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not set yet
                continue
        yield "__defaults__", value.__defaults__ or ()
        yield "__kwdefaults__", value.__kwdefaults__ or {}
    elif type(value) is MethodType or type(value) is BuiltinMethodType:
        yield "__self__", value.__self__
        yield "__func__", getattr(value, "__func__", None)
    else:
        yield from slots(value).items()
        yield from dict.items(instance_attributes(value))


def _modules_in(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return a module and all that are registered below it, each once, whatever its class says of them."""
    found: dict[int, tuple[str, nn.Module]] = {}
    waiting = [("", module)]
    while waiting:
        name, here = waiting.pop()
        if id(here) in found:
            continue
        found[id(here)] = name, here
        below = [(f"{name}.{_plain(key)}".removeprefix("."), child) for key, child in _registry(here, "_modules")]
        waiting.extend((name, child) for name, child in reversed(below) if issubclass(type(child), nn.Module))
    return list(found.values())


def _registry(module: nn.Module, name: str) -> Iterable[tuple[str, Any]]:
    """Return the items of one of PyTorch's registries; a scripted module's are no dicts."""
    held = vars(module).get(name)
    if issubclass(type(held), dict):
        return dict.items(held)  # type: ignore[arg-type]  # as the line above says
    return held.items() if held is not None and class_module(type(held)).startswith("torch.") else ()


def _is_trained(tensor: Tensor) -> bool:
    try:
        return tensor.requires_grad and tensor.is_leaf
    except RuntimeError:  # a view of memory that has changed since: FSDP leaves such in the place of parameters
        return False


def _is_plain(value: object) -> bool:
    """Whether it is a number, a text and the like, or a tuple of such: kernel sizes, shapes, names."""
    kind = type(value)
    return kind in _PLAIN or (kind is tuple and all(type(item) in _PLAIN for item in value))  # type: ignore[attr-defined]


def _shown(key: object) -> str:
    """Return how a key of a dict reads: as it is written in Python, if that runs no code of a user's."""
    if not _is_plain(key):
        return f"<{class_name(type(key))}>"
    shown = repr(key)
    return shown if len(shown) <= _LONGEST_KEY else f"{shown[:_LONGEST_KEY]}…"


def _plain(key: object) -> str:
    return key if type(key) is str else f"<{class_name(type(key))}>"


def _is_library(kind: type) -> bool:
    """Whether a class belongs to PyTorch, numpy or Python: its objects hold nothing that a user forgot to register."""
    root = class_module(kind).partition(".")[0]
    return root in {"torch", "numpy", "builtins"} or (root in sys.stdlib_module_names and root != "__main__")


def _amount(params: Iterable[Any], noun: str = "parameter") -> str:
    params = list(params)
    if any(map(is_lazy, params)):
        return f"{noun}s of unknown shape"
    return plural(sum(param.numel() for param in params), noun)
