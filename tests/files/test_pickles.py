"""Pickles are read without running them, and without taking more than a reader should give."""

from __future__ import annotations

import collections
import io
import pickle
import struct
from typing import Any

import pytest

from paramcount.files.pickles import Cursor, Global, MalformedPickle, Pairs, Record, load


def _read(data: bytes) -> object:
    return load(Cursor(data), lambda persistent_id: ("persistent", persistent_id))


def _plain(value: object) -> object:
    """Return what Python would have built, for values that need no call."""
    if isinstance(value, Pairs):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    return value


class Thing:
    def __init__(self) -> None:
        self.size = 3


VALUES: list[object] = [
    None,
    True,
    0,
    255,
    65_535,
    -1,
    2**31 - 1,
    -(2**31),
    2**80,
    -(2**2000),
    1.5,
    "",
    "name",
    "zwölf\n\\u",
    "a" * 300,
    (),
    (1,),
    (1, 2, 3),
    (1, 2, 3, 4),
    [],
    [[1], [2, 3]],
    {},
    {"a": {1: (2.0, None)}},
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_plain_values_are_what_python_reads(value: object, protocol: int) -> None:
    assert _plain(_read(pickle.dumps(value, protocol))) == value


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_bytes_and_sets_are_read(protocol: int) -> None:
    assert _read(pickle.dumps(b"\x00\xff", protocol)) == b"\x00\xff"
    value = _read(pickle.dumps({"one"}, protocol))
    assert value == ["one"] or (isinstance(value, Record) and value.args == (["one"],))


@pytest.mark.parametrize("protocol", range(6))
def test_objects_become_records_of_their_class_and_state(protocol: int) -> None:
    value = _read(pickle.dumps([Thing(), Thing], protocol))
    assert isinstance(value, list)
    made, kind = value
    assert kind == Global("tests.files.test_pickles", "Thing")
    assert isinstance(made, Record)
    assert kind in {made.callable, *(made.args if isinstance(made.args, tuple) else ())}
    assert _plain(made.state) == {"size": 3}


def test_an_ordered_dictionary_is_a_record_with_its_pairs() -> None:
    value = _read(pickle.dumps(collections.OrderedDict(a=1), 2))
    assert isinstance(value, Record)
    assert (value.callable, value.args) == (Global("collections", "OrderedDict"), ())
    assert value.pairs is not None
    assert list(value.pairs.items()) == [("a", 1)]


def test_identity_is_kept() -> None:
    thing = Thing()
    value = _read(pickle.dumps([thing, thing, Thing()], 2))
    assert isinstance(value, list)
    assert value[0] is value[1]
    assert value[0] is not value[2]


def test_a_value_may_contain_itself() -> None:
    value: list[Any] = []
    value.append(value)
    read = _read(pickle.dumps(value, 4))
    assert isinstance(read, list)
    assert read[0] is read


def test_several_pickles_follow_each_other_and_are_fetched_as_needed() -> None:
    stream = io.BytesIO()
    for value in ("first", "x" * 5000, [1, 2]):
        pickle.dump(value, stream, 2)
    data = stream.getvalue()
    asked: list[int] = []

    def fetch(start: int, least: int) -> bytes:
        asked.append(start)
        return data[start : start + max(least, 10)]

    cursor = Cursor(b"", fetch)
    assert [_plain(load(cursor, lambda _: None)) for _ in range(3)] == ["first", "x" * 5000, [1, 2]]
    assert cursor.position == len(data)
    assert asked == sorted(set(asked))


def test_persistent_ids_are_asked_for() -> None:
    assert _read(b"\x80\x02X\x01\x00\x00\x00aQ.") == ("persistent", "a")
    assert _read(b"Pword\n.") == ("persistent", "word")


def test_text_that_cannot_be_shown_is_escaped() -> None:
    assert _read(b"U\x02\xff\xfe.") == "\\xff\\xfe"
    assert _read(pickle.dumps("\ud800", 4)) == "\ud800"


MALFORMED = {
    "nothing": b"",
    "no stop": b"N",
    "unknown operation": b"\xff.",
    "newer protocol": b"\x80\x06N.",
    "stop on nothing": b".",
    "stop on two": b"NN.",
    "stop under a mark": b"N(.",
    "pop on nothing": b"0.",
    "duplicate of nothing": b"2.",
    "tuple without a mark": b"Nt.",
    "tuple of too little": b"N\x87.",
    "append to nothing": b"Na.",
    "append to a number": b"K\x01Na.",
    "appends without a mark": b"]Ne.",
    "items of a list": b"]NNs.",
    "half an item": b"}(Nu.",
    "memo never set": b"h\x00.",
    "memo never set, as text": b"g7\n.",
    "memo number below zero": b"Np-1\n.",
    "memo number beyond all": b"Np99999999999\n.",
    "memo of nothing": b"q\x00.",
    "state of a number": b"K\x01}b.",
    "reduce of nothing": b"R.",
    "reduce of one": b"NR.",
    "object of nothing": b"(o.",
    "import of a number": b"K\x01K\x02\x93.",
    "global cut short": b"cos\n",
    "instance cut short": b"(ios",
    "text longer than the file": b"X\xff\x00\x00\x00abc.",
    "text of negative length": b"T\xff\xff\xff\xffabc.",
    "text of a huge length": b"\x8d" + b"\xff" * 8 + b".",
    "bytes of a huge length": b"\x8e" + b"\xff" * 7 + b"\x7f.",
    "byte array of a huge length": b"\x96" + b"\xff" * 8 + b".",
    "integer of a huge length": b"\x8b\xff\xff\xff\x7f.",
    "integer of negative length": b"\x8b\xff\xff\xff\xff.",
    "integer of many digits": b"L" + b"9" * 5000 + b"L\n.",
    "integer that is none": b"Ione\n.",
    "float that is none": b"Fone\n.",
    "float cut short": b"G\x00\x00",
    "quoted text without quotes": b"Sabc\n.",
    "raw text with half an escape": b"V\\u12\n.",
    "line without an end": b"c" + b"a" * 100_000,
    "buffer outside": b"\x97.",
    "read-only buffer": b"N\x98.",
    "mark in mark, cut short": b"(" * 50,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_pickle_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedPickle):
        _read(data)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_cut_short_anywhere_is_refused(protocol: int) -> None:
    data = pickle.dumps({"a": [Thing(), (1, 2.5, "text")], "b": 2**70}, protocol)
    for end in range(len(data)):
        with pytest.raises(MalformedPickle):
            _read(data[:end])


_TEXT = 2**20
BOMBS = {
    "lists in lists, closed": b"]" * 900_000 + b"a" * 899_999 + b".",
    "tuples that double": b"N" + b"2\x86" * 4_000_000 + b".",
    "marks": b"(" * 2_000_000,
    "copies without end": b"]" + b"2" * 4_000_000,
    "memo without end": b"N" + b"\x94" * 4_000_000,
    "a list of itself, again and again": b"]q\x00" + b"h\x00a" * 4_000_000 + b".",
    "calls of calls": b"N" + b"NR" * 2_000_000,
    "text of wide characters": (b"X" + struct.pack("<I", _TEXT) + b"a" * (_TEXT - 4) + b"\xf0\x9f\x98\x80") * 40,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_takes_too_much(name: str) -> None:
    with pytest.raises(MalformedPickle):
        _read(BOMBS[name])
