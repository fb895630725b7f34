"""Dotted names, and patterns for them: ``fnmatch``, where one that names a module covers all beneath it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate

from paramcount.errors import UnmatchedPattern, closest, did_you_mean


def above(names: Iterable[str]) -> set[str]:
    """Return the names of all layers above ``names``."""
    found: set[str] = set()
    for name in names:
        while (name := name.rpartition(".")[0]) and name not in found:
            found.add(name)
    return found


class Matcher:
    """The names that a set of patterns covers, by themselves or by a module above them."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Compile the patterns; no patterns cover nothing."""
        self._pattern = re.compile("|".join(translate(pattern) for pattern in patterns)) if patterns else None
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


# A folded row's name, taken for a pattern: to fnmatch [0-95] is one character, of 0 to 9 or 5.
_RANGE = re.compile(r"\[(?:\d-\d\d+|\d\d+-\d+)\]")


def demand_matches(patterns: Iterable[str], names: Iterable[str], *, option: str, target: str) -> None:
    """Raise UnmatchedPattern for all patterns that cover none of ``names``, or not those that they seem to."""
    names = list(names)
    tops = list(dict.fromkeys(name.partition(".")[0] for name in names))
    problems, hints = [], []
    for pattern in patterns:
        if _RANGE.search(pattern):
            problems.append(f"{option} {pattern!r}: [ ] holds the choices for one character, not a range of numbers")
            hints.append("write * for all of them, or name them one by one")
        elif not any(map(Matcher([pattern]).covers, names)):
            problems.append(f"{option} {pattern!r} matches nothing in {target}")
            hints.append(did_you_mean(closest(pattern, names)) or f"there is {', '.join(tops[:5])}")
    if problems:
        raise UnmatchedPattern("; ".join(problems), hint="; ".join(dict.fromkeys(hints)))
