"""A user's own model: a class, a factory or an instance of nn.Module in a file or an importable module."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, get_type_hints

from paramcount.errors import BuildError, UnknownTarget, UsageError, closest, did_you_mean
from paramcount.inventory import Inventory
from paramcount.modules import take_inventory
from paramcount.modules.attributes import class_module
from paramcount.modules.failure import argument_hint, shown
from paramcount.modules.imports import Code, code_in_file, load, on_loan
from paramcount.sources import Target

if TYPE_CHECKING:
    from torch import nn

EXAMPLE = "net.py:Net, package.module:Net"
LIBRARIES = ("torch",)
IS_CATALOGUE = False
MEANING = "a class, factory or instance of your own; -a key=value gives arguments"

# What would be a module called json or ckpt, as in report.json:Net, is a part of a file.
# Nor is code run that is anywhere else than here.
_NO_PART = r"(?!.*\.(?:json|pt|pt2|pth|bin|ckpt):)(?!.*://)"
_FILE = re.compile(_NO_PART + r"(?P<place>.+\.py)(?::(?P<attr>[\w.]+))?", re.DOTALL)
_MODULE = re.compile(_NO_PART + r"(?P<place>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<attr>[\w.]+)")


_NAME_ONE = "name a class, a factory or an instance of torch.nn.Module"
_MOST_NAMED = 5
# What a constructor calls an object that it takes its sizes from.
_CONFIGS = {"args", "cfg", "conf", "config", "configuration", "hparams", "opt", "options", "opts"}


def claims(word: str) -> bool:
    """Whether the word has the form of a Python file, or of an importable module and a name in it."""
    return _FILE.fullmatch(word) is not None or _MODULE.fullmatch(word) is not None


def names() -> Iterable[str]:
    """Return the Python files in the current folder."""
    return sorted(path.name for path in Path.cwd().glob("*.py"))


def read(target: Target, name: str) -> Inventory:
    """Import the module, build the model without weights, and read it."""
    if target.weights is not None:
        raise UsageError(
            f"--weights is for torchvision's names, and {target.word} is not one", hint="use -a to pass arguments"
        )
    match = _FILE.fullmatch(name) or _MODULE.fullmatch(name)
    if match is None:
        raise UnknownTarget(f"{name!r} names no Python file, and no module:attribute", hint=f"for example: {EXAMPLE}")
    code = (
        code_in_file(match["place"], target.word)
        if name.endswith(".py") or ".py:" in name
        else Code(match["place"], None)
    )

    def construct() -> nn.Module:
        module = load(code, target.word)
        found, label = _find(module, match["attr"], target)
        return _instance(found, target.args, label)

    return take_inventory(
        construct,
        target=target.word,
        source="python",
        device=target.device,
        inputs=target.inputs,
        within=lambda: on_loan(code),
    )


def _find(module: ModuleType, attr: str | None, target: Target) -> tuple[Any, str]:
    """Return what the target names, and how to call it in a message."""
    place = target.word if attr is None else target.word.removesuffix(f":{attr}")
    if attr is None:
        attr = _only_candidate(module, target, place)
    found: Any = module
    parts = attr.split(".")
    for number, part in enumerate(parts):
        inside = _contents(found)
        if part not in inside and not hasattr(found, part):
            listed = {".".join([*parts[:number], key]) for key in inside} or _candidates(module)
            listed = listed or {name for name in vars(module) if not name.startswith("_")}
            hint = did_you_mean([f"{place}:{name}" for name in closest(attr, listed)])
            if hint is None and listed:
                hint = f"there is {', '.join(f'{place}:{name}' for name in sorted(listed)[:_MOST_NAMED])}"
            raise UnknownTarget(f"{place} has no {attr!r}", hint=hint)
        found = inside[part] if part in inside else getattr(found, part)
    return found, f"{place}:{attr}"


def _contents(thing: Any) -> dict[str, Any]:
    """Return what a dict or a list holds, by what names it: ``generator`` in ``net.py:nets.generator``."""
    if isinstance(thing, Mapping):
        return {str(key): value for key, value in thing.items()}
    return {str(index): value for index, value in enumerate(thing)} if isinstance(thing, list | tuple) else {}


def _models_inside(thing: Any, label: str) -> list[str]:
    """Return the targets that name the models in a dict or a list; another kind of container may never end."""
    if not issubclass(type(thing), dict | list | tuple):
        return []
    return [
        f"{label}.{key}"
        for key, value in _contents(thing).items()
        if re.fullmatch(r"\w+", key) and (_is_instance(value) or _is_model_class(value))
    ]


def _only_candidate(module: ModuleType, target: Target, place: str) -> str:
    """Return the one thing in a file that can be the model: an instance, else what can be built as things stand."""
    candidates = _candidates(module)
    if not candidates:
        public = {name: thing for name, thing in vars(module).items() if not name.startswith("_")}
        held = [word for name, thing in public.items() for word in _models_inside(thing, f"{place}:{name}")]
        hint = "define a class that inherits from torch.nn.Module, or name a factory: net.py:build"
        if held:
            hint = f"name one: {', '.join(held[:_MOST_NAMED])}"
        raise BuildError(f"{place} holds no model", hint=hint)
    for pick in (_has_parameters, lambda thing: not _mismatches(thing, target.args), lambda _: True):
        picked = _models({name: thing for name, thing in candidates.items() if pick(thing)}, target.args)
        if len(picked) == 1:
            return picked[0]
        if picked:
            listed = ", ".join(f"{place}:{name}" for name in picked)
            raise UsageError(f"{place} holds {len(picked)} models", hint=f"name one: {listed}")
    raise AssertionError  # the last pick takes all


def _models(candidates: Mapping[str, Any], args: Mapping[str, Any]) -> list[str]:
    """Return the names of those that may be meant: a loss, which has no parameters, is no model beside one that has."""
    names = list(candidates)
    models: list[str] = []
    for position, name in enumerate(names):
        if len(names) == 1 or len(models) > 1:  # then it is clear that there are several: nothing more is built
            return [*models, *names[position:]]
        if not _is_parameterless(candidates[name], args):
            models.append(name)
    return models or names


def _is_parameterless(thing: Any, args: Mapping[str, Any]) -> bool:
    if not _is_instance(thing) and not inspect.isclass(thing):
        return False  # a factory may do much
    try:
        return not _has_parameters(thing if _is_instance(thing) else _called(thing, args))
    except Exception:  # noqa: BLE001  # whatever a user's constructor raises
        return False


def _has_parameters(thing: Any) -> bool:
    return _is_instance(thing) and next(thing.parameters(), None) is not None


def _candidates(module: ModuleType) -> dict[str, Any]:
    """Return what in a module is an nn.Module: instances, classes, and functions that say they return one."""
    from torch import nn

    def is_candidate(thing: Any) -> bool:
        kind = type(thing)  # by which nothing is asked of what may import more as soon as it is
        if issubclass(kind, nn.Module):
            return True
        if issubclass(kind, type):
            return class_module(thing) == module.__name__ and _is_model_class(thing)
        return kind is FunctionType and thing.__module__ == module.__name__ and _returns_module(thing)

    return {name: thing for name, thing in vars(module).items() if not name.startswith("_") and is_candidate(thing)}


def _returns_module(function: Callable[..., Any]) -> bool:
    from torch import nn

    try:
        returned = get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001  # annotations may name anything
        return False
    return inspect.isclass(returned) and issubclass(returned, nn.Module)


def _is_model_class(thing: Any) -> bool:
    from torch import nn

    return issubclass(type(thing), type) and issubclass(thing, nn.Module)


def _is_instance(thing: Any) -> bool:
    from torch import nn

    return issubclass(type(thing), nn.Module)


def _instance(found: Any, args: Mapping[str, Any], label: str) -> nn.Module:
    """Return the model: ``found`` itself, or what it makes of ``args``."""
    from torch import nn

    if isinstance(found, nn.Module):
        if args:
            raise BuildError(
                f"{label} is a model already, and takes no arguments",
                hint=f"name its class instead: {type(found).__name__}",
            )
        return found
    if not callable(found):
        inside = _models_inside(found, label)
        hint = f"name one: {', '.join(inside[:_MOST_NAMED])}" if inside else _NAME_ONE
        raise BuildError(f"{label} is of type {type(found).__name__}, not a model", hint=hint)
    problems = _mismatches(found, args, label)
    if problems:
        raise BuildError(f"{label} {problems[0]}", hint=problems[1])
    model = _called(found, args)
    if not isinstance(model, nn.Module):
        returned = "None" if model is None else _article(type(model).__name__)
        kind = (
            "is a class, but not one of torch.nn.Module"
            if inspect.isclass(found)
            else f"returned {returned}, not a model"
        )
        raise BuildError(f"{label} {kind}", hint=_NAME_ONE)
    return model


def _called(function: Callable[..., Any], args: Mapping[str, Any]) -> Any:
    """Call ``function`` with ``args`` by name, also where it takes some by their place only."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C, or with a signature of its own making
        return function(**args)
    by_place = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
    while by_place and by_place[-1].name not in args:
        by_place.pop()  # all that follows the last one given has its default
    taken = {p.name for p in by_place}
    rest = {name: value for name, value in args.items() if name not in taken}
    return function(*(args.get(p.name, p.default) for p in by_place), **rest)


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _mismatches(function: Callable[..., Any], args: Mapping[str, Any], label: str = "") -> tuple[str, str] | None:
    """Return what is wrong with calling ``function`` with ``args``, and the cure; None where nothing is."""
    if _is_instance(function):
        return ("takes no arguments", "") if args else None
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C, or with a signature of its own making
        return None
    name = getattr(function, "__name__", "it")
    parameters = signature.parameters.values()
    keywords = [p.name for p in parameters if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key in args:
            if key not in keywords:
                return f"takes no argument {key!r}", argument_hint(key, name, signature)
    variadic = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic and p.name not in args]
    if needed:
        what = "an argument" if len(needed) == 1 else "arguments"
        return f"needs {what}: {', '.join(needed)}", _cure(function, needed, label, signature)
    return None


def _cure(function: Callable[..., Any], needed: Sequence[str], label: str, signature: inspect.Signature) -> str:
    """Return how to give the arguments that a constructor needs: by -a, or, where these are objects, by a factory."""
    place, _, attr = label.rpartition(":")
    objects = _objects(function)
    inside = ", ".join(f"{objects[each].__name__}()" if each in objects else f"{each}=…" for each in needed)
    factory = f"write a factory, def build(): return {attr}({inside}), and count {place}:build"
    if any(each in objects for each in needed):
        return f"no -a can give an object: {factory}"
    given = " ".join(f"-a {each}=…" for each in needed)
    cure = f"add {given}; its signature is {shown(getattr(function, '__name__', 'it'), signature)}"
    return f"{cure}; where an object is meant, {factory}" if _CONFIGS.intersection(needed) else cure


def _objects(function: Callable[..., Any]) -> dict[str, type]:
    """Return the parameters that are of a class of its own, which nothing in YAML is."""
    try:
        kinds = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except Exception:  # noqa: BLE001  # annotations may name anything
        return {}
    return {
        name: kind
        for name, kind in kinds.items()
        if inspect.isclass(kind) and kind.__module__ not in {"builtins", "collections.abc", "typing", "pathlib"}
    }
