"""Tells by the names in a folder which of its safetensors files are one model, and which others are beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from paramcount.errors import UnreadableFile
from paramcount.files import shards
from paramcount.files.ranges import listed, within
from paramcount.urls import is_url, shown

FILE = ".safetensors"
INDEX = ".safetensors.index.json"

# The names that libraries give a model, the first first: transformers, diffusers, PEFT, OpenCLIP, SpeechBrain, ….
_OF_LIBRARIES = ("model", "diffusion_pytorch_model", "adapter_model", "open_clip_model", "pytorch_model")
# What one process saved by torch.distributed.checkpoint's HuggingFaceStorageWriter.
_PIECE = r"shard-[0-9]{5}-model-[0-9]{5}-of-[0-9]{5}\.safetensors"
_MOST_FOLDERS = 100  # to look into, for what else there is


def of_this_kind(inside: Iterable[str]) -> list[str]:
    """Return the names of the files of this kind among those in a folder."""
    # A hidden one is another program's: macOS leaves ._model.safetensors beside model.safetensors.
    return sorted(name for name in inside if name.endswith((FILE, INDEX)) and not name.startswith("."))


def is_piece(name: str) -> bool:
    """Whether a file has the name of what one of several processes saved."""
    return re.fullmatch(_PIECE, name) is not None


def one_model(folder: str, files: Sequence[str]) -> list[str]:
    """Return the files in a folder that are the model which a library would load from there.

    The others are the same in another form, a variant of it, or an adapter to it.

    Raises:
        UnreadableFile: they are several models, and no name says which is meant.

    """
    if pieces := [name for name in files if is_piece(name)]:
        return pieces
    models: dict[str, list[str]] = {}
    for name in files:
        models.setdefault(shards.stem(name) or name.removesuffix(FILE), []).append(name)
    # diffusers has "unet.fp16" beside "unet"; of the two, the plain one is what it loads if nothing else is said.
    plain = [stem for stem in models if stem.rpartition(".")[0] not in models]
    chosen = next((stem for stem in _OF_LIBRARIES if stem in models), plain[0])
    if len(plain) > 1 and chosen not in _OF_LIBRARIES:
        several = shards.several([within(shown(folder), models[stem][0]) for stem in plain])
        message = f"{shown(folder)} holds {len(plain)} models, by the names of its files: which is meant?"
        raise UnreadableFile(message, hint=f"name one of them: {several}")
    # Whole in one file goes before in several.
    whole = f"{chosen}{FILE}"
    return [whole] if whole in models[chosen] else models[chosen]


def below(folder: str, inside: Iterable[str]) -> list[str]:
    """Return the files of weights in the folders of a folder: checkpoints, a model's further parts, other adapters."""
    if is_url(folder):
        return []
    from paramcount.files.torch_folders import is_weights

    return [
        f"{name}/{each}"
        for name in sorted(inside)[:_MOST_FOLDERS]
        for each in listed(within(folder, name)) or []
        if of_this_kind([each]) or is_weights(each)
    ]
