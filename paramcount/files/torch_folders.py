"""Tells by the names in a folder what in it is the weights: one torch file, shards, or what a trainer has made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from paramcount.errors import UnknownTarget, UnreadableFile
from paramcount.files import shards
from paramcount.files.ranges import last, listed, opened, within
from paramcount.files.safetensors import quoted
from paramcount.urls import shown

METADATA = ".metadata"  # what torch.distributed.checkpoint describes a checkpoint in
INDEX = re.compile(r".+\.(?:bin|pt|pth)\.index\.json", re.DOTALL)

_FILE = re.compile(r"[^.].*\.(?:pt|pth|bin|ckpt|pt2)", re.DOTALL)
_PICKLE = re.compile(r"[^.].*\.(?:pt|pth|bin|ckpt|pt2|pkl)", re.DOTALL)
# The names that libraries give a model, the first first: transformers, accelerate, diffusers, PEFT, OpenCLIP.
_OF_LIBRARIES = tuple(
    f"{name}.bin" for name in ("pytorch_model", "diffusion_pytorch_model", "adapter_model", "open_clip_pytorch_model")
)
# What trainers keep beside the weights: accelerate's save_state(), transformers' Trainer, Lightning, DeepSpeed.
_BESIDE = re.compile(
    r"(?:optim(?:izers?)?|(?:lr_)?schedulers?|(?:grad_)?scaler|rng_states?|random_states?|samplers?|dl_state_dict"
    r"|training_args|trainer_state|custom_checkpoint|profile|meta|vocab|tokenizer|sentencepiece)(?:[_.-].*)?"
    r"|.+_optim_states\.pt",
    re.DOTALL,
)
# deepspeed/runtime/engine.py and deepspeed/runtime/pipe/module.py: ranks of tensor parallelism are "mp" or "model".
_STATES = re.compile(
    r"(?:(?:bf16_)?zero_pp_rank_(?P<data>[0-9]{1,6})_)?mp_rank_(?P<of_all>[0-9]{1,6})_model_states\.pt"
    r"|layer_(?P<layer>[0-9]{1,6})(?:-model_(?P<of_layer>[0-9]{1,6}))?-model_states\.pt"
    r"|(?P<expert>(?:layer_[0-9]{1,6}_)?expert_[0-9]{1,6})_mp_rank_(?P<of_expert>[0-9]{1,6})_model_states\.pt"
)
# The folders in which DeepSpeed, and accelerate under it or under FSDP, keep a checkpoint in another.
_BELOW = re.compile(r"global_step[0-9]+|pytorch_model(?:_fsdp)?(?:_[0-9]+)?")
_LATEST = "latest"  # DeepSpeed's, which names the folder, beside the script that it puts there
_SCRIPT = "zero_to_fp32.py"
_LONGEST_NAME = 1024  # bytes

# What an archive of torch.save is once it is unpacked; a program of TorchScript has its constants, too.
PICKLE, _VERSION, _CONSTANTS = "data.pkl", "version", "constants.pkl"

Kind = Literal["file", "index", "shards", "layers", "distributed", "unpacked"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a folder counts."""

    kind: Kind
    files: tuple[str, ...]  # by their names in the folder; of "layers" in their order
    beside: tuple[str, ...] = ()  # names of pickles in it that do not count


def is_one(word: str) -> bool:
    """Whether a path is a folder whose names say what counts in it; of a folder of several models they do not."""
    inside = listed(word)
    return inside is not None and bool(_candidates(inside) or _below(inside))


def is_weights(name: str) -> bool:
    """Whether the name of a file is that of weights, and not of what trainers keep beside them."""
    return _FILE.fullmatch(name) is not None and not is_beside(name)


def is_beside(name: str) -> bool:
    """Whether the name of a file is that of what trainers keep beside the weights."""
    return _BESIDE.fullmatch(name) is not None


def is_pickle(name: str) -> bool:
    """Whether the name of a file is that of weights, or of what trainers keep beside them."""
    return _PICKLE.fullmatch(name) is not None


def layer(path: str) -> int:
    """Return the number of the layer that a file of a pipeline is of."""
    match = _STATES.fullmatch(last(path))
    assert match is not None  # noqa: S101  # it was chosen by its name
    return int(match["layer"])


def choose(folder: str) -> Choice:
    """Return what counts in a folder.

    Raises:
        UnreadableFile: its names do not say, or it holds but parts of a model.

    """
    inside = listed(folder) or []
    if (found := _candidates(inside)) is not None:
        return _settled(folder, inside, found)
    if below := _below(inside):
        name = _step(folder, inside, below)
        beneath = within(folder, name)
        held = listed(beneath) or []
        if (found := _candidates(held)) is not None:
            choice = _settled(beneath, held, found)
            others = (*(f"{name}/{file}" for file in choice.beside), *(each for each in below if each != name))
            files = tuple(f"{name}/{file}" for file in choice.files)
            return replace(choice, files=files, beside=(*others, *_others(inside, ())))
    weights = list(filter(is_weights, inside)) or [name for name in inside if _FILE.fullmatch(name)]
    hint = f"name what is meant: {shards.several(weights)}" if weights else None
    raise UnreadableFile(f"{shown(folder)} is a folder, and its names do not say what in it is the weights", hint=hint)


def _settled(folder: str, inside: Iterable[str], found: Choice) -> Choice:
    if found.kind == "index" and len(found.files) > 1:
        message = f"{shown(folder)} holds {shards.several(list(found.files))}: which is meant?"
        raise UnreadableFile(message, hint="name one of them")
    if found.kind == "shards":
        shards.demand_complete(shown(folder), found.files)
    choice = _states(folder, found.files) if found.kind == "layers" else found
    return replace(choice, beside=_others(inside, choice.files))


def _step(folder: str, inside: Iterable[str], below: Sequence[str]) -> str:
    """Return the folder in this one that is the checkpoint."""
    if _LATEST in inside:
        name = _latest(folder)
        if name not in inside:
            place = shown(within(folder, _LATEST))
            raise UnreadableFile(f"{place} names the folder {quoted(name)}, which is not there")
        return name
    if len(below) > 1:
        message = f"{shown(folder)} holds {shards.several(list(below))}: which is meant?"
        raise UnreadableFile(message, hint=f"name one of them: {shown(within(folder, below[-1]))}")
    return below[0]


def _candidates(inside: Iterable[str]) -> Choice | None:
    """Return what the names alone say, None where they leave a choice; "layers" are DeepSpeed's files of any kind."""
    names = sorted(inside)
    if METADATA in names:
        return Choice("distributed", (METADATA,))
    if {PICKLE, _VERSION} <= set(names) and _CONSTANTS not in names:
        return Choice("unpacked", (PICKLE,))
    if indexes := [name for name in names if INDEX.fullmatch(name)]:
        return Choice("index", tuple(indexes))
    if states := [name for name in names if _STATES.fullmatch(name)]:
        return Choice("layers", tuple(states))
    weights = [name for name in names if is_weights(name)]
    named = [name for name in _OF_LIBRARIES if name in weights] or weights
    if named != weights or (len(weights) == 1 and not shards.are_one(weights)):
        return Choice("file", (named[0],))
    return Choice("shards", tuple(weights)) if weights and shards.are_one(weights) else None


def _below(inside: Sequence[str]) -> list[str]:
    """Return the folders in this one that may be the checkpoint."""
    found = sorted(name for name in inside if _BELOW.fullmatch(name))
    return found or ([_LATEST] if _LATEST in inside and _SCRIPT in inside else [])


def _latest(folder: str) -> str:
    try:
        with opened(within(folder, _LATEST)) as file:
            return file.upto(0, _LONGEST_NAME).decode("utf-8", "backslashreplace").strip()
    except UnknownTarget as error:  # it is a link that leads nowhere
        raise UnreadableFile(str(error)) from error


def pickles(inside: Iterable[str]) -> list[str]:
    """Return the names of pickles, of weights or of what trainers keep beside them, among those in a folder."""
    return sorted(filter(is_pickle, inside))


def _others(inside: Iterable[str], used: Iterable[str]) -> tuple[str, ...]:
    counted = set(used)
    return tuple(name for name in pickles(inside) if name not in counted)


# DeepSpeed ------------------------------------------------------------------------------------------------------------


def _states(folder: str, names: Iterable[str]) -> Choice:
    """Return which of DeepSpeed's model states make the whole model, each weight once."""
    found = [match for name in names if (match := _STATES.fullmatch(name))]
    layers = [each for each in found if each["layer"] is not None]
    experts = [each for each in found if each["expert"] is not None]
    ranks = [each for each in found if each["of_all"] is not None]
    split = {each["of_layer"] for each in layers}
    split = split or {each["of_all"] or each["of_expert"] for each in (*ranks, *experts)}
    if len(split) > 1:
        message = f"{shown(folder)} is split over the ranks of tensor parallelism, and none of its files holds a whole"
        hint = f"one file counts what its rank holds: {shown(within(folder, found[0][0]))}"
        raise UnreadableFile(message, hint=hint)
    if layers:
        return Choice("layers", tuple(each[0] for each in sorted(layers, key=lambda each: int(each["layer"]))))
    if not ranks:
        raise UnreadableFile(f"{shown(folder)} has no mp_rank_00_model_states.pt, and its experts are there")
    # Of ZeRO-3's files, one for each process, all say of what shapes the whole is.
    first = min(ranks, key=lambda each: int(each["data"] or -1))
    return Choice("shards" if experts else "file", (first[0], *(each[0] for each in experts)))
