"""Exactly how many parameters a PyTorch model has, which of them train, and where they sit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from paramcount.errors import ParamcountError
from paramcount.report import Report

if TYPE_CHECKING:
    from torch import nn

    from paramcount.inventory import Inventory
    from paramcount.modules.build import Device
    from paramcount.rules import Only

__version__ = "0.1.0"

__all__ = ["ParamcountError", "Report", "__version__", "count"]


def count(
    target: str | nn.Module,
    *,
    args: Mapping[str, Any] | None = None,
    weights: str | None = None,
    freeze: str | Iterable[str] = (),
    unfreeze: str | Iterable[str] = (),
    include: str | Iterable[str] = (),
    exclude: str | Iterable[str] = (),
    only: Only | None = None,
    device: Device = "auto",
) -> Report:
    """Count the parameters of a model.

    Args:
        target: a model, which is read as it stands, with nothing rebuilt and nothing moved; or a word as on the command
            line (``"resnet50"``, ``"net.py:Net"``), for a model that is built without weights.
        args: keyword arguments for the constructor that a word names.
        weights: published weights whose variant of a torchvision architecture is meant; they are not fetched.
        freeze: patterns of the parameters to count as frozen, as if ``requires_grad`` were False.
        unfreeze: patterns of those to count as trainable; wins over ``freeze``.
        include: patterns of what to count; all by default.
        exclude: patterns of what not to count; wins over ``include``.
        only: count only what is ``"trainable"``, or only what is ``"frozen"``.
        device: where to build: ``"meta"`` never in real memory, ``"cpu"`` always, ``"auto"`` only as the last resort.

    Raises:
        ParamcountError: the target is unknown, no model came of it, or a pattern matches nothing.

    """
    from paramcount.rules import Rules, apply

    rules = Rules(_patterns(freeze), _patterns(unfreeze), _patterns(include), _patterns(exclude), only)
    if isinstance(target, str):
        from paramcount.sources import Target, resolve

        source, name = resolve(target)
        inventory = source.read(Target(target, args or {}, weights, device), name)
    else:
        if args or weights is not None:
            raise ParamcountError("args and weights are for a constructor, and this model is built already")
        inventory = _as_it_stands(target)
    return Report.of(apply(rules, inventory))


def _as_it_stands(model: nn.Module) -> Inventory:
    from torch import nn

    from paramcount.modules.read import read

    if not isinstance(model, nn.Module):
        raise ParamcountError(f"{model!r} is not a model", hint="give a torch.nn.Module, or a word such as 'resnet50'")
    return read(model, target=type(model).__name__, source="module")


def _patterns(patterns: str | Iterable[str]) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)
