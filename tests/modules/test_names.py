"""Tensors are told apart by identity: whatever a model calls them, all count, and no two have one name."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import paramcount
from paramcount.budgets import OverBudget
from paramcount.diff import Side, changes
from paramcount.report import Report

CODE = "name-twice"


def own_sum(model: nn.Module) -> int:
    """PyTorch's own count."""
    return sum(param.numel() for param in model.parameters())


def small() -> Any:
    """A sequence of two layers, and a child that has the first one's path for a name."""
    model: Any = nn.Module()
    model.body = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    setattr(model, "body.0", nn.Linear(4, 7))
    return model


def set_before() -> Any:
    model: Any = nn.Module()
    setattr(model, "body.0", nn.Linear(4, 7))
    model.body = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    return model


def twice_deep() -> Any:
    model: Any = nn.Module()
    model.a, model.b = nn.Module(), nn.Linear(2, 2)
    model.a.b = nn.Module()
    model.a.b.c = nn.Linear(3, 3)
    setattr(model.a, "b.c", nn.Linear(4, 4))
    setattr(model, "a.b.c", nn.Linear(5, 5))
    setattr(model, "a.b", nn.Module())
    model._modules["a.b"].c = nn.Linear(6, 6)
    return model


def empty_name() -> Any:
    model: Any = nn.Linear(3, 3)
    setattr(model, "", nn.Linear(4, 4))
    return model


def empty_name_below() -> Any:
    model: Any = nn.Sequential(nn.Linear(3, 3))
    setattr(model[0], "", nn.Linear(4, 4))
    model.weight = nn.Parameter(torch.zeros(5))
    setattr(model, "", nn.Sequential(nn.Linear(2, 2)))
    return model


def registries_filled_by_hand() -> Any:
    model: Any = nn.Module()
    model.a = nn.BatchNorm1d(3)
    model._parameters["a.weight"] = nn.Parameter(torch.zeros(7))
    model._parameters[""] = nn.Parameter(torch.zeros(2))
    model._buffers["a.running_mean"] = torch.zeros(11)
    model._modules["a.x"] = nn.Linear(2, 2)
    return model


def one_name_for_a_parameter_and_a_module() -> Any:
    model: Any = nn.Module()
    model._modules["fc"] = nn.Linear(2, 2)
    model._parameters["fc"] = nn.Parameter(torch.zeros(5))
    return model


def one_that_looks_quoted() -> Any:
    model: Any = small()
    model.add_module("'body", nn.Module())
    model._modules["'body"].add_module("0'", nn.Linear(1, 1))
    model._modules["'body.0'"] = nn.Linear(3, 2)
    return model


def same_module_by_two_routes() -> Any:
    model: Any = nn.Module()
    model.body = nn.Sequential(nn.Linear(4, 4))
    setattr(model, "body.0", model.body[0])
    return model


def with_names_of_its_own() -> Any:
    class Prefixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small()

        def named_parameters(self, *_: Any, **__: Any) -> Any:
            yield from (("w", param) for param in self.net.parameters())

    return Prefixed()


MODELS = (
    small,
    set_before,
    twice_deep,
    empty_name,
    empty_name_below,
    registries_filled_by_hand,
    one_name_for_a_parameter_and_a_module,
    one_that_looks_quoted,
    same_module_by_two_routes,
    with_names_of_its_own,
)


@pytest.mark.parametrize("build", MODELS)
def test_all_tensors_count_under_names_that_differ_and_rows_add_up(build: Callable[[], nn.Module]) -> None:
    model = build()
    report = paramcount.count(model)
    assert report.total == own_sum(model)
    assert report.buffers.total == sum(buffer.numel() for buffer in model.buffers())
    names = [param.name for param in report.params]
    assert len(set(names)) == len(names)
    assert all(names)
    layers = [layer.name for layer in report.layers]
    assert len(set(layers)) == len(layers)
    assert "" not in layers
    assert len(layers) == sum(1 for _ in model.modules()) - 1
    for layer in [report.root, *report.layers]:
        own = sum(param.numel or 0 for param in layer.params if param.tied_to is None)
        assert layer.total == own + sum(child.total for child in layer.children)
    saved = report.to_dict()
    assert sum(param["numel"] for param in saved["params"] if param["tied_to"] is None) == report.total


@pytest.mark.parametrize("build", [build for build in MODELS if build is not with_names_of_its_own])
def test_each_layer_holds_what_the_module_itself_holds(build: Callable[[], nn.Module]) -> None:
    """A module whose name reads as a path into another is no part of that."""
    model = build()
    sizes = sorted(own_sum(module) for module in list(model.modules())[1:])
    report = paramcount.count(model)
    if build is same_module_by_two_routes:
        assert (report.total, sizes) == (20, [20, 20])
        assert report["body"].total == 20
    else:
        assert sorted(layer.total for layer in report.layers) == sizes


def test_both_are_shown_and_a_note_says_what_a_state_dict_loses() -> None:
    model = small()
    assert len(model.state_dict()) == 4  # of six tensors
    report = paramcount.count(model)
    assert report.total == 75
    assert (report["body"].total, report["body.0"].total, report["'body.0'"].total) == (40, 20, 35)
    (note,) = report.notes
    assert (note.code, note.where) == (CODE, "'body.0'")
    assert "2 names" in note.message
    assert "a state dict keeps one" in note.message
    table = str(report)
    assert "'body.0'" in table
    assert "75" in table


def test_the_key_is_pytorchs_name_and_the_written_one_is_in_quotation_marks() -> None:
    report = paramcount.count(small())
    keys = {param["name"]: param.get("key", param["name"]) for param in report.to_dict()["params"]}
    assert sorted(keys.values()) == sorted(name for name, _ in small().named_parameters())
    assert keys["'body.0'.weight"] == "body.0.weight"
    assert keys["body.0.weight"] == "body.0.weight"


def test_a_dotted_name_that_nothing_else_has_stays_as_it_is() -> None:
    model: Any = nn.Module()
    model.a = nn.Linear(2, 2)
    setattr(model, "b.c", nn.Linear(3, 3))
    report = paramcount.count(model)
    assert [param.name for param in report.params] == [name for name, _ in model.named_parameters()]
    assert report["b.c"].total == 12
    assert report.notes == ()


def test_a_name_that_leads_into_another_module_is_noted_though_nothing_is_lost() -> None:
    model: Any = nn.Module()
    model.a = nn.Linear(2, 2)
    setattr(model, "a.b", nn.Linear(3, 3))
    report = paramcount.count(model)
    assert (report["a"].total, report["'a.b'"].total) == (6, 12)
    (note,) = report.notes
    assert note.code == CODE
    assert "state dict" not in note.message


def test_patterns_and_budgets_tell_the_two_apart() -> None:
    assert paramcount.count(small(), include=["body.0"]).total == 20
    assert paramcount.count(small(), include=["body"]).total == 40
    assert paramcount.count(small(), exclude=["'body.0'"]).total == 40
    assert paramcount.count(small(), freeze=["*body.0*"]).frozen == 55
    with pytest.raises(OverBudget, match=re.escape("75")):
        paramcount.check(small(), total=74)


def test_a_model_is_no_other_than_itself_and_loads_as_pytorch_says() -> None:
    one, other = (Side.of(paramcount.count(small())) for _ in range(2))
    assert not changes(one, other).different
    report: Report = paramcount.count(small())
    keys = {tensor.name for tensor in Side.of(report).state}
    assert keys == set(small().state_dict())


@pytest.mark.parametrize("width", [4, 7])
def test_a_state_dict_that_has_lost_tensors_loads_as_pytorch_says(width: int, tmp_path: Path) -> None:
    model: Any = nn.Module()
    model.body = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    setattr(model, "body.0", nn.Linear(4, width))
    file = tmp_path / "state.pt"
    torch.save(model.state_dict(), file)
    try:
        loads = bool(model.load_state_dict(torch.load(file), strict=True))
    except RuntimeError:
        loads = False
    said = changes(Side.of(paramcount.count(file)), Side.of(paramcount.count(model))).loading
    assert said is not None
    assert said.loads is loads is (width == 4)


def test_a_weak_proxy_stands_for_its_module() -> None:
    """A child that refers to its parent by one, so as not to keep it alive, adds nothing."""
    model: Any = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    model[0].parent = weakref.proxy(model)
    model.first = weakref.proxy(model[0])
    report = paramcount.count(model)
    assert report.total == sum(param.numel() for param in model.parameters()) == 23
    assert [param.name for param in report.params if param.tied_to is None] == [
        name for name, _ in model.named_parameters()
    ]
