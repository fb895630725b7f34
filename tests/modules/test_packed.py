"""A quantised weight counts as the weights that it stands for, and what cannot be unpacked is never 0."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import quantization

import paramcount
import paramcount.modules.packed as packed_modules
from tests.conftest import Run

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what libraries announce of their own futures
    import bitsandbytes.nn
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_
    from torchao.quantization.quantize_.workflows import Int4Tensor
    from torchao.quantization.quantize_.workflows.nf4.nf4_tensor import to_nf4


BNB: Any = bitsandbytes.nn  # it says nothing of its types


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Embedding(64, 256), nn.Linear(256, 512), nn.Linear(512, 64, bias=False))


# PyTorch's own count of the weights that all quantised forms of plain() stand for.
WHOLE = sum(param.numel() for param in plain().parameters())
LINEARS = sum(param.numel() for param in plain()[1:].parameters() if param.ndim == 2)


def quantized(model: nn.Module, *kinds: type[nn.Module], dtype: torch.dtype = torch.qint8) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao announces its end
        return torch.ao.quantization.quantize_dynamic(model, set(kinds), dtype=dtype)  # type: ignore[no-untyped-call]


def test_quantised_linears_count_as_their_float_selves() -> None:
    report = paramcount.count(quantized(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2, bias=False)), nn.Linear))
    assert (report.total, report.trainable) == (8 * 4 + 4 + 4 * 2, 0)
    assert {p.name: p.shape for p in report.params} == {"0.weight": (4, 8), "0.bias": (4,), "1.weight": (2, 4)}
    assert report.nbytes == (8 * 4 + 4 * 2) * 1 + 4 * 4  # weights in bytes, the bias as float32
    assert report.packed == 8 * 4 + 4 * 2
    assert [note.code for note in report.notes] == ["packed"]


def test_torchvisions_quantised_model_has_all_weights_of_its_convolutions_and_linears() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = quantization.resnet18(quantize=True)
        unpacked = [
            part() for m in model.modules() for key in ("weight", "bias") if callable(part := getattr(m, key, None))
        ]
    report = paramcount.count(model)
    assert report.total == sum(tensor.numel() for tensor in unpacked) > 11_000_000
    assert report.packed == sum(tensor.numel() for tensor in unpacked if tensor.is_quantized)


def test_the_scales_of_each_channel_are_overhead() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = torch.ao.nn.quantized.dynamic.Linear(8, 4)  # type: ignore[no-untyped-call]
        weight = torch.quantize_per_channel(
            torch.randn(4, 8), torch.rand(4), torch.zeros(4, dtype=torch.long), 0, torch.qint8
        )
        layer.set_weight_bias(weight, None)
    report = paramcount.count(layer)
    assert (report.total, report.packed) == (4 * 8, 4 * 8)
    assert {t.name: t.numel for t in report.root.overhead} == {"weight.scales": 4, "weight.zero_points": 4}


RECURRENT: list[nn.Module] = [
    nn.Sequential(nn.Linear(8, 4), nn.LSTM(4, 3)),
    nn.GRU(5, 3, num_layers=2, bidirectional=True),
    nn.ModuleList([nn.LSTMCell(4, 3), nn.GRUCell(4, 3), nn.RNNCell(4, 3)]),
]


@pytest.mark.parametrize("dtype", [torch.qint8, torch.float16])
@pytest.mark.parametrize("plain", RECURRENT, ids=["LSTM", "GRU", "cells"])
def test_quantised_recurrent_layers_count_as_their_float_selves(plain: nn.Module, dtype: torch.dtype) -> None:
    right = sum(param.numel() for param in plain.parameters())
    model = quantized(nn.Sequential(nn.ReLU(), plain), *map(type, plain.modules()), dtype=dtype)
    report = paramcount.count(model)
    assert (report.total, report.uninitialized) == (right, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(model[1]) if not isinstance(plain, nn.ModuleList) else None
    if scripted is not None:
        assert paramcount.count(scripted).total == right


def test_the_names_of_a_quantised_cell_are_those_of_the_plain_one() -> None:
    plain = nn.LSTMCell(4, 3)
    report = paramcount.count(quantized(nn.Sequential(plain), nn.LSTMCell)[0])
    assert {p.name: p.shape for p in report.params} == {name: p.shape for name, p in plain.named_parameters()}
    assert report.packed == plain.weight_ih.numel() + plain.weight_hh.numel()


def test_the_quantised_functions_of_a_graph_have_their_weights() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(5, 6)), nn.Parameter(torch.randn(5))

        def forward(self, x):  # type: ignore[no-untyped-def]  # torch.fx would copy them
            return nn.functional.linear(x, self.weight, self.bias)

    quantise_fx: Any = importlib.import_module("torch.ao.quantization.quantize_fx")
    settings: Any = torch.ao.quantization.get_default_qconfig_mapping()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = quantise_fx.prepare_fx(Functional().eval(), settings, torch.randn(1, 6))
        prepared(torch.randn(1, 6))
        model = quantise_fx.convert_fx(prepared)
        scripted = torch.jit.script(model)
    assert paramcount.count(model).total == paramcount.count(scripted).total == 5 * 6 + 5


def test_what_cannot_be_unpacked_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def unpacked(packed: object) -> dict[str, torch.Tensor]:
        return {}

    monkeypatch.setattr(packed_modules, "_within", unpacked)
    report = paramcount.count(quantized(nn.Sequential(nn.LSTM(4, 4)), nn.LSTM))
    assert (report.total, report.uninitialized) == (0, 1)
    assert [note.code for note in report.notes] == ["packed"]


@pytest.mark.parametrize(
    ("config", "dtype"),
    [(Int8WeightOnlyConfig, "int8"), (IntxWeightOnlyConfig, "int8"), (Float8WeightOnlyConfig, "float8_e4m3fn")],
)
def test_a_torchao_model_counts_as_its_plain_self(config: Callable[[], object], dtype: str) -> None:
    model = plain().to(torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_(model, config())
    report = paramcount.count(model)
    assert (report.total, report.packed) == (WHOLE, LINEARS)
    assert report.dtypes == {dtype: LINEARS, "bfloat16": WHOLE - LINEARS}
    assert report.nbytes == LINEARS * 1 + (WHOLE - LINEARS) * 2
    assert report["1"].overhead[0].name == "1.weight.scale"
    assert report.overhead.total >= 512 + 64  # a scale for each feature that goes out
    assert "overhead" in report.to_dict()


def test_four_bits_of_torchao_take_half_a_byte() -> None:
    packed = Int4Tensor(
        torch.zeros(64, 128, dtype=torch.int8),
        torch.ones(2, 64, dtype=torch.bfloat16),
        torch.zeros(2, 64, dtype=torch.bfloat16),
        [1, 128],
        torch.Size([64, 256]),
    )
    layer = nn.Linear(256, 64, bias=False)
    layer.weight = nn.Parameter(packed, requires_grad=False)
    report = paramcount.count(layer)
    assert (report.total, report.nbytes, report.dtypes) == (64 * 256, 64 * 128, {"int4": 64 * 256})
    assert report.overhead.total == 2 * (2 * 64)


def test_nf4_of_torchao_takes_half_a_byte() -> None:
    layer = nn.Linear(512, 64, bias=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer.weight = nn.Parameter(to_nf4(torch.randn(64, 512), 64, 256), requires_grad=False)
    report = paramcount.count(layer)
    assert (report.total, report.nbytes, report.dtypes) == (64 * 512, 64 * 256, {"nf4": 64 * 512})
    scales = 64 * 512 // 64  # one for each block of 64 weights, quantised in blocks of 256 in turn
    assert report.overhead.total == scales + scales // 256 + 1 + 16


def test_a_weight_that_is_tied_and_packed_counts_once() -> None:
    model = nn.Sequential(nn.Linear(256, 256, bias=False), nn.Linear(256, 256, bias=False)).to(torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_(model, Int8WeightOnlyConfig())
    model[1].weight = model[0].weight
    report = paramcount.count(model)
    assert (report.total, report.nbytes) == (256 * 256, 256 * 256)
    assert report.ties == {"0.weight": ("1.weight",)}
    assert report.overhead.total == sum(tensor.numel or 0 for tensor in report["0"].overhead) > 0


def four_bit() -> nn.Module:
    return nn.Sequential(
        BNB.Embedding4bit(64, 256), BNB.Linear4bit(256, 512, quant_type="nf4"), BNB.Linear4bit(512, 64, bias=False)
    )


def test_bitsandbytes_four_bit_layers_count_the_same_before_and_after_they_are_quantised() -> None:
    model = four_bit()
    report = paramcount.count(model)
    assert (report.total, report.packed) == (WHOLE, 0)
    assert report.notes == ()

    model.to("cpu")
    assert sum(param.numel() for param in model.parameters()) < WHOLE  # half of the weights, to PyTorch
    report = paramcount.count(model)
    assert (report.total, report.packed) == (WHOLE, WHOLE - 512)
    assert {name: report[name].total for name in "012"} == {"0": 64 * 256, "1": 256 * 512 + 512, "2": 512 * 64}
    assert report.dtypes == {"fp4": 64 * 256 + 512 * 64, "nf4": 256 * 512, "float32": 512}
    assert report.nbytes == (WHOLE - 512) // 2 + 4 * 512
    assert {b.name: b.shape for b in report["1"].overhead} == {
        "1.weight.absmax": (256 * 512 // 64,),
        "1.weight.quant_map": (16,),
        "1.weight.nested_offset": (),
        "1.weight.nested_absmax": (256 * 512 // 64 // 256,),
        "1.weight.nested_quant_map": (256,),
    }
    assert [note.code for note in report.notes] == ["packed"]


def test_bitsandbytes_eight_bit_layers_count_the_same_before_and_after_a_forward() -> None:
    model = BNB.Linear8bitLt(256, 512, has_fp16_weights=False).to("cpu")
    for _ in range(2):
        report = paramcount.count(model)
        assert (report.total, report.packed) == (256 * 512 + 512, 256 * 512)
        assert report.nbytes == 256 * 512 + 4 * 512
        assert [(b.name, b.numel) for b in report.root.overhead] == [("weight.SCB", 512)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model(torch.randn(2, 256))


def test_quantised_models_are_built_without_memory(run: Run, folder: Path) -> None:
    (folder / "net.py").write_text(
        "import warnings\n"
        "warnings.simplefilter('ignore')\n"
        "import bitsandbytes, torch\n"
        "from torch import nn\n"
        "from torchao.quantization import Int8WeightOnlyConfig, quantize_\n"
        "def four_bit():\n"
        "    return bitsandbytes.nn.Linear4bit(1 << 17, 1 << 17, bias=False).to('cuda')\n"
        "def eight_bit():\n"
        "    model = nn.Sequential(nn.Linear(1 << 17, 1 << 17, bias=False, dtype=torch.bfloat16))\n"
        "    quantize_(model, Int8WeightOnlyConfig())\n"
        "    return model\n"
    )
    outcome = run("net.py:four_bit", "net.py:eight_bit", "-f", "json", "--device", "meta")
    assert outcome.code == 0, outcome.err
    four, eight = outcome.json["reports"]
    assert (four["total"], four["packed"], four["bytes"]) == (1 << 34, 1 << 34, 1 << 33)
    assert (eight["total"], eight["packed"], eight["bytes"]) == (1 << 34, 1 << 34, 1 << 34)


class GPTQLinear(nn.Module):
    """The buffers of a layer that GPTQ's loaders make: integers packed along what comes in."""

    def __init__(self, entering: int, leaving: int, *, bits: int = 4, group: int = 128) -> None:
        super().__init__()
        self.bits, self.infeatures, self.outfeatures = bits, entering, leaving
        groups = entering // group
        self.register_buffer("qweight", torch.zeros(entering * bits // 32, leaving, dtype=torch.int32))
        self.register_buffer("qzeros", torch.zeros(groups, leaving * bits // 32, dtype=torch.int32))
        self.register_buffer("scales", torch.zeros(groups, leaving, dtype=torch.float16))
        self.register_buffer("g_idx", torch.zeros(entering, dtype=torch.int32))
        self.register_buffer("bias", torch.zeros(leaving, dtype=torch.float16))


class AWQLinear(nn.Module):
    """The buffers of a layer that AWQ's loaders make: integers packed along what goes out."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.w_bit, self.in_features, self.out_features = 4, entering, leaving
        self.register_buffer("qweight", torch.zeros(entering, leaving // 8, dtype=torch.int32))
        self.register_buffer("qzeros", torch.zeros(entering // 128, leaving // 8, dtype=torch.int32))
        self.register_buffer("scales", torch.zeros(entering // 128, leaving, dtype=torch.float16))
        self.bias = None


@pytest.mark.parametrize("says_sizes", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_gptq_layer_counts_as_the_linear_it_was(bits: int, says_sizes: bool) -> None:
    layer = GPTQLinear(256, 512, bits=bits)
    if not says_sizes:
        del layer.bits, layer.infeatures, layer.outfeatures
    report = paramcount.count(nn.Sequential(layer))
    linear = nn.Linear(256, 512)
    assert report.total == sum(param.numel() for param in linear.parameters())
    assert {p.name: p.shape for p in report.params} == {"0.weight": (512, 256), "0.bias": (512,)}
    assert report.dtypes == {f"int{bits}": 256 * 512, "float16": 512}
    assert report.nbytes == 256 * 512 * bits // 8 + 2 * 512
    assert report.overhead.total == 2 * (512 * bits // 32) + 2 * 512 + 256
    assert report.buffers.total == 0


@pytest.mark.parametrize("says_sizes", [True, False])
def test_an_awq_layer_counts_as_the_linear_it_was(says_sizes: bool) -> None:
    layer = AWQLinear(256, 512)
    if not says_sizes:
        del layer.w_bit, layer.in_features, layer.out_features
    report = paramcount.count(layer)
    assert [(p.name, p.shape, p.dtype) for p in report.params] == [("weight", (512, 256), "int4")]
    assert (report.total, report.nbytes) == (256 * 512, 256 * 512 // 2)
    assert (report.overhead.total, report.buffers.total) == (2 * (512 // 8) + 2 * 512, 0)


def test_a_layer_with_packed_buffers_that_is_shared_counts_once() -> None:
    layer = GPTQLinear(256, 512)
    report = paramcount.count(nn.ModuleDict({"a": layer, "b": nn.Sequential(layer)}))
    assert report.total == 256 * 512 + 512
    assert report.ties == {"a.weight": ("b.0.weight",), "a.bias": ("b.0.bias",)}
    assert (report.overhead.total, report.buffers.total) == (2 * 64 + 2 * 512 + 256, 0)


def test_an_hqq_layer_counts_as_the_linear_it_was() -> None:
    layer: Any = nn.Module()
    layer.W_q = nn.Parameter(torch.zeros(1024, 64, dtype=torch.uint8), requires_grad=False)
    grid = torch.zeros(1, 2048)
    layer.meta = {"nbits": 4, "group_size": 64, "shape": torch.Size([512, 256]), "scale": grid, "zero": grid.clone()}
    layer.__dict__["bias"] = torch.zeros(512)
    report = paramcount.count(layer)
    assert {p.name: p.shape for p in report.params} == {"W_q": (512, 256), "bias": (512,)}
    assert (report.total, report.nbytes) == (512 * 256 + 512, 512 * 256 // 2 + 4 * 512)
    assert report.overhead.total == 2 * 2048


def test_scales_that_are_parameters_beside_a_weight_of_one_byte_are_overhead() -> None:
    layer = nn.Linear(256, 512, dtype=torch.bfloat16)
    layer.weight = nn.Parameter(torch.empty(512, 256, dtype=torch.float8_e4m3fn))
    layer.weight_scale_inv = nn.Parameter(torch.ones(4, 2))
    report = paramcount.count(layer)
    assert (report.total, report.packed) == (256 * 512 + 512, 256 * 512)
    assert [p.name for p in report.params] == ["weight", "bias"]
    assert [(b.name, b.numel) for b in report.root.overhead] == [("weight_scale_inv", 8)]

    plain = nn.Linear(256, 512)
    plain.weight_scale = nn.Parameter(torch.ones(512))  # beside a weight that is not quantised, it is one of its own
    assert paramcount.count(plain).total == 256 * 512 + 512 + 512


def test_reading_a_plain_model_imports_no_library_of_quantised_ones() -> None:
    code = "import sys, torch, paramcount; paramcount.count(torch.nn.Linear(2, 3)); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torchao", "bitsandbytes", "peft", "torch.distributed.tensor"}
