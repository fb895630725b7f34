"""Putting the compiler off changes when it is imported, and nothing else."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import MODELS


def run(code: str) -> str:
    """Return what code prints in an interpreter that has imported nothing yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_library_gets_the_function_and_the_compiler_comes_when_it_is_called() -> None:
    code = """
import sys, torch
from paramcount.modules.compiler import compiler_put_off
finders = list(sys.meta_path)
with compiler_put_off():
    import torchvision
assert not any(name.startswith("torch._dynamo") for name in sys.modules)
assert sys.meta_path == finders

from torchvision.ops import roi_align, RoIAlign
from torchvision.models.detection import fasterrcnn_resnet50_fpn
given = sys.modules["torchvision.ops.roi_align"].is_compile_supported
print(given("cpu"), given("mps"), "torch._dynamo" in sys.modules)

from torch._dynamo.utils import is_compile_supported
assert (given("cpu"), given("mps")) == (is_compile_supported("cpu"), is_compile_supported("mps"))
asked = lambda x: x + 1 if given("cpu") else x - 1
assert torch.compile(asked, backend="eager", fullgraph=True)(torch.ones(2)).tolist() == [2.0, 2.0]
boxes, image = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])], torch.arange(64.0).view(1, 1, 8, 8)
plain = roi_align(image, boxes, 2)
assert torch.equal(torch.compile(lambda i, b: roi_align(i, b, 2), backend="eager")(image, boxes), plain)
assert torch.equal(torch.jit.script(RoIAlign((2, 2), 1.0, -1))(image, boxes), plain)
model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()
assert torch.jit.script(model) is not None
assert model([torch.zeros(3, 64, 64)])[0].keys() == {"boxes", "labels", "scores"}
"""
    assert run(code) == "True False True\n"


def test_whoever_imports_more_of_the_compiler_gets_the_real_one() -> None:
    code = """
import sys, torch
from paramcount.modules.compiler import compiler_put_off
with compiler_put_off():
    from torch._dynamo.utils import counters, is_compile_supported
    import torch._dynamo.utils as inside
import torch._dynamo.utils as outside
assert inside is outside is sys.modules["torch._dynamo.utils"]
assert counters is outside.counters
with compiler_put_off():
    from torch._dynamo.utils import is_compile_supported
assert is_compile_supported is outside.is_compile_supported
"""
    run(code)
    run(
        code.replace(
            "from torch._dynamo.utils import counters, is_compile_supported", "counters = torch._dynamo.utils.counters"
        )
    )


def test_a_library_marks_what_is_not_to_be_compiled_and_the_compiler_comes_when_that_is_called() -> None:
    code = """
import sys, torch
from paramcount.modules.compiler import compiler_put_off
own = torch.compiler.disable
with compiler_put_off():
    import timm
    later = disable = torch.compiler.disable
    @disable
    def marked(x):
        "Doubles."
        return x * 2
assert torch.compiler.disable is own is not later
assert (marked.__name__, marked.__doc__) == ("marked", "Doubles.")
print("torch._dynamo" in sys.modules, end=" ")
print(marked(torch.ones(1)).item(), "torch._dynamo" in sys.modules)

from torch._dynamo import explain
real = own(lambda x: x * 2)
found = [explain(lambda x: torch.relu(f(torch.relu(x))))(torch.ones(2)) for f in (marked, real, later(marked))]
assert [(each.graph_count, each.graph_break_count) for each in found] == [(2, 1)] * 3
assert later(lambda x: x)._torchdynamo_disable
"""
    assert run(code) == "False 2.0 True\n"


def test_whoever_says_more_of_what_is_not_to_be_compiled_gets_the_real_mark() -> None:
    code = """
import sys, torch
from paramcount.modules.compiler import compiler_put_off
with compiler_put_off():
    import timm
    torch.compiler.disable(lambda x: x)
    assert "torch._dynamo" not in sys.modules
    marked = torch.compiler.disable(recursive=False)(lambda x: x)
print("torch._dynamo" in sys.modules, marked._torchdynamo_disable)
"""
    assert run(code) == "True True\n"


def test_a_constructor_may_compile() -> None:
    """Also after a torchvision name; the file says how many parameters there are."""
    code = f"""
import sys, torch
import paramcount
assert paramcount.count("resnet18").total == 11_689_512
assert "torch._dynamo" not in sys.modules
print(paramcount.count({str(MODELS / "compiled_detector.py")!r}).total)
assert "torch._dynamo" in sys.modules
"""
    assert run(code) == "41808406\n"


def test_shapes_are_found_without_the_compiler_and_are_those_found_with_it() -> None:
    code = """
import sys, torch
from torch import nn
from paramcount.modules.compiler import by_plain_sizes
aten = torch.ops.aten
image, row, column = (torch.empty(size, device="meta") for size in ((2, 8, 9, 9), (5, 7), (5, 1)))
weight, bias, halves = (torch.empty(size, device="meta") for size in ((4, 8, 3, 3), (7,), (8,)))
last = image.contiguous(memory_format=torch.channels_last)
calls = [
    (aten.convolution.default, image, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1),
    (aten.native_batch_norm.default, last, halves, halves, halves, halves, True, 0.1, 1e-5),
    (aten.native_group_norm.default, image, halves, halves, 2, 8, 81, 2, 1e-5),
    (aten.native_layer_norm.default, row, [7], bias, bias, 1e-5),
    (aten.linalg_vector_norm.default, image, 2, [1], True),
    (aten.addmm.default, bias, row, torch.empty(7, 7, device="meta")),
    (aten.mean.dim, last, [2, 3], True),
    (aten.div.Tensor, row, column.expand(5, 7)),
    (aten.mul.Tensor, row.double(), 2),
    (aten.pow.Tensor_Scalar, row.int(), 0.5),
    (aten.hardswish.default, last),
    (aten.cat.default, [row, row.half()], 1),
    (aten._softmax.default, image.transpose(1, 2), -1, False),
]

def found():
    made = [by_plain_sizes(*call) for call in calls]
    flat = [each for one in made for each in (one if isinstance(one, tuple) else (one,))]
    return [(tuple(each.shape), each.stride(), each.dtype) for each in flat]

finders = list(sys.meta_path)
without = found()
compiler = {"torch._dynamo", "sympy", "torch.fx.experimental.symbolic_shapes"}
assert not compiler & sys.modules.keys() and sys.meta_path == finders
import torch._dynamo
assert compiler <= sys.modules.keys()
assert found() == without
model = nn.Sequential(nn.Linear(3, 4), nn.Hardswish(), nn.LayerNorm(4))
given = torch.ones(2, 3)
assert torch.equal(torch.compile(model, backend="eager", fullgraph=True)(given), model(given))
print(len(without), without[0][0])
"""
    assert run(code) == "19 (2, 4, 5, 5)\n"


def test_whoever_asks_for_more_than_plain_sizes_gets_the_real_ones() -> None:
    code = """
import sys, torch
from paramcount.modules.compiler import by_plain_sizes

def asks():
    import sympy
    import torch._dynamo
    from torch.fx.experimental.symbolic_shapes import ShapeEnv, expect_true
    assert torch._dynamo.optimize is not None
    return sympy.Basic, torch._dynamo.disable, ShapeEnv

def imports():
    import json.tool
    import sympy
    return sympy.Basic, None, None

basic, disable, shape_env = by_plain_sizes(asks)
import sympy, torch._dynamo
from torch.fx.experimental.symbolic_shapes import ShapeEnv
print(basic is sympy.Basic, disable is torch._dynamo.disable, shape_env is ShapeEnv)
"""
    assert run(code) == "True True True\n"
    assert run(code.replace("by_plain_sizes(asks)", "by_plain_sizes(imports)")) == "True False False\n"


def test_what_a_forward_needs_without_memory_is_not_the_compiler() -> None:
    code = """
import sys, paramcount
print(paramcount.count("ssdlite320_mobilenet_v3_large").total, paramcount.count("ssd300_vgg16").total)
assert not {"torch._dynamo", "torch._inductor", "sympy"} & sys.modules.keys()
"""
    assert run(code) == "3440060 35641826\n"  # as torchvision publishes them
