"""A constructor that asks for a GPU is counted on a machine without one, and told where the answer was a guess."""

# Asked as users ask, and with what PyTorch does not type.
# mypy: ignore-errors

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.cuda import synchronize

from paramcount.modules.build import build

pytestmark = [
    pytest.mark.skipif(torch.accelerator.is_available(), reason="here a GPU answers by itself"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning", "ignore:.*:UserWarning"),
]


def streams() -> None:
    stream, event = torch.cuda.Stream(), torch.cuda.Event(enable_timing=True)
    with torch.cuda.stream(stream), torch.cuda.device(0), torch.cuda.device_of(torch.zeros(1)):
        event.record()
        torch.zeros(300, 300, device="cuda")
    event.synchronize()
    stream.wait_stream(torch.cuda.current_stream())
    assert event.query()


def types() -> None:
    for name in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"):
        kind, expected = getattr(torch.cuda, f"{name}Tensor"), getattr(torch, f"{name}Tensor")(2, 3)
        assert (kind(2, 3).dtype, kind(2, 3).shape) == (expected.dtype, (2, 3))
        assert kind(torch.Size([2])).shape == (2,)
        assert torch.zeros(3).type(kind).dtype == expected.dtype
        assert not isinstance(torch.zeros(2), kind)


def mixed_precision() -> None:
    torch.amp.GradScaler("cuda")
    torch.cuda.amp.GradScaler()
    with torch.autocast("cuda"), torch.cuda.amp.autocast():
        nn.Linear(30, 3)(torch.zeros(1, 30))
    torch.cuda.is_bf16_supported()


def default_type() -> None:
    torch.set_default_tensor_type(torch.cuda.FloatTensor)
    torch.set_default_tensor_type("torch.cuda.FloatTensor")


ASKED: list[Callable[[], Any]] = [
    streams,
    types,
    mixed_precision,
    default_type,
    synchronize,  # imported by its name
    torch.accelerator.synchronize,
    torch.xpu.synchronize,
    torch.mps.synchronize,
    lambda: nn.Linear(4, 3, device=torch.cuda.current_device()),
    lambda: torch.Generator("cuda").manual_seed(0),
    lambda: torch.rand(3, generator=torch.Generator(device=torch.device("cuda", 0))),
    lambda: isinstance(torch.Generator("cuda"), torch.Generator),
    lambda: torch.cuda.set_device(0),
    lambda: torch.cuda.set_rng_state(torch.cuda.get_rng_state()),
    lambda: torch.cuda.reset_peak_memory_stats(torch.cuda.memory_allocated()),
    lambda: torch.cuda.set_per_process_memory_fraction(0.5),
    lambda: torch.cuda.nvtx.range_push("building"),
    lambda: torch.zeros(3).pin_memory(),
]


@pytest.mark.parametrize("ask", ASKED)
def test_a_question_to_a_gpu_changes_no_count(ask: Callable[[], Any]) -> None:
    def construct() -> nn.Module:
        ask()
        return nn.Linear(4, 3)

    for device in ("auto", "cpu"):
        model, notes = build(construct, device=device)
        assert notes == ()
        assert sum(parameter.numel() for parameter in model.parameters()) == 15


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.cuda.get_device_capability()[0],
        lambda: torch.cuda.get_device_properties(0).multi_processor_count,
        lambda: torch.cuda.get_device_properties("cuda").total_memory // 10**9,
        lambda: torch.cuda.mem_get_info()[1] // 10**9,
        lambda: len(torch.cuda.get_device_name(0)),
    ],
)
def test_what_a_gpu_is_like_is_a_guess_and_told(ask: Callable[[], int]) -> None:
    """A width that follows from it would be another on another GPU."""
    model, notes = build(lambda: nn.Linear(ask(), 3))
    assert model.in_features > 0
    assert [note.code for note in notes] == ["gpu-assumed"]
    assert "the count may be another" in notes[0].message


def test_whether_there_is_a_gpu_is_answered_truly() -> None:
    """Constructors that ask first take the branch that they take without one."""
    model, notes = build(lambda: nn.Linear(1 + int(torch.cuda.is_available()), 1 + torch.cuda.device_count()))
    assert notes == ()
    assert sum(parameter.numel() for parameter in model.parameters()) == 2


@pytest.mark.parametrize(
    "options",
    [{}, {"map_location": "cuda:0"}, {"map_location": "cpu"}, {"map_location": lambda storage, _: storage.cuda(0)}],
)
def test_a_checkpoint_saved_from_a_gpu_is_loaded(tmp_path: Path, options: dict[str, Any]) -> None:
    plain = io.BytesIO()
    torch.save({"weight": torch.full((3, 4), 2.0)}, plain)
    with zipfile.ZipFile(plain) as saved, zipfile.ZipFile(tmp_path / "gpu.pt", "w") as moved:
        for name in saved.namelist():
            moved.writestr(name, saved.read(name).replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))

    def construct() -> nn.Module:
        weight = torch.load(tmp_path / "gpu.pt", **options)["weight"]
        return nn.Linear(int(weight.sum()), weight.shape[0])

    model, notes = build(construct)
    assert (notes, model.weight.shape) == ((), (3, 24))
