"""A user's own model: a class, a factory or an instance of nn.Module in a file or an importable module."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, get_type_hints

from paramcount.errors import BuildError, UnknownTarget, UsageError
from paramcount.inventory import Inventory
from paramcount.modules import take_inventory
from paramcount.modules.attributes import class_module
from paramcount.modules.expressions import contents, evaluated, is_expression, looked_up, model_in
from paramcount.modules.failure import argument_hint, shown
from paramcount.modules.imports import Code, code_in_file, load, on_loan
from paramcount.sources import Target

if TYPE_CHECKING:
    from torch import nn

EXAMPLE = "net.py:Net, package.module:Net, 'net.py:Net(width=64)'"
LIBRARIES = ("torch",)
IS_CATALOGUE = False
MEANING = "a class, factory or instance of your own, with -a key=value; or what makes one in Python"

# Of a file that ends in .py, or an importable module: what is meant, and what of it. What is in an address is run by
# nobody; and what would be a module called json or ckpt, as in report.json:Net, is a part of a file.
_FILE = re.compile(r"(?P<place>(?:(?!://).)+?\.py)(?::(?P<what>.+))?", re.DOTALL)
_PART = re.compile(r".*\.(?:json|pt|pt2|pth|bin|ckpt):", re.DOTALL)
_MODULE = re.compile(
    r"(?P<place>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<what>[\w.]+|[^\W\d]\w*\.[^:]+|[^\W\d][\w.]*\s*[(\[].*)", re.DOTALL
)


_NAME_ONE = "name a class, a factory or an instance of torch.nn.Module"
_MOST_NAMED = 5
# What a constructor calls an object that it takes its sizes from.
_CONFIGS = {"args", "cfg", "conf", "config", "configuration", "hparams", "opt", "options", "opts"}


def claims(word: str) -> bool:
    """Whether the word has the form of a Python file, or of an importable module and a name in it."""
    return _parted(word) is not None


def _parted(word: str) -> tuple[str, str | None, bool] | None:
    """Return the file or module that a word names, what of it, and whether it is a file."""
    for form, is_file in ((_MODULE, False), (_FILE, True)):
        match = form.fullmatch(word)
        if match is None or _PART.match(f"{match['place']}:") or (not is_file and match["place"].endswith(".py")):
            continue
        return match["place"], match["what"], is_file
    return None


def names() -> Iterable[str]:
    """Return the Python files in the current folder."""
    return sorted(path.name for path in Path.cwd().glob("*.py"))


def read(target: Target, name: str) -> Inventory:
    """Import the module, build the model without weights, and read it."""
    if target.weights is not None:
        raise UsageError(
            f"--weights is for torchvision's names, and {target.word} is not one", hint="use -a to pass arguments"
        )
    parted = _parted(name)
    if parted is None:
        raise UnknownTarget(f"{name!r} names no Python file, and no module:attribute", hint=f"for example: {EXAMPLE}")
    place, what, is_file = parted
    code = code_in_file(place, target.word) if is_file else Code(place, None)

    def construct() -> nn.Module:
        module = load(code, target.word)
        found, label = _find(module, what, target)
        return _instance(found, target.args, label)

    return take_inventory(
        construct,
        target=target.word,
        source="python",
        device=target.device,
        inputs=target.inputs,
        within=lambda: on_loan(code),
    )


def _find(module: ModuleType, what: str | None, target: Target) -> tuple[Any, str]:
    """Return what the target names, and how to call it in a message."""
    place = target.word if what is None else target.word.removesuffix(f":{what}")
    if what is None:
        what = _only_candidate(module, target, place)
    label = f"{place}:{what}"
    if is_expression(what):
        return model_in(evaluated(what, module, place), label), label
    return looked_up(what, module, place, iter(_candidates(module))), label


def _models_inside(thing: Any, label: str) -> list[str]:
    """Return the targets that name the models in a dict or a list, or what makes them."""
    inside = contents(thing)
    are_factories = bool(inside) and all(map(callable, inside.values()))
    return [
        f"{label}.{key}"
        for key, value in inside.items()
        if key and (are_factories or _is_instance(value) or _is_model_class(value))
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
    made = _called(found, args)
    model = model_in(made, label if label.endswith((")", "]")) else f"{label}({_written(args)})")
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


def _written(args: Mapping[str, Any]) -> str:
    """Return arguments as Python has them."""
    return ", ".join(f"{key}={value!r}" for key, value in args.items())


def _cure(function: Callable[..., Any], needed: Sequence[str], label: str, signature: inspect.Signature) -> str:
    """Return how to give the arguments that a constructor needs: by -a, or, where these are objects, in Python."""
    objects = _objects(function)
    inside = ", ".join(f"{objects[each]}" if objects.get(each) else f"{each}=…" for each in needed)
    written = f"write it in Python: '{label}({inside})'"
    if any(each in objects for each in needed):
        return f"no -a can give an object: {written}"
    given = " ".join(f"-a {each}=…" for each in needed)
    cure = f"add {given}; its signature is {shown(getattr(function, '__name__', 'it'), signature)}"
    return f"{cure}; where an object is meant, {written}" if _CONFIGS.intersection(needed) else cure


def _objects(function: Callable[..., Any]) -> dict[str, str]:
    """Return the parameters that are of a class, which nothing in YAML is; and how the user's module makes one."""
    try:
        kinds = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except Exception:  # noqa: BLE001  # annotations may name anything
        return {}
    return {
        name: _made(kind, function)
        for name, kind in kinds.items()
        if inspect.isclass(kind) and kind.__module__ not in {"builtins", "collections.abc", "typing", "pathlib"}
    }


def _made(kind: type, function: Callable[..., Any]) -> str:
    """Return the call that makes an object of a class, if its module knows the class, and it needs no arguments."""
    module = sys.modules.get(function.__module__)
    if module is None or vars(module).get(kind.__name__) is not kind or kind.__module__.partition(".")[0] == "torch":
        return ""
    return "" if _mismatches(kind, {}) else f"{kind.__name__}()"
