"""Models in S3 and on a hub count by their headers, in few requests; no key is told, and what is missing is said."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import huggingface_hub.constants
import pytest
import safetensors.torch
from torch import nn

import paramcount
from paramcount.files.blocks import BLOCK
from tests.conftest import Run
from tests.server import Server
from tests.stores import stores

MODEL = nn.Sequential(nn.Linear(1000, 2000), nn.Linear(2000, 10))
TOTAL = sum(param.numel() for param in MODEL.parameters())
KEY, SECRET, TOKEN = "AKIAHUSHHUSHHUSHHUSH", "hush/hush+hush", "hf_hushhushhush"


def _files() -> dict[str, bytes]:
    state = MODEL.state_dict()
    first, second = (dict(list(state.items())[part]) for part in (slice(2), slice(2, None)))
    whole, parts = safetensors.torch.save(state), [safetensors.torch.save(part) for part in (first, second)]
    shards = {f"model-0000{number}-of-00002.safetensors": data for number, data in enumerate(parts, 1)}
    placed = {f"/bucket/shards/{name}": data for name, data in shards.items()}
    placed |= {f"/org/shards/resolve/main/{name}": data for name, data in shards.items()}
    return placed | {
        "/bucket/model.safetensors": whole,
        "/bucket/denied.safetensors": whole,
        "/bucket/broken.safetensors": b"\x80" * 100,
        "/org/model/resolve/main/model.safetensors": whole,
        "/org/model/resolve/main/broken.safetensors": b"\x80" * 100,
    }


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with stores(_files()) as server:
        yield server


@pytest.fixture(autouse=True)
def clients(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set both clients up as their users do, with nothing left of what they knew before."""
    for name, value in {"ACCESS_KEY_ID": KEY, "SECRET_ACCESS_KEY": SECRET, "ENDPOINT_URL": server.url("")}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # What the library makes of HF_ENDPOINT and HF_HUB_OFFLINE when it is imported, which it has been by now.
    constants, template = huggingface_hub.constants, "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", server.url(""))
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url(template))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for protocol in ("s3", "hf"):
        fsspec.get_filesystem_class(protocol).clear_instance_cache()
    server.asked.clear()
    server.sent = 0
    yield
    for protocol in ("s3", "hf"):
        fsspec.get_filesystem_class(protocol).clear_instance_cache()


def _number_asked(server: Server) -> int:
    """Return how many requests were for what is stored; a client may have others of its own, once in a process."""
    return sum(any(place in path for place in ("bucket", "nowhere", "/org/")) for path, _ in server.asked)


WHOLE = {"s3://bucket/model.safetensors": 2, "hf://org/model/model.safetensors": 4}  # requests, at most
FOLDERS = {"s3://bucket/shards": 3, "s3://bucket/shards/": 3, "hf://org/shards": 8, "hf://org/shards@main": 8}


@pytest.mark.parametrize("word", WHOLE)
def test_a_file_counts_by_its_header(word: str, server: Server) -> None:
    report = paramcount.count(word)
    assert (report.target, report.source, report.total) == (word, "safetensors", TOTAL)
    (ranged,) = [part for _, headers in server.asked for name, part in headers.items() if name.lower() == "range"]
    assert ranged == f"bytes=0-{BLOCK - 1}"
    assert _number_asked(server) <= WHOLE[word]
    assert server.sent <= BLOCK + 1000


@pytest.mark.parametrize("word", FOLDERS)
def test_a_folder_of_shards_counts_without_an_index(word: str, server: Server) -> None:
    report = paramcount.count(word)
    assert {param.name: param.numel for param in report.params} == {
        name: param.numel() for name, param in MODEL.named_parameters()
    }
    assert _number_asked(server) <= FOLDERS[word]
    assert server.sent <= 2 * BLOCK + 2000


def test_each_client_says_who_asks(server: Server) -> None:
    """Else what follows would find no secret, whatever was printed."""
    for word, said in zip(WHOLE, (f"Credential={KEY}/", f"Bearer {TOKEN}"), strict=True):
        server.asked.clear()
        paramcount.count(word)
        assert any(said in value for _, headers in server.asked for value in headers.values())


MISSING = {
    "s3://bucket/none.safetensors": "",
    "s3://bucket/nothing/here/": "",
    "s3://nowhere/model.safetensors": ": The specified bucket does not exist",
    "s3://nowhere": "",
    "hf://org/model/none.safetensors": "",
    "hf://org/nowhere/model.safetensors": ": repository not found",
    "hf://org/nowhere": ": repository not found",
}


@pytest.mark.parametrize("word", MISSING)
def test_what_is_missing_is_said(word: str, server: Server, run: Run) -> None:
    outcome = run("count", f"safetensors:{word}")
    assert (outcome.code, outcome.out) == (2, "")
    problem, hint = outcome.err.splitlines()
    assert problem == f"error: safetensors:{word}: there is no file {word}{MISSING[word]}"
    assert hint == "  check the address, and that you may read it"
    assert _number_asked(server) <= 4


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("s3://bucket/denied.safetensors", "cannot read s3://bucket/denied.safetensors: PermissionError: Forbidden"),
        ("s3://bucket/broken.safetensors", "is no safetensors file"),
        ("hf://org/model/broken.safetensors", "is no safetensors file"),
    ],
)
def test_what_cannot_be_read_is_said(word: str, problem: str, run: Run) -> None:
    outcome = run("count", word)
    assert (outcome.code, outcome.out) == (3, "")
    assert problem in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    "word", [*WHOLE, *MISSING, "s3://bucket/denied.safetensors", "hf://org/model/broken.safetensors"]
)
def test_no_key_is_told(word: str, run: Run) -> None:
    for done in (run("-v", "count", word), run("-v", "count", word, "-f", "json"), run("-v", "diff", word, word)):
        assert "hush" not in (done.out + done.err).lower()
