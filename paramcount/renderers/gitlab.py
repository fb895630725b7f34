"""A Code Quality report for GitLab's merge requests: https://docs.gitlab.com/ci/testing/code_quality/."""

from __future__ import annotations

from typing import Any

from paramcount.grid import Result, Style
from paramcount.renderers.findings import Issue, Place, issues, somewhere
from paramcount.renderers.json import dumps

_SEVERITIES = {"error": "critical", "finding": "major"}  # of info, minor, major, critical and blocker


def render(result: Result, style: Style) -> str:  # noqa: ARG001
    """Return an array with an object for each error and finding: a remark is no degradation of a model."""
    found = [issue for issue in issues(result.to_dict()) if issue.kind != "remark"]
    return dumps([_degradation(issue, issue.place or somewhere(found)) for issue in found])


def _degradation(issue: Issue, place: Place) -> dict[str, Any]:
    return {
        "description": issue.text,
        "check_name": issue.rule,
        "fingerprint": issue.fingerprint,
        "severity": _SEVERITIES[issue.kind],
        "location": {"path": place.file, "lines": {"begin": place.line}},
    }
