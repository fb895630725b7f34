"""Constructors that name a device. ``device`` is what a machine has; where it is missing, only sizes matter anyway."""

# Written as users write, and with what PyTorch does not type.
# mypy: ignore-errors

from __future__ import annotations

import torch
from torch import nn


def named(device: str = "cuda") -> nn.Module:
    model = nn.Module()
    model.first = nn.Linear(300, 300, device=device)
    model.second = nn.Linear(300, 300, device=torch.device(device, 0))
    model.weight = nn.Parameter(torch.randn(300, 300, device=device))
    model.small = nn.Parameter(torch.zeros(4, device=device))
    model.register_buffer("steps", torch.arange(300, device=device))
    model.register_buffer("given", torch.tensor([1.0, 2.0], device=device))
    model.register_buffer("like", torch.zeros_like(model.steps, device=device, dtype=torch.half))
    model.width = nn.Linear(int(torch.linspace(1, 9, 3, device=device)[1].item()), 3, device=device)
    return model


def named_cpu() -> nn.Module:
    return named("cpu")


def moved(device: str = "cuda") -> nn.Module:
    first = nn.Linear(300, 300).to(device)
    second = nn.Linear(300, 30).to(torch.device(device), torch.float16)
    third = nn.Linear(30, 300).to(device=device, dtype=torch.bfloat16, non_blocking=True)
    x = torch.zeros(2, 300).to(device)
    y = second(first(x).half())
    fourth = nn.Linear(y.shape[1], 300).to(x)
    return nn.Sequential(first, second, third, fourth)


def moved_by_name(device: str = "cuda") -> nn.Module:
    def move(thing):
        return thing.cuda() if device == "cuda" else thing.cpu()

    model = nn.Sequential(move(nn.Linear(300, 300)), nn.BatchNorm1d(300))
    move(model)
    model.extra = nn.Parameter(move(torch.zeros(500, 500)))
    model.register_buffer("mask", move(torch.ones(5).bool()))
    model(move(torch.zeros(2, 300)))
    return model.half()


def moved_parameter(device: str = "cuda") -> nn.Module:
    """A moved parameter is no parameter any more: neither registered nor counted."""
    model = nn.Module()
    if device == "cuda":
        model.lost = nn.Parameter(torch.zeros(300, 300)).to(device)
        model.small = nn.Parameter(torch.zeros(3)).to(device)
    model.kept = nn.Parameter(torch.zeros(300, 300).to(device))
    return model


def device_context(device: str = "cuda") -> nn.Module:
    with torch.device(device):
        first = nn.Linear(300, 300)
        width = int(torch.linspace(2, 8, 4)[2].item())
        first.register_buffer("steps", torch.arange(width))
    return nn.Sequential(first, nn.Linear(300, width))


def default_device(device: str = "cuda") -> nn.Module:
    torch.set_default_device(device)
    return nn.Sequential(nn.Linear(300, 300), nn.Linear(300, int(torch.tensor([3, 4]).sum())))


def default_dtype() -> nn.Module:
    torch.set_default_dtype(torch.float64)
    model = nn.Sequential(nn.Linear(300, 300), nn.BatchNorm1d(300))
    model.table = nn.Parameter(torch.linspace(0, 1, 5))
    torch.set_default_dtype(torch.float32)
    model.append(nn.Linear(300, 5))
    torch.set_default_dtype(torch.bfloat16)
    model.append(nn.Linear(300, 5))
    return model


def default_tensor_type() -> nn.Module:
    torch.set_default_dtype(torch.float16)
    return nn.Sequential(nn.Linear(300, 300), nn.LayerNorm(300))


def grad_switched_off() -> nn.Module:
    torch.set_grad_enabled(False)
    return nn.Sequential(nn.Linear(300, 300)).requires_grad_(False)


def device_of_a_parameter(device: str = "cuda") -> nn.Module:
    model = nn.Linear(300, 300).to(device)
    own = next(model.parameters()).device
    rates = torch.linspace(0, 1, 5, device=own).tolist()
    model.register_buffer("rates", torch.tensor(rates, device=model.weight.device))
    model.extra = nn.Parameter(torch.full((300, 300), 0.5, device=own))
    return nn.Sequential(model, nn.Linear(len(rates), int(torch.arange(4, device=own).sum().item())))


def device_is_checked() -> nn.Module:
    weight = torch.empty(500, 500)
    assert weight.device.type == "cpu"
    assert weight.device == torch.device("cpu")
    assert not weight.is_meta
    assert not weight.is_cuda
    assert weight.is_cpu
    assert weight.get_device() == -1
    return nn.Linear(300 if weight.device.type == "cpu" else 30, 300)


def meta_by_the_users_own_wish() -> nn.Module:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(300, 300), nn.BatchNorm1d(300))
    assert all(parameter.is_meta for parameter in model.parameters())
    skipped = nn.utils.skip_init(nn.Linear, 300, 400)
    return nn.Sequential(model.to_empty(device="cpu"), skipped, nn.Linear(300, 3, device="meta"))


def pinned_and_shared() -> nn.Module:
    model = nn.Linear(300, 300)
    model.share_memory()
    model.register_buffer("shared", torch.zeros(300, 300).share_memory_())
    model.weight.data.share_memory_()
    return model


def pinned(pin: bool = True) -> nn.Module:
    model = nn.Module()
    model.register_buffer("pinned", torch.zeros(300, 300, pin_memory=pin))
    model.register_buffer("late", torch.zeros(3).pin_memory() if pin else torch.zeros(3))
    return model


def round_trip_through_devices(device: str = "cuda") -> nn.Module:
    model = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 300))
    model[1].weight = model[0].weight
    model.to(device).half().float().cpu().double()
    model.bfloat16()
    return model


def backends_are_asked() -> nn.Module:
    flash = torch.backends.cuda.flash_sdp_enabled() and hasattr(nn.functional, "scaled_dot_product_attention")
    wide = torch.backends.mkldnn.is_available() or torch.backends.cudnn.enabled
    cuda = torch.cuda.is_available()
    autocast = torch.is_autocast_enabled("cpu")
    layer = nn.Linear(30, 64 if flash else 32)
    return nn.Sequential(layer, nn.Linear(8 if wide else 4, 2 if cuda else 3), nn.Linear(3, 3, bias=autocast))
