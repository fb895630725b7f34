"""Keeps PyTorch's compiler from being imported along with a library that has, so far, nothing to compile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
_TOOLS = "torch._dynamo.utils"


@contextmanager
def compiler_put_off() -> Iterator[None]:
    """Let a library import the compiler's ``is_compile_supported`` inside this context, and nothing else of it.

    torchvision has it for one branch of ``roi_align``, and all of the compiler comes with it: a second, and 100 MB.
    What it gets here imports the compiler when it is called. Whoever imports anything else gets the real compiler.
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
    """Finds nothing, but sees the compiler itself being imported."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        del path, target
        if fullname == _COMPILER:
            _make_way()


def _make_way() -> None:
    if isinstance(sys.modules.get(_TOOLS), _StandIn):
        del sys.modules[_TOOLS]
