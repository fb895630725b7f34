"""Reads the config.json that libraries keep beside a file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paramcount.errors import UnknownTarget, UnreadableFile
from paramcount.files.ranges import opened, parent, within
from paramcount.jsons import MalformedJson, load
from paramcount.urls import is_url, shown

_LONGEST = 10_000_000  # bytes; thousands of layers, each quantised in its own way, take less than one


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
        place = file if error.line is None else f"{file}:{error.line}"
        raise UnreadableFile(f"{place}: {error.problem}") from error
    if not isinstance(found, dict):
        raise UnreadableFile(f"{file} is no model's configuration: it is no mapping")
    return found
