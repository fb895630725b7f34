"""The Python API: a word or a model in, a Report out, every failure a ParamcountError."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import nn

import paramcount
from tests.conftest import MODELS

CNN = f"{MODELS / 'tutorial_cnn.py'}:Net"


def test_the_example_of_the_design_holds() -> None:
    report = paramcount.count("resnet50", args={"num_classes": 10}, weights=None, freeze=["*"], unfreeze=["fc"])
    assert (report.total, report.trainable, report.frozen, report.unknown) == (23_528_522, 20_490, 23_508_032, 0)
    assert report.nbytes == 4 * report.total
    assert report["layer4"].total == 14_964_736
    assert report.notes == ()


def test_a_model_is_read_as_it_stands() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    before = {name: (id(p), p.requires_grad, p.clone()) for name, p in model.named_parameters()}
    report = paramcount.count(model, freeze="0")
    assert (report.target, report.source) == ("Sequential", "module")
    assert (report.trainable, report.frozen) == (10, 16)
    for name, p in model.named_parameters():
        identity, requires_grad, values = before[name]
        assert (id(p), p.requires_grad) == (identity, requires_grad)
        assert torch.equal(p, values)


def test_one_pattern_may_be_given_as_a_string() -> None:
    assert paramcount.count(CNN, include="conv1") == paramcount.count(CNN, include=["conv1"])
    assert paramcount.count(CNN, include="conv1").total == 448


def test_only_restricts_the_count_and_says_so() -> None:
    report = paramcount.count(CNN, freeze="conv*", only="trainable")
    assert (report.total, report.frozen) == (81_930, 0)
    (note,) = report.notes
    assert note.code == "filtered"
    assert "5,088" in note.message


@pytest.mark.parametrize("nonsense", [3, None, nn.Linear, torch.zeros(3), {}])
def test_what_is_neither_word_nor_model_is_refused(nonsense: object) -> None:
    with pytest.raises(paramcount.ParamcountError, match="is not a model"):
        paramcount.count(nonsense)  # type: ignore[arg-type]


def test_a_state_dict_is_told_as_one_and_not_printed() -> None:
    state = nn.Sequential(*(nn.Linear(50, 50) for _ in range(20))).state_dict()
    with pytest.raises(paramcount.ParamcountError, match="a state dict, of 40 tensors here, is not a model") as caught:
        paramcount.count(state)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


def test_what_says_it_is_a_module_but_is_none_is_no_model() -> None:
    with pytest.raises(paramcount.ParamcountError, match="Mock is not a model"):
        paramcount.count(MagicMock(spec=nn.Linear(2, 2)))


def test_a_path_is_a_target(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save(nn.Linear(3, 4).state_dict(), file)
    assert paramcount.count(file).total == 16
    with pytest.raises(paramcount.OverBudget):
        paramcount.check(file, total=15)


def test_a_module_without_a_hash_is_named_with_the_cure() -> None:
    @dataclass
    class Net(nn.Module):
        width: int = 4

        def __post_init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(self.width, 3)

    class Store(nn.Module, Mapping[str, nn.Module]):
        def __getitem__(self, key: str) -> nn.Module:
            raise KeyError(key)

        def __iter__(self) -> Iterator[str]:
            return iter(())

        def __len__(self) -> int:
            return 0

    class Equal(nn.Module):  # noqa: PLW1641  # it is the mistake
        def __eq__(self, other: object) -> bool:
            return True

    for module, why, cure in (
        (Net(), "it is a dataclass", "@dataclass(eq=False)"),
        (Store(), "it is a Mapping", "__hash__ = nn.Module.__hash__"),
        (Equal(), "class Equal has an __eq__ of its own", "__hash__ = nn.Module.__hash__"),
    ):
        with pytest.raises(TypeError):
            sum(param.numel() for param in nn.Sequential(module).parameters())
        with pytest.raises(
            paramcount.ParamcountError, match=f"^PyTorch cannot .* has no hash, because {why}"
        ) as caught:
            paramcount.count(module)
        assert cure in (caught.value.hint or "")
        with pytest.raises(paramcount.ParamcountError, match=f"0, of class {type(module).__name__}, has no hash"):
            paramcount.count(nn.Sequential(module))


def test_a_module_that_has_a_hash_counts_whatever_it_compares_by() -> None:
    @dataclass(eq=False)
    class Net(nn.Module):
        width: int = 4

        def __post_init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(self.width, 3)

    class Fails(nn.Module):
        __hash__ = nn.Module.__hash__

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def __eq__(self, other: object) -> bool:
            raise ValueError

        def __bool__(self) -> bool:
            raise ValueError

        def __len__(self) -> int:
            return 0

    assert paramcount.count(Net()).total == 15
    assert paramcount.count(nn.Sequential(Fails(), Fails(), Net())).total == 45


def test_whatever_a_models_own_code_raises_is_told_as_an_error() -> None:
    class Broken(nn.Linear):
        def named_parameters(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError("an accident")

    with pytest.raises(paramcount.ParamcountError, match="Broken could not be read: ZeroDivisionError: an accident"):
        paramcount.count(Broken(1, 1))


def test_arguments_for_a_model_that_is_built_are_refused() -> None:
    with pytest.raises(paramcount.ParamcountError, match="yet to be built"):
        paramcount.count(nn.Linear(1, 1), args={"width": 3})


def test_every_error_carries_its_exit_code_message_and_hint() -> None:
    with pytest.raises(paramcount.ParamcountError) as caught:
        paramcount.count("resnet5O")
    error = caught.value
    assert (error.exit_code, error.code) == (2, "unknown-target")
    assert error.message == "unknown target 'resnet5O'"
    assert str(error) == f"{error.message}\n{error.hint}"


def test_counting_leaves_the_collector_and_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    for was_on in (True, False):
        (gc.enable if was_on else gc.disable)()
        try:
            paramcount.count("squeezenet1_1").to_dict()
            assert gc.isenabled() is was_on
        finally:
            gc.enable()
    assert torch.equal(torch.get_rng_state(), state)
