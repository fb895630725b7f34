"""Static Analysis Results Interchange Format 2.1.0, for code scanning.

The format: https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/sarif-v2.1.0-errata01-os-complete.html; what of
it GitHub asks for: https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from paramcount.grid import Result, Style
from paramcount.renderers.findings import Issue, Place, issues, somewhere, statuses
from paramcount.renderers.json import dumps

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"finding": "error", "remark": "note"}
_LIMIT_HELP = "Make the model smaller, or raise the limit in models.yaml if the model is meant to cost that much."
_RULES = {  # a short description, and what to do
    "total": ("The number of parameters has a limit", _LIMIT_HELP),
    "trainable": ("The number of parameters that train has a limit", _LIMIT_HELP),
    "frozen": ("The number of parameters that do not train has a limit", _LIMIT_HELP),
    "active": ("The number of parameters that a token passes through has a limit", _LIMIT_HELP),
    "bytes": ("The bytes that the parameters take have a limit", _LIMIT_HELP),
    "buffers": ("The number of elements in buffers has a limit", _LIMIT_HELP),
    "growth": ("A model may not grow too much at a time", "If the growth is meant, run paramcount lock."),
    "locked": ("A model is as models.lock.json says", "If the change is meant, run paramcount lock."),
    "allow": ("An allowance has expired", "Make the model smaller, or give the allowance a later date."),
    "remark": ("Something about a budget is worth a look", "Follow it up, or leave it: a remark fails nothing."),
    "unneeded-allowance": ("An allowance is no longer needed", "Remove it from models.yaml."),
    "loose-limit": ("A limit is far above what it limits", "Lower it in models.yaml."),
}


def render(result: Result, style: Style) -> str:  # noqa: ARG001
    """Return the log of one run, with a result for each finding and remark; errors are what the tool met."""
    document = result.to_dict()
    found = issues(document)
    errors = [issue for issue in found if issue.kind == "error"]
    results = [issue for issue in found if issue.kind != "error"]
    rules = list(dict.fromkeys(issue.rule for issue in results))
    driver = {
        "name": "paramcount",
        "version": document["paramcount_version"],
        "rules": [_descriptor(rule) for rule in rules],
    }
    invocation = {
        "executionSuccessful": not errors and "error" not in statuses(document).values(),
        "toolExecutionNotifications": [_notification(error) for error in errors],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",  # as PyYAML counts
        "invocations": [invocation],
        "results": [_result(issue, rules, somewhere(found)) for issue in results],
    }
    return dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


def _descriptor(rule: str) -> dict[str, Any]:
    short, what_to_do = _RULES.get(rule, (f"A check by the name of {rule}", "See the documentation of models.yaml."))
    return {"id": rule, "shortDescription": {"text": short}, "help": {"text": what_to_do}}


def _result(issue: Issue, rules: Sequence[str], elsewhere: Place) -> dict[str, Any]:
    # GitHub refuses a whole file of which one result has no location.
    location = _physical(issue.place or elsewhere) | {"logicalLocations": [_logical(issue)]}
    return {
        "ruleId": issue.rule,
        "ruleIndex": rules.index(issue.rule),
        "level": _LEVELS[issue.kind],
        "message": _message(issue),
        "locations": [location],
        "partialFingerprints": {"modelRuleLayer/v1": issue.fingerprint},
    }


def _notification(error: Issue) -> dict[str, Any]:
    notification = {"level": "error", "descriptor": {"id": error.rule}, "message": _message(error)}
    return notification | ({"locations": [_physical(error.place)]} if error.place else {})


def _message(issue: Issue) -> dict[str, str]:
    """Return a message in which a reader finds no placeholders (§3.11.5) and no links (§3.11.6)."""
    return {"text": issue.text.replace("{", "{{").replace("}", "}}").replace("](", r"]\x28")}


def _physical(place: Place) -> dict[str, Any]:
    """Return a file as a URI without a scheme (RFC 3986, 4.2), which the place of the SARIF file does not change."""
    region = {"startLine": place.line, "startColumn": place.column}
    return {"physicalLocation": {"artifactLocation": {"uri": quote(place.file)}, "region": region}}


def _logical(issue: Issue) -> dict[str, str]:
    """Return a layer by its dotted name, or the model that holds it all."""
    if not issue.layer:
        return {"name": issue.model, "kind": "module"}
    return {"name": issue.layer, "fullyQualifiedName": f"{issue.model}.{issue.layer}", "kind": "module"}
