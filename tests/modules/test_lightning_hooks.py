"""Layers that a Lightning module makes in a hook are counted, and what cannot be made is never 0 without a word."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest
from torch import nn

import paramcount
from paramcount.errors import ParamcountError


class LightningModule(nn.Module):
    """As much of Lightning's as the hooks need: it is told by its name, and by that of the module it is from."""

    def configure_model(self) -> None: ...

    def setup(self, stage: str) -> None: ...

    @property
    def trainer(self) -> object:
        raise RuntimeError(f"{type(self).__name__} is not attached to a `Trainer`.")


LightningModule.__module__ = "lightning.pytorch.core.module"

NETS = """
    from lightning import LightningModule
    from torch import nn

    class Configured(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = None

        def configure_model(self):
            from blocks import width  # beside this file
            if self.net is None:
                self.net = nn.Sequential(nn.Linear(4, width), nn.Linear(width, 2))

    class Stem(LightningModule):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(2, 2)

        def configure_model(self):
            self.big = nn.Linear(1_000_000, 1_000_000)

    class Shrinks(Stem):
        def configure_model(self):
            self.stem = nn.Linear(2, 1)

    class SetUp(LightningModule):
        def setup(self, stage):
            assert stage == "fit"
            self.net = nn.Linear(4, 3)

    class LoadsData(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 3)

        def setup(self, stage):
            raise AssertionError

    class NeedsTrainer(LightningModule):
        def configure_model(self):
            self.net = nn.Linear(4, self.trainer.world_size)

    class StemNeedsTrainer(Stem):
        def configure_model(self):
            self.net = nn.Linear(4, self.trainer.world_size)

    class Plain(LightningModule):
        pass

    class NoLightning(nn.Module):
        def configure_model(self):
            raise AssertionError

    def outer():
        return nn.Sequential(Configured(), nn.Linear(2, 2))
"""


@pytest.fixture
def nets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put models into the current folder, and a stand-in for Lightning in the place of it."""
    lightning = ModuleType("lightning")
    lightning.LightningModule = LightningModule  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning", lightning)
    Path("net.py").write_text(dedent(NETS), encoding="utf-8")
    Path("blocks.py").write_text("width = 3", encoding="utf-8")
    yield
    assert "blocks" not in sys.modules


@pytest.mark.usefixtures("nets")
@pytest.mark.parametrize(
    ("name", "total", "hook", "made"),
    [
        ("Configured", 23, "configure_model", "23"),
        ("Stem", 6 + 1_000_000 * 1_000_001, "configure_model", "1,000,001,000,000"),
        ("SetUp", 15, "setup", "15"),
        ("Shrinks", 3, "configure_model", "3"),
    ],
)
def test_the_hook_is_run_without_memory_and_the_note_says_so(name: str, total: int, hook: str, made: str) -> None:
    report = paramcount.count(f"net.py:{name}")
    assert report.total == total
    (note,) = report.notes
    assert (note.code, note.where) == ("configured", "")
    assert f"its {hook}() was run" in note.message
    assert f"{'takes away' if name == 'Shrinks' else 'makes'} {made} parameters" in note.message


@pytest.mark.usefixtures("nets")
def test_setup_is_not_run_where_there_are_parameters() -> None:
    report = paramcount.count("net.py:LoadsData")
    assert (report.total, report.notes) == (15, ())


@pytest.mark.usefixtures("nets")
@pytest.mark.parametrize("name", ["Plain", "NoLightning"])
def test_what_has_no_hook_of_lightnings_is_left_alone(name: str) -> None:
    report = paramcount.count(f"net.py:{name}")
    assert (report.total, report.notes) == (0, ())


@pytest.mark.usefixtures("nets")
def test_a_hook_that_fails_is_an_error_where_nothing_else_makes_parameters() -> None:
    with pytest.raises(
        ParamcountError, match=r"has no parameters before its configure_model\(\), which failed"
    ) as caught:
        paramcount.count("net.py:NeedsTrainer")
    assert "RuntimeError: NeedsTrainer is not attached" in caught.value.message
    assert caught.value.exit_code == 3
    assert "self.trainer.world_size" in caught.value.details


@pytest.mark.usefixtures("nets")
def test_a_hook_that_fails_beside_other_parameters_leaves_a_lower_bound() -> None:
    report = paramcount.count("net.py:StemNeedsTrainer")
    assert (report.total, report.uninitialized) == (6, 1)
    (note,) = report.notes
    assert note.code == "unmade"
    assert "configure_model() failed (RuntimeError)" in note.message
    with pytest.raises(ParamcountError, match="total cannot be judged"):
        paramcount.check(report, total="1M")


@pytest.mark.usefixtures("nets")
def test_one_below_another_model_which_lightning_does_not_run_is_noted() -> None:
    report = paramcount.count("net.py:outer")
    assert report.total == 6
    (note,) = report.notes
    assert (note.code, note.where) == ("unconfigured", "0")


def test_a_live_model_is_left_as_it_is_and_the_note_says_what_it_may_lack() -> None:
    class Net(LightningModule):
        def configure_model(self) -> None:
            self.net = nn.Linear(4, 3)

    net = Net()
    report = paramcount.count(net)
    assert report.total == 0
    assert [note.code for note in report.notes] == ["unconfigured"]
    assert "configure_model()" in report.notes[0].message
    net.configure_model()
    report = paramcount.count(net)
    assert report.total == sum(param.numel() for param in net.parameters()) == 15
    assert "only if that has been run" in report.notes[0].message
    net._trainer = object()  # type: ignore[assignment]
    assert paramcount.count(net).notes == ()


@pytest.mark.filterwarnings("ignore")  # Lightning's own
def test_lightning_itself_is_recognised(folder: Path) -> None:
    lightning = pytest.importorskip("lightning", reason="Lightning is not installed")
    assert lightning.LightningModule.__module__.startswith("lightning.")
    text = """
        import lightning
        from torch import nn

        class Net(lightning.LightningModule):
            def __init__(self, head):
                super().__init__()
                self.save_hyperparameters(logger=False)
                self.head = head

            def configure_model(self):
                self.net = nn.Linear(4, 3)

        def build():
            return Net(nn.Linear(10, 10))
    """
    Path("net.py").write_text(dedent(text), encoding="utf-8")
    report = paramcount.count("net.py:build")
    assert report.total == 110 + 15
    assert [note.code for note in report.notes] == ["configured"]
