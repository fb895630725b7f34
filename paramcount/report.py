"""Counting: an Inventory becomes a Report, whose layers add up to its total."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import takewhile
from operator import add
from typing import Any, NamedTuple, TypeVar

from paramcount.errors import UsageError, closest, did_you_mean
from paramcount.inventory import Buffer, Form, Inventory, Module, Note, Param, Special
from paramcount.pause import paused_collector

_Tensor = TypeVar("_Tensor", Param, Buffer)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts that add up with ``+``; what follows from them is derived."""

    trainable: int = 0  # elements that require a gradient
    frozen: int = 0  # elements that do not
    unknown: int = 0  # elements of a checkpoint, which does not say
    nbytes: int = 0
    uninitialized: int = 0  # parameters (not elements) that have no shape yet

    @property
    def total(self) -> int:
        """Elements in all; a lower bound while ``uninitialized`` is not 0."""
        return self.trainable + self.frozen + self.unknown

    def __add__(self, other: Tally) -> Tally:
        """Add count by count."""
        return Tally(
            self.trainable + other.trainable,
            self.frozen + other.frozen,
            self.unknown + other.unknown,
            self.nbytes + other.nbytes,
            self.uninitialized + other.uninitialized,
        )

    def to_dict(self) -> dict[str, int]:
        """Return the counts as the JSON format has them."""
        return {
            "total": self.total,
            "trainable": self.trainable,
            "frozen": self.frozen,
            "unknown": self.unknown,
            "uninitialized": self.uninitialized,
            "bytes": self.nbytes,
        }

    def __mul__(self, times: int) -> Tally:
        """Return the tally of ``times`` modules like this one."""
        return Tally(
            self.trainable * times,
            self.frozen * times,
            self.unknown * times,
            self.nbytes * times,
            self.uninitialized * times,
        )


def tally(params: Iterable[Param]) -> Tally:
    """Add up ``params``, each tensor once: a name that is tied to another adds nothing."""
    trainable = frozen = unknown = nbytes = uninitialized = 0
    for param in params:
        if param.tied_to is not None:
            continue
        numel = param.numel
        if numel is None:
            uninitialized += 1
            continue
        nbytes += param.nbytes or 0
        if param.trainable is None:
            unknown += numel
        elif param.trainable:
            trainable += numel
        else:
            frozen += numel
    return Tally(trainable, frozen, unknown, nbytes, uninitialized)


@dataclass(frozen=True, slots=True)
class Extras:
    """Elements that only some models have anything to say of; they add up with ``+``."""

    buffers: int = 0
    overhead: int = 0  # scales, zero points and code books of packed parameters
    packed: int = 0  # those of the total that are stored in fewer bits than they compute with
    inactive: int = 0  # those of the total that a token does not pass through
    elsewhere: int = 0  # those of the total that other processes hold

    def __add__(self, other: Extras) -> Extras:
        """Add count by count."""
        return Extras(
            self.buffers + other.buffers,
            self.overhead + other.overhead,
            self.packed + other.packed,
            self.inactive + other.inactive,
            self.elsewhere + other.elsewhere,
        )

    def __mul__(self, times: int) -> Extras:
        """Return the extras of ``times`` modules like this one."""
        return Extras(
            self.buffers * times,
            self.overhead * times,
            self.packed * times,
            self.inactive * times,
            self.elsewhere * times,
        )


_NOTHING = Extras()


def extras(params: Iterable[Param], buffers: Iterable[Buffer] = (), overhead: Iterable[Buffer] = ()) -> Extras:
    """Add up what there is beside and within the total, each tensor once."""
    packed = inactive = elsewhere = 0
    for param in params:
        if param.tied_to is not None or param.numel is None:
            continue
        if param.packed:
            packed += param.numel
        if param.active is not None:
            inactive += param.numel - param.active
        if param.local is not None:
            elsewhere += param.numel - param.local
    found = Extras(tally_buffers(buffers).total, tally_buffers(overhead).total, packed, inactive, elsewhere)
    return _NOTHING if found == _NOTHING else found  # the one that is left out where many are added up


class Layer(NamedTuple):
    """A module by its dotted name, with its own tensors, its children and the sum of all below it."""

    name: str
    type: str
    depth: int  # 0 for the model itself
    params: tuple[Param, ...]  # its own, not its children's
    buffers: tuple[Buffer, ...]
    children: tuple[Layer, ...]
    tally: Tally  # of itself and all below
    same_as: str | None = None  # where this is one more name of a module that is counted elsewhere
    overhead: tuple[Buffer, ...] = ()  # of its own packed parameters
    extras: Extras = _NOTHING  # of itself and all below
    kind: int = 0  # the same for all layers of a report that differ in nothing but their names

    def __repr__(self) -> str:
        """Return what it is and comes to, without all that it is made of."""
        return f"Layer(name={self.name!r}, type={self.type!r}, depth={self.depth}, tally={self.tally!r})"

    @property
    def total(self) -> int:
        """Elements of all parameters at and below this layer."""
        return self.tally.total

    @property
    def trainable(self) -> int:
        """Those of them that require a gradient."""
        return self.tally.trainable

    @property
    def frozen(self) -> int:
        """Those of them that do not."""
        return self.tally.frozen

    @property
    def unknown(self) -> int:
        """Those of them of which a checkpoint does not say."""
        return self.tally.unknown

    @property
    def nbytes(self) -> int:
        """Bytes that the parameters at and below this layer take."""
        return self.tally.nbytes

    @property
    def uninitialized(self) -> int:
        """Number of parameters at and below this layer that have no shape yet."""
        return self.tally.uninitialized

    def walk(self) -> Iterator[Layer]:
        """Yield this layer and all below it, parents first, in the order of ``named_modules()``."""
        waiting = [self]
        while waiting:  # not recursive: users nest deeper than Python's stack
            layer = waiting.pop()
            yield layer
            waiting.extend(reversed(layer.children))

    def to_dict(self) -> dict[str, Any]:
        """Return the layer as the JSON format has it."""
        tally = self.tally
        return {
            "name": self.name,
            "type": self.type,
            "depth": self.depth,
            "total": tally.total,
            "trainable": tally.trainable,
            "frozen": tally.frozen,
            "unknown": tally.unknown,
            "bytes": tally.nbytes,
        }


@dataclass(frozen=True, slots=True)
class BufferTally:
    """Elements and bytes of buffers, each tensor once."""

    total: int
    nbytes: int

    def to_dict(self) -> dict[str, int]:
        """Return the two as the JSON format has them."""
        return {"total": self.total, "bytes": self.nbytes}


def tally_buffers(buffers: Iterable[Buffer]) -> BufferTally:
    """Add up ``buffers``, each tensor once; one that has no shape yet adds nothing."""
    counted = [buffer for buffer in buffers if buffer.tied_to is None]
    return BufferTally(sum(b.numel or 0 for b in counted), sum(b.nbytes or 0 for b in counted))


@dataclass(frozen=True, slots=True)
class Report:
    """How many parameters a model has, which of them train, and where they sit.

    ``total`` equals ``sum(p.numel() for p in model.parameters())``: each tensor counts once, however many names it
    has, and ``total == trainable + frozen + unknown``. ``report["layer4"]`` is a layer by its dotted name.
    """

    target: str
    source: str
    root: Layer
    params: tuple[Param, ...] = field(repr=False)  # every name, tied ones too
    notes: tuple[Note, ...]
    _by_name: dict[str, Layer] = field(repr=False, compare=False)
    form: Form = "module"  # what its names are the names of
    special: tuple[Special, ...] = field(default=(), repr=False)  # of its state dict

    @classmethod
    @paused_collector()
    def of(cls, inventory: Inventory) -> Report:
        """Count an inventory."""
        layers = _layers(inventory)
        root = layers[""]
        of_state = inventory.form, inventory.special
        return cls(inventory.target, inventory.source, root, inventory.params, inventory.notes, layers, *of_state)

    def inventory(self) -> Inventory:
        """Return what the report is of, for another process: counted there, it makes the same report."""
        layers = list(self.root.walk())
        return Inventory(
            self.target,
            self.source,
            tuple(Module(layer.name, layer.type, layer.same_as) for layer in layers),
            self.params,
            tuple(buffer for layer in layers for buffer in layer.buffers),
            self.notes,
            tuple(tensor for layer in layers for tensor in layer.overhead),
            self.form,
            self.special,
        )

    @property
    def total(self) -> int:
        """Elements over ``named_parameters()``; a lower bound while ``uninitialized`` is not 0."""
        return self.root.tally.total

    @property
    def trainable(self) -> int:
        """Elements of the parameters that require a gradient."""
        return self.root.tally.trainable

    @property
    def frozen(self) -> int:
        """Elements of the parameters that do not."""
        return self.root.tally.frozen

    @property
    def unknown(self) -> int:
        """Elements of the parameters of which a checkpoint does not say."""
        return self.root.tally.unknown

    @property
    def nbytes(self) -> int:
        """Bytes of all parameters, each tensor once."""
        return self.root.tally.nbytes

    @property
    def uninitialized(self) -> int:
        """Number of parameters that have no shape yet."""
        return self.root.tally.uninitialized

    @property
    def buffers(self) -> BufferTally:
        """Elements and bytes over ``named_buffers()``."""
        return tally_buffers(buffer for layer in self._by_name.values() for buffer in layer.buffers)

    @property
    def overhead(self) -> BufferTally:
        """Elements and bytes of scales, zero points and code books of packed parameters; no part of the total."""
        return tally_buffers(tensor for layer in self._by_name.values() for tensor in layer.overhead)

    @property
    def packed(self) -> int:
        """Elements of the total that are stored in fewer bits than they compute with."""
        return self.root.extras.packed

    @property
    def active(self) -> int:
        """Elements of the total that one token passes through: all but the experts it is not routed to."""
        return self.total - self.root.extras.inactive

    @property
    def local(self) -> BufferTally:
        """Elements and bytes of the total that this process holds; all, where nothing is sharded."""
        nbytes = sum(_local_bytes(param) for param in self.params if param.tied_to is None)
        return BufferTally(self.total - self.root.extras.elsewhere, nbytes)

    @property
    def dtypes(self) -> dict[str, int]:
        """Elements by dtype, most first."""
        counts: dict[str, int] = {}
        for param in self.params:
            if param.tied_to is None and param.numel is not None:
                counts[param.dtype] = counts.get(param.dtype, 0) + param.numel
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every module below the model itself, in ``named_modules()`` order."""
        return tuple(layer for layer in self.root.walk() if layer.same_as is None and layer is not self.root)

    @property
    def ties(self) -> dict[str, tuple[str, ...]]:
        """The further names of each parameter that has several, by the name that counts."""
        ties: dict[str, list[str]] = {}
        for param in self.params:
            if param.tied_to is not None:
                ties.setdefault(param.tied_to, []).append(param.name)
        return {name: tuple(others) for name, others in ties.items()}

    def __getitem__(self, name: str) -> Layer:
        """Return a layer by its dotted name; ``""`` is the whole model."""
        try:
            return self._by_name[name]
        except KeyError:
            hint = did_you_mean(closest(name, self._by_name))
            raise UsageError(f"{self.target} has no layer {name!r}", hint=hint) from None

    @paused_collector()
    def to_dict(self) -> dict[str, Any]:
        """Return the report as the JSON format has it."""
        buffers = self.buffers
        return {
            "target": self.target,
            "source": self.source,
            **self.root.tally.to_dict(),
            "buffers": buffers.to_dict(),
            **self._extras(),
            "dtypes": self.dtypes,
            "layers": [layer.to_dict() for layer in self.layers],
            "params": [_param_dict(param) for param in self.params],
            "notes": [{"code": note.code, "where": note.where, "message": note.message} for note in self.notes],
        }

    def _extras(self) -> dict[str, Any]:
        """Return the keys that only some reports have."""
        counted = [param for param in self.params if param.tied_to is None]
        overhead = self.overhead
        said: dict[str, Any] = {}
        if any(param.packed for param in counted):
            said["packed"] = self.packed
        if overhead.total:
            said["overhead"] = overhead.to_dict()
        if any(param.active is not None for param in counted):
            said["active"] = self.active
        if any(param.local is not None for param in counted):
            said["local"] = self.local.to_dict()
        return said


def _local_bytes(param: Param) -> int:
    if param.local is None or not param.numel:
        return param.nbytes or 0
    return (param.nbytes or 0) * param.local // param.numel


def _param_dict(param: Param) -> dict[str, Any]:
    said = {
        "name": param.name,
        "shape": None if param.shape is None else list(param.shape),
        "dtype": param.dtype,
        "numel": param.numel,
        "bytes": param.nbytes,
        "trainable": param.trainable,
        "tied_to": param.tied_to,
    }
    if param.packed:
        said["packed"] = True
    if param.active is not None:
        said["active"] = param.active
    if param.local is not None:
        said["local"] = param.local
    if param.adapter is not None:
        said["adapter"] = param.adapter
    if param.key is not None:
        said["key"] = param.key
    return said


class _Kind(NamedTuple):
    """What is the same of layers that differ in nothing but their names: few do, in a model of thousands."""

    number: int
    tally: Tally
    extras: Extras


def _layers(inventory: Inventory) -> dict[str, Layer]:
    """Hang every tensor on its module, add up from the leaves, and return all layers by name."""
    depths = {"": 0}
    placed = [(inventory.modules[0], "", 0)]  # and the module above each, and how deep it is
    for module in inventory.modules[1:]:
        parent = _owner(module.name, depths)
        depths[module.name] = depth = depths[parent] + 1
        placed.append((module, parent, depth))
    params, buffers = _by_owner(inventory.params, depths), _by_owner(inventory.buffers, depths)
    overhead = _by_owner(inventory.overhead, depths)
    kinds: dict[object, _Kind] = {}
    children: dict[str, list[Layer]] = {}
    layers: dict[str, Layer] = {}
    for module, parent, depth in reversed(placed):  # children first
        name = module.name
        own = params.get(name, ())
        own_buffers = buffers.get(name, ()) if buffers else ()
        own_overhead = overhead.get(name, ()) if overhead else ()
        below = tuple(reversed(children.pop(name, ())))
        start = len(name) + 1 if name else 0
        traits: tuple[object, ...] = (
            module[1:] if module.same_as is None else (module.type, _way(name, module.same_as)),
            tuple([(param.name[start:], param[1:] if param.tied_to is None else _tied(param)) for param in own]),
        )
        if below or own_buffers or own_overhead:
            traits += (
                tuple([(buffer.name[start:], _tied(buffer)) for buffer in own_buffers]),
                tuple([(tensor.name[start:], _tied(tensor)) for tensor in own_overhead]),
                tuple([(child.name[start:], child.kind) for child in below]),
            )
        kind = kinds.get(traits)
        if kind is None:
            number, beside = len(kinds), extras(own, own_buffers, own_overhead)
            kind = kinds[traits] = _Kind(number, _summed(tally(own), below), _whole(beside, below))
        layers[name] = layer = Layer(
            name,
            module.type,
            depth,
            own,
            own_buffers,
            below,
            kind.tally,
            module.same_as,
            own_overhead,
            kind.extras,
            kind.number,
        )
        children.setdefault(parent, []).append(layer)
    return layers


def _tied(tensor: Param | Buffer) -> tuple[object, ...]:
    """Return all but a tensor's name; what it is tied to, as seen from there."""
    if tensor.tied_to is None:
        return tensor[1:]
    return tensor._replace(tied_to=_way(tensor.name, tensor.tied_to))[1:]


def _way(name: str, other: str) -> str:
    """Return how to get from one name to another: inside of layers that are alike, it is the same."""
    here, there = name.split("."), other.split(".")
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(here, there, strict=False)))
    return "/".join([".."] * (len(here) - shared) + there[shared:])


def _owner(name: str, listed: Mapping[str, int]) -> str:
    """Return the nearest listed module above ``name``: a module's second name lists no descendants."""
    name = name.rpartition(".")[0]
    while name not in listed:  # "" always is
        name = name.rpartition(".")[0]
    return name


def _by_owner(tensors: Iterable[_Tensor], listed: Mapping[str, int]) -> dict[str, tuple[_Tensor, ...]]:
    owned: dict[str, list[_Tensor]] = {}
    before: str | None = None
    held: list[_Tensor] = []
    for tensor in tensors:
        owner = tensor.name.rpartition(".")[0]  # nearly always
        if owner != before:  # a module's tensors come one after the other
            before = owner
            held = owned.setdefault(owner if owner in listed else _owner(tensor.name, listed), [])
        held.append(tensor)
    return {owner: tuple(each) for owner, each in owned.items()}


def _whole(own: Extras, children: Sequence[Layer]) -> Extras:
    """Add up a layer and what is below it; of thousands, most have none."""
    return reduce(add, [child.extras for child in children if child.extras is not _NOTHING], own)


def _summed(own: Tally, children: Sequence[Layer]) -> Tally:
    """Add up a layer's own parameters and what is below it, without a value for each step."""
    if not children:
        return own
    below = [child.tally for child in children]
    return Tally(
        own.trainable + sum([each.trainable for each in below]),
        own.frozen + sum([each.frozen for each in below]),
        own.unknown + sum([each.unknown for each in below]),
        own.nbytes + sum([each.nbytes for each in below]),
        own.uninitialized + sum([each.uninitialized for each in below]),
    )
