"""YAML is read as version 1.2 has it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from paramcount.yamls import DEEPEST, load


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2027-01-31", "2027-01-31"),
        ("1e6", 1e6),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("0777", 777),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ("[1, {a: 2}]", [1, {"a": 2}]),
    ],
)
def test_plain_scalars_follow_the_core_schema(text: str, value: Any) -> None:
    assert load(text) == value
    assert type(load(text)) is type(value)


@pytest.mark.parametrize(
    "text", ["!!python/name:os.system", "!!int a", "!!float a", "!!bool a", "!secret 5", "[", '"\\UFFFFFFFF"']
)
def test_what_is_not_plain_yaml_is_a_yaml_error(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        load(text)


def test_a_number_too_long_for_python_is_a_yaml_error_with_its_place() -> None:
    with pytest.raises(yaml.MarkedYAMLError, match="no integer can be read from 5000 characters"):
        load(f"[1, {'9' * 5000}]")


def test_deep_nesting_is_an_error_with_its_place_and_not_the_end_of_the_stack() -> None:
    assert load("[" * DEEPEST + "]" * DEEPEST) is not None
    with pytest.raises(yaml.MarkedYAMLError, match=f"nested more than {DEEPEST} levels deep") as caught:
        load("[" * 5000 + "]" * 5000)
    assert caught.value.problem_mark is not None
    assert caught.value.problem_mark.column == DEEPEST
