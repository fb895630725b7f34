"""Mixtures of experts: what a token passes through is its share of the experts, and all of the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import paramcount
from paramcount.errors import UnmatchedPattern
from paramcount.report import Report
from paramcount.routing import Routing, WrongRouting, route
from tests.inventories import inventory, lazy, param


class Expert(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)


class Listed(nn.Module):
    """Experts as modules of their own, beside one that every token passes through."""

    def __init__(self, experts: int = 8, width: int = 16, hidden: int = 31) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(Expert(width, hidden) for _ in range(experts))
        self.shared_expert = Expert(width, hidden)


class Experts(nn.Module):
    def __init__(self, experts: int, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.empty(experts, width, hidden))
        self.up_bias = nn.Parameter(torch.empty(experts, hidden))
        self.down = nn.Parameter(torch.empty(experts, hidden, width))


class Stacked(nn.Module):
    """Experts as slices of one tensor."""

    def __init__(self, experts: int = 8, width: int = 16, hidden: int = 31) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = Experts(experts, width, hidden)


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("active", [1, 2, 3, 8])
def test_of_experts_that_are_modules_as_many_count_as_a_token_passes_through(active: int) -> None:
    model = Listed()
    passed = [model.router, model.shared_expert, *list(model.experts)[:active]]
    report = paramcount.count(model, active=[f"experts={active}/8"])
    assert report.active == sum(map(size, passed))
    assert report.total == size(model)


@pytest.mark.parametrize("active", [1, 2, 7])
def test_of_experts_in_one_tensor_their_slices_count(active: int) -> None:
    model = Stacked()
    slices = sum(parameter[:active].numel() for parameter in model.experts.parameters())
    report = paramcount.count(model, active=f"*experts={active}/8")
    assert report.active == size(model.router) + slices
    assert report.to_dict()["active"] == report.active


def test_without_routing_all_is_active_and_nothing_says_so() -> None:
    report = paramcount.count(Listed())
    assert report.active == report.total
    assert "active" not in report.to_dict()


def test_a_note_says_what_is_active() -> None:
    report = paramcount.count(Stacked(experts=4, width=2, hidden=2), active="experts=1/4")
    # Of 16 + 8 + 16 elements in experts a quarter, and 8 in the router.
    message = "a token passes through 1 of 4 experts in experts: 18 of 48 parameters"
    assert [(note.code, note.where, note.message) for note in report.notes] == [("active", "", message)]


def test_of_several_routings_the_last_that_covers_a_parameter_holds() -> None:
    net = inventory({"a": "A", "b": "B"}, [param("a.w", 8, 5), param("b.w", 8, 5)])
    routed = route(net, [Routing("*", 1, 8), Routing("b", 2, 8)])
    assert [each.active for each in routed.params] == [5, 10]


def test_what_has_no_shape_yet_has_no_share() -> None:
    net = inventory({"experts": "Experts"}, [lazy("experts.w"), param("experts.b", 8)])
    assert [each.active for each in route(net, [Routing("experts", 1, 8)]).params] == [None, 1]


def test_a_tensor_that_something_else_has_too_is_active() -> None:
    net = inventory(
        {"experts": "Experts", "head": "Linear"},
        [param("experts.w", 8), param("head.w", 8, tied_to="experts.w"), param("experts.b", 8)],
    )
    assert Report.of(route(net, [Routing("experts", 1, 8)])).active == 8 + 1


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(1, 9), st.integers(0, 9))
def test_shares_are_whole_and_add_up_to_the_share_of_the_sum(sizes: list[int], active: int, more: int) -> None:
    experts = active + more
    net = inventory({"e": "E"}, [param(f"e.{number}", numel) for number, numel in enumerate(sizes)])
    net = replace(net, params=(*net.params, param("e.last", 3)))
    routed = route(net, [Routing("e", active, experts)])
    total = sum(sizes) + 3
    assert Report.of(routed).active == total * active // experts
    assert all(0 <= (each.active or 0) <= (each.numel or 0) for each in routed.params)


@pytest.mark.parametrize("model", [Listed(), Stacked()])
def test_another_number_of_experts_than_the_model_has_is_an_error(model: nn.Module) -> None:
    with pytest.raises(WrongRouting, match=r"experts of .* has 8 experts") as caught:
        paramcount.count(model, active="*experts=2/16")
    assert caught.value.hint == "write '*experts=2/8' if each token passes through 2"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["experts", "experts=2", "=2/8", "experts=2/", "experts=two/8", "experts=-1/8"])
def test_another_form_is_an_error_with_an_example(text: str) -> None:
    with pytest.raises(WrongRouting, match="is not PATTERN=K/N") as caught:
        Routing.parse(text)
    assert "'*.experts=2/8'" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["experts=0/8", "experts=9/8", "experts=0/0"])
def test_a_share_that_cannot_be_is_an_error(text: str) -> None:
    with pytest.raises(WrongRouting, match="cannot be active"):
        Routing.parse(text)


def test_a_pattern_may_hold_an_equals_sign_and_reads_back() -> None:
    assert Routing.parse("a=b=1/2") == Routing("a=b", 1, 2)
    assert str(Routing.parse("*.experts=2/8")) == "*.experts=2/8"


def test_a_pattern_that_matches_nothing_is_an_error_with_the_closest_name() -> None:
    with pytest.raises(UnmatchedPattern, match="active 'expert' matches nothing") as caught:
        paramcount.count(Stacked(), active="expert=1/8")
    assert caught.value.hint == "did you mean experts, experts.up or experts.down?"


def test_a_budget_may_limit_what_is_active() -> None:
    report = paramcount.count(Listed(), active="experts=1/8")
    paramcount.check(report, active=report.active)
    with pytest.raises(paramcount.OverBudget, match=r"active is .* over the limit"):
        paramcount.check(report, active=report.active - 1)
