"""Reads the header of a safetensors file, and refuses what the format's reference implementation refuses.

The format: https://huggingface.co/docs/safetensors/index#format; the reference implementation, whose rules are the
stricter: https://github.com/huggingface/safetensors/blob/main/safetensors/src/tensor.rs.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from functools import cache, partial
from itertools import pairwise
from sys import getsizeof
from typing import Any, NoReturn

from paramcount.errors import UnreadableFile
from paramcount.files.kinds import demand_kind
from paramcount.files.packed import LONGEST_VALUE, PACKED_SHAPE, VALUES
from paramcount.files.ranges import Ranges
from paramcount.files.state_dict import Stored
from paramcount.jsons import MalformedJson, load

# What each element takes in bits, and what PyTorch calls it; it has no six-bit floats, whose names are ml_dtypes'.
_DTYPES = {
    "BOOL": (8, "bool"),
    "F4": (4, "float4_e2m1fn_x2"),
    "F6_E2M3": (6, "float6_e2m3fn"),
    "F6_E3M2": (6, "float6_e3m2fn"),
    "U8": (8, "uint8"),
    "I8": (8, "int8"),
    "F8_E5M2": (8, "float8_e5m2"),
    "F8_E4M3": (8, "float8_e4m3fn"),
    "F8_E8M0": (8, "float8_e8m0fnu"),
    "F8_E4M3FNUZ": (8, "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": (8, "float8_e5m2fnuz"),
    "I16": (16, "int16"),
    "U16": (16, "uint16"),
    "F16": (16, "float16"),
    "BF16": (16, "bfloat16"),
    "I32": (32, "int32"),
    "U32": (32, "uint32"),
    "F32": (32, "float32"),
    "C64": (64, "complex64"),
    "F64": (64, "float64"),
    "I64": (64, "int64"),
    "U64": (64, "uint64"),
}
_LENGTH = 8  # bytes of the number before the header, which says how long that is
_LONGEST_HEADER = 100_000_000  # bytes
_LARGEST = 2**64 - 1  # of any size, product of sizes and number of bits
_METADATA = "__metadata__"
_KEYS = {"dtype", "shape", "data_offsets"}

# The header is read entry by entry, each of bounded size: a hostile one could otherwise take gigabytes as objects.
_MOST_TENSORS = 250_000  # mixtures of 400 experts in 60 layers have 200,000, in all their files together
_MOST_UNUSUAL = 100_000  # tensors that are described in a way that no common writer has, which takes longer to read
_MOST_KINDS = 1000  # dtypes and shapes that are remembered
_MOST_MEMORY = 64_000_000  # bytes, that names and shapes take as Python keeps them
_MOST_DIMENSIONS = 128
_LONGEST_ENTRY = 65_536  # bytes, as for a name
_LONGEST_TEXT = 10_000_000  # bytes, of the metadata
_MOST_TEXTS = 100_000  # in the metadata
_BLANK = rb"[ \t\n\r]*+"
_TEXT = rb'"(?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])*+"'
_KEY = re.compile(_BLANK + rb"(" + _TEXT + rb")" + _BLANK + rb":" + _BLANK)
_PAIR = re.compile(_BLANK + rb"(" + _TEXT + rb")" + _BLANK + rb":" + _BLANK + rb"(" + _TEXT + rb")" + _BLANK)
_AFTER = re.compile(_BLANK + rb"([,}])")
_REST = re.compile(_BLANK + rb"\Z")
_EMPTY = re.compile(rb"\{" + _BLANK + rb"\}")
# What the common writers write of a tensor; anything else goes through a JSON reader, which comes to the same, slowly.
_NUMBER = rb"(?:0|[1-9][0-9]{0,18})"  # always within 64 bits
_SIZES = rb"(?:%(n)b(?:%(b)b,%(b)b%(n)b){0,63}+)?+"
_TENSOR = (
    rb'%(b)b"(?!%(m)b")([^"\\\x00-\x1f]{1,1000}+)"%(b)b:%(b)b\{%(b)b("dtype"%(b)b:%(b)b"(?:%(d)b)"%(b)b,'
    rb'%(b)b"shape"%(b)b:%(b)b\[%(b)b' + _SIZES + rb"%(b)b\])%(b)b,"
    rb'%(b)b"data_offsets"%(b)b:%(b)b\[%(b)b(%(n)b)%(b)b,%(b)b(%(n)b)%(b)b\]%(b)b\}%(b)b([,}])'
)
_MINUS_ZERO = re.compile(rb"-0" + _BLANK + rb"[,\]]")
_AGAIN = "fetch or save it again"
_PIECES = b'"DCP_SHARDING_INFO"'  # where torch.distributed.checkpoint says which part of a tensor is there
_NULL = b"null"
_OFFSETS = _PIECES + _BLANK + rb":" + _BLANK + rb"(" + _TEXT + rb")"
_NEAR = 64 * 2**10  # bytes between two values that are read at once
_MOST_REQUESTS = 100  # for values
_LONGEST_SHOWN = 200  # characters of a name


def tensors(file: Ranges) -> list[Stored]:
    """Return the tensors of a file, ordered by their names, with the numbers in those as numbers.

    The library's writer orders them by dtype, and then as text, in which ``layers.10`` comes before ``layers.2``.

    Raises:
        UnreadableFile: it is no safetensors file, or breaks a rule of the format.

    """
    text = _header(file)
    begin = _LENGTH + len(text)
    try:
        _demand_number(text)
        spans = _described(text)
        spans.sort()
        _demand_layout(spans, None if file.known_size is None else file.known_size - begin)
        stored = [tensor for _, _, tensor in spans]
        places = [(begin + spans[place][0], place) for place, tensor in enumerate(stored) if _says_more(tensor)]
        for place, tensor in _with_values(stored, places, file):
            stored[place] = tensor
        if _PIECES in text:
            stored = list(_with_offsets(stored, text))
    except (_Misfit, MalformedJson, UnicodeDecodeError) as error:
        problem = "its header is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise UnreadableFile(f"{file.name} is no valid safetensors file: {problem}", hint=_AGAIN) from error
    return in_order(stored)


def in_order(stored: Iterable[Stored]) -> list[Stored]:
    """Return tensors ordered by the parts of their names, numbers as numbers and before words."""
    place = _Places().__getitem__
    return sorted(stored, key=lambda tensor: list(map(place, tensor.name.split("."))))


def quoted(name: str) -> str:
    """Return a name for a message, on one line; a very long one is cut."""
    return repr(name if len(name) <= _LONGEST_SHOWN else name[:_LONGEST_SHOWN] + "…")


class _Places(dict[str, str]):
    """What puts the part of a name in its place, for each part that was met: of a number, its length goes first."""

    def __missing__(self, part: str) -> str:
        is_number = part.isascii() and part.isdecimal()
        place = self[part] = f"{len(part):09}{part}" if is_number else part
        return place


class _Misfit(ValueError):
    """What a header says breaks a rule of the format."""


# The header's bytes ---------------------------------------------------------------------------------------------------


def _header(file: Ranges) -> bytes:
    start = file.upto(0, _LENGTH)
    if len(start) < _LENGTH:
        raise UnreadableFile(
            f"{file.name} is no safetensors file: it is {len(start)} bytes long, too short for a header",
            hint=_AGAIN,
        )
    demand_kind(file, "safetensors")
    length = int.from_bytes(start, "little")
    if length > _LONGEST_HEADER:
        raise UnreadableFile(
            f"{file.name} is no safetensors file: its header would take {length:,} bytes,"
            f" and the format allows {_LONGEST_HEADER:,}",
            hint=_AGAIN,
        )
    if length == 0 or file.upto(_LENGTH, 1) not in {b"{", b""}:
        raise UnreadableFile(f"{file.name} is no safetensors file: its header does not begin with {{", hint=_AGAIN)
    header = file.upto(_LENGTH, length)
    if len(header) < length:
        raise UnreadableFile(
            f"{file.name} is cut short: its header takes {length:,} bytes, and {len(header):,} are there",
            hint=_AGAIN,
        )
    return header


def _demand_number(text: bytes) -> None:
    """Refuse too many tensors before they are read, by the key that each has once."""
    number = text.count(b'"data_offsets"')
    if number > _MOST_TENSORS:
        raise _Misfit(f"its header describes {number:,} tensors, and no model has over {_MOST_TENSORS:,}")


@cache
def _tensor(blank: bytes) -> re.Pattern[bytes]:
    """Return the pattern of a tensor whose parts have blanks between them, or none."""
    names = {b"n": _NUMBER, b"b": blank, b"d": "|".join(_DTYPES).encode(), b"m": _METADATA.encode()}
    return re.compile(_TENSOR % names)


# The header's entries -------------------------------------------------------------------------------------------------

_Span = tuple[int, int, Stored]  # where a tensor's bytes begin and end, and what else the header says of it
_Kind = tuple[Any, ...]  # a Stored without its name
_SHAPE, _NBYTES = 0, 3  # places in it
_Entry = tuple[_Kind | None, int, int]  # and where its bytes begin and end; None: it is the metadata


def _described(text: bytes) -> list[_Span]:
    """Return what the header says of each tensor, in its order."""
    spans: list[_Span] = []
    if empty := _EMPTY.match(text):
        _demand_end(text, empty.end())
        return spans
    names: set[str] = set()
    kinds: dict[bytes, _Kind] = {}  # by dtype and shape as they are written: most tensors share theirs
    room, unusual = _MOST_MEMORY, 0
    position, following = 1, b","
    compact, new = _tensor(b""), partial(tuple.__new__, Stored)
    while following == b",":
        kind: _Kind | None
        if usual := compact.match(text, position) or _tensor(_BLANK).match(text, position):
            literal, form, start, end, following = usual.groups()
            position = usual.end()
            name, begin, stop = literal.decode(), int(start), int(end)
            kind = kinds.get(form)
            if kind is None:
                kind = _written(form, name)
                room -= 8 * len(kind[_SHAPE])
                if len(kinds) < _MOST_KINDS:
                    kinds[form] = kind
        else:
            name, (kind, begin, stop), position, following = _unusual(text, position)
            room -= 8 * len(kind[_SHAPE]) if kind else 0
            unusual += 1
        if name in names:
            raise _Misfit(f"it describes {quoted(name)} twice")
        names.add(name)
        room -= getsizeof(name)
        if room < 0 or unusual > _MOST_UNUSUAL:
            raise _Misfit(
                f"it describes over {len(names) - 1:,} tensors, more or with longer names and shapes than any has"
            )
        if kind is not None:
            if stop - begin != kind[_NBYTES]:
                raise _wrong_offsets(name, kind[_NBYTES], begin, stop)
            spans.append((begin, stop, new((name, *kind))))
    _demand_end(text, position)
    return spans


def _written(form: bytes, name: str) -> _Kind:
    """Return what a tensor is by its dtype and shape, as the header has them."""
    said = load(b"{%b}" % form)
    return _kind(name, said["dtype"], said["shape"])


def _unusual(text: bytes, position: int) -> tuple[str, _Entry, int, bytes]:
    """Return a name, its entry, where the next one begins, and what is before that."""
    name, position = _name(text, position)
    entry: _Entry = None, 0, 0
    if name == _METADATA:
        position = _skip_metadata(text, position)
    else:
        entry, position = _entry(text, position, name)
    after = _AFTER.match(text, position) or _malformed(position)
    return name, entry, after.end(), after[1]


def _demand_end(text: bytes, position: int) -> None:
    if not _REST.match(text, position):
        _malformed(position)


def _malformed(position: int) -> NoReturn:
    raise _Misfit(f"its header is not well-formed JSON at byte {_LENGTH + position:,}")


def _name(text: bytes, position: int) -> tuple[str, int]:
    key = _KEY.match(text, position) or _malformed(position)
    return _decoded(key, 1, _LONGEST_ENTRY), key.end()


def _decoded(found: re.Match[bytes], group: int, longest: int) -> str:
    if found.end(group) - found.start(group) > longest:
        raise _Misfit(f"it has a text of over {longest:,} bytes at byte {_LENGTH + found.start(group):,}")
    return _text(found[group][1:-1])


def _text(literal: bytes) -> str:
    """Return what is written between two quotes."""
    if b"\\" not in literal:
        return literal.decode()
    text = str(load(b'"%b"' % literal))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Misfit(f"the text {quoted(text)} has half of a surrogate pair, which is no character") from error
    return text


def _skip_metadata(text: bytes, position: int) -> int:
    """Return where the metadata ends, which must map text to text, or be null."""
    if empty := _EMPTY.match(text, position):
        return empty.end()
    if text.startswith(_NULL, position):
        return position + len(_NULL)
    if text[position : position + 1] != b"{":
        raise _Misfit(f"{_METADATA} is no mapping of text to text")
    keys: set[str] = set()
    room = _LONGEST_TEXT
    following = b","
    while following == b",":
        pair = _PAIR.match(text, position + 1)
        if pair is None:
            raise _Misfit(f"{_METADATA} is no mapping of text to text")
        key, _ = _decoded(pair, 1, _LONGEST_ENTRY), _decoded(pair, 2, _LONGEST_TEXT)
        if key in keys:
            raise _Misfit(f"{_METADATA} has {quoted(key)} twice")
        room -= getsizeof(key)
        if len(keys) == _MOST_TEXTS or room < 0:
            raise _Misfit(f"{_METADATA} has over {len(keys):,} keys, more or longer ones than any writer writes")
        keys.add(key)
        position = pair.end()
        following = text[position : position + 1]
    if following != b"}":
        _malformed(position)
    return position + 1


def _with_offsets(stored: Iterable[Stored], text: bytes) -> Iterator[Stored]:
    """Yield tensors with where each begins in the whole one that it is a piece of, as the metadata say in JSON.

    torch/distributed/checkpoint/_hf_utils.py.
    """
    found = re.search(_OFFSETS, text)
    said = load(_decoded(found, 1, _LONGEST_TEXT).encode()) if found else None
    for tensor in stored:
        entry = said.get(tensor.name) if isinstance(said, dict) else None
        offset = entry.get("saved_offsets") if isinstance(entry, dict) else None
        is_offset = isinstance(offset, list) and _are_sizes(offset) and len(offset) == len(tensor.shape)
        yield tensor._replace(offset=tuple(offset)) if is_offset and offset is not None else tensor


def _entry(text: bytes, position: int, name: str) -> tuple[_Entry, int]:
    if text[position : position + 1] != b"{":
        raise _Misfit(f"what it says of {quoted(name)} is no mapping")
    after = text.find(b"}", position, position + _LONGEST_ENTRY) + 1
    if not after:
        raise _Misfit(f"what it says of {quoted(name)} does not end, or is of over {_LONGEST_ENTRY:,} bytes")
    try:
        values = load(text[position:after])
    except MalformedJson as error:
        raise _Misfit(f"what it says of {quoted(name)} cannot be read: {error.problem}") from error
    if _MINUS_ZERO.search(text, position, after):  # which Python takes for 0, and the format for a fraction
        raise _Misfit(f"{quoted(name)} has a negative zero for a size")
    return _checked(values, name), after


def _checked(values: dict[str, Any], name: str) -> _Entry:
    if values.keys() != _KEYS:
        wrong = min(values.keys() ^ _KEYS)
        problem = "has no" if wrong in _KEYS else "has an unknown key"
        raise _Misfit(f"{quoted(name)} {problem} {quoted(wrong)}")
    dtype, shape, offsets = values["dtype"], values["shape"], values["data_offsets"]
    if isinstance(shape, list) and len(shape) > _MOST_DIMENSIONS:
        raise _Misfit(f"{quoted(name)} has {len(shape):,} dimensions, and no tensor has over {_MOST_DIMENSIONS:,}")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise _Misfit(f"{quoted(name)} has the unknown dtype {_value(dtype)}")
    if not _are_sizes(shape):
        raise _Misfit(f"{quoted(name)} has the shape {_value(shape)}, and sizes are whole numbers from 0 to 2**64 - 1")
    if not _are_sizes(offsets) or len(offsets) != 2:  # noqa: PLR2004  # where its bytes begin and end
        raise _Misfit(f"{quoted(name)} has the data_offsets {_value(offsets)}, which are not two offsets")
    return _kind(name, dtype, shape), offsets[0], offsets[1]


def _are_sizes(value: Any) -> bool:
    # type(), not isinstance(): a bool is an int to Python.
    return isinstance(value, list) and all(type(size) is int and 0 <= size <= _LARGEST for size in value)


def _value(value: Any) -> str:
    written = repr(value)
    return written if len(written) <= _LONGEST_SHOWN else written[:_LONGEST_SHOWN] + "…"


# What the entries come to ---------------------------------------------------------------------------------------------


def _demand_layout(spans: list[_Span], size: int | None) -> None:
    """Demand that the tensors cover all ``size`` bytes after the header, without a hole and without an overlap.

    ``spans`` are in their order in the file. Of what comes from a pipe nobody knows the size: it is not read to its
    end for that.
    """
    covered = 0
    for start, end, tensor in spans:
        if start > covered:
            name = quoted(tensor.name)
            raise _Misfit(f"before {name} there are {start - covered:,} bytes that belong to no tensor")
        if start < covered:
            raise _Misfit(f"{quoted(tensor.name)} overlaps the tensor before it, by {covered - start:,} bytes")
        covered = end
    if size is None:
        return
    if covered > size:
        raise _Misfit(f"its tensors take {covered:,} bytes, and {size:,} are there: it is cut short")
    if covered < size:
        raise _Misfit(f"its tensors take {covered:,} bytes, and {size:,} are there")


def _says_more(tensor: Stored) -> bool:
    """Whether a tensor's value is small, and says how another tensor is packed."""
    return tensor.nbytes <= LONGEST_VALUE and tensor.name.endswith(VALUES)


def _with_values(stored: list[Stored], places: list[tuple[int, int]], file: Ranges) -> Iterator[tuple[int, Stored]]:
    """Yield the tensors at ``places``, each where its bytes begin and its place in ``stored``, with their values.

    Where each would take a request, and there are many (three for each of tens of thousands of experts), one stands for
    all whose tensors are of the same dtypes and shapes.
    """
    apart = sum(after - before > _NEAR for (before, _), (after, _) in pairwise(places))
    kinds = _kinds(stored, places) if file.is_far and apart > _MOST_REQUESTS else {}
    read: dict[Hashable, bytes] = {}
    for start, place in places:
        tensor = stored[place]
        kind = kinds.get(tensor.name, tensor.name)
        is_of_another = kind in read
        value = read[kind] if is_of_another else file.read(start, tensor.nbytes)
        read[kind] = value
        yield place, tensor._replace(value=value, is_of_another=is_of_another)


def _kinds(stored: list[Stored], places: Iterable[tuple[int, int]]) -> dict[str, Hashable]:
    """Return of each tensor that holds a shape what its module holds: names, dtypes and shapes."""
    shapes = [name for _, place in places if (name := stored[place].name).endswith(PACKED_SHAPE)]
    held: dict[str, list[Hashable]] = {name.removesuffix(PACKED_SHAPE): [] for name in shapes}
    for tensor in stored:
        module, _, key = tensor.name.rpartition(".")
        if module in held:
            held[module].append((key, tensor.dtype, tensor.shape))
    return {name: tuple(held[name.removesuffix(PACKED_SHAPE)]) for name in shapes}


def _kind(name: str, dtype: str, shape: list[int]) -> _Kind:
    bits_each, torch_name = _DTYPES[dtype]
    numel = 1
    for size in shape:  # step by step, as the reference does: a 0 later on does not mend an overflow
        numel *= size
        if numel > _LARGEST:
            raise _Misfit(f"{quoted(name)} has the shape {_value(shape)}, of more elements than the format can count")
    bits = numel * bits_each
    if bits > _LARGEST:
        raise _Misfit(f"{quoted(name)} has the shape {_value(shape)}, of more bits than the format can count")
    if bits % 8:
        raise _Misfit(f"{quoted(name)} takes {bits} bits, which are no whole bytes")
    return Stored("", tuple(shape), torch_name, numel, bits // 8)[1:]


def _wrong_offsets(name: str, nbytes: int, start: int, end: int) -> _Misfit:
    if end < start:
        return _Misfit(f"{quoted(name)} ends before it begins, by its data_offsets [{start}, {end}]")
    return _Misfit(
        f"{quoted(name)} takes {nbytes:,} bytes by its shape and dtype, and {end - start:,} by its data_offsets"
    )
