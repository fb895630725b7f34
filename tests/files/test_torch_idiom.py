"""Tensors that are read at once are those that their operations, one by one, would make."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paramcount.errors import UnreadableFile
from paramcount.files import pickles, torch_idiom, torch_parts
from paramcount.files.pickles import Cursor, Global, MalformedPickle, Memo, Pairs, Record, load
from paramcount.files.torch_idiom import TensorIdiom
from paramcount.files.torch_tensors import Storage, Storages, Tensor, Tensors, storage, strided
from paramcount.report import Report
from paramcount.sources import Target, torch_file


class Counted(TensorIdiom):
    """Counts what it reads."""

    def __init__(self, data: int = 0) -> None:
        super().__init__(Storages(), data)
        self.number = 0

    def read(self, data: bytes, at: int, stack: list[object], memo: Memo) -> int | None:
        known = len(stack)
        found = super().read(data, at, stack, memo)
        self.number += (1 + (len(stack) - known) // 2) if found is not None else 0  # each further one with its name
        return found


def _pickle(value: object, protocol: int = 2) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch would rather have protocol 2
        torch.save(value, stream, pickle_protocol=protocol)
    with zipfile.ZipFile(stream) as archive:
        return archive.read("archive/data.pkl")


def _legacy(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=False)
    cursor = Cursor(stream.getvalue())
    for _ in range(3):  # what comes before the weights
        load(cursor, storage)
    return stream.getvalue()[cursor.position :]


def _plain(value: object, known: dict[int, int] | None = None) -> object:
    """Return what two readings have in common: records by what they hold, and by which of them are one."""
    known = {} if known is None else known
    if isinstance(value, (Record, Pairs, list)):
        if id(value) in known:
            return ("again", known[id(value)])
        known[id(value)] = len(known)
    if isinstance(value, Record):
        args = _tensor(value) or value.args  # of what is read at once no more than the tensor is kept
        parts = (value.callable, args, value.state, tuple(value.items), value.pairs)
        return ("record", *(_plain(part, known) for part in parts))
    if isinstance(value, Pairs):
        return ("pairs", *(_plain(each, known) for each in value.flat))
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, *(_plain(each, known) for each in value))
    return repr(value) if isinstance(value, float) else value


def _tensor(value: Record) -> Tensor | None:
    if not isinstance(value.callable, Global) or value.callable.name != "_rebuild_tensor_v2":
        return None
    try:
        return Tensors().of(value)
    except MalformedPickle:
        return None


def _read(data: bytes, idiom: TensorIdiom | None) -> object:
    try:
        return _plain(load(Cursor(data), storage, idiom))
    except MalformedPickle:
        return "malformed"


def _values() -> dict[str, object]:
    memory, tied = torch.zeros(12), torch.zeros(2, 2)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    return {
        "state dict": model.state_dict(),
        "parameters": model.state_dict(keep_vars=True),
        "module": model,
        "training": {"model": model.state_dict(), "optimizer": {"state": {0: {"step": torch.ones(())}}}},
        "views": {"all": memory, "part": memory[2:5], "rows": memory.view(3, 4), "tied": tied, "again": tied},
        "shapes": {str(n): torch.zeros([1] * n) for n in range(8)}
        | {"long": torch.zeros(300), "wide": torch.zeros(1, 70_000)},
        "dtypes": {str(each): torch.zeros(3, dtype=each) for each in (torch.int8, torch.bfloat16, torch.bool)},
        "large": {"on disk": torch.zeros(1).expand(2**33), "empty": torch.zeros(0, 3)},
        "many": OrderedDict((f"layers.{n}.weight", torch.zeros(2)) for n in range(300)),
    }


VALUES = _values()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", VALUES)
def test_what_is_read_at_once_is_what_is_read_step_by_step(kind: str, protocol: int) -> None:
    data, idiom = _pickle(VALUES[kind], protocol), Counted()
    assert _read(data, idiom) == _read(data, None) != "malformed"
    if protocol == 2:
        assert idiom.number >= data.count(b"tR") - data.count(b"FloatStorage") - 6  # the first of each kind is not


def test_the_format_before_1_6_is_read_at_once_too() -> None:
    data, idiom = _legacy(VALUES["many"]), Counted()
    assert _read(data, idiom) == _read(data, None) != "malformed"
    assert idiom.number >= 295


def test_what_was_passed_over_and_is_referred_to_makes_all_be_read_step_by_step() -> None:
    data = _pickle(VALUES["many"])
    last = data[: data.rindex(b")R") + 2]
    hooks = data[len(last) + 1 : len(last) + 5]  # the number under which the last tensor's hooks are remembered
    referring = data[: data.rindex(b"u")] + b"X\1\0\0\0aj" + hooks + data[data.rindex(b"u") :]
    idiom = Counted()
    assert _read(referring, idiom) == _read(referring, None) != "malformed"
    assert idiom.number


@pytest.mark.parametrize("what", ["layers.299.weight", "299"])
def test_what_takes_the_place_of_another_in_the_memo_is_read_alike(what: str) -> None:
    data = _pickle(VALUES["many"])
    put = data.rindex(what.encode()) + len(what)
    assert data[put : put + 1] == b"r"
    read = []
    for number in range(16):  # of the names, functions and words that all tensors have in common
        bent = data[: put + 1] + struct.pack("<I", number) + data[put + 5 :]
        read.append(_read(bent, Counted()))
        assert read[-1] == _read(bent, None)
    assert ("malformed" in read) == what.startswith("layers")  # a name comes before what is got from there


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_of_a_device_that_each_has_as_a_text_are_read_at_once(
    *, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "".join(["cuda", ":0"]))  # each time a new one
    tensors = OrderedDict((f"layers.{n}.weight", torch.zeros(2, 3)) for n in range(300))
    data, idiom = (_legacy if legacy else _pickle)(tensors), Counted()
    assert data.count(b"cuda:0") == 300
    assert _read(data, idiom) == _read(data, None) != "malformed"
    assert idiom.number >= 295
    longer = data.replace(b"\6\0\0\0cuda:0", b"\5\0\0\0cuda:0")
    assert _read(longer, Counted()) == _read(longer, None) == "malformed"
    torch.save(tensors, tmp_path / "model.pt", _use_new_zipfile_serialization=not legacy)
    loaded = torch.load(tmp_path / "model.pt", map_location="cpu")
    params = torch_file.read(Target("model.pt"), str(tmp_path / "model.pt")).params
    assert [(each.name, each.shape) for each in params] == [(name, tuple(of.shape)) for name, of in loaded.items()]


@pytest.mark.parametrize("reaches", ["its end", "beyond its end"])
def test_of_layouts_only_so_many_are_looked_at(reaches: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    def look(args: tuple[object, ...]) -> Tensor:
        looked.append(args)
        return strided(args)

    monkeypatch.setattr(torch_idiom, "_MOST_LAYOUTS", 10)
    monkeypatch.setattr(torch_idiom, "strided", look)
    tensors = OrderedDict((f"layers.{n}", torch.zeros(1, n + 1)) for n in range(100))
    data = _pickle(tensors)
    if reaches != "its end":
        data = data.replace(b"K\1\x86q", b"K\xff\x86q")
    idiom = Counted(1000)
    assert _read(data, idiom) == _read(data, None) != "malformed"
    assert len(looked) == 10
    assert idiom.number <= 10


def test_tensors_of_more_dimensions_than_any_has_are_read_step_by_step() -> None:
    for dimensions, at_once in ((8, 19), (9, 0)):
        data = _pickle({f"{n}": torch.zeros([1] * dimensions) for n in range(20)})
        idiom = Counted()
        assert _read(data, idiom) == _read(data, None) != "malformed"
        assert idiom.number == at_once


def test_what_tensors_may_take_is_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "_MOST_MEMORY", 100_000)
    tensors = _pickle(VALUES["many"])
    load(Cursor(tensors), storage, Counted(300))
    with pytest.raises(MalformedPickle, match="more than 100,000 bytes"):
        load(Cursor(tensors), storage, Counted())
    with pytest.raises(MalformedPickle, match="more than 100,000 bytes"):
        load(Cursor(_pickle("a" * 110_000)), storage, Counted(300))


_EDIT = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 3), st.binary(max_size=3))


@settings(max_examples=1500, deadline=None, database=None)
@given(kind=st.sampled_from([kind for kind in VALUES if kind != "many"]), edits=st.lists(_EDIT, max_size=3))
def test_bent_pickles_are_read_alike(kind: str, edits: list[tuple[float, int, bytes]]) -> None:
    data = bytearray(_PICKLES[kind])
    for place, removed, put in edits:
        at = int(place * len(data))
        data[at : at + removed] = put
    assert _read(bytes(data), Counted()) == _read(bytes(data), None)


_PICKLES = {kind: _pickle(value) for kind, value in VALUES.items()}


def test_tensors_without_data_are_read_at_once_up_to_a_number() -> None:
    data = _pickle(OrderedDict((f"{n}", torch.zeros(2)) for n in range(25_000)))
    few, enough = Counted(), Counted(10_000)
    load(Cursor(data), storage, few)
    load(Cursor(data), storage, enough)
    assert (few.number, enough.number) == (20_000, 24_999)


LARGE: dict[str, Callable[[int], object]] = {
    "weights": lambda n: OrderedDict(
        (f"model.layers.{each // 64}.{each % 64}.weight", torch.zeros(2)) for each in range(n)
    ),
    "with an optimizer": lambda n: {
        "model": OrderedDict((f"layers.{each}.weight", torch.zeros(2)) for each in range(n // 4)),
        "optimizer": {
            "state": {
                each: {"step": torch.ones(()), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
                for each in range(n // 4)
            },
            "param_groups": [{"params": list(range(n // 4))}],
        },
    },
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_checkpoint_of_tens_of_thousands_of_tensors_is_counted(kind: str, tmp_path: Path) -> None:
    torch.save(LARGE[kind](60_000), tmp_path / "model.pt")
    report = Report.of(torch_file.read(Target("model.pt"), str(tmp_path / "model.pt")))
    assert report.total == (120_000 if kind == "weights" else 30_000)


def test_how_much_is_read_of_a_file_before_1_6_goes_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_idiom, "_WITHOUT_DATA", 0)
    monkeypatch.setattr(torch_parts, "_MOST_VISITS", 0)
    monkeypatch.setattr(pickles, "_MOST_OPERATIONS", 2500)  # a tensor takes 28 of them
    for numel in (250, 1):
        tensors = OrderedDict((f"layers.{each}.weight", torch.zeros(numel)) for each in range(300))
        torch.save(tensors, tmp_path / f"{numel}.pt", _use_new_zipfile_serialization=False)
    assert Report.of(torch_file.read(Target(""), str(tmp_path / "250.pt"))).total == 300 * 250
    with pytest.raises(UnreadableFile, match="more operations"):
        torch_file.read(Target(""), str(tmp_path / "1.pt"))


def test_of_a_storage_only_the_kind_and_size_are_believed() -> None:
    data = _pickle({"a": torch.zeros(2), "b": torch.zeros(3)})
    value = load(Cursor(data), storage, Counted())
    assert isinstance(value, Pairs)
    (_, first), (_, second) = value.items()
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert (first.callable, second.callable) == (Global("torch._utils", "_rebuild_tensor_v2"),) * 2
    assert _tensor(second) == Tensor((3,), "float32", False, storage=Storage("1", "float32", 3), stride=(1,))
    assert (first.known, second.known) == (None, _tensor(second))  # the first is not as the others are
