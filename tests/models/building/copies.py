"""Constructors that copy, save, load, tie, script, trace and wrap models."""

# Written as users write, and with what PyTorch does not type.
# mypy: ignore-errors

from __future__ import annotations

import copy
import io
import pickle
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(16, 300), nn.Linear(300, 300))


def deep_copies() -> nn.Module:
    model = small()
    model[4].bias = model[3].bias
    return nn.ModuleList([model, *[copy.deepcopy(model) for _ in range(3)], copy.copy(model)])


def deep_copied_tensors() -> nn.Module:
    model = nn.Module()
    parts = {"weight": nn.Parameter(torch.randn(300, 300)), "steps": torch.arange(5), "table": torch.zeros(300, 300)}
    for name, tensor in copy.deepcopy(parts).items():
        model.register_parameter(name, tensor) if isinstance(tensor, nn.Parameter) else model.register_buffer(
            name, tensor
        )
    model.layer = nn.Linear(int(copy.deepcopy(parts["steps"]).sum()), 2)
    return model


def tied() -> nn.Module:
    model = nn.ModuleDict(
        {"embed": nn.Embedding(1000, 64), "mid": nn.Linear(64, 64), "head": nn.Linear(64, 1000, bias=False)}
    )
    model["head"].weight = model["embed"].weight
    model["again"] = model["mid"]
    model.register_buffer("first", torch.zeros(500, 500))
    model.register_buffer("second", model.first)
    model.to(torch.float64)
    return model


def moving_averages() -> nn.Module:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    model = small()
    averaged = AveragedModel(model)
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=True)
    averaged.update_parameters(model)
    averaged.update_parameters(model)
    ema.update_parameters(model)
    ema.update_parameters(model)
    teacher = copy.deepcopy(model)
    for own, other in zip(teacher.parameters(), model.parameters(), strict=True):
        own.data.mul_(0.9).add_(other.data, alpha=0.1)
        own.requires_grad = False
    return nn.ModuleList([model, averaged, ema, teacher])


def loaded_state_dict() -> nn.Module:
    state = {
        "0.weight": torch.full((300, 400), 0.5),
        "0.bias": torch.zeros(300),
        "1.weight": torch.randn(5, 300),
        "1.bias": torch.arange(5.0),
    }
    strict = nn.Sequential(nn.Linear(400, 300), nn.Linear(300, 5))
    strict.load_state_dict(state)
    assigned = nn.Sequential(nn.Linear(400, 300), nn.Linear(300, 5))
    assigned.load_state_dict({key: value.double() for key, value in state.items()}, assign=True)
    loose = nn.Sequential(nn.Linear(400, 300))
    missing = loose.load_state_dict(state, strict=False)
    exchanged = nn.Sequential(nn.Linear(400, 300), nn.Linear(300, 5))
    exchanged.load_state_dict(strict.state_dict())
    return nn.Sequential(strict, assigned, loose, exchanged, nn.Linear(len(missing.unexpected_keys), 1))


def saved_and_loaded() -> nn.Module:
    model = small()
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    fresh = small()
    fresh.load_state_dict(torch.load(stream, map_location="cpu", weights_only=True))
    return nn.Sequential(model, fresh, pickle.loads(pickle.dumps(nn.Linear(300, 300))))


def whole_module_saved_and_loaded() -> nn.Module:
    stream = io.BytesIO()
    torch.save(small(), stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


def checkpoint_file() -> nn.Module:
    """Loads a checkpoint that was there before: its values are real, whatever its size."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        torch.save({"state_dict": {"weight": torch.ones(3, 4), "bias": torch.zeros(3)}, "width": torch.tensor(7)}, path)
        checkpoint = torch.load(path, map_location="cpu")
        mapped = torch.load(path, mmap=True)
    layer = nn.Linear(4, 3)
    layer.load_state_dict(checkpoint["state_dict"])
    return nn.Sequential(layer, nn.Linear(int(checkpoint["width"]), int(mapped["state_dict"]["weight"].sum().item())))


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 3)))
        return nn.Sequential(scripted, torch.jit.script(nn.Conv2d(3, 4, 3)))


def traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(
            torch.jit.trace(nn.Sequential(nn.Linear(300, 300), nn.ReLU()), torch.zeros(1, 300), check_trace=False)
        )


def compiled() -> nn.Module:
    return nn.ModuleList([torch.compile(nn.Linear(300, 300)), nn.Linear(3, 3)])


def symbolically_traced() -> nn.Module:
    from torch import fx

    return fx.symbolic_trace(small())


def wrapped_for_data_parallel() -> nn.Module:
    return nn.DataParallel(small())


def sparse_weights() -> nn.Module:
    model = nn.Module()
    model.register_buffer("made", torch.sparse_coo_tensor([[0, 1], [1, 0]], [1.0, 2.0], (1000, 1000)))
    model.register_buffer("turned", torch.eye(30).to_sparse())
    model.register_buffer("rows", torch.eye(20).to_sparse_csr())
    model.weight = nn.Parameter(torch.sparse_coo_tensor(size=(500, 500)))
    model.back = nn.Parameter(torch.eye(30).to_sparse().to_dense())
    return model


def nested_tensors() -> nn.Module:
    nested = torch.nested.nested_tensor([torch.zeros(2, 5), torch.zeros(3, 5)])
    jagged = torch.nested.nested_tensor([torch.zeros(2, 5), torch.zeros(3, 5)], layout=torch.jagged)
    return nn.Linear(nested.to_padded_tensor(0.0).shape[1] * 5, jagged.size(0))


def state_of_stateless_calls() -> nn.Module:
    model = nn.Linear(300, 300)
    out = torch.func.functional_call(model, {"weight": torch.zeros(300, 300)}, (torch.zeros(1, 300),))
    stacked, _ = torch.func.stack_module_state([nn.Linear(30, 300) for _ in range(4)])
    model.stacked = nn.Parameter(stacked["weight"].detach())
    model.head = nn.Linear(out.shape[-1], 3)
    return model


def subclassed_tensors() -> nn.Module:
    class Marked(torch.Tensor):
        pass

    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(300, 300).as_subclass(Marked))
    model.small = nn.Parameter(torch.zeros(3).as_subclass(Marked))
    model.register_buffer("sum", (model.weight + model.small.sum()).detach())
    return model


def uninitialised_by_hand() -> nn.Module:
    model = nn.Linear(300, 300, device="meta")
    model.to_empty(device="cpu")
    model.reset_parameters()
    swapped = nn.Linear(300, 300)
    torch.utils.swap_tensors(swapped.weight, nn.Parameter(torch.zeros(300, 400)))
    return nn.Sequential(model, swapped)
