"""The models that a library offers, each with its totals: what ``paramcount list`` shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from paramcount.grid import AtLeast, Cell, Column, Grid, Row
from paramcount.inventory import Inventory
from paramcount.report import BufferTally, Tally, tally, tally_buffers
from paramcount.units import plural

Sort = Literal["name", "size"]

_NAMES = (Column("target", "Model", "name"), Column("source", "Source", "text"))
_COUNTS = (
    Column("target", "Model", "name"),
    Column("source", "Source", "text", readers="machines"),
    Column("type", "Type", "text", hide_if_zero=True, expendable=1),
    Column("total", "Parameters", "count"),
    Column("trainable", "Trainable", "count"),
    Column("frozen", "Frozen", "count"),
    Column("unknown", "Unknown", "count", hide_if_zero=True),
    Column("uninitialized", "Uninitialized", "number", readers="machines"),
    Column("bytes", "Size", "bytes"),
    Column("buffers", "Buffers", "count"),
)


@dataclass(frozen=True, slots=True)
class Name:
    """One model of a catalogue."""

    target: str  # the word that counts it: "resnet50", "timm:resnet50"
    source: str

    @property
    def name(self) -> str:
        """The name that the library itself gives it."""
        return self.target.removeprefix(f"{self.source}:")

    def to_dict(self) -> dict[str, Any]:
        """Return the model as the JSON format has it."""
        return {"target": self.target, "name": self.name, "source": self.source}


@dataclass(frozen=True, slots=True)
class Counted:
    """The totals of one model of a catalogue."""

    model: Name
    type: str  # the class's name
    tally: Tally
    buffers: BufferTally

    @classmethod
    def of(cls, model: Name, inventory: Inventory) -> Counted:
        """Add up an inventory as a report does, but without its layers."""
        return cls(model, inventory.modules[0].type, tally(inventory.params), tally_buffers(inventory.buffers))

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Counted:
        """Return what the JSON format says of a model, in a list or as a report."""
        totals = Tally(said["trainable"], said["frozen"], said["unknown"], said["bytes"], said["uninitialized"])
        buffers = BufferTally(said["buffers"]["total"], said["buffers"]["bytes"])
        return cls(Name(said["target"], said["source"]), said.get("type", ""), totals, buffers)

    def to_dict(self) -> dict[str, Any]:
        """Return the model as the JSON format has it."""
        return {
            **self.model.to_dict(),
            "type": self.type,
            **self.tally.to_dict(),
            "buffers": self.buffers.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Limits:
    """How many parameters the models to show may have, both bounds included."""

    min: int | None = None
    max: int | None = None

    def admit(self, counted: Tally) -> bool:
        """Whether a total is within the limits, or may be: a lower bound says only that it is not below."""
        too_many = self.max is not None and counted.total > self.max
        too_few = self.min is not None and counted.total < self.min and not counted.uninitialized
        return not (too_many or too_few)


def table_of_names(models: Sequence[Name]) -> Grid:
    """Return a row for each name."""
    rows = tuple(Row((model.target, model.source)) for model in models)
    return Grid(plural(len(models), "model"), _NAMES, rows)


def table(counted: Sequence[Counted], uncounted: Sequence[Name] = (), *, among: int | None = None) -> Grid:
    """Return a row for each model, and for each that could not be counted; ``among`` so many others left out."""
    columns: tuple[Column, ...] = _COUNTS
    if not any(one.tally.frozen or one.tally.unknown for one in counted):  # all that there is trains
        columns = tuple(c._replace(readers="machines") if c.key in {"trainable", "frozen"} else c for c in columns)
    rows = [_row(one) for one in counted]
    rows += [_uncounted(model) for model in uncounted]
    shown = plural(among or len(rows), "model")
    title = shown if among in {None, len(rows)} else f"{len(rows)} of {shown}"
    if uncounted:
        title += f", {len(uncounted)} of them not counted"
    return Grid(title, columns, tuple(rows))


def _row(one: Counted) -> Row:
    def count(number: int) -> int:
        return AtLeast(number) if one.tally.uninitialized else number

    cells: dict[str, Cell] = {
        "target": one.model.target,
        "source": one.model.source,
        "type": one.type,
        "total": count(one.tally.total),
        "trainable": count(one.tally.trainable),
        "frozen": count(one.tally.frozen),
        "unknown": count(one.tally.unknown),
        "uninitialized": one.tally.uninitialized,
        "bytes": count(one.tally.nbytes),
        "buffers": one.buffers.total,
    }
    return Row(tuple(cells[column.key] for column in _COUNTS))


def _uncounted(model: Name) -> Row:
    known: dict[str, Cell] = {"target": model.target, "source": model.source, "type": "not counted", "unknown": ""}
    return Row(tuple(known.get(column.key) for column in _COUNTS), role="fault")


def ordered(counted: Iterable[Counted], sort: Sort) -> list[Counted]:
    """Return models as they were listed, or the largest first."""
    return sorted(counted, key=lambda one: -one.tally.total) if sort == "size" else list(counted)
