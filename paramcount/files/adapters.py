"""Tells what the tensors of an adapter are, by the names that PEFT gives them, and by its adapter_config.json.

The names: https://huggingface.co/docs/peft/main/en/developer_guides/checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paramcount.files.stored import Stored
from paramcount.inventory import Note
from paramcount.units import as_written, exact, plural

CONFIG = "adapter_config.json"

# Methods by what their tensors' names begin with; of others the config says the name.
_METHODS = {
    "lora": "LoRA",
    "ia3": "IA3",
    "vera": "VeRA",
    "hada": "LoHa",
    "lokr": "LoKr",
    "oft": "OFT",
    "boft": "BOFT",
} | {
    "fourierft": "FourierFT",
    "hra": "HRA",
    "vblora": "VBLoRA",
    "randlora": "RandLoRA",
    "c3a": "C3A",
    "road": "RoAd",
}
_PART = re.compile(rf"(?P<module>.+?)\.(?P<key>(?P<method>{'|'.join(_METHODS)})_[A-Za-z0-9_]+)(?:\..+)?", re.DOTALL)
# Of each method, the tensor of which one dimension is the rank, and which.
_RANKS = {"lora_A": 0, "lora_embedding_A": 0, "hada_w1_b": 0, "lokr_w2_b": 0, "vera_lambda_d": 0}
_SHARED = "base_model"  # what all targets have in common is kept here
_TARGETS_LISTED = 8
_RANKS_LISTED = 4


@dataclass(frozen=True, slots=True)
class Adapter:
    """What an adapter is, and what its modules are."""

    types: dict[str, str]  # by dotted name, in the tensors' order
    notes: tuple[Note, ...]


@dataclass(slots=True)
class _Target:
    """One module that is adapted."""

    name: str  # the last part of the module's
    method: str
    rank: int | None = None
    numel: int = 0

    @property
    def label(self) -> str:
        return f"{self.method} {self.name}" + ("" if self.rank is None else f" r={self.rank}")


def adapter(tensors: Iterable[Stored], config: Mapping[str, Any] | None) -> Adapter:
    """Return the types of modules, by method, target and rank, and what there is to say of the adapter."""
    tensors = list(tensors)
    parts = {tensor.name: _PART.fullmatch(tensor.name) for tensor in tensors}
    targets: dict[str, _Target] = {}
    whole: dict[str, int] = {}  # elements by name, of what is kept whole
    for tensor in tensors:
        part = parts[tensor.name]
        if part is None:
            name = tensor.name.removesuffix(".weight").removesuffix(".bias")
            whole[name] = whole.get(name, 0) + tensor.numel
            continue
        target = targets.setdefault(
            part["module"], _Target(part["module"].rpartition(".")[2], _METHODS[part["method"]])
        )
        target.numel += tensor.numel
        target.method = _refined(target.method, part["key"])
        if part["key"] in _RANKS and tensor.shape:
            target.rank = tensor.shape[_RANKS[part["key"]]]
    if _SHARED in targets:
        targets[_SHARED].name = "shared"
    kind = _kind(targets.values(), config)
    types = {"": f"{kind} adapter"}
    for tensor in tensors:
        module, part = tensor.name.rpartition(".")[0], parts[tensor.name]
        if part is not None:
            types[part["module"]] = types[module] = targets[part["module"]].label
        elif module:
            types[module] = f"{_last(module)} in full"
    notes = [_note(kind, targets.values(), whole, config), *_rank_notes(targets, config)]
    return Adapter(types, tuple(notes))


def _refined(method: str, key: str) -> str:
    if key == "lora_magnitude_vector":
        return "DoRA"
    return "AdaLoRA" if key == "lora_E" else method


def _last(module: str) -> str:
    above, _, last = module.rpartition(".")
    return f"{above.rpartition('.')[2]} of the base model" if last == "base_layer" and above else last


def _kind(targets: Iterable[_Target], config: Mapping[str, Any] | None) -> str:
    methods = sorted({target.method for target in targets})
    if methods:
        return " and ".join(methods)
    said = (config or {}).get("peft_type")
    return _brief(said).replace("_", " ").capitalize() if isinstance(said, str) else "unknown kind of"


def _note(kind: str, targets: Iterable[_Target], whole: Mapping[str, int], config: Mapping[str, Any] | None) -> Note:
    said = [f"{kind} adapter" + _base(config)]
    if config is None:
        said.append(f"there is no {CONFIG} beside it")
    else:
        settings = (("r", "rank"), ("lora_alpha", "alpha"), ("num_virtual_tokens", "virtual tokens"))
        said += [f"{label} {exact(config[key])}" for key, label in settings if type(config.get(key)) is int]
    counts: dict[str, tuple[int, int]] = {}
    for target in targets:
        modules, numel = counts.get(target.label, (0, 0))
        counts[target.label] = modules + 1, numel + target.numel
    listed = [f"{label} × {modules} ({exact(numel)})" for label, (modules, numel) in counts.items()]
    listed += [f"{_brief(_last(name))} in full ({exact(numel)})" for name, numel in whole.items()]
    more = len(listed) - _TARGETS_LISTED
    if more > 0:
        listed[_TARGETS_LISTED:] = [f"{plural(more, 'more kind')}, which --by type shows"]
    return Note("adapter", "", f"{', '.join(said)}; it holds {', '.join(listed) or 'nothing'}")


def _base(config: Mapping[str, Any] | None) -> str:
    base = (config or {}).get("base_model_name_or_path")
    return f" of {_brief(base)}" if isinstance(base, str) and base else ""


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else line[:100] + "…"  # noqa: PLR2004  # of one line in a terminal


def _rank_notes(targets: Mapping[str, _Target], config: Mapping[str, Any] | None) -> Iterator[Note]:
    """Note modules whose rank is none of those that the config names; which pattern is whose is for PEFT to say."""
    if config is None or config.get("peft_type") != "LORA" or config.get("target_parameters"):
        return
    rank, patterns = config.get("r"), config.get("rank_pattern")
    said = [rank, *(patterns.values() if isinstance(patterns, dict) else ())]
    odd = {name: target.rank for name, target in targets.items() if target.rank is not None and target.rank not in said}
    if odd:
        first, found = next(iter(odd.items()))
        others = f" ({plural(len(odd) - 1, 'more module')} of such a rank)" if len(odd) > 1 else ""
        expected = ", ".join(as_written(each) for each in said[:_RANKS_LISTED])
        message = f"has rank {found}{others} and {CONFIG} says {expected}: what counts are the tensors"
        yield Note("adapter-rank", first, message)
