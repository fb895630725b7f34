from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramcount.grid import AtLeast, Cell, Grid, Row, ShareAtLeast, ShareAtMost
from paramcount.inventory import Inventory, Module, Note, Param
from paramcount.outline import ROWS_BY_DEFAULT, Depth, Options, comparison, outline, remarks
from paramcount.report import Report
from tests.inventories import buffer, inventory, lazy, param, report

SUMS = ("total", "trainable", "frozen", "unknown", "uninitialized", "bytes", "buffers")


def value(grid: Grid, row: Row, key: str) -> Cell:
    return row.cells[[column.key for column in grid.columns].index(key)]


def values(grid: Grid, *keys: str) -> list[tuple[Cell, ...]]:
    return [tuple(value(grid, row, key) for key in keys) for row in grid.rows]


def names(grid: Grid) -> list[Cell]:
    return [value(grid, row, "name") for row in grid.rows]


def leaves(grid: Grid) -> list[Row]:
    """Return the rows that have nothing beneath them."""
    followers = [*grid.rows[1:], None]
    return [row for row, after in zip(grid.rows, followers, strict=True) if after is None or after.depth <= row.depth]


def sums(grid: Grid, keys: tuple[str, ...] = SUMS) -> dict[str, int]:
    return {key: sum(int(value(grid, row, key) or 0) for row in leaves(grid)) for key in keys}


# Random models: blocks within blocks, some of them repeated.


@st.composite
def tensors(draw: st.DrawFn, most: int = 3) -> list[dict[str, Any]]:
    one = st.fixed_dictionaries(
        {
            "shape": st.none() | st.lists(st.integers(0, 3), max_size=2).map(tuple),
            "dtype": st.sampled_from(["float32", "int8"]),
            "trainable": st.sampled_from([True, True, False, None]),
        }
    )
    return draw(st.lists(one, max_size=most))


def blocks() -> st.SearchStrategy[dict[str, Any]]:
    def block(children: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries(
            {
                "type": st.sampled_from(["Block", "Linear"]),
                "params": tensors(6),
                "buffers": st.lists(st.integers(0, 3), max_size=6),
                "children": children,
            }
        )

    runs = st.tuples(st.sampled_from(["", "a", "b"]), st.integers(0, 12), st.integers(1, 3))
    return st.recursive(
        block(st.just([])), lambda below: block(st.lists(st.tuples(runs, below), max_size=3)), max_leaves=8
    )


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    modules: list[Module] = []
    params: list[Param] = []
    buffers = []
    waiting = [("", draw(blocks()))]
    while waiting:
        name, block = waiting.pop()
        prefix = f"{name}." if name else ""
        modules.append(Module(name, block["type"]))
        for number, tensor in enumerate(block["params"]):
            key = f"{prefix}p{number}"
            shape, dtype, trainable = tensor["shape"], tensor["dtype"], tensor["trainable"]
            found = lazy(key, trainable=trainable) if shape is None else param(key, *shape, dtype=dtype)
            params.append(Param(key, found.shape, found.dtype, found.numel, found.nbytes, trainable))
        buffers += [buffer(f"{prefix}q{number}", size) for number, size in enumerate(block["buffers"])]
        children = {
            f"{prefix}{stem}{start + number}": child
            for (stem, start, times), child in block["children"]
            for number in range(times)
        }
        waiting.extend(reversed(children.items()))
    for later in draw(st.lists(st.integers(1, max(len(params) - 1, 1)), max_size=4)):
        if later < len(params) and params[0].tied_to is None:
            params[later] = params[0]._replace(name=params[later].name, tied_to=params[0].name)
    if len(modules) > 1 and draw(st.booleans()):
        modules.append(Module("again", modules[1].type, same_as=modules[1].name))
        below = f"{modules[1].name}."
        params += [
            p._replace(name=f"again.{p.name.removeprefix(below)}", tied_to=p.tied_to or p.name)
            for p in params
            if p.name.startswith(below)
        ]
    return Inventory("net.py:Net", "python", tuple(modules), tuple(params), tuple(buffers))


OPTIONS = st.builds(
    Options,
    depth=st.sampled_from([None, 1, 2, 3, "all"]),
    sort=st.sampled_from(["order", "size", "name"]),
    params=st.booleans(),
    buffers=st.booleans(),
    fold=st.booleans(),
)


def counted(held: Inventory) -> dict[str, int]:
    """Count by hand."""
    firsts = [p for p in held.params if p.tied_to is None]
    known = [p for p in firsts if p.numel is not None]
    by_kind = {kind: sum(p.numel or 0 for p in known if p.trainable is kind) for kind in (True, False, None)}
    return {
        "total": sum(p.numel or 0 for p in known),
        "trainable": by_kind[True],
        "frozen": by_kind[False],
        "unknown": by_kind[None],
        "uninitialized": len(firsts) - len(known),
        "bytes": sum(p.nbytes or 0 for p in known),
        "buffers": sum(b.numel or 0 for b in held.buffers),
    }


@settings(max_examples=50, deadline=None)
@given(inventories(), OPTIONS)
def test_the_leaf_rows_add_up_to_the_total_whatever_is_shown(held: Inventory, options: Options) -> None:
    grid = outline(Report.of(held), options)

    by_hand = counted(held)
    assert {key: value(grid, grid.totals[0], key) for key in SUMS} == by_hand
    if grid.rows:
        # Buffers have rows of their own only where they are asked for.
        keys = SUMS if options.buffers else SUMS[:-1]
        assert sums(grid, keys) == {key: by_hand[key] for key in keys}


def expanded(name: str) -> Iterator[str]:
    """Yield the names that «layers.[0-2].a» stands for."""
    parts = re.split(r"\[(\d+)-(\d+)\]", name)
    ranges = [range(int(a), int(b) + 1) for a, b in zip(parts[1::3], parts[2::3], strict=True)]
    for numbers in product(*ranges):
        yield "".join(
            text + (str(number) if number is not None else "")
            for text, number in zip(parts[0::3], [*numbers, None], strict=True)
        )


@settings(max_examples=50, deadline=None)
@given(inventories(), OPTIONS)
def test_a_folded_row_is_the_sum_of_equal_layers(held: Inventory, options: Options) -> None:
    """Each name that a row stands for exists, and holds what the row says each of them does."""
    counts = Report.of(held)
    grid = outline(counts, options)
    for row in grid.rows:
        if value(grid, row, "kind") != "layer":
            continue
        layers = [counts[name] for name in expanded(str(value(grid, row, "name")))]
        assert value(grid, row, "total") == sum(layer.total for layer in layers)
        assert value(grid, row, "bytes") == sum(layer.nbytes for layer in layers)
        assert {layer.type for layer in layers} == {value(grid, row, "type")}
        each = value(grid, row, "each")
        assert each == "" if len(layers) == 1 else {layer.total for layer in layers} == {each}


@settings(max_examples=30, deadline=None)
@given(inventories(), st.sampled_from(["order", "size", "name"]))
def test_unfolded_at_all_depths_every_layer_has_its_row(held: Inventory, sort: Any) -> None:
    grid = outline(Report.of(held), Options(depth="all", sort=sort))

    shown = [value(grid, row, "name") for row in grid.rows if value(grid, row, "kind") == "layer"]
    listed = [module.name for module in held.modules[1:]]
    assert sorted(map(str, shown)) == sorted(listed)
    if sort == "order":
        assert [name for name in shown if name != "again"] == [name for name in listed if name != "again"]


@settings(max_examples=30, deadline=None)
@given(inventories(), st.booleans())
def test_with_params_every_tensor_has_its_row_at_every_depth(held: Inventory, fold: bool) -> None:
    depths: tuple[Depth, ...] = (None, 1, 2, "all")
    for depth in depths:
        grid = outline(Report.of(held), Options(depth=depth, params=True, fold=fold))
        shown = [
            name
            for row in grid.rows
            if value(grid, row, "kind") == "param"
            for name in expanded(str(value(grid, row, "name")))
        ]
        assert sorted(shown) == sorted(p.name for p in held.params)


@settings(max_examples=50, deadline=None)
@given(inventories())
def test_the_default_depth_is_the_deepest_within_the_rows(held: Inventory) -> None:
    counts = Report.of(held)
    grid = outline(counts, Options())
    assert len(grid.rows) <= ROWS_BY_DEFAULT
    if grid.rows and not any(row.role == "rest" for row in grid.rows):
        deepest = max(row.depth for row in grid.rows)
        deeper = outline(counts, Options(depth=deepest + 1))
        assert deeper.rows == grid.rows or len(deeper.rows) > ROWS_BY_DEFAULT


# Folding


def stack(times: int, *, start: int = 0) -> tuple[dict[str, str], list[Param]]:
    modules = {"layers": "ModuleList"}
    params = []
    for number in range(start, start + times):
        name = f"layers.{number}"
        modules |= {name: "Block", f"{name}.attn": "Attention", f"{name}.mlp": "Linear"}
        params += [param(f"{name}.attn.weight", 4, 4), param(f"{name}.mlp.weight", 2, 4)]
    return modules, params


def test_a_run_of_identical_siblings_folds_into_one_row_with_each_and_sum() -> None:
    grid = outline(report(*stack(96)), Options(depth=2))

    assert values(grid, "name", "what", "each", "total") == [
        ("layers", "ModuleList", "", 2304),
        ("layers.[0-95]", "96 × Block", 24, 2304),
    ]


def test_what_lies_in_a_folded_row_is_multiplied() -> None:
    grid = outline(report(*stack(96)), Options(depth=3, params=True))

    assert values(grid, "name", "what", "each", "total")[2:] == [
        ("layers.[0-95].attn", "96 × Attention", 16, 1536),
        ("layers.[0-95].attn.weight", "96 × float32 [4, 4]", 16, 1536),
        ("layers.[0-95].mlp", "96 × Linear", 8, 768),
        ("layers.[0-95].mlp.weight", "96 × float32 [2, 4]", 8, 768),
    ]


def test_nested_runs_multiply() -> None:
    modules = {"s": "Stages"}
    params = []
    for stage in range(3):
        modules[f"s.{stage}"] = "Stage"
        for block in range(4):
            modules[f"s.{stage}.b{block}"] = "Linear"
            params.append(param(f"s.{stage}.b{block}.weight", 5))
    grid = outline(report(modules, params), Options())

    assert values(grid, "name", "what", "each", "total") == [
        ("s", "Stages", "", 60),
        ("s.[0-2]", "3 × Stage", 20, 60),
        ("s.[0-2].b[0-3]", "12 × Linear", 5, 60),
    ]


def test_depth_all_unfolds() -> None:
    grid = outline(report(*stack(3)), Options(depth="all"))
    assert names(grid) == [
        "layers",
        *(f"layers.{number}{below}" for number in range(3) for below in ("", ".attn", ".mlp")),
    ]


def pair(first: Param, second: Param, *more: Param) -> list[Cell]:
    """Return the rows of two siblings, each with a parameter."""
    modules = {"0": "Linear", "1": "Linear"}
    return names(outline(report(modules, [first, second, *more]), Options()))


def test_only_what_is_identical_in_all_but_its_name_folds() -> None:
    weight = param("0.weight", 2, 3)
    assert pair(weight, param("1.weight", 2, 3)) == ["[0-1]"]
    assert pair(weight, param("1.weight", 3, 2)) == ["0", "1"]
    assert pair(weight, param("1.kernel", 2, 3)) == ["0", "1"]
    assert pair(weight, param("1.weight", 2, 3, trainable=False)) == ["0", "1"]
    assert pair(weight, param("1.weight", 2, 3, dtype="float16")) == ["0", "1"]
    assert pair(weight, param("1.weight", 2, 3), param("1.bias", 0)) == ["0", "1"]
    assert pair(weight, param("1.weight", 2, 3, tied_to="0.weight")) == ["0", "1"]
    assert pair(weight, lazy("1.weight")) == ["0", "1"]


def test_blocks_with_the_same_tie_inside_fold() -> None:
    modules = {str(number): "Block" for number in range(3)}
    weights = [
        each
        for number in range(3)
        for each in (param(f"{number}.a", 2), param(f"{number}.b", 2, tied_to=f"{number}.a"), param(f"{number}.c", 2))
    ]
    grid = outline(report(modules, weights), Options(params=True))
    assert values(grid, "name", "what", "total") == [
        ("[0-2]", "3 × Block", 12),
        ("[0-2].a", "3 × float32 [2]", 6),
        ("[0-2].b", "= [0-2].a", 0),
        ("[0-2].c", "3 × float32 [2]", 6),
    ]
    weights[-2] = param("2.b", 2, tied_to="0.a")  # out of its block
    assert names(outline(report(modules, weights), Options())) == ["[0-1]", "2"]
    weights[-2] = param("2.c", 2, tied_to="2.a")  # another one
    weights[-1] = param("2.b", 2)
    assert names(outline(report(modules, weights), Options())) == ["[0-1]", "2"]


def test_blocks_that_call_the_same_of_their_modules_twice_fold() -> None:
    modules: dict[str, str] = {}
    for number in range(3):
        modules |= {
            f"{number}": "Block",
            f"{number}.a": "PReLU",
            f"{number}.b": "Linear",
            f"{number}.c": f"= {number}.a",
        }
    weights = [each for number in range(3) for each in (param(f"{number}.a.w", 3), param(f"{number}.b.w", 6))]
    grid = outline(report(modules, weights), Options(depth=2))
    assert values(grid, "name", "what", "total") == [
        ("[0-2]", "3 × Block", 27),
        ("[0-2].a", "3 × PReLU", 9),
        ("[0-2].b", "3 × Linear", 18),
        ("[0-2].c", "= [0-2].a", 0),
    ]


def test_blocks_that_are_tied_to_the_same_tensor_fold() -> None:
    modules = {str(number): "Block" for number in range(4)}
    weights = [param("0.a", 2), *(param(f"{number}.a", 2, tied_to="0.a") for number in (1, 2, 3))]
    grid = outline(report(modules, weights), Options(params=True))

    assert values(grid, "name", "what", "total") == [
        ("0", "Block", 2),
        ("0.a", "float32 [2]", 2),
        ("[1-3]", "3 × Block", 0),
        ("[1-3].a", "= 0.a", 0),
    ]


def test_buffers_and_types_break_a_run() -> None:
    weights = [param("0.w", 2), param("1.w", 2)]
    alike, other = {"0": "Linear", "1": "Linear"}, {"0": "Linear", "1": "Conv1d"}
    assert names(outline(report(alike, weights, [buffer("0.b", 1), buffer("1.b", 1)]), Options())) == ["[0-1]"]
    assert names(outline(report(alike, weights, [buffer("0.b", 1), buffer("1.b", 2)]), Options())) == ["0", "1"]
    assert names(outline(report(alike, weights, [buffer("0.b", 1)]), Options())) == ["0", "1"]
    assert names(outline(report(other, weights), Options())) == ["0", "1"]


@pytest.mark.parametrize(
    ("listed", "shown"),
    [
        (["a0", "a1", "a3"], ["a[0-1]", "a3"]),  # a gap
        (["a1", "a0"], ["a1", "a0"]),  # downwards
        (["a9", "a10", "a11"], ["a[9-11]"]),
        (["a09", "a10"], ["a09", "a10"]),  # other stems: «a0» and «a»
        (["a08", "a09"], ["a0[8-9]"]),
        (["a0", "b1"], ["a0", "b1"]),
        (["a", "b"], ["a", "b"]),  # no numbers
        (["a٠", "a١"], ["a٠", "a١"]),  # digits of another script
        (["0", "1", "x", "2", "3"], ["[0-1]", "x", "[2-3]"]),  # what is between them ends a run
    ],
)
def test_a_run_has_consecutive_numbers(listed: list[str], shown: list[str]) -> None:
    modules = dict.fromkeys(listed, "Linear")
    assert names(outline(report(modules, [param(f"{name}.w", 2) for name in listed]), Options())) == shown


def test_one_more_name_of_a_module_says_which_one_it_is() -> None:
    modules = {"first": "Linear", "again": "= first", "0": "= first", "1": "= first"}
    grid = outline(report(modules, [param("first.w", 4), param("again.w", 4, tied_to="first.w")]), Options())

    assert values(grid, "name", "what", "type", "tied_to", "total") == [
        ("first", "Linear", "Linear", "", 4),
        ("again", "= first", "Linear", "first", 0),
        ("[0-1]", "= first", "Linear", "first", 0),
    ]


def test_further_names_of_different_modules_do_not_fold() -> None:
    modules = {"a": "Linear", "b": "Linear", "0": "= a", "1": "= b"}
    grid = outline(report(modules, [param("a.w", 4), param("b.w", 4)]), Options())
    assert values(grid, "name", "what")[2:] == [("0", "= a"), ("1", "= b")]


def test_a_module_that_holds_the_model_itself_says_so() -> None:
    grid = outline(report({"parent": "= "}, [param("w", 4)]), Options())
    assert values(grid, "name", "what", "total") == [("w", "float32 [4]", 4), ("parent", "= the model itself", 0)]


# Depth


def flat(layers: int) -> Report:
    modules = {f"layer_{chr(97 + number % 7)}{number}": "Linear" for number in range(layers)}
    return report(modules, [param(f"{name}.weight", number) for number, name in enumerate(modules)])


def test_a_flat_model_shows_39_layers_and_the_sum_of_the_others() -> None:
    grid = outline(flat(300), Options())

    assert len(grid.rows) == 40
    assert values(grid, "name", "what", "total", "kind")[-2:] == [
        ("layer_d38", "Linear", 38, "layer"),
        ("… 261 more rows", "", sum(range(39, 300)), "rest"),
    ]
    assert sums(grid)["total"] == sum(range(300))


def test_what_just_fits_is_not_cut() -> None:
    assert len(outline(flat(40), Options()).rows) == 40
    assert names(outline(flat(41), Options()))[-1] == "… 2 more rows"
    assert len(outline(flat(41), Options(depth=1)).rows) == 41


@pytest.mark.parametrize(("leaves", "rows"), [(38, 40), (39, 2)])
def test_one_more_level_is_shown_where_it_just_fits(leaves: int, rows: int) -> None:
    modules = {"a": "A", "b": "B"} | {f"a.x{number}y": "Linear" for number in range(leaves)}
    assert len(outline(report(modules), Options()).rows) == rows


def test_depth_0_shows_the_total_alone() -> None:
    grid = outline(flat(3), Options(depth=0))
    assert grid.rows == ()
    assert value(grid, grid.totals[0], "total") == 3


def test_a_modules_own_parameters_stand_beside_its_children() -> None:
    modules = {"enc": "Encoder", "enc.fc": "Linear"}
    weights = [param("enc.pos", 7), param("enc.cls", 3, trainable=False), param("enc.fc.w", 5), param("scale", 1)]
    grid = outline(report(modules, weights), Options())

    assert values(grid, "name", "what", "total", "kind") == [
        ("scale", "float32 [1]", 1, "param"),
        ("enc", "Encoder", 15, "layer"),
        ("enc.pos", "float32 [7]", 7, "param"),
        ("enc.cls", "float32 [3]", 3, "param"),
        ("enc.fc", "Linear", 5, "layer"),
    ]


def test_more_than_four_of_them_are_one_row() -> None:
    modules = {"enc": "Encoder", "enc.fc": "Linear"}
    own = [param(f"enc.p{number}", number) for number in range(1, 6)]
    state = [buffer(f"enc.q{number}", 2) for number in range(5)]
    held = report(modules, [*own, param("enc.fc.w", 9)], [*state, buffer("enc.fc.b", 1)])

    assert values(outline(held, Options(buffers=True)), "name", "what", "total", "buffers") == [
        ("enc", "Encoder", 24, 11),
        ("enc.*", "5 × Parameter", 15, 0),
        ("enc.*", "buffer, 5 × Buffer", 0, 10),
        ("enc.fc", "Linear", 9, 1),
    ]


def test_a_model_without_children_shows_its_parameters() -> None:
    grid = outline(report({}, [param("weight", 3, 2), param("bias", 3)], root="Linear"), Options())
    assert values(grid, "name", "what", "total") == [("weight", "float32 [3, 2]", 6), ("bias", "float32 [3]", 3)]


def test_tied_parameters_name_the_one_that_counts() -> None:
    modules = {"emb": "Embedding", "head": "Linear"}
    weights = [param("emb.weight", 9, 2), param("head.weight", 9, 2, tied_to="emb.weight"), param("head.bias", 9)]
    grid = outline(report(modules, weights), Options(params=True))

    assert values(grid, "name", "what", "total") == [
        ("emb", "Embedding", 18),
        ("emb.weight", "float32 [9, 2]", 18),
        ("head", "Linear", 9),
        ("head.weight", "= emb.weight", 0),
        ("head.bias", "float32 [9]", 9),
    ]


# Sorting


def test_siblings_are_sorted_at_each_level() -> None:
    modules = {"b": "Seq", "b.10": "X", "b.9": "X", "a": "Seq", "a.x": "X"}
    weights = [param("own", 4), param("b.10.w", 1), param("b.9.w", 2), param("a.x.w", 30)]
    held = report(modules, weights)

    assert names(outline(held, Options(sort="order"))) == ["own", "b", "b.10", "b.9", "a", "a.x"]
    assert names(outline(held, Options(sort="size"))) == ["a", "a.x", "own", "b", "b.9", "b.10"]
    assert names(outline(held, Options(sort="name"))) == ["a", "a.x", "b", "b.9", "b.10", "own"]


def test_a_run_is_as_large_as_all_its_layers() -> None:
    modules = {"big": "Linear", "0": "Block", "1": "Block", "2": "Block"}
    weights = [param("big.w", 5), *(param(f"{number}.w", 2) for number in range(3))]
    assert names(outline(report(modules, weights), Options(sort="size"))) == ["[0-2]", "big"]


def test_names_of_any_kind_can_be_sorted() -> None:
    listed = ["²", "٣", "", "1", "x", "1" * 5000, "01", "a1b", "a10b", "a9b"]
    modules = {name: "Linear" for name in listed if name}
    shown = names(outline(report(modules, [param(f"{name}.w", 2) for name in modules]), Options(sort="name")))
    assert set(shown) == set(modules)
    assert [name for name in shown if str(name).startswith("a")] == ["a1b", "a9b", "a10b"]


# What is not known


def test_a_parameter_without_a_shape_makes_lower_bounds_of_what_it_is_part_of() -> None:
    modules = {"known": "Linear", "open": "LazyLinear"}
    grid = outline(report(modules, [param("known.w", 30), param("open.b", 10), lazy("open.w")]), Options())

    known, unknown = values(grid, "total", "trainable", "frozen", "share")
    assert [type(cell) for cell in known] == [int, int, int, ShareAtMost]
    assert [type(cell) for cell in unknown] == [AtLeast, AtLeast, int, ShareAtLeast]
    assert (known, unknown) == ((30, 30, 0, 0.75), (10, 10, 0, 0.25))
    whole = [value(grid, grid.totals[0], key) for key in ("total", "bytes", "share")]
    assert whole == [40, 160, 1.0]
    assert [type(cell) for cell in whole] == [AtLeast, AtLeast, float]


def test_what_may_grow_is_what_the_parameter_without_a_shape_will_be() -> None:
    grid = outline(report({"open": "Lazy"}, [lazy("open.w", trainable=False)]), Options())
    assert [type(cell) for cell in values(grid, "trainable", "frozen", "unknown")[0]] == [int, AtLeast, int]


def test_a_share_is_unknown_where_both_the_part_and_the_rest_may_grow() -> None:
    grid = outline(report({"a": "Lazy", "b": "Lazy2"}, [lazy("a.w"), lazy("b.w"), param("b.b", 2)]), Options())
    assert values(grid, "total", "share") == [(0, None), (2, None)]


# Several targets


def test_a_comparison_sets_each_report_against_the_first() -> None:
    reports = [
        report({}, [param("w", 4), param("v", 1, trainable=False)], [buffer("b", 3)], target="one"),
        report({}, [param("w", 10)], target="two"),
        report({}, [lazy("w"), param("v", 2)], target="three"),
    ]
    grid = comparison(reports)

    assert grid.title == "3 targets"
    assert grid.summary
    keys = ("target", "total", "trainable", "frozen", "bytes", "buffers", "ratio")
    assert values(grid, *keys) == [
        ("one", 5, 4, 1, 20, 3, 1.0),
        ("two", 10, 10, 0, 40, 0, 2.0),
        ("three", 2, 2, 0, 8, 0, None),
    ]


def test_to_machines_a_comparison_is_the_first_rows_of_the_grids_that_it_compares() -> None:
    reports = [report({"a": "Linear"}, [param("a.w", 4)], [buffer("b", 3)], target=name) for name in ("one", "two")]
    table = comparison(reports).for_machines()
    for counts, row in zip(reports, table.rows, strict=True):
        own = outline(counts, Options()).for_machines()
        assert [column.key for column in table.columns] == ["target", *(column.key for column in own.columns)]
        assert row.cells == (counts.target, *own.totals[0].cells)


# Remarks


def said(counts: Report) -> list[tuple[str, bool]]:
    return [(remark.text, remark.fault) for remark in remarks(counts)]


def test_sizes_come_first() -> None:
    one = report({}, [param("w", 300)], [buffer("b", 5)])
    two = report({}, [param("w", 10), param("v", 20, dtype="int8")])
    assert said(one) == [("1.20 KB of parameters (float32) · 5 in buffers (20 B), not part of the total", False)]
    assert said(two) == [("60 B of parameters (int8 20, float32 10)", False)]
    assert said(report({}, [lazy("w")])) == [("at least 0 B of parameters", False)]


def test_ties_are_named_up_to_a_few() -> None:
    weights = [param(f"a{number}", 1000) for number in range(5)]
    weights += [param(f"b{number}", 1000, tied_to=f"a{number}") for number in range(5)]
    weights += [param(f"c{number}", 1000, tied_to="a0") for number in range(2)]
    assert said(report({}, weights))[1:] == [
        ("tied: b0 and 2 more = a0 (1,000, counted once)", False),
        ("tied: b1 = a1 (1,000, counted once)", False),
        ("tied: b2 = a2 (1,000, counted once)", False),
        ("tied: 2 more tensors with several names; --params shows them", False),
    ]


def test_notes_of_a_kind_are_spelt_out_up_to_a_few_and_faults_marked() -> None:
    notes = [Note("unregistered", f"l{number}", "is lost") for number in range(5)] + [Note("filtered", "", "less")]
    assert said(report({}, [param("w", 1)], notes=notes))[1:] == [
        ("unregistered: l0: is lost", True),
        ("unregistered: l1: is lost", True),
        ("unregistered: l2: is lost", True),
        ("unregistered: 2 more of the kind; -f json lists them all", True),
        ("filtered: less", False),
    ]


def test_no_note_gives_way_to_a_line_that_says_there_is_one_more() -> None:
    notes = [Note("adapter", "", f"a{number}") for number in range(4)]
    assert said(report({}, [param("w", 1)], notes=notes))[1:] == [(f"adapter: a{number}", False) for number in range(4)]


# Size


def test_forty_thousand_layers_are_shown_as_forty_rows_or_all() -> None:
    counts = flat(40_000)
    shown = outline(counts, Options())
    everything = outline(counts, Options(depth="all"))
    assert (len(shown.rows), len(everything.rows)) == (40, 40_000)


def test_layers_may_nest_deeper_than_pythons_stack() -> None:
    modules = {".".join(["a"] * depth): "Seq" for depth in range(1, 1500)}
    deepest = list(modules)[-1]
    grid = outline(report(modules, [param(f"{deepest}.w", 3)]), Options(depth="all"))
    assert len(grid.rows) == 1499
    assert all(after.depth == row.depth + 1 for row, after in pairwise(grid.rows))
    assert sums(grid)["total"] == 3


def test_an_inventory_is_not_changed_by_being_shown() -> None:
    held = inventory(*stack(3))
    outline(Report.of(held), Options())
    assert held == inventory(*stack(3))
