"""``paramcount diff``: any two of a target, a name in models.yaml, and that name in the lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MODELS, Run

NET = "from torch import nn\ndef build(width=4): return nn.Sequential(nn.Linear(3, width), nn.Linear(2, 2))\n"
CNN = f"{MODELS / 'tutorial_cnn.py'}:Net"


@pytest.fixture(autouse=True)
def _project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    Path("net.py").write_text(NET)
    Path("models.yaml").write_text("version: 1\nmodels:\n  small: {target: net.py:build}\n")


def test_equal_models_have_no_difference(run: Run) -> None:
    outcome = run("diff", CNN, CNN, "--exit-code")
    assert outcome.code == 0
    assert "no difference" in outcome.out


def test_a_difference_exits_1_only_where_that_is_asked_for(run: Run) -> None:
    assert run("diff", "small", CNN).code == 0
    assert run("diff", "small", CNN, "--exit-code").code == 1


def test_a_model_is_compared_with_what_the_lock_says_of_it(run: Run) -> None:
    run("lock")
    Path("net.py").write_text(NET.replace("width=4", "width=6"))
    outcome = run("diff", "lock:small", "small", "-f", "json")
    document = outcome.json
    assert (document["old"]["total"], document["new"]["total"]) == (22, 30)
    assert [(change["layer"], change["difference"]) for change in document["changes"]] == [("0", 8)]
    assert "+8" in run("diff", "lock:small", "small").out
    assert "| `0` |" in run("diff", "lock:small", "small", "-f", "markdown").out


def test_a_file_that_is_named_and_not_there_is_an_error(run: Run) -> None:
    assert run("diff", CNN, CNN, "-c", "nowhere.yaml").code == 2


def test_a_name_that_the_lock_has_not_gets_the_closest(run: Run) -> None:
    run("lock")
    outcome = run("diff", "lock:smal", "small")
    assert outcome.code == 2
    assert "did you mean lock:small?" in outcome.err


def test_a_side_that_cannot_be_counted_is_an_error_and_json_a_document(run: Run) -> None:
    outcome = run("diff", "no_such_model", CNN, "-f", "json")
    assert outcome.code == 2
    assert [error["target"] for error in outcome.json["errors"]] == ["no_such_model"]
    assert run("diff", "no_such_model", CNN).out == ""


def test_a_model_and_a_checkpoint_are_compared_as_loading_would(run: Run) -> None:
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(2, 2))
    torch.save(model.state_dict(), "whole.pt")
    torch.save({name: tensor for name, tensor in model.state_dict().items() if name != "1.bias"}, "part.pt")
    whole = run("diff", "small", "whole.pt", "--exit-code")
    assert whole.code == 0
    assert "load_state_dict(strict=True) would take whole.pt" in whole.out
    part = run("diff", "small", "part.pt", "--exit-code")
    assert part.code == 1
    assert "would refuse part.pt: 1 key is missing" in part.out
    document = run("diff", "small", "part.pt", "-f", "json").json
    assert [(key["name"], key["problem"]) for key in document["state_dict"]["keys"]] == [("1.bias", "missing")]
    lines = run("diff", "part.pt", "small", "-f", "csv").out.splitlines()
    assert lines[0] == "target,key,kind,problem,expected,found"
    assert lines[1:] == ["part.pt → small,1.bias,parameter,missing,float32 [2],"]
