"""Chooses what of a Report is shown, and in which order: depth, folding, sorting. The result is a Grid."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from paramcount.grid import AtLeast, Cell, Column, Grid, Remark, Role, Row
from paramcount.inventory import Param
from paramcount.report import Layer, Report, Tally, tally, tally_buffers
from paramcount.units import exact, plural, size

Depth = int | Literal["all"] | None  # None: as deep as ROWS_BY_DEFAULT allows
Sort = Literal["order", "size", "name"]

ROWS_BY_DEFAULT = 40
# A module that has children shows up to so many parameters of its own by name, and more as one row.
_OWN_PARAMS_BY_NAME = 4
# Faults of one kind that are spelt out before the rest is only counted.
_FAULTS_OF_A_KIND = 3


@dataclass(frozen=True, slots=True)
class Options:
    """How much of a model is shown."""

    depth: Depth = None
    sort: Sort = "order"
    params: bool = False  # every parameter under its layer
    buffers: bool = False  # a column of buffers, and with params every buffer
    fold: bool = True  # runs of identical siblings into one row


COLUMNS = (
    Column("layer", "Layer", "name"),
    Column("depth", "Depth", "number", readers="machines"),
    Column("type", "Type", "text"),
    Column("kind", "Kind", "text", readers="machines"),
    Column("each", "Each", "count", readers="people", hide_if_zero=True),
    Column("total", "Parameters", "count"),
    Column("trainable", "Trainable", "count"),
    Column("frozen", "Frozen", "count"),
    Column("unknown", "Unknown", "count", hide_if_zero=True),
    Column("bytes", "Bytes", "bytes", readers="machines"),
    Column("share", "Share", "share", readers="people"),
)
BUFFERS = Column("buffers", "Buffers", "count")


def outline(report: Report, options: Options) -> Grid:
    """Return the layers of ``report`` as a grid whose leaf rows add up to the total."""
    whole = report.root
    fold = options.fold and options.depth != "all"
    root = _unit(whole, _Signatures(whole) if fold else None, options)
    depth = _depth(root, options)
    entries = list(_entries(root, depth, options))
    if options.depth is None and not options.params and len(entries) > ROWS_BY_DEFAULT + 1:
        entries = _cut(entries)
    rows = [_row(entry, whole, options) for entry in entries]
    columns = (*COLUMNS, BUFFERS) if options.buffers else COLUMNS
    return Grid(
        title=f"{report.target} · {whole.type}" if whole.type and whole.type != report.target else report.target,
        columns=columns,
        rows=tuple(rows[1:]),
        totals=(replace(rows[0], role="total"),),
        remarks=remarks(report),
        subject=report.target,
    )


@dataclass(frozen=True, slots=True)
class _Unit:
    """One or more identical siblings, which are shown as one."""

    first: Layer
    name: str
    times: int  # modules in this unit, and in the units above it, multiplied
    children: tuple[_Unit, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What one row says."""

    name: str
    type: str
    depth: int
    each: Tally
    times: int = 1
    buffers: int = 0  # elements, of each
    role: Role = "layer"


class _Signatures:
    """Numbers for layers: two layers have the same number if they differ in nothing but their names."""

    def __init__(self, root: Layer) -> None:
        self._numbers: dict[object, int] = {}
        self._known: dict[int, int] = {}
        for layer in reversed(list(root.walk())):  # children first
            self._known[id(layer)] = self._number(layer)

    def of(self, layer: Layer) -> int:
        return self._known[id(layer)]

    def _number(self, layer: Layer) -> int:
        start = len(layer.name) + 1 if layer.name else 0
        key = (
            layer.type,
            layer.same_as,
            tuple((p.name[start:], p.shape, p.dtype, p.trainable, p.tied_to is None) for p in layer.params),
            tuple((b.name[start:], b.shape, b.dtype, b.tied_to is None) for b in layer.buffers),
            tuple((child.name[start:], self._known[id(child)]) for child in layer.children),
        )
        return self._numbers.setdefault(key, len(self._numbers))


_NUMBERED = re.compile(r"(.*?)(\d+)", re.DOTALL)


def _unit(layer: Layer, signatures: _Signatures | None, options: Options, *, name: str = "", times: int = 1) -> _Unit:
    children: list[_Unit] = []
    for run in _runs(layer.children, signatures):
        first = run[0]
        own_name = first.name[len(layer.name) + 1 :] if layer.name else first.name
        if len(run) > 1:
            match = _NUMBERED.fullmatch(own_name)
            assert match is not None  # noqa: S101  # _runs joins numbered names only
            start = int(match[2])
            own_name = f"{match[1]}[{start}-{start + len(run) - 1}]"
        shown = f"{name}.{own_name}" if name else own_name
        children.append(_unit(first, signatures, options, name=shown, times=times * len(run)))
    return _Unit(layer, name, times, _sorted(children, options.sort))


def _runs(siblings: Sequence[Layer], signatures: _Signatures | None) -> list[list[Layer]]:
    """Split siblings into runs of identical ones with consecutive numbers for names."""
    runs: list[list[Layer]] = []
    for layer in siblings:
        if signatures is not None and runs and _continues(runs[-1][-1], layer, signatures):
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return runs


def _continues(before: Layer, layer: Layer, signatures: _Signatures) -> bool:
    if signatures.of(before) != signatures.of(layer):
        return False
    ours, theirs = _NUMBERED.fullmatch(layer.name), _NUMBERED.fullmatch(before.name)
    return ours is not None and theirs is not None and ours[1] == theirs[1] and int(ours[2]) == int(theirs[2]) + 1


def _sorted(units: list[_Unit], sort: Sort) -> tuple[_Unit, ...]:
    if sort == "size":
        units.sort(key=lambda unit: -unit.first.total * unit.times)
    elif sort == "name":
        units.sort(
            key=lambda unit: [
                (not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", unit.name)
            ]
        )
    return tuple(units)


def _depth(root: _Unit, options: Options) -> int:
    """Return how many levels to show: as asked, or as many as the default number of rows has room for."""
    deepest = max(layer.depth for layer in root.first.walk())
    if options.depth == "all" or (options.depth is None and options.params):
        return deepest + 1
    if options.depth is not None:
        return options.depth
    depth = 1
    while depth <= deepest and sum(1 for _ in _entries(root, depth + 1, options)) <= ROWS_BY_DEFAULT + 1:
        depth += 1
    return depth


def _entries(root: _Unit, depth: int, options: Options) -> Iterable[_Entry]:
    """Yield what is shown of a unit and of all below it, parents first."""
    waiting: list[tuple[_Unit, int]] = [(root, 0)]
    while waiting:
        unit, level = waiting.pop()
        layer = unit.first
        kind = f"= {layer.same_as or 'the model itself'}" if layer.same_as is not None else layer.type
        buffers = (
            tally_buffers(buffer for below in layer.walk() for buffer in below.buffers).total if options.buffers else 0
        )
        yield _Entry(unit.name, kind, level, layer.tally, unit.times, buffers)
        opened = level < depth and (bool(unit.children) or level == 0)
        if options.params:
            yield from _named(unit, layer.params, level + 1)
            if options.buffers:
                yield from _named_buffers(unit, level + 1)
        elif opened and layer.params:
            yield from _own(unit, level + 1)
        if opened:
            waiting.extend((child, level + 1) for child in reversed(unit.children))


def _own(unit: _Unit, level: int) -> Iterable[_Entry]:
    """Yield a module's own parameters, which its children's rows do not hold."""
    if len(unit.first.params) <= _OWN_PARAMS_BY_NAME:
        yield from _named(unit, unit.first.params, level)
    else:
        kind = f"{len(unit.first.params)} × Parameter"
        yield _Entry(f"{unit.name}.*".removeprefix("."), kind, level, tally(unit.first.params), unit.times, 0, "param")


def _named(unit: _Unit, params: Iterable[Param], level: int) -> Iterable[_Entry]:
    for param in params:
        kind = f"= {param.tied_to}" if param.tied_to else f"{param.dtype} {_shape(param.shape)}"
        yield _Entry(_below(unit, param.name), kind, level, tally([param]), unit.times, 0, "param")


def _named_buffers(unit: _Unit, level: int) -> Iterable[_Entry]:
    for buffer in unit.first.buffers:
        kind = f"= {buffer.tied_to}" if buffer.tied_to else f"{buffer.dtype} {_shape(buffer.shape)}"
        numel = tally_buffers([buffer]).total
        yield _Entry(_below(unit, buffer.name), f"buffer, {kind}", level, Tally(), unit.times, numel, "buffer")


def _below(unit: _Unit, name: str) -> str:
    own = name[len(unit.first.name) + 1 :] if unit.first.name else name
    return f"{unit.name}.{own}" if unit.name else own


def _shape(shape: tuple[int, ...] | None) -> str:
    return "[no shape yet]" if shape is None else f"[{', '.join(map(str, shape))}]"


def _cut(entries: list[_Entry]) -> list[_Entry]:
    """Keep the default number of rows of a single level, and add up the others in one."""
    kept, others = entries[:ROWS_BY_DEFAULT], entries[ROWS_BY_DEFAULT:]
    rest = Tally()
    buffers = 0
    for entry in others:
        rest += entry.each * entry.times
        buffers += entry.buffers * entry.times
    return [*kept, _Entry(f"… {plural(len(others), 'more row')}", "", 1, rest, 1, buffers)]


def _row(entry: _Entry, whole: Layer, options: Options) -> Row:
    total = entry.each * entry.times
    cells: dict[str, Cell] = {
        "layer": entry.name,
        "depth": entry.depth,
        "type": f"{entry.times} × {entry.type}" if entry.times > 1 else entry.type,
        "kind": entry.role,
        "each": _bounded(entry.each.total, entry.each) if entry.times > 1 else 0,
        "total": _bounded(total.total, total),
        "trainable": _bounded(total.trainable, total),
        "frozen": total.frozen,
        "unknown": total.unknown,
        "bytes": _bounded(total.nbytes, total),
        "share": total.total / whole.total if whole.total else 0.0,
        "buffers": entry.buffers * entry.times,
    }
    columns = (*COLUMNS, BUFFERS) if options.buffers else COLUMNS
    return Row(tuple(cells[column.key] for column in columns), entry.depth, entry.role)


def _bounded(number: int, tally: Tally) -> int:
    return AtLeast(number) if tally.uninitialized else number


def remarks(report: Report) -> tuple[Remark, ...]:
    """Return what is to be said under a report: sizes, ties and notes."""
    dtypes = (
        ", ".join(f"{dtype} {exact(count)}" for dtype, count in report.dtypes.items())
        if len(report.dtypes) > 1
        else "".join(report.dtypes)
    )
    said = [f"{size(report.nbytes)} of parameters" + (f" ({dtypes})" if dtypes else "")]
    buffers = report.buffers
    if buffers.total:
        said.append(f"{exact(buffers.total)} in buffers ({size(buffers.nbytes)}), not part of the total")
    facts = [Remark(" · ".join(said))]
    ties = report.ties
    sizes = {param.name: param.numel for param in report.params}
    for name, others in list(ties.items())[:_FAULTS_OF_A_KIND]:
        numel = sizes[name]
        listed = ", ".join(others[:2]) + (f" and {len(others) - 2} more" if len(others) > 2 else "")  # noqa: PLR2004
        facts.append(Remark(f"tied: {listed} = {name}" + ("" if numel is None else f" ({exact(numel)}, counted once)")))
    if len(ties) > _FAULTS_OF_A_KIND:
        facts.append(
            Remark(
                f"tied: {plural(len(ties) - _FAULTS_OF_A_KIND, 'more tensor')} with several names; --params shows them"
            )
        )
    for code, notes in groupby(sorted(report.notes, key=lambda note: note.code), key=lambda note: note.code):
        listed_notes = list(notes)
        fault = code not in {"filtered", "weights-skipped", "pruned"}
        facts.extend(
            Remark(f"{code}: {f'{note.where}: ' if note.where else ''}{note.message}", fault)
            for note in listed_notes[:_FAULTS_OF_A_KIND]
        )
        if len(listed_notes) > _FAULTS_OF_A_KIND:
            facts.append(
                Remark(
                    f"{code}: {len(listed_notes) - _FAULTS_OF_A_KIND} more of the kind; -f json lists them all", fault
                )
            )
    return tuple(facts)


def comparison(reports: Sequence[Report]) -> Grid:
    """Return one row a report, each set against the first."""
    columns = (
        Column("target", "Target", "name"),
        Column("total", "Parameters", "count"),
        Column("trainable", "Trainable", "count"),
        Column("frozen", "Frozen", "count"),
        Column("unknown", "Unknown", "count", hide_if_zero=True),
        Column("bytes", "Size", "bytes"),
        Column("buffers", "Buffers", "count"),
        Column("ratio", f"× {reports[0].target}", "ratio", readers="people"),
    )
    first = reports[0].total
    rows = tuple(
        Row(
            (
                report.target,
                _bounded(report.total, report.root.tally),
                _bounded(report.trainable, report.root.tally),
                report.frozen,
                report.unknown,
                _bounded(report.nbytes, report.root.tally),
                report.buffers.total,
                report.total / first if first else None,
            )
        )
        for report in reports
    )
    return Grid(f"{len(reports)} targets", columns, rows)
