"""Configurations that libraries keep beside a model's weights: JSON objects, mostly in a config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paramcount.errors import ParamcountError, UnknownTarget, UnreadableFile
from paramcount.files.ranges import opened, parent, within
from paramcount.jsons import MalformedJson, load
from paramcount.urls import is_url, shown

_LONGEST = 10_000_000  # bytes; thousands of layers, each quantised in its own way, take less than one


class BadConfiguration(ParamcountError):
    """A configuration is there, and no model can be built from it."""

    code = "bad-configuration"


def read_configuration(file: Path) -> dict[str, Any]:
    """Return what a configuration says; numbers may be infinite, which JSON itself does not have.

    Raises:
        BadConfiguration: it cannot be read, or is no JSON object.

    """
    try:
        said = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise BadConfiguration(f"{file}:{error.lineno}: it is not JSON: {error.msg}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise BadConfiguration(f"{file}: it is not JSON: {error}") from error
    except OSError as error:
        raise BadConfiguration(f"{file}: {error.strerror or error}") from error
    if not isinstance(said, dict):
        raise BadConfiguration(f"{file}: a configuration is a JSON object, and this is something else")
    return said


def beside(path: str, name: str = "config.json") -> Mapping[str, Any] | None:
    """Return what the config in the folder of ``path`` says; None where there is none.

    Raises:
        UnreadableFile: it cannot be read, or is no mapping in JSON.

    """
    address = within(parent(path), name)
    file = shown(address)
    try:
        with opened(address) as config:
            size = config.size
            data = config.read(0, size) if size <= _LONGEST else b""
    except UnknownTarget:
        return None
    except UnreadableFile:
        if is_url(address):  # what one address gives access to is often that file alone
            return None
        raise
    if size > _LONGEST:
        raise UnreadableFile(f"{file} is no model's configuration: it is {size:,} bytes long")
    try:
        found = load(data)
    except MalformedJson as error:
        raise UnreadableFile(f"{error.place(file)}: {error.problem}") from error
    if not isinstance(found, dict):
        raise UnreadableFile(f"{file} is no model's configuration: it is no mapping")
    return found
