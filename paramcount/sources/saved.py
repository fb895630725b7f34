"""A report that ``--format json`` saved: it is counted again from its parameters, and must come to what it says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any

from paramcount.errors import UnknownTarget, UnreadableFile, UsageError, closest, did_you_mean
from paramcount.files.kinds import demand_kind
from paramcount.files.ranges import last, opened, parent
from paramcount.inventory import Buffer, Inventory, Module, Note, Param
from paramcount.jsons import MalformedJson, load
from paramcount.report import Report
from paramcount.sources import Target
from paramcount.units import as_written, plural
from paramcount.urls import parted, shown, split

EXAMPLE = "report.json, report.json:Net"
LIBRARIES = ()
IS_CATALOGUE = False
MEANING = "a report saved by -f json; a name picks one of several"

_FORM = re.compile(r"(?P<file>.+?\.json)(?::(?P<part>.+))?", re.DOTALL)
_ANY = re.compile(r"(?P<file>[^:]+)(?::(?P<part>.+))?", re.DOTALL)  # which only a prefix makes such a file
_OF_ANOTHER_KIND = (".safetensors.index.json", ".bin.index.json", ".pt.index.json", ".pth.index.json")
_MAJOR = "1"  # of the format
_LARGEST = 64_000_000  # bytes
_NAMES_LISTED = 5
_MOST_STEPS = 1_000_000_000  # characters to look at, in all names of layers above


def claims(word: str) -> bool:
    """Whether the word has the form of a JSON file, with or without the name of a report in it."""
    named = parted(word, _FORM)
    return named is not None and not split(named[0]).path.endswith(_OF_ANOTHER_KIND)


def names() -> Iterable[str]:
    """Return the JSON files in the current folder."""
    return sorted(path.name for path in Path.cwd().glob("*.json") if claims(path.name))


def read(target: Target, name: str) -> Inventory:
    """Read a saved report, without importing torch; its target is the word that asks for it now.

    Where modules are shared, their further names are not in a report; of buffers it has the sums alone.

    Raises:
        UnknownTarget: there is no such file, or no such report in it.
        UsageError: the file holds several reports and none is named, or arguments are given.
        UnreadableFile: the file cannot be read, is none that paramcount saved, or contradicts itself.

    """
    named = parted(name, _FORM) or parted(name, _ANY)
    if named is None:
        raise UnknownTarget(f"{name!r} names no JSON file", hint=f"for example: {EXAMPLE}")
    target.demand_bare("a saved report")
    file = shown(named[0])
    where, saved = _picked(_reports(named[0], file), named[1], file)
    try:
        inventory = _inventory(saved, target.word)
        _demand_equal(_said(Report.of(inventory)), saved)
    except _Misfit as error:
        raise _unreadable(file, f"{where}{error}") from error
    return inventory


# The file -------------------------------------------------------------------------------------------------------------


def _reports(path: str, file: str) -> list[Any]:
    """Return the reports of a document; ``file`` is its path as it may be shown."""
    with opened(path) as stream:
        demand_kind(stream, "saved")
        data = stream.upto(0, _LARGEST + 1)
    if len(data) > _LARGEST:
        raise _unreadable(file, f"it is over {_LARGEST:,} bytes long, which no report is")
    try:
        document = load(data)
    except MalformedJson as error:
        raise _unreadable(error.place(file), error.problem) from error
    reports = document.get("reports") if isinstance(document, dict) else None
    if not isinstance(reports, list):
        if isinstance(document, dict) and (found := next(_other_kinds(document, path), None)) is not None:
            raise UnreadableFile(f"{file} {found[0]}", hint=found[1])
        raise _unreadable(file, "it holds no report of paramcount")
    version = document.get("format_version")
    if not isinstance(version, str) or version.partition(".")[0] != _MAJOR:
        problem = f"format_version {as_written(version)} is unknown: this paramcount reads {_MAJOR}.x"
        raise _unreadable(file, problem)
    return reports


def _other_kinds(document: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Yield what a document is that is no report, by its keys, and what to do instead."""
    file, folder = shown(path), shown(parent(path)) or "."
    if "peft_type" in document:
        yield "is the configuration of an adapter of PEFT", f"name the folder that it is in: {folder}"
    if "_class_name" in document:
        is_pipeline = last(path) == "model_index.json"
        what = "is the index of a diffusers pipeline" if is_pipeline else "is the configuration of a diffusers model"
        yield what, f"name the folder that it is in: diffusers:{folder}"
    if "model_type" in document:
        yield "holds no report of paramcount", f"it may be the configuration of a model: transformers:{file}"
    if isinstance(document.get("weight_map"), dict):
        hint = "name the folder that they are in, or the index where it is beside them"
        yield "is the index of shards, and holds no weights itself", hint
    if "nbformat" in document and "cells" in document:
        yield "is a notebook, and no target", "in the notebook, paramcount.count(model) counts a model"
    if "tokenizer_class" in document or {"model", "version"} <= document.keys():
        yield "is a tokenizer's, and holds no report of paramcount", f"name the file of weights beside it, or {folder}"
    if "log_history" in document:
        yield "is the state of a trainer, and holds no weights", f"name the file of weights beside it, or {folder}"


def _unreadable(place: str, problem: str) -> UnreadableFile:
    return UnreadableFile(f"{place}: {problem}", hint="save one with paramcount count TARGET -f json -o FILE")


def _picked(reports: list[Any], name: str | None, file: str) -> tuple[str, dict[str, Any]]:
    """Return one report, and where it is."""
    known = [(number, report) for number, report in enumerate(reports) if isinstance(report, dict)]
    if len(known) != len(reports) or not reports:
        raise _unreadable(file, "it holds no report" if not reports else "not all its reports are mappings")
    # What check calls it is unique, and goes before what was counted.
    found = next(filter(None, ([each for each in known if each[1].get(key) == name] for key in ("name", "target"))), [])
    if name is None:
        found = known
    labels = [label for _, report in known if (label := _label(report, file)).isprintable()]
    if not found:
        hint = did_you_mean(closest(f"{file}:{name}", labels)) or f"there is {', '.join(labels[:_NAMES_LISTED])}"
        raise UnknownTarget(f"{file} holds no report named {name!r}", hint=hint)
    if len(found) > 1:
        called = "" if name is None else f" named {name!r}"
        hint = f"name one: {', '.join(labels[:_NAMES_LISTED])}" if name is None else "save them one by one"
        raise UsageError(f"{file} holds {plural(len(found), 'report')}{called}", hint=hint)
    number, report = found[0]
    if report.get("status") == "error" and "total" not in report:
        raise _unreadable(file, f"reports[{number}] has no counts: its model could not be counted")
    return f"reports[{number}]", report


def _label(report: Mapping[str, Any], file: str) -> str:
    """Return the target that means just this report."""
    return f"{file}:{report.get('name', report.get('target'))}"


# One report -----------------------------------------------------------------------------------------------------------


class _Misfit(ValueError):
    """A report that cannot be believed."""


def _inventory(saved: Mapping[str, Any], word: str) -> Inventory:
    layers = [_Fields(layer, where) for layer, where in _items(saved, "layers")]
    params = [_Fields(param, where) for param, where in _items(saved, "params")]
    notes = [_Fields(note, where) for note, where in _items(saved, "notes")]
    inventory = Inventory(
        word,
        "saved",
        (Module("", ""), *(Module(layer.name("name"), layer.text("type")) for layer in layers)),
        tuple(_param(param) for param in params),
        notes=tuple(Note(note.text("code"), note.text("where"), note.text("message")) for note in notes),
        form="other",  # without the names of its buffers
    )
    _demand_near(inventory)
    _demand_unique(module.name for module in inventory.modules)
    _demand_unique(param.name for param in inventory.params)
    _demand_ties(inventory.params)
    overhead = _sum("overhead", saved, inventory) if "overhead" in saved else ()
    return replace(inventory, buffers=_sum("buffers", saved, inventory), overhead=overhead)


def _param(saved: _Fields) -> Param:
    return Param(
        saved.name("name"),
        saved.shape("shape"),
        saved.text("dtype"),
        saved.count_or_none("numel"),
        saved.count_or_none("bytes"),
        saved.flag_or_none("trainable"),
        saved.text_or_none("tied_to"),
        packed="packed" in saved and saved.flag_or_none("packed") is True,
        active=saved.count_or_none("active") if "active" in saved else None,
        local=saved.count_or_none("local") if "local" in saved else None,
        adapter=saved.text_or_none("adapter") if "adapter" in saved else None,
    )


def _sum(key: str, saved: Mapping[str, Any], inventory: Inventory) -> tuple[Buffer, ...]:
    """Return one tensor that stands for all that a sum is of, under a name that nothing else has."""
    sums = _Fields(saved.get(key), f".{key}")
    numel, nbytes = sums.count("total"), sums.count("bytes")
    taken = {module.name for module in inventory.modules} | {param.name for param in inventory.params}
    name = key
    while name in taken:
        name += "_"
    return (Buffer(name, (numel,), "unknown", numel, nbytes),) if numel or nbytes else ()


class _Fields:
    """An object of the document, whose values are what they must be."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _Misfit(f"{where} is {as_written(value)}, not a mapping")
        self._values = value
        self._where = where

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def _get(self, key: str, *types: type) -> Any:
        if key not in self._values:
            raise _Misfit(f"{self._where} has no {as_written(key)}")
        value = self._values[key]
        if type(value) not in types:  # not isinstance(): a bool is an int to Python
            raise self._wrong(key)
        return value

    def _wrong(self, key: str) -> _Misfit:
        return _Misfit(f"{self._where}.{key} cannot be {as_written(self._values[key])}")

    def text(self, key: str) -> str:
        return str(self._get(key, str))

    def text_or_none(self, key: str) -> str | None:
        value: str | None = self._get(key, str, NoneType)
        return value

    def name(self, key: str) -> str:
        if not self.text(key):
            raise self._wrong(key)
        return self.text(key)

    def flag_or_none(self, key: str) -> bool | None:
        value: bool | None = self._get(key, bool, NoneType)
        return value

    def count(self, key: str) -> int:
        value: int = self._get(key, int)
        if value < 0:
            raise self._wrong(key)
        return value

    def count_or_none(self, key: str) -> int | None:
        return None if self._get(key, int, NoneType) is None else self.count(key)

    def shape(self, key: str) -> tuple[int, ...] | None:
        value: list[Any] | None = self._get(key, list, NoneType)
        if value is None:
            return None
        if not all(type(size) is int and size >= 0 for size in value):
            raise self._wrong(key)
        return tuple(value)


def _items(saved: Mapping[str, Any], key: str) -> Iterator[tuple[Any, str]]:
    """Yield the items of a list, and where each is."""
    items = saved.get(key)
    if not isinstance(items, list):
        raise _Misfit(f" has no list of {key}")
    yield from ((item, f".{key}[{number}]") for number, item in enumerate(items))


def _demand_near(inventory: Inventory) -> None:
    """Demand that names whose own layer is not listed are short enough to look for the next one above."""
    listed = {module.name for module in inventory.modules}
    names = [*(module.name for module in inventory.modules), *(param.name for param in inventory.params)]
    far = (name for name in names if name.rpartition(".")[0] not in listed)
    if sum(len(name) * name.count(".") for name in far) > _MOST_STEPS:
        raise _Misfit(" has names of more parts than any model, in layers that it does not list")


def _demand_unique(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise _Misfit(f" has {as_written(name)} twice")
        seen.add(name)


def _demand_ties(params: Iterable[Param]) -> None:
    counted = {param.name for param in params if param.tied_to is None}
    for param in params:
        if param.tied_to is not None and param.tied_to not in counted:
            raise _Misfit(f": {as_written(param.name)} is tied to {as_written(param.tied_to)}, which does not count")


def _said(report: Report) -> dict[str, Any]:
    """Return what a report says whatever it is of."""
    return {key: value for key, value in report.to_dict().items() if key not in {"target", "source"}}


def _demand_equal(counted: Any, saved: Any, where: str = "") -> None:
    """Demand that a document says what its own parameters come to; what else it says is a later version's."""
    if isinstance(counted, dict) and isinstance(saved, dict):
        if where == ".dtypes" and (surplus := sorted(saved.keys() - counted.keys())):
            raise _Misfit(f"{where} has {as_written(surplus[0])}, which none of its parameters has")
        for key, value in counted.items():
            if key not in saved:
                raise _Misfit(f"{where} has no {as_written(key)}")
            _demand_equal(value, saved[key], f"{where}.{key}")
    elif isinstance(counted, list) and isinstance(saved, list) and len(counted) == len(saved):
        for number, value in enumerate(counted):
            _demand_equal(value, saved[number], f"{where}[{number}]")
    elif type(counted) is not type(saved) or counted != saved:
        raise _Misfit(f"{where} is {as_written(saved)}, and its parameters come to {as_written(counted)}")
