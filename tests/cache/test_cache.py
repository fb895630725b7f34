"""What is kept is found again where nothing it depends on has changed, and nowhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from paramcount.cache import key, record
from paramcount.cache.key import HARMLESS
from paramcount.sources import Target
from tests.cache.conftest import WIDTH, Shelf

MODEL = Target("timm:net")


def of_config(shelf: Shelf) -> Target:
    return Target("timm:net", {"config": str(shelf.config)})


def test_what_did_not_change_is_found(shelf: Shelf) -> None:
    assert not shelf.has(MODEL)
    assert shelf.total(MODEL) == WIDTH
    assert shelf.has(MODEL)
    assert shelf.total(MODEL) == WIDTH
    assert shelf.said == ["timm:net: not in the cache; kept", "timm:net: found", "timm:net: found"]


def rewritten(path: Path, text: str) -> None:
    """Change a file, but neither its size nor the time of its last change."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def replaced(path: Path, text: str) -> None:
    """Put another file of the same size and time in the place of one, as an installer does."""
    before = path.stat()
    other = path.with_name("other")
    other.write_text(text)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def relinked(path: Path, to: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(to)
    link.replace(path)


def with_package(shelf: Shelf) -> None:
    (shelf.package / "models").mkdir()
    (shelf.package / "models" / "__init__.py").write_text("EXTRA = 7")


# By what changes: how, and by how much the model is larger then.
INGREDIENTS: dict[str, tuple[Callable[[Shelf], object], int]] = {
    "a data file that an installed library reads": (lambda shelf: rewritten(shelf.package / "width.txt", "4"), 1),
    "an installed data file, replaced": (lambda shelf: replaced(shelf.package / "width.txt", "4"), 1),
    "a data file that is added to an installed library": (lambda shelf: (shelf.package / "plugins/a.txt").touch(), 1),
    "an installed module, edited in place": (lambda shelf: rewritten(shelf.package / "models.py", "EXTRA = 6\n"), 2),
    "an installed module, replaced": (lambda shelf: replaced(shelf.package / "models.py", "EXTRA = 6\n"), 2),
    "an optional module that appears": (lambda shelf: (shelf.package / "fast.py").write_text("MORE = 9"), 9),
    "a package that comes before a module": (with_package, 3),
    "a file that is looked for at home, by an import": (
        lambda shelf: (shelf.home / ".shelf").touch(),
        100,
    ),
    "a folder that is listed": (lambda shelf: (shelf.home / "listed/a").touch(), 1000),
    "a configuration": (lambda shelf: rewritten(shelf.config / "config.json", "6"), 1),
    "a file beside a configuration": (lambda shelf: (shelf.config / "wide").touch(), 10),
}


@pytest.mark.parametrize("name", INGREDIENTS)
def test_what_a_library_uses_determines_it_also_while_it_is_imported(name: str, shelf: Shelf) -> None:
    change, more = INGREDIENTS[name]
    model = of_config(shelf)
    assert shelf.total(model) == WIDTH + 5
    assert shelf.has(model)
    change(shelf)
    assert not shelf.has(model)
    assert shelf.total(model) == WIDTH + 5 + more
    assert shelf.has(model)


def test_where_a_link_leads_determines_it(shelf: Shelf) -> None:
    for name in ("one", "two"):
        (shelf.folder / name).mkdir()
        (shelf.folder / name / "config.json").write_text("5" if name == "one" else "6")
    link = shelf.folder / "current"
    link.symlink_to(shelf.folder / "one")
    model = Target("timm:net", {"config": str(link)})
    assert shelf.total(model) == WIDTH + 5
    relinked(link, shelf.folder / "two")
    assert not shelf.has(model)
    assert shelf.total(model) == WIDTH + 6


def test_a_module_that_failed_to_load_determines_it(shelf: Shelf) -> None:
    (shelf.package / "fast.py").write_text("raise ImportError\n")
    assert shelf.total(MODEL) == WIDTH
    assert shelf.has(MODEL)
    (shelf.package / "fast.py").write_text("MORE = 1 * 8     \n")
    assert not shelf.has(MODEL)
    assert shelf.total(MODEL) == WIDTH + 8


def test_bytecode_that_is_not_of_its_source_determines_it(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    source = shelf.package / "models.py"
    os.utime(source, ns=(10**18, 10**18))
    shelf.total(Target("timm:another"))  # which compiles it
    rewritten(source, "EXTRA = 6\n")
    assert shelf.total(MODEL) == WIDTH  # what Python itself says
    assert shelf.has(MODEL)
    for compiled in source.parent.joinpath("__pycache__").glob("models.*"):
        compiled.unlink()
    assert not shelf.has(MODEL)
    assert shelf.total(MODEL) == WIDTH + 2


def test_a_module_that_takes_the_place_of_an_installed_one_determines_it(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shelf.folder / "first"
    first.mkdir()
    monkeypatch.syspath_prepend(first)
    shelf.total(MODEL)
    assert shelf.has(MODEL)
    (first / "shelf.py").write_text("def build(): return 1\n")
    assert not shelf.has(MODEL)
    assert shelf.total(MODEL) == 1
    assert shelf.said[-1].endswith("not kept: the module shelf was loaded, which is not installed")


def test_the_environment_determines_it_but_for_what_says_nothing(shelf: Shelf) -> None:
    shelf.total(MODEL)
    shelf.variables = dict.fromkeys(HARMLESS, "other")
    assert shelf.has(MODEL)
    for name in ("CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED", "ANYTHING"):
        shelf.variables = {name: ""}
        assert not shelf.has(MODEL)


def test_secrets_are_not_written_down(shelf: Shelf) -> None:
    shelf.variables = {"HF_TOKEN": "hf_precious"}
    shelf.total(MODEL)
    assert shelf.has(MODEL)
    (entry,) = (shelf.folder / "kept").iterdir()
    assert b"precious" not in entry.read_bytes()


def test_every_part_of_what_is_asked_for_determines_it(shelf: Shelf) -> None:
    shelf.total(MODEL)
    for other in (of_config(shelf), replace(MODEL, weights="DEFAULT"), Target("timm:net2")):
        assert not shelf.has(other)
    shelf.total(of_config(shelf))
    assert not shelf.has(replace(MODEL, args={"config": shelf.config}))  # no text


@pytest.mark.parametrize("name", ["version", "executable", "prefix", "warnoptions", "flags"])
def test_python_and_its_options_determine_it(name: str, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.total(MODEL)
    monkeypatch.setattr(sys, name, ["error"])
    assert not shelf.has(MODEL)


def test_the_version_and_the_files_of_paramcount_determine_it(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setattr(key, "PROGRAM", own)
    shelf.total(MODEL)
    assert shelf.has(MODEL)
    shelf.version = "1.1"
    assert not shelf.has(MODEL)
    shelf.version = "1.0"
    (own / "__init__.py").write_text("# as its developers do")
    assert not shelf.has(MODEL)


def test_what_is_installed_determines_it(shelf: Shelf) -> None:
    metadata = shelf.package.parent / "thing-1.0.dist-info"
    metadata.mkdir()
    shelf.total(MODEL)
    assert shelf.has(MODEL)
    metadata = metadata.rename(metadata.with_name("thing-1.1.dist-info"))  # another version
    assert not shelf.has(MODEL)
    shelf.total(MODEL)
    (metadata / "RECORD").write_text("")  # the same version, installed anew
    assert not shelf.has(MODEL)


def test_the_current_folder_determines_it(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shelf.total(MODEL)
    assert shelf.has(MODEL)
    monkeypatch.chdir(shelf.home)
    assert not shelf.has(MODEL)
    monkeypatch.chdir(tmp_path)
    assert shelf.has(MODEL)


@pytest.mark.parametrize(
    "target",
    [replace(MODEL, device="cpu"), replace(MODEL, trust_remote_code=True), Target("user:Net"), Target("net.py:Net")],
    ids=str,
)
def test_what_runs_code_of_a_users_or_reads_values_is_not_kept(target: Target, shelf: Shelf) -> None:
    shelf.cache().read(target)
    assert not shelf.has(target)
    assert not (shelf.folder / "kept").exists()
    assert shelf.said == []


def test_nothing_is_kept_of_what_comes_after_code_of_a_users(shelf: Shelf) -> None:
    cache = shelf.cache()
    cache.read(Target("user:Net"))
    cache.read(MODEL)
    assert shelf.said == [
        "timm:net: not in the cache; not kept: an earlier target has run code of its own in this process"
    ]
    assert not shelf.has(MODEL)


def test_code_that_is_not_installed_forbids_keeping_and_finding(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.total(MODEL)
    assert shelf.has(MODEL)
    (shelf.folder / "startup.py").write_text("")
    monkeypatch.syspath_prepend(shelf.folder)
    import_module("startup")
    try:
        assert not shelf.has(MODEL)
        assert shelf.total(MODEL) == WIDTH
        assert shelf.said[-1].endswith("not kept: the module startup was loaded, which is not installed")
    finally:
        del sys.modules["startup"]


def test_an_installed_file_that_changed_since_the_program_began_is_not_taken_for_what_was_loaded(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = max(path.stat().st_ctime_ns for path in shelf.package.parent.rglob("*"))
    monkeypatch.setattr(record, "_STARTED", started)
    cache = shelf.cache()
    with cache.recording():
        import_module("shelf")
    (shelf.package / "__init__.py").write_text("def build(): return 1\n")
    assert cache.read(MODEL).params[0].numel == WIDTH
    assert f"something in {shelf.package} changed while it was counted" in shelf.said[-1]
    assert not shelf.has(MODEL)


def test_a_file_that_changes_while_the_model_is_built_is_not_taken_for_what_was_built(shelf: Shelf) -> None:
    with (shelf.package / "models.py").open("a") as models:
        models.write(f"import pathlib; pathlib.Path({str(shelf.config)!r}, 'config.json').write_text('6')\n")
    (shelf.package / "__init__.py").write_text(
        "from pathlib import Path\n"
        "def build(config):\n    width = int((Path(config) / 'config.json').read_text())\n"
        "    import shelf.models\n    return width\n"
    )
    assert shelf.total(of_config(shelf)) == 5
    assert not shelf.has(of_config(shelf))
    assert shelf.total(of_config(shelf)) == 6


@pytest.mark.parametrize(
    ("doing", "reason"),
    [
        ("import socket; socket.getaddrinfo('localhost', 1)", "it uses the network"),
        ("open(0, closefd=False)", "it reads its standard input"),
        ("os.mkfifo(HOME / 'pipe'); os.open(HOME / 'pipe', os.O_RDONLY | os.O_NONBLOCK)", "which is no regular file"),
    ],
)
def test_what_may_be_otherwise_another_time_is_not_kept(doing: str, reason: str, shelf: Shelf) -> None:
    with (shelf.package / "__init__.py").open("a") as library:
        library.write(f"{doing}\n")
    assert shelf.total(MODEL) == WIDTH
    assert reason in shelf.said[-1]
    assert not shelf.has(MODEL)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda _: b"", lambda data: data[:40] + b"x" + data[41:]])
def test_a_damaged_entry_is_a_miss_and_replaced(damage: Callable[[bytes], bytes], shelf: Shelf) -> None:
    shelf.total(MODEL)
    (entry,) = (shelf.folder / "kept").iterdir()
    entry.write_bytes(damage(entry.read_bytes()))
    assert not shelf.has(MODEL)
    assert shelf.total(MODEL) == WIDTH
    assert shelf.said[-1] == "timm:net: its entry in the cache is damaged; kept"
    assert shelf.has(MODEL)


def test_what_a_model_prints_is_printed_again(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    with (shelf.package / "models.py").open("a") as models:
        models.write("import sys; print('one'); print('two', file=sys.stderr)\n")
    shelf.total(MODEL)
    assert capsys.readouterr() == ("one\n", "two\n")
    shelf.total(MODEL)
    assert capsys.readouterr() == ("one\ntwo\n", "")


def test_a_folder_that_cannot_be_written_to_is_no_obstacle(shelf: Shelf) -> None:
    (shelf.folder / "kept").write_text("a file")
    assert shelf.total(MODEL) == WIDTH
    assert "not kept: " in shelf.said[-1]


def test_the_interpreter_is_left_as_it_was(shelf: Shelf) -> None:
    before = os.stat, os.lstat, os.access, os.readlink, sys.stdout, sys.stderr
    shelf.total(MODEL)
    assert before == (os.stat, os.lstat, os.access, os.readlink, sys.stdout, sys.stderr)


def test_nobody_s_attributes_are_asked_for(shelf: Shelf) -> None:
    class Lazy(type(sys)):  # type: ignore[misc]  # a module
        def __getattribute__(self, name: str) -> object:
            raise AssertionError(name)

    sys.modules["lazy"] = Lazy("lazy")
    try:
        assert shelf.total(MODEL) == WIDTH
        assert shelf.has(MODEL)
    finally:
        del sys.modules["lazy"]
