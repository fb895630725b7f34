"""Inputs as a user writes them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paramcount.inputs import DTYPES, Input, WrongInput

INPUTS = st.builds(
    Input,
    st.lists(st.integers(0, 10**9), min_size=1, max_size=6).map(tuple),
    st.sampled_from(DTYPES),
    st.none() | st.sampled_from(["x", "input_ids"]),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,3,224,224", Input((1, 3, 224, 224))),
        ("5", Input((5,))),
        ("1, 128 :int64", Input((1, 128), "int64")),
        ("input_ids=1,128:int64", Input((1, 128), "int64", "input_ids")),
    ],
)
def test_an_input_is_a_shape_with_a_dtype_and_a_name_where_needed(text: str, expected: Input) -> None:
    assert Input.parse(text) == expected


@given(INPUTS)
def test_an_input_reads_back_as_it_is_written(written: Input) -> None:
    assert Input.parse(str(written)) == written


@pytest.mark.parametrize(
    "text", ["", "1x3x224", "1,", ",1", "-1,3", "1.5", "=1,3", "1,3:", "2a=1", "a=b=1", "1:int64:int64"]
)
def test_another_form_is_an_error_with_examples(text: str) -> None:
    with pytest.raises(WrongInput, match="is not SHAPE") as caught:
        Input.parse(text)
    assert "1,3,224,224" in str(caught.value.hint)
    assert caught.value.exit_code == 2


def test_an_unknown_dtype_is_an_error_with_the_closest() -> None:
    with pytest.raises(WrongInput, match="'int46' is no dtype") as caught:
        Input.parse("1,3:int46")
    assert "int64" in str(caught.value.hint)


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_is_one_of_pytorch(name: str) -> None:
    assert isinstance(getattr(torch, name), torch.dtype)
