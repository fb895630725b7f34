"""JUnit reports, read back by junitparser."""

from __future__ import annotations

from hypothesis import given, settings
from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from paramcount.grid import Style
from paramcount.harmless import visible_lines
from paramcount.renderers.junit import render
from tests.renderers.checks import FINE, MIXED, Check, checks, error, finding, model, uncounted

# https://www.w3.org/TR/xml/#charsets
LEGAL = {0x9, 0xA, 0xD} | set(range(0x20, 0xD800)) | set(range(0xE000, 0xFFFE))


def cases(check: Check) -> list[TestCase]:
    """Return the tests, once all counts are found to be true."""
    text = render(check, Style())
    assert text.isascii()
    document = JUnitXml.fromstring(text.encode())
    (suite,) = document
    assert isinstance(suite, TestSuite)
    found = list(suite)
    for counted in (document, suite):
        assert counted.name == "paramcount"
        assert counted.tests == len(found)
        assert counted.failures == sum(isinstance(result, Failure) for case in found for result in case.result)
        assert counted.errors == sum(isinstance(result, Error) for case in found for result in case.result)
    assert all(case.classname == "paramcount" and len(case.result) <= 1 for case in found)
    return found


def summary(case: TestCase) -> tuple[object, ...]:
    return (case.name, *((type(result), result.type, result.message, result.text) for result in case.result))


def test_the_document_is_what_servers_read() -> None:
    assert render(Check([model("a"), model("b", finding("over & out"))]), Style()) == (
        "<?xml version='1.0' encoding='us-ascii'?>\n"
        '<testsuites name="paramcount" tests="2" failures="1" errors="0">\n'
        '  <testsuite name="paramcount" tests="2" failures="1" errors="0" skipped="0">\n'
        '    <testcase classname="paramcount" name="a" />\n'
        '    <testcase classname="paramcount" name="b">\n'
        '      <failure type="total" message="over &amp; out">over &amp; out</failure>\n'
        "    </testcase>\n"
        "  </testsuite>\n"
        "</testsuites>"
    )


def test_a_model_is_a_test_that_passes_where_its_budget_is_met() -> None:
    assert [summary(case) for case in cases(FINE)] == [("classifier",), ("reference",)]


def test_a_model_fails_with_all_its_findings_and_what_cannot_be_counted_is_an_error() -> None:
    lines = (
        "models.yaml:12:21: total is 23.1M, 600K over the limit of 22.5M\n"
        "models.yaml:15:30: head: bytes is 1.20 MB, 200 KB over the limit of 1.00 MB"
    )
    broken = "Net in broken.py cannot be built\ngive width"
    unread = "models.lock.json:1:1: no JSON"
    assert [summary(case) for case in cases(MIXED)] == [
        ("classifier", (Failure, "total", "total is 23.1M, 600K over the limit of 22.5M (and 1 more)", lines)),
        ("broken", (Error, "build-failed", broken, broken)),
        ("reference",),
        ("models.lock.json", (Error, "config", unread, unread)),
    ]


def test_a_limit_that_cannot_be_judged_is_an_error() -> None:
    unknowable = "total cannot be judged: 1 lazy parameter has no shape yet"
    (case,) = cases(Check([uncounted("lazy", finding(unknowable))]))
    assert summary(case) == ("lazy", (Error, "total", unknowable, unknowable))


def test_a_model_without_counts_is_an_error_even_if_nothing_says_why() -> None:
    (case,) = cases(Check([uncounted("broken")]))
    assert summary(case) == ("broken", (Error, "error", "could not be counted", "could not be counted"))


def test_an_error_beside_good_counts_is_an_error() -> None:
    (case,) = cases(Check([model("a")], [error("models.lock.json", "has no such model", name="a")]))
    assert summary(case) == ("a", (Error, "build-failed", "has no such model", "has no such model"))


def test_errors_about_one_file_are_one_test() -> None:
    """GitLab ignores a second test of the same name."""
    (case,) = cases(Check([], [error("models.yaml", "one", "config"), error("models.yaml", "two", "config")]))
    assert summary(case) == ("models.yaml", (Error, "config", "one (and 1 more)", "one\ntwo"))


@settings(deadline=None)
@given(checks())
def test_whatever_the_names_the_parser_reads_them_whole(check: Check) -> None:
    found = cases(check)
    names = [visible_lines(report["name"]) for report in check.reports]
    assert [case.name for case in found[: len(names)]] == names
    for case, report in zip(found, check.reports, strict=False):
        text = case.result[0].text if case.result else ""
        for item in report["findings"]:
            # At the start of a line, :: would be a command.
            assert visible_lines(f"x{item['message']}")[1:] in (text or "").replace("\\x3a", ":")
