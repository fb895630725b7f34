"""The result of a check: every model's verdict, as a table for people and as a document for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from paramcount.budgets import Finding, GrowthMet, Judged, Verdict
from paramcount.grid import AtLeast, Cell, Column, Grid, Remark, Row
from paramcount.report import Report
from paramcount.units import exact, plural, size

# Layers that miss their limit are shown one by one up to this many a limit.
_MOST_LAYERS = 10
_MOST_SPELT_OUT = 3  # likewise in words

_COLUMNS = (
    Column("model", "Model", "name", readers="machines"),
    Column("name", "Model", "name", readers="people"),  # blank where it is that of the row above
    Column("rule", "Rule", "text"),
    Column("layer", "Layer", "text", hide_if_zero=True),
    Column("bound", "Limit", "figure", readers="people"),
    Column("min", "Min", "number", readers="machines"),
    Column("max", "Max", "number", readers="machines"),
    Column("shown", "Actual", "figure", readers="people"),
    Column("actual", "Actual", "number", readers="machines"),
    Column("share", "Of limit", "share", readers="people", expendable=1),
    Column("since", "Since lock", "figure", readers="people", hide_if_zero=True, expendable=2),
    Column("locked", "Locked", "number", readers="machines"),
    Column("verdict", "Verdict", "text"),
)
_FINDINGS = (
    Column("name", "Model", "name"),
    Column("rule", "Rule", "text"),
    Column("layer", "Layer", "text", hide_if_zero=True),
    Column("limit", "Limit", "number"),
    Column("actual", "Actual", "number"),
    Column("verdict", "Verdict", "text"),
)


@dataclass(frozen=True, slots=True)
class Checked:
    """One model of models.yaml, after the check."""

    name: str  # its key in models.yaml
    target: str
    report: Report | None  # None: it could not be counted
    verdict: Verdict = field(default_factory=Verdict)
    locked: int | None = None  # its total in the lock; None: it has none
    compare: bool = False  # whether there is a lock at all

    @property
    def status(self) -> str:
        """Return ok, over or error."""
        return "error" if self.report is None else self.verdict.status

    def to_dict(self) -> dict[str, Any]:
        """Return the model as the JSON format has it; without counts where it has none."""
        counted: dict[str, Any] = {"target": self.target}
        if self.report is not None:
            counted = self.report.to_dict()
            counted["notes"] += [
                {
                    "code": "remark",
                    "where": "",
                    "message": remark.message,
                    "location": remark.location.to_dict() if remark.location else None,
                }
                for remark in self.verdict.remarks
            ]
        findings = [finding.to_dict() for finding in self.verdict.findings]
        return {**counted, "name": self.name, "status": self.status, "findings": findings}


def table(checked: Iterable[Checked], errors: Iterable[str]) -> Grid:
    """Return a row for each limit, grouped by model, and below what is wrong with each."""
    models = list(checked)
    faults = [fault for model in models for fault in _faults(model)] + list(errors)
    facts: dict[str, list[str]] = {}
    for model in models:
        for remark in model.verdict.remarks:
            place = f" ({remark.location})" if remark.location else ""
            facts.setdefault(f"{remark.message}{place}", []).append(model.name)
    for model in models:
        for note in model.report.notes if model.report else ():
            facts.setdefault(": ".join(filter(None, (note.code, note.where, note.message))), []).append(model.name)
    remarks = [Remark(text, fault=True) for text in faults]
    remarks += [Remark(f"{', '.join(names)}: {text}") for text, names in facts.items()]
    rows = tuple(row for model in models for row in _rows(model))
    return Grid(_headline([model.status for model in models]), _COLUMNS, rows, remarks=tuple(remarks))


def table_of_findings(reports: Sequence[Mapping[str, Any]], errors: Iterable[Mapping[str, Any]]) -> Grid:
    """Return a row for each finding of a check that is known by its document: that holds no limit that is met."""
    cells: list[tuple[str, dict[str, Cell]]] = []
    faults = []
    for report in reports:
        shown = [_said_of(finding) for finding in report["findings"]]
        whole: dict[str, Cell] = {
            "rule": "total" if "total" in report else "",
            "limit": "",
            "actual": report.get("total", ""),
        }
        cells += [(report["name"], each) for each in shown or [{**whole, "verdict": report["status"]}]]
        faults += [f"{report['name']}: {finding['message']}{_at(finding)}" for finding in report["findings"]]
    faults += [f"{error.get('name') or error.get('target')}: {error.get('message')}{_at(error)}" for error in errors]
    rows = tuple(
        Row(
            tuple({"name": name, "layer": "", **each}.get(column.key) for column in _FINDINGS),
            role="layer" if each["verdict"] == "ok" else "fault",
        )
        for name, each in cells
    )
    title = _headline([report["status"] for report in reports])
    return Grid(title, _FINDINGS, rows, remarks=tuple(Remark(fault, fault=True) for fault in faults))


def _said_of(finding: Mapping[str, Any]) -> dict[str, Cell]:
    over = finding["over"]
    verdict = "error" if over is None else "over" if over > 0 else "under"
    return {key: finding[key] for key in ("rule", "layer", "limit", "actual")} | {"verdict": verdict}


def _at(said: Mapping[str, Any]) -> str:
    place = said.get("location")
    at = f"{place['file']}:{place['line']}:{place['column']}" if place else ""
    return f" ({at})" if at and at not in said["message"] else ""


def _faults(model: Checked) -> Iterator[str]:
    """Yield what is wrong with a model; of many layers that miss one limit the first few."""
    for place, findings in groupby(model.verdict.findings, key=lambda finding: finding.location):
        first = list(findings)
        at = f" ({place})" if place else ""
        yield from (f"{model.name}: {finding.message}{at}" for finding in first[:_MOST_SPELT_OUT])
        if len(first) > _MOST_SPELT_OUT:
            yield f"{model.name}: {plural(len(first) - _MOST_SPELT_OUT, 'more layer')} that the same limit fails{at}"


def _headline(statuses: list[str]) -> str:
    numbers = [(status, statuses.count(status)) for status in ("ok", "over", "error")]
    verdicts = ", ".join(f"{number} {status}" for status, number in numbers if number)
    return ": ".join(filter(None, (plural(len(statuses), "model"), verdicts)))


def _rows(model: Checked) -> Iterator[Row]:
    shown: list[dict[str, Cell]] = [cells for limit in _by_limit(model.verdict.judged) for cells in _limit_rows(limit)]
    if model.verdict.growth is not None:
        shown.append(_growth_cells(model.verdict.growth))
    shown += [_finding_cells(finding) for finding in (*model.verdict.unmatched, *model.verdict.since)]
    for number, cells in enumerate(shown or [dict[str, Cell](verdict=model.status)]):
        first: dict[str, Cell] = (
            {"name": model.name, "since": _since(model), "locked": model.locked} if not number else {}
        )
        filled: dict[str, Cell] = {"model": model.name, **cells, **first}
        row = tuple(filled.get(column.key, None if column.kind == "number" else "") for column in _COLUMNS)
        yield Row(row, role="layer" if cells["verdict"] == "ok" else "fault")


def _by_limit(judged: Iterable[Judged]) -> Iterator[list[Judged]]:
    for _, group in groupby(judged, key=lambda one: id(one.limit)):
        yield list(group)


def _limit_rows(judged: list[Judged]) -> Iterator[dict[str, Cell]]:
    """Yield a row for each layer that misses the limit, and one for all that meet it: the nearest to missing it."""
    missed = [one for one in judged if one.finding is not None]
    met = [one for one in judged if one.finding is None]
    for one in missed[:_MOST_LAYERS]:
        yield _cells(one)
    if len(missed) > _MOST_LAYERS:
        yield {"rule": judged[0].limit.rule, "layer": f"… {len(missed) - _MOST_LAYERS} more layers", "verdict": "fail"}
    if met:
        nearest = max(met, key=lambda one: one.actual)
        cells = _cells(nearest)
        layers = nearest.limit.layers
        if layers is not None and layers.each:
            cells["layer"] = f"{layers.pattern}, each of {len(met)}" if len(met) > 1 else nearest.layer
        yield cells


def _cells(judged: Judged) -> dict[str, Cell]:
    rule = judged.limit.rule
    verdict = "ok" if judged.finding is None else "unknown" if judged.finding.kind == "unknowable" else "over"
    actual = judged.actual if judged.known else AtLeast(judged.actual)
    layer = f"{judged.layer}, sum of {exact(judged.layers)}" if judged.layers > 1 else judged.layer
    return {
        "rule": rule,
        "layer": layer,
        "bound": _bound(judged),
        "min": judged.limit.min,
        "max": judged.max,
        "shown": ("" if judged.known else "≥ ") + _amount(judged, judged.actual),
        "actual": actual,
        "share": judged.actual / judged.max if judged.max else "",
        "verdict": "under" if judged.finding is not None and (judged.finding.over or 0) < 0 else verdict,
    }


def _finding_cells(finding: Finding) -> dict[str, Cell]:
    """Return a row for what is no limit on a number: growth, the lock, a pattern that matches nothing."""
    return {
        "rule": finding.rule,
        "layer": finding.layer,
        "bound": "" if finding.limit is None else f"{'=' if finding.rule == 'locked' else '≤'} {exact(finding.limit)}",
        "max": finding.limit,
        "shown": "" if finding.actual is None else exact(finding.actual),
        "actual": finding.actual,
        "share": finding.actual / finding.limit if finding.limit and finding.actual is not None else "",
        "verdict": "differs" if finding.rule == "locked" else "over" if finding.kind == "over" else "error",
    }


def _growth_cells(growth: GrowthMet) -> dict[str, Cell]:
    return {
        "rule": "growth",
        "bound": f"≤ {exact(growth.max)}",
        "max": growth.max,
        "shown": exact(growth.actual),
        "actual": growth.actual,
        "share": growth.actual / growth.max if growth.max else "",
        "verdict": "ok",
    }


def _bound(judged: Judged) -> str:
    limit = replace(judged.limit, max=judged.max)
    if limit.exactly is not None:
        return f"= {_amount(judged, limit.exactly)}"
    bounds = [("≥", limit.min), ("≤", limit.max)]
    return ", ".join(f"{sign} {_amount(judged, bound)}" for sign, bound in bounds if bound is not None)


def _amount(judged: Judged, number: int) -> str:
    """Return a number of a row; bytes are rounded unless that would make a limit and what misses it look equal."""
    if judged.limit.rule != "bytes":
        return exact(number)
    row = [bound for bound in (judged.actual, judged.limit.min, judged.max) if bound is not None]
    looks_equal = any(size(other) == size(number) for other in row if other != number)
    return f"{exact(number)} B" if looks_equal else size(number)


def _since(model: Checked) -> str:
    """Return how far the total is from the lock's."""
    if not model.compare or model.report is None:
        return ""
    if model.locked is None:
        return "no baseline"
    if model.report.uninitialized:
        return "?"
    change = model.report.total - model.locked
    return f"{change:+,}".replace("-", "−") if change else "="
