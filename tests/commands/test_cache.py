"""The cache as its user meets it: where it is, when it is off, and what it saves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Run

NET = "print('building')\nfrom torch import nn\ndef build() -> nn.Module: return nn.Linear(2, 3)\n"


@pytest.fixture
def cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, in a folder with one model."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("PARAMCOUNT_CACHE", str(folder / "kept"))
    (folder / "net.py").write_text(NET)
    return folder / "kept"


def entries(cache: Path) -> int:
    return len(list(cache.glob("*.entry")))


def test_a_second_count_is_found_and_looks_the_same(cache: Path, run: Run) -> None:
    first, second = run("-v", "net.py"), run("-v", "net.py")
    assert first.code == second.code == 0
    assert first.out == second.out
    assert first.err == "building\ncache: net.py: not in the cache; kept\n"
    assert second.err == "cache: net.py: found\nbuilding\n"
    assert entries(cache) == 1


def test_rules_and_formats_come_after_the_cache(cache: Path, run: Run) -> None:
    assert run("net.py", "--value", "total").out == "9\n"
    frozen = run("-v", "net.py", "--freeze", "weight", "-f", "json")
    assert "cache: net.py: found" in frozen.err
    assert (frozen.json["reports"][0]["trainable"], frozen.json["reports"][0]["frozen"]) == (3, 6)
    assert run("net.py", "--freeze", "wieght").code == 2


def test_without_v_nothing_is_said(cache: Path, run: Run) -> None:
    assert [run("net.py").err for _ in range(2)] == ["building\n"] * 2


@pytest.mark.parametrize("value", ["0", "off"])
def test_a_value_that_turns_it_off_names_no_folder(
    value: str, cache: Path, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAMCOUNT_CACHE", value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "xdg"))  # on Linux
    monkeypatch.setenv("HOME", str(folder / "home"))  # elsewhere
    precious = folder / value / f"{'0' * 40}.entry"
    precious.parent.mkdir()
    precious.touch()
    assert str(folder / value) not in run("cache").out
    assert str(folder / value) not in run("cache", "--clear").out
    assert precious.exists()


@pytest.mark.parametrize("value", ["", "0", "off", "OFF", "no", "false"])
def test_the_variable_turns_it_off(value: str, cache: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAMCOUNT_CACHE", value)
    for _ in range(2):
        assert run("-v", "net.py").err == f"cache: off: PARAMCOUNT_CACHE={value}\nbuilding\n"
    assert sorted(path.name for path in Path().iterdir() if path.name != "__pycache__") == ["net.py"]


def test_ci_and_the_option_turn_it_off(cache: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("-v", "--no-cache", "net.py").err == "cache: off: --no-cache\nbuilding\n"
    monkeypatch.setenv("CI", "true")
    assert run("-v", "net.py").err == "cache: off: CI is set\nbuilding\n"
    assert entries(cache) == 0


def test_by_default_it_is_where_the_platform_has_its_caches(
    cache: Path, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PARAMCOUNT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "xdg"))  # on Linux
    monkeypatch.setenv("HOME", str(folder / "home"))  # elsewhere
    assert run("net.py").code == 0
    (entry,) = folder.rglob("*.entry")
    assert entry.parent.name.lower() in {"paramcount", "cache"}
    assert str(entry.parent) in run("cache").out


def test_why_a_model_is_not_kept_is_said(cache: Path, run: Run, folder: Path) -> None:
    (folder / "net.py").write_text(f"import time\nNOW = time.time()\n{NET}")
    assert (
        f"cache: net.py: not in the cache; not kept: {folder / 'net.py'}:2 names time.time: it may depend on the clock"
        in run("-v", "net.py").err
    )


def test_the_command_shows_and_clears(cache: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("cache").out == f"{cache}: 0 entries, 0 B, of at most 1,000 and 64 MiB\n"
    run("net.py")
    assert run("cache").out.startswith(f"{cache}: 1 entry, ")
    cleared = run("cache", "--clear")
    assert (cleared.code, cleared.err) == (0, "")
    assert cleared.out.startswith(f"{cache}: dropped 1 entry, ")
    assert entries(cache) == 0
    monkeypatch.setenv("CI", "1")
    assert run("cache").out.endswith("\noff: CI is set\n")


def test_what_cannot_be_dropped_is_an_error(cache: Path, run: Run) -> None:
    (cache / f"{0:040x}.entry").mkdir(parents=True)
    outcome = run("cache", "--clear")
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: cannot clear {cache}: ")


def test_check_finds_models_before_it_forks_and_shows_what_they_print_in_order(
    cache: Path, run: Run, folder: Path
) -> None:
    for name in ("one", "two"):
        (folder / f"{name}.py").write_text(NET.replace("building", name))
    (folder / "models.yaml").write_text(
        "version: 1\nmodels:\n  one: {target: 'one.py:build', budget: {total: 9}}\n"
        "  two: {target: 'two.py:build', freeze: [weight], budget: {total: 8}}\n"
    )
    (cold, warm), log = [run("-v", "check") for _ in range(2)], "cache: {}.py:build: "
    assert cold.code == warm.code == 1
    assert cold.out == warm.out
    assert [line for line in cold.err.splitlines() if "cache" not in line] == ["one", "two"]
    assert warm.err.splitlines() == [log.format("one") + "found", "one", log.format("two") + "found", "two"]
    (folder / "one.py").write_text(NET.replace("building", "1"))
    mixed = run("check")
    assert (mixed.out, mixed.err) == (cold.out, "1\ntwo\n")


def test_a_hit_imports_no_torch(cache: Path, folder: Path) -> None:
    (folder / "net.py").write_text(NET.replace("print('building')\n", ""))
    code = (
        "import sys\nfrom paramcount.cli import main\n"
        "assert main(['squeezenet1_0', 'net.py:build', '--depth', '1']) == 0\n"
        "print(sorted({'torch', 'torchvision', 'numpy', 'yaml', 'pydantic'} & set(sys.modules)), file=sys.stderr)"
    )
    cold, warm = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
        for _ in range(2)
    )
    assert cold.stdout == warm.stdout
    assert "torch" in cold.stderr
    assert warm.stderr == "[]\n"


def test_a_catalogue_is_found_without_torch(cache: Path, run: Run) -> None:
    code = (
        "import sys\nfrom paramcount.cli import main\n"
        "assert main(['-v', 'list', 'squeezenet1_*', '--source', 'torchvision', '--counts']) == 0\n"
        "print(sorted({'torch', 'torchvision', 'multiprocessing', 'pydantic'} & set(sys.modules)), file=sys.stderr)"
    )
    cold, warm = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
        for _ in range(2)
    )
    assert cold.stdout == warm.stdout
    assert "squeezenet1_0  SqueezeNet   1,248,424" in warm.stdout  # as torchvision publishes it
    assert cold.stderr.splitlines()[:2] == ["cache: torchvision: 0 models found", "cache: torchvision: 2 models kept"]
    assert "torch" in cold.stderr.splitlines()[2]
    assert warm.stderr == "cache: torchvision: 2 models found\n[]\n"
    assert entries(cache) == 1


def test_of_a_catalogue_only_what_is_new_is_counted(cache: Path, run: Run) -> None:
    def said(*args: str) -> str:
        return run("-v", "list", "--source", "torchvision", "--counts", *args).err

    assert said("squeezenet*") == "cache: torchvision: 0 models found\ncache: torchvision: 2 models kept\n"
    assert said("squeezenet*", "--no-cache") == "cache: off: --no-cache\n"
    assert said("alexnet", "--max", "99M") == "cache: torchvision: 2 models found\ncache: torchvision: 1 model kept\n"
    assert said("--shard", "1/121", "-f", "json") == "cache: torchvision: 3 models found\n"  # alexnet
    assert entries(cache) == 1


def test_init_counts_nothing_that_was_counted_before(cache: Path, run: Run, folder: Path) -> None:
    assert run("net.py").code == 0
    assert "cache: net.py: found\n" in run("-v", "init", "net.py").err
    assert "cache: net.py: found\n" in run("-v", "init", "-c", "other.yaml").err
    assert (folder / "models.yaml").read_text() == (folder / "other.yaml").read_text()
