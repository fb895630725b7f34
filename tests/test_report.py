"""Counting: layers add up to the total, and the total is PyTorch's own sum."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import paramcount
from paramcount.errors import UsageError
from paramcount.inventory import Buffer, Inventory, Module, Param
from paramcount.report import Layer, Report, Tally, tally, tally_buffers
from tests.strategies import inventories


def param(name: str, numel: int | None, trainable: bool | None = True, tied_to: str | None = None) -> Param:
    shape = None if numel is None else (numel,)
    return Param(name, shape, "float32", numel, None if numel is None else 4 * numel, trainable, tied_to)


def test_a_tally_sorts_elements_by_what_is_known_of_them() -> None:
    counted = tally(
        [param("a", 5), param("b", 7, False), param("c", 11, None), param("d", None), param("e", 5, True, "a")]
    )
    assert counted == Tally(trainable=5, frozen=7, unknown=11, nbytes=92, uninitialized=1)
    assert counted.total == 23


def test_tallies_add_and_multiply_count_by_count() -> None:
    assert Tally(1, 2, 3, 4, 5) + Tally(10, 20, 30, 40, 50) == Tally(11, 22, 33, 44, 55)
    assert Tally(1, 2, 3, 4, 5) * 3 == Tally(3, 6, 9, 12, 15)


def test_a_buffer_with_two_names_counts_once() -> None:
    buffers = [
        Buffer("a", (3,), "int64", 3, 24),
        Buffer("b", (3,), "int64", 3, 24, "a"),
        Buffer("c", None, "float32", None, None),
    ]
    assert (tally_buffers(buffers).total, tally_buffers(buffers).nbytes) == (3, 24)


def test_what_only_some_models_have_is_summed_and_has_keys_only_there() -> None:
    said = Report.of(Inventory("net", "test", (Module("", "Net"),), (param("a", 5),))).to_dict()
    assert not said.keys() & {"packed", "overhead", "active", "local"}
    assert said["params"][0].keys() == {"name", "shape", "dtype", "numel", "bytes", "trainable", "tied_to"}

    experts = param("experts.weight", 48)._replace(nbytes=24, packed=True, active=12, local=24)
    weights = (param("router", 16)._replace(local=8), experts, param("bias", 8), param("again", 8, tied_to="bias"))
    scales = (Buffer("experts.scales", (8,), "float16", 8, 16),)
    modules = (Module("", "Net"), Module("experts", "Experts"))
    report = Report.of(Inventory("net", "test", modules, weights, overhead=scales))
    said = report.to_dict()
    assert said["total"] == 16 + 48 + 8
    assert said["bytes"] == 64 + 24 + 32
    assert said["packed"] == 48
    assert said["overhead"] == {"total": 8, "bytes": 16}
    assert said["active"] == 16 + 12 + 8
    assert said["local"] == {"total": 8 + 24 + 8, "bytes": 32 + 12 + 32}
    assert said["params"][1] | {"packed": True, "active": 12, "local": 24} == said["params"][1]
    assert report["experts"].overhead == scales


def test_a_layer_is_found_by_its_name_and_a_wrong_one_gets_the_closest() -> None:
    modules = (Module("", "Net"), Module("layer4", "Sequential"), Module("layer4.0", "Linear"))
    report = Report.of(Inventory("net", "test", modules, (param("layer4.0.weight", 12),)))
    assert report["layer4"].total == 12
    assert report["layer4"].children == (report["layer4.0"],)
    assert report[""].total == report.total
    with pytest.raises(UsageError, match="did you mean layer4"):
        report["layer5"]


def test_a_parameter_of_an_unlisted_module_belongs_to_the_nearest_one_above() -> None:
    modules = (Module("", "Net"), Module("again", "Block", same_as="block"))
    report = Report.of(Inventory("net", "test", modules, (param("again.inner.weight", 3),)))
    assert [p.name for p in report["again"].params] == ["again.inner.weight"]
    assert report.layers == ()  # a second name of a module is no module


def test_the_dictionary_is_the_json_contract_key_by_key() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert paramcount.count(model).to_dict() == {
        "target": "Sequential",
        "source": "module",
        "total": 120,
        "trainable": 120,
        "frozen": 0,
        "unknown": 0,
        "uninitialized": 0,
        "bytes": 480,
        "buffers": {"total": 9, "bytes": 40},
        "dtypes": {"float32": 120},
        "layers": [
            {
                "name": "0",
                "type": "Conv2d",
                "depth": 1,
                "total": 112,
                "trainable": 112,
                "frozen": 0,
                "unknown": 0,
                "bytes": 448,
            },
            {
                "name": "1",
                "type": "BatchNorm2d",
                "depth": 1,
                "total": 8,
                "trainable": 8,
                "frozen": 0,
                "unknown": 0,
                "bytes": 32,
            },
        ],
        "params": [
            {
                "name": "0.weight",
                "shape": [4, 3, 3, 3],
                "dtype": "float32",
                "numel": 108,
                "bytes": 432,
                "trainable": True,
                "tied_to": None,
            },
            {
                "name": "0.bias",
                "shape": [4],
                "dtype": "float32",
                "numel": 4,
                "bytes": 16,
                "trainable": True,
                "tied_to": None,
            },
            {
                "name": "1.weight",
                "shape": [4],
                "dtype": "float32",
                "numel": 4,
                "bytes": 16,
                "trainable": True,
                "tied_to": None,
            },
            {
                "name": "1.bias",
                "shape": [4],
                "dtype": "float32",
                "numel": 4,
                "bytes": 16,
                "trainable": True,
                "tied_to": None,
            },
        ],
        "notes": [],
    }


@st.composite
def models(draw: st.DrawFn) -> nn.Module:
    """Draw a module with nested, shared and circular modules, shared, frozen and own parameters, and buffers."""
    tensors = [
        nn.Parameter(torch.zeros(draw(st.integers(0, 5)), draw(st.integers(1, 3))), requires_grad=draw(st.booleans()))
        for _ in range(draw(st.integers(1, 5)))
    ]
    modules = [nn.Module() for _ in range(draw(st.integers(1, 6)))]
    for module in modules:
        for key in draw(st.sets(st.sampled_from("abcd"), max_size=3)):
            module.register_parameter(f"p{key}", draw(st.sampled_from([*tensors, None])))
        for key in draw(st.sets(st.sampled_from("ab"), max_size=2)):
            module.register_buffer(f"b{key}", torch.zeros(draw(st.integers(0, 4)), dtype=torch.int64))
        for key in draw(st.sets(st.sampled_from("xyz"), max_size=3)):
            module.add_module(f"m{key}", draw(st.sampled_from([*modules, None])))
    return modules[0]


@settings(max_examples=300, deadline=None)
@given(models())
def test_whatever_is_nested_shared_or_frozen_the_counts_are_pytorchs_own(model: nn.Module) -> None:
    report = paramcount.count(model)
    own = dict(model.named_parameters())
    assert report.total == sum(p.numel() for p in model.parameters())
    assert report.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert report.frozen == sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert report.nbytes == sum(p.numel() * p.element_size() for p in model.parameters())
    assert report.buffers.total == sum(b.numel() for b in model.buffers())
    assert [p.name for p in report.params if p.tied_to is None] == list(own)
    assert [layer.name for layer in report.layers] == [name for name, _ in model.named_modules()][1:]
    for entry in report.params:
        if entry.tied_to is not None:
            assert entry.numel == own[entry.tied_to].numel()


@settings(max_examples=200, deadline=None)
@given(models())
def test_every_layer_is_the_sum_of_its_own_parameters_and_its_children(model: nn.Module) -> None:
    def check(layer: Layer) -> None:
        children = sum((child.tally for child in layer.children), Tally())
        assert layer.tally == tally(layer.params) + children
        for child in layer.children:
            assert child.depth == layer.depth + 1
            check(child)

    check(paramcount.count(model).root)


@given(inventories())
def test_a_report_is_made_anew_from_what_it_is_of(inventory: Inventory) -> None:
    counted = Report.of(inventory)
    again = Report.of(counted.inventory())
    assert again.to_dict() == counted.to_dict()
    assert (again.params, again.form, again.special) == (counted.params, counted.form, counted.special)
    assert [layer[:-1] for layer in again.layers if not layer.children] == [
        layer[:-1] for layer in counted.layers if not layer.children
    ]
