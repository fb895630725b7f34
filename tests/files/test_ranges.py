"""Files here, on the web, in stores and in pipes: read in parts, in few requests, and no further than is needed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import fsspec
import pytest

from paramcount.errors import MissingLibrary, ParamcountError, UnknownTarget, UnreadableFile
from paramcount.files import streams, web
from paramcount.files.blocks import BLOCK, Blocks
from paramcount.files.patience import patience
from paramcount.files.ranges import held, listed, opened, parent, within
from paramcount.files.streams import Stream
from tests.pipes import piped
from tests.server import Manner, Visit, serving, with_ranges, without_ranges

DATA = bytes(range(251)) * 8_000  # 2 MB, of which no two blocks are the same
SECRETS = "user:hush@"
QUERY = "?X-Amz-Signature=hush&token=hush"


@contextmanager
def memory(content: bytes) -> Iterator[str]:
    system = fsspec.filesystem("memory")
    system.pipe_file("/ranges/model.bin", content)
    try:
        yield "memory://ranges/model.bin"
    finally:
        system.rm("/ranges", recursive=True)


@contextmanager
def in_a_pipe(content: bytes) -> Iterator[str]:
    with piped(content) as pipe:
        yield pipe.word


@contextmanager
def served(content: bytes, manner: Manner) -> Iterator[str]:
    with serving({"/model.bin": content}, manner) as server:
        yield server.url("/model.bin", SECRETS) + QUERY


@contextmanager
def local(content: bytes, folder: Path, scheme: str = "") -> Iterator[str]:
    (folder / "model.bin").write_bytes(content)
    yield f"{scheme}{folder / 'model.bin'}"


Place = Callable[[bytes], AbstractContextManager[str]]
PLACES = ["path", "file", "memory", "web", "web without ranges", "pipe"]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """What puts bytes somewhere for as long as its context lasts, and says how to open them."""
    places: dict[str, Place] = {
        "path": lambda content: local(content, tmp_path),
        "file": lambda content: local(content, tmp_path, "file://"),
        "memory": memory,
        "web": lambda content: served(content, with_ranges),
        "web without ranges": lambda content: served(content, without_ranges),
        "pipe": in_a_pipe,
    }
    return places[request.param]


# What holds wherever a file is ----------------------------------------------------------------------------------------


def test_any_part_is_read_exactly(place: Place) -> None:
    with place(DATA) as word, opened(word) as file:
        for start, length in ((0, 8), (8, 1), (8, 300_000), (0, 0), (700_000, 5), (300_008, 9), (len(DATA) - 9, 9)):
            assert file.read(start, length) == DATA[start : start + length]
        assert file.upto(len(DATA) - 3, 8) == DATA[-3:]
        assert file.upto(len(DATA) + 1, 8) == b""
        assert file.size == len(DATA)


def test_what_is_beyond_the_end_is_cut_short(place: Place) -> None:
    with place(b"abc") as word, opened(word) as file:
        with pytest.raises(UnreadableFile, match=r"ends after 3 bytes, and should go on: it is cut short"):
            file.read(1, 3)
        assert file.read(1, 2) == b"bc"


def test_an_empty_file_is_one(place: Place) -> None:
    with place(b"") as word, opened(word) as file:
        assert file.upto(0, 8) == b""
        assert file.size == 0


def test_no_name_tells_a_secret(place: Place) -> None:
    with place(b"abc") as word, opened(word) as file:
        assert "hush" not in file.name
        assert "?" not in file.name


# In few requests ------------------------------------------------------------------------------------------------------


def test_a_header_that_fits_a_block_is_one_request() -> None:
    with serving({"/x": DATA}) as server, opened(server.url("/x")) as file:
        file.read(0, 8)
        file.read(8, 1)
        file.read(8, 10_000)
        assert len(server.asked) == 1
        assert server.sent == BLOCK


def test_what_a_block_lacks_is_asked_for_once_and_alone() -> None:
    with serving({"/x": DATA}) as server, opened(server.url("/x")) as file:
        file.read(0, 8)
        assert file.read(8, 1_000_000) == DATA[8:1_000_008]
        assert file.read(500_000, 9) == DATA[500_000:500_009]
        assert [headers["Range"] for _, headers in server.asked] == ["bytes=0-131071", "bytes=131072-1000007"]


def test_the_end_is_one_block_that_is_read_backwards() -> None:
    fetched: list[tuple[int, int]] = []
    file = Blocks("x", len(DATA), lambda start, stop: fetched.append((start, stop)) or DATA[start:stop])  # type: ignore[func-returns-value]
    for start in (len(DATA) - 65_557, len(DATA) - 20, len(DATA) - 100_000):
        assert file.read(start, 20) == DATA[start : start + 20]
    assert fetched == [(len(DATA) - BLOCK, len(DATA))]


def test_who_reads_on_and_on_gets_ever_larger_blocks() -> None:
    fetched: list[int] = []
    file = Blocks("x", 2**30, lambda start, stop: fetched.append(stop - start) or bytes(stop - start))  # type: ignore[func-returns-value]
    for start in range(0, 30_000_000, 60_000):
        assert file.read(start, 60_000) == bytes(60_000)
    assert len(fetched) < 12
    assert max(fetched) <= 8 * 2**20 + BLOCK


# Servers as they are --------------------------------------------------------------------------------------------------


def refusal(manner: Manner, content: bytes = DATA, wanted: tuple[int, int] = (0, 200_000)) -> ParamcountError:
    """Return the error from reading, of which no part has a secret, nor a traceback."""
    with serving({"/x.bin": content}, manner) as server:
        with pytest.raises(ParamcountError) as caught, opened(server.url("/x.bin", SECRETS) + QUERY) as file:
            file.read(*wanted)
        caught.value.keep_traceback()
        shown = server.url("/x.bin")
        for text in (caught.value.message, caught.value.hint or "", caught.value.traceback):
            assert "hush" not in text
        assert shown in caught.value.message
        caught.value.message = caught.value.message.replace(shown, "URL")
    return caught.value


def status(code: int) -> Manner:
    return lambda visit: visit.head(code, Content_Length=0)


@pytest.mark.parametrize(
    ("code", "kind", "message", "hint"),
    [
        (404, UnknownTarget, "there is no file URL: its server answers 404 Not Found", "check the address"),
        (410, UnknownTarget, "there is no file URL: its server answers 410 Gone", "check the address"),
        (401, UnreadableFile, "cannot read URL: its server answers 401 Unauthorized", "it takes an address"),
        (403, UnreadableFile, "cannot read URL: its server answers 403 Forbidden", "it takes an address"),
        (429, UnreadableFile, "cannot read URL: its server answers 429 Too Many Requests", "try again later"),
        (500, UnreadableFile, "cannot read URL: its server answers 500 Internal Server Error", "try again later"),
        (418, UnreadableFile, "cannot read URL: its server answers 418 I'm a Teapot", "fetch the file"),
        (204, UnreadableFile, "cannot read URL: its server answers 204 No Content", "fetch the file"),
    ],
)  # fmt: skip
def test_what_a_server_answers_is_said(code: int, kind: type[ParamcountError], message: str, hint: str) -> None:
    error = refusal(status(code))
    assert type(error) is kind
    assert error.message == message
    assert error.hint is not None
    assert error.hint.startswith(hint)


def test_a_server_that_cuts_off_is_said() -> None:
    def cut(visit: Visit) -> None:
        first, stop = visit.asked_range(len(DATA))
        visit.head(206, Content_Range=f"bytes {first}-{stop - 1}/{len(DATA)}", Content_Length=stop - first)
        visit.send(DATA[first : first + 1000])

    assert refusal(cut).message == (
        f"cannot read URL: its server ended the connection {BLOCK - 1000:,} bytes before the end of what it should send"
    )


def test_a_server_without_ranges_that_cuts_off_is_said() -> None:
    def cut(visit: Visit) -> None:
        visit.head(200, Content_Length=len(DATA))
        visit.send(DATA[:1000])

    assert refusal(cut).message == "URL ends after 1,000 bytes, and should go on: it is cut short"


def stalling(after: int) -> Manner:
    def stall(visit: Visit) -> None:
        first, stop = visit.asked_range(len(DATA))
        if after >= 0:
            visit.head(206, Content_Range=f"bytes {first}-{stop - 1}/{len(DATA)}", Content_Length=stop - first)
            visit.send(DATA[:after])
        visit.server.leaving.wait(60)

    return stall


@pytest.mark.parametrize("after", [-1, 0, 1000])
def test_a_server_that_stalls_is_not_waited_for(after: int) -> None:
    with patience(0.2):
        error = refusal(stalling(after))
    assert error.message == "cannot read URL: no answer came in 0.2 seconds"
    assert error.hint == "PARAMCOUNT_TIMEOUT=0.4 waits longer"


def test_a_server_that_drips_is_not_waited_for() -> None:
    def drip(visit: Visit) -> None:
        visit.head(206, Content_Range=f"bytes 0-{BLOCK - 1}/{len(DATA)}", Content_Length=BLOCK)
        while not visit.server.leaving.wait(0.05):
            visit.send(b"x")

    with patience(0.3):
        assert " bytes came in 0.3 seconds" in refusal(drip).message


def test_a_header_that_drips_is_not_waited_for() -> None:
    def drip(visit: Visit) -> None:
        while not visit.server.leaving.wait(0.05):
            visit.send(b"H")

    with patience(0.3):
        assert refusal(drip).message == "cannot read URL: no answer came in 0.3 seconds"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("bytes 0-131071/*", "does not say which part it sends, and of how many bytes"),
        ("", "does not say which part it sends, and of how many bytes"),
        ("bytes 5-131076/2008000", "was asked for bytes 0-131071, and sends 5-131076 of 2008000"),
        ("bytes 0-99/2008000", "was asked for bytes 0-131071, and sends 0-99 of 2008000"),
        ("bytes 0-131071/100", "was asked for bytes 0-99, and sends 0-131071 of 100"),
    ],
)
def test_a_part_that_was_not_asked_for_is_not_taken(said: str, message: str) -> None:
    def lie(visit: Visit) -> None:
        visit.head(206, Content_Range=said, Content_Length=BLOCK)
        visit.send(DATA[:BLOCK])

    assert refusal(lie).message == f"cannot read URL: its server {message}"


@pytest.mark.parametrize("changed", ["size", "version"])
def test_a_file_that_changes_between_two_requests_is_said(changed: str) -> None:
    def change(visit: Visit) -> None:
        number = len(visit.server.asked)
        size = len(DATA) - (number if changed == "size" else 0)
        first, stop = visit.asked_range(size)
        etag = number if changed == "version" else 1
        visit.head(206, Content_Range=f"bytes {first}-{stop - 1}/{size}", Content_Length=stop - first, ETag=etag)
        visit.send(DATA[first:stop])

    message = "cannot read URL: its server has another file at this address than a moment ago"
    assert refusal(change).message == message


@pytest.mark.parametrize("manner", [status(416), without_ranges])
def test_ranges_that_end_after_the_first_are_said(manner: Manner) -> None:
    def change(visit: Visit) -> None:
        (manner if len(visit.server.asked) > 1 else with_ranges)(visit)

    assert refusal(change).message.startswith("cannot read URL: its server s")


def test_what_is_packed_is_not_taken() -> None:
    def pack(visit: Visit) -> None:
        assert visit.headers["Accept-Encoding"] == "identity"
        visit.head(200, Content_Encoding="gzip", Content_Length=3)
        visit.send(b"abc")

    assert refusal(pack).message == "cannot read URL: its server sends it packed by gzip"


def test_what_is_no_http_is_said() -> None:
    def chatter(visit: Visit) -> None:
        visit.wfile.write(b"SSH-2.0-OpenSSH\r\n")

    assert refusal(chatter).message.startswith("cannot read URL: ")


def test_a_port_that_nobody_listens_at_is_said() -> None:
    with serving() as server:
        url = server.url("/x", SECRETS) + QUERY
    with pytest.raises(UnreadableFile, match=r"^cannot read http://127.0.0.1:[0-9]+/x: .*refused"), opened(url):
        pass


@pytest.mark.parametrize("url", ["http://", "http://[::1/x", "https://h:port/x", "http://host\nname/x", "https:///x"])
def test_an_impossible_url_is_said(url: str) -> None:
    with pytest.raises(UnreadableFile, match="cannot read http"), opened(url):
        pass


# Redirects and credentials --------------------------------------------------------------------------------------------


def leading_to(target: str) -> Manner:
    def redirect(visit: Visit) -> None:
        if visit.path.startswith("/x.bin"):
            visit.head(302, Location=target, Content_Length=0)
        else:
            with_ranges(visit)

    return redirect


def test_a_redirect_is_followed_once_for_all_parts() -> None:
    with serving({"/y": DATA}, leading_to("/y?signed=hush")) as server:
        with opened(server.url("/x.bin", SECRETS)) as file:
            assert file.name == server.url("/x.bin")
            assert file.read(0, 500_000) == DATA[:500_000]
        assert [path for path, _ in server.asked] == ["/x.bin", "/y?signed=hush", "/y?signed=hush"]
        assert all(headers["Authorization"] == "Basic dXNlcjpodXNo" for _, headers in server.asked)


def test_a_password_goes_to_nobody_else() -> None:
    with serving({"/y": DATA}) as other, serving(manner=leading_to(other.url("/y"))) as server:
        with opened(server.url("/x.bin", SECRETS)) as file:
            file.read(0, 500_000)
        assert "Authorization" in server.asked[0][1]
        assert len(other.asked) == 2
        assert not any("Authorization" in headers for _, headers in other.asked)


def test_a_circle_of_redirects_is_said() -> None:
    assert "its server answers 302" in refusal(leading_to("/x.bin")).message


def test_a_redirect_leads_nowhere_but_to_the_web() -> None:
    error = refusal(leading_to("ftp://user:hush@127.0.0.1/x"))
    assert error.message == "cannot read URL: its server answers 302 and leads to ftp://127.0.0.1/x, not to the web"
    assert "its server answers 302" in refusal(leading_to("file:///etc/hostname")).message


# Servers that send files only from their start ------------------------------------------------------------------------


def test_without_ranges_no_more_is_read_than_is_needed() -> None:
    content = bytes(60_000_000)
    with serving({"/x": content}, without_ranges) as server:
        with opened(server.url("/x")) as file:
            file.read(0, 100_000)
            assert file.size == len(content)
        assert len(server.asked) == 1
        assert server.sent < 20_000_000  # what the network's buffers take


def test_without_ranges_much_is_not_fetched_to_throw_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MOST_WITHOUT_RANGES", 100_000)
    error = refusal(without_ranges, wanted=(len(DATA) - 10, 10))
    assert error.message == "URL cannot be read in parts, and over 100,000 bytes would have to be fetched"
    assert error.hint == "save it as a file, and count that"


@pytest.mark.parametrize("chunked", [True, False])
def test_a_length_that_nobody_says_is_found_out(chunked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def send(visit: Visit) -> None:
        if chunked:
            visit.head(200, Transfer_Encoding="chunked")
            for start in range(0, len(DATA), 100_000):
                part = DATA[start : start + 100_000]
                visit.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            visit.wfile.write(b"0\r\n\r\n")
        else:
            visit.head(200)
            visit.send(DATA)

    with serving({}, send) as server:
        with opened(server.url("/x")) as file:
            assert file.read(1000, 5) == DATA[1000:1005]
            assert file.size == len(DATA)
            assert file.read(5, 5) == DATA[5:10]
        monkeypatch.setattr(web, "MOST_WITHOUT_RANGES", 1_000_000)
        with opened(server.url("/x")) as file, pytest.raises(UnreadableFile, match="over 1,000,000 bytes"):
            assert file.size


# Pipes ----------------------------------------------------------------------------------------------------------------


def test_of_much_that_comes_once_only_start_and_end_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_START_KEPT", 1000)
    monkeypatch.setattr(streams, "_END_KEPT", 500)
    with in_a_pipe(DATA) as word, opened(word) as file:
        assert file.size == len(DATA)
        assert file.read(0, 1000) == DATA[:1000]
        assert file.read(len(DATA) - 500, 500) == DATA[-500:]
        with pytest.raises(UnreadableFile, match="is needed from byte 900, which has passed: it comes only once"):
            file.read(900, 200)


def test_a_stream_that_is_kept_whole_is_read_across_its_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_START_KEPT", 1000)
    parts = iter([DATA[:700], DATA[700:1500], DATA[1500:2000], b""])
    stream = Stream("x", lambda _: next(parts))
    assert stream.read(1200, 100) == DATA[1200:1300]
    assert stream.read(900, 400) == DATA[900:1300]
    assert stream.size == 2000
    assert stream.read(500, 1500) == DATA[500:2000]
    stream.close()


def test_a_named_pipe_is_waited_for_and_not_for_ever(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    nobody = pytest.raises(UnreadableFile, match=r"nobody wrote to the pipe in 0\.1 seconds")
    with patience(0.1), nobody, opened(str(pipe)):
        pass
    writer = threading.Timer(0.1, lambda: pipe.write_bytes(DATA))
    writer.start()
    with opened(str(pipe)) as file:
        assert file.size == len(DATA)
        assert file.read(5, 9) == DATA[5:14]
    writer.join()


def test_a_socket_is_read_as_a_pipe_is() -> None:
    import socket

    ours, theirs = socket.socketpair()
    theirs.sendall(b"abcdef")
    theirs.close()
    with ours, opened(f"/dev/fd/{ours.fileno()}") as file:
        assert (file.read(2, 2), file.size) == (b"cd", 6)


def test_only_of_a_pipe_the_size_is_not_known_at_once(place: Place) -> None:
    with place(DATA) as word, opened(word) as file:
        assert file.known_size == (None if word.startswith("/dev/fd/") else len(DATA))
        assert file.size == len(DATA)


def test_a_file_that_is_held_is_the_same_to_all_who_open_it() -> None:
    with in_a_pipe(DATA) as word:
        with held(word) as file, opened(word) as again:
            assert again is file
            assert again.read(0, 5) == DATA[:5]
            assert again.read(5, 5) == DATA[5:10]
        with opened(word) as another:
            assert another is not file


def test_a_device_is_no_file() -> None:
    refused = pytest.raises(UnreadableFile, match="cannot read /dev/null: it is a terminal or another device")
    with refused, opened("/dev/null"):
        pass


# Stores ---------------------------------------------------------------------------------------------------------------


def test_an_unknown_protocol_is_said_with_what_there_is() -> None:
    with pytest.raises(UnknownTarget) as caught, opened("foo://bar/x"):
        pass
    assert caught.value.message == "foo://bar/x: foo:// is no protocol that fsspec knows"
    assert caught.value.hint == "https://, s3://, gs://, hf:// and what else fsspec opens can be read"
    with pytest.raises(UnknownTarget) as caught, opened("memry://bar/x"):
        pass
    assert caught.value.hint == "did you mean memory://?"


@pytest.mark.parametrize(
    ("url", "package"),
    [("s3://b/k", "s3fs"), ("gs://b/k", "gcsfs"), ("az://b/k", "adlfs"), ("hf://o/r", "huggingface_hub")],
)
def test_a_missing_package_is_said_with_the_command_that_adds_it(
    url: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, url.partition(":")[0], raising=False)
    with pytest.raises(MissingLibrary) as caught, opened(url):
        pass
    assert caught.value.message == f"reading {url} needs the package {package}, which is not there"
    assert caught.value.hint == f"pip install {package}"
    assert caught.value.exit_code == 3


def test_what_is_not_in_a_store_is_unknown() -> None:
    with pytest.raises(UnknownTarget, match="there is no file memory://nowhere/x"), opened("memory://nowhere/x?v=hush"):
        pass
    assert listed("memory://nowhere") is None


def test_a_stores_own_errors_are_said_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no access to https://u:hush@h/x?hush\nand more")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "_open", fail)
    with pytest.raises(UnreadableFile) as caught, opened("memory://a/x"):
        pass
    assert caught.value.message == "cannot read memory://a/x: RuntimeError: no access to https://h/x"
    assert caught.value.hint is not None
    assert "FSSPEC_MEMORY_" in caught.value.hint


def test_a_store_that_stalls_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "_open", lambda *_, **__: over.wait(60))
    with patience(0.1), pytest.raises(UnreadableFile, match=r"no answer came in 0\.1 seconds"), opened("memory://a/x"):
        pass
    over.set()


def test_a_folder_is_listed_by_its_names(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "a").write_bytes(b"")
    with memory(b"abc") as file:
        assert listed(parent(file)) == ["model.bin"]
        assert listed(parent(file) + "/") == ["model.bin"]
        assert listed(file) is None
    assert listed(str(tmp_path)) == listed(f"file://{tmp_path}") == ["a", "b"]
    assert listed(str(tmp_path / "a")) is None
    assert listed("https://host/folder") is None


@pytest.mark.parametrize(
    ("file", "folder", "beside"),
    [
        ("./a/x", "./a", "./a/n m"),
        ("x", "", "n m"),
        ("https://h/a/x?t=1", "https://h/a?t=1", "https://h/a/n%20m?t=1"),
        ("https://h/x", "https://h/", "https://h/n%20m"),
        ("s3://b/a/x", "s3://b/a", "s3://b/a/n m"),
        ("hf://org/repo/x", "hf://org/repo", "hf://org/repo/n m"),
    ],
)
def test_a_file_beside_another_has_its_address(file: str, folder: str, beside: str) -> None:
    assert parent(file) == folder
    assert within(folder, "n m") == beside


def test_a_folder_in_the_place_of_a_file_is_an_error_with_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile) as caught, opened(str(tmp_path)):
        pass
    assert caught.value.hint == "name a file in it"
