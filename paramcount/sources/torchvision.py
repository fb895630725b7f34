"""torchvision's models, by their registered names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from paramcount.errors import UsageError, closest, did_you_mean
from paramcount.inventory import Inventory
from paramcount.modules import failures_of, take_inventory
from paramcount.modules.compiler import compiler_put_off
from paramcount.sources import Target, unknown, without_warnings

EXAMPLE = "resnet50"
LIBRARIES = ("torchvision",)
IS_CATALOGUE = True
MEANING = "a torchvision model; torchvision:resnet50 is the same"

# torchvision registers a model by decorating its builder.
_REGISTRATION = re.compile(r"^@register_model\((?:name=\"(\w+)\")?\)\n(?:[@ )].*\n)*def (\w+)\(", re.MULTILINE)


def claims(word: str) -> bool:
    """Whether torchvision has a model of this name."""
    return word.lower() in names()


@cache
def names() -> tuple[str, ...]:
    """Return all registered names, read off torchvision's source, because importing it takes seconds."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return ()
    files = sorted((Path(spec.origin).parent / "models").rglob("*.py"))
    found = (_REGISTRATION.findall(file.read_text(encoding="utf-8")) for file in files)
    return tuple(sorted(name or function for matches in found for name, function in matches))


def read(target: Target, name: str) -> Inventory:
    """Build the model without weights, and read it.

    Nothing is downloaded: ``weights_backbone`` is None unless it is given, and ``--weights`` chooses only the variant
    of the architecture (auxiliary heads, number of classes, frozen batch norm) that goes with published weights.
    """
    if name.lower() not in names():
        raise unknown(target.word, names(), name=name)
    with (
        failures_of("torchvision"),
        compiler_put_off(),
    ):  # its import fails where torch and torchvision do not fit together
        from torchvision import models
    builder = models.get_model_builder(name)
    arguments = _arguments(builder, target, name)
    with without_warnings():  # how googlenet will be initialised one day, or what of torch.ao goes, concerns no count
        inventory = take_inventory(
            lambda: builder(**arguments),
            target=target.word,
            source="torchvision",
            device=target.device,
            inputs=target.inputs,
        )
    # That the weights asked for are not fetched is what --weights promises, and needs no note.
    return replace(inventory, notes=tuple(note for note in inventory.notes if note.code != "weights-skipped"))


def _arguments(builder: Callable[..., Any], target: Target, name: str) -> dict[str, Any]:
    import inspect

    accepted = inspect.signature(builder).parameters
    arguments: dict[str, Any] = {"weights": None, **dict(target.args)}
    if "weights_backbone" in accepted:
        arguments.setdefault("weights_backbone", None)
    if target.weights is not None:
        arguments["weights"] = _weights(name, target.weights, quantized=bool(target.args.get("quantize")))
    return arguments


def _weights(name: str, wanted: str, *, quantized: bool) -> Any:
    from torchvision.models import get_model_weights

    published = get_model_weights(name)
    member = wanted.removeprefix(f"{published.__name__}.")
    if member in published.__members__:
        # Quantised weights come from a float model; unless quantize=True is asked for, that is what is built.
        weights = published[member]
        return weights if quantized else weights.meta.get("unquantized", weights)
    if not published.__members__:
        raise UsageError(f"torchvision publishes no weights for {name}")
    hint = did_you_mean(closest(member, published.__members__)) or f"published: {', '.join(published.__members__)}"
    raise UsageError(f"{name} has no weights {wanted!r}", hint=hint)
