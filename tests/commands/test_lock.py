"""``paramcount lock``: what is written, what is left alone, and when it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Run

NET = "from torch import nn\ndef build(width=4): return nn.Linear(3, width)\ndef broken(): raise ValueError('no')\n"
LOCK = Path("models.lock.json")


@pytest.fixture(autouse=True)
def _project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    Path("net.py").write_text(NET)
    models(a=4, b=5)


def models(**widths: int) -> None:
    lines = [f"  {name}: {{target: net.py:build, args: {{width: {width}}}}}" for name, width in widths.items()]
    Path("models.yaml").write_text("version: 1\nmodels:\n" + "\n".join(lines) + "\n")


def locked() -> dict[str, int]:
    return {name: entry["total"] for name, entry in json.loads(LOCK.read_text())["models"].items()}


def test_all_models_are_locked_and_locking_again_changes_nothing(run: Run) -> None:
    assert run("lock").code == 0
    assert locked() == {"a": 16, "b": 20}
    before = LOCK.read_bytes()
    assert run("lock").out == "models.lock.json is up to date: 2 models\n"
    assert run("lock", "--check").code == 0
    assert LOCK.read_bytes() == before


def test_locking_one_name_leaves_the_others_untouched(run: Run) -> None:
    run("lock")
    models(a=6, b=7)
    assert run("lock", "b").out.splitlines()[0] == "b: total 20 → 28"
    assert locked() == {"a": 16, "b": 28}


def test_check_says_what_differs_and_writes_nothing(run: Run) -> None:
    outcome = run("lock", "--check")
    assert outcome.code == 1
    assert "a: is new in models.lock.json" in outcome.out
    assert not LOCK.exists()
    run("lock")
    models(a=6)
    outcome = run("lock", "--check")
    assert outcome.code == 1
    assert "a: total 16 → 24" in outcome.out
    assert "b: is in models.lock.json, and not in models.yaml" in outcome.out
    assert locked() == {"a": 16, "b": 20}
    run("lock")
    assert locked() == {"a": 24}


def test_in_ci_it_writes_only_under_force(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    assert run("lock").code == 2
    assert not LOCK.exists()
    assert run("lock", "--check").code == 1
    assert run("lock", "--force").code == 0
    assert locked() == {"a": 16, "b": 20}


def test_a_model_that_fails_keeps_what_is_locked_of_it(run: Run) -> None:
    run("lock")
    Path("models.yaml").write_text(
        "version: 1\nmodels:\n  a: {target: net.py:broken}\n  b: {target: net.py:build, args: {width: 1}}\n"
    )
    assert run("lock").code == 3
    assert locked() == {"a": 16, "b": 4}


def test_a_lock_that_cannot_be_read_is_not_overwritten(run: Run) -> None:
    LOCK.write_text("<<<<<<< ours\n")
    outcome = run("lock")
    assert outcome.code == 3
    assert "merge conflict" in outcome.err
    assert LOCK.read_text() == "<<<<<<< ours\n"


def test_an_entry_that_was_written_meanwhile_stays(run: Run) -> None:
    """Another run locks b while a is counted, of which this run has read nothing yet."""
    other = [sys.executable, "-m", "paramcount", "lock", "b"]
    Path("net.py").write_text(
        f"{NET}def slow(width):\n    import subprocess\n    subprocess.run({other!r})\n    return build(width)\n"
    )
    text = Path("models.yaml").read_text()
    Path("models.yaml").write_text(text.replace("build", "slow", 1))
    assert run("lock", "a").code == 0
    assert locked() == {"a": 16, "b": 20}


def test_runs_that_write_at_once_wait_for_each_other(run: Run) -> None:
    models(**{f"m{number}": number for number in range(1, 9)})
    model_names = [f"m{number}" for number in range(1, 9)]
    runs = [subprocess.Popen([sys.executable, "-m", "paramcount", "lock", name]) for name in model_names[:4]]
    assert [each.wait(120) for each in runs] == [0] * 4
    assert locked().keys() == set(model_names[:4])


def test_nothing_is_left_of_a_run_that_is_killed_while_it_counts(run: Run) -> None:
    """What lies in the folder while a model is built is what would be left."""
    Path("net.py").write_text(
        "import os\n" + NET.replace("return", "open('seen', 'a').write(str(os.listdir())); return", 1)
    )
    assert run("lock").code == 0
    assert "lock" not in Path("seen").read_text()
    assert {path.name for path in Path().iterdir()} - {"__pycache__"} == {LOCK.name, "models.yaml", "net.py", "seen"}
