"""What counts, and as what; ``requires_grad_()`` on the model itself says what is right."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paramcount.errors import EXIT_USAGE, UnmatchedPattern
from paramcount.inventory import Inventory
from paramcount.modules.read import read
from paramcount.patterns import Matcher
from paramcount.report import Report, tally
from paramcount.rules import Rules, apply
from tests.inventories import buffer, inventory, lazy, param


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 1, device="meta")
        self.bn1 = nn.BatchNorm2d(3, device="meta")
        self.scale = nn.Parameter(torch.empty(5, device="meta"))


class Net(nn.Module):
    """Blocks with parameters of their own, an integer parameter, a tied head and a module of two names."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(7, 4, device="meta")
        self.layer1 = nn.Sequential(Block(), Block())
        self.layer4 = nn.Sequential(Block(), Block())
        self.layer40 = nn.Linear(2, 2, device="meta")
        self.codes = nn.Parameter(torch.empty(6, dtype=torch.int8, device="meta"), requires_grad=False)
        self.again = self.layer40
        self.fc = nn.Linear(4, 7, device="meta")
        self.fc.weight = self.emb.weight


PATTERNS = [
    "layer4",
    "layer4.*",
    "layer?",
    "layer4.1",
    "layer[14].0.bn1",
    "*.bias",
    "*bn*",
    "*.scale",
    "*",
    "emb",
    "fc",
    "fc.weight",
    "emb.weight",
    "again",
    "layer40.weight",
    "codes",
    "*.conv1.weight",
]


def covered(pattern: str, name: str) -> bool:
    """Whether a pattern matches a name or any module above it, the slow way."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def set_by_hand(model: nn.Module, patterns: Iterable[str], requires_grad: bool) -> None:
    for name, tensor in model.named_parameters(remove_duplicate=False):
        if any(covered(pattern, name) for pattern in patterns) and (tensor.is_floating_point() or not requires_grad):
            tensor.requires_grad_(requires_grad)


def held(model: nn.Module) -> Inventory:
    return read(model, target="net", source="test")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(PATTERNS), max_size=3), st.lists(st.sampled_from(PATTERNS), max_size=3))
def test_freeze_and_unfreeze_do_what_requires_grad_does(freeze: list[str], unfreeze: list[str]) -> None:
    ruled = apply(Rules(freeze=tuple(freeze), unfreeze=tuple(unfreeze)), held(Net()))

    model = Net()
    set_by_hand(model, freeze, requires_grad=False)
    set_by_hand(model, unfreeze, requires_grad=True)
    assert ruled.params == held(model).params


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_pattern_freezes_something(pattern: str) -> None:
    """Or the test above would prove nothing."""
    model = Net()
    before = [p.requires_grad for p in model.parameters()]
    set_by_hand(model, [pattern], requires_grad=False)
    assert ([p.requires_grad for p in model.parameters()] != before) is (pattern != "codes")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(PATTERNS), max_size=3), st.lists(st.sampled_from(PATTERNS), max_size=2))
def test_include_and_exclude_keep_the_tensors_that_keep_a_name(include: list[str], exclude: list[str]) -> None:
    counts = Report.of(apply(Rules(include=tuple(include), exclude=tuple(exclude)), held(Net())))

    left = {
        id(tensor): tensor
        for name, tensor in Net().named_parameters(remove_duplicate=False)
        if (not include or any(covered(pattern, name) for pattern in include))
        and not any(covered(pattern, name) for pattern in exclude)
    }
    assert counts.total == sum(tensor.numel() for tensor in left.values())
    assert sum(layer.total for layer in counts.root.children) + tally(counts.root.params).total == counts.total


@pytest.mark.parametrize(("only", "is_trainable"), [("trainable", True), ("frozen", False)])
def test_only_counts_what_trains_or_what_does_not(only: Any, is_trainable: bool) -> None:
    counts = Report.of(apply(Rules(freeze=("layer1", "*.bias"), only=only), held(Net())))

    model = Net()
    set_by_hand(model, ["layer1", "*.bias"], requires_grad=False)
    expected = sum(p.numel() for p in model.parameters() if p.requires_grad is is_trainable)
    assert (counts.total, counts.trainable if is_trainable else counts.frozen) == (expected, expected)


def test_no_rules_change_nothing() -> None:
    before = held(Net())
    assert apply(Rules(), before) == before


# By hand, where a number says more than a model


def small(**kwargs: Any) -> Inventory:
    modules = {"layer4": "Sequential", "layer4.bn": "BatchNorm", "layer40": "Linear"}
    weights = [param("layer4.bn.weight", 10), param("layer4.bn.bias", 20), param("layer40.weight", 300)]
    return inventory(modules, weights, [buffer("layer4.bn.mean", 7)], **kwargs)


@pytest.mark.parametrize(
    ("pattern", "frozen"),
    [
        ("layer4", 30),  # a module, and not the one whose name goes on
        ("layer4.*", 30),
        ("layer4*", 330),
        ("layer4.bn.weight", 10),
        ("*.bias", 20),
        ("*bn*", 30),
        ("*", 330),
        ("layer4?", 300),
        ("layer[!5]", 30),
        ("l*.weight", 310),
    ],
)
def test_a_pattern_covers_what_it_matches_and_all_beneath(pattern: str, frozen: int) -> None:
    assert Report.of(apply(Rules(freeze=(pattern,)), small())).frozen == frozen


def test_unfreeze_wins_over_freeze() -> None:
    counts = Report.of(apply(Rules(freeze=("*",), unfreeze=("*.bias",)), small()))
    assert (counts.trainable, counts.frozen) == (20, 310)


def test_exclude_wins_over_include() -> None:
    counts = Report.of(apply(Rules(include=("layer4",), exclude=("*.bias",)), small()))
    assert (counts.total, counts.buffers.total) == (10, 7)
    assert [layer.name for layer in counts.layers] == ["layer4", "layer4.bn"]


def test_a_rule_on_any_name_of_a_tensor_is_a_rule_on_the_tensor() -> None:
    tied = inventory({"a": "A", "b": "B"}, [param("a.w", 5), param("b.w", 5, tied_to="a.w"), param("b.v", 2)])
    assert Report.of(apply(Rules(freeze=("b",)), tied)).frozen == 7
    assert Report.of(apply(Rules(freeze=("a",)), tied)).frozen == 5
    assert Report.of(apply(Rules(freeze=("a",), unfreeze=("b.w",)), tied)).trainable == 7


def test_a_tensor_that_loses_its_first_name_counts_under_the_next() -> None:
    tied = [param("a.w", 5), param("b.w", 5, tied_to="a.w"), param("c.w", 5, tied_to="a.w")]
    ruled = apply(Rules(exclude=("a",)), inventory({"a": "A", "b": "B", "c": "C"}, tied))
    assert [(p.name, p.tied_to) for p in ruled.params] == [("b.w", None), ("c.w", "b.w")]
    assert Report.of(ruled)["b"].total == 5


def test_a_module_that_loses_its_first_name_is_one_under_the_next() -> None:
    modules = {"a": "Block", "b": "= a", "c": "= a"}
    tied = [param("a.w", 5), param("b.w", 5, tied_to="a.w"), param("c.w", 5, tied_to="a.w")]
    ruled = apply(Rules(exclude=("a",)), inventory(modules, tied))
    assert [(module.name, module.same_as) for module in ruled.modules] == [("", None), ("b", None), ("c", "b")]


def test_what_cannot_require_a_gradient_stays_frozen() -> None:
    weights = [param("q", 3, dtype="int8", trainable=False), param("h", 2, dtype="float16", trainable=False)]
    counts = Report.of(apply(Rules(unfreeze=("*",)), inventory({}, weights)))
    assert (counts.trainable, counts.frozen) == (2, 3)


def test_the_rules_say_what_a_checkpoint_does_not() -> None:
    weights = [param("a", 3, trainable=None), param("b", 4, trainable=None), param("c", 5, trainable=None)]
    counts = Report.of(apply(Rules(freeze=("a",), unfreeze=("b",)), inventory({}, weights)))
    assert (counts.trainable, counts.frozen, counts.unknown) == (4, 3, 5)


def test_a_parameter_without_a_shape_can_be_frozen() -> None:
    ruled = apply(Rules(freeze=("a",)), inventory({}, [lazy("a"), param("b", 2)]))
    assert [p.trainable for p in ruled.params] == [False, True]
    assert Report.of(ruled).uninitialized == 1


def test_a_note_says_how_much_is_left_out() -> None:
    (note,) = apply(Rules(include=("layer4",), exclude=("*.bias", "*mean")), small()).notes
    assert (note.code, note.message) == (
        "filtered",
        "include layer4, exclude *.bias *mean: 320 of the model's parameters are left out of this count",
    )


MISSPELT = ("layer4", "layer4.bn.wieght")


@pytest.mark.parametrize(
    ("option", "rules"),
    [
        ("freeze", Rules(freeze=MISSPELT)),
        ("unfreeze", Rules(unfreeze=MISSPELT)),
        ("include", Rules(include=MISSPELT)),
        ("exclude", Rules(exclude=MISSPELT)),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error_with_the_closest_names(option: str, rules: Rules) -> None:
    with pytest.raises(UnmatchedPattern) as caught:
        apply(rules, small(target="net.py:Net"))
    assert caught.value.message == f"{option} 'layer4.bn.wieght' matches nothing in net.py:Net"
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("did you mean layer4.bn.weight")
    assert caught.value.exit_code == EXIT_USAGE


def test_buffers_can_be_included_but_not_frozen() -> None:
    assert Report.of(apply(Rules(include=("*.mean",)), small())).buffers.total == 7
    with pytest.raises(UnmatchedPattern):
        apply(Rules(freeze=("*.mean",)), small())


def test_a_pattern_may_name_what_lies_below_a_modules_second_name() -> None:
    tied = [param("a.inner.w", 5), param("b.inner.w", 5, tied_to="a.inner.w")]
    alias = inventory({"a": "A", "a.inner": "Linear", "b": "= a"}, tied)
    assert Report.of(apply(Rules(freeze=("b.inner",)), alias)).frozen == 5


def test_patterns_tell_upper_from_lower_case_and_cover_no_empty_name() -> None:
    assert Matcher(["FC", "fc2"]).covers("fc2.weight")
    assert not Matcher(["FC"]).covers("fc.weight")
    assert not Matcher(["*"]).covers("")
    assert not Matcher([]).covers("fc")
