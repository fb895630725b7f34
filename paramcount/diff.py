"""What is different between two counts: Side × Side -> Changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any, Final, Literal, TypeVar, cast, get_args

from paramcount.grid import AtLeast, Cell, Column, Grid, Remark, Role, Row
from paramcount.inventory import Buffer, Form, Note, Param, Special, retie
from paramcount.loading import Beside, Loadable, Loading, Taken, Tensor, loading
from paramcount.patterns import above, nearest
from paramcount.report import Report, Tally, tally, tally_buffers
from paramcount.units import exact, plural, size

Kind = Literal[
    "added",
    "removed",
    "renamed",  # all of it, with nothing else changed
    "changed",  # another number of elements, or other parameters
    "frozen",  # elements went from trainable to frozen
    "unfrozen",
    "retyped",  # a module of another class
    "reshaped",  # as many elements in another shape
    "dtype",  # another dtype, or as many elements in another number of bytes
    "tied",
    "untied",
]
_KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_T = TypeVar("_T")
_Tensor = TypeVar("_Tensor", Param, Buffer)

# What PyTorch puts around a module without changing it: torch.compile, FSDP, activation checkpointing.
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# What has a module in it under this one name, and maybe something of its own beside: DataParallel, AveragedModel,
# torch.compile, Lightning Fabric.
_AROUND_ALL = frozenset({"module", "_orig_mod", "_forward_module"})
_MOST_WRAPPERS = 8  # around one another, before it is enough
_MOST_PREFIXES = 4  # that are tried of a state dict with several
_REMARKS_OF_A_KIND = 3


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two counts that are compared."""

    label: str  # as the user named it
    tally: Tally  # of the whole model
    buffers: int  # elements
    layers: Mapping[str, Tally]  # by dotted name: all that hold parameters, tied ones included
    types: Mapping[str, str] = field(default_factory=dict)  # of layers, where they are known
    params: tuple[Param, ...] | None = None  # None: not known
    state: tuple[Tensor, ...] = ()  # what its state dict holds, every name
    form: Form = "other"  # what that is the state dict of
    special: tuple[Special, ...] = ()  # of that

    @classmethod
    def of(cls, report: Report, label: str | None = None) -> Side:
        """Return a report as a side; its label is its target unless another is given."""
        holding = above(param.name for param in report.params)
        layers = [layer for layer in report.layers if layer.name in holding]
        return cls(
            report.target if label is None else label,
            report.root.tally,
            report.buffers.total,
            {layer.name: layer.tally for layer in layers},
            {layer.name: layer.type for layer in layers},
            report.params,
            _state(report),
            report.form,
            report.special,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the totals as the JSON format has them."""
        return {
            "target": self.label,
            **_counts(self.tally),
            "uninitialized": self.tally.uninitialized,
            "buffers": self.buffers,
        }


@dataclass(frozen=True, slots=True)
class Part:
    """What one side has of what one row is about."""

    name: str  # of a layer; "" is the model itself
    type: str  # "" where it is not known
    tally: Tally

    def to_dict(self) -> dict[str, Any]:
        """Return the part as the JSON format has it."""
        return {"name": self.name, "type": self.type, **_counts(self.tally)}


@dataclass(frozen=True, slots=True)
class ParamChange:
    """A parameter that is another on the other side, or not there."""

    kinds: tuple[Kind, ...]
    old: Param | None
    new: Param | None

    @property
    def name(self) -> str:
        """The dotted name, on the side that has one."""
        return _either(self.old, self.new).name

    @property
    def is_reformed(self) -> bool:
        """Whether its shape or its dtype is another."""
        return "reshaped" in self.kinds or "dtype" in self.kinds

    def to_dict(self) -> dict[str, Any]:
        """Return the change as the JSON format has it."""
        return {
            "name": self.name,
            "change": list(self.kinds),
            "old": self.old and _param_dict(self.old),
            "new": self.new and _param_dict(self.new),
        }


@dataclass(frozen=True, slots=True)
class Change:
    """One row: a layer that differs, or all of one that was added, removed, renamed, frozen or unfrozen as a whole."""

    kinds: tuple[Kind, ...]  # at least one, in the order of Kind
    old: Part | None  # None: it is not there
    new: Part | None
    own: bool = False  # only what it holds itself: it has layers below it, whose changes have rows of their own
    params: tuple[ParamChange, ...] = ()  # where both sides have the layer and know its parameters

    @property
    def layer(self) -> str:
        """The dotted name, on the new side if it is there."""
        return self._part.name

    @property
    def was(self) -> str:
        """The name on the old side, where it is another."""
        return self.old.name if self.old and self.old.name != self.layer else ""

    @property
    def type(self) -> str:
        """The type, or «Linear → Conv2d»."""
        types = [part.type for part in (self.old, self.new) if part is not None]
        return " → ".join(dict.fromkeys(types)) if all(types) else "".join(types)

    @property
    def difference(self) -> int | None:
        """How many elements it has more; None where a parameter without a shape leaves that open."""
        return _difference(_tally(self.old), _tally(self.new))

    def to_dict(self) -> dict[str, Any]:
        """Return the change as the JSON format has it."""
        return {
            "layer": self.layer,
            "change": list(self.kinds),
            "own": self.own,
            "old": self.old and self.old.to_dict(),
            "new": self.new and self.new.to_dict(),
            "difference": self.difference,
            "params": [param.to_dict() for param in self.params],
        }

    @property
    def _part(self) -> Part:
        return _either(self.new, self.old)


_COLUMNS = (
    Column("layer", "Layer", "name"),
    Column("was", "Was", "name", hide_if_zero=True),
    Column("type", "Type", "text", hide_if_zero=True, expendable=2),
    Column("change", "Change", "text"),
    Column("old", "Old", "count"),
    Column("new", "New", "count"),
    Column("difference", "Difference", "change"),
    Column("moved", "Trainable", "change", readers="people", hide_if_zero=True, expendable=1),
    Column("old_trainable", "Old trainable", "count", readers="machines"),
    Column("new_trainable", "New trainable", "count", readers="machines"),
)


@dataclass(frozen=True, slots=True)
class Changes:
    """All that is different; the rows' differences add up to that of the totals."""

    old: Side
    new: Side
    rows: tuple[Change, ...]  # in the order of the new model, what was removed where it used to be
    notes: tuple[Note, ...] = ()  # how the two were compared
    loading: Loading | None = None  # where one of them is a state dict, and the other has one, too

    @property
    def different(self) -> bool:
        """Whether anything differs."""
        if self.loading is not None:
            return self.loading.different
        return bool(self.rows) or self.old.buffers != self.new.buffers

    @property
    def difference(self) -> int | None:
        """How many elements the new side has more; None where a parameter without a shape leaves that open."""
        return _difference(self.old.tally, self.new.tally)

    def grids(self, *, fold: bool = True) -> list[Grid]:
        """Return one table: a row a change, or a key of a state dict; ``fold`` is for people."""
        title = f"{self.old.label} → {self.new.label}"
        if self.loading is not None:
            grid = self.loading.grid(title, fold=fold)
            return [replace(grid, remarks=(*grid.remarks, *self._sums()))]
        whole = Change((), Part("", "", self.old.tally), Part("", "", self.new.tally))
        moved = any({"frozen", "unfrozen"} & set(change.kinds) for change in self.rows)
        return [
            Grid(
                title=title,
                columns=_COLUMNS,
                rows=tuple(_row(change, moved=moved) for change in self.rows),
                totals=(_row(whole, moved=moved, role="total"),),
                remarks=tuple(self._remarks()),
                subject=title,
            )
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON document says of the two."""
        return {
            "old": self.old.to_dict(),
            "new": self.new.to_dict(),
            "changes": [change.to_dict() for change in self.rows],
            "notes": [{"code": note.code, "where": note.where, "message": note.message} for note in self.notes],
            **({"state_dict": self.loading.to_dict()} if self.loading is not None else {}),
        }

    def _sums(self) -> Iterator[Remark]:
        """Yield what the two come to, where the rows do not add up to it."""
        old, new = self.old.tally, self.new.tally
        if (old.total, old.uninitialized) != (new.total, new.uninitialized):
            yield Remark(f"{_figure(old)} → {_figure(new)} parameters, each tensor once")
        if old.nbytes != new.nbytes:
            yield Remark(" → ".join(_sizes(old.nbytes, new.nbytes)) + " of parameters")

    def _remarks(self) -> Iterator[Remark]:
        if not self.different:
            yield Remark("no difference")
        if self.old.tally.nbytes != self.new.tally.nbytes:
            yield Remark(" → ".join(_sizes(self.old.tally.nbytes, self.new.tally.nbytes)) + " of parameters")
        if self.old.buffers != self.new.buffers:
            yield Remark(f"{exact(self.old.buffers)} → {exact(self.new.buffers)} in buffers, not part of the total")
        yield from (Remark(note.message) for note in self.notes)
        params = [param for change in self.rows for param in change.params]
        yield from _first(
            [f"{p.name}: {_form(p.old)} → {_form(p.new)}" for p in params if p.old and p.new and p.is_reformed]
        )
        yield from _first([f"tied: {p.name} = {p.new.tied_to}" for p in params if "tied" in p.kinds and p.new])
        yield from _first([f"untied: {p.name} ≠ {p.old.tied_to}" for p in params if "untied" in p.kinds and p.old])


def _row(change: Change, *, moved: bool, role: Role = "layer") -> Row:
    old, new = _tally(change.old), _tally(change.new)
    # A container that holds nothing itself has a row for its type alone.
    is_bare = change.own and bool(change.layer) and old == new == Tally()
    cells: dict[str, Cell] = {
        "layer": f"{change.layer}.*".removeprefix(".") if change.own and not is_bare else change.layer,
        "was": change.was,
        "type": change.type,
        "change": ", ".join(change.kinds),
        "old": "" if is_bare else _count(old),
        "new": "" if is_bare else _count(new),
        "difference": "" if is_bare else change.difference,
        "moved": _moved(old, new) if moved and not is_bare else "",
        "old_trainable": None if old.unknown else old.trainable,
        "new_trainable": None if new.unknown else new.trainable,
    }
    return Row(tuple(cells[column.key] for column in _COLUMNS), role=role)


def changes(old: Side, new: Side) -> Changes:
    """Compare two counts.

    A layer is one that holds parameters. It has a row if what it holds itself differs; where all below a layer was
    added, removed, frozen or unfrozen, the layer has the one row. Names are compared without what wraps all of a
    model (``module.``, ``_orig_mod.``) on one side only, which a note says. Whether an element trains is compared
    where both sides say it.
    """
    stripped = _aligned(old, new)
    notes = [
        Note(
            "wrapped",
            "",
            f"the names of {each.side.label} are compared without {' and '.join(f'{part}.' for part in each.parts)}",
        )
        for each in stripped
        if each.parts
    ]
    found = _loading(*stripped)
    old, new = (each.side for each in stripped)
    old, new = _told_apart(old, new), _told_apart(new, old)
    rows = tuple(_renamed(_rows(_drafts(old, new))))
    for side, other in ((old, new), (new, old)):
        if side.tally.unknown and not other.tally.unknown:
            notes.append(Note("unknown", "", f"{side.label} does not say what trains, so that is not compared"))
    return Changes(old, new, rows, tuple(notes), found)


def own_tallies(whole: Tally, layers: Mapping[str, Tally]) -> dict[str, Tally]:
    """Return what each layer has beside the layers below it, and under "" what is in none: all add up to ``whole``."""
    own = {"": whole, **layers}
    for name, of_all in layers.items():
        parent = nearest(name, layers)
        own[parent] += of_all * -1
    return own


# Names ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stripped:
    """A side under names that can be compared, and what it is without."""

    side: Side
    prefix: tuple[str, ...] = ()  # parts that names start with
    inner: tuple[str, ...] = ()  # parts that are taken out wherever they stand
    within: str = ""  # the key of a mapping in a state dict, which is all that is left
    beside: tuple[str, ...] = ()  # names of its state dict that do not start with the prefix

    @property
    def parts(self) -> tuple[str, ...]:
        """All that its names are without."""
        return (*self.inner, *filter(None, [self.within]), *self.prefix)


def _aligned(old: Side, new: Side) -> tuple[_Stripped, _Stripped]:
    """Return both sides under names that can be compared."""
    aligned_old = _unwrapped(old, new)
    return aligned_old, _unwrapped(new, aligned_old.side)


def _unwrapped(side: Side, other: Side) -> _Stripped:
    """Return ``side`` without what wraps it and not ``other``: under the names most of which both have."""
    others, names = _names(other), _names(side)
    if names <= others or others <= names:  # which no other names of the side could better
        return _Stripped(side)

    def shared(stripped: _Stripped) -> int:
        number = len(_names(stripped.side) & others)
        # Of one part of several, what little it has in common with something else says nothing.
        return 0 if stripped.beside and 2 * number < len(others) else number

    return max(_strippings(side, other), key=shared)


def _strippings(side: Side, other: Side) -> Iterator[_Stripped]:
    """Yield the side as it is, and then without more and more of what its names have in common."""
    yield from _shortened(_Stripped(side), other)
    names = _names(side)
    if wrappers := _WRAPPERS & {part for name in names for part in name.split(".")}:
        unwrapped = _without(side, _without_wrappers)
        yield from _shortened(_Stripped(unwrapped, inner=tuple(sorted(wrappers))), other)


def _shortened(whole: _Stripped, other: Side) -> Iterator[_Stripped]:
    """Yield it as it is, then without the first part of its names, and so on.

    A state dict may have keys beside: they stay as they are, as where its user takes the prefix off the others. What
    a wrapper of PyTorch has beside the module in it is not there for what is loaded into that module.
    """
    yield whole
    names, others, prefix = _names(whole.side), _names(other), ""
    may_have_more = whole.side.form == "state dict" and other.form in _OF_STATE_DICTS
    for _ in range(_MOST_WRAPPERS):
        below = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        firsts = Counter(name.partition(".")[0] for name in below if "." in name)
        is_whole = len(firsts) == 1 and all(name.partition(".")[0] in firsts for name in below)
        starts = [
            f"{prefix}{first}."
            for first, _ in firsts.most_common(_MOST_PREFIXES)
            if is_whole or may_have_more or (first in _AROUND_ALL and other.form == "state dict")
        ]
        if not starts:
            return
        for start in starts:
            if any(name.startswith(start) and name.removeprefix(start) in others for name in names):
                cut = _cut(whole, start)
                yield from () if cut is None else (cut,)
        prefix = starts[0]


def _cut(whole: _Stripped, start: str) -> _Stripped | None:
    """Return a side without what its names start with; None where two names would become one."""
    side, within, prefix = whole.side, "", start
    for each in side.special:
        if each.kind == "nested" and start.startswith(f"{each.name}."):
            within, prefix = each.name, start.removeprefix(f"{each.name}.")
            side = _without(_only_below(side, f"{within}."), _off(f"{within}."))
    if prefix:
        below = [tensor.name.removeprefix(prefix) for tensor in side.state if tensor.name.startswith(prefix)]
        beside = {tensor.name for tensor in side.state if not tensor.name.startswith(prefix)}
        if side.form == "module":
            side, beside = _only_below(side, prefix), set()
        elif not beside.isdisjoint(below):
            return None
        side = _without(side, _off(prefix))
        return _Stripped(side, tuple(prefix.split(".")[:-1]), whole.inner, within, tuple(sorted(beside)))
    return _Stripped(side, inner=whole.inner, within=within)


def _off(start: str) -> Callable[[str], str]:
    """Return what takes off what names start with; a layer that is itself what they start with has no name left."""
    return lambda name: "" if start.startswith(f"{name}.") else name.removeprefix(start)


def _only_below(side: Side, start: str) -> Side:
    """Return a wrapper without what is its own."""
    return replace(side, state=tuple(tensor for tensor in side.state if tensor.name.startswith(start)))


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _names(side: Side) -> set[str]:
    return {*side.layers, *(param.name for param in side.params or ())}


def _without(side: Side, renamed: Callable[[str], str]) -> Side:
    """Return ``side`` under other names; a wrapper and what it wraps become one layer, of the type of the latter."""
    layers: dict[str, Tally] = {}
    for name, of_all in side.layers.items():
        layers.setdefault(renamed(name), of_all)
    types = {renamed(name): kind for name, kind in side.types.items()}
    layers.pop("", None)  # the wrapper of all is the model itself
    types.pop("", None)
    params = side.params and tuple(_renamed_tensor(param, renamed) for param in side.params)
    state = tuple(
        _renamed_tensor(tensor, renamed) if isinstance(tensor, Param) else _renamed_other(tensor, renamed)
        for tensor in side.state
    )
    special = tuple(
        each if each.kind in _OF_THE_FILE else each._replace(name=renamed(each.name)) for each in side.special
    )
    return replace(side, layers=layers, types=types, params=params, state=state, special=special)


def _renamed_tensor(tensor: _Tensor, renamed: Callable[[str], str]) -> _Tensor:
    return tensor._replace(name=renamed(tensor.name), tied_to=tensor.tied_to and renamed(tensor.tied_to))


def _renamed_other(tensor: Buffer | Beside, renamed: Callable[[str], str]) -> Buffer | Beside:
    if isinstance(tensor, Buffer):
        return _renamed_tensor(tensor, renamed)
    return tensor._replace(name=renamed(tensor.name))


def _merged(old: Iterable[str], new: Iterable[str]) -> list[str]:
    """Return all names in the order of ``new``, those that only ``old`` has behind what they follow there."""
    in_new = dict.fromkeys(new)
    following: dict[str, list[str]] = {}
    before = ""
    for name in old:
        if name in in_new:
            before = name
        else:
            following.setdefault(before, []).append(name)
    return [each for name in ("", *in_new) for each in (name, *following.get(name, ()))]


# Layers ---------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Draft:
    """A layer, and what it holds itself on either side."""

    name: str
    above: str  # the nearest layer on either side
    old: Part | None
    new: Part | None
    params: list[ParamChange] = field(default_factory=list)
    below: list[_Draft] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing itself."""
        return all(part is None or part.tally == Tally() for part in (self.old, self.new))

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """In which ways what it holds itself differs."""
        if self.old is None:
            return ("added",)
        if self.new is None:
            return ("removed",)
        found = set(_kinds(self.old, self.new)).union(*(_of_layer(param) for param in self.params))
        return tuple(kind for kind in _KINDS if kind in found and not (kind == "reshaped" and "changed" in found))


def _drafts(old: Side, new: Side) -> dict[str, _Draft]:
    """Return all layers of either side, and under "" the model itself."""
    olds, news = _parts(old), _parts(new)
    names = _merged(old.layers, new.layers)
    either = dict.fromkeys(names)
    drafts = {name: _Draft(name, nearest(name, either), olds.get(name), news.get(name)) for name in names}
    for draft in drafts.values():
        if draft.name:
            drafts[draft.above].below.append(draft)
    for param in _param_changes(old.params, new.params):
        owner = drafts[nearest(param.name, either)]
        if owner.old is not None and owner.new is not None:
            owner.params.append(param)
    return drafts


def _parts(side: Side) -> dict[str, Part]:
    own = own_tallies(side.tally, side.layers)
    return {name: Part(name, side.types.get(name, ""), tally) for name, tally in own.items()}


def _kinds(old: Part, new: Part) -> Iterator[Kind]:
    before, after = old.tally, new.tally
    if (before.total, before.uninitialized) != (after.total, after.uninitialized):
        yield "changed"
    elif before.nbytes != after.nbytes:
        yield "dtype"
    if not before.unknown and not after.unknown:
        if after.trainable < before.trainable and after.frozen > before.frozen:
            yield "frozen"
        if after.trainable > before.trainable and after.frozen < before.frozen:
            yield "unfrozen"
    if old.type and new.type and old.type != new.type:
        yield "retyped"


_Fate = Literal["added", "removed", "frozen", "unfrozen", "mixed"]
_FATES: Mapping[tuple[Kind, ...], _Fate] = {
    ("added",): "added",
    ("removed",): "removed",
    ("frozen",): "frozen",
    ("unfrozen",): "unfrozen",
}


def _fates(drafts: Iterable[_Draft]) -> dict[str, _Fate | None]:
    """Return what happened to all of each layer; None: it holds nothing that anything could happen to."""
    fates: dict[str, _Fate | None] = {}
    for draft in sorted(drafts, key=lambda draft: -draft.name.count(".")):  # the lowest first
        own = None if draft.is_empty and not draft.kinds else _FATES.get(draft.kinds, "mixed")
        found = ({own} | {fates[below.name] for below in draft.below}) - {None}
        fate = found.pop() if len(found) == 1 else "mixed" if found else None
        is_on_both_sides = draft.old is not None and draft.new is not None
        fates[draft.name] = "mixed" if is_on_both_sides and fate in {"added", "removed"} else fate
    return fates


def _rows(drafts: Mapping[str, _Draft]) -> Iterator[_Row]:
    """Yield each change, with the layers that it stands for."""
    model, *layers = drafts.values()
    fates = _fates(layers)
    tops = {"": ""}
    for draft in sorted(layers, key=lambda draft: draft.name.count(".")):  # the highest first
        follows = fates.get(draft.above) not in {None, "mixed"}
        tops[draft.name] = tops[draft.above] if follows else draft.name
    groups: dict[str, list[_Draft]] = {}
    for draft in (model, *layers):
        groups.setdefault(tops[draft.name], []).append(draft)
    for name, group in groups.items():
        top, fate = drafts[name], fates.get(name)
        if fate is not None and fate != "mixed":
            yield _Row(_whole(fate, top, group), tuple(group))
        elif top.kinds:
            own = not name or bool(top.below)
            yield _Row(Change(top.kinds, top.old, top.new, own, tuple(top.params)), (top,))


def _whole(fate: Kind, top: _Draft, group: Sequence[_Draft]) -> Change:
    """Return one change for layers that all fared alike."""
    params = tuple(param for draft in group for param in draft.params)
    old = top.old and _sum(top.old, [draft.old for draft in group])
    new = top.new and _sum(top.new, [draft.new for draft in group])
    return Change((fate,), old, new, params=params)


def _sum(top: Part, parts: Iterable[Part | None]) -> Part:
    return replace(top, tally=reduce(add, (part.tally for part in parts if part is not None)))


@dataclass(frozen=True, slots=True)
class _Row:
    change: Change
    group: tuple[_Draft, ...]  # the layers that it stands for

    @property
    def likeness(self) -> tuple[object, ...]:
        """What two layers have in common that differ in nothing but their names."""
        start = len(self.change.layer)
        parts = [_either(draft.old, draft.new) for draft in self.group]
        return tuple(sorted((part.name[start:], astuple(part.tally)) for part in parts))


def _renamed(rows: Iterable[_Row]) -> Iterator[Change]:
    """Yield the changes; what was removed and what was added are one if the two are like each other and no third."""
    rows = list(rows)
    removed, added = (_alone(row for row in rows if row.change.kinds == (kind,)) for kind in ("removed", "added"))
    pairs = {
        added[likeness].layer: change
        for likeness, change in removed.items()
        if likeness in added and _may_be_same(change, added[likeness])
    }
    gone = {change.layer for change in pairs.values()}
    for change in (row.change for row in rows):
        if change.kinds == ("added",) and change.layer in pairs:
            yield Change(("renamed",), pairs[change.layer].old, change.new)
        elif change.kinds != ("removed",) or change.layer not in gone:
            yield change


def _alone(rows: Iterable[_Row]) -> dict[tuple[object, ...], Change]:
    """Return the changes that are like no other, by their likeness."""
    alike: dict[tuple[object, ...], list[Change]] = {}
    for row in rows:
        alike.setdefault(row.likeness, []).append(row.change)
    return {likeness: changes[0] for likeness, changes in alike.items() if len(changes) == 1}


def _may_be_same(old: Change, new: Change) -> bool:
    return old.difference != 0 and (old.type == new.type or not old.type or not new.type)


# Parameters -----------------------------------------------------------------------------------------------------------


def _param_changes(old: Sequence[Param] | None, new: Sequence[Param] | None) -> Iterator[ParamChange]:
    """Yield the parameters that differ, where both sides know theirs."""
    if old is None or new is None:
        return
    olds, news = ({param.name: param for param in params} for params in (old, new))
    for name in _merged(olds, news)[1:]:
        before, after = olds.get(name), news.get(name)
        found = {*_param_kinds(before, after), *_tie_kinds(before, after, olds, news)}
        if found:
            yield ParamChange(tuple(kind for kind in _KINDS if kind in found), before, after)


def _param_kinds(old: Param | None, new: Param | None) -> Iterator[Kind]:
    if old is None:
        yield "added"
    elif new is None:
        yield "removed"
    elif old.tied_to is None or new.tied_to is None:  # else it is told where it counts
        if old.shape != new.shape:
            yield "reshaped"
        if old.dtype != new.dtype:
            yield "dtype"
        if old.trainable is not None and new.trainable is not None and old.trainable != new.trainable:
            yield "unfrozen" if new.trainable else "frozen"


def _tie_kinds(
    old: Param | None, new: Param | None, olds: Mapping[str, Param], news: Mapping[str, Param]
) -> Iterator[Kind]:
    if new is not None and new.tied_to is not None and not _are_tied(new.name, new.tied_to, olds):
        yield "tied"
    if old is not None and old.tied_to is not None and not _are_tied(old.name, old.tied_to, news):
        yield "untied"


def _are_tied(name: str, other: str, params: Mapping[str, Param]) -> bool:
    if name not in params or other not in params:
        return False
    return (params[name].tied_to or name) == (params[other].tied_to or other)


def _of_layer(param: ParamChange) -> set[Kind]:
    """Return what a parameter's change is to its layer."""
    kinds = set(param.kinds)
    if kinds & {"added", "removed"}:
        is_counted = _either(param.old, param.new).tied_to is None
        return (kinds - {"added", "removed"}) | ({"changed"} if is_counted or len(kinds) == 1 else set())
    return kinds


def _form(param: Param) -> str:
    shape = "no shape yet" if param.shape is None else ", ".join(map(str, param.shape))
    return f"{param.dtype} [{shape}]"


# State dicts ----------------------------------------------------------------------------------------------------------

_BESIDE_TENSORS = ("extra state", "no tensor", "left out")
_OF_THE_FILE = ("nested", "part")  # whose names are keys in a file as it is
_OF_STATE_DICTS: Final[tuple[Form, ...]] = ("module", "state dict")


def _state(report: Report) -> tuple[Tensor, ...]:
    """Return what the state dict of a model holds, in its order: every name, but no buffer that is not persistent."""
    return (
        *(
            tensor if tensor.key is None else tensor._replace(name=tensor.key)
            for layer in report.root.walk()
            for tensors in (layer.params, [buffer for buffer in layer.buffers if buffer.persistent])
            for tensor in tensors
        ),
        *(
            Beside(each.name, each.shape, each.dtype or each.kind)
            for each in report.special
            if each.kind in _BESIDE_TENSORS
        ),
    )


def _loading(old: _Stripped, new: _Stripped) -> Loading | None:
    """Return how one side loads into the other: the state dict into the module, of two the new one."""
    forms = old.side.form, new.side.form
    if "other" in forms or "state dict" not in forms:
        return None
    if any(param.packed for each in (old, new) for param in each.side.params or ()):
        return None  # which stand under one name for what a state dict has under several
    by, of = (new, old) if forms[1] == "module" else (old, new)
    return loading(
        Loadable(by.side.label, by.side.state, by.side.special, is_model=by.side.form == "module"),
        Loadable(of.side.label, of.side.state, of.side.special),
        Taken(of.prefix, of.inner, of.beside),
        wrapper="".join(f"{part}." for part in by.parts),
        within=of.within,
    )


def _told_apart(side: Side, other: Side) -> Side:
    """Return a state dict's side with those tensors as parameters, and those as buffers, that the module has as such.

    The names of tensors tell the two apart only where they are those of well-known buffers.
    """
    if side.form != "state dict" or other.form != "module" or side.params is None:
        return side
    kinds = {tensor.name: type(tensor) for tensor in other.state if not isinstance(tensor, Beside)}
    params, buffers = list[Param](), list[Buffer]()
    for tensor in side.state:
        if isinstance(tensor, Beside):
            continue
        if kinds.get(tensor.name, type(tensor)) is Buffer:
            buffers.append(tensor if isinstance(tensor, Buffer) else Buffer(*tensor[:5], tensor.tied_to))
        else:
            params.append(tensor if isinstance(tensor, Param) else Param(*tensor[:5], None, tensor.tied_to))
    if {param.name for param in params} == {param.name for param in side.params}:
        return side
    counted = retie(params)
    holding = above(param.name for param in counted)
    layers = {name: Tally() for name in (*(name for name in side.layers if name in holding), *sorted(holding))}
    for param in counted:
        name, own = param.name, tally((param,))
        while name := nearest(name, layers):
            layers[name] += own
    of_buffers = tally_buffers(retie(buffers)).total
    return replace(side, tally=tally(counted), buffers=of_buffers, layers=layers, params=counted)


# Numbers --------------------------------------------------------------------------------------------------------------


def _tally(part: Part | None) -> Tally:
    return Tally() if part is None else part.tally


def _difference(old: Tally, new: Tally) -> int | None:
    return None if old.uninitialized or new.uninitialized else new.total - old.total


def _moved(old: Tally, new: Tally) -> Cell:
    """Return how many elements more train."""
    if old.uninitialized or new.uninitialized or old.unknown or new.unknown:
        return None
    return new.trainable - old.trainable


def _count(tally: Tally) -> int:
    return AtLeast(tally.total) if tally.uninitialized else tally.total


def _figure(tally: Tally) -> str:
    return f"{'≥ ' if tally.uninitialized else ''}{exact(tally.total)}"


def _counts(tally: Tally) -> dict[str, int]:
    return {
        "total": tally.total,
        "trainable": tally.trainable,
        "frozen": tally.frozen,
        "unknown": tally.unknown,
        "bytes": tally.nbytes,
    }


def _param_dict(param: Param) -> dict[str, Any]:
    return {
        "shape": None if param.shape is None else list(param.shape),
        "dtype": param.dtype,
        "trainable": param.trainable,
        "tied_to": param.tied_to,
    }


def _sizes(old: int, new: int) -> tuple[str, str]:
    """Return two numbers of bytes, rounded where they can be told apart."""
    rounded = size(old), size(new)
    return rounded if rounded[0] != rounded[1] else (f"{exact(old)} B", f"{exact(new)} B")


def _either(one: _T | None, other: _T | None) -> _T:
    """Return the first of two that is there; one is."""
    return one if one is not None else cast("_T", other)


def _first(said: Sequence[str]) -> Iterator[Remark]:
    yield from (Remark(text) for text in said[:_REMARKS_OF_A_KIND])
    if len(said) > _REMARKS_OF_A_KIND:
        more = plural(len(said) - _REMARKS_OF_A_KIND, "more parameter")
        yield Remark(f"{more} of the kind; -f json lists them all")
