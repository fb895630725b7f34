"""Finds the weights among all that a checkpoint holds, and tells them from optimizers, averages and counters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from paramcount.files import torch_packed
from paramcount.files.arrays import array
from paramcount.files.pickles import MalformedPickle, Pairs, Record
from paramcount.files.stored import Stored
from paramcount.files.torch_modules import Modules, Naming
from paramcount.files.torch_tensors import Tensor, attributes, fields

# Where trainers keep the weights, the likelier first.
_WEIGHTS = ("state_dict", "model_state_dict", "model_state", "model", "module", "network", "net", "weights", "params")
# Where they keep averages of them, which count where there is nothing else.
_AVERAGES = ("params_ema", "state_dict_ema", "model_state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema")
# What a training run keeps beside them, whatever is in it.
_NO_WEIGHTS = re.compile(
    r"(optimi[sz]ers?|optim|opt|lr_schedulers?|schedulers?|(grad_)?scaler|rng|cuda_rng|criterion|ema)(_.*)?"
    r"|lr|sched|amp|random|loops|callbacks|hyper_parameters|hparams|args|config|cfg|metrics|history"
    r"|loss(es|_fn|_func|_function|_state|_state_dict)?|param_groups|.*_(optimizers?|scheduler|ema)"
    r"|replay(_.*)?|rollouts?(_.*)?|(train_|val_|test_)?data(_?sets?)?"
)
# What it may keep under such a name, where it is no layer's state: figures, copies, settings.
_MAY_BE_NO_WEIGHTS = re.compile(
    r"(lr|sched|amp|random|loops|callbacks|hparams|args|config|cfg|best|loss|metrics|history|train|val|test)(_.*)?"
    r"|epochs?|(global_)?steps?|iterations?|step_.*|.*_(loss|losses|acc|accuracy|history|steps?)"
)
_COPIES = re.compile(r"(best|last|train|val|test|epochs?|(global_)?steps?)(_.*)?")  # as they were at some time
_FIGURES = re.compile(r"(.*_)?(loss|losses|acc|accuracy|history|metrics|lr|scores?)")  # of each epoch, in one dimension
_OPTIMIZERS_KEY = re.compile(r"([^.]*_)?(optimi[sz]ers?|optim|opt)(_[^.]*)?\.(state|param_groups)\..*", re.DOTALL)
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


_WEIGHT = re.compile(r"(?:.*[._])?(?:weight|bias|kernel|embedding)s?(?:_.*)?")  # the key of a layer's tensor
_BELOW_PARTS = 2  # levels at which the keys have been looked at, as the part was chosen
_MOST_COMPARED = 10_000  # tensors


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
        self._objects: dict[int, tuple[object, dict[str, object]]] = {}
        self._samples: dict[int, tuple[object, list[Named]]] = {}
        self._inner_states: dict[int, tuple[str, object]] = {}  # of optimizers, among what is counted
        self.arrays: dict[str, Tensor] = {}  # of NumPy, by name: among the tensors that were yielded, and no tensors

    # Choosing

    def weights(self) -> Part | None:
        """Return the part that holds the model's weights; None if no part does."""
        part = Part((), self.root)
        for _ in range(_DEEPEST_PART):
            inside = self.entries(part.value)
            if not inside or self.modules.of(part.value):
                break
            if self.is_other_state(part.value):
                return None
            has_tensors = any(
                not _is_a_trainers(key) and self.modules.tensors.of(value) for key, value in inside.items()
            )
            # A part that is found by its name is a model's, but where what is in it are models themselves.
            is_known = _is_state_dict(part.value) or (
                bool(part.path) and (has_tensors or not any(map(self._has_weights, inside.values())))
            )
            is_flat = is_known or has_tensors
            without = frozenset(key for key in inside if self._is_no_weight(key, inside, is_known, is_flat))
            key = self._first(_WEIGHTS, inside) or self._lone(inside)
            found = (each for each in inside if each not in without and self.holds_tensors(inside[each]))
            holding = list(islice(found, 2))  # enough to tell whether there are several
            if key is None and len(holding) == 1 and self._may_be_copy(holding[0], inside):
                key = holding[0]
            if key is None and holding:
                return Part(part.path, part.value, without)
            key = key or self._first(_AVERAGES, inside) or self._only(without, inside)
            key = key or next((key for key in _WEIGHTS if key in inside and fields(inside[key]) == {}), None)
            if key is None:
                return None
            part = Part((*part.path, key), inside[key])
        holds = next(self.tensors(part, once=True), None) is not None
        return part if self.modules.of(part.value) or holds or fields(part.value) == {} else None

    def _lone(self, inside: dict[str, object]) -> str | None:
        """Return the one key there is, where what it leads to holds an optimizer's state beside weights."""
        if len(inside) != 1:
            return None
        ((key, value),) = inside.items()
        below = self.entries(value) or {}
        return key if any(map(self.is_other_state, below.values())) else None

    def _first(self, keys: Iterable[str], inside: dict[str, object]) -> str | None:
        """Return the first key whose value is a module, or holds tensors and is no optimizer's state."""
        return next((key for key in keys if key in inside and self._has_weights(inside[key])), None)

    def _only(self, keys: Iterable[str], inside: dict[str, object]) -> str | None:
        """Return the one key of such a value, whatever it is called; None where there are several."""
        found = [key for key in keys if self._has_weights(inside[key]) and not self._is_table(inside[key])]
        return found[0] if len(found) == 1 else None

    def _has_weights(self, value: object) -> bool:
        if self.modules.tensors.of(value) or self.is_other_state(value):
            return False
        return self.modules.of(value) is not None or self.holds_tensors(value)

    def _is_no_weight(self, key: str, inside: dict[str, object], is_known: bool, is_flat: bool) -> bool:  # noqa: FBT001  # of one caller
        """Whether a value is none of the weights: by what it is, and by its key where that leaves it open.

        Args:
            key: of the value.
            inside: the mapping that it is in.
            is_known: whether that is a model's, whose tensors are all its own.
            is_flat: whether it has tensors that are a model's.

        """
        value = inside[key]
        tensor = self.modules.tensors.of(value)
        if tensor is not None:
            if not is_known and _OPTIMIZERS_KEY.fullmatch(key):  # torch.distributed.checkpoint makes names of all keys
                return True
            # Any other dotted name is a parameter's, whatever it starts with.
            if is_known or tensor.is_parameter or "." in key or not _is_a_trainers(key):
                return False
            return not is_flat or _is_figure(key, tensor)
        if self.is_other_state(value) or _NO_WEIGHTS.fullmatch(key):
            return True
        if _MAY_BE_NO_WEIGHTS.fullmatch(key):
            return not self._is_layer(value) or (_COPIES.fullmatch(key) is not None and self._is_copy(key, inside))
        return self._is_table(value) or self._are_figures(value)

    def _are_figures(self, value: object, depth: int = 0) -> bool:
        """Whether all in a mapping are single numbers, such as losses, and none has the name of a weight."""
        if self.modules.tensors.of(value) is not None or self.modules.of(value) is not None or _is_state_dict(value):
            return False
        inside = self.children(value) if depth < _DEEPEST_PART else {}
        return bool(inside) and all(
            self._is_number(key, each) or self._are_figures(each, depth + 1) for key, each in inside.items()
        )

    def _is_number(self, key: str, value: object) -> bool:
        tensor = self.modules.tensors.of(value)
        return tensor is not None and tensor.shape == () and not tensor.is_parameter and not _WEIGHT.fullmatch(key)

    def _may_be_copy(self, key: str, inside: dict[str, object]) -> bool:
        """Whether a value is a model's state under a name as that of the best one so far."""
        return _MAY_BE_NO_WEIGHTS.fullmatch(key) is not None and self._has_weights(inside[key])

    def _is_layer(self, value: object) -> bool:
        """Whether a value holds a layer's tensors, as their keys say."""
        return any(_WEIGHT.fullmatch(each.name) for each in self._sample(value)) or _is_state_dict(value)

    def _is_copy(self, key: str, inside: dict[str, object]) -> bool:
        """Whether another value of a mapping holds tensors of the same names and shapes, as beside the best so far."""
        forms = {(each.name, each.tensor.shape) for each in self._sample(inside[key])}
        others = (held for other, held in inside.items() if other != key and not _MAY_BE_NO_WEIGHTS.fullmatch(other))
        return any(forms == {(each.name, each.tensor.shape) for each in self._sample(other)} for other in others)

    def _is_table(self, value: object) -> bool:
        """Whether a value holds samples, as of a data set: tensors as long as one another, some of them of integers."""
        found = self._sample(value) if self.modules.of(value) is None else []
        lengths = {each.tensor.shape[:1] for each in found if each.tensor.shape is not None}
        kinds = {_is_of_integers(each.tensor) for each in found}
        is_even = len(found) > 1 and len(lengths) == 1 and lengths != {()} and True in kinds
        return is_even and not any(_WEIGHT.fullmatch(each.name) for each in found)

    def _sample(self, value: object) -> list[Named]:
        """Return the tensors of a value; none, where it is a tensor, holds none, or holds more than are looked at."""
        if self.modules.tensors.of(value) is not None or not self.holds_tensors(value):
            return []
        if id(value) not in self._samples:
            found = list(islice(self.tensors(Part((), value), once=True), _MOST_COMPARED + 1))
            self._samples[id(value)] = (value, found if len(found) <= _MOST_COMPARED else [])
        return self._samples[id(value)][1]

    def is_other_state(self, value: object) -> bool:
        """Whether a value is the state of an optimizer, or of generators of random numbers."""
        inside = self.entries(value) or {}
        return self.is_optimizer(value) or any(inside.keys() >= keys for keys in _RANDOM)

    def is_optimizer(self, value: object) -> bool:
        """Whether a value is the state of an optimizer, or an optimizer."""
        inside = self.entries(value) or {}
        return inside.keys() >= _OPTIMIZER and fields(inside["state"]) is not None

    def together(self, part: Part) -> Record | None:
        """Return the module that a part is, or that holds the several of which it consists; None of other parts."""
        if isinstance(part.value, Record) and self.modules.of(part.value):
            return part.value
        held: dict[str, object] = {}
        for key, each in self.children(part.value).items():
            if key in part.without:
                continue
            if self.modules.of(each):
                held[key] = each
            elif self.holds_tensors(each):
                return None
        return self.modules.holding(held) if held else None

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

    def entries(self, value: object) -> dict[str, object] | None:
        """Return the entries of a mapping, or the attributes of an object; None where a value has none."""
        found = fields(value)
        if found is not None or not isinstance(value, Record) or value.known is not None:
            return found
        if self.modules.tensors.of(value) is not None or self.modules.of(value) is not None:
            return None
        if id(value) not in self._objects:
            self._objects[id(value)] = (value, attributes(value) or _numbered(value.args, value.items))
        return self._objects[id(value)][1]

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
            return _numbered(value)
        else:
            inside = self.entries(value) or {}
        self._look_over(len(inside))
        return {key: each for key, each in inside.items() if isinstance(each, _CONTAINERS)}

    def holds_tensors(self, value: object) -> bool:
        """Whether a tensor is anywhere in a value."""
        if isinstance(value, Record) and isinstance(value.known, Tensor):
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
        waiting: list[tuple[str, object, Iterator[tuple[str, object]]]] = [("", None, iter([("", part.value)]))]
        seen: set[int] = set()
        while waiting:
            above, holder, values = waiting[-1]
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
                if isinstance(value, Record) and (held := array(value)) is not None:
                    if not once:
                        self.arrays[name or own] = held
                    continue
                children = self.children(value)
                if not children or any(value is each for _, each, _ in waiting):  # an object may refer to its owner
                    continue
                if len(waiting) == 1 and part.without:
                    children = {each: children[each] for each in children if each not in part.without}
                if len(waiting) > 1 and (
                    self.is_other_state(value)
                    or self._is_beside(key, holder, len(waiting))
                    or (not once and self._are_figures(value))
                ):
                    if not once:
                        self._inner_states[id(value)] = (name, value)
                    continue
                waiting.append((name, value, iter(children.items())))
                break
            else:
                waiting.pop()

    def _is_beside(self, key: str, holder: object, depth: int) -> bool:
        """Whether a value of a mapping within another lies beside the weights, by its key; a module has its own."""
        return depth > _BELOW_PARTS and _NO_WEIGHTS.fullmatch(key) is not None and self.modules.of(holder) is None

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

    # What is counted together, and what is left out

    def models(self, part: Part) -> dict[str, list[Named]]:
        """Return the tensors of each model in a part that consists of several, by path; what is in a layer is none."""
        if self.modules.of(part.value) is not None:
            return {}
        inside = {key: each for key, each in self.children(part.value).items() if key not in part.without}
        return {
            ".".join((*part.path, key)): list(self.tensors(Part((), each), once=True))
            for key, each in inside.items()
            if self._has_weights(each) and (self.modules.of(each) is not None or _is_of_a_model(each))
        }

    def beside(self, part: Part) -> Iterator[tuple[str, list[Named]]]:
        """Yield what holds tensors outside of a part, by path."""
        value: object = self.root
        for depth, key in enumerate(part.path):
            inside = self.children(value)
            yield from self._listed(part.path[:depth], {each: inside[each] for each in inside if each != key})
            value = inside[key]
        inside = self.children(value)
        yield from self._listed(part.path, {key: each for key, each in inside.items() if key in part.without})
        yield from self._listed(part.path, dict(self._inner_states.values()))

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


def _numbered(*values: object) -> dict[str, object]:
    """Return what may hold tensors in tuples and lists, by its number."""
    found = [each for held in values if isinstance(held, (list, tuple)) for each in held]
    return {str(number): each for number, each in enumerate(found) if isinstance(each, _CONTAINERS)}


def _is_a_trainers(key: str) -> bool:
    return (_NO_WEIGHTS.fullmatch(key) or _MAY_BE_NO_WEIGHTS.fullmatch(key)) is not None


def _is_figure(key: str, tensor: Tensor) -> bool:
    """Whether a tensor under a trainer's name is a figure, or one for each epoch, and no parameter, by its form."""
    if not tensor.shape or _is_of_integers(tensor):
        return True
    return len(tensor.shape) == 1 and _FIGURES.fullmatch(key) is not None


def _is_of_integers(tensor: Tensor) -> bool:
    return tensor.dtype.startswith(("int", "uint", "bool"))


def _is_state_dict(value: object) -> bool:
    """Whether a mapping is what ``nn.Module.state_dict()`` returned, which says of which versions the modules were."""
    attributes = fields(value.state) if isinstance(value, Record) else None
    return bool(fields((attributes or {}).get("_metadata")))


def _is_of_a_model(value: object) -> bool:
    return _is_state_dict(value) or any("." in key for key in fields(value) or ())


def are_data(part: Part, tensors: Iterable[Named]) -> bool:
    """Whether the tensors of a part are those of a data set, and no model's: all of integers, and none a weight."""
    return not _is_state_dict(part.value) and not any(
        not _is_of_integers(each.tensor) or _WEIGHT.fullmatch(each.name) for each in tensors
    )


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
