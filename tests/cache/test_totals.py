"""What a library's models come to is found again, together, where nothing that any of them depends on has changed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from paramcount.cache import Cache, NotKept
from paramcount.cache.totals import Answer, Totals
from paramcount.cache.watch import Watch
from paramcount.catalogue import Name
from paramcount.sources import Target, python
from tests.cache.test_cache import INGREDIENTS

NET, OTHER_ONE, OF_NET = "net.py:Net", "other.py:Other", 3 * 7
OTHER = "from torch import nn\nprint('other')\nclass Other(nn.Linear):\n  def __init__(self): super().__init__(2, 4)\n"


@dataclass
class Shelf:
    """A library whose models are those of the current folder, as one run after the other counts them."""

    folder: Path
    said: list[str] = field(default_factory=list)
    version: str = "1.0"

    def totals(self) -> Totals:
        return Cache(lambda: self.folder, dict(os.environ), version=self.version, say=self.said.append).totals("shelf")

    def has(self, name: str) -> bool:
        try:
            self.totals().recall(Name(name, "shelf"))
        except NotKept:
            return False
        return True

    def sweep(self, *names: str) -> list[Answer]:
        totals = self.totals()
        answers = [totals.count(Name(name, "shelf")) for name in names]
        totals.keep(answers)
        return answers


@pytest.fixture
def shelf(tmp_path: Path, net: Target, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    Path("other.py").write_text(OTHER)
    monkeypatch.setattr("paramcount.sources.sources", lambda: {"shelf": SimpleNamespace(read=python.read)})
    monkeypatch.setattr(Watch, "_asked_for_place", lambda _watch: None)  # as whoever reads a user's file does
    return Shelf(tmp_path / "cache")


def total(answer: Answer) -> int:
    return answer.counted.tally.total


def test_what_did_not_change_is_found_with_what_it_printed(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    assert not shelf.has(NET)
    assert [total(answer) for answer in shelf.sweep(NET, OTHER_ONE)] == [OF_NET, 12]
    assert len(list(shelf.folder.glob("*.entry"))) == 1
    capsys.readouterr()
    kept = shelf.totals()
    answers = [kept.recall(Name(name, "shelf")) for name in (OTHER_ONE, NET)]
    assert [total(answer) for answer in answers] == [12, OF_NET]
    assert [answer.counted.type for answer in answers] == ["Other", "Net"]
    assert capsys.readouterr().out == "other\n"
    assert shelf.said[1:] == ["shelf: 0 models found", "shelf: 2 models kept", "shelf: 2 models found"]


@pytest.mark.parametrize("ingredient", INGREDIENTS)
def test_each_ingredient_that_changes_makes_another_answer_of_all(
    ingredient: str, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, expected = INGREDIENTS[ingredient]
    shelf.sweep(OTHER_ONE, NET)
    assert shelf.has(NET)
    change(monkeypatch)
    assert not shelf.has(NET)
    assert not shelf.has(OTHER_ONE)
    monkeypatch.delitem(sys.modules, "yaml")  # as in a process that has not imported it
    assert total(shelf.sweep(NET)[0]) == expected
    assert shelf.has(NET)
    assert not shelf.has(OTHER_ONE)


def test_another_version_of_ours_finds_nothing(shelf: Shelf) -> None:
    shelf.sweep(NET)
    shelf.version = "1.1"
    assert not shelf.has(NET)


def test_what_other_runs_counted_meanwhile_stays(shelf: Shelf) -> None:
    one, two = shelf.totals(), shelf.totals()
    answers = {name: each.count(Name(name, "shelf")) for name, each in ((NET, one), (OTHER_ONE, two))}
    one.keep([answers[NET]])
    two.keep([answers[OTHER_ONE]])
    assert shelf.has(NET)
    assert shelf.has(OTHER_ONE)


def test_a_damaged_entry_holds_nothing(shelf: Shelf) -> None:
    shelf.sweep(NET)
    (entry,) = shelf.folder.glob("*.entry")
    entry.write_bytes(entry.read_bytes()[:-1])
    assert not shelf.has(NET)
    shelf.sweep(NET)
    assert shelf.has(NET)


def test_what_may_change_by_itself_is_not_kept_and_costs_the_others_nothing(shelf: Shelf) -> None:
    Path("other.py").write_text(f"import time\nNOW = time.time()\n{OTHER}")
    shelf.sweep(OTHER_ONE, NET, OTHER_ONE)
    assert [shelf.has(name) for name in (NET, OTHER_ONE)] == [True, False]
    assert sum("it may depend on the clock" in text for text in shelf.said) == 2


def test_what_depends_on_the_current_folder_is_not_kept(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(watch: Watch) -> None:
        if watch._build is not None:
            watch._build.is_placed = True

    monkeypatch.setattr(Watch, "_asked_for_place", asked)
    shelf.sweep(NET)
    assert not shelf.has(NET)


@pytest.mark.parametrize("change", [lambda: Path("net.yaml").write_text("outputs: 9\n"), lambda: Path("wide").touch()])
def test_what_changes_while_others_are_counted_is_not_kept(change: Callable[[], object], shelf: Shelf) -> None:
    totals = shelf.totals()
    answers = [totals.count(Name(NET, "shelf"))]
    change()
    totals.keep(answers)
    assert not shelf.has(NET)
    assert shelf.said[1].startswith("shelf: not kept: ")
    assert shelf.said[1].endswith(" while they were counted")
