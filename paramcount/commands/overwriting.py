"""Keeps a result from being written over what it was made of."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from paramcount.errors import UsageError
from paramcount.urls import paths, shown

# What a model is made of: a target reads more files than its word names.
_ENDINGS = (
    *(".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pt2", ".gguf", ".distcp", ".metadata"),
    *(".py", ".ipynb", ".yaml", ".yml", "config.json", "index.json"),
)


def demand_kept(path: str, inputs: Iterable[str | Path]) -> None:
    """Demand that a file can be written without a loss.

    Raises:
        UsageError: it is an input, whatever its path looks like: by a link, or in other letters where the file system
            takes them for the same; or it is there and of a kind that models are made of.

    """
    hint = "name another file"
    for each in inputs:
        if any(is_same(path, file) for file in _files(each)):
            raise UsageError(f"cannot write to {path}: it would overwrite what is read, {shown(str(each))}", hint=hint)
    if path.lower().endswith(_ENDINGS) and Path(path).is_file():
        raise UsageError(f"cannot write to {path}: it is there, and a model may be made of it", hint=hint)


def is_same(one: str | Path, other: str | Path | int) -> bool:
    """Whether two paths lead to one file, or would if there were one."""
    with suppress(OSError, ValueError):  # ValueError: a NUL in a name
        return os.path.samefile(one, other)  # noqa: PTH121  # which takes a descriptor, too
    with suppress(OSError, ValueError):
        return not isinstance(other, int) and _real(one) == _real(other)
    return False


def _real(path: str | Path) -> str:
    return os.path.realpath(path).casefold()


def _files(word: str | Path) -> Iterator[str | Path | int]:
    """Yield what a word may name: «torch_file:model.pt:state_dict» the file between two colons."""
    if isinstance(word, Path):
        yield word
    elif word in {"-", "/dev/stdin"}:
        with suppress(OSError, ValueError):
            if stat.S_ISREG(os.fstat(0).st_mode):
                yield 0
    else:
        yield from paths(word)
