"""A test report, one test a model, in the XML that CI servers read.

As Jenkins's schema has it, which is Surefire's with fewer demands:
https://github.com/jenkinsci/xunit-plugin/blob/master/src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd/junit-10.xsd.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from paramcount.grid import Result, Style
from paramcount.harmless import visible_lines
from paramcount.renderers.findings import Issue, issues, statuses

_OUTCOMES = {"over": "failure", "error": "error"}  # what a test has inside, by the status of its model


def render(result: Result, style: Style) -> str:  # noqa: ARG001
    """Return the document; ASCII only, so that it survives every encoding."""
    said = result.to_dict()
    found = [issue for issue in issues(said) if issue.kind != "remark"]
    # What is about no model, such as a file that cannot be read, is a test of its own: nobody would see it elsewhere.
    tests = statuses(said) | {issue.model: "error" for issue in found if issue.kind == "error"}
    root = _suites(tests, found)
    indent(root)
    document: bytes = tostring(root, encoding="us-ascii", xml_declaration=True)
    return document.decode("ascii")


def _suites(tests: Mapping[str, str], found: Sequence[Issue]) -> Element:
    outcomes = Counter(tests.values())
    counts = {"tests": str(len(tests)), "failures": str(outcomes["over"]), "errors": str(outcomes["error"])}
    root = Element("testsuites", {"name": "paramcount"} | counts)
    suite = SubElement(root, "testsuite", {"name": "paramcount"} | counts | {"skipped": "0"})
    for name, status in tests.items():
        case = SubElement(suite, "testcase", {"classname": "paramcount", "name": _legal(name) or "paramcount"})
        if status in _OUTCOMES:
            _explain(SubElement(case, _OUTCOMES[status]), [issue for issue in found if issue.model == name])
    return root


def _explain(outcome: Element, found: Sequence[Issue]) -> None:
    """Say all in the text, which GitLab shows, and the first of it in the attributes.

    It is one element, however much there is to say: many readers take the first and leave the rest.
    """
    message = found[0].message if found else "could not be counted"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    outcome.set("type", _legal(found[0].rule if found else "error"))
    outcome.set("message", _legal(message + more))
    outcome.text = _legal("\n".join(_line(issue) for issue in found) or message)


def _line(issue: Issue) -> str:
    if issue.place is None or issue.message.startswith(str(issue.place)):
        return issue.message
    return f"{issue.place}: {issue.message}"


def _legal(text: str) -> str:
    return visible_lines(text)  # all that is left is in https://www.w3.org/TR/xml/#charsets
