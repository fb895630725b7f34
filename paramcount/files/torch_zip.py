"""Finds the records of a zip archive that torch.save wrote, and reads the small ones."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from paramcount.files.ranges import Inside, Ranges

# The records of https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3 and 4.5.
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4s4x2H8x2I3H8xI")  # without versions, times, checksums and attributes
_LOCAL = struct.Struct("<4s5H3I2H")
_LONGEST_COMMENT = 2**16 - 1
_IN_EXTRA = 2**32 - 1  # a field that says: the real value is in the zip64 extra field
_STORED, _DEFLATED = 0, 8
_OF_PACKING = 2**10  # bytes that packing adds at most to what hardly gets smaller
_ENCRYPTED = 0x1

_MOST_ENTRIES = 400_000
_LARGEST_DIRECTORY = 64 * 2**20


class MalformedZip(ValueError):
    """Bytes that are no zip archive, or one that contradicts itself."""


class AlikeEntries(MalformedZip):
    """Records of one name. Which of them torch.load takes is not for anyone to guess."""

    def __init__(self, name: str, entries: list[Entry]) -> None:
        """Take the name that several have, and all records of the archive."""
        super().__init__(
            f"it holds {name!r} twice, if capital and small letters are the same, as they are to torch.load"
        )
        self.entries = entries


class Entry(NamedTuple):
    """A record of an archive."""

    name: str
    flags: int
    method: int
    packed: int  # bytes in the file
    size: int  # bytes
    header: int  # where its local header starts


def entries(file: Ranges) -> dict[str, Entry]:
    """Return the records of an archive by name, from its central directory alone.

    torch.load finds a record whatever the case of its letters: mz_zip_reader_locate_file() in miniz.

    Raises:
        AlikeEntries: two have one name.
        MalformedZip: it has no such directory, or one that is damaged, or that no torch.save wrote.

    """
    number, size, start = _directory(file)
    if number > _MOST_ENTRIES or size > _LARGEST_DIRECTORY or number * _CENTRAL.size > size:
        raise MalformedZip(f"its directory is said to hold {number:,} entries in {size:,} bytes")
    data = file.read(start, size)
    found: dict[str, Entry] = {}
    alike: list[Entry] = []
    at = 0
    for _ in range(number):
        entry, at = _entry(data, at)
        if entry.name in found:
            alike.append(entry)
        if entry.header + _LOCAL.size + entry.packed > start:
            raise MalformedZip(f"{entry.name!r} reaches beyond the file's data")
        found.setdefault(entry.name, entry)
    if alike or len({name.lower() for name in found}) < len(found):
        raise AlikeEntries(_alike([*found, *(entry.name for entry in alike)]), [*found.values(), *alike])
    return found


def _alike(names: Iterable[str]) -> str:
    """Return the first name that is another, but for capital letters."""
    known: set[str] = set()
    for name in names:
        if name.lower() in known:
            return name
        known.add(name.lower())
    raise AssertionError


def content(file: Ranges, entry: Entry, *, most: int) -> bytes:
    """Return a record's bytes. Its checksum is not looked at: torch.save can be told to leave it out.

    Raises:
        MalformedZip: it is larger than ``most``, packed in a way that torch.load cannot read, or damaged.

    """
    if entry.size > most or entry.packed > most:
        raise MalformedZip(f"{entry.name!r} is said to hold {max(entry.size, entry.packed):,} bytes")
    data = file.read(_start(file, entry), entry.packed)
    if entry.method == _DEFLATED:
        data = _inflated(data, entry)
    elif entry.method != _STORED:
        raise MalformedZip(f"{entry.name!r} is packed by method {entry.method}, which torch.save does not use")
    if len(data) != entry.size:
        raise MalformedZip(f"{entry.name!r} does not hold the {entry.size:,} bytes that the directory says")
    return data


def beginning(file: Ranges, entry: Entry, *, most: int) -> bytes:
    """Return what a record begins with, up to ``most`` bytes.

    Raises:
        MalformedZip: it is packed in a way that cannot be read, or damaged.

    """
    data = file.read(_start(file, entry), min(entry.packed, most + _OF_PACKING))
    if entry.method == _STORED:
        return data[:most]
    if entry.method != _DEFLATED:
        raise MalformedZip(f"{entry.name!r} is packed by method {entry.method}")
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, most)
    except zlib.error as error:
        raise MalformedZip(f"{entry.name!r} cannot be unpacked") from error


def _start(file: Ranges, entry: Entry) -> int:
    """Return where a record's bytes begin."""
    if entry.flags & _ENCRYPTED:
        raise MalformedZip(f"{entry.name!r} is encrypted")
    local = _LOCAL.unpack(file.read(entry.header, _LOCAL.size))
    if local[0] != b"PK\x03\x04":
        raise MalformedZip(f"{entry.name!r} is not where the directory says")
    return int(entry.header + _LOCAL.size + local[-2] + local[-1])


def inside(file: Ranges, entry: Entry) -> Ranges:
    """Return a record as a file of its own.

    Raises:
        MalformedZip: it is packed, or damaged.

    """
    if entry.method != _STORED or entry.packed != entry.size:
        raise MalformedZip(f"{entry.name!r} is packed, which torch.save does not do")
    return Inside(file, entry.name, _start(file, entry), entry.size)


def _inflated(data: bytes, entry: Entry) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, entry.size + 1)
    except zlib.error as error:
        raise MalformedZip(f"{entry.name!r} cannot be unpacked") from error


def _directory(file: Ranges) -> tuple[int, int, int]:
    """Return the number of entries, and the directory's size and start."""
    length = min(file.size, _END.size + _LONGEST_COMMENT)
    tail = file.read(file.size - length, length)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > length:
        raise MalformedZip("it starts as a zip archive and has no end: it is cut short")
    _, disk, first_disk, here, number, size, start, _ = _END.unpack_from(tail, at)
    end = file.size - length + at
    if end >= _LOCATOR_64.size:
        signature, _, end_64, _ = _LOCATOR_64.unpack(file.read(end - _LOCATOR_64.size, _LOCATOR_64.size))
        if signature == b"PK\x06\x07":
            fields = _END_64.unpack(file.read(end_64, _END_64.size))
            if fields[0] != b"PK\x06\x06":
                raise MalformedZip("its end is damaged")
            disk, first_disk, here, number, size, start = fields[4:]
            end = end_64
    if disk or first_disk or here != number or start + size > end:
        raise MalformedZip("its directory is not where its end says")
    return number, size, start


def _entry(data: bytes, at: int) -> tuple[Entry, int]:
    """Return the entry of the directory at a place, and the place after it."""
    if at + _CENTRAL.size > len(data):
        raise MalformedZip("its directory is cut short")
    signature, flags, method, packed, size, name_length, extra_length, comment, header = _CENTRAL.unpack_from(data, at)
    name_end = at + _CENTRAL.size + name_length
    after = name_end + extra_length + comment
    if signature != b"PK\x01\x02" or after > len(data):
        raise MalformedZip("its directory is damaged")
    if _IN_EXTRA in (packed, size, header):  # a set takes longer to make
        size, packed, header = _large(data[name_end : name_end + extra_length], (size, packed, header))
    name = data[at + _CENTRAL.size : name_end].decode("utf-8", "backslashreplace")
    return Entry(name, flags, method, packed, size, header), after


def _large(extra: bytes, values: tuple[int, ...]) -> tuple[int, ...]:
    """Return the values with those that did not fit taken from the zip64 extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + length]
        at += 4 + length
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{len(field) // 8}Q", field))
            values = tuple(next(wide, _IN_EXTRA) if value == _IN_EXTRA else value for value in values)
            break
    if _IN_EXTRA in values:
        raise MalformedZip("its directory lacks the size of a large entry")
    return values
