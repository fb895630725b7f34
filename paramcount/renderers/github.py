"""Annotations on GitHub: workflow commands, which a runner reads from a step's output.

What is escaped, and how: https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts; what reads it:
https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paramcount.grid import Result, Style
from paramcount.harmless import visible_lines
from paramcount.renderers.findings import Issue, issues
from paramcount.units import plural

# A step may have ten annotations of a kind, the runner drops the rest: _maxCountPerIssueType in
# https://github.com/actions/runner/blob/main/src/Runner.Worker/ExecutionContext.cs
_MOST = 10
_DATA = str.maketrans({"%": "%25", "\n": "%0A"})
_PROPERTY = _DATA | str.maketrans({":": "%3A", ",": "%2C"})


def render(result: Result, style: Style) -> str:  # noqa: ARG001
    """Return a line for each error and finding, then for each remark that there is room for; "" for none of them."""
    found = issues(result.to_dict())
    failures = _capped("error", [issue for issue in found if issue.kind != "remark"], _MOST)
    remarks = _capped("notice", [issue for issue in found if issue.kind == "remark"], _MOST - len(failures))
    return "\n".join([*failures, *remarks])


def _capped(command: str, found: Sequence[Issue], room: int) -> list[str]:
    """Return at most ``room`` commands, of which the last sums up what the others leave out."""
    if len(found) <= room:
        return [_annotation(command, issue) for issue in found]
    if not room:
        return []
    shown, rest = found[: room - 1], found[room - 1 :]
    return [*_capped(command, shown, room), _command(command, {"title": "paramcount"}, _summed_up(rest))]


def _summed_up(rest: Sequence[Issue]) -> str:
    kinds = {issue.kind for issue in rest}
    if kinds == {"error"}:  # not every error is a model's
        return f"and {plural(len(rest), 'more error')}"
    noun = "more remark" if kinds == {"remark"} else "more finding"
    return f"and {plural(len(rest), noun)} in {plural(len({issue.model for issue in rest}), 'model')}"


def _annotation(command: str, issue: Issue) -> str:
    place = issue.place
    where = {"file": place.file, "line": str(place.line), "col": str(place.column)} if place else {}
    return _command(command, where | {"title": f"paramcount: {issue.rule}"}, issue.text)


def _command(command: str, properties: Mapping[str, str], message: str) -> str:
    listed = ",".join(f"{key}={_escaped(value, _PROPERTY)}" for key, value in properties.items())
    return f"::{command} {listed}::{_escaped(message, _DATA)}"


def _escaped(text: str, escapes: Mapping[int, str]) -> str:
    return visible_lines(text).translate(escapes)  # the log that shows a message acts on control characters
