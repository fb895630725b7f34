"""Folders of torch files, and indexes of them, count as what loads them would have it, and never on their word."""

from __future__ import annotations

import json
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from torch import nn

import paramcount
from paramcount.errors import UnknownTarget, UnreadableFile, UsageError
from paramcount.report import Report
from paramcount.sources import Target, resolve, sources, torch_file
from tests.conftest import Run

INDEX = "pytorch_model.bin.index.json"
ONE, TWO = "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"


def _counted(word: object) -> Report:
    return Report.of(torch_file.read(Target(str(word)), str(word)))


def _refusal(word: object) -> UnreadableFile:
    with pytest.raises(UnreadableFile) as caught:
        _counted(word)
    assert caught.value.exit_code == 3
    return caught.value


def _messages(report: Report, code: str) -> list[str]:
    return [note.message for note in report.notes if note.code == code]


def _save_index(folder: Path, weight_map: Any, **more: Any) -> Path:
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map, **more}))
    return folder / INDEX


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A folder with 12 + 8 parameters in two shards, and their index."""
    torch.save(OrderedDict({"a.0.w": torch.zeros(3, 4), "a.running_mean": torch.zeros(5)}), tmp_path / ONE)
    torch.save(OrderedDict({"a.1.w": torch.zeros(2, 4)}), tmp_path / TWO)
    _save_index(tmp_path, {"a.0.w": ONE, "a.1.w": TWO, "a.running_mean": ONE}, metadata={"total_size": 25 * 4})
    return tmp_path


# Shards and their index -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["folder", "index"])
def test_a_sharded_model_counts_what_the_live_one_does(by: str, tmp_path: Path) -> None:
    model = torchvision.models.mobilenet_v2()
    save_torch_state_dict(model.state_dict(), tmp_path, max_shard_size="3MB", safe_serialization=False)
    assert len(list(tmp_path.glob("*.bin"))) > 3
    report = _counted(tmp_path / INDEX if by == "index" else tmp_path)
    assert report.total == sum(param.numel() for param in model.parameters())
    assert report.buffers.total == sum(buffer.numel() for buffer in model.buffers())
    assert {param.name for param in report.params} == {name for name, _ in model.named_parameters()}
    assert [note.code for note in report.notes] == ["buffers-by-name"]


def test_shards_without_an_index_count_together(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    assert _counted(sharded).total == 20
    assert "name the folder to count them all" in _messages(_counted(sharded / ONE), "left-out")[0]
    (sharded / TWO).unlink()
    assert TWO in _refusal(sharded).message


def test_tensors_are_tied_within_a_shard_and_not_across(tmp_path: Path) -> None:
    tied, other = torch.zeros(3), torch.zeros(3)
    torch.save({"a": tied, "b": tied}, tmp_path / ONE)
    torch.save({"c": other, "d": other}, tmp_path / TWO)
    report = _counted(_save_index(tmp_path, {"a": ONE, "b": ONE, "c": TWO, "d": TWO}))
    assert (report.total, [param.tied_to for param in report.params]) == (6, [None, "a", None, "c"])


def test_an_index_is_never_believed(sharded: Path) -> None:
    _save_index(sharded, {"a.0.w": ONE}, metadata={"total_size": 7})
    torch.save({"b": torch.zeros(1)}, sharded / "pytorch_model.bin")
    report = _counted(sharded / INDEX)
    assert report.total == 12
    assert "7 bytes, and they hold 68" in _messages(report, "index-total")[0]
    assert "'a.running_mean'" in _messages(report, "index-unlisted")[0]
    assert f"'pytorch_model-00002-of-00002.bin', '{'pytorch_model.bin'}'" in _messages(report, "left-out")[0]


@pytest.mark.parametrize(
    ("weight_map", "problem"),
    [
        ({"a.0.w": "pytorch_model-00003-of-00002.bin"}, "is missing"),
        ({"a.0.w": TWO}, "does not hold it"),
        ({"a.0.w": "../elsewhere.bin"}, "is not in the index's folder"),
        ({"a.0.w": "/etc/passwd"}, "is not in the index's folder"),
        ({"a.0.w": 3}, "no shard, but 3"),
        (None, "no mapping weight_map"),
    ],
)
def test_an_index_that_its_shards_contradict_is_refused(weight_map: Any, problem: str, sharded: Path) -> None:
    assert problem in _refusal(_save_index(sharded, weight_map)).message


def test_a_name_in_two_shards_is_refused(sharded: Path) -> None:
    torch.save({"a.1.w": torch.zeros(2, 4), "a.0.w": torch.zeros(3, 4)}, sharded / TWO)
    assert "'a.0.w' is in" in _refusal(sharded).message


def test_a_broken_shard_is_named(sharded: Path) -> None:
    (sharded / TWO).write_bytes((sharded / TWO).read_bytes()[:-20])
    assert TWO in _refusal(sharded).message
    torch.save({"epoch": 3}, sharded / TWO)
    assert TWO in _refusal(sharded).message


def test_of_several_files_no_part_is_picked(sharded: Path) -> None:
    for word in (f"{sharded}:a", f"{sharded / INDEX}:a"):
        with pytest.raises(UsageError, match="no part can be picked"):
            _counted(word)


# One file among others ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "checkpoint.pth", "last.ckpt"])
def test_the_one_file_of_weights_in_a_folder_counts(name: str, tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(3)}, "ema": {"a": torch.zeros(9)}}, tmp_path / name)
    for beside in ("optimizer.pt", "rng_state_0.pth", "scheduler.pt", "training_args.bin", ".hidden.pt"):
        (tmp_path / beside).touch()
    report = _counted(tmp_path)
    assert report.total == 3
    assert f"what is counted is '{name}'; beside it are 'optimizer.pt'" in _messages(report, "left-out")[0]
    assert _counted(f"{tmp_path}:ema").total == 9
    assert all(torch_file.claims(word) for word in (str(tmp_path), f"{tmp_path}:ema"))


def test_a_folder_of_several_models_is_no_target(folder: Path, run: Run) -> None:
    for name in ("step1", "step2", "optimizer"):
        torch.save({"a": torch.zeros(3)}, folder / f"{name}.pt")
    assert not torch_file.claims(str(folder))
    outcome = run(folder)
    assert (outcome.code, "step1.pt" in outcome.err, "optimizer" in outcome.err) == (2, True, False)
    refusal = _refusal(folder)
    assert "do not say what in it is the weights" in refusal.message
    assert (refusal.hint or "").endswith("'step1.pt', 'step2.pt'")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "diffusion_pytorch_model.bin", "adapter_model.bin"])
def test_of_several_models_the_one_with_the_name_of_a_library_counts_and_the_others_are_said(
    name: str, tmp_path: Path
) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / name)
    for beside in (name.replace(".bin", "_1.bin"), name.replace(".bin", ".fp16.bin"), "vae.pt", "optimizer.bin"):
        torch.save({"a": torch.zeros(5)}, tmp_path / beside)
    report = _counted(tmp_path)
    assert report.total == 3
    (message,) = _messages(report, "left-out")
    assert name.replace(".bin", "_1.bin") in message


def test_two_indexes_in_a_folder_ask_for_one(sharded: Path) -> None:
    (sharded / "pytorch_model.fp16.bin.index.json").write_text((sharded / INDEX).read_text())
    assert "which is meant?" in _refusal(sharded).message


def test_safetensors_win_over_the_same_weights_in_torch_files(sharded: Path) -> None:
    save_file({"a": torch.zeros(4)}, sharded / "model.safetensors")
    report = paramcount.count(str(sharded))
    assert (report.source, report.total) == ("safetensors", 4)
    assert ONE in _messages(report, "left-out")[0]


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "torch"])
def test_of_what_accelerate_saves_the_weights_count(safe: bool, tmp_path: Path) -> None:
    accelerator = pytest.importorskip("accelerate").Accelerator(cpu=True)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    model, optimizer = accelerator.prepare(model, torch.optim.Adam(model.parameters()))
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    accelerator.save_state(str(tmp_path), safe_serialization=safe)
    report = paramcount.count(str(tmp_path))
    assert report.total == sum(param.numel() for param in model.parameters())
    assert "'optimizer.bin'" in _messages(report, "left-out")[0]


# DeepSpeed ------------------------------------------------------------------------------------------------------------


def _whole(model: nn.Module) -> dict[str, Any]:
    return {"module": model.state_dict(), "buffer_names": [name for name, _ in model.named_buffers()]}


def _empty(model: nn.Module) -> dict[str, Any]:
    names = dict(model.named_parameters())
    state = {name: torch.empty(0) if name in names else each for name, each in model.state_dict().items()}
    shapes = [{name: param.shape for name, param in names.items()}]
    return {**_whole(model), "module": state, "param_shapes": shapes, "frozen_param_shapes": {}}


def _model() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    model.register_buffer("table", torch.zeros(7))
    return model


def _step(folder: Path, *, name: str = "global_step10") -> Path:
    (folder / "latest").write_text(f"{name}\n")
    (folder / name).mkdir()
    (folder / name / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt").touch()
    return folder / name


@pytest.mark.parametrize("stage", [2, 3])
def test_of_what_deepspeed_saves_the_whole_model_counts(stage: int, tmp_path: Path) -> None:
    model, step = _model(), _step(tmp_path)
    if stage == 3:
        for rank in range(12):
            torch.save(_empty(model), step / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")
    else:
        torch.save(_whole(model), step / "mp_rank_00_model_states.pt")
    _step(tmp_path, name="global_step9")
    (tmp_path / "latest").write_text("global_step10")
    for folder in (tmp_path, step):
        report = _counted(folder)
        assert report.total == sum(param.numel() for param in model.parameters())
        assert report.buffers.total == sum(buffer.numel() for buffer in model.buffers())
        assert "optim_states.pt" in _messages(report, "left-out")[0]


def test_without_deepspeeds_latest_one_folder_counts_and_several_ask(tmp_path: Path) -> None:
    torch.save(_whole(_model()), _step(tmp_path) / "mp_rank_00_model_states.pt")
    (tmp_path / "latest").unlink()
    assert _counted(tmp_path).total == 21
    (tmp_path / "global_step9").mkdir()
    assert "which is meant?" in _refusal(tmp_path).message


@pytest.mark.parametrize("latest", ["global_step11", "../global_step10", "", "\0", "\n" * 5000])
def test_a_latest_that_leads_nowhere_is_refused(latest: str, tmp_path: Path) -> None:
    torch.save(_whole(_model()), _step(tmp_path) / "mp_rank_00_model_states.pt")
    (tmp_path / "latest").write_text(latest)
    assert "which is not there" in _refusal(tmp_path).message


def test_a_folder_of_any_name_is_found_by_deepspeeds_latest(tmp_path: Path) -> None:
    torch.save(_whole(_model()), _step(tmp_path, name="best") / "mp_rank_00_model_states.pt")
    assert not torch_file.claims(str(tmp_path))
    (tmp_path / "zero_to_fp32.py").touch()
    assert paramcount.count(str(tmp_path)).total == 21


def test_weights_beside_deepspeeds_folders_win(tmp_path: Path) -> None:
    torch.save(_whole(_model()), _step(tmp_path) / "mp_rank_00_model_states.pt")
    torch.save({"a": torch.zeros(5)}, tmp_path / "pytorch_model.bin")
    assert _counted(tmp_path).total == 5


def test_what_is_split_over_tensor_parallelism_is_refused(tmp_path: Path) -> None:
    for rank in range(2):
        torch.save(_whole(_model()), tmp_path / f"mp_rank_0{rank}_model_states.pt")
    refusal = _refusal(tmp_path)
    assert "split over the ranks of tensor parallelism" in refusal.message
    assert "mp_rank_00_model_states.pt" in str(refusal.hint)
    for path in tmp_path.iterdir():
        path.unlink()
    for rank in range(2):
        torch.save({"weight": torch.zeros(1)}, tmp_path / f"layer_00-model_0{rank}-model_states.pt")
    assert "split over the ranks of tensor parallelism" in _refusal(tmp_path).message


@pytest.mark.parametrize("rank", ["", "-model_00"])
def test_the_layers_of_a_pipeline_count_together(rank: str, tmp_path: Path) -> None:
    model = nn.Sequential(*(nn.Linear(2, 3) if number % 2 else nn.BatchNorm1d(2) for number in range(12)))
    for number, layer in enumerate(model):
        torch.save(layer.state_dict(), tmp_path / f"layer_{number:02d}{rank}-model_states.pt")
    for stage in range(2):
        torch.save({"module": None}, tmp_path / f"mp_rank_0{stage}_model_states.pt")
    report = _counted(tmp_path)
    assert [param.name for param in report.params] == [name for name, _ in model.named_parameters()]
    assert report.total == sum(param.numel() for param in model.parameters())
    assert "pipelines" in _messages(report, "ties-unknown")[0]


def test_experts_in_files_of_their_own_count_with_the_rest(tmp_path: Path) -> None:
    model = _model()
    torch.save(_whole(model), tmp_path / "mp_rank_00_model_states.pt")
    for expert in range(3):
        torch.save(
            {f"moe.{expert}.w": torch.zeros(5)}, tmp_path / f"layer_0_expert_{expert}_mp_rank_00_model_states.pt"
        )
    report = _counted(tmp_path)
    assert report.total == sum(param.numel() for param in model.parameters()) + 15
    (tmp_path / "mp_rank_00_model_states.pt").unlink()
    assert "its experts are there" in _refusal(tmp_path).message


# What is claimed ------------------------------------------------------------------------------------------------------


def test_folders_and_indexes_are_claimed_by_their_names(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(resolve(str(word))[0] == sources()["torch_file"] for word in (sharded / INDEX, sharded))
    monkeypatch.chdir(sharded)
    assert list(torch_file.names()) == sorted([ONE, TWO, INDEX])
    with pytest.raises(UnknownTarget):
        _counted("nowhere.bin.index.json")
    (sharded / "empty").mkdir()
    assert not torch_file.claims("empty")
    assert "do not say" in _refusal(sharded / "empty").message


def test_an_archive_that_was_unpacked_counts(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt") as archive:
        archive.extractall(tmp_path)
    report = _counted(tmp_path / "model")
    assert report.total == sum(p.numel() for p in model.parameters())
    assert _messages(report, "unpacked")
    (tmp_path / "model" / "data" / "0").unlink()
    assert "storage '0' is missing" in _refusal(tmp_path / "model").message
