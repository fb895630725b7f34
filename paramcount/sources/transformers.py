"""transformers' models, built from their configuration: a config.json, the folder it is in, or a model's id."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paramcount.errors import BuildError, UnknownTarget, UsageError, closest, did_you_mean
from paramcount.files.configuration import BadConfiguration, read_configuration
from paramcount.inventory import Inventory, Note
from paramcount.modules import failures_of, take_inventory
from paramcount.routing import KEYS, route, routings, unrouted
from paramcount.sources import Target, library_of, without_warnings
from paramcount.units import as_written

if TYPE_CHECKING:
    from torch import nn

EXAMPLE = "transformers:DIR, transformers:DIR/config.json, transformers:org/model"
LIBRARIES = ("torch", "transformers")
IS_CATALOGUE = False
MEANING = "a transformers model, by its configuration; -a key=value overrides what that says"

_CONFIG = "config.json"
_ID = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)?", re.ASCII)
_PATIENCE = 5  # seconds for a network to answer
_PER_LAYER = ("layer_types", "mlp_layer_types")  # lists with an item a layer
_ALIASES = {"torch_dtype": "dtype"}  # of all configurations
_SETTABLE = (
    "num_labels",
    "attn_implementation",
    "experts_implementation",
)  # of every configuration, and listed by none
_NAMES_LISTED = 3


def claims(word: str) -> bool:
    """Whether the word is a folder with a configuration; one with weights as well is claimed before."""
    return bool(word) and os.path.isfile(os.path.join(word, _CONFIG))  # noqa: PTH113, PTH118  # NUL would fail a Path


def names() -> Iterable[str]:
    """Return the folders in the current one that hold a configuration."""
    return [f"transformers:{folder}" for folder in _folders(Path())]


def _folders(parent: Path) -> list[str]:
    return sorted(str(path.parent) for path in parent.glob(f"*/{_CONFIG}"))


def read(target: Target, name: str) -> Inventory:
    """Build the model that a configuration describes, without weights, and read it.

    It is the class that ``architectures`` names, else the one that ``AutoModel`` has for the ``model_type``; its
    parameters have the ``dtype`` of the configuration, as ``from_config`` gives it to them. Code that comes with a
    configuration (``auto_map``) is never run unless the target says to trust it.

    Raises:
        MissingLibrary: transformers is not installed.
        UnknownTarget: there is no such file or folder, and no model of that id within reach.
        UsageError: an override has no place in the configuration, or weights are given.
        BadConfiguration: no model can be built from it.
        BuildError: what transformers, or trusted code, raised.

    """
    if target.weights is not None:
        raise UsageError(
            f"{target.word} is built from its configuration, which takes no --weights",
            hint="-a KEY=VALUE overrides what it says",
        )
    found = _local(name)
    said = None if found is None else read_configuration(found.file)
    with library_of("transformers", target.word):
        import transformers  # noqa: F401  # here, and nowhere below, it may be missing
    with without_warnings():
        if found is None or said is None:
            found = _remote(name, target.word)
            said = read_configuration(found.file)
        config = _config(found, said, target)
        construct = _constructor(config, found, target)
        inventory = take_inventory(
            construct, target=target.word, source="transformers", device=target.device, inputs=target.inputs
        )
    routed = tuple(routings(inventory, _said(config)))
    inventory = route(inventory, routed)
    return replace(inventory, notes=(*_notes(config), *inventory.notes, *unrouted(inventory, routed)))


# The file -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """A configuration on this machine."""

    file: Path
    name: str  # what transformers knows it by: a folder, a file or an id
    is_offline: bool = True


def _local(name: str) -> _Found | None:
    """Return the configuration that a path means; None where it is no path, but may be the id of a model."""
    try:
        path = Path(name).expanduser() if name else Path("?")
        if path.is_dir():
            if (path / _CONFIG).is_file():
                return _Found(path / _CONFIG, str(path))
            raise UnknownTarget(f"{name} is a folder without a {_CONFIG}", hint=did_you_mean(_near(name)))
        if path.is_file():
            return _Found(path, str(path.parent if path.name == _CONFIG else path))
    except (OSError, ValueError, RuntimeError) as error:  # a name that is too long, a NUL in it, no such user
        raise UnknownTarget(f"{as_written(name)} is no path: {error}") from error
    if _ID.fullmatch(name) and not name.endswith(".json"):
        return None
    raise UnknownTarget(
        f"there is no folder or file {name}" if name else "transformers: names nothing",
        hint=did_you_mean(_near(name)) or f"for example: {EXAMPLE}",
    )


def _near(name: str) -> list[str]:
    """Return the closest configurations beside a path that does not exist."""
    path = Path(name)
    folder = path.parent if path.suffix == ".json" else path
    near = closest(str(folder), _folders(folder.parent)) or closest(name, map(str, sorted(path.parent.glob("*.json"))))
    return [f"transformers:{each}" for each in near]


def _remote(name: str, word: str) -> _Found:
    """Return the configuration of a model's id, as transformers finds it: from a network, or from the local cache."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from transformers.utils.hub import cached_file

    if written := _class(name):
        raise UnknownTarget(
            f"{word}: {name} is a class of transformers, and a model is built from a configuration",
            hint=f"write it in Python: '{written}', or name a folder that holds its {_CONFIG}: transformers:DIR",
        )
    failure: Exception | None = None
    try:
        # One question, once: transformers itself would ask six times, in half a minute, where there is no network.
        get_hf_file_metadata(hf_hub_url(name, _CONFIG), timeout=_PATIENCE)
    except Exception as error:  # noqa: BLE001  # of whichever library asks
        failure = error
    try:
        file = cached_file(name, _CONFIG, local_files_only=failure is not None)
    except Exception as error:
        reason = str(failure or error).strip().partition("\n")[0]
        raise UnknownTarget(
            f"{word}: there is no folder {name}, and no model of that id could be looked up: {reason}",
            hint=did_you_mean(_near(name)) or f"name a folder that holds its {_CONFIG}: transformers:DIR",
        ) from error
    return _Found(Path(str(file)), name, is_offline=failure is not None)


def _class(name: str) -> str | None:
    """Return how a model that is named by its class is written as a target; None where there is no such class."""
    import transformers

    kind = getattr(transformers, name, None) if name.isidentifier() and name in dir(transformers) else None
    config = getattr(kind, "config_class", None)
    if not isinstance(kind, type) or not isinstance(config, type):
        return None
    return f"{kind.__module__}:{name}({config.__name__}())"


# The configuration ----------------------------------------------------------------------------------------------------


def _config(found: _Found, said: Mapping[str, Any], target: Target) -> Any:
    """Return transformers' own configuration, with the target's overrides."""
    import transformers

    kind = said.get("model_type")
    if "AutoConfig" in _own_code(said.get("auto_map")) and target.trust_remote_code:
        pass  # whatever the type is, there is code for it
    elif not isinstance(kind, str):
        raise BadConfiguration(f"{found.file}: it has no model_type", hint=_other_kind(found, said))
    elif kind not in transformers.CONFIG_MAPPING:
        if _own_code(said.get("auto_map")):
            raise _distrusted(found, f"its model_type {as_written(kind)}")
        near = [as_written(each) for each in closest(kind, transformers.CONFIG_MAPPING.keys())]
        raise BadConfiguration(
            f"{found.file}: transformers {transformers.__version__} has no model_type {as_written(kind)}",
            hint=did_you_mean(near) or "a newer version of transformers may have it",
        )
    with _failures_of(found, target):
        config = transformers.AutoConfig.from_pretrained(
            found.name, trust_remote_code=target.trust_remote_code, local_files_only=found.is_offline
        )
    if not target.args:
        return config
    # As if the file said so: what follows from a value, such as a head's size from the width, follows from the new one.
    values, _ = transformers.PretrainedConfig.get_config_dict(found.name, local_files_only=found.is_offline)
    with _failures_of(found, target):
        return type(config).from_dict(_overridden(values, target.args, config, target), name_or_path=found.name)


def _other_kind(found: _Found, said: Mapping[str, Any]) -> str:
    """Return what to do with a file that says nothing to transformers."""
    if "architecture" in said:
        return f"if timm wrote it: timm:local-dir:{found.file.parent}"
    if "_class_name" in said:
        return f"if diffusers wrote it: diffusers:{found.file.parent}"
    return 'every configuration of transformers has one, such as "model_type": "bert"'


def _overridden(values: Mapping[str, Any], args: Mapping[str, Any], config: Any, target: Target) -> dict[str, Any]:
    """Return the values with the overrides in their place; in a mapping, key by key."""
    aliases = {**_ALIASES, **config.attribute_map}
    known = {*config.to_dict(), *aliases, *_SETTABLE}
    made = dict(values)
    for key, value in args.items():
        if key not in known:
            raise _unknown_key(key, known, config, target)
        real = aliases.get(key, key)
        for alias in (key, *(alias for alias, meant in aliases.items() if meant == real)):
            made.pop(alias, None) if alias != real else None
        part = getattr(config, real, None)
        if isinstance(value, dict) and hasattr(part, "attribute_map"):
            value = _overridden(values.get(real) or {}, value, part, target)  # noqa: PLW2901  # the same value, in full
        made[real] = deepcopy(value)
    layers = getattr(config, "num_hidden_layers", None)
    wanted = args.get("num_hidden_layers", layers)
    for key in _PER_LAYER:
        if key not in args and isinstance(made.get(key), list) and isinstance(wanted, int) and wanted != layers:
            made[key] = made[key][:wanted]
    if "num_labels" in args:  # which the labels themselves would contradict
        made = {key: value for key, value in made.items() if key not in {"id2label", "label2id"} - args.keys()}
    return made


def _unknown_key(key: str, known: Iterable[str], config: Any, target: Target) -> UsageError:
    parts = [part for part in config.sub_configs if hasattr(getattr(config, part, None), key)]
    hint = f"{parts[0]} has one: -a '{parts[0]}={{{key}: …}}'" if parts else None
    near = [f"-a {each}=…" for each in closest(key, known)]
    return UsageError(
        f"{target.word}: a configuration of {config.model_type} has no {key!r}", hint=hint or did_you_mean(near)
    )


@contextmanager
def _failures_of(found: _Found, target: Target) -> Iterator[None]:
    """Say that it was a configuration which transformers did not accept."""
    try:
        with failures_of(target.word):
            yield
    except BuildError as error:
        lines = [line.strip() for line in str(error.__cause__).splitlines() if line.strip()]
        said = " ".join(lines[:2]) if lines else type(error.__cause__).__name__
        raise BadConfiguration(f"{found.file}: {said}", hint=error.hint, details=error.details) from error.__cause__


# The model ------------------------------------------------------------------------------------------------------------


def _constructor(config: Any, found: _Found, target: Target) -> Callable[[], nn.Module]:
    """Return what builds the model: a class of transformers, or one that comes with the configuration."""
    import transformers

    named = _architecture(config, found)
    own = _own_code(getattr(config, "auto_map", None))
    # An automatic class finds the code of a model's own, if that is among what the configuration comes with.
    automatic = "AutoModel" if named is None else next((key for key in own if own[key].endswith(f".{named}")), "")
    if named is None or (automatic and target.trust_remote_code):
        factory = getattr(transformers, automatic)
        if (
            target.trust_remote_code and not found.is_offline and automatic in own
        ):  # nothing is fetched any more while the model is built
            from transformers.dynamic_module_utils import get_class_from_dynamic_module

            with failures_of(target.word):
                get_class_from_dynamic_module(own[automatic], found.name)
        return lambda: factory.from_config(deepcopy(config), trust_remote_code=target.trust_remote_code)
    with failures_of(target.word):
        architecture: Any = getattr(transformers, named, None)
    if hasattr(architecture, "_from_config"):
        return lambda: architecture._from_config(deepcopy(config))  # noqa: SLF001  # what from_config calls
    if automatic:
        raise _distrusted(found, f"its architecture {named}")
    raise _unknown_architecture(named, config, found)


def _own_code(auto_map: object) -> Mapping[str, str]:
    """Return which class that comes with a configuration stands for which automatic one."""
    known = auto_map.items() if isinstance(auto_map, dict) else ()
    return {key: value for key, value in known if isinstance(value, str)}  # a tokenizer may have a list


def _architecture(config: Any, found: _Found) -> str | None:
    """Return the class that the weights are of, if the configuration says so."""
    named = config.architectures or []
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        raise BadConfiguration(f"{found.file}: architectures is to be a list of names")
    return named[0] if named else None


def _unknown_architecture(named: str, config: Any, found: _Found) -> BadConfiguration:
    import transformers

    stem = type(config).__name__.removesuffix("Config")
    own = [each for each in dir(transformers) if re.fullmatch(rf"{stem}(?:For|Model|LMHead)\w*", each)]
    near = [f"-a 'architectures=[{each}]'" for each in closest(named, own) or own[:_NAMES_LISTED]]
    return BadConfiguration(
        f"{found.file}: transformers {transformers.__version__} has no architecture {as_written(named)}",
        hint=did_you_mean(near),
    )


def _distrusted(found: _Found, what: str) -> BadConfiguration:
    return BadConfiguration(
        f"{found.file}: {what} is code that comes with the model, and is not run unasked",
        hint="read the code, and if you trust it: --trust-remote-code",
    )


def _said(config: Any) -> Iterator[Mapping[str, Any]]:
    """Yield what a configuration and its parts say of experts, also where that is a default."""
    for part in _parts(config):
        yield {key: getattr(part, key, None) for key in KEYS}


def _parts(config: Any) -> Iterator[Any]:
    """Yield a configuration and all that it is composed of."""
    from transformers import PreTrainedConfig

    yield config
    for part in vars(config).values():
        if isinstance(part, PreTrainedConfig):
            yield from _parts(part)


def _notes(config: Any) -> Iterator[Note]:
    if not config.architectures:
        message = (
            f"the configuration names no architecture: this is the base model of {config.model_type}, with no head"
        )
        yield Note("base-model", "", message)
    quantized = getattr(config, "quantization_config", None)
    if quantized is not None:
        method = (
            quantized.get("quant_method") if isinstance(quantized, dict) else getattr(quantized, "quant_method", None)
        )
        message = (
            f"the configuration is of quantised weights ({getattr(method, 'value', method)}): the parameters are those "
            "that they stand for, and the bytes what these take in the configuration's dtype"
        )
        yield Note("quantized", "", message)
