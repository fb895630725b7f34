"""What is built without memory is, name by name, what PyTorch builds in memory."""

from __future__ import annotations

import importlib
import inspect
import resource
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from paramcount.modules.build import build

# Some of these constructors use what PyTorch calls deprecated, or a prototype.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:UserWarning", "ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning"
)

FOLDER = Path(__file__).parent.parent / "models" / "building"


def load(stem: str) -> ModuleType:
    spec = spec_from_file_location(f"building_{stem}", FOLDER / f"{stem}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where pickle looks for its classes
    spec.loader.exec_module(module)
    return module


def constructors(*stems: str) -> list[Any]:
    """Return every function without arguments, or with a device, in these files."""
    return [
        pytest.param(thing, id=f"{stem}.{name}")
        for stem in stems
        for name, thing in vars(load(stem)).items()
        if inspect.isfunction(thing)
        and not name.startswith("_")
        and thing.__module__ == f"building_{stem}"
        and thing.__annotations__.get("return") == "nn.Module"
    ]


def built_by_pytorch(construct: Callable[..., nn.Module]) -> nn.Module:
    """Return what PyTorch makes of it in memory, on the CPU where it names a device that may be missing here."""
    arguments = {"device": "cpu", "pin": False}
    dtype, grad, state = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_rng_state()
    try:
        return construct(**{name: arguments[name] for name in inspect.signature(construct).parameters})
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        torch.set_rng_state(state)


def contents(model: nn.Module) -> dict[str, Any]:
    """Return all that a count rests on: names, shapes, types, what trains, and which names are one tensor."""

    def listed(named: Any) -> list[Any]:
        first: dict[int, str] = {}
        return [
            (
                name,
                None if nn.parameter.is_lazy(tensor) else tuple(tensor.shape),
                tensor.dtype,
                tensor.requires_grad,
                type(tensor).__name__,
                first.setdefault(id(tensor), name),
            )
            for name, tensor in named
        ]

    return {
        "parameters": listed(model.named_parameters(remove_duplicate=False)),
        "buffers": listed(model.named_buffers(remove_duplicate=False)),
        "modules": [(name, type(module).__name__) for name, module in model.named_modules()],
    }


@pytest.mark.parametrize("construct", constructors("values", "forwards", "devices", "initialisers", "copies"))
def test_builds_without_memory_what_pytorch_builds_in_it(construct: Callable[..., nn.Module]) -> None:
    """Same names, shapes, dtypes, requires_grad and ties; no note, because no way but the first was needed."""
    model, notes = build(construct)
    assert notes == ()
    assert contents(model) == contents(built_by_pytorch(construct))


@pytest.mark.parametrize("construct", constructors("needing"))
def test_builds_in_memory_what_needs_it_and_says_so(construct: Callable[..., nn.Module]) -> None:
    """A value that is not there never becomes a guess: the count is PyTorch's, and a note says why it took memory."""
    model, notes = build(construct)
    assert [note.code for note in notes] == ["real-memory"]
    assert contents(model) == contents(built_by_pytorch(construct))
    assert not any(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("construct", constructors("failing"))
def test_fails_as_in_memory(construct: Callable[..., nn.Module]) -> None:
    """What PyTorch would not write is no layer of a model, though nobody would have seen the values."""
    with pytest.raises(Exception) as expected:  # noqa: PT011  # whatever it is
        built_by_pytorch(construct)
    with pytest.raises(type(expected.value)) as raised:
        build(construct, device="meta")
    assert str(raised.value) == str(expected.value)


@pytest.mark.parametrize("construct", constructors("large"))
def test_no_size_is_too_large(construct: Callable[..., nn.Module]) -> None:
    """The constructor's docstring says how many parameters it makes; that takes under 100 MB."""
    importlib.import_module("torch._dynamo")  # what PyTorch imports at the first forward pass is not the model's
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model, notes = build(construct)
    assert notes == ()
    assert sum(parameter.numel() for parameter in model.parameters()) == int(inspect.getdoc(construct) or "")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_the_first_layers_import_no_compiler() -> None:
    """Building plain layers needs nothing of PyTorch's compiler, which takes a second and 160 MB to import."""
    import subprocess

    code = (
        "import sys, torch\n"
        "from torch import nn\n"
        "from paramcount.modules.build import build\n"
        "def net():\n"
        "    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Linear(512, 512))\n"
        "    model.append(nn.Embedding(5000, 64))\n"
        "    model.position = nn.Parameter(torch.randn(1, 197, 64) * 0.02)\n"
        "    model.rates = [rate.item() for rate in torch.linspace(0, 1, 5)]\n"
        "    nn.init.trunc_normal_(model.position, std=0.02)\n"
        "    return model\n"
        "model, notes = build(net)\n"
        "print(sum(p.numel() for p in model.parameters()), notes, 'torch._dynamo' in sys.modules, model.rates)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "597184 () False [0.0, 0.25, 0.5, 0.75, 1.0]\n"


LAYERS: list[Callable[[int], nn.Module]] = [
    lambda width: nn.Linear(width, width),
    lambda width: nn.Conv2d(width, width, 1),
    lambda width: nn.Embedding(width, width),
    nn.BatchNorm1d,
    nn.LayerNorm,
    lambda width: nn.GroupNorm(1, width),
]


@pytest.mark.parametrize("width", [2, 20, 300])  # all of it real; the weight not; nothing but what is filled
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layers_values_are_pytorchs_or_known_to_be_unknown(layer: Callable[[int], nn.Module], width: int) -> None:
    """Also those that are drawn after it, and those of a layer that is initialised again."""

    def construct() -> nn.Module:
        torch.manual_seed(7)
        model = nn.ModuleList([layer(width), layer(2)])
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data.fill_(5)
        torch.manual_seed(7)
        for each in model:
            each.reset_parameters()  # type: ignore[operator]  # all have it
        model.register_buffer("drawn", torch.rand(2))
        return model

    (model, _), expected = build(construct), built_by_pytorch(construct)
    is_drawn = layer in LAYERS[:3]
    is_known = {name: not tensor.is_meta for name, tensor in model.state_dict().items()}
    assert is_known["drawn"] == (all(is_known.values()) or not is_drawn)
    if is_known["drawn"]:
        for name, tensor in expected.state_dict().items():
            assert not is_known[name] or torch.equal(model.state_dict()[name], tensor)


def test_a_layer_that_does_more_when_it_is_initialised_does_it() -> None:
    class Norm(nn.BatchNorm1d):
        def reset_running_stats(self) -> None:
            super().reset_running_stats()
            self.register_buffer("spread", torch.ones(5, device="cuda"))

    for width in (3, 100_000):
        model, notes = build(lambda width=width: Norm(width))  # type: ignore[misc]  # a default binds it
        assert notes == ()
        assert model.get_buffer("spread").tolist() == [1.0] * 5


def test_a_layer_is_itself_again_after_a_build() -> None:
    resets = [vars(kind)["reset_parameters"] for kind in (nn.Linear, nn.LayerNorm, nn.Embedding)]
    build(lambda: nn.Linear(300, 300))
    with pytest.raises(ZeroDivisionError):
        build(lambda: nn.Linear(300, 1 // 0))
    assert [vars(kind)["reset_parameters"] for kind in (nn.Linear, nn.LayerNorm, nn.Embedding)] == resets
