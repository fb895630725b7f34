"""Exactly how many parameters a PyTorch model has, which of them train, and where they sit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from os import PathLike, fsdecode
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from paramcount.budgets import OverBudget
    from paramcount.errors import ParamcountError
    from paramcount.inventory import Inventory
    from paramcount.modules.build import Device
    from paramcount.report import Report
    from paramcount.rules import Only

__version__ = "0.1.0"

__all__ = ["OverBudget", "ParamcountError", "Report", "__version__", "check", "count"]


def count(
    target: str | PathLike[str] | nn.Module,
    *,
    args: Mapping[str, Any] | None = None,
    weights: str | None = None,
    freeze: str | Iterable[str] = (),
    unfreeze: str | Iterable[str] = (),
    include: str | Iterable[str] = (),
    exclude: str | Iterable[str] = (),
    only: Only | None = None,
    active: str | Iterable[str] = (),
    inputs: str | Iterable[str] = (),
    device: Device = "auto",
    trust_remote_code: bool = False,
    like: str | None = None,
) -> Report:
    """Count the parameters of a model.

    Args:
        target: a model, which is read as it stands, with nothing rebuilt and nothing moved; or a word as on the command
            line (``"resnet50"``, ``"net.py:Net"``), for a model that is built without weights; or the path of a file.
        args: keyword arguments for the constructor that a word names.
        weights: published weights whose variant of a torchvision architecture is meant; they are not fetched.
        freeze: patterns of the parameters to count as frozen, as if ``requires_grad`` were False.
        unfreeze: patterns of those to count as trainable; wins over ``freeze``.
        include: patterns of what to count; all by default.
        exclude: patterns of what not to count; wins over ``include``.
        only: count only what is ``"trainable"``, or only what is ``"frozen"``.
        active: how many experts of a mixture each token passes through, such as ``"*.experts=2/8"``.
        inputs: shapes for one forward before counting, from which lazy layers get theirs, such as ``"1,3,224,224"`` or
            ``"input_ids=1,128:int64"``.
        device: where to build: ``"meta"`` never in real memory, ``"cpu"`` always, ``"auto"`` only as the last resort.
        trust_remote_code: whether to run the code that comes with a transformers configuration, where it needs that.
        like: a word for the model that a file's weights are for: it decides which of them are buffers, and takes args.

    Raises:
        ParamcountError: the target is unknown, no model came of it, or a pattern matches nothing.

    """
    from paramcount.errors import ParamcountError
    from paramcount.report import Report
    from paramcount.words import count_word, ruled

    rules: dict[str, Any] = {"freeze": freeze, "unfreeze": unfreeze, "include": include, "exclude": exclude}
    rules |= {"only": only, "active": active}
    if isinstance(target, PathLike):
        target = fsdecode(target)
    if isinstance(target, str):
        from paramcount.sources import read

        return count_word(
            target,
            read,
            args=args,
            weights=weights,
            inputs=inputs,
            device=device,
            trust_remote_code=trust_remote_code,
            like=like,
            **rules,
        )
    if args or weights is not None or inputs or like is not None:
        raise ParamcountError("args, weights, inputs and like are for what is yet to be built or read")
    return Report.of(ruled(**rules)(_as_it_stands(target)))


def check(report: Report | nn.Module | str | PathLike[str], **limits: object) -> Report:
    """Hold a model to limits, in any test suite: ``check(report, total="26M", trainable={"max": "25K", "min": 1})``.

    Args:
        report: what ``count`` returned; or a model, or a word, which is counted first.
        limits: total, trainable, frozen, active, bytes or buffers, as ``models.yaml`` states them: a bare value is an
            inclusive maximum.

    Returns:
        The report.

    Raises:
        OverBudget: a limit is not met; an AssertionError, with the findings.
        UnknownValue: a limit cannot be judged, because the model does not determine the number.
        UsageError: there is no limit, or one that cannot be meant.

    """
    from datetime import date

    from paramcount.budgets import Budget, OverBudget, judge
    from paramcount.errors import UnknownValue, UsageError
    from paramcount.report import Report

    if not limits:
        raise UsageError("there is nothing to check", hint="give a limit: paramcount.check(report, total='26M')")
    budget = Budget.of(**limits)
    counted = report if isinstance(report, Report) else count(report)
    verdict = judge(counted, budget, today=date.min)
    if verdict.status == "over":
        raise OverBudget(counted.target, verdict.findings)
    if verdict.status == "error":
        raise UnknownValue("\n".join(f"{counted.target}: {finding.message}" for finding in verdict.findings))
    return counted


def _as_it_stands(model: nn.Module) -> Inventory:
    from dataclasses import replace

    from torch import nn

    from paramcount.errors import BuildError, ParamcountError
    from paramcount.modules.lightning_hooks import unsure_notes
    from paramcount.modules.read import read

    if not issubclass(
        type(model), nn.Module
    ):  # not isinstance(): a mock says that it is of whatever class it stands for
        raise _no_model(model)
    name = type(model).__name__
    try:
        inventory = read(model, target=name, source="module")
        return replace(inventory, notes=(*unsure_notes(model), *inventory.notes))
    except ParamcountError:
        raise
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise BuildError(f"{name} could not be read: {type(error).__name__}: {said}") from error


def _no_model(thing: Any) -> ParamcountError:
    """Return an error that says what was given instead of a model, never all that is in it."""
    from torch import Tensor

    from paramcount.errors import ParamcountError

    kind = type(thing)
    if issubclass(kind, type):
        return ParamcountError(
            "a class is not a model", hint="give an instance of it, or the word that names it: 'net.py:Net'"
        )
    if issubclass(kind, dict):
        tensors = sum(issubclass(type(value), Tensor) for value in dict.values(thing))
        if tensors:
            return ParamcountError(
                f"a state dict, of {tensors} tensors here, is not a model",
                hint="give the model that it is of, or the name of the file that torch.save() writes of it",
            )
    return ParamcountError(
        f"an object of type {kind.__name__} is not a model", hint="give a torch.nn.Module, or a word such as 'resnet50'"
    )


# What is imported only when it is asked for: the program says its version, or completes a word, without.
_HOMES = {"OverBudget": "budgets", "ParamcountError": "errors", "Report": "report"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return globals()[name]
