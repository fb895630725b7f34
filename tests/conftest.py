"""What all tests share: the program run in this process, and the small models that state their own counts."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before any library reads it: no test asks a network

from paramcount.cli import main
from tests.refusals import skipping_refusals

MODELS = Path(__file__).parent / "models"

# How long an example takes says more of the machine than of the program.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# No test finds what another left, or the user's own: the tests of the cache name a folder. Child processes inherit it.
os.environ["PARAMCOUNT_CACHE"] = "off"

# A shell that runs the tests in the background has them ignore Ctrl-C, which some of them press.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """Skip a test where two libraries refuse each other: which do, changes with what the registry serves."""
    with skipping_refusals():
        return (yield)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Outcome]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in this process, and return its exit code, stdout and stderr."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: object) -> Outcome:
        capfd.readouterr()
        code = main([str(arg) for arg in args])
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
