"""What a library's models come to is found again, together, where nothing that any of them depends on has changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from paramcount.cache import NotKept
from paramcount.cache.totals import Answer, Totals
from paramcount.catalogue import Name
from paramcount.sources import Target
from tests.cache.conftest import WIDTH, Shelf, read
from tests.cache.test_cache import INGREDIENTS
from tests.cache.test_entry import signed

ONE, OTHER = Name("timm:one", "timm"), Name("timm:other", "timm")


@pytest.fixture
def library(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """The library as a source with a list of models: ``other`` is made by its configuration."""

    def read_named(target: Target, name: str) -> object:
        return read(replace(target, args={"config": str(shelf.config)}) if name.startswith("other") else target)

    monkeypatch.setattr("paramcount.sources.sources", lambda: {"timm": SimpleNamespace(read=read_named)})
    return shelf


def totals(library: Shelf) -> Totals:
    return library.cache().totals("timm")


def has(library: Shelf, name: Name) -> bool:
    try:
        totals(library).recall(name)
    except NotKept:
        return False
    return True


def sweep(library: Shelf, *names: Name) -> list[Answer]:
    those = totals(library)
    answers = [those.count(name) for name in names]
    those.keep(answers)
    return answers


def total(answer: Answer) -> int:
    return answer.counted.tally.total


def test_what_did_not_change_is_found_with_what_it_printed(library: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    with (library.package / "models.py").open("a") as models:
        models.write("print('shelved')\n")
    assert not has(library, ONE)
    assert [total(answer) for answer in sweep(library, ONE, OTHER)] == [WIDTH, WIDTH + 5]
    assert len(list((library.folder / "kept").glob("*.entry"))) == 1
    capsys.readouterr()
    kept = totals(library)
    answers = [kept.recall(name) for name in (OTHER, ONE)]
    assert [total(answer) for answer in answers] == [WIDTH + 5, WIDTH]
    assert [answer.counted.type for answer in answers] == ["Net", "Net"]
    assert capsys.readouterr().out == "shelved\n"  # by the one that was counted first
    assert library.said[1:] == ["timm: 0 models found", "timm: 2 models kept", "timm: 2 models found"]


@pytest.mark.parametrize("ingredient", INGREDIENTS)
def test_each_ingredient_that_changes_makes_another_answer_of_all(ingredient: str, library: Shelf) -> None:
    change, more = INGREDIENTS[ingredient]
    sweep(library, ONE, OTHER)
    assert has(library, OTHER)
    change(library)
    assert not has(library, ONE)
    assert not has(library, OTHER)
    assert total(sweep(library, OTHER)[0]) == WIDTH + 5 + more
    assert has(library, OTHER)
    assert not has(library, ONE)


def test_another_version_of_ours_finds_nothing(library: Shelf) -> None:
    sweep(library, ONE)
    library.version = "1.1"
    assert not has(library, ONE)


def test_what_other_runs_counted_meanwhile_stays(library: Shelf) -> None:
    first, second = totals(library), totals(library)
    answers = {name: each.count(name) for name, each in ((ONE, first), (OTHER, second))}
    first.keep([answers[ONE]])
    second.keep([answers[OTHER]])
    assert has(library, ONE)
    assert has(library, OTHER)


@pytest.mark.parametrize("damage", ["cut short", "a fraction", "below nothing"])
def test_a_damaged_entry_holds_nothing(damage: str, library: Shelf) -> None:
    sweep(library, ONE)
    (entry,) = (library.folder / "kept").glob("*.entry")
    data = entry.read_bytes()
    wrong = data[16:].replace(f",[{WIDTH},0,0,".encode(), {"a fraction": b",[7.5,0,0,"}.get(damage, b",[-7,0,0,"), 1)
    assert wrong != data[16:]
    entry.write_bytes(data[:-1] if damage == "cut short" else signed(json.loads(wrong)))
    assert not has(library, ONE)
    sweep(library, ONE)
    assert has(library, ONE)


def test_what_changes_while_others_are_counted_is_not_kept(library: Shelf) -> None:
    those = totals(library)
    answers = [those.count(OTHER)]
    Path(library.config / "config.json").write_text("9")
    those.keep(answers)
    assert "config.json has changed while they were counted" in library.said[-1]
    assert not has(library, OTHER)


def test_two_processes_that_saw_other_things_keep_nothing(library: Shelf) -> None:
    first, second = totals(library), totals(library)
    before = first.count(OTHER)
    Path(library.config / "config.json").write_text("9")
    first.keep([before, second.count(Name("timm:other_one", "timm"))])
    assert "config.json changed while they were counted" in library.said[-1]
    assert not has(library, OTHER)


def test_each_answer_tells_only_what_those_before_it_did_not(library: Shelf) -> None:
    those = totals(library)
    first, second, third = (those.count(name) for name in (ONE, OTHER, ONE))
    assert first.facts
    assert second.facts
    assert third.facts == {kind: {} for kind in first.facts}
    assert str(library.config / "config.json") in second.facts["content"]
    assert str(library.package / "width.txt") not in second.facts["content"]


def test_an_answer_that_is_not_to_be_kept_costs_the_others_nothing(library: Shelf) -> None:
    answers = sweep(library, ONE)
    totals(library).keep([replace(answers[0], facts=None)])
    assert has(library, ONE)
