"""JSON objects that libraries keep beside a model's weights: configurations, mostly in a config.json, and indexes."""

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
    try:
        return mapping(address, "model's configuration", most=_LONGEST)
    except UnknownTarget:
        return None
    except Misfit:
        raise
    except UnreadableFile:
        if is_url(address):  # what one address gives access to is often that file alone
            return None
        raise


class Misfit(UnreadableFile):
    """A file is there, and is not what its name says."""


def mapping(path: str, what: str, *, most: int) -> dict[str, Any]:
    """Return the mapping in a file of JSON, which is to be ``what`` in up to so many bytes.

    Raises:
        UnknownTarget: there is no such file.
        UnreadableFile: it cannot be read.
        Misfit: it is something else.

    """
    place = shown(path)
    with opened(path) as file:
        if file.size > most:
            raise Misfit(f"{place} is no {what}: it is {file.size:,} bytes long")
        data = file.read(0, file.size)
    try:
        found = load(data)
    except MalformedJson as error:
        raise Misfit(f"{error.place(place)}: {error.problem}") from error
    if not isinstance(found, dict):
        raise Misfit(f"{place} is no {what}: it is no mapping")
    return found
