"""The lock: what it holds comes back exactly, and what is no lock is never taken for an empty one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramcount.diff import Side, changes
from paramcount.lock import BadLock, Difference, Entry, Lock, differences, dumps, loads, read
from paramcount.report import Report, Tally
from tests.inventories import buffer, lazy, param, report
from tests.strategies import reports

NET = report(
    {"body": "Sequential", "body.0": "Linear", "body.1": "ReLU", "head": "Linear"},
    [
        param("body.0.weight", 4, 4, trainable=False),  # 16
        param("head.weight", 10, 4),  # 40
        param("head.bias", 10),  # 10
        param("token", 3),
    ],
    [buffer("body.0.mean", 7)],
)
WRITTEN = """\
{
  "format_version": "1.0",
  "models": {
    "net": {
      "total": 69,
      "trainable": 53,
      "frozen": 16,
      "unknown": 0,
      "uninitialized": 0,
      "bytes": 276,
      "buffers": 7,
      "layers": {
        "body": {"total": 16, "trainable": 0, "frozen": 16, "unknown": 0, "uninitialized": 0, "bytes": 64},
        "body.0": {"total": 16, "trainable": 0, "frozen": 16, "unknown": 0, "uninitialized": 0, "bytes": 64},
        "head": {"total": 50, "trainable": 50, "frozen": 0, "unknown": 0, "uninitialized": 0, "bytes": 200}
      }
    }
  }
}
"""


def entry(total: int, *, uninitialized: int = 0) -> Entry:
    return Entry(Tally(trainable=total, nbytes=4 * total, uninitialized=uninitialized), 0, {})


def counted(total: int, *lazies: str) -> Report:
    return report({}, [param("weight", total), *map(lazy, lazies)])


# Reading and writing --------------------------------------------------------------------------------------------------


def test_an_entry_has_the_totals_and_each_layer_that_holds_parameters() -> None:
    assert Entry.of(NET) == Entry(
        Tally(trainable=53, frozen=16, nbytes=276),
        7,
        {
            "body": Tally(frozen=16, nbytes=64),
            "body.0": Tally(frozen=16, nbytes=64),
            "head": Tally(trainable=50, nbytes=200),
        },
    )
    assert Entry.of(NET).total == 69


def test_a_lock_is_written_sorted_one_layer_a_line() -> None:
    assert dumps(Lock({"net": Entry.of(NET)})) == WRITTEN
    assert dumps(Lock()) == '{\n  "format_version": "1.0",\n  "models": {}\n}\n'


def test_the_order_in_which_models_are_locked_does_not_show() -> None:
    one = Lock().updated("a", entry(1)).updated("b", Entry.of(NET))
    other = Lock().updated("b", Entry.of(NET)).updated("a", entry(1))
    assert dumps(one) == dumps(other)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "models.lock.json"
    file.write_text(WRITTEN, encoding="utf-8")
    assert read(file) == Lock({"net": Entry.of(NET)})
    assert read(file).exists


@given(st.dictionaries(st.text(), reports().map(Entry.of), max_size=4))
@settings(deadline=None)
def test_every_lock_is_read_back_and_written_again_to_the_letter(entries: dict[str, Entry]) -> None:
    text = dumps(Lock(entries))
    assert loads(text.encode("ascii")) == Lock(entries)
    assert dumps(loads(text.encode("ascii"))) == text
    assert text.endswith("}\n")
    json.loads(text)


def test_a_lock_that_is_not_there_is_empty_and_says_so(tmp_path: Path) -> None:
    lock = read(tmp_path / "models.lock.json")
    assert (lock.entries, lock.exists) == ({}, False)
    assert lock.updated("a", entry(1)).exists


def test_locking_one_name_leaves_the_others_untouched() -> None:
    lock = Lock({"a": entry(1), "b": entry(2)})
    assert lock.updated("b", entry(3)) == Lock({"a": entry(1), "b": entry(3)})
    assert lock == Lock({"a": entry(1), "b": entry(2)})


def test_names_that_are_no_longer_there_are_left_out() -> None:
    assert Lock({"a": entry(1), "b": entry(2)}).only(["b", "c"]) == Lock({"b": entry(2)})


# What is no lock ------------------------------------------------------------------------------------------------------


def error(data: str | bytes) -> str:
    with pytest.raises(BadLock) as caught:
        loads(data.encode() if isinstance(data, str) else data)
    assert (caught.value.exit_code, caught.value.code) == (3, "bad-lock")
    assert caught.value.hint
    return caught.value.message


def test_a_merge_conflict_is_named_with_its_line() -> None:
    line = '      "total": 69,\n'
    merged = WRITTEN.replace(line, f'<<<<<<< HEAD\n{line}=======\n      "total": 70,\n>>>>>>> branch\n')
    assert error(merged) == "models.lock.json:5: a merge conflict is not resolved"
    assert error(merged.replace("<<<<<<< HEAD\n", "")).startswith("models.lock.json:8: a merge conflict")


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ('"1.0"', '"2.0"', "2: format_version '2.0' is unknown: this paramcount reads 1.0"),
        ('"1.0"', "1", "2: format_version 1 is unknown: this paramcount reads 1.0"),
        ('  "format_version": "1.0",\n', "", "1: it is no lock of paramcount"),
        ('"models"', '"model"', "1: there is no 'models'"),
        ('"total": 69', '"total": 70', "4: 'net': total is 70, and trainable, frozen and unknown add up to 69"),
        ('"total": 69', '"total": 69.0', "5: 'net': total cannot be 69.0"),
        ('"total": 69', '"total": true', "5: 'net': total cannot be true"),
        ('"total": 69', '"total": -69', "5: 'net': total cannot be -69"),
        ('"total": 69', '"total": NaN', " it is not JSON: NaN is no number"),
        ('"total": 69', f'"total": {"9" * 5000}', " a number of 5000 digits is too long"),
        ('"buffers": 7', '"buffers": "7"', "11: 'net': buffers cannot be '7'"),
        ('"buffers": 7', '"buffers": null', "11: 'net': buffers cannot be nothing"),
        ('      "buffers": 7,\n', "", "4: 'net': there is no 'buffers'"),
        ('"total": 50', '"total": 4', "15: 'net', 'head': total is 4, and trainable, frozen and unknown add up to 50"),
        ('50, "trainable": 50', '60, "trainable": 60', "4: 'net': the layers in it add up to more than it has"),
        ('"body.0": {', '"body.2": {}, "body.0": {', "14: 'net', 'body.2': there is no 'total'"),
        ('"body.0"', '"body"', "14: the key 'body' is there twice"),
        ('"net": {', '"net": [], "other": {', "4: 'net': 'net' cannot be a list"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(written: str, instead: str, message: str) -> None:
    assert WRITTEN.count(written) == 1
    assert error(WRITTEN.replace(written, instead)) == f"models.lock.json:{message}"


def test_layers_that_exceed_the_one_above_them_are_named_with_it() -> None:
    line = '"body.0": {"total": 16, "trainable": 0, "frozen": 16'
    merged = WRITTEN.replace(line, line.replace("16", "17"))
    assert error(merged) == "models.lock.json:13: 'net', 'body': the layers in it add up to more than it has"


def test_what_is_no_json_is_named_with_its_line() -> None:
    assert error(WRITTEN.replace('"total": 69,', '"total": 69')).startswith("models.lock.json:6: it is not JSON: ")
    assert error("").startswith("models.lock.json:1: it is not JSON: ")
    assert error(b'{\n"caf\xe9": 1}') == "models.lock.json:2: it is not UTF-8 text"
    assert error("[" * 100_000) == "models.lock.json: it is nested too deep"
    for other in ("[]", "null", "{}", '"1.0"'):
        assert error(other) == "models.lock.json:1: it is no lock of paramcount"


def test_a_file_that_cannot_be_read_is_no_empty_lock(tmp_path: Path) -> None:
    with pytest.raises(BadLock, match=f"cannot read {tmp_path}: Is a directory"):
        read(tmp_path)
    with pytest.raises(BadLock, match="cannot read"):
        read("a\0b")


def test_a_minor_version_may_say_more() -> None:
    more = WRITTEN.replace('"1.0"', '"1.7"').replace('"buffers": 7', '"buffers": 7, "macs": 5')
    assert loads(more.encode()) == Lock({"net": Entry.of(NET)})


def test_a_damaged_lock_is_an_error_or_a_lock_whose_numbers_add_up() -> None:
    chance = random.Random(0)
    for _ in range(1000):
        data = bytearray(WRITTEN.encode())
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.choice(b'{}[]":,0123456789e.-x\n\xff')
        try:
            lock = loads(bytes(data))
        except BadLock:
            continue
        for each in lock.entries.values():
            tops = [tally for name, tally in each.layers.items() if "." not in name]
            assert sum(tally.total for tally in tops) <= each.total
            assert loads(dumps(lock).encode()) == lock


# Comparing ------------------------------------------------------------------------------------------------------------


def test_differences_name_the_numbers_and_the_layers() -> None:
    wider = report(
        {"body": "Sequential", "body.0": "Linear", "tail": "Sequential", "tail.0": "Linear"},
        [param("body.0.weight", 4, 4), param("tail.0.weight", 9), param("token", 3)],
    )
    found = differences(Entry.of(NET), Entry.of(wider))
    assert found == (
        Difference("", "total", 69, 28),
        Difference("", "trainable", 53, 28),
        Difference("", "frozen", 16, 0),
        Difference("", "bytes", 276, 112),
        Difference("", "buffers", 7, 0),
        Difference("head", "total", 50, None),
        Difference("tail", "total", None, 9),
        Difference("body.0", "trainable", 0, 16),
    )
    assert [str(each) for each in found[4:]] == [
        "buffers 7 → 0",
        "head: removed, total 50",
        "tail: added, total 9",
        "body.0: trainable 0 → 16",
    ]


@given(reports().map(Entry.of), reports().map(Entry.of))
@settings(deadline=None)
def test_only_equal_entries_have_no_differences(old: Entry, new: Entry) -> None:
    assert differences(old, old) == ()
    assert (differences(old, new) == ()) == (old == new)
    for each in differences(old, new):
        assert each.old != each.new


def test_an_entry_is_one_side_of_a_comparison() -> None:
    assert not changes(Entry.of(NET).side("lock"), Side.of(NET)).different
    assert Entry.of(NET).side("lock").label == "lock"


# Growth ---------------------------------------------------------------------------------------------------------------
