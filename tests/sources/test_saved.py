"""Saved reports: they come back as they were, and one that contradicts itself is not believed."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

import paramcount
from paramcount.errors import ParamcountError, UnknownTarget, UnreadableFile, UsageError
from paramcount.report import Report
from paramcount.rules import Rules, apply
from paramcount.sources import Target, resolve
from paramcount.sources.saved import claims, names, read
from tests.conftest import MODELS, Run
from tests.inventories import buffer, lazy, param, report
from tests.strategies import reports

NET = report(
    {"body": "Sequential", "body.0": "Linear", "again": "= body", "head": "Linear"},
    [
        param("body.0.weight", 4, 4, trainable=False),  # 16
        param("again.0.weight", 4, 4, trainable=False, tied_to="body.0.weight"),
        param("head.weight", 10, 4, dtype="float16"),  # 40
        lazy("head.bias"),
        param("token", 3, trainable=None),
    ],
    [buffer("body.0.mean", 7)],
)


def document(*saved: dict[str, Any]) -> dict[str, Any]:
    return {"format_version": "1.0", "paramcount_version": "0.1.0", "reports": list(saved), "errors": []}


def loaded(file: Path) -> Report:
    return Report.of(read(Target(str(file)), str(file)))


def untargeted(saved: dict[str, Any]) -> dict[str, Any]:
    """Return a report without what says where it is from."""
    return {key: value for key, value in saved.items() if key not in {"target", "source"}}


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def save(content: Any) -> Path:
        file = tmp_path / "saved.json"
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        file.write_bytes(data)
        return file

    return save


Save = Callable[..., Path]


# What comes back ------------------------------------------------------------------------------------------------------


def test_a_saved_report_is_the_same_report(save: Save) -> None:
    file = save(document(NET.to_dict()))
    again = loaded(file)
    assert untargeted(again.to_dict()) == untargeted(NET.to_dict())
    assert (again.target, again.source) == (str(file), "saved")
    assert (again.total, again.trainable, again.frozen, again.unknown, again.uninitialized) == (59, 40, 16, 3, 1)
    assert again["body"].total == 16


@given(original=reports())
@settings(deadline=None)
def test_every_report_is_read_back(original: Report, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("saved") / "report.json"
    file.write_text(json.dumps(document(original.to_dict())), encoding="utf-8")
    assert untargeted(loaded(file).to_dict()) == untargeted(original.to_dict())


@pytest.mark.parametrize("word", [f"{file}:Net" for file in sorted(MODELS.glob("*.py"))])
def test_every_small_model_is_read_back(word: str, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "saved.json"
    saved = run("count", word, "-f", "json")
    file.write_text(saved.out, encoding="utf-8")
    again = run("count", file, "-f", "json")
    assert saved.code == again.code == 0
    assert untargeted(again.json["reports"][0]) == untargeted(saved.json["reports"][0])
    assert again.json["reports"][0]["target"] == str(file)


def test_rules_apply_to_a_saved_report(save: Save) -> None:
    file = str(save(document(NET.to_dict())))
    frozen = Report.of(apply(Rules(freeze=("head",)), read(Target(file), file)))
    assert (frozen.trainable, frozen.frozen, frozen.unknown) == (0, 56, 3)


def test_the_buffer_that_stands_for_all_takes_no_name_from_another(save: Save) -> None:
    net = report({"buffers": "Linear"}, [param("buffers.weight", 3), param("buffers_", 2)], [buffer("mean", 7)])
    again = loaded(save(document(net.to_dict())))
    assert [each.name for each in again.root.buffers] == ["buffers__"]
    assert (again.buffers.total, again.buffers.nbytes) == (7, 28)
    assert loaded(save(document(report({}, [param("weight", 3)]).to_dict()))).root.buffers == ()


def test_a_byte_order_mark_and_what_a_later_minor_version_adds_do_no_harm(save: Save) -> None:
    saved = copy.deepcopy(NET.to_dict())
    saved["macs"] = saved["layers"][0]["macs"] = 5
    later = document(saved) | {"format_version": "1.7"}
    file = save(b"\xef\xbb\xbf" + json.dumps(later).encode())
    assert untargeted(loaded(file).to_dict()) == untargeted(NET.to_dict())


def test_reading_one_imports_no_torch(save: Save) -> None:
    file = save(document(NET.to_dict()))
    code = f"import sys; from paramcount.cli import main; assert main([{str(file)!r}]) == 0; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "paramcount.sources.saved" in done.stdout.split()
    assert not {"torch", "torchvision", "yaml"} & set(done.stdout.split())


# Which one ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["report.json", "a/b.json", "report.json:Net", "a.json:b.json", "a.b.json:x:y"])
def test_a_json_file_is_claimed_by_its_form(word: str) -> None:
    assert claims(word)


@pytest.mark.parametrize(
    "word", [".json", "report.jsonl", "report.json:", "json", "model.safetensors.index.json", "x.py"]
)
def test_nothing_else_is_claimed(word: str) -> None:
    assert not claims(word)


def several() -> dict[str, Any]:
    one, two = (report({}, [param("weight", size)]).to_dict() | {"target": "net.py:Net"} for size in (1, 2))
    other = report({}, [param("weight", 3)]).to_dict() | {"target": "resnet50"}
    failed = {"target": "vgg", "name": "broken", "status": "error", "findings": []}
    return document(one | {"name": "small"}, two | {"name": "large"}, other, failed)


def test_a_name_or_a_target_picks_one_of_several(save: Save) -> None:
    file = save(several())

    def total(name: str) -> int:
        return Report.of(read(Target(f"{file}:{name}"), f"{file}:{name}")).total

    assert (total("small"), total("large"), total("resnet50")) == (1, 2, 3)
    inventory = read(Target(f"saved:{file}:small"), f"{file}:small")
    assert inventory.target == f"saved:{file}:small"


def test_of_several_one_must_be_named(save: Save) -> None:
    file = save(several())
    with pytest.raises(UsageError) as caught:
        loaded(file)
    assert (caught.value.exit_code, caught.value.message) == (2, f"{file} holds 4 reports")
    assert caught.value.hint == f"name one: {file}:small, {file}:large, {file}:resnet50, {file}:broken"
    with pytest.raises(UsageError, match=r"holds 2 reports named 'net\.py:Net'"):
        read(Target("x"), f"{file}:net.py:Net")


def test_a_name_that_no_report_has_is_an_unknown_target(save: Save) -> None:
    file = save(several())
    with pytest.raises(UnknownTarget) as caught:
        read(Target("x"), f"{file}:resnet5O")
    assert caught.value.message == f"{file} holds no report named 'resnet5O'"
    assert str(caught.value.hint).startswith(f"did you mean {file}:resnet50")


def test_a_model_that_could_not_be_counted_has_no_counts(save: Save) -> None:
    file = save(several())
    with pytest.raises(UnreadableFile, match=r"reports\[3\] has no counts: its model could not be counted"):
        read(Target("x"), f"{file}:broken")


def test_a_file_that_is_not_there_is_an_unknown_target_with_the_closest(
    folder: Path, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(several())
    monkeypatch.chdir(folder)
    assert list(names()) == ["saved.json"]
    with pytest.raises(UnknownTarget) as caught:
        read(Target("save.json"), "save.json")
    assert (caught.value.exit_code, caught.value.message) == (2, "there is no file save.json")
    assert caught.value.hint == "did you mean saved.json?"
    with pytest.raises(UnknownTarget, match="there is no file"):
        read(Target("x"), "no/such/folder/saved.json")


def test_a_saved_report_takes_no_arguments(save: Save) -> None:
    file = str(save(document(NET.to_dict())))
    for target in (Target(file, {"width": 3}), Target(file, weights="DEFAULT")):
        with pytest.raises(UsageError, match="is a saved report, which takes no arguments, no weights and no input"):
            read(target, file)


def test_a_json_file_is_a_target_of_the_python_api(save: Save) -> None:
    file = str(save(document(NET.to_dict())))
    assert resolve(file)[0].EXAMPLE == "report.json, report.json:Net"
    assert paramcount.count(file, freeze="*").frozen == 59


# What is not believed -------------------------------------------------------------------------------------------------


def error(file: Path) -> str:
    with pytest.raises(UnreadableFile) as caught:
        loaded(file)
    assert (caught.value.exit_code, caught.value.code) == (3, "unreadable-file")
    assert caught.value.hint == "save one with paramcount count TARGET -f json -o FILE"
    assert caught.value.message.startswith(str(file))
    return caught.value.message.removeprefix(str(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ":1: it is not JSON: Expecting value"),
        (b'{\n"reports": [', ":2: it is not JSON: Expecting value"),
        (b'{"reports": [1, NaN]}', ": it is not JSON: NaN is no number"),
        (b'{"reports": [-Infinity]}', ": it is not JSON: -Infinity is no number"),
        (b'{"reports": [], "format_version": "1.0",\n"reports": []}', ":2: the key 'reports' is there twice"),
        (b'{"reports": [' + b"9" * 5000 + b"]}", ": a number of 5000 digits is too long"),
        (b"[" * 200_000, ": it is nested too deep"),
        (b'{\n"caf\xe9": 1}', ":2: it is not UTF-8 text"),
        ("{}".encode("utf-16"), ":1: it is not UTF-8 text"),
        (b"[]", ": it holds no report of paramcount"),
        (b'{"name": "left-pad", "version": "1.0.0"}', ": it holds no report of paramcount"),
        (b'{"reports": [], "format_version": "1.0"}', ": it holds no report"),
        (b'{"reports": [1], "format_version": "1.0"}', ": not all its reports are mappings"),
        (b'{"reports": []}', ": format_version nothing is unknown: this paramcount reads 1.x"),
        (b'{"reports": [], "format_version": "2.0"}', ": format_version '2.0' is unknown: this paramcount reads 1.x"),
        (b'{"reports": [], "format_version": 1.0}', ": format_version 1.0 is unknown: this paramcount reads 1.x"),
    ],
)  # fmt: skip
def test_what_is_no_document_of_paramcount_is_an_error(save: Save, content: bytes, message: str) -> None:
    assert error(save(content)) == message


def test_a_folder_is_no_report(tmp_path: Path) -> None:
    folder = tmp_path / "saved.json"
    folder.mkdir()
    with pytest.raises(UnreadableFile) as caught:
        loaded(folder)
    assert caught.value.message == f"cannot read {folder}: Is a directory"


def damaged(saved: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """Return a report with another value at a place such as «layers.0.total»; ... takes what is there away."""
    saved = copy.deepcopy(saved)
    *way, last = (int(step) if step.isdigit() else step for step in place.split("."))
    holder: Any = saved
    for step in way:
        holder = holder[step]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return saved


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("total", 60, ".total is 60, and its parameters come to 59"),
        ("total", 59.0, ".total is 59.0, and its parameters come to 59"),
        ("unknown", True, ".unknown is true, and its parameters come to 3"),
        ("uninitialized", 0, ".uninitialized is 0, and its parameters come to 1"),
        ("bytes", ..., " has no 'bytes'"),
        ("dtypes.float16", 41, ".dtypes.float16 is 41, and its parameters come to 40"),
        ("dtypes.int8", 1, ".dtypes has 'int8', which none of its parameters has"),
        ("buffers.total", -1, ".buffers.total cannot be -1"),
        ("buffers", None, ".buffers is nothing, not a mapping"),
        ("layers", ..., " has no list of layers"),
        ("layers.0", ..., ".layers[0].depth is 2, and its parameters come to 1"),
        ("layers.0.total", 17, ".layers[0].total is 17, and its parameters come to 16"),
        ("layers.1.depth", 1, ".layers[1].depth is 1, and its parameters come to 2"),
        ("layers.1.name", "body", " has 'body' twice"),
        ("layers.1.name", "", ".layers[1].name cannot be ''"),
        ("layers.1.type", 5, ".layers[1].type cannot be 5"),
        ("params", {}, " has no list of params"),
        ("params.0", [], ".params[0] is a list, not a mapping"),
        ("params.0.numel", 17, ".total is 59, and its parameters come to 60"),
        ("params.0.numel", -16, ".params[0].numel cannot be -16"),
        ("params.0.numel", True, ".params[0].numel cannot be true"),
        ("params.0.bytes", None, ".bytes is 156, and its parameters come to 92"),
        ("params.0.trainable", 0, ".params[0].trainable cannot be 0"),
        ("params.0.trainable", True, ".trainable is 40, and its parameters come to 56"),
        ("params.0.shape", [4, -4], ".params[0].shape cannot be a list"),
        ("params.0.shape", "4, 4", ".params[0].shape cannot be '4, 4'"),
        ("params.0.name", "head.weight", " has 'head.weight' twice"),
        ("params.0.name", "head.other", ": 'again.0.weight' is tied to 'body.0.weight', which does not count"),
        ("params.1.tied_to", None, ".total is 59, and its parameters come to 75"),
        ("params.1.tied_to", "again.0.weight", ": 'again.0.weight' is tied to 'again.0.weight', which does not count"),
        ("params.4.dtype", ..., ".params[4] has no 'dtype'"),
        ("notes", [{"code": "pruned", "where": "", "message": None}], ".notes[0].message cannot be nothing"),
    ],
)  # fmt: skip
def test_a_report_that_contradicts_itself_is_not_believed(save: Save, place: str, value: Any, message: str) -> None:
    file = save(document(damaged(NET.to_dict(), place, value)))
    assert error(file) == f": reports[0]{message}"


def test_a_damaged_report_is_an_error_or_adds_up(save: Save) -> None:
    chance = random.Random(0)
    whole = json.dumps(document(NET.to_dict())).encode()
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.choice(b'{}[]":,0123456789e.-x\n\xff')
        file = save(bytes(data))
        try:
            again = loaded(file)
        except ParamcountError:
            continue
        saved = json.loads(bytes(data))["reports"][0]
        kept = {key: saved[key] for key in untargeted(NET.to_dict())}
        assert untargeted(again.to_dict()) == kept
        assert again.total == sum(p["numel"] or 0 for p in saved["params"] if p["tied_to"] is None)


def test_an_error_is_shown_with_the_exit_code_of_its_kind(run: Run, save: Save, folder: Path) -> None:
    unreadable = run("count", save(b"{"))
    assert (unreadable.code, unreadable.out) == (3, "")
    assert "it is not JSON" in unreadable.err
    assert run("count", save(several())).code == 2
    assert run("count", folder / "none.json").code == 2


def test_an_index_of_shards_is_no_report(tmp_path: Path) -> None:
    path = tmp_path / "renamed.json"
    path.write_text('{"metadata": {}, "weight_map": {"a": "model-2.bin", "b": "model-1.bin", "c": "model-2.bin"}}')
    with pytest.raises(UnreadableFile, match="is the index of shards, and holds no weights itself") as caught:
        loaded(path)
    assert caught.value.hint == "name the folder that they are in, or the index where it is beside them"
