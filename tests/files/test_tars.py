"""The one file of weights in a tar archive counts as it would outside of it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from paramcount.errors import UnreadableFile
from paramcount.inventory import Inventory
from paramcount.sources import Target, read


def _weights() -> bytes:
    stream = io.BytesIO()
    torch.save(nn.Linear(4, 3).state_dict(), stream)
    return stream.getvalue()


def _tar(path: Path, members: dict[str, bytes], kind: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=kind) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def _read(path: Path) -> Inventory:
    return read(Target(str(path)))


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("name", ["model.ckpt", "./out/model.pt", "deep/" * 24 + "model.pth", "ö/" + "x" * 90 + ".pt"])
@pytest.mark.parametrize("file", ["asr.nemo", "last.pth.tar", "model.pt", "model.odd"])
def test_the_weights_in_an_archive_count(file: str, name: str, kind: int, tmp_path: Path) -> None:
    members = {"config.yaml": b"x: 1\n", name: _weights(), "._model.pt": b"no", "optimizer.pt": b"no"}
    inventory = _read(_tar(tmp_path / file, members, kind))
    assert sum(param.numel or 0 for param in inventory.params) == 4 * 3 + 3
    assert any(note.code == "left-out" and name in note.message for note in inventory.notes)


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
def test_safetensors_in_an_archive_count(name: str, tmp_path: Path) -> None:
    weights = safetensors.torch.save(nn.Linear(4, 3).state_dict())
    inventory = _read(_tar(tmp_path / "asr.nemo", {"config.yaml": b"x: 1\n", name: weights}))
    assert sum(param.numel or 0 for param in inventory.params) == 4 * 3 + 3
    assert any(note.code == "left-out" and name in note.message for note in inventory.notes)


REFUSED = {
    "two": ({"a.pt": b"x", "b.pt": b"x"}, "with a.pt, b.pt in it", "tar -xf"),
    "GGUF": ({"model.gguf": b"GGUF" + bytes(20)}, "with model.gguf in it", "tar -xf"),
    "none": ({"readme.txt": b"x"}, "without a file of weights", ""),
    "torch before 0.1.10": (
        dict.fromkeys(("sys_info", "pickle", "tensors", "storages"), b""),
        "0.1.10",
        "newer PyTorch",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_archive_without_one_file_of_weights_is_refused(kind: str, tmp_path: Path) -> None:
    members, said, hint = REFUSED[kind]
    with pytest.raises(UnreadableFile) as caught:
        _read(_tar(tmp_path / "x.tar", members))
    assert said in caught.value.message
    assert hint in str(caught.value.hint)


def test_an_archive_that_is_damaged_is_refused(tmp_path: Path) -> None:
    data = _tar(tmp_path / "x.tar", {"model.pt": _weights()}).read_bytes()
    for bent in (data[:700], data[:124] + b"x" * 12 + data[136:], data[:124] + b"7" * 11 + data[135:]):
        (tmp_path / "x.tar").write_bytes(bent)
        with pytest.raises(UnreadableFile):
            _read(tmp_path / "x.tar")
    inside = _tar(tmp_path / "inner.pt", {"model.pt": _weights()}).read_bytes()
    with pytest.raises(UnreadableFile, match="in another"):
        _read(_tar(tmp_path / "x.tar", {"inner.pt": inside}))
