"""What strangers made takes a time and a memory that go by its size, or is refused: names, documents, answers."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path

import pytest

from paramcount.errors import UnreadableFile
from paramcount.files.patience import patience
from paramcount.jsons import MalformedJson, load
from paramcount.sources import Target, read
from tests.conftest import Run
from tests.server import Visit, serving


def safetensors(*names: str) -> bytes:
    entries = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * at, 4 * at + 4]} for at, name in enumerate(names)
    }
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * len(names))


@pytest.mark.parametrize(
    "names",
    [
        [".".join("a" * 1001)],
        # Each name is allowed, and all their layers together are not.
        [".".join([str(number), *["a" * 60] * 998]) for number in range(3)],
    ],
)
def test_names_of_more_parts_than_any_model_has_are_refused(names: list[str], run: Run, folder: Path) -> None:
    (folder / "m.safetensors").write_bytes(safetensors(*names))
    outcome = run("m.safetensors", "--value", "total")
    assert (outcome.code, outcome.out.strip()) == (3, "")
    assert "parts" in outcome.err or "characters" in outcome.err


def test_a_name_of_many_parts_is_counted(run: Run, folder: Path) -> None:
    (folder / "m.safetensors").write_bytes(safetensors(".".join("a" * 1000)))
    assert run("m.safetensors", "--value", "total").out == "1\n"


def test_a_table_is_as_large_as_its_file_whatever_one_name_is(run: Run, folder: Path) -> None:
    names = ["x" * 60_000, *(f"w{number}" for number in range(500))]
    (folder / "m.safetensors").write_bytes(safetensors(*names))
    for form in ("table", "tree", "markdown"):
        outcome = run("m.safetensors", "--params", "-f", form)
        assert outcome.code == 0
        assert len(outcome.out) < 1_000_000
        assert "x" * 60_000 in outcome.out


def test_an_error_is_no_longer_than_people_read(run: Run, folder: Path) -> None:
    outcome = run("y" * 100_000 + "://" + "z" * 100_000)
    assert outcome.code == 2
    assert len(outcome.err) < 50_000


def test_text_that_would_take_four_times_its_length_is_refused_where_that_is_much() -> None:
    assert load(b'"' + b"a" * 50_000_000 + b'"') == "a" * 50_000_000
    for emoji in (b"\\ud83d\\ude00", "\U0001f600".encode()):
        with pytest.raises(MalformedJson):
            load(b'"' + emoji + b"a" * 50_000_000 + b'"')


def part_of_gguf(of: int) -> bytes:
    fields = b"".join(
        struct.pack("<Q", len(key)) + key + struct.pack("<IH", 2, value)
        for key, value in ((b"split.no", 0), (b"split.count", of))
    )
    header = b"GGUF\3\0\0\0" + struct.pack("<QQ", 1, 2) + fields + struct.pack("<Q", 1) + b"w"
    header += struct.pack("<IQIQ", 1, 4, 0, 0)
    return header + bytes(-len(header) % 32) + bytes(32)


def test_of_many_parts_on_a_server_only_a_few_are_asked_for() -> None:
    def only_the_first(visit: Visit) -> None:
        data = part_of_gguf(65_535)
        if "00001-of" not in visit.path:
            visit.head(404, Content_Length=0)
            return
        visit.head(206, Content_Range=f"bytes 0-{len(data) - 1}/{len(data)}", Content_Length=len(data))
        visit.send(data)

    with serving(manner=only_the_first) as server, pytest.raises(UnreadableFile, match=r"00002-of-65535\.gguf"):
        read(Target(server.url("/m-00001-of-65535.gguf")))
    assert len(server.asked) < 100


def endless_redirect(visit: Visit) -> None:
    visit.head(302, Location="/x.safetensors", Transfer_Encoding="chunked")
    while not visit.server.leaving.is_set():
        visit.wfile.write(b"100000\r\n" + bytes(2**20) + b"\r\n")


def chunked(visit: Visit) -> None:
    visit.head(200, Transfer_Encoding="chunked")
    visit.wfile.write(b"8\r\n" + struct.pack("<Q", 100) + b"\r\n")


def endless_size(visit: Visit) -> None:
    chunked(visit)
    while not visit.server.leaving.wait(0.1):
        visit.wfile.write(b"0")


def endless_trailers(visit: Visit) -> None:
    chunked(visit)
    visit.wfile.write(b"0\r\n")
    while not visit.server.leaving.is_set():
        visit.wfile.write(b"X: y\r\n" * 1000)


@pytest.mark.parametrize("manner", [endless_redirect, endless_size, endless_trailers])
def test_an_answer_without_an_end_ends_with_the_patience(manner: object) -> None:
    def quietly(visit: Visit) -> None:
        with suppress(OSError):
            manner(visit)  # type: ignore[operator]  # one of the three above

    with serving(manner=quietly) as server, patience(0.5), pytest.raises(UnreadableFile):
        read(Target(server.url("/m.safetensors")))
