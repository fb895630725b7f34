"""What the tests of the cache share: an installed library whose models depend on all that such a model may."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

import pytest

from paramcount.cache import Cache, NotKept, installed, record
from paramcount.inventory import Inventory, Module, Param
from paramcount.sources import Target

# While it is imported it reads a file of its own and one of the home folder, looks for a submodule and for a file, and
# lists a folder; when it is called it does the same again, and reads a configuration.
LIBRARY = """
import os
from pathlib import Path

HERE = Path(__file__).parent
HOME = Path(os.environ["SHELF_HOME"])
WIDTH = int((HERE / "width.txt").read_text()) + len(list((HERE / "plugins").glob("*.txt")))
if (HOME / ".shelf").exists():
    WIDTH += 100
try:
    from shelf.fast import MORE
except ImportError:
    MORE = 0

def build(config=None):
    from shelf import models
    width = WIDTH + MORE + models.EXTRA
    if config is not None:
        width += int((Path(config) / "config.json").read_text())
        width += 10 * os.path.exists(os.path.join(config, "wide"))
    return width + 1000 * len(os.listdir(HOME / "listed"))
"""
WIDTH = 3 + 4  # of width.txt and of models.py


@dataclass
class Shelf:
    """The library, and a cache, as one run after the other sees them."""

    folder: Path  # where all of it is
    said: list[str] = field(default_factory=list)
    version: str = "1.0"

    @property
    def package(self) -> Path:
        return self.folder / "lib" / "site-packages" / "shelf"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    def cache(self) -> Cache:
        """A new process: nothing of the library is loaded."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "shelf"]:
            del sys.modules[name]
        for place in [place for place in sys.path_importer_cache if place.startswith(str(self.folder))]:
            del sys.path_importer_cache[place]
        invalidate_caches()
        environment = {"SHELF_HOME": str(self.home), **self.variables}
        return Cache(lambda: self.folder / "kept", environment, version=self.version, say=self.said.append)

    variables: dict[str, str] = field(default_factory=dict)

    def has(self, target: Target) -> bool:
        try:
            self.cache().recall(target)
        except NotKept:
            return False
        return True

    def total(self, target: Target) -> int:
        return sum(param.numel or 0 for param in self.cache().read(target).params)


def read(target: Target) -> Inventory:
    """Read what the library builds, as a source does."""
    import shelf  # type: ignore[import-not-found]  # it is made in a test's folder

    if target.word.startswith("user:"):
        return Inventory(target.word, "python", (Module("", "Net"),), ())
    width = shelf.build(**target.args)
    weight = Param("weight", (width,), "float32", width, 4 * width, trainable=True)
    return Inventory(target.word, "timm", (Module("", "Net"),), (weight,))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """An empty cache, and the library."""
    shelf = Shelf(tmp_path)
    (shelf.package / "plugins").mkdir(parents=True)
    (shelf.home / "listed").mkdir(parents=True)
    shelf.config.mkdir()
    (shelf.package / "__init__.py").write_text(LIBRARY)
    (shelf.package / "models.py").write_text("EXTRA = 4\n")
    (shelf.package / "width.txt").write_text("3")
    (shelf.config / "config.json").write_text("5")
    place = shelf.package.parent
    sites = installed.sites()
    monkeypatch.setattr(installed, "sites", lambda: (*sites, f"{place}{os.sep}"))
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # by which Python itself misses a change within a second
    monkeypatch.setenv("SHELF_HOME", str(shelf.home))
    monkeypatch.setattr("paramcount.sources.read", read)
    monkeypatch.setattr(record, "_STARTED", 2**63)  # what the library is made of is younger than this process
    allow_loaded_modules(monkeypatch)
    yield shelf
    shelf.cache()


def allow_loaded_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests themselves, and what they have loaded, pass for installed."""
    stranger, loaded = installed.stranger, set(sys.modules)

    def later_stranger(modules: Mapping[str, Any]) -> str | None:
        return stranger({name: module for name, module in list(modules.items()) if name not in loaded})

    monkeypatch.setattr(installed, "stranger", later_stranger)
    monkeypatch.setattr(record, "stranger", later_stranger)
