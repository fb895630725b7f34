"""What a file is said to declare is what is in it once it is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from paramcount.modules.declared import declared
from paramcount.modules.imports import code_in_file, load, on_loan
from paramcount.sources.python import _candidates
from tests.conftest import MODELS


def in_truth(file: Path) -> list[str]:
    code = code_in_file(str(file), str(file))
    with on_loan(code):
        return sorted(_candidates(load(code, str(file))))


@pytest.mark.parametrize("file", sorted(MODELS.glob("*.py")), ids=lambda file: file.stem)
def test_the_models_of_a_file_are_those_that_python_finds_in_it(file: Path) -> None:
    assert sorted(declared(file.read_text(encoding="utf-8"))) == in_truth(file)


def test_modules_are_told_from_all_else_by_where_their_bases_come_from(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "import enum, torch\nimport torch.nn as layers\n"
        "from collections import namedtuple\nfrom dataclasses import dataclass\nfrom typing import Generic, TypeVar\n"
        "from torch import nn, optim, Tensor\nfrom torch.nn import Module, Parameter\n"
        "from torch.utils.data import Dataset\n"
        "T = TypeVar('T')\n"
        "class Plain: ...\nclass Kind(enum.Enum): A = 1\nclass Sgd(optim.SGD): ...\nclass Data(Dataset): ...\n"
        "class Pair(namedtuple('Pair', 'a b')): ...\n"
        "class Weight(Parameter): ...\nclass Wrong(ValueError): ...\n@dataclass\nclass Sizes: width: int = 1\n"
        "class A(Module): ...\nclass B(A, Generic[T]): ...\nclass C(B[int]): ...\nclass D(layers.Linear): ...\n"
        "class E(torch.nn.Sequential): ...\nclass _Hidden(nn.Module): ...\nclass F(Plain, _Hidden): ...\n"
        "if True:\n    class G(nn.Module): ...\n"
        "def build() -> nn.Module: return A()\ndef quoted() -> 'B': return B()\n"
        "def loss(x: Tensor) -> Tensor: return x\ndef bare(): return A()\n"
        "def maybe() -> nn.Module | None: return None\ndef several() -> list[nn.Module]: return []\n"
        "instance = A()\nstock = nn.Linear(1, 1)\nsizes = Sizes()\nnumber = torch.ones(1)\n"
        "output = nn.Linear(1, 1)(number)\n"
    )
    assert sorted(declared(file.read_text())) == in_truth(file)


def test_a_file_is_not_run_and_a_library_that_is_not_there_is_taken_at_its_word() -> None:
    said = "from nowhere import Base, Config\nraise SystemExit\nclass Net(Base): ...\nclass Sizes(Config): ...\n"
    assert declared(said) == ["Net"]
