"""Dotted names, and patterns for them: ``fnmatch``, where one that names a module covers all beneath it.

A folded name means what it shows: ``blocks.[0-11]`` are the twelve that a table has in that row. To ``fnmatch`` alone
it would be one character, of 0 to 1 or 1; where a range has single digits, the two say the same.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from fnmatch import translate

from paramcount.errors import UnmatchedPattern, closest, did_you_mean


def above(names: Iterable[str]) -> set[str]:
    """Return the names of all layers above ``names``."""
    found: set[str] = set()
    for name in names:
        while (name := name.rpartition(".")[0]) and name not in found:
            found.add(name)
    return found


def nearest(name: str, layers: Container[str]) -> str:
    """Return the nearest of ``layers`` above ``name``; "" where there is none."""
    while name := name.rpartition(".")[0]:
        if name in layers:
            break
    return name


def compiled(pattern: str) -> re.Pattern[str]:
    """Return what matches the names that a pattern stands for."""
    return re.compile(_regex(pattern))


class Matcher:
    """The names that a set of patterns covers, by themselves or by a module above them."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Compile the patterns; no patterns cover nothing."""
        self._pattern = re.compile("|".join(map(_regex, patterns))) if patterns else None
        self._known: dict[str, bool] = {"": False}

    def matches(self, name: str) -> bool:
        """Whether a pattern matches ``name`` itself."""
        return self._pattern is not None and self._pattern.match(name) is not None

    def covers(self, name: str) -> bool:
        """Whether a pattern matches ``name`` or a module that it is beneath."""
        if self._pattern is None:
            return False
        above = []  # names between `name` and the nearest one whose answer is known
        while name not in self._known:
            above.append(name)
            name = name.rpartition(".")[0]
        covered = self._known[name]
        for below in reversed(above):
            covered = covered or self._pattern.match(below) is not None
            self._known[below] = covered
        return covered


# A bracket of fnmatch, or a character.
_TOKEN = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)
_RANGE = re.compile(r"\[([0-9]{1,18})-([0-9]{1,18})\]")
_BEFORE, _AFTER = translate("").split(")", maxsplit=1)  # what fnmatch has around a regular expression


def _regex(pattern: str) -> str:
    """Return a regular expression for all of a name."""
    parts, waiting = [], ""
    for token in _TOKEN.findall(pattern):
        found = _RANGE.fullmatch(token)
        if found is None or max(map(len, found.groups())) == 1:
            waiting += token
        else:
            parts += [_translated(waiting), _numbers(int(found[1]), int(found[2]))]
            waiting = ""
    return f"{_BEFORE}{''.join(parts)}{_translated(waiting)}){_AFTER}"


def _translated(pattern: str) -> str:
    return translate(pattern).removeprefix(_BEFORE).removesuffix(f"){_AFTER}")


def _numbers(first: int, last: int) -> str:
    """Return a regular expression for the whole numbers of a range, without leading zeros."""
    choices, start = [], first
    while start <= last:
        end = min(last, 10 ** len(str(start)) - 1)
        choices.append(_of_one_length(str(start), str(end)))
        start = end + 1
    return f"(?:{'|'.join(choices)})" if choices else "(?!)"


def _of_one_length(first: str, last: str) -> str:
    """Return a regular expression for a range of numbers of as many digits."""
    if first == last:
        return first
    if first[0] == last[0]:
        return first[0] + _of_one_length(first[1:], last[1:])
    low, high, more = int(first[0]), int(last[0]), len(first) - 1
    choices = []
    if more and set(first[1:]) != {"0"}:
        choices, low = [first[0] + _of_one_length(first[1:], "9" * more)], low + 1
    if more and set(last[1:]) != {"9"}:
        choices, high = [*choices, last[0] + _of_one_length("0" * more, last[1:])], high - 1
    if low <= high:
        choices.append(f"[{low}-{high}]" + "[0-9]" * more)
    return f"(?:{'|'.join(choices)})"


def demand_matches(patterns: Iterable[str], names: Iterable[str], *, option: str, target: str) -> None:
    """Raise UnmatchedPattern for all patterns that cover none of ``names``."""
    names = list(names)
    tops = list(dict.fromkeys(name.partition(".")[0] for name in names))
    problems, hints = [], []
    for pattern in patterns:
        if not any(map(Matcher([pattern]).covers, names)):
            problems.append(f"{option} {pattern!r} matches nothing in {target}")
            hints.append(did_you_mean(closest(pattern, names)) or f"there is {', '.join(tops[:5])}")
    if problems:
        raise UnmatchedPattern("; ".join(problems), hint="; ".join(dict.fromkeys(hints)))
