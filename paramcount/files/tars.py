"""Finds the file of weights in a tar archive, as in NeMo's, where it lies: nothing is unpacked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from paramcount.errors import UnreadableFile
from paramcount.files.ranges import Inside, Ranges
from paramcount.files.torch_folders import is_weights
from paramcount.inventory import Note

_BLOCK = 512  # bytes
_MOST_MEMBERS, _MOST_REQUESTS = 20_000, 100
_LONGEST_NAME = 2**16
_ATTRIBUTE = rb"(?m)^[0-9]+ (path|size)=([^\n]*)$"
_FILES, _LONG_NAME, _ATTRIBUTES = {b"\0", b"0", b"7"}, b"L", b"x"  # types of members
_OLD = {"sys_info", "pickle", "tensors", "storages"}  # torch.save before 0.1.10
_SAFETENSORS = ".safetensors"
_LISTED = 3


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive."""

    name: str
    start: int  # of its bytes
    size: int


def weights(file: Ranges) -> tuple[Ranges, Note]:
    """Return the one file of weights in a tar archive, as a file of its own, and what to say of it.

    The format is that of https://www.gnu.org/software/tar/manual/html_node/Standard.html and of POSIX's pax.

    Raises:
        UnreadableFile: there is none, or there are several, or the archive is damaged.

    """
    members = list(_members(file))
    names = {member.name.removeprefix("./") for member in members}
    if names >= _OLD:
        message = f"{file.name} is a tar archive, as PyTorch saved before 0.1.10"
        raise UnreadableFile(message, hint="have whoever made it save it again with a newer PyTorch")
    found = [each for each in members if _is_weights(each.name)]
    if len(found) != 1:
        raise _choice(file.name, found, names)
    name = found[0].name
    others = sorted(names - {name.removeprefix("./")})
    beside = f"; beside it lies {', '.join(others[:_LISTED])}" if others else ""
    note = Note("left-out", "", f"what is counted is {name} in the tar archive{beside}")
    return Inside(file, name, found[0].start, found[0].size), note


def old_pickles(file: Ranges) -> Iterator[Ranges]:
    """Yield what PyTorch before 0.1.10 pickled into an archive."""
    for each in _members(file):
        if each.name.removeprefix("./") in _OLD:
            yield Inside(file, each.name, each.start, each.size)


def is_tar(start: bytes) -> bool:
    """Whether a file begins as a tar archive does."""
    return start[257:262] == b"ustar"


def _is_weights(name: str) -> bool:
    last = name.rpartition("/")[2]
    return not last.startswith(".") and (is_weights(last) or last.endswith((_SAFETENSORS, ".gguf")))


def _choice(name: str, found: list[Member], names: set[str]) -> UnreadableFile:
    if not found:
        held = ", ".join(sorted(names)[:_LISTED]) or "nothing"
        return UnreadableFile(f"{name} is a tar archive without a file of weights: it holds {held}")
    listed = ", ".join(each.name for each in found[:_LISTED]) + (" and more" if len(found) > _LISTED else "")
    hint = f"unpack it, and count what is meant: tar -xf {name} {found[0].name}"
    return UnreadableFile(f"{name} is a tar archive with {listed} in it", hint=hint)


def to_be_unpacked(name: str, member: str) -> UnreadableFile:
    """Return the error for an archive that holds one file of weights which is not read inside of it."""
    member = member.removeprefix(f"{name}, ")
    hint = f"unpack it, and count that: tar -xf {name} {member}"
    return UnreadableFile(f"{name} is a tar archive with {member} in it", hint=hint)


def _members(file: Ranges) -> Iterator[Member]:
    at, number, said = 0, 0, dict[str, str]()  # what the member before says of the next
    most = _MOST_REQUESTS if file.is_far else _MOST_MEMBERS
    while any(header := file.upto(at, _BLOCK)):
        number += 1
        if number > most or len(header) < _BLOCK:
            what = "is cut short" if len(header) < _BLOCK else f"holds more than {most:,} files"
            raise UnreadableFile(f"{file.name} is a tar archive that {what}", hint="unpack it, and count a file in it")
        size, kind, start = _number(file.name, header[124:136]), header[156:157], at + _BLOCK
        if kind == _LONG_NAME:
            said["path"] = _text(file.upto(start, min(size, _LONGEST_NAME)))
        elif kind == _ATTRIBUTES:
            said.update(_attributes(file.upto(start, min(size, _LONGEST_NAME))))
        else:
            size = int(said["size"]) if said.get("size", "").isdecimal() else size
            if kind in _FILES:
                yield Member(said.get("path") or _name(header), start, size)
            said = {}
        at = start + -(-size // _BLOCK) * _BLOCK


def _name(header: bytes) -> str:
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{_text(header[:100])}" if prefix else _text(header[:100])


def _attributes(data: bytes) -> dict[str, str]:
    """Return what pax says of the next member: lines of a length, a key and a value."""
    return {match[1].decode(): _text(match[2]) for match in re.finditer(_ATTRIBUTE, data)}


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _number(name: str, written: bytes) -> int:
    """Return a size: in octal digits, or in bytes where it takes more."""
    if written[0] & 0x80:
        return int.from_bytes(written[4:], "big")
    try:
        return int(written.strip(b" \0") or b"0", 8)
    except ValueError as error:
        raise UnreadableFile(f"{name} is a tar archive that is damaged", hint="fetch or save it again") from error
