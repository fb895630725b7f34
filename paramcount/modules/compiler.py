"""Keeps PyTorch's compiler from being imported where there is, so far, nothing to compile."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce, wraps
from importlib import import_module
from importlib.abc import MetaPathFinder
from operator import and_, or_
from types import FunctionType, ModuleType
from typing import Any, TypeVar

_COMPILER = "torch._dynamo"
_TOOLS = "torch._dynamo.utils"
_MARKS = "torch.compiler"
_SYMBOLS = "torch.fx.experimental.symbolic_shapes"

Made = TypeVar("Made")


@contextmanager
def compiler_put_off() -> Iterator[None]:
    """Let a library, inside this context, take what it needs of the compiler without importing all of it.

    torchvision has ``is_compile_supported`` for one branch of ``roi_align``, and timm marks five functions as not to be
    compiled; with either come seconds, and 100 MB. What they get here imports the compiler when it is called. Whoever
    imports anything else gets the real compiler.
    """
    if _COMPILER in sys.modules or _TOOLS in sys.modules:
        yield
        return
    stand_in, lookout = _StandIn(_TOOLS), _Lookout()
    sys.modules[_TOOLS] = stand_in
    sys.meta_path.insert(0, lookout)
    try:
        yield
    finally:
        sys.meta_path.remove(lookout)
        _make_way()
        lookout.give_back()


def is_compile_supported(device_type: Any) -> Any:
    """Ask the compiler."""
    return import_module(_TOOLS).is_compile_supported(device_type)


is_compile_supported._dynamo_marked_constant = True  # type: ignore[attr-defined]  # noqa: SLF001  # as on the real one


class _StandIn(ModuleType):
    """A module of one function, which makes way as soon as it is asked for another."""

    is_compile_supported = staticmethod(is_compile_supported)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _make_way()
        return getattr(import_module(_TOOLS), name)


class _Lookout(MetaPathFinder):
    """Finds nothing, but sees the compiler itself being imported, and PyTorch, which has a function that does that."""

    def __init__(self) -> None:
        self._marks: ModuleType | None = None  # once it is there
        self._disable: Any = None  # its own

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        del path, target
        if fullname == _COMPILER:
            _make_way()
        elif self._marks is None and hasattr(sys.modules.get(_MARKS), "disable"):
            self._marks = sys.modules[_MARKS]
            self._disable = self._marks.disable
            self._marks.disable = _disabling_later(self._disable)  # type: ignore[attr-defined]

    def give_back(self) -> None:
        if self._marks is not None:
            self._marks.disable = self._disable  # type: ignore[attr-defined]


def _disabling_later(disable: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``torch.compiler.disable`` as it would mark PyTorch's own functions: when they are called."""
    from torch._compile import _disable_dynamo

    @wraps(disable)
    def disabled(fn: Any = None, recursive: bool = True, **options: Any) -> Any:  # noqa: FBT001, FBT002  # PyTorch's
        if not isinstance(fn, FunctionType) or not recursive or options or _COMPILER in sys.modules:
            return disable(fn, recursive, **options)
        return _disable_dynamo(fn)

    return disabled


def _make_way() -> None:
    if isinstance(sys.modules.get(_TOOLS), _StandIn):
        del sys.modules[_TOOLS]


# Sizes ----------------------------------------------------------------------------------------------------------------


def by_plain_sizes(function: Callable[..., Made], *args: Any, **kwargs: Any) -> Made:
    """Call a function of PyTorch's that finds the shape of a result.

    Much of that is written in Python, and asks the compiler and sympy, of which it imports all, whether a size is a
    symbol without a value. Before they are imported there are no symbols: what is asked is answered here. Whoever asks
    for more, and whatever is imported meanwhile, gets the real ones.
    """
    if _SYMBOLS in sys.modules:
        return function(*args, **kwargs)
    answering = [kind(name) for name, kind in _ANSWERING.items() if name not in sys.modules]
    lookout = _AnyLookout()
    sys.modules.update({each.__name__: each for each in answering})
    sys.meta_path.insert(0, lookout)
    try:
        return function(*args, **kwargs)
    except (ImportError, AttributeError):  # of something that comes with the real ones
        _withdraw()
        return function(*args, **kwargs)
    finally:
        sys.meta_path.remove(lookout)
        _withdraw()
        for each in answering:
            each.forget()


def _withdraw() -> None:
    for name in _ANSWERING:
        if isinstance(sys.modules.get(name), _Answering):
            del sys.modules[name]


class _AnyLookout(MetaPathFinder):
    """Finds nothing, but sees that a module is being imported, which is to outlive all this."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        del fullname, path, target
        _withdraw()


class _Answering(ModuleType):
    """What stands in for a module, and makes way for it, with the others, when it has no answer."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _withdraw()
        return getattr(import_module(self.__name__), name)

    def forget(self) -> None:
        """Undo what PyTorch has noted of its answers."""


class _Sizes(_Answering):
    """Says of numbers, and of what is true or false, what the real module says."""

    @staticmethod
    def expect_true(condition: bool, _skip: int = 0) -> bool:  # noqa: FBT001  # PyTorch's
        return condition

    @staticmethod
    def guard_or_false(condition: bool) -> bool:  # noqa: FBT001  # the same
        return condition

    guard_or_true = guard_size_oblivious = statically_known_true = guard_or_false

    @staticmethod
    def sym_and(*conditions: bool) -> bool:
        return reduce(and_, conditions)

    @staticmethod
    def sym_or(*conditions: bool) -> bool:
        return reduce(or_, conditions)

    @staticmethod
    def sym_eq(one: Any, other: Any) -> bool:
        return list(one) == list(other) if isinstance(one, (tuple, list)) else bool(one == other)

    @staticmethod
    def is_nested_int(_size: object) -> bool:
        return False

    @staticmethod
    def has_guarding_hint(_size: object) -> bool:
        return True

    @staticmethod
    def guarding_hint_or_throw(size: Made) -> Made:
        return size


class _Symbol:
    """What no number is."""


class _Sympy(_Answering):
    def __getattr__(self, name: str) -> Any:
        return _Symbol if name == "Basic" and sys.modules.get("sympy") is self else super().__getattr__(name)


class _Compiler(_Answering):
    """Leaves alone a function that is not to be compiled, of which PyTorch takes a note."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._left_alone: list[Any] = []

    def disable(self, function: Callable[..., Made], *_how: Any, **_options: Any) -> Callable[..., Made]:
        self._left_alone.append(function)
        return function

    def forget(self) -> None:
        for function in self._left_alone:
            vars(function).pop("__dynamo_disable", None)


_ANSWERING: dict[str, type[_Answering]] = {
    _SYMBOLS: _Sizes,
    "sympy": _Sympy,
    _COMPILER: _Compiler,
}
