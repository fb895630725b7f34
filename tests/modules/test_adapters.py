"""A PEFT model counts as PEFT itself says; base, adapters and copies are told apart, and so is what is in use."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import paramcount
from paramcount.groups import groups
from paramcount.report import Tally
from tests.conftest import Run
from tests.refusals import skipping_refusals

with skipping_refusals(), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what libraries announce of their own futures
    import bitsandbytes.nn
    import peft
    from peft import AdaLoraConfig, IA3Config, LoraConfig, PromptTuningConfig, VBLoRAConfig, VeraConfig
    from transformers import GPT2Config, GPT2LMHeadModel

BNB: Any = bitsandbytes.nn  # it says nothing of its types


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 16)
        self.conv = nn.Conv1d(16, 16, 1)
        self.q, self.v = nn.Linear(16, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 100, bias=False)

    def forward(self, tokens: torch.Tensor) -> Any:
        mixed = self.conv(self.embed(tokens).transpose(1, 2)).transpose(1, 2)
        return self.head(self.v(self.q(mixed)))


BASE = sum(param.numel() for param in Net().parameters())
LORA: dict[str, Any] = {"r": 4, "target_modules": ["q", "embed", "conv"], "modules_to_save": ["head"]}
OTHER: dict[str, Any] = {"r": 2, "target_modules": ["q", "v"], "use_dora": True}


def adapted(config: peft.PeftConfig, model: nn.Module | None = None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.get_peft_model(model or Net(), config)


def two() -> Any:
    model = adapted(LoraConfig(**LORA))
    model.add_adapter("other", LoraConfig(**OTHER))
    return model


def saved_size(model: Any, adapter: str) -> int:
    """Return how many elements PEFT would save of an adapter, copies included."""
    state = peft.get_peft_model_state_dict(model, adapter_name=adapter, save_embedding_layers=False)
    return sum(tensor.numel() for tensor in state.values())


def in_use(model: Any) -> int:
    """Return how many elements a gradient reaches: those that a forward passes through."""
    flags = {name: param.requires_grad for name, param in model.named_parameters()}
    for param in model.parameters():
        param.requires_grad_(True)
        param.grad = None
    model(torch.arange(10)[None]).sum().backward()
    reached: int = sum(param.numel() for param in model.parameters() if param.grad is not None)
    for name, param in model.named_parameters():
        param.requires_grad_(flags[name])
    return reached


def messages(report: paramcount.Report) -> list[str]:
    return [f"{note.where}: {note.message}".removeprefix(": ") for note in report.notes if note.code == "adapter"]


CONFIGS: list[peft.PeftConfig] = [
    LoraConfig(**LORA),
    LoraConfig(**OTHER),
    LoraConfig(target_modules=["q"], trainable_token_indices={"embed": [1, 2, 3]}),
    LoraConfig(r=8, target_modules=["q", "v"], rank_pattern={"v": 2}, bias="all"),
    IA3Config(target_modules=["q", "v"], feedforward_modules=[]),
    AdaLoraConfig(target_modules=["q"], total_step=10),
    VeraConfig(target_modules=["q", "v"]),
    VBLoRAConfig(target_modules=["q", "v"], vector_length=4),
]


@pytest.mark.parametrize("config", CONFIGS, ids=[f"{type(c).__name__}-{n}" for n, c in enumerate(CONFIGS)])
def test_an_adapted_model_counts_as_peft_says(config: peft.PeftConfig) -> None:
    model = adapted(config)
    report = paramcount.count(model)
    assert (report.trainable, report.total) == model.get_nb_trainable_parameters()
    assert {note.code for note in report.notes} == {"adapter"}
    adapters = sum(p.numel() for name, p in model.named_parameters() if ".default" in name or "vector_bank" in name)
    assert report.total == BASE + adapters
    assert messages(report)[0].startswith(f"base {BASE:,} ")


def test_base_adapters_and_copies_are_told_apart() -> None:
    model = two()
    report = paramcount.count(model)
    copies, lora, dora = 100 * 16, 4 * (100 + 16) + 4 * (16 + 16) * 2, 2 * (16 + 16) * 2 + 16 * 2
    assert lora + copies == saved_size(model, "default")
    assert dora == saved_size(model, "other")
    assert report.total == BASE + lora + dora + copies
    assert messages(report) == [
        f"base {BASE:,} frozen · adapters {lora + dora} ({lora} trainable) · modules_to_save {copies:,} trainable",
        f"default (LORA, rank 4): {lora} trainable, {copies:,} trainable in modules_to_save",
        f"other (LORA, rank 2, DoRA): {dora} frozen and not active",
        "base_model.model.head: a copy in modules_to_save replaces its original_module, which counts, but is not "
        f"in use: {copies:,} frozen",
    ]


def as_it_is(model: Any) -> None:
    pass


def other(model: Any) -> None:
    model.set_adapter("other")


def both(model: Any) -> None:
    model.base_model.set_adapter(["default", "other"])


def merged(model: Any) -> None:
    model.base_model.merge_adapter(["default"])


def off(model: Any) -> None:
    model.base_model.disable_adapter_layers()


@pytest.mark.parametrize("change", [as_it_is, other, both, merged, off])
def test_what_is_active_is_what_a_forward_passes_through(change: Callable[[Any], None]) -> None:
    model = two()
    change(model)
    report = paramcount.count(model)
    assert report.active == in_use(model) < report.total
    assert report.to_dict()["active"] == report.active
    assert (report.trainable, report.total) == model.get_nb_trainable_parameters()


def test_a_merged_adapter_says_so() -> None:
    model = two()
    merged(model)
    said = messages(paramcount.count(model))
    assert said[1].endswith("trainable and merged into the base, 1,600 trainable in modules_to_save")
    assert said[2].endswith("frozen and not active")


def test_where_all_is_in_use_nothing_is_said_of_it() -> None:
    report = paramcount.count(adapted(LoraConfig(target_modules=["q"])))
    assert "active" not in report.to_dict()
    assert report.active == report.total


def gpt() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=50, n_positions=16, bos_token_id=0, eos_token_id=0)
    )


TIED: dict[str, Any] = {"target_modules": ["c_attn"], "fan_in_fan_out": True, "task_type": "CAUSAL_LM"}


@pytest.mark.parametrize("saved", ["wte", "lm_head"])
def test_an_original_that_is_tied_to_what_still_runs_is_in_use(saved: str) -> None:
    whole = sum(param.numel() for param in gpt().parameters())
    model = adapted(LoraConfig(**TIED, modules_to_save=[saved]), gpt())
    report = paramcount.count(model)
    assert (report.trainable, report.total) == model.get_nb_trainable_parameters()
    assert report.total == report.active == whole + 2 * 8 * (32 + 96) + 50 * 32
    assert [len(others) for others in report.ties.values()] == [1]


def test_a_prompt_counts_beside_an_untouched_model() -> None:
    whole = sum(param.numel() for param in gpt().parameters())
    model = adapted(PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5), gpt())
    report = paramcount.count(model)
    assert (report.trainable, report.total) == model.get_nb_trainable_parameters() == (5 * 32, whole + 5 * 32)
    assert messages(report)[1] == "default (PROMPT_TUNING): 160 trainable"


# By adapter -----------------------------------------------------------------------------------------------------------


def by_adapter(report: paramcount.Report) -> dict[str, Tally]:
    return {group.label: group.tally for group in groups(report, "adapter")}


def named_after(model: Any, adapter: str) -> int:
    return sum(param.numel() for name, param in model.named_parameters() if adapter in name.split("."))


@pytest.mark.parametrize("config", CONFIGS, ids=[f"{type(c).__name__}-{n}" for n, c in enumerate(CONFIGS)])
def test_the_parameters_of_an_adapter_are_those_that_peft_names_after_it(config: peft.PeftConfig) -> None:
    model = adapted(config)
    found = by_adapter(paramcount.count(model))
    assert list(found) == ["base model", "default"]
    assert found["default"].total == named_after(model, "default")
    assert found["base model"].total == BASE
    trainable, total = model.get_nb_trainable_parameters()
    assert found["base model"].trainable + found["default"].trainable == trainable
    assert found["base model"].total + found["default"].total == total


def test_adapters_and_their_copies_are_groups_by_name() -> None:
    model = two()
    found = by_adapter(paramcount.count(model))
    assert {name: tally.total for name, tally in found.items()} == {
        "base model": BASE,
        **{name: saved_size(model, name) for name in ("default", "other")},
    }
    assert found["default"].trainable == model.get_nb_trainable_parameters()[0]
    model.set_adapter("other")
    assert by_adapter(paramcount.count(model))["other"].trainable == model.get_nb_trainable_parameters()[0]


def test_a_prompt_is_its_adapters() -> None:
    model = adapted(PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5), gpt())
    assert by_adapter(paramcount.count(model))["default"].total == model.get_nb_trainable_parameters()[0]


def test_without_adapters_all_is_the_base_model() -> None:
    model = Net()
    model.lora_A = nn.ModuleDict({"default": nn.Linear(2, 2)})  # none of PEFT's
    found = by_adapter(paramcount.count(model))
    assert {name: tally.total for name, tally in found.items()} == {"base model": BASE + 6}


def test_a_saved_report_keeps_what_is_whose(tmp_path: Any) -> None:
    report = paramcount.count(two())
    (tmp_path / "report.json").write_text(
        json.dumps({"format_version": "1.0", "paramcount_version": "0", "reports": [report.to_dict()]})
    )
    assert by_adapter(paramcount.count(str(tmp_path / "report.json"))) == by_adapter(report)


@pytest.mark.parametrize("saved", [lambda model: model.state_dict(), lambda model: model], ids=["state", "module"])
def test_a_file_of_the_whole_model_tells_adapters_by_their_names(saved: Any, tmp_path: Any) -> None:
    model = two()
    torch.save(saved(model), tmp_path / "model.pt")
    found = {name: tally.total for name, tally in by_adapter(paramcount.count(str(tmp_path / "model.pt"))).items()}
    assert found == {name: tally.total for name, tally in by_adapter(paramcount.count(model)).items()}


def test_an_adapters_own_file_says_no_name(tmp_path: Any) -> None:
    model = two()
    model.save_pretrained(tmp_path, selected_adapters=["other"])
    found = by_adapter(paramcount.count(str(tmp_path / "other")))
    assert {name: tally.total for name, tally in found.items()} == {
        "(adapter without a name)": saved_size(model, "other")
    }


def test_adapters_are_a_further_table(run: Run, folder: Any) -> None:
    (folder / "net.py").write_text(
        "from torch import nn\n"
        "def adapted():\n"
        "    from peft import LoraConfig, get_peft_model\n"
        "    return get_peft_model(nn.Sequential(nn.Linear(6, 5)), LoraConfig(r=2, target_modules=['0']))\n"
    )
    outcome = run("net.py:adapted", "--by", "adapter", "-f", "json")
    (report,) = outcome.json["reports"]
    found = [(group["group"], group["total"], group["trainable"]) for group in report["groups"]["adapter"]]
    assert found == [("base model", 35, 0), ("default", 22, 22)]
    shown = run("net.py:adapted", "--by", "adapter", "--depth", "0").out
    assert "net.py:adapted · by adapter" in shown.splitlines()


def test_an_adapter_that_transformers_itself_adds_is_seen() -> None:
    model = gpt()
    whole = sum(param.numel() for param in model.parameters())
    model.add_adapter(LoraConfig(r=8, target_modules=["c_attn"], fan_in_fan_out=True))
    report = paramcount.count(model)
    assert messages(report)[0] == f"base {whole:,} frozen · adapters {2 * 8 * (32 + 96):,} trainable"
    assert messages(report)[1].startswith("default (LORA, rank 8): ")


def test_an_adapter_on_four_bits_counts_beside_the_whole_base() -> None:
    model = nn.Sequential(BNB.Linear4bit(64, 64), nn.Linear(64, 2)).to("cpu")
    report = paramcount.count(adapted(LoraConfig(r=4, target_modules=["0"]), model))
    assert (report.total, report.trainable) == (64 * 64 + 64 + 64 * 2 + 2 + 4 * (64 + 64), 4 * (64 + 64))
    assert report.packed == 64 * 64


def test_after_an_adapter_is_merged_and_unloaded_there_is_only_the_base() -> None:
    report = paramcount.count(adapted(LoraConfig(target_modules=["q"])).merge_and_unload())
    assert (report.total, report.notes) == (BASE, ())


def test_an_adapted_model_is_built_without_memory(run: Run, folder: Any) -> None:
    (folder / "net.py").write_text(
        "from torch import nn\n"
        "def adapted():\n"
        "    from peft import LoraConfig, get_peft_model\n"
        "    model = nn.Sequential(nn.Linear(1 << 17, 1 << 17), nn.Linear(1 << 17, 2))\n"
        "    return get_peft_model(model, LoraConfig(r=8, target_modules=['0'], modules_to_save=['1']))\n"
    )
    outcome = run("net.py:adapted", "--device", "meta", "-f", "json")
    assert outcome.code == 0, outcome.err
    (report,) = outcome.json["reports"]
    wide, head = 1 << 17, 2 * (1 << 17) + 2
    assert report["total"] == wide * wide + wide + head + 2 * 8 * wide + head
    assert report["trainable"] == 2 * 8 * wide + head
    assert report["active"] == report["total"] - head
