"""The totals in a list of models are those of their reports."""

from __future__ import annotations

from hypothesis import given

from paramcount.catalogue import Counted, Limits, Name
from paramcount.inventory import Inventory
from paramcount.report import Report, Tally
from tests.strategies import inventories


@given(inventories())
def test_a_model_without_its_layers_has_the_totals_of_its_report(inventory: Inventory) -> None:
    counted = Counted.of(Name("net", "torchvision"), inventory)
    report = Report.of(inventory)
    assert counted.tally == report.root.tally
    assert counted.buffers == report.buffers
    assert {key: counted.to_dict()[key] for key in ("total", "trainable", "frozen", "unknown", "bytes")} == {
        key: report.to_dict()[key] for key in ("total", "trainable", "frozen", "unknown", "bytes")
    }


def test_limits_include_both_bounds_and_what_may_be_within_them() -> None:
    limits = Limits(10, 20)
    assert [limits.admit(Tally(trainable=number)) for number in (9, 10, 20, 21)] == [False, True, True, False]
    at_least = [Tally(trainable=number, uninitialized=1) for number in (9, 10, 20, 21)]
    assert [limits.admit(tally) for tally in at_least] == [True, True, True, False]
    assert Limits().admit(Tally())


def test_a_name_is_what_its_library_calls_it_and_its_target_what_counts_it() -> None:
    assert Name("timm:resnet50", "timm").name == "resnet50"
    assert Name("resnet50", "torchvision").name == "resnet50"
