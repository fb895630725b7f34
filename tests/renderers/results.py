"""Results that are hard on a renderer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paramcount.grid import Grid
from paramcount.inventory import Note
from paramcount.outline import Options, comparison, outline
from paramcount.report import Report
from tests.inventories import buffer, lazy, param, report

HOSTILE = (
    "a|b",
    "a\\|b",
    "\\",
    "trailing\\",
    "`tick`",
    "``",
    "*bold*",
    "**",
    "_under_score_",
    "__dunder__",
    "~~struck~~",
    "<b>",
    "<!-- -->",
    "&amp;",
    "[x](y)",
    "![x](y)",
    "[bold]red[/bold]",
    "[/]",
    ":smile:",
    "$x$",
    "@someone",
    "#1",
    "https://example",
    '"quoted"',
    "it's",
    "a,b",
    "=1+1",
    "-",
    "- item",
    "1) item",
    "# heading",
    "> quotation",
    "---",
    " leading",
    "trailing ",
    " both ",
    "   ",
    "two  spaces",
    "line\nbreak",
    "carriage\rreturn",
    "tab\tbed",
    "\x1b[31mred",
    "bell\x07",
    "nul\x00",
    "bidi\u202eoverride",
    "zero\u200bwidth",
    "separator\u2028",
    "no-break\xa0space",
    "\x85",
    "层归一化",
    "emoji🙂",
    "e\u0301",
    "::error::x",
    " ::stop-commands::x",
    "##[error]x",
    "a ###vso[task.complete]",
    "@SUM(1)",
    "+1",
    "\t=1",
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Reports, as a command hands them to a renderer."""

    reports: tuple[Report, ...]
    options: Options

    def grids(self) -> list[Grid]:
        each = [outline(report, self.options) for report in self.reports]
        together = [comparison(self.reports)] if len(self.reports) > 1 else []
        return together if together and self.options.depth == 0 else each + together

    def to_dict(self) -> dict[str, Any]:
        # The formats for findings read what paramcount check adds to a report.
        verdict: dict[str, Any] = {"status": "ok", "findings": []}
        reports = [{"name": report.target, **verdict, **report.to_dict()} for report in self.reports]
        return {"format_version": "1.0", "paramcount_version": "0.1.0", "reports": reports, "errors": []}


def hostile_report() -> Report:
    """Every name in every place: layers, parameters, types, ties, notes, the target."""
    modules = dict.fromkeys(HOSTILE, "Linear") | {f"sub.{name}": name for name in HOSTILE} | {"sub": "Sub"}
    modules = {"sub": modules.pop("sub"), **modules}
    weights = [param(f"{name}.{name}", 2) for name in HOSTILE]
    weights += [param(f"sub.{name}.w", 3) for name in HOSTILE]
    weights += [param(f"tied {name}", 2, tied_to=f"{name}.{name}") for name in HOSTILE]
    notes = [Note(f"code{number}", name, name) for number, name in enumerate(HOSTILE)]
    return report(modules, weights, notes=notes, target=" | ".join(HOSTILE), root=HOSTILE[0])


def plain_report(target: str = "net.py:Net") -> Report:
    modules = {"stem": "Conv2d", "blocks": "Sequential", **{f"blocks.{number}": "Block" for number in range(3)}}
    weights = [
        param("scale", 1, trainable=False),
        param("stem.weight", 2000, 10),
        *(param(f"blocks.{number}.weight", 10, 10, trainable=False) for number in range(3)),
    ]
    return report(modules, weights, [buffer("stem.mean", 8)], target=target)


def lazy_report() -> Report:
    weights = [param("a.weight", 1000), param("a.bias", 234), lazy("b.weight"), param("b.bias", 10)]
    notes = [Note("uninitialized", "b", "has no shape yet")]
    return report({"a": "Linear", "b": "LazyLinear"}, weights, notes=notes, target="lazy.py")


def checkpoint_report() -> Report:
    weights = [param("a.weight", 30, trainable=None), param("b.weight", 4, trainable=None)]
    return report({"a": "", "b": ""}, weights, target="model.safetensors", root="")


def sharded_report() -> Report:
    """A mixture of experts, its experts packed and all of it on two ranks."""
    experts = param("experts.weight", 8, 6, dtype="int8")._replace(packed=True, active=12, local=24)
    weights = [param("router.weight", 8, 2)._replace(local=8), experts, param("router.bias", 8)]
    modules = {"router": "Linear", "experts": "Experts"}
    return report(modules, weights, overhead=[buffer("experts.scales", 8)], target="moe.py:MoE")


def _reports() -> dict[str, tuple[Report, ...]]:
    return {
        "none": (),
        "nothing in it": (report({}, target="empty.py"),),
        "no parameters": (report({"relu": "ReLU"}, [param("none", 0)], target="relu.py"),),
        "plain": (plain_report(),),
        "hostile": (hostile_report(),),
        "uninitialized": (lazy_report(),),
        "nothing but uninitialized": (report({"a": "Lazy"}, [lazy("a.w")], target="lazy.py"),),
        "packed, routed and sharded": (sharded_report(),),
        "unknown": (checkpoint_report(),),
        "several": (plain_report("one"), plain_report("two"), lazy_report(), hostile_report()),
        "the same twice": (plain_report(), plain_report()),
        "several from nothing": (report({}, target="empty.py"), plain_report()),
    }


OPTIONS = (
    Options(),
    Options(depth=0),
    Options(depth="all", fold=False),
    Options(depth="all", params=True, buffers=True, fold=False),
    Options(depth=1, params=True, sort="size"),
)
# By what is hard about them: the same reports, shown in several ways.
RESULTS = {name: tuple(Counts(reports, options) for options in OPTIONS) for name, reports in _reports().items()}
