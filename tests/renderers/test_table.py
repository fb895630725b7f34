from __future__ import annotations

import pytest

from paramcount.grid import AtLeast, Column, Grid, Remark, Row, Style
from paramcount.inventory import Note
from paramcount.outline import Options
from paramcount.renderers.table import render
from paramcount.report import Report
from tests.inventories import buffer, param, report
from tests.renderers.results import Counts, lazy_report


def model() -> Report:
    modules = {"backbone": "FeaturePyramidNetwork", "backbone.conv": "Conv2d", "backbone.blocks": "Sequential"}
    modules |= {f"backbone.blocks.{number}": "TransformerEncoderLayer" for number in range(12)} | {"head": "Linear"}
    weights = [param("backbone.conv.weight", 64, 147)]
    weights += [param(f"backbone.blocks.{number}.weight", 1000, 1000) for number in range(12)]
    weights += [param("head.weight", 2_000_000), param("head.bias", 1000)]
    note = Note("unregistered", "heads[0]", "Linear is kept in a plain list: use nn.ModuleList")
    return report(modules, weights, [buffer("backbone.mean", 3)], notes=[note])


def table(counts: Report, width: int | None = None, options: Options | None = None) -> str:
    return render(Counts((counts,), options or Options()), Style(width))


def layout(width: int) -> tuple[str, str]:
    """Return the header, and the row of the folded layers."""
    lines = table(model(), width).split("\n")
    return lines[1], lines[6]


def test_a_table_in_full() -> None:
    assert table(model()).split("\n") == [
        "net.py:Net · Net",
        "Layer                   Type                               Each  Parameters   Trainable  Frozen   Share",
        "─" * 115,
        "backbone                FeaturePyramidNetwork                    12,009,408  12,009,408       0   85.7%  "
        "████████▋",
        "backbone.conv           Conv2d                                        9,408       9,408       0    0.1%  ▏",
        "backbone.blocks         Sequential                               12,000,000  12,000,000       0   85.7%  "
        "████████▋",
        "backbone.blocks.[0-11]  12 × TransformerEncoderLayer  1,000,000  12,000,000  12,000,000       0   85.7%  "
        "████████▋",
        "head                    Linear                                    2,001,000   2,001,000       0   14.3%  █▍",
        "─" * 115,
        "Total                   Net                                      14,010,408  14,010,408       0  100.0%  "
        "██████████",
        "",
        "  56.04 MB of parameters (float32) · 3 in buffers (12 B), not part of the total",
        "! unregistered: heads[0]: Linear is kept in a plain list: use nn.ModuleList",
    ]


@pytest.mark.parametrize(
    ("width", "header", "row"),
    [
        (
            115,
            "Layer                   Type                               Each  Parameters   Trainable  Frozen   Share",
            "backbone.blocks.[0-11]  12 × TransformerEncoderLayer  1,000,000  12,000,000  12,000,000       0   85.7%  "
            "████████▋",
        ),
        (  # without bars
            114,
            "Layer                   Type                               Each  Parameters   Trainable  Frozen   Share",
            "backbone.blocks.[0-11]  12 × TransformerEncoderLayer  1,000,000  12,000,000  12,000,000       0   85.7%",
        ),
        (  # without the names of what is above
            102,
            "Layer       Type                               Each  Parameters   Trainable  Frozen   Share",
            "    [0-11]  12 × TransformerEncoderLayer  1,000,000  12,000,000  12,000,000       0   85.7%",
        ),
        (  # with types as long as they can be
            80,
            "Layer       Type                    Each  Parameters   Trainable  Frozen   Share",
            "    [0-11]  12 × Transformer…  1,000,000  12,000,000  12,000,000       0   85.7%",
        ),
        (  # without what each of a run holds
            70,
            "Layer       Type                Parameters   Trainable  Frozen   Share",
            "    [0-11]  12 × TransformerE…  12,000,000  12,000,000       0   85.7%",
        ),
        (  # without a column of zeros
            60,
            "Layer       Type              Parameters   Trainable   Share",
            "    [0-11]  12 × Transforme…  12,000,000  12,000,000   85.7%",
        ),
        (  # without shares
            50,
            "Layer       Type            Parameters   Trainable",
            "    [0-11]  12 × Transfor…  12,000,000  12,000,000",
        ),
        (40, "Layer       Parameters   Trainable", "    [0-11]  12,000,000  12,000,000"),  # without types
        (32, "Layer     Parameters   Trainable", "    …11]  12,000,000  12,000,000"),  # with names cut
        (10, "Layer     Parameters   Trainable", "    …11]  12,000,000  12,000,000"),  # numbers never are
    ],
)
def test_what_gives_way_to_a_narrow_terminal(width: int, header: str, row: str) -> None:
    assert layout(width) == (header, row)


def test_one_very_long_name_costs_no_column() -> None:
    modules = {"short": "Linear", "x" * 150 + "end": "Linear"}
    counts = report(modules, [param(f"{name}.weight", size) for name, size in zip(modules, (10, 30), strict=True)])
    lines = table(counts, 80).split("\n")

    assert lines[1].split() == ["Layer", "Type", "Parameters", "Trainable", "Frozen", "Share"]
    assert lines[3:5] == [
        "short" + " " * 30 + "Linear          10         10       0   25.0%",
        "…" + "x" * 29 + "end" + "  Linear          30         30       0   75.0%",
    ]
    assert max(map(len, lines)) == 80


def test_wide_characters_take_two_columns() -> None:
    counts = report({"层归一化": "Linear", "层": "线性"}, [param("层归一化.w", 10), param("层.w", 20)])
    assert table(counts).split("\n")[1:5] == [
        "Layer     Type    Parameters  Trainable  Frozen   Share",
        "─" * 67,
        "层归一化  Linear          10         10       0   33.3%  ███▍",
        "层        线性            20         20       0   66.7%  ██████▋",
    ]


def test_lower_bounds_are_marked_in_rows_shares_and_totals() -> None:
    assert table(lazy_report(), 60).split("\n") == [
        "lazy.py · Net",
        "Layer  Type        Parameters  Trainable  Frozen    Share",
        "─────────────────────────────────────────────────────────",
        "a      Linear           1,234      1,234       0  ≤ 99.2%",
        "b      LazyLinear        ≥ 10       ≥ 10       0   ≥ 0.8%",
        "─────────────────────────────────────────────────────────",
        "Total  Net            ≥ 1,244    ≥ 1,244       0   100.0%",
        "",
        "  at least 4.98 KB of parameters (float32)",
        "! uninitialized: b: has no shape yet",
    ]


def test_remarks_wrap_on_a_terminal_behind_an_indent_and_nowhere_else() -> None:
    assert table(model(), 50).split("\n")[-4:] == [
        "  56.04 MB of parameters (float32) · 3 in",
        "    buffers (12 B), not part of the total",
        "! unregistered: heads[0]: Linear is kept in a",
        "    plain list: use nn.ModuleList",
    ]


@pytest.mark.parametrize(
    ("count", "style"), [(0, "\x1b[2m"), (AtLeast(0), ""), (5, "")], ids=["nothing", "not known", "something"]
)
def test_a_layer_that_holds_nothing_is_dim(count: int, style: str) -> None:
    columns = (Column("layer", "Layer", "name"), Column("total", "Parameters", "count"))
    grid = Grid("title", columns, (Row(("relu", count), 1),))
    row = render(Grids([grid]), Style(color=True)).split("\n")[3]
    assert row.startswith(f"{style}relu")


class Grids:
    """A result of any command."""

    def __init__(self, grids: list[Grid]) -> None:
        self._grids = grids

    def grids(self) -> list[Grid]:
        return self._grids

    def to_dict(self) -> dict[str, object]:
        return {}


def test_any_grid_can_be_shown() -> None:
    columns = (
        Column("model", "Model", "name"),
        Column("status", "Status", "text"),
        Column("size", "Size", "bytes"),
        Column("ratio", "Ratio", "ratio"),
        Column("runs", "Runs", "number"),
    )
    rows = (Row(("a", "ok", 5_000_000, 1.0, 3)), Row(("b", "over", None, 0.00123, 12)))
    grid = Grid("Checked", columns, rows, remarks=(Remark("one model is over"),))
    assert render(Grids([grid, grid]), Style()).split("\n\n")[:2] == [
        "Checked\n"
        "Model  Status     Size    Ratio  Runs\n"
        "─────────────────────────────────────\n"
        "a      ok      5.00 MB    1.00×     3\n"
        "b      over          ?  0.0012×    12",
        "  one model is over",
    ]
