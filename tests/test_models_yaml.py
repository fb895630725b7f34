"""This project's own list of models is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import paramcount
from paramcount.yamls import load

FILE = Path(__file__).parent.parent / "models.yaml"
MODELS: dict[str, dict[str, Any]] = load(FILE.read_text(encoding="utf-8"))["models"]


@pytest.mark.parametrize("name", MODELS)
def test_every_exact_number_in_the_list_is_met(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FILE.parent)
    model = MODELS[name]
    keywords = {key: model[key] for key in ("args", "weights", "freeze", "unfreeze") if key in model}
    report = paramcount.count(model["target"], **keywords)
    exact = {
        rule: limit["exactly"]
        for rule, limit in model["budget"].items()
        if isinstance(limit, dict) and "exactly" in limit
    }
    assert exact == {rule: getattr(report, rule) for rule in exact}
