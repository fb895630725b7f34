"""What parameters() cannot see is named, with its place, its size and the cure; what it can see is left alone."""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
import types
import weakref
from collections import ChainMap, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import pytest
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


# No code of a user's --------------------------------------------------------------------------------------------------


class Trap:
    """Fails at whatever is asked of it, but for what Python itself does."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"asked for {name}")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"asked for {name}")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(self) -> int:
        raise AssertionError("hashed")

    def __repr__(self) -> str:
        raise AssertionError("printed")

    def __bool__(self) -> bool:
        raise AssertionError("told true or false")

    def __len__(self) -> int:
        raise AssertionError("measured")

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("iterated")

    def __getitem__(self, key: Any) -> Any:
        raise AssertionError("looked into")

    def __call__(self) -> Any:
        raise AssertionError("called")

    def keys(self) -> Any:
        raise AssertionError("listed")

    def items(self) -> Any:
        raise AssertionError("listed")


class TrapMapping(Trap, Mapping[Any, Any]):
    pass


class TrapList(Trap, list[Any]):  # type: ignore[misc]  # the traps are what it is for
    pass


class TrapDict(Trap, dict[Any, Any]):  # type: ignore[misc]
    pass


class TrapKey:
    """May be a key, but is not to be printed or compared."""

    def __repr__(self) -> str:
        raise AssertionError("printed")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(self) -> int:
        return 1


class Lying:
    @property
    def __class__(self) -> Any:
        return nn.Linear

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


class Descriptor:
    def __get__(self, instance: object, owner: type) -> Any:
        raise AssertionError("read")


class WithDescriptors(nn.Module):
    children = Descriptor()
    weight = Descriptor()

    @property
    def layers(self) -> Any:
        raise AssertionError("computed")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"asked for {name}")


def held_by(value: Any) -> nn.Module:
    model: Any = nn.Linear(4, 3)
    object.__setattr__(model, "thing", value)
    return model  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [Trap, TrapMapping, TrapList, TrapDict, Lying])
def test_an_attribute_of_any_class_is_left_alone(kind: type) -> None:
    assert notes(held_by(object.__new__(kind) if kind in {Trap, TrapMapping} else kind())) == {}


def test_what_a_container_stores_is_found_past_all_that_its_class_does() -> None:
    trapped = TrapList.__new__(TrapList)
    list.append(trapped, nn.Linear(4, 4))
    assert set(notes(held_by(trapped))) == {"thing[0]"}
    mapped = TrapDict.__new__(TrapDict)
    dict.__setitem__(mapped, "key", nn.Linear(4, 4))
    dict.__setitem__(mapped, TrapKey(), nn.Linear(4, 4))
    assert set(notes(held_by(mapped))) == {"thing['key']", "thing[<TrapKey>]"}


def test_descriptors_properties_and_lookups_of_a_module_are_left_alone() -> None:
    module = WithDescriptors()
    module._modules["fc"] = nn.Linear(4, 3)
    assert paramcount.count(nn.Sequential(module)).total == 15


@pytest.mark.parametrize(
    "value",
    [
        MagicMock(),
        MagicMock(spec=nn.Module),
        MagicMock(spec=dict),
        itertools.count(),
        iter(lambda: 1, 0),
        (x for x in itertools.count()),
        range(10**18),
        types.ModuleType("stub"),
        weakref.WeakValueDictionary(),
        memoryview(b"x"),
    ],
)
def test_what_is_endless_or_mocked_is_left_alone(value: object) -> None:
    assert notes(held_by(value)) == {}


def test_a_large_container_ends_the_search_and_the_note_says_so() -> None:
    model: Any = nn.Linear(4, 3)
    model.samples = [[number] for number in range(60_000)]
    (note,) = paramcount.count(model).notes
    assert (note.code, note.where.partition("[")[0]) == ("search-cut", "samples")


def test_what_is_nested_without_an_end_ends_the_search_there() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    model: Any = nn.Linear(4, 3)
    model.nested = nested
    model.layers = {"a" * 1_000_000: nn.Linear(4, 4)}
    found = {note.code: note.where for note in paramcount.count(model).notes}
    assert found["search-cut"].startswith("nested[0][0]")
    assert found["unregistered"].startswith("layers['aaa")
    assert all(len(where) < 100 for where in found.values())


def test_what_is_near_is_found_before_what_is_far() -> None:
    model: Any = nn.Linear(4, 3)
    model.samples = [[[number]] for number in range(60_000)]
    model.layers = [nn.Linear(4, 4)]
    found = paramcount.count(model).notes
    assert [note.where for note in found if note.code == "unregistered"] == ["layers[0]"]


# Where it looks -------------------------------------------------------------------------------------------------------


class Slotted:
    __slots__ = ("layer", "unset")

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer


class Pair(NamedTuple):
    name: str
    layer: nn.Module


def closure(layer: nn.Module) -> Callable[[Any], Any]:
    return lambda x: layer(x) + 1


def by_default(layer: nn.Module) -> Callable[[Any], Any]:
    def call(x: Any, layer: nn.Module = layer) -> Any:
        return layer(x)

    return call


@pytest.mark.parametrize(
    ("hide", "where"),
    [
        (lambda layer: types.SimpleNamespace(layer=layer), "thing.layer"),
        (lambda layer: argparse.Namespace(layer=layer), "thing.layer"),
        (Slotted, "thing.layer"),
        (lambda layer: UserList([layer]), "thing.data[0]"),
        (lambda layer: UserDict(key=layer), "thing.data['key']"),
        (lambda layer: ChainMap({"key": layer}), "thing.maps[0]['key']"),
        (lambda layer: defaultdict(list, key=[layer]), "thing['key'][0]"),
        (lambda layer: types.MappingProxyType({"key": layer}), "thing['key']"),
        (lambda layer: Pair("name", layer), "thing[1]"),
        (lambda layer: frozenset([layer]), "thing[0]"),
        (attrgetter("forward"), "thing.__self__"),
        (lambda layer: {"key": layer}.get, "thing.__self__['key']"),
        (lambda layer: functools.partial(layer.forward), "thing.func.__self__"),
        (lambda layer: functools.partial(torch.add, layer), "thing.args[0]"),
        (lambda layer: functools.partial(torch.add, x=[layer]), "thing.keywords['x'][0]"),
        (lambda layer: functools.partialmethod(layer.forward), "thing.func.__self__"),
        (lambda layer: functools.lru_cache(layer.forward), "thing.__wrapped__.__self__"),
        (closure, "thing.layer"),
        (by_default, "thing.__defaults__[0]"),
        (lambda layer: [{"x": (closure(layer),)}], "thing[0]['x'][0].layer"),
    ],
)
def test_whatever_keeps_a_layer_it_is_found(hide: Callable[[nn.Module], Any], where: str) -> None:
    model = held_by(hide(nn.Linear(4, 4)))
    assert paramcount.count(model).total == sum(param.numel() for param in model.parameters()) == 15
    found = notes(model)
    assert set(found) == {where}
    assert "Linear with 20 parameters" in found[where]
    model.add_module("registered", nn.Identity())
    registered: Any = nn.Sequential(nn.Linear(4, 4))
    object.__setattr__(registered, "thing", hide(registered[0]))
    assert notes(registered) == {}


def test_the_tensors_that_a_partial_keeps_are_named_one_by_one() -> None:
    layer = nn.Linear(4, 4)
    found = notes(held_by(functools.partial(nn.functional.linear, weight=layer.weight, bias=layer.bias)))
    assert set(found) == {"thing.keywords['weight']", "thing.keywords['bias']"}


def test_a_hidden_module_is_read_by_its_registries_whatever_its_class_says() -> None:
    class Hidden(nn.Module, Mapping[str, Any]):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def parameters(self, recurse: bool = True) -> Any:
            raise AssertionError

        def named_modules(self, *_: Any, **__: Any) -> Any:
            raise AssertionError

        def __getitem__(self, key: str) -> Any:
            raise AssertionError

        def __iter__(self) -> Iterator[str]:
            raise AssertionError

        def __len__(self) -> int:
            raise AssertionError

    assert "Hidden with 20 parameters" in notes(held_by([Hidden()]))["thing[0]"]


def test_what_lightning_keeps_of_a_constructors_arguments_is_no_hidden_module() -> None:
    class HyperparametersMixin:
        """As Lightning's: it keeps what the constructor was given, and a copy of that."""

        def save_hyperparameters(self, **given: Any) -> None:
            self._hparams = given
            self._hparams_initial = copy.deepcopy(given)

    class Net(HyperparametersMixin, nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.save_hyperparameters(net=net)
            self.net = net
            self.others = [nn.Linear(4, 4)]

    assert set(notes(Net(nn.Linear(10, 10)))) == {"others[0]"}
