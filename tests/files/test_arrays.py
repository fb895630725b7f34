"""Arrays of NumPy's, and what pickle.dump() wrote, count as torch's own files do, and nothing in them is run."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from paramcount.errors import UnreadableFile
from paramcount.inventory import Inventory
from paramcount.sources import Target, read


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def _read(path: Path) -> Inventory:
    return read(Target(str(path)))


def _total(inventory: Inventory) -> int:
    return sum(param.numel or 0 for param in inventory.params if param.tied_to is None)


RIGHT = sum(param.numel() for param in _model().parameters())


@pytest.mark.parametrize("protocol", range(1, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("ending", ["pkl", "pt", "odd"])
def test_what_pickle_wrote_counts(ending: str, protocol: int, tmp_path: Path) -> None:
    path, model = tmp_path / f"model.{ending}", _model()
    state = model.state_dict()
    for value in (model, state, {"model": state, "step": 3}, {key: each.numpy() for key, each in state.items()}):
        path.write_bytes(pickle.dumps(value, protocol=protocol))
        inventory = _read(path)
        assert _total(inventory) == RIGHT
        assert any(note.code == "plain-pickle" for note in inventory.notes)


def test_arrays_that_torch_saved_count_and_it_is_said(tmp_path: Path) -> None:
    arrays = {key: each.numpy() for key, each in _model().state_dict().items()}
    for value in (arrays, {"model": arrays, "epoch": 3}, {"model": arrays, "rng": np.random.default_rng(0)}):
        torch.save(value, tmp_path / "model.pt")
        inventory = _read(tmp_path / "model.pt")
        assert _total(inventory) == RIGHT
        assert any(note.code == "arrays" for note in inventory.notes)


def test_the_data_of_a_large_array_is_passed_over(tmp_path: Path) -> None:
    wide = np.zeros((2500, 2000), np.float64)  # 40 MB, more than a pickle's structure takes
    for protocol in (2, 4):
        (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a.weight": wide, "b.weight": wide[:3]}, protocol=protocol))
        assert _total(_read(tmp_path / "model.pkl")) == 5_000_000 + 6_000
    tensors = {"a.weight": torch.zeros(2500, 2000), "b.weight": torch.zeros(3)}
    for protocol in (2, 4):
        (tmp_path / "model.pkl").write_bytes(pickle.dumps(tensors, protocol=protocol))
        assert _total(_read(tmp_path / "model.pkl")) == 5_000_000 + 3


def test_a_tied_tensor_counts_once_in_a_plain_pickle(tmp_path: Path) -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False)})
    model["b"].weight = model["a"].weight
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    assert _total(_read(tmp_path / "model.pkl")) == 9


def test_what_cannot_be_weights_is_none(tmp_path: Path) -> None:
    for value in ({"names": np.array(["a", "b"])}, {"all": np.array([{}, []], dtype=object)}, {"a": 1}, [b"x" * 10]):
        (tmp_path / "model.pkl").write_bytes(pickle.dumps(value))
        with pytest.raises(UnreadableFile, match="holds no weights"):
            _read(tmp_path / "model.pkl")


def test_an_array_that_is_bent_is_refused(tmp_path: Path) -> None:
    data = pickle.dumps({"a.weight": np.zeros((2, 3), np.float32)}, protocol=4)
    assert b"K\x02K\x03\x86" in data
    (tmp_path / "model.pkl").write_bytes(data.replace(b"K\x02K\x03\x86", b"K\x02\x88)\x87"))
    with pytest.raises(UnreadableFile):
        _read(tmp_path / "model.pkl")


def test_arrays_among_tensors_are_said_and_not_counted(tmp_path: Path) -> None:
    state: dict[str, object] = dict(_model().state_dict())
    mixed = {**state, "extra": np.zeros((3, 4), np.float32), "more": np.zeros(5)}
    for value in (mixed, {"model": mixed}):
        torch.save(value, tmp_path / "model.pt")
        inventory = _read(tmp_path / "model.pt")
        assert _total(inventory) == RIGHT
        (note,) = [note for note in inventory.notes if "array of NumPy" in note.message]
        assert (note.code, note.where) == ("left-out", "extra")
        assert note.message.endswith("as 1 other: not counted (17 elements in all)")
