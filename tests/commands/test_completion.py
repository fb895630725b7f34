"""What a shell is told that a word may become."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
from torchvision import models

from paramcount.commands.completion import _paths
from paramcount.sources import sources
from tests.conftest import MODELS, Run

Complete = Callable[..., list[str]]
CONFIG = """\
version: 1
defaults: {growth: {percent: 2}}
models:
  small: {target: resnet18, layers: {stem: {total: 1}}}
  "wide one":
    target: wide_resnet50_2
  "$(ends the shell)": {target: resnet18}
  "of two\\nlines": {target: resnet18}
  slim: {target: [unfinished
"""


@pytest.fixture
def complete(run: Run, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """Ask as bash does after the last of these words, and return the answers; nothing may be said on stderr."""

    def complete(*words: str) -> list[str]:
        monkeypatch.setenv("_PARAMCOUNT_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "\n".join(["paramcount", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        outcome = run()
        assert outcome.err == ""
        return outcome.out.split("\n")[:-1] if outcome.out.strip() else []

    return complete


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("start", ["resnet", "v", "fasterrcnn_", "quantized_"])
def test_a_bare_word_completes_to_torchvisions_names(start: str, complete: Complete) -> None:
    names = sorted(name for name in models.list_models() if name.startswith(start))
    assert complete("count", start) == names
    assert complete(start) == names
    assert complete("diff", "resnet18", start) == names
    assert complete("init", start) == names
    assert complete("list", start) == names


@pytest.mark.usefixtures("folder")
def test_all_names_and_no_more_are_offered_where_nothing_is_written(complete: Complete) -> None:
    assert sorted(complete("count", "")) == sorted([*models.list_models(), "timm:", "torchvision:"])


def test_names_with_a_prefix_come_as_bash_parts_them_and_whole_where_it_does_not(complete: Complete) -> None:
    names = sorted(timm.list_models())
    assert complete("count", "timm", ":") == names
    assert complete("timm", ":", "vit_b") == [name for name in names if name.startswith("vit_b")]
    assert complete("timm:vit_b") == [f"timm:{name}" for name in names if name.startswith("vit_b")]
    assert complete("tim") == [f"timm:{name}" for name in names]
    assert complete("resnet18", "torchvision", ":", "resnet") == complete("resnet")
    assert complete("list", "--source=timm", "timm", ":", "vit_b") == complete("timm", ":", "vit_b")
    assert complete("python", ":", "resnet") == []


def test_files_of_the_kinds_that_count_complete_and_so_do_the_folders_beside_them(
    complete: Complete, folder: Path
) -> None:
    for name in (
        "weights.pt",
        "weigh.txt",
        "weights.gguf",
        ".hidden.pt",
        "weight$.pt",
        "we\nb.pt",
        "we  b.pt",
        "we ight.ckpt",
    ):
        (folder / name).touch()
    (folder / "weights").mkdir()
    (folder / "weights" / "model.safetensors").touch()
    assert complete("count", "we") == ["we\\ ight.ckpt", "weights/", "weights.gguf", "weights.pt"]
    assert complete("count", "'we ") == ["we ight.ckpt"]
    assert complete("count", "weights/m") == ["weights/model.safetensors"]
    assert complete("count", "safetensors", ":", "weights/") == ["weights/model.safetensors"]
    assert complete("count", ".h") == [".hidden.pt"]
    assert complete("count", "weights/none") == complete("count", "https", ":", "//host/we") == []


NAMES = [
    *("a.py", "b.py", "a.json", "b.JSON", "config.json", "model.safetensors.index.json", "model.bin.index.json"),
    *("model.pt.index.json", "model.pth.index.json", "adapter_model.bin", "adapter_model.safetensors", "a.safetensors"),
    *("a.gguf", "b.gguf", "a.pt", "b.pth", "c.bin", "d.ckpt", "e.pt2", "f.pkl", "__0_0.distcp", "__1_0.distcp"),
    *("x.distcp", "none", "c.tar.gz", "a.pt:part", "a.txt:part", "a.py:Net", "module:Net", "Makefile", "a.", "a..pt"),
]
HIDDEN = [".metadata", ".safetensors", ".gguf", ".json", ".pt", ".py", ".safetensors.index.json", ".index.json"]


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1], HIDDEN])
def test_a_file_is_offered_where_a_source_claims_it_whatever_else_is_there(names: list[str], folder: Path) -> None:
    for name in names:
        (folder / name).touch()
    kinds = [source for source in sources().values() if not source.IS_CATALOGUE]
    start = "." if names is HIDDEN else ""
    assert list(_paths(start)) == sorted(name for name in names if any(kind.claims(name) for kind in kinds))


def test_a_lone_folder_and_a_home_are_left_to_the_shell(complete: Complete, folder: Path) -> None:
    (folder / "lone").mkdir()
    assert complete("count", "lo") == complete("count", "~/") == complete("count", "nowhere/") == []


def test_a_python_file_completes_to_its_models_without_being_run(complete: Complete, folder: Path) -> None:
    text = (MODELS / "tutorial_cnn.py").read_text()
    (folder / "my net.py").write_text(f"{text}\nraise SystemExit('run')\n")
    assert complete("my") == ["my\\ net.py", "my\\ net.py:Net"]
    assert complete("count", "my\\ net.py", ":") == ["Net"]
    assert complete("count", "my\\ net.py", ":", "N") == ["Net"]
    assert complete("python", ":", "my\\ net.py", ":", "N") == ["Net"]
    assert complete("my\\ net.py", ":", "M") == []


def test_options_complete_to_their_values(complete: Complete) -> None:
    assert complete("list", "--source", "") == ["timm", "torchvision"]
    assert complete("list", "--source", "=", "to") == ["torchvision"]
    assert complete("resnet18", "--by", "de") == complete("--by", "=", "de") == ["decay"]
    assert complete("--value", "t") == ["total", "trainable"]
    assert complete("count", "-f", "m") == ["markdown"]
    assert complete("check", "--format", "s") == ["sarif"]
    assert complete("--va") == ["--value"]
    assert complete("-a", "name", "=", "re") == []  # an argument's value is no target


def test_check_and_lock_complete_models_of_a_file_that_is_being_written(complete: Complete, folder: Path) -> None:
    assert complete("check", "s") == []
    (folder / "other.yaml").write_text(CONFIG)
    for command in ("check", "lock"):
        assert complete(command, "--config", "other.yaml", "") == ["small", "wide\\ one", "slim"]
    (folder / "models.yaml").write_text(CONFIG)
    assert complete("check", "small", "s") == ["small", "slim"]
    assert complete("diff", "lock", ":", "sm") == ["small"]
    assert complete("diff", "sm") == ["small"]
    (folder / "models.yaml").write_text("models: {resnet152: {target: resnet152}}")
    assert complete("diff", "resnet15") == ["resnet152"]


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"models: 3", b"models: [a, b]", b"- models", b"{{{", b"a: *b", b""]
)
def test_a_models_yaml_that_is_none_completes_nothing(content: bytes, complete: Complete, folder: Path) -> None:
    (folder / "models.yaml").write_bytes(content)
    assert complete("check", "") == []


def test_what_goes_wrong_is_silent(run: Run, complete: Complete, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "broken.py").write_text("class Net(:\n")
    assert (
        complete("broken.py", ":")
        == complete("count", "a\x01/")
        == complete("nothing", "--format", "x", "--", "y")
        == []
    )
    monkeypatch.setenv("PARAMCOUNT_TIMEOUT", "soon")
    assert complete("resnet15") == ["resnet152"]
    for instruction in ("complete_none", "none", "complete_bash"):
        monkeypatch.setenv("_PARAMCOUNT_COMPLETE", instruction)
        monkeypatch.delenv("COMP_WORDS", raising=False)
        outcome = run()
        assert (outcome.code, outcome.out, outcome.err) == (1, "", "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_itself_completes_a_name_with_a_colon(folder: Path) -> None:
    (folder / "net.py").write_text((MODELS / "tutorial_cnn.py").read_text())
    program = folder / "paramcount"
    real = f'PYTHONPATH={Path(__file__).parents[2]} exec {sys.executable} -m paramcount "$@"'
    program.write_text(f'#!/bin/sh\n[ -n "$_PARAMCOUNT_COMPLETE" ] || {{ echo "$*" >> said; exit; }}\n{real}\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "TERM": "dumb"}
    script = subprocess.run(
        [program], env=environment | {"_PARAMCOUNT_COMPLETE": "source_bash"}, capture_output=True, text=True, check=True
    ).stdout
    (folder / "script").write_text(script)
    typed = ["torchvision:resnet10\t", "net.py:N\t", "diff lock:x resnet15\t", "list --source=tim\t", "--by=dec\t"]
    ours, its = pty.openpty()
    lines = ["source ./script", *(f"paramcount {line}" for line in typed), "exit"]
    with subprocess.Popen(
        ["bash", "--norc", "-i"], stdin=its, stdout=its, stderr=its, cwd=folder, env=environment, start_new_session=True
    ) as bash:
        os.close(its)
        os.write(ours, "".join(f"{line}\n" for line in lines).encode())
        try:
            while os.read(ours, 1024):  # or it would wait for someone to read its echo
                pass
        except OSError:  # it has ended
            pass
        bash.wait()
    os.close(ours)
    assert [line.rstrip() for line in (folder / "said").read_text().splitlines()] == [
        "torchvision:resnet101",
        "net.py:Net",
        "diff lock:x resnet152",
        "list --source=timm",
        "--by=decay",
    ]
