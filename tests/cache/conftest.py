"""What the tests of the cache share: a model that depends on all that a model can depend on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from paramcount.sources import Target

NET = """
import os
from pathlib import Path
import yaml
from torch import nn
import middle
try:
    import accelerated
    ADDED = 100
except ImportError:
    ADDED = 0

class Net(nn.Linear):
    def __init__(self, inputs=2):
        with open(Path(__file__).with_name("net.yaml")) as file:
            outputs = yaml.safe_load(file)["outputs"]
        if Path("wide").exists():
            outputs *= 10
        outputs += len(list(Path(__file__).parent.joinpath("plugins").glob("*.txt")))
        super().__init__(inputs, outputs + middle.MORE + ADDED + int(os.environ.get("EXTRA", "0")))
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A model that depends on all that a model can depend on: 2 inputs, 3 + 4 outputs, and as many biases."""
    project = tmp_path / "project"
    (project / "below").mkdir(parents=True)
    (project / "plugins").mkdir()
    (project / "net.py").write_text(NET)
    (project / "middle.py").write_text("from below.inner import MORE\n")
    (project / "below" / "inner.py").write_text("MORE = 4\n")
    (project / "net.yaml").write_text("outputs: 3\n")
    monkeypatch.chdir(project)
    monkeypatch.delenv("EXTRA", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # by which Python itself misses a change within a second
    return Target("net.py:Net")
