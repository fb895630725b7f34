"""Reads NumPy's own files, one array (npy) or an archive of several (npz): their headers, and no array's data."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

from paramcount.errors import UnreadableFile
from paramcount.files import torch_zip
from paramcount.files.arrays import dtype_of, held_array
from paramcount.files.pickles import MOST_BYTES, Cursor, Global, Pairs, Record, Watcher, load
from paramcount.files.ranges import Held, Ranges
from paramcount.files.torch_tensors import Tensor, sizes
from paramcount.files.torch_zip import Entry
from paramcount.inventory import Note
from paramcount.units import plural

MAGIC = b"\x93NUMPY"
LOADER = "numpy.load(allow_pickle=True)"
ENDING = ".npy"
_NAME_OF_ONE = "array"
_LONGEST_HEADER = 2**16  # bytes
_START = _LONGEST_HEADER + 12
_MOST_ARRAYS, _MOST_REQUESTS = 100_000, 100
_LISTED = 3
_NO_NUMBERS = "name a file of arrays of numbers"
# numpy/lib/_format_impl.py writes the header so; Python 2 wrote sizes as 3L.
_HEADER = re.compile(
    r"\{'descr': (?P<descr>'[^']*'|\[.*\]|\(.*\)), 'fortran_order': (?:True|False),"
    r" 'shape': \((?P<shape>(?:[0-9]{1,19}L?(?:, ?|(?=\)))){0,64})\),? *\}\s*",
    re.DOTALL,
)
_NUMBER = re.compile("[0-9]+")
_OBJECTS = re.compile(r"'\|?O[48]?'")


def is_archive(names: Collection[str]) -> bool:
    """Whether the names in a zip archive are those of arrays alone."""
    return bool(names) and all(name.endswith(ENDING) for name in names)


def one(file: Ranges, watcher: Watcher) -> tuple[object, tuple[Note, ...]]:
    """Return the value of a file with one array, as of a mapping with one tensor, and what to say of it.

    Raises:
        UnreadableFile: it is damaged.
        MalformedPickle: it holds Python objects, which cannot be read.

    """
    reader = _Reader(watcher)
    value = reader.array(file.name, file, _NAME_OF_ONE)
    # numpy.save() of a mapping makes an array of one object.
    root = value if isinstance(value, Pairs) else Pairs([_NAME_OF_ONE, value])
    if value is None:
        raise UnreadableFile(f"{file.name} is an array of text or records, and holds no weights", hint=_NO_NUMBERS)
    return root, tuple(reader.notes())


def archive(file: Ranges, entries: dict[str, Entry], watcher: Watcher) -> tuple[object, tuple[Note, ...]]:
    """Return the value of an archive of arrays, as of a mapping of tensors, and what to say of it.

    Raises:
        UnreadableFile: it is damaged, or holds more arrays than any model has.
        MalformedZip: the same.
        MalformedPickle: it holds Python objects, which cannot be read.

    """
    most = _MOST_REQUESTS if file.is_far else _MOST_ARRAYS
    if len(entries) > most:
        hint = "fetch the file, and count it here" if file.is_far else None
        raise UnreadableFile(f"{file.name} holds {len(entries):,} arrays, and each would take a look", hint=hint)
    reader, root = _Reader(watcher), Pairs()
    for key, entry in entries.items():
        name = key.removesuffix(ENDING)
        value = reader.array(f"{file.name}, {key}", _content(file, entry), name)
        if value is not None:
            root.flat += (name, value)
    if not root.flat:
        raise UnreadableFile(f"{file.name} holds arrays of text or records alone, and no weights", hint=_NO_NUMBERS)
    return root, tuple(reader.notes())


def distinct(entries: list[Entry]) -> dict[str, Entry] | None:
    """Return arrays whose names differ in capital letters alone, which to NumPy are two; None if some are equal."""
    found = {entry.name: entry for entry in entries}
    return found if len(found) == len(entries) and is_archive(found) else None


def _content(file: Ranges, entry: Entry) -> Ranges:
    """Return an entry as a file of its own; where it is packed, its beginning, and the rest as if it were there."""
    if entry.packed == entry.size:
        return torch_zip.inside(file, entry)
    return _Unpacked(entry.name, torch_zip.beginning(file, entry, most=_START), lambda: _all(file, entry), entry.size)


def _all(file: Ranges, entry: Entry) -> bytes:
    return torch_zip.content(file, entry, most=MOST_BYTES)


class _Unpacked(Held):
    """The beginning of a packed entry, and all of it once that is needed."""

    def __init__(self, name: str, start: bytes, whole: Callable[[], bytes], size: int) -> None:
        super().__init__(name, start)
        self.size = self.known_size = size
        self._whole: Callable[[], bytes] | None = whole

    def upto(self, start: int, length: int) -> bytes:
        if start + length > len(self._data) and self._whole is not None and len(self._data) < self.size:
            self._data, self._whole = self._whole(), None
        return super().upto(start, length)


class _Reader:
    """Reads arrays, and keeps what to say of those that are no tensors."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._others: list[str] = []
        self._pickled: list[str] = []

    def notes(self) -> Iterator[Note]:
        yield Note("arrays", "", "its arrays are NumPy's, and no tensors: each counts as the tensor it would be")
        if self._others:
            is_one = len(self._others) == 1
            what = f"{plural(len(self._others), 'array')} of text, records or other kinds {'is' if is_one else 'are'}"
            yield Note("left-out", "", f"{what} left out: {_listed(self._others)}")
        if self._pickled:
            what = "holds Python objects" if len(self._pickled) == 1 else "hold Python objects"
            message = f"{_listed(self._pickled)} {what}, which numpy.load() unpickles only with allow_pickle=True"
            yield Note("pickled-array", "", message)

    def array(self, place: str, file: Ranges, name: str) -> object:
        """Return the tensor that an array would be, or the objects in it; None where it is of another kind."""
        start = file.upto(0, min(_START, file.known_size or _START))
        header, end = _header(place, start)
        shape = sizes(tuple(map(int, _NUMBER.findall(header["shape"]))))
        if _OBJECTS.fullmatch(header["descr"]):
            self._pickled.append(name)
            return held_array(load(Cursor(b"", _fetch(file, end)), lambda _: None, watcher=self._watcher))
        dtype = dtype_of(header["descr"].strip("'"))
        if dtype is None:
            self._others.append(name)
            return None
        tensor = Tensor(shape, dtype, requires_grad=False)
        if file.known_size is not None and end + tensor.nbytes > file.known_size:
            raise UnreadableFile(
                f"{place} is cut short: its array takes {tensor.nbytes:,} bytes", hint="fetch it again"
            )
        return Record(_ARRAY, known=tensor)


_ARRAY = Global("numpy", "ndarray")


def _fetch(file: Ranges, end: int) -> Callable[[int, int], bytes]:
    return lambda start, least: file.upto(end + start, max(least, _LONGEST_HEADER))


def _header(place: str, start: bytes) -> tuple[dict[str, str], int]:
    """Return what a header says, and where it ends."""
    long = start[6:7] != b"\1"
    at = 12 if long else 10
    end = at + int.from_bytes(start[8:at], "little")
    match = _HEADER.fullmatch(start[at:end].decode("latin-1"))
    if not start.startswith(MAGIC) or end > len(start) or match is None:
        raise UnreadableFile(
            f"{place} is no array of NumPy's: its header cannot be read", hint="fetch or save it again"
        )
    return match.groupdict(), end


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
