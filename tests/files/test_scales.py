"""What scales packed weights is no parameter, however libraries spell it."""

from __future__ import annotations

from math import prod

import pytest

from paramcount.files.buffer_names import told
from paramcount.files.packed import unpacked
from paramcount.files.stored import Stored

BITS = {"float4_e2m1fn_x2": 4, "float6_e2m3fn": 6, "uint8": 8, "int8": 8, "float8_e4m3fn": 8, "float8_e8m0fnu": 8}


def stored(name: str, dtype: str, *shape: int, value: bytes | None = None) -> Stored:
    size = BITS.get(dtype) or int(dtype.removeprefix("b").removeprefix("float").removeprefix("int"))
    return Stored(name, shape, dtype, prod(shape), prod(shape) * size // 8, value=value)


def counted(*tensors: Stored) -> tuple[int, list[str]]:
    """Return what counts as parameters, and the codes of the notes."""
    found = unpacked(tensors)
    buffers = told(found.tensors, found.overhead | found.unclear).buffers
    left = [each for each in found.tensors if each.name not in found.overhead and each.name not in buffers]
    return sum(each.numel for each in left), [note.code for note in found.notes]


NARROW = [("float4_e2m1fn_x2", (64, 64)), ("float6_e2m3fn", (64, 64)), ("float8_e4m3fn", (64, 64)), ("int8", (64, 64))]


@pytest.mark.parametrize("dtype", [dtype for dtype, _ in NARROW])
@pytest.mark.parametrize(
    ("weight", "scale"),
    [
        *(("l.weight", f"l.{key}") for key in ("weight_scale", "weight_scale_inv", "weight_scales", "scale", "scales")),
        *(("l.weight", f"l.{key}") for key in ("_weight_scale", "scale_weight", "weight._scale", "weight.scale")),
        *(("e.w1.weight", f"e.{key}") for key in ("w1.scale", "w1_scale", "w1.weight_scale")),
        *(("e.w13_weight", f"e.{key}") for key in ("w13_weight_scale", "w13_weight_scale_inv", "w13_scale")),
        *(
            (f"e.{key}", f"e.{key}{ending}")
            for key in ("down_proj", "gate_up_proj", "w2")
            for ending in ("_scale", "_scales", "_scale_inv", "_weight_scale", ".scale", ".weight_scale", "_scales_inv")
        ),
    ],
)
def test_a_scale_in_any_spelling_is_no_parameter(weight: str, scale: str, dtype: str) -> None:
    for shape in ((64, 2), (64, 1), (64,), (1,), (), (2, 64)):
        assert counted(stored(weight, dtype, 64, 64), stored(scale, "float32", *shape))[0] == 64 * 64


@pytest.mark.parametrize(
    "key",
    [
        *("weight_scale_2", "input_scale", "scale_input", "_input_scale", "output_scale", "input_activation_scale"),
        *("weight_zero_point", "zero_point", "zeros", "weight_zp", "zero", "pre_quant_scale", "weight_global_scale"),
        *("input_amax", "weight_amax", "k_scale", "v_scale", "kv_scale"),
    ],
)
def test_what_else_quantising_leaves_beside_a_weight_is_no_parameter(key: str) -> None:
    fp8 = stored("l.weight", "float8_e4m3fn", 64, 32), stored("l.weight_scale", "float32")
    other = stored(f"l.{key}", "float32", *(() if key != "pre_quant_scale" else (32,)))
    assert counted(*fp8, other, stored("l.bias", "float16", 64)) == (64 * 32 + 64, ["packed"])


def test_fused_experts_in_four_bits() -> None:
    """Of NVFP4: two weights a byte, a scale for 16, one for each expert, and one for what goes in."""
    for key in ("gate_up_proj", "down_proj", "w13_weight", "w2_weight"):
        stem = f"m.experts.{key}"
        scales = [
            stored(f"{stem}_{'' if 'weight' in key else 'weight_'}scale", "float8_e4m3fn", 4, 64, 2),
            stored(f"{stem}_{'' if 'weight' in key else 'weight_'}scale_2", "float32", 4),
            stored(f"{stem.removesuffix('_weight')}_input_scale", "float32", 4),
        ]
        bias = stored(f"{stem}_bias", "bfloat16", 4, 64)
        total = 4 * 64 * 32 + 4 * 64
        assert counted(stored(stem, "uint8", 4, 64, 16), *scales, bias) == (total, ["packed"])


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_what_comfyui_marks_is_no_parameter(prefix: str) -> None:
    fp8 = stored(f"{prefix}b.weight", "float8_e4m3fn", 64, 32), stored(f"{prefix}b.scale_weight", "float32")
    assert counted(*fp8, stored(f"{prefix}scaled_fp8", "float8_e4m3fn", 2))[0] == 64 * 32
    marked = stored(f"{prefix}b.comfy_quant", "uint8", 40, value=b'{"format": "float8_e4m3fn"}')
    assert counted(*fp8, marked)[0] == 64 * 32
    # Two weights a byte, and scales that are padded to tiles of 128 rows and 4 columns.
    nvfp4 = stored(f"{prefix}b.weight", "uint8", 64, 16), stored(f"{prefix}b.weight_scale", "float8_e4m3fn", 128, 4)
    marked = marked._replace(value=b'{"format": "nvfp4"}')
    assert counted(*nvfp4, stored(f"{prefix}b.weight_scale_2", "float32"), marked)[0] == 64 * 32
    plain = stored(f"{prefix}attn.q.weight", "float16", 8, 8)
    assert counted(plain, stored(f"{prefix}attn.comfy_attention.config", "uint8", 33))[0] == 64


@pytest.mark.parametrize("keys", [("smooth_factor", "proj_down", "proj_up"), ("smooth", "lora_down", "lora_up")])
def test_svdquant_counts_its_weights_and_says_that_its_branches_count(keys: tuple[str, str, str]) -> None:
    """Of 128 to 256 features: 4 bits a weight, a scale for 64, and a branch of rank 16."""
    layer = [
        *(stored("l.qweight", "int8", 256, 64), stored("l.wscales", "bfloat16", 2, 256)),
        *(stored(f"l.{keys[0]}", "bfloat16", 128), stored(f"l.{keys[0]}_orig", "bfloat16", 128)),
        *(stored(f"l.{keys[1]}", "bfloat16", 128, 16), stored(f"l.{keys[2]}", "bfloat16", 256, 16)),
        stored("l.bias", "bfloat16", 256),
    ]
    assert counted(*layer) == (256 * 128 + 16 * (128 + 256) + 256, ["packed", "low-rank"])
    awq = [stored("n.qweight", "int32", 64, 64), stored("n.wscales", "bfloat16", 2, 256)]
    assert counted(*awq, stored("n.wzeros", "bfloat16", 2, 256))[0] == 256 * 128


def test_a_tensor_beside_a_packed_weight_that_no_rule_claims_is_told() -> None:
    fp8 = stored("l.weight", "float8_e4m3fn", 64, 32), stored("l.weight_scale", "float32")
    assert counted(*fp8, stored("l.mystery", "float32", 64)) == (64 * 32 + 64, ["packed", "beside-packed"])
    # A scale of a shape that is none of the weight's rows, columns or blocks explains nothing.
    assert counted(*fp8, stored("l.input_scale", "float32", 31)) == (64 * 32 + 31, ["packed", "beside-packed"])


def test_integers_with_the_name_of_weights_that_nothing_explains_are_told() -> None:
    for name in ("l.weight", "m.experts.gate_up_proj", "m.experts.w13_weight"):
        for dtype in ("uint8", "int8", "int32"):
            assert counted(stored(name, dtype, 4, 64, 16)) == (4 * 64 * 16, ["stored-elements"])


@pytest.mark.parametrize(
    "name", ["b.ls1.gamma", "b.gamma_1", "logit_scale", "b.layer_norm.scale", "l.scale", "l.scales"]
)
def test_a_scale_beside_plain_weights_is_a_parameter(name: str) -> None:
    assert counted(stored("l.weight", "bfloat16", 8, 8), stored(name, "bfloat16", 8)) == (72, [])
    fp8 = stored("q.weight", "float8_e4m3fn", 8, 8), stored("q.weight_scale", "float32")
    assert counted(*fp8, stored("l.weight", "bfloat16", 8, 8), stored(name, "bfloat16", 8)) == (64 + 72, ["packed"])
