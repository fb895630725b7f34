"""Sorts the tensors of a file into parameters and buffers as a model has them, which a bare state dict does not say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import replace

from paramcount.inventory import Buffer, Inventory, Note, Param, retie
from paramcount.units import exact, plural

_BY_NAME = frozenset({"buffers-by-name", "perhaps-buffer"})  # notes that the model's word replaces
_LIKELY = ("module.", "_orig_mod.", "model.", "state_dict.")


def as_model(file: Inventory, *, params: Set[str], buffers: Set[str], by: str) -> Inventory:
    """Return what a file holds, with the buffers that a model has.

    Args:
        file: what was read; tensors that the model does not have stay what their names tell.
        params: the names of the model's parameters.
        buffers: the names of its buffers.
        by: what the model is called, for the notes.

    """
    held: list[Param | Buffer] = [*file.params, *file.buffers]
    prefix = _prefix([tensor.name for tensor in held], params | buffers)
    kept_params: list[Param] = []
    kept_buffers: list[Buffer] = []
    strange: list[str] = []
    for tensor in held:
        name = tensor.name.removeprefix(prefix)
        is_buffer = isinstance(tensor, Buffer)
        if name in buffers and name not in params:
            is_buffer = True
        elif name in params:
            is_buffer = False
        else:
            strange.append(tensor.name)
        fields = tensor.name, tensor.shape, tensor.dtype, tensor.numel, tensor.nbytes
        if is_buffer:
            kept_buffers.append(tensor if isinstance(tensor, Buffer) else Buffer(*fields, tensor.tied_to))
        else:
            kept_params.append(tensor if isinstance(tensor, Param) else Param(*fields, None, tensor.tied_to))
    notes = [note for note in file.notes if note.code not in _BY_NAME]
    notes += _said(len(held), kept_buffers, strange, by)
    return replace(file, params=retie(kept_params), buffers=retie(kept_buffers), notes=tuple(notes))


def _prefix(names: Iterable[str], known: Set[str]) -> str:
    """Return what the file's names begin with before the model's: of what wrappers put there, what fits the most."""
    fits = Counter[str]()
    for name in names:
        for prefix in ("", *_LIKELY):
            if name.startswith(prefix) and name.removeprefix(prefix) in known:
                fits[prefix] += 1
    return max(("", *_LIKELY), key=fits.__getitem__)


def _said(number: int, buffers: list[Buffer], strange: list[str], by: str) -> Iterator[Note]:
    if len(strange) < number:
        found = plural(len(buffers), "buffer") if buffers else "none"
        yield Note("buffers-by-model", "", f"which tensors are buffers is told by {by}: {found}")
    if len(strange) == number:
        yield Note("not-in-model", "", f"{by} has none of the file's names: buffers are told by those")
    elif strange:
        others = f", nor {exact(len(strange) - 1)} others" if len(strange) > 1 else ""
        yield Note(
            "not-in-model", "", f"{by} has no {strange[0]}{others}: whether that is a buffer is told by its name"
        )
