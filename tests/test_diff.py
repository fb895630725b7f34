"""Comparing two counts: what differs is said once, where it is, and adds up."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings

from paramcount.diff import Change, Changes, Side, changes
from paramcount.grid import AtLeast
from paramcount.inventory import Param
from paramcount.report import Report, Tally
from tests.inventories import buffer, lazy, param, report
from tests.strategies import reports

MODULES = {"stem": "Conv2d", "body": "Sequential", "body.0": "Linear", "body.1": "Linear", "head": "Linear"}
PARAMS = (
    param("stem.weight", 4, 3),  # 12
    param("body.0.weight", 4, 4),  # 16
    param("body.1.weight", 4, 5),  # 20
    param("head.weight", 10, 5),  # 50
    param("head.bias", 10),  # 10
)
NET = report(MODULES, PARAMS)  # 108


def between(old: Report, new: Report) -> Changes:
    return changes(Side.of(old, "old"), Side.of(new, "new"))


def said(changed: Changes) -> list[tuple[str, str, int | None]]:
    """Return each row's layer, what happened to it, and how many elements it has more."""
    return [(row.layer, ", ".join(row.kinds), row.difference) for row in changed.rows]


def with_params(*new: Param, without: tuple[str, ...] = ()) -> tuple[Param, ...]:
    """Return PARAMS, with some replaced by name, some left out, and those that have a new name at the end."""
    by_name = {each.name: each for each in (*PARAMS, *new)}
    return tuple(each for name, each in by_name.items() if name not in without)


def test_equal_sides_have_no_rows() -> None:
    changed = between(NET, report(MODULES, PARAMS))
    assert changed.rows == ()
    assert not changed.different
    assert changed.difference == 0
    assert [remark.text for remark in changed.grids()[0].remarks] == ["no difference"]


def test_a_layer_with_another_count_is_changed_and_its_parents_are_not_listed() -> None:
    wider = report(MODULES, with_params(param("body.1.weight", 4, 7)))  # 28
    changed = between(NET, wider)
    assert said(changed) == [("body.1", "changed", 8)]
    assert [(p.name, p.kinds) for p in changed.rows[0].params] == [("body.1.weight", ("reshaped",))]
    assert (changed.old.tally.total, changed.new.tally.total, changed.difference) == (108, 116, 8)
    assert said(between(wider, NET)) == [("body.1", "changed", -8)]


def test_what_was_added_and_removed_stands_where_it_is_in_its_model() -> None:
    modules = {"stem": "Conv2d", "neck": "Linear", "body": "Sequential", "body.0": "Linear", "head": "Linear"}
    params = (PARAMS[0], param("neck.weight", 7), PARAMS[1], *PARAMS[3:])
    assert said(between(NET, report(modules, params))) == [("neck", "added", 7), ("body.1", "removed", -20)]


def test_all_of_an_added_layer_is_one_row() -> None:
    modules = MODULES | {"tail": "Sequential", "tail.0": "Linear", "tail.1": "Linear"}
    params = (*PARAMS, param("tail.0.weight", 3), param("tail.1.weight", 4))
    changed = between(NET, report(modules, params))
    assert said(changed) == [("tail", "added", 7)]
    assert (changed.rows[0].old, changed.rows[0].type) == (None, "Sequential")
    assert said(between(report(modules, params), NET)) == [("tail", "removed", -7)]


def test_a_parameter_of_a_layer_that_has_others_below_it_is_the_layers_own() -> None:
    changed = between(NET, report(MODULES, (*PARAMS, param("body.scale", 3), param("token", 2))))
    assert said(changed) == [("", "changed", 2), ("body", "changed", 3)]
    assert [row.own for row in changed.rows] == [True, True]
    assert [row.cells[0] for row in changed.grids()[0].rows] == ["*", "body.*"]
    assert [p.kinds for row in changed.rows for p in row.params] == [("added",), ("added",)]


def test_layers_that_move_between_trainable_and_frozen_are_named_with_all_below_them() -> None:
    frozen = report(MODULES, tuple(p._replace(trainable=p.name.startswith("head")) for p in PARAMS))
    changed = between(NET, frozen)
    assert said(changed) == [("stem", "frozen", 0), ("body", "frozen", 0)]
    body = changed.rows[1]
    assert (body.old and body.old.tally, body.new and body.new.tally) == (
        Tally(trainable=36, nbytes=144),
        Tally(frozen=36, nbytes=144),
    )
    assert said(between(frozen, NET)) == [("stem", "unfrozen", 0), ("body", "unfrozen", 0)]


def test_where_only_part_of_a_layer_is_frozen_the_parts_are_named() -> None:
    partly = report(MODULES, with_params(param("body.0.weight", 4, 4, trainable=False)))
    assert said(between(NET, partly)) == [("body.0", "frozen", 0)]
    also_wider = report(MODULES, with_params(param("head.weight", 10, 6, trainable=False)))
    assert said(between(NET, also_wider)) == [("head", "changed, frozen", 10)]


def test_parameters_of_one_size_that_swap_places_between_trainable_and_frozen_are_noticed() -> None:
    one, other = param("weight", 5), param("bias", 5, trainable=False)
    swapped = (one._replace(trainable=False), other._replace(trainable=True))
    changed = between(report({}, (one, other)), report({}, swapped))
    assert said(changed) == [("", "frozen, unfrozen", 0)]


def test_a_module_of_another_type_is_retyped() -> None:
    retyped = report(MODULES | {"stem": "Embedding", "body": "ModuleList"}, PARAMS)
    changed = between(NET, retyped)
    assert said(changed) == [("stem", "retyped", 0), ("body", "retyped", 0)]
    rows = changed.grids()[0].rows
    assert [row.cells[2] for row in rows] == ["Conv2d → Embedding", "Sequential → ModuleList"]
    assert [row.cells[4:7] for row in rows] == [(12, 12, 0), ("", "", "")]  # a container holds nothing itself


def test_shapes_and_dtypes_are_compared() -> None:
    other = report(MODULES, with_params(param("stem.weight", 3, 4), param("body.0.weight", 4, 4, dtype="int8")))
    changed = between(NET, other)
    assert said(changed) == [("stem", "reshaped", 0), ("body.0", "dtype", 0)]
    texts = [remark.text for remark in changed.grids()[0].remarks]
    assert texts == [
        "432 B → 384 B of parameters",
        "stem.weight: float32 [4, 3] → float32 [3, 4]",
        "body.0.weight: float32 [4, 4] → int8 [4, 4]",
    ]


def test_two_sizes_that_round_to_one_text_are_given_in_full() -> None:
    old, new = report({}, [param("weight", 10**6)]), report({}, [param("weight", 10**6 + 1)])
    assert between(old, new).grids()[0].remarks[0].text == "4,000,000 B → 4,000,004 B of parameters"


def test_a_tie_is_said_with_what_it_saves() -> None:
    modules = {"embedding": "Embedding", "decoder": "Linear"}
    embedding = param("embedding.weight", 10, 4)
    apart = report(modules, (embedding, param("decoder.weight", 10, 4)))
    tied = report(modules, (embedding, param("decoder.weight", 10, 4, tied_to="embedding.weight")))
    assert said(between(apart, tied)) == [("decoder", "changed, tied", -40)]
    assert said(between(tied, apart)) == [("decoder", "changed, untied", 40)]
    texts = [remark.text for remark in between(apart, tied).grids()[0].remarks]
    assert texts == ["320 B → 160 B of parameters", "tied: decoder.weight = embedding.weight"]
    texts = [remark.text for remark in between(tied, apart).grids()[0].remarks]
    assert texts[1] == "untied: decoder.weight ≠ embedding.weight"


def test_what_happens_to_a_tied_tensor_is_said_where_it_counts() -> None:
    modules = {"embedding": "Embedding", "decoder": "Linear"}
    decoder = param("decoder.weight", 10, 4, tied_to="embedding.weight")
    old = report(modules, [param("embedding.weight", 10, 4), decoder])
    frozen = [param("embedding.weight", 10, 4, trainable=False), decoder._replace(trainable=False)]
    assert said(between(old, report(modules, frozen))) == [("embedding", "frozen", 0)]


def test_one_more_use_of_a_module_is_a_tie_and_changes_no_count() -> None:
    block = param("block.weight", 4)
    once = report({"block": "Linear"}, [block])
    again = param("again.weight", 4, tied_to="block.weight")
    twice = report({"block": "Linear", "again": "= block"}, [block, again])
    assert said(between(once, twice)) == [("", "tied", 0)]


def test_a_layer_that_both_sides_have_is_not_added_by_what_is_added_below_it() -> None:
    tied = param("block.weight", 3, tied_to="weight")
    old = report({"block": "Block"}, [param("weight", 3), tied])
    new = report({"block": "Block", "block.0": "Linear"}, [param("weight", 3), tied, param("block.0.weight", 5)])
    assert said(between(old, new)) == [("block.0", "added", 5)]


def test_a_layer_with_nothing_new_but_its_name_is_renamed() -> None:
    modules = {name.replace("body", "trunk"): kind for name, kind in MODULES.items()}
    params = tuple(p._replace(name=p.name.replace("body", "trunk")) for p in PARAMS)
    changed = between(NET, report(modules, params))
    assert said(changed) == [("trunk", "renamed", 0)]
    assert changed.rows[0].was == "body"


def test_layers_that_are_alike_are_not_taken_for_one_another() -> None:
    old = report({"a": "Linear", "b": "Linear"}, [param("a.weight", 3), param("b.weight", 3)])
    new = report({"c": "Linear", "d": "Conv2d"}, [param("c.weight", 3), param("d.weight", 4)])
    assert said(between(old, new)) == [
        ("a", "removed", -3),
        ("b", "removed", -3),
        ("c", "added", 3),
        ("d", "added", 4),
    ]


def test_layers_that_hold_only_tied_tensors_are_not_taken_for_one_another() -> None:
    tied = param("a.weight", 3, tied_to="weight")
    old = report({"a": "Linear"}, [param("weight", 3), tied])
    new = report({"b": "Linear"}, [param("weight", 3), tied._replace(name="b.weight")])
    assert said(between(old, new)) == [("a", "removed", 0), ("b", "added", 0)]


@pytest.mark.parametrize("prefix", ["_orig_mod", "module", "module._orig_mod", "_orig_mod.module"])
def test_what_wraps_a_whole_model_is_said_and_not_compared(prefix: str) -> None:
    parts = prefix.split(".")
    around = {".".join(parts[: number + 1]): "Wrapper" for number in range(len(parts))}
    modules = around | {f"{prefix}.{name}": kind for name, kind in MODULES.items()}
    wrapped = report(modules, [p._replace(name=f"{prefix}.{p.name}") for p in PARAMS])
    for changed, label in ((between(NET, wrapped), "new"), (between(wrapped, NET), "old")):
        assert not changed.different
        assert [note.code for note in changed.notes] == ["wrapped"]
        assert changed.notes[0].message.startswith(f"the names of {label} are compared without ")
        assert all(f"{part}." in changed.notes[0].message for part in parts)
    assert between(wrapped, wrapped).notes == ()


def test_what_torch_compile_puts_around_a_layer_is_not_compared_either() -> None:
    modules = {"stem": "Conv2d", "body": "OptimizedModule", "body._orig_mod": "Sequential"}
    modules |= {"body._orig_mod.0": "Linear", "body._orig_mod.1": "Linear", "head": "Linear"}
    params = [p._replace(name=p.name.replace("body.", "body._orig_mod.")) for p in PARAMS]
    changed = between(NET, report(modules, params))
    assert said(changed) == []
    assert [note.message for note in changed.notes] == ["the names of new are compared without _orig_mod."]


def test_a_parameter_of_the_wrapper_counts_where_it_wraps() -> None:
    modules = {"stem": "Conv2d", "body": "Wrapper", "body._orig_mod": "Sequential"}
    modules |= {"body._orig_mod.0": "Linear", "body._orig_mod.1": "Linear", "head": "Linear"}
    params = [p._replace(name=p.name.replace("body.", "body._orig_mod.")) for p in PARAMS]
    assert said(between(NET, report(modules, [*params, param("body.scale", 3)]))) == [("body", "changed", 3)]

    around = {"module": "Net"} | {f"module.{name}": kind for name, kind in MODULES.items()}
    wrapped = [p._replace(name=f"module.{p.name}") for p in PARAMS]
    changed = between(NET, report(around, [*wrapped, param("module.token", 2)]))
    assert said(changed) == [("", "changed", 2)]
    assert changed.rows[0].type == ""


def test_a_layer_without_parameters_is_no_difference() -> None:
    assert not between(NET, report(MODULES | {"dropout": "Dropout"}, PARAMS)).different


def test_buffers_are_a_difference_without_a_row() -> None:
    changed = between(NET, report(MODULES, PARAMS, [buffer("stem.mean", 4)]))
    assert changed.rows == ()
    assert changed.different
    assert changed.grids()[0].remarks[0].text == "0 → 4 in buffers, not part of the total"


def test_what_a_checkpoint_does_not_say_is_not_compared() -> None:
    checkpoint = report(MODULES, [p._replace(trainable=None) for p in PARAMS])
    changed = between(checkpoint, NET)
    assert not changed.different
    assert [note.message for note in changed.notes] == ["old does not say what trains, so that is not compared"]


def test_what_is_known_of_only_one_side_has_not_moved() -> None:
    old = report({}, [param("weight", 5, trainable=None), param("bias", 3, trainable=False)])
    new = report({}, [param("weight", 5), param("bias", 3, trainable=None)])
    assert said(between(old, new)) == []


def test_a_difference_that_a_lazy_parameter_leaves_open_is_not_known() -> None:
    changed = between(NET, report(MODULES, with_params(lazy("head.weight"))))
    assert said(changed) == [("head", "changed", None)]
    assert changed.difference is None
    row = changed.grids()[0].rows[0]
    assert (row.cells[4], row.cells[5], row.cells[6]) == (60, 10, None)
    assert isinstance(row.cells[5], AtLeast)


def test_a_side_without_types_and_parameters_is_compared_by_its_counts() -> None:
    side = replace(Side.of(NET, "locked"), types={}, params=None)
    retyped = report(MODULES | {"stem": "Embedding"}, with_params(param("head.weight", 10, 6)))
    changed = changes(side, Side.of(retyped, "now"))
    assert said(changed) == [("head", "changed", 10)]
    assert changed.rows[0].type == "Linear"
    assert changed.rows[0].params == ()
    narrower = report(MODULES, with_params(param("stem.weight", 4, 3, dtype="float16")))
    assert said(changes(side, Side.of(narrower, "now"))) == [("stem", "dtype", 0)]


def test_the_grid_has_a_row_a_change_and_the_totals() -> None:
    frozen_wider = with_params(param("stem.weight", 4, 3, trainable=False), param("head.bias", 13))
    (grid,) = between(NET, report(MODULES, frozen_wider)).grids()
    assert grid.title == "old → new"
    assert [column.key for column in grid.columns] == [
        *("layer", "was", "type", "change", "old", "new", "difference", "moved", "old_trainable", "new_trainable")
    ]
    assert [row.cells for row in grid.rows] == [
        ("stem", "", "Conv2d", "frozen", 12, 12, 0, -12, 12, 0),
        ("head", "", "Linear", "changed", 60, 63, 3, 3, 60, 63),
    ]
    assert [(row.cells, row.role) for row in grid.totals] == [(("", "", "", "", 108, 111, 3, -9, 108, 99), "total")]


def test_more_parameters_than_three_are_counted_under_the_table() -> None:
    modules = {str(number): "Linear" for number in range(6)}
    old = report(modules, [param(f"{number}.weight", 2, 3) for number in range(6)])
    new = report(modules, [param(f"{number}.weight", 3, 2) for number in range(6)])
    texts = [remark.text for remark in between(old, new).grids()[0].remarks]
    assert texts[3:] == ["3 more parameters of the kind; -f json lists them all"]


def test_the_dictionary_is_the_json_contract_key_by_key() -> None:
    old = report({"fc": "Linear"}, [param("fc.weight", 2, 3)])
    new = report({"fc": "Linear"}, [param("fc.weight", 2, 4)], [buffer("fc.mean", 5)])
    counts = {"trainable": 6, "frozen": 0, "unknown": 0, "bytes": 24}
    more = {"trainable": 8, "frozen": 0, "unknown": 0, "bytes": 32}
    tensor = {"dtype": "float32", "trainable": True, "tied_to": None}
    assert between(old, new).to_dict() == {
        "old": {"target": "old", "total": 6, **counts, "uninitialized": 0, "buffers": 0},
        "new": {"target": "new", "total": 8, **more, "uninitialized": 0, "buffers": 5},
        "changes": [
            {
                "layer": "fc",
                "change": ["changed"],
                "own": False,
                "old": {"name": "fc", "type": "Linear", "total": 6, **counts},
                "new": {"name": "fc", "type": "Linear", "total": 8, **more},
                "difference": 2,
                "params": [
                    {
                        "name": "fc.weight",
                        "change": ["reshaped"],
                        "old": {"shape": [2, 3], **tensor},
                        "new": {"shape": [2, 4], **tensor},
                    }
                ],
            }
        ],
        "notes": [],
    }


def tally(row: Change, side: str) -> Tally:
    part = getattr(row, side)
    return part.tally if part else Tally()


@given(reports(whole=True), reports(whole=True))
@settings(deadline=None)
def test_the_rows_add_up_to_what_changed_in_the_whole_model(old: Report, new: Report) -> None:
    changed = between(old, new)
    for count in ("total", "trainable", "frozen", "nbytes"):
        by_rows = sum(getattr(tally(row, "new"), count) - getattr(tally(row, "old"), count) for row in changed.rows)
        assert by_rows == getattr(new, count) - getattr(old, count)
    assert sum(row.difference or 0 for row in changed.rows) == changed.difference == new.total - old.total
    backwards = between(new, old)
    assert backwards.difference == old.total - new.total
    assert backwards.different == changed.different


@given(reports(), reports())
@settings(deadline=None)
def test_no_layer_has_two_rows_and_no_row_is_beneath_one_that_stands_for_all(old: Report, new: Report) -> None:
    rows = between(old, new).rows
    assert len({row.layer for row in rows}) == len(rows)
    for row in rows:
        if row.kinds in {("added",), ("removed",), ("renamed",)} and not row.own:
            beneath = [other for other in rows if other.layer.startswith(f"{row.layer}.")]
            assert not [other for other in beneath if other.kinds == row.kinds]


@given(reports(whole=True), reports(whole=True))
@settings(deadline=None)
def test_two_models_differ_exactly_where_their_parameters_types_or_buffers_do(old: Report, new: Report) -> None:
    def traits(counted: Report) -> object:
        side = Side.of(counted)
        return side.types, {p.name: p for p in counted.params}, counted.buffers

    changed = between(old, new)
    if traits(old) == traits(new):
        assert not changed.different
    else:
        assert changed.different or any(note.code == "wrapped" for note in changed.notes)


@given(reports(), reports())
@settings(deadline=None)
def test_every_pair_of_reports_can_be_shown(old: Report, new: Report) -> None:
    changed = between(old, new)
    (grid,) = changed.grids()
    assert len(grid.rows) == len(changed.rows) == len(changed.to_dict()["changes"])
    assert all(row.cells[3] for row in grid.rows)


def test_a_model_nested_deeper_than_pythons_stack_is_compared() -> None:
    names = [".".join("a" * depth) for depth in range(1, 3000)]
    modules = dict.fromkeys(names, "Block")
    old, new = (report(modules, [param(f"{names[-1]}.weight", size)]) for size in (3, 4))
    assert said(between(old, new)) == [(names[-1], "changed", 1)]


def test_comparing_loads_no_heavy_library() -> None:
    code = "import sys, paramcount.diff, paramcount.lock; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "torchvision", "rich", "typer", "yaml", "pydantic"}
