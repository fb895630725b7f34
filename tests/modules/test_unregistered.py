"""What parameters() cannot see is named, with its place, its size and the cure; what it can see is left alone."""

from __future__ import annotations

import functools
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import paramcount
from paramcount.inventory import Note


def notes(model: nn.Module) -> dict[str, str]:
    """Return the messages by place."""
    found: tuple[Note, ...] = paramcount.count(model).notes
    assert {note.code for note in found} <= {"unregistered"}
    assert len({note.where for note in found}) == len(found)
    return {note.where: note.message for note in found}


def test_modules_in_a_list_are_named_one_by_one_with_size_and_cure() -> None:
    model: Any = nn.Module()
    model.layers = [nn.Linear(3, 3), nn.ReLU(), nn.Linear(4, 4)]
    found = notes(model)
    assert set(found) == {"layers[0]", "layers[2]"}
    assert "Linear with 12 parameters" in found["layers[0]"]
    assert "20 parameters" in found["layers[2]"]
    assert "nn.ModuleList" in found["layers[0]"]


def test_the_place_begins_with_the_registered_module_that_holds_it() -> None:
    model: Any = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))
    model[0][0].experts = ({"x": [nn.Linear(2, 2)]},)
    assert set(notes(model)) == {"0.0.experts[0]['x'][0]"}


def test_every_container_is_looked_into() -> None:
    model: Any = nn.Module()
    model.a_tuple = (nn.Linear(1, 1),)
    model.a_dict = OrderedDict(key=nn.Linear(1, 1))
    model.a_deque = deque([nn.Linear(1, 1)])
    model.a_set = {nn.Linear(1, 1)}
    found = notes(model)
    assert set(found) == {"a_tuple[0]", "a_dict['key']", "a_deque[0]", "a_set[0]"}
    assert "nn.ModuleDict" in found["a_dict['key']"]


def test_parameters_and_trainable_tensors_are_found_and_others_are_not() -> None:
    model: Any = nn.Linear(2, 2)
    model.params = [nn.Parameter(torch.zeros(5))]
    model.scale = torch.ones(3, requires_grad=True)
    model.constant = torch.ones(3)
    model.computed = model.weight * 2
    found = notes(model)
    assert set(found) == {"params[0]", "scale"}
    assert "5 elements" in found["params[0]"]
    assert "nn.ParameterList" in found["params[0]"]
    assert "nn.Parameter" in found["scale"]


def test_a_class_that_forgot_to_be_a_module_is_looked_into() -> None:
    class Helper:
        def __init__(self) -> None:
            self.norm = nn.LayerNorm(7)

    @dataclass
    class Config:
        head: nn.Module = field(default_factory=lambda: nn.Linear(2, 2))

    model: Any = nn.Module()
    model.helper = Helper()
    model.config = Config()
    found = notes(model)
    assert set(found) == {"helper.norm", "config.head"}
    assert "Helper" in found["helper.norm"]
    assert "nn.Module" in found["helper.norm"]


def test_a_module_on_the_class_is_found() -> None:
    class Net(nn.Module):
        shared = nn.Linear(2, 2)

    assert set(notes(Net())) == {"shared"}


def test_what_is_hidden_in_something_hidden_is_found_too() -> None:
    hidden: Any = nn.Linear(2, 2)
    hidden.more = [nn.Linear(3, 3)]
    model: Any = nn.Module()
    model.layers = [hidden]
    found = notes(model)
    assert "6 parameters" in found["layers[0]"]
    assert "12 parameters" in found["layers[0].more[0]"]


def test_references_to_what_is_registered_are_no_fault() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2))
    model.last = [model[1], model]
    model.by_name = {"weight": model[0].weight}
    object.__setattr__(model[0], "parent", model)
    model.bound = functools.partial(model[0].forward)
    assert notes(model) == {}


def test_a_hidden_module_is_noted_only_for_what_is_not_counted() -> None:
    model: Any = nn.Linear(2, 2)
    twin = nn.Linear(2, 2)
    twin.weight = model.weight
    model.twins = [twin, twin]
    found = notes(model)
    assert set(found) == {"twins[0]"}
    assert "2 parameters" in found["twins[0]"]


def test_a_lazy_module_in_a_list_is_noted_without_a_size() -> None:
    model: Any = nn.Module()
    model.layers = [nn.LazyLinear(3)]
    assert "unknown shape" in notes(model)["layers[0]"]
