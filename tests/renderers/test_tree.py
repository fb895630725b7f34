from __future__ import annotations

from paramcount.grid import Style
from paramcount.outline import Options
from paramcount.renderers.tree import render
from tests.inventories import param, report
from tests.renderers.results import Counts, lazy_report, plain_report


def test_a_tree_has_own_names_and_says_what_does_not_go_without_saying() -> None:
    assert render(Counts((plain_report(),), Options(depth=3, params=True)), Style()).split("\n") == [
        "net.py:Net · Net  20,301  20,000 trainable  301 frozen",
        "├── scale  float32 [1]  1  1 frozen  <0.1%",
        "├── stem  Conv2d  20,000  98.5%",
        "│   └── weight  float32 [2000, 10]  20,000  98.5%",
        "└── blocks  Sequential  300  300 frozen  1.5%",
        "    └── [0-2]  3 × Block  100 each  300  300 frozen  1.5%",
        "        └── weight  3 × float32 [10, 10]  100 each  300  300 frozen  1.5%",
        "",
        "  81.20 KB of parameters (float32) · 8 in buffers (32 B), not part of the total",
    ]


def test_a_guide_ends_with_the_last_sibling() -> None:
    modules = {"a": "A", "a.b": "B", "a.b.c": "C", "a.d": "D", "e": "E", "e.f": "F"}
    counts = report(modules, [param(f"{name}.w", 2) for name in ("a.b.c", "a.d", "e.f")])
    assert render(Counts((counts,), Options()), Style()).split("\n")[1:7] == [
        "├── a  A  4  66.7%",
        "│   ├── b  B  2  33.3%",
        "│   │   └── c  C  2  33.3%",
        "│   └── d  D  2  33.3%",
        "└── e  E  2  33.3%",
        "    └── f  F  2  33.3%",
    ]


def test_a_comparison_is_a_list() -> None:
    result = Counts((plain_report("one"), plain_report("two"), lazy_report()), Options(depth=0))
    assert render(result, Style()).split("\n") == [
        "3 targets",
        "├── one  20,301  20,000 trainable  301 frozen  81.20 KB  8 buffers  1.00×",
        "├── two  20,301  20,000 trainable  301 frozen  81.20 KB  8 buffers  1.00×",
        "└── lazy.py  ≥ 1,244  ≥ 4.98 KB  ?",
    ]


def test_a_long_line_wraps_beside_its_guides() -> None:
    modules = {"blocks": "Sequential", **{f"blocks.{number}": "TransformerEncoderLayer" for number in range(3)}}
    modules["head"] = "Linear"
    counts = report(modules, [param(f"blocks.{number}.weight", 1000, 1000) for number in range(3)])
    assert render(Counts((counts,), Options()), Style(50)).split("\n")[1:6] == [
        "├── blocks  Sequential  3,000,000  100.0%",
        "│   └── [0-2]  3 × TransformerEncoderLayer",
        "│         1,000,000 each  3,000,000  100.0%",
        "└── head  Linear  0",
        "",
    ]
