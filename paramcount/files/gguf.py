"""Reads the header of a GGUF file, by the constants of the format's own library.

That library's reader makes an array of every word of the vocabulary; here all that describes no tensor is stepped over.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; the reference implementation, whose rules are
the stricter: https://github.com/ggml-org/ggml/blob/master/src/gguf.cpp.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from paramcount.errors import UnreadableFile
from paramcount.files.kinds import demand_kind
from paramcount.files.ranges import Ranges
from paramcount.files.safetensors import quoted
from paramcount.files.state_dict import Stored

# What PyTorch has is called as it calls it; the types of blocks keep the format's names.
_DTYPES = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
}
_MAGIC = b"GGUF"
_AGAIN = "fetch or convert it again"
_CODES = {"UINT8": "B", "INT8": "b", "BOOL": "B", "UINT16": "H", "INT16": "h", "UINT32": "I", "INT32": "i"} | {
    "FLOAT32": "f",
    "UINT64": "Q",
    "INT64": "q",
    "FLOAT64": "d",
}
_LARGEST = 2**63 - 1  # number of elements, and of bytes
_MOST_DIMENSIONS = 4  # GGML_MAX_DIMS
_LONGEST_NAME = 65_535  # bytes, of a key by the specification; tensors' names are shorter
_MOST_TEXTS = 2**21  # in all lists together: thrice the largest vocabulary's, with how its words merge
MOST_TENSORS = 2**18  # a hundred times those of the largest model
_MOST_FIELDS = 2**16
_MOST_NAMED = 64 * 2**20  # bytes of all names
_DEEPEST = 8  # lists in lists
_SMALLEST_FIELD = 13  # bytes: an empty name, a type and a value
_SMALLEST_TENSOR = 24  # bytes: an empty name, no dimensions, a type and an offset
_WINDOW = 65_536  # bytes to read at a time
_MOST_OF_A_PIPE = 256 * 2**20  # bytes that a header may take where nobody knows the file's size


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    values: dict[str, int]  # those of its fields that are whole numbers
    tensors: tuple[Stored, ...]  # in the file's order


def header(file: Ranges) -> Header:
    """Return what a file says of itself and its tensors, whose shapes are in PyTorch's order: the rows' length last.

    Raises:
        ImportError: the ``gguf`` library is not installed.
        UnreadableFile: it is no GGUF file, or breaks a rule of the format.

    """
    try:
        return _Reader(file).header()
    except _Misfit as error:
        raise UnreadableFile(f"{file.name} is no valid GGUF file: {error}", hint=error.hint) from error


class _Misfit(ValueError):
    """What a header says breaks a rule of the format."""

    def __init__(self, problem: str, hint: str = _AGAIN) -> None:
        super().__init__(problem)
        self.hint = hint


class _Reader:
    """Steps through a header once."""

    def __init__(self, file: Ranges) -> None:
        from gguf import constants

        self._constants = constants
        self._file = file
        self._position = 0
        self._order = "<"
        self._window = b""
        self._window_start = 0
        self._texts_left = _MOST_TEXTS
        self._names_left = _MOST_NAMED

    def header(self) -> Header:
        if self._file.upto(0, len(_MAGIC)) != _MAGIC:
            demand_kind(self._file, "gguf")
            raise _Misfit("it does not begin with GGUF", _AGAIN)
        self._position = len(_MAGIC)
        self._read_version()
        number_of_tensors, number_of_fields = self._number("Q"), self._number("Q")
        self._demand_room(number_of_fields, _SMALLEST_FIELD, "fields", _MOST_FIELDS)
        values = self._fields(number_of_fields)
        self._demand_room(number_of_tensors, _SMALLEST_TENSOR, "tensors", MOST_TENSORS)
        return Header(values, self._tensors(number_of_tensors, self._alignment(values)))

    # The bytes

    def _take(self, length: int) -> bytes:
        start = self._position - self._window_start
        if start < 0 or start + length > len(self._window):
            self._demand(length)
            self._window, self._window_start = self._file.upto(self._position, max(length, _WINDOW)), self._position
            start = 0
            if len(self._window) < length:
                raise self._cut_short(self._position + len(self._window))
        self._position += length
        return self._window[start : start + length]

    def _skip(self, length: int) -> None:
        self._demand(length)
        self._position += length

    def _demand(self, length: int) -> None:
        size = self._file.known_size
        if size is not None and self._position + length > size:
            raise self._cut_short(size)
        if size is None and self._position + length > _MOST_OF_A_PIPE:
            raise _Misfit(f"its header takes over {_MOST_OF_A_PIPE:,} bytes", "save it as a file, and count that")

    @staticmethod
    def _cut_short(size: int) -> _Misfit:
        return _Misfit(f"its header goes on after its {size:,} bytes: it is cut short")

    def _demand_room(self, number: int, smallest: int, what: str, most: int | None = None) -> None:
        size = self._file.known_size
        if number * smallest > (_MOST_OF_A_PIPE if size is None else size) - self._position:
            room = "a header" if size is None else f"its {size:,} bytes"
            raise _Misfit(f"it cannot hold {number:,} {what} in {room}")
        if most is not None and number > most:
            raise _Misfit(f"it has {number:,} {what}, and over {most:,} are not read")

    def _number(self, code: str) -> Any:
        (value,) = struct.unpack(self._order + code, self._take(struct.calcsize("=" + code)))
        return value

    def _name(self) -> str:
        length = self._number("Q")
        if length > _LONGEST_NAME:
            raise _Misfit(f"a name is {length:,} bytes long, and {_LONGEST_NAME:,} are allowed")
        self._names_left -= length
        if self._names_left < 0:
            raise _Misfit(f"its names take over {_MOST_NAMED:,} bytes")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise _Misfit("a name is not UTF-8 text") from error

    # What they say

    def _read_version(self) -> None:
        """Read the version, whose bytes tell the file's byte order, too."""
        written = self._take(4)
        if written[:2] == b"\0\0":
            self._order = ">"
        (version,) = struct.unpack(self._order + "I", written)
        if version not in {2, self._constants.GGUF_VERSION}:
            raise _Misfit(f"its version {version} is unknown", _UPGRADE)

    def _fields(self, number: int) -> dict[str, int]:
        values: dict[str, int] = {}
        seen: set[str] = set()
        for _ in range(number):
            key = self._name()
            if key in seen:
                raise _Misfit(f"it has the field {quoted(key)} twice")
            seen.add(key)
            kind = self._kind(key)
            if kind in _CODES:
                if key == self._constants.Keys.General.ALIGNMENT and kind != "UINT32":
                    raise _Misfit(f"its alignment is of the type {kind}, and must be UINT32")
                value = self._number(_CODES[kind])
                if isinstance(value, int):
                    values[key] = value
            else:
                self._skip_value(kind, key, 0)
        return values

    def _kind(self, key: str) -> str:
        number = self._number("I")
        try:
            return str(self._constants.GGUFValueType(number).name)
        except ValueError as error:
            raise _Misfit(f"the field {quoted(key)} is of the unknown type {number}", _UPGRADE) from error

    def _skip_value(self, kind: str, key: str, depth: int) -> None:
        if kind in _CODES:
            self._skip(struct.calcsize("=" + _CODES[kind]))
        elif kind == "STRING":
            self._skip(self._number("Q"))
        elif kind == "ARRAY":
            self._skip_list(key, depth + 1)
        else:
            raise _Misfit(f"the field {quoted(key)} is of the unknown type {kind}")

    def _skip_list(self, key: str, depth: int) -> None:
        if depth > _DEEPEST:
            raise _Misfit(f"the field {quoted(key)} is nested too deep")
        kind, number = self._kind(key), self._number("Q")
        if kind in _CODES:
            self._skip(number * struct.calcsize("=" + _CODES[kind]))
            return
        self._demand_room(number, 8, f"values of {quoted(key)}")
        self._texts_left -= number
        if self._texts_left < 0:
            raise _Misfit(f"the field {quoted(key)} has {number:,} values, more than any vocabulary")
        if kind == "STRING":
            self._skip_texts(number)
            return
        for _ in range(number):
            self._skip_value(kind, key, depth)

    def _skip_texts(self, number: int) -> None:
        """Step over texts, of which a vocabulary has a million: as many at once as there are in the window."""
        length_of = struct.Struct(self._order + "Q")
        while number:
            self._skip(length_of.unpack(self._take(length_of.size))[0])
            number -= 1
            window, at = self._window, self._position - self._window_start
            last = len(window) - length_of.size
            while number and at <= last:
                at += length_of.size + length_of.unpack_from(window, at)[0]
                number -= 1
            self._skip(self._window_start + at - self._position)

    def _tensors(self, number: int, alignment: int) -> tuple[Stored, ...]:
        """Return all tensors, which must follow each other, each aligned, and all be in the file."""
        found: dict[str, Stored] = {}
        starts: list[int] = []
        expected: int | None = 0
        for _ in range(number):
            tensor, start = self._tensor()
            if tensor.name in found:
                raise _Misfit(f"it describes {quoted(tensor.name)} twice")
            if expected is not None and start != expected:
                raise _Misfit(f"{quoted(tensor.name)} begins at {start:,}, and should at {expected:,}")
            if starts and start < starts[-1]:
                raise _Misfit(f"{quoted(tensor.name)} begins at {start:,}, before the one that it follows")
            found[tensor.name] = tensor
            starts.append(start)
            # Of a type that the library does not know, only the next tensor tells where it ends.
            expected = None if _is_unknown(tensor) else _aligned(start + tensor.nbytes, alignment)
        held = None if self._file.known_size is None else self._file.known_size - _aligned(self._position, alignment)
        tensors = list(found.values())
        ends = [*starts[1:], held]
        for at, (tensor, start, end) in enumerate(zip(tensors, starts, ends, strict=False)):
            if _is_unknown(tensor) and end is not None:
                tensors[at] = tensor._replace(nbytes=end - start)
                _demand_plausible(tensors[at], alignment)
        # A pipe is not read to its end for that.
        end = starts[-1] + tensors[-1].nbytes if tensors else 0
        if held is not None and end > held:
            raise _Misfit(f"its tensors take {end:,} bytes, and {max(held, 0):,} are there: it is cut short")
        return tuple(tensors)

    def _tensor(self) -> tuple[Stored, int]:
        """Return a tensor, and where its bytes begin after the header."""
        name = self._name()
        dimensions = self._number("I")
        if dimensions > _MOST_DIMENSIONS:
            raise _Misfit(f"{quoted(name)} has {dimensions} dimensions, and {_MOST_DIMENSIONS} are allowed")
        shape = tuple(reversed([self._number("Q") for _ in range(dimensions)]))
        number = self._number("I")
        try:
            kind = self._constants.GGMLQuantizationType(number)
            block, size = self._constants.GGML_QUANT_SIZES[kind]
            known = kind.name
        except (ValueError, KeyError):  # newer than the library: how many elements there are is known all the same
            known, block, size = f"{UNKNOWN}{number}", 1, 0
        return _stored(name, shape, known, block, size), self._number("Q")

    def _alignment(self, values: dict[str, int]) -> int:
        alignment = values.get(self._constants.Keys.General.ALIGNMENT, self._constants.GGUF_DEFAULT_ALIGNMENT)
        if alignment <= 0 or alignment & (alignment - 1):
            raise _Misfit(f"its alignment is {alignment}, which is no power of two")
        return int(alignment)


UNKNOWN = "type "  # before the number of a type that the library does not know
_UPGRADE = "where the file is newer than the library, pip install --upgrade gguf"


def _demand_plausible(tensor: Stored, alignment: int) -> None:
    """Demand of a tensor of an unknown type that a weight takes from one to 64 bits."""
    if not tensor.numel <= 8 * tensor.nbytes <= 8 * (8 * tensor.numel + alignment):
        problem = f"{tensor.nbytes:,} bytes are there for {tensor.numel:,} weights"
        raise _Misfit(f"{quoted(tensor.name)} is of the unknown {tensor.dtype}, and {problem}", _UPGRADE)


def _is_unknown(tensor: Stored) -> bool:
    return tensor.dtype.startswith(UNKNOWN)


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _stored(name: str, shape: tuple[int, ...], kind: str, block: int, size: int) -> Stored:
    numel = 1
    for each in shape:
        numel *= each
        if each > _LARGEST or numel > _LARGEST:
            raise _Misfit(f"{quoted(name)} has the shape {list(shape)}, of more elements than the format can count")
    row = shape[-1] if shape else 1
    if row % block:
        raise _Misfit(f"{quoted(name)} has rows of {row:,}, which are no whole blocks of {block}")
    nbytes = numel // block * size
    if nbytes > _LARGEST:
        raise _Misfit(f"{quoted(name)} has the shape {list(shape)}, of more bytes than the format can count")
    return Stored(name, shape, _DTYPES.get(kind, kind), numel, nbytes, packed=kind not in _DTYPES)
