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
