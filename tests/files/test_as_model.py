"""Beside a file of weights, its model decides which tensors are buffers, whatever their names say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import paramcount
from paramcount.errors import UsageError
from tests.conftest import Run

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc = nn.Linear(width, 3)
        self.mean = nn.Parameter(torch.zeros(3))
        self.std = nn.Parameter(torch.zeros(3))
        self.register_buffer("grid", torch.zeros(5, 5))
"""
TOTAL, BUFFERS = 6 * 3 + 3 + 3 + 3, 25  # of six features


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, and its weights as they are saved, and as DataParallel saves them."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    shapes = {"fc.weight": (3, 6), "fc.bias": (3,), "mean": (3,), "std": (3,), "grid": (5, 5)}
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    save_file(state, "net.safetensors")
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, "net.pt")
    return tmp_path


@pytest.mark.parametrize("file", ["net.safetensors", "net.pt"])
@pytest.mark.usefixtures("folder")
def test_the_model_decides_what_is_a_buffer(file: str) -> None:
    report = paramcount.count(file, like="net.py:Net", args={"width": 6})
    assert (report.total, report.buffers.total) == (TOTAL, BUFFERS)
    assert report.unknown == TOTAL  # of a file it is not known what trains
    (note,) = report.notes
    assert (note.code, note.message) == (
        "buffers-by-model",
        "which tensors are buffers is told by net.py:Net: 1 buffer",
    )


def test_what_the_model_does_not_have_is_told(folder: Path) -> None:
    save_file({"fc.weight": torch.zeros(3, 4), "ema.running_mean": torch.zeros(3)}, folder / "more.safetensors")
    report = paramcount.count("more.safetensors", like="net.py:Net")
    assert (report.total, report.buffers.total) == (12, 3)
    assert [note.code for note in report.notes] == ["buffers-by-model", "not-in-model"]
    save_file({"x.y": torch.zeros(3, 4)}, folder / "other.safetensors")
    (note,) = paramcount.count("other.safetensors", like="net.py:Net").notes
    assert note.message == "net.py:Net has none of the file's names: buffers are told by those"


@pytest.mark.usefixtures("folder")
def test_a_model_needs_no_other_that_decides() -> None:
    with pytest.raises(UsageError, match="says itself which of its tensors are buffers"):
        paramcount.count("net.py:Net", like="net.py:Net")


@pytest.mark.usefixtures("folder")
def test_the_command_line_and_models_yaml_have_it_too(run: Run) -> None:
    assert run("net.pt", "--like", "net.py:Net", "-a", "width=6", "--value", "total").out == f"{TOTAL}\n"
    Path("models.yaml").write_text(
        "version: 1\nmodels:\n  net: {target: net.safetensors, like: 'net.py:Net', args: {width: 6},"
        f" budget: {{total: {{exactly: {TOTAL}}}}}}}\n"
    )
    assert run("check").code == 0
