"""Counts the model that a word names, by the rules that are given with it: for the Python API and the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paramcount.inputs import Input
    from paramcount.inventory import Inventory
    from paramcount.modules.build import Device
    from paramcount.report import Report
    from paramcount.rules import Only
    from paramcount.sources import Target

Patterns = str | Iterable[str]


def count_word(
    word: str,
    read: Callable[[Target], Inventory],
    *,
    args: Mapping[str, Any] | None = None,
    weights: str | None = None,
    inputs: Patterns = (),
    device: Device = "auto",
    trust_remote_code: bool = False,
    like: str | None = None,
    **rules: Any,
) -> Report:
    """Count what ``read`` makes of a word; ``rules`` are those of ``ruled``.

    Raises:
        ParamcountError: the target is unknown, no model came of it, or a pattern matches nothing.

    """
    from paramcount.report import Report
    from paramcount.sources import Target

    apply = ruled(**rules)
    target = Target(word, args or {}, weights, device, _inputs(inputs), trust_remote_code, like)
    return Report.of(apply(read(target)))


def ruled(*, only: Only | None = None, active: Patterns = (), **patterns: Patterns) -> Callable[[Inventory], Inventory]:
    """Return what the rules leave of an inventory: all, where there are none, which needs none of their code."""
    active = _listed(active)
    listed = {name: _listed(given) for name, given in patterns.items()}
    if only is None and not active and not any(listed.values()):
        return lambda inventory: inventory
    from paramcount.routing import Routing
    from paramcount.rules import Rules, apply

    rules = Rules(**listed, only=only, active=tuple(map(Routing.parse, active)))
    return lambda inventory: apply(rules, inventory)


def _inputs(texts: Patterns) -> tuple[Input, ...]:
    if not (listed := _listed(texts)):
        return ()
    from paramcount.inputs import Input

    return tuple(map(Input.parse, listed))


def _listed(patterns: Patterns) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)
