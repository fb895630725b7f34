"""Adapters count what PEFT saves, and what PEFT says of the live model that it saves them from."""

from __future__ import annotations

import json
import shutil
import warnings
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from paramcount.errors import UnknownTarget, UnreadableFile, UsageError
from paramcount.groups import groups
from paramcount.report import Report
from paramcount.sources import Target, resolve, sources
from tests.conftest import Run

WEIGHTS, BIN = "adapter_model.safetensors", "adapter_model.bin"


@cache
def peft() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what libraries announce of their own futures
        return import_module("peft")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(32, 32)
        self.v_proj = nn.Linear(32, 16)
        self.conv = nn.Conv1d(16, 8, 3)


class Tiny(nn.Module):
    """What is adapted: nothing of it but the names and shapes of its layers matters here."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(64, 32)
        self.layers = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(32, 5)


def configuration(kind: str) -> Any:
    lib = peft()
    both = ["q_proj", "v_proj"]
    return {
        "lora": lambda: lib.LoraConfig(r=4, lora_alpha=8, target_modules=both),
        "rank pattern": lambda: lib.LoraConfig(r=4, target_modules=both, rank_pattern={"layers.1.q_proj": 8}),
        "lora of a convolution": lambda: lib.LoraConfig(r=2, target_modules=["conv"]),
        "lora with biases": lambda: lib.LoraConfig(r=2, target_modules=both, bias="lora_only", lora_bias=False),
        "lora and a head": lambda: lib.LoraConfig(r=4, target_modules=both, modules_to_save=["head"]),
        "dora": lambda: lib.LoraConfig(r=4, use_dora=True, target_modules=both),
        "ia3": lambda: lib.IA3Config(target_modules=both, feedforward_modules=["v_proj"]),
        "loha": lambda: lib.LoHaConfig(r=4, target_modules=both),
        "lokr": lambda: lib.LoKrConfig(r=2, target_modules=both),
        "adalora": lambda: lib.AdaLoraConfig(init_r=6, target_r=4, target_modules=both, total_step=10),
    }[kind]()


def saved(folder: Path, config: Any, *, safe: bool = True) -> Any:
    """Save an adapter of the tiny model by PEFT, and return the model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft().get_peft_model(Tiny(), config)
        model.save_pretrained(folder, safe_serialization=safe)
    if not safe and not (folder / BIN).exists():  # newer versions write safetensors alone, and read both
        torch.save(load_file(folder / WEIGHTS), folder / BIN)
        (folder / WEIGHTS).unlink()
    return model


def counted(word: object) -> Report:
    source, name = resolve(str(word))
    report = Report.of(source.read(Target(str(word)), name))
    assert report.source == "adapter"
    return report


def adapter_note(report: Report) -> str:
    (note,) = [note.message for note in report.notes if note.code == "adapter"]
    return note


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


KINDS = (
    *("lora", "rank pattern", "lora of a convolution", "lora with biases", "lora and a head"),
    *("dora", "ia3", "loha", "lokr", "adalora"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_counts_what_trains_of_the_live_model(kind: str, tmp_path: Path) -> None:
    model = saved(tmp_path, configuration(kind))
    tensors = load_file(tmp_path / WEIGHTS)
    trainable, _ = model.get_nb_trainable_parameters()
    for word in (tmp_path, tmp_path / WEIGHTS):
        report = counted(word)
        assert report.total == trainable == sum(tensor.numel() for tensor in tensors.values())
        assert {param.name: param.shape for param in report.params} == {
            name: tuple(tensor.shape) for name, tensor in tensors.items()
        }
        assert [note.code for note in report.notes] == ["adapter", "buffers-by-name"]


def test_a_file_of_torch_counts_the_same(tmp_path: Path) -> None:
    model = saved(tmp_path, configuration("lora and a head"), safe=False)
    assert not (tmp_path / WEIGHTS).exists()
    (tmp_path / "training_args.bin").write_bytes(b"of the trainer")
    for word in (tmp_path, tmp_path / BIN):
        assert counted(word).total == model.get_nb_trainable_parameters()[0]


def test_prompt_tuning_counts_its_virtual_tokens(tmp_path: Path) -> None:
    save_file({"prompt_embeddings": torch.zeros(5, 32)}, tmp_path / WEIGHTS)
    config = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 5, "base_model_name_or_path": "org/base"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    report = counted(tmp_path)
    assert (report.total, report.root.type) == (160, "Prompt tuning adapter")
    assert adapter_note(report) == (
        "Prompt tuning adapter of org/base, virtual tokens 5; it holds prompt_embeddings in full (160)"
    )


def test_vera_counts_what_all_its_targets_share_once(tmp_path: Path) -> None:
    model = saved(tmp_path, peft().VeraConfig(r=8, target_modules=["q_proj"]))
    report = counted(tmp_path)
    shared = 8 * 32 + 32 * 8
    assert report.total == model.get_nb_trainable_parameters()[0] + shared
    assert adapter_note(report) == "VeRA adapter, rank 8; it holds VeRA q_proj r=8 × 3 (120), VeRA shared × 1 (512)"


def test_target_modules_and_ranks_are_types_that_fold_and_group(tmp_path: Path) -> None:
    saved(tmp_path, configuration("rank pattern"))
    report = counted(tmp_path)
    assert report["base_model.model.layers.0.q_proj"].type == "LoRA q_proj r=4"
    assert report["base_model.model.layers.1.q_proj"].type == "LoRA q_proj r=8"
    assert report["base_model.model.layers.1.q_proj.lora_A"].type == "LoRA q_proj r=8"
    assert {group.label: group.tally.total for group in groups(report, "type")} == {
        "LoRA v_proj r=4": 3 * 4 * (32 + 16),
        "LoRA q_proj r=4": 2 * 4 * (32 + 32),
        "LoRA q_proj r=8": 8 * (32 + 32),
    }


def test_the_note_says_of_what_and_how(tmp_path: Path) -> None:
    saved(tmp_path, configuration("lora and a head"))
    change_config(tmp_path, base_model_name_or_path="org/tiny")
    assert adapter_note(counted(tmp_path)) == (
        "LoRA adapter of org/tiny, rank 4, alpha 8; it holds LoRA q_proj r=4 × 3 (768), LoRA v_proj r=4 × 3 (576), "
        "head in full (165)"
    )


def test_dora_is_told_by_its_magnitudes(tmp_path: Path) -> None:
    saved(tmp_path, configuration("dora"))
    report = counted(tmp_path)
    assert report.root.type == "DoRA adapter"
    assert report["base_model.model.layers.2.v_proj"].type == "DoRA v_proj r=4"


def test_ranks_that_the_config_contradicts_are_those_of_the_tensors(tmp_path: Path, run: Run) -> None:
    model = saved(tmp_path, configuration("rank pattern"))
    change_config(tmp_path, r=16, rank_pattern={"layers.1.q_proj": 8})
    report = counted(tmp_path)
    assert report.total == model.get_nb_trainable_parameters()[0]
    (note,) = [note for note in report.notes if note.code == "adapter-rank"]
    assert note.where == "base_model.model.layers.0.q_proj"
    assert note.message == (
        "has rank 4 (4 more modules of such a rank) and adapter_config.json says 16, 8: what counts are the tensors"
    )
    outcome = run(tmp_path, "--value", "total")
    assert (outcome.code, outcome.out) == (0, f"{report.total}\n")
    assert "adapter-rank" in outcome.err


def test_an_adapter_without_its_config_says_so(tmp_path: Path) -> None:
    saved(tmp_path, configuration("lora"))
    (tmp_path / "adapter_config.json").unlink()
    report = counted(tmp_path)
    assert report.total == 3 * 4 * (64 + 48)
    assert adapter_note(report).startswith("LoRA adapter, there is no adapter_config.json beside it; it holds LoRA")


@pytest.mark.parametrize(
    "config",
    ['{"r": {}, "peft_type": 3, "rank_pattern": [1], "base_model_name_or_path": [2]}', '{"peft_type": "LORA"}'],
)
def test_a_config_that_says_nothing_useful_changes_no_count(config: str, tmp_path: Path) -> None:
    saved(tmp_path, configuration("lora"))
    (tmp_path / "adapter_config.json").write_text(config)
    assert counted(tmp_path).total == 3 * 4 * (64 + 48)


def test_a_config_that_is_broken_is_named(tmp_path: Path, run: Run) -> None:
    saved(tmp_path, configuration("lora"))
    (tmp_path / "adapter_config.json").write_text('{\n"r": NaN}')
    outcome = run(tmp_path)
    assert outcome.code == 3
    assert f"{tmp_path}/adapter_config.json" in outcome.err


def test_a_folder_with_the_model_itself_is_the_models(tmp_path: Path) -> None:
    saved(tmp_path, configuration("lora"))
    save_file({"w": torch.zeros(3)}, tmp_path / "model.safetensors")
    assert resolve(str(tmp_path))[0] is sources()["safetensors"]
    assert resolve(str(tmp_path / WEIGHTS))[0] is sources()["adapter"]


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    read = sources()["adapter"].read
    with pytest.raises(UnknownTarget):
        read(Target("x"), "nothing")
    with pytest.raises(UnreadableFile, match=r"holds no adapter_model\.safetensors and no adapter_model\.bin"):
        read(Target("x"), str(tmp_path))
    with pytest.raises(UnknownTarget):
        read(Target("x"), str(tmp_path / WEIGHTS))
    with pytest.raises(UsageError):
        read(Target("x", args={"r": 8}), str(tmp_path / WEIGHTS))
    torch.save({"epoch": 3}, tmp_path / BIN)
    with pytest.raises(UnreadableFile, match="holds no weights"):
        read(Target("x"), str(tmp_path))
    (tmp_path / BIN).write_bytes(b"\x80\x02nonsense")
    with pytest.raises(UnreadableFile):
        read(Target("x"), str(tmp_path))


def test_many_targets_are_listed_up_to_what_a_line_holds(tmp_path: Path) -> None:
    tensors = {f"layers.{n}.proj_{n}.lora_A.weight": torch.zeros(2, 3) for n in range(20)}
    save_file(tensors, tmp_path / WEIGHTS)
    note = adapter_note(counted(tmp_path))
    assert note.endswith("LoRA proj_7 r=2 × 1 (6), 12 more kinds, which --by type shows")
    shutil.rmtree(tmp_path)
