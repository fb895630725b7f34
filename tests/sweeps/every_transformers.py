"""Compares every configuration class of transformers, with its defaults, and every head that goes with it.

``python -m tests.sweeps.every_transformers [--heads] [MODEL_TYPE]…``
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import transformers
from torch import nn
from transformers.models.auto import modeling_auto

import paramcount
from paramcount import Report
from tests.sweeps import Case, sweep


def case(model_type: str, folder: Path, *, architecture: str | None = None) -> Case:
    """Return the comparison of one configuration class, as it is when it is saved; ``folder`` holds it for a while."""
    # PyTorch's side builds from what transformers itself reads: the file, too.
    file = folder / "config.json"

    @cache
    def config() -> Any:
        made = transformers.CONFIG_MAPPING[model_type]()
        made.architectures = None if architecture is None else [architecture]
        made.to_json_file(file)
        return made

    def construct() -> nn.Module:
        config()
        read = transformers.AutoConfig.from_pretrained(folder)
        automatic: Any = transformers.AutoModel
        model: nn.Module = (
            automatic.from_config(read)
            if architecture is None
            else getattr(transformers, architecture)._from_config(read)
        )
        return model

    def counted() -> Report:
        config()
        return paramcount.count(f"transformers:{folder}")

    return Case(architecture or model_type, construct, counted)


def heads() -> Iterator[tuple[str, str]]:
    """Yield every architecture with a head that an automatic class knows, after its model type."""
    seen = set()
    for name, mapping in vars(modeling_auto).items():
        if name.startswith("MODEL_FOR_") and name.endswith("_MAPPING_NAMES"):
            for model_type, known in mapping.items():
                for architecture in known if isinstance(known, tuple | list) else (known,):
                    if architecture not in seen and model_type in transformers.CONFIG_MAPPING:
                        seen.add(architecture)
                        yield model_type, architecture


def main(arguments: list[str]) -> int:
    """Compare what the arguments say, and return the exit code."""
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # its own lack
    wanted = {argument for argument in arguments if argument != "--heads"}
    pairs: list[tuple[str, str | None]] = [(model_type, None) for model_type in transformers.CONFIG_MAPPING]
    if "--heads" in arguments:
        pairs = list(heads())
    with TemporaryDirectory() as folder:
        cases = (
            case(model_type, Path(folder), architecture=architecture)
            for model_type, architecture in pairs
            if not wanted or model_type in wanted
        )
        return sweep(cases, subject=f"transformers {transformers.__version__}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
