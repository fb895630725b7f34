"""What is kept is found again where nothing it depends on has changed, and nowhere else."""

from __future__ import annotations

import builtins
import os
import py_compile
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

import pytest
from torch import nn

from paramcount.cache import Cache, NotKept, key
from paramcount.cache.watch import Uses, Watch
from paramcount.errors import ParamcountError
from paramcount.sources import Target, read
from tests.conftest import MODELS


@dataclass
class Kept:
    """A cache, as one run after the other sees it."""

    folder: Path
    said: list[str] = field(default_factory=list)
    version: str = "1.0"

    def cache(self) -> Cache:
        return Cache(lambda: self.folder, dict(os.environ), version=self.version, say=self.said.append)

    def has(self, target: Target) -> bool:
        try:
            self.cache().recall(target)
        except NotKept:
            return False
        return True

    def total(self, target: Target) -> int:
        return sum(param.numel or 0 for param in self.cache().read(target).params)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "cache")


def test_what_did_not_change_is_found(kept: Kept, net: Target) -> None:
    assert not kept.has(net)
    assert kept.total(net) == 3 * 7
    assert kept.has(net)
    assert kept.total(net) == 3 * 7
    assert kept.said == ["net.py:Net: not in the cache; kept", "net.py:Net: found", "net.py:Net: found"]


def edited(name: str, old: str, new: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Return a change of a file that keeps its size, and the time of its last change."""

    def edit(_monkeypatch: pytest.MonkeyPatch) -> None:
        path = Path(name)
        before = path.stat()
        path.write_text(path.read_text().replace(old, new))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)

    return edit


def written(name: str, text: str) -> Callable[[pytest.MonkeyPatch], None]:
    def write(_monkeypatch: pytest.MonkeyPatch) -> None:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)

    return write


INGREDIENTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], int]] = {
    "a byte in the model's file": (edited("net.py", "inputs=2", "inputs=5"), 6 * 7),
    "a byte two imports down": (edited("below/inner.py", "4", "5"), 3 * 8),
    "a byte in a file that it reads": (edited("net.yaml", "3", "4"), 3 * 8),
    "a variable that it reads": (lambda patch: patch.setenv("EXTRA", "2"), 3 * 9),
    "a file that it looks for": (written("wide", ""), 3 * 34),
    "a folder that it lists": (written("plugins/one.txt", ""), 3 * 8),
    "a package that was not there": (written("accelerated/more.py", ""), 3 * 107),
    "a module that comes before another": (written("below/inner/__init__.py", "MORE = 6"), 3 * 9),
    "a module that comes before an installed one": (
        written("yaml.py", "def safe_load(_file): return {'outputs': 1}"),
        3 * 5,
    ),
}


def relinked(name: str, target: str) -> None:
    link = Path(name)
    link.unlink()
    link.symlink_to(target)


SOUGHT = {
    "a folder that would be a package": ("9 if find_spec('extra') else 8", "extra/x.txt"),
    "a folder that would be a package in another": ("9 if find_spec('pkg.extra') else 8", "pkg/extra/x.txt"),
    "a folder in a folder that would be a package": ("9 if find_spec('space.extra') else 8", "space/extra/x.txt"),
    "a package in what is none": ("9 if can_import('space.extra') else 8", "space/extra/x.txt"),
    "a package in one that is missing": ("9 if can_import('far.extra') else 8", "far/extra/x.txt"),
    "a folder that a function would import": ("9 if can_import('extra') else 8", "extra/x.txt"),
    "a module where Python looked for a moment": ("9 if found_in_lib() else 8", "lib/extra.py"),
}
SEEKING = """
import os, sys
from importlib import import_module
from importlib.util import find_spec
from torch import nn
import pkg
def can_import(name):
    try:
        import_module(name)
    except ImportError:
        return False
    return True
def found_in_lib():
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
    try:
        import extra
    except ImportError:
        return False
    finally:
        sys.path.pop(0)
    return True
"""


@pytest.mark.parametrize("reason", SOUGHT)
def test_a_module_that_was_sought_and_missing_determines_it(reason: str, kept: Kept, folder: Path) -> None:
    found, path = SOUGHT[reason]
    Path("pkg").mkdir()
    Path("pkg/__init__.py").touch()
    Path("space").mkdir()
    Path("net.py").write_text(f"{SEEKING}def build(): return nn.Linear({found}, 1)\n")
    net = Target("net.py:build")
    assert kept.total(net) == 9
    assert kept.has(net)
    Path(path).parent.mkdir(exist_ok=True, parents=True)
    Path(path).touch()
    assert not kept.has(net)
    sys.modules.pop("space", None)
    assert kept.total(net) == 10


def test_a_file_that_was_to_be_read_and_is_missing_determines_it(kept: Kept, folder: Path) -> None:
    Path("net.py").write_text(
        "from torch import nn\n"
        "def build():\n    try:\n        width = int(open('width').read())\n"
        "    except FileNotFoundError:\n        width = 3\n    return nn.Linear(width, 1)\n"
    )
    assert kept.total(Target("net.py:build")) == 3 + 1
    assert kept.has(Target("net.py:build"))
    Path("width").write_text("4")
    assert not kept.has(Target("net.py:build"))


def test_who_may_run_a_file_determines_it(kept: Kept, folder: Path) -> None:
    Path("net.py").write_text(
        "import os\nfrom torch import nn\ndef build(): return nn.Linear(9 if os.access('run', os.X_OK) else 8, 1)\n"
    )
    Path("run").touch()
    Path("run").chmod(0o644)
    assert kept.total(Target("net.py:build")) == 9
    assert kept.has(Target("net.py:build"))
    Path("run").chmod(0o755)
    assert not kept.has(Target("net.py:build"))


LINKED = {
    "the file of the model is another": "def build(): return nn.Linear({}, 1)",
    "a link is read": "import os\ndef build(): return nn.Linear(int(os.readlink('current')), 1)",
    "a link is followed": (
        "from pathlib import Path\ndef build(): return nn.Linear(int(Path('current').resolve().name), 1)"
    ),
}


@pytest.mark.parametrize("reason", LINKED)
def test_where_links_lead_determines_it(reason: str, kept: Kept, folder: Path) -> None:
    for width in ("3", "4"):
        Path(width).mkdir()
        Path(f"net{width}.py").write_text("from torch import nn\n" + LINKED[reason].format(width))
    Path("current").symlink_to("3")
    Path("net.py").symlink_to("net3.py")
    net = Target("net.py:build")
    assert kept.total(net) == 3 + 1
    assert kept.has(net)
    relinked("current", "4")
    relinked("net.py", "net4.py")
    assert not kept.has(net)
    assert kept.total(net) == 4 + 1


def test_what_is_a_folder_determines_who_walks_through_it(kept: Kept, folder: Path) -> None:
    Path("net.py").write_text(
        "import os\nfrom torch import nn\n"
        "def build(): return nn.Linear(1 + sum(len(folders) for _, folders, _ in os.walk('walked')), 1)\n"
    )
    Path("walked").mkdir()
    Path("walked/one").write_text("")
    assert kept.total(Target("net.py:build")) == 1 + 1
    assert kept.has(Target("net.py:build"))
    Path("walked/one").unlink()
    Path("walked/one").mkdir()
    assert not kept.has(Target("net.py:build"))


def test_a_module_without_its_source_determines_it(kept: Kept, folder: Path) -> None:
    def compiled(width: int) -> None:
        Path("source.py").write_text(f"WIDTH = {width}\n")
        py_compile.compile("source.py", cfile="width.pyc", doraise=True)
        Path("source.py").write_text("")

    Path("net.py").write_text(
        "from torch import nn\nfrom width import WIDTH\ndef build(): return nn.Linear(WIDTH, 1)\n"
    )
    compiled(3)
    net = Target("net.py:build")
    assert kept.total(net) == 3 + 1
    assert kept.has(net)
    compiled(4)
    assert not kept.has(net)
    assert kept.total(net) == 4 + 1


@pytest.mark.parametrize("name", INGREDIENTS)
def test_what_the_model_reads_determines_it(
    name: str, kept: Kept, net: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, total = INGREDIENTS[name]
    kept.total(net)
    change(monkeypatch)
    assert not kept.has(net)
    monkeypatch.delitem(sys.modules, "yaml")  # as in a process that has not imported it
    assert kept.total(net) == total
    assert kept.has(net)


def test_every_part_of_what_is_asked_for_determines_it(kept: Kept, net: Target) -> None:
    kept.total(net)
    for other in (
        replace(net, args={"inputs": 4}),
        replace(net, args={"inputs": 2}),
        replace(net, device="cpu"),
        replace(net, word="./net.py:Net"),
    ):
        assert not kept.has(other)
        assert kept.total(other) == (5 if other.args == {"inputs": 4} else 3) * 7
        assert kept.has(other)
    assert not kept.has(replace(net, weights="DEFAULT"))
    assert not kept.has(replace(net, args={"inputs": True}))  # which is 1, and equal to it, but no width


def test_the_versions_of_python_and_of_paramcount_determine_it(
    kept: Kept, net: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.total(net)
    for name in ("version", "executable", "prefix"):
        with monkeypatch.context() as patch:
            patch.setattr(sys, name, "9.9")
            assert not kept.has(net)
    assert kept.has(net)
    kept.version = "1.1"
    assert not kept.has(net)


def test_our_own_files_determine_it(kept: Kept, net: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    own = tmp_path / "own" / "__init__.py"
    own.write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(key, "PROGRAM", own.parent)
        kept.total(net)
        assert kept.has(net)
        own.write_text("# as its developers do")
        assert not kept.has(net)


def test_what_is_installed_determines_it(
    kept: Kept, net: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "lib" / "site-packages"
    (place / "thing").mkdir(parents=True)
    metadata = place / "thing-1.0.dist-info"
    metadata.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(place)])
    kept.total(net)
    assert kept.has(net)
    metadata = metadata.rename(place / "thing-1.1.dist-info")  # another version
    assert not kept.has(net)
    kept.total(net)
    (metadata / "RECORD").write_text("")  # the same version, installed anew
    assert not kept.has(net)
    kept.total(net)
    (place / "other-1.0.dist-info").mkdir()  # which a model may try to import
    assert not kept.has(net)
    kept.total(net)
    (place / "thing" / "__pycache__").mkdir()
    assert kept.has(net)


@pytest.fixture
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed modules: one named ``installed``, and others named so at the start, are forgotten again."""
    place = folder / "lib" / "site-packages"
    place.mkdir(parents=True)
    monkeypatch.syspath_prepend(place)
    yield place
    for name in list(sys.modules):
        if name.startswith("installed"):
            del sys.modules[name]


LIBRARY_CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": lambda file: file.write_text("WIDTH = 44\n"),
    "edited in place, to the same size": lambda file: file.write_text("WIDTH = 4\n"),
    "replaced by an older file": lambda file: os.utime(file, ns=(0, 0)),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("change", LIBRARY_CHANGES)
def test_an_installed_module_that_is_changed_by_hand_determines_it(
    change: str, kept: Kept, folder: Path, place: Path
) -> None:
    inner = place / "installed" / "inner.py"
    inner.parent.mkdir()
    (place / "installed" / "__init__.py").write_text("from installed.inner import WIDTH\n")
    inner.write_text("WIDTH = 3\n")
    os.utime(inner, ns=(10**18, 10**18))
    Path("net.py").write_text(
        "import installed\nfrom torch import nn\ndef build(): return nn.Linear(installed.WIDTH, 1)\n"
    )
    assert kept.total(Target("net.py:build")) == 3 + 1
    assert kept.has(Target("net.py:build"))
    LIBRARY_CHANGES[change](inner)
    assert not kept.has(Target("net.py:build"))


def test_an_installed_module_that_changed_after_it_was_loaded_is_not_taken_for_the_one_that_was(
    kept: Kept, folder: Path, place: Path
) -> None:
    (place / "installed.py").write_text("WIDTH = 3\n")
    Path("net.py").write_text(
        "import installed\nfrom torch import nn\ndef build(): return nn.Linear(installed.WIDTH, 1)\n"
    )
    cache = kept.cache()
    with cache.watching() as watch, watch.build():
        import_module("installed")
    (place / "installed.py").write_text("WIDTH = 4\n")
    assert sum(param.numel or 0 for param in cache.read(Target("net.py:build")).params) == 3 + 1
    assert kept.said[-1].endswith("installed.py may have changed since it was loaded")
    assert not kept.has(Target("net.py:build"))


def test_a_variable_that_a_thread_reads_determines_it(
    kept: Kept, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("net.py").write_text(
        "import os, torch\nfrom concurrent.futures import ThreadPoolExecutor\nfrom torch import nn\n"
        "def build():\n    size = ThreadPoolExecutor(1).submit(os.getenv, 'EXTRA').result()\n"
        "    return nn.ParameterList([torch.zeros(int(size))])\n"
    )
    monkeypatch.setenv("EXTRA", "3")
    assert kept.total(Target("net.py:build")) == 3
    assert kept.has(Target("net.py:build"))
    monkeypatch.setenv("EXTRA", "4")
    assert not kept.has(Target("net.py:build"))


def test_where_python_looks_for_modules_determines_it(
    kept: Kept, net: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.total(net)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    assert not kept.has(net)
    kept.total(net)
    assert kept.has(net)
    (tmp_path / "elsewhere").mkdir()
    assert not kept.has(net)
    kept.total(net)
    (tmp_path / "elsewhere" / "middle.py").write_text("MORE = 1")
    assert not kept.has(net)


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "ATEN_CPU_CAPABILITY", "PYTHONHASHSEED"])
def test_a_variable_that_compiled_code_reads_determines_it(
    name: str, kept: Kept, net: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.total(net)
    monkeypatch.setenv(name, "7")
    assert not kept.has(net)


def test_the_current_folder_determines_what_is_found_from_it_and_no_catalogue(
    kept: Kept, net: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(Target("squeezenet1_1"))  # pytest, which sees to what is imported, asks for the current folder
    kept.total(net)
    kept.total(Target("squeezenet1_1"))
    monkeypatch.chdir(tmp_path)
    assert not kept.has(net)
    assert kept.has(Target("squeezenet1_1"))
    Path("squeezenet1_1").mkdir()
    Path("squeezenet1_1/model.safetensors").write_bytes(b"")  # now a folder of shards goes by that name
    assert not kept.has(Target("squeezenet1_1"))


def test_what_does_not_matter_is_no_miss(kept: Kept, net: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.total(net)
    os.utime("net.py")
    os.utime("net.yaml", (0, 0))
    Path("report.json").write_text("{}")
    Path("runs").mkdir()
    Path("__pycache__").mkdir()
    monkeypatch.setenv("UNRELATED", "1")
    assert kept.has(net)


# Each has what another has not: ties, shared modules, lazy parameters, circles, notes, dtypes, frozen parts.
SMALL = ("circular", "frozen_backbone", "lazy", "many_dtypes", "shared_blocks", "tied_decoder", "unregistered")


@pytest.mark.parametrize("word", [*(f"{MODELS / name}.py" for name in SMALL), "googlenet", "regnet_y_400mf"])
def test_what_is_found_is_exactly_what_was_read(word: str, kept: Kept) -> None:
    fresh = read(Target(word))
    assert kept.cache().read(Target(word)) == fresh
    assert kept.cache().recall(Target(word)) == fresh


# Doubts ---------------------------------------------------------------------------------------------------------------

DOUBTS = {
    "names time.time": "import time\nSTARTED = time.time()",
    "runs a process": "import subprocess\nsubprocess.run(['true'])",
    "changes files": "import os\nos.mkdir('made')",
    "writes": "open('log.txt', 'w').close()",
    "/proc/meminfo": "open('/proc/meminfo').close()",
    "changes the current folder": "import os\nos.chdir('..')",
    "all of the environment": "import os\nCOPY = dict(os.environ)",
    "reads all of the environment": "import os\nlen(os.environ)",
    "it reads all of the environment": "import os\nstr(os.environ)",
    "runs text that names time": "exec('import time; NOW = time.time()')",
    "scans a folder by itself": "import os\nSIZE = sum(entry.stat().st_size for entry in os.scandir('.'))",
    "compiled code": "import ctypes\nctypes.CDLL(None)",
    "is large": "open('large.bin', 'rb').close()",
    "opens a database": "import sqlite3\nsqlite3.connect(':memory:').close()",
    "reads its standard input": "import os\nos.read(0, 0)",
    "it reads the clock": "import sys\nsys.modules['time'].time()",
    "reads the clock": 'exec(compile("import time; W = time.time()", __file__, "exec"))',
    # in a thread that shows nothing of who started it
    "/proc/uptime": "import os\nfrom concurrent.futures import ThreadPoolExecutor\nfrom pathlib import Path\n"
    "ThreadPoolExecutor(1).submit(Path.read_text, Path('/proc/uptime')).result()",
}


LIBRARY = {
    "drawn": "draws from Python's random or NumPy's",
    "drawn_by_numpy": "draws from Python's random or NumPy's",
    "timed": "reads the clock",
}


@pytest.mark.parametrize("function", LIBRARY)
def test_what_a_library_draws_or_times_for_a_users_code_is_doubted(
    function: str, kept: Kept, folder: Path, place: Path
) -> None:
    (place / "installed.py").write_text(
        "import random, time\nimport numpy\n"
        "def drawn(): return random.randint(1, 99)\n"
        "def drawn_by_numpy(): return numpy.random.randint(1, 99)\n"
        "def timed(): return int(time.time()) % 99 + 1\n"
    )
    Path("net.py").write_text(
        f"import installed\nfrom torch import nn\ndef build(): return nn.Linear(installed.{function}(), 1)\n"
    )
    kept.total(Target("net.py:build"))
    assert kept.said[-1].endswith(LIBRARY[function])
    assert not kept.has(Target("net.py:build"))


AT_IMPORT = """
import os, subprocess
from pathlib import Path
there = os.path.exists("looked"), len(os.listdir("listed"))
said = subprocess.run(["cat", "said"], capture_output=True).stdout
WIDTH = len(Path("read").read_text()) + int(os.environ["EXTRA"])
"""


@pytest.mark.parametrize("change", ["a file that it reads", "a variable that it reads", "what it looks for"])
def test_an_installed_module_is_trusted_while_it_is_imported_but_for_the_files_and_variables_that_it_reads(
    change: str, kept: Kept, folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "installed.py").write_text(AT_IMPORT)
    Path("listed").mkdir()
    for name in ("said", "read"):
        Path(name).write_text("one")
    monkeypatch.setenv("EXTRA", "0")
    Path("net.py").write_text(
        "import installed\nfrom torch import nn\ndef build(): return nn.Linear(installed.WIDTH, 1)\n"
    )
    assert kept.total(Target("net.py:build")) == 3 + 1
    assert kept.has(Target("net.py:build"))
    if change == "a file that it reads":
        Path("read").write_text("three")
    elif change == "a variable that it reads":
        monkeypatch.setenv("EXTRA", "2")
    else:  # goes with its version
        for name in ("looked", "said", "listed/more"):
            Path(name).write_text("two")
    assert kept.has(Target("net.py:build")) is (change == "what it looks for")


@pytest.mark.parametrize("name", ["looked", "listed/more"])
def test_a_module_of_the_users_is_not_trusted_while_it_is_imported(name: str, kept: Kept, folder: Path) -> None:
    Path("listed").mkdir()
    Path("mine.py").write_text("import os\nWIDTH = 1 + os.path.exists('looked') + len(os.listdir('listed'))\n")
    Path("net.py").write_text("from mine import WIDTH\nfrom torch import nn\ndef build(): return nn.Linear(WIDTH, 1)\n")
    assert kept.total(Target("net.py:build")) == 1 + 1
    assert kept.has(Target("net.py:build"))
    Path(name).touch()
    assert not kept.has(Target("net.py:build"))
    assert kept.total(Target("net.py:build")) == 2 + 1
    Path("mine.py").write_text("import subprocess\nWIDTH = len(subprocess.run(['true']).args)\n")
    kept.total(Target("net.py:build"))
    assert kept.said[-1].endswith("not kept: it runs a process")


@pytest.mark.parametrize(("seed", "is_kept"), [("numpy.random.seed(0)", True), ("torch.manual_seed(0)", False)])
def test_what_a_library_draws_of_numpy_is_known_where_numpy_has_a_seed(
    seed: str, is_kept: bool, kept: Kept, folder: Path, place: Path
) -> None:
    (place / "installed.py").write_text("import numpy\ndef drawn(): return numpy.random.randint(1, 99)\n")
    Path("net.py").write_text(
        f"import installed, numpy, torch\n{seed}\nfrom torch import nn\n"
        "def build(): return nn.Linear(installed.drawn(), 1)\n"
    )
    kept.total(Target("net.py:build"))
    assert kept.has(Target("net.py:build")) is is_kept


def test_a_seed_is_no_draw(kept: Kept, folder: Path) -> None:
    Path("net.py").write_text(
        "import random\nfrom torch import nn\nrandom.seed(0)\ndef build(): return nn.Linear(1, 1)\n"
    )
    assert kept.total(Target("net.py:build")) == 2
    assert kept.has(Target("net.py:build"))


CHANCE = {
    "torch.randint(1, 99, (1,)).item()": True,
    "sum(torch.randperm(5).tolist())": True,
    "1 + int(torch.rand(3).argsort()[0])": True,
    "1 + int(torch.empty(1).uniform_() > 0.5)": True,
    "1 + len(torch.rand(8).round().nonzero())": True,
    "1 + int(torch.rand(2).numpy()[0])": True,
    "1 + int(torch.rand(999, 999)[0, 0])": True,  # in real memory
    "torch.rand(3).shape[0]": False,
    "1 + int(torch.linspace(0, 1, 5)[1]) + 0 * len(torch.randn(7))": False,
    "1 + int(torch.manual_seed(3) and torch.randint(1, 99, (1,)))": False,
    "torch.randint(1, 99, (1,), generator=torch.Generator().manual_seed(3)).item()": False,
}


@pytest.mark.parametrize("value", CHANCE)
def test_a_value_that_pytorch_draws_is_doubted_where_it_is_read_and_nobody_seeded_it(
    value: str, kept: Kept, folder: Path
) -> None:
    Path("net.py").write_text(f"import torch\nfrom torch import nn\ndef build(): return nn.Linear({value}, 1)\n")
    kept.total(Target("net.py:build"))
    assert kept.has(Target("net.py:build")) is not CHANCE[value]
    assert kept.said[0].endswith("it reads values that are drawn by chance" if CHANCE[value] else "; kept")


@pytest.mark.parametrize("reason", DOUBTS)
def test_what_may_be_otherwise_another_time_is_not_kept(reason: str, kept: Kept, folder: Path) -> None:
    with Path("large.bin").open("wb") as file:
        file.truncate(2**25)
    Path("net.py").write_text(f"{DOUBTS[reason]}\nfrom torch import nn\ndef build(): return nn.Linear(1, 1)\n")
    assert kept.total(Target("net.py:build")) == 2
    assert not kept.has(Target("net.py:build"))
    assert "; not kept: " in kept.said[-1]
    assert reason in kept.said[-1]


def test_a_file_that_changes_while_the_model_is_built_is_not_taken_for_what_was_built(
    kept: Kept, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("net.py").write_text("from torch import nn\nimport tests\ntests.edit()\ndef build(): return nn.Linear(1, 1)\n")
    import tests

    # Where a test changes it, the events look as if a user had: this one is a file of no event.
    monkeypatch.setattr(tests, "edit", lambda: os.utime("net.py", (2**31, 2**31)), raising=False)
    assert kept.total(Target("net.py:build")) == 2
    assert not kept.has(Target("net.py:build"))


DURING: dict[str, tuple[str, Callable[[], object]]] = {
    "a file that is looked for comes": ("Path('wide').exists()", lambda: Path("wide").touch()),
    "a file that is looked for goes": ("Path('there').exists()", lambda: Path("there").unlink()),
    "a folder that is listed gets more": ("os.listdir('listed')", lambda: Path("listed/more").touch()),
    "a module that was missing comes": ("find_spec('extra')", lambda: Path("extra.py").touch()),
    "a package that was missing comes": ("find_spec('extra')", lambda: Path("extra").mkdir()),
    "a link leads elsewhere": ("Path('link/a').read_text()", lambda: relinked("link", "walked")),
    "a folder is another": (
        "Path('listed/a').read_text()",
        lambda: (Path("listed").rename("was"), Path("walked").rename("listed")),
    ),
}


@pytest.mark.parametrize("reason", DURING)
def test_what_changes_after_it_was_read_is_not_taken_for_what_was_read(
    reason: str, kept: Kept, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is so again when what the outcome depends on is written down, so that a later look would find no change."""
    reads, change = DURING[reason]
    for name in ("listed", "walked"):
        Path(name).mkdir()
        Path(name, "a").write_text(name)
    Path("link").symlink_to("listed")
    Path("there").touch()
    Path("net.py").write_text(
        "import os\nfrom importlib.util import find_spec\nfrom pathlib import Path\nfrom torch import nn\n"
        f"READ = {reads}\ndef build(): return nn.Linear(1, 1)\n"
    )
    build = Watch.build

    @contextmanager
    def changed_before_its_end(watch: Watch) -> Iterator[Uses]:
        with build(watch) as used:
            yield used
            watch._build = None  # another process does it
            change()
            watch._build = used

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "build", changed_before_its_end)
        assert kept.total(Target("net.py:build")) == 2
    assert " changed while it was counted" in kept.said[-1]
    assert not kept.has(Target("net.py:build"))


def test_a_failure_is_not_kept(kept: Kept, folder: Path) -> None:
    Path("net.py").write_text("from torch import nn\ndef build(): return nn.Linear(1, '1')\n")
    for _ in range(2):
        with pytest.raises(ParamcountError):
            kept.total(Target("net.py:build"))
    assert kept.said == []
    assert not kept.folder.exists()


def test_a_checkpoint_is_quick_to_read_and_not_kept(kept: Kept, folder: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(3)}, "model.pt")
    assert kept.total(Target("model.pt")) == 3
    assert not kept.folder.exists()


# Entries --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-1], lambda data: data[:40] + b"0" + data[41:], lambda data: data + b" "],
)
def test_a_damaged_entry_is_a_miss_and_replaced(damage: Callable[[bytes], bytes], kept: Kept, net: Target) -> None:
    kept.total(net)
    (entry,) = kept.folder.glob("*.entry")
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    assert not kept.has(net)
    assert kept.total(net) == 3 * 7
    assert kept.said[-1] == "net.py:Net: its entry in the cache is damaged; kept"
    assert kept.has(net)


def test_what_a_model_prints_is_printed_again(kept: Kept, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.py").write_text(
        "import sys\nfrom torch import nn\nprint('a', end=' ')\nprint('b', file=sys.stderr)\n"
        "def build(): return nn.Linear(1, 1)\n"
    )
    kept.total(Target("net.py:build"))
    first = capsys.readouterr()
    assert kept.has(Target("net.py:build"))
    again = capsys.readouterr()
    assert (first.out, first.err) == ("a ", "b\n")
    assert again.out + again.err == "a b\n"


def test_a_folder_that_cannot_be_written_to_is_no_obstacle(net: Target, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = Kept(tmp_path / "file")
    assert kept.total(net) == 3 * 7
    assert "not kept: " in kept.said[-1]


def test_secrets_are_not_written_down(kept: Kept, net: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("net.py").open("a") as file:
        file.write("\nTOKEN = os.environ['TOKEN']\n")
    monkeypatch.setenv("TOKEN", "correct horse battery staple")
    kept.total(net)
    assert kept.has(net)
    (entry,) = kept.folder.glob("*.entry")
    assert b"TOKEN" in entry.read_bytes()
    assert b"horse" not in entry.read_bytes()


def test_the_interpreter_is_left_as_it_was(kept: Kept, net: Target) -> None:
    before = (os.stat, os.lstat, os.access, os.getcwd, type(os.environ).__getitem__, type(os.environ).__iter__)
    streams = (sys.stdout, sys.stderr)
    kept.total(net)
    assert before == (os.stat, os.lstat, os.access, os.getcwd, type(os.environ).__getitem__, type(os.environ).__iter__)
    assert streams == (sys.stdout, sys.stderr)


def test_a_module_that_an_earlier_target_loaded_may_be_another_than_the_next_would_load(
    kept: Kept, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of its own would find the module beside the model; this one has the installed one already."""
    place = folder / "lib" / "site-packages"
    place.mkdir(parents=True)
    (place / "sizes.py").write_text("WIDTH = 1\n")
    monkeypatch.syspath_prepend(place)
    net = "from torch import nn\nimport sizes\ndef build(): return nn.Linear(sizes.WIDTH, 1)\n"
    (place / "sized.py").write_text(net)
    (folder / "second").mkdir()
    (folder / "second" / "net.py").write_text(net)
    (folder / "second" / "sizes.py").write_text("WIDTH = 2\n")
    cache = kept.cache()
    try:
        cache.read(Target("sized:build"))
        cache.read(Target("second/net.py:build"))
    finally:
        for name in ("sizes", "sized"):
            sys.modules.pop(name, None)
    assert kept.has(Target("sized:build"))
    assert kept.said[1].endswith("it may mean another sizes than the one that an earlier target has loaded")
    assert not kept.has(Target("second/net.py:build"))
    assert kept.total(Target("second/net.py:build")) == 3
    assert kept.has(Target("second/net.py:build"))


CHANGES = {
    "a variable": ("os.environ['EXTRA'] = '1'", "int(os.environ.get('EXTRA', '0'))"),
    "a layer of PyTorch's": ("nn.Identity.width = 1", "getattr(nn.Identity, 'width', 0)"),
    "a setting of Python's": (
        "sys.setrecursionlimit(sys.getrecursionlimit() + 1)",
        f"sys.getrecursionlimit() - {sys.getrecursionlimit()}",
    ),
    "a name that all modules know": ("builtins.width = 1", "getattr(builtins, 'width', 0)"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_kept_of_what_comes_after_code_of_a_users(
    change: str, kept: Kept, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files in one process see one another's changes to it; in processes of their own, they do not."""
    changes, reads = CHANGES[change]
    imports = "import builtins, os, sys\nfrom torch import nn\n"
    Path("one.py").write_text(f"{imports}{changes}\ndef build(): return nn.Linear(1, 1)\n")
    Path("two.py").write_text(f"{imports}def build(): return nn.Linear(1 + {reads}, 1)\n")
    monkeypatch.setenv("EXTRA", "0")
    monkeypatch.setattr(builtins, "width", 0, raising=False)
    cache, limit = kept.cache(), sys.getrecursionlimit()
    try:
        cache.read(Target("one.py:build"))
        polluted = cache.read(Target("two.py:build"))
    finally:
        sys.setrecursionlimit(limit)
        if hasattr(nn.Identity, "width"):
            del nn.Identity.width
    assert sum(param.numel or 0 for param in polluted.params) == 3
    assert kept.said[-1].endswith("not kept: an earlier target has run code of its own in this process")
    assert not kept.has(Target("two.py:build"))
    monkeypatch.setenv("EXTRA", "0")
    builtins.width = 0  # type: ignore[attr-defined]  # that is the point
    assert kept.total(Target("two.py:build")) == 2
    assert kept.has(Target("two.py:build"))


def test_a_model_that_looks_for_modules_in_a_way_of_its_own_is_not_kept(
    kept: Kept, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    Path("net.py").write_text(
        "import sys\nfrom torch import nn\nsys.meta_path = sys.meta_path[1:]\ndef build(): return nn.Linear(1, 1)\n"
    )
    assert kept.total(Target("net.py:build")) == 2
    assert kept.said[-1].endswith("not kept: it changes how Python looks for modules")


def test_a_target_that_runs_no_code_of_a_users_leaves_the_next_its_place(kept: Kept, net: Target) -> None:
    cache = kept.cache()
    cache.read(Target("squeezenet1_1"))
    cache.read(net)
    assert kept.has(Target("squeezenet1_1"))
    assert kept.has(net)
