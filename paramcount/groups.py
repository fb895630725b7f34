"""The parameters of a model sorted into groups that add up to its total: by dtype, by what trains, by adapter."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

from paramcount.grid import AtLeast, Cell, Column, Grid, Remark, Row
from paramcount.inventory import Param
from paramcount.outline import share
from paramcount.report import Layer, Report, Tally, tally
from paramcount.units import exact

By = Literal["dtype", "type", "requires_grad", "module", "decay", "adapter", "embedding"]
BY: Final[tuple[By, ...]] = get_args(By)

UNTYPED = "(type not known)"  # as in a checkpoint
TRAINABLE, FROZEN, UNKNOWN = "trainable", "frozen", "unknown"
BASE, UNNAMED = "base model", "(adapter without a name)"  # as in a file that holds just one
DECAY, NO_DECAY = "decay", "no decay"
EMBEDDING, POSITION, HEAD, REST = "embeddings", "position embeddings", "output head", "everything else"


class Group(NamedTuple):
    """Parameters that have something in common."""

    label: str
    params: tuple[Param, ...]  # each tensor once
    tally: Tally

    def to_dict(self) -> dict[str, Any]:
        """Return the group as the JSON format has it."""
        return {"group": self.label, "tensors": len(self.params), **self.tally.to_dict()}


class _Place(NamedTuple):
    """One name of a parameter, and the layer that has it."""

    param: Param
    layer: Layer

    @property
    def key(self) -> str:
        """What the layer itself calls the parameter."""
        return self.param.name.rpartition(".")[2]


_Label = Callable[[_Place], str]


def groups(report: Report, by: By) -> tuple[Group, ...]:
    """Sort every tensor of a model into one group; empty groups are left out.

    ``dtype``, ``type`` (of the module that has it) and ``requires_grad`` are what they say. ``module`` puts together
    the same place in all blocks: its labels, ``layers.*.mlp``, are patterns. ``decay`` is how optimizers are commonly
    told what not to decay: biases, and all that has fewer than two dimensions (as by timm's
    ``param_groups_weight_decay``). ``adapter`` tells PEFT's adapters, by their names and with the copies of modules
    that train with them, from the model that they adapt. ``embedding`` tells embeddings, position embeddings and the
    output head from the rest.
    """
    places = [_Place(param, layer) for layer in report.root.walk() for param in layer.params]
    if by == "embedding":
        label = _embedding_label(places)
    else:
        label = _adapter_label(report) if by == "adapter" else _LABELS[by]
    members: dict[str, list[Param]] = {known: [] for known in _ORDERS.get(by, ())}
    for place in places:
        if place.param.tied_to is None:
            members.setdefault(label(place), []).append(place.param)
    found = [Group(name, tuple(params), tally(params)) for name, params in members.items() if params]
    if by in _ORDERS or by == "module":
        return tuple(found)
    return tuple(sorted(found, key=lambda group: -group.tally.total))


def _module_label(place: _Place) -> str:
    return ".".join("*" if part.isdecimal() else part for part in place.layer.name.split(".")) or place.param.name


def _requires_grad_label(place: _Place) -> str:
    return UNKNOWN if place.param.trainable is None else TRAINABLE if place.param.trainable else FROZEN


def _decay_label(place: _Place) -> str:
    param = place.param
    if not param.trainable:
        return _requires_grad_label(place)
    flat = param.shape is not None and len(param.shape) < 2  # noqa: PLR2004  # a vector or a scalar
    return NO_DECAY if flat or place.key == "bias" else DECAY


# Where a file does not say what is an adapter's its name tells, by the names under which PEFT's layers keep adapters.
_OF_ADAPTER = (
    r"(?:.+\.)?(?:lora_(?:embedding_)?[ABE]|lora_magnitude_vector|ia3_l|vera_lambda_[bd]|(?:hada|lokr)_[wt]\w+|b?oft_[rRs]"
    r"|modules_to_save)(?:\.(?!weight$)(?P<name>[^.]+))?(?:\..+)?"
)


def _adapter_label(report: Report) -> _Label:
    """Return what labels a tensor by its adapter: a live model says which it is of, and in a file its name does."""
    is_told = any(param.adapter is not None for param in report.params)
    is_of_peft = any(layer.type.startswith("Peft") for layer in report.root.walk())

    def label(place: _Place) -> str:
        if is_told or not (is_of_peft or not place.layer.type):
            return BASE if place.param.adapter is None else place.param.adapter or UNNAMED
        part = re.fullmatch(_OF_ADAPTER, place.param.name)
        return (part["name"] or UNNAMED) if part else BASE

    return label


_LABELS: Mapping[By, _Label] = {
    "dtype": lambda place: place.param.dtype,
    "type": lambda place: place.layer.type or UNTYPED,
    "requires_grad": _requires_grad_label,
    "module": _module_label,
    "decay": _decay_label,
}
_ORDERS: Mapping[By, tuple[str, ...]] = {
    "requires_grad": (TRAINABLE, FROZEN, UNKNOWN),
    "decay": (DECAY, NO_DECAY, FROZEN, UNKNOWN),
    "adapter": (BASE,),
    "embedding": (EMBEDDING, POSITION, HEAD, REST),
}


# Embeddings -----------------------------------------------------------------------------------------------------------

# Where a file does not say the type of a module its name tells, by the names that published models have: wte and wpe
# in GPT-2, shared and relative_attention_bias in T5, tok_embeddings in Llama's own files, token_embd in llama.cpp's.
_EMBEDDING_NAME = (
    r"wte|wpe|shared|relative_attention_bias|(.+_)?(emb|embd|embed|embedding|embeddings)(_(in|tokens|positions))?"
)
_POSITION_NAME = r"wpe|relative_attention_bias|(.+_)?(pos|position|positional|positions)(_.+)?"
_HEAD_NAME = r"lm_head|embed_out|output|output_layer|decoder|generator|head|proj_out"
_MATRIX = 2  # dimensions
_NAMES_LISTED = 3


def _embedding_label(places: Iterable[_Place]) -> _Label:
    """Return what labels a tensor by all its names: what is an embedding under one of them is one."""
    places = list(places)
    kinds: dict[str, set[str]] = {}
    vocabularies: set[int] = set()
    for place in places:
        kind = _embedding_kind(place)
        kinds.setdefault(place.param.tied_to or place.param.name, set()).add(kind)
        if kind == EMBEDDING and place.param.shape:
            vocabularies.add(place.param.shape[0])
    heads = {place.layer.name for place in places if _is_head(place, vocabularies)}

    def label(place: _Place) -> str:
        found = kinds[place.param.name]
        if found != {REST}:
            return EMBEDDING if EMBEDDING in found else POSITION
        return HEAD if place.layer.name in heads else REST

    return label


def _embedding_kind(place: _Place) -> str:
    own = place.layer.name.rpartition(".")[2]
    if place.key == "weight":
        if _is_embedding(place.layer.type, own, place.param.shape):
            return POSITION if re.fullmatch(_POSITION_NAME, own) or "Position" in place.layer.type else EMBEDDING
    elif place.key != "bias" and re.fullmatch(_POSITION_NAME, place.key):  # of its own, as in vision transformers
        return POSITION
    return REST


def _is_embedding(kind: str, own: str, shape: tuple[int, ...] | None) -> bool:
    if kind:
        return "Embedding" in kind
    return shape is not None and len(shape) == _MATRIX and re.fullmatch(_EMBEDDING_NAME, own) is not None


def _is_head(place: _Place, vocabularies: set[int]) -> bool:
    """Whether a parameter is the matrix that makes as many outputs as an embedding takes inputs."""
    shape = place.param.shape
    if place.key != "weight" or shape is None or len(shape) != _MATRIX or "Embedding" in place.layer.type:
        return False
    return shape[0] in vocabularies and re.fullmatch(_HEAD_NAME, place.layer.name.rpartition(".")[2]) is not None


class Breakdown(NamedTuple):
    """The total, split into embeddings and the rest."""

    total: int
    embeddings: int  # of tokens, token types and the like
    position_embeddings: int
    output_head: int  # that is not tied to an embedding
    tied_head: str | None  # the name of one that is

    @property
    def non_embedding(self) -> int:
        """Elements without embeddings of any kind, and without the head."""
        return self.total - self.embeddings - self.position_embeddings - self.output_head

    def to_dict(self) -> dict[str, Any]:
        """Return the breakdown as the JSON format has it."""
        return {
            "embeddings": self.embeddings,
            "position_embeddings": self.position_embeddings,
            "output_head": self.output_head,
            "tied_head": self.tied_head,
            "non_embedding": self.non_embedding,
            "non_embedding_with_head": self.non_embedding + self.output_head,
        }


def embedding_breakdown(report: Report) -> Breakdown:
    """Split a model's total as papers do: with and without embeddings, and with and without an untied head."""
    found = groups(report, "embedding")
    counts = {group.label: group.tally.total for group in found}
    embeddings = {param.name for group in found if group.label == EMBEDDING for param in group.params}
    tied = (
        param.name
        for layer in report.root.walk()
        for param in layer.params
        if param.tied_to in embeddings and re.fullmatch(_HEAD_NAME, layer.name.rpartition(".")[2])
    )
    return Breakdown(
        report.total, counts.get(EMBEDDING, 0), counts.get(POSITION, 0), counts.get(HEAD, 0), next(tied, None)
    )


# As a table -----------------------------------------------------------------------------------------------------------

_COLUMNS = (
    Column("kind", "Kind", "text", readers="machines"),
    Column("by", "By", "text", readers="machines"),
    Column("group", "Group", "text"),
    Column("tensors", "Tensors", "number"),
    Column("total", "Parameters", "count"),
    Column("trainable", "Trainable", "count"),
    Column("frozen", "Frozen", "count"),
    Column("unknown", "Unknown", "count", hide_if_zero=True),
    Column("uninitialized", "Uninitialized", "number", readers="machines"),
    Column("bytes", "Size", "bytes", expendable=2),
    Column("share", "Share", "share", readers="people", expendable=1),
)
_TITLES: Mapping[By, str] = {"requires_grad": "by what trains", "decay": "by weight decay", "embedding": "embeddings"}


def grouping(report: Report, by: By) -> Grid:
    """Return the groups of a model as a grid whose rows add up to its total."""
    # By what trains: the labels say it.
    told = {"trainable", "frozen", "unknown"} if by in {"requires_grad", "decay"} else set()
    columns = tuple(column._replace(readers="machines") if column.key in told else column for column in _COLUMNS)
    found = groups(report, by)
    rows = tuple(_row(group, by, report, columns) for group in found)
    whole = Group("", tuple(param for group in found for param in group.params), report.root.tally)
    return Grid(
        title=f"{report.target} · {_TITLES.get(by, f'by {by}')}",
        columns=columns,
        rows=rows,
        totals=(_row(whole, by, report, columns)._replace(role="total"),),
        remarks=tuple(_embedding_remarks(report, found)) if by == "embedding" else (),
        subject=report.target,
    )


def _row(group: Group, by: By, report: Report, columns: Iterable[Column]) -> Row:
    counted = group.tally
    growing = {param.trainable for param in group.params if param.numel is None}

    def count(number: int, *, grows: bool = True) -> int:
        return AtLeast(number) if grows and counted.uninitialized else number

    cells: dict[str, Cell] = {
        "kind": "group",
        "by": by,
        "group": group.label,
        "tensors": len(group.params),
        "total": count(counted.total),
        "trainable": count(counted.trainable, grows=True in growing),
        "frozen": count(counted.frozen, grows=False in growing),
        "unknown": count(counted.unknown, grows=None in growing),
        "uninitialized": counted.uninitialized,
        "bytes": count(counted.nbytes),
        "share": share(counted, report.root.tally),
    }
    return Row(tuple(cells[column.key] for column in columns))


def _embedding_remarks(report: Report, found: Iterable[Group]) -> Iterator[Remark]:
    names = {group.label: [param.name for param in group.params] for group in found}
    for label in (EMBEDDING, POSITION, HEAD):
        if label in names:
            yield Remark(f"{label}: {_listed(names[label])}")
    split = embedding_breakdown(report)
    if split.position_embeddings:
        yield Remark(f"without position embeddings: {exact(split.total - split.position_embeddings)}")
    if split.output_head:
        with_head = f"with the output head, which is not tied, {exact(split.non_embedding + split.output_head)}"
        yield Remark(f"non-embedding: {exact(split.non_embedding)}; {with_head}")
    else:
        tied = f"; the output head, {split.tied_head}, is tied to an embedding" if split.tied_head else ""
        yield Remark(f"non-embedding: {exact(split.non_embedding)}{tied}")


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMES_LISTED
    return ", ".join(names[:_NAMES_LISTED]) + (f" and {exact(more)} more" if more > 0 else "")
