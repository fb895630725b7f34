"""Quantised modules that were pickled whole count as the live ones do."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from paramcount.errors import UnreadableFile
from paramcount.inventory import Inventory
from paramcount.modules.read import read as read_live
from paramcount.report import Report
from paramcount.sources import Target, torch_file
from tests.sources.test_torch_file import _archive

quantization: Any = torch.ao.quantization  # which has no types
jit: Any = torch.jit  # the same
pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch means to move its quantised modules elsewhere


def _read(path: Path) -> Inventory:
    return torch_file.read(Target(str(path)), str(path))


def _dynamic() -> nn.Module:
    layers = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 3, bias=False))
    quantised: nn.Module = quantization.quantize_dynamic(layers, {nn.Linear})
    return quantised


def _static() -> nn.Module:
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1, bias=False), nn.Flatten(), nn.Linear(72, 3)
    model: Any = nn.Sequential(quantization.QuantStub(), *layers, quantization.DeQuantStub()).eval()
    model.qconfig = quantization.get_default_qconfig("fbgemm")
    prepared = quantization.prepare(model)
    prepared(torch.randn(1, 3, 8, 8))
    quantised: nn.Module = quantization.convert(prepared)
    return quantised


def _embedding() -> nn.Module:
    model: Any = nn.Sequential(nn.Embedding(10, 4)).eval()
    model.qconfig = quantization.float_qparams_weight_only_qconfig
    quantised: nn.Module = quantization.convert(quantization.prepare(model))
    return quantised


def _recurrent(dtype: torch.dtype = torch.qint8) -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 4), nn.LSTM(4, 3, num_layers=2, bidirectional=True))
    quantised: nn.Module = quantization.quantize_dynamic(model, {nn.Linear, nn.LSTM}, dtype=dtype)
    return quantised


def _recurrent_in_halves() -> nn.Module:
    return _recurrent(torch.float16)


def _cells() -> nn.Module:
    kinds = nn.LSTMCell, nn.GRUCell, nn.RNNCell
    quantised: nn.Module = quantization.quantize_dynamic(nn.Sequential(*(kind(4, 3) for kind in kinds)), set(kinds))
    return quantised


def _graph() -> nn.Module:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(5, 6)), nn.Parameter(torch.randn(5))

        def forward(self, x):  # type: ignore[no-untyped-def]  # torch.fx would copy them
            return nn.functional.linear(x, self.weight, self.bias)

    quantise_fx: Any = importlib.import_module("torch.ao.quantization.quantize_fx")
    example = torch.randn(1, 6)
    prepared = quantise_fx.prepare_fx(Functional().eval(), quantization.get_default_qconfig_mapping(), example)
    prepared(example)
    quantised: nn.Module = quantise_fx.convert_fx(prepared)
    return quantised


def _twice() -> nn.Module:
    model = _dynamic()
    return nn.Sequential(model, model)


def _four_bits() -> nn.Module:
    bnb = pytest.importorskip("bitsandbytes").nn
    layers = bnb.Linear4bit(5, 3), bnb.LinearNF4(33, 3, bias=False), bnb.LinearFP4(4, 4, compress_statistics=False)
    return nn.Sequential(*layers).to("cpu")


def _eight_bits() -> nn.Module:
    bnb = pytest.importorskip("bitsandbytes").nn
    return nn.Sequential(bnb.Linear8bitLt(8, 4, has_fp16_weights=False)).to("cpu")


def _torchao(config: str) -> Callable[[], nn.Module]:
    def quantised() -> nn.Module:
        torchao: Any = pytest.importorskip("torchao.quantization")
        model = nn.Sequential(nn.Linear(64, 32), nn.LayerNorm(32), nn.Linear(32, 32, bias=False)).bfloat16()
        torchao.quantize_(model, getattr(torchao, config)())
        for layer in model:
            vars(layer).pop("extra_repr", None)  # torchao's, which cannot be pickled
        return model

    return quantised


MODELS: dict[str, Callable[[], nn.Module]] = {
    "dynamic": _dynamic,
    "static": _static,
    "embedding": _embedding,
    "recurrent": _recurrent,
    "cells": _cells,
    "a graph": _graph,
    "a shared one": _twice,
    "bitsandbytes in 4 bits": _four_bits,
    "bitsandbytes in 8 bits": _eight_bits,
    "torchao in 8 bits": _torchao("Int8WeightOnlyConfig"),
    "torchao in floats of 8 bits": _torchao("Float8WeightOnlyConfig"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_quantised_module_is_the_live_one(kind: str, tmp_path: Path) -> None:
    model = MODELS[kind]()
    torch.save(model, tmp_path / "model.pt")
    saved, live = _read(tmp_path / "model.pt"), read_live(model, target="", source="")
    assert saved.params == live.params
    assert saved.buffers == live.buffers
    assert saved.overhead == live.overhead
    assert saved.modules == live.modules
    # What makes a graph of a pickle runs the code that the pickle holds.
    assert [note for note in saved.notes if note.code != "calls"] == list(live.notes)
    assert len(saved.notes) == len(live.notes) + (kind == "a graph")
    assert any(param.packed for param in saved.params)


@pytest.mark.parametrize("kind", ["bitsandbytes in 4 bits", "bitsandbytes in 8 bits"])
def test_the_state_dict_of_a_quantised_module_counts_what_the_live_one_does(kind: str, tmp_path: Path) -> None:
    model = MODELS[kind]()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pt")
    live = read_live(model, target="", source="")
    assert {param.name: (param.shape, param.dtype) for param in _read(tmp_path / "model.pt").params} == {
        param.name: (param.shape, param.dtype) for param in live.params
    }


@pytest.mark.parametrize("kind", ["torchao in 8 bits", "torchao in floats of 8 bits"])
def test_the_state_dict_of_subclasses_says_what_is_stored(kind: str, tmp_path: Path) -> None:
    model = MODELS[kind]()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    saved, live = Report.of(_read(tmp_path / "model.pt")), Report.of(read_live(model, target="", source=""))
    assert live.packed
    assert (saved.total, saved.packed, saved.nbytes) == (live.total, live.packed, live.nbytes)
    assert (saved.dtypes, saved.overhead) == (live.dtypes, live.overhead)


# Each with PyTorch's own sum over the model before it was quantised.
SCRIPTED: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "dynamic": (_dynamic, 5 * 3 + 3 + 3 * 3),
    "static": (_static, 3 * 4 * 9 + 4 + 4 * 2 + 72 * 3 + 3),
    "embedding": (_embedding, 10 * 4),
    "recurrent": (_recurrent, 36 + 2 * 12 * (4 + 3 + 2) + 2 * 12 * (6 + 3 + 2)),
    "recurrent in halves": (_recurrent_in_halves, 36 + 2 * 12 * (4 + 3 + 2) + 2 * 12 * (6 + 3 + 2)),
    "a graph": (_graph, 5 * 6 + 5),
}


@pytest.mark.parametrize("kind", SCRIPTED)
def test_all_that_a_quantised_model_is_saved_as_holds_its_packed_weights(kind: str, tmp_path: Path) -> None:
    make, right = SCRIPTED[kind]
    model, path = make().eval(), tmp_path / "model.pt"
    scripted: Any = jit.script(model)
    for save in (
        lambda: torch.save(model, path),
        lambda: torch.save(model.state_dict(), path),
        lambda: jit.save(scripted, path),
        lambda: jit.save(jit.freeze(scripted), path),
    ):
        save()
        report = Report.of(_read(path))
        assert (report.total, report.uninitialized) == (right, 0)


def test_of_the_constants_of_a_frozen_program_it_is_said_how_many_elements_they_have(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 4)).eval()
    jit.save(jit.freeze(jit.script(model)), tmp_path / "model.pt")
    inventory = _read(tmp_path / "model.pt")
    assert inventory.params == ()  # as PyTorch has it
    held = sum(param.numel() for param in model.parameters())
    assert f"keeps {held} elements" in " ".join(note.message for note in inventory.notes if note.code == "left-out")


def test_a_trace_of_a_quantised_model_holds_its_packed_weights(tmp_path: Path) -> None:
    jit.save(jit.trace(_static(), torch.randn(1, 3, 8, 8)), tmp_path / "model.pt")
    assert Report.of(_read(tmp_path / "model.pt")).total == SCRIPTED["static"][1]


def test_the_cells_of_a_quantised_state_dict_count_as_the_plain_ones(tmp_path: Path) -> None:
    torch.save(_cells().state_dict(), tmp_path / "model.pt")
    plain = nn.LSTMCell(4, 3), nn.GRUCell(4, 3), nn.RNNCell(4, 3)
    right = sum(param.numel() for cell in plain for param in cell.parameters())
    assert Report.of(_read(tmp_path / "model.pt")).total == right


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_the_weights_of_a_quantised_state_dict_are_no_buffers(kind: str, tmp_path: Path) -> None:
    model = MODELS[kind]()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    live = read_live(model, target="", source="")
    assert sum(param.numel or 0 for param in _read(tmp_path / "model.pt").params) == sum(
        param.numel or 0 for param in live.params
    )


def test_a_state_that_is_damaged_or_of_another_byte_order_is_not_read(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = _four_bits()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    data = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(data.replace(b'"shape"', b'"sh\xff\xfee"'))
    notes = [note.message for note in _read(tmp_path / "model.pt").notes if note.code == "stored-elements"]
    assert len(notes) == 1
    assert "quant_state" in notes[0]


# What is bent must be refused or counted, and never fail otherwise.
BENT = {
    "state of a number": b"K\x05b",
    "state of nothing": b"",
    "a state too deep": b"(" * 50 + b"t" * 50 + b"b",
    "text for weights": b"X\x01\0\0\0a\x85b",
}


@pytest.mark.parametrize("kind", BENT)
def test_a_quantised_module_without_weights_has_none(kind: str, tmp_path: Path) -> None:
    data = b"\x80\x02ctorch.ao.nn.quantized.modules.conv\nConv2d\n)\x81" + BENT[kind] + b"."
    (tmp_path / "model.pt").write_bytes(_archive(data))
    assert _read(tmp_path / "model.pt").params == ()


def test_a_weight_whose_shape_is_none_is_refused(tmp_path: Path) -> None:
    bnb = pytest.importorskip("bitsandbytes").nn
    model: Any = copy.deepcopy(nn.Sequential(bnb.Linear4bit(6, 4, bias=False)).to("cpu"))
    model[0].weight.quant_state.shape = (-1, 3)
    torch.save(model, tmp_path / "model.pt")
    with pytest.raises(UnreadableFile, match="no natural number"):
        _read(tmp_path / "model.pt")
