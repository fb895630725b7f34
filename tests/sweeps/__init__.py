"""Compares our counts with PyTorch's own sums over everything that a library can build; each module is a program.

They take minutes, which is too long for the test suite: it compares a sample in the same way.
"""

from __future__ import annotations

import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

from paramcount import ParamcountError, Report

_ROUND = 20  # cases


class Sums(NamedTuple):
    """What PyTorch says of a model, or we say of it."""

    total: int
    trainable: int
    nbytes: int
    buffers: int
    tensors: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of_model(cls, model: nn.Module) -> Sums:
        """Return PyTorch's own sums."""
        params = dict(model.named_parameters())
        return cls(
            total=sum(p.numel() for p in params.values()),
            trainable=sum(p.numel() for p in params.values() if p.requires_grad),
            nbytes=sum(p.numel() * p.element_size() for p in params.values()),
            buffers=sum(b.numel() for b in model.buffers()),
            tensors=tuple((name, tuple(p.shape)) for name, p in params.items()),
        )

    @classmethod
    def of_report(cls, report: Report) -> Sums:
        """Return the same of a report."""
        tensors = tuple((p.name, p.shape or ()) for p in report.params if p.tied_to is None)
        return cls(report.total, report.trainable, report.nbytes, report.buffers.total, tensors)


class Case(NamedTuple):
    """One model, built twice."""

    name: str
    construct: Callable[[], nn.Module]  # by the library alone
    counted: Callable[[], Report]


def on_meta(construct: Callable[[], nn.Module]) -> nn.Module:
    """Build a model as PyTorch itself offers to build without memory."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return construct()


def sweep(cases: Iterable[Case], *, subject: str) -> int:
    """Compare all cases, print those that differ, and return the exit code."""
    same = no_oracle = wrong = 0
    plain_seconds = our_seconds = 0.0
    for case in cases:
        started = time.process_time()
        try:
            expected = Sums.of_model(on_meta(case.construct))
        except Exception as error:  # noqa: BLE001  # PyTorch cannot build all on the meta device
            expected = None
            reason = _line(error)
        plain_seconds += time.process_time() - started
        started = time.process_time()
        try:
            report: Any = case.counted()
        except ParamcountError as error:
            report = error
        except Exception as error:
            if expected is not None:
                raise
            report = error  # nor can the library itself say what to count
        our_seconds += time.process_time() - started
        if (same + wrong + no_oracle) % _ROUND == 0:
            gc.collect()  # each time would take longer than all the rest: what was imported is large
        if expected is None:
            said = f"{report.total:,}" if isinstance(report, Report) else _line(report)
            no_oracle += 1
            print(f"{case.name}: plain: {reason}; ours: {said}", flush=True)
        elif isinstance(report, ParamcountError):
            wrong += 1
            print(f"{case.name}: {_line(report)}", file=sys.stderr)
        elif (found := Sums.of_report(report)) != expected:
            wrong += 1
            print(f"{case.name}: {found[:4]} is to be {expected[:4]}; {_difference(found, expected)}", file=sys.stderr)
        else:
            same += 1
            for note in report.notes:
                if note.code == "real-memory":
                    print(f"{case.name}: {note.message}", flush=True)
    print(f"{subject}: {same} the same, {wrong} different, {no_oracle} that PyTorch cannot build on meta")
    print(f"CPU seconds: {plain_seconds:.0f} to build plainly on meta, {our_seconds:.0f} to count")
    return 1 if wrong else 0


def _difference(found: Sums, expected: Sums) -> str:
    ours, theirs = set(found.tensors), set(expected.tensors)
    return f"too many: {sorted(ours - theirs)[:3]}, missing: {sorted(theirs - ours)[:3]}"


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:160]}"
