"""What ``load_state_dict(strict=True)`` would say of a checkpoint, by the names, shapes and dtypes on both sides.

The rules are those of ``Module._load_from_state_dict()`` in torch/nn/modules/module.py, and of PyTorch's own hooks:
that of batch norm fills in a counter, that of weight norm takes the names it had before parametrizations. What other
hooks rename, fill in or refuse cannot be known without running them: a remark says of which modules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from paramcount.grid import Column, Grid, Remark, Row
from paramcount.inventory import Buffer, Param
from paramcount.patterns import above
from paramcount.units import exact, plural


class ExtraState(NamedTuple):
    """What is in a state dict beside tensors: anything, of a module's ``get_extra_state()`` or put there by hand."""

    name: str
    shape: None = None
    dtype: str = "extra state"  # or "no tensor"


Tensor = Param | Buffer | ExtraState
Problem = Literal[
    "missing",  # expected, and not in the checkpoint
    "unexpected",  # in the checkpoint, and not expected
    "shape",  # of another one
    "dtype",  # of another one, which load_state_dict() converts
    "filled",  # missing, and set by load_state_dict() itself
]
REFUSED: tuple[Problem, ...] = ("missing", "unexpected", "shape")
_ORDER: tuple[Problem, ...] = (*REFUSED, "dtype", "filled")
_FILLED = "num_batches_tracked"
_NAMES_LISTED = 3


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a state dict that is not the same on both sides."""

    problem: Problem
    name: str
    expected: Tensor | None
    found: Tensor | None
    layer: str = ""  # the highest one above it of which the other side has nothing

    @property
    def kind(self) -> str:
        """Which of the two it is, where what expects it says so; else empty."""
        kinds = {Param: "parameter", Buffer: "buffer", ExtraState: "extra state"}
        return "" if self.expected is None else kinds[type(self.expected)]

    def to_dict(self) -> dict[str, Any]:
        """Return the key as the JSON format has it."""
        return {
            "name": self.name,
            "problem": self.problem,
            "kind": self.kind or None,
            "expected": self.expected and _form_dict(self.expected),
            "found": self.found and _form_dict(self.found),
        }


_COLUMNS = (
    Column("key", "Key", "name"),
    Column("kind", "Kind", "text", hide_if_zero=True, expendable=1),
    Column("problem", "Problem", "text"),
    Column("expected", "Expected", "text"),
    Column("found", "Found", "text"),
)


@dataclass(frozen=True, slots=True)
class Loading:
    """Whether a checkpoint's keys are those that are expected of it."""

    by: str  # what expects them: a model, or another checkpoint
    by_model: bool
    of: str  # the checkpoint
    keys: tuple[Key, ...]  # what is not the same, each problem in the order of its side
    sizes: tuple[int, int]  # numbers of keys that are expected, and found
    prefix: str = ""  # of all keys of the checkpoint, without which they are compared
    wrapper: str = ""  # of all keys that are expected, without which they are compared
    own: tuple[str, ...] = ()  # the modules that load by code of their own

    @property
    def loads(self) -> bool:
        """Whether ``load_state_dict(strict=True)`` would take the checkpoint as it is."""
        return not self.prefix and not self.wrapper and all(key.problem not in REFUSED for key in self.keys)

    @property
    def different(self) -> bool:
        """Whether anything differs, though it may load."""
        return bool(self.keys) or not self.loads

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
            "prefix": self.prefix or None,
            "wrapper": self.wrapper or None,
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
            for problem, said in zip(REFUSED, ("missing", "unexpected", "of another shape"), strict=True)
            if counts[problem]
        )
        if self.loads:
            yield Remark(f"{'' if self.keys else 'no difference: '}{subject} would take {self.of}")
        elif self.prefix or self.wrapper:
            yield Remark(f"{subject} would refuse {self.of} as it is: {self._wrapped()}", fault=True)
            yield Remark(f"without that, {wrong or 'all keys match'}", fault=bool(wrong))
        else:
            yield Remark(f"{subject} would refuse {self.of}: {wrong}", fault=True)
        if self.own:
            yield Remark(self._unknown(), fault=True)
        yield from self._converted()
        if filled := counts["filled"]:
            keys = plural(filled, "key")
            yield Remark(f"{keys} {_FILLED} {_is(filled)} missing, which load_state_dict sets by itself")

    def _unknown(self) -> str:
        more = f" and {plural(len(self.own) - _NAMES_LISTED, 'other')}" if len(self.own) > _NAMES_LISTED else ""
        listed = ", ".join(name or "the model itself" for name in self.own[:_NAMES_LISTED]) + more
        verb = "loads by a hook or code of its" if len(self.own) == 1 else "load by hooks or code of their"
        return f"{listed} {verb} own: what that takes is not known, and here told by names alone"

    def _wrapped(self) -> str:
        said = []
        if self.prefix:
            cure = f"take it off by {{key.removeprefix({self.prefix!r}): value for key, value in state.items()}}"
            said.append(f"its keys start with {self.prefix} ({cure})")
        if self.wrapper:
            said.append(f"those of {self.by} start with {self.wrapper} (load it into the module inside)")
        return ", and ".join(said)

    def _converted(self) -> Iterator[Remark]:
        """Yield a line for each two dtypes: a whole model may be of another."""
        pairs: dict[tuple[str, str], list[str]] = {}
        for key in self.keys:
            if key.problem == "dtype" and key.expected and key.found:
                pairs.setdefault((key.expected.dtype, key.found.dtype), []).append(key.name)
        for (expected, found), names in pairs.items():
            more = f" and {exact(len(names) - _NAMES_LISTED)} more" if len(names) > _NAMES_LISTED else ""
            listed = ", ".join(names[:_NAMES_LISTED]) + more
            converts = ", which load_state_dict converts" if self.by_model else ""
            keys = f"{plural(len(names), 'key')} {_is(len(names))}"
            yield Remark(f"{keys} {expected} in {self.by} and {found} in {self.of}{converts}: {listed}")


def differing(expected: Sequence[Tensor], found: Sequence[Tensor], *, fills: bool) -> tuple[Key, ...]:
    """Return the keys that are not the same; ``fills`` says that batch norm sets a counter that is missing.

    It does for a checkpoint that does not say which version of the module wrote it: torch/nn/modules/batchnorm.py.
    """
    there = {tensor.name: tensor for tensor in found}
    known = {tensor.name for tensor in expected}
    layers_there, layers_known = above(there), above(known)
    keys: list[Key] = []
    for tensor in expected:
        other = there.get(tensor.name)
        if other is None:
            is_filled = fills and tensor.name.rpartition(".")[2] == _FILLED
            layer = _highest_without(tensor.name, layers_there)
            keys.append(Key("filled" if is_filled else "missing", tensor.name, tensor, None, layer))
        elif not _fits(tensor, other):
            keys.append(Key("shape", tensor.name, tensor, other))
        elif tensor.dtype != other.dtype:
            keys.append(Key("dtype", tensor.name, tensor, other))
    keys += [
        Key("unexpected", tensor.name, None, tensor, _highest_without(tensor.name, layers_known))
        for tensor in found
        if tensor.name not in known
    ]
    return tuple(sorted(keys, key=lambda key: _ORDER.index(key.problem)))


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
    return expected.shape is None or expected.shape == found.shape or (expected.shape == () and found.shape == (1,))


def _highest_without(name: str, layers: set[str]) -> str:
    """Return the highest layer above ``name`` that is none of ``layers``; "" if all are."""
    highest = ""
    while (name := name.rpartition(".")[0]) and name not in layers:
        highest = name
    return highest


# Rows -----------------------------------------------------------------------------------------------------------------


def _row(key: Key) -> Row:
    return Row((key.name, key.kind, key.problem, _form(key.expected), _form(key.found)), role="param")


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


def _form(tensor: Tensor | None) -> str:
    if tensor is None or isinstance(tensor, ExtraState):
        return "" if tensor is None else tensor.dtype
    shape = "no shape yet" if tensor.shape is None else ", ".join(map(str, tensor.shape))
    return f"{tensor.dtype} [{shape}]"


def _form_dict(tensor: Tensor) -> dict[str, Any]:
    return {"shape": None if tensor.shape is None else list(tensor.shape), "dtype": tensor.dtype}


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
