"""Finds the weights among all that a checkpoint holds, and tells them from optimizers, averages and counters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import NamedTuple

from paramcount.files import torch_packed
from paramcount.files.pickles import MalformedPickle, Pairs, Record
from paramcount.files.stored import Stored
from paramcount.files.torch_modules import Modules, Naming
from paramcount.files.torch_tensors import Tensor, fields

# Where trainers keep the weights, the likelier first.
_WEIGHTS = ("state_dict", "model_state_dict", "model_state", "model", "module", "network", "net", "weights", "params")
# Where they keep averages of them, which count where there is nothing else.
_AVERAGES = ("params_ema", "state_dict_ema", "model_state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema")
# What a training run keeps beside them.
_NO_WEIGHTS = re.compile(
    r"(optimi[sz]ers?|optim|opt|lr|lr_schedulers?|schedulers?|sched|(grad_)?scaler|amp|rng|random|cuda_rng|loops|callbacks"
    r"|hyper_parameters|hparams|args|config|cfg|best|loss|metrics|history|criterion|ema|train|val)(_.*)?"
    r"|epochs?|(global_)?steps?|iterations?|param_groups|.*_(loss|acc|accuracy|optimizers?|scheduler|ema)"
)
_OPTIMIZER = {"state", "param_groups"}  # torch.optim.Optimizer.state_dict()
# Where transformers' Trainer and accelerate keep the states of generators of random numbers.
_RANDOM = ({"python", "numpy", "cpu"}, {"random_state", "numpy_random_seed", "torch_manual_seed"})
_DEEPEST = 100
_DEEPEST_PART = 8
_MOST_VISITS = 400_000
_VISITS_EACH = 6  # more, for each tensor whose data lie in the file
_MOST_ENTRIES = 2_000_000
_ENTRIES_EACH = 12  # more, the same
_CONTAINERS = (Record, Pairs, list, tuple)  # what can be, or hold, a tensor


class Named(NamedTuple):
    """A tensor and its dotted name in the part that is counted."""

    name: str
    value: object
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a checkpoint."""

    path: tuple[str, ...]
    value: object
    without: frozenset[str] = frozenset()  # keys that are no weights


class Parts:
    """A checkpoint's parts: its mappings, lists, modules and tensors, by their keys."""

    def __init__(self, root: object, modules: Modules) -> None:
        """Start from a pickle's value."""
        self.root = root
        self.modules = modules
        self._holding: dict[int, tuple[object, bool]] = {}
        self._children: dict[int, tuple[object, dict[str, object]]] = {}
        self._entries = 0  # of all mappings together: objects may share one
        self._visits = 0  # of all walks together: values that are shared could keep them busy for ever

    # Choosing

    def weights(self) -> Part | None:
        """Return the part that holds the model's weights; None if no part does."""
        part = Part((), self.root)
        for _ in range(_DEEPEST_PART):
            inside = fields(part.value)
            if not inside or self.modules.of(part.value):
                break
            if _is_other_state(inside):
                return None
            is_known = bool(part.path) or _is_state_dict(part.value)
            without = frozenset(
                key for key, value in inside.items() if self._is_no_weight(key, value, is_known=is_known)
            )
            key = self._first(_WEIGHTS, inside) or self._lone(inside)
            if key is None and any(self.holds_tensors(value) for key, value in inside.items() if key not in without):
                return Part(part.path, part.value, without)
            key = key or self._first(_AVERAGES, inside) or self._only(without, inside)
            key = key or next((key for key in _WEIGHTS if _is_empty(inside, key)), None)
            if key is None:
                return None
            part = Part((*part.path, key), inside[key])
        if isinstance(part.value, (list, tuple)):  # as of a model's state and its optimizer's
            part = replace(part, without=self._optimizers(part.value))
        holds = next(self.tensors(part, once=True), None) is not None
        return part if self.modules.of(part.value) or holds or fields(part.value) == {} else None

    def _lone(self, inside: dict[str, object]) -> str | None:
        """Return the one key there is, where what it leads to holds an optimizer's state beside weights."""
        if len(inside) != 1:
            return None
        ((key, value),) = inside.items()
        below = fields(value) or {}
        return key if any(_is_other_state(fields(held)) for held in below.values()) else None

    def _optimizers(self, value: object) -> frozenset[str]:
        return frozenset(key for key, each in self.children(value).items() if _is_other_state(fields(each)))

    def _first(self, keys: Iterable[str], inside: dict[str, object]) -> str | None:
        """Return the first key whose value is a module, or holds tensors and is no optimizer's state."""
        return next((key for key in keys if key in inside and self._has_weights(inside[key])), None)

    def _only(self, keys: Iterable[str], inside: dict[str, object]) -> str | None:
        """Return the one key of such a value, whatever it is called; None where there are several."""
        found = [key for key in keys if self._has_weights(inside[key])]
        return found[0] if len(found) == 1 else None

    def _has_weights(self, value: object) -> bool:
        if self.modules.tensors.of(value) or _is_other_state(fields(value)):
            return False
        return self.modules.of(value) is not None or self.holds_tensors(value)

    def _is_no_weight(self, key: str, value: object, *, is_known: bool) -> bool:
        """Whether a value is none of the weights, by its key; ``is_known`` of what is a model's, where a tensor is."""
        # A dotted name is a parameter's, whatever it starts with.
        if self.modules.tensors.of(value) is not None and (is_known or "." in key):
            return False
        return _NO_WEIGHTS.fullmatch(key) is not None or _is_other_state(fields(value))

    def at(self, path: str) -> Part | None:
        """Return the part at a dotted path, whose keys may have dots themselves; None if there is none."""
        value, taken, rest = self.root, [], path
        while rest:
            inside = self.children(value)
            key = max((key for key in inside if rest == key or rest.startswith(f"{key}.")), key=len, default=None)
            if key is None:
                return None
            value, rest = inside[key], rest[len(key) + 1 :]
            taken.append(key)
        return Part(tuple(taken), value)

    # Looking inside

    def children(self, value: object) -> dict[str, object]:
        """Return what is directly in a value by key, apart from numbers, text and the like."""
        if id(value) not in self._children:  # which may be in many places
            self._children[id(value)] = (value, self._inside(value))
        return self._children[id(value)][1]

    def _inside(self, value: object) -> dict[str, object]:
        module = self.modules.of(value)
        if module is not None:
            inside = {**module.parameters, **module.buffers, **module.modules}
        elif (packed := torch_packed.packed_object(value)) is not None:
            inside = torch_packed.within(packed, self.modules.tensors)
        elif isinstance(value, (list, tuple)):
            return {str(number): each for number, each in enumerate(value) if isinstance(each, _CONTAINERS)}
        else:
            inside = fields(value) or {}
        self._look_over(len(inside))
        return {key: each for key, each in inside.items() if isinstance(each, _CONTAINERS)}

    def holds_tensors(self, value: object) -> bool:
        """Whether a tensor is anywhere in a value."""
        if isinstance(value, Record) and value.known is not None:
            return True
        if id(value) not in self._holding:
            self._holding[id(value)] = (value, next(iter(self.tensors(Part((), value), once=True)), None) is not None)
        return self._holding[id(value)][1]

    def tensors(self, part: Part, *, once: bool = False) -> Iterator[Named]:
        """Yield the tensors of a part in its order; ``once`` leaves out further names of what holds them.

        Raises:
            MalformedPickle: a tensor could not be built, or the part is nested beyond all reason.

        """
        naming = Naming(self.modules.stored)
        tensor_of = self.modules.tensors.of
        own = part.path[-1] if part.path else "tensor"
        waiting: list[tuple[str, Iterator[tuple[str, object]]]] = [("", iter([("", part.value)]))]
        seen: set[int] = set()
        while waiting:
            above, values = waiting[-1]
            for key, value in values:
                name = naming.below(above, key)
                self._visit(len(waiting) - 1)
                if once and id(value) in seen:
                    continue
                seen.add(id(value))
                tensor = tensor_of(value)
                if tensor is not None:
                    yield Named(name or own, value, tensor)
                    continue
                children = self.children(value)
                if len(waiting) == 1 and part.without:
                    children = {each: children[each] for each in children if each not in part.without}
                waiting.append((name, iter(children.items())))
                break
            else:
                waiting.pop()

    def _look_over(self, entries: int) -> None:
        self._entries += entries
        if self._entries > _MOST_ENTRIES + _ENTRIES_EACH * self.modules.stored:
            raise MalformedPickle(f"it shares or holds more than {self._entries - entries:,} values")

    def _visit(self, depth: int) -> None:
        self._visits += 1
        if self._visits > _MOST_VISITS + _VISITS_EACH * self.modules.stored:
            raise MalformedPickle(f"it shares or holds more than {self._visits - 1:,} values")
        if depth > _DEEPEST:
            raise MalformedPickle(f"it nests values more than {_DEEPEST} deep")

    # What is left out

    def beside(self, part: Part) -> Iterator[tuple[str, list[Named]]]:
        """Yield what holds tensors outside of a part, by path."""
        value: object = self.root
        for depth, key in enumerate(part.path):
            inside = self.children(value)
            yield from self._listed(part.path[:depth], {each: inside[each] for each in inside if each != key})
            value = inside[key]
        inside = self.children(value)
        yield from self._listed(part.path, {key: each for key, each in inside.items() if key in part.without})

    def _listed(self, path: tuple[str, ...], values: dict[str, object]) -> Iterator[tuple[str, list[Named]]]:
        for key, value in values.items():
            found = list(self.tensors(Part((), value), once=True))
            if found:
                yield ".".join((*path, key)), found

    def paths(self) -> Iterable[str]:
        """Return the paths of parts that hold tensors, near the top, for a word that names none."""
        found: list[str] = []
        for key, value in self.children(self.root).items():
            if self.holds_tensors(value) and len(found) < 1000:  # noqa: PLR2004  # enough to find the closest
                found.append(key)
                found += [f"{key}.{below}" for below, each in self.children(value).items() if self.holds_tensors(each)]
        return found


def _is_empty(inside: dict[str, object], key: str) -> bool:
    return key in inside and fields(inside[key]) == {}


def _is_other_state(inside: dict[str, object] | None) -> bool:
    """Whether a mapping is the state of an optimizer, or of generators of random numbers."""
    if inside is None:
        return False
    is_optimizer = inside.keys() >= _OPTIMIZER and fields(inside["state"]) is not None
    return is_optimizer or any(inside.keys() >= keys for keys in _RANDOM)


def _is_state_dict(value: object) -> bool:
    """Whether a mapping is what ``nn.Module.state_dict()`` returned, which says of which versions the modules were."""
    attributes = fields(value.state) if isinstance(value, Record) else None
    return bool(fields((attributes or {}).get("_metadata")))


def stored(tensors: Sequence[Named]) -> list[Stored]:
    """Return tensors as all kinds of files describe theirs."""
    several = shared(tensors)
    return [_stored(named, several) for named in tensors]


def _stored(named: Named, several: Set[str]) -> Stored:
    name, _, tensor = named
    storage = tensor.storage
    # A state dict holds tensors that were detached: that they require no gradient says nothing of the parameters.
    grad = tensor.requires_grad if tensor.is_parameter or tensor.requires_grad else None
    own = None if storage is not None and storage.key not in several else memory(named)
    return Stored(name, tensor.shape or (), tensor.dtype, tensor.numel, tensor.nbytes, grad, own)


def shared(tensors: Iterable[Named]) -> Set[str]:
    """Return the keys of the storages that several of the tensors are in."""
    keys = [named.tensor.storage.key for named in tensors if named.tensor.storage is not None]
    return {key for key, number in Counter(keys).items() if number > 1}


def memory(named: Named) -> Hashable:
    """Return what is equal for the names of one tensor."""
    tensor = named.tensor
    if tensor.storage is None or not tensor.numel:
        return id(named.value)
    return (tensor.storage.key, tensor.storage.start + tensor.offset, tensor.dtype, tensor.shape, tensor.stride)
