"""Counts models as models.yaml states them."""

from __future__ import annotations

from contextlib import chdir
from typing import TYPE_CHECKING

import paramcount
from paramcount.commands.counting import Job

if TYPE_CHECKING:
    from paramcount.config import Config, ModelSpec
    from paramcount.report import Report


def job(spec: ModelSpec, config: Config) -> Job:
    """Return the job that counts one model of a file; its paths are relative to the file."""

    def counted() -> Report:
        with chdir(config.base):
            return paramcount.count(
                spec.target,
                args=spec.args,
                weights=spec.weights,
                freeze=spec.freeze,
                unfreeze=spec.unfreeze,
                device=spec.device,
            )

    return Job(spec.name, spec.target, counted)
