"""Frozen values as JSON, and back: what is read must have the types that the fields of its class declare."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, partial
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
_Reader = Callable[[Any], Any]


class Mistyped(ValueError):
    """A text is not the JSON of the value that it should be of."""


def dumps(value: object) -> bytes:
    """Return a value as JSON in ASCII, on one line: a dataclass or named tuple is the list of its fields."""
    return json.dumps(value, default=_listed, separators=(",", ":")).encode("ascii")


def loads(kind: type[_T], data: bytes) -> _T:
    """Return the value of a class that ``dumps`` made these bytes of.

    Raises:
        Mistyped: they are of no such value.

    """
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Mistyped("it is not JSON") from error
    return read(kind, plain)


def read(kind: type[_T], plain: Any) -> _T:
    """Return the value of a class from what JSON makes of it. Every integer is a count: none is below 0.

    Raises:
        Mistyped: a field has another type than the class declares, or there are more or fewer of them.

    """
    try:
        value: _T = _reader(cast("Any", kind))(plain)
    except (ValueError, TypeError) as error:
        raise Mistyped(str(error)) from error
    return value


def _listed(value: object) -> list[object]:
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


@cache
def _reader(hint: Any) -> _Reader:
    """Return what checks a plain value against a type, and makes it one of that."""
    if hint is Any or hint is object:
        return lambda value: value
    if hint in {str, bool, float, NoneType}:
        return partial(_exactly, hint)
    if hint is int:
        return _count
    if (origin := get_origin(hint)) is not None:
        return _FORMS[origin](get_args(hint))
    hints = get_type_hints(hint)
    names = [each.name for each in fields(hint)] if is_dataclass(hint) else hint._fields
    return partial(_row, lambda values: hint(*values), tuple(_reader(hints[name]) for name in names))


def _of_tuple(hints: tuple[Any, ...]) -> _Reader:
    if hints[1:] == (...,):
        return partial(_list, _reader(hints[0]))
    return partial(_row, tuple, tuple(map(_reader, hints)))


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise _wrong(value, "no count")
    return value


def _exactly(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise _wrong(value, f"no {kind.__name__}")
    return value


def _one_of(allowed: tuple[Any, ...], value: Any) -> Any:
    if type(value) is not str or value not in allowed:
        raise _wrong(value, f"none of {', '.join(allowed)}")
    return value


def _of_any(hints: tuple[Any, ...]) -> _Reader:
    readers = [_reader(hint) for hint in hints if hint is not NoneType]

    def either(value: Any) -> Any:
        if value is None and len(readers) < len(hints):
            return None
        for reader in readers[:-1]:
            try:
                return reader(value)
            except (ValueError, TypeError):
                continue
        return readers[-1](value)

    return either


def _list(reader: _Reader, value: Any) -> tuple[Any, ...]:
    return tuple(map(reader, _exactly(list, value)))


def _row(make: Callable[[Any], Any], readers: tuple[_Reader, ...], value: Any) -> Any:
    if type(value) is not list or len(value) != len(readers):
        raise _wrong(value, f"no list of {len(readers)}")
    return make([reader(each) for reader, each in zip(readers, value, strict=True)])


def _mapping(reader: _Reader, value: Any) -> dict[str, Any]:
    return {key: reader(each) for key, each in _exactly(dict, value).items()}


def _wrong(value: Any, what: str) -> Mistyped:
    from paramcount.units import as_written

    return Mistyped(f"{as_written(value)} is {what}")


_FORMS: Mapping[Any, Callable[[tuple[Any, ...]], _Reader]] = {
    Literal: lambda hints: partial(_one_of, hints),
    Union: _of_any,
    UnionType: _of_any,
    tuple: _of_tuple,
    Mapping: lambda hints: partial(_mapping, _reader(hints[1])),
    dict: lambda hints: partial(_mapping, _reader(hints[1])),
}
