"""Packed weights in files count as what was packed, by the libraries that write each layout or by published counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from paramcount.files.packed import LAYOUTS, unpacked
from paramcount.files.state_dict import Stored
from paramcount.report import Report
from paramcount.sources import Target, resolve
from tests.conftest import Run

BYTES = {"U8": 1, "I8": 1, "F8_E4M3": 1, "I16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8}
Shapes = dict[str, tuple[str, tuple[int, ...]]]  # dtype as safetensors names it, and shape, by name


def counted(word: object) -> Report:
    source, name = resolve(str(word))
    return Report.of(source.read(Target(str(word)), name))


def save_shapes(file: Path, shapes: Shapes) -> Path:
    """Write a file of any size whose tensors are all holes, which take no room on a disk."""
    header, end = {}, 0
    for name, (dtype, shape) in shapes.items():
        start, end = end, end + BYTES[dtype] * torch.Size(shape).numel()
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
    return file


def save_config(folder: Path, **config: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config))


def notes(report: Report, code: str) -> list[str]:
    return [note.message for note in report.notes if note.code == code]


def shapes_of(report: Report) -> dict[str, tuple[tuple[int, ...] | None, str]]:
    return {param.name: (param.shape, param.dtype) for param in report.params if param.packed}


# Published counts -----------------------------------------------------------------------------------------------------

# https://huggingface.co/meta-llama/Llama-2-7b-hf says 6.74 B params, and its model card 7B: to the last one,
LLAMA_2_7B = 6_738_415_616


def llama_2_7b(linear: Any) -> Shapes:
    """Return Llama 2 with 7 billion parameters, of whose decoder ``linear(name, out, in)`` gives every matrix."""
    shapes: Shapes = {
        "model.embed_tokens.weight": ("F16", (32000, 4096)),
        "model.norm.weight": ("F16", (4096,)),
        "lm_head.weight": ("F16", (32000, 4096)),
    }
    for layer in (f"model.layers.{number}" for number in range(32)):
        for key in "qkvo":
            shapes |= linear(f"{layer}.self_attn.{key}_proj", 4096, 4096)
        shapes |= linear(f"{layer}.mlp.gate_proj", 11008, 4096) | linear(f"{layer}.mlp.up_proj", 11008, 4096)
        shapes |= linear(f"{layer}.mlp.down_proj", 4096, 11008)
        shapes |= {f"{layer}.{key}_layernorm.weight": ("F16", (4096,)) for key in ("input", "post_attention")}
    return shapes


def gptq(bits: int, group: int, *, g_idx: bool = True) -> Any:
    def linear(name: str, out: int, into: int) -> Shapes:
        shapes: Shapes = {
            f"{name}.qweight": ("I32", (into * bits // 32, out)),
            f"{name}.qzeros": ("I32", (into // group, out * bits // 32)),
            f"{name}.scales": ("F16", (into // group, out)),
        }
        return shapes | ({f"{name}.g_idx": ("I32", (into,))} if g_idx else {})

    return linear


def awq(name: str, out: int, into: int) -> Shapes:
    return {
        f"{name}.qweight": ("I32", (into, out // 8)),
        f"{name}.qzeros": ("I32", (into // 128, out // 8)),
        f"{name}.scales": ("F16", (into // 128, out)),
    }


def bnb_8bit(name: str, out: int, into: int) -> Shapes:
    return {
        f"{name}.weight": ("I8", (out, into)),
        f"{name}.SCB": ("F32", (out,)),
        f"{name}.weight_format": ("U8", ()),
    }


def fp8(name: str, out: int, into: int) -> Shapes:
    return {
        f"{name}.weight": ("F8_E4M3", (out, into)),
        f"{name}.weight_scale_inv": ("F32", (out // 128, into // 128)),
    }


def nvfp4(name: str, out: int, into: int) -> Shapes:
    return {
        f"{name}.weight": ("U8", (out, into // 2)),
        f"{name}.weight_scale": ("F8_E4M3", (out, into // 16)),
        f"{name}.weight_scale_2": ("F32", ()),
        f"{name}.input_scale": ("F32", ()),
    }


@pytest.mark.parametrize(
    ("linear", "dtype", "layout"),
    [
        *((gptq(bits, 128), f"int{bits}", "GPTQ") for bits in (2, 3, 4, 8)),
        (gptq(4, 32, g_idx=False), "int4", "GPTQ"),
        (awq, "int4", "AWQ"),
        (bnb_8bit, "int8", "bitsandbytes 8-bit"),
        (fp8, "float8_e4m3fn", "scaled weights"),
        (nvfp4, "nvfp4", "scaled weights"),
    ],
)
def test_a_packed_model_counts_what_its_maker_publishes(linear: Any, dtype: str, layout: str, tmp_path: Path) -> None:
    report = counted(save_shapes(tmp_path / "model.safetensors", llama_2_7b(linear)))
    plain = 2 * 32000 * 4096 + 65 * 4096
    assert report.total == LLAMA_2_7B
    assert report.dtypes == {dtype: LLAMA_2_7B - plain, "float16": plain}
    assert report.packed == LLAMA_2_7B - plain
    assert report["model.layers.31.mlp.down_proj"].total == 4096 * 11008
    assert report["model.layers.31.mlp.down_proj"].params[0].shape == (4096, 11008)
    assert report.overhead.total > 0
    (note,) = notes(report, "packed")
    assert note.startswith(f"224 tensors of {layout} ({dtype}) count as the weights they stand for, 6,476,005,376 by ")
    assert notes(report, "stored-elements") == []


def test_bytes_are_as_stored_and_scales_are_overhead(tmp_path: Path) -> None:
    report = counted(save_shapes(tmp_path / "model.safetensors", gptq(4, 128)("linear", 11008, 4096)))
    assert (report.total, report.packed, report.nbytes) == (11008 * 4096, 11008 * 4096, 11008 * 4096 // 2)
    assert report.overhead.total == 32 * 1376 + 32 * 11008 + 4096
    assert report.overhead.nbytes == 4 * 32 * 1376 + 2 * 32 * 11008 + 4 * 4096
    assert report.buffers.total == 0
    assert [layer.name for layer in report.layers] == ["linear"]


def test_gpt_oss_counts_what_its_maker_publishes(tmp_path: Path) -> None:
    shapes: Shapes = {
        "model.embed_tokens.weight": ("BF16", (201088, 2880)),
        "lm_head.weight": ("BF16", (201088, 2880)),
        "model.norm.weight": ("BF16", (2880,)),
    }
    for layer in (f"model.layers.{number}" for number in range(24)):
        for key, out in (("q", 4096), ("k", 512), ("v", 512)):
            shapes[f"{layer}.self_attn.{key}_proj.weight"] = "BF16", (out, 2880)
            shapes[f"{layer}.self_attn.{key}_proj.bias"] = "BF16", (out,)
        shapes |= {
            f"{layer}.self_attn.o_proj.weight": ("BF16", (2880, 4096)),
            f"{layer}.self_attn.o_proj.bias": ("BF16", (2880,)),
            f"{layer}.self_attn.sinks": ("BF16", (64,)),
            f"{layer}.input_layernorm.weight": ("BF16", (2880,)),
            f"{layer}.post_attention_layernorm.weight": ("BF16", (2880,)),
            f"{layer}.mlp.router.weight": ("BF16", (32, 2880)),
            f"{layer}.mlp.router.bias": ("BF16", (32,)),
            f"{layer}.mlp.experts.gate_up_proj_blocks": ("U8", (32, 5760, 90, 16)),
            f"{layer}.mlp.experts.gate_up_proj_scales": ("U8", (32, 5760, 90)),
            f"{layer}.mlp.experts.gate_up_proj_bias": ("BF16", (32, 5760)),
            f"{layer}.mlp.experts.down_proj_blocks": ("U8", (32, 2880, 90, 16)),
            f"{layer}.mlp.experts.down_proj_scales": ("U8", (32, 2880, 90)),
            f"{layer}.mlp.experts.down_proj_bias": ("BF16", (32, 2880)),
        }
    report = counted(save_shapes(tmp_path / "model.safetensors", shapes))
    # The model card says 20.9 B; transformers, of GptOssConfig(num_hidden_layers=24, num_local_experts=32):
    assert report.total == 20_914_757_184
    assert report.dtypes["mxfp4"] == 24 * 32 * (5760 + 2880) * 2880
    assert shapes_of(report)["model.layers.0.mlp.experts.gate_up_proj_blocks"] == ((32, 5760, 2880), "mxfp4")


def mlx(bits: int, group: int) -> Any:
    def linear(name: str, out: int, into: int) -> Shapes:
        return {
            f"{name}.weight": ("U32", (out, into * bits // 32)),
            f"{name}.scales": ("F16", (out, into // group)),
            f"{name}.biases": ("F16", (out, into // group)),
        }

    return linear


def test_mlx_counts_by_the_bits_in_the_config(tmp_path: Path) -> None:
    file = save_shapes(tmp_path / "model.safetensors", llama_2_7b(mlx(4, 64)))
    save_config(tmp_path, quantization={"group_size": 64, "bits": 4})
    for word in (file, tmp_path):
        report = counted(word)
        assert report.total == LLAMA_2_7B
        assert report.dtypes["int4"] == 6_476_005_376


def test_mlx_layers_of_their_own_width_and_a_bias_that_is_a_parameter(tmp_path: Path) -> None:
    shapes = mlx(4, 64)("a", 32, 128) | mlx(8, 32)("b.c", 32, 128) | {"a.bias": ("F16", (32,))}
    save_shapes(tmp_path / "model.safetensors", shapes)
    own = {"b.c": {"group_size": 32, "bits": 8}, "d": False}
    save_config(tmp_path, quantization={"group_size": 64, "bits": 4, **own})
    report = counted(tmp_path)
    assert shapes_of(report) == {"a.weight": ((32, 128), "int4"), "b.c.weight": ((32, 128), "int8")}
    assert report.total == 2 * 32 * 128 + 32
    save_config(tmp_path, quantization={"group_size": 64, "bits": 4})  # which 32 * 8 bits fit, too
    assert counted(tmp_path).total == 32 * 128 + 32 * 256 + 32


@pytest.mark.parametrize(("group", "dtype", "bits"), [(16, "nvfp4", 4), (32, "mxfp4", 4), (32, "mxfp8", 8)])
def test_mlx_floats_need_no_config(group: int, dtype: str, bits: int, tmp_path: Path) -> None:
    shapes: Shapes = {"e.weight": ("U32", (3, 5, 128 * bits // 32)), "e.scales": ("U8", (3, 5, 128 // group))}
    report = counted(save_shapes(tmp_path / "model.safetensors", shapes))
    assert shapes_of(report) == {"e.weight": ((3, 5, 128), dtype)}


# What libraries write -------------------------------------------------------------------------------------------------


def quantised_by_bitsandbytes() -> tuple[nn.Sequential, int]:
    bitsandbytes: Any = import_module("bitsandbytes")
    shapes = [(48, 64), (33, 48), (7, 33)]  # the last has an odd number of weights
    first, second, third = (
        bitsandbytes.nn.Linear4bit(into, out, quant_type=kind, compress_statistics=nested)
        for (out, into), kind, nested in zip(shapes, ("nf4", "fp4", "nf4"), (True, False, True), strict=True)
    )
    return nn.Sequential(first, second, third, nn.Linear(7, 5)).to(
        "cpu"
    ), 48 * 64 + 48 + 33 * 48 + 33 + 7 * 33 + 7 + 7 * 5 + 5


def test_what_bitsandbytes_saves_in_four_bits_counts_as_what_it_was(tmp_path: Path) -> None:
    model, elements = quantised_by_bitsandbytes()
    state = model.state_dict()
    save_file(state, tmp_path / "model.safetensors")
    report = counted(tmp_path / "model.safetensors")
    assert report.total == elements
    assert shapes_of(report) == {
        "0.weight": ((48, 64), "nf4"),
        "1.weight": ((33, 48), "fp4"),
        "2.weight": ((7, 33), "nf4"),
    }
    assert report.nbytes + report.overhead.nbytes == sum(tensor.nbytes for tensor in state.values())
    assert [layer.name for layer in report.layers] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_what_bitsandbytes_saves_by_torch_counts_as_what_it_was(legacy: bool, tmp_path: Path) -> None:
    model, elements = quantised_by_bitsandbytes()
    if legacy:  # of which no values are read: two weights a byte, of which an odd number leaves a half
        elements += 1
    torch.save(model.state_dict(), tmp_path / "model.pt", _use_new_zipfile_serialization=not legacy)
    report = counted(tmp_path / "model.pt")
    assert report.total == elements
    told = "their bytes, two weights each" if legacy else "their quant_state"
    assert [note.partition(" by ")[2] for note in notes(report, "packed")] == [told]


def test_what_bitsandbytes_saves_in_eight_bits_counts_as_what_it_was(tmp_path: Path) -> None:
    bitsandbytes: Any = import_module("bitsandbytes")
    layer = bitsandbytes.nn.Linear8bitLt(64, 48, has_fp16_weights=False).to("cpu")
    torch.save(layer.state_dict(), tmp_path / "model.pt")
    report = counted(tmp_path / "model.pt")
    assert (report.total, report.packed, report.overhead.total) == (48 * 64 + 48, 48 * 64, 48 + 1)


def scheme(**weights: Any) -> Any:
    quantization: Any = import_module("compressed_tensors.quantization")
    return quantization.QuantizationScheme(targets=["Linear"], weights=quantization.QuantizationArgs(**weights))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(48, 64), (5, 37)])
def test_what_compressed_tensors_packs_counts_as_what_it_was(bits: int, shape: tuple[int, int], tmp_path: Path) -> None:
    compressors: Any = import_module("compressed_tensors.compressors")
    plain = {"weight": torch.randn(shape), "weight_scale": torch.ones(shape[0], 1), "bias": torch.zeros(shape[0])}
    args = scheme(num_bits=bits, type="int", symmetric=True, strategy="channel")
    state: Mapping[str, Tensor] = compressors.PackedQuantizationCompressor.compress(plain, args)
    save_file({f"l.{name}": tensor for name, tensor in state.items()}, tmp_path / "model.safetensors")
    report = counted(tmp_path / "model.safetensors")
    assert report.total == plain["weight"].numel() + shape[0]
    assert shapes_of(report)["l.weight_packed"] == (shape, f"int{bits}")
    assert report.overhead.total == shape[0] + 2


@pytest.mark.parametrize(("kind", "bits", "group"), [("nvfp4", 4, 16), ("mxfp4", 4, 32), ("mxfp6", 6, 32)])
def test_floats_that_compressed_tensors_packs_count_as_what_they_were(
    kind: str, bits: int, group: int, tmp_path: Path
) -> None:
    compressors: Any = import_module("compressed_tensors.compressors")
    packer = getattr(compressors, f"{kind.upper()}PackedCompressor")
    plain = {"weight": torch.randn(48, 128), "weight_scale": torch.ones(48, 128 // group)}
    args = scheme(num_bits=bits, type="float", symmetric=True, strategy="group", group_size=group)
    state = packer.compress(plain, args)
    save_file({f"l.{name}": tensor for name, tensor in state.items()}, tmp_path / "model.safetensors")
    assert shapes_of(counted(tmp_path / "model.safetensors")) == {"l.weight_packed": ((48, 128), kind)}


def test_mxfp4_counts_what_the_reference_unpacks() -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    blocks = torch.zeros(2, 6, 3, 16, dtype=torch.uint8)
    whole = convert_moe_packed_tensors(blocks, torch.zeros(2, 6, 3, dtype=torch.uint8))
    found = unpacked([stored("e_blocks", "uint8", *blocks.shape), stored("e_scales", "uint8", 2, 6, 3)])
    assert found.tensors[0].numel == whole.numel() == 2 * 6 * 96
    assert found.overhead == {"e_scales"}


# Shapes, one by one ---------------------------------------------------------------------------------------------------


def stored(name: str, dtype: str, *shape: int, value: list[int] | None = None) -> Stored:
    numel = torch.Size(shape).numel()
    data = None if value is None else torch.tensor(value, dtype=getattr(torch, dtype)).numpy().tobytes()
    return Stored(name, shape, dtype, numel, numel * getattr(torch, dtype).itemsize, value=data)


def told(*tensors: Stored, config: Mapping[str, Any] | None = None) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return what packed tensors stand for, and demand that all others are overhead."""
    found = unpacked(tensors, lambda: config)
    packed = {each.name: (each.shape, each.dtype) for each in found.tensors if each.packed}
    assert {tensor.name for tensor in tensors} == packed.keys() | found.overhead
    assert {note.code for note in found.notes} == {"packed"}
    return packed


def test_every_form_of_awq() -> None:
    half, word = "float16", "int32"
    gemm = told(stored("l.qweight", word, 256, 16), stored("l.scales", half, 2, 128), stored("l.qzeros", word, 2, 16))
    assert gemm == {"l.qweight": ((128, 256), "int4")}
    gemv = told(stored("l.qweight", word, 96, 32), stored("l.scales", half, 96, 8), stored("l.qzeros", word, 96, 1))
    assert gemv == {"l.qweight": ((96, 256), "int4")}
    fast = told(
        stored("l.qweight", "int16", 24, 256), *(stored(f"l.{key}", half, 8, 96) for key in ("scales", "qzeros"))
    )
    assert fast == {"l.qweight": ((96, 256), "int4")}
    marlin = told(stored("l.qweight", word, 16, 512), stored("l.scales", half, 2, 256))
    assert marlin == {"l.qweight": ((256, 256), "int4")}
    assert told(stored("l.B", word, 16, 512), stored("l.s", half, 2, 256)) == {"l.B": ((256, 256), "int4")}


def test_gptq_whose_sizes_are_no_multiples_of_a_word() -> None:
    # GPTQModel rounds up: 100 inputs of 3 bits take 10 words, 20 zero points two.
    found = told(
        stored("l.qweight", "int32", 10, 20),
        stored("l.scales", "float16", 4, 20),
        stored("l.qzeros", "int32", 4, 2),
        stored("l.g_idx", "int32", 100),
    )
    assert found == {"l.qweight": ((20, 100), "int3")}


def test_gptq_without_zero_points_goes_by_g_idx_or_by_the_config() -> None:
    weight, scales = stored("l.qweight", "int32", 16, 64), stored("l.scales", "float16", 1, 64)
    order = stored("l.g_idx", "int32", 128)
    assert told(weight, scales, order) == {"l.qweight": ((64, 128), "int4")}
    config = {"quantization_config": {"quant_method": "gptq", "bits": 8}}
    assert told(weight, scales, config=config) == {"l.qweight": ((64, 64), "int8")}


def test_scaled_weights_of_each_name() -> None:
    weight = stored("l.weight", "float8_e4m3fn", 8, 16)
    one = stored("l.weight_scale", "bfloat16", 1), stored("l.input_scale", "float32", 1)
    assert told(weight, *one) == {"l.weight": ((8, 16), "float8_e4m3fn")}
    assert told(weight, stored("l.scale", "float8_e8m0fnu", 1, 1)) == {"l.weight": ((8, 16), "float8_e4m3fn")}
    assert told(weight, stored("l.scale_weight", "float32", 1)) == {"l.weight": ((8, 16), "float8_e4m3fn")}
    experts = stored("e.up_proj", "float8_e4m3fn", 3, 8, 16), stored("e.up_proj_scale_inv", "float32", 3, 1, 1)
    assert told(*experts) == {"e.up_proj": ((3, 8, 16), "float8_e4m3fn")}
    halves = stored("l.weight", "int8", 8, 64), stored("l.scale", "float8_e8m0fnu", 8, 4)
    assert told(*halves) == {"l.weight": ((8, 128), "mxfp4")}
    cache = stored("attn.k_scale", "float32", 1), stored("attn.v_scale", "float32")
    assert told(weight, *one, *cache) == {"l.weight": ((8, 16), "float8_e4m3fn")}


def test_a_sparse_bitmask_counts_the_zeros_too() -> None:
    found = told(
        stored("l.weight.compressed", "bfloat16", 8, 8),
        stored("l.weight.bitmask", "uint8", 8, 2),
        stored("l.weight.shape", "int64", 2, value=[8, 16]),
    )
    assert found == {"l.weight.compressed": ((8, 16), "bfloat16")}


@pytest.mark.parametrize(("bits", "held"), [(8, ("uint8", 64, 10)), (4, ("uint8", 32, 10)), (3, ("int32", 7, 10))])
def test_hqq_counts_by_its_shape(bits: int, held: tuple[str, int, int]) -> None:
    found = told(
        stored("l.W_q", *held),
        stored("l.shape", "int64", 2, value=[32, 20]),
        stored("l.nbits", "int32", value=[bits]),
        stored("l.scale", "float16", 1, 10),
        stored("l.zero", "float16", 1, 10),
    )
    assert found == {"l.W_q": ((32, 20), f"int{bits}")}


def test_a_packed_weight_with_the_name_of_anothers_scale_is_still_a_weight() -> None:
    found = unpacked(
        [
            stored("l.weight", "int8", 8, 16),
            stored("l.weight_scale", "int8", 8, 1),
            stored("l.weight_scale_scale", "float32", 1),
        ]
    )
    assert {each.name: each.packed for each in found.tensors if each.name not in found.overhead} == {
        "l.weight": True,
        "l.weight_scale": True,
    }


def test_quanto_in_eight_bits() -> None:
    found = told(stored("l.weight._data", "int8", 8, 4), stored("l.weight._scale", "float32", 8, 1))
    assert found == {"l.weight._data": ((8, 4), "int8")}


def _transformers(module: str, kind: str, *args: Any, **kwargs: Any) -> nn.Module:
    """Return one of the layers that transformers loads quantised weights into, of 128 to 64 features if not said."""
    made: nn.Module = getattr(import_module(f"transformers.integrations.{module}"), kind)(*args or (128, 64), **kwargs)
    return made


CONFIG = {"quantization_config": {"quant_method": "bitnet", "bits": 4, "group_size": 64}}


@pytest.mark.parametrize(
    ("module", "kind", "options", "dtype"),
    [
        ("eetq", "EetqLinear", {}, "int8"),
        ("bitnet", "BitLinear", {"bias": False}, "int2"),
        ("metal_quantization", "MetalLinear", {"bits": 4, "group_size": 64}, "int4"),
        ("gemma_quant", "QuantizedLinear", {"num_bits": 8}, "int8"),
        ("fbgemm_fp8", "FbgemmFp8Linear", {"bias": False}, "float8_e4m3fn"),
        ("finegrained_fp8", "FP8Linear", {"block_size": (32, 32)}, "float8_e4m3fn"),
        *(
            (
                "higgs",
                "HiggsLinear",
                {"num_bits": bits, "bias": False, "group_size": 64},
                f"int{bits}",
            )
            for bits in (2, 3, 4)
        ),
    ],
)
def test_the_layers_of_transformers_count_as_the_weights_they_stand_for(
    module: str, kind: str, options: dict[str, Any], dtype: str, tmp_path: Path
) -> None:
    layer = _transformers(module, kind, **options)
    save_file({f"l.{key}": tensor for key, tensor in layer.state_dict().items()}, tmp_path / "model.safetensors")
    save_config(tmp_path, **CONFIG)
    report = counted(tmp_path / "model.safetensors")
    assert shapes_of(report) == {"l.weight": ((64, 128), dtype)}
    assert (report.total, notes(report, "stored-elements")) == (64 * 128, [])


@pytest.mark.parametrize(
    ("kind", "args", "is_told"),
    [
        ("QuantizedLinear", (128, 64, False, 4), False),
        ("QuantizedLinear", (128, 64, False, 2), False),
        ("QuantizedEmbedding", (100, 64, torch.float32, 1.0, 4), False),
        ("QuantizedEmbedding", (100, 64, torch.float32, 1.0, 8), True),
    ],
)
def test_bytes_of_several_weights_that_nothing_tells_count_as_stored(
    kind: str, args: tuple[Any, ...], is_told: bool, tmp_path: Path
) -> None:
    state = _transformers("gemma_quant", kind, *args).state_dict()
    save_file({f"l.{key}": tensor for key, tensor in state.items()}, tmp_path / "model.safetensors")
    report = counted(tmp_path / "model.safetensors")
    assert bool(notes(report, "stored-elements")) != is_told
    assert report.packed == (6400 if is_told else 0)


def test_bitnet_without_a_config_counts_as_stored(tmp_path: Path) -> None:
    state = _transformers("bitnet", "BitLinear", bias=False).state_dict()
    save_file({f"l.{key}": tensor for key, tensor in state.items()}, tmp_path / "model.safetensors")
    report = counted(tmp_path / "model.safetensors")
    assert len(notes(report, "stored-elements")) == 1
    assert report.packed == 0


_INT2, _INT4 = (getattr(torch, name) for name in ("int2", "int4"))  # which PyTorch's own types do not list


def _torchao(kind: str) -> Tensor:
    """Return 64 by 128 weights, quantised by torchao."""
    weight = torch.randn(64, 128, dtype=torch.bfloat16)
    if kind.startswith("mx"):
        dtype = {"mxfp8": torch.float8_e4m3fn, "mxfp4": torch.float4_e2m1fn_x2}[kind]
        mx: Any = import_module("torchao.prototype.mx_formats.mx_tensor").MXTensor
        return cast("Tensor", mx.to_mx(weight, dtype, 32))
    if kind.startswith("nvfp4"):
        nv: Any = import_module("torchao.prototype.mx_formats.nvfp4_tensor").NVFP4Tensor
        return cast("Tensor", nv.to_nvfp4(weight, is_swizzled_scales=kind == "nvfp4 swizzled"))
    torchao: Any = import_module("torchao.quantization")
    config = {
        "int8": lambda: torchao.Int8WeightOnlyConfig(version=2),
        "intx 4": lambda: torchao.IntxWeightOnlyConfig(weight_dtype=_INT4),
        "intx 2 in groups": lambda: torchao.IntxWeightOnlyConfig(weight_dtype=_INT2, granularity=torchao.PerGroup(32)),
        "float8": torchao.Float8WeightOnlyConfig,
    }[kind]()
    model = nn.Sequential(nn.Linear(128, 64, bias=False, dtype=torch.bfloat16))
    torchao.quantize_(model, config)
    return model[0].weight.data  # type: ignore[return-value]  # of a Sequential anything may be got


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "kind", ["int8", "intx 4", "intx 2 in groups", "float8", "mxfp8", "mxfp4", "nvfp4", "nvfp4 swizzled"]
)
def test_what_torchao_saves_as_safetensors_counts_as_what_it_was(kind: str, tmp_path: Path) -> None:
    """As transformers saves it, by ``flatten_tensor_state_dict``."""
    flat: Any = import_module("torchao.prototype.safetensors.safetensors_support").flatten_tensor_state_dict
    tensors, metadata = flat({"l.weight": _torchao(kind)})
    save_file(tensors, tmp_path / "model.safetensors", metadata)
    report = counted(tmp_path / "model.safetensors")
    assert (report.total, notes(report, "stored-elements")) == (64 * 128, [])
    assert [(param.name, param.shape) for param in report.params] == [("l._weight_qdata", (64, 128))]
    assert report.overhead.total == sum(tensor.numel() for key, tensor in tensors.items() if not key.endswith("_qdata"))


def test_torchao_in_four_bits() -> None:
    """Int4Tensor and Int4PlainInt32Tensor, which need a GPU to be made: by the shapes in their docstrings."""
    scales = stored("l._weight_scale", "bfloat16", 4, 64), stored("l._weight_zero_point", "bfloat16", 4, 64)
    assert told(stored("l._weight_qdata", "int8", 64, 64), *scales) == {"l._weight_qdata": ((64, 128), "int4")}
    assert told(stored("l._weight_qdata", "int32", 64, 16), *scales) == {"l._weight_qdata": ((64, 128), "int4")}


def test_aqlm_counts_by_its_codes_and_code_books() -> None:
    """Of 4096 to 11008 features: one book of 2**16 and two of 2**8, of 8 weights each, 2 bits a weight."""
    one = stored("l.codes", "int16", 11008, 512, 1), stored("l.codebooks", "float16", 1, 65536, 1, 8)
    two = stored("l.codes", "int8", 11008, 512, 2), stored("l.codebooks", "float16", 2, 256, 1, 8)
    for tensors in (one, two):
        found = told(*tensors, stored("l.scales", "float16", 11008, 1, 1, 1))
        assert found == {"l.codes": ((11008, 4096), "aqlm")}


@pytest.mark.parametrize(("bits", "columns"), [(4, 2 * 96), (8, 4 * 96)])
def test_sparse_marlin_counts_the_zeros_too(bits: int, columns: int) -> None:
    """Of 256 to 96 features: half of the weights are kept, in tiles of 16, and two bits for each that is."""
    found = told(
        stored("l.weight_packed", "int32", 256 // 32, columns),
        stored("l.scale_packed", "float16", 2, 96),
        stored("l.meta", "int16", 256 // 32, 96 * 2),
    )
    assert found == {"l.weight_packed": ((96, 256), f"int{bits}")}


@pytest.mark.parametrize(("scales", "dtype"), [(("uint8", 64, 4), "mxfp4"), (("float8_e4m3fn", 64, 8), "nvfp4")])
def test_fp_quant_counts_by_its_scales(scales: tuple[str, int, int], dtype: str) -> None:
    found = told(
        stored("l.qweight", "uint8", 64, 64),
        stored("l.scales", *scales),
        stored("l.weight_global_scale", "float32", 1),
        stored("l.act_global_scale", "float32", 1),
        stored("l.forward_hadamard_matrix", "bfloat16", 32, 32),
        stored("l.backward_hadamard_matrix", "bfloat16", 32, 32),
    )
    assert found == {"l.qweight": ((64, 128), dtype)}


def test_nvfp4_with_scales_in_two_orders() -> None:
    found = told(
        stored("l.weight", "uint8", 64, 64),
        stored("l.weight_sf", "int32", 32, 8),
        stored("l.weight_sf_rowmajor", "uint8", 64, 8),
        stored("l.weight_global_scale", "float32", 1),
    )
    assert found == {"l.weight": ((64, 128), "nvfp4")}


# What is left as it is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tensors",
    [
        [stored("block.scales", "float32", 7), stored("block.weight", "float32", 7, 7)],
        [
            stored("block.scale", "float32", 7),
            stored("block.weight", "float16", 7, 7),
            stored("logit_scale", "float32"),
        ],
        [stored("norm.weight_scale", "float32", 7), stored("norm.weight", "float32", 7)],
        [stored("text_blocks", "float32", 4, 16), stored("text_scales", "float32", 4)],
        [stored("net.B", "float32", 4, 16), stored("net.s", "float32", 4, 8)],
        [stored("net.shape", "int64", 2, value=[3, 4]), stored("net.k_scale", "float32", 1)],
        [stored("plain.weight", "float8_e4m3fn", 8, 8)],
    ],
)
def test_an_unrelated_model_keeps_its_parameters(tensors: list[Stored]) -> None:
    found = unpacked(tensors)
    assert found.tensors == tensors
    assert (found.overhead, found.notes) == (frozenset(), ())


QWEIGHT = stored("l.qweight", "int32", 16, 64)
PUT = "put the model's config.json beside the file"
FOLDER = "where that is in another shard, name the folder"
UNCLEAR: dict[str, tuple[list[Stored], str]] = {
    "scales in another shard": ([QWEIGHT], "is packed as by GPTQ and lacks its scales"),
    "scales of another size": (
        [QWEIGHT, stored("l.scales", "float16", 1, 63), stored("l.qzeros", "int32", 1, 8)],
        "is packed as by AWQ and the shapes of its tensors do not go together",
    ),
    "zero points of another size": (
        [QWEIGHT, stored("l.scales", "float16", 1, 64), stored("l.qzeros", "int32", 1, 9)],
        "is packed as by GPTQ and the shapes of its tensors do not go together",
    ),
    "order of another size": (
        [QWEIGHT, stored("l.scales", "float16", 1, 64), stored("l.g_idx", "int32", 1000)],
        "is packed as by GPTQ and the shapes of its tensors do not go together",
    ),
    "width unknown": (
        [QWEIGHT, stored("l.scales", "float16", 1, 64)],
        "is packed as by GPTQ and its shapes allow 2 or 4 or 8 bits",
    ),
    "MLX without a config": (
        [stored("l.weight", "uint32", 8, 8), stored("l.scales", "float16", 8, 1), stored("l.biases", "float16", 8, 1)],
        "is packed as by MLX and nothing says of how many bits",
    ),
    "MLX that its rows contradict": (
        [stored("l.weight", "uint32", 8, 8), stored("l.scales", "float16", 8, 3)],
        "is packed as by MLX and the shapes of its tensors do not go together",
    ),
    "MXFP4 of another size": (
        [stored("e_blocks", "uint8", 2, 3, 16), stored("e_scales", "uint8", 2, 4)],
        "is packed as by MXFP4 and the shapes of its tensors do not go together",
    ),
    "4 bits without a state": (
        [stored("l.weight", "uint8", 8, 1), stored("l.weight.absmax", "float32", 1)],
        "is packed as by bitsandbytes 4-bit and lacks its quant_state",
    ),
    "4 bits of another size": (
        [
            stored("l.weight", "uint8", 8, 1),
            stored("l.weight.quant_state.bitsandbytes__nf4", "uint8", 15, value=list(b'{"shape":[3,9]}')),
        ],
        "is packed as by bitsandbytes 4-bit and the shape in its quant_state does not go with its size",
    ),
    "a state that is no JSON": (
        [
            stored("l.weight", "uint8", 8, 1),
            stored("l.weight.quant_state.bitsandbytes__nf4", "uint8", 2, value=list(b"{x")),
        ],
        "is packed as by bitsandbytes 4-bit and its quant_state is no JSON",
    ),
    "8 bits of another size": (
        [stored("l.weight", "int8", 8, 4), stored("l.SCB", "float32", 4)],
        "is packed as by bitsandbytes 8-bit and the shapes of its tensors do not go together",
    ),
    "a shape that was not read": (
        [stored("l.weight_packed", "int32", 8, 4), stored("l.weight_shape", "int64", 2)],
        "is packed as by compressed-tensors and its weight_shape cannot be read",
    ),
    "a shape that is too large": (
        [stored("l.weight_packed", "int32", 8, 4), stored("l.weight_shape", "int64", 2, value=[8, 2**62])],
        "is packed as by compressed-tensors and the shapes of its tensors do not go together",
    ),
    "blocks of a size that no format has": (
        [stored("l.weight", "uint8", 8, 10), stored("l.weight_scale", "float8_e4m3fn", 8, 2)],
        "is packed as by scaled weights and the scales do not tell how many weights share a byte",
    ),
    "more scales than weights": (
        [stored("l.weight", "int8", 8, 10), stored("l.weight_scale", "float32", 8, 11)],
        "is packed as by scaled weights and the shapes of its tensors do not go together",
    ),
    "a layout that nobody knows": ([stored("l.codes", "int16", 8, 10)], "holds integers of a layout that is not known"),
    "Quark": (
        [stored("l.weight", "int32", 8, 16), stored("l.weight_scale", "float16", 8, 1)],
        "holds integers of a layout that is not known",
    ),
    "SpQR": ([stored("l.dense_weights", "int64", 640)], "holds integers of a layout that is not known"),
    "VPTQ": (
        [stored("l.indices", "int32", 1, 64, 30), stored("l.centroids.weight", "float16", 1, 4096)],
        "is packed as by VPTQ of a length that its shapes do not tell",
    ),
    "torchao's tiles": (
        [stored("l._weight_qdata", "int32", 8, 8, 32, 4), stored("l._weight_scale_and_zero", "bfloat16", 32, 64, 2)],
        "is packed as by torchao in tiles whose padding nothing tells",
    ),
    "torchao's integers with as many groups as rows": (
        [stored("l._weight_qdata", "int8", 64, 64), stored("l._weight_scale", "bfloat16", 64, 64)],
        "is packed as by torchao and its scale does not tell how many weights share a byte",
    ),
    "AQLM of another size": (
        [stored("l.codes", "int16", 8, 8, 2), stored("l.codebooks", "float16", 1, 16, 1, 8)],
        "is packed as by AQLM and the shapes of its tensors do not go together",
    ),
    "HIGGS of another size": (
        [stored("l.weight", "int16", 16, 8), stored("l.scales", "float16", 64, 2), stored("l.tables", "float16", 4)],
        "is packed as by HIGGS and the shapes of its tensors do not go together",
    ),
    "EETQ of another size": (
        [stored("l.weight", "int8", 16, 8), stored("l.weight_scales", "float16", 7)],
        "is packed as by EETQ and the shapes of its tensors do not go together",
    ),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_what_cannot_be_told_counts_as_stored_and_says_so(case: str) -> None:
    tensors, problem = UNCLEAR[case]
    found = unpacked(tensors)
    assert found.tensors == tensors
    assert found.overhead == frozenset()
    (note,) = found.notes
    assert (note.code, note.where) == ("stored-elements", tensors[0].name)
    cures = {"bits": PUT, "lacks": FOLDER, "read": "save it as safetensors"}
    cure = next((f"; {cure}" for word, cure in cures.items() if word in problem.split()), "")
    stored_elements = "what counts are the elements that are stored, not the weights they stand for"
    assert note.message == f"{problem}: {stored_elements}{cure}"


@pytest.mark.parametrize(
    ("quantization", "problem"),
    [
        ({"bits": 4, "group_size": 32}, "the config.json says 4 bits in groups of 32, which its shapes contradict"),
        (
            {"bits": [4], "group_size": {}},
            "nothing says of how many bits",
        ),
        ([4], "nothing says of how many bits"),
        (None, "nothing says of how many bits"),
    ],
)
def test_a_config_that_does_not_help_is_named(quantization: object, problem: str) -> None:
    tensors, _ = UNCLEAR["MLX without a config"]
    (note,) = unpacked(tensors, lambda: {"quantization": quantization}).notes
    assert note.message.startswith(f"is packed as by MLX and {problem}: what counts")
    assert note.message.endswith("would be the place") == problem.startswith("nothing")


ENDINGS = sorted({ending for layout in LAYOUTS for ending in (*layout.marks, layout.holder, *layout.beside, ".weight")})
SIZES = {name: getattr(torch, name).itemsize for name in ("int8", "uint8", "int32", "uint32", "int64", "float16")}


@st.composite
def any_tensors(draw: st.DrawFn) -> list[Stored]:
    names = draw(st.lists(st.sampled_from(ENDINGS), min_size=1, max_size=6, unique=True))
    found = {}
    for ending in names:
        name = (draw(st.sampled_from(("", "a", "a.weight"))) + ending).lstrip(".") or "a"
        dtype, shape = (
            draw(st.sampled_from(list(SIZES))),
            tuple(draw(st.lists(st.sampled_from((0, 1, 2, 16)), max_size=3))),
        )
        value = draw(
            st.none() | st.binary(max_size=16) | st.sampled_from((b'{"shape":[2,16]}', b"[", b'{"shape":[0]}'))
        )
        found[name] = Stored(name, shape, dtype, prod(shape), prod(shape) * SIZES[dtype], value=value)
    return list(found.values())


@given(any_tensors(), st.sampled_from((None, {}, {"quantization": {"bits": 4, "group_size": 32}}, {"quantization": 3})))
def test_no_tensors_and_no_config_stand_for_more_weights_than_their_bits(tensors: list[Stored], config: Any) -> None:
    found = unpacked(tensors, lambda: config)
    assert [each.name for each in found.tensors] == [tensor.name for tensor in tensors]
    for each, tensor in zip(found.tensors, tensors, strict=True):
        assert each.nbytes == tensor.nbytes
        assert each.numel == prod(each.shape)
        assert not each.packed or tensor.name.endswith("compressed") or each.numel <= tensor.nbytes * 8
        assert each.packed or each == tensor
        assert not (each.packed and each.name in found.overhead)


# Files and folders ----------------------------------------------------------------------------------------------------


def test_scales_in_another_shard_belong_to_their_weight(tmp_path: Path) -> None:
    shapes = gptq(4, 64)("l", 64, 128)
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    save_shapes(tmp_path / one, {"l.qweight": shapes.pop("l.qweight")})
    save_shapes(tmp_path / two, shapes)
    weight_map = {"l.qweight": one, **dict.fromkeys(shapes, two)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    for word in (tmp_path, index):
        assert (counted(word).total, counted(word).packed) == (64 * 128, 64 * 128)
    alone = counted(tmp_path / one)
    assert alone.total == 16 * 64
    assert "lacks its scales: what counts are the elements that are stored" in notes(alone, "stored-elements")[0]


def test_a_torch_file_is_read_the_same_way(tmp_path: Path) -> None:
    state = {
        "head.weight": torch.zeros(3, 64),
        "l.qweight": torch.zeros(16, 64, dtype=torch.int32),
        "l.qzeros": torch.zeros(2, 8, dtype=torch.int32),
        "l.scales": torch.zeros(2, 64, dtype=torch.float16),
    }
    torch.save(state, tmp_path / "model.pt")
    report = counted(tmp_path / "model.pt")
    assert report.dtypes == {"int4": 64 * 128, "float32": 3 * 64}
    assert report.overhead.total == 2 * 8 + 2 * 64


def test_packed_parameters_that_are_kept_as_buffers_are_no_buffers(tmp_path: Path) -> None:
    module = nn.Module()
    module.norm = nn.LayerNorm(4)
    for name, tensor in {"B": torch.zeros(16, 512, dtype=torch.int32), "s": torch.zeros(2, 256)}.items():
        module.register_buffer(name, tensor)
    wrapped = nn.Sequential(module)
    torch.save(wrapped.state_dict(keep_vars=True), tmp_path / "model.pt")
    report = counted(tmp_path / "model.pt")
    assert (report.total, report.packed, report.buffers.total) == (256 * 256 + 8, 256 * 256, 0)


def test_a_config_that_is_not_needed_is_not_read(tmp_path: Path) -> None:
    save_shapes(tmp_path / "model.safetensors", gptq(4, 64)("l", 64, 128))
    (tmp_path / "config.json").write_text("{broken")
    assert counted(tmp_path).total == 64 * 128


def test_a_config_that_is_needed_and_broken_is_named(tmp_path: Path, run: Run) -> None:
    save_shapes(tmp_path / "model.safetensors", mlx(4, 64)("l", 64, 128))
    (tmp_path / "config.json").write_text("{\n broken")
    outcome = run(tmp_path)
    assert outcome.code == 3
    assert f"{tmp_path}/config.json:2: it is not JSON" in outcome.err
    (tmp_path / "config.json").write_text("[]")
    assert "config.json is no model's configuration: it is no mapping" in run(tmp_path).err


def test_the_table_and_json_say_what_is_packed(tmp_path: Path, run: Run) -> None:
    file = save_shapes(tmp_path / "model.safetensors", gptq(4, 64)("l", 64, 128) | {"l.bias": ("F16", (64,))})
    table = run(file, "--params").out
    assert "l.qweight  int4 [64, 128]" in table
    assert "overhead, int32 [2, 8]" in table
    assert "272 in scales and the like" in table
    assert "packed: 1 tensor of GPTQ (int4) counts as the weights it stands for, 8,192 by the shapes of" in table
    (report,) = run(file, "-f", "json").json["reports"]
    assert (report["total"], report["packed"]) == (8256, 8192)
    assert report["overhead"] == {"total": 16 + 128 + 128, "bytes": 64 + 256 + 512}
    assert report["params"][1] | {"name": ""} == {
        "name": "",
        "shape": [64, 128],
        "dtype": "int4",
        "numel": 8192,
        "bytes": 4096,
        "trainable": None,
        "tied_to": None,
        "packed": True,
    }


def test_what_cannot_be_told_is_a_fault_that_a_script_sees(tmp_path: Path, run: Run) -> None:
    file = save_shapes(tmp_path / "model.safetensors", mlx(4, 64)("l", 64, 128))
    outcome = run(file, "--value", "total")
    assert outcome.out == f"{64 * 16 + 2 * 64 * 2}\n"
    assert "put the model's config.json beside the file" in outcome.err
