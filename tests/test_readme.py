"""The README is true: its commands print what it shows. ``python -m tests.test_readme`` writes that anew."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from paramcount.cli import main
from paramcount.config import parse
from paramcount.yamls import load
from tests.conftest import Run

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
_FILE = re.compile(r"<!-- (?P<name>[\w.]+\.\w+) -->\n```\w+\n(?P<text>.*?)```", re.DOTALL)
_CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)


def files(text: str) -> dict[str, str]:
    """Return the files that the README shows, by name."""
    return {match["name"]: match["text"] for match in _FILE.finditer(text)}


def commands(block: str) -> list[tuple[str, str]]:
    """Return each command of a console block, and what it is shown to print."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def arguments(command: str) -> tuple[list[str], str]:
    """Return the arguments of a command, and the name of the file it reads from stdin."""
    words = shlex.split(command, comments=True)
    assert words[0] == "paramcount"
    stdin = words[words.index("<") + 1] if "<" in words else ""
    return words[1 : words.index("<") if stdin else None], stdin


TEXT = README.read_text(encoding="utf-8")
SHOWN = [shown for block in _CONSOLE.findall(TEXT) for shown in commands(block)]


@pytest.fixture
def examples(folder: Path) -> None:
    for name, text in files(TEXT).items():
        Path(name).write_text(text, encoding="utf-8")


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=[command for command, _ in SHOWN])
def test_a_command_prints_what_the_readme_shows(
    command: str, shown: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    args, stdin = arguments(command)
    if stdin:
        monkeypatch.setattr("sys.stdin", io.StringIO(Path(stdin).read_text()))
    outcome = run(*args)
    assert outcome.out == shown
    code = re.search(r"# exit (\d+)$", command)
    assert outcome.code == (int(code[1]) if code else 0)


SNIPPETS = re.findall(r"<!-- snippet: (\w+) -->\n```\w+\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize(("kind", "text"), SNIPPETS, ids=[f"{n}-{kind}" for n, (kind, _) in enumerate(SNIPPETS)])
def test_a_snippet_is_read_by_what_it_is_for(kind: str, text: str, folder: Path) -> None:
    if kind == "yaml":
        assert isinstance(load(text), dict)
    elif kind == "allow":
        spec = parse((files(TEXT)["models.yaml"].replace("    layers:", f"{text}    layers:", 1)).encode()).models[0]
        assert [allowance.max for allowance in spec.budget.allow] == [2_600_000]
    elif kind == "sh":
        subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    else:
        Path("Makefile").write_text(text)
        done = subprocess.run(["make", "-n", "parameters"], capture_output=True, text=True, check=True)
        assert done.stdout == "paramcount check --locked -j 4\n"


def test_the_snippets_use_options_and_inputs_that_there_are(run: Run) -> None:
    known = set(re.findall(r"--[a-z][a-z-]+", run("check", "--help").out))
    assert {option for _, text in SNIPPETS for option in re.findall(r"check (--\w+)", text)} <= known
    yamls = [text for kind, text in SNIPPETS if kind == "yaml"]
    action, hook = load((ROOT / "action.yml").read_text()), load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert set(load(yamls[0])["jobs"]["parameters"]["steps"][2]["with"]) <= set(action["inputs"])
    assert action["runs"]["using"] == "composite"
    assert hook[0]["id"] == load(yamls[2])["repos"][0]["hooks"][0]["id"]
    assert (hook[0]["entry"], hook[0]["language"], hook[0]["pass_filenames"]) == ("paramcount check", "system", False)


def test_there_are_at_least_ten_examples() -> None:
    assert len(SHOWN) >= 10


@pytest.mark.usefixtures("examples")
def test_the_python_example_runs() -> None:
    names: dict[str, Callable[[], None]] = {}
    exec(compile(files(TEXT)["api.py"], "api.py", "exec"), names)
    names["test_the_model_stays_within_its_budget"]()


def test_every_option_shown_is_one_that_the_help_knows(run: Run) -> None:
    helps = [run(*args, "--help").out for args in ([], ["count"], ["list"], ["check"], ["diff"])]
    known = set(re.findall(r"--[a-z][a-z-]+", "".join(helps)))
    assert {word for command, _ in SHOWN for word in re.findall(r"--[a-z][a-z-]+", command)} <= known


def test_ci_runs_the_commands_that_the_readme_gives() -> None:
    script = "from_readme() { sed -n \"/<!-- $1 -->/,/^\\`\\`\\`$/p\" README.md | sed '1,2d;$d'; }"
    assert script in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    done = subprocess.run(
        ["bash", "-c", f"{script}; from_readme setup; from_readme test"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "pip install . && paramcount resnet50\npip install '.[test]' && pytest\n"


def test_the_picture_shows_the_real_output() -> None:
    picture = (ROOT / ".github" / "resnet50.svg").read_text(encoding="utf-8")
    assert "25,557,032" in picture


def _printed(command: str) -> str:
    args, stdin = arguments(command)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), open(stdin or os.devnull) as sys.stdin:  # noqa: PTH123
        main(args)
    return out.getvalue()


def _rewritten(text: str) -> str:
    """Return the README with what its commands print now."""

    def block(match: re.Match[str]) -> str:
        return (
            "```console\n" + "".join(f"$ {command}\n{_printed(command)}" for command, _ in commands(match[1])) + "```"
        )

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, content in files(text).items():
            Path(name).write_text(content, encoding="utf-8")
        return _CONSOLE.sub(block, text)


def _picture() -> str:
    """Return an SVG of the program at a terminal."""
    from rich.console import Console
    from rich.text import Text

    from paramcount import count
    from paramcount.commands.count import Counts
    from paramcount.grid import Style
    from paramcount.outline import Options
    from paramcount.renderers import renderer

    drawn = renderer("table").render(Counts((count("resnet50"),), (), Options()), Style(width=100, color=True))
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ paramcount resnet50", style="bold"))
    console.print(Text.from_ansi(drawn))
    return console.export_svg(title="paramcount")


if __name__ == "__main__":
    README.write_text(_rewritten(TEXT), encoding="utf-8")
    (ROOT / ".github" / "resnet50.svg").write_text(_picture(), encoding="utf-8")
