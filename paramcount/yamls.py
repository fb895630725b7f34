"""YAML 1.2's core schema over PyYAML, which by itself reads ``yes``, ``1:30`` and ``1e6`` as YAML 1.1 does."""

from __future__ import annotations

import re
from typing import Any

import yaml

DEEPEST = 100  # levels of nesting; PyYAML reads recursively, and would run out of Python's stack


class CoreLoader(yaml.SafeLoader):
    """A safe loader whose plain scalars follow https://yaml.org/spec/1.2.2/#103-core-schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's own attribute

    def __init__(self, stream: str) -> None:
        """Read from a string."""
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node; one that is nested too deep is an error at its place."""
        self._depth += 1
        if self._depth > DEEPEST:
            problem = f"nested more than {DEEPEST} levels deep"
            here = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs do not type it
            raise yaml.composer.ComposerError(None, None, problem, here)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), _first)


def _int(loader: CoreLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    try:
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
    except ValueError as error:  # Python refuses to read more than 4,300 digits
        problem = f"no integer can be read from {len(text)} characters"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


def _float(loader: CoreLoader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


CoreLoader.add_constructor("tag:yaml.org,2002:int", _int)
CoreLoader.add_constructor("tag:yaml.org,2002:float", _float)


def load(text: str) -> Any:
    """Return the value of one YAML document.

    Raises:
        yaml.YAMLError: the text is not YAML, or names a tag.

    """
    try:
        return yaml.load(text, CoreLoader)  # noqa: S506  # CoreLoader is a SafeLoader
    except (KeyError, ValueError, OverflowError) as error:  # «!!bool maybe», an escape beyond Unicode
        raise yaml.YAMLError(f"a value that its type does not have: {error}") from error
