"""Reads a pickled module, whose class need not exist, into what the live module would be read into."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from paramcount.files import torch_packed
from paramcount.files.pickles import Global, MalformedPickle, Record
from paramcount.files.torch_tensors import Tensor, Tensors, attributes, class_name, fields
from paramcount.inventory import Buffer, Inventory, Module, Note, Param
from paramcount.units import exact, plural

# Names of modules below modules that are seen again: sharing within sharing doubles them at each level.
_MOST_REPEATS = 20_000
_MOST_NAMES = 250_000
_LONGEST_NAMES = 32 * 2**20  # characters of all names together
_NAMES_EACH, _CHARACTERS_EACH = 4, 200  # more, for each tensor whose data lie in the file
_ENTRIES_EACH = 8  # of modules' registries, for each name: a layer without a bias has an empty one for it
_DEEPEST = 1000
# What torch.compile() returns, and where it keeps the module: torch/_dynamo/eval_frame.py.
_COMPILED, _WITHIN_COMPILED = "OptimizedModule", "_orig_mod"
_GRAPH = Global("torch.fx.graph_module", "reduce_graph_module")
_SCRIPTED = re.compile(
    r"^class (\w+)\(Module\):\n  __parameters__ = \[([^]\n]*)\]\n  __buffers__ = \[([^]\n]*)\]", re.MULTILINE
)
_QUOTED = re.compile(r'"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Registries:
    """What a module holds by name."""

    parameters: dict[str, object]
    buffers: dict[str, object]
    modules: dict[str, object]
    passing: frozenset[str] = frozenset()  # the names of buffers that are not persistent


class Naming:
    """Makes dotted names, up to what a reader should give."""

    def __init__(self, stored: int = 0) -> None:
        """Start without any; a file that holds the data of so many tensors may have more than others."""
        self._names = 0
        self._characters = 0
        self._looked_over = 0
        self._most = _MOST_NAMES + _NAMES_EACH * stored
        self._longest = _LONGEST_NAMES + _CHARACTERS_EACH * stored

    def look_over(self, number: int) -> None:
        """Take note that so many entries are looked at, which may be the same over and over.

        Raises:
            MalformedPickle: there are more than any model has.

        """
        self._looked_over += number
        if self._looked_over > _ENTRIES_EACH * self._most:
            raise MalformedPickle(f"its modules have more than {self._looked_over - number:,} entries")

    def below(self, name: str, key: str) -> str:
        """Return the name of what is called ``key`` in ``name``.

        Raises:
            MalformedPickle: there are so many names, or such long ones, that no model has them.

        """
        self._names += 1
        self._characters += len(name) + 1 + len(key)
        if self._names > self._most or self._characters > self._longest:
            raise MalformedPickle(f"it gives its tensors more than {self._names - 1:,} names")
        return f"{name}.{key}" if name else key


class Modules:
    """Tells which records of a pickle are modules, and what those hold."""

    def __init__(self, tensors: Tensors, code: dict[str, str], stored: int = 0) -> None:
        """Know the classes of TorchScript by ``code``: its texts, by the module each was in.

        Of ``stored`` tensors the file holds the data.
        """
        self.tensors = tensors
        self.stored = stored
        self._known: dict[int, tuple[Record, Registries | None]] = {}  # with the value, so that its id stays its own
        self._scripted = {
            (module, match[1]): (_QUOTED.findall(match[2]), _QUOTED.findall(match[3]))
            for module, text in code.items()
            for match in _SCRIPTED.finditer(text)
        }

    def of(self, value: object) -> Registries | None:
        """Return what a value holds if it is a module, else None.

        A module's state is its ``__dict__``, as torch.nn.Module keeps it; TorchScript's is its attributes, and the
        code says which of them are parameters and buffers.
        """
        if not isinstance(value, Record) or value.known is not None:
            return None
        if id(value) not in self._known:
            self._known[id(value)] = (value, self._of(value))
        return self._known[id(value)][1]

    def _of(self, value: Record) -> Registries | None:
        state = attributes(value)
        if self.is_scripted(value):
            return self._of_script(value, state)
        if class_name(value) == _COMPILED and isinstance(value.args, tuple) and value.args and self.of(value.args[0]):
            return Registries({}, {}, {_WITHIN_COMPILED: value.args[0]})
        found = [fields(state.get(name)) for name in ("_parameters", "_buffers", "_modules")]
        parameters, buffers, modules = found
        if parameters is None or buffers is None or modules is None:
            return Registries({}, {}, {}) if torch_packed.is_packed(value) else None
        return Registries(parameters, buffers, modules, _words(state.get("_non_persistent_buffers_set")))

    def holding(self, modules: dict[str, object]) -> Record:
        """Return a module that holds others, by what each is called."""
        model = Record(Global("", ""))
        self._known[id(model)] = (model, Registries({}, {}, modules))
        return model

    def is_scripted(self, value: Record) -> bool:
        """Whether it is a module of TorchScript."""
        name = value.callable
        return isinstance(name, Global) and (name.module, name.name) in self._scripted

    def _of_script(self, value: Record, state: dict[str, object]) -> Registries:
        name = value.callable
        parameters, buffers = self._scripted[name.module, name.name] if isinstance(name, Global) else ([], [])
        return Registries(
            {key: state.get(key) for key in parameters},
            {key: state.get(key) for key in buffers},
            {key: each for key, each in state.items() if isinstance(each, Record) and self.is_scripted(each)},
        )


def _words(value: object) -> frozenset[str]:
    """Return the texts in a set, which protocols before 4 build by a call."""
    if isinstance(value, Record):
        value = value.args[0] if isinstance(value.args, tuple) and value.args else value.items
    return frozenset(each for each in value if isinstance(each, str)) if isinstance(value, list) else frozenset()


def _type(module: Record) -> str:
    """Return the name of a module's class: of one that torch.fx made, the name that loading it would give to its own.

    torch/fx/graph_module.py, reduce_graph_module() and _deserialize_graph_module().
    """
    if module.callable == _GRAPH:
        said = attributes(module).get("_graphmodule_cls_name")
        return said if isinstance(said, str) else "GraphModule"
    return class_name(module)


def read(model: Record, modules: Modules, *, target: str, source: str, notes: tuple[Note, ...] = ()) -> Inventory:
    """Return what a pickled module holds, as ``named_parameters()`` of the live one would give it.

    Raises:
        MalformedPickle: it has a tensor that PyTorch could not build.

    """
    naming = Naming(modules.stored)
    listing = _Listing(modules, naming)
    repeats = 0
    for sighting in _walk(model, modules, naming):
        listing.add(sighting)
        repeats += sighting.same_as is not None
    if repeats == _MOST_REPEATS:
        message = f"modules are shared so often that only the first {exact(_MOST_REPEATS)} repeats are listed"
        notes = (Note("repeats-cut", "", message), *notes)
    return Inventory(
        target,
        source,
        tuple(listing.modules),
        tuple(listing.params.values()),
        tuple(listing.buffers.values()),
        (*listing.notes(), *notes),
        tuple(listing.overhead.values()),
    )


class _Sighting(NamedTuple):
    """A module under one of its names."""

    name: str
    record: Record
    held: Registries
    same_as: str | None  # its first name, where this is another
    above: _Sighting | None
    depth: int


def _walk(model: Record, modules: Modules, naming: Naming) -> Iterator[_Sighting]:
    """Yield every module under every name, in the order of ``named_modules(remove_duplicate=False)``."""
    firsts: dict[int, str] = {}
    repeats = 0
    waiting: list[tuple[str, object, _Sighting | None]] = [("", model, None)]
    while waiting:
        name, record, above = waiting.pop()
        held = modules.of(record)
        if held is None or not isinstance(record, Record):
            continue
        same_as = firsts.get(id(record))
        repeats += same_as is not None
        if repeats > _MOST_REPEATS:
            continue
        firsts.setdefault(id(record), name)
        depth = 0 if above is None else above.depth + 1
        if depth > _DEEPEST:
            raise MalformedPickle(f"it nests modules more than {_DEEPEST:,} deep")
        sighting = _Sighting(name, record, held, same_as, above, depth)
        yield sighting
        if same_as is not None and _is_in_circle(sighting):
            continue
        children = [(naming.below(name, key), child, sighting) for key, child in held.modules.items()]
        waiting.extend(reversed(children))


def _is_in_circle(sighting: _Sighting) -> bool:
    above = sighting.above
    while above is not None:
        if above.record is sighting.record:
            return True
        above = above.above
    return False


class _Listing:
    """What is found, name by name."""

    def __init__(self, modules: Modules, naming: Naming) -> None:
        self._naming = naming
        self.modules: list[Module] = []
        self.params: dict[str, Param] = {}
        self.buffers: dict[str, Buffer] = {}
        self.overhead: dict[str, Buffer] = {}
        self._known = modules
        self._first_params: dict[Hashable, str] = {}
        self._first_buffers: dict[Hashable, str] = {}
        self._places: dict[Hashable, str] = {}
        self._shared: list[Note] = []

    def add(self, sighting: _Sighting) -> None:
        if sighting.above is None or sighting.above.same_as is None:
            self.modules.append(Module(sighting.name, _type(sighting.record), sighting.same_as))
        scripted = self._known.is_scripted(sighting.record)
        held = sighting.held
        self._naming.look_over(len(held.parameters) + len(held.buffers))
        packed = torch_packed.weights(sighting.record, held.parameters, held.modules, self._known.tensors)
        for key, weight in packed.items():
            if key not in held.parameters:
                self._add_packed(self._naming.below(sighting.name, key), weight)
        for key, value in held.parameters.items():
            tensor = self._known.tensors.of(value)
            if key in packed:
                trains = tensor is not None and tensor.requires_grad
                self._add_packed(self._naming.below(sighting.name, key), packed[key], trains=trains)
            elif tensor is not None:
                self._add_param(
                    self._naming.below(sighting.name, key), tensor, _identity(value, tensor, scripted=scripted)
                )
        for key, value in sighting.held.buffers.items():
            tensor = self._known.tensors.of(value)
            if tensor is not None:
                self._add_buffer(
                    self._naming.below(sighting.name, key),
                    tensor,
                    _identity(value, tensor, scripted=scripted),
                    persistent=key not in sighting.held.passing,
                )

    def _add_param(self, name: str, tensor: Tensor, identity: Hashable) -> None:
        first = self._first_params.setdefault(identity, name)
        tied_to = None if first == name else first
        lazy = tensor.shape is None
        self.params[name] = Param(
            name,
            tensor.shape,
            tensor.dtype,
            None if lazy else tensor.numel,
            None if lazy else tensor.nbytes,
            tensor.requires_grad,
            tied_to,
        )
        if tied_to is None and tensor.storage is not None and tensor.numel:
            self._note_sharing(name, tensor, (tensor.storage.key, tensor.storage.start + tensor.offset, tensor.numel))

    def _add_packed(self, name: str, weight: torch_packed.Weight, *, trains: bool = False) -> None:
        first = self._first_params.setdefault(id(weight.value), name)
        tied_to = None if first == name else first
        numel = None if weight.shape is None else prod(weight.shape)
        self.params[name] = Param(
            name,
            weight.shape,
            weight.dtype,
            numel,
            weight.nbytes,
            trainable=trains,
            tied_to=tied_to,
            packed=weight.is_packed,
        )
        for ending, part in weight.overhead.items() if tied_to is None else ():
            self.overhead[name + ending] = Buffer(name + ending, part.shape, part.dtype, part.numel, part.nbytes)

    def _note_sharing(self, name: str, tensor: Tensor, place: Hashable) -> None:
        other = self._places.setdefault(place, name)
        if other != name:
            message = (
                f"shares its memory with {other}, but is a parameter of its own: PyTorch counts both "
                f"({exact(tensor.numel)} each)"
            )
            self._shared.append(Note("shared-storage", name, message))

    def _add_buffer(self, name: str, tensor: Tensor, identity: Hashable, *, persistent: bool) -> None:
        first = self._first_buffers.setdefault(identity, name)
        tied_to = None if first == name else first
        lazy = tensor.shape is None
        numel, nbytes = (None, None) if lazy else (tensor.numel, tensor.nbytes)
        self.buffers[name] = Buffer(name, tensor.shape, tensor.dtype, numel, nbytes, tied_to, persistent)

    def notes(self) -> Iterator[Note]:
        lazy: dict[str, list[str]] = {}
        yield from self._packed_notes()
        for param in self.params.values():
            if param.numel is None and param.tied_to is None and not param.packed:
                module, _, key = param.name.rpartition(".")
                lazy.setdefault(module, []).append(key)
        for module, keys in lazy.items():
            message = (
                f"{plural(len(keys), 'parameter')} had no shape yet when it was saved ({', '.join(keys)}): totals are "
                "lower bounds; run the model once before it is saved"
            )
            yield Note("uninitialized", module, message)
        yield from self._shared

    def _packed_notes(self) -> Iterator[Note]:
        packed = [param for param in self.params.values() if param.packed and param.tied_to is None]
        known = [param for param in packed if param.numel is not None]
        if known:
            elements = exact(sum(param.numel or 0 for param in known))
            message = f"{plural(len(known), 'tensor')} of quantised layers, {elements} elements"
            yield Note("packed", "", f"{message}, count as what they stand for")
        for param in packed:
            if param.numel is None:
                yield Note("packed", param.name, "its quantised form does not say its size: totals are lower bounds")


def _identity(value: object, tensor: Tensor, *, scripted: bool) -> Hashable:
    """Return what two names of one tensor have in common.

    A pickle keeps identity, which is what named_parameters() goes by; TorchScript keeps only memory.
    """
    if scripted and tensor.storage is not None and tensor.numel:
        return (tensor.storage, tensor.offset, tensor.shape, tensor.stride)
    return id(value)
