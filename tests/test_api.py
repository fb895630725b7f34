"""The Python API: a word or a model in, a Report out, every failure a ParamcountError."""

from __future__ import annotations

import gc

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
