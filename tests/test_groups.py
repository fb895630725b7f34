"""Groups of parameters: each tensor in one, and together the total."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from torch import nn

import paramcount
from paramcount.groups import BY, By, embedding_breakdown, grouping, groups
from paramcount.report import Report, Tally
from tests.conftest import Run
from tests.inventories import lazy, param, report
from tests.strategies import reports


class LanguageModel(nn.Module):
    """A decoder in the proportions of GPT-2, or, with a head and rotary positions of its own, of GPT-NeoX."""

    def __init__(self, *, vocabulary: int, width: int, layers: int, positions: int | None, tie: bool) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        if positions is not None:
            self.wpe = nn.Embedding(positions, width)
        # A block of both: 4 * width² + 4 * width in attention, 8 * width² + 5 * width in the MLP, 4 * width in norms.
        self.h = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 8, 4 * width, bias=True, device="meta") for _ in range(layers)
        )
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        if tie:
            self.lm_head.weight = self.wte.weight


def gpt2() -> nn.Module:
    with torch.device("meta"):
        return LanguageModel(vocabulary=50_257, width=768, layers=12, positions=1024, tie=True)


def pythia_70m() -> nn.Module:
    with torch.device("meta"):
        return LanguageModel(vocabulary=50_304, width=512, layers=6, positions=None, tie=False)


def sums(found: Report, by: By) -> dict[str, int]:
    return {group.label: group.tally.total for group in groups(found, by)}


@pytest.mark.parametrize("by", BY)
@settings(max_examples=30)
@given(found=reports())
def test_every_tensor_is_in_one_group_and_the_groups_add_up_to_the_total(by: By, found: Report) -> None:
    sorted_out = groups(found, by)
    names = Counter(each.name for group in sorted_out for each in group.params)
    assert names == Counter(each.name for each in found.params if each.tied_to is None)
    assert sum((group.tally for group in sorted_out), Tally()) == found.root.tally
    assert len({group.label for group in sorted_out}) == len(sorted_out)


def test_dtypes_come_the_largest_first() -> None:
    found = report({}, [param("a", 2), param("b", 5, dtype="int8"), param("c", 2), param("d", 9, tied_to="b")])
    assert list(sums(found, "dtype").items()) == [("int8", 5), ("float32", 4)]


def test_a_type_is_that_of_the_module_that_has_the_parameter() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3))
    assert sums(paramcount.count(model), "type") == {"Conv2d": 3 * 4 * 9 + 4 + 4 * 4 * 9 + 4, "BatchNorm2d": 8}


def test_what_trains_comes_first_and_what_nobody_knows_last() -> None:
    found = report({}, [param("a", 1, trainable=None), param("b", 2, trainable=False), param("c", 3)])
    assert list(sums(found, "requires_grad").items()) == [("trainable", 3), ("frozen", 2), ("unknown", 1)]


def test_modules_at_the_same_place_in_all_blocks_are_one_group_whose_label_is_a_pattern() -> None:
    model = nn.ModuleDict({"layers": nn.ModuleList(nn.Sequential(nn.Linear(2, 3)) for _ in range(4))})
    found = paramcount.count(model)
    assert sums(found, "module") == {"layers.*.*": 4 * 9}
    assert paramcount.count(model, freeze="layers.*.*").frozen == 4 * 9


def test_optimizers_decay_matrices_that_train_and_no_biases_and_norms() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 6))
    model[2].weight.requires_grad_(False)
    decayed = [p for n, p in model.named_parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for n, p in model.named_parameters() if p.requires_grad and p.ndim <= 1]
    assert sums(paramcount.count(model), "decay") == {
        "decay": sum(p.numel() for p in decayed),
        "no decay": sum(p.numel() for p in plain),
        "frozen": 30,
    }


def test_weight_decay_is_as_timm_has_it() -> None:
    timm_optim = pytest.importorskip("timm.optim")
    model = gpt2()
    no_decay, decay = timm_optim.param_groups_weight_decay(model, 0.1)
    assert sums(paramcount.count(model), "decay") == {
        "decay": sum(p.numel() for p in decay["params"]),
        "no decay": sum(p.numel() for p in no_decay["params"]),
    }


def test_gpt_2_splits_as_published() -> None:
    split = embedding_breakdown(paramcount.count(gpt2()))
    # Published: https://github.com/karpathy/nanoGPT counts 124,439,808, or 123,653,376 without position embeddings.
    assert split.total == 124_439_808
    assert split.total - split.position_embeddings == 123_653_376
    assert split.non_embedding == 85_056_000
    assert (split.output_head, split.tied_head) == (0, "lm_head.weight")


def test_pythia_splits_as_published() -> None:
    split = embedding_breakdown(paramcount.count(pythia_70m()))
    # Published: the table of https://github.com/EleutherAI/pythia counts 70,426,624, and 18,915,328 non-embedding.
    assert split.total == 70_426_624
    assert split.non_embedding == 18_915_328
    assert (split.output_head, split.tied_head) == (50_304 * 512, None)


def test_a_file_that_knows_no_types_splits_by_names() -> None:
    typed = paramcount.count(pythia_70m())
    weights = [param(each.name, *(each.shape or ())) for each in typed.params]
    untyped = report({layer.name: "" for layer in typed.layers}, weights, root="")
    assert embedding_breakdown(untyped) == embedding_breakdown(typed)
    assert list(sums(untyped, "type")) == ["(type not known)"]


def test_position_embeddings_may_be_tensors_of_their_own() -> None:
    found = report({"blocks": "Block"}, [param("pos_embed", 1, 4, 8), param("cls_token", 1, 8), param("b.bias", 8)])
    assert sums(found, "embedding") == {"position embeddings": 32, "everything else": 16}


def test_a_head_of_other_classes_than_the_vocabulary_is_no_output_head() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(100, 8), "head": nn.Linear(8, 10)})
    assert sums(paramcount.count(model), "embedding") == {"embeddings": 800, "everything else": 90}


def test_a_group_with_a_lazy_parameter_is_a_lower_bound() -> None:
    found = report({"a": "Linear", "b": "LazyLinear"}, [param("a.w", 1000), lazy("b.w")])
    grid = grouping(found, "type")
    cells = {row.cells[2]: type(row.cells[4]).__name__ for row in grid.rows}
    assert cells == {"Linear": "int", "LazyLinear": "AtLeast"}


def test_only_what_a_lazy_parameter_may_add_to_is_a_lower_bound() -> None:
    found = report({"a": "LazyLinear"}, [lazy("a.w")])
    (row,) = grouping(found, "type").rows
    of = dict(zip((column.key for column in grouping(found, "type").columns), row.cells, strict=True))
    bounded = {key for key in ("trainable", "frozen", "unknown") if type(of[key]).__name__ == "AtLeast"}
    assert bounded == {"trainable"}


NET = "tests/models/tutorial_cnn.py"


def test_groups_are_further_tables(run: Run) -> None:
    found = run("count", NET, "--by", "dtype", "--by", "requires_grad", "--depth", "0", "--breakdown", "embedding")
    titles = [line for line in found.out.splitlines() if line.startswith(NET)]
    assert [title.partition(" · ")[2] for title in titles][1:] == ["by dtype", "by what trains", "embeddings"]


def test_json_has_groups_only_where_they_are_asked_for(run: Run) -> None:
    (plain,) = json.loads(run("count", NET, "-f", "json").out)["reports"]
    assert not plain.keys() & {"groups", "breakdown"}
    (asked,) = json.loads(run("count", NET, "-f", "json", "--by", "type", "--breakdown", "embedding").out)["reports"]
    assert sum(group["total"] for group in asked["groups"]["type"]) == plain["total"]
    assert asked["breakdown"]["embedding"]["non_embedding"] == plain["total"]


def test_csv_has_groups_under_the_same_header(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(run("count", NET, "-f", "csv", "--by", "dtype").out)))
    grouped = [(row["by"], row["group"], row["total"]) for row in rows if row["kind"] == "group" and row["group"]]
    total = next(row["total"] for row in rows if row["kind"] == "layer" and row["layer"] == "")
    assert grouped == [("dtype", "float32", total)]


def test_an_unknown_grouping_is_a_usage_error_with_the_closest(run: Run) -> None:
    found = run("count", NET, "--by", "dtyp")
    assert found.code == 2
    assert "did you mean dtype" in found.err


def test_a_saved_report_keeps_its_groups_out_of_the_count(run: Run, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    run("count", NET, "-f", "json", "--by", "type", "-o", str(saved))
    assert run("count", str(saved), "--value", "total").out == run("count", NET, "--value", "total").out
