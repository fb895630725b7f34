"""What the formats for CI servers report: errors, findings and remarks, read from what a check says as JSON."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Literal

Kind = Literal["error", "finding", "remark"]
_REMARKS = {"remark", "unneeded-allowance", "loose-limit"}  # codes of the notes on a budget, not on a model
# No encoding can hold half of a UTF-16 pair, though a name read from YAML or from a file system may have one.
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file; line and column count from 1."""

    file: str  # with forward slashes, as every CI server wants it
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        """Return «models.yaml:7:5»."""
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that a check has to say."""

    kind: Kind
    model: str  # its name in models.yaml; of an error that is no model's, what it is about
    rule: str  # or the code of an error or a remark
    layer: str  # "" is the whole model
    message: str
    place: Place | None
    fingerprint: str = ""  # the same in every run, whatever the numbers and lines; no two issues share it

    @property
    def text(self) -> str:
        """The message with the name of the model, which a message by itself leaves out."""
        is_named = not self.model or self.message.startswith(f"{self.model}:")
        return self.message if is_named else f"{self.model}: {self.message}"


def issues(document: Mapping[str, Any]) -> list[Issue]:
    """Return all that there is to say, the gravest first."""
    seen: Counter[tuple[str, str, str]] = Counter()
    identified = []
    for issue in (*_errors(document), *_findings(document), *_remarks(document)):
        key = (issue.model, issue.rule, issue.layer)
        # Two patterns can put the same limit on one layer: their order tells them apart.
        identity = json.dumps([*key, seen[key]])
        seen[key] += 1
        identified.append(replace(issue, fingerprint=hashlib.sha256(identity.encode()).hexdigest()))
    return identified


def statuses(document: Mapping[str, Any]) -> dict[str, str]:
    """Return ok, over or error for each model, by the name that its issues have."""
    return {spelt_out(report["name"], _SURROGATES): report["status"] for report in document["reports"]}


def somewhere(found: Sequence[Issue]) -> Place:
    """Return the place of what has none, for a format that insists on one: the file that the others are in."""
    return next((Place(issue.place.file) for issue in found if issue.place is not None), Place("models.yaml"))


def spelt_out(text: str, characters: re.Pattern[str]) -> str:
    r"""Return ``text`` with ``characters``, which a format cannot hold, as Python writes them: ``\x00``."""
    return characters.sub(lambda match: ascii(match[0])[1:-1], text)


def _errors(document: Mapping[str, Any]) -> Iterator[Issue]:
    uncounted = [report for report in document["reports"] if "total" not in report]
    for error in document["errors"]:
        yield _issue("error", _model(error, uncounted), error["code"], "", error)


def _model(error: Mapping[str, Any], uncounted: list[Mapping[str, Any]]) -> str:
    """Return the name of the model that an error is about; where there is none, what it is about."""
    if name := error.get("name"):
        return str(name)
    target = str(error.get("target") or "")
    for report in uncounted:
        if target == report["target"]:
            uncounted.remove(report)  # Models may share a target: their errors come in the order of the models.
            return str(report["name"])
    return target


def _findings(document: Mapping[str, Any]) -> Iterator[Issue]:
    for report in document["reports"]:
        for finding in report["findings"]:
            yield _issue("finding", report["name"], finding["rule"], finding["layer"], finding)


def _remarks(document: Mapping[str, Any]) -> Iterator[Issue]:
    for report in document["reports"]:
        for note in report.get("notes", ()):
            if note["code"] in _REMARKS:
                yield _issue("remark", report["name"], note["code"], note["where"], note)


def _issue(kind: Kind, model: str, rule: str, layer: str, source: Mapping[str, Any]) -> Issue:
    message = "\n".join(filter(None, [source["message"], source.get("hint")]))
    model, rule, layer, message = (spelt_out(text, _SURROGATES) for text in (model, rule, layer, message))
    return Issue(kind, model, rule, layer, message, _place(source.get("location")))


def _place(location: Mapping[str, Any] | None) -> Place | None:
    if not location:
        return None
    file = PurePath(spelt_out(location["file"], _SURROGATES)).as_posix()
    return Place(file, location.get("line") or 1, location.get("column") or 1)
