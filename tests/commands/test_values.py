"""Words that need no conversion arrive as Typer would have converted them."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from paramcount.cli import app
from paramcount.commands.values import Unconverted


def parsed(command: str, *args: str, unconverted: bool) -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    found: Any = group.get_command(typer.Context(group), command)
    if not unconverted:
        for param in found.params:
            param._runtime_param = None
    else:
        assert any(isinstance(param._runtime_param, Unconverted) for param in found.params)
    return dict(found.make_context(command, list(args)).params)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("count", ["resnet50"]),
        ("count", ["a", "b", "-a", "x=1", "-a", "y=2", "--sort", "size", "-f", "json", "-o", "-", "--params"]),
        ("count", ["a", "--device", "cpu", "--freeze", "*", "--value", "total", "--depth", "all", "--weights", ""]),
        ("check", ["-j", "3", "--export", "json=x", "--locked", "net"]),
        ("check", []),
        ("list", ["*vit*", "--max", "5M", "--counts"]),
        ("diff", ["a", "b", "--exit-code"]),
    ],
)
def test_what_arrives_is_what_typer_makes_of_it(command: str, args: list[str]) -> None:
    ours, typers = (parsed(command, *args, unconverted=unconverted) for unconverted in (True, False))
    assert ours == typers
    assert {name: type(value) for name, value in ours.items()} == {name: type(value) for name, value in typers.items()}


@pytest.mark.parametrize(
    ("command", "args"), [("count", ["a", "--sort", "siz"]), ("check", ["-j", "x"]), ("count", [])]
)
def test_what_is_wrong_is_typers_own_error(command: str, args: list[str]) -> None:
    said = []
    for unconverted in (True, False):
        with pytest.raises(typer.TyperException) as caught:
            parsed(command, *args, unconverted=unconverted)
        said.append(caught.value.format_message())
    assert said[0] == said[1]
