"""No command writes its result over what it was made of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from paramcount.commands.overwriting import is_same
from tests.conftest import Run


@pytest.fixture(autouse=True)
def _project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    Path("net.py").write_text("from parts import build\n")
    Path("parts.py").write_text("from torch import nn\ndef build(): return nn.Linear(3, 2)\n")
    Path("models.yaml").write_text("version: 1\nmodels:\n  net: {target: net.py:build}\n")
    torch.save({"weight": torch.zeros(3), "bias": torch.zeros(2)}, "m.pt")
    Path("hard.json").hardlink_to("m.pt")
    Path("soft.json").symlink_to("m.pt")
    Path("targets").write_text("m.pt\n")


COMMANDS: dict[str, tuple[str, ...]] = {
    "a target": ("m.pt", "-o", "m.pt"),
    "a part of it": ("m.pt:weight", "-o", "m.pt"),
    "a target with a prefix": ("torch_file:m.pt:weight", "-o", "m.pt"),
    "a module": ("net.py:build", "-o", "net.py"),
    "what the module imports": ("net.py:build", "-o", "parts.py"),
    "a symbolic link to it": ("m.pt", "-o", "soft.json"),
    "what a symbolic link leads to": ("./soft.json", "-o", "m.pt"),
    "a hard link": ("m.pt", "-o", "hard.json"),
    "one side": ("diff", "net.py:build", "m.pt", "-o", "m.pt"),
    "one side by a name": ("diff", "net", "m.pt", "-o", "net.py"),
    "the budgets": ("diff", "net", "m.pt", "-o", "models.yaml"),
    "the lock": ("diff", "lock:net", "m.pt", "-o", "models.lock.json"),
    "a merged document": ("merge", "one.json", "-o", "./one.json"),
    "a list that is over a model": ("list", "resnet18", "-o", "m.pt"),
    "what an export was made of": ("check", "--export", "json=parts.py"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_an_input_is_kept(run: Run, command: tuple[str, ...]) -> None:
    run("lock")
    Path("one.json").write_text(run("m.pt", "-f", "json").out)
    output = Path(command[-1].rpartition("=")[2])
    before = output.read_bytes()
    outcome = run(*command)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"cannot write to {command[-1].rpartition('=')[2]}: it " in outcome.err
    assert output.read_bytes() == before


def test_an_earlier_result_is_replaced(run: Run) -> None:
    assert [run("m.pt", "--value", "total", "-o", "out.json").code for _ in range(2)] == [0, 0]
    assert Path("out.json").read_text() == "5\n"
    assert run("m.pt", "-f", "json", "-o", "m.json").code == 0


def test_a_file_is_the_same_in_other_letters_where_there_is_none_yet() -> None:
    assert is_same("out.json", "./OUT.json")
    assert is_same("m.pt", "hard.json")
    assert not is_same("m.pt", "net.py")
    assert not is_same("a\0b", "net.py")
