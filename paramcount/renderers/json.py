"""One JSON document, stable within a major version of its format."""

from __future__ import annotations

import json

from paramcount.grid import Result, Style


def render(result: Result, style: Style) -> str:  # noqa: ARG001
    """Return the document; ASCII only, so that it survives every encoding."""
    return json.dumps(result.to_dict(), indent=2)
