"""Programs of torch.export count as the live module, by their JSON; nothing of them is run or unpickled."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._export.serde.serialize import serialize
from torch.export.pt2_archive._package import package_pt2

from paramcount.errors import UnreadableFile
from paramcount.inventory import Inventory
from paramcount.modules.read import read as read_live
from paramcount.sources import Target, torch_file

CONFIG = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
PROGRAM = "models/model.json"


def _read(word: object) -> Inventory:
    return torch_file.read(Target(str(word)), str(word))


class Net(nn.Module):
    """Has one of everything that a program keeps in a way of its own."""

    mask: torch.Tensor
    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.norm = nn.BatchNorm1d(4)
        frozen = nn.Linear(4, 4)
        frozen.weight.requires_grad = False
        self.body = nn.Sequential(frozen, nn.Linear(4, 4, dtype=torch.bfloat16))
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones(()))
        self.unused = nn.Linear(3, 3)
        self.register_buffer("mask", torch.zeros(5, 4), persistent=False)
        self.register_buffer("table", torch.ones(4))
        self.constant = torch.ones(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.body[0](
            self.norm(self.embed(x) + self.table + self.mask.sum() * self.scale + self.constant.sum())
        )
        return torch.as_tensor(self.head(self.body[1](hidden.bfloat16()).float()))


def _exported(model: nn.Module) -> torch.export.ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant had better be a buffer
        return torch.export.export(model.eval(), (torch.tensor([1, 2]),))


def _save(program: torch.export.ExportedProgram) -> bytes:
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return stream.getvalue()


def _pickled(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


MODEL = Net()
EXPORTED = _exported(MODEL)
SAVED = _save(EXPORTED)


def _records(data: bytes = SAVED) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def _zip(records: dict[str, bytes], root: str = "net/", *, method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in records.items():
            archive.writestr(root + name, data)
    return stream.getvalue()


def _of_2_8() -> bytes:
    """Return the program in the form in which the tensors are in two files of torch.save."""
    records = {name: data for name, data in _records().items() if not name.startswith(("data/weights/", "data/const"))}
    records["data/weights/model.pt"] = _pickled(EXPORTED.state_dict)
    records["data/constants/model.pt"] = _pickled(EXPORTED.constants)
    return _zip(records)


def _of_2_7() -> bytes:
    """Return the program in the form before that, as torch.export.load still reads it."""
    artifact = serialize(EXPORTED)
    records = {
        "version": b"8.8",
        "serialized_exported_program.json": artifact.exported_program,
        "serialized_state_dict.pt": artifact.state_dict,
        "serialized_constants.pt": artifact.constants,
        "serialized_example_inputs.pt": artifact.example_inputs,
    }
    return _zip({name: bytes(data) for name, data in records.items()}, root="")


FORMS: dict[str, Callable[[], bytes]] = {"now": lambda: SAVED, "2.8": _of_2_8, "2.7": _of_2_7}


@pytest.mark.parametrize("form", FORMS)
def test_a_program_has_the_parameters_and_buffers_of_the_live_module(form: str, tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(FORMS[form]())
    found, live = _read(tmp_path / "net.pt2"), read_live(MODEL, target="", source="")
    assert found.params == live.params
    assert sorted(found.buffers) == sorted(live.buffers)
    assert [note.message for note in found.notes if note.code == "left-out"] == [
        "the program keeps 24 B as constants: no parameters and no buffers to PyTorch"
    ]


def test_the_older_forms_are_those_that_pytorch_loads(tmp_path: Path) -> None:
    for form in ("2.8", "2.7"):
        (tmp_path / "net.pt2").write_bytes(FORMS[form]())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are deprecated
            loaded = torch.export.load(tmp_path / "net.pt2")
        assert list(loaded.state_dict) == list(EXPORTED.state_dict)


def test_a_program_without_parameters_counts_none(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    (tmp_path / "net.pt2").write_bytes(_save(_exported(Twice())))
    assert (_read(tmp_path / "net.pt2").params, _read(tmp_path / "net.pt2").buffers) == ((), ())


def test_several_programs_in_one_archive_all_count(tmp_path: Path) -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(3, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.embed(x))

    programs = {"encoder": EXPORTED, "decoder": _exported(Other())}
    package_pt2(str(tmp_path / "both.pt2"), exported_programs=programs)
    total = sum(each.numel() for each in MODEL.parameters())
    counted = sum(each.numel or 0 for each in _read(tmp_path / "both.pt2").params if each.tied_to is None)
    assert counted == total + 15
    assert [param.name for param in _read(f"{tmp_path / 'both.pt2'}:decoder").params] == ["embed.weight"]
    assert [param.numel for param in _read(f"{tmp_path / 'both.pt2'}:encoder.unused").params] == [9, 3]


def test_views_of_one_memory_count_as_parameters_of_their_own(tmp_path: Path) -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            memory = torch.ones(6)
            self.all, self.part = nn.Parameter(memory), nn.Parameter(memory[2:4])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.all.sum() + self.part.sum()

    model = Views()
    (tmp_path / "net.pt2").write_bytes(_save(_exported(model)))
    assert _read(tmp_path / "net.pt2").params == read_live(model, target="", source="").params


# Malformed ------------------------------------------------------------------------------------------------------------


def _changed(name: str, change: Callable[[Any], object]) -> bytes:
    """Return the archive with one of its JSON files changed."""
    records = _records()
    document = json.loads(records[name])
    change(document)
    return _zip({**records, name: json.dumps(document).encode()})


def _payload(change: Callable[[Any], object]) -> bytes:
    return _changed(CONFIG, lambda document: change(document["config"]["norm.weight"]))


def _meta(**said: object) -> bytes:
    return _payload(lambda payload: payload["tensor_meta"].update(said))


def _without(name: str) -> bytes:
    return _zip({key: data for key, data in _records().items() if key != name})


def _with(**records: bytes) -> bytes:
    return _zip(
        {**_records(), **{{"config": CONFIG, "program": PROGRAM}[name]: each for name, each in records.items()}}
    )


def _signature(said: object) -> bytes:
    return _changed(PROGRAM, lambda document: document["graph_module"]["signature"].update(input_specs=said))


KINDS = ("weights", "constants")


def _overlapping(number: int) -> bytes:
    """Return an archive whose directory names the program of one model as that of several."""
    names = [f"net/models/{each:05}.json" for each in range(number)]
    configs = [f"net/data/{kind}/{each:05}_{kind}_config.json" for each in range(number) for kind in KINDS]
    archive = bytearray(
        _zip(
            {
                name.removeprefix("net/"): b'{"config":{},"input_specs":[]}'
                for name in [*names, *configs, "archive_format"]
            }
        )
    )
    at, places = -1, []
    while (at := archive.find(b"PK\1\2", at + 1)) >= 0:
        places.append(at + 42)  # where an entry of the directory says where its bytes are
    for place in places[1:number]:
        archive[place : place + 4] = archive[places[0] : places[0] + 4]
    return bytes(archive)


MALFORMED = {
    "no config": _without(CONFIG),
    "no constants": _without(CONSTANTS),
    "no program": _without(PROGRAM),
    "compiled": _zip({"archive_format": b"pt2", "data/aotinductor/model/model.so": b"\x7fELF"}),
    "config that is no JSON": _with(config=b"{"),
    "config that is a list": _with(config=b"[]"),
    "config of another thing": _with(config=b'{"config": [1]}'),
    "config in another encoding": _with(config=b"\xff\xfe"),
    "config that is deep": _with(config=b'{"config":' * 100_000),
    "config with a key twice": _with(config=b'{"config": {}, "config": {}}'),
    "program without a signature": _with(program=b"{}"),
    "signature cut short": _with(program=b'{"input_specs": [{"parameter": '),
    "signature of numbers": _signature([1, 2]),
    "parameter of a number": _signature([{"parameter": 3}]),
    "parameter of no name": _signature([{"parameter": {"parameter_name": ["a"]}}]),
    "parameter that is not there": _signature([{"parameter": {"parameter_name": "norm.weights"}}]),
    "parameter that is a list": _signature([{"parameter": []}]),
    "payload of text": _changed(CONFIG, lambda document: document["config"].update(a="b")),
    "payload of no path": _payload(lambda payload: payload.pop("path_name")),
    "data that are missing": _payload(lambda payload: payload.update(path_name="weight_99")),
    "data elsewhere": _payload(lambda payload: payload.update(path_name="../../archive_format")),
    "data of a smaller tensor": _changed(
        CONFIG,
        lambda document: document["config"]["norm.weight"].update(path_name=document["config"]["scale"]["path_name"]),
    ),
    "no description": _payload(lambda payload: payload.update(tensor_meta=None)),
    "gradient of a list": _meta(requires_grad=[]),
    "gradient of a number": _meta(requires_grad=1),
    "no gradient": _meta(requires_grad=None),
    "one entry under two names": _overlapping(2),
    "JSON that is large in sum": _zip(
        {
            "archive_format": b"pt2",
            **{f"models/m{each}.json": b'"input_specs":[]' + b" " * 60_000_000 for each in range(3)},
            **{f"data/{kind}/m{each}_{kind}_config.json": b'{"config":{}}' for each in range(3) for kind in KINDS},
        },
        method=zipfile.ZIP_DEFLATED,
    ),
    "unknown dtype": _meta(dtype=99),
    "boolean dtype": _meta(dtype=True),
    "dtype in a list": _meta(dtype=[7]),
    "no sizes": _meta(sizes=None),
    "size of text": _meta(sizes=[{"as_int": "4"}]),
    "symbolic size": _meta(sizes=[{"as_expr": {"expr_str": "s0"}}]),
    "boolean size": _meta(sizes=[{"as_int": True}]),
    "negative size": _meta(sizes=[{"as_int": -4}]),
    "huge size": _meta(sizes=[{"as_int": 2**62}]),
    "huge sizes of no stride": _meta(sizes=[{"as_int": 2**62}] * 3, strides=[{"as_int": 0}] * 3),
    "fewer strides than sizes": _meta(strides=[]),
    "offset beyond the data": _meta(storage_offset={"as_int": 1}),
    "negative offset": _meta(storage_offset={"as_int": -1}),
    "no offset": _meta(storage_offset=None),
    "requires_grad of a number": _meta(requires_grad=1),
    "modules without end": _changed(
        CONFIG,
        lambda document: document["config"].update(
            {f"{number}{'.a' * 99}": document["config"]["norm.weight"] for number in range(700)}
        ),
    ),
    "config that unpacks to too much": _zip(
        {**_records(), CONFIG: b'{"config": {' + b" " * 2**25 + b"}}"}, method=zipfile.ZIP_DEFLATED
    ),
    "program that unpacks to too much": _zip({**_records(), PROGRAM: b" " * 2**27}, method=zipfile.ZIP_DEFLATED),
    "signature of too many values": _with(program=b'{"input_specs": [' + b"[]," * 2_500_000 + b"[]]}"),
    "a pickle that is none": _zip(
        {"archive_format": b"pt2", PROGRAM: b'{"input_specs": []}', "data/weights/model.pt": b"PK"}
    ),
    "an archive in itself": _zip(
        {
            "archive_format": b"pt2",
            PROGRAM: b'{"input_specs": []}',
            "data/weights/model.pt": _zip({"archive_format": b"pt2", PROGRAM: b'{"input_specs": []}'}),
        }
    ),
}


def test_the_archive_that_is_bent_above_is_sound(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(_zip(_records()))
    assert _read(tmp_path / "net.pt2").params == read_live(MODEL, target="", source="").params


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_archive_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(MALFORMED[kind])
    with pytest.raises(UnreadableFile) as caught:
        _read(tmp_path / "net.pt2")
    assert "net.pt2" in caught.value.message
    assert caught.value.hint


def test_what_is_compiled_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(MALFORMED["compiled"])
    with pytest.raises(UnreadableFile, match="AOTInductor compiled") as caught:
        _read(tmp_path / "net.pt2")
    assert "FILE.py:Net" in str(caught.value.hint)
