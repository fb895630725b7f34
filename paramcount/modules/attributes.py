"""Reads what an object stores, and runs no code of its class: no property, no ``__getattr__``.

``getattr()`` on a stranger's object may import a library, read a disk or never return. What is stored in its instance
dict and its slots is found by Python's own descriptors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import GetSetDescriptorType, MappingProxyType, MemberDescriptorType, ModuleType
from typing import Any

_MRO: Any = vars(type)["__mro__"]
_CLASS_DICT: Any = vars(type)["__dict__"]
_CLASS_MODULE: Any = vars(type)["__module__"]
_CLASS_NAME: Any = vars(type)["__name__"]
_MODULE_DICT: Any = vars(ModuleType)["__dict__"]


def bases(kind: type) -> tuple[type, ...]:
    """Return a class and all that it inherits from, in the order in which Python looks things up."""
    found: tuple[type, ...] = _MRO.__get__(kind)
    return found


def class_attributes(kind: type) -> Mapping[str, object]:
    """Return what a class itself defines, not what it inherits."""
    found: MappingProxyType[str, object] = _CLASS_DICT.__get__(kind)
    return found


def class_name(kind: type) -> str:
    """Return a class's name, without its module's."""
    return str.__str__(_CLASS_NAME.__get__(kind))


def class_module(kind: type) -> str:
    """Return the name of the module that defines a class; "" where none is told."""
    module = _CLASS_MODULE.__get__(kind)
    return module if type(module) is str else ""


def definer(kind: type, name: str) -> type | None:
    """Return which class gives ``kind`` the attribute ``name``."""
    return next((base for base in bases(kind) if name in class_attributes(base)), None)


def module_attributes(module: Any) -> Mapping[str, object]:
    """Return what an entry of ``sys.modules`` holds; what stands there may import when it is asked."""
    if issubclass(type(module), ModuleType):
        found: dict[str, object] = _MODULE_DICT.__get__(module)
        return found
    return instance_attributes(module)


def instance_attributes(value: object) -> dict[str, Any]:
    """Return an object's instance dict; an empty one where it has none."""
    kind: Any = type(value)
    reader = _dict_reader(kind)
    found = None if reader is None else reader(value)
    return found if isinstance(found, dict) else {}


@lru_cache(maxsize=4096)
def _dict_reader(kind: type) -> Callable[[object], Any] | None:
    for base in bases(kind):
        reader = class_attributes(base).get("__dict__")
        if type(reader) is GetSetDescriptorType or type(reader) is MemberDescriptorType:
            return reader.__get__
    return None


def slots(value: object) -> dict[str, Any]:
    """Return what an object holds in ``__slots__``, or in the members that a class written in C has."""
    found: dict[str, Any] = {}
    for base in bases(type(value)):
        for name, reader in class_attributes(base).items():
            if type(reader) is MemberDescriptorType and name not in found and not name.startswith("__"):
                try:
                    found[name] = reader.__get__(value)
                except AttributeError:  # not set
                    continue
    return found
