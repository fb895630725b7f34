"""Files on the web, in stores and in pipes count as the same files here, by their headers alone; no secret is told."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import gguf
import pytest
import safetensors.torch
import torch
from torch import nn

import paramcount
from paramcount.commands.counting import document
from paramcount.errors import UnknownTarget, UnreadableFile, UsageError
from paramcount.files.blocks import BLOCK
from paramcount.report import Report
from paramcount.sources import resolve, sources
from tests.conftest import Run
from tests.pipes import named_pipe, piped
from tests.server import Visit, serving, with_ranges, without_ranges

# 4,194,304 + 2,048 + 20,480 + 10 parameters, 17 MB.
MODEL = nn.Sequential(nn.Linear(2048, 2048), nn.Linear(2048, 10))
TOTAL = sum(param.numel() for param in MODEL.parameters())
NAMES = {
    "model.safetensors": "safetensors",
    "model.pt": "torch_file",
    "legacy.pth": "torch_file",
    "model.gguf": "gguf",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The model in all formats, by the paths that they are served at."""
    folder = tmp_path_factory.mktemp("files")
    state = MODEL.state_dict()
    safetensors.torch.save_file(state, folder / "model.safetensors")
    torch.save(state, folder / "model.pt")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "ema": {"w": torch.zeros(7)}, "model": state}, folder / "training.ckpt")
    _write_gguf(folder / "model.gguf", state)
    first, second = dict(list(state.items())[:2]), dict(list(state.items())[2:])
    (folder / "sharded").mkdir()
    safetensors.torch.save_file(first, folder / "sharded/model-00001-of-00002.safetensors")
    safetensors.torch.save_file(second, folder / "sharded/model-00002-of-00002.safetensors")
    shards = dict.fromkeys(first, "model-00001-of-00002.safetensors") | dict.fromkeys(
        second, "model-00002-of-00002.safetensors"
    )
    index = {"metadata": {"total_size": 4 * TOTAL}, "weight_map": shards}
    (folder / "sharded/model.safetensors.index.json").write_text(json.dumps(index))
    _write_gguf(folder / "sharded/big-00001-of-00002.gguf", first, part=(0, len(state)))
    _write_gguf(folder / "sharded/big-00002-of-00002.gguf", second, part=(1, len(state)))
    report = paramcount.count(str(folder / "model.pt"))
    (folder / "report.json").write_text(json.dumps(document([report.to_dict()], [])))
    return {f"/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _write_gguf(path: Path, state: dict[str, torch.Tensor], part: tuple[int, int] | None = None, of: int = 2) -> None:
    writer = gguf.GGUFWriter(path, "test")
    if part is not None:
        writer.add_uint16("split.no", part[0])
        writer.add_uint16("split.count", of)
        writer.add_int32("split.tensors.count", part[1])
    for name, tensor in state.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@contextmanager
def stored(files: dict[str, bytes]) -> Iterator[str]:
    system = fsspec.filesystem("memory")
    for path, content in files.items():
        system.pipe_file(f"/store{path}", content)
    try:
        yield "memory://store"
    finally:
        system.rm("/store", recursive=True)


def of(files: dict[str, bytes], name: str, folder: Path) -> Report:
    """Return the report of the file where it is here."""
    (folder / name).write_bytes(files[f"/{name}"])
    return paramcount.count(str(folder / name))


def counts(report: Report) -> dict[str, object]:
    return {key: value for key, value in report.to_dict().items() if key != "target"}


# The same as here -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, "report.json"])
def test_a_file_on_the_web_counts_by_its_header(name: str, files: dict[str, bytes], tmp_path: Path) -> None:
    with serving(files) as server:
        report = paramcount.count(server.url(f"/{name}"))
        assert report.total == TOTAL
        assert counts(report) == counts(of(files, name, tmp_path))
        assert server.sent <= 3 * BLOCK
        assert len(server.asked) <= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_server_without_ranges_serves_headers_too(name: str, files: dict[str, bytes]) -> None:
    with serving(files, without_ranges) as server:
        assert paramcount.count(server.url(f"/{name}")).total == TOTAL
        assert len(server.asked) == 1


@pytest.mark.parametrize("name", [*NAMES, "report.json"])
def test_a_file_in_a_store_counts(name: str, files: dict[str, bytes], tmp_path: Path) -> None:
    with stored(files) as store:
        assert counts(paramcount.count(f"{store}/{name}")) == counts(of(files, name, tmp_path))


def test_a_part_of_a_file_on_the_web_counts(files: dict[str, bytes], run: Run) -> None:
    with serving(files) as server:
        url = server.url("/training.ckpt")
        assert paramcount.count(f"{url}?download=true").total == TOTAL
        assert paramcount.count(f"{url}:ema").total == 7
        assert paramcount.count(f"{url}:ema?download=true").total == 7
        assert run(f"{url}?download=true", "--key", "ema", "--value", "total").out == "7\n"


# Pipes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, "report.json"])
def test_a_file_in_a_pipe_counts_as_the_file(name: str, files: dict[str, bytes], tmp_path: Path) -> None:
    with piped(files[f"/{name}"]) as pipe:
        report = paramcount.count(pipe.word)
    assert report.target == pipe.word
    assert counts(report) == counts(of(files, name, tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_in_a_pipe_counts_by_its_prefix(name: str, files: dict[str, bytes], tmp_path: Path) -> None:
    with named_pipe(files[f"/{name}"], tmp_path / "pipe") as pipe:
        report = paramcount.count(f"{NAMES[name]}:{pipe.word}")
    assert counts(report) == counts(of(files, name, tmp_path))


def test_a_pipe_is_what_its_content_says_and_not_its_name(files: dict[str, bytes], tmp_path: Path) -> None:
    with named_pipe(files["/model.gguf"], tmp_path / "model.safetensors") as pipe:
        assert paramcount.count(pipe.word).source == "gguf"


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "legacy.pth"])
def test_no_more_of_a_pipe_is_read_than_the_header(name: str, files: dict[str, bytes], run: Run) -> None:
    with piped(files[f"/{name}"]) as pipe:
        done = run(pipe.word, "--value", "total")
    assert (done.code, done.out, done.err) == (0, f"{TOTAL}\n", "")
    assert pipe.written < 2**19 < len(files[f"/{name}"])  # and what the pipe itself holds


def test_a_part_of_a_file_in_a_pipe_counts(files: dict[str, bytes], tmp_path: Path, run: Run) -> None:
    for number, form in enumerate(("{}:ema", "torch_file:{}:ema")):
        with named_pipe(files["/training.ckpt"], tmp_path / f"pipe{number}") as pipe:
            assert paramcount.count(form.format(pipe.word)).total == 7
    with piped(files["/training.ckpt"]) as pipe:
        assert run(pipe.word, "--key", "ema", "--value", "total").out == "7\n"


def test_a_file_without_parts_has_none_in_a_pipe(files: dict[str, bytes]) -> None:
    with piped(files["/model.gguf"]) as pipe, pytest.raises(UsageError) as caught:
        paramcount.count(f"{pipe.word}:ema")
    assert caught.value.message == f"{pipe.word} is a gguf file, of which no part can be named"


@pytest.mark.parametrize("name", [*NAMES, "report.json"])
@pytest.mark.parametrize("length", [20, 90])
def test_a_pipe_that_is_cut_off_is_cut_short(name: str, length: int, files: dict[str, bytes], run: Run) -> None:
    with piped(files[f"/{name}"][:length]) as pipe:
        done = run(pipe.word)
    assert done.code == 3
    problem = "it is not JSON" if name == "report.json" else "cut short"
    assert problem in done.err


@pytest.mark.parametrize(
    ("content", "problem", "hint"),
    [
        (b"", "is empty: nothing came", "look at what should have written it"),
        (
            b"hello\n",
            r"begins with b'hello\n', as no file that can be counted does",
            "safetensors, files of",
        ),
        (gzip.compress(b"x"), "is packed by gzip", "unpack it on the way: gzip -dc FILE | paramcount /dev/stdin"),
        (
            b'{"weight_map": {"w": "model.safetensors"}}',
            "is the index of shards, and holds no weights itself",
            "name the folder that they are in, or the index where it is beside them",
        ),
        (b"<!doctype html>", "is a web page, not a checkpoint", "fetch it from the address of the file itself"),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "is a pointer of Git LFS, not the file itself",
            "git lfs pull",
        ),
    ],
)
def test_what_no_file_begins_with_is_said(content: bytes, problem: str, hint: str, run: Run) -> None:
    with piped(content) as pipe:
        done = run(pipe.word)
    assert done.code == 3
    assert done.err.startswith(f"error: {pipe.word} {problem}\n")
    assert hint in done.err


def test_a_terminal_is_no_pipe(run: Run) -> None:
    ours, theirs = os.openpty()
    try:
        done = run(f"/dev/fd/{theirs}")
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.code == 3
    assert "it is a terminal or another device\n  pipe a file into it" in done.err


@pytest.mark.parametrize("prefix", ["safetensors", "torch_file", "gguf", "saved"])
def test_a_dash_as_a_file_leads_to_stdin(prefix: str, run: Run) -> None:
    done = run(f"{prefix}:-")
    assert done.code == 2
    assert "there is no file -\n  a file from a pipe is /dev/stdin, as in: cat model.safetensors | " in done.err


def test_a_file_without_an_ending_is_what_it_begins_with(files: dict[str, bytes], tmp_path: Path) -> None:
    for name, source in NAMES.items():
        path = tmp_path / "blob"
        path.write_bytes(files[f"/{name}"])
        report = paramcount.count(str(path))
        assert (report.total, report.source) == (TOTAL, source)
    path.write_bytes(files["/training.ckpt"])
    assert paramcount.count(f"{path}:ema").total == 7


@pytest.mark.parametrize("name", NAMES)
def test_a_file_without_an_ending_on_the_web_takes_no_request_more(name: str, files: dict[str, bytes]) -> None:
    with serving({"/blob": files[f"/{name}"]}) as server:
        report = paramcount.count(server.url("/blob?token=hush"))
        assert (report.total, report.source, report.target) == (TOTAL, NAMES[name], server.url("/blob"))
        assert len(server.asked) <= 2


# Several files --------------------------------------------------------------------------------------------------------


def test_the_shards_of_an_index_on_the_web_count(files: dict[str, bytes]) -> None:
    with serving(files) as server:
        report = paramcount.count(server.url("/sharded/model.safetensors.index.json?token=hush"))
        assert (report.total, [note.code for note in report.notes]) == (TOTAL, ["buffers-by-name"])
        assert len(server.asked) == 3
        assert all(path.endswith("?token=hush") for path, _ in server.asked)


@pytest.mark.parametrize("ending", ["safetensors", "bin", "gguf"])
def test_shards_on_the_web_are_asked_for_at_once(ending: str, files: dict[str, bytes], tmp_path: Path) -> None:
    """Each of three answers waits until all are asked for."""
    names = [f"w-{number:05}-of-00003.{ending}" for number in (1, 2, 3)]
    if ending == "gguf":
        names = [f"w-{number:05}-of-00004.{ending}" for number in (1, 2, 3, 4)]
    served: dict[str, bytes] = {}
    for number, name in enumerate(names):
        state = {f"layer{number}.weight": torch.zeros(3, number + 2)}
        if ending == "gguf":
            _write_gguf(tmp_path / name, state, part=(number, 4), of=4)
        elif ending == "bin":
            torch.save(state, tmp_path / name)
        else:
            safetensors.torch.save_file(state, tmp_path / name)
        served[f"/{name}"] = (tmp_path / name).read_bytes()
    index = {"weight_map": {f"layer{number}.weight": name for number, name in enumerate(names)}}
    served[f"/w.{ending}.index.json"] = json.dumps(index).encode()
    meeting = threading.Barrier(3, timeout=60)

    def together(visit: Visit) -> None:
        if not visit.path.endswith(("index.json", "-00001-of-00004.gguf")):
            meeting.wait()
        with_ranges(visit)

    with serving(served, together) as server:
        first = names[0] if ending == "gguf" else f"w.{ending}.index.json"
        report = paramcount.count(server.url(f"/{first}"))
    assert report.total == sum(3 * (number + 2) for number in range(len(names)))
    assert [layer.name for layer in report.root.walk()][1:] == [f"layer{number}" for number in range(len(names))]


def test_targets_on_the_web_are_asked_for_at_once_and_told_in_order(files: dict[str, bytes], run: Run) -> None:
    meeting = threading.Barrier(3, timeout=60)

    def together(visit: Visit) -> None:
        meeting.wait()
        with_ranges(visit)

    with serving({f"/{name}.safetensors": files["/model.safetensors"] for name in "ac"}, together) as server:
        words = [server.url(path) for path in ("/a.safetensors", "/b.safetensors", "/c.safetensors")]
        done = run("count", *words, "-f", "json")
    assert done.code == 2
    assert [report["target"] for report in done.json["reports"]] == [words[0], words[2]]
    assert [error["target"] for error in done.json["errors"]] == [words[1]]


def test_a_missing_shard_on_the_web_is_named(files: dict[str, bytes]) -> None:
    lacking = {path: content for path, content in files.items() if not path.endswith("00002-of-00002.safetensors")}
    with serving(lacking) as server:
        url = server.url("/sharded/model.safetensors.index.json")
        with pytest.raises(UnreadableFile) as caught:
            paramcount.count(f"{url}?token=hush")
    shard = "'model-00002-of-00002.safetensors'"
    assert caught.value.message == f"{url}: the shard {shard} is missing, which should hold '1.weight'"


def test_the_parts_of_a_split_file_on_the_web_count(files: dict[str, bytes]) -> None:
    with serving(files) as server:
        report = paramcount.count(server.url("/sharded/big-00001-of-00002.gguf?token=hush"))
        assert (report.total, [note.code for note in report.notes]) == (TOTAL, ["buffers-by-name"])
        assert len(server.asked) == 2


@pytest.mark.parametrize("ending", ["", "/", "/model.safetensors.index.json"])
def test_a_folder_in_a_store_counts_by_its_index(ending: str, files: dict[str, bytes]) -> None:
    with stored(files) as store:
        assert paramcount.count(f"{store}/sharded{ending}").total == TOTAL


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_folder_in_a_store_counts_without_an_index(ending: str, files: dict[str, bytes]) -> None:
    with stored({path: content for path, content in files.items() if not path.endswith("index.json")}) as store:
        assert paramcount.count(f"{store}/sharded{ending}").total == TOTAL


def test_a_folder_without_such_files_says_what_there_is(files: dict[str, bytes]) -> None:
    with stored({"/model.pt": files["/model.pt"]}) as store, pytest.raises(UnreadableFile) as caught:
        paramcount.count(store)
    assert caught.value.message == "memory://store is a folder, and holds no safetensors file"
    assert caught.value.hint == "it holds 'model.pt': name one of them"


def test_a_folder_that_is_not_there_is_unknown() -> None:
    with pytest.raises(UnknownTarget, match="there is no file memory://nothing/here"):
        paramcount.count("memory://nothing/here")


# Who claims what ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "source"),
    [
        ("https://h.pt:80/model.safetensors?download=true", "safetensors"),
        ("https://h/model.safetensors.index.json?x=y.pt", "safetensors"),
        ("https://h/x.ckpt:state_dict", "torch_file"),
        ("https://h/x.ckpt:state_dict?t=1", "torch_file"),
        ("http://user:pass@h:80/a/x.bin?t=1#x", "torch_file"),
        ("s3://bucket/x.gguf", "gguf"),
        ("hf://org/repo/report.json:Net", "saved"),
        ("hf://org/repo", "safetensors"),
        ("hf://org/model-1.5", "safetensors"),
        ("s3://bucket", "safetensors"),
        ("s3://bucket/folder/", "safetensors"),
        ("foo://bar", "safetensors"),
    ],
)
def test_a_url_is_claimed_by_the_ending_of_its_path(word: str, source: str) -> None:
    assert resolve(word) == (sources()[source], word)


# Secrets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, "training.ckpt", "report.json", "missing.pt", "broken.safetensors"])
@pytest.mark.parametrize("prefix", [False, True])
def test_nothing_printed_tells_a_secret(
    name: str, prefix: bool, files: dict[str, bytes], run: Run, tmp_path: Path
) -> None:
    with serving({**files, "/broken.safetensors": b"\x80" * 100}) as server:
        url = server.url(f"/{name}", "user:hush@") + "?X-Amz-Signature=hush&token=hush"
        kind = next(kind for kind, source in sources().items() if source.claims(url))
        word = f"{kind}:{url}" if prefix else url
        models = tmp_path / "models.yaml"
        models.write_text(f"version: 1\nmodels:\n  m:\n    target: {json.dumps(word)}\n    budget: {{total: 1}}\n")
        runs = [
            run("-v", "count", word, "-f", "json"),
            run("-v", "count", word, "--params"),
            run("-v", "diff", word, word),
            run("-v", "check", "-c", models),
            run("-v", "check", "-c", models, "-f", "json"),
            run("-v", "count", word, "--key", "no.such.part"),
        ]
        for done in runs:
            assert "hush" not in done.out + done.err
        said = runs[0].json
        shown = word.replace("user:hush@", "").partition("?")[0]
        assert [each["target"] for each in said["reports"] + said["errors"]] == [shown]
        codes = {"missing.pt": 2, "broken.safetensors": 3}
        assert (runs[0].code, runs[3].code) == (codes.get(name, 0), codes.get(name, 1))


def test_one_target_that_cannot_be_read_stops_no_other(files: dict[str, bytes], run: Run) -> None:
    with serving(files, lambda visit: visit.head(503) if "broken" in visit.path else with_ranges(visit)) as server:
        done = run(server.url("/broken.pt"), server.url("/model.pt"), "--value", "total")
    assert (done.code, done.out) == (3, f"\n{TOTAL}\n")
    assert "broken.pt: cannot read http://" in done.err
    assert "its server answers 503 Service Unavailable\n  try again later\n" in done.err


@pytest.mark.parametrize("seconds", ["x", "0", "-1", "nan", "inf", "1e9"])
def test_a_timeout_that_is_no_number_of_seconds_is_an_error(
    seconds: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAMCOUNT_TIMEOUT", seconds)
    done = run("model.pt")
    assert done.code == 2
    assert done.err.startswith(f"error: PARAMCOUNT_TIMEOUT='{seconds}' is no number of seconds\n")


def _silent(visit: Visit) -> None:
    visit.server.leaving.wait(60)


def test_the_timeout_is_the_users(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAMCOUNT_TIMEOUT", "0.2")
    with serving(manner=_silent) as server:
        done = run(server.url("/model.pt"))
    assert done.code == 3
    assert "no answer came in 0.2 seconds\n  PARAMCOUNT_TIMEOUT=0.4 waits longer\n" in done.err


def test_an_adapter_on_the_web_counts_with_the_config_beside_it(tmp_path: Path) -> None:
    safetensors.torch.save_file({"base_model.model.q.lora_A.weight": torch.zeros(8, 32)}, tmp_path / "a")
    config = json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q"]}).encode()
    files = {"/adapter_model.safetensors": (tmp_path / "a").read_bytes(), "/adapter_config.json": config}
    with serving(files) as server:
        report = paramcount.count(server.url("/adapter_model.safetensors?token=hush"))
        assert report.total == 256
        assert [path for path, _ in server.asked] == [f"{path}?token=hush" for path in files]


def test_the_shapes_of_packed_experts_far_away_take_no_request_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes as int32 lie between the weights, which are int32, too."""
    rows = [256, 128, 256, 256, 128, 256, 256, 128]
    tensors = {}
    for number, each in enumerate(rows):
        tensors[f"experts.{number}.weight_packed"] = torch.zeros(each, 160, dtype=torch.int32)  # 1,280 of 4 bits
        tensors[f"experts.{number}.weight_shape"] = torch.tensor([each, 1280], dtype=torch.int32)
        tensors[f"experts.{number}.weight_scale"] = torch.zeros(each, 40, dtype=torch.bfloat16)
    files = {"/experts.safetensors": safetensors.torch.save(tensors)}
    with serving(files) as server:
        each_read = paramcount.count(server.url("/experts.safetensors"))
        asked = len(server.asked)
    monkeypatch.setattr("paramcount.files.safetensors._MOST_REQUESTS", 3)
    with serving(files) as server:
        report = paramcount.count(server.url("/experts.safetensors"))
        assert len(server.asked) < asked
    assert report.total == each_read.total == sum(rows) * 1280
    assert [(param.name, param.shape) for param in report.params] == [
        (f"experts.{number}.weight_packed", (each, 1280)) for number, each in enumerate(rows)
    ]
    told = [note.message for note in report.notes if note.code == "packed"]
    stand = "of compressed-tensors (int4) count as the weights they stand for"
    others = (sum(rows) - 256 - 128) * 1280
    assert told == [
        f"2 tensors {stand}, {(256 + 128) * 1280:,} by their weight_shape and scales",
        f"6 tensors {stand}, {others:,} by the weight_shape of others with tensors of the same shapes",
    ]
