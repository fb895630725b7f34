"""Whatever a model does to its process is that model's own fault, and nobody else's answer."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

import paramcount
from paramcount.commands.counting import Failure, Job, count_all
from paramcount.commands.session import Session
from paramcount.report import Report
from tests.conftest import MODELS

NET = f"{MODELS / 'tutorial_cnn'}.py:Net"


class Touch:
    """A value that touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def descriptors() -> set[int]:
    return {int(path.name) for path in Path("/dev/fd").iterdir()}


def write(data: bytes, given: set[int]) -> None:
    for descriptor in given:
        with suppress(OSError):
            os.write(descriptor, data)


def close(given: set[int]) -> None:
    for descriptor in given:
        with suppress(OSError):
            os.close(descriptor)


def open_others_instead(given: set[int]) -> None:
    close(given)
    for _ in given:
        os.open(os.devnull, os.O_RDWR)


def kill_group(given: set[int]) -> None:
    os.killpg(0, signal.SIGKILL)


def run_another_program(given: set[int]) -> None:
    os.execv(sys.executable, [sys.executable, "-c", ""])


BAD: dict[str, Callable[[set[int]], None]] = {
    "bytes": partial(write, b"\0\1garbage\n"),
    "half a line": partial(write, b"[0,"),
    "a length": partial(write, b"\x7f\xff\xff\xff"),
    "a foreign answer": partial(write, b"[1,[],7]\n"),
    "an answer twice": partial(write, b"[0,[],7]\n[1,[],7]\n"),
    "a negative count": partial(write, b"[0,[],-7]\n"),
    "a fraction": partial(write, b"[0,[],7.5]\n"),
    "a success of an error": partial(write, b'[0,[["x",0,"",null,"",""]],null]\n'),
    "closing": close,
    "reopening": open_others_instead,
    "its group": kill_group,
    "exec": run_another_program,
    "os._exit": lambda _: os._exit(0),
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_model_does_to_its_pipe_is_an_error_of_that_model_alone(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = descriptors()

    def bad() -> int:
        BAD[name](descriptors() - before)
        return 1

    spoilt, fine = count_all(
        Session(), [Job("bad", "bad", bad, kind=int), Job("fine", "fine", lambda: 2, kind=int)], forked=True
    )
    assert isinstance(spoilt, Failure)
    assert spoilt.error.exit_code == 3
    assert fine == 2


def test_nothing_that_a_model_sends_is_unpickled(folder: Path) -> None:
    before = descriptors()

    def bad() -> int:
        write(pickle.dumps(Touch(folder / "canary")) + b"\n", descriptors() - before)
        return 1

    (spoilt,) = count_all(Session(), [Job("bad", "bad", bad, kind=int)], forked=True)
    assert isinstance(spoilt, Failure)
    assert not (folder / "canary").exists()


def returning() -> None:
    os.fork()


def raising() -> None:
    if os.fork() == 0:
        raise ValueError


def leaving() -> None:
    if os.fork() == 0:
        sys.exit(0)


@pytest.mark.parametrize("fork", [returning, raising, leaving])
@pytest.mark.parametrize("forked", [True, False])
def test_a_process_that_a_model_forks_does_not_go_on_as_paramcount(
    fork: Callable[[], None], forked: bool, folder: Path
) -> None:
    def count() -> int:
        fork()
        with (folder / "counts").open("a") as file:
            file.write("1")
        time.sleep(0.3)  # a child that went on would by now have come back, too
        return 1

    assert count_all(Session(), [Job("forking", "forking", count, kind=int)], forked=forked) == [1]


def test_a_report_from_a_worker_is_the_one_that_counting_here_gives() -> None:
    job: Job[Report] = Job(NET, NET, lambda: paramcount.count(NET))
    assert count_all(Session(), [job], forked=True) == [paramcount.count(NET)]


def test_more_models_than_open_files_are_counted(folder: Path) -> None:
    jobs = [Job(str(n), str(n), lambda: 7, kind=int) for n in range(40)]

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = len(descriptors())
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 15, hard))
    try:
        assert count_all(Session(), jobs, processes=20) == [7] * 40
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_program_that_is_killed_leaves_no_worker_behind(folder: Path) -> None:
    (folder / "net.py").write_text(
        "import os, time\ndef Net():\n    open('pid', 'w').write(str(os.getpid()))\n    time.sleep(60)\n"
    )
    (folder / "models.yaml").write_text("version: 1\nmodels:\n  a: {target: net.py:Net}\n")
    with subprocess.Popen([sys.executable, "-m", "paramcount", "check"], stderr=subprocess.DEVNULL) as program:
        deadline = time.monotonic() + 60
        while not (folder / "pid").exists() or not (folder / "pid").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        program.kill()
    worker = int((folder / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if (stat := Path(f"/proc/{worker}/stat")).exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return  # nobody has asked for its exit code yet
        time.sleep(0.05)
    raise AssertionError("the worker goes on")


def test_what_a_model_leaves_running_does_not_keep_the_program(folder: Path) -> None:
    (folder / "net.py").write_text(
        "import multiprocessing, time\nfrom torch import nn\ndef Net():\n"
        "    multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,)).start()\n"
        "    return nn.Linear(3, 2)\n"
    )
    argv = [sys.executable, "-m", "paramcount", "net.py:Net", "--value", "total"]
    assert subprocess.run(argv, stdout=subprocess.PIPE, timeout=100, check=True).stdout == b"8\n"
