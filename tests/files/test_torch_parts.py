"""What is weights, and what a trainer keeps beside them, is told by what it is, and by its name where that is open."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from paramcount.errors import UnreadableFile
from paramcount.inventory import Inventory
from paramcount.sources import Target, read


def _read(path: Path, part: str = "") -> Inventory:
    return read(Target(f"{path}{part}"))


def _total(inventory: Inventory) -> int:
    return sum(param.numel or 0 for param in inventory.params if param.tied_to is None)


def _left_out(inventory: Inventory) -> str:
    return " ".join(note.message for note in inventory.notes if note.code == "left-out")


def _net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))


RIGHT = sum(param.numel() for param in _net().parameters())


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam(model.parameters())
    sum(param.sum() for param in model.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    return optimizer


class Suspicious(nn.Module):
    """Has the names of a trainer's figures for its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.zeros(4, 3))
        self.loss_weight = nn.Parameter(torch.zeros(5))
        self.val_proj = nn.Parameter(torch.zeros(3, 3))
        self.best_of = nn.Parameter(torch.zeros(2, 2))
        self.config = nn.Parameter(torch.zeros(7))
        self.ema_rate = nn.Parameter(torch.zeros(6))
        self.fc = nn.Linear(3, 2)


def test_parameters_in_a_flat_dict_are_weights_whatever_they_are_called(tmp_path: Path) -> None:
    model = Suspicious()
    figures = {"epoch": 3, "global_step": torch.tensor(7), "best_acc": 0.9, "val_loss": torch.tensor(0.5), "lr": 0.1}
    histories = {"train_losses": torch.zeros(100), "val_acc": torch.zeros(100)}
    flat = {key: value.clone() for key, value in model.state_dict().items()}
    torch.save({**flat, **figures, **histories, "optimizer": _optimizer(_net()).state_dict()}, tmp_path / "flat.pt")
    inventory = _read(tmp_path / "flat.pt")
    assert _total(inventory) == sum(param.numel() for param in model.parameters())
    assert "train_losses (1 tensor, 100 elements" in _left_out(inventory)


def test_modules_states_are_weights_whatever_they_are_called(tmp_path: Path) -> None:
    parts = {"encoder": _net(), "val_head": nn.Linear(3, 3), "step_embedding": nn.Embedding(5, 2), "lr_net": _net()}
    states: dict[str, Any] = {key: dict(module.state_dict()) for key, module in parts.items()}
    beside = {"best_encoder": dict(_net().state_dict()), "ema": states["encoder"], "val_stats": {"mean": torch.ones(3)}}
    torch.save({**states, **beside, "opt": _optimizer(_net()).state_dict()}, tmp_path / "parts.pt")
    inventory = _read(tmp_path / "parts.pt")
    assert _total(inventory) == sum(p.numel() for module in parts.values() for p in module.parameters())
    assert all(f"{key} (" in _left_out(inventory) for key in (*beside, "opt"))


def test_what_lies_beside_the_weights_of_each_part_is_left_out(tmp_path: Path) -> None:
    actor = {"net": _net().state_dict(), "ema": _net().state_dict(), "optimizer": _optimizer(_net()).state_dict()}
    torch.save({"actor": actor, "critic": {"net": _net().state_dict()}}, tmp_path / "agent.pt")
    inventory = _read(tmp_path / "agent.pt")
    assert _total(inventory) == 2 * RIGHT
    assert all(f"actor.{key} (" in _left_out(inventory) for key in ("ema", "optimizer"))


def test_the_state_of_an_optimizer_in_tuples_is_left_out_and_said(tmp_path: Path) -> None:
    # capture() of https://github.com/graphdeco-inria/gaussian-splatting/blob/main/scene/gaussian_model.py
    shapes = (10, 3), (10, 1, 3), (10, 15, 3), (10, 3), (10, 4), (10, 1)
    weights = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    optimizer = torch.optim.Adam([{"params": [each], "name": str(at)} for at, each in enumerate(weights)], eps=1e-15)
    sum(each.sum() for each in weights).backward()  # type: ignore[union-attr]
    optimizer.step()
    figures = torch.zeros(10), torch.zeros(10, 1), torch.zeros(10, 1)
    torch.save(((3, *weights, *figures, optimizer.state_dict(), 1.5), 30_000), tmp_path / "chkpnt30000.pth")
    inventory = _read(tmp_path / "chkpnt30000.pth")
    assert _total(inventory) == sum(each.numel() for each in weights) == 10 * 59
    assert "0.10 (" in _left_out(inventory)


@pytest.mark.parametrize("key", ["replay_buffer", "memory", "samples"])
def test_a_data_set_is_no_weight(key: str, tmp_path: Path) -> None:
    steps = {"obs": torch.zeros(50, 4), "actions": torch.zeros(50, dtype=torch.int64), "done": torch.zeros(50).bool()}
    torch.save({"policy": _net().state_dict(), key: steps}, tmp_path / "agent.pt")
    inventory = _read(tmp_path / "agent.pt")
    assert _total(inventory) == RIGHT
    assert f"{key} (3 tensors, 300 elements" in _left_out(inventory)


@pytest.mark.parametrize(
    "value",
    [
        (torch.zeros(60, 28, 28, dtype=torch.uint8), torch.zeros(60, dtype=torch.int64)),
        {"images": torch.zeros(60, 28, 28, dtype=torch.uint8), "targets": torch.zeros(60, dtype=torch.int64)},
        torch.arange(10),
    ],
)
def test_a_file_of_integers_alone_holds_no_weights(value: object, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "training.pt")
    with pytest.raises(UnreadableFile, match="holds no weights"):
        _read(tmp_path / "training.pt")


def test_an_optimizer_alone_is_called_that(tmp_path: Path) -> None:
    torch.save(_optimizer(_net()).state_dict(), tmp_path / "optimizer.pt")
    with pytest.raises(UnreadableFile, match="is the state of an optimizer"):
        _read(tmp_path / "optimizer.pt")


# Objects --------------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    a: object
    b: object


@dataclasses.dataclass
class TrainState:
    model: object
    optimizer: object
    step: int


class Slotted:
    __slots__ = ("net", "step")

    def __init__(self, net: object) -> None:
        self.net, self.step = net, 3


def test_weights_in_the_attributes_of_an_object_count(tmp_path: Path) -> None:
    net, path = _net(), tmp_path / "object.pt"
    state, optimizer = net.state_dict(), _optimizer(net).state_dict()
    for value in (
        argparse.Namespace(model=state, step=3),
        types.SimpleNamespace(state_dict=state, optimizer=optimizer),
        TrainState(state, optimizer, 3),
        Slotted(state),
        Slotted(net),
        Pair(state, optimizer),
        collections.UserDict(model=state),
        {"agent": argparse.Namespace(net=state, opt=optimizer)},
        [Pair(state, 3)],
    ):
        torch.save(value, path)
        assert _total(_read(path)) == RIGHT
    torch.save(TrainState(state, optimizer, 3), path)
    inventory = _read(path)
    assert "optimizer (" in _left_out(inventory)
    assert {param.name for param in inventory.params} == set(state)
    assert _total(_read(path, ":model")) == RIGHT


def test_an_object_whose_class_is_gone_gives_its_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone: Any = types.ModuleType("gone")
    gone.Learner = type("Learner", (), {"__module__": "gone"})
    monkeypatch.setitem(sys.modules, "gone", gone)
    learner, agent = gone.Learner(), gone.Learner()
    learner.model, learner.opt, learner.loss, learner.owner = _net(), _optimizer(_net()), nn.CrossEntropyLoss(), learner
    torch.save(learner, tmp_path / "learner.pth")
    agent.actor, agent.critic, agent.step = _net(), nn.BatchNorm1d(5), 3
    agent.again, agent.trainer = agent.actor, gone.Learner()
    agent.trainer.owner, agent.trainer.opt = agent, _optimizer(_net())
    torch.save(agent, tmp_path / "agent.pt")
    monkeypatch.delitem(sys.modules, "gone")
    assert _total(_read(tmp_path / "learner.pth")) == RIGHT
    inventory = _read(tmp_path / "agent.pt")
    assert _total(inventory) == RIGHT + 10
    assert len(inventory.buffers) == 3
    assert _total(_read(tmp_path / "agent.pt", ":critic")) == 10


def test_the_flat_buffer_of_zero_is_noted_once(tmp_path: Path) -> None:
    flat = torch.zeros(100)
    state = {f"layers.{at}.weight": flat[10 * at : 10 * at + 10].view(2, 5) for at in range(10)}
    torch.save({"module": state}, tmp_path / "mp_rank_00_model_states.pt")
    inventory = _read(tmp_path / "mp_rank_00_model_states.pt")
    assert _total(inventory) == 100
    (note,) = [note for note in inventory.notes if note.code == "shared-storage"]
    assert "10 tensors" in note.message


@pytest.mark.parametrize(
    "value",
    [
        {"net": {"body": _net().state_dict(), "stats": {"loss": torch.tensor(0.1)}}},
        {"net": {"body": _net().state_dict(), "loss": torch.tensor(0.1)}},
        {"backbone": _net().state_dict(), "info": {"fps": torch.tensor(30.0), "train": {"auc": torch.tensor(0.5)}}},
        {"a": _net().state_dict(), "b": {"c": {"d": {"loss": torch.tensor(0.1), "acc": torch.tensor(0.2)}}}},
    ],
)
def test_single_numbers_in_mappings_of_their_own_are_no_weights(value: object, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "model.pt")
    found = _read(tmp_path / "model.pt")
    assert _total(found) == RIGHT
    assert "1 element" in _left_out(found) or "2 elements" in _left_out(found)


def test_a_single_number_among_the_weights_of_a_model_is_one(tmp_path: Path) -> None:
    model = _net()
    model.logit_scale = nn.Parameter(torch.tensor(2.6))
    for value in (model.state_dict(), {"model": dict(model.state_dict())}, {"clip": dict(model.state_dict())}):
        torch.save(value, tmp_path / "model.pt")
        assert _total(_read(tmp_path / "model.pt")) == RIGHT + 1


@pytest.mark.parametrize("key", ["optimizer", "optim", "optimizer_0"])
def test_an_optimizers_state_under_dotted_names_is_no_weight(key: str, tmp_path: Path) -> None:
    model = _net()
    moments = {f"{key}.state.{name}.exp_avg": torch.zeros_like(param) for name, param in model.named_parameters()}
    torch.save({**model.state_dict(), **moments, f"{key}.param_groups.0.lr": torch.tensor(0.1)}, tmp_path / "model.pt")
    found = _read(tmp_path / "model.pt")
    assert _total(found) == RIGHT
    assert f"{key}.state.0.weight.exp_avg" in _left_out(found)


def test_several_models_that_count_together_are_named_and_one_can_be_picked(tmp_path: Path) -> None:
    critic = nn.Sequential(nn.Linear(5, 7))
    right = RIGHT + sum(param.numel() for param in critic.parameters())
    for value in ({"actor": _net().state_dict(), "critic": critic.state_dict()}, {"actor": _net(), "critic": critic}):
        torch.save({**value, "optimizer": _optimizer(critic).state_dict()}, tmp_path / "agent.pt")
        found = _read(tmp_path / "agent.pt")
        (message,) = [note.message for note in found.notes if note.code == "together"]
        assert _total(found) == right
        assert "actor (4 tensors, 23 elements" in message
        assert message.endswith("agent.pt:actor")
        alone = _read(tmp_path / "agent.pt", ":actor")
        assert _total(alone) == RIGHT
        assert not [note for note in alone.notes if note.code == "together"]


def test_the_layers_of_one_model_are_no_models_that_count_together(tmp_path: Path) -> None:
    layers = {name: {"weight": torch.zeros(3, 4), "bias": torch.zeros(3)} for name in ("first", "second")}
    torch.save(layers, tmp_path / "model.pt")
    found = _read(tmp_path / "model.pt")
    assert _total(found) == 30
    assert not [note for note in found.notes if note.code == "together"]
