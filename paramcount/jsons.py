"""JSON as RFC 8259 has it, where Python's own reader is laxer: no NaN, no key twice, no nesting without end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

from paramcount.units import as_written

_MOST_VALUES = 4_000_000  # more than the report of a model of 100,000 tensors holds
_MOST_MEMORY = 160_000_000  # bytes that text may take: of each character four, where one is beyond the common ones
_LONGEST_NUMBER = 40  # digits; no count has more, and Python refuses to print very long integers


class MalformedJson(ValueError):
    """What is wrong with a text, and in which line, where that is known."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        """Keep the two apart, for a message that names the file between them."""
        super().__init__(problem)
        self.problem = problem
        self.line = line

    def place(self, file: str) -> str:
        """Return where it is, if ``file`` is where the text comes from: the file's name, and the line if known."""
        return file if self.line is None else f"{file}:{self.line}"


class _RepeatedKey(ValueError):
    """An object has a key twice."""


def load(data: bytes) -> Any:
    """Return the value of one JSON document in UTF-8, with or without a byte order mark.

    Raises:
        MalformedJson: it is none.

    """
    return _loaded(data, _DECODER.decode)


def load_first(data: bytes) -> Any:
    """Return the JSON value that a text in UTF-8 begins with; whatever follows is not looked at.

    Raises:
        MalformedJson: it begins with none.

    """
    return _loaded(data, lambda text: _DECODER.raw_decode(text)[0])


def _loaded(data: bytes, decode: Callable[[str], Any]) -> Any:
    # Before anything is built, by what separates and opens values: a few bytes of text can take a hundred as objects.
    if len(data) > _MOST_VALUES and (number := sum(map(data.count, (b",", b":", b"[", b"{")))) > _MOST_VALUES:
        raise MalformedJson(f"it holds about {number:,} values, and over {_MOST_VALUES:,} are not read")
    if len(data) * 4 > _MOST_MEMORY and (not data.isascii() or b"\\u" in data):
        raise MalformedJson(f"it is {len(data):,} bytes long, which is too much for text that is not plain ASCII")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedJson("it is not UTF-8 text", data.count(b"\n", 0, error.start) + 1) from error
    try:
        return decode(text)
    except json.JSONDecodeError as error:
        raise MalformedJson(f"it is not JSON: {error.msg}", error.lineno) from error
    except _RepeatedKey as error:
        key = str(error)
        raise MalformedJson(f"the key {as_written(key)} is there twice", _line_of_second(key, text)) from error
    except RecursionError as error:
        raise MalformedJson("it is nested too deep") from error


def line_of(keys: tuple[str, ...], text: str) -> int | None:
    """Return the line of the last of ``keys``, each of which is inside the one before; None where one is not found.

    Keys are looked for as text: a key may hide behind an equal one above it.
    """
    position = 0
    for key in keys:
        found = _key(key).search(text, position)
        if found is None:
            return None
        position = found.end()
    return text.count("\n", 0, position) + 1


def _line_of_second(key: str, text: str) -> int | None:
    places = [found.start() for found in _key(key).finditer(text)]
    return text.count("\n", 0, places[1]) + 1 if len(places) == 2 else None  # noqa: PLR2004  # else it may be any


def _key(key: str) -> re.Pattern[str]:
    return re.compile(re.escape(json.dumps(key)) + r"\s*:")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise _RepeatedKey(key)
        made[key] = value
    return made


def _no_number(word: str) -> NoReturn:
    raise MalformedJson(f"it is not JSON: {word} is no number")


def _int(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise MalformedJson(f"a number of {len(digits)} digits is too long")
    return int(digits)


# One for all: a header of safetensors is read in thousands of pieces.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number, parse_int=_int)
