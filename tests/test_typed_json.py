"""A value that crosses from one process to another is the same there, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramcount.inventory import Inventory, Module, Note, Param
from paramcount.report import Tally
from paramcount.typed_json import Mistyped, dumps, loads
from tests.strategies import inventories


@given(inventories())
def test_an_inventory_comes_back_as_it_was(inventory: Inventory) -> None:
    assert loads(Inventory, dumps(inventory)) == inventory


@given(st.text())
def test_a_text_comes_back_as_it_was_whatever_it_holds(text: str) -> None:
    note = Note("code", text, text + "\ud800")
    assert loads(Note, dumps(note)) == note
    assert b"\n" not in dumps(note)


PARAM = Param("w", (2, 3), "float32", 6, 24, True)


@pytest.mark.parametrize(
    "plain",
    [
        b'["w",[2,3],"float32",-6,24,true,null,false,null,null,null]',
        b'["w",[2,3],"float32",6.0,24,true,null,false,null,null,null]',
        b'["w",[2,3],"float32",NaN,24,true,null,false,null,null,null]',
        b'["w",[2,3],"float32",true,24,true,null,false,null,null,null]',
        b'["w",[2,-3],"float32",6,24,true,null,false,null,null,null]',
        b'["w","23","float32",6,24,true,null,false,null,null,null]',
        b'[null,[2,3],"float32",6,24,true,null,false,null,null,null]',
        b'["w",[2,3],"float32",6,24,1,null,false,null,null,null]',
        b'["w",[2,3],"float32",6,24,true,null,false,null,null]',
        b'["w",[2,3],"float32",6,24,true,null,false,null,null,null,1]',
        b'{"name":"w"}',
        b'"w"',
        b"null",
        b"[" * 100_000,
        b"\x80\x04]",
        b"",
    ],
)
def test_what_is_no_parameter_is_refused(plain: bytes) -> None:
    assert loads(Param, dumps(PARAM)) == PARAM
    with pytest.raises(Mistyped):
        loads(Param, plain)


def test_a_word_of_several_is_one_of_those() -> None:
    inventory = Inventory("t", "module", (Module("", ""),), ())
    assert loads(Inventory, dumps(inventory)) == inventory
    with pytest.raises(Mistyped):
        loads(Inventory, dumps(inventory).replace(b'"module",[]', b'"modul",[]'))
    assert loads(Tally, dumps(Tally(1, 2))) == Tally(1, 2)
