"""``paramcount list``: the names of all models there are, and their counts."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
import timm
from torchvision import models

from paramcount.errors import BuildError
from paramcount.inventory import Inventory
from paramcount.sources import Target, resolve, torchvision
from tests.conftest import Run
from tests.sources.test_torchvision import built_by_torchvision_alone

SQUEEZENET = 1_235_496  # published for squeezenet1_1


def test_names_are_those_of_the_libraries_one_a_line_and_each_is_a_target(run: Run) -> None:
    words = run("list").out.splitlines()
    assert [word for word in words if ":" not in word] == sorted(models.list_models())
    assert {word for word in words if ":" in word} == {f"timm:{name}" for name in timm.list_models()}
    for word in (words[0], words[-1]):
        assert resolve(word)[0].IS_CATALOGUE


@pytest.mark.parametrize("pattern", ["*vit*", "resnet50", "resnet[0-9]?"])
def test_a_pattern_matches_as_timms_own_does(run: Run, pattern: str) -> None:
    expected = [f"timm:{name}" for name in sorted(timm.list_models(pattern))]
    assert run("list", pattern, "--source", "timm").out.splitlines() == expected
    assert run("list", f"timm:{pattern}").out.splitlines() == expected
    assert set(run("list", pattern).out.splitlines()) == {*expected, *models.list_models(include=pattern)}


def test_the_whole_catalogue_of_torchvision_has_its_published_counts(run: Run) -> None:
    """Those that differ by what their weights want, or have no weights, have PyTorch's own sum."""
    listed = run("list", "--source", "torchvision", "--counts", "-f", "json").json
    assert listed["errors"] == []
    assert [model["name"] for model in listed["models"]] == sorted(models.list_models())
    for model in listed["models"]:
        published = {weights.meta["num_params"] for weights in models.get_model_weights(model["name"])}
        if model["total"] not in published:
            built = built_by_torchvision_alone(model["name"])
            assert model["total"] == sum(p.numel() for p in built.parameters())
        assert model["total"] == model["trainable"] + model["frozen"] + model["unknown"]


def test_limits_include_both_bounds_and_imply_counts(run: Run) -> None:
    def found(*options: object) -> list[str]:
        listed = run("list", "squeezenet*", "-f", "json", "--source", "torchvision", *options).json["models"]
        return [model["name"] for model in listed]

    assert found("--max", SQUEEZENET) == ["squeezenet1_1"]
    assert found("--max", SQUEEZENET - 1) == []
    assert found("--min", SQUEEZENET, "--max", "1.3M") == ["squeezenet1_0", "squeezenet1_1"]
    assert found("--min", SQUEEZENET + 1) == ["squeezenet1_0"]


def test_the_largest_first_and_what_a_limit_left_out(run: Run) -> None:
    outcome = run("list", "mnasnet[01]*", "--max", "5M", "--sort", "size", "--source", "torchvision")
    title, header, _, *rows = outcome.out.splitlines()
    assert title == "3 of 4 models"
    assert header.split() == ["Model", "Type", "Parameters", "Size", "Buffers"]
    assert [row.split()[0] for row in rows] == ["mnasnet1_0", "mnasnet0_75", "mnasnet0_5"]
    published = [models.get_model_weights(row.split()[0]).DEFAULT.meta["num_params"] for row in rows]
    assert [int(row.split()[2].replace(",", "")) for row in rows] == published


def test_csv_has_every_column_and_the_ending_of_a_file_picks_a_format(run: Run, folder: Path) -> None:
    run("list", "squeezenet1_1", "--source", "torchvision", "--counts", "-o", "models.csv")
    (row,) = csv.DictReader(io.StringIO((folder / "models.csv").read_text()))
    assert (row["target"], row["source"], row["type"]) == ("squeezenet1_1", "torchvision", "SqueezeNet")
    assert (row["total"], row["trainable"], row["bytes"]) == (str(SQUEEZENET), str(SQUEEZENET), str(4 * SQUEEZENET))
    names = list(csv.reader(io.StringIO(run("list", "squeezenet1_1", "-f", "csv").out)))
    assert names == [["target", "source"], ["squeezenet1_1", "torchvision"]]
    assert "| `squeezenet1_1` | torchvision |" in run("list", "squeezenet1_1", "-f", "markdown").out


def test_what_cannot_be_built_is_one_row_and_not_the_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    really_read = torchvision.read

    def read(target: Target, name: str) -> Inventory:
        if name == "alexnet":
            raise BuildError("alexnet: will not")
        if name == "mnasnet0_5":
            os._exit(1)
        return really_read(target, name)

    monkeypatch.setattr(torchvision, "read", read)
    monkeypatch.setattr(torchvision, "names", lambda: ("alexnet", "mnasnet0_5", "squeezenet1_1"))
    outcome = run("list", "--source", "torchvision", "--counts")
    assert outcome.code == 3
    assert outcome.out.splitlines()[0] == "3 models, 2 of them not counted"
    assert [line.split()[:4] for line in outcome.out.splitlines()[3:]] == [
        ["squeezenet1_1", "SqueezeNet", "1,235,496", "4.94"],
        ["alexnet", "not", "counted", "?"],
        ["mnasnet0_5", "not", "counted", "?"],
    ]
    assert "error: alexnet: will not\n" in outcome.err
    assert "error: mnasnet0_5 took its process down with it: exit code 1\n" in outcome.err
    document = run("list", "--source", "torchvision", "--max", "2M", "-f", "json").json
    assert [model["name"] for model in document["models"]] == ["squeezenet1_1"]
    assert [(error["target"], error["code"]) for error in document["errors"]] == [
        ("alexnet", "build-failed"),
        ("mnasnet0_5", "build-crashed"),
    ]


def test_shards_make_up_the_whole(run: Run) -> None:
    whole = run("list", "*mnas*").out.splitlines()
    parts = [run("list", "*mnas*", "--shard", f"{n}/3").out.splitlines() for n in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(whole)
    assert run("list", "*mnas*", "--shard", "2/3", "-f", "json").json["shard"] == "2/3"
    assert "shard" not in run("list", "*mnas*", "-f", "json").json
    empty = run("list", "squeezenet1_1", "--shard", "2/2", "--counts")
    assert empty.code == 0
    assert "shard 2/2 has nothing to do" in empty.err


MISTAKES: list[tuple[list[str], str]] = [
    (["resnett"], "no model is named 'resnett'"),
    (["resnett*"], "no model matches 'resnett*'"),
    (["vit"], "'*vit*' matches"),
    (["resnet51"], "did you mean timm:resnet51q, resnet50 or resnet18?"),
    (["resnet"], "did you mean resnet50, resnet34 or timm:resnet26? '*resnet*' matches "),
    (["resnet51", "--source", "torchvision"], "did you mean resnet50, resnet18 or resnet152?"),
    (["*resnet51"], "  '*resnet51*' matches timm:resnet51q"),
    (["xyzzyx"], "paramcount list shows all"),
    (["--source", "tim"], "did you mean timm?"),
    (["--source", "gguf"], "--source 'gguf' has no list of models"),
    (["--max", "5MB"], "--max '5MB' is no count: write"),
    (["--min", "-1"], "--min '-1' is no count: write"),
    (["--min", "2M", "--max", "1M"], "--min 2M is more than --max 1M"),
    (["--shard", "3/2"], "--shard '3/2' is no shard"),
]


@pytest.mark.parametrize(("args", "said"), MISTAKES, ids=[" ".join(args) for args, _ in MISTAKES])
def test_a_mistake_is_named_with_what_to_write(run: Run, args: list[str], said: str) -> None:
    outcome = run("list", *args)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err


def test_a_library_that_is_not_there_gets_the_command_that_adds_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paramcount.sources.timm.names", list)
    monkeypatch.setattr("paramcount.commands.list.find_spec", lambda _: None)
    outcome = run("list", "--source", "timm")
    assert outcome.code == 3
    assert "pip install 'paramcount[timm]'" in outcome.err
    assert run("list", "resnet18").out == "resnet18\n"
