"""Mixtures of experts: which part of its parameters a token passes through."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor
from typing import Any

from paramcount.errors import UsageError
from paramcount.inventory import Inventory, Module, Note, Param
from paramcount.patterns import Matcher, above, demand_matches
from paramcount.report import tally
from paramcount.units import exact

_FORM = re.compile(r"(?P<pattern>.+)=(?P<active>[0-9]{1,9})/(?P<experts>[0-9]{1,9})", re.DOTALL)
_EXAMPLE = "for example: '*.experts=2/8', where each token passes through 2 of 8"
_CODE, _UNROUTED = "active", "unrouted"  # of the notes
_NUMBERED = re.compile(r"(?:expert_)?[0-9]+")
_STACKED = 3  # dimensions of the matrices of all experts in one tensor, the experts first


class WrongRouting(UsageError):
    """What is said of experts cannot be so."""

    code = "wrong-routing"


@dataclass(frozen=True, slots=True)
class Routing:
    """Of the experts under a pattern's modules, each token passes through ``active`` of ``experts``."""

    pattern: str
    active: int
    experts: int

    @classmethod
    def parse(cls, text: str) -> Routing:
        """Read «PATTERN=K/N».

        Raises:
            WrongRouting: it has another form, or K is more than N.

        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise WrongRouting(f"{text!r} is not PATTERN=K/N", hint=_EXAMPLE)
        routing = cls(match["pattern"], int(match["active"]), int(match["experts"]))
        if not 0 < routing.active <= routing.experts:
            raise WrongRouting(f"{text!r}: of {routing.experts} experts {routing.active} cannot be active")
        return routing

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{self.pattern}={self.active}/{self.experts}"


def route(inventory: Inventory, routings: Iterable[Routing]) -> Inventory:
    """Say of every parameter how much of it one token passes through: of experts their share, of all others all.

    Of several routings that cover a parameter the last one holds. Experts are equal in size, so K of N are K/N of all
    their elements; router, shared experts and embeddings are active in full, as in the figures that are published for
    such models (https://arxiv.org/abs/2401.04088, https://arxiv.org/abs/2505.09388).

    Raises:
        UnmatchedPattern: a pattern matches no module and no parameter.
        WrongRouting: the model has another number of experts.

    """
    routings = tuple(routings)
    if not routings:
        return inventory
    names = [module.name for module in inventory.modules if module.name] + [param.name for param in inventory.params]
    demand_matches((routing.pattern for routing in routings), names, option="active", target=inventory.target)
    shares: dict[str, tuple[Fraction, Routing]] = {}
    for routing in routings:
        _demand_experts(inventory, routing)
        covers = Matcher([routing.pattern]).covers
        # A tensor that something else has, too, is active with that.
        always = {param.tied_to or param.name for param in inventory.params if not covers(param.name)}
        for param in inventory.params:
            if (param.tied_to or param.name) not in always:
                shares[param.name] = (Fraction(routing.active, routing.experts), routing)
    routed = replace(inventory, params=tuple(_shared_out(inventory.params, shares)))
    told = Matcher([routing.pattern for routing in routings])
    notes = (  # without what was said before, of other shares or of none
        note for note in routed.notes if note.code != _CODE and not (note.code == _UNROUTED and told.covers(note.where))
    )
    return replace(routed, notes=(*notes, _note(routed.params, routings)))


def experts(inventory: Inventory) -> dict[str, int | None]:
    """Return the number of experts in each module that holds them and nothing else, by a pattern for its name.

    Such a module has numbered children, or stacks of matrices, and says by its name or type that these are experts.
    The number is None where its parameters do not show it.
    """
    holders = [module.name for module in inventory.modules if _holds_experts(module) and module.same_as is None]
    outer = above(holders)
    inner = [name for name in holders if name not in outer]
    numbers = _numbers(inventory, inner)
    return {_generalized(name): numbers.get(name) for name in inner}


# How many experts there are, and how many of them a token passes through, as the config.json of a model has it.
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k")
_PER_TOKEN_BY_CODE = {"switch_transformers": 1, "nllb-moe": 2}  # by model_type: whose routers leave no choice
KEYS = (*_EXPERTS, *_PER_TOKEN, "model_type")


def routings(inventory: Inventory, said: Iterable[Mapping[str, Any]]) -> Iterator[Routing]:
    """Yield what each token passes through of all experts whose number a part of a configuration has."""
    per_token = {number: active for part in said for number, active in _choices(part)}
    if not per_token:  # as for most models, whose thousands of modules need not be looked through
        return
    for pattern, number in experts(inventory).items():
        total = next(iter(per_token), None) if number is None and len(per_token) == 1 else number
        if total is not None and total in per_token:
            yield Routing(pattern, per_token[total], total)


def unrouted(inventory: Inventory, routings: Iterable[Routing]) -> Iterator[Note]:
    """Note experts of which nothing says how many a token passes through: all of them count as active."""
    known = {routing.pattern for routing in routings}
    for pattern, number in experts(inventory).items():
        if pattern not in known:
            count = "its experts" if number is None else f"its {number} experts"
            message = f"nothing says how many of {count} a token passes through, so all count as active"
            yield Note(_UNROUTED, pattern, f"{message}; --active '{pattern}=K/{number or 'N'}' does")


def parts(said: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a configuration and all that it is composed of, such as that of the text model in one of several."""
    yield said
    for part in said.values():
        if isinstance(part, dict):
            yield from parts(part)


def _choices(said: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """Yield the number of experts, and how many of them a token passes through."""
    numbers = [value for key in _EXPERTS if type(value := said.get(key)) is int]
    active = [value for key in _PER_TOKEN if type(value := said.get(key)) is int]
    active += [by_code for kind, by_code in _PER_TOKEN_BY_CODE.items() if kind == said.get("model_type")]
    if numbers and active and 0 < active[0] <= numbers[0]:
        yield numbers[0], active[0]


def _holds_experts(module: Module) -> bool:
    return module.name.rpartition(".")[2] == "experts" or module.type.endswith("Experts")


def _generalized(name: str) -> str:
    return ".".join("*" if part.isdecimal() else part for part in name.split("."))


def _shared_out(params: Iterable[Param], shares: dict[str, tuple[Fraction, Routing]]) -> Iterator[Param]:
    """Yield the parameters with their share of active elements, whole numbers that add up to the share of the sum."""
    sums: dict[Routing, Fraction] = {}
    for param in params:
        if param.name not in shares or param.numel is None:
            yield param
            continue
        share, routing = shares[param.name]
        before = sums.get(routing, Fraction(0))
        after = sums[routing] = before + share * param.numel
        yield param._replace(active=floor(after) - floor(before))


def _demand_experts(inventory: Inventory, routing: Routing) -> None:
    """Demand that a module that a pattern names has as many experts as it says, where that can be seen."""
    matches = Matcher([routing.pattern]).matches
    named = [module.name for module in inventory.modules if matches(module.name)]
    for name, number in _numbers(inventory, named).items():
        if number != routing.experts:
            hint = f"write '{routing.pattern}={routing.active}/{number}' if each token passes through {routing.active}"
            raise WrongRouting(f"active {str(routing)!r}: {name} of {inventory.target} has {number} experts", hint=hint)


def _numbers(inventory: Inventory, holders: Iterable[str]) -> dict[str, int]:
    """Return how many experts modules hold: as numbered children, or as slices of what they have themselves."""
    holders = set(holders)
    numbers: dict[str, int] = {}
    for module in inventory.modules:
        above, _, key = module.name.rpartition(".")
        if above in holders and _NUMBERED.fullmatch(key):
            numbers[above] = numbers.get(above, 0) + 1
    listed = set(numbers)
    for param in inventory.params:
        above = param.name.rpartition(".")[0]
        if above in holders and above not in listed and param.shape is not None and len(param.shape) == _STACKED:
            numbers[above] = param.shape[0]
    return numbers


def _note(params: Iterable[Param], routings: Iterable[Routing]) -> Note:
    params = tuple(params)
    counted = [param for param in params if param.tied_to is None and param.numel is not None]
    total = tally(counted).total
    active = total - sum((param.numel or 0) - param.active for param in counted if param.active is not None)
    listed = ", ".join(f"{routing.active} of {routing.experts} experts in {routing.pattern}" for routing in routings)
    message = f"a token passes through {listed}: {exact(active)} of {exact(total)} parameters"
    return Note(_CODE, "", message)
