"""An adapter of PEFT: the folder that ``save_pretrained`` writes, or the file of weights in it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from paramcount.errors import UnknownTarget, UnreadableFile, UsageError
from paramcount.files.ranges import last, opened
from paramcount.inventory import Inventory, Note
from paramcount.pause import paused_collector
from paramcount.sources import Target

if TYPE_CHECKING:
    from paramcount.files.stored import Stored
    from paramcount.files.torch_archive import Archive
    from paramcount.inventory import Note

EXAMPLE = "adapter_model.safetensors, adapter_model.bin"
LIBRARIES = ()
IS_CATALOGUE = False
MEANING = "an adapter of PEFT, or the folder that it is in"

# Every bare word is shown to this source first: what reads files is imported once there is one to read.

# PEFT's own names, and the order in which it looks for them: peft/utils/constants.py.
_FILES = ("adapter_model.safetensors", "adapter_model.bin")
# Whoever keeps a model beside its adapter means the two together: the folder is the model's.
_MODELS = ("model", "pytorch_model")


def claims(word: str) -> bool:
    """Whether the word has the name of such a file, or is a folder that holds one, and no model."""
    return last(word) in _FILES or bool(_inside(word))


def names() -> Iterable[str]:
    """Return the files in the current folder."""
    return _inside(".")


def _inside(folder: str) -> list[str]:
    """Return the adapter's files in a folder, the one that counts first."""
    try:
        found = set(os.listdir(folder))  # noqa: PTH208  # a Path would take "" for the current folder
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return []
    if any(name.startswith(_MODELS) and name.endswith((".safetensors", ".bin", ".index.json")) for name in found):
        return []
    return [name for name in _FILES if name in found]


def read(target: Target, name: str) -> Inventory:
    """Read what an adapter holds; the config beside it says of what and how, and the tensors how much.

    Raises:
        UnknownTarget: there is no such file or folder.
        UsageError: arguments are given.
        UnreadableFile: the file or the config cannot be read, or is none.

    """
    from paramcount.files import shards
    from paramcount.files.adapters import CONFIG, adapter
    from paramcount.files.configuration import beside
    from paramcount.files.safetensors_folders import below
    from paramcount.files.state_dict import inventory

    if target.args or target.weights is not None:
        raise UsageError(f"{target.word} is an adapter, which takes no arguments and no --weights")
    path = os.path.expanduser(name)  # noqa: PTH111  # a Path would drop the ./ that the user wrote
    beside_it: tuple[Note, ...] = ()
    if os.path.isdir(path):  # noqa: PTH112  # the same
        files = _inside(path)
        if not files:
            raise UnreadableFile(f"{name} is a folder, and holds no {' and no '.join(_FILES)}")
        beside_it = shards.below_note(below(path, os.listdir(path)))  # noqa: PTH208  # the same
        path = os.path.join(path, files[0])  # noqa: PTH118  # the same
    elif last(path) not in _FILES:
        raise UnknownTarget(f"{name!r} is no adapter", hint=f"for example: {EXAMPLE}")
    with paused_collector():
        tensors, calls = _held(path)
        found = adapter(tensors, beside(path, CONFIG))
        types, notes = found.types, (*calls, *found.notes, *beside_it)
        whole = inventory(tensors, target=target.word, source="adapter", types=types, notes=notes)
        params = tuple(param._replace(adapter="") for param in whole.params)  # whoever loads it gives it a name
        return replace(whole, params=params, form="other")  # part of a model


def _held(path: str) -> tuple[list[Stored], tuple[Note, ...]]:
    from paramcount.files import safetensors, torch_archive

    with opened(path) as file:
        if last(path).endswith(".safetensors"):
            return safetensors.tensors(file), ()
        archive = torch_archive.read(file)
    with archive.calls.said_on_failure():
        return safetensors.in_order(_pickled(path, archive)), tuple(archive.calls.notes())


def _pickled(path: str, archive: Archive) -> list[Stored]:
    from paramcount.files.pickles import MalformedPickle
    from paramcount.files.torch_archive import HINT
    from paramcount.files.torch_modules import Modules
    from paramcount.files.torch_parts import Parts, stored
    from paramcount.files.torch_tensors import Tensors

    try:
        parts = Parts(archive.root, Modules(Tensors(), archive.code, archive.stored))
        part = parts.weights()
        if part is None:
            raise UnreadableFile(f"{path} holds no weights")
        return stored(list(parts.tensors(part)))
    except MalformedPickle as error:
        raise UnreadableFile(f"{path}: {error}", hint=HINT) from error
