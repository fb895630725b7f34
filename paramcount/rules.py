"""What of a model counts, and as what: active, freeze, unfreeze, include, exclude and only, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from paramcount.errors import Mistakes, UnmatchedPattern, UsageError
from paramcount.inventory import Inventory, Module, Note, Param, retie
from paramcount.patterns import Matcher, demand_matches
from paramcount.report import tally
from paramcount.routing import Routing, WrongRouting, route
from paramcount.units import exact

_MAY_REQUIRE_GRAD = ("float", "bfloat", "complex")  # PyTorch refuses requires_grad for every other dtype

Only = Literal["trainable", "frozen"]


@dataclass(frozen=True, slots=True)
class Rules:
    """Patterns are ``fnmatch`` over dotted names; one that names a module covers all beneath it."""

    freeze: tuple[str, ...] = ()
    unfreeze: tuple[str, ...] = ()  # wins over freeze
    include: tuple[str, ...] = ()  # empty: everything
    exclude: tuple[str, ...] = ()  # wins over include
    only: Only | None = None
    active: tuple[Routing, ...] = ()  # the last that covers a parameter holds


def apply(rules: Rules, inventory: Inventory) -> Inventory:
    """Return what ``rules`` leave of ``inventory``.

    A rule that matches one name of a tied tensor freezes or unfreezes the tensor, as ``requires_grad_()`` would. A
    tensor is left out only where all its names are.

    Raises:
        UnmatchedPattern: a pattern matches no module, no parameter and, where it includes or excludes, no buffer.
        WrongRouting: the model has another number of experts.
        Mistakes: several rules have such mistakes.

    """
    if rules == Rules():
        return inventory
    mistakes = list(_misfits(rules, inventory))
    try:
        inventory = route(inventory, rules.active)
    except (UnmatchedPattern, WrongRouting) as error:
        mistakes.insert(0, error)
    if mistakes:
        raise Mistakes.of(mistakes)
    inventory = _with_requires_grad(inventory, rules)
    inventory = _restricted(inventory, rules.include, rules.exclude)
    return _only(inventory, rules.only)


def _misfits(rules: Rules, inventory: Inventory) -> Iterator[UsageError]:
    """Yield an error for each kind of rule whose patterns do not all match something."""
    named = [thing.name for things in (inventory.modules, inventory.params) for thing in things if thing.name]
    restricted = [*named, *(tensor.name for tensor in (*inventory.buffers, *inventory.overhead))]
    for option, patterns, names in (
        ("freeze", rules.freeze, named),
        ("unfreeze", rules.unfreeze, named),
        ("include", rules.include, restricted),
        ("exclude", rules.exclude, restricted),
    ):
        if patterns:
            try:
                demand_matches(patterns, names, option=option, target=inventory.target)
            except UnmatchedPattern as error:
                yield error


def _with_requires_grad(inventory: Inventory, rules: Rules) -> Inventory:
    if not rules.freeze and not rules.unfreeze:
        return inventory
    freeze, unfreeze = Matcher(rules.freeze), Matcher(rules.unfreeze)
    frozen = {param.tied_to or param.name for param in inventory.params if freeze.covers(param.name)}
    unfrozen = {
        param.tied_to or param.name
        for param in inventory.params
        if unfreeze.covers(param.name) and param.dtype.startswith(_MAY_REQUIRE_GRAD)
    }

    def decided(param: Param) -> Param:
        tensor = param.tied_to or param.name
        trainable = True if tensor in unfrozen else False if tensor in frozen else param.trainable
        return param if trainable is param.trainable else param._replace(trainable=trainable)

    return replace(inventory, params=tuple(decided(param) for param in inventory.params))


def _restricted(inventory: Inventory, include: Sequence[str], exclude: Sequence[str]) -> Inventory:
    if not include and not exclude:
        return inventory
    included, excluded = Matcher(include), Matcher(exclude)

    def stays(name: str) -> bool:
        return (not include or included.covers(name)) and not excluded.covers(name)

    words = [
        f"{option} {' '.join(patterns)}"
        for option, patterns in (("include", include), ("exclude", exclude))
        if patterns
    ]
    return _keep(
        inventory,
        params={param.name for param in inventory.params if stays(param.name)},
        buffers={tensor.name for tensor in (*inventory.buffers, *inventory.overhead) if stays(tensor.name)},
        modules={module.name for module in inventory.modules if stays(module.name)},
        why=", ".join(words),
    )


def _only(inventory: Inventory, only: Only | None) -> Inventory:
    if only is None:
        return inventory
    return _keep(
        inventory,
        params={param.name for param in inventory.params if param.trainable is (only == "trainable")},
        buffers=set(),
        modules=set(),
        why=f"only {only}",
    )


def _keep(inventory: Inventory, *, params: set[str], buffers: set[str], modules: set[str], why: str) -> Inventory:
    """Keep these names, and every module above one of them; ``buffers`` are those of the overhead, too."""
    kept = {""} | modules
    for name in params | buffers | modules:
        parent = name.rpartition(".")[0]
        while parent not in kept:
            kept.add(parent)
            parent = parent.rpartition(".")[0]
    remaining = replace(
        inventory,
        modules=_relisted(module for module in inventory.modules if module.name in kept),
        params=retie(param for param in inventory.params if param.name in params),
        buffers=retie(buffer for buffer in inventory.buffers if buffer.name in buffers),
        overhead=retie(tensor for tensor in inventory.overhead if tensor.name in buffers),
    )
    left_out = tally(inventory.params).total - tally(remaining.params).total
    lazy = {param.name.rpartition(".")[0] for param in remaining.params if param.numel is None}
    notes = [note for note in inventory.notes if note.code != "uninitialized" or note.where in lazy]
    note = Note("filtered", "", f"{why}: {exact(left_out)} of the model's parameters are left out of this count")
    return replace(remaining, notes=(*notes, note), form="other")


def _relisted(modules: Iterable[Module]) -> tuple[Module, ...]:
    """Let the first remaining name of each module be the module, and its other names refer to that one."""
    heirs: dict[str, str] = {}
    relisted = []
    for module in modules:
        heir = heirs.setdefault(module.name if module.same_as is None else module.same_as, module.name)
        relisted.append(module._replace(same_as=None if heir == module.name else heir))
    return tuple(relisted)
