"""Names files in results for CI servers as these name them: from the root of the repository, wherever a check runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paramcount.grid import Grid, Result

FORMATS = {"github", "gitlab", "junit", "sarif"}
_ROOTS = ("GITHUB_WORKSPACE", "CI_PROJECT_DIR")  # where GitHub and GitLab have the repository


@dataclass(frozen=True, slots=True)
class InRepository:
    """A check's result, whose files are named from the root of the repository that holds them."""

    result: Result

    def grids(self) -> list[Grid]:
        """Return the tables as they are."""
        return self.result.grids()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document with other names of files."""
        said = self.result.to_dict()
        reports = [
            {**report, **{key: list(map(_renamed, report[key])) for key in ("findings", "notes") if key in report}}
            for report in said["reports"]
        ]
        return {**said, "reports": reports, "errors": list(map(_renamed, said["errors"]))}


def for_servers(form: str, result: Result) -> Result:
    """Return what to render in a form: those for CI servers get the files as the server names them."""
    return InRepository(result) if form in FORMATS else result


def _renamed(said: Mapping[str, Any]) -> Mapping[str, Any]:
    place = said.get("location")
    if not place or (file := _from_root(place["file"])) is None:
        return said
    before, after = (f"{name}:{place['line']}:{place['column']}" for name in (place["file"], file))
    message = said["message"]
    if message.startswith(before):
        message = after + message.removeprefix(before)
    return {**said, "message": message, "location": {**place, "file": file}}


def _from_root(file: str) -> str | None:
    """Return the name of a file from the root of the repository; None where that is not known to hold it."""
    path = Path(file)
    for root in filter(None, map(os.environ.get, _ROOTS)):
        try:
            return str((path.parent.resolve() / path.name).relative_to(Path(root).resolve()))
        except (OSError, ValueError):  # it is elsewhere
            continue
    return None
