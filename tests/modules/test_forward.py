"""One forward on no memory: lazy layers get the shapes that they would get in real memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import paramcount
from paramcount.errors import BuildError, ParamcountError, UsageError
from paramcount.inputs import Input
from paramcount.inventory import Inventory
from paramcount.modules import take_inventory
from paramcount.report import Report
from tests.conftest import Run


class Vision(nn.Module):
    """All kinds of lazy layers, in an order in which one's output is the next one's input."""

    def __init__(self) -> None:
        super().__init__()
        self.features: nn.Module = nn.Sequential(
            nn.LazyConv2d(8, 3),
            nn.LazyBatchNorm2d(),
            nn.ReLU(),
            nn.LazyConvTranspose2d(6, 2),
            nn.LazyInstanceNorm2d(affine=True),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.LazyLinear(5), nn.Dropout(), nn.LazyLinear(3)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))  # type: ignore[no-any-return]


class Language(nn.Module):
    """Takes tokens by position, and a mask by name."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.head = nn.LazyLinear(2, bias=False)

    def forward(self, tokens: torch.Tensor, *, mask: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(tokens) * mask)  # type: ignore[no-any-return]


class Branching(nn.Module):
    """Enters one of its lazy layers only."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.left_out = nn.LazyLinear(2), nn.LazyLinear(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.entered(x)  # type: ignore[no-any-return]


class Enormous(nn.Module):
    """A trillion parameters after a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(1_000_000), nn.LazyLinear(1_000_000, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


class Valued(nn.Module):
    """Reads a value of its input, and so needs real memory."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyLinear(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() != 0:
            raise ValueError("not zeros")
        return self.layer(x)  # type: ignore[no-any-return]


def taken(construct: Callable[[], nn.Module], *inputs: str) -> Inventory:
    parsed = [Input.parse(text) for text in inputs]
    return take_inventory(construct, target="net.py:Net", source="python", device="auto", inputs=parsed)


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}


def test_lazy_layers_get_the_shapes_of_a_forward_in_memory() -> None:
    model = Vision()
    model(torch.zeros(2, 3, 32, 32))
    inventory = taken(Vision, "1,3,32,32")
    assert {param.name: param.shape for param in inventory.params} == shapes(model)
    assert Report.of(inventory).total == sum(p.numel() for p in model.parameters())
    assert Report.of(inventory).buffers.total == sum(b.numel() for b in model.buffers())
    assert [(note.code, note.where) for note in inventory.notes] == [("input", "")]
    lazy = sum(nn.parameter.is_lazy(p) for p in Vision().parameters())
    assert inventory.notes[0].message.startswith(f"{lazy} parameters of lazy layers")


def test_inputs_go_by_position_or_by_name_with_their_dtypes() -> None:
    inventory = taken(Language, "1,7:int64", "mask=1,7,1")
    assert [(param.name, param.shape) for param in inventory.params] == [
        ("embedding.weight", (10, 4)),
        ("head.weight", (2, 4)),
    ]


def test_a_trillion_parameters_take_no_memory() -> None:
    assert Report.of(taken(Enormous, "1,1000")).total == 1_001_000_000 + 1_000_000_000_000


def test_what_the_forward_does_not_enter_stays_without_a_shape() -> None:
    inventory = taken(Branching, "1,4")
    assert Report.of(inventory).uninitialized == 2
    assert [note.code for note in inventory.notes] == ["input", "uninitialized"]


def test_a_forward_that_reads_values_gets_real_ones() -> None:
    inventory = taken(Valued, "1,100000")
    assert Report.of(inventory).total == 300_003
    assert "real-memory" in {note.code for note in inventory.notes}


def test_a_model_without_lazy_layers_is_the_same_and_says_nothing() -> None:
    inventory = taken(lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), "1,3")
    assert inventory == taken(lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))


def test_the_model_is_in_training_again_afterwards() -> None:
    kept: list[Vision] = []

    def construct() -> nn.Module:
        model = Vision()
        model.head.eval()
        kept.append(model)
        return model

    taken(construct, "1,3,32,32")
    (model,) = kept
    assert [model.training, model.features.training, model.head.training] == [True, True, False]


def test_a_forward_that_fails_says_with_which_input_and_where() -> None:
    with pytest.raises(BuildError, match=r"was built, and its forward with input 1,3,32 failed: ") as caught:
        taken(Vision, "1,3,32")
    assert "--input input_ids=1,128:int64" in str(caught.value.hint)
    assert "in forward" in caught.value.details
    assert caught.value.exit_code == 3


def test_a_file_takes_no_input(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "model.pt")
    with pytest.raises(UsageError, match="is a file, which takes no arguments, no weights and no input"):
        paramcount.count(str(tmp_path / "model.pt"), inputs="1,2")


def test_a_model_that_is_built_takes_no_input() -> None:
    with pytest.raises(ParamcountError, match="for what is yet to be built"):
        paramcount.count(nn.LazyLinear(2), inputs="1,2")


@pytest.fixture
def lazy(folder: Path) -> str:
    """A file with 4 * 5 + 5 parameters whose shape is known, and 5 * 7 + 7 of which it is not."""
    layers = "nn.Sequential(nn.Linear(4, 5), nn.LazyLinear(7))"
    Path("net.py").write_text(f"from torch import nn\ndef net() -> nn.Module:\n    return {layers}\n", encoding="utf-8")
    return "net.py:net"


def test_the_cure_for_lazy_layers_is_named_and_works(run: Run, lazy: str) -> None:
    refused = run("count", lazy, "--value", "total")
    assert refused.code == 3
    assert "--input" in refused.err
    assert run("count", lazy, "--input", "3,4", "--value", "total").out == f"{25 + 42}\n"


@pytest.mark.parametrize(
    ("written", "code"), [("", 3), ("[3, 4]", 0), ("'3,4'", 0), ("['input=3,4:float32']", 0), ("4", 0)]
)
def test_an_input_in_models_yaml_lets_a_budget_be_judged(run: Run, lazy: str, written: str, code: int) -> None:
    given = f"    input: {written}\n" if written else ""
    model = f"    target: {lazy}\n    budget: {{total: {{exactly: {25 + 42}}}}}\n{given}"
    Path("models.yaml").write_text(f"version: 1\nmodels:\n  lazy:\n{model}", encoding="utf-8")
    assert run("check").code == code
