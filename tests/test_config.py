"""``models.yaml`` is read as it is meant, or every mistake in it is named with its place."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no type information
import pytest
import yaml

from paramcount.budgets import RULES, Allowance, Budget, Growth, Layers, Limit, Location, judge
from paramcount.config import Config, ConfigError, ModelSpec, json_schema, load, parse
from paramcount.errors import UsageError
from paramcount.inventory import Inventory, Module, Param
from paramcount.report import Report
from paramcount.yamls import load as load_yaml

# The example of the design, to the letter.
EXAMPLE = """\
# yaml-language-server: $schema=./.paramcount/schema.json
version: 1
defaults:                        # merged under every model
  growth: {percent: 2, params: 50K}     # against the lock; both must be exceeded
models:
  classifier:
    target: src/net.py:Net       # relative to this file
    args: {width: 384}
    freeze: ["*"]
    unfreeze: [head]
    budget: {total: 22.5M, trainable: 60K, bytes: 90MB}     # a bare value is an inclusive maximum
    layers:
      "blocks.*.attn": {each: {total: 600K}}
      head: {total: {max: 60K, min: 1}}
    allow:
      - {rule: total, max: 23M, until: 2027-01-31, reason: "rank-32 trial"}
  reference:
    target: torchvision:resnet50
    weights: DEFAULT
    budget: {total: {exactly: 25557032}}
"""


MODEL_KEYS = [
    "args",
    "weights",
    "freeze",
    "unfreeze",
    "active",
    "input",
    "device",
    "trust_remote_code",
    "budget",
    "layers",
    "allow",
    "growth",
    "target",
    "like",
]
NO_COUNT = "is no count: write a whole number such as 22500000, or one with K, M, B or T such as 22.5M"
NO_SIZE = "is no size: write bytes such as 90000000, or a number with KB, MB, GB, TB, KiB, MiB, GiB or TiB such as 90MB"
NO_INPUT = "for example: 1,3,224,224 or 1,128:int64 or input_ids=1,128:int64"
NO_ROUTING = "for example: '*.experts=2/8', where each token passes through 2 of 8"
NO_DATE = "is no date: write year, month and day as in 2027-01-31"
NO_TAG = "has no place here: write the value alone"


def at(line: int, column: int) -> Location:
    return Location("models.yaml", line, column)


def read(text: str) -> Config:
    return parse(text.encode())


def problems(text: str | bytes) -> list[str]:
    """Return the mistakes, as a reader sees them."""
    with pytest.raises(ConfigError) as caught:
        parse(text if isinstance(text, bytes) else text.encode())
    assert caught.value.exit_code == 2
    return [str(problem) for problem in caught.value.problems]


def model(body: str) -> str:
    """Return a file with one model, whose further keys begin on line 5 in column 5."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"version: 1\nmodels:\n  net:\n    target: net.py:Net\n{lines}"


def only(text: str) -> ModelSpec:
    (spec,) = read(text).models
    return spec


# What is read ---------------------------------------------------------------------------------------------------------


def test_the_example_is_read_with_the_place_of_every_limit() -> None:
    config = read(EXAMPLE)
    growth = Growth(Fraction(2), 50_000, at(4, 3))
    assert (config.file, config.base) == ("models.yaml", Path())
    assert config.models == (
        ModelSpec(
            "classifier",
            "src/net.py:Net",
            Budget(
                (
                    Limit("total", 22_500_000, location=at(11, 14)),
                    Limit("trainable", 60_000, location=at(11, 28)),
                    Limit("bytes", 90_000_000, location=at(11, 44)),
                    Limit("total", 600_000, None, Layers("blocks.*.attn", each=True, location=at(13, 7)), at(13, 32)),
                    Limit("total", 60_000, 1, Layers("head", location=at(14, 7)), at(14, 14)),
                ),
                (Allowance("total", 23_000_000, date(2027, 1, 31), "rank-32 trial", at(16, 9)),),
                growth,
            ),
            at(6, 3),
            args={"width": 384},
            freeze=("*",),
            unfreeze=("head",),
            places={
                "growth": at(4, 3),
                "target": at(7, 5),
                "args": at(8, 5),
                "freeze": at(9, 5),
                "unfreeze": at(10, 5),
                "budget": at(11, 5),
                "layers": at(12, 5),
                "allow": at(15, 5),
            },
        ),
        ModelSpec(
            "reference",
            "torchvision:resnet50",
            Budget((Limit("total", 25_557_032, 25_557_032, location=at(20, 14)),), (), growth),
            at(17, 3),
            weights="DEFAULT",
            places={"growth": at(4, 3), "target": at(18, 5), "weights": at(19, 5), "budget": at(20, 5)},
        ),
    )


def test_a_file_is_named_as_it_was_asked_for_and_targets_are_relative_to_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "budgets.yaml"
    path.write_text("version: 1\nmodels: {net: {target: a.py}}\n")
    config = load(path)
    assert (config.file, config.base, config.models[0].target) == (str(path), tmp_path, "a.py")
    path.write_text("version: 1\nmodels: {net: {}}\n")
    with pytest.raises(ConfigError, match=re.escape(f"{path}:2:10: 'target' is missing")):
        load(path)


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    for path in (tmp_path / "models.yaml", tmp_path, Path("a\0b")):
        with pytest.raises(UsageError, match=r"^cannot read ") as caught:
            load(path)
        assert caught.value.exit_code == 2


def test_names_select_models_in_the_order_of_the_file() -> None:
    config = read(EXAMPLE)
    assert [spec.name for spec in config.select()] == ["classifier", "reference"]
    assert [spec.name for spec in config.select(["reference", "classifier"])] == ["classifier", "reference"]
    assert [spec.name for spec in config.select(["reference"])] == ["reference"]
    with pytest.raises(UsageError, match=r"^models.yaml has no model 'clasifier'\ndid you mean classifier\?$"):
        config.select(["reference", "clasifier"])


def test_code_of_a_models_own_is_trusted_only_where_the_file_says_so() -> None:
    text = "version: 1\ndefaults: {trust_remote_code: true}\nmodels:\n  a: {target: x.py, trust_remote_code: false}\n"
    assert [each.trust_remote_code for each in read(text + "  b: {target: x.py}\n").models] == [False, True]
    assert not read("version: 1\nmodels:\n  a: {target: x.py}\n").models[0].trust_remote_code


def test_defaults_merge_key_by_key_and_a_models_own_key_wins() -> None:
    config = read(
        """\
version: 1
defaults:
  args: {width: 1, depth: 2}
  weights: DEFAULT
  freeze: ["*"]
  device: meta
  active: ["*.experts=02/8"]
  budget: {total: {max: 9, min: 1}, bytes: 10KB}
  layers:
    head: {total: 5, each: {total: 4}}
  growth: {percent: 2, params: 50K}
models:
  own:
    target: a.py
    args: {width: 3}
    weights: null
    freeze: [stem]
    budget: {total: 8}
    layers: {head: {sum: {total: 6}}, stem: {total: 7}}
    growth: {percent: 0.5}
  none: {target: b.py}
  empty: {target: c.py, freeze: []}
"""
    )
    own, none, empty = config.models
    assert (own.args, own.weights, own.freeze, own.device) == ({"width": 3, "depth": 2}, None, ("stem",), "meta")
    assert own.budget.growth == Growth(Fraction(1, 2), 50_000, at(20, 5))
    assert [(limit.rule, limit.max, limit.min, limit.location) for limit in own.budget.limits] == [
        ("total", 8, 1, at(18, 14)),  # the default's minimum stays
        ("bytes", 10_000, None, at(8, 37)),
        ("total", 6, None, at(19, 27)),
        ("total", 4, None, at(10, 29)),
        ("total", 7, None, at(19, 46)),
    ]
    assert (none.args, none.weights, none.freeze) == ({"width": 1, "depth": 2}, "DEFAULT", ("*",))
    assert [(limit.rule, limit.max, limit.min) for limit in none.budget.limits[:2]] == [
        ("total", 9, 1),
        ("bytes", 10_000, None),
    ]
    assert empty.freeze == ()
    assert empty.active == ("*.experts=2/8",)


@pytest.mark.parametrize(
    ("default", "own", "held"),
    [
        ("9", "8", (8, None)),
        ("9", "10", (10, None)),
        ("9", "{min: 3}", (9, 3)),
        ("{min: 3}", "9", (9, 3)),
        ("{max: 9, min: 3}", "{max: 5}", (5, 3)),
        ("{max: 9, min: 3}", "{min: 5}", (9, 5)),
        ("{max: 9, min: 3}", "{exactly: 20}", (20, 20)),
        ("{exactly: 9}", "{exactly: 8}", (8, 8)),
        ("{exactly: 9}", "20", (9, 9)),
        ("{exactly: 9}", "{min: 3}", (9, 9)),
        ("{exactly: 9}", "{max: 20, min: 3}", (9, 9)),
        ("{max: 9, min: 9}", "20", (20, 9)),
        ("9", "{min: 10}", None),
        ("{min: 10}", "9", None),
        ("{exactly: 9}", "8", None),
        ("{exactly: 9}", "{min: 10}", None),
    ],
)
def test_a_default_bound_holds_unless_one_of_its_name_replaces_it(
    default: str, own: str, held: tuple[int | None, int | None] | None
) -> None:
    defaults = f"version: 1\ndefaults: {{budget: {{total: {default}}}}}\n"
    text = f"{defaults}models:\n  a: {{target: a.py, budget: {{total: {own}}}}}\n"
    if held is None:
        with pytest.raises(ConfigError, match="total: cannot be met beside the defaults: min "):
            read(text)
    else:
        (limit,) = read(text).models[0].budget.limits
        assert (limit.max, limit.min) == held


def test_limits_directly_under_a_pattern_are_on_the_sum() -> None:
    bare = only(model("layers: {head: {total: 5}}")).budget.limits
    spelt = only(model("layers: {head: {sum: {total: 5}}}")).budget.limits
    for (limit,) in (bare, spelt):
        assert limit.layers is not None
        assert (limit.layers.pattern, limit.layers.each, limit.max) == ("head", False, 5)


def test_all_rules_and_units_and_bounds_are_read() -> None:
    limits = only(
        model("budget: {total: 1T, trainable: '5', frozen: {min: 0.5K}, bytes: {max: 1.5GiB}, buffers: {exactly: 0}}")
    ).budget.limits
    assert [(limit.rule, limit.max, limit.min) for limit in limits] == [
        ("total", 10**12, None),
        ("trainable", 5, None),
        ("frozen", None, 500),
        ("bytes", 1_610_612_736, None),
        ("buffers", 0, 0),
    ]


def test_arguments_are_yaml_1_2_at_any_depth() -> None:
    spec = only(model("args: {lr: 1e-4, n: 0x1F, on: true, t: 'yes', l: [1, {2: ~, a: -3}], w: 1.5, 0: zero}"))
    assert spec.args == {
        "lr": 1e-4,
        "n": 31,
        "on": True,
        "t": "yes",
        "l": [1, {2: None, "a": -3}],
        "w": 1.5,
        "0": "zero",
    }


def test_aliases_stand_for_what_they_name() -> None:
    config = read(
        "version: 1\nmodels:\n  a: {target: a.py, budget: &small {total: 5K}}\n  b: {target: b.py, budget: *small}\n"
    )
    assert [spec.budget.limits for spec in config.models] == [(Limit("total", 5_000, location=at(3, 37)),)] * 2


def test_a_byte_order_mark_and_windows_line_ends_change_nothing() -> None:
    assert parse(b"\xef\xbb\xbf" + EXAMPLE.replace("\n", "\r\n").encode()) == read(EXAMPLE)


def test_a_name_and_a_pattern_are_taken_as_written() -> None:
    config = read("version: 1\nmodels:\n  1: {target: a.py, layers: {0: {total: 5}}}\n  yes: {target: b.py}\n")
    assert [spec.name for spec in config.models] == ["1", "yes"]
    assert config.models[0].budget.limits[0].layers == Layers("0", location=at(3, 30))


def test_reading_imports_neither_torch_nor_rich_nor_typer_and_judging_not_even_yaml() -> None:
    code = (
        "import sys, paramcount.budgets\n"
        "heavy = {'torch', 'torchvision', 'rich', 'typer'}\n"
        "assert not (heavy | {'yaml', 'pydantic'}) & set(sys.modules)\n"
        "from paramcount.config import json_schema, parse\n"
        "json_schema(), parse(sys.stdin.buffer.read())\n"
        "assert not heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], input=EXAMPLE.encode(), check=True, env=os.environ)


# What is refused ------------------------------------------------------------------------------------------------------


def test_all_mistakes_come_at_once_sorted_by_place_with_the_closest_key() -> None:
    text = """\
version: 2
defalts: {}
models:
  a:
    target: 5
    args: {x: yes, x: 2}
    budget: {max_totl: 5M, total: 1_000, trainable: {max: 5, min: 10}}
    freeze: head
  b:
    budget: {total: {exactly: 5, max: 3}, frozen: !!int 5}
    allow:
      - {rule: totl, max: 3, until: 2027-02-31}
  c:
    target: c.py
    budget: {total: 5M, trainable: {min: 20M}}
    colour: red
    allow: [{rule: trainable, max: 3, until: 2027-01-31, reason: x}]
"""
    trap = "YAML 1.1 and 1.2 differ over what this is; write true, false or plain digits, or quote it"
    assert problems(text) == [
        "models.yaml:1:10: version: 2 is unknown: this paramcount reads version 1",
        "models.yaml:2:1: unknown key 'defalts'; did you mean 'defaults'?",
        "models.yaml:5:13: target: 5 is no text: quote what is meant as text",
        f"models.yaml:6:15: 'yes': {trap}",
        "models.yaml:6:20: duplicate key 'x': it is on line 6 already",
        "models.yaml:7:14: unknown key 'max_totl'; did you mean 'total'?",
        f"models.yaml:7:35: total: '1_000' {NO_COUNT}",
        "models.yaml:7:53: trainable: cannot be met: min 10 is above max 5",
        "models.yaml:8:13: freeze: 'head' is no list: write it in [ ]",
        "models.yaml:9:3: 'target' is missing",
        "models.yaml:10:21: total: exactly leaves no room for max or min: give one or the other",
        f"models.yaml:10:51: a tag ('tag:yaml.org,2002:int') {NO_TAG}",
        "models.yaml:12:9: 'reason' is missing",
        "models.yaml:12:16: rule: 'totl' is unknown; did you mean total?",
        f"models.yaml:12:37: until: '2027-02-31' {NO_DATE}",
        "models.yaml:15:14: total: cannot be met: max 5,000,000 is below trainable min 20,000,000",
        f"models.yaml:16:5: unknown key 'colour'; valid here: {', '.join(MODEL_KEYS)}",
        "models.yaml:17:14: rule: the budget of 'c' has no maximum for trainable that could be lifted",
    ]
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert caught.value.message == "models.yaml has 18 mistakes"
    assert caught.value.details.splitlines()[1] == "models.yaml:2:1: unknown key 'defalts'; did you mean 'defaults'?"


TRAPS = ["yes", "Off", "1:30", "1_000", "1e6", "0777", "0o17", "0x1F", "+5", "-5", "25.5", ".5M", ".inf", ".nan", "5m"]
TRAPS += ["true", "2027-01-31", "5 M", '"5M "', "90MB", "[5]", "9" * 5000]


@pytest.mark.parametrize("written", TRAPS)
@pytest.mark.parametrize("before", ["", "{max: ", "{min: ", "{exactly: "])
def test_what_is_no_number_is_never_a_limit(written: str, before: str) -> None:
    (problem,) = problems(model(f"budget:\n  total: {before}{written}{'}' if before else ''}"))
    assert problem.startswith(f"models.yaml:6:{14 + len(before)}: ")
    assert " is no count: write a whole number" in problem


@pytest.mark.parametrize("written", ["yes", "Off", "NO", "1:30", "1_000", "0777", "-012", "190:20:30.15"])
def test_an_argument_that_yaml_1_1_reads_otherwise_is_refused(written: str) -> None:
    for args in (f"{{a: {written}}}", f"{{a: [{written}]}}", f"{{a: {{b: {written}}}}}"):
        (problem,) = problems(model(f"args: {args}"))
        column = 11 + args.index(written)
        assert problem.startswith(f"models.yaml:5:{column}: '{written}': YAML 1.1 and 1.2 differ over what this is")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: the file is empty; paramcount init writes one to start from"),
        ("# nothing\n", "1:1: the file is empty; paramcount init writes one to start from"),
        ("~", "1:1: there is no value"),
        ("5", "1:1: 5 is no mapping of keys to values"),
        ("[]", "1:1: a list is no mapping of keys to values"),
        ("models: {a: {target: a.py}}", "1:1: 'version' is missing"),
        ("version: 1", "1:1: 'models' is missing"),
        ("version: '1'\nmodels: {a: {target: a.py}}", "1:10: version: '1' is unknown: this paramcount reads version 1"),
        (
            "version: true\nmodels: {a: {target: a.py}}",
            "1:10: version: true is unknown: this paramcount reads version 1",
        ),
        (
            "version: 1.0\nmodels: {a: {target: a.py}}",
            "1:10: version: '1.0' is unknown: this paramcount reads version 1",
        ),
        ("version:\nmodels: {a: {target: a.py}}", "1:1: version: there is no value"),
        ("version: 1\nmodels: {}", "2:9: models: names no model: give at least one"),
        ("version: 1\nmodels:", "2:1: models: there is no value"),
        ("version: 1\nmodels: [a]", "2:9: models: a list is no mapping of keys to values"),
        ("version: 1\nmodels: {a: }", "2:10: a: there is no value"),
        (
            "version: 1\nmodels: {'': {target: a.py}, a: {target: a.py}}",
            "2:10: a key is empty; one that is meant as text wants quotes",
        ),
        (
            "version: 1\nmodels: {~: {target: a.py}, a: {target: a.py}}",
            "2:10: a key is empty; one that is meant as text wants quotes",
        ),
        (
            "version: 1\nmodels: {? [a] : 1, a: {target: a.py}}",
            "2:12: a key is to be a single word, not a list or a mapping",
        ),
        ("version: 1\n---\nversion: 1\n", "2:1: a second document begins here: the file is to hold one"),
        ("version: 1\nmodels:\n\ta: {}", "3:1: a tab has no place here: YAML is indented and separated with spaces"),
        ("version:\t1", "1:9: a tab has no place here: YAML is indented and separated with spaces"),
        ("version: 1\nmodels: [", "2:10: not YAML: expected the node content, but found '<stream end>'"),
        ("a: b: c", "1:5: not YAML: mapping values are not allowed here"),
        ('a: "\\UFFFFFFFF"', None),
        ("a: *b", "1:4: found undefined alias 'b': quote a pattern that begins with *"),
    ],
)
def test_what_is_no_such_file_at_all_is_refused_with_its_place(text: str, expected: str | None) -> None:
    (problem,) = problems(text)
    if expected is None:
        assert problem.startswith("models.yaml:1:"), problem
    else:
        assert problem == f"models.yaml:{expected}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("budget:", "5:5: budget: there is no value"),
        ("budget: {}", "5:13: budget: limits nothing: give one of total, trainable, frozen, active, bytes, buffers"),
        ("budget: 5M", "5:13: budget: '5M' is no mapping of keys to values"),
        ("budget: {total: }", "5:14: total: there is no value"),
        ("budget: {total: {}}", "5:21: total: limits nothing: give max, min or exactly"),
        ("budget: {total: {max: }}", "5:22: max: there is no value"),
        (
            "budget: {total: 0.0001K}",
            "5:21: total: '0.0001K' comes to a fraction: it has too many decimals for its unit",
        ),
        ("budget: {total: 5, total: 6}", "5:24: duplicate key 'total': it is on line 5 already"),
        ("target: b.py", "5:5: duplicate key 'target': it is on line 4 already"),
        ("args: {a: {b: 1, b: 2}}", "5:22: duplicate key 'b': it is on line 5 already"),
        ("args: {a: {1: 1, 0x1: 2}}", "5:22: duplicate key 1: it is on line 5 already"),
        ("args: 5", "5:11: args: 5 is no mapping of keys to values"),
        ("args: {a: !!python/name:os.system x}", f"5:15: a tag ('tag:yaml.org,2002:python/name:os.system') {NO_TAG}"),
        ("args: {a: ! x}", f"5:15: a tag ('!') {NO_TAG}"),
        (f"args: {{a: {'9' * 5000}}}", "5:15: no integer can be read from 5000 characters"),
        ('args: {a: "\\0"}', "5:15: character U+0000 has no place here"),
        ('freeze: ["\\ud800"]', "5:14: character U+D800 has no place here"),
        ("freeze: [5]", "5:14: freeze[0]: 5 is no text: quote what is meant as text"),
        ("input: 1x3", f"5:12: input: '1x3' is not SHAPE, SHAPE:DTYPE or NAME=SHAPE:DTYPE; {NO_INPUT}"),
        ("input: []", "5:12: input: there is no shape"),
        ("input: ['3:int46']", "5:12: input: '3:int46': 'int46' is no dtype; did you mean int64, int16 or int8?"),
        ("active: [experts]", f"5:14: active[0]: 'experts' is not PATTERN=K/N; {NO_ROUTING}"),
        ("active: ['e=3/2']", "5:14: active[0]: 'e=3/2': of 2 experts 3 cannot be active"),
        ("freeze: [a, '']", "5:17: freeze[1]: there is no value"),
        ("freeze: [*bn]", "5:14: found undefined alias 'bn': quote a pattern that begins with *"),
        (
            "freeze: [*.bias]",
            "5:15: expected alphabetic or numeric character, but found '.': quote a pattern that begins with *",
        ),
        ("weights: true", "5:14: weights: true is no text: quote what is meant as text"),
        ("trust_remote_code: yes", "5:24: trust_remote_code: 'yes' is neither true nor false"),
        ("device: cuda", "5:13: device: 'cuda' is unknown; there are auto, meta, cpu"),
        (
            "layers: {head: {}}",
            "5:20: head: limits nothing: give one of total, trainable, frozen, active, bytes, buffers, sum, each",
        ),
        ("layers: {head: 5}", "5:20: head: 5 is no mapping of keys to values"),
        ("layers: {head: {eahc: {total: 5}}}", "5:21: unknown key 'eahc'; did you mean 'each'?"),
        (
            "layers: {head: {each: {each: {total: 5}}}}",
            "5:28: unknown key 'each'; valid here: total, trainable, frozen, active, bytes, buffers",
        ),
        (
            "layers: {head: {total: 5, sum: {total: 6}}}",
            "5:20: head: total is limited here and again under sum, which is the same",
        ),
        ("growth: {}", "5:13: growth: limits nothing: give percent, params or both"),
        ("growth: {percent: 2%}", "5:23: percent: '2%' is no percentage: write a number such as 2 or 0.5"),
        ("growth: {percent: -2}", "5:23: percent: -2 is no percentage: write a number such as 2 or 0.5"),
        ("growth: {percent: 1e2}", "5:23: percent: '1e2' is no percentage: write a number such as 2 or 0.5"),
        ("growth: {params: 2%}", f"5:22: params: '2%' {NO_COUNT}"),
        ('layers: {"a\\nb": 5}', "5:22: 'a\\nb': 5 is no mapping of keys to values"),
        (
            '"a\\nb": 5',
            f"5:5: unknown key 'a\\nb'; valid here: {', '.join(MODEL_KEYS)}",
        ),
        ("args: {a: {~: 1}}", "5:16: a key is empty; one that is meant as text wants quotes"),
        ("<<: {weights: DEFAULT}", "5:5: YAML 1.2 has no merge keys (<<): write the keys out, or put them in defaults"),
        ("args: &a {b: *a}", "5:11: this holds an alias of itself, which has no end"),
        ("args: {a: " + "[" * 200 + "]" * 200 + "}", "5:111: not YAML: nested more than 100 levels deep"),
        ("budget: {bytes: 90M}", f"5:21: bytes: '90M' {NO_SIZE}"),
        ("budget: {total: {max: 1, min: 2}}", "5:21: total: cannot be met: min 2 is above max 1"),
        (
            "budget: {total: {exactly: 1, min: 1}}",
            "5:21: total: exactly leaves no room for max or min: give one or the other",
        ),
        (
            "budget: {total: 5, trainable: {min: 3}, frozen: {min: 3}}",
            "5:14: total: cannot be met: max 5 is below trainable min 3 and frozen min 3",
        ),
        (
            "budget: {total: 5}\nlayers: {head: {total: {min: 6}}}",
            "6:21: total: cannot be met: min 6 is above the whole model's 5",
        ),
    ],
)
def test_a_mistake_in_a_model_is_named_with_its_place(body: str, expected: str) -> None:
    assert problems(model(body)) == [f"models.yaml:{expected}"]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("rule: total, max: 6, until: 20270131, reason: x", f"6:42: until: 20270131 {NO_DATE}"),
        ("rule: total, max: 6, until: 2027-W01-1, reason: x", f"6:42: until: '2027-W01-1' {NO_DATE}"),
        ("rule: total, max: 6, until: soon, reason: x", f"6:42: until: 'soon' {NO_DATE}"),
        ("rule: total, max: 6, until: 2027-01-31, reason: ' '", "6:62: reason: there is no value"),
        (
            "rule: total, max: 5, until: 2027-01-31, reason: x",
            "6:27: max: allows nothing, for the budget of 'net' has 5 already: remove the allowance",
        ),
        ("rule: total, max: 6MB, until: 2027-01-31, reason: x", f"6:32: max: '6MB' {NO_COUNT}"),
        (
            "rule: bytes, max: 6, until: 2027-01-31, reason: x",
            "6:14: rule: the budget of 'net' has no maximum for bytes that could be lifted",
        ),
        (
            "rule: frozen, max: 6, until: 2027-01-31, reason: x",
            "6:14: rule: the budget of 'net' has no maximum for frozen that could be lifted",
        ),
        ("max: 6, until: 2027-01-31, reason: x", "6:13: 'rule' is missing"),
    ],
)
def test_an_allowance_is_for_a_maximum_that_there_is(entry: str, expected: str) -> None:
    assert problems(model(f"budget: {{total: 5, frozen: {{min: 1}}}}\nallow: [{{{entry}}}]")) == [
        f"models.yaml:{expected}"
    ]


def test_a_rule_has_one_allowance() -> None:
    entry = "{rule: total, max: 6, until: 2027-01-31, reason: x}"
    assert problems(model(f"budget: {{total: 5}}\nallow: [{entry}, {entry}]")) == [
        "models.yaml:6:67: rule: total has an allowance already"
    ]


def test_bytes_that_are_no_text_are_named_with_their_place() -> None:
    assert problems("version: 1\nmödels: ".encode() + b"\xff") == [
        "models.yaml:2:9: byte 0xff is not UTF-8: save the file as UTF-8"
    ]
    assert problems(EXAMPLE.encode("utf-16")) == ["models.yaml:1:1: byte 0xff is not UTF-8: save the file as UTF-8"]
    assert problems(b"version: 1\nmodels: \0") == ["models.yaml:2:9: character U+0000 has no place in YAML"]


def test_aliases_of_aliases_do_not_take_forever() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (problem,) = problems(model("args:\n" + "\n".join(f"  {line}" for line in lines)))
    assert problem.endswith(": aliases of aliases come to more than can be read")
    deep = ["a0: &a0 [x]", *(f"a{n}: &a{n} {'[' * 50}*a{n - 1}{']' * 50}" for n in range(1, 40))]
    (problem,) = problems(model("args:\n" + "\n".join(f"  {line}" for line in deep)))
    assert problem.endswith(": nested more than 100 levels deep")


# The schema -----------------------------------------------------------------------------------------------------------


def test_the_schema_is_valid_and_takes_the_example() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(load_yaml(EXAMPLE))
    json.dumps(schema)


@pytest.mark.parametrize(
    "body",
    [
        "budgt: {total: 5}",
        "budget: {totl: 5}",
        "budget: {total: 25.5}",
        "budget: {total: -5}",
        "budget: {total: yes}",
        "budget: {total: 90MB}",
        "budget: {bytes: 90M}",
        "budget: {total: {maxi: 5}}",
        "budget: {total: }",
        "budget: {total: {max: }}",
        "budget: {}",
        "layers: {head: {}}",
        "growth: {}",
        "freeze: head",
        "allow: [{rule: total, max: 5}]",
        "device: cuda",
        "trust_remote_code: maybe",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(body: str) -> None:
    problems(model(body))
    errors = list(jsonschema.Draft202012Validator(json_schema()).iter_errors(load_yaml(model(body))))
    assert errors


def test_every_key_of_the_schema_is_described_and_nothing_else_is_allowed() -> None:
    schema = json_schema()
    mappings = [schema, *schema["$defs"].values()]
    mappings += [choice for mapping in mappings for choice in mapping.get("anyOf", []) if "properties" in choice]
    mappings = [mapping for mapping in mappings if "properties" in mapping]
    assert len(mappings) == 9
    for mapping in mappings:
        assert mapping["additionalProperties"] is False
        assert all(key.get("description") for key in mapping["properties"].values())


# Broken files ---------------------------------------------------------------------------------------------------------

VALID = """\
version: 1
defaults:
  args: {width: 8, deep: {a: [1, 2.5, true]}}
  budget: {bytes: 10KB, frozen: 1K}
  growth: {percent: 2, params: 1K}
models:
  small:
    target: net.py:Net
    freeze: ["stem*"]
    budget: {total: 2K, trainable: {max: 960, min: 1}}
    layers:
      "blocks.*.attn": {each: {total: 400}, sum: {total: {min: 700}}}
      head: {total: 60}
    allow:
      - {rule: total, max: 3K, until: 2027-01-31, reason: "a trial"}
  exact:
    target: torchvision:resnet50
    weights: DEFAULT
    budget: {total: {exactly: 1960}, active: 1960, buffers: 0}
"""
TODAY = date(2026, 6, 15)
TENSORS = {"stem": 1_000, "blocks.0.attn": 300, "blocks.1.attn": 400, "blocks.0.mlp": 200, "head": 60}


def small_report() -> Report:
    names = ["", "stem", "blocks", "blocks.0", "blocks.0.attn", "blocks.0.mlp", "blocks.1", "blocks.1.attn", "head"]
    tensors = tuple(
        Param(f"{name}.weight", (n,), "float32", n, 4 * n, trainable=name != "stem") for name, n in TENSORS.items()
    )
    return Report.of(Inventory("net.py:Net", "python", tuple(Module(name, "Block") for name in names), tensors))


FACTORS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1024}


def number(written: Any) -> int:
    """Return what a limit comes to, by another road than the reader's."""
    digits = str(written).rstrip("KMGTBi")
    return int(Decimal(digits) * FACTORS[str(written)[len(digits) :]])


def expected_status(data: dict[str, Any], name: str) -> str:
    """Judge the small model by plain dictionaries, as slowly and plainly as can be."""
    own, defaults = data["models"][name], data.get("defaults", {})
    allowed = {e["rule"]: e for e in own.get("allow", defaults.get("allow", []))}
    actual = {"total": 1_960, "trainable": 960, "frozen": 1_000, "active": 1_960, "bytes": 7_840, "buffers": 0}
    results = []

    def check(limit: Any, count: int, allowance: dict[str, Any] | None = None) -> None:
        bounds = limit if isinstance(limit, dict) else {"max": limit}
        most, least = bounds.get("max", bounds.get("exactly")), bounds.get("min", bounds.get("exactly"))
        if allowance and str(allowance["until"]) >= str(TODAY):
            most = allowance["max"]
        results.append((most is None or count <= number(most)) and (least is None or count >= number(least)))

    for rule, limit in (defaults.get("budget", {}) | own.get("budget", {})).items():
        check(limit, actual[rule], allowed.get(rule))
    patterns = {**defaults.get("layers", {}), **own.get("layers", {})}
    layers = [layer.name for layer in small_report().layers]
    for pattern in patterns:
        forms: dict[str, Any] = {}
        for section in (defaults, own):
            for key, value in section.get("layers", {}).get(pattern, {}).items():
                for rule, limit in (value if key in {"sum", "each"} else {key: value}).items():
                    forms[f"{key if key == 'each' else 'sum'} {rule}"] = limit
        matching = [layer for layer in layers if fnmatchcase(layer, pattern)]
        if not matching:
            return "error"
        for form, limit in forms.items():
            how, rule = form.split()
            for scope in [[layer] for layer in matching] if how == "each" else [matching]:
                inside = {t for t in TENSORS for layer in scope if t == layer or t.startswith(f"{layer}.")}
                total = sum(TENSORS[t] for t in inside)
                frozen = sum(TENSORS[t] for t in inside if t == "stem")
                count = {"total": total, "frozen": frozen, "trainable": total - frozen, "bytes": 4 * total}
                check(limit, count.get(rule, 0))
    return "ok" if all(results) else "over"


def rename_key(lines: list[str], rng: random.Random) -> str:
    text = "\n".join(lines)
    keys = list(re.finditer(r"[\w.*\"]+(?=:)", text))
    key = rng.choice(keys)
    new = rng.choice(
        [key[0] + "x", key[0][1:], key[0].upper(), "total", "each", "<<", "yes", "~", "*", "!x y", "target"]
    )
    return text[: key.start()] + new + text[key.end() :]


def written_values(text: str) -> list[re.Match[str]]:
    return list(re.finditer(r"(?<=: )[^\s{}\[\],]+", text))


VALUES = ["yes", "1:30", "1_000", "1e6", "0777", "25.5", "-1", "true", "null", "", "[]", "{}", "[1]", "{a: 1}", "'5'"]
VALUES += [
    "0",
    "5",
    "959",
    "7840",
    "1.5K",
    "2M",
    "90MB",
    "1KiB",
    "2026-06-14",
    "2020-02-30",
    "{exactly: 960}",
    "{min: 1}",
]
VALUES += ["!!int 5", "&a 5", "*a", "'", '"', "|", "\t5", "\0", "\u2028", "é", "9" * 60, "x" * 200, "{max: 5, min: 6}"]


def change_value(lines: list[str], rng: random.Random) -> str:
    text = "\n".join(lines)
    value = rng.choice(written_values(text))
    new = rng.choice(VALUES)
    return text[: value.start()] + new + text[value.end() :]


def swap_values(lines: list[str], rng: random.Random) -> str:
    text = "\n".join(lines)
    first, second = sorted(rng.sample(written_values(text), 2), key=lambda m: m.start())
    return text[: first.start()] + second[0] + text[first.end() : second.start()] + first[0] + text[second.end() :]


def move_line(lines: list[str], rng: random.Random) -> str:
    index = rng.randrange(len(lines))
    line = lines.pop(index)
    how = rng.randrange(4)
    if how == 0:
        lines.insert(rng.randrange(len(lines)), line)
    elif how == 1:
        lines[index:index] = [line, line]
    elif how == 2:
        lines.insert(index, rng.choice([" ", "  ", "\t", "- ", "? ", "---\n", "# "]) + line)
    return "\n".join(lines)


def flip_bytes(lines: list[str], rng: random.Random) -> bytes:
    data = bytearray("\n".join(lines).encode())
    for _ in range(rng.randint(1, 3)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def outcome(data: bytes) -> Config | ConfigError:
    try:
        return parse(data)
    except ConfigError as error:
        return error


Mutation = Callable[[list[str], random.Random], str | bytes]
MUTATIONS: list[Mutation] = [rename_key, change_value, swap_values, move_line, flip_bytes]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_file_is_refused_with_a_place_or_judged_right(mutation: Mutation) -> None:
    report = small_report()
    judged = refused = 0
    for seed in range(100):
        mutated = mutation(VALID.splitlines(), random.Random(seed))
        data = mutated.encode() if isinstance(mutated, str) else mutated
        result = outcome(data)
        if isinstance(result, ConfigError):
            refused += 1
            assert result.problems
            for problem in result.problems:
                assert re.fullmatch(r"models\.yaml:[1-9][0-9]*:[1-9][0-9]*: \S.*", str(problem))
                assert problem.location.line <= data.count(b"\n") + 1
            continue
        plain = load_yaml(data.decode())
        assert {spec.name for spec in result.models} == {str(name) for name in plain["models"]}
        for spec in result.models:
            judged += 1
            verdict = judge(report, spec.budget, today=TODAY)
            assert verdict.status == expected_status(plain, spec.name), data.decode()
    assert refused + judged >= 100
    assert refused


def test_the_unbroken_file_is_judged_as_expected() -> None:
    config = read(VALID)
    verdicts = {spec.name: judge(small_report(), spec.budget, today=TODAY).status for spec in config.models}
    assert verdicts == {"small": "ok", "exact": "ok"}
    assert {rule for spec in config.models for rule in RULES if any(x.rule == rule for x in spec.budget.limits)} == set(
        RULES
    )
    assert yaml.safe_load(VALID)["version"] == 1
