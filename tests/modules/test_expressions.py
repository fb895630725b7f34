"""Of containers, only what they store is named: what a subclass makes of that may never end."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import pytest
from torch import nn

from paramcount.modules.expressions import contents, model_in


class EndlessDict(dict[str, Any]):
    def items(self) -> Any:
        return repeat(("a", nn.Linear(9, 9)))


class EndlessList(list[Any]):
    def __iter__(self) -> Any:
        return repeat(nn.Linear(9, 9))


NET = nn.Linear(4, 3)


@pytest.mark.parametrize(("held", "key"), [(EndlessDict(a=NET), "a"), (EndlessList([NET]), "0")])
def test_a_container_without_an_end_holds_what_it_stores(held: Any, key: str) -> None:
    assert contents(held) == {key: NET}
    assert model_in(held, "net.py:nets") is NET
