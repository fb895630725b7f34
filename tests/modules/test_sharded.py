"""Of a sharded model every rank counts the whole, as PyTorch does before it is sharded, and knows its own share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import paramcount
from tests.modules.ranks import CASES, FOUR_BIT, WORLDS, mlp, net

Report = dict[str, Any]
ROOT = Path(__file__).parents[2]
NETS = [case.__name__ for case in CASES if case.__name__ not in {"tensor_parallel", "both", "replicated", "elsewhere"}]
# Those of which each element is on one rank alone.
SPLIT = [name for name in NETS if name not in {"unsharded", "first_fsdp_replicated"}]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Report]]]:
    """What each rank said of each case, by the size of its world."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.modules.ranks", str(folder)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return {
        world: [json.loads((folder / f"{world}-{rank}.json").read_text()) for rank in range(world)] for world in WORLDS
    }


@cache
def whole(case: str) -> nn.Module:
    """The model of a case before it is sharded."""
    model: nn.Module = net() if case in NETS else mlp()
    if case == "replicated":
        for name in ("0.weight", "2.weight"):
            model.get_parameter(name).requires_grad_(False)
    return model


@pytest.mark.parametrize("case", [case.__name__ for case in CASES])
@pytest.mark.parametrize("world", WORLDS)
def test_every_rank_counts_the_whole_model(said: dict[int, list[dict[str, Report]]], world: int, case: str) -> None:
    model = whole(case)
    params = dict(model.named_parameters(remove_duplicate=False))
    for reports in said[world]:
        report = reports[case]
        assert report["total"] == sum(p.numel() for p in model.parameters())
        assert report["trainable"] == sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert report["bytes"] == sum(p.numel() * p.element_size() for p in model.parameters())
        assert report["buffers"]["total"] == sum(buffer.numel() for buffer in model.buffers())
        assert {p["name"]: tuple(p["shape"]) for p in report["params"]} == {
            n: tuple(p.shape) for n, p in params.items()
        }
        assert {p["name"]: p["trainable"] for p in report["params"]} == {n: p.requires_grad for n, p in params.items()}
        assert [p["name"] for p in report["params"] if p["tied_to"]] == (["head.weight"] if case in NETS else [])
        assert [(layer["name"], layer["type"]) for layer in report["layers"]] == [
            (name, type(module).__name__) for name, module in model.named_modules() if name
        ]


@pytest.mark.parametrize("case", [case.__name__ for case in CASES if case.__name__ != "unsharded"])
@pytest.mark.parametrize("world", WORLDS)
def test_a_ranks_share_is_what_its_tensors_hold(
    said: dict[int, list[dict[str, Report]]], world: int, case: str
) -> None:
    for reports in said[world]:
        report = reports[case]
        codes = [note["code"] for note in report["notes"]]
        assert codes == ["sharded"]
        if case not in {"zero", "first_fsdp"}:  # the one has its share elsewhere, the other its padding in it
            assert report["local"] == {"total": report["held"], "bytes": 4 * report["held"]}


@pytest.mark.parametrize("case", SPLIT)
@pytest.mark.parametrize("world", WORLDS)
def test_the_shares_of_all_ranks_make_up_the_whole(
    said: dict[int, list[dict[str, Report]]], world: int, case: str
) -> None:
    reports = [reports[case] for reports in said[world]]
    assert sum(report["local"]["total"] for report in reports) == reports[0]["total"]
    for name, param in whole(case).named_parameters():
        shares = [p["local"] for report in reports for p in report["params"] if p["name"] == name]
        assert sum(shares) == param.numel()


@pytest.mark.parametrize("case", [case.__name__ for case in FOUR_BIT])
@pytest.mark.parametrize("world", WORLDS)
def test_a_sharded_model_in_four_bits_counts_as_the_weights_it_stands_for(
    said: dict[int, list[dict[str, Report]]], world: int, case: str
) -> None:
    plain = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 3))
    reports = [reports[case] for reports in said[world]]
    for report in reports:
        assert report["total"] == sum(param.numel() for param in plain.parameters())
        assert report["packed"] == plain.get_parameter("0.weight").numel()
        assert report["bytes"] == 64 * 64 // 2 + 4 * (64 + 3 * 64 + 3)
        assert report["overhead"]["total"] > 64 * 64 // 64  # a scale for each block of 64, and what they are scaled by
        assert sorted(note["code"] for note in report["notes"]) == ["packed", "sharded"]
    assert sum(report["local"]["total"] for report in reports) == reports[0]["total"]


def test_a_model_that_is_not_sharded_says_nothing_of_ranks(said: dict[int, list[dict[str, Report]]]) -> None:
    for reports in said.values():
        for report in reports:
            assert "local" not in report["unsharded"]
            assert report["unsharded"]["notes"] == []


def test_the_note_says_over_how_many_ranks(said: dict[int, list[dict[str, Report]]]) -> None:
    def message(case: str) -> str:
        return str(said[4][3][case]["notes"][0]["message"])

    assert message("second_fsdp").startswith(
        "spread over 4 ranks: the counts are of the whole, and this rank holds 22 of"
    )
    assert message("both").startswith("spread over 4 ranks (dp 2 × tp 2): ")
    assert message("tensor_parallel").startswith("spread over 4 ranks (tp): ")


def test_a_partitioned_parameter_is_counted_without_any_process_group() -> None:
    layer = nn.Linear(7, 5)
    noted: Any = layer.weight
    noted.ds_numel, noted.ds_shape, noted.ds_tensor = 35, torch.Size([5, 7]), torch.zeros(18)
    noted.data = torch.empty(0)
    report = paramcount.count(layer)
    assert (report.total, report.local.total) == (5 * 7 + 5, 18 + 5)
