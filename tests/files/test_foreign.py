"""A file of another format is named for what it is, with a next step, whatever it is called and however it comes."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from paramcount.errors import ParamcountError
from paramcount.inventory import Inventory
from paramcount.sources import Target, read


def _read(path: Path) -> Inventory:
    return read(Target(str(path)))


def _zip(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return stream.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4976698672\n"
PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"
FILES = {
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0", "ONNX"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "keras": (_zip("metadata.json", "config.json", "model.weights.h5"), "Keras"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(40), "TensorFlow Lite"),
    "torchserve": (_zip("MAR-INF/MANIFEST.json", "model.pt"), "TorchServe"),
    "msgpack": (b"\x81\xa6params\x81\xa5dense\x80", "MessagePack"),
    "ggml": (struct.pack("<8i", 0x67676D6C, 32000, 4096, 256, 32, 32, 128, 2), "before GGUF"),
    "ggjt": (struct.pack("<II", 0x67676A74, 3) + bytes(100), "before GGUF"),
    "pointer": (LFS, "Git LFS"),
    "page": (PAGE, "web page"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(30), "7-Zip"),
    "engine": (b"ftrt" + bytes(40), "TensorRT"),
}


@pytest.mark.parametrize("ending", ["pt", "gguf", "safetensors", "bin", "json", "odd"])
@pytest.mark.parametrize("kind", FILES)
def test_a_foreign_file_is_named_under_every_ending(kind: str, ending: str, tmp_path: Path) -> None:
    data, said = FILES[kind]
    path = tmp_path / f"model.{ending}"
    path.write_bytes(data)
    with pytest.raises(ParamcountError) as caught:
        _read(path)
    assert said in caught.value.message
    assert caught.value.hint
    assert "do not load" not in caught.value.hint


def _tar(name: str, data: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


PACKERS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "gz": (gzip.compress, "tar -xzf"),
    "xz": (lzma.compress, "tar -xJf"),
    "bz2": (bz2.compress, "tar -xjf"),
}


@pytest.mark.parametrize("kind", PACKERS)
def test_a_packed_file_is_unpacked_by_the_command_that_is_named(kind: str, tmp_path: Path) -> None:
    pack, command = PACKERS[kind]
    (tmp_path / "a.odd").write_bytes(pack(_tar("sd.pt", b"x" * 5000)))
    with pytest.raises(ParamcountError, match="tar archive packed by") as caught:
        _read(tmp_path / "a.odd")
    assert f"{command} {tmp_path / 'a.odd'}" in str(caught.value.hint)
    (tmp_path / "b.odd").write_bytes(pack(b"x" * 5000))
    with pytest.raises(ParamcountError, match="is packed by") as caught:
        _read(tmp_path / "b.odd")
    assert "| paramcount /dev/stdin" in str(caught.value.hint)


JSON = {
    "notebook.ipynb": ({"cells": [], "nbformat": 4}, "a notebook", "paramcount.count(model)"),
    "tokenizer.json": ({"version": "1.0", "model": {"type": "BPE"}}, "a tokenizer's", "weights"),
    "model_index.json": ({"_class_name": "X", "unet": ["diffusers", "UNet2DModel"]}, "pipeline", "diffusers:"),
    "adapter_config.json": ({"peft_type": "LORA"}, "an adapter", "folder"),
    "trainer_state.json": ({"log_history": []}, "a trainer", "weights"),
}


@pytest.mark.parametrize("name", JSON)
def test_json_that_is_no_report_is_named_for_what_it_is(name: str, tmp_path: Path) -> None:
    document, said, hint = JSON[name]
    (tmp_path / name).write_text(json.dumps(document))
    with pytest.raises(ParamcountError) as caught:
        _read(tmp_path / name)
    assert said in caught.value.message
    assert hint in str(caught.value.hint)
    assert "save one" not in str(caught.value.hint)
