"""Lets functions of libraries act as others for a while: for all who hold them, and in modules imported meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.machinery import SourceFileLoader
from threading import enumerate as running_threads
from threading import get_ident
from types import FunctionType, MethodType, ModuleType
from typing import Any

# Called as the function would be, with the function itself first.
Substitute = Callable[..., Any]


@contextmanager
def substituted(substitutes: Mapping[str, Substitute]) -> Iterator[None]:
    """Let the functions called ``module:name`` or ``module:Class.name`` act as their substitutes.

    A function keeps its identity, so that it does not matter who imported it, when and under which name. Threads that
    ran before are not concerned.
    """
    wanted: dict[str, dict[str, Substitute]] = {}
    for place, substitute in substitutes.items():
        library, _, function = place.partition(":")
        wanted.setdefault(library, {})[function] = substitute
    others = bystanders()
    with ExitStack() as stack:

        def substitute_in(module: ModuleType) -> None:
            for name, substitute in wanted.get(module.__name__, {}).items():
                function = _function(module, name)
                if function is not None:
                    stack.callback(_replace(function, substitute, others))

        for name in wanted:
            if isinstance(module := sys.modules.get(name), ModuleType):
                substitute_in(module)
        with _after_each_import(substitute_in):
            yield


def bystanders() -> set[int | None]:
    """Return the threads that run already, but for this one."""
    return {thread.ident for thread in running_threads()} - {get_ident()}


def _function(module: ModuleType, name: str) -> FunctionType | None:
    """Return what a module itself defines under this name, if it is a function or a class method."""
    holder, _, last = name.rpartition(".")
    space = vars(module)
    if holder:
        kind = space.get(holder)
        space = dict(vars(kind)) if isinstance(kind, type) else {}
    found = space.get(last)
    found = found.__func__ if isinstance(found, classmethod | staticmethod | MethodType) else found
    return found if isinstance(found, FunctionType) else None


def _replace(function: FunctionType, substitute: Substitute, others: set[int | None]) -> Callable[[], None]:
    """Give a function the code of its substitute; return what gives it its own again."""
    code, defaults, keyword_defaults = function.__code__, function.__defaults__, function.__kwdefaults__
    original = FunctionType(code, function.__globals__, function.__name__, defaults, function.__closure__)
    original.__kwdefaults__ = keyword_defaults
    attributes = dict(function.__dict__)

    def act(*args: Any, **kwargs: Any) -> Any:
        if get_ident() in others:
            return original(*args, **kwargs)
        return substitute(original, *args, **kwargs)

    template = _calling.__code__
    constants = tuple(act if each == _ACT else each for each in template.co_consts)
    function.__code__ = template.replace(co_consts=constants, co_freevars=code.co_freevars, co_name=code.co_name)
    function.__defaults__ = function.__kwdefaults__ = None
    function.__dict__.setdefault("__wrapped__", original)  # where inspect.signature() looks

    def restore() -> None:
        function.__code__, function.__defaults__, function.__kwdefaults__ = code, defaults, keyword_defaults
        function.__dict__.clear()
        function.__dict__.update(attributes)

    return restore


_ACT = "what is called instead"


def _calling(*args: Any, **kwargs: Any) -> Any:
    act: Any = "what is called instead"
    return act(*args, **kwargs)


@contextmanager
def _after_each_import(then: Callable[[ModuleType], None]) -> Iterator[None]:
    run, own = SourceFileLoader.exec_module, vars(SourceFileLoader).get("exec_module")

    def exec_module(self: SourceFileLoader, module: ModuleType) -> None:
        run(self, module)
        then(module)

    SourceFileLoader.exec_module = exec_module  # type: ignore[method-assign,assignment]  # a module is a module
    try:
        yield
    finally:
        if own is None:  # it is inherited
            del SourceFileLoader.exec_module
        else:
            SourceFileLoader.exec_module = own  # type: ignore[method-assign]  # the same
