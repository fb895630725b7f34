"""PEFT's adapters: what is base, what is adapter, what is a copy that runs in the place of an original."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from paramcount.inventory import Note, Param
from paramcount.modules.attributes import bases, class_module
from paramcount.units import exact

# Under which names PEFT's modules keep what is not theirs.
_BASE = frozenset({"base_model", "model", "base_layer", "original_module"})
_COPIES = "modules_to_save"
_ORIGINAL = "original_module"


@dataclass(frozen=True, slots=True)
class _Role:
    """What one parameter is to a PEFT model."""

    kind: Literal["base", "adapter", "copy"]
    adapter: str = ""
    rest: str = ""  # why nothing passes through it, as the model stands; "": something does
    replaced: str = ""  # the place of the module that a copy replaces


_PLAIN_BASE = _Role("base")


def find_adapters(
    places: Iterable[tuple[str, nn.Module]], params: dict[str, Param]
) -> tuple[dict[str, Param], tuple[Note, ...]]:
    """Return the parameters, marked by adapter and where nothing passes through, and what there is to say of adapters.

    Nothing passes through an adapter that is not active, or is merged into the base, nor through an original whose copy
    in ``modules_to_save`` is active. All of them are parameters still, and count.

    Args:
        places: each module under each of its names, the model itself first.
        params: by name.

    """
    if "peft" not in sys.modules:
        return params, ()
    modules = dict(places)
    ours = {name for name, module in modules.items() if _is_of_peft(type(module))}
    if not ours:
        return params, ()
    roles = {name: _role(name, modules, ours) for name in params}
    if all(role.kind == "base" for role in roles.values()):
        return params, ()
    configs = _configs(modules[name] for name in ("", *ours))
    # A tensor that is tied is at rest only where it is under all of its names.
    running = {params[name].tied_to or name for name, role in roles.items() if not role.rest}
    marked = {
        name: param._replace(
            active=0 if roles[name].rest and (param.tied_to or name) not in running else param.active,
            adapter=None if roles[name].kind == "base" else _named(roles[name], configs),
        )
        for name, param in params.items()
    }
    counted = [(roles[name], param) for name, param in marked.items() if param.tied_to is None]
    return marked, (
        *_adapter_notes(counted, configs),
        *_original_notes(counted),
    )


def _is_of_peft(kind: type) -> bool:
    return any(class_module(base).startswith("peft.") for base in bases(kind))


def _role(name: str, modules: Mapping[str, nn.Module], ours: set[str]) -> _Role:
    """Return a parameter's role by its place: PEFT keeps adapters in dicts, by their names, in modules of its own."""
    steps = name.split(".")
    for at, step in enumerate(steps[:-1]):
        above = ".".join(steps[:at])
        if above not in ours:
            continue
        if step == _ORIGINAL and _is_replaced(modules[above]):
            return _Role("base", rest="replaced", replaced=above)
        below = modules.get(".".join(steps[: at + 1]))
        if step not in _BASE and isinstance(below, nn.ModuleDict | nn.ParameterDict):
            adapter = steps[at + 1]
            return _Role("copy" if step == _COPIES else "adapter", adapter, _rest(modules[above], step, adapter))
    holder = ".".join(steps[:-1])
    return _Role("adapter") if holder in ours else _PLAIN_BASE


def _active(module: nn.Module) -> list[str]:
    """Return the names of the adapters that a module of PEFT's passes its input through, in its own order."""
    if getattr(module, "disable_adapters", False) is True:
        return []
    active = getattr(module, "active_adapters", [])
    return [active] if isinstance(active, str) else list(active)


def _is_replaced(wrapper: nn.Module) -> bool:
    copies = wrapper._modules.get(_COPIES)  # noqa: SLF001  # the registry itself
    return isinstance(copies, nn.ModuleDict) and any(adapter in copies for adapter in _active(wrapper))


def _rest(module: nn.Module, step: str, adapter: str) -> str:
    """Return why nothing passes through what a module of PEFT's keeps of an adapter."""
    active, merged = _active(module), getattr(module, "merged_adapters", None) or ()
    if adapter in merged:
        return "merged into the base"
    if merged or (active[:1] != [adapter] if step == _COPIES else adapter not in active):
        return "not active"  # of copies only one can take the place of the original
    return ""


def _configs(modules: Iterable[nn.Module]) -> dict[str, Any]:
    """Return the settings of each adapter, by its name."""
    configs: dict[str, Any] = {}
    for module in modules:
        # PEFT's own compute it; a model that transformers has put adapters into stores it.
        is_ours = _is_of_peft(type(module))
        found = getattr(module, "peft_config", None) if is_ours else vars(module).get("peft_config")
        if isinstance(found, Mapping):
            configs |= found
    return configs


def _adapter_notes(counted: list[tuple[_Role, Param]], configs: Mapping[str, Any]) -> Iterator[Note]:
    base = [param for role, param in counted if role.kind == "base"]
    own = [param for role, param in counted if role.kind == "adapter"]
    copies = [param for role, param in counted if role.kind == "copy"]
    parts = [f"base {_sizes(base)}", f"adapters {_sizes(own)}"]
    if copies:
        parts.append(f"{_COPIES} {_sizes(copies)}")
    yield Note("adapter", "", " · ".join(parts))
    for name in dict.fromkeys((*configs, *(role.adapter for role, _ in counted if role.adapter))):
        held = [part for part in counted if part[0].kind == "adapter" and _named(part[0], configs) == name]
        saved = [part for part in counted if part[0].kind == "copy" and part[0].adapter == name]
        said = [_in_use(held)] if held or not saved else []
        said += [f"{_in_use(saved)} in {_COPIES}"] if saved else []
        kind = _kind(configs.get(name))
        yield Note("adapter", "", f"{name} ({kind}): {', '.join(said)}" if kind else f"{name}: {', '.join(said)}")


def _in_use(parts: list[tuple[_Role, Param]]) -> str:
    rests = {role.rest for role, _ in parts}
    said = _sizes(param for _, param in parts)
    if "" in rests:
        return said if rests == {""} else f"{said} and in part {', '.join(sorted(rests - {''}))}"
    return " and ".join([said, *sorted(rests)])


def _named(role: _Role, configs: Mapping[str, Any]) -> str:
    """Return the name of the adapter that a parameter is of; where nothing says of which it is, of the only one."""
    return role.adapter or (next(iter(configs)) if len(configs) == 1 else "")


def _kind(config: Any) -> str:
    """Return the type of an adapter, and its rank: "LORA, rank 8"."""
    kind = getattr(config, "peft_type", None)
    said = [str(getattr(kind, "value", kind))] if kind else []
    if type(rank := getattr(config, "r", None)) is int:
        said.append(f"rank {rank}" + (" with exceptions" if getattr(config, "rank_pattern", None) else ""))
    if getattr(config, "use_dora", False):
        said.append("DoRA")
    return ", ".join(said)


def _original_notes(counted: list[tuple[_Role, Param]]) -> Iterator[Note]:
    replaced: dict[str, list[Param]] = {}
    for role, param in counted:
        if role.replaced and param.active == 0:
            replaced.setdefault(role.replaced, []).append(param)
    for place, params in replaced.items():
        message = f"a copy in {_COPIES} replaces its {_ORIGINAL}, which counts, but is not in use: {_sizes(params)}"
        yield Note("adapter", place, message)


def _sizes(params: Iterable[Param]) -> str:
    params = list(params)
    total = sum(param.numel or 0 for param in params)
    trainable = sum(param.numel or 0 for param in params if param.trainable)
    if trainable in {0, total}:
        return f"{exact(total)} {'trainable' if trainable else 'frozen'}" if total else "0"
    return f"{exact(total)} ({exact(trainable)} trainable)"
