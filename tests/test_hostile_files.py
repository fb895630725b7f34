"""Whatever is in a file, the command line answers with a count or a clear error, and does nothing else."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

import paramcount
from paramcount.errors import ParamcountError
from tests.conftest import Run
from tests.files.test_pickles import BOMBS
from tests.files.test_pickles import MALFORMED as PICKLES
from tests.files.test_safetensors import MALFORMED as HEADERS
from tests.files.test_torch_export import MALFORMED as PROGRAMS
from tests.sources.test_gguf import MALFORMED as GGUFS
from tests.sources.test_torch_file import BAD_ZIPS, BENT, OTHERS, _archive

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}."  # what comes before the weights


def _malformed() -> dict[str, tuple[str, bytes]]:
    """Return every kind of malformed file, with the ending that it goes under."""
    kinds = {f"safetensors, {name}": ("safetensors", data) for name, (data, _) in HEADERS.items()}
    kinds |= {f"gguf, {name}": ("gguf", data) for name, (data, _) in GGUFS.items()}
    kinds |= {f"zip, {name}": ("pt", data) for name, data in BAD_ZIPS.items()}
    kinds |= {f"tensor, {name}": ("pth", _archive(data)) for name, data in BENT.items()}
    kinds |= {f"other, {name}": ("bin", data) for name, (data, _) in OTHERS.items()}
    kinds |= {f"pickle, {name}": ("pt", _archive(data)) for name, data in PICKLES.items()}
    kinds |= {f"legacy, {name}": ("ckpt", _LEGACY + data) for name, data in PICKLES.items()}
    kinds |= {f"program, {name}": ("pt2", data) for name, data in PROGRAMS.items()}
    return kinds | {f"bomb, {name}": ("pt", _archive(data)) for name, data in BOMBS.items()}


MALFORMED = _malformed()


@pytest.mark.parametrize("ending", sorted({ending for ending, _ in MALFORMED.values()}))
def test_every_malformed_file_is_one_error_and_nothing_else(ending: str, run: Run, folder: Path) -> None:
    kinds = {kind: data for kind, (of, data) in MALFORMED.items() if of == ending}
    for number, data in enumerate(kinds.values()):
        (folder / f"{number}.{ending}").write_bytes(data)
    before = sorted(folder.rglob("*"))
    outcome = run(*[f"{number}.{ending}" for number in range(len(kinds))], "--value", "total")
    assert outcome.code == 3
    assert outcome.out.strip() == ""
    assert "Traceback" not in outcome.err
    assert "bug in paramcount" not in outcome.err
    said = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    for number, kind in enumerate(kinds):
        assert sum(f"{number}.{ending}" in line.split() or f" {number}.{ending}:" in line for line in said) == 1, kind
    assert len(said) == len(kinds)
    assert sorted(folder.rglob("*")) == before


_REBUILD = (
    b"ccollections\nOrderedDict\n\x94ctorch._utils\n_rebuild_tensor_v2\n\x94X\7\0\0\0storage\x94"
    b"ctorch\nFloatStorage\n\x94X\3\0\0\0cpu\x94X\1\0\0\0000\x94000000"
)


def _tensors(number: int, dimensions: int) -> bytes:
    """Return a pickle of empty tensors in one storage, no two of which have the same shape and strides."""
    parts = [b"\x80\4", _REBUILD, b"}("]
    for each in range(number):
        name = b"X\5\0\0\0%05d\x94" % each
        shape = b"(" + (b"J" + struct.pack("<i", 300 + each)) * (dimensions - 1) + b"K\0t\x94"
        stride = b"(" + (b"J" + struct.pack("<i", 400 + each)) * dimensions + b"t\x94"
        parts += name, b"h\1((h\2h\3h\5h\4K\1t\x94QK\0", shape, stride, b"\x89h\0)R\x94t\x94R\x94"
    return b"".join([*parts, b"u."])


# By themselves these are as large as a file of so many tensors may be; what each takes is what makes them bombs.
LARGE = {
    "tensors of many dimensions": (_tensors(20_000, 63), "it takes more operations"),
    "text in place of tensors": (
        b"](" + (b"X" + struct.pack("<I", 2**20) + b"a" * (2**20 - 4) + b"\xf0\x9f\x98\x80") * 33 + b"e.",
        "its values take more than 134,217,728 bytes",
    ),
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_file_that_seems_large_may_take_no_more_than_others_for_what_is_no_tensor(
    kind: str, run: Run, folder: Path
) -> None:
    data, problem = LARGE[kind]
    with (folder / "model.pt").open("wb") as stream:
        stream.write(_LEGACY + data + b"\x80\2]X\1\0\0\0000a." + struct.pack("<q", 1) + bytes(4))
        stream.truncate(2**30)  # of which next to nothing is on the disk
    outcome = run("model.pt")
    assert (outcome.code, outcome.out) == (3, "")
    assert problem in outcome.err


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
        self.again = self.stem

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.norm(self.stem(x)))


def _saved(value: object, *, legacy: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def _gguf() -> bytes:
    name = struct.pack("<Q", 1) + b"w"
    header = b"GGUF\3\0\0\0" + struct.pack("<QQ", 1, 1) + name + struct.pack("<IQ", 8, 2) + b"hi"
    header += name + struct.pack("<IQIQ", 1, 4, 0, 0)
    return header + bytes(-len(header) % 32) + bytes(32)


def _metadata(state: dict[str, Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save_distributed(state, checkpoint_id=folder, no_dist=True)
        return (Path(folder) / ".metadata").read_bytes()


def _sound() -> Mapping[str, bytes]:
    """Return a file of every format, by a name that it can go under."""
    model = Net().eval()
    shards = {"x": "one.safetensors", "y": "two.safetensors"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch means to drop TorchScript, and cannot find the source of classes
        script, exported = io.BytesIO(), io.BytesIO()
        torch.jit.save(torch.jit.script(model), script)
        torch.export.save(torch.export.export(model, (torch.ones(2, 3),)), exported)
        training = {"epoch": 1, "state_dict": model.state_dict(), "optimizer": torch.optim.SGD(model.parameters())}
        return {
            "state.pt": _saved(model.state_dict(), legacy=False),
            "legacy.pt": _saved(model.state_dict(), legacy=True),
            "training.ckpt": _saved(training, legacy=False),
            "whole.pth": _saved(model, legacy=False),
            "whole_legacy.pth": _saved(model, legacy=True),
            "script.pt": script.getvalue(),
            "exported.pt2": exported.getvalue(),
            "model.safetensors": save({name: each.clone() for name, each in model.state_dict().items()}),
            "model.safetensors.index.json": json.dumps({"metadata": {"total_size": 8}, "weight_map": shards}).encode(),
            "pytorch_model.bin.index.json": json.dumps({"weight_map": {"x": "one.bin", "y": "two.bin"}}).encode(),
            ".metadata": _metadata(model.state_dict()),
            "model.gguf": _gguf(),
        }


SOUND = _sound()
_CHANGES = st.lists(
    st.tuples(st.booleans(), st.integers(0, 700), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4
)


def test_the_files_that_are_damaged_below_are_sound(folder: Path) -> None:
    _write_shards(folder)
    for name, data in SOUND.items():
        (folder / name).write_bytes(data)
        assert paramcount.count(str(folder / name)).total > 0


def _write_shards(folder: Path) -> None:
    (folder / "one.safetensors").write_bytes(save({"x": torch.zeros(1)}))
    (folder / "two.safetensors").write_bytes(save({"y": torch.zeros(1)}))
    torch.save({"x": torch.zeros(1)}, folder / "one.bin")
    torch.save({"y": torch.zeros(1)}, folder / "two.bin")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(name=st.sampled_from(sorted(SOUND)), changes=_CHANGES)
def test_a_damaged_file_of_any_format_is_counted_or_refused(
    name: str, changes: list[tuple[bool, int, int, bytes]], tmp_path: Path
) -> None:
    data = bytearray(SOUND[name])
    for from_end, place, removed, put in changes:  # near either end, where the structure is
        at = max(0, len(data) - 1 - place) if from_end else place % max(1, len(data))
        data[at : at + removed] = put
    _write_shards(tmp_path)
    path = tmp_path / name
    path.write_bytes(data)
    try:
        report = paramcount.count(str(path))
    except ParamcountError as error:
        code, message = error.exit_code, error.message
        assert (code, message.isprintable()) == (3, True)
    else:
        assert report.total == report.trainable + report.frozen + report.unknown
        assert report.to_dict()["total"] == sum(each.numel or 0 for each in report.params if each.tied_to is None)
