"""Turns the named tensors of a checkpoint into an Inventory: modules by their dotted names, buffers by theirs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence, Set
from operator import methodcaller

from paramcount.errors import UnreadableFile
from paramcount.files.buffer_names import Told, told
from paramcount.files.packed import Config, unpacked
from paramcount.files.stored import Stored
from paramcount.inventory import EXTRA_STATE, Buffer, Inventory, Module, Note, Param, Special
from paramcount.units import exact, plural

_MOST_PARTS = 1000  # of a name
_dots = methodcaller("count", ".")
_MOST_CHARACTERS = 64_000_000  # of the names of all modules: a million layers come to fewer

__all__ = ["Stored", "inventory"]


def inventory(
    tensors: Iterable[Stored],
    *,
    target: str,
    source: str,
    types: dict[str, str] | None = None,
    buffers: frozenset[str] | None = None,
    notes: tuple[Note, ...] = (),
    config: Config = lambda: None,
    extra_states: Iterable[str] = (),
    overhead: Set[str] = frozenset(),
) -> Inventory:
    """Return what a file holds.

    Args:
        tensors: in the file's order.
        target: the word that the user wrote.
        source: the kind of target.
        types: the classes of modules by dotted name, where the file says ("" is the model itself).
        buffers: the names of buffers, where the file says; else they are told by their names, and a note says so.
        notes: what else there is to say.
        config: returns what the config.json beside the file says; called where the width of packed weights needs it.
        extra_states: the keys of what modules keep beside tensors, where it is none.
        overhead: the names of tensors that say how others are packed, where the file says.

    Raises:
        UnreadableFile: the names have more modules in them than any model.

    """
    types = types or {}
    modules: dict[str, Module] = {"": Module("", types.get("", ""))}
    room = _MOST_CHARACTERS
    for name in types:
        if name not in modules:
            room = _add_module(name, modules, types, room)
    extra = dict.fromkeys(extra_states)
    given = list(tensors)
    names = [tensor.name for tensor in given]
    _demand_shallow(names, target)
    if any(EXTRA_STATE in name for name in names):
        keys = {tensor.name: key for tensor in given if (key := extra_state(tensor.name))}
        given = [tensor for tensor in given if tensor.name not in keys]
        extra.update(dict.fromkeys(keys.values()))
    if extra:
        notes = (*notes, _extra_note(list(extra)))
    found = unpacked(given, config)
    overhead |= found.overhead
    by_name = told(found.tensors, found.unclear | overhead) if buffers is None else Told({}, ())
    are_buffers = by_name.buffers if buffers is None else buffers
    params, stored_buffers, scales = [], [], []
    firsts: dict[Hashable, str] = {}
    for tensor in found.tensors:
        name, memory, tied_to = tensor.name, tensor.memory, None
        if memory is not None and (first := firsts.setdefault(memory, name)) != name:
            tied_to = first
        if overhead and name in overhead:  # its module is that of the weight, which is added with that
            scales.append(_buffer(tensor, tied_to))
            continue
        module = name.rpartition(".")[0]
        if module not in modules:
            room = _add_module(module, modules, types, room)
        if are_buffers and name in are_buffers and not tensor.packed:
            stored_buffers.append(_buffer(tensor, tied_to))
        else:
            # Up to what trains, the two have the same fields.
            params.append(Param(*tensor[:6], tied_to, tensor.packed))
    if buffers is None and (params or stored_buffers):
        notes = (*notes, *_told_by_name(by_name))
    return Inventory(
        target,
        source,
        tuple(modules.values()),
        tuple(params),
        tuple(stored_buffers),
        (*notes, *found.notes),
        tuple(scales),
        special=tuple(Special(key, "extra state") for key in extra),
    )


def _demand_shallow(names: Sequence[str], target: str) -> None:
    if max(map(len, names), default=0) < _MOST_PARTS:  # then none has as many dots, and no name is looked through
        return
    deepest = max(map(_dots, names)) + 1
    if deepest > _MOST_PARTS:
        raise _too_deep(f"{target}: a name has {exact(deepest)} parts, and {exact(_MOST_PARTS)} are allowed")


def extra_state(name: str) -> str | None:
    """Return the key of what a module keeps beside its tensors, of a name that is it, or is in it."""
    parts = name.split(".")
    return ".".join(parts[: parts.index(EXTRA_STATE) + 1]) if EXTRA_STATE in parts else None


def _extra_note(keys: list[str]) -> Note:
    others = f", and {plural(len(keys) - 1, 'more such key')}," if len(keys) > 1 else ""
    return Note("left-out", keys[0], f"what a module keeps beside its tensors{others} is no parameter: not counted")


def _buffer(tensor: Stored, tied_to: str | None) -> Buffer:
    return Buffer(tensor.name, tensor.shape, tensor.dtype, tensor.numel, tensor.nbytes, tied_to)


def _too_deep(problem: str) -> UnreadableFile:
    return UnreadableFile(problem, hint="no model has such names: ask where the file comes from")


def _add_module(name: str, modules: dict[str, Module], types: dict[str, str], room: int) -> int:
    """Add a module and all above it, those first; return for how many characters of names there is room after that."""
    missing = [name]
    room -= len(name)
    while (name := name.rpartition(".")[0]) not in modules:
        missing.append(name)
        room -= len(name)
    if room < 0:
        raise _too_deep(f"the names of its modules come to over {exact(_MOST_CHARACTERS)} characters")
    for below in reversed(missing):
        modules[below] = Module(below, types.get(below, "") if types else "")
    return room


def _told_by_name(by_name: Told) -> Iterator[Note]:
    number = len(by_name.buffers)
    kinds: dict[str, list[str]] = {}
    for name, kind in by_name.buffers.items():
        kinds.setdefault(kind, []).append(name)
    listed = "; ".join(f"{kind}: {_several(names)}" for kind, names in kinds.items())
    found = (
        f"{plural(number, 'buffer')} {'is' if number == 1 else 'are'} told by name ({listed})"
        if number
        else "none has the name of a buffer"
    )
    message = f"the file does not say which tensors are buffers: {found}, and all others count as parameters"
    yield Note("buffers-by-name", "", message)
    if doubtful := by_name.doubtful:
        others = f", as {plural(len(doubtful) - 1, 'other')}," if len(doubtful) > 1 else ""
        message = f"may be a buffer by its name{others} and counts as a parameter; --like MODEL decides"
        yield Note("perhaps-buffer", doubtful[0], message)


def _several(names: list[str]) -> str:
    more = len(names) - 1
    return names[0] if not more else f"{names[0]} and {exact(more)} more"
