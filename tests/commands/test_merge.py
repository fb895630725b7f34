"""``paramcount merge``: the shards of a run, joined, are what the whole run would have said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paramcount import __version__
from paramcount.commands.counting import document
from tests.conftest import Run

NET = """\
from torch import nn
class Small(nn.Linear):
    def __init__(self): super().__init__(2, 3)
class Large(nn.Linear):
    def __init__(self): super().__init__(20, 30)
class Broken(nn.Module):
    def __init__(self): raise RuntimeError("no")
"""
MODELS = """\
version: 1
models:
  zebra: {target: net.py:Small, budget: {total: 9}}
  ant: {target: net.py:Large, budget: {total: 1K}}
  middle: {target: net.py:Small, budget: {trainable: 9}}
"""


@pytest.fixture
def project(folder: Path) -> Path:
    (folder / "net.py").write_text(NET)
    (folder / "models.yaml").write_text(MODELS)
    return folder


def shards(run: Run, of: int, *args: object) -> Iterator[str]:
    for index in range(of, 0, -1):  # the order of files says nothing
        file = Path(f"{index}.json")
        file.write_text(run(*args, "--shard", f"{index}/{of}", "-f", "json").out)
        yield str(file)


@pytest.mark.parametrize("of", [1, 2, 3, 5])
def test_the_shards_of_a_check_make_up_the_whole(run: Run, project: Path, of: int) -> None:
    whole = run("check", "-f", "json")
    merged = run("merge", *shards(run, of, "check"), "-f", "json")
    assert merged.json == whole.json
    assert (merged.code, whole.code) == (0, 0)


def test_a_merged_check_gates_as_the_whole_does(run: Run, project: Path) -> None:
    Path("models.yaml").write_text(MODELS.replace("total: 1K", "total: 629"))
    files = list(shards(run, 2, "check"))
    merged = run("merge", *files)
    assert merged.code == run("check").code == 1
    assert merged.out.startswith("3 models: 2 ok, 1 over\n")
    assert [line.split() for line in merged.out.splitlines()[3:6]] == [
        ["zebra", "total", "9", "ok"],
        ["ant", "total", "629", "630", "over"],
        ["middle", "total", "9", "ok"],
    ]
    assert "! ant: total is 630, 1 over the limit of 629 (models.yaml:4:" in merged.out
    assert run("merge", *files, "-f", "github").out == run("check", "-f", "github").out
    assert run("merge", *files, "-f", "junit").out == run("check", "-f", "junit").out
    Path("models.yaml").write_text(MODELS.replace("ant: {target: net.py:Large", "ant: {target: net.py:Broken"))
    assert run("merge", *shards(run, 2, "check")).code == run("check").code == 3
    Path("models.yaml").write_text(MODELS.replace("}}\n", "}, layers: {none: {total: 1}}}\n", 1))
    assert run("merge", *shards(run, 2, "check")).code == run("check").code == 2


def test_the_shards_of_a_list_make_up_the_whole(run: Run, folder: Path) -> None:
    asked = ("list", "squeezenet*", "--source", "torchvision", "--counts")
    files = list(shards(run, 3, *asked))
    assert run("merge", *files, "-f", "json").json == run(*asked, "-f", "json").json
    assert run("merge", *files).out == run(*asked).out
    assert run("merge", *files, "--sort", "size").out == run(*asked, "--sort", "size").out
    assert run("merge", *files, "--sort", "size", "-f", "json").json == run(*asked, "--sort", "size", "-f", "json").json


def test_counts_are_joined_in_the_order_of_their_files(run: Run, project: Path) -> None:
    run("count", "net.py:Large", "-f", "json", "-o", "a.json")
    Path("b.json").write_text(run("count", "net.py:Small", "net.py:Broken", "-f", "json").out)
    merged = run("merge", "a.json", "b.json", "-f", "json")
    assert [report["total"] for report in merged.json["reports"]] == [630, 9]
    assert merged.code == 3
    assert [line.split()[0] for line in run("merge", "b.json", "a.json").out.splitlines()[3:]] == [
        "net.py:Small",
        "net.py:Large",
        "net.py:Broken",
    ]
    Path("merged.json").write_text(merged.out)
    assert run("merged.json:net.py:Large", "--value", "total").out == "630\n"


def test_the_same_file_twice_is_once_and_a_contradiction_is_an_error(run: Run, project: Path) -> None:
    run("count", "net.py:Small", "-f", "json", "-o", "a.json")
    assert len(run("merge", "a.json", "a.json", "-f", "json").json["reports"]) == 1
    run("count", "net.py:Small", "--freeze", "*", "-f", "json", "-o", "b.json")
    outcome = run("merge", "a.json", "b.json")
    assert (outcome.code, outcome.out) == (2, "")
    assert "a.json and b.json do not say the same of net.py:Small" in outcome.err


def test_a_missing_shard_a_stranger_and_another_kind_are_named(run: Run, project: Path) -> None:
    list(shards(run, 3, "check"))
    run("count", "net.py:Small", "-f", "json", "-o", "count.json")
    Path("whole.json").write_text(run("check", "-f", "json").out)
    Path("half.json").write_text(run("check", "--shard", "1/2", "-f", "json").out)
    Path("other.json").write_text(run("check", "--shard", "1/3", "-f", "json").out.replace("zebra", "horse"))

    def said(*files: str) -> str:
        outcome = run("merge", *files)
        assert (outcome.code, outcome.out) == (2, "")
        return outcome.err

    assert "of 3 shards 2/3 is missing" in said("1.json", "3.json")
    assert "of 3 shards 1/3, 3/3 are missing" in said("2.json")
    assert "1.json is shard 1/3, and whole.json no shard" in said("1.json", "whole.json")
    assert "1.json is shard 1/3, and half.json shard 1/2" in said("1.json", "half.json")
    assert "1.json and other.json are both shard 1/3" in said("1.json", "other.json", "2.json", "3.json")
    assert "whole.json is of check, and count.json of count" in said("whole.json", "count.json")
    assert "-f github is for results of check, and these are of count" in run("merge", "count.json", "-f", "github").err


def test_shards_of_other_models_and_other_versions_are_named(run: Run, project: Path) -> None:
    def shard(written: str, *names: str) -> str:
        file = Path(f"{'-'.join(names)}.json")
        document = run("check", *names, "-f", "json").json | {"shard": written}
        file.write_text(json.dumps(document))
        return str(file)

    def said(*files: str) -> str:
        outcome = run("merge", *files)
        assert (outcome.code, outcome.out) == (2, "")
        return outcome.err

    first = shard("1/2", "zebra", "middle")
    assert f"{first} and middle.json both have middle, which is in one shard" in said(first, shard("2/2", "middle"))
    assert "zebra.json has 1 model, which is not shard 1/2 of 3" in said(
        shard("1/2", "zebra"), shard("2/2", "ant", "middle")
    )
    newer = json.loads(Path(shard("2/2", "ant")).read_text()) | {"paramcount_version": "9.0"}
    Path("newer.json").write_text(json.dumps(newer))
    versions = f"{first} is of paramcount {__version__}, and newer.json of paramcount 9.0"
    assert versions in said(first, "newer.json")
    assert run("merge", "newer.json", "newer.json", "-f", "json").code == 2  # one of two
    Path("newer.json").write_text(json.dumps({key: value for key, value in newer.items() if key != "shard"}))
    assert run("merge", "newer.json", "-f", "json").json["paramcount_version"] == "9.0"


BAD: dict[str, tuple[Any, str]] = {
    "no-json": ("{", "x.json:1: it is not JSON"),
    "list": ([], "x.json: it is no result of count, check or list"),
    "diff": (document([], []) | {"old": {}}, "x.json: it is no result of count, check or list"),
    "version": (document([], []) | {"format_version": "2.0"}, "x.json: format_version '2.0' is unknown"),
    "reports": (document([], []) | {"reports": [1]}, "x.json: reports is a list, not a list of mappings"),
    "entry": (document([{"target": "a"}], []), "x.json: entry 0: source cannot be nothing"),
    "finding": (
        document([{"target": "a", "name": "a", "status": "over", "findings": [{}]}], []),
        "x.json: entry 0: a mapping is no finding",
    ),
    "error": (document([], [{"code": "usage"}]), "x.json: error 0: message cannot be nothing"),
    "shard": (document([], []) | {"shard": "3"}, "x.json: shard '3' is no shard"),
}


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD)
def test_a_file_that_is_no_result_is_named_and_nothing_is_merged(
    run: Run, folder: Path, content: Any, said: str
) -> None:
    Path("x.json").write_text(content if isinstance(content, str) else json.dumps(content))
    outcome = run("merge", "x.json")
    assert (outcome.code, outcome.out) == (3, "")
    assert said in outcome.err


OVER = {"rule": "total", "layer": "", "limit": 1, "actual": 2, "over": 1, "message": "total is 2", "location": None}


@pytest.mark.parametrize(
    ("status", "findings", "said"),
    [
        ("ok", [OVER], "status 'ok' contradicts its 1 finding"),
        ("error", [OVER], "status 'error' contradicts its 1 finding"),
        ("ok", [OVER | {"over": None}], "status 'ok' contradicts its 1 finding"),
        ("over", [OVER, OVER | {"over": None}], "status 'over' contradicts its 2 findings"),
        ("over", [], "status 'over' contradicts its 0 findings"),
        ("fine", [], "status 'fine' contradicts its 0 findings"),
        ("ok", [OVER | {"rule": "locked", "over": None}], "status 'ok' contradicts its 1 finding"),
        ("over", [OVER | {"location": 5}], "location cannot be 5"),
        ("over", [OVER | {"location": {"file": "models.yaml", "line": "5"}}], "location cannot be a mapping"),
        ("over", [OVER | {"actual": "2"}], "actual of a finding cannot be '2'"),
        ("over", [OVER | {"rule": None}], "rule of a finding cannot be nothing"),
    ],
)
def test_a_status_that_its_findings_contradict_is_not_believed(
    run: Run, project: Path, status: str, findings: list[Any], said: str
) -> None:
    whole = run("check", "-f", "json").json
    whole["reports"][0] |= {"status": status, "findings": findings}
    Path("x.json").write_text(json.dumps(whole))
    outcome = run("merge", "x.json")
    assert (outcome.code, outcome.out) == (3, "")
    assert f"x.json: entry 0: {said}" in outcome.err


def test_a_file_that_is_not_there_gets_the_closest(run: Run, folder: Path) -> None:
    Path("report1.json").write_text("")
    outcome = run("merge", "report2.json")
    assert outcome.code == 2
    assert "there is no file report2.json\n  did you mean report1.json?" in outcome.err


def test_an_empty_shard_is_fine(run: Run, project: Path) -> None:
    outcome = run("check", "--shard", "4/4")
    assert outcome.code == 0
    assert "shard 4/4 has nothing to do: there are no more than 3 models for 4 shards" in outcome.err
    assert run("check", "--shard", "4").code == 2
