"""Chooses what of a Report is shown, and in which order: depth, folding, sorting. The result is a Grid."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from operator import add
from typing import Literal, NamedTuple

from paramcount.grid import AtLeast, Cell, Column, Grid, Remark, Role, Row, ShareAtLeast, ShareAtMost
from paramcount.inventory import Buffer, Note, Param
from paramcount.report import Extras, Layer, Report, Tally, extras, tally
from paramcount.units import exact, plural, size

Depth = int | Literal["all"] | None  # None: as deep as ROWS_BY_DEFAULT allows
Sort = Literal["order", "size", "name"]

ROWS_BY_DEFAULT = 40
# A module that has children shows up to so many tensors of its own by name, and more as one row.
_OWN_TENSORS_BY_NAME = 4
# Ties, and notes of one kind, that are spelt out before the rest is only counted.
_REMARKS_OF_A_KIND = 3
_TIES_BY_NAME = 2
# Notes that state a fact; all others are faults to look into.
_FACTS = frozenset(
    {
        "filtered",
        "weights-skipped",
        "pruned",
        "buffers-by-name",
        "buffers-by-model",
        "perhaps-buffer",
        "low-rank",
        "unknown-type",
        "left-out",
        "ties-unknown",
        "index-total",
        "adapter",
        "index-unlisted",
        "packed",
        "plain-pickle",
        "arrays",
        "active",
        "sharded",
        "input",
        "unrouted",
        "search-cut",
        "configured",
    }
)


class Options(NamedTuple):
    """How much of a model is shown."""

    depth: Depth = None
    sort: Sort = "order"
    params: bool = False  # every parameter under its layer
    buffers: bool = False  # a column of buffers, and with params every buffer
    fold: bool = True  # runs of identical siblings into one row
    cut: bool = True  # what the default number of rows has no room for even at one level


_FACTS_FOR_MACHINES = (
    Column("layer", "Layer", "name", readers="machines"),
    Column("depth", "Depth", "number", readers="machines"),
    Column("kind", "Kind", "text", readers="machines"),
    Column("type", "Type", "text", readers="machines"),
    Column("tied_to", "Tied to", "name", readers="machines"),
)
_COUNTS = (
    Column("total", "Parameters", "count"),
    Column("trainable", "Trainable", "count"),
    Column("frozen", "Frozen", "count"),
    Column("unknown", "Unknown", "count", hide_if_zero=True),
    Column("uninitialized", "Uninitialized", "number", readers="machines"),
)
_EXTRAS = (
    Column("packed", "Packed", "count", hide_if_zero=True, expendable=3),
    Column("overhead", "Overhead", "count", hide_if_zero=True, expendable=4),
    Column("active", "Active", "count"),
    Column("local", "This rank", "count"),
)
_LAYERS = (
    Column("name", "Layer", "name", readers="people"),
    Column("what", "Type", "text", readers="people"),
    *_FACTS_FOR_MACHINES,
    Column("each", "Each", "count", readers="people", hide_if_zero=True, expendable=2),
    *_COUNTS,
    Column("bytes", "Bytes", "bytes", readers="machines"),
    Column("buffers", "Buffers", "count", readers="machines"),
    *_EXTRAS,
    Column("share", "Share", "share", readers="people", expendable=1),
)
_LAYERS_AND_BUFFERS = tuple(c._replace(readers="all") if c.key == "buffers" else c for c in _LAYERS)
_TARGETS = (
    Column("target", "Target", "name"),
    *_FACTS_FOR_MACHINES,
    *_COUNTS,
    Column("bytes", "Size", "bytes"),
    Column("buffers", "Buffers", "count"),
    *_EXTRAS,
    Column("ratio", "Ratio", "ratio", readers="people", expendable=1),
)


def outline(report: Report, options: Options) -> Grid:
    """Return the layers of ``report`` as a grid whose leaf rows add up to the total."""
    columns = _honest(_LAYERS_AND_BUFFERS if options.buffers else _LAYERS, [report])
    total, *rows = _rows(_chosen(list(_entries(report.root, options)), options), report, columns)
    kind = report.root.type
    return Grid(
        title=f"{report.target} · {kind}" if kind and kind != report.target else report.target,
        columns=columns,
        rows=tuple(rows),
        totals=(total._replace(role="total"),),
        remarks=remarks(report),
        subject=report.target,
    )


def comparison(reports: Sequence[Report], *, alone: bool = False) -> Grid:
    """Return one row a report, each set against the first; for machines, the first row of each report's own grid.

    ``alone`` says that no grids of the reports' own have said what is wrong with them.
    """
    first = reports[0]
    columns = _honest(_TARGETS, reports)
    rows = []
    for report in reports:
        is_known = first.total and not first.uninitialized and not report.uninitialized
        extra: dict[str, Cell] = {"target": report.target, "ratio": report.total / first.total if is_known else None}
        root = _Entry("", report.root.type, 0, report.root.tally, extras=report.root.extras)
        rows += _rows([root], report, columns, extra)
    said = tuple(fault for report in reports for fault in faults(report)) if alone else ()
    return Grid(f"{len(reports)} targets", columns, tuple(rows), remarks=said, summary=True)


def _honest(columns: tuple[Column, ...], reports: Sequence[Report]) -> tuple[Column, ...]:
    """Return the columns without what people would take for facts, or know anyway.

    Nobody knows what of a checkpoint trains; and of most models all is active, and on this rank.
    """
    told = [report.root.extras for report in reports]
    silent = set()
    if not any(each.inactive for each in told):
        silent.add("active")
    if not any(each.elsewhere for each in told):
        silent.add("local")
    if not any(report.trainable or report.frozen or not report.unknown for report in reports):
        silent |= {"trainable", "frozen"}
    return tuple(c._replace(readers="machines") if c.key in silent else c for c in columns)


_NONE = Extras()


class _Entry(NamedTuple):
    """What one row says."""

    name: str
    type: str
    depth: int
    each: Tally
    times: int = 1  # layers or tensors that this row stands for
    extras: Extras = _NONE  # of each
    role: Role = "layer"
    tied_to: str | None = None  # the name under which it counts
    layer: Layer | None = None  # for a layer: what lies beneath

    @property
    def tally(self) -> Tally:
        """What all that this row stands for adds up to."""
        return self.each if self.times == 1 else self.each * self.times


def _rows(
    entries: Iterable[_Entry], report: Report, columns: Sequence[Column], extra: dict[str, Cell] | None = None
) -> list[Row]:
    # Which counts may grow once the parameters without a shape have one.
    growing = {param.trainable for param in report.params if param.numel is None and param.tied_to is None}
    rows = []
    for entry in entries:
        cells = _cells(entry, report.root.tally, growing) | (extra or {})
        rows.append(Row(tuple(cells[column.key] for column in columns), entry.depth, entry.role))
    return rows


def _cells(entry: _Entry, whole: Tally, growing: set[bool | None]) -> dict[str, Cell]:
    total = entry.tally
    beside = entry.extras * entry.times

    def count(number: int, *, grows: bool = True) -> int:
        return AtLeast(number) if grows and total.uninitialized else number

    return {
        "name": entry.name,
        "what": _what(entry),
        "layer": entry.name,
        "depth": entry.depth,
        "kind": entry.role,
        "type": entry.type,
        "tied_to": entry.tied_to or "",
        "each": count(entry.each.total) if entry.times > 1 else "",
        "total": count(total.total),
        "trainable": count(total.trainable, grows=True in growing),
        "frozen": count(total.frozen, grows=False in growing),
        "unknown": count(total.unknown, grows=None in growing),
        "uninitialized": total.uninitialized,
        "bytes": count(total.nbytes),
        "buffers": beside.buffers,
        "packed": beside.packed,
        "overhead": beside.overhead,
        "active": count(total.total - beside.inactive),
        "local": count(total.total - beside.elsewhere),
        "share": share(total, whole),
    }


def _what(entry: _Entry) -> str:
    """Return what people read in the column of types."""
    if entry.tied_to is not None:
        what = f"= {entry.tied_to or 'the model itself'}"
    else:
        what = f"{exact(entry.times)} × {entry.type}" if entry.times > 1 and entry.type else entry.type
    return f"{entry.role}, {what}" if entry.role in {"buffer", "overhead"} else what


def share(part: Tally, whole: Tally) -> Cell:
    """Return the share of ``part``: a bound, or None, where one of the two may grow."""
    share = part.total / whole.total if whole.total else 0.0
    if not whole.uninitialized:
        return share
    if part.uninitialized == whole.uninitialized:  # what is not known is all in this part
        return 1.0 if part.total == whole.total else ShareAtLeast(share)
    return None if part.uninitialized else ShareAtMost(share)


def _chosen(entries: list[_Entry], options: Options) -> list[_Entry]:
    """Return as many levels of all entries as are asked for, or as the default number of rows has room for."""
    if options.depth == "all" or (options.depth is None and options.params):
        return entries
    depth = _default_depth(entries) if options.depth is None else options.depth
    if options.params:  # what lies deeper still shows its tensors, in the nearest layer that is shown
        return [
            entry if entry.depth <= depth else entry._replace(depth=depth + 1)
            for entry in entries
            if entry.depth <= depth or entry.role != "layer"
        ]
    entries = [entry for entry in entries if entry.depth <= depth]
    too_many = options.depth is None and len(entries) > ROWS_BY_DEFAULT + 1
    return _cut(entries) if options.cut and too_many else entries


def _default_depth(entries: list[_Entry]) -> int:
    at_depth = Counter(entry.depth for entry in entries)
    depth, rows = 1, at_depth[1]
    while at_depth[depth + 1] and rows + at_depth[depth + 1] <= ROWS_BY_DEFAULT:
        depth += 1
        rows += at_depth[depth]
    return depth


def _cut(entries: list[_Entry]) -> list[_Entry]:
    """Keep the default number of rows of a single level, the last of which adds up the others."""
    kept, others = entries[:ROWS_BY_DEFAULT], entries[ROWS_BY_DEFAULT:]  # the first entry is the total
    rest = reduce(add, (entry.tally for entry in others))
    beside = reduce(add, (entry.extras * entry.times for entry in others))
    return [*kept, _Entry(f"… {plural(len(others), 'more row')}", "", 1, rest, extras=beside, role="rest")]


def _entries(root: Layer, options: Options) -> Iterator[_Entry]:
    """Yield all that could be shown, parents first: the model, its layers and their tensors."""
    folded = options.fold and options.depth != "all"
    waiting = [_Entry("", root.type, 0, root.tally, extras=root.extras, layer=root)]
    while waiting:  # not recursive: users nest deeper than Python's stack
        entry = waiting.pop()
        yield entry
        if entry.layer is not None:
            shown = [*_tensors(entry, entry.layer, options), *_children(entry, entry.layer, folded=folded)]
            waiting.extend(reversed(_sorted(shown, options.sort)))


def _children(entry: _Entry, layer: Layer, *, folded: bool) -> Iterator[_Entry]:
    """Yield the layers right below; where they are folded, each run of identical ones as one."""
    for run in _runs(layer.children) if folded else [[child] for child in layer.children]:
        first = run[0]
        name = _below(entry, layer, first.name)
        if len(run) > 1:
            stem, start = _numbered(name) or (name, 0)
            name = f"{stem}[{start}-{start + len(run) - 1}]"
        yield _Entry(
            name,
            first.type,
            entry.depth + 1,
            first.tally,
            entry.times * len(run),
            first.extras,
            tied_to=_as_shown(first.same_as, first.name, name),
            layer=first,
        )


def _runs(siblings: Iterable[Layer]) -> list[list[Layer]]:
    """Split siblings into runs of identical ones with consecutive numbers for names."""
    runs: list[list[Layer]] = []
    for layer in siblings:
        if runs and _continues(runs[-1][-1], layer):
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return runs


def _continues(before: Layer, layer: Layer) -> bool:
    if before.kind != layer.kind:
        return False
    numbered = _numbered(before.name)
    return numbered is not None and _numbered(layer.name) == (numbered[0], numbered[1] + 1)


def _numbered(name: str) -> tuple[str, int] | None:
    """Return «layers.» and 7 for «layers.7»; None for a name that does not end in a number."""
    match = re.fullmatch(r"(.*?)(0|[1-9][0-9]{0,17})", name, re.DOTALL)
    return (match[1], int(match[2])) if match else None


def _tensors(entry: _Entry, layer: Layer, options: Options) -> list[_Entry]:
    """Return what the layer holds itself, if it is asked for, or if its children's rows would not add up without it."""
    if not (options.params or layer.children or entry.depth == 0):
        return []
    params = [_tensor(entry, layer, param, "param") for param in layer.params]
    buffers = [_tensor(entry, layer, buffer, "buffer") for buffer in layer.buffers] if options.buffers else []
    overhead = [_tensor(entry, layer, tensor, "overhead") for tensor in layer.overhead]
    if options.params:
        return params + overhead + buffers
    return _abridged(params, entry, "Parameter") + _abridged(buffers, entry, "Buffer")


def _tensor(entry: _Entry, layer: Layer, tensor: Param | Buffer, role: Role) -> _Entry:
    if tensor.shape is None:
        shape = "no shape yet" if tensor.numel is None else "nested"
    else:
        shape = ", ".join(map(str, tensor.shape))
    name = _below(entry, layer, tensor.name)
    return _Entry(
        name,
        f"{tensor.dtype} [{shape}]",
        entry.depth + 1,
        tally([tensor]) if isinstance(tensor, Param) else Tally(),
        entry.times,
        _extras_of(tensor, role),
        role,
        _as_shown(tensor.tied_to, tensor.name, name),
    )


def _extras_of(tensor: Param | Buffer, role: Role) -> Extras:
    if isinstance(tensor, Param):
        return extras([tensor])
    return extras((), [tensor]) if role == "buffer" else extras((), (), [tensor])


def _abridged(tensors: list[_Entry], entry: _Entry, kind: str) -> list[_Entry]:
    """Return one entry for tensors that are too many to name."""
    if len(tensors) <= _OWN_TENSORS_BY_NAME:
        return tensors
    each = reduce(add, (tensor.each for tensor in tensors))
    beside = reduce(add, (tensor.extras for tensor in tensors))
    name = f"{entry.name}.*" if entry.name else "*"
    return [tensors[0]._replace(name=name, type=f"{len(tensors)} × {kind}", each=each, extras=beside, tied_to=None)]


def _as_shown(other: str | None, name: str, shown: str) -> str | None:
    """Return how a name reads beside one that is shown as another: what the two are in is folded in both."""
    if other is None or name == shown:
        return other
    parts, above, above_shown = other.split("."), name.split("."), shown.split(".")
    for place, (part, own, own_shown) in enumerate(zip(parts, above, above_shown, strict=False)):
        if part != own:
            break
        parts[place] = own_shown
    return ".".join(parts)


def _below(entry: _Entry, layer: Layer, name: str) -> str:
    """Return how a name below ``layer`` reads where the layer itself is shown as ``entry``."""
    own = name[len(layer.name) + 1 :] if layer.name else name
    return f"{entry.name}.{own}" if entry.name else own


def _sorted(siblings: list[_Entry], sort: Sort) -> list[_Entry]:
    if sort == "size":
        return sorted(siblings, key=lambda entry: -entry.each.total * entry.times)
    if sort == "name":
        return sorted(siblings, key=lambda entry: _natural(entry.name))
    return siblings


def _natural(name: str) -> list[str | int]:
    """Return a key that sorts «layers.2» before «layers.10»."""
    return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"([0-9]{1,18})", name))]


def remarks(report: Report) -> tuple[Remark, ...]:
    """Return what is to be said under a report: sizes, ties and notes."""
    return (_sizes(report), *_ties(report), *_notes(report.notes))


def faults(report: Report) -> list[Remark]:
    """Return what there is to look into, with the target's name."""
    return [Remark(f"{report.target}: {said.text}", fault=True) for said in _notes(report.notes) if said.fault]


def dangers(report: Report) -> list[str]:
    """Return what everybody has to know who may load the file, whatever else a result says of it."""
    return [f"{report.target}: {note.code}: {note.message}" for note in report.notes if note.code == "calls"]


def _sizes(report: Report) -> Remark:
    counts = report.dtypes
    dtypes = ", ".join(counts if len(counts) == 1 else (f"{dtype} {exact(count)}" for dtype, count in counts.items()))
    at_least = "at least " if report.uninitialized else ""
    said = f"{at_least}{size(report.nbytes)} of parameters" + (f" ({dtypes})" if dtypes else "")
    buffers = report.buffers
    if buffers.total:
        said += f" · {exact(buffers.total)} in buffers ({size(buffers.nbytes)}), not part of the total"
    overhead = report.overhead
    if overhead.total:
        said += f" · {exact(overhead.total)} in scales and the like ({size(overhead.nbytes)}), not part of the total"
    return Remark(said)


def _ties(report: Report) -> Iterator[Remark]:
    ties = list(report.ties.items())
    sizes = {param.name: param.numel for param in report.params} if ties else {}
    for name, others in ties[:_REMARKS_OF_A_KIND]:
        numel = sizes.get(name)
        listed = ", ".join(others) if len(others) <= _TIES_BY_NAME else f"{others[0]} and {len(others) - 1} more"
        yield Remark(f"tied: {listed} = {name}" + ("" if numel is None else f" ({exact(numel)}, counted once)"))
    if len(ties) > _REMARKS_OF_A_KIND:
        more = plural(len(ties) - _REMARKS_OF_A_KIND, "more tensor")
        yield Remark(f"tied: {more} with several names; --params shows them")


def _notes(notes: Iterable[Note]) -> Iterator[Remark]:
    by_code: dict[str, list[Note]] = {}
    for note in notes:
        by_code.setdefault(note.code, []).append(note)
    for code, alike in by_code.items():
        said = [f"{note.where}: {note.message}" if note.where else note.message for note in alike]
        more = len(said) - _REMARKS_OF_A_KIND
        if more > 1:  # one alone takes no more room than to say that there is one
            said[_REMARKS_OF_A_KIND:] = [f"{exact(more)} more of the kind; -f json lists them all"]
        yield from (Remark(f"{code}: {text}", code not in _FACTS) for text in said)
