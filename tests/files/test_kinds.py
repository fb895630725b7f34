"""A file is read by its content under every name, and what its name says otherwise is remarked."""

from __future__ import annotations

import io
import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import paramcount
from paramcount.errors import ParamcountError
from paramcount.inventory import Inventory
from paramcount.sources import Target, read

NUMEL = 4 * 3 + 3
OWN_ENDINGS = {
    "zip": {"pt", "bin", "pt2"},
    "legacy": {"pt", "bin", "pt2"},
    "safetensors": {"safetensors"},
    "gguf": {"gguf"},
    "report": {"json"},
    "npz": {"pt", "bin", "pt2"},
}


def _data(kind: str, folder: Path) -> bytes:
    model, stream = nn.Linear(4, 3), io.BytesIO()
    match kind:
        case "zip" | "legacy":
            torch.save(model.state_dict(), stream, _use_new_zipfile_serialization=kind == "zip")
        case "safetensors":
            return safetensors.torch.save(model.state_dict())
        case "npz":
            np.savez(stream, **{key: value.numpy() for key, value in model.state_dict().items()})
        case "report":
            report = paramcount.count(model).to_dict()
            return json.dumps({"format_version": "1.0", "reports": [report]}).encode()
        case _:
            writer = gguf.GGUFWriter(folder / "made", "llama")
            for key, value in model.state_dict().items():
                writer.add_tensor(key, value.numpy())
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            return (folder / "made").read_bytes()
    return stream.getvalue()


def _numel(inventory: Inventory) -> int:
    return sum(param.numel or 0 for param in inventory.params)


@pytest.mark.parametrize("kind", OWN_ENDINGS)
def test_a_file_counts_under_every_ending(kind: str, tmp_path: Path) -> None:
    data = _data(kind, tmp_path)
    for ending in ("pt", "bin", "pt2", "safetensors", "gguf", "json"):
        path = tmp_path / f"model.{ending}"
        path.write_bytes(data)
        inventory = read(Target(str(path)))
        assert _numel(inventory) == NUMEL, ending
        remarks = {note.code for note in inventory.notes if note.code == "named-otherwise"}
        assert bool(remarks) == (ending not in OWN_ENDINGS[kind]), ending


def test_a_prefix_that_is_wrong_is_an_error_with_the_word_that_counts_the_file(tmp_path: Path) -> None:
    (tmp_path / "model.odd").write_bytes(_data("zip", tmp_path))
    with pytest.raises(ParamcountError, match="by its first bytes a zip archive") as caught:
        read(Target(f"safetensors:{tmp_path / 'model.odd'}"))
    assert _numel(read(Target(str(caught.value.hint).rpartition(" ")[2]))) == NUMEL


def test_a_file_in_a_folder_is_an_error_with_the_word_that_counts_it(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(_data("zip", tmp_path))
    with pytest.raises(ParamcountError, match="by its first bytes a zip archive") as caught:
        read(Target(str(tmp_path)))
    assert _numel(read(Target(str(caught.value.hint).rpartition(" ")[2]))) == NUMEL


def test_a_header_without_its_length_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(_data("safetensors", tmp_path)[8:])
    with pytest.raises(ParamcountError, match="is no safetensors file"):
        read(Target(str(tmp_path / "model.safetensors")))
