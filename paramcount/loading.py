"""What ``load_state_dict(strict=True)`` would say of a checkpoint, by the names, shapes and dtypes on both sides.

The rules are those of ``Module._load_from_state_dict()`` in torch/nn/modules/module.py, and of PyTorch's own hooks:
that of batch norm fills in a counter, that of weight norm takes the names it had before parametrizations. What other
hooks rename, fill in or refuse cannot be known without running them: a remark says of which modules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from paramcount.grid import Column, Grid, Remark, Row
from paramcount.inventory import COUNTER, Buffer, Param, Special
from paramcount.patterns import above
from paramcount.units import exact, plural


class Beside(NamedTuple):
    """What is in a state dict and no parameter or buffer: of ``get_extra_state()``, or put there by hand."""

    name: str
    shape: tuple[int, ...] | None
    dtype: str  # of a tensor; else "extra state" or "no tensor"


Tensor = Param | Buffer | Beside
Problem = Literal[
    "missing",  # expected, and not in the checkpoint
    "unexpected",  # in the checkpoint, and not expected
    "shape",  # of another one
    "layout",  # of one that copy_() does not put into the other: a DTensor, sparse, quantised, no tensor at all
    "dtype",  # of another one, which load_state_dict() converts
    "filled",  # missing, and set by load_state_dict() itself
]
REFUSED: Mapping[Problem, str] = {  # with what is said of such a key
    "missing": "missing",
    "unexpected": "unexpected",
    "shape": "of another shape",
    "layout": "impossible to copy",
}
_ORDER: tuple[Problem, ...] = (*REFUSED, "dtype", "filled")
_LAYOUTS = ("DTensor", "sparse", "meta")  # of a Special
_QUANTISED = ("qint", "quint")  # dtypes
_NO_TENSORS = ("extra state", "no tensor")
_NAMES_LISTED = 3


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a state dict that is not the same on both sides."""

    problem: Problem
    name: str
    expected: Tensor | None
    found: Tensor | None
    layer: str = ""  # the highest one above it of which the other side has nothing
    tied_to: str | None = None  # of what is missing: another name of the same tensor, which is there
    layouts: tuple[str, str] = ("", "")  # what is expected and found, where one is no plain tensor

    @property
    def kind(self) -> str:
        """Which of the two it is, where what expects it says so; else empty."""
        if isinstance(self.expected, Beside):
            return "extra state" if self.expected.dtype == "extra state" else ""
        kinds = {Param: "parameter", Buffer: "buffer"}
        return "" if self.expected is None else kinds[type(self.expected)]

    def to_dict(self) -> dict[str, Any]:
        """Return the key as the JSON format has it."""
        return {
            "name": self.name,
            "problem": self.problem,
            "kind": self.kind or None,
            "expected": self.expected and _form_dict(self.expected, self.layouts[0]),
            "found": self.found and _form_dict(self.found, self.layouts[1]),
            **({"tied_to": self.tied_to} if self.tied_to is not None else {}),
        }


_COLUMNS = (
    Column("key", "Key", "name"),
    Column("kind", "Kind", "text", hide_if_zero=True, expendable=1),
    Column("problem", "Problem", "text"),
    Column("expected", "Expected", "text"),
    Column("found", "Found", "text"),
)


@dataclass(frozen=True, slots=True)
class Taken:
    """What is taken off the keys of a checkpoint before they are compared: then they are those that are expected."""

    prefix: tuple[str, ...] = ()  # parts that they start with
    inner: tuple[str, ...] = ()  # parts that they have wherever
    beside: tuple[str, ...] = ()  # keys that do not start with the prefix

    @property
    def start(self) -> str:
        """The prefix as it is written; empty for none."""
        return "".join(f"{part}." for part in self.prefix)

    def __bool__(self) -> bool:
        """Whether anything is."""
        return bool(self.prefix or self.inner)

    def __str__(self) -> str:
        """Return what the keys have, and how to take it off."""
        said, change = [], "key"
        if self.inner:
            said.append(f"have {' and '.join(f'{part}.' for part in self.inner)} in them")
            change += "".join(f".replace({f'{part}.'!r}, '')" for part in self.inner)
        if self.prefix:
            said.append(f"start with {self.start}")
            change += f".removeprefix({self.start!r})"
        but = f"all of its keys but {listed(self.beside)}" if self.beside else "its keys"
        return f"{but} {' and '.join(said)} (take it off by {{{change}: value for key, value in state.items()}})"


@dataclass(frozen=True, slots=True)
class Loadable:
    """A state dict: that of a model, or in a file."""

    label: str
    state: Sequence[Tensor]
    special: Sequence[Special] = ()
    is_model: bool = False

    def names(self, kind: str) -> set[str]:
        """Return the names of what is special in one way."""
        return {each.name for each in self.special if each.kind == kind}

    def layouts(self) -> dict[str, str]:
        """Return what tensors are that are no plain ones, by their names."""
        spread = {
            tensor.name: "DTensor" for tensor in self.state if isinstance(tensor, Param) and tensor.local is not None
        }
        return spread | {each.name: each.kind for each in self.special if each.kind in _LAYOUTS}


@dataclass(frozen=True, slots=True)
class Loading:
    """Whether a checkpoint's keys are those that are expected of it."""

    by: str  # what expects them: a model, or another checkpoint
    by_model: bool
    of: str  # the checkpoint
    keys: tuple[Key, ...]  # what is not the same, each problem in the order of its side
    sizes: tuple[int, int]  # numbers of keys that are expected, and found
    taken: Taken = Taken()  # off the checkpoint's keys
    wrapper: str = ""  # of all keys that are expected, without which they are compared
    nested: tuple[str, ...] = ()  # the checkpoint's keys under which there are mappings, taken apart here
    within: str = ""  # the one of them that is compared alone
    own: tuple[str, ...] = ()  # the modules that load by code of their own

    @property
    def loads(self) -> bool:
        """Whether ``load_state_dict(strict=True)`` would take the checkpoint as it is."""
        return not self._is_changed and all(key.problem not in REFUSED for key in self.keys)

    @property
    def different(self) -> bool:
        """Whether anything differs, though it may load."""
        return bool(self.keys) or not self.loads

    @property
    def _is_changed(self) -> bool:
        """Whether the keys are compared under other names than they have."""
        return bool(self.taken or self.wrapper or self.nested)

    def grid(self, title: str, *, fold: bool) -> Grid:
        """Return a table, a row for each key; ``fold`` leaves what loads to remarks, and makes a lost layer one row."""
        keys = [key for key in self.keys if key.problem in REFUSED] if fold else list(self.keys)
        totals = Row(("Total", "", "", *(plural(size, "key") for size in self.sizes)), role="total")
        rows = _folded(keys) if fold else [_row(key) for key in keys]
        return Grid(title, _COLUMNS, tuple(rows), (totals,) if fold else (), tuple(self._remarks()), subject=title)

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON document says of it."""
        return {
            "expected_by": self.by,
            "found_in": self.of,
            "loads": self.loads,
            "prefix": self.taken.start or None,
            "wrapper": self.wrapper or None,
            **({"inner": list(self.taken.inner)} if self.taken.inner else {}),
            **({"nested": list(self.nested)} if self.nested else {}),
            **({"within": self.within} if self.within else {}),
            **({"own_loading": list(self.own)} if self.own else {}),
            "keys": [key.to_dict() for key in self.keys],
        }

    def _remarks(self) -> Iterator[Remark]:
        subject = "load_state_dict(strict=True)" if self.by_model else f"a model with the keys of {self.by}"
        if self.own:
            subject = f"by names alone, {subject}"
        counts = Counter(key.problem for key in self.keys)
        wrong = ", ".join(
            f"{plural(counts[problem], 'key')} {_is(counts[problem])} {said}"
            for problem, said in REFUSED.items()
            if counts[problem]
        )
        if self.loads:
            yield Remark(f"{'' if self.keys else 'no difference: '}{subject} would take {self.of}")
        elif self._is_changed:
            yield Remark(f"{subject} would refuse {self.of} as it is: {self._wrapped()}", fault=True)
            yield Remark(f"without that, {wrong or 'all keys match'}", fault=bool(wrong))
        else:
            yield Remark(f"{subject} would refuse {self.of}: {wrong}", fault=True)
        yield from self._tied()
        yield from self._uncopied()
        if self.own:
            yield Remark(self._unknown(), fault=True)
        yield from self._converted()
        if filled := counts["filled"]:
            keys = plural(filled, "key")
            yield Remark(f"{keys} {COUNTER} {_is(filled)} missing, which load_state_dict sets by itself")

    def _unknown(self) -> str:
        modules = listed([name or "the model itself" for name in self.own])
        verb = "loads by a hook or code of its" if len(self.own) == 1 else "load by hooks or code of their"
        return f"{modules} {verb} own: what that takes is not known, and here told by names alone"

    def _wrapped(self) -> str:
        said = []
        if self.nested:
            cure = f"load state[{self.within!r}]" if self.within else "load each into the module of its name"
            said.append(f"its tensors are in mappings under {listed(self.nested)} ({cure})")
        if self.taken:
            said.append(str(self.taken))
        if self.wrapper:
            said.append(f"those of {self.by} start with {self.wrapper} (load it into the module inside)")
        return ", and ".join(said)

    def _tied(self) -> Iterator[Remark]:
        """Yield what strict loading demands though it is there under another name."""
        tied = [f"{key.name} is tied to {key.tied_to}" for key in self.keys if key.tied_to is not None]
        if tied:
            there = "which is there" if len(tied) == 1 else "which are there"
            loaders = "safetensors.torch.load_model, from_pretrained of transformers, or strict=False"
            yield Remark(f"{listed(tied)}, {there}: loaders that know the tie fill it ({loaders})")

    def _uncopied(self) -> Iterator[Remark]:
        """Yield what to do about tensors that PyTorch does not copy into one another, each thing once."""
        cures = dict.fromkeys(self._cure(key) for key in self.keys if key.problem == "layout")
        yield from map(Remark, cures)

    def _cure(self, key: Key) -> str:
        expected, found = key.layouts
        if "DTensor" in (expected, found):
            one, other = (self.of, self.by) if found == "DTensor" else (self.by, self.of)
            return f"{one} has DTensors where {other} has plain tensors: full_tensor() makes plain tensors of them"
        if found == "meta":
            return f"{self.of} holds no data for tensors on the meta device, which cannot be copied"
        if found == "sparse":
            return f"tensors of {self.of} are sparse: to_dense() makes them what {self.by} has"
        if key.found is not None and key.found.dtype in _NO_TENSORS:
            return f"{self.of} has something else than tensors where {self.by} has tensors, such as arrays of NumPy"
        return f"tensors of {self.of} are quantised: dequantize() makes them what {self.by} has"

    def _converted(self) -> Iterator[Remark]:
        """Yield a line for each two dtypes: a whole model may be of another."""
        pairs: dict[tuple[str, str], list[str]] = {}
        for key in self.keys:
            if key.problem == "dtype" and key.expected and key.found:
                pairs.setdefault((key.expected.dtype, key.found.dtype), []).append(key.name)
        for (expected, found), names in pairs.items():
            converts = ", which load_state_dict converts" if self.by_model else ""
            keys = f"{plural(len(names), 'key')} {_is(len(names))}"
            yield Remark(f"{keys} {expected} in {self.by} and {found} in {self.of}{converts}: {listed(names)}")


def listed(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {exact(len(names) - _NAMES_LISTED)} more" if len(names) > _NAMES_LISTED else ""
    return ", ".join(names[:_NAMES_LISTED]) + more


def loading(by: Loadable, of: Loadable, taken: Taken, *, wrapper: str = "", within: str = "") -> Loading:
    """Return how ``of`` loads into ``by``, off whose keys what is said is taken already."""
    part = next((each.name for each in of.special if each.kind == "part"), None)
    label = of.label if part is None else f"{of.label}:{part}"
    found = renamed(of.state, by.names("weight norm"))
    nested = tuple(each.name for each in of.special if each.kind == "nested")
    keys = _differing(by, of, found, filled=_filled(by, set() if taken else of.names("counts batches")))
    refused = [key.name for key in keys if key.problem in REFUSED]
    layers = {*above(refused), *([""] if refused else [])}
    own = (each.name for each in by.special if each.kind == "own" or (each.kind == "old names" and each.name in layers))
    sizes = len(by.state), len(of.state)
    return Loading(by.label, by.is_model, label, keys, sizes, taken, wrapper, nested, within, tuple(own))


def _filled(by: Loadable, counting: Set[str]) -> set[str]:
    """Return the keys that batch norm fills in: torch/nn/modules/batchnorm.py, ``_NormBase._load_from_state_dict``.

    It does for a state dict that does not say that this module's own was of version 2, as ``state_dict()`` does and
    safetensors cannot. Taking a prefix off the keys by hand loses what it says.
    """
    if not by.is_model:
        return set()
    names = {tensor.name for tensor in by.state if tensor.name.rpartition(".")[2] == COUNTER}
    return {name for name in names - by.names("own counter") if name.rpartition(".")[0] not in counting}


def _differing(by: Loadable, of: Loadable, found: Sequence[Tensor], *, filled: Collection[str]) -> tuple[Key, ...]:
    there = {tensor.name: tensor for tensor in found}
    known = {tensor.name for tensor in by.state}
    layers_there, layers_known = above(there), above(known)
    ties = _ties(by.state, there)
    layouts = by.layouts(), of.layouts()
    keys: list[Key] = []
    for tensor in by.state:
        name = tensor.name
        other = there.get(name)
        layout = layouts[0].get(name, ""), layouts[1].get(name, "")
        if other is None:
            problem: Problem = "filled" if name in filled else "missing"
            keys.append(Key(problem, name, tensor, None, _highest_without(name, layers_there), ties.get(name)))
        elif not _fits(tensor, other):
            keys.append(Key("shape", name, tensor, other))
        elif not _can_be_copied(tensor, other, layout):
            keys.append(Key("layout", name, tensor, other, layouts=layout))
        elif tensor.dtype != other.dtype:
            keys.append(Key("dtype", name, tensor, other))
    keys += [
        Key("unexpected", tensor.name, None, tensor, _highest_without(tensor.name, layers_known))
        for tensor in found
        if tensor.name not in known
    ]
    return tuple(sorted(keys, key=lambda key: _ORDER.index(key.problem)))


def _ties(expected: Iterable[Tensor], there: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the name under which a tensor is there, by each of its names."""
    names: dict[str, list[str]] = {}
    for tensor in expected:
        if not isinstance(tensor, Beside) and tensor.tied_to is not None:
            names.setdefault(tensor.tied_to, [tensor.tied_to]).append(tensor.name)
    found = {first: next((name for name in each if name in there), None) for first, each in names.items()}
    return {name: one for first, one in found.items() if one is not None for name in names[first]}


def renamed(found: Sequence[Tensor], normed: Set[str]) -> Sequence[Tensor]:
    """Return a state as the hook of weight norm renames it, for the parameters that have that.

    It does where both names are there: torch/nn/utils/parametrizations.py, ``_weight_norm_compat_hook``.
    """
    if not normed:
        return found
    names = {tensor.name for tensor in found}
    new: dict[str, str] = {}
    for name in normed:
        module, _, key = name.rpartition(".")
        if {f"{name}_g", f"{name}_v"} <= names:
            stem = f"{module}.parametrizations.{key}.original".removeprefix(".")
            new |= {f"{name}_g": f"{stem}0", f"{name}_v": f"{stem}1"}
    return [tensor._replace(name=new.get(tensor.name, tensor.name)) for tensor in found]


def _fits(expected: Tensor, found: Tensor) -> bool:
    """Whether a tensor can be loaded into another: a lazy one takes any shape, a scalar a list of one."""
    if expected.dtype == "extra state" or found.dtype in _NO_TENSORS:  # which set_extra_state() takes, or nothing
        return True
    return expected.shape is None or expected.shape == found.shape or (expected.shape == () and found.shape == (1,))


def _can_be_copied(expected: Tensor, found: Tensor, layouts: tuple[str, str]) -> bool:
    """Whether ``copy_()`` puts the one into the other."""
    if "extra state" in (expected.dtype, found.dtype) or "no tensor" in (expected.dtype, found.dtype):
        return expected.dtype in {"extra state", found.dtype}
    if found.dtype.startswith(_QUANTISED) and not expected.dtype.startswith(_QUANTISED):
        return False
    return layouts[1] != "meta" and ("" if layouts[0] == "meta" else layouts[0]) == layouts[1]


def _highest_without(name: str, layers: set[str]) -> str:
    """Return the highest layer above ``name`` that is none of ``layers``; "" if all are."""
    highest = ""
    while (name := name.rpartition(".")[0]) and name not in layers:
        highest = name
    return highest


# Rows -----------------------------------------------------------------------------------------------------------------


def _row(key: Key) -> Row:
    found = f"as {key.tied_to}" if key.tied_to is not None else _form(key.found, key.layouts[1])
    return Row((key.name, key.kind, key.problem, _form(key.expected, key.layouts[0]), found), role="param")


def _folded(keys: Sequence[Key]) -> list[Row]:
    """Return a row a key, and one for all keys of a layer of which the other side has nothing."""
    groups: dict[tuple[Problem, str], list[Key]] = {}
    for key in keys:
        groups.setdefault((key.problem, key.layer or key.name), []).append(key)
    return [_row(group[0]) if len(group) == 1 else _layer_row(group) for group in groups.values()]


def _layer_row(group: Sequence[Key]) -> Row:
    first, number = group[0], plural(len(group), "key")
    return Row(
        (f"{first.layer}.*", "", first.problem, *(number if side else "" for side in (first.expected, first.found)))
    )


def _form(tensor: Tensor | None, layout: str = "") -> str:
    if tensor is None or tensor.dtype in _NO_TENSORS:
        return "" if tensor is None else tensor.dtype
    shape = "no shape yet" if tensor.shape is None else ", ".join(map(str, tensor.shape))
    return f"{layout} {tensor.dtype} [{shape}]".lstrip()


def _form_dict(tensor: Tensor, layout: str = "") -> dict[str, Any]:
    shape = None if tensor.shape is None else list(tensor.shape)
    return {"shape": shape, "dtype": tensor.dtype, **({"layout": layout} if layout else {})}


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
