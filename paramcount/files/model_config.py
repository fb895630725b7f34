"""Reads the config.json that libraries keep beside a file of weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from paramcount.errors import UnknownTarget, UnreadableFile
from paramcount.files.ranges import opened
from paramcount.jsons import MalformedJson, load

_LONGEST = 10_000_000  # bytes; thousands of layers, each quantised in its own way, take less than one


def beside(path: str, name: str = "config.json") -> Mapping[str, Any] | None:
    """Return what the config in the folder of ``path`` says; None where there is none.

    Raises:
        UnreadableFile: it cannot be read, or is no mapping in JSON.

    """
    file = os.path.join(os.path.dirname(path), name)  # noqa: PTH118, PTH120  # a Path would drop the ./ of the user
    try:
        with opened(file) as config:
            if config.size > _LONGEST:
                raise UnreadableFile(f"{file} is no model's configuration: it is {config.size:,} bytes long")
            data = config.read(0, config.size)
    except UnknownTarget:
        return None
    try:
        found = load(data)
    except MalformedJson as error:
        place = file if error.line is None else f"{file}:{error.line}"
        raise UnreadableFile(f"{place}: {error.problem}") from error
    if not isinstance(found, dict):
        raise UnreadableFile(f"{file} is no model's configuration: it is no mapping")
    return found
