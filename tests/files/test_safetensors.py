"""The header reader: it says what the reference library says, and refuses at least what that refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file

from paramcount.errors import UnreadableFile
from paramcount.files.ranges import opened
from paramcount.files.safetensors import tensors
from paramcount.files.state_dict import Stored


def packed(header: object, data: bytes = b"") -> bytes:
    """Return a file of a header, as bytes or to be written as JSON, and of what comes after it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8), **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def one(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8), size: int = 8, **more: object) -> bytes:
    """Return a file with the tensor ``a``."""
    return packed({"a": entry(dtype, shape, offsets, **more)}, bytes(size))


Read = Callable[[bytes], list[Stored]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.safetensors"


@pytest.fixture
def read(file: Path) -> Read:
    def read(data: bytes) -> list[Stored]:
        file.write_bytes(data)
        return read_file(file)

    return read


def read_file(file: Path) -> list[Stored]:
    with opened(str(file)) as ranges:
        return tensors(ranges)


def reference(file: Path) -> dict[str, tuple[int, ...]] | None:
    """Return the names and shapes that the reference library finds, or None where it refuses."""
    try:
        with safe_open(file, "numpy") as found:
            return {name: tuple(found.get_slice(name).get_shape()) for name in found.keys()}  # noqa: SIM118  # no dict
    except SafetensorError:
        return None


# What is there --------------------------------------------------------------------------------------------------------

DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32),
    *(torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_saved_tensor_has_its_name_shape_dtype_and_size(dtype: torch.dtype, file: Path) -> None:
    tensor = torch.empty(3, 5, dtype=dtype)
    save_file({"a.b": tensor}, file)
    assert read_file(file) == [Stored("a.b", (3, 5), str(dtype).removeprefix("torch."), 15, tensor.nbytes)]


def test_two_four_bit_floats_share_a_byte(file: Path) -> None:
    save_file({"a": torch.zeros(3, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)}, file)
    assert read_file(file) == [Stored("a", (3, 8), "float4_e2m1fn_x2", 24, 12)]


@pytest.mark.parametrize("name", ["F6_E2M3", "F6_E3M2"])
def test_four_six_bit_floats_take_three_bytes(name: str, read: Read) -> None:
    (stored,) = read(one(name, [2, 4], [0, 6], size=6))
    assert (stored.numel, stored.nbytes, stored.dtype) == (8, 6, f"float6_{name[3:].lower()}fn")


def test_a_scalar_and_an_empty_tensor_have_one_element_and_none(file: Path) -> None:
    save_file({"none": torch.empty(4, 0, 7), "scalar": torch.tensor(1.0)}, file)
    assert [(each.name, each.shape, each.numel) for each in read_file(file)] == [
        ("none", (4, 0, 7), 0),
        ("scalar", (), 1),
    ]


def test_tensors_come_in_the_order_of_their_names_with_numbers_as_numbers(file: Path) -> None:
    names = ["layers.10.w", "layers.9.w", "layers.9.a", "layers.9-b.w", "head", "layers.w", "0"]
    save_file({name: torch.zeros(1, dtype=torch.int8 if "9" in name else torch.float32) for name in names}, file)
    expected = ["0", "head", "layers.9.a", "layers.9.w", "layers.10.w", "layers.9-b.w", "layers.w"]
    assert [each.name for each in read_file(file)] == expected


SOUND = {
    "no tensors": packed({}),
    "only metadata": packed({"__metadata__": {"format": "pt", "note": 'a "quoted" {brace}'}}),
    "empty metadata": packed({"__metadata__": {}}),
    "spaces at the end": packed(json.dumps({"a": entry()}).encode() + b"    ", bytes(8)),
    "line breaks": packed(json.dumps({"__metadata__": {"k": "v"}, "a": entry()}, indent=2).encode(), bytes(8)),
    "compact": packed(json.dumps({"a": entry()}, separators=(",", ":")).encode(), bytes(8)),
    "keys in another order": packed({"a": dict(reversed(entry().items()))}, bytes(8)),
    "escaped names": packed(b'{"\\u00e9\\"\\\\":{"dtype":"\\u00468_E5M2","shape":[8],"data_offsets":[0,8]}}', bytes(8)),
    "a name of many alphabets": packed({"é日本🙂": entry()}, bytes(8)),
    "a nul in a name": packed({"a\0b": entry()}, bytes(8)),
    "an empty name": packed({"": entry()}, bytes(8)),
    "names of dots": packed({"..": entry(), ".": entry(offsets=[8, 16]), "a.": entry(offsets=[16, 24])}, bytes(24)),
    "reversed in the file": packed({"a": entry(offsets=[8, 16]), "b": entry()}, bytes(16)),
    "empty between": packed({"b": entry(), "a": entry(shape=[0], offsets=[8, 8])}, bytes(8)),
    "the largest size of all": one(shape=[0, 2**64 - 1], offsets=[0, 0], size=0),
    "a hundred dimensions": one(shape=[1] * 99 + [2]),
}


@pytest.mark.parametrize("data", SOUND.values(), ids=SOUND)
def test_what_the_reference_accepts_is_read_as_it_reads_it(data: bytes, read: Read, file: Path) -> None:
    assert {each.name: each.shape for each in read(data)} == reference_of(data, file)


def reference_of(data: bytes, file: Path) -> dict[str, tuple[int, ...]] | None:
    file.write_bytes(data)
    return reference(file)


# What is refused ------------------------------------------------------------------------------------------------------

_DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
_HUGE = b'{"a":{"dtype":"F32","shape":[%b],"data_offsets":[0,8]}}'
MALFORMED = {
    "empty": (b"", "0 bytes long, too short"),
    "half a length": (bytes(4), "4 bytes long, too short"),
    "only a length": ((100).to_bytes(8, "little"), "is cut short: its header takes 100 bytes, and 0 are there"),
    "a header of no bytes": (packed(b""), "does not begin with {"),
    "cut in the header": (one()[:20], "is cut short"),
    "cut in the data": (one()[:-1], "its tensors take 8 bytes, and 7 are there: it is cut short"),
    "no data": (one(size=0), "its tensors take 8 bytes, and 0 are there"),
    "more data": (one(size=9), "its tensors take 8 bytes, and 9 are there"),
    "a header over the cap": ((100_000_001).to_bytes(8, "little") + b"{}", "the format allows 100,000,000"),
    "a length of all ones": (b"\xff" * 8 + b"{}", "would take 18,446,744,073,709,551,615 bytes"),
    "a length of the other byte order": (len(b"{}").to_bytes(8, "big") + b"{}", "the format allows"),
    "a length too short": ((3).to_bytes(8, "little") + one()[8:], "not well-formed JSON"),
    "a length too long": (one()[:0] + (len(one()) - 8).to_bytes(8, "little") + one()[8:], "not well-formed JSON"),
    "a header that is a list": (packed([]), "does not begin with {"),
    "a header that is null": (packed(None), "does not begin with {"),
    "a blank before": (packed(b" {}"), "does not begin with {"),
    "a byte order mark": (packed(b"\xef\xbb\xbf{}"), "does not begin with {"),
    "text after the header": (packed(b"{} x"), "not well-formed JSON at byte 10"),
    "nul padding": (packed(b"{}\0\0"), "not well-formed JSON"),
    "a trailing comma": (packed(b'{"__metadata__":{},}'), "not well-formed JSON"),
    "no end": (packed(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}', bytes(8)), "not well-formed JSON"),
    "two commas": (packed(b'{,"a":1}'), "not well-formed JSON"),
    "a comment": (packed(b"{/**/}"), "not well-formed JSON"),
    "single quotes": (packed(b"{'a':1}"), "not well-formed JSON"),
    "not UTF-8": (packed(b'{"\xff":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)), "not UTF-8"),
    "an overlong nul": (
        packed(b'{"\xc0\x80":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        "not UTF-8",
    ),
    "a lone surrogate": (packed({"\ud800": entry()}, bytes(8)), "half of a surrogate pair"),
    "a bare control character": (packed(b'{"a\nb":1}'), "not well-formed JSON"),
    "a bad escape": (packed(b'{"\\x":1}'), "not JSON"),
    "a name twice": (packed(b'{"a":%(e)b,"a":%(e)b}' % {b"e": json.dumps(entry()).encode()}, bytes(8)), "'a' twice"),
    "a name twice, once escaped": (
        packed(b'{"a":%(e)b,"\\u0061":%(e)b}' % {b"e": json.dumps(entry()).encode()}, bytes(8)),
        "'a' twice",
    ),
    "metadata twice": (packed(b'{"__metadata__":{},"__metadata__":{}}'), "'__metadata__' twice"),
    "a metadata key twice": (packed(b'{"__metadata__":{"k":"v","k":"v"}}'), "__metadata__ has 'k' twice"),
    "metadata with a number": (packed({"__metadata__": {"k": 1}}), "__metadata__ is no mapping of text to text"),
    "metadata with a mapping": (packed({"__metadata__": {"k": {}}}), "__metadata__ is no mapping of text to text"),
    "metadata without end": (packed(b'{"__metadata__":{"k":"v"'), "not well-formed JSON"),
    "metadata with a text of many megabytes": (
        packed({"__metadata__": {"k": "v" * 10_000_000}}),
        "over 10,000,000 bytes",
    ),
    "metadata with very many keys": (
        packed({"__metadata__": dict.fromkeys(map(str, range(100_001)), "")}),
        "100,000 keys",
    ),
    "a very long name": (packed({"a" * 65_536: entry()}, bytes(8)), "a text of over 65,536 bytes at byte 9"),
    "an entry that is null": (packed({"a": None}), "what it says of 'a' is no mapping"),
    "an entry that is a list": (packed({"a": ["F32", [2], [0, 8]]}, bytes(8)), "what it says of 'a' is no mapping"),
    "no dtype": (packed({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)), "'a' has no 'dtype'"),
    "no shape": (packed({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)), "'a' has no 'shape'"),
    "no offsets": (packed({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)), "'a' has no 'data_offsets'"),
    "one key more": (one(strides=[1]), "'a' has an unknown key 'strides'"),
    "a key twice": (packed(b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)), "twice"),
    "a mapping in a shape": (one(shape=[{"b": 1}]), "what it says of 'a' cannot be read"),
    "deep": (packed(_DEEP), "what it says of 'a' is no mapping"),
    "deep in a shape": (packed(_DEEP.replace(b"[", b'{"shape":[', 1)), "what it says of 'a' does not end"),
    "an unknown dtype": (one("F128"), "'a' has the unknown dtype 'F128'"),
    "a dtype in small letters": (one("f32"), "'a' has the unknown dtype 'f32'"),
    "a dtype that is a number": (one(32), "'a' has the unknown dtype 32"),
    "a dtype that is a list": (one(["F32"]), "'a' has the unknown dtype ['F32']"),
    "a negative size": (one(shape=[-2]), "'a' has the shape [-2]"),
    "a negative zero": (one(shape=[-0.0]), "'a' has the shape [-0.0]"),
    "a whole negative zero": (packed(_HUGE % b"2,-0"), "'a' has a negative zero"),
    "a boolean size": (one(shape=[True, 2]), "'a' has the shape [True, 2]"),
    "a fraction": (one(shape=[2.0]), "'a' has the shape [2.0]"),
    "text for a size": (one(shape=["2"]), "'a' has the shape ['2']"),
    "null for a shape": (one(shape=None), "'a' has the shape None"),
    "a number for a shape": (one(shape=2), "'a' has the shape 2"),
    "a shape in a shape": (one(shape=[[2]]), "'a' has the shape [[2]]"),
    "NaN for a size": (packed(_HUGE % b"NaN", bytes(8)), "NaN is no number"),
    "an exponent": (packed(_HUGE % b"2e0", bytes(8)), "'a' has the shape [2.0]"),
    "a leading zero": (packed(_HUGE % b"02", bytes(8)), "what it says of 'a' cannot be read"),
    "a size over 64 bits": (one(shape=[2**64]), "'a' has the shape [18446744073709551616]"),
    "a size of ten thousand digits": (packed(_HUGE % (b"9" * 10_000)), "a number of 10000 digits is too long"),
    "a shape without end": (packed(_HUGE % (b"1," * 50_000 + b"2"), bytes(8)), "does not end, or is of over 65,536"),
    "sizes that overflow": (one(shape=[2**32, 2**32]), "of more elements than the format can count"),
    "sizes that overflow, then none": (one(shape=[2**32, 2**32, 0], offsets=[0, 0], size=0), "of more elements"),
    "bits that overflow": (one(shape=[2**60]), "of more bits than the format can count"),
    "half a byte": (one("F4", [3], [0, 2], size=2), "'a' takes 12 bits, which are no whole bytes"),
    "three quarters of a byte": (one("F6_E2M3", [1], [0, 1], size=1), "'a' takes 6 bits, which are no whole bytes"),
    "a shape larger than its bytes": (
        one(shape=[3]),
        "12 bytes by its shape and dtype, and 8 by its data_offsets",
    ),
    "a shape smaller than its bytes": (one(shape=[1]), "takes 4 bytes by its shape and dtype, and 8 by"),
    "one offset": (one(offsets=[8]), "'a' has the data_offsets [8], which are not two offsets"),
    "three offsets": (one(offsets=[0, 8, 8]), "'a' has the data_offsets [0, 8, 8]"),
    "a boolean offset": (one(offsets=[False, 8]), "'a' has the data_offsets [False, 8]"),
    "a negative offset": (one(offsets=[-8, 0]), "'a' has the data_offsets [-8, 0]"),
    "reversed offsets": (one(offsets=[8, 0]), "'a' ends before it begins"),
    "an offset beyond the end": (one(offsets=[0, 2**63]), "and 9,223,372,036,854,775,808 by its data_offsets"),
    "a hole at the start": (one(offsets=[8, 16], size=16), "before 'a' there are 8 bytes that belong to no tensor"),
    "a hole": (
        packed({"a": entry(), "b": entry(offsets=[12, 20])}, bytes(20)),
        "before 'b' there are 4 bytes that belong to no tensor",
    ),
    "an overlap": (packed({"a": entry(), "b": entry(offsets=[4, 12])}, bytes(12)), "'b' overlaps the tensor before it"),
    "the same bytes twice": (packed({"a": entry(), "b": entry()}, bytes(8)), "'b' overlaps the tensor before it"),
    "a tensor in another": (
        packed({"a": entry(shape=[4], offsets=[0, 16]), "b": entry(offsets=[4, 12])}, bytes(16)),
        "'b' overlaps the tensor before it",
    ),
}
# What only the specification forbids, or only we: https://huggingface.co/docs/safetensors/index#format
STRICTER = {
    *("a name twice", "a name twice, once escaped", "a metadata key twice", "a blank before"),
    *("one key more", "a shape without end", "an entry that is a list"),
    *("metadata with a text of many megabytes", "metadata with very many keys", "a very long name"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_file_is_refused_with_its_name_and_the_fault(kind: str, read: Read, file: Path) -> None:
    data, problem = MALFORMED[kind]
    with pytest.raises(UnreadableFile) as caught:
        read(data)
    assert caught.value.message.startswith(f"{file} is ")
    assert problem in caught.value.message
    assert "\n" not in caught.value.message
    assert (reference(file) is not None) == (kind in STRICTER)
    assert caught.value.hint == "fetch or save it again"


def test_metadata_that_are_null_are_none(read: Read, file: Path) -> None:
    data = packed({"__metadata__": None, "a": entry()}, bytes(8))
    assert [(each.name, each.numel) for each in read(data)] == [("a", 2)]
    assert reference(file) is not None


@pytest.mark.parametrize(("start", "what"), [(b"PK\3\4", "zip archive"), (b"\x80\2", "file of torch.save")])
def test_a_file_of_torch_save_is_told_with_the_word_that_counts_it(
    start: bytes, what: str, read: Read, file: Path
) -> None:
    with pytest.raises(UnreadableFile) as caught:
        read(start + b"\x14" * 40)
    assert caught.value.message.startswith(f"{file} is no safetensors file, but by its first bytes a {what}")
    assert caught.value.hint == f"count it as torch_file:{file}"


@pytest.mark.parametrize("length", range(len(one())))
def test_a_file_cut_anywhere_is_refused(length: int, read: Read) -> None:
    with pytest.raises(UnreadableFile):
        read(one()[:length])


def _header_of(entries: Iterable[str]) -> bytes:
    header = ("{" + ",".join(entries) + "}").encode()
    return len(header).to_bytes(8, "little") + header


HOSTILE: dict[str, Callable[[], bytes]] = {
    "more tensors than any model has": lambda: _header_of(
        f'"{n}":{{"dtype":"I8","shape":[0],"data_offsets":[0,0]}}' for n in range(250_001)
    ),
    "tensors whose keys are escaped": lambda: _header_of(
        f'"{n}":{{"dtype":"I8","shape":[0],"data\\u005foffsets":[0,0]}}' for n in range(100_002)
    ),
    "names that take more room than the file": lambda: _header_of(
        f'"{chr(0x1F600)}{"n" * 50_000}{n}":{{"dtype":"I8","shape":[0],"data_offsets":[0,0]}}' for n in range(400)
    ),
    "metadata that takes more room than the file": lambda: _header_of(
        ['"__metadata__":{' + ",".join(f'"{chr(0x1F600)}{"n" * 5000}{n}":""' for n in range(600)) + "}"]
    ),
    "more dimensions than any tensor has": lambda: _header_of(
        [f'"a":{{"dtype":"I8","shape":[{"1," * 128}0],"data_offsets":[0,0]}}']
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_would_take_too_long_or_too_much_is_refused(kind: str, read: Read) -> None:
    with pytest.raises(UnreadableFile, match=r"over 250,000|more or (with )?longer|no tensor has over 128"):
        read(HOSTILE[kind]())


def test_a_pointer_that_git_lfs_left_is_called_so(read: Read) -> None:
    with pytest.raises(UnreadableFile) as caught:
        read(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 8\n")
    assert caught.value.message.endswith("is a pointer of Git LFS, not the file itself")
    assert caught.value.hint == "fetch the file: git lfs pull"


# Anything at all ------------------------------------------------------------------------------------------------------

VALID = save({"a.0": torch.zeros(2, 3), "a.1": torch.zeros(4, dtype=torch.bfloat16), "b": torch.zeros(0)}, {"k": "v"})
_PIECES = st.sampled_from(
    [b'"', b"{", b"}", b"[", b"]", b",", b":", b"0", b"1", b"-", b".", b"e", b" ", b"\\", b"\0", b"null", b"F4", b"U64"]
)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """Draw a valid file of which a few parts were replaced; mostly its header's length still fits."""
    length = int.from_bytes(VALID[:8], "little")
    header, data = bytearray(VALID[8 : 8 + length]), VALID[8 + length :]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(header)))
        end = min(len(header), start + draw(st.integers(0, 3)))
        header[start:end] = draw(_PIECES | st.binary(max_size=3) | st.integers(0, 2**66).map(lambda n: b"%d" % n))
    made = packed(bytes(header), data)
    return made if draw(st.integers(0, 9)) else made[: draw(st.integers(0, len(made)))]


@given(data=mutations())
@example(data=VALID)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_file_is_refused_or_read_as_the_reference_reads_it(data: bytes, file: Path) -> None:
    file.write_bytes(data)
    try:
        found: Any = {each.name: each.shape for each in read_file(file)}
    except UnreadableFile:
        return
    assert found == reference(file)
