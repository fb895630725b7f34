"""Finds what of a module's state dict is no tensor, and which modules load theirs by code of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import FunctionType, MethodType
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import _WrappedHook

from paramcount.inventory import COUNTER, EXTRA_STATE, Special
from paramcount.modules.attributes import class_module

# Whose loading is that of any module, but for what ``paramcount.loading`` knows.
_KNOWN = {
    "torch.nn.modules.module",
    "torch.nn.modules.batchnorm",
    "torch.nn.modules.instancenorm",
    "torch.nn.modules.lazy",
    "torch.nn.utils.parametrizations",
}
# Whose loading is that of any module, but for files of earlier versions, which have other names.
_OF_OLD_NAMES = (
    "torch.nn.utils.spectral_norm",
    "torchvision.models.",
    "torchvision.ops.",
)


def find_special(modules: Iterable[tuple[str, nn.Module]], model: nn.Module) -> Iterator[Special]:
    """Yield what ``load_state_dict()`` of a model does beside filling its tensors, module by module."""
    if _module_of(type(model).load_state_dict) not in _KNOWN:
        yield Special("", "own")
    kinds: dict[type[nn.Module], tuple[bool, str]] = {}
    plain: set[type[nn.Module]] = set()  # nearly all
    for name, module in modules:
        kind = type(module)
        if COUNTER in module._buffers and not isinstance(module, _NormBase):  # noqa: SLF001
            yield Special(f"{name}.{COUNTER}".removeprefix("."), "own counter")
        before, after = module._load_state_dict_pre_hooks, module._load_state_dict_post_hooks  # noqa: SLF001
        if kind in plain and not before and not after:
            continue
        has_extra_state, loaded_in = kinds.get(kind) or kinds.setdefault(kind, _of_kind(kind))
        if has_extra_state:
            yield Special(f"{name}.{EXTRA_STATE}".removeprefix("."), "extra state")
        elif loaded_in in _KNOWN:
            plain.add(kind)
        hooks = [*before.values(), *after.values()]
        strangers = {loaded_in, *map(_module_of, hooks)} - _KNOWN
        if strangers:
            are_old = all(stranger.startswith(_OF_OLD_NAMES) for stranger in strangers)
            yield Special(name, "old names" if are_old else "own")
        elif hooks:
            yield from _weight_norms(name, module)


def _of_kind(kind: type[nn.Module]) -> tuple[bool, str]:
    """Return whether modules of a class want extra state, and which Python module has the code by which they load."""
    wants = kind.set_extra_state is not nn.Module.set_extra_state
    return wants, _module_of(kind._load_from_state_dict)  # noqa: SLF001  # there is no public name for it


def _module_of(hook: Any) -> str:
    """Return where a hook's code is. It may be any callable, of which nothing is asked that would run its code."""
    if type(hook) is _WrappedHook:
        hook = hook.hook
    if type(hook) is MethodType:
        hook = hook.__func__
    return str(hook.__module__) if type(hook) is FunctionType else class_module(type(hook))


def _weight_norms(name: str, module: nn.Module) -> Iterator[Special]:
    """Yield the parameters that are parametrized by weight norm, whose hook takes the names it had before."""
    from torch.nn.utils.parametrizations import _WeightNorm

    parametrizations = module._modules.get("parametrizations")  # noqa: SLF001  # the registry itself
    for key, steps in parametrizations.items() if isinstance(parametrizations, nn.ModuleDict) else ():
        if any(isinstance(step, _WeightNorm) for step in steps.children()):
            yield Special(f"{name}.{key}".removeprefix("."), "weight norm")
