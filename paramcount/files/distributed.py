"""Reads what torch.distributed.checkpoint says of a checkpoint: full shapes and dtypes, by name, in its ``.metadata``.

The form is that of ``Metadata`` in torch/distributed/checkpoint/metadata.py, which is pickled; no other file is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from paramcount.errors import UnreadableFile
from paramcount.files.pickles import MOST_BYTES, Cursor, Global, MalformedPickle, Pairs, Record, load
from paramcount.files.ranges import Ranges
from paramcount.files.risky_calls import RiskyCalls
from paramcount.files.torch_tensors import class_name, fields, sizes
from paramcount.inventory import Note

TIES = Note(
    "ties-unknown",
    "",
    "the checkpoint does not say which names are of one tensor: where weights are tied, each of their names counts",
)

_DEEPEST = 32  # keys in keys
_PIECE = 1000  # bytes, that each process's part of a tensor takes at least: it is in a file of torch.save
_MOST_PIECES = 1_000_000
_META = Global("torch._utils", "_rebuild_meta_tensor_no_storage")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was saved."""

    state: Pairs  # nested as it was, its tensors as torch.save pickles those that have no data
    files: frozenset[str]  # the names of those that the data are in
    calls: RiskyCalls  # that loading it would make


def is_data(name: str) -> bool:
    """Whether the name of a file is that of what one process saved."""
    return name.endswith(".distcp")


def read(file: Ranges, data: int = 0) -> Checkpoint:
    """Return what the metadata of a checkpoint describe, whose data take so many bytes, as far as that is known.

    Raises:
        UnreadableFile: they are none.

    """
    calls = RiskyCalls()
    with calls.said_on_failure():
        return _read(file, data, calls)


def _read(file: Ranges, data: int, calls: RiskyCalls) -> Checkpoint:
    try:
        if file.size > MOST_BYTES:
            raise MalformedPickle("it is too large")
        pieces = min(data // _PIECE, _MOST_PIECES)
        root = load(Cursor(file.read(0, file.size)), _refuse, watcher=calls, pieces=pieces)
        if not isinstance(root, Record) or class_name(root) != "Metadata":
            raise MalformedPickle("it describes no checkpoint")
        return Checkpoint(_state(_attributes(root)), frozenset(_files(_attributes(root))), calls)
    except MalformedPickle as error:
        message = f"{file.name} is no metadata of torch.distributed.checkpoint: {error}"
        raise UnreadableFile(message, hint="fetch or save it again; if it is whole, please report this") from error


def _refuse(_: object) -> object:
    raise MalformedPickle("it refers to storages")


def _attributes(value: object) -> dict[str, object]:
    return (fields(value.state) if isinstance(value, Record) else None) or {}


def _state(metadata: dict[str, object]) -> Pairs:
    saved, paths = fields(metadata.get("state_dict_metadata")), fields(metadata.get("planner_data")) or {}
    if saved is None:
        raise MalformedPickle("it lists no tensors")
    state = Pairs()
    below: dict[tuple[str, ...], Pairs] = {(): state}
    for name, described in saved.items():
        path = _path(paths.get(name), name)
        is_tensor = isinstance(described, Record) and class_name(described) == "TensorStorageMetadata"
        _above(below, path).flat.extend((path[-1], _tensor(_attributes(described)) if is_tensor else None))
    return state


def _path(said: object, name: str) -> tuple[str, ...]:
    """Return the keys that led to a value where it was saved; they are in its name, too, joined by dots."""
    if isinstance(said, tuple) and 0 < len(said) <= _DEEPEST and all(isinstance(key, (str, int)) for key in said):
        return tuple(map(str, said))
    return (name,)


def _above(below: dict[tuple[str, ...], Pairs], path: tuple[str, ...]) -> Pairs:
    for depth in range(1, len(path)):
        if path[:depth] not in below:
            below[path[:depth]] = Pairs()
            below[path[: depth - 1]].flat.extend((path[depth - 1], below[path[:depth]]))
    return below[path[:-1]]


def _tensor(said: dict[str, object]) -> Record:
    """Return a tensor as torch.save pickles one on the meta device."""
    properties = said.get("properties")
    known = properties.state if isinstance(properties, Record) else None
    dtype = known[0] if isinstance(known, tuple) and known else (fields(known) or {}).get("dtype")
    grad = known[2] if isinstance(known, tuple) and len(known) > 2 else (fields(known) or {}).get("requires_grad")  # noqa: PLR2004  # dtype and layout are before it
    return Record(_META, (dtype, sizes(said.get("size")), (), grad))


def _files(metadata: dict[str, object]) -> Iterator[str]:
    stored = metadata.get("storage_data")
    for _, place in stored.items() if isinstance(stored, Pairs) else ():
        name = _attributes(place).get("relative_path")
        if isinstance(name, str) and "/" not in name:
            yield name
