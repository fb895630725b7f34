"""GGUF files: weights count as weights whatever blocks they are stored in, by files that the library itself writes."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFEndian, GGUFReader, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paramcount.errors import MissingLibrary, UnknownTarget, UnreadableFile, UsageError
from paramcount.report import Report
from paramcount.sources import Target
from paramcount.sources.gguf import claims, names, read

PARTS = [f"m-{number:05}-of-00003.gguf" for number in (1, 2, 3)]


def counted(word: object) -> Report:
    return Report.of(read(Target(str(word)), str(word)))


def refusal(word: object) -> UnreadableFile:
    with pytest.raises(UnreadableFile) as caught:
        counted(word)
    assert caught.value.exit_code == 3
    assert caught.value.hint
    return caught.value


def finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_weight(writer: GGUFWriter, name: str, kind: GGMLQuantizationType, *shape: int) -> None:
    """Add a tensor of any type: its blocks are bytes, of whatever value."""
    block, size = GGML_QUANT_SIZES[kind]
    data = np.zeros((*shape[:-1], shape[-1] // block * size), dtype=np.uint8)
    writer.add_tensor(name, data, raw_dtype=kind)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with two quantised weights and a norm, and fields of every kind."""
    file = tmp_path / "m.gguf"
    writer = GGUFWriter(file, "llama")
    writer.add_token_list(["a", "bé", ""] * 100)
    writer.add_token_scores([0.5] * 300)
    writer.add_bool("flag", True)
    writer.add_float64("float", 0.5)
    writer.add_int8("int", -3)
    writer.add_array("empty", [[1, 2], [3]])
    writer.add_tensor("output_norm.weight", np.ones(256, dtype=np.float32))
    add_weight(writer, "blk.0.attn_q.weight", GGMLQuantizationType.Q4_0, 512, 256)
    add_weight(writer, "blk.0.ffn_up.weight", GGMLQuantizationType.Q6_K, 3, 100, 256)
    finish(writer)
    return file


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Three parts with 32, 64 and 96 weights; the first is returned."""
    writer = GGUFWriter(tmp_path / "m.gguf", "llama", split_max_tensors=1)
    for number in (1, 2, 3):
        writer.add_tensor(f"blk.{number}.w", np.ones((number, 32), dtype=np.float32))
    finish(writer)
    return tmp_path / PARTS[0]


# What it counts -------------------------------------------------------------------------------------------------------


def test_weights_count_as_weights_and_bytes_as_stored(file: Path) -> None:
    report = counted(file)
    assert [(param.name, param.shape, param.dtype, param.nbytes) for param in report.params] == [
        ("output_norm.weight", (256,), "float32", 1024),
        ("blk.0.attn_q.weight", (512, 256), "Q4_0", 512 * 256 // 32 * 18),
        ("blk.0.ffn_up.weight", (3, 100, 256), "Q6_K", 3 * 100 * 210),
    ]
    assert report.total == report.unknown == 256 + 512 * 256 + 3 * 100 * 256
    assert report.packed == 512 * 256 + 3 * 100 * 256
    assert [note.message for note in report.notes if note.code == "packed"] == [
        "2 tensors in blocks (Q4_0, Q6_K) count as the 207,872 weights in them"
    ]


@pytest.mark.parametrize("kind", GGML_QUANT_SIZES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("endian", GGUFEndian)
def test_every_type_counts_what_the_librarys_reader_counts(
    kind: GGMLQuantizationType, endian: GGUFEndian, tmp_path: Path
) -> None:
    file = tmp_path / "one.gguf"
    writer = GGUFWriter(file, "llama", endianess=endian)
    add_weight(writer, "w", kind, 2, 3, 256)
    finish(writer)
    (theirs,) = GGUFReader(file).tensors
    found = read(Target(str(file)), str(file))
    (param,) = found.params or found.buffers
    assert (param.numel, param.nbytes, param.shape) == (theirs.n_elements, theirs.n_bytes, (2, 3, 256))
    assert param.numel == 2 * 3 * 256


def test_what_the_library_quantises_counts_as_what_it_was(tmp_path: Path) -> None:
    from gguf import quants

    weights = np.linspace(-1, 1, 4 * 256, dtype=np.float32).reshape(4, 256)
    for kind in (GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q8_0, GGMLQuantizationType.MXFP4):
        stored = quants.quantize(weights, kind)
        writer = GGUFWriter(tmp_path / "w.gguf", "llama")
        writer.add_tensor("w", stored, raw_dtype=kind)
        finish(writer)
        report = counted(tmp_path / "w.gguf")
        assert (report.total, report.nbytes) == (weights.size, stored.nbytes)


def test_a_folder_with_one_model_or_its_parts_counts_it(file: Path, split: Path, tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    file.rename(one / "m.gguf")
    for folder, path in ((one, one / "m.gguf"), (split.parent, split)):
        assert claims(str(folder))
        assert counted(folder).total == counted(path).total
    (one / "other.gguf").write_bytes((one / "m.gguf").read_bytes())
    assert not claims(str(one))
    (one / "other.gguf").rename(one / "model.safetensors")
    assert not claims(str(one))


def test_another_alignment_is_kept_to(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "w.gguf", "llama")
    writer.add_custom_alignment(256)
    for name in "ab":
        writer.add_tensor(name, np.ones(3, dtype=np.float16))
    finish(writer)
    assert counted(tmp_path / "w.gguf").total == 6


# Split files ----------------------------------------------------------------------------------------------------------


def test_the_first_part_means_them_all(split: Path) -> None:
    report = counted(split)
    assert report.total == 32 + 64 + 96
    assert [note.code for note in report.notes] == ["buffers-by-name"]


def test_another_part_is_counted_alone_and_says_so(split: Path) -> None:
    report = counted(split.with_name(PARTS[1]))
    assert report.total == 64
    assert report.notes[0].message == "this is part 2 of 3: name the first to count them all"


def test_a_missing_part_is_named(split: Path) -> None:
    missing = split.with_name(PARTS[2])
    missing.unlink()
    assert refusal(split).message == f"{split}: the part {missing} is missing"


def test_a_part_under_another_name_is_refused(split: Path) -> None:
    other = split.with_name("all.gguf")
    split.rename(other)
    assert refusal(other).message == f"{other} is part 1 of 1 by its name, and 1 of 3 by its header"
    second = split.with_name(PARTS[1])
    second.rename(split)
    assert refusal(split).message == f"{split} is part 1 of 3 by its name, and 2 of 3 by its header"


def test_a_name_in_two_parts_is_refused(split: Path) -> None:
    third = split.with_name(PARTS[2])
    third.write_bytes(third.read_bytes().replace(b"blk.3.w", b"blk.1.w"))
    assert refusal(split).message == f"'blk.1.w' is in {split} and in {third}"


def test_a_number_of_tensors_that_the_parts_contradict_is_noted(split: Path) -> None:
    key = b"split.tensors.count" + struct.pack("<I", 5)
    data = split.read_bytes()
    assert key + struct.pack("<i", 3) in data
    split.write_bytes(data.replace(key + struct.pack("<i", 3), key + struct.pack("<i", 9)))
    report = counted(split)
    assert report.total == 192
    assert report.notes[0].code == "index-total"
    assert report.notes[0].message.startswith("the first part says that there are 9 tensors, and there are 3")


# What is refused ------------------------------------------------------------------------------------------------------


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def made(
    fields: bytes = b"",
    tensors: bytes = b"",
    counts: tuple[int, int] | None = None,
    start: bytes = b"GGUF\3\0\0\0",
    data: bytes = bytes(64),
) -> bytes:
    """Return a file whose parts are as given; by default it says that it has one of what is there."""
    counts = counts or (int(bool(tensors)), int(bool(fields)))
    header = start + struct.pack("<QQ", *counts) + fields + tensors
    return header + bytes(-len(header) % 32) + data


def tensor(
    name: bytes = b"w", shape: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0, dimensions: int | None = None
) -> bytes:
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    count = len(shape) if dimensions is None else dimensions
    return text(name) + struct.pack("<I", count) + sizes + struct.pack("<IQ", kind, offset)


def field(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


_NESTED = struct.pack("<IQ", 9, 1) * 100_000
MALFORMED = {
    "empty": (b"", "does not begin with GGUF"),
    "another magic": (made(start=b"GGML\3\0\0\0"), "does not begin with GGUF"),
    "only the magic": (b"GGUF", "it is cut short"),
    "no version": (made(start=b"GGUF\0\0\0\0"), "its version 0 is unknown"),
    "version 1": (made(start=b"GGUF\1\0\0\0"), "its version 1 is unknown"),
    "a version to come": (made(start=b"GGUF\x63\0\0\0"), "its version 99 is unknown"),
    "more tensors than bytes": (made(counts=(2**63, 0)), "it cannot hold 9,223,372,036,854,775,808 tensors"),
    "more fields than bytes": (made(counts=(0, 2**63)), "it cannot hold 9,223,372,036,854,775,808 fields"),
    "a long key": (made(struct.pack("<Q", 2**40), counts=(0, 1)), "a name is 1,099,511,627,776 bytes long"),
    "a key that is no text": (made(field(b"\xff", 0, b"\0")), "a name is not UTF-8 text"),
    "a field twice": (made(field(b"k", 0, b"\0") * 2, counts=(0, 2)), "it has the field 'k' twice"),
    "an unknown type": (made(field(b"k", 99, b"\0")), "the field 'k' is of the unknown type 99"),
    "a text without end": (made(field(b"k", 8, struct.pack("<Q", 2**60))), "it is cut short"),
    "a list without end": (made(field(b"k", 9, struct.pack("<IQ", 0, 2**60))), "it is cut short"),
    "a list of texts without end": (made(field(b"k", 9, struct.pack("<IQ", 8, 2**60))), "it cannot hold"),
    "a list of an unknown type": (made(field(b"k", 9, struct.pack("<IQ", 99, 1))), "of the unknown type 99"),
    "lists in lists": (made(field(b"k", 9, _NESTED)), "the field 'k' is nested too deep"),
    "no alignment": (made(field(b"general.alignment", 4, bytes(4))), "its alignment is 0"),
    "an odd alignment": (made(field(b"general.alignment", 4, b"\x21\0\0\0")), "its alignment is 33"),
    "a long alignment": (made(field(b"general.alignment", 10, bytes(8))), "its alignment is of the type UINT64"),
    "many dimensions": (made(tensors=tensor(dimensions=2**31)), "'w' has 2147483648 dimensions"),
    "enormous": (made(tensors=tensor(shape=(2**62, 2**62))), "of more elements than the format can count"),
    "a negative size": (made(tensors=tensor(shape=(2**64 - 4,))), "of more elements than the format can count"),
    "more bytes than can be": (made(tensors=tensor(shape=(2**62,))), "of more bytes than the format can count"),
    "an unknown tensor type": (
        made(tensors=tensor(shape=(4096,), kind=4)),
        "'w' is of the unknown type 4, and 64 bytes",
    ),
    "half a block": (made(tensors=tensor(shape=(48,), kind=2)), "'w' has rows of 48, which are no whole blocks of 32"),
    "an offset beyond": (made(tensors=tensor(offset=64)), "'w' begins at 64, and should at 0"),
    "an overlap": (made(tensors=tensor() + tensor(b"v"), counts=(2, 0)), "'v' begins at 0, and should at 32"),
    "a tensor twice": (made(tensors=tensor() * 2, counts=(2, 0)), "it describes 'w' twice"),
    "no data": (made(tensors=tensor(shape=(32,))), "its tensors take 128 bytes, and 64 are there: it is cut short"),
    "fewer tensors than said": (made(tensors=tensor(), counts=(2, 0)), "'' begins at 0, and should at 32"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_file_is_refused_with_its_name_and_the_fault(kind: str, tmp_path: Path) -> None:
    data, problem = MALFORMED[kind]
    file = tmp_path / "x.gguf"
    file.write_bytes(data)
    message = refusal(file).message
    assert message.startswith(f"{file} is no valid GGUF file: ")
    assert problem in message


def test_a_sparse_file_of_a_hundred_gigabytes_is_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    for counts in ((2**31, 0), (0, 2**31)):
        file.write_bytes(made(counts=counts))
        with file.open("r+b") as stream:
            stream.truncate(100 * 10**9)
        assert "are not read" in refusal(file).message


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = made(field(b"k", 8, text(b"v")), tensor(shape=(16,)))
    assert len(whole) % 32 == 0
    file = tmp_path / "x.gguf"
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert file.name in refusal(file).message
    file.write_bytes(whole)
    assert counted(file).total == 16


@given(place=st.integers(0, 200), change=st.binary(min_size=1, max_size=4))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_file_is_refused_or_counted_by_its_own_shapes(place: int, change: bytes, tmp_path: Path) -> None:
    whole = made(field(b"k", 9, struct.pack("<IQ", 8, 2) + text(b"v") + text(b"w")), tensor(shape=(4, 4)))
    file = tmp_path / "x.gguf"
    file.write_bytes(whole[:place] + change + whole[place + len(change) :])
    try:
        report = counted(file)
    except UnreadableFile:
        return
    if "unknown-type" in [note.code for note in report.notes]:  # which the library does not read
        return
    assert [(param.numel, param.nbytes) for param in report.params] == [
        (each.n_elements, each.n_bytes) for each in GGUFReader(file).tensors
    ]


def test_weights_of_a_type_that_the_library_does_not_know_count_by_their_dimensions(tmp_path: Path) -> None:
    """Such as type 99, of 64 weights in 18 bytes: the next tensor, or the file's end, tells how many bytes it takes."""
    unknown, known = tensor(b"v", shape=(256, 4), kind=99), tensor(b"w", shape=(8,), offset=288)
    last = tensor(b"x", shape=(64, 16), kind=99, offset=320)
    file = tmp_path / "x.gguf"
    file.write_bytes(made(tensors=unknown + known + last, counts=(3, 0), data=bytes(320 + 288)))
    report = counted(file)
    assert (report.total, report.nbytes) == (1024 + 8 + 1024, 288 + 32 + 288)
    assert [note.where for note in report.notes if note.code == "unknown-type"] == ["v"]


# What is such a target ------------------------------------------------------------------------------------------------


def test_a_missing_library_is_named_with_the_command_that_adds_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingLibrary) as caught:
        counted(file)
    assert caught.value.message == f"{file} needs the gguf library, which is not there"
    assert caught.value.hint == "pip install 'paramcount[gguf]'"
    assert caught.value.exit_code == 3


def test_files_are_claimed_by_their_form(split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(split.parent)
    assert names() == PARTS
    assert all(claims(word) for word in ("x.gguf", "a/b.gguf"))
    assert not any(claims(word) for word in ("gguf", ".gguf", "x.gguf.json", ""))


def test_what_is_not_there_is_an_unknown_target(tmp_path: Path) -> None:
    for word in (tmp_path / "x.gguf", "nothing"):
        with pytest.raises(UnknownTarget):
            counted(word)


def test_a_folder_with_the_name_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").mkdir()
    assert "directory" in refusal(tmp_path / "x.gguf").message


def test_a_file_takes_no_arguments(file: Path) -> None:
    for target in (Target(str(file), {"a": 1}), Target(str(file), weights="DEFAULT")):
        with pytest.raises(UsageError):
            read(target, target.word)
