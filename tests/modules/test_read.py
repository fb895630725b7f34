"""Reading a module as it stands: every name, every tie, every kind of module."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.nn.utils import prune

import paramcount
from paramcount.inventory import Inventory
from paramcount.modules.read import read
from tests.conftest import MODELS


def inventory(model: nn.Module) -> Inventory:
    return read(model, target="model", source="module")


def own_sum(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


class TiedDecoder(nn.Module):
    """BERT's decoder: the embedding's weight, and a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 10)
        self.decoder = nn.Linear(10, 100)
        self.decoder.weight = self.embedding.weight


def test_all_names_are_those_of_named_parameters_with_duplicates_in_its_order() -> None:
    shared = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model = nn.ModuleDict({"a": shared, "b": nn.ModuleList([nn.Linear(2, 3), shared]), "c": shared[0]})
    read_in = inventory(model)
    assert [p.name for p in read_in.params] == [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert [b.name for b in read_in.buffers] == [name for name, _ in model.named_buffers(remove_duplicate=False)]
    assert [m.name for m in read_in.modules if m.same_as is None] == [name for name, _ in model.named_modules()]
    assert [(m.name, m.same_as) for m in read_in.modules if m.same_as is not None] == [("b.1", "a"), ("c", "a.0")]


def test_a_partly_tied_layer_counts_only_what_is_its_own() -> None:
    report = paramcount.count(TiedDecoder())
    assert report.total == 1_100
    assert report["decoder"].total == 100
    assert report.ties == {"embedding.weight": ("decoder.weight",)}


def test_modules_in_a_circle_end() -> None:
    model, child = nn.Linear(3, 3), nn.Linear(3, 2)
    model.child, child.parent = child, model
    read_in = inventory(model)
    assert [(p.name, p.tied_to) for p in read_in.params] == [
        ("weight", None),
        ("bias", None),
        ("child.weight", None),
        ("child.bias", None),
        ("child.parent.weight", "weight"),
        ("child.parent.bias", "bias"),
    ]
    assert paramcount.count(model).total == own_sum(model) == 20


def test_sharing_within_sharing_is_listed_only_so_far_and_says_so() -> None:
    block: nn.Module = nn.Linear(2, 2)
    for _ in range(40):  # 2**40 names
        block = nn.Sequential(block, block)
    report = paramcount.count(block)
    assert report.total == 6
    assert [note.code for note in report.notes] == ["repeats-cut"]


def test_a_lazy_parameter_is_uninitialized_and_not_zero() -> None:
    model = nn.Sequential(nn.LazyLinear(7), nn.Linear(7, 2))
    weight = inventory(model).params[0]
    assert (weight.shape, weight.numel, weight.nbytes) == (None, None, None)
    report = paramcount.count(model)
    assert (report.total, report.uninitialized) == (16, 2)
    assert [(note.code, note.where) for note in report.notes] == [("uninitialized", "0")]
    model(torch.zeros(1, 5))
    assert paramcount.count(model).total == own_sum(model) == 5 * 7 + 7 + 16


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_a_nested_parameter_has_several_shapes_and_one_number_of_elements(layout: torch.layout) -> None:
    model = nn.Linear(2, 2)
    rows = [torch.zeros(2, 3), torch.zeros(4, 3, dtype=torch.float32)]
    model.rows = nn.Parameter(torch.nested.nested_tensor(rows, layout=layout))
    report = paramcount.count(model)
    assert (report.total, report.nbytes, report.uninitialized) == (own_sum(model), 4 * own_sum(model), 0)
    assert json.loads(json.dumps(report.to_dict()))["params"][-1]["shape"] is None
    assert [note.code for note in report.notes] == []


def test_sizes_that_are_symbols_count_as_what_they_stand_for() -> None:
    model = nn.Linear(2, 2)
    mode = FakeTensorMode(shape_env=ShapeEnv())
    model.register_buffer("table", mode.from_tensor(torch.zeros(7, 5), static_shapes=False))
    assert inventory(model).buffers[0][1:5] == ((7, 5), "float32", 35, 140)
    assert paramcount.count(model).buffers.total == 35


def test_bytes_and_dtypes_are_those_of_each_parameter() -> None:
    model = nn.ModuleList([nn.Linear(4, 4).half(), nn.Linear(4, 4).double(), nn.Linear(4, 4, dtype=torch.bfloat16)])
    model.register_parameter("waves", nn.Parameter(torch.zeros(20, dtype=torch.complex64)))
    report = paramcount.count(model)
    assert report.dtypes == {"float16": 20, "float64": 20, "bfloat16": 20, "complex64": 20}
    assert report.nbytes == 20 * 2 + 20 * 8 + 20 * 2 + 20 * 8


def test_a_parameter_made_of_anothers_memory_is_two_to_pytorch_and_is_noted() -> None:
    model = TiedDecoder()
    model.decoder.weight = nn.Parameter(model.embedding.weight)
    report = paramcount.count(model)
    assert report.total == own_sum(model) == 2_100
    assert [(note.code, note.where) for note in report.notes] == [("shared-storage", "decoder.weight")]
    with torch.device("meta"):
        on_meta = TiedDecoder()
    on_meta.decoder.weight = nn.Parameter(torch.empty_like(on_meta.embedding.weight))
    assert paramcount.count(on_meta).notes == ()  # data_ptr() is 0 for both, and tells nothing


class Views(nn.Module):
    """A table of 10 × 4 elements, and parameters that are parts of it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Parameter(torch.empty(0))  # in its place before the table
        self.table = nn.Embedding(10, 4)
        self.head = nn.Parameter(self.table.weight[:3])
        self.rest = nn.Parameter(self.table.weight[3:].t())
        self.apart = nn.Parameter(self.table.weight.detach().clone())


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_parameter_that_is_a_part_of_another_is_noted(device: str) -> None:
    with torch.device(device):
        model = Views()
    report = paramcount.count(model)
    assert report.total == sum(param.numel() for param in model.parameters()) == 40 + 12 + 28 + 40
    # The model's own parameters come before those of its modules.
    notes = {(note.where, note.message.partition(";")[0]) for note in report.notes}
    common = "but is a parameter of its own: PyTorch counts both"
    assert notes == {
        ("table.weight", f"shares its memory with head, {common} (40, and 12)"),
        ("table.weight", f"shares its memory with rest, {common} (40, and 28)"),
    }


def test_parameters_that_lie_side_by_side_in_one_storage_share_nothing() -> None:
    flat = torch.empty(12)
    model = nn.ParameterList([nn.Parameter(flat[:4]), nn.Parameter(flat[4:12].view(2, 4)), nn.LSTM(2, 3).weight_ih_l0])
    columns = torch.empty(4, 6)
    model.extend([nn.Parameter(columns[:, :2]), nn.Parameter(columns[:, 2:])])
    assert paramcount.count(model).notes == ()


def test_scripted_compiled_parametrised_pruned_and_wrapped_modules_count_as_pytorch_says() -> None:
    plain = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript and the older weight_norm announce their end
        scripted = torch.jit.script(copy.deepcopy(plain))
        traced = torch.jit.trace(copy.deepcopy(plain).eval(), torch.zeros(2, 4))  # type: ignore[no-untyped-call]
        old_norm = nn.utils.weight_norm(nn.Linear(4, 3))
    variants: dict[str, nn.Module] = {
        "scripted": scripted,
        "traced": traced,
        "data parallel": nn.DataParallel(copy.deepcopy(plain)),
        "weight norm": nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
        "weight norm by hooks": old_norm,
        "spectral norm": nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
        "orthogonal": nn.utils.parametrizations.orthogonal(nn.Linear(4, 3)),
        "pruned": prune.l1_unstructured(nn.Linear(4, 3), "weight", amount=5),  # type: ignore[no-untyped-call]
    }
    for kind, model in variants.items():
        report = paramcount.count(model)
        assert report.total == own_sum(model) > 0, kind
        assert [p.name for p in report.params if p.tied_to is None] == [name for name, _ in model.named_parameters()], (
            kind
        )
        assert report.buffers.total == sum(b.numel() for b in model.buffers()), kind
    assert paramcount.count(scripted)["0"].type == "Linear"  # not RecursiveScriptModule


def test_a_compiled_module_counts_as_what_it_wraps() -> None:
    plain = nn.Linear(4, 3)
    compiled: Any = torch.compile(plain)
    report = paramcount.count(compiled)
    assert report.total == own_sum(plain) == 15
    assert [p.name for p in report.params] == [name for name, _ in compiled.named_parameters()]


def test_a_pruned_tensor_says_how_much_of_it_is_masked() -> None:
    pruned = prune.l1_unstructured(nn.Linear(4, 3), "weight", amount=5)  # type: ignore[no-untyped-call]
    (note,) = paramcount.count(nn.Sequential(pruned)).notes
    assert (note.code, note.where) == ("pruned", "0.weight")
    assert "5 of its 12 elements" in note.message


def test_names_that_a_model_gives_its_parameters_itself_are_the_names() -> None:
    class Renaming(nn.Linear):
        def named_parameters(self, *args: object, **kwargs: object):  # type: ignore[no-untyped-def]
            yield "renamed", self.weight

    report = paramcount.count(Renaming(4, 3))
    assert [(p.name, p.numel, p.tied_to) for p in report.params] == [("renamed", 12, None)]


def test_a_module_that_hides_those_below_it_has_them_hidden() -> None:
    class Opaque(nn.Sequential):
        def named_modules(self, memo=None, prefix="", remove_duplicate=True):  # type: ignore[no-untyped-def]
            del memo, remove_duplicate
            yield prefix, self

    model = nn.Sequential(nn.Linear(4, 3), Opaque(nn.Linear(5, 3)))
    names = [name for name, _ in model.named_parameters()]
    assert [p.name for p in paramcount.count(model).params] == names == ["0.weight", "0.bias"]


def test_modules_that_are_equal_to_pytorch_are_one() -> None:
    class Alike(nn.Linear):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Alike)

        def __hash__(self) -> int:
            return 0

    model = nn.Sequential(Alike(4, 3), Alike(4, 3))
    assert paramcount.count(model).total == own_sum(model) == 15


def test_a_model_deeper_than_pythons_stack_is_read_as_far_as_pytorch_reads_it() -> None:
    model: nn.Module = nn.Linear(2, 2)
    for _ in range(300):
        model = nn.Sequential(model)
    report = paramcount.count(model)
    assert report.total == own_sum(model) == 6
    assert report.layers[-1].depth == 300


def stated(file: Path) -> dict[str, int]:
    """Return the counts that a model's first line states."""
    words = file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").split(", ")
    return {key: int(number) for key, number in (word.split() for word in words)}


@pytest.mark.parametrize("file", sorted(MODELS.glob("*.py")), ids=lambda file: file.stem)
def test_each_small_model_has_the_counts_that_its_first_line_states(file: Path) -> None:
    report = paramcount.count(f"{file}:Net")
    assert stated(file) == {
        "total": report.total,
        "trainable": report.trainable,
        "frozen": report.frozen,
        "buffers": report.buffers.total,
        "uninitialized": report.uninitialized,
    }


def test_the_tutorial_model_has_the_published_counts_layer_by_layer() -> None:
    report = paramcount.count(f"{MODELS / 'tutorial_cnn.py'}:Net")
    assert {layer.name: layer.total for layer in report.layers} == {"conv1": 448, "conv2": 4_640, "fc": 81_930}
    assert report.total == 87_018
