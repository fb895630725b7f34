"""Evaluates what a target names in a module, a dotted path or an expression, and finds the model in its value."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import re
from collections.abc import Iterator, Mapping
from types import CodeType, ModuleType
from typing import Any

from paramcount.errors import BuildError, UnknownTarget, UsageError, closest, did_you_mean

_MOST_NAMED = 5


def is_expression(text: str) -> bool:
    """Whether a text has a call or an index in it; else it is a dotted path, whose keys may be any text."""
    return "(" in text or "[" in text


def evaluated(text: str, module: ModuleType, place: str) -> object:
    """Return the value of an expression in a module.

    Raises:
        UsageError: the text is no expression.
        UnknownTarget: it asks for a name that is not there.
        Exception: what the code that it calls raises.

    """
    names = vars(module)
    code = _compiled(text, place)
    known = {*names, *vars(builtins)}
    for name in _free_names(text):
        if name not in known:
            near = [f"{place}:{_renamed(text, name, each)}" for each in closest(name, names)]
            raise UnknownTarget(f"{place} has no {name!r}", hint=did_you_mean(near) or _there_is(names, place))
    try:
        return eval(code, names)  # noqa: S307  # it is the user's own, as the module is
    except AttributeError as error:
        trace = error.__traceback__
        if trace is None or trace.tb_next is None or trace.tb_next.tb_next is not None:
            raise  # of the code that it calls
        if not isinstance(error.obj, type | ModuleType) or not error.name:
            raise
        near = [f"{place}:{_renamed(text, error.name, each)}" for each in closest(error.name, dir(error.obj))]
        raise UnknownTarget(f"{place}: {error}", hint=did_you_mean(near)) from error


def _renamed(text: str, name: str, to: str) -> str:
    """Return an expression with another name for one, and not for longer ones that have it in them."""
    return re.sub(rf"\b{re.escape(name)}\b", to, text)


def _compiled(text: str, place: str) -> CodeType:
    try:
        return compile(text.strip(), "<target>", "eval")
    except (SyntaxError, ValueError) as error:  # a NUL
        at = f", at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise UsageError(
            f"{place}: {text!r} is no Python expression: {getattr(error, 'msg', error)}{at}",
            hint="quote it, so that the shell leaves it as it is: 'net.py:Net(width=64)'",
        ) from error


def _free_names(text: str) -> list[str]:
    """Return the names that an expression takes from its module."""
    nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    return [node.id for node in nodes if isinstance(node, ast.Name) and node.id not in bound]


def _there_is(names: Mapping[str, object], place: str) -> str | None:
    public = sorted(name for name in names if not name.startswith("_"))[:_MOST_NAMED]
    return f"there is {', '.join(f'{place}:{name}' for name in public)}" if public else None


def looked_up(text: str, module: ModuleType, place: str, candidates: Iterator[str]) -> object:
    """Return what a dotted path names: attributes, and keys of dicts and lists, which may hold any character.

    Raises:
        UnknownTarget: a part of it is not there.

    """
    found: Any = module
    rest, passed = text, ""
    while rest:
        inside = contents(found)
        part = max((key for key in inside if rest == key or rest.startswith(f"{key}.")), key=len, default=None)
        if part is not None:
            found = inside[part]
        else:
            part = rest.partition(".")[0]
            if not hasattr(found, part):
                listed = {f"{passed}{key}" for key in inside} or set(candidates)
                listed = listed or {name for name in vars(module) if not name.startswith("_")}
                near = closest(text, listed) or (closest(text, vars(module)) if found is module else [])
                hint = did_you_mean([f"{place}:{name}" for name in near])
                if hint is None and listed:
                    hint = f"there is {', '.join(f'{place}:{name}' for name in sorted(listed)[:_MOST_NAMED])}"
                raise UnknownTarget(f"{place} has no {text!r}", hint=hint)
            found = getattr(found, part)
        passed, rest = f"{passed}{part}.", rest[len(part) + 1 :]
    return found


def contents(thing: Any) -> dict[str, Any]:
    """Return what a dict or a list holds, by what names it: ``generator`` in ``net.py:nets.generator``.

    Another kind of container may never end, nor may what a subclass makes of these.
    """
    if issubclass(type(thing), dict):
        return {str(key): value for key, value in dict.items(thing)}
    kind = next((kind for kind in (list, tuple) if issubclass(type(thing), kind)), None)
    return {} if kind is None else {str(index): value for index, value in enumerate(kind.__iter__(thing))}


def model_in(value: object, label: str) -> object:
    """Return the only model that a tuple, a list, a dict or a dataclass holds; else the value as it is.

    Raises:
        BuildError: it holds several.

    """
    from torch import nn

    if isinstance(value, nn.Module):
        return value
    models = {how: each for how, each in _items(value) if isinstance(each, nn.Module)}
    if len(models) == 1:
        return next(iter(models.values()))
    deeper = [how + more for how, each in _items(value) for more, one in _items(each) if isinstance(one, nn.Module)]
    if found := [*models] or deeper:
        named = ", ".join(f"'{label}{how}'" for how in found[:_MOST_NAMED])
        count = f"{len(models)} models" if models else "a model further down"
        raise BuildError(f"{label} holds {count}", hint=f"name one: {named}")
    return value


def _items(value: object) -> Iterator[tuple[str, object]]:
    """Yield what a value holds, and what to write after the value for it."""
    if isinstance(value, dict):
        yield from ((f'["{key}"]' if isinstance(key, str) else f"[{key!r}]", each) for key, each in dict.items(value))
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", each) for index, each in contents(value).items())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f".{field.name}", getattr(value, field.name, None)) for field in dataclasses.fields(value))
