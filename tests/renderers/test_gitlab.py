"""Code Quality reports, held against what GitLab accepts and what its widget compares."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no type information
from hypothesis import given, settings

from paramcount.grid import Style
from paramcount.renderers.gitlab import render
from tests.renderers.checks import FINE, HALVES, MIXED, Check, at, checks, error, finding, model, uncounted, without

TEXT = {"type": "string"}
# What GitLab's documentation requires, and no more: https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": TEXT,
            "check_name": TEXT,
            "fingerprint": TEXT,
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": r"^(?!\./)"},
                    "lines": {"required": ["begin"], "properties": {"begin": {"type": "integer", "minimum": 1}}},
                },
            },
        },
    },
}


def degradations(check: Check) -> list[dict[str, Any]]:
    text = render(check, Style())
    assert text.isascii()
    found: list[dict[str, Any]] = json.loads(text)
    jsonschema.validate(found, SCHEMA)
    return found


def fingerprints(check: Check) -> list[str]:
    return [degradation["fingerprint"] for degradation in degradations(check)]


def test_a_check_without_findings_is_an_empty_array() -> None:
    assert render(FINE, Style()) == "[]"


def test_every_error_and_finding_is_there_and_no_remark() -> None:
    found = degradations(MIXED)
    assert [len(degradation.pop("fingerprint")) for degradation in found] == [64] * 4
    assert found == [
        {
            "description": "broken: Net in broken.py cannot be built\ngive width",
            "check_name": "build-failed",
            "severity": "critical",
            "location": {"path": "models.lock.json", "lines": {"begin": 1}},  # the first file that is known
        },
        {
            "description": "models.lock.json:1:1: no JSON",
            "check_name": "config",
            "severity": "critical",
            "location": {"path": "models.lock.json", "lines": {"begin": 1}},
        },
        {
            "description": "classifier: total is 23.1M, 600K over the limit of 22.5M",
            "check_name": "total",
            "severity": "major",
            "location": {"path": "models.yaml", "lines": {"begin": 12}},
        },
        {
            "description": "classifier: head: bytes is 1.20 MB, 200 KB over the limit of 1.00 MB",
            "check_name": "bytes",
            "severity": "major",
            "location": {"path": "models.yaml", "lines": {"begin": 15}},
        },
    ]


def test_without_any_place_the_file_is_models_yaml() -> None:
    (found,) = degradations(Check([model("a", finding("over"))]))
    assert found["location"] == {"path": "models.yaml", "lines": {"begin": 1}}


def test_a_fingerprint_stays_when_numbers_and_lines_change() -> None:
    later = deepcopy(MIXED)
    for item in later.reports[0]["findings"]:
        item |= {"actual": 99, "limit": 98, "over": 1, "message": "99 is 1 over 98", "location": at(400, 4)}
    assert fingerprints(later) == fingerprints(MIXED)


def test_a_fingerprint_is_of_the_model_the_rule_and_the_layer() -> None:
    def fingerprint(name: str, rule: str, layer: str) -> str:
        return fingerprints(Check([model(name, finding("over", rule, layer))]))[0]

    # From release to release, too: GitLab compares reports of different runs.
    assert fingerprint("a", "total", "b") == "9f2d729381b0d287aaaa2b4e33a7264206eacb848332ea3195fdb624dc8e8f4d"
    others = [("c", "total", "b"), ("a", "bytes", "b"), ("a", "total", ""), ("a", "totalb", ""), ("atotal", "", "b")]
    assert len({fingerprint(*other) for other in [*others, ("a", "total", "b")]}) == 6


def test_the_same_limit_twice_on_one_layer_has_two_fingerprints() -> None:
    twice = [finding("over", layer="head", location=at(line)) for line in (3, 4)]
    assert len(set(fingerprints(Check([model("a", *twice)])))) == 2


def test_errors_of_one_target_go_to_the_models_in_their_order() -> None:
    check = Check(
        [uncounted("first"), model("second"), uncounted("third")],
        [error("net.py:Net", "no width"), error("net.py:Net", "no height")],
    )
    assert [found["description"] for found in degradations(check)] == ["first: no width", "third: no height"]


def test_an_error_that_names_its_model_goes_to_it() -> None:
    models = [uncounted("first"), uncounted("second"), model("third")]
    check = Check(models, [error("net.py:Net", "no width", name="second"), error("third", "no such layer")])
    assert [found["description"] for found in degradations(check)] == ["second: no width", "third: no such layer"]


@settings(deadline=None)
@given(checks())
def test_whatever_the_names_they_come_through_and_no_fingerprint_occurs_twice(check: Check) -> None:
    found = degradations(check)
    findings = [item for report in check.reports for item in report["findings"]]
    assert len(found) == len(findings) + len(check.errors)
    assert len({degradation["fingerprint"] for degradation in found}) == len(found)
    for degradation, item in zip(found[len(check.errors) :], findings, strict=True):
        assert degradation["description"].endswith(without(item["message"], HALVES))
        assert degradation["check_name"] == without(item["rule"], HALVES)
        if item["location"]:
            assert degradation["location"]["path"] == without(item["location"]["file"], HALVES)
            assert degradation["location"]["lines"]["begin"] == item["location"]["line"]
    assert not re.search("[\ud800-\udfff]", "".join(degradation["description"] for degradation in found))
