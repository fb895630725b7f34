"""A signal ends the program at once, whatever a model's code does, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Each tells that it is running, and then takes a minute.
NETS = """
import os, sys, time

def begin():
    with open("begun", "a") as file:
        file.write(f"{os.getpid()}\\n")

def swallows():
    begin()
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

def puts_off():
    begin()
    try:
        time.sleep(60)
    finally:
        time.sleep(60)

def multiplies():
    import numpy
    large = numpy.ones((6000, 6000))
    begin()
    for _ in range(60):
        large = numpy.linalg.multi_dot([large] * 60)

def has_children():
    import multiprocessing
    from torch import nn
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    done, stopped = context.Process(target=int), context.Process(target=lambda: (ready.set(), time.sleep(60)))
    for child in (done, stopped):
        child.start()
    ready.wait()
    stopped.terminate()
    for child in (done, stopped):
        child.join()
    return nn.Linear(4, 3) if (done.exitcode, stopped.exitcode) == (0, -15) else nn.Linear(1, 1)
"""


def begun(folder: Path, process: subprocess.Popen[str]) -> int:
    """Return the process that runs the first model's code, once it has begun."""
    while process.poll() is None:
        if (folder / "begun").exists() and (found := (folder / "begun").read_text()).endswith("\n"):
            return int(found)
        time.sleep(0.05)
    raise AssertionError(process.communicate())


def has_ended(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{number}/stat")
    return stat.exists() and ") Z" in stat.read_text()  # ended, and nobody has looked yet


@pytest.mark.parametrize(
    ("number", "code", "names"),
    [
        (signal.SIGTERM, 143, ["swallows"]),
        (signal.SIGTERM, 143, ["multiplies"]),  # in C code, where Python sees no signal
        (signal.SIGTERM, 143, ["puts_off", "swallows"]),  # in processes of their own
        (signal.SIGINT, 130, ["puts_off"]),
    ],
)
def test_a_signal_ends_the_program_in_the_midst_of_a_model(
    number: int, code: int, names: list[str], tmp_path: Path
) -> None:
    """Its exception handlers are not run, it is not built anew, no process and no unfinished file stays."""
    (tmp_path / "net.py").write_text(NETS)
    command = [sys.executable, "-m", "paramcount", *[f"net.py:{name}" for name in names], "-o", "result.json"]
    environment = {**os.environ, "PARAMCOUNT_CACHE": "off"}
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    worker = begun(tmp_path, process)
    assert (worker == process.pid) == (len(names) == 1)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (code, "", "")
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"net.py", "begun"}
    assert (tmp_path / "begun").read_text() == f"{worker}\n"
    deadline = time.monotonic() + 5
    while not has_ended(worker):
        assert time.monotonic() < deadline


def test_a_process_that_a_model_starts_ends_as_anywhere(tmp_path: Path) -> None:
    """By itself or by a signal, which is none to the program."""
    (tmp_path / "net.py").write_text(NETS)
    command = [sys.executable, "-m", "paramcount", "net.py:has_children", "--value", "total"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "15\n", "")
