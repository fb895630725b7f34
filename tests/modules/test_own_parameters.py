"""A ``parameters()`` of a class's own changes no count, and a note says what an optimizer would get of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import pytest
from torch import nn

import paramcount
import paramcount.modules.own_parameters


class Two(nn.Module):
    """15 and 8 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(3, 2)


class OnlyOne(Two):
    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        del recurse
        return self.b.parameters()


def said(model: nn.Module) -> dict[str, str]:
    return {note.where: note.message for note in paramcount.count(model).notes if note.code == "own-parameters"}


def test_the_count_is_over_names_and_the_note_has_the_other_sum() -> None:
    model = OnlyOne()
    report = paramcount.count(model)
    assert report.total == sum(param.numel() for _, param in model.named_parameters()) == 23
    (note,) = report.notes
    assert note.where == ""
    assert note.message.startswith("OnlyOne has a parameters() of its own, which gives 8 elements")
    assert "23" in note.message


def test_a_module_below_and_one_on_the_instance_are_noted_with_their_place() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2), OnlyOne(), Two())
    model[2].parameters = lambda: iter(())
    found = said(model)
    assert set(found) == {"1", "2"}
    assert "gives 8 elements" in found["1"]
    assert "gives 0 elements" in found["2"]
    assert paramcount.count(model).total == 6 + 23 + 23


def test_one_that_gives_the_same_is_not_noted() -> None:
    class Logged(Two):
        def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
            yield from super().parameters(recurse)

    assert said(Logged()) == {}
    assert said(nn.Sequential(Logged())) == {}


def test_names_of_its_own_that_leave_something_out_are_the_count_and_say_so() -> None:
    class Hides(Two):
        def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
            yield from (each for each in super().named_parameters(*args, **kwargs) if each[0].startswith("b."))

    model = Hides()
    assert paramcount.count(model).total == sum(param.numel() for param in model.parameters()) == 8
    assert "leaves out 15 elements" in said(model)[""]
    assert paramcount.count(nn.Sequential(Hides())).total == 23
    assert "gives 8 elements" in said(nn.Sequential(Hides()))["0"]


@pytest.mark.parametrize(
    ("give", "expected"),
    [
        (lambda: 1 / 0, "fails when it is called without arguments (ZeroDivisionError)"),
        (sys.exit, "fails when it is called without arguments (SystemExit)"),
        (lambda _group: (), "fails when it is called without arguments (TypeError)"),
        (lambda: None, "fails when it is called without arguments (TypeError)"),
        (lambda: repeat(nn.Parameter()), "does not end"),
        (lambda: next(each for each in repeat(0) if each), "gives no answer in 0.2 seconds"),
        (lambda: [{"params": [], "lr": 1.0}], "gives other things than tensors"),
    ],
)
def test_whatever_it_does_the_model_counts(give: Any, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paramcount.modules.own_parameters, "_PATIENCE", 0.2)
    model: Any = Two()
    model.parameters = give
    assert paramcount.count(model).total == 23
    assert expected in said(model)[""]


def test_a_tensor_that_names_give_twice_counts_once() -> None:
    class Twice(Two):
        def named_parameters(self, *_: Any, **__: Any) -> Any:
            yield from [("one", self.a.weight), ("other", self.a.weight)]

    report = paramcount.count(Twice())
    assert report.total == 12
    assert report.ties == {"one": ("other",)}


def test_names_without_an_end_are_an_error() -> None:
    class Endless(Two):
        def named_parameters(self, *_: Any, **__: Any) -> Any:
            return repeat(("one", self.a.weight))

    with pytest.raises(paramcount.ParamcountError, match=r"the named_parameters\(\) of Endless does not end"):
        paramcount.count(Endless())
