"""Whatever loading a file would call is said by its full name; what checkpoints need is not worth a word."""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import enum
import importlib
import io
import pickle
import pkgutil
import struct
import sys
import types
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._weights_only_unpickler import _get_allowed_globals

from paramcount.errors import ParamcountError
from paramcount.files import torch_archive
from paramcount.files.expected_calls import is_expected, is_expected_value
from paramcount.files.ranges import Held
from paramcount.files.risky_calls import RiskyCalls
from paramcount.sources import Target, read

FOLDER = "made"  # that the calls make


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def name(module: str, attribute: str) -> bytes:
    """Return what imports by the older operation, whose names Python 2 may have given."""
    return f"c{module}\n{attribute}\n".encode()


def dotted(module: str, attribute: str) -> bytes:
    """Return what imports by the newer operation, whose names may lead through attributes."""
    return text(module) + text(attribute) + b"\x93"


def call(function: bytes, *args: bytes) -> bytes:
    return function + b"(" + b"".join(args) + b"tR"


def new(kind: bytes, state: bytes) -> bytes:
    return kind + b")\x81" + state + b"b"


PATH = text(FOLDER)
MKDIR = name("posix", "mkdir")
NAMESPACE = name("argparse", "Namespace")


def state(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def nested() -> bytes:
    data = pickled(call(MKDIR, PATH))
    return b"B" + struct.pack("<I", len(data)) + data


def pickled(operations: bytes, protocol: int = 4) -> bytes:
    return b"\x80" + bytes([protocol]) + operations + b"."


GETATTR, PARTIAL = name("builtins", "getattr"), name("functools", "partial")
OS = name("pathlib", "os")
# How a pickle can call, or lead a call to, a function that makes a folder; and what is to be said of it.
WAYS: dict[str, tuple[bytes, str]] = {
    "REDUCE": (call(MKDIR, PATH), "posix.mkdir"),
    "INST": (b"(" + PATH + b"iposix\nmkdir\n", "posix.mkdir"),
    "OBJ": (b"(" + MKDIR + PATH + b"o", "posix.mkdir"),
    "STACK_GLOBAL": (call(dotted("posix", "mkdir"), PATH), "posix.mkdir"),
    "a remembered name": (text("posix") + b"\x940" + text("mkdir") + b"\x940h\0h\1\x93(" + PATH + b"tR", "posix.mkdir"),
    "a module of a module": (call(dotted("pathlib", "os.mkdir"), PATH), "pathlib.os.mkdir"),
    "a module of PyTorch's": (call(dotted("torch.serialization", "os.mkdir"), PATH), "torch.serialization.os.mkdir"),
    "a module of a class's": (call(dotted("torch.nn.modules.module", "Module.forward.__globals__.get"), PATH), "get"),
    "getattr": (call(call(GETATTR, OS, text("mkdir")), PATH), "pathlib.os.mkdir"),
    "getattr of Python 2": (
        call(call(name("__builtin__", "getattr"), OS, text("mkdir")), PATH),
        "pathlib.os.mkdir",
    ),
    "attrgetter": (
        call(call(call(name("operator", "attrgetter"), text("mkdir")), OS), PATH),
        "pathlib.os.mkdir",
    ),
    "methodcaller": (
        call(call(name("operator", "methodcaller"), text("mkdir"), PATH), OS),
        "operator.methodcaller",
    ),
    "partial": (call(call(PARTIAL, MKDIR, PATH)), "posix.mkdir"),
    "partial of partial": (call(call(PARTIAL, call(PARTIAL, MKDIR)), PATH), "posix.mkdir"),
    "resolve_name": (call(call(name("pkgutil", "resolve_name"), text("os:mkdir")), PATH), "resolve_name('os:mkdir')"),
    "import_module": (
        call(call(GETATTR, call(name("importlib", "import_module"), text("os")), text("mkdir")), PATH),
        "importlib.import_module('os').mkdir",
    ),
    "eval": (call(name("builtins", "eval"), text(f"__import__('os').mkdir({FOLDER!r})")), "builtins.eval"),
    "exec of Python 2": (
        call(name("__builtin__", "eval"), text(f"__import__('os').mkdir({FOLDER!r})")),
        "builtins.eval (written __builtin__.eval)",
    ),
    "map": (call(name("builtins", "list"), call(name("builtins", "map"), MKDIR, b"](" + PATH + b"e")), "builtins.map"),
    "starmap": (
        call(name("builtins", "list"), call(name("itertools", "starmap"), MKDIR, b"](" + PATH + b"\x85e")),
        "itertools.starmap",
    ),
    "operator.call": (call(name("operator", "call"), MKDIR, PATH), "operator.call"),
    "BUILD": (new(NAMESPACE, state(__setstate__=MKDIR)) + PATH + b"b", "posix.mkdir"),
    "BUILD by slots": (
        NAMESPACE + b")\x81N" + state(__setstate__=MKDIR) + b"\x86b" + PATH + b"b",
        "posix.mkdir",
    ),
    "APPEND": (new(NAMESPACE, state(append=MKDIR)) + PATH + b"a", "posix.mkdir"),
    "APPENDS": (new(NAMESPACE, state(append=MKDIR)) + b"(" + PATH + b"e", "posix.mkdir"),
    "ADDITEMS": (new(NAMESPACE, state(add=MKDIR)) + b"(" + PATH + b"\x90", "posix.mkdir"),
    "what is called of an argument": (
        call(
            name("torch._utils", "_rebuild_parameter"),
            new(NAMESPACE, state(detach=call(PARTIAL, MKDIR, PATH))),
            b"\x88",
            b"N",
        ),
        "posix.mkdir",
    ),
    "a tensor's rebuilding": (
        call(name("torch._tensor", "_rebuild_from_type_v2"), MKDIR, name("torch", "Tensor"), PATH + b"\x85", b"}"),
        "posix.mkdir",
    ),
    "a file in the pickle": (call(name("torch.storage", "_load_from_bytes"), nested()), "posix.mkdir"),
    "a file in bytes of bytes": (
        call(name("torch.storage", "_load_from_bytes"), call(name("builtins", "bytes"), nested())),
        "posix.mkdir",
    ),
    "a file in a partial call": (
        call(call(PARTIAL, name("torch.storage", "_load_from_bytes"), nested())),
        "posix.mkdir",
    ),
    "escapes in a name": (b"S'po\\x73ix'\nS'mk\\144ir'\n\x93" + PATH + b"\x85R", "posix.mkdir"),
    "a class that opens a file": (call(name("io", "FileIO"), PATH, text("w")), "io.FileIO"),
    "NEWOBJ of what opens a file": (
        name("numpy", "memmap") + b"(" + PATH + text("uint8") + text("w+") + b"K\0K\1\x85t\x81",
        "numpy.memmap",
    ),
    "NEWOBJ by its function": (
        call(
            name("copyreg", "__newobj__"), name("numpy", "memmap"), PATH, text("uint8"), text("w+"), b"K\0", b"K\1\x85"
        ),
        "numpy.memmap",
    ),
    "a logger": (call(name("logging", "FileHandler"), PATH), "logging.FileHandler"),
}
REFUSED_BY_PYTHON = {"a module of a class's"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore")  # some open a file, and nobody closes it
def test_python_makes_the_call_and_it_is_said(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operations, said = WAYS[way]
    monkeypatch.chdir(tmp_path)
    assert said in str(of(archive(operations)))
    assert list(tmp_path.iterdir()) == []
    with contextlib.suppress(Exception):  # whatever comes after the call
        pickle.loads(pickled(operations, 2 if "Python 2" in way else 4))
    assert bool(list(tmp_path.iterdir())) == (way not in REFUSED_BY_PYTHON)


TENSOR = name("torch._utils", "_rebuild_tensor_v2") + (
    b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\x06tQK\0K\2K\3\x86K\3K\1\x86\x89"
    b"ccollections\nOrderedDict\n)RtR"
)
STATE = b"}" + text("w") + TENSOR + b"s"
CALL = call(MKDIR, PATH)
LEGACY = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2)]
STORAGES = pickle.dumps(["0"], 2) + struct.pack("<q", 6) + bytes(24)
OLD_STATE = STATE.replace(b"K\x06tQ", b"K\x06NtQ")


def archive(operations: bytes, **entries: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for key, data in {
            "a/data.pkl": pickled(operations),
            "a/data/0": bytes(24),
            "a/version": b"3\n",
            **entries,
        }.items():
            file.writestr(key, data)
    return stream.getvalue()


def legacy(at: int, data: bytes) -> bytes:
    start = [*LEGACY]
    start[at] = start[at][:2] + CALL + b"0" + start[at][2:]
    return b"".join(start) + pickled(OLD_STATE, 2) + data


PLACES: dict[str, bytes] = {
    "the value": archive(CALL),
    "dropped before the weights": archive(CALL + b"0" + STATE),
    "a key": archive(b"}" + CALL + b"K\1s"),
    "a value": archive(b"}" + text("x") + CALL + b"s"),
    "the state of an object": archive(new(NAMESPACE, state(x=CALL))),
    "the name of a storage": archive(STATE.replace(text("0"), CALL)),
    "before what cannot be read": archive(CALL + b"0" + STATE + b"h\x99"),
    "before no operation": archive(CALL + b"\xff"),
    "before a storage that is missing": archive(CALL + b"0" + STATE.replace(text("0"), text("9"))),
    "a second pickle of another case": archive(STATE, **{"a/DATA.PKL": pickled(CALL)}),
    "the old format's magic number": legacy(0, STORAGES),
    "its version": legacy(1, STORAGES),
    "its machine": legacy(2, STORAGES),
    "its object": b"".join(LEGACY) + pickled(CALL + b"0" + OLD_STATE, 2) + STORAGES,
    "its list of storages": b"".join(LEGACY)
    + pickled(OLD_STATE, 2)
    + pickled(CALL + b"0](" + text("0") + b"e", 2)
    + STORAGES[-32:],
    "a plain pickle": pickled(CALL),
    "what sets the state of a name": archive(name("collections", "OrderedDict") + state(x=MKDIR) + b"b"),
    "what adds to a name": archive(name("os", "environ") + text("A") + CALL + b"s"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_call_is_said_wherever_it_stands(place: str) -> None:
    said = of(PLACES[place])
    assert "posix.mkdir" in said
    assert said.endswith(("nothing in it was executed here", "nothing in it was executed here; do not load it"))


def of(data: bytes) -> str:
    """Return what is said of a file: by its notes, or by the error that it is refused with."""
    try:
        return str(torch_archive.read(Held("model.pt", data)).calls)
    except ParamcountError as error:
        return f"{error.message}; {error.hint}"


@pytest.mark.parametrize("place", ["data/sample_inputs/model.pt", "data/constants/opaque_obj_0"])
def test_a_program_s_other_pickles_are_looked_into(place: str, tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(2, 3), (torch.ones(1, 2),))
    torch.export.save(program, tmp_path / "model.pt2")
    stream = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "model.pt2") as good, zipfile.ZipFile(stream, "w") as bent:
        root = good.namelist()[0].partition("/")[0]
        for each in good.infolist():
            if each.filename != f"{root}/{place}":
                bent.writestr(each, good.read(each))
        bent.writestr(f"{root}/{place}", archive(CALL) if place.endswith(".pt") else pickled(CALL))
    assert "posix.mkdir" in of(stream.getvalue())
    assert of((tmp_path / "model.pt2").read_bytes()) == ""


def test_what_pytorch_itself_allows_is_expected() -> None:
    for full in _get_allowed_globals():
        module, _, attribute = full.rpartition(".")
        assert is_expected(module, attribute) or is_expected_value(module, attribute), full


def test_no_name_that_is_expected_of_pytorch_is_a_stranger_s() -> None:
    """A module's attributes may be names that it imports: subprocess.Popen would be a class of PyTorch's, then."""
    strangers = {}
    for package in (torch.nn, torch.optim, torch.ao, torch.distributions, torch.amp, torch.distributed.tensor):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.", onerror=lambda _: None):
            module = sys.modules.get(found.name)
            for attribute, value in vars(module).items() if module else ():
                origin = str(getattr(value, "__module__", ""))
                is_foreign = isinstance(value, type) and origin.partition(".")[0] != "torch"
                if is_foreign and is_expected(found.name, attribute):
                    strangers[f"{found.name}.{attribute}"] = f"{origin}.{value.__qualname__}"
    harmful = (
        "subprocess",
        "os",
        "posix",
        "shutil",
        "io",
        "_io",
        "socket",
        "ctypes",
        "multiprocessing",
        "tempfile",
        "importlib",
    )
    assert not {key: origin for key, origin in strangers.items() if origin.partition(".")[0] in harmful}


class Config:
    """Of a user's own."""

    def __init__(self) -> None:
        self.mode = Mode.FAST
        self.layer = partial(nn.LayerNorm, eps=1e-6)


class Mode(enum.Enum):
    FAST = "fast"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.act, self.config, self.size = torch.relu, Config(), torch.Size([2])


def ordinary() -> dict[str, Callable[[], Any]]:
    linear = nn.Linear(2, 3)
    adam = torch.optim.AdamW(linear.parameters())
    return {
        "a state dict": linear.state_dict,
        "a module of a user's": Net,
        "hooks": lambda: nn.utils.spectral_norm(nn.Linear(2, 3)),
        "a lazy layer": lambda: nn.LazyLinear(3),
        "a quantised layer": lambda: torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            nn.Sequential(nn.Linear(2, 3))
        ),
        "an optimizer": lambda: adam,
        "a scheduler": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(adam, 3),
        "a training run": lambda: {"args": argparse.Namespace(lr=0.1), "config": Config(), "adam": adam.state_dict()},
        "random states": lambda: {"numpy": np.random.get_state(), "generator": np.random.default_rng(1)},
        "NumPy's": lambda: {"array": np.ones(3), "scalar": np.float32(1), "object": np.array([{}], dtype=object)},
        "Python's": lambda: {
            "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
            "where": Path("x"),
            "what": types.SimpleNamespace(a=collections.Counter("a"), b=collections.deque([1]), c=b"\xff", d={1}),
        },
        "sparse and quantised tensors": lambda: [torch.eye(2).to_sparse(), torch.eye(2).to_sparse_csr()],
        "a scaler of gradients": lambda: torch.amp.GradScaler("cpu"),
        "records": lambda: np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
        "an average": lambda: torch.optim.swa_utils.AveragedModel(linear),
    }  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("what", ordinary())
@pytest.mark.filterwarnings("ignore")
def test_an_ordinary_checkpoint_is_not_accused(what: str, protocol: int) -> None:
    for is_zip in (True, False):
        stream = io.BytesIO()
        torch.save(ordinary()[what](), stream, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zip)
        assert of(stream.getvalue()) == ""


def test_what_makes_other_packages_objects_is_expected() -> None:
    for module, function in (
        ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"),
        ("pandas._libs.tslibs.timestamps", "_unpickle_timestamp"),
        ("pandas.core.indexes.datetimes", "_new_DatetimeIndex"),
        ("sklearn.tree._tree", "Tree"),
        ("spacy.vocab", "__pyx_unpickle_Vocab"),
    ):
        assert is_expected(module, function)
    assert not is_expected("os", "__pyx_unpickle_Vocab")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_plain_pickle_of_tensors_is_not_accused(protocol: int) -> None:
    """They hold their storages as files of torch.save, some of them longer than what is kept of a value."""
    large = {"large": torch.ones(2**19)} if protocol else {}  # whose line of text is too long to read
    assert of(pickle.dumps({"small": torch.ones(3), **large}, protocol)) == ""


def test_a_flood_of_calls_does_not_hide_how_many_there_are() -> None:
    flood = archive(b"(" + b"".join(call(name("pty", f"f{number}")) for number in range(3000)) + CALL + b"t")
    said = of(flood)
    assert len(said) < 10_000
    assert " more; nothing in it was executed" in said


def test_what_pickles_of_files_within_files_call_is_bounded() -> None:
    data = pickled(CALL)
    for _ in range(20):
        data = pickled(call(name("torch.storage", "_load_from_bytes"), b"B" + struct.pack("<I", len(data)) + data))
    assert "torch.storage._load_from_bytes" in of(data)


def test_nothing_is_said_of_nothing() -> None:
    calls = RiskyCalls()
    assert (bool(calls), str(calls), list(calls.notes())) == (False, "", [])
    assert importlib.import_module("paramcount.files.risky_calls").CODE == "calls"


# Bytes that unpickling runs, and that other readers take for the beginning of another format.
TWO_THINGS = {
    "safetensors": b"\x80\x02X\2\0\0\0\0{0" + CALL + b".",
    "GGUF": b"GGUF\0\0\0\0\x000" + CALL + b".",
    "a joblib file": pickled(text("joblib.numpy_pickle") + b"0" + CALL),
    "a tar archive": b"\x80\4B"
    + struct.pack("<I", 600)
    + (b"x" * 250 + b"ustar").ljust(600, b"x")
    + b"0"
    + CALL
    + b".",
    "bzip2": b"BZh\0\0" + bytes(0x685A) + b"0" + CALL + b".",
    "nothing": b"I1\n0" + CALL + b".",
}


@pytest.mark.parametrize("ending", ["pt", "pkl", "odd", "safetensors", "gguf", "json", "h5", "onnx"])
@pytest.mark.parametrize("other", TWO_THINGS)
def test_a_call_is_said_also_of_a_pickle_that_looks_like_another_format(
    other: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"model.{ending}"
    path.write_bytes(TWO_THINGS[other])
    with pytest.raises(ParamcountError, match=r"posix\.mkdir") as caught:
        read(Target(str(path)))
    assert caught.value.hint == "do not load it"
    assert not Path(FOLDER).exists()
    with contextlib.suppress(Exception):
        pickle.loads(path.read_bytes())
    assert Path(FOLDER).exists()
