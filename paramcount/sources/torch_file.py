"""What torch.save wrote, in one file or in several: counted from its structure, and nothing in it is ever run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from paramcount.errors import UnknownTarget, UnreadableFile, UsageError, closest, did_you_mean
from paramcount.files import (
    deepspeed,
    distributed,
    foreign,
    shards,
    state_dict,
    state_keys,
    tars,
    torch_archive,
    torch_folders,
    torch_modules,
    torch_packed,
)
from paramcount.files.arrays import NOTE, Arrays
from paramcount.files.configuration import beside
from paramcount.files.kinds import kind
from paramcount.files.packed import LONGEST_VALUE, VALUES, Config, packed_note
from paramcount.files.pickles import MalformedPickle
from paramcount.files.ranges import Ranges, expanded, last, listed, opened, parent, within
from paramcount.files.stored import Stored
from paramcount.files.torch_archive import Archive
from paramcount.files.torch_folders import Choice
from paramcount.files.torch_modules import Modules
from paramcount.files.torch_parts import Named, Part, Parts, are_data, memory, shared, stored
from paramcount.files.torch_tensors import Tensors, fields
from paramcount.files.torch_zip import MalformedZip
from paramcount.inventory import EXTRA_STATE, Inventory, Note, Special
from paramcount.pause import paused_collector
from paramcount.sources import Target
from paramcount.units import exact, plural, size
from paramcount.urls import is_url, parted, shown

EXAMPLE = "model.pt, checkpoint.ckpt:state_dict"
LIBRARIES = ()
IS_CATALOGUE = False
MEANING = "a file of torch.save, or a folder of them, never run; a dotted path picks a part"

_NAME = "torch_file"
_FORM = re.compile(r"(?P<file>.+?\.(?:pt|pth|bin|ckpt|pt2))(?::(?P<part>.+))?", re.DOTALL)
_ANY = re.compile(r"(?P<file>[^:]+)(?::(?P<part>.+))?", re.DOTALL)  # which only a prefix makes such a file
_PARTS_LISTED = 8
_STORAGES = "data"  # the folder in an archive of torch.save
_MOST_REQUESTS = 50
_QUANTISED = ("qint", "quint")  # dtypes


def claims(word: str) -> bool:
    """Whether the word ends as torch.save's files do, or is a folder with one of them; a part's path may follow."""
    if parted(word, _FORM) is not None:
        return True
    named = parted(word, _ANY)
    if named is None:
        return False
    # Of what is elsewhere nothing is asked before a prefix says what it is.
    return (
        _is_described(named[0])
        or _is_description(named[0])
        or (not is_url(named[0]) and torch_folders.is_one(expanded(named[0])))
    )


def names() -> Iterable[str]:
    """Return such files in the current folder."""
    return sorted(path.name for path in Path.cwd().iterdir() if claims(path.name))


def read(target: Target, name: str) -> Inventory:
    """Read a checkpoint or a pickled module, without importing torch or reading any tensor's data.

    Raises:
        UnknownTarget: there is no such file, or no such part of it.
        UsageError: arguments are given, or a part of what is in several files.
        UnreadableFile: it is not what torch.save writes, or holds no weights.

    """
    formed = parted(name, _FORM)
    named = formed or parted(name, _ANY)
    if named is None:
        raise UnknownTarget(f"{name!r} names no file of torch.save", hint=f"for example: {EXAMPLE}")
    target.demand_bare("a file")
    wanted = _Wanted(expanded(named[0]), named[1], target.word)
    with paused_collector():
        if _is_described(wanted.path):
            message = f"{wanted.place} holds what one process saved, and what that is stands in the .metadata beside it"
            raise UnreadableFile(message, hint=f"name the folder: {shown(parent(wanted.path)) or '.'}")
        may_be_folder = formed is None or not is_url(wanted.path)  # which spares a store the question
        if may_be_folder and listed(wanted.path) is not None:
            return _folder(wanted)
        return _described(wanted) if _is_description(wanted.path) else _file(wanted)


def _is_described(path: str) -> bool:
    """Whether the file is one of torch.distributed.checkpoint's, which another describes."""
    return distributed.is_data(last(path))


def _is_description(path: str) -> bool:
    """Whether the file says what is in others."""
    return last(path) == torch_folders.METADATA or torch_folders.INDEX.fullmatch(last(path)) is not None


# Where the weights are ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be counted."""

    path: str  # that opens the file
    part: str | None  # of what is in it
    word: str  # that the user wrote
    notes: tuple[Note, ...] = ()  # what there is to say before anything is read

    @property
    def place(self) -> str:
        """The file, for messages."""
        return shown(self.path)

    @property
    def config(self) -> Config:
        """What reads the config.json beside the file."""
        return partial(beside, self.path)

    def demand_whole(self) -> None:
        """Demand that no part is asked for: what is in several files has none."""
        if self.part is not None:
            hint = f"name a file, and its part: FILE:{self.part}"
            raise UsageError(f"{self.place} is in several files, of which no part can be picked", hint=hint)


def _folder(wanted: _Wanted) -> Inventory:
    folder, choice = wanted.path, torch_folders.choose(wanted.path)
    first = replace(wanted, path=within(folder, choice.files[0]), notes=(*wanted.notes, *_beside(choice)))
    match choice.kind:
        case "file":
            return _file(first)
        case "distributed":
            return _distributed(first, listed(parent(first.path)))
        case "unpacked":
            return _unpacked(first)
        case "index":
            return _indexed(replace(first, notes=wanted.notes))  # which says itself what it does not name
    first.demand_whole()
    files = _Files(are_layers=choice.kind == "layers")
    held = dict(zip(choice.files, shards.each_held(folder, choice.files, files.read), strict=True))
    return files.inventory(shards.merged(held, wanted.place), first)


def _described(wanted: _Wanted) -> Inventory:
    return _distributed(wanted) if last(wanted.path) == torch_folders.METADATA else _indexed(wanted)


def _indexed(wanted: _Wanted) -> Inventory:
    wanted.demand_whole()
    files = _Files()
    held, notes = shards.indexed(wanted.path, files.read, torch_folders.is_pickle)
    return files.inventory(held, replace(wanted, notes=(*wanted.notes, *notes)))


def _distributed(wanted: _Wanted, inside: list[str] | None = None) -> Inventory:
    """Read a checkpoint of torch.distributed.checkpoint; ``inside`` are the files there, where all have to be."""
    with opened(wanted.path) as file:
        checkpoint = distributed.read(file, _data(parent(wanted.path)))
    if inside is not None and (missing := sorted(checkpoint.files - set(inside))):
        raise UnreadableFile(
            f"{wanted.place} says that data are in {shards.several(missing)} beside it: that is missing",
            hint=f"fetch what is missing, or count by the description alone: {wanted.place}",
        )
    return _inventory(
        Archive(checkpoint.state, calls=checkpoint.calls), replace(wanted, notes=(*wanted.notes, distributed.TIES))
    )


def _unpacked(wanted: _Wanted) -> Inventory:
    """Read what was an archive of torch.save before somebody unpacked it."""
    folder = within(parent(wanted.path), _STORAGES)
    keys = listed(folder) or []
    # Of many storages that are far away, each would take a request.
    sizes = {key: None if is_url(folder) else _size(within(folder, key)) for key in keys}
    with opened(wanted.path) as file:
        return _inventory(torch_archive.read_unpacked(file, sizes), wanted)


def _data(folder: str) -> int:
    """Return the bytes of the data beside a checkpoint's metadata; 0 where each file would take a request."""
    if is_url(folder):
        return 0
    return sum(_size(within(folder, name)) for name in listed(folder or ".") or [] if distributed.is_data(name))


def _size(path: str) -> int:
    with opened(path) as file:
        return file.known_size or 0


def _file(wanted: _Wanted) -> Inventory:
    wanted = replace(wanted, notes=(*wanted.notes, *shards.one_of_several(wanted.path)))
    with opened(wanted.path) as file:
        if tars.is_tar(file.upto(0, foreign.START)):
            with torch_archive.calls_in_tar(file).said_on_failure():
                member, note = tars.weights(file)
            if kind(member) == "safetensors":
                return _safetensors(member, replace(wanted, notes=(note, *wanted.notes)))
        return _inventory(torch_archive.read(file), wanted, file)


def _safetensors(member: Ranges, wanted: _Wanted) -> Inventory:
    """Read what a tar archive holds in another format than torch.save's."""
    from paramcount.files import safetensors

    wanted.demand_whole()
    found = state_dict.inventory(
        safetensors.tensors(member),
        target=wanted.word,
        source="safetensors",
        notes=wanted.notes,
        config=wanted.config,
    )
    return replace(found, form="other" if any(param.packed for param in found.params) else "state dict")


def _beside(choice: Choice) -> Iterable[Note]:
    if choice.beside:
        yield shards.beside_note(choice.files, choice.beside)


class _Files:
    """Files that hold a model together."""

    def __init__(self, *, are_layers: bool = False) -> None:
        """Take files of whose tensors the names are those in the model; or, as pipelines have it, in a layer."""
        self._are_layers = are_layers
        self._buffers: dict[str, frozenset[str]] = {}  # of those files that say, by their paths
        self._notes: dict[str, tuple[Note, ...]] = {}  # the same: they may be read in any order

    def read(self, path: str) -> list[Stored]:
        """Return what one holds."""
        with opened(path) as file:
            return self._held(file, path)

    def _held(self, file: Ranges, path: str) -> list[Stored]:
        archive = torch_archive.read(file)
        with archive.calls.said_on_failure():
            return self._told(file, path, archive)

    def _told(self, file: Ranges, path: str, archive: Archive) -> list[Stored]:
        place = file.name
        try:
            parts, part = _chosen(archive)
            if part is None:
                raise _no_weights(place, parts, archive)
            tensors, buffers, notes = _whole(part, parts)
            held = _with_elements(tensors, archive, file)
        except (MalformedPickle, MalformedZip) as error:
            raise UnreadableFile(f"{place}: {error}", hint=torch_archive.HINT) from error
        if buffers is not None:
            self._buffers[path] = buffers
        self._notes[path] = (*archive.notes, *archive.calls.notes(), *_left_out(place, part, parts), *notes)
        layer = f"{torch_folders.layer(path)}." if self._are_layers else ""
        # What a tensor has in common with another is in the same file.
        return [
            each._replace(name=layer + each.name, memory=None if each.memory is None else (path, each.memory))
            for each in held
        ]

    def inventory(self, held: list[Stored], wanted: _Wanted) -> Inventory:
        """Return what all hold."""
        notes = (note for path in sorted(self._notes) for note in self._notes[path])
        found = state_dict.inventory(
            held,
            target=wanted.word,
            source=_NAME,
            buffers=frozenset().union(*self._buffers.values()) if self._buffers else None,
            notes=(*wanted.notes, *notes, *((_PIPELINE,) if self._are_layers else ())),
            config=wanted.config,
        )
        is_plain = not self._are_layers and not any(param.packed for param in found.params)
        return replace(found, form="state dict" if is_plain else "other")


_PIPELINE = Note(
    "ties-unknown",
    "",
    "DeepSpeed's pipelines keep each layer in a file of its own: where weights are tied, they count in each of theirs",
)


# What is counted of one file ------------------------------------------------------------------------------------------


def _inventory(archive: Archive, wanted: _Wanted, file: Ranges | None = None) -> Inventory:
    with archive.calls.said_on_failure():
        try:
            return _counted(archive, wanted, file)
        except (MalformedPickle, MalformedZip) as error:
            raise UnreadableFile(f"{wanted.place}: {error}", hint=torch_archive.HINT) from error


def _counted(archive: Archive, wanted: _Wanted, file: Ranges | None) -> Inventory:
    path, notes = wanted.part, (*archive.notes, *archive.calls.notes(), *wanted.notes)
    parts, part = _chosen(archive, path)
    if part is None:
        raise _no_weights(wanted.place, parts, archive) if path is None else _no_part(wanted.place, path, parts)
    if isinstance(parts.modules.tensors, Arrays):
        notes = (*notes, NOTE)
    model = parts.together(part)
    tensors, buffers, sharded = ([], None, ()) if model is not None else _whole(part, parts)
    if path is None and file is not None and tensors and are_data(part, tensors):
        message = f"{wanted.place} holds no weights of a model: all its tensors are of integers, as of a data set"
        raise UnreadableFile(message, hint="name the file of weights")
    if path is None:
        notes = (*notes, *_together(wanted.place, part, parts), *_left_out(wanted.place, part, parts))
        notes = (*notes, *_constants(archive))
    notes = (*notes, *_arrays(parts))
    if model is not None:
        return torch_modules.read(model, parts.modules, target=wanted.word, source=_NAME, notes=notes)
    if not tensors and path is not None and fields(part.value) != {}:
        raise UnreadableFile(f"{wanted.place}: {path} holds no tensors", hint=_choices(wanted.place, parts))
    held = _with_elements(tensors, archive, file)
    scales = list(_unwrapped(tensors, held, parts))
    keys = fields(part.value) or {}
    extra_states = dict.fromkeys(key for key in keys if key.rpartition(".")[2] == EXTRA_STATE)
    inventory = state_dict.inventory(
        [*held, *scales],
        target=wanted.word,
        source=_NAME,
        buffers=buffers,
        notes=(*notes, *sharded, *_views(tensors), *_packed(held)),
        config=wanted.config,
        extra_states=extra_states,
        overhead={each.name for each in scales} | set(_scales_of_functions(part.value, tensors)),
    )
    if sharded or fields(part.value) is None or any(param.packed for param in inventory.params):
        inventory = replace(inventory, form="other")
    else:
        of_keys = state_keys.special(part, tensors if file is not None else (), parts)
        inventory = replace(inventory, form="state dict", special=(*inventory.special, *of_keys))
        if path is None and part.path:
            inventory = replace(inventory, special=(*inventory.special, Special(".".join(part.path), "part")))
    why = (
        "is empty in DeepSpeed's file, which keeps no shape of it" if sharded else "had no shape yet when it was saved"
    )
    return _with_lazy(inventory, {each.name for each in tensors if each.tensor.shape is None}, why)


def _chosen(archive: Archive, path: str | None = None) -> tuple[Parts, Part | None]:
    """Return a file's parts, and the one that counts: where no tensor is in it, with arrays of NumPy's for tensors."""
    tried: list[tuple[Parts, Part | None]] = []
    for tensors in (Tensors(), Arrays()):
        parts = Parts(archive.root, Modules(tensors, archive.code, archive.stored))
        part = parts.weights() if path is None else parts.at(path)
        if part is not None and (parts.modules.of(part.value) or parts.holds_tensors(part.value)):
            return parts, part
        tried.append((parts, part))
    return tried[0]


def _with_elements(tensors: list[Named], archive: Archive, file: Ranges | None) -> list[Stored]:
    """Return tensors as all kinds of files describe theirs, with the elements of those that say how others are packed.

    Each takes a request where the file is far away: of many, none is read.
    """
    held = stored(tensors)
    places = [at for at, each in enumerate(held) if each.name.endswith(VALUES) and each.nbytes <= LONGEST_VALUE]
    if file is None or (file.is_far and len(places) > _MOST_REQUESTS):
        return held
    for at in places:
        held[at] = held[at]._replace(value=archive.elements(tensors[at].tensor))
    return held


def _unwrapped(tensors: list[Named], held: list[Stored], parts: Parts) -> Iterator[Stored]:
    """Put what they are stored in for tensors of subclasses that pack their weights, and yield what scales tensors."""
    for at, named in enumerate(tensors):
        if named.tensor.dtype.startswith(_QUANTISED):
            for ending, each in torch_packed.channels(named.value, parts.modules.tensors).items():
                yield Stored(named.name + ending, each.shape or (), each.dtype, each.numel, each.nbytes)
        weight = torch_packed.wrapped(named.value, parts.modules.tensors)
        if weight is not None and weight.nbytes is not None:
            held[at] = held[at]._replace(dtype=weight.dtype, nbytes=weight.nbytes, packed=True)
            for ending, each in weight.overhead.items():
                yield Stored(named.name + ending, each.shape or (), each.dtype, each.numel, each.nbytes)


def _scales_of_functions(value: object, tensors: list[Named]) -> Iterator[str]:
    """Yield the names of what scales the outcome of a quantised function, which the live module has as plain numbers.

    ``QFunctional`` of torch/ao/nn/quantized/modules/functional_modules.py has a module below, as the state dict says,
    and no other of those with a scale has, but one that quantises for show while a model is trained.
    """
    names = {named.name for named in tensors}
    for module in state_keys.versions(value):
        place, _, key = module.rpartition(".")
        if key == "activation_post_process" and f"{place}.fake_quant_enabled" not in names:
            yield from (f"{place}.scale", f"{place}.zero_point")


def _whole(part: Part, parts: Parts) -> tuple[list[Named], frozenset[str] | None, tuple[Note, ...]]:
    """Return the tensors of a part in full size, the buffers among them where that is known, and what to say."""
    tensors = list(parts.tensors(part))
    buffers = _buffers(tensors)
    if part.path != (deepspeed.WEIGHTS,) or (found := fields(parts.root)) is None:
        return tensors, buffers, ()
    tensors, notes = deepspeed.whole(tensors, found)
    return tensors, deepspeed.buffers(tensors, found) if buffers is None else buffers, notes


def _no_weights(file: str, parts: Parts, archive: Archive) -> UnreadableFile:
    if archive.code:
        hint = "count the module itself, FILE.py:Net, or save its state_dict() by torch.save"
        return UnreadableFile(f"{file} is a TorchScript program whose modules cannot be told", hint=hint)
    if parts.is_optimizer(parts.root):
        message = f"{file} is the state of an optimizer, and holds no weights of a model"
        return UnreadableFile(message, hint=_choices(file, parts))
    written = ", which pickle.dump() wrote," if torch_archive.PLAIN in archive.notes else ""
    message = f"{file}{written} holds no weights of a model"
    return UnreadableFile(message, hint=_choices(file, parts))


def _with_lazy(inventory: Inventory, lazy: set[str], why: str) -> Inventory:
    """Return the inventory with the parameters whose shape is not known as such."""
    if not lazy:
        return inventory
    others = f", as {plural(len(lazy) - 1, 'other')}" if len(lazy) > 1 else ""
    message = f"{why}{others}: totals are lower bounds"
    params = (
        param._replace(shape=None, numel=None, nbytes=None) if param.name in lazy else param
        for param in inventory.params
    )
    return replace(inventory, params=tuple(params), notes=(*inventory.notes, Note("uninitialized", min(lazy), message)))


def _no_part(file: str, path: str, parts: Parts) -> UnknownTarget:
    near = [f"{file}:{each}" for each in closest(path, parts.paths())]
    return UnknownTarget(f"{file} has no part {path!r}", hint=did_you_mean(near) or _choices(file, parts))


def _choices(file: str, parts: Parts) -> str | None:
    found = [f"{file}:{key}" for key, value in parts.children(parts.root).items() if parts.holds_tensors(value)]
    return f"parts with tensors: {', '.join(found[:_PARTS_LISTED])}" if found else None


# Tensors --------------------------------------------------------------------------------------------------------------


def _buffers(tensors: list[Named]) -> frozenset[str] | None:
    """Return the names of buffers where parameters are marked as such, as by ``state_dict(keep_vars=True)``.

    Where some weights are marked, and others are not, somebody has put single parameters among detached tensors.
    """
    # A lazy parameter is kept as one by any state dict.
    if not any(each.tensor.is_parameter and each.tensor.shape is not None for each in tensors):
        return None
    # A quantised weight is in no registry of its layer: its state dict has it as a plain tensor.
    names = {each.name for each in tensors if not (each.tensor.is_parameter or _is_quantised(each))}
    return None if any(_is_weight(name, names) for name in names) else frozenset(names)


def _is_quantised(each: Named) -> bool:
    return each.tensor.dtype.startswith(_QUANTISED) or torch_packed.is_in_object(each.name)


def _is_weight(name: str, names: Set[str]) -> bool:
    """Whether a name is that of a layer's weight or bias, which no layer has as a buffer but frozen batch norm."""
    module, dot, key = name.rpartition(".")
    beside = module + dot
    is_frozen_norm = f"{beside}running_var" in names and f"{beside}num_batches_tracked" not in names
    return key in {"weight", "bias"} and not is_frozen_norm


# Notes ----------------------------------------------------------------------------------------------------------------


def _together(file: str, part: Part, parts: Parts) -> Iterable[Note]:
    """Note the models that count together, such as the networks of an agent."""
    models = parts.models(part)
    if len(models) > 1:
        listed = [f"{path} ({_extent(tensors)})" for path, tensors in models.items()]
        message = f"{_some(listed)} are counted together. To count one of them, name it: {file}:{next(iter(models))}"
        yield Note("together", "", message)


def _arrays(parts: Parts) -> Iterable[Note]:
    held = list(parts.arrays.items())
    if held:
        elements = plural(sum(each.numel for _, each in held), "element")
        others = f", as {plural(len(held) - 1, 'other')}" if len(held) > 1 else ""
        message = f"is an array of NumPy among tensors{others}: not counted ({elements} in all)"
        yield Note("left-out", held[0][0], message)


def _some(listed: list[str]) -> str:
    more = len(listed) - _PARTS_LISTED
    return ", ".join(listed[:_PARTS_LISTED]) + (f" and {exact(more)} more" if more > 0 else "")


def _left_out(file: str, part: Part, parts: Parts) -> Iterable[Note]:
    beside = list(parts.beside(part))
    if not beside:
        return
    names = _some([f"{path} ({_extent(tensors)})" for path, tensors in beside])
    counted = f"what is counted is {'.'.join(part.path)}" if part.path else "what is counted are the weights"
    message = f"{counted}; left out: {names}. To count one of those, name it: {file}:{beside[0][0]}"
    yield Note("left-out", "", message)


def _extent(tensors: list[Named]) -> str:
    each = {memory(named): named.tensor for named in tensors}.values()
    elements = plural(sum(tensor.numel for tensor in each), "element")
    return f"{plural(len(each), 'tensor')}, {elements}, {size(sum(tensor.nbytes for tensor in each))}"


def _packed(held: Iterable[Stored]) -> Iterable[Note]:
    if packed := [each for each in held if each.packed]:
        yield packed_note("a class of its own", packed, "their shapes")


def _constants(archive: Archive) -> Iterable[Note]:
    if archive.constants:
        held = plural(archive.elements_of_constants, "element")
        what = f"{held} ({size(archive.constants)})" if archive.elements_of_constants else size(archive.constants)
        message = f"the program keeps {what} as constants: no parameters and no buffers to PyTorch"
        yield Note("left-out", "", message)


def _views(tensors: list[Named]) -> Iterable[Note]:
    """Note tensors that share memory, but are not the same tensor."""
    several, firsts, views = shared(tensors), dict[str, Named](), dict[str, list[Named]]()
    for named in tensors:
        storage = named.tensor.storage
        if storage is None or storage.key not in several or not named.tensor.numel:
            continue
        first = firsts.setdefault(storage.key, named)
        if memory(first) != memory(named):
            views.setdefault(storage.key, []).append(named)
    for key, found in views.items():
        if len(found) > 1:
            are_flat = all(named.tensor.is_contiguous for named in (firsts[key], *found))
            why = ", as in the flat buffer of ZeRO or FSDP" if are_flat else ""
            message = f"{plural(len(found) + 1, 'tensor')} are views of one storage{why}: each counts in full"
            yield Note("shared-storage", firsts[key].name, message)
        else:
            message = (
                f"is a view of the same storage as {firsts[key].name}, and not the same tensor: both count in full"
            )
            yield Note("shared-storage", found[0].name, message)
