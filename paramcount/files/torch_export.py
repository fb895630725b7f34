"""Reads what torch.export saved into what a pickled module would be: names, shapes and kinds are in its JSON.

The forms are those of torch/export/pt2_archive/_package.py and torch/_export/serde/schema.py; those before 2.9 keep the
tensors in a file of torch.save within the archive. Nothing is imported, and of the program itself nothing is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paramcount.errors import UnreadableFile
from paramcount.files import torch_zip
from paramcount.files.pickles import Global, MalformedPickle, Pairs, Record
from paramcount.files.ranges import Ranges
from paramcount.files.torch_tensors import Storage, Tensors, fields
from paramcount.files.torch_zip import Entry
from paramcount.jsons import MalformedJson, load, load_first

Nested = Callable[[Ranges], object]  # returns the value that torch.save saved in a file

_MODEL = re.compile(r"(?P<root>(?:[^/]+/)?)models/(?P<name>.+)\.json", re.DOTALL)
_OLD = "serialized_exported_program.json"  # before 2.8
_MARKS = ("archive_format", "archive_version", _OLD)  # what only such an archive has
_SIGNATURE = re.compile(
    rb'(?<!\\)"input_specs"\s*:\s*(?=\[)'
)  # of all JSON, a quote within text is the only escaped one
# What loading a program unpickles beside its weights: examples of its inputs, and constants of classes of their own.
_PICKLED = re.compile(
    r"(.*/)?(data/sample_inputs/.+|data/constants/opaque_obj_.+|serialized_example_inputs\.pt)", re.DOTALL
)
_LARGEST_PROGRAM = 64 * 2**20  # bytes; a thousand layers take less
_LARGEST_CONFIG = 16 * 2**20  # bytes, of some 300 a tensor
_LARGEST_SUM = 128 * 2**20  # bytes of all JSON in an archive
_MOST_MODULES = 60_000
_DEEPEST = 100
_COUNT_THE_MODULE = "count the module itself: paramcount FILE.py:Net, or save its state_dict() by torch.save"

# torch/_export/serde/schema.py, ScalarType.
_DTYPES = {
    **dict(enumerate(("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"), 1)),
    **dict(enumerate(("complex32", "complex64", "complex128", "bool", "bfloat16"), 9)),
    **dict(enumerate(("uint16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"), 28)),
    **dict(enumerate(("float8_e8m0fnu", "uint32", "uint64"), 33)),
}


@dataclass(frozen=True, slots=True)
class Program:
    """What an archive holds."""

    root: object  # as a pickle's value: a module, or a mapping of several by name
    constants: int  # bytes of tensors that are neither parameters nor buffers


@dataclass(frozen=True, slots=True)
class _Places:
    """The names of what an archive holds of one model, of which either the configs are there or the pickles."""

    program: str
    weights: str  # the folder of their data
    weights_config: str
    weights_pickle: str
    constants: str
    constants_config: str
    constants_pickle: str


_BEFORE_2_8 = _Places(_OLD, "", "", "serialized_state_dict.pt", "", "", "serialized_constants.pt")


def is_program(entries: Mapping[str, Entry]) -> bool:
    """Whether an archive is one of torch.export's, by the names in it."""
    marked = [name for name in entries if name.endswith(_MARKS)]
    return any(mark in {name, name.partition("/")[2]} for name in marked for mark in _MARKS)


def pickled(entries: Mapping[str, Entry]) -> list[Entry]:
    """Return the entries that loading the program unpickles, beside those with its weights."""
    return [entry for name, entry in entries.items() if _PICKLED.fullmatch(name)]


def read(file: Ranges, entries: Mapping[str, Entry], nested: Nested) -> Program:
    """Return the modules whose programs an archive holds, with the parameters and buffers that they had.

    Raises:
        UnreadableFile: it holds none, or its JSON says what cannot be.
        MalformedZip, MalformedPickle: an entry is damaged, or a tensor cannot be.

    """
    places = dict(_places(entries))
    if not places:
        is_compiled = any("/aotinductor/" in name for name in entries)
        what = "is a package of code that AOTInductor compiled" if is_compiled else "holds no exported program"
        raise UnreadableFile(f"{file.name} {what}: nothing in it says what its parameters are", hint=_COUNT_THE_MODULE)
    try:
        _demand_apart(entries)
        documents = _Documents(file, entries)
        found = {name: _model(file, entries, nested, each, documents) for name, each in places.items()}
    except _Misfit as error:
        message = f"{file.name} is no program that torch.export saved: {error}"
        raise UnreadableFile(message, hint="fetch or save it again; if it is whole, please report this") from error
    roots = {name: root for name, (root, _) in found.items()}
    root = next(iter(roots.values())) if len(roots) == 1 else Pairs([each for pair in roots.items() for each in pair])
    return Program(root, sum(constants for _, constants in found.values()))


class _Misfit(ValueError):
    """What the JSON says is no program."""


def _demand_apart(entries: Mapping[str, Entry]) -> None:
    """Demand that no bytes are those of two entries, or a small file could be unpacked to any size."""
    end = 0
    for entry in sorted(entries.values(), key=lambda entry: entry.header):
        if entry.header < end:
            raise _Misfit(f"{entry.name!r} overlaps another of its entries")
        end = entry.header + max(entry.packed, 1)


class _Documents:
    """The JSON in an archive, which may come to so much and no more."""

    def __init__(self, file: Ranges, entries: Mapping[str, Entry]) -> None:
        self._file = file
        self._entries = entries
        self._left = _LARGEST_SUM

    def read(self, name: str, *, most: int) -> bytes:
        entry = self._entries[name]
        self._left -= entry.size
        if self._left < 0:
            raise _Misfit(f"its JSON comes to over {_LARGEST_SUM:,} bytes")
        return torch_zip.content(self._file, entry, most=most)


def _places(entries: Mapping[str, Entry]) -> Iterator[tuple[str, _Places]]:
    if _OLD in entries:
        yield "model", _BEFORE_2_8
        return
    for path in entries:
        if match := _MODEL.fullmatch(path):
            data, name = f"{match['root']}data", match["name"]
            yield (
                name,
                _Places(
                    path,
                    f"{data}/weights/",
                    f"{data}/weights/{name}_weights_config.json",
                    f"{data}/weights/{name}.pt",
                    f"{data}/constants/",
                    f"{data}/constants/{name}_constants_config.json",
                    f"{data}/constants/{name}.pt",
                ),
            )


def _model(
    file: Ranges, entries: Mapping[str, Entry], nested: Nested, places: _Places, documents: _Documents
) -> tuple[Record, int]:
    """Return a module as it would be pickled, and the bytes of its constants."""
    tensors = _Data(file, entries, nested, documents)
    weights = tensors.read(places.weights, places.weights_config, places.weights_pickle)
    constants = tensors.read(places.constants, places.constants_config, places.constants_pickle)
    model = _Module()
    taken: set[str] = set()
    for specification in _signature(documents.read(places.program, most=_LARGEST_PROGRAM)):
        ((kind, said),) = specification.items() if len(specification) == 1 else ((None, None),)
        if kind not in {"parameter", "buffer"}:
            continue  # an input, a constant, or a token
        said = said if isinstance(said, dict) else {}
        name = said.get(f"{kind}_name")
        value = weights.get(name, constants.get(name)) if isinstance(name, str) else None
        if not isinstance(name, str) or value is None:
            raise _Misfit(f"it does not hold the {kind} {name!r} of its signature")
        model.add(name, value, kind, is_persistent=said.get("persistent", name in weights) is not False)
        taken.add(name)
    for name, value in weights.items():
        if name not in taken:  # of what the program itself has no use for
            model.add(name, value, "parameter" if _is_parameter(value) else "buffer")
    rest = [Tensors().of(value) for name, value in constants.items() if name not in taken]
    return model.root, sum(tensor.nbytes for tensor in rest if tensor is not None)


def _signature(program: bytes) -> list[dict[str, Any]]:
    """Return what the inputs of a program stand for. The program itself, which may be long, is passed over."""
    found = _SIGNATURE.search(program)
    if found is None:
        raise _Misfit("its JSON has no input_specs")
    try:
        specifications = load_first(program[found.end() :])
    except MalformedJson as error:
        raise _Misfit(f"its input_specs: {error.problem}") from error
    if not isinstance(specifications, list) or not all(isinstance(each, dict) for each in specifications):
        raise _Misfit("its input_specs are no list of mappings")
    return specifications


def _is_parameter(value: object) -> bool:
    return (
        isinstance(value, Record)
        and isinstance(value.callable, Global)
        and value.callable.name.startswith("_rebuild_parameter")
    )


# Tensors --------------------------------------------------------------------------------------------------------------


class _Data:
    """The tensors of an archive, as torch.save would pickle them; those of one name are one object."""

    def __init__(self, file: Ranges, entries: Mapping[str, Entry], nested: Nested, documents: _Documents) -> None:
        self._documents = documents
        self._file = file
        self._entries = entries
        self._nested = nested
        self._known: dict[tuple[object, ...], Record] = {}

    def read(self, folder: str, config: str, pickle: str) -> Mapping[str, object]:
        """Return the tensors by name: of a config whose data are in a folder, or of a file of torch.save."""
        if config in self._entries:
            return dict(self._configured(folder, self._documents.read(config, most=_LARGEST_CONFIG), config))
        if (entry := self._entries.get(pickle)) is None:
            raise _Misfit(f"it has no {config or pickle}")
        if not entry.size:
            return {}
        saved = fields(self._nested(torch_zip.inside(self._file, entry)))
        if saved is None:
            raise _Misfit(f"its {pickle} holds no mapping")
        return saved

    def _configured(self, folder: str, data: bytes, place: str) -> Iterator[tuple[str, object]]:
        try:
            said = load(data)
        except MalformedJson as error:
            raise _Misfit(f"{error.place(place)}: {error.problem}") from error
        config = said.get("config") if isinstance(said, dict) else None
        if not isinstance(config, dict):
            raise _Misfit(f"{place} has no mapping config")
        for name, payload in config.items():
            if not isinstance(payload, dict) or not isinstance(path := payload.get("path_name"), str):
                raise _Misfit(f"{place} does not say where {name!r} is")
            entry = self._entries.get(folder + path)
            if entry is None:
                raise _Misfit(f"the data of {name!r} are missing, which should be in {folder + path}")
            meta = payload.get("tensor_meta")
            if isinstance(meta, dict):
                yield name, self._tensor(name, payload, meta, entry)
            elif payload.get("is_param") is not False:  # an object of a class of its own is no parameter
                raise _Misfit(f"{place} does not describe {name!r}")

    def _tensor(self, name: str, payload: dict[str, Any], meta: dict[str, Any], entry: Entry) -> Record:
        dtype = _DTYPES.get(meta.get("dtype", 0)) if type(meta.get("dtype")) is int else None
        if dtype is None:
            raise _Misfit(f"the dtype of {name!r} is not known")
        sizes, strides = _numbers(meta.get("sizes"), name), _numbers(meta.get("strides"), name)
        (offset,) = _numbers([meta.get("storage_offset")], name)
        grad, is_parameter = meta.get("requires_grad"), payload.get("is_param") is True
        if not isinstance(grad, bool):
            raise _Misfit(f"whether {name!r} requires a gradient is not said")
        key = (entry.name, dtype, sizes, strides, offset, grad, is_parameter)
        if key not in self._known:
            if payload.get("use_pickle") is False:
                storage = Storage(entry.name, dtype, 0)
                storage = Storage(entry.name, dtype, entry.size // storage.item_size)
                tensor = Record(_STRIDED, (storage, offset, sizes, strides, grad, None))
            else:  # one of a class of its own, as quantised ones are: it is in a pickle, and is described here
                self._nested(torch_zip.inside(self._file, entry))  # for what loading it would call
                tensor = Record(_META, (Global("torch", dtype), sizes, strides, grad))
            self._known[key] = Record(_PARAMETER, (tensor, grad, None)) if is_parameter else tensor
        return self._known[key]


def _numbers(said: object, name: str) -> tuple[int, ...]:
    """Return numbers of which each is ``{"as_int": n}``; that they are natural is looked at where a tensor is made."""
    found = [each.get("as_int") for each in said if isinstance(each, dict)] if isinstance(said, list) else None
    if found is None or len(found) != len(said) or not all(type(each) is int for each in found):  # type: ignore[arg-type]  # a list, as found is
        raise _Misfit(f"a size, stride or offset of {name!r} is no number")
    return tuple(found)  # type: ignore[arg-type]  # integers, as was looked at


_STRIDED = Global("torch._utils", "_rebuild_tensor_v2")
_META = Global("torch._utils", "_rebuild_meta_tensor_no_storage")
_PARAMETER = Global("torch._utils", "_rebuild_parameter")


# Modules --------------------------------------------------------------------------------------------------------------


class _Module:
    """A module, made as it would be pickled, from the dotted names of what it holds."""

    def __init__(self) -> None:
        self.root = _module("ExportedProgram")
        self._below: dict[tuple[str, ...], Record] = {(): self.root}

    def add(self, name: str, value: object, kind: str, *, is_persistent: bool = True) -> None:
        *path, key = name.split(".", _DEEPEST)
        registries = fields(self._at(tuple(path)).state) or {}
        held, passing = registries[f"_{kind}s"], registries["_non_persistent_buffers_set"]
        assert isinstance(held, Pairs)  # noqa: S101  # as they are made below
        assert isinstance(passing, list)  # noqa: S101  # the same
        held.flat.extend((key, value))
        if kind == "buffer" and not is_persistent:
            passing.append(key)

    def _at(self, path: tuple[str, ...]) -> Record:
        for depth in range(1, len(path) + 1):
            if path[:depth] not in self._below:
                if len(self._below) > _MOST_MODULES:
                    raise MalformedPickle(f"it has more than {_MOST_MODULES:,} modules")
                below = self._below[path[:depth]] = _module("")
                modules = (fields(self._below[path[: depth - 1]].state) or {})["_modules"]
                assert isinstance(modules, Pairs)  # noqa: S101  # as they are made below
                modules.flat.extend((path[depth - 1], below))
        return self._below[path]


def _module(name: str) -> Record:
    registries = ("_parameters", Pairs(), "_buffers", Pairs(), "_modules", Pairs())
    return Record(Global("torch.export", name), (), Pairs([*registries, "_non_persistent_buffers_set", []]))
