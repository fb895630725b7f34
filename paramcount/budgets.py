"""What a model may cost, and the one function that decides whether it does: Report × Budget -> Verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from functools import reduce
from operator import add
from typing import Any, Final, Literal, get_args

from paramcount.errors import (
    EXIT_DIFFERS,
    EXIT_OK,
    EXIT_UNREADABLE,
    EXIT_USAGE,
    ParamcountError,
    UsageError,
    closest,
    did_you_mean,
    gravest,
)
from paramcount.patterns import above, compiled, nearest
from paramcount.report import Layer, Report, Tally, extras, tally_buffers
from paramcount.units import exact, parse_count, parse_size, plural, short, size

Rule = Literal["total", "trainable", "frozen", "active", "bytes", "buffers"]
RULES: Final[tuple[Rule, ...]] = get_args(Rule)  # bytes are bytes, all others elements
_IS: Mapping[Rule, str] = {rule: "are" if rule.endswith("s") else "is" for rule in RULES}
BOUNDS: Final = ("max", "min", "exactly")

Status = Literal["ok", "over", "error"]
Kind = Literal["over", "unknowable", "unmatched"]
_EXIT_CODES: Mapping[Kind, int] = {"over": EXIT_DIFFERS, "unknowable": EXIT_UNREADABLE, "unmatched": EXIT_USAGE}


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        """Return «models.yaml:7:5»."""
        return f"{self.file}:{self.line}:{self.column}"

    def to_dict(self) -> dict[str, Any]:
        """Return the place as the JSON format has it."""
        return {"file": self.file, "line": self.line, "column": self.column}


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers that a limit is for: all whose dotted name matches a pattern."""

    pattern: str
    each: bool = False  # every one by itself, not their sum
    location: Location | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """What one number of a model, or of some of its layers, may be. Both bounds are inclusive."""

    rule: Rule
    max: int | None = None  # bytes for the rule "bytes", else elements
    min: int | None = None
    layers: Layers | None = None  # None: the whole model
    location: Location | None = None

    @property
    def exactly(self) -> int | None:
        """The only number that will do, where there is just one."""
        return self.max if self.max == self.min else None


@dataclass(frozen=True, slots=True)
class Allowance:
    """A higher maximum for the whole model, for a time."""

    rule: Rule
    max: int
    until: date  # the last day
    reason: str
    location: Location | None = None


@dataclass(frozen=True, slots=True)
class Growth:
    """How much a model may grow from one count to the next; too much is more than both."""

    percent: Fraction = Fraction(0)
    params: int = 0
    location: Location | None = None

    def exceeded(self, before: int, after: int) -> bool:
        """Whether a model that had ``before`` parameters may not have ``after``."""
        return after > self.most(before)

    def most(self, before: int) -> int:
        """Return how many parameters a model that had ``before`` may have: as many as either measure allows."""
        return before + max(self.params, int(self.percent * before / 100))


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the lock says of a model."""

    total: int
    is_lower_bound: bool = False  # parameters had no shape when it was locked
    differences: tuple[str, ...] = ()  # in what the model is another now, in words


@dataclass(frozen=True, slots=True)
class Budget:
    """All that is asked of one model."""

    limits: tuple[Limit, ...] = ()
    allow: tuple[Allowance, ...] = ()
    growth: Growth | None = None

    @classmethod
    def of(cls, **limits: object) -> Budget:
        """Return a budget for a whole model: ``Budget.of(total="26M", trainable={"max": "25K", "min": 1})``.

        Raises:
            UsageError: a rule or a bound is unknown, or a limit cannot be met.

        """
        made = []
        for rule, written in limits.items():
            if rule not in RULES:
                raise UsageError(f"no limit is called {rule!r}", hint=_hint(rule, RULES))
            try:
                made.append(_limit(rule, written))
            except ValueError as error:
                raise UsageError(f"{rule}: {error}") from None
        for limit, contradiction in contradictions(made):
            raise UsageError(f"{limit.rule}: {contradiction}")
        return cls(tuple(made))


def _limit(rule: Rule, written: object) -> Limit:
    parse = parse_size if rule == "bytes" else parse_count
    named = written if isinstance(written, Mapping) else {"max": written}
    most, least = bounds({name: parse(value) for name, value in named.items()})
    return Limit(rule, most, least)


def bounds(named: Mapping[str, int]) -> tuple[int | None, int | None]:
    """Return the maximum and the minimum that a limit's words, max, min and exactly, come to.

    Raises:
        ValueError: a word is none of these, or they leave nothing, or limit nothing.

    """
    for name in named:
        if name not in BOUNDS:
            raise ValueError(f"no bound is called {name!r}: {_hint(name, BOUNDS)}")
    if not named:
        raise ValueError("limits nothing: give max, min or exactly")
    if "exactly" in named:
        if len(named) > 1:
            raise ValueError("exactly leaves no room for max or min: give one or the other")
        return named["exactly"], named["exactly"]
    most, least = named.get("max"), named.get("min")
    if most is not None and least is not None and least > most:
        raise ValueError(f"cannot be met: min {exact(least)} is above max {exact(most)}")
    return most, least


def contradictions(limits: Iterable[Limit]) -> Iterator[tuple[Limit, str]]:
    """Yield each limit that no model could meet beside the others, and why.

    total = trainable + frozen for every model that a limit on either can be judged of, and no layer holds more than
    the whole model.
    """
    by_layers: dict[tuple[str, bool] | None, dict[Rule, Limit]] = {}
    for limit in limits:
        where = None if limit.layers is None else (limit.layers.pattern, limit.layers.each)
        by_layers.setdefault(where, {})[limit.rule] = limit
    whole = by_layers.get(None, {})
    for where, group in by_layers.items():
        yield from _against_itself(group.values())
        yield from _against_total(group)
        if where is not None:
            for rule, limit in group.items():
                most = whole[rule].max if rule in whole else None
                if most is not None and limit.min is not None and limit.min > most:
                    yield limit, f"cannot be met: min {exact(limit.min)} is above the whole model's {exact(most)}"


def _against_itself(limits: Iterable[Limit]) -> Iterator[tuple[Limit, str]]:
    """Yield what a model and the defaults make of a limit together, each of which is sound by itself."""
    for limit in limits:
        if limit.max is not None and limit.min is not None and limit.min > limit.max:
            yield limit, f"cannot be met beside the defaults: min {exact(limit.min)} is above max {exact(limit.max)}"


def _against_total(group: Mapping[Rule, Limit]) -> Iterator[tuple[Limit, str]]:
    parts = [group[rule] for rule in ("trainable", "frozen") if rule in group]
    if "total" not in group or not parts:
        return
    total = group["total"]
    least = sum(part.min or 0 for part in parts)
    if total.max is not None and least > total.max:
        words = " and ".join(f"{part.rule} min {exact(part.min)}" for part in parts if part.min)
        yield total, f"cannot be met: max {exact(total.max)} is below {words}"
    ceilings = [part.max for part in parts if part.max is not None]
    if total.min is not None and len(ceilings) == 2 and sum(ceilings) < total.min:  # noqa: PLR2004  # both parts
        yield total, f"cannot be met: min {exact(total.min)} is above trainable and frozen max {exact(sum(ceilings))}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One limit that a model does not meet, or of which that cannot be known."""

    kind: Kind
    rule: Rule | Literal["growth", "locked"]
    layer: str  # a layer's name, or a pattern for a sum; "" is the whole model
    limit: int | None  # the bound in question
    actual: int | None  # a lower bound for what is unknowable; None where no layer matches
    over: int | None  # actual - limit, so below 0 where a minimum is missed; None where it cannot be known
    message: str
    location: Location | None

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as the JSON format has it."""
        return {
            "rule": self.rule,
            "layer": self.layer,
            "limit": self.limit,
            "actual": self.actual,
            "over": self.over,
            "message": self.message,
            "location": self.location.to_dict() if self.location else None,
        }


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about a budget that is worth a look, and fails nothing."""

    message: str
    location: Location | None


@dataclass(frozen=True, slots=True)
class Judged:
    """One limit against one number: of the model, of one layer, or of several layers' sum."""

    limit: Limit
    layer: str  # as in Finding
    max: int | None  # the maximum that applied: the limit's own, or an allowance's
    actual: int
    known: bool  # False: actual is a lower bound
    layers: int = 1  # that it is the sum over
    finding: Finding | None = None  # None: the limit is met


@dataclass(frozen=True, slots=True)
class GrowthMet:
    """A model that has grown no more since the lock than it may."""

    max: int
    actual: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a model meets its budget; every exit code and output follows from it."""

    judged: tuple[Judged, ...] = ()
    unmatched: tuple[Finding, ...] = ()  # patterns that match no layer
    since: tuple[Finding, ...] = ()  # what has changed since the lock, and may not have
    remarks: tuple[Remark, ...] = ()
    growth: GrowthMet | None = None  # None: none is asked for, or a finding says what is wrong with it

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong: limits in the order of the budget, patterns that match nothing, changes since the lock."""
        missed = (judged.finding for judged in self.judged if judged.finding is not None)
        return (*missed, *self.unmatched, *self.since)

    @property
    def status(self) -> Status:
        """Whether all limits are met, one is not, or that cannot be known."""
        kinds = {finding.kind for finding in self.findings}
        return "ok" if not kinds else "over" if kinds == {"over"} else "error"

    @property
    def exit_code(self) -> int:
        """What the command line exits with: 0; 2 for a pattern that matches nothing, else 3 unknowable, else 1 over."""
        return gravest([EXIT_OK, *(_EXIT_CODES[finding.kind] for finding in self.findings)])


class OverBudget(ParamcountError, AssertionError):
    """A model costs more, or less, than it may; ``findings`` say where and by how much."""

    code = "over-budget"
    exit_code = EXIT_DIFFERS

    def __init__(self, target: str, findings: tuple[Finding, ...]) -> None:
        """Name the target, and all that is wrong with it."""
        super().__init__("\n".join(f"{target}: {finding.message}" for finding in findings))
        self.target = target
        self.findings = findings

    def __reduce__(self) -> tuple[type[OverBudget], tuple[str, tuple[Finding, ...]]]:
        """Let the error cross from one process to another."""
        return OverBudget, (self.target, self.findings)


def judge(
    report: Report,
    budget: Budget,
    *,
    today: date,
    baseline: Baseline | None = None,
    lock: str | None = None,
    locked: bool = False,
    location: Location | None = None,
) -> Verdict:
    """Hold a model's counts against its budget, and against what the lock says of it, in integers.

    A limit is over where even a lower bound exceeds its maximum, and unknowable where a lazy parameter, or a
    checkpoint that does not say what trains, leaves the answer open; it is never met by default. An allowance stands
    in for the maximum until the end of its last day. Growth is judged where there is a baseline; where a lock is there,
    called ``lock``, and has none, growth is unknowable. With ``locked`` a model must have a baseline, and equal it.
    ``location`` is the model's: of what no line in its budget asks.
    """
    allowances = {allowance.rule: allowance for allowance in budget.allow}
    layers = report.root.walk()
    next(layers)  # the model itself is no layer
    by_name = {layer.name: layer for layer in layers}
    judged: list[Judged] = []
    unmatched: dict[str, Finding] = {}
    remarks: list[Remark] = []
    for limit in sorted(budget.limits, key=lambda limit: limit.layers is not None):
        if limit.layers is None:
            allowance = allowances.get(limit.rule)
            results = [_judged(limit, [report.root], layer="", allowance=allowance, today=today)]
            remarks += _on_allowance(results[0], allowance, today)
        elif matching := _matching(limit.layers, by_name):
            results = [_judged(limit, scope, layer=name, today=today) for name, scope in matching]
            remarks += _on_ties(limit, matching)
            remarks += _on_nesting(limit.layers, by_name)
        else:
            unmatched.setdefault(limit.layers.pattern, _unmatched(limit, limit.layers, by_name, report.target))
            continue
        judged += results
        remarks += _on_slack(limit, results)
    if not budget.limits and budget.growth is None and not locked:
        remarks.append(Remark("nothing is limited: give it a budget", None))
    if budget.growth is not None and baseline is None and lock is None:
        remarks.append(Remark("there is no baseline to grow from: paramcount lock writes one", budget.growth.location))
    grown = _grown(report, budget.growth, baseline, lock)
    unlocked = _unlocked(report, baseline) if locked else ()
    since = [replace(finding, location=location) for finding in unlocked]
    if isinstance(grown, Finding):
        since.insert(0, grown)
    met = grown if isinstance(grown, GrowthMet) else None
    return Verdict(tuple(judged), tuple(unmatched.values()), tuple(since), tuple(dict.fromkeys(remarks)), met)


def _grown(
    report: Report, growth: Growth | None, baseline: Baseline | None, lock: str | None
) -> Finding | GrowthMet | None:
    """Decide whether a model has grown too much; None where nothing is asked, or nothing has been locked yet."""
    if growth is None:
        return None
    if baseline is None:
        if lock is None:
            return None
        message = f"growth cannot be judged: {lock} does not have the model; paramcount lock adds it"
        return Finding("unknowable", "growth", "", None, report.total, None, message, growth.location)
    before, after, most = baseline.total, report.total, growth.most(baseline.total)
    # What has no shape can only raise its side: a larger baseline allows more, a larger count is further over.
    if after > most and not baseline.is_lower_bound:
        message = (
            f"total has grown by {exact(after - before)} since the lock, from {exact(before)} to {exact(after)}; "
            f"{exact(most - before)} would be allowed"
        )
        return Finding("over", "growth", "", most, after, after - most, message, growth.location)
    if report.uninitialized or after > most:
        why = _why_unknown("total", [report.root]) if report.uninitialized else "the lock has only a lower bound"
        message = f"growth cannot be judged: {why}"
        return Finding("unknowable", "growth", "", most, after, None, message, growth.location)
    return GrowthMet(most, after)


def _unlocked(report: Report, baseline: Baseline | None) -> Iterator[Finding]:
    if baseline is None:
        message = "has no baseline: paramcount lock writes one"
        yield Finding("over", "locked", "", None, report.total, None, message, None)
    elif report.uninitialized or baseline.is_lower_bound:
        message = "cannot be compared with the lock: parameters without a shape make it a lower bound"
        yield Finding("unknowable", "locked", "", None, report.total, None, message, None)
    elif baseline.differences:
        first, *others = baseline.differences
        more = f", and {plural(len(others), 'more difference')}" if others else ""
        message = f"is not what the lock says: {first}{more}"
        if over := report.total - baseline.total:
            yield Finding("over", "locked", "", baseline.total, report.total, over, message, None)
        else:  # as many, of which others train
            yield Finding("over", "locked", "", None, None, None, message, None)


def _found(layers: Layers, by_name: Mapping[str, Layer]) -> dict[str, Layer]:
    """Return the layers that match a pattern, by the name under which their tensors are counted."""
    matches = compiled(layers.pattern).match
    named = (by_name.get(layer.same_as or name, layer) for name, layer in by_name.items() if matches(name))
    return {layer.name: layer for layer in named}


def _matching(layers: Layers, by_name: Mapping[str, Layer]) -> list[tuple[str, list[Layer]]]:
    """Return what to judge: a label, and the layers whose counts add up to it."""
    found = _found(layers, by_name)
    if layers.each:
        return [(name, [layer]) for name, layer in found.items()]
    outermost = [layer for name, layer in found.items() if above([name]).isdisjoint(found)]
    if not outermost:
        return []
    return [(outermost[0].name if len(outermost) == 1 else layers.pattern, outermost)]


def _measured(rule: Rule, scope: Sequence[Layer]) -> tuple[int, bool]:
    """Return a number, and whether it is all of it; else it is a lower bound."""
    if rule == "buffers":
        buffers = [buffer for top in scope for layer in top.walk() for buffer in layer.buffers]
        return tally_buffers(buffers).total, all(buffer.numel is not None for buffer in buffers)
    tally = reduce(add, (layer.tally for layer in scope), Tally())
    if rule == "total":
        return tally.total, not tally.uninitialized
    if rule == "active":
        params = (param for top in scope for layer in top.walk() for param in layer.params)
        return tally.total - extras(params).inactive, not tally.uninitialized
    if rule == "bytes":
        return tally.nbytes, not tally.uninitialized
    return (tally.trainable if rule == "trainable" else tally.frozen), not (tally.uninitialized or tally.unknown)


def _judged(
    limit: Limit, scope: Sequence[Layer], *, layer: str, today: date, allowance: Allowance | None = None
) -> Judged:
    """Decide one limit: all that passes or fails does so here."""
    actual, known = _measured(limit.rule, scope)
    allowed = allowance if allowance is not None and limit.max is not None and today <= allowance.until else None
    most = limit.max if allowed is None else allowed.max
    judged = Judged(limit, layer, most, actual, known, len(scope))
    if most is not None and actual > most:
        bound, certain = most, True  # more than a lower bound can only be further over
    elif limit.min is not None and actual < limit.min:
        bound, certain = limit.min, known
    elif most is not None and not known:
        bound, certain = most, False
    else:
        return judged
    where = "" if not layer else f"{layer}: " if len(scope) == 1 else f"{layer} ({plural(len(scope), 'layer')}): "
    if not certain:
        message = f"{where}{limit.rule} cannot be judged: {_why_unknown(limit.rule, scope)}"
        finding = Finding("unknowable", limit.rule, layer, bound, actual, None, message, limit.location)
        return replace(judged, finding=finding)
    message, location = f"{where}{_excess(judged, bound)}", limit.location
    if allowance is not None and actual > bound:
        message += f", allowed until {allowance.until}" if allowed else f"; its allowance expired on {allowance.until}"
        location = allowance.location or location
    finding = Finding("over", limit.rule, layer, bound, actual, actual - bound, message, location)
    return replace(judged, finding=finding)


def _excess(judged: Judged, bound: int) -> str:
    """Return «total is 25.6M, 3.1M over the limit of 22.5M»."""
    rule, actual = judged.limit.rule, judged.actual
    shown, shown_bound, by = _amounts(rule, actual, bound)
    is_ = _IS[rule] if judged.known else f"{_IS[rule]} at least"
    if bound == judged.limit.exactly and judged.max == bound:
        return f"{rule} {is_} {shown}, {by} {'more' if actual > bound else 'less'} than exactly {shown_bound}"
    if actual < bound:
        return f"{rule} {is_} {shown}, {by} below the minimum of {shown_bound}"
    return f"{rule} {is_} {shown}, {by} over the limit of {shown_bound}"


def _amounts(rule: Rule, actual: int, bound: int) -> tuple[str, str, str]:
    """Return two numbers and their difference, rounded only where nobody could take the two for equal."""
    difference = abs(actual - bound)
    # Rounding moves either number by less than 1 %, so what is 2 % apart stays apart.
    if difference * 50 >= max(actual, bound):
        rounded = size if rule == "bytes" else short
        if rounded(actual) != rounded(bound):
            return rounded(actual), rounded(bound), rounded(difference)
    return exact(actual), exact(bound), exact(difference)


def _why_unknown(rule: Rule, scope: Sequence[Layer]) -> str:
    if rule == "buffers":
        return "a lazy buffer has no shape yet"
    tally = reduce(add, (layer.tally for layer in scope), Tally())
    if tally.uninitialized:
        have = "has" if tally.uninitialized == 1 else "have"
        held = (param for layer in scope for below in layer.walk() for param in below.params)
        if all(param.packed for param in held if param.numel is None):
            form = "is packed in a form that does" if tally.uninitialized == 1 else "are packed in forms that do"
            return f"{plural(tally.uninitialized, 'parameter')} {form} not say the size"
        return f"{plural(tally.uninitialized, 'lazy parameter')} {have} no shape yet"
    return f"of {exact(tally.unknown)} parameters nothing says whether they train; freeze and unfreeze can"


def _unmatched(limit: Limit, layers: Layers, names: Iterable[str], target: str) -> Finding:
    message = f"layers {layers.pattern!r} matches no layer of {target}"
    if hint := did_you_mean(closest(layers.pattern, names)):
        message += f"; {hint}"
    bound = limit.min if limit.max is None else limit.max
    location = layers.location or limit.location
    return Finding("unmatched", limit.rule, layers.pattern, bound, None, None, message, location)


def _on_allowance(judged: Judged, allowance: Allowance | None, today: date) -> Iterator[Remark]:
    limit, actual = judged.limit, judged.actual
    if allowance is None or not judged.known or limit.max is None:
        return
    if actual <= limit.max:
        ends = "expired on" if today > allowance.until else "ends on"
        message = f"the allowance for {limit.rule} that {ends} {allowance.until} is no longer needed: remove it"
        yield Remark(message, allowance.location)
    elif judged.finding is None:
        shown, most, by = _amounts(limit.rule, actual, limit.max)
        message = (
            f"{limit.rule} {_IS[limit.rule]} {shown}, {by} over the limit of {most}, as allowed until {allowance.until}"
        )
        yield Remark(f"{message}: {allowance.reason}", allowance.location)


def _on_slack(limit: Limit, results: Sequence[Judged]) -> Iterator[Remark]:
    """Remark on a maximum that is so far off that it would miss a doubling."""
    top = max(judged.actual for judged in results)
    if limit.max is None or not all(judged.known for judged in results) or 2 * top >= limit.max:
        return
    shown, most, _ = _amounts(limit.rule, top, limit.max)
    where = f"{limit.layers.pattern}: " if limit.layers is not None else ""
    largest = "the largest is" if len(results) > 1 else "it is"
    message = f"{where}the limit of {most} is far above the {limit.rule}: {largest} {shown}"
    yield Remark(message, limit.location)


def _on_ties(limit: Limit, matching: Sequence[tuple[str, Sequence[Layer]]]) -> Iterator[Remark]:
    """Remark on tensors of the layers that count elsewhere: a limit on these layers does not see them."""
    assert limit.layers is not None  # noqa: S101  # called for layers only
    params = [p for _, scope in matching for top in scope for layer in top.walk() for p in layer.params]
    inside = {param.name for param in params}
    if outside := [param for param in params if param.tied_to is not None and param.tied_to not in inside]:
        more = f" (and {plural(len(outside) - 1, 'more tie')})" if len(outside) > 1 else ""
        message = f"{outside[0].name} is tied to {outside[0].tied_to} and counts there{more}"
        yield Remark(f"{limit.layers.pattern}: {message}", limit.layers.location or limit.location)


def _on_nesting(layers: Layers, by_name: Mapping[str, Layer]) -> Iterator[Remark]:
    """Remark on a pattern that matches layers within others that it matches: * crosses dots."""
    found = _found(layers, by_name)
    inner = {name: around for name in found if (around := nearest(name, found))}
    if not inner:
        return
    name, around = next(iter(inner.items()))
    of_all = f"{exact(len(inner))} of the {plural(len(found), 'layer')} that match {'is' if len(inner) == 1 else 'are'}"
    counted = "each is judged by itself" if layers.each else "what is within counts once"
    message = f"* crosses dots: {of_all} within others, such as {name} in {around}; {counted}"
    yield Remark(f"{layers.pattern}: {message}", layers.location)


def _hint(word: str, candidates: Sequence[str]) -> str:
    return did_you_mean(closest(word, candidates)) or f"there are {', '.join(candidates)}"
