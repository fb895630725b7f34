"""What an object stores is read without running any code of its class."""

from __future__ import annotations

import functools
from types import ModuleType, SimpleNamespace
from typing import Any

from paramcount.modules.attributes import class_module, definer, instance_attributes, module_attributes, slots


class Traps:
    """Fails at whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(name)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def test_the_instance_dict_is_read_past_whatever_a_class_puts_in_its_way() -> None:
    class Plain:
        def __init__(self) -> None:
            self.held = 1

    class Trapped(Traps, Plain):
        pass

    class Property(Plain):
        @property
        def __dict__(self) -> Any:  # type: ignore[override]  # as some users do
            raise AssertionError

    assert instance_attributes(Plain()) == {"held": 1}
    trapped = object.__new__(Trapped)
    object.__setattr__(trapped, "held", 2)
    assert instance_attributes(trapped) == {"held": 2}
    assert instance_attributes(Property()) == {"held": 1}
    assert instance_attributes(SimpleNamespace(held=3)) == {"held": 3}
    assert instance_attributes(1) == {}


def test_slots_are_read_where_they_are_set_also_those_that_are_inherited_or_private() -> None:
    class Base:
        __slots__ = ("__private", "unset")

        def __init__(self) -> None:
            self.__private = 1

    class Slotted(Base):
        __slots__ = ("own",)

        def __init__(self) -> None:
            super().__init__()
            self.own = 2

        @property
        def computed(self) -> int:
            raise AssertionError

    assert slots(Slotted()) == {"own": 2, "_Base__private": 1}
    assert slots(functools.partial(int, "1", base=3)) == {"func": int, "args": ("1",), "keywords": {"base": 3}}


def test_what_stands_in_for_a_module_is_asked_for_nothing() -> None:
    class Lazy(Traps, ModuleType):
        pass

    lazy = ModuleType.__new__(Lazy)
    ModuleType.__init__(lazy, "lazy")
    assert module_attributes(lazy)["__name__"] == "lazy"
    assert module_attributes(Traps()) == {}
    assert module_attributes(None) == {}


def test_a_class_says_where_it_is_from_whatever_its_metaclass_does() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise AssertionError(name)

    class Odd(metaclass=Meta):
        def method(self) -> None: ...

    assert class_module(Odd) == __name__
    assert definer(Odd, "method") is Odd
    assert definer(Odd, "__hash__") is object
    assert definer(Odd, "missing") is None
