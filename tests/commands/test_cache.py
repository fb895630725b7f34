"""The cache as its user meets it: where it is, when it is off, what is kept in it, and what it saves."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torchvision

from tests.cache.conftest import allow_loaded_modules
from tests.conftest import Run

NET = "from torch import nn\ndef build() -> nn.Module: return nn.Linear(2, 3)\n"
WORD = "squeezenet1_1"
TOTAL = sum(param.numel() for param in torchvision.models.squeezenet1_1().parameters())
PROGRAM = Path(sysconfig.get_path("scripts")) / "paramcount"


@pytest.fixture
def cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, in a folder with one model."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("PARAMCOUNT_CACHE", str(folder / "kept"))
    (folder / "net.py").write_text(NET)
    allow_loaded_modules(monkeypatch)
    return folder / "kept"


def entries(cache: Path) -> int:
    return len(list(cache.glob("*.entry")))


def of_process(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the program as it is installed."""
    environment = {**os.environ, **variables}
    return subprocess.run([PROGRAM, *args], capture_output=True, text=True, check=False, env=environment)


def test_a_second_count_is_found_and_looks_the_same(cache: Path, run: Run) -> None:
    first, second = run("-v", WORD), run("-v", WORD)
    assert first.code == second.code == 0
    assert first.out == second.out
    assert first.err == f"cache: {WORD}: not in the cache; kept\n"
    assert second.err == f"cache: {WORD}: found\n"
    assert entries(cache) == 1


def test_rules_and_formats_come_after_the_cache(cache: Path, run: Run) -> None:
    assert run(WORD, "--value", "total").out == f"{TOTAL}\n"
    frozen = run("-v", WORD, "--freeze", "*", "-f", "json")
    assert f"cache: {WORD}: found" in frozen.err
    assert (frozen.json["reports"][0]["trainable"], frozen.json["reports"][0]["frozen"]) == (0, TOTAL)
    assert run(WORD, "--freeze", "wieght").code == 2


@pytest.mark.parametrize("args", [["net.py"], ["net.py:build"], [WORD, "--device", "cpu"]])
def test_what_is_not_kept_is_built_each_time_and_nothing_is_said(args: list[str], cache: Path, run: Run) -> None:
    for _ in range(2):
        outcome = run("-v", *args, "--value", "total")
        assert (outcome.out, outcome.err) == (f"{9 if args[0].startswith('net') else TOTAL}\n", "")
    assert not cache.exists()


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
    assert run("-v", WORD).err == f"cache: off: PARAMCOUNT_CACHE={value}\n"
    assert sorted(path.name for path in Path().iterdir() if path.name != "__pycache__") == ["net.py"]


def test_ci_and_the_option_turn_it_off(cache: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("-v", "--no-cache", WORD).err == "cache: off: --no-cache\n"
    monkeypatch.setenv("CI", "true")
    assert run("-v", WORD).err == "cache: off: CI is set\n"
    assert entries(cache) == 0


@pytest.mark.parametrize("command", [["cache"], [WORD], ["list", "squeezenet*", "--counts"]])
def test_a_folder_that_nobody_can_mean_is_a_mistake_of_the_command(
    command: list[str], cache: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAMCOUNT_CACHE", "~nosuchuser/x")
    outcome = run(*command)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: PARAMCOUNT_CACHE=~nosuchuser/x is no folder: ")


def test_by_default_it_is_where_the_platform_has_its_caches(
    cache: Path, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PARAMCOUNT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "xdg"))  # on Linux
    monkeypatch.setenv("HOME", str(folder / "home"))  # elsewhere
    assert run(WORD).code == 0
    (entry,) = folder.rglob("*.entry")
    assert entry.parent.name.lower() in {"paramcount", "cache"}
    assert str(entry.parent) in run("cache").out


def test_the_command_shows_and_clears(cache: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("cache").out == f"{cache}: 0 entries, 0 B, of at most 1,000 and 64 MiB\n"
    run(WORD)
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


def test_check_finds_models_of_libraries_and_builds_the_others(cache: Path, run: Run, folder: Path) -> None:
    (folder / "models.yaml").write_text(
        f"version: 1\nmodels:\n  one: {{target: {WORD}, budget: {{total: 9}}}}\n"
        "  two: {target: 'net.py:build', freeze: [weight], budget: {total: 9}}\n"
    )
    cold, warm = [run("-v", "check") for _ in range(2)]
    assert cold.code == warm.code == 1
    assert cold.out == warm.out
    assert (cold.err, warm.err) == (f"cache: {WORD}: not in the cache; kept\n", f"cache: {WORD}: found\n")


def test_as_it_is_installed_it_imports_no_torch_the_second_time(cache: Path, folder: Path) -> None:
    scripts = folder / "bin"  # where a script may have the name of a module
    scripts.mkdir()
    (scripts / "paramcount").write_bytes(PROGRAM.read_bytes())
    (scripts / "tqdm").write_text("")
    args = [sys.executable, "-X", "importtime", str(scripts / "paramcount"), "-v", WORD, "--depth", "1"]
    cold, warm = (subprocess.run(args, capture_output=True, text=True, check=True) for _ in range(2))
    assert cold.stdout == warm.stdout
    assert f"cache: {WORD}: not in the cache; kept\n" in cold.stderr
    assert f"cache: {WORD}: found\n" in warm.stderr
    imported = {line.rpartition("|")[2].strip() for line in warm.stderr.splitlines() if line.startswith("import time:")}
    assert "paramcount.cache.store" in imported
    assert not imported & {"torch", "torchvision", "numpy", "yaml", "pydantic", "paramcount.cache.record"}


def test_code_of_a_users_that_runs_in_every_process_forbids_it(cache: Path, folder: Path) -> None:
    def said(**variables: str) -> str:
        return of_process("-v", WORD, "--value", "total", **variables).stderr

    startup = folder / "startup"
    startup.mkdir()
    assert said(PYTHONPATH=str(startup)) == f"cache: {WORD}: not in the cache; kept\n"
    assert said(PYTHONPATH=str(startup)) == f"cache: {WORD}: found\n"
    assert said(PYTHONPATH=str(startup), PYTHONWARNINGS="error::ImportWarning").endswith("not in the cache; kept\n")
    (startup / "sitecustomize.py").write_text("")
    forbidden = "the module sitecustomize {}, which is not installed"
    assert said(PYTHONPATH=str(startup)) == (
        f"cache: {WORD}: {forbidden.format('is loaded')}; not kept: {forbidden.format('was loaded')}\n"
    )


def test_a_catalogue_is_found_without_torch(cache: Path) -> None:
    args = ["-v", "list", "squeezenet1_*", "--source", "torchvision", "--counts"]
    command = [sys.executable, "-X", "importtime", "-m", "paramcount", *args]
    cold, warm = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2))
    assert cold.stdout == warm.stdout
    assert "squeezenet1_0  SqueezeNet   1,248,424" in warm.stdout  # as torchvision publishes it
    assert "cache: torchvision: 0 models found\n" in cold.stderr
    assert "cache: torchvision: 2 models kept\n" in cold.stderr
    assert "cache: torchvision: 2 models found\n" in warm.stderr
    imported = {line.rpartition("|")[2].strip() for line in warm.stderr.splitlines() if line.startswith("import time:")}
    assert not imported & {"torch", "torchvision", "multiprocessing", "pydantic"}
    assert entries(cache) == 1


def test_of_a_catalogue_only_what_is_new_is_counted(cache: Path, run: Run) -> None:
    def said(*args: str) -> str:
        return run("-v", "list", "--source", "torchvision", "--counts", *args).err

    assert said("squeezenet*") == "cache: torchvision: 0 models found\ncache: torchvision: 2 models kept\n"
    assert said("squeezenet*", "--no-cache") == "cache: off: --no-cache\n"
    assert said("alexnet", "--max", "99M") == "cache: torchvision: 2 models found\ncache: torchvision: 1 model kept\n"
    assert said("--shard", "1/121", "-f", "json") == "cache: torchvision: 3 models found\n"  # alexnet
    assert entries(cache) == 1


def test_init_counts_no_model_of_a_library_that_was_counted_before(cache: Path, run: Run, folder: Path) -> None:
    assert run(WORD).code == 0
    assert f"cache: {WORD}: found\n" in run("-v", "init", WORD).err
    assert f"total: {TOTAL:_}" in (folder / "models.yaml").read_text().replace(",", "_") or str(TOTAL) in (
        folder / "models.yaml"
    ).read_text().replace(",", "")


def test_from_python_nothing_is_kept_or_looked_up(cache: Path) -> None:
    import paramcount

    assert paramcount.count(WORD).total == TOTAL
    assert not cache.exists()
