"""The kinds of target: each module here is one, and its file name is the prefix that names it (``torchvision:…``)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from paramcount.errors import (
    BuildError,
    MissingLibrary,
    ParamcountError,
    UnknownTarget,
    UnreadableFile,
    UsageError,
    closest,
    did_you_mean,
)
from paramcount.files.kinds import OtherKind
from paramcount.files.kinds import kind as kind_of
from paramcount.files.ranges import expanded, held, is_file, is_pipe, last, listed, opened, within
from paramcount.inventory import Inventory
from paramcount.urls import is_url, is_web, parted, secrets, shown, split

if TYPE_CHECKING:
    from paramcount.inputs import Input
    from paramcount.modules.build import Device


_FILES_LISTED = 3
_LIKE_WEIGHTS = re.compile(r"\.(?:pt|pth|ckpt|bin|safetensors|gguf|tar)(?:\.|$)")
_MOST_FOLDERS = 100  # to look into, for one that is a target
_FILES = {"safetensors", "torch_file", "gguf"}  # sources of files that hold tensors, and no model
_WITH_PARTS = {"torch_file", "saved"}
_PART = re.compile(r"(?P<file>[^:]+)(?::(?P<part>.+))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Target:
    """What to count, as the user asked for it."""

    word: str  # "resnet50", "net.py:Net", …; for a source, of a URL only what may be shown
    args: Mapping[str, Any] = field(default_factory=dict)  # for the constructor, by keyword
    weights: str | None = None  # published weights whose architecture variant is meant
    device: Device = "auto"
    inputs: tuple[Input, ...] = ()  # for one forward before counting
    trust_remote_code: bool = False  # whether to run code that comes with a model's configuration
    like: str | None = (
        None  # the word of a model that says which tensors of a file are buffers, and takes the arguments
    )

    def demand_bare(self, kind: str) -> None:
        """Demand that nothing is given that only a constructor or a forward takes: the target is ``kind``.

        Raises:
            UsageError: something is.

        """
        if self.args or self.weights is not None or self.inputs:
            raise UsageError(f"{self.word} is {kind}, which takes no arguments, no weights and no input")


class Source(Protocol):
    """One kind of target. A module under ``paramcount.sources`` is one if it has these."""

    EXAMPLE: str  # one target of this kind, for help and errors
    MEANING: str  # what such a target is, in a few words
    LIBRARIES: tuple[str, ...]  # what reading one imports, and what takes its time
    IS_CATALOGUE: bool  # whether names() are the models of a library, rather than what is in this folder

    def claims(self, word: str) -> bool:
        """Whether ``word``, without a prefix, is of this kind. Reads no file's content and imports no torch."""

    def names(self) -> Iterable[str]:
        """Return targets that a misspelt word may have meant."""

    def read(self, target: Target, name: str) -> Inventory:
        """Return what the target holds; ``name`` is its word without the prefix.

        Raises:
            ParamcountError: the target does not exist, or no model came of it.

        """


def sources() -> dict[str, Source]:
    """Return every source by its name."""
    return {name: _source(name) for name in _names()}


@cache
def _names() -> tuple[str, ...]:
    import pkgutil

    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def _source(name: str) -> Source:
    return cast("Source", import_module(f"{__name__}.{name}"))


def catalogues() -> dict[str, Source]:
    """Return the sources that have a list of models, by name."""
    return {name: source for name, source in sources().items() if source.IS_CATALOGUE}


def resolve(word: str) -> tuple[Source, str]:
    """Return the source that ``word`` belongs to, and the word without the prefix.

    Raises:
        UnknownTarget: no source claims the word.

    """
    prefix, colon, name = word.partition(":")
    if colon and prefix in _names():
        return _source(prefix), name
    file = _file(word)
    # By its form, blob:state_dict could be a module and a name in it; but a module's file has an ending.
    if file is not None and (is_pipe(file) or (file != expanded(word) and "." not in last(file))):
        return _ByContent(), word
    for source in map(_source, _names()):  # one by one: those after it need not be imported
        if source.claims(word):
            return source, word
    if file is not None:
        return _ByContent(), word
    if (inside := listed(word)) is not None:
        raise _folder(word, [within(word, name) for name in inside])
    raise unknown(word, _prefixed(word) or (name for source in sources().values() for name in source.names()))


def read(target: Target) -> Inventory:
    """Return what a target holds.

    Raises:
        ParamcountError: no source claims its word, it does not exist, or no model came of it.

    """
    if target.like is not None:
        return _read_like(target, target.like)
    try:
        return _read(target)
    except ParamcountError as error:
        unknown_module = isinstance(error, UnknownTarget) and isinstance(error.__cause__, ModuleNotFoundError)
        if unknown_module and (meant := _prefixed(target.word)):
            error.hint = did_you_mean(meant)  # a misspelt prefix reads as the name of a module
        error.hide(secrets(target.word))
        raise


def _read(target: Target) -> Inventory:
    source, name = resolve(target.word)
    named, file = replace(target, word=shown(target.word)), _file(name) or ""
    # Of a pipe nothing can be read once it is closed; what is elsewhere would take another request.
    is_here = is_file(file) and not is_pipe(file)
    with _calls_said(file) if is_here else nullcontext():
        try:
            return source.read(named, name)
        except OtherKind as error:
            if name != target.word or error.file != shown(file):
                raise  # a prefix says what it is meant to be; of a file in a folder the hint says what to write
            _demand_parts(error.found, file, name)
            counted = _source(error.found).read(named, name)
            return replace(counted, notes=(error.note(), *counted.notes))


def _read_like(target: Target, like: str) -> Inventory:
    """Read a file, and let a model say which of its tensors are buffers."""
    from paramcount.files.as_model import as_model

    file = read(Target(target.word))
    if file.source not in _FILES:
        kind = f"is read by {file.source}, and says itself which of its tensors are buffers"
        raise UsageError(f"{shown(target.word)} {kind}", hint="like is for files of weights")
    model = read(replace(target, word=like, like=None))
    params = {param.name for param in model.params}
    return as_model(file, params=params, buffers={buffer.name for buffer in model.buffers}, by=shown(like))


class _ByContent:
    """The source of a file whose name does not say of what kind it is: a pipe, mostly. Its first bytes do."""

    EXAMPLE = "/dev/stdin"
    MEANING = "a file of any of these kinds, from a pipe"
    LIBRARIES: tuple[str, ...] = ()
    IS_CATALOGUE = False

    def claims(self, word: str) -> bool:
        return _file(word) is not None

    def names(self) -> Iterable[str]:
        return ()

    def read(self, target: Target, name: str) -> Inventory:
        """Open the file once, and have it read as it is open by the source that its first bytes are of."""
        file = _file(name) or name
        with held(file) as stream, _calls_said(file):
            kind = kind_of(stream)
            _demand_parts(kind, file, name)
            return _source(kind).read(target, expanded(name))


@contextmanager
def _calls_said(path: str) -> Iterator[None]:
    """Let the error of a file that is refused say what unpickling it would call: its bytes may be a pickle, too."""
    try:
        yield
    except UnreadableFile as error:
        from paramcount.files.risky_calls import NOT_EXECUTED
        from paramcount.files.torch_archive import calls_of

        if NOT_EXECUTED in error.message:
            raise

        with opened(path) as file, calls_of(file).said_on_failure():
            raise


def _demand_parts(kind: str, file: str, name: str) -> None:
    """Demand that a part is named only of a file that has parts."""
    if file != expanded(name) and kind not in _WITH_PARTS:
        raise UsageError(f"{shown(file)} is a {kind} file, of which no part can be named")


def _file(word: str) -> str | None:
    """Return the file that a word means, or means a part of: a file or a pipe here, or what is on the web."""
    path = expanded(word)
    file, part = parted(path, _PART) or (path, None)
    if is_url(word):
        return file if is_web(word) and split(word).path else None
    if is_file(path):
        return path
    return file if part is not None and is_file(file) else None


def _prefixed(word: str) -> list[str]:
    """Return the word with the prefixes that its own may be a misspelling of."""
    prefix, colon, rest = word.partition(":")
    return [f"{each}:{rest}" for each in closest(prefix, _names())] if colon else []


def _folder(word: str, inside: Iterable[str]) -> UnknownTarget:
    """Return the error for a folder that is no target as a whole, with what is in it or below that is."""
    from paramcount.files.torch_folders import is_beside

    names = {last(path): path for path in inside}
    if "model_index.json" in names:
        return UnknownTarget(f"the folder {word} is no target by itself", hint=f"it is a pipeline: diffusers:{word}")
    found = [path for path in names.values() if listed(path) is None and _is_target(path)]
    # A .json could be anything; a saved report is the least likely in a folder of weights.
    files = [path for path in found if not path.endswith(".json")] or list(_below(word, names)) or found
    files = [path for path in files if not is_beside(last(path))] or files
    more = f" and {len(files) - _FILES_LISTED} more" if len(files) > _FILES_LISTED else ""
    hint = f"name what is meant: {' '.join(files[:_FILES_LISTED])}{more}" if files else "it holds no file to count"
    return UnknownTarget(f"the folder {word} is no target by itself", hint=hint)


def _is_target(path: str) -> bool:
    """Whether a source claims a path, or reads it by its first bytes, as ``last.pth.tar``."""
    if any(each.claims(path) for each in sources().values()):
        return True
    if not _LIKE_WEIGHTS.search(last(path)):
        return False
    try:
        with held(path) as stream:
            return kind_of(stream) != "saved"
    except ParamcountError:
        return False


def _below(word: str, names: Mapping[str, str]) -> Iterator[str]:
    """Yield the folders in a folder that are targets: checkpoints, and the snapshots that the Hub's cache keeps."""
    folders = [within(word, "snapshots")] if "snapshots" in names else [word]
    for folder in folders:
        for name in (listed(folder) or [])[:_MOST_FOLDERS]:
            path = within(folder, name)
            if listed(path) is not None and any(each.claims(path) for each in sources().values()):
                yield path


def unknown(word: str, candidates: Iterable[str], *, name: str | None = None) -> UnknownTarget:
    """Return the error for a word that is no target, with the closest to its ``name`` and an example of each form."""
    kinds: tuple[Source, ...] = (*sources().values(), _ByContent())
    forms = "\n".join(f"  {source.EXAMPLE}\n      {source.MEANING}" for source in kinds)
    message = f"unknown target {word!r}" if word else "an empty word is no target"
    candidates = list(candidates)
    unprefixed = [candidate for candidate in candidates if candidate.partition(":")[2] == word]
    hint = (
        did_you_mean(unprefixed or closest(word if name is None else name, candidates))
        or _on_the_hub(word)
        or "paramcount --help and the README list what a target can be"
    )
    return UnknownTarget(message, hint=hint, details=f"A target is one of\n{forms}")


# https://huggingface.co/docs/hub/repositories
_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)


def _on_the_hub(word: str) -> str | None:
    """Return what a word is written as that has the form of a repository's id, and is no path here."""
    folder, _, name = word.partition("/")
    if not _ID.fullmatch(word) or listed(folder) is not None or re.search(r"\.[a-z]\w{0,11}$", name):
        return None
    return f"a model on the hub is transformers:{word}, by its configuration, or hf://{word}, by its files"


@contextmanager
def library_of(extra: str, word: str) -> Iterator[None]:
    """Import the library that is named like its ``extra``, for the target ``word``, inside this context; quietly.

    Raises:
        MissingLibrary: it is not installed.
        BuildError: it is, and importing it fails.

    """
    from paramcount.modules import failures_of

    try:
        with failures_of(extra), without_warnings():
            yield
    except BuildError as error:
        if isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name == extra:
            raise MissingLibrary.of(word, extra) from error.__cause__
        raise


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keep what libraries warn of, which concerns how models are run, out of the answer to another question."""
    import logging

    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
