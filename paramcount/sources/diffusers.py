"""diffusers' pipelines, built from the configurations in their folder; each component is a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paramcount.errors import UnknownTarget, UsageError, closest, did_you_mean
from paramcount.files.configuration import BadConfiguration, read_configuration
from paramcount.inventory import Inventory, Note
from paramcount.modules import failures_of, take_inventory
from paramcount.sources import Target, library_of, without_warnings
from paramcount.units import as_written

if TYPE_CHECKING:
    from torch import nn

EXAMPLE = "diffusers:DIR, diffusers:DIR/unet"
LIBRARIES = ("torch", "diffusers")
IS_CATALOGUE = False
MEANING = "a diffusers pipeline, or one component, by the configurations in its folder"

_INDEX, _CONFIG = "model_index.json", "config.json"
_KIND = "_class_name"
_COMPONENT = 2  # the words that say what a component is: a library, and a class in it

_Builder = Callable[[], "nn.Module"]


def claims(word: str) -> bool:  # noqa: ARG001  # the protocol's
    """Claim no bare word: a folder with weights is read for those."""
    return False


def names() -> Iterable[str]:
    """Return the folders in the current one that hold a pipeline."""
    return sorted(f"diffusers:{path.parent}" for path in Path().glob(f"*/{_INDEX}"))


def read(target: Target, name: str) -> Inventory:
    """Build all models of a pipeline, or a single one, without weights, and read them.

    Schedulers, tokenizers and the like have no parameters, and are left out; so is, with a note, a model whose
    configuration is not there, or that only code that comes with the pipeline could build.

    Raises:
        MissingLibrary: diffusers is not installed.
        UnknownTarget: there is no such folder.
        UsageError: arguments or weights are given.
        BadConfiguration: no model can be built from what the folder says.
        BuildError: what diffusers or transformers raised.

    """
    if target.args or target.weights is not None:
        raise UsageError(f"{target.word} is built from its configurations, which take no arguments and no weights")
    folder = _folder(name)
    file = next((folder / each for each in (_INDEX, _CONFIG) if (folder / each).is_file()), None)
    if file is None:
        raise UnknownTarget(f"{name} is a folder with neither a {_INDEX} nor a {_CONFIG}")
    said = read_configuration(file)
    if not isinstance(said.get(_KIND), str):
        hint = f"it may be the configuration of another library: transformers:{folder}"
        raise BadConfiguration(f"{file}: it has no {_KIND}", hint=hint if "model_type" in said else None)
    with library_of("diffusers", target.word):
        import diffusers  # noqa: F401  # here, and nowhere below, it may be missing
    notes: tuple[Note, ...] = ()
    with without_warnings():
        if file.name == _CONFIG:
            construct = _model("diffusers", said[_KIND], folder, target)
            if construct is None:
                raise BadConfiguration(f"{file}: diffusers has no model {as_written(said[_KIND])}")
        else:
            construct, notes = _pipeline(said, folder, target)
        inventory = take_inventory(construct, target=target.word, source="diffusers", device=target.device)
    return replace(inventory, notes=(*notes, *inventory.notes))


def _folder(name: str) -> Path:
    try:
        path = Path(name).expanduser()
        folder = path.parent if path.name in {_INDEX, _CONFIG} else path
        if name and folder.is_dir():
            return folder
    except (OSError, ValueError, RuntimeError) as error:  # a name that is too long, a NUL in it, no such user
        raise UnknownTarget(f"{as_written(name)} is no path: {error}") from error
    beside = [str(each) for each in sorted(folder.parent.iterdir()) if each.is_dir()] if folder.parent.is_dir() else []
    near = [f"diffusers:{each}" for each in closest(str(folder), beside)]
    raise UnknownTarget(f"there is no folder {name or '«»'}", hint=did_you_mean(near) or f"for example: {EXAMPLE}")


def _pipeline(said: Mapping[str, Any], folder: Path, target: Target) -> tuple[_Builder, tuple[Note, ...]]:
    """Return what builds all models of a pipeline, as parts of one, and which are left out."""
    from torch import nn

    builders: dict[str, _Builder] = {}
    notes = []
    for name, component in said.items():
        is_one = isinstance(component, list) and len(component) == _COMPONENT and not name.startswith("_")
        if not is_one or not all(isinstance(word, str) for word in component):
            continue  # a setting, or a component that this pipeline goes without
        library, kind = component
        if (folder / name / _CONFIG).is_file():
            builder = _model(library, kind, folder / name, target)
            if builder is not None:
                builders[name] = builder
            elif _namespace(library) is None:
                notes.append(Note("left-out", name, f"{kind} is code that comes with the pipeline, and is not run"))
        elif _model_class(library, kind, target) is not None:
            missing = f"{folder / name / _CONFIG} is not there: what {kind} holds is not in the count"
            notes.append(Note("left-out", name, missing))
    if not builders:
        raise BadConfiguration(f"{folder / _INDEX}: it has no component with a {_CONFIG} of a model")
    pipeline: type[nn.Module] = type(said[_KIND], (nn.Module,), {})

    def construct() -> nn.Module:
        whole = pipeline()
        for name, builder in builders.items():
            whole.add_module(name, builder())
        return whole

    return construct, tuple(notes)


def _namespace(library: str) -> Any:
    """Return where a component's class is: a library, or one of diffusers' own families of pipelines."""
    import diffusers
    import transformers

    known = {"diffusers": diffusers, "transformers": transformers}
    return known.get(library) or getattr(diffusers.pipelines, library, None)


def _model_class(library: str, kind: str, target: Target) -> Any:
    """Return the class of a component; None for one that is no model, as a scheduler."""
    from torch import nn

    with failures_of(target.word):
        found = getattr(_namespace(library), kind, None)
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def _model(library: str, kind: str, folder: Path, target: Target) -> _Builder | None:
    """Return what builds a component; None for one that is no model."""
    found = _model_class(library, kind, target)
    if found is None:
        return None
    with failures_of(target.word):
        if hasattr(found, "_from_config"):  # of transformers
            config = found.config_class.from_pretrained(folder)
            return lambda: found._from_config(config)  # noqa: SLF001  # what its from_config calls
        settings = found.load_config(folder)
        return lambda: found.from_config(settings)
