"""``paramcount init`` and ``paramcount schema``: a file to start from, and what an editor needs to help with it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]  # it ships no type information
import pytest

from paramcount.yamls import load
from tests.conftest import MODELS, Run

NET = "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self, width=3): super().__init__(4, width)\n"


@pytest.fixture(autouse=True)
def _folder(folder: Path) -> None:
    Path("net.py").write_text(NET)


def test_the_models_found_here_are_written_with_what_they_have_and_pass_the_check(run: Run) -> None:
    Path("tool.py").write_text("print('no model')\n")
    Path("needs.py").write_text("from torch import nn\ndef build(width) -> nn.Module: ...\n")
    assert run("init").code == 0
    written = load(Path("models.yaml").read_text())
    assert written == {"version": 1, "models": {"net": {"target": "net.py", "budget": {"total": 15}}}}
    assert "measured: 15 parameters" in Path("models.yaml").read_text()
    assert run("check").code == 0


def test_targets_are_written_under_their_own_names_with_room_to_the_next_round_number(run: Run) -> None:
    frozen = f"{MODELS / 'frozen_backbone.py'}:Net"
    assert run("init", "net.py:Net", frozen, "resnet18").code == 0
    written = load(Path("models.yaml").read_text())["models"]
    assert list(written) == ["Net", "Net_2", "resnet18"]
    assert written["Net_2"] == {"target": frozen, "budget": {"total": 62, "trainable": 12}}
    assert written["resnet18"]["budget"] == {"total": "11.7M"}
    assert run("check").code == 0


def test_a_file_that_is_there_is_never_overwritten(run: Run) -> None:
    Path("models.yaml").write_text("mine")
    assert run("init", "net.py").code == 2
    assert Path("models.yaml").read_text() == "mine"
    assert run("init", "net.py", "-c", "other.yaml").code == 0


def test_nothing_is_written_where_nothing_is_found(run: Run) -> None:
    Path("net.py").unlink()
    assert run("init").code == 2
    assert run("init", "nowhere.py:Net").code == 2
    assert list(Path().iterdir()) == []


def test_the_schema_accepts_this_projects_own_file_and_refuses_a_typo(run: Run) -> None:
    schema = json.loads(run("schema").out)
    example = load((MODELS.parent.parent / "models.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(example, schema)
    example["models"]["resnet50"]["budgt"] = {}
    with pytest.raises(jsonschema.ValidationError, match="budgt"):
        jsonschema.validate(example, schema)
