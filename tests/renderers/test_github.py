"""Workflow commands, read back as GitHub's runner reads them."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings

from paramcount.grid import Style
from paramcount.harmless import visible_lines
from paramcount.renderers.github import render
from tests.renderers.checks import FINE, MIXED, Check, at, checks, error, finding, model, note

CONTROLS = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))


@dataclass(frozen=True)
class Command:
    name: str
    properties: dict[str, str]
    message: str


def unescaped(text: str, escapes: tuple[tuple[str, str], ...]) -> str:
    for escape, char in escapes:  # one after the other, as the runner does
        text = text.replace(escape, char)
    return text


def read(line: str) -> Command:
    """Read a command by the rules of https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs."""
    start, info, data = line.split("::", 2)
    assert start == ""
    name, _, listed = info.partition(" ")
    escapes = (("%0D", "\r"), ("%0A", "\n"))
    of_properties = (*escapes, ("%3A", ":"), ("%2C", ","), ("%25", "%"))
    pairs = (pair.split("=", 1) for pair in listed.strip().split(",") if pair)
    properties = {key: unescaped(value, of_properties) for key, value in pairs}
    return Command(name, properties, unescaped(data, (*escapes, ("%25", "%"))))


def commands(check: Check) -> list[Command]:
    text = render(check, Style())
    return [read(line) for line in text.split("\n")] if text else []


def over(models: int, findings: int) -> list[dict[str, object]]:
    return [model(f"model{m}", *(finding(f"{m}.{f}") for f in range(findings))) for m in range(models)]


def test_a_check_without_findings_says_nothing() -> None:
    assert render(FINE, Style()) == ""


def test_errors_come_first_then_findings_then_remarks_each_in_its_place() -> None:
    assert render(MIXED, Style()).split("\n") == [
        "::error title=paramcount%3A build-failed::broken: Net in broken.py cannot be built%0Agive width",
        "::error file=models.lock.json,line=1,col=1,title=paramcount%3A config::models.lock.json:1:1: no JSON",
        "::error file=models.yaml,line=12,col=21,title=paramcount%3A total"
        "::classifier: total is 23.1M, 600K over the limit of 22.5M",
        "::error file=models.yaml,line=15,col=30,title=paramcount%3A bytes"
        "::classifier: head: bytes is 1.20 MB, 200 KB over the limit of 1.00 MB",
        "::notice file=models.yaml,line=13,col=21,title=paramcount%3A loose-limit"
        "::classifier: the limit of 60K is far above the trainable: it is 1.5K",
    ]


def test_what_the_toolkit_escapes_is_escaped() -> None:
    check = Check([model("50%,a:b", finding("x\r\ny % z: 1, 2", location=at(1, 2, "a,b:c%.yaml")))])
    assert render(check, Style()) == (
        "::error file=a%2Cb%3Ac%25.yaml,line=1,col=2,title=paramcount%3A total::50%25,a:b: x\\r%0Ay %25 z: 1, 2"
    )


def test_a_path_has_no_leading_dot() -> None:
    """GitHub looks for an annotation's file from the root of the repository."""
    check = Check([model("a", finding("over", location=at(3, file="./ci/models.yaml")))])
    assert commands(check)[0].properties["file"] == "ci/models.yaml"


def test_ten_findings_are_ten_annotations() -> None:
    assert [command.message for command in commands(Check(over(1, 10)))] == [f"model0: 0.{n}" for n in range(10)]


def test_of_more_than_ten_the_last_annotation_sums_up_the_rest() -> None:
    found = commands(Check(over(5, 4)))
    assert len(found) == 10
    assert found[8] == Command("error", {"title": "paramcount: total"}, "model2: 2.0")
    assert found[9] == Command("error", {"title": "paramcount"}, "and 11 more findings in 3 models")


def test_errors_that_are_left_out_are_called_errors() -> None:
    check = Check([], [error("models.yaml", f"mistake {number}") for number in range(12)])
    assert commands(check)[9].message == "and 3 more errors"


def test_remarks_take_only_the_room_that_is_left() -> None:
    remarks = tuple(note(f"remark {number}") for number in range(4))
    failing = [finding(f"finding {number}") for number in range(8)]

    found = commands(Check([model("a", *failing, notes=remarks)]))
    assert [command.name for command in found] == ["error"] * 8 + ["notice"] * 2
    assert [command.message for command in found[8:]] == ["a: remark 0", "and 3 more remarks in 1 model"]

    found = commands(Check([model("a", *failing, *failing, notes=remarks)]))
    assert [command.name for command in found] == ["error"] * 10


def test_a_lone_remark_is_a_notice() -> None:
    check = Check([model("a", notes=(note("no longer needed", "unneeded-allowance"),))])
    assert commands(check) == [Command("notice", {"title": "paramcount: unneeded-allowance"}, "a: no longer needed")]


@settings(deadline=None)
@given(checks())
def test_whatever_the_names_the_runner_reads_each_message_whole(check: Check) -> None:
    found = [
        (visible_lines(f"x{item['message']}")[1:], visible_lines(f"x{item['rule']}")[1:], item["location"])
        for report in check.reports
        for item in report["findings"]
    ]
    read_back = commands(check)
    assert len(read_back) <= 10
    assert all(command.name in {"error", "notice"} for command in read_back)
    if len(found) + len(check.errors) > 10:
        return
    findings = [command for command in read_back if command.name == "error"][len(check.errors) :]
    assert len(findings) == len(found)
    for command, (message, rule, location) in zip(findings, found, strict=True):
        assert command.message.endswith((message, visible_lines(message)))
        assert command.properties["title"].rstrip() == f"paramcount: {rule}".rstrip()  # the runner trims the end
        assert command.properties.get("line") == (str(location["line"]) if location else None)
        assert command.properties.get("file") == (visible_lines(location["file"]) if location else None)
