"""``models.lock.json``: the counts that each model had when it was locked, as values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from paramcount.budgets import Baseline
from paramcount.diff import Side, own_tallies
from paramcount.errors import EXIT_DIFFERS, ParamcountError
from paramcount.jsons import MalformedJson, line_of, load
from paramcount.patterns import nearest
from paramcount.report import Report, Tally
from paramcount.units import as_written, exact

FILE: Final = "models.lock.json"
FORMAT_VERSION: Final = "1.0"

_COUNTS = ("total", "trainable", "frozen", "unknown", "uninitialized", "bytes")
# What git leaves where two branches wrote the same lines: https://git-scm.com/docs/git-merge#_how_conflicts_are_presented
_CONFLICT = ("<<<<<<< ", "||||||| ", ">>>>>>> ")


class BadLock(ParamcountError):
    """A lock that is there cannot be read, and is never taken for an empty one."""

    code = "bad-lock"


class Unlisted(ParamcountError):
    """A model is in the lock, and not in models.yaml."""

    code = "unlisted"
    exit_code = EXIT_DIFFERS

    def __init__(self, name: str, lock: str, config: str) -> None:
        """Name the model, and the two files."""
        super().__init__(f"model {name!r} is in {lock}, and not in {config}", hint="paramcount lock takes it out")


@dataclass(frozen=True, slots=True)
class Entry:
    """What one model had."""

    tally: Tally
    buffers: int  # elements
    layers: Mapping[str, Tally]  # by dotted name: all that hold parameters, each with all below it

    @classmethod
    def of(cls, report: Report) -> Entry:
        """Return what is locked of a report."""
        side = Side.of(report)
        return cls(side.tally, side.buffers, side.layers)

    def baseline(self, report: Report) -> Baseline:
        """Return what a verdict on ``report`` needs to know of the entry."""
        said = tuple(map(str, differences(self, Entry.of(report))))
        return Baseline(self.total, bool(self.tally.uninitialized), said)

    def side(self, label: str) -> Side:
        """Return the entry as one side of a comparison; of types and parameters it knows nothing."""
        return Side(label, self.tally, self.buffers, self.layers)

    @property
    def total(self) -> int:
        """Elements of all parameters; a lower bound while ``tally.uninitialized`` is not 0."""
        return self.tally.total


@dataclass(frozen=True, slots=True)
class Lock:
    """All of a file."""

    entries: Mapping[str, Entry] = field(default_factory=dict)  # by the model's name in models.yaml
    exists: bool = True  # False: there is no file yet

    def updated(self, name: str, entry: Entry) -> Lock:
        """Return the lock with one entry new, and all others as they are."""
        return Lock({**self.entries, name: entry})

    def only(self, names: Iterable[str]) -> Lock:
        """Return the lock without the models that are none of ``names``."""
        kept = set(names)
        return replace(self, entries={name: entry for name, entry in self.entries.items() if name in kept})


# Reading and writing --------------------------------------------------------------------------------------------------


def read(path: str | Path) -> Lock:
    """Read a file; one that is not there is an empty lock that says so.

    Raises:
        BadLock: it is there, and cannot be read or is not what ``dumps`` writes.

    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return Lock(exists=False)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise BadLock(f"cannot read {path}: {reason}") from error
    return loads(data, file=str(path))


def loads(data: bytes, *, file: str = FILE) -> Lock:
    """Read a file's content; ``file`` is what messages call it.

    Raises:
        BadLock: it is not what ``dumps`` writes.

    """
    _demand_no_conflict(data, file)
    try:
        return _lock(load(data))
    except MalformedJson as error:
        raise _bad(file, error.line, error.problem) from error
    except _Misfit as error:
        names = ", ".join(as_written(name) for name in error.keys[1::2])  # of the model, and of the layer in it
        problem = f"{names}: {error.problem}" if names else error.problem
        raise _bad(file, line_of(error.keys, data.decode("utf-8-sig")), problem) from error


def dumps(lock: Lock) -> str:
    """Return a file's content: models and layers sorted by name, one a line, the same for the same lock."""
    models = ",\n".join(_model(name, entry) for name, entry in sorted(lock.entries.items()))
    inside = f"{{\n{models}\n  }}" if models else "{}"
    return f'{{\n  "format_version": "{FORMAT_VERSION}",\n  "models": {inside}\n}}\n'


def _model(name: str, entry: Entry) -> str:
    totals = {**_counts(entry.tally), "buffers": entry.buffers}
    lines = [f'      "{key}": {number},' for key, number in totals.items()]
    layers = [
        f"        {json.dumps(layer)}: {json.dumps(_counts(entry.layers[layer]))}" for layer in sorted(entry.layers)
    ]
    inside = ",\n".join(layers)
    lines.append(f'      "layers": {{\n{inside}\n      }}' if layers else '      "layers": {}')
    return "\n".join([f"    {json.dumps(name)}: {{", *lines, "    }"])


def _counts(tally: Tally) -> dict[str, int]:
    numbers = (tally.total, tally.trainable, tally.frozen, tally.unknown, tally.uninitialized, tally.nbytes)
    return dict(zip(_COUNTS, numbers, strict=True))


def _demand_no_conflict(data: bytes, file: str) -> None:
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.startswith(tuple(marker.encode() for marker in _CONFLICT)):
            hint = "take either side, then run paramcount lock"
            raise BadLock(f"{file}:{number}: a merge conflict is not resolved", hint=hint)


def _bad(file: str, line: int | None, problem: str) -> BadLock:
    place = file if line is None else f"{file}:{line}"
    return BadLock(f"{place}: {problem}", hint="restore it from version control, or delete it and run paramcount lock")


class _Misfit(ValueError):
    """JSON that is no lock."""

    def __init__(self, keys: tuple[str, ...], problem: str) -> None:
        super().__init__(problem)
        self.keys = keys  # that lead to it
        self.problem = problem


def _lock(document: Any) -> Lock:
    version = document.get("format_version") if isinstance(document, dict) else None
    if version is None:
        raise _Misfit((), "it is no lock of paramcount")
    if not isinstance(version, str) or version.partition(".")[0] != FORMAT_VERSION.partition(".")[0]:
        problem = f"format_version {as_written(version)} is unknown: this paramcount reads {FORMAT_VERSION}"
        raise _Misfit(("format_version",), problem)
    models = _mapping(document, "models", ())
    return Lock({name: _entry(models, name) for name in models})


def _entry(models: Mapping[str, Any], name: str) -> Entry:
    keys = ("models", name)
    written = _mapping(models, name, keys[:1])
    tally = _read_tally(written, keys)
    layers = _mapping(written, "layers", keys)
    tallies = {
        layer: _read_tally(_mapping(layers, layer, (*keys, "layers")), (*keys, "layers", layer)) for layer in layers
    }
    for layer, own in own_tallies(tally, tallies).items():
        if min(astuple(own)) < 0:
            place = (*keys, "layers", layer) if layer else keys
            raise _Misfit(place, "the layers in it add up to more than it has")
    return Entry(tally, _number(written, "buffers", keys), tallies)


def _read_tally(written: Mapping[str, Any], keys: tuple[str, ...]) -> Tally:
    total, trainable, frozen, unknown, uninitialized, nbytes = (_number(written, key, keys) for key in _COUNTS)
    tally = Tally(trainable, frozen, unknown, nbytes, uninitialized)
    if tally.total != total:
        problem = f"total is {exact(total)}, and trainable, frozen and unknown add up to {exact(tally.total)}"
        raise _Misfit(keys, problem)
    return tally


def _mapping(written: Mapping[str, Any], key: str, keys: tuple[str, ...]) -> dict[str, Any]:
    value = _value(written, key, keys)
    if not isinstance(value, dict):
        raise _Misfit((*keys, key), f"{as_written(key)} cannot be {as_written(value)}")
    return value


def _number(written: Mapping[str, Any], key: str, keys: tuple[str, ...]) -> int:
    value = _value(written, key, keys)
    if type(value) is not int or value < 0:  # a bool is an int to Python
        raise _Misfit((*keys, key), f"{key} cannot be {as_written(value)}")
    return value


def _value(written: Mapping[str, Any], key: str, keys: tuple[str, ...]) -> Any:
    if key not in written:
        raise _Misfit(keys, f"there is no {as_written(key)}")
    return written[key]


# Comparing ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """One number that differs between two entries."""

    layer: str  # "" is the whole model
    count: str  # "total", "trainable", …
    old: int | None  # None: there is no such layer
    new: int | None

    def __str__(self) -> str:
        """Return «fc: total 2,049,000 → 20,490», «fc: added, total 20,490» or «fc: removed, total 2,049,000»."""
        where = f"{self.layer}: " if self.layer else ""
        if self.old is None and self.new is not None:
            return f"{where}added, {self.count} {exact(self.new)}"
        if self.new is None and self.old is not None:
            return f"{where}removed, {self.count} {exact(self.old)}"
        return f"{where}{self.count} {exact(self.old or 0)} → {exact(self.new or 0)}"


def differences(old: Entry, new: Entry) -> tuple[Difference, ...]:
    """Return in what two entries differ: each number of the whole model, then the layers that explain it.

    A layer is named for what it holds itself, beside the layers below it, and by the first of its numbers that
    differs. Equal entries, and only these, have no differences.
    """
    return (*_of_model(old, new), *_of_layers(old, new))


def _of_model(old: Entry, new: Entry) -> Iterator[Difference]:
    before = {**_counts(old.tally), "buffers": old.buffers}
    after = {**_counts(new.tally), "buffers": new.buffers}
    for count, number in before.items():
        if number != after[count]:
            yield Difference("", count, number, after[count])


def _of_layers(old: Entry, new: Entry) -> Iterator[Difference]:
    before, after = own_tallies(old.tally, old.layers), own_tallies(new.tally, new.layers)
    for layer in sorted(before.keys() ^ after.keys()):
        mine, others = (old, new) if layer in before else (new, old)
        above = nearest(layer, mine.layers)
        if not above or above in others.layers:  # else the layer above is named already
            total = mine.layers[layer].total
            yield Difference(layer, "total", *((total, None) if mine is old else (None, total)))
    for layer in sorted(before.keys() & after.keys() - {""}):
        here, there = _counts(before[layer]), _counts(after[layer])
        differing = [count for count in _COUNTS if here[count] != there[count]]
        if differing:
            yield Difference(layer, differing[0], here[differing[0]], there[differing[0]])
