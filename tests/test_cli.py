"""The command line as a process: what only a process can show."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paramcount import __version__
from tests.conftest import MODELS, Run

PROGRAM = [sys.executable, "-m", "paramcount"]
CNN = f"{MODELS / 'tutorial_cnn.py'}:Net"


def test_version_and_help_go_to_stdout(run: Run) -> None:
    assert run("--version").out == f"paramcount {__version__}\n"
    for args in (["--help"], ["-h"], ["count", "--help"]):
        outcome = run(*args)
        assert outcome.code == 0
        assert "Usage: paramcount" in outcome.out
        assert outcome.err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_version_that_nobody_can_be_told_is_an_error_without_a_traceback(unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (2, "error: cannot write the result: No space left on device\n")


def test_no_arguments_show_the_help_and_are_a_usage_error(run: Run) -> None:
    outcome = run()
    assert outcome.code == 2
    assert "Usage: paramcount" in outcome.out


def test_color_is_decided_by_option_then_no_color_then_force_color_then_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[" not in run(CNN).out  # no terminal
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in run(CNN).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in run(CNN).out
    assert "\x1b[" in run("--color", "always", CNN).out
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b[" not in run("--color", "never", CNN).out


def test_a_process_writes_its_result_to_stdout_and_nothing_a_model_prints_even_at_exit(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('the wrong torch')")  # the current folder must not stand in
    (tmp_path / "net.py").write_text(
        "import atexit\nfrom torch import nn\n"
        "atexit.register(print, 'bye')\nprint('hi')\n"
        "def build(): return nn.Linear(1, 1)\n"
    )
    done = subprocess.run(
        [*PROGRAM, "net.py:build", "--value", "total"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "2\n")
    assert done.stderr == "hi\nbye\n"


def test_a_closed_pipe_ends_quietly_with_141() -> None:
    process = subprocess.Popen([*PROGRAM, CNN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_ctrl_c_ends_with_130_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import sys, time\nprint('building', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [*PROGRAM, "net.py:Net"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "building\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


def test_ctrl_c_while_the_program_is_being_imported_ends_as_quietly(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([*PROGRAM, CNN], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_terminal_that_knows_no_unicode_gets_plain_characters() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([*PROGRAM, CNN], capture_output=True, env=environment, check=True)
    assert b"87,018" in done.stdout
    assert done.stdout.isascii()
