"""One JSON document, stable within a major version of its format."""

from __future__ import annotations

import json

from paramcount.grid import Result, Style
from paramcount.harmless import in_json


def render(result: Result, style: Style) -> str:  # noqa: ARG001
    """Return the document; ASCII only, so that it survives every encoding."""
    return dumps(result.to_dict())


def dumps(document: object) -> str:
    """Return a value as JSON, in which every name is exact, and nothing acts on a log."""
    return in_json(json.dumps(document, indent=2))
