"""SARIF logs, read by sarif-pydantic and held against the rules that a schema cannot state."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from hypothesis import given, settings
from pydantic import BaseModel
from sarif_pydantic.sarif import Notification, Sarif  # type: ignore[import-untyped]  # it ships no type information

from paramcount.grid import Style
from paramcount.renderers.sarif import render
from tests.renderers.checks import FINE, HALVES, MIXED, Check, at, checks, finding, model, note, uncounted, without

# An embedded link, as §3.11.6 of the specification has it.
LINK = re.compile(r"\[(?:[^\\\[\]]|\\[\\\[\]])*\]\([^)]*\)")


def strangers(value: Any) -> Iterator[str]:
    """Yield the properties that the models of SARIF's objects do not know."""
    if isinstance(value, BaseModel):
        yield from value.model_extra or {}
        for name in type(value).model_fields:
            yield from strangers(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from strangers(item)


def run(check: Check) -> dict[str, Any]:
    """Return the only run, once a parser has read it and what refers to something is found to refer to it."""
    text = render(check, Style())
    assert text.isascii()
    document = json.loads(text)
    assert document["version"] == "2.1.0"
    assert document["$schema"].endswith("/sarif-schema-2.1.0.json")
    # Two properties of the specification that the parser leaves out.
    assert list(strangers(Sarif.model_validate_json(text))) == ["columnKind", "toolExecutionNotifications"]
    (only,) = document["runs"]
    for notification in only["invocations"][0]["toolExecutionNotifications"]:
        assert list(strangers(Notification.model_validate(notification))) == []
    rules = only["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in only["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        for location in result["locations"]:
            assert_relative(location["physicalLocation"]["artifactLocation"]["uri"])
    found: dict[str, Any] = only
    return found


def assert_relative(uri: str) -> None:
    """Assert that a URI names a file and nothing else: RFC 3986, 4.2."""
    split = urlsplit(uri)
    assert (split.scheme, split.netloc, split.path, split.query, split.fragment) == ("", "", uri, "", "")
    assert re.fullmatch(r"(?:[A-Za-z0-9._~/-]|%[0-9A-F]{2})+", uri)


def test_a_check_without_findings_is_a_run_without_results() -> None:
    assert run(FINE) == {
        "tool": {"driver": {"name": "paramcount", "version": "0.1.0", "rules": []}},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": []}],
        "results": [],
    }


def test_findings_are_results_and_remarks_are_notes() -> None:
    results = run(MIXED)["results"]
    assert [result.pop("partialFingerprints").keys() for result in results] == [{"modelRuleLayer/v1"}] * 3
    assert results[1] == {
        "ruleId": "bytes",
        "ruleIndex": 1,
        "level": "error",
        "message": {"text": "classifier: head: bytes is 1.20 MB, 200 KB over the limit of 1.00 MB"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": "models.yaml"},
                    "region": {"startLine": 15, "startColumn": 30},
                },
                "logicalLocations": [
                    {"name": "head", "fullyQualifiedName": "classifier.head", "kind": "module"},
                ],
            }
        ],
    }
    assert [(result["ruleId"], result["level"]) for result in results] == [
        ("total", "error"),
        ("bytes", "error"),
        ("loose-limit", "note"),
    ]
    assert results[0]["locations"][0]["logicalLocations"] == [{"name": "classifier", "kind": "module"}]


def test_every_rule_that_occurs_is_described_once() -> None:
    check = Check([model("a", finding("1"), finding("2", "growth"), finding("3"), finding("4", "novel"))])
    rules = run(check)["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["total", "growth", "novel"]
    assert rules[1] == {
        "id": "growth",
        "shortDescription": {"text": "A model may not grow too much at a time"},
        "help": {"text": "If the growth is meant, run paramcount lock."},
    }
    assert rules[2]["shortDescription"] == {"text": "A check by the name of novel"}


def test_errors_are_what_the_tool_met() -> None:
    (invocation,) = run(MIXED)["invocations"]
    assert invocation == {
        "executionSuccessful": False,
        "toolExecutionNotifications": [
            {
                "level": "error",
                "descriptor": {"id": "build-failed"},
                "message": {"text": "broken: Net in broken.py cannot be built\ngive width"},
            },
            {
                "level": "error",
                "descriptor": {"id": "config"},
                "message": {"text": "models.lock.json:1:1: no JSON"},
                "locations": [
                    {
                        "physicalLocation": {
                            "artifactLocation": {"uri": "models.lock.json"},
                            "region": {"startLine": 1, "startColumn": 1},
                        }
                    }
                ],
            },
        ],
    }


def test_a_model_over_its_budget_is_no_failure_of_the_tool_but_one_without_counts_is() -> None:
    def successful(report: dict[str, Any]) -> bool:
        return bool(run(Check([report]))["invocations"][0]["executionSuccessful"])

    assert successful(model("a", finding("over")))
    assert not successful(uncounted("a", finding("cannot be judged")))


def test_a_result_always_has_a_file() -> None:
    """GitHub refuses a log in which one has none."""
    located, lost = run(Check([model("a", finding("1", location=at(7, 3, "ci/m.yaml")), finding("2"))]))["results"]
    assert located["locations"][0]["physicalLocation"]["region"] == {"startLine": 7, "startColumn": 3}
    assert lost["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "ci/m.yaml"},
        "region": {"startLine": 1, "startColumn": 1},
    }


def test_a_path_is_percent_encoded() -> None:
    check = Check([model("a", finding("1", location=at(1, file="./my models/50%:é#?.yaml")))])
    location = run(check)["results"][0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"] == {"uri": "my%20models/50%25%3A%C3%A9%23%3F.yaml"}


def test_a_message_is_no_template_and_has_no_links() -> None:
    (result,) = run(Check([model("a", finding("{0} is [over](https://example.org)"))]))["results"]
    assert result["message"] == {"text": r"a: {{0}} is [over]\x28https://example.org)"}


def test_a_fingerprint_is_as_in_other_formats() -> None:
    (result,) = run(Check([model("a", finding("over", "total", "b"), notes=(note("m", "other"),))]))["results"]
    assert result["partialFingerprints"] == {
        "modelRuleLayer/v1": "9f2d729381b0d287aaaa2b4e33a7264206eacb848332ea3195fdb624dc8e8f4d"
    }


@settings(deadline=None)
@given(checks())
def test_whatever_the_names_a_reader_gets_them_whole(check: Check) -> None:
    found = run(check)
    findings = [(report["name"], item) for report in check.reports for item in report["findings"]]
    results = [result for result in found["results"] if result["level"] == "error"]
    assert len({result["partialFingerprints"]["modelRuleLayer/v1"] for result in found["results"]}) == len(
        found["results"]
    )
    for result, (name, item) in zip(results, findings, strict=True):
        text = result["message"]["text"]
        assert not LINK.search(text)
        shown = text.replace("{{", "{").replace("}}", "}")
        assert shown.endswith(without(item["message"], HALVES).replace("](", r"]\x28"))
        (location,) = result["locations"]
        layer = without(item["layer"], HALVES)
        assert location["logicalLocations"][0]["name"] == (layer or without(name, HALVES))
        if item["location"]:
            uri = location["physicalLocation"]["artifactLocation"]["uri"]
            assert unquote(uri) == without(item["location"]["file"], HALVES)
    assert len(found["invocations"][0]["toolExecutionNotifications"]) == len(check.errors)
