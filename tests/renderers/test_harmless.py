"""No name, whatever it is, acts on a terminal, a log of CI or a spreadsheet, in any form of any result."""

from __future__ import annotations

import csv
import io
import json
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramcount.grid import Style
from paramcount.harmless import cell, in_json, visible, visible_lines
from paramcount.inventory import Note
from paramcount.outline import Options
from paramcount.renderers import renderer
from tests.inventories import param, report
from tests.renderers.results import Counts
from tests.renderers.test_contract import ANSI, FORMATS

PARTS = ["::", "##[", "##vso[", "##", "[", ":", "=", "+", "-", "@", "\t", "\r", "\n", "\x1b[0m", "\u202e", "\u2028"]
PARTS += ["\ud800", "\x00", "\x9b", "a", "error", "]", " ", "'", '"', ",", ".", "%0A", "<", "&", "\uff1d", "\\"]
nasty = st.lists(st.sampled_from(PARTS), min_size=1, max_size=8).map("".join)
kinds = nasty.filter(lambda kind: not kind.startswith("= "))  # which means something to report()
# As runners read a line: https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
OBEYED = re.compile(r"^\s*::|##\w*\[", re.MULTILINE)
CALCULATED = re.compile(r"[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")


def demand_harmless(text: str, *, format_name: str) -> None:
    allowed = {"\n", "\t"} if format_name == "tsv" else {"\n"}
    assert all(char.isprintable() or char in allowed for char in text)
    if format_name != "github":  # whose own lines are commands, each with all that it says on it
        assert not OBEYED.search(text)


@pytest.mark.parametrize("format_name", FORMATS)
@settings(max_examples=25)
@given(
    names=st.lists(nasty, min_size=1, max_size=4, unique=True),
    target=nasty,
    kind=kinds,
)
def test_nothing_in_a_result_acts_on_what_shows_it(format_name: str, names: list[str], target: str, kind: str) -> None:
    modules = {name: kind for name in names if "." not in name}
    weights = [param(f"{name}.{name}", 2) for name in names]
    notes = [Note(name, name, name) for name in names]
    finding = {"rule": target, "layer": names[0], "limit": 1, "actual": 2, "over": 1, "message": names[0]}

    class Judged(Counts):
        def to_dict(self) -> dict[str, object]:
            said = super().to_dict()
            for each in said["reports"]:
                each |= {
                    "status": "over",
                    "findings": [{**finding, "location": {"file": kind, "line": 1, "column": 1}}],
                }
            error = {"target": target, "code": "x", "message": names[-1], "hint": kind, "name": None}
            return {**said, "errors": [error]}

    result = Judged((report(modules, weights, notes=notes, target=target, root=kind),), Options("all", params=True))
    for style in (Style(), Style(width=80), Style(color=True)):
        text = renderer(format_name).render(result, style)
        demand_harmless(ANSI.sub("", text) if style.color else text, format_name=format_name)
    if format_name in {"csv", "tsv"}:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter="," if format_name == "csv" else "\t")
        assert not [each for row in rows for each in row if CALCULATED.match(each)]
    if format_name == "json":
        assert json.loads(text) == result.to_dict()
    if format_name in {"gitlab", "sarif"}:
        json.loads(text)
    if format_name == "junit":
        ElementTree.fromstring(text)
    if format_name == "github":
        assert all(line.startswith(("::error ", "::notice ")) for line in text.split("\n"))


@given(nasty)
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    for harmless in (visible(text), visible_lines(text)):
        assert visible_lines(harmless) == harmless
    assert json.loads(in_json(json.dumps(text))) == text


@pytest.mark.parametrize(
    "text", ["layers.0.weight", "aten::add", "C++", "a#b", "## heading", "x = 1", "层 é 🙂", "a-1"]
)
def test_an_ordinary_name_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text
    assert cell(text) == text


def test_a_formula_is_text_behind_an_apostrophe() -> None:
    assert cell('=HYPERLINK("http://x")') == '\'=HYPERLINK("http://x")'
    assert cell("-1") == "'-1"
