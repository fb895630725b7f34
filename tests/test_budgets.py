"""Budgets are judged in integers, and what is wrong is said with its place and its size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paramcount.budgets import (
    RULES,
    Allowance,
    Baseline,
    Budget,
    Finding,
    Growth,
    Layers,
    Limit,
    Location,
    Rule,
    Verdict,
    contradictions,
    judge,
)
from paramcount.errors import UsageError
from paramcount.inventory import Buffer, Inventory, Module, Param
from paramcount.report import Report

TODAY = date(2026, 6, 15)
HERE = Location("models.yaml", 7, 14)


def param(name: str, numel: int | None, *, trainable: bool | None = True, tied_to: str | None = None) -> Param:
    shape = None if numel is None else (numel,)
    nbytes = None if numel is None else 4 * numel
    return Param(name, shape, "float32", numel, nbytes, trainable, tied_to)


def buffer(name: str, numel: int | None) -> Buffer:
    return Buffer(name, None if numel is None else (numel,), "float32", numel, None if numel is None else 4 * numel)


def report(*params: Param, buffers: Sequence[Buffer] = ()) -> Report:
    """A report on a model that has these parameters, and the modules that their names imply."""
    names: dict[str, None] = {"": None}
    for tensor in [param.name for param in params] + [buffer.name for buffer in buffers]:
        steps = tensor.split(".")[:-1]
        names |= dict.fromkeys(".".join(steps[: depth + 1]) for depth in range(len(steps)))
    modules = tuple(Module(name, "Block") for name in names)
    return Report.of(Inventory("net.py:Net", "python", modules, params, tuple(buffers)))


def verdict(
    on: Report, *limits: Limit, allow: Sequence[Allowance] = (), growth: Growth | None = None, today: date = TODAY
) -> Verdict:
    return judge(on, Budget(limits, tuple(allow), growth), today=today)


def messages(judged: Verdict) -> list[str]:
    return [finding.message for finding in judged.findings]


def remarks(judged: Verdict) -> list[str]:
    return [remark.message for remark in judged.remarks]


NET = report(
    param("stem.weight", 1_000, trainable=False),
    param("blocks.0.attn.weight", 300),
    param("blocks.0.mlp.weight", 100),
    param("blocks.1.attn.weight", 400),
    param("blocks.1.mlp.weight", 100),
    param("head.weight", 60),
    buffers=[buffer("stem.mean", 7)],
)  # total 1,960: 960 trainable, 1,000 frozen; 7,840 bytes; 7 in buffers


@pytest.mark.parametrize(
    ("rule", "actual"), [("total", 1_960), ("trainable", 960), ("frozen", 1_000), ("bytes", 7_840), ("buffers", 7)]
)
def test_both_bounds_of_every_rule_are_inclusive(rule: Rule, actual: int) -> None:
    assert verdict(NET, Limit(rule, max=actual)).status == "ok"
    assert verdict(NET, Limit(rule, min=actual)).status == "ok"
    assert verdict(NET, Limit(rule, actual, actual)).status == "ok"
    for limit, over in (
        (Limit(rule, max=actual - 1), 1),
        (Limit(rule, min=actual + 1), -1),
        (Limit(rule, actual + 1, actual + 1), -1),
        (Limit(rule, actual - 1, actual - 1), 1),
    ):
        judged = verdict(NET, limit)
        (finding,) = judged.findings
        assert (judged.status, judged.exit_code) == ("over", 1)
        assert (finding.rule, finding.layer, finding.actual, finding.over) == (rule, "", actual, over)
        assert finding.limit == actual - over


def test_a_message_says_what_where_and_by_how_much() -> None:
    assert messages(verdict(NET, Limit("total", max=1_500))) == ["total is 1.96K, 460 over the limit of 1.5K"]
    assert messages(verdict(NET, Limit("total", max=1_959))) == ["total is 1,960, 1 over the limit of 1,959"]
    assert messages(verdict(NET, Limit("bytes", max=4_000))) == ["bytes are 7.84 KB, 3.84 KB over the limit of 4.00 KB"]
    assert messages(verdict(NET, Limit("bytes", max=7_839))) == ["bytes are 7,840, 1 over the limit of 7,839"]
    assert messages(verdict(NET, Limit("frozen", min=2_000))) == ["frozen is 1K, 1K below the minimum of 2K"]
    assert messages(verdict(NET, Limit("total", 1_961, 1_961))) == ["total is 1,960, 1 less than exactly 1,961"]
    assert messages(verdict(NET, Limit("total", 1_959, 1_959))) == ["total is 1,960, 1 more than exactly 1,959"]
    assert messages(verdict(NET, Limit("trainable", 900, layers=Layers("*")))) == [
        "* (3 layers): trainable is 960, 60 over the limit of 900"
    ]


def test_a_finding_is_as_the_json_format_has_it() -> None:
    (finding,) = verdict(NET, Limit("total", max=1_500, location=HERE)).findings
    assert finding.to_dict() == {
        "rule": "total",
        "layer": "",
        "limit": 1_500,
        "actual": 1_960,
        "over": 460,
        "message": "total is 1.96K, 460 over the limit of 1.5K",
        "location": {"file": "models.yaml", "line": 7, "column": 14},
    }
    assert str(HERE) == "models.yaml:7:14"
    assert Finding("over", "total", "", 1, 2, 1, "", None).to_dict()["location"] is None


def test_each_judges_every_layer_whose_own_name_matches() -> None:
    judged = verdict(NET, Limit("total", max=300, layers=Layers("blocks.*.attn", each=True)))
    assert [(j.layer, j.actual, j.finding is None) for j in judged.judged] == [
        ("blocks.0.attn", 300, True),
        ("blocks.1.attn", 400, False),
    ]
    assert messages(judged) == ["blocks.1.attn: total is 400, 100 over the limit of 300"]


def test_sum_judges_all_matching_layers_together_and_none_twice() -> None:
    judged = verdict(NET, Limit("total", max=699, layers=Layers("blocks.*.attn")))
    assert messages(judged) == ["blocks.*.attn (2 layers): total is 700, 1 over the limit of 699"]
    # "blocks*" also matches what is beneath blocks: 900 is what blocks holds, once.
    assert [j.actual for j in verdict(NET, Limit("total", max=900, layers=Layers("blocks*"))).judged] == [900]
    assert [j.layer for j in verdict(NET, Limit("total", max=900, layers=Layers("blocks*"))).judged] == ["blocks"]


def test_a_pattern_that_matches_no_layer_is_an_error_with_its_place_and_the_closest_names() -> None:
    layers = Layers("block", location=HERE)
    judged = verdict(NET, Limit("total", max=1, layers=layers), Limit("trainable", max=1, layers=layers))
    assert (judged.status, judged.exit_code) == ("error", 2)
    (finding,) = judged.findings
    assert (
        finding.message == "layers 'block' matches no layer of net.py:Net; did you mean blocks, blocks.1 or blocks.0?"
    )
    assert (finding.layer, finding.limit, finding.actual, finding.over) == ("block", 1, None, None)
    assert finding.location == HERE
    # A parameter is no layer.
    assert verdict(NET, Limit("total", max=100, layers=Layers("head.weight"))).exit_code == 2


def test_a_tied_tensor_counts_once_and_where_it_does_not_count_is_remarked_on() -> None:
    tied = report(param("embed.weight", 500), param("head.weight", 500, tied_to="embed.weight"), param("head.bias", 5))
    both = verdict(tied, Limit("total", 505, 505, Layers("*")))
    assert (both.status, remarks(both)) == ("ok", [])
    head = verdict(tied, Limit("total", 5, 5, Layers("head")))
    assert (head.status, remarks(head)) == ("ok", ["head: head.weight is tied to embed.weight and counts there"])


def test_a_second_name_of_a_layer_stands_for_the_layer() -> None:
    modules = (Module("", "Net"), Module("encoder", "Linear"), Module("decoder", "Linear", same_as="encoder"))
    params = (param("encoder.weight", 50), param("decoder.weight", 50, tied_to="encoder.weight"))
    shared = Report.of(Inventory("net.py:Net", "python", modules, params))
    for layers in (Layers("decoder"), Layers("decoder", each=True), Layers("*coder"), Layers("*coder", each=True)):
        judged = verdict(shared, Limit("total", max=49, layers=layers))
        assert [(j.layer, j.actual) for j in judged.judged] == [("encoder", 50)]
        assert judged.status == "over"


def test_what_is_packed_and_of_no_known_size_is_called_that() -> None:
    packed = param("head.weight", None)._replace(packed=True)
    (finding,) = verdict(report(param("stem.weight", 100), packed), Limit("total", max=200)).findings
    assert finding.message == ("total cannot be judged: 1 parameter is packed in a form that does not say the size")


LAZY = report(param("stem.weight", 100), param("head.weight", None), param("head.bias", None))


@pytest.mark.parametrize("rule", ["total", "trainable", "bytes"])
def test_a_lazy_layer_leaves_open_what_a_lower_bound_does_not_settle(rule: Rule) -> None:
    known = 400 if rule == "bytes" else 100
    for limit in (Limit(rule, max=known), Limit(rule, known, known), Limit(rule, min=known + 1), Limit(rule, 10**9, 1)):
        judged = verdict(LAZY, limit)
        (finding,) = judged.findings
        assert (judged.status, judged.exit_code, finding.over) == ("error", 3, None)
        assert finding.message == f"{rule} cannot be judged: 2 lazy parameters have no shape yet"
    assert verdict(LAZY, Limit(rule, min=known)).status == "ok"
    over = verdict(LAZY, Limit(rule, max=known - 50))
    assert (over.status, over.findings[0].over) == ("over", 50)
    assert " at least " in over.findings[0].message


def test_a_lazy_layer_leaves_other_layers_to_be_judged() -> None:
    assert verdict(LAZY, Limit("total", max=100, layers=Layers("stem"))).status == "ok"
    assert verdict(LAZY, Limit("total", max=100, layers=Layers("head"))).exit_code == 3


def test_a_lazy_buffer_leaves_buffers_open() -> None:
    lazy = report(param("norm.weight", 10), buffers=[buffer("norm.mean", None), buffer("norm.count", 1)])
    judged = verdict(lazy, Limit("buffers", max=1))
    assert messages(judged) == ["buffers cannot be judged: a lazy buffer has no shape yet"]
    assert judged.exit_code == 3
    assert verdict(lazy, Limit("buffers", max=0)).exit_code == 1
    assert verdict(lazy, Limit("total", max=10)).exit_code == 0


def test_a_checkpoint_does_not_say_what_trains() -> None:
    checkpoint = report(param("head.weight", 100, trainable=None), param("stem.weight", 10, trainable=False))
    for limit in (
        Limit("trainable", max=0),
        Limit("trainable", max=10**9),
        Limit("frozen", max=10),
        Limit("frozen", min=11),
    ):
        judged = verdict(checkpoint, limit)
        assert (judged.status, judged.exit_code) == ("error", 3)
        assert messages(judged) == [
            f"{limit.rule} cannot be judged: of 100 parameters nothing says whether they train; freeze and unfreeze can"
        ]
    assert verdict(checkpoint, Limit("frozen", max=9)).status == "over"
    assert verdict(checkpoint, Limit("frozen", min=10)).status == "ok"
    assert verdict(checkpoint, Limit("total", 110, 110)).status == "ok"
    assert verdict(checkpoint, Limit("bytes", 440, 440)).status == "ok"


def test_of_several_exit_codes_a_bad_pattern_then_the_unknowable_then_the_excess_decides() -> None:
    over, unknowable = Limit("total", max=50), Limit("buffers", max=5)
    unmatched = Limit("total", max=1, layers=Layers("nowhere"))
    net = report(param("a.weight", 60), buffers=[buffer("a.mean", None)])
    assert [
        verdict(net, *limits).exit_code for limits in ([over], [over, unknowable], [over, unknowable, unmatched])
    ] == [1, 3, 2]
    assert [verdict(net, *limits).status for limits in ([], [over], [over, unknowable])] == ["ok", "over", "error"]
    assert len(verdict(net, over, unknowable, unmatched).findings) == 3


ALLOWANCE = Allowance("total", 2_000, date(2026, 6, 15), "a trial", Location("models.yaml", 9, 9))


def test_an_allowance_holds_to_the_end_of_its_last_day_and_then_says_that_it_expired() -> None:
    limit = Limit("total", max=1_900, location=HERE)
    during = verdict(NET, limit, allow=[ALLOWANCE], today=date(2026, 6, 15))
    assert (during.status, during.judged[0].max) == ("ok", 2_000)
    assert remarks(during) == ["total is 1.96K, 60 over the limit of 1.9K, as allowed until 2026-06-15: a trial"]
    after = verdict(NET, limit, allow=[ALLOWANCE], today=date(2026, 6, 16))
    (finding,) = after.findings
    assert (after.status, after.exit_code, finding.limit, finding.over) == ("over", 1, 1_900, 60)
    assert finding.message == "total is 1.96K, 60 over the limit of 1.9K; its allowance expired on 2026-06-15"
    assert finding.location == ALLOWANCE.location


def test_more_than_is_allowed_is_over_the_allowance() -> None:
    tight = Allowance("total", 1_950, date(2026, 12, 31), "a trial", ALLOWANCE.location)
    (finding,) = verdict(NET, Limit("total", max=1_900), allow=[tight]).findings
    assert (finding.limit, finding.over, finding.location) == (1_950, 10, ALLOWANCE.location)
    assert finding.message == "total is 1,960, 10 over the limit of 1,950, allowed until 2026-12-31"


def test_an_allowance_that_is_no_longer_needed_is_remarked_on_before_and_after_its_end() -> None:
    limit = Limit("total", max=1_960)
    assert remarks(verdict(NET, limit, allow=[ALLOWANCE])) == [
        "the allowance for total that ends on 2026-06-15 is no longer needed: remove it"
    ]
    late = verdict(NET, limit, allow=[ALLOWANCE], today=date(2027, 1, 1))
    assert (late.status, remarks(late)) == (
        "ok",
        ["the allowance for total that expired on 2026-06-15 is no longer needed: remove it"],
    )


def test_an_allowance_lifts_only_the_maximum_of_its_own_rule() -> None:
    assert verdict(NET, Limit("trainable", max=900), allow=[ALLOWANCE]).status == "over"
    exactly = verdict(NET, Limit("total", 1_970, 1_970), allow=[ALLOWANCE])
    assert messages(exactly) == ["total is 1,960, 10 below the minimum of 1,970"]
    assert verdict(NET, Limit("total", 1_950, 1_950), allow=[ALLOWANCE]).status == "ok"


def test_a_maximum_more_than_twice_what_it_limits_is_remarked_on() -> None:
    assert remarks(verdict(NET, Limit("total", max=3_920))) == []
    assert remarks(verdict(NET, Limit("total", max=3_921))) == [
        "the limit of 3.92K is far above the total: it is 1.96K"
    ]
    assert remarks(verdict(NET, Limit("total", max=1_000, layers=Layers("blocks.*.attn", each=True)))) == [
        "blocks.*.attn: the limit of 1K is far above the total: the largest is 400"
    ]
    assert remarks(verdict(LAZY, Limit("total", max=10**9))) == []


def test_a_budget_that_limits_nothing_is_remarked_on() -> None:
    assert remarks(verdict(NET)) == ["nothing is limited: give it a budget"]
    assert remarks(verdict(NET, growth=Growth(Fraction(2)))) == [
        "there is no baseline to grow from: paramcount lock writes one"
    ]


def test_growth_is_too_much_only_where_both_thresholds_are_exceeded() -> None:
    growth = Growth(Fraction(2), 50)
    assert not growth.exceeded(1_000, 1_050)  # 5 %, but no more than 50
    assert growth.exceeded(1_000, 1_051)
    assert not growth.exceeded(10_000, 10_200)  # 200, but no more than 2 %
    assert growth.exceeded(10_000, 10_201)
    assert not Growth().exceeded(5, 5)
    assert Growth().exceeded(5, 6)
    assert not Growth().exceeded(5, 4)


@pytest.mark.parametrize(
    ("model", "baseline", "kinds"),
    [
        (NET, Baseline(1_960), []),
        (NET, Baseline(1_910), []),  # 50 more, as many as are allowed
        (NET, Baseline(1_909), ["over"]),
        (NET, Baseline(5_000), []),  # less is no growth
        (NET, Baseline(1_000, is_lower_bound=True), ["unknowable"]),  # it may have been as large
        (NET, Baseline(1_960, is_lower_bound=True), []),
        (LAZY, Baseline(10**9), ["unknowable"]),  # it may be larger
    ],
)
def test_growth_is_judged_from_the_baseline_and_never_a_pass_where_it_cannot_be(
    model: Report, baseline: Baseline, kinds: list[str]
) -> None:
    budget = Budget(growth=Growth(Fraction(2), 50))
    judged = judge(model, budget, today=TODAY, baseline=baseline)
    assert [(finding.rule, finding.kind) for finding in judged.findings] == [("growth", kind) for kind in kinds]


def test_growth_says_from_what_to_what_and_how_much_would_be_allowed() -> None:
    (finding,) = judge(NET, Budget(growth=Growth(Fraction(2), 50)), today=TODAY, baseline=Baseline(1_900)).findings
    assert (finding.limit, finding.actual, finding.over) == (1_950, 1_960, 10)
    assert finding.message == "total has grown by 60 since the lock, from 1,900 to 1,960; 50 would be allowed"


def test_locked_demands_a_baseline_and_no_difference() -> None:
    def locked(baseline: Baseline | None) -> list[str]:
        return messages(judge(NET, Budget(), today=TODAY, baseline=baseline, locked=True))

    assert locked(Baseline(1_960)) == []
    assert locked(None) == ["has no baseline: paramcount lock writes one"]
    differences = ("trainable 5 → 4", "fc: trainable 5 → 4")
    assert locked(Baseline(1_960, differences=differences)) == [
        "is not what the lock says: trainable 5 → 4, and 1 more difference"
    ]


def test_a_budget_in_python_reads_what_the_file_reads() -> None:
    assert Budget.of(total="26M", trainable={"max": "25K", "min": 1}, bytes="1KiB", buffers={"exactly": 0}).limits == (
        Limit("total", 26_000_000),
        Limit("trainable", 25_000, 1),
        Limit("bytes", 1_024),
        Limit("buffers", 0, 0),
    )


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"totl": 5}, "no limit is called 'totl'\ndid you mean total?"),
        ({"total": "26m"}, "total: '26m' is no count: write a whole number"),
        ({"total": None}, "total: nothing is no count"),
        ({"total": {"maxi": 5}}, "total: no bound is called 'maxi': did you mean max?"),
        ({"total": {}}, "total: limits nothing: give max, min or exactly"),
        ({"total": {"max": 1, "min": 2}}, "total: cannot be met: min 2 is above max 1"),
        ({"total": {"exactly": 1, "min": 1}}, "total: exactly leaves no room for max or min"),
        ({"total": 5, "trainable": {"min": 6}}, "total: cannot be met: max 5 is below trainable min 6"),
    ],
)
def test_a_budget_in_python_refuses_what_the_file_refuses(written: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        Budget.of(**written)


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ([Limit("total", 5), Limit("trainable", min=5)], []),
        ([Limit("total", 5), Limit("trainable", min=6)], ["cannot be met: max 5 is below trainable min 6"]),
        (
            [Limit("total", 5), Limit("trainable", min=3), Limit("frozen", min=3)],
            ["cannot be met: max 5 is below trainable min 3 and frozen min 3"],
        ),
        (
            [Limit("total", min=9), Limit("trainable", 4), Limit("frozen", 4)],
            ["cannot be met: min 9 is above trainable and frozen max 8"],
        ),
        ([Limit("total", min=9), Limit("trainable", 4)], []),
        (
            [Limit("bytes", 5), Limit("bytes", min=6, layers=Layers("head"))],
            ["cannot be met: min 6 is above the whole model's 5"],
        ),
        ([Limit("total", 5), Limit("bytes", min=6, layers=Layers("head"))], []),
        (
            [Limit("total", 5, layers=Layers("head")), Limit("frozen", min=6, layers=Layers("head"))],
            ["cannot be met: max 5 is below frozen min 6"],
        ),
        ([Limit("total", 5, layers=Layers("head")), Limit("frozen", min=6, layers=Layers("head", each=True))], []),
    ],
)
def test_limits_that_no_model_can_meet_together_are_found(limits: list[Limit], found: list[str]) -> None:
    assert [message for _, message in contradictions(limits)] == found


NUMBER = re.compile(r"[0-9][0-9,]*(?:\.[0-9]+)?(?: ?(?:bytes|[KMGT]?B|[KMBT]))?")
COUNTS = st.integers(min_value=0, max_value=10**15) | st.integers(min_value=0, max_value=2_000)


@given(
    rule=st.sampled_from(RULES),
    limit=COUNTS,
    over=COUNTS,
    below=st.booleans(),
    exactly=st.booleans(),
    unknown=st.booleans(),
)
@example(rule="total", limit=25_600_000, over=1, below=False, exactly=False, unknown=False)
@example(rule="bytes", limit=1_500, over=4, below=False, exactly=False, unknown=False)
@example(rule="bytes", limit=10**9, over=4, below=True, exactly=False, unknown=False)
def test_a_message_never_shows_a_limit_equal_to_what_exceeds_it(
    rule: Rule, limit: int, over: int, below: bool, exactly: bool, unknown: bool
) -> None:
    limit, over = 4 * limit, 4 * (over + 1)  # bytes come in fours here
    actual = limit + over if not below else max(limit - over, 0)
    bound = limit if not below else actual + over
    size = actual // 4 if rule == "bytes" else actual
    trainable = rule != "frozen"
    extra = [param("lazy.weight", None)] if unknown and not below and rule != "buffers" else []
    net = (
        report(param("a.weight", 1), buffers=[buffer("a.mean", size)])
        if rule == "buffers"
        else report(param("a.weight", size, trainable=trainable), *extra)
    )
    asked = Limit(rule, bound, bound) if exactly else Limit(rule, min=bound) if below else Limit(rule, max=bound)
    (finding,) = verdict(net, asked).findings
    assert (finding.limit, finding.actual, finding.over) == (bound, actual, actual - bound)
    shown_actual, _, shown_bound = NUMBER.findall(finding.message)
    assert value(shown_actual) != value(shown_bound)
    assert (value(shown_actual) > value(shown_bound)) == (actual > bound)


def value(shown: str) -> Fraction:
    """Return the number that a text stands for, whatever form it has."""
    factors = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
    digits = shown.rstrip("KMGTBbytes ")
    unit = shown[len(digits) :].strip()
    bare = unit in {"", "bytes"} or (unit == "B" and " " in shown)
    return Fraction(digits.replace(",", "")) * (1 if bare else factors[unit])
