"""Checkpoints of torch.distributed.checkpoint count by their metadata as their model does, and nothing is run."""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed
from torch.multiprocessing.spawn import spawn

import paramcount
from paramcount.errors import UnreadableFile
from paramcount.report import Report
from paramcount.sources import Target, torch_file
from tests.conftest import Run


def _counted(word: object) -> Report:
    return Report.of(torch_file.read(Target(str(word)), str(word)))


def _save(value: dict[str, Any], folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is but one process
        save_distributed(value, checkpoint_id=folder, no_dist=True)
    return folder


def _training() -> tuple[nn.Module, dict[str, Any]]:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    return model, optimizer.state_dict()


LAYOUTS: dict[str, Callable[[Any, Any], Any]] = {
    "weights alone": lambda state, _: state,
    "a run": lambda state, optimizer: {"model": state, "optim": optimizer, "step": 3},
    "an app": lambda state, optimizer: {"app": {"model": state, "optim": optimizer}},
    "nested modules": lambda state, _: {"model": {"0": dict(state)}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_checkpoint_counts_what_its_model_does(layout: str, tmp_path: Path) -> None:
    model, optimizer = _training()
    report = _counted(_save(LAYOUTS[layout](model.state_dict(), optimizer), tmp_path / "checkpoint"))
    assert report.total == report.unknown == sum(param.numel() for param in model.parameters())
    assert report.buffers.total == sum(buffer.numel() for buffer in model.buffers())
    assert ("left-out" in [note.code for note in report.notes]) == (layout in {"a run", "an app"})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.int8, torch.complex64])
def test_tensors_have_the_shape_and_dtype_that_are_loaded(dtype: torch.dtype, tmp_path: Path) -> None:
    saved = {"w": torch.zeros(2, 3).to(dtype), "scalar": torch.zeros((), dtype=dtype)}
    folder = str(_save(saved, tmp_path / "checkpoint"))
    found = torch_file.read(Target(folder), folder)  # whole numbers are no parameters
    held = found.params or found.buffers
    assert {each.name: (each.shape, each.dtype, each.nbytes) for each in held} == {
        name: (tuple(each.shape), str(dtype).removeprefix("torch."), each.nbytes) for name, each in saved.items()
    }


def test_a_part_is_picked_as_in_a_file(tmp_path: Path) -> None:
    model, optimizer = _training()
    folder = _save({"model": model.state_dict(), "optim": optimizer}, tmp_path / "checkpoint")
    elements = sum(each.numel() for state in optimizer["state"].values() for each in state.values())
    for word in (f"{folder}:optim", f"{folder / '.metadata'}:optim"):
        assert torch_file.claims(word)
        assert _counted(word).total == elements


def test_the_data_of_one_process_are_refused_with_the_folder_to_name(tmp_path: Path, run: Run) -> None:
    folder = _save({"w": torch.zeros(2)}, tmp_path / "checkpoint")
    outcome = run(folder / "__0_0.distcp")
    assert (outcome.code, f"name the folder: {folder}" in outcome.err) == (3, True)


def test_what_very_many_processes_saved_counts_if_their_data_are_there(tmp_path: Path) -> None:
    tensors, places = {}, {}
    for name in map("layers.{}.weight".format, range(1000)):
        parts = [ChunkStorageMetadata(torch.Size([rank, 0]), torch.Size([1, 8])) for rank in range(40)]
        tensors[name] = TensorStorageMetadata(TensorProperties(torch.bfloat16), torch.Size([40, 8]), parts)
        for rank, part in enumerate(parts):
            places[MetadataIndex(name, part.offsets, rank)] = _StorageInfo(f"__{rank}_0.distcp", 0, 1500)
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Metadata(tensors, None, places)))  # type: ignore[arg-type]  # a dict
    for rank in range(40):
        (tmp_path / f"__{rank}_0.distcp").touch()
    with pytest.raises(UnreadableFile, match="more operations than any checkpoint of its size"):
        _counted(tmp_path)
    for rank in range(40):
        with (tmp_path / f"__{rank}_0.distcp").open("wb") as data:
            data.truncate(1000 * 1500)
    assert _counted(tmp_path).total == 1000 * 40 * 8


def _shard(rank: int, folder: Path) -> None:
    """Save a model of which each of two processes has a half, by FSDP."""
    from torch import distributed
    from torch.distributed.checkpoint.state_dict import get_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))
    mesh = init_device_mesh("cpu", (2,))
    for layer in (*model, model):
        fully_shard(layer, mesh=mesh)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 5)).sum().backward()
    optimizer.step()
    weights, state = get_state_dict(model, optimizer)
    save_distributed({"model": weights, "optim": state}, checkpoint_id=folder / "checkpoint")
    distributed.destroy_process_group()


def test_what_two_processes_hold_counts_whole(tmp_path: Path) -> None:
    spawn(_shard, (tmp_path,), nprocs=2)  # type: ignore[no-untyped-call]  # PyTorch's
    whole = {
        name: tuple(each.shape) for name, each in nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3)).named_parameters()
    }
    assert {param.name: param.shape for param in paramcount.count(str(tmp_path / "checkpoint")).params} == whole
    (tmp_path / "checkpoint" / "__1_0.distcp").unlink()
    with pytest.raises(UnreadableFile, match=r"'__1_0\.distcp'") as caught:
        _counted(tmp_path / "checkpoint")
    assert ".metadata" in str(caught.value.hint)
    shutil.copy(tmp_path / "checkpoint" / ".metadata", tmp_path)
    assert {param.name: param.shape for param in _counted(tmp_path / ".metadata").params} == whole


def _described(name: str, **state: object) -> bytes:
    """Return a pickle of an object of one of the classes of PyTorch's module, with any state."""
    flat = b"".join(pickle.dumps(key, 2)[2:-1] + pickle.dumps(value, 2)[2:-1] + b"s" for key, value in state.items())
    return b"\x80\x02ctorch.distributed.checkpoint.metadata\n" + name.encode() + b"\n)\x81}" + flat + b"b."


def _tensor(size: bytes, properties: bytes) -> bytes:
    tensor = b"ctorch.distributed.checkpoint.metadata\nTensorStorageMetadata\n)\x81}" + b"X\x04\0\0\0size" + size + b"s"
    tensor += b"X\x0a\0\0\0properties" + b"ctorch.distributed.checkpoint.metadata\nTensorProperties\n)\x81"
    tensor += properties + b"bsb"
    listed = b"}X\x01\0\0\0w" + tensor + b"s"
    head = b"\x80\x02ctorch.distributed.checkpoint.metadata\nMetadata\n)\x81}"
    return head + b"X\x13\0\0\0state_dict_metadata" + listed + b"sb."


_FLOATS = b"(ctorch\nfloat32\nN\x89NNt"
MALFORMED = {
    "no metadata": pickle.dumps({"state_dict_metadata": {}}, 2),
    "another object": _described("MetadataIndex", state_dict_metadata={}),
    "no state": b"\x80\x02ctorch.distributed.checkpoint.metadata\nMetadata\n)\x81.",
    "no tensors": _described("Metadata", planner_data={}),
    "tensors in a list": _described("Metadata", state_dict_metadata=[1]),
    "no size": _tensor(b"N", _FLOATS),
    "negative size": _tensor(b"J\xff\xff\xff\xff\x85", _FLOATS),
    "boolean size": _tensor(b"\x88\x85", _FLOATS),
    "huge size": _tensor((b"\x8a\x08" + b"\xff" * 7 + b"\x7f") * 2 + b"\x86", _FLOATS),
    "no properties": _tensor(b"K\x02\x85", b"N"),
    "no dtype": _tensor(b"K\x02\x85", b"(NN\x89t"),
    "unknown dtype": _tensor(b"K\x02\x85", b"(ctorch\nfloat3\nN\x89t"),
    "requires_grad of a number": _tensor(b"K\x02\x85", b"(ctorch\nfloat32\nNK\x01t"),
    "a storage": b"\x80\x02N.".replace(b"N", b"K\x01Q"),
    "cut short": _tensor(b"K\x02\x85", _FLOATS)[:-9],
    "empty": b"",
    "text": b"hello",
}


def test_the_metadata_that_are_bent_above_are_sound(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(_tensor(b"K\x02\x85", _FLOATS))
    assert _counted(tmp_path).total == 2


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_metadata_are_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(MALFORMED[kind])
    with pytest.raises(UnreadableFile) as caught:
        _counted(tmp_path)
    assert ".metadata" in caught.value.message


def test_keys_that_are_deep_or_no_keys_do_not_nest(tmp_path: Path) -> None:
    name = "a" * 50
    listed = _tensor(b"K\x02\x85", _FLOATS)[:-2].replace(b"\x01\0\0\0w", b"\x32\0\0\0" + name.encode())
    for path in (("a",) * 50, (1.5,), (), 3):
        planner = pickle.dumps({name: path}, 2)[2:-1]
        (tmp_path / ".metadata").write_bytes(listed + b"X\x0c\0\0\0planner_data" + planner + b"sb.")
        assert [param.name for param in _counted(tmp_path).params] == [name]
