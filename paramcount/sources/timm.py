"""timm's models, by their registered names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from paramcount.errors import UnknownTarget, UsageError, closest, did_you_mean
from paramcount.inventory import Inventory
from paramcount.modules import take_inventory
from paramcount.modules.compiler import compiler_put_off
from paramcount.sources import Target, library_of

EXAMPLE = "timm:vit_base_patch16_224, timm:resnet50.a1_in1k"
LIBRARIES = ("timm",)
IS_CATALOGUE = True
MEANING = "a timm model, with or without the tag of published weights"

# timm registers a model by decorating its builder.
_REGISTRATION = re.compile(r"^@register_model\n(?:[@ )#].*\n)*def (\w+)\(", re.MULTILINE)
_FETCHING = {"pretrained", "checkpoint_path"}  # arguments that only say which weights to load


def claims(word: str) -> bool:  # noqa: ARG001  # the protocol's
    """Claim no bare word: a name that torchvision has, too, would be one or the other by what is installed."""
    return False


def names() -> Iterable[str]:
    """Return all models as targets."""
    return [f"timm:{name}" for name in _registered()]


@cache
def _registered() -> tuple[str, ...]:
    """Return all registered names, read off timm's source, because importing it takes seconds."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        return ()
    files = sorted((Path(spec.origin).parent / "models").glob("*.py"))
    return tuple(sorted(name for file in files for name in _REGISTRATION.findall(file.read_text(encoding="utf-8"))))


def read(target: Target, name: str) -> Inventory:
    """Build the model without weights, and read it.

    Nothing is downloaded: the tag of published weights, after the name or as ``--weights``, chooses only the variant of
    the architecture (number of classes, size of the image) that goes with them.

    Raises:
        MissingLibrary: timm is not installed.
        UnknownTarget: timm has no such model.
        UsageError: there are no such weights, or an argument that only loads some.
        BuildError: what timm raised.

    """
    if re.match("hf[-_]hub:", name, re.IGNORECASE):
        raise UsageError(
            f"{target.word} is a model on a network, where nothing is looked up", hint=f"for example: {EXAMPLE}"
        )
    if fetching := sorted(_FETCHING & target.args.keys()):
        raise UsageError(
            f"{target.word}: -a {fetching[0]}=… loads weights, which are never loaded",
            hint="leave it out; --weights TAG picks the variant that goes with published weights",
        )
    with library_of("timm", target.word), compiler_put_off():
        import timm
    if not name.lower().startswith("local-dir:"):
        name = _published(target, name)
    return take_inventory(
        lambda: timm.create_model(name, **_arguments(target)),
        target=target.word,
        source="timm",
        device=target.device,
        inputs=target.inputs,
    )


def _arguments(target: Target) -> dict[str, Any]:
    """Return the arguments, of which a model that is built anew may change what is in them."""
    from copy import deepcopy

    return deepcopy(dict(target.args))


def _published(target: Target, name: str) -> str:
    """Return the name with the tag of the weights that are meant, if any are."""
    import timm

    model, dot, tag = name.partition(".")
    if not timm.is_model(model):
        near = [f"timm:{each}" for each in closest(model, _registered() or timm.list_models())]
        raise UnknownTarget(f"timm has no model {model!r}", hint=did_you_mean(near) or f"for example: {EXAMPLE}")
    if target.weights is not None:
        wanted = target.weights.removeprefix(f"{model}.")
        if dot and wanted != tag:
            raise UsageError(f"{target.word} names the weights {tag!r}, and --weights {target.weights!r}: give one")
        dot, tag = ("", "") if wanted == "DEFAULT" and not dot else (".", wanted)
    if not dot:
        return model
    tags = [each.partition(".")[2] for each in timm.list_models(f"{model}.*", include_tags=True)]
    if tag not in tags and tags:
        hint = did_you_mean(closest(tag, tags)) or f"published: {', '.join(tags)}"
        raise UsageError(f"timm's {model} has no weights {tag!r}", hint=hint)
    return f"{model}.{tag}"
