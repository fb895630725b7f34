"""Turns an exception from a user's model, or from a library that builds one, into an error a user can act on."""

from __future__ import annotations

import inspect
import re
import sys
import sysconfig
import traceback
from enum import Enum
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from paramcount.errors import BuildError, closest, did_you_mean
from paramcount.modules.attributes import bases, class_attributes, class_module, class_name, definer, module_attributes

_PACKAGE = str(Path(__file__).resolve().parent.parent)


class ForwardFailed(Exception):
    """A model was built, and raised the cause when it was run with these inputs."""


class HookFailed(Exception):
    """A model was built, and the hook of this name, in which it makes its layers, raised the cause."""


class NeedsNetwork(Exception):
    """A constructor failed, because something that it needs was not fetched from a network."""

    def __init__(self, address: str) -> None:
        """Keep what was asked for."""
        super().__init__(f"it needs {address}, and nothing is fetched")
        self.address = address


def build_error(target: str, error: BaseException) -> BuildError:
    """Return the BuildError for what ``target``'s own code raised, with the traceback trimmed to the user's frames."""
    forward = str(error) if isinstance(error, ForwardFailed) else None
    hook = str(error) if isinstance(error, HookFailed) else None
    error = error.__cause__ if isinstance(error, ForwardFailed | HookFailed) and error.__cause__ else error
    frames = _users_frames(error.__cause__ if isinstance(error, NeedsNetwork) and error.__cause__ else error)
    details = "".join(traceback.format_list(frames)) + "".join(traceback.format_exception_only(error))
    if isinstance(error, SystemExit):
        return BuildError(
            f"{target} called sys.exit({'' if error.code is None else repr(error.code)}) instead of giving a model",
            hint='guard what is meant for running the file as a script with: if __name__ == "__main__":',
            details=details if frames else "",
        )
    if isinstance(error, NeedsNetwork):
        place = "".join(traceback.format_list(frames))
        return BuildError(f"{target} could not be built: {error}", hint=_network_hint(error), details=place)
    shows_a_place = bool(frames) or isinstance(error, SyntaxError)
    if forward is not None:
        message = f"{target} was built, and its forward with input {forward} failed: {_said(error)}"
        hint = "give the shapes and dtypes that it takes: --input 1,3,224,224, or --input input_ids=1,128:int64"
        return BuildError(message, hint=hint, details=details if frames else "")
    if hook is not None:
        message = f"{target} has no parameters before its {hook}(), which failed: {_said(error)}"
        hint = (
            "write a factory that gives it what it needs, calls that and returns the model, and count it: net.py:build"
        )
        return BuildError(message, hint=hint, details=details if frames else "")
    message = f"{target} could not be built: {_said(error)}"
    return BuildError(message, hint=_hint(error), details=details if shows_a_place else "")


def _users_frames(error: BaseException) -> list[traceback.FrameSummary]:
    return [frame for frame in traceback.extract_tb(error.__traceback__) if is_users(frame.filename)]


def _network_hint(error: NeedsNetwork) -> str:
    """Return how the constructor can go without what was not fetched."""
    if match := re.fullmatch(_ON_THE_HUB, error.address):
        fetch = f"hf download {match['id']} {match['file'] or 'config.json'}"
        return f"with a network, {fetch} puts it where it is found without; or name a folder that holds it"
    switch = None if error.__cause__ is None else switched_off(error.__cause__.__traceback__)
    return switch or "build it without what is on a network: its constructor may have an argument for that"


_ON_THE_HUB = r"(?:(?P<file>\S+) of )?(?P<id>\S+) on the hub"
_SAYS_WEIGHTS = r"(?i)(?!.*(?:name|only)).*(?:pretrain|weights|checkpoint|ckpt)"


def switched_off(trace: TracebackType | None) -> str | None:
    """Return which argument to set, so that no weights are asked for: of the outermost call that has one."""
    frames = [frame for frame, _ in traceback.walk_tb(trace) if not frame.f_code.co_filename.startswith(_PACKAGE)]
    for number, frame in enumerate(frames):
        if re.search(r"(?:^|\.)_(?!_init__)", frame.f_code.co_qualname):
            continue  # nobody calls it but its library
        for name, value in _arguments(frame).items():
            if re.match(_SAYS_WEIGHTS, name) and (value is True or isinstance(value, str | Enum)):
                if number == 0:  # the target itself
                    return f"build it without weights: -a {name}={'false' if value is True else 'null'}"
                without = "False" if value is True else "None"
                return f"build it without weights: give {_called(frame)} {name}={without}"
    return None


def _arguments(frame: FrameType) -> dict[str, object]:
    """Return the arguments of a call by name, those that it takes by any name, too."""
    code, values = frame.f_code, frame.f_locals
    count = code.co_argcount + code.co_kwonlyargcount
    found = {name: values[name] for name in code.co_varnames[:count] if name in values}
    if code.co_flags & inspect.CO_VARKEYWORDS:
        more = values.get(code.co_varnames[count + bool(code.co_flags & inspect.CO_VARARGS)])
        found |= more if type(more) is dict else {}
    return found


def _called(frame: FrameType) -> str:
    """Return how a call is written: Net(), build()."""
    name = frame.f_code.co_qualname.removesuffix(".__init__").rpartition("<locals>.")[2]
    return f"{name}()"


def _said(error: BaseException) -> str:
    """Return the exception's type and the first line of what it says."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # noqa: BLE001  # a user's exception may fail to describe itself
        lines = []
    return ": ".join([type(error).__name__, *lines[:1]])


def _hint(error: BaseException) -> str | None:
    text = _said(error)
    if "torchvision::nms" in text or "undefined symbol" in text:
        return (
            f"torch {_version('torch')} and torchvision {_version('torchvision')} are builds that do not fit together; "
            "install both anew, from one index: pip install --force-reinstall torch torchvision"
        )
    if isinstance(error, ImportError):
        return _import_hint(error)
    if isinstance(error, TypeError) and text.startswith("TypeError: unhashable type") and (cure := _hash_cure(error)):
        return cure
    if isinstance(error, RecursionError):
        return "a constructor calls itself without end"
    if isinstance(error, TypeError):
        return _signature_hint(error)
    return None


def without_hash(kind: type) -> tuple[str, str] | None:
    """Return why modules of a class have no hash, by which PyTorch tells them apart, and the cure; else None."""
    owner = definer(kind, "__hash__")
    if owner is None or class_attributes(owner)["__hash__"] is not None:
        return None
    name, own = class_name(owner), class_attributes(owner)
    if getattr(own.get("__dataclass_params__"), "eq", False):
        return "it is a dataclass, which compares by content", f"write @dataclass(eq=False) above class {name}"
    if "__attrs_attrs__" in own:
        return "it is an attrs class, which compares by content", f"write @define(eq=False) above class {name}"
    stranger = class_module(owner) in {"collections.abc", "builtins"}
    why = f"it is a {name}, which compares by content" if stranger else f"class {name} has an __eq__ of its own"
    return why, f"put __hash__ = nn.Module.__hash__ into class {class_name(kind)}"


def _hash_cure(error: TypeError) -> str | None:
    """Return the cure where PyTorch has put a module into a set that has no hash."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if frames[-1].f_globals.get("__name__") != "torch.nn.modules.module":
        return None
    kinds = (type(value) for value in frames[-1].f_locals.values())
    modules = (kind for kind in kinds if any(class_module(base) == "torch.nn.modules.module" for base in bases(kind)))
    return next((said[1] for kind in modules if (said := without_hash(kind)) is not None), None)


def _import_hint(error: ImportError) -> str | None:
    """Return what to do about a module that is not there, or a name that an installed library does not have."""
    match = re.search(r"cannot import name '(\w+)'", str(error))
    wanted = f"{error.name}.{match[1]}" if match else error.name or ""
    library = wanted.partition(".")[0]
    spec: Any = module_attributes(sys.modules.get(library)).get("__spec__")
    file = spec.origin if issubclass(type(spec), ModuleSpec) else None
    if library != wanted and isinstance(file, str) and is_installed(file):
        age = "an older" if library in {"torch", "torchvision"} else "another"
        return (
            f"this {library} ({_version(library)}) has no {wanted}: the code is for {age} version; import what took "
            f"its place, or install that version of {library} in an environment of its own"
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"install what provides {error.name!r} for {sys.executable}, or run from the folder that holds it"
    return None


_UNEXPECTED = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")


def _signature_hint(error: TypeError) -> str | None:
    """Return the signature of what was called with a keyword that it does not take, as found on the way there."""
    match = _UNEXPECTED.search(str(error))
    if match is None:
        return None
    # Last first: where it was called by its name, or, where a library's factory calls what it is given, who gave it.
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][::-1]
    function = next((frame.f_globals[match[1]] for frame in frames if match[1] in frame.f_globals), None)
    if not callable(function):
        return None
    try:
        caller = frames[0].f_code.co_filename
        # What a user's file, or an expression, writes itself is mended there; all else came by way of -a.
        way = "-a " if caller.startswith(_PACKAGE) or is_installed(caller) else ""
        return argument_hint(match[2], match[1], inspect.signature(function), way=way)
    except ValueError:  # written in C
        return None


def argument_hint(wrong: str, function: str, signature: inspect.Signature, *, way: str = "-a ") -> str:
    """Return what to write instead of an argument that a function does not take; ``way`` is what comes before it."""
    closest_one = did_you_mean([f"{way}{name}=…" for name in closest(wrong, signature.parameters, most=1)])
    return "; ".join(filter(None, [closest_one, f"its signature is {shown(function, signature)}"]))


def shown(function: str, signature: inspect.Signature) -> str:
    """Return a signature without annotations, which may be longer than all the rest."""
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return f"{function}{signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)}"


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(not installed)"


def is_users(filename: str) -> bool:
    """Whether a file holds the user's own code."""
    return not filename.startswith("<") and not filename.startswith(_PACKAGE) and not is_installed(filename)


def is_installed(filename: str) -> bool:
    """Whether a file belongs to Python or to an installed distribution, rather than to the user's own code."""
    return filename.startswith(_installed_folders()) or "site-packages" in Path(filename).parts


@cache
def _installed_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({f"{Path(paths[key]).resolve()}/" for key in ("stdlib", "platstdlib", "purelib", "platlib")})
