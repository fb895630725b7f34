"""Constructors that read values out of small tensors: they are built without memory, just as PyTorch builds them."""

# Written as users write, and with what PyTorch does not type.
# mypy: ignore-errors

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn


def drop_path_by_item() -> nn.Module:
    rates = [x.item() for x in torch.linspace(0, 0.3, 12)]
    return nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.Dropout(rate)) for rate in rates])


def drop_path_split_by_stage() -> nn.Module:
    rates = [stage.tolist() for stage in torch.linspace(0, 0.5, 8).split([2, 2, 4])]
    return nn.Sequential(*[nn.Linear(32, 32 + round(100 * rate)) for stage in rates for rate in stage[:1]])


def widths_from_tolist() -> nn.Module:
    widths = (torch.arange(4) * 24.5 + 48).div(8).round().mul(8).int().tolist()
    return nn.Sequential(*[nn.Linear(a, b) for a, b in pairwise(widths)])


def widths_from_numpy() -> nn.Module:
    widths = torch.logspace(4, 8, 5, base=2).numpy().astype(int)
    return nn.ModuleList([nn.Conv2d(int(a), int(b), 3) for a, b in pairwise(widths)])


def widths_from_array_protocol() -> nn.Module:
    widths = np.asarray(torch.tensor([3, 5, 7]))
    return nn.Linear(int(widths.sum()), int(np.prod(widths)))


def widths_by_selection() -> nn.Module:
    scores = torch.tensor([0.1, 0.9, 0.4, 0.7, 0.4])
    top = scores.topk(2).indices.tolist()
    order = scores.sort(descending=True).indices.tolist()
    kept = torch.nonzero(scores > 0.3).flatten().tolist()
    distinct = torch.unique(scores).numel()
    chosen = torch.where(scores > 0.5, torch.full_like(scores, 11.0), torch.zeros(())).masked_fill(scores < 0.2, 5.0)
    picked = scores[scores > 0.5].numel()
    return nn.ModuleList(
        [nn.Linear(1 + a, b) for a, b in zip(top + order + kept, chosen.int().tolist() * 3, strict=False) if b]
        + [nn.Linear(distinct, picked)]
    )


def widths_by_truth() -> nn.Module:
    width = torch.tensor(64)
    if width > 32 and bool((width % 2 == 0).all()):
        width = width * 3
    return nn.Linear(int(width), width.item() // 2)


def width_from_a_seeded_draw() -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    width = torch.randint(8, 99, (1,), generator=generator).item()
    torch.manual_seed(5)
    return nn.Linear(int(width), int(torch.randperm(50)[0]) + 1)


def anchors_like_detection() -> nn.Module:
    model = nn.Module()
    ratios, scales = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([32.0, 64.0])
    sizes = (ratios.sqrt()[:, None] * scales[None]).reshape(-1)
    cells = torch.stack([-sizes, -sizes.flip(0), sizes, sizes.flip(0)], dim=1) / 2
    model.register_buffer("cells", cells.round())
    model.head = nn.Conv2d(64, len(cells) * 4, 1)
    return model


def meshgrid_indices_like_swin() -> nn.Module:
    window = 7
    coords = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    relative = (coords[:, :, None] - coords[:, None, :]).permute(1, 2, 0).contiguous()
    relative[:, :, 0] += window - 1
    relative[:, :, 1] += window - 1
    relative[:, :, 0] *= 2 * window - 1
    index = relative.sum(-1).flatten()
    model = nn.Module()
    model.table = nn.Parameter(torch.zeros(int(index.max()) + 1, 4))
    model.register_buffer("index", index)
    nn.init.trunc_normal_(model.table, std=0.02)
    return model


def sincos(length: int, width: int) -> np.ndarray[Any, Any]:
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(0, width, 2) / width)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def positions_copied_from_numpy() -> nn.Module:
    model = nn.Module()
    table = torch.from_numpy(sincos(197, 384)).unsqueeze(0)
    model.copied = nn.Parameter(torch.zeros(1, 197, 384), requires_grad=False)
    model.copied.data.copy_(table)
    model.assigned = nn.Parameter(torch.empty(1, 197, 384), requires_grad=False)
    model.assigned.data = table.clone()
    model.wrapped = nn.Parameter(torch.from_numpy(sincos(64, 32)).double(), requires_grad=False)
    model.embedding = nn.Embedding.from_pretrained(torch.as_tensor(sincos(100, 16)))
    model.register_buffer("buffer", torch.tensor(sincos(10, 8)).half())
    return model


def sinusoids_written_in_place() -> nn.Module:
    model = nn.Module()
    table = torch.zeros(512, 768)
    position = torch.arange(0, 512).unsqueeze(1).float()
    frequency = torch.exp(torch.arange(0, 768, 2).float() * -(math.log(10000.0) / 768))
    table[:, 0::2] = torch.sin(position * frequency)
    table[:, 1::2] = torch.cos(position * frequency)
    model.register_buffer("table", table.unsqueeze(0), persistent=False)
    model.register_parameter("learned", nn.Parameter(table.clone()))
    return model


def rotary_cache() -> nn.Module:
    model = nn.Module()
    frequencies = 1.0 / (10000 ** (torch.arange(0, 128, 2).float() / 128))
    angles = torch.outer(torch.arange(4096, dtype=torch.float32), frequencies)
    model.register_buffer("cis", torch.polar(torch.ones_like(angles), angles), persistent=False)
    model.register_buffer("cos", torch.cat((angles, angles), -1).cos().to(torch.bfloat16))
    model.register_buffer("einsum", torch.einsum("i,j->ij", torch.arange(2048).float(), frequencies))
    return model


def causal_masks() -> nn.Module:
    model = nn.Module()
    model.register_buffer("tril", torch.tril(torch.ones(2048, 2048)).view(1, 1, 2048, 2048))
    model.register_buffer("bool", torch.ones(2048, 2048, dtype=torch.bool).triu(1))
    model.register_buffer("filled", torch.full((1024, 1024), float("-inf")).triu_(1))
    model.register_buffer("square", nn.Transformer.generate_square_subsequent_mask(512))
    model.register_buffer("compared", torch.arange(1024)[:, None] >= torch.arange(1024)[None])
    return model


def random_mixed_with_computed() -> nn.Module:
    model = nn.Module()
    model.scaled = nn.Parameter(torch.randn(300, 300) * torch.linspace(0, 1, 300))
    model.joined = nn.Parameter(torch.cat([torch.rand(500, 4), torch.arange(400.0).view(100, 4)]))
    model.stacked = nn.Parameter(torch.stack([torch.randn(64, 64), torch.eye(64)]))
    model.noisy = nn.Parameter(torch.arange(10.0) + 0.1 * torch.randn(10))
    model.uniform = nn.Parameter(torch.empty(200, 200).uniform_(-1, 1) + torch.eye(200))
    small = torch.zeros(6, 6)
    small[0] = torch.randn(600, 6)[3]
    model.patched = nn.Parameter(small)
    model.register_buffer("patched_copy", small.clone())
    return model


def assigned_elements() -> nn.Module:
    layer = nn.Linear(300, 300)
    with torch.no_grad():
        layer.weight[0, :] = 1.0
        layer.weight[:, 1:3] = torch.zeros(300, 2)
        layer.weight[torch.arange(5), torch.arange(5)] = 2.0
        layer.weight[layer.weight.new_zeros(300, dtype=torch.bool)] = 3.0
        layer.bias[::2] = layer.weight[0, ::2]
        layer.weight.diagonal().fill_(1)
        layer.weight.data.mul_(0.5).add_(torch.eye(300))
        layer.weight.data = layer.weight.data.t().contiguous()
        layer.bias.data[-1] = -1
    return layer


def kinds_of_tensors() -> nn.Module:
    model = nn.Module()
    model.complex = nn.Parameter(torch.zeros(400, 400, dtype=torch.cfloat))
    model.integers = nn.Parameter(torch.randint(0, 9, (400, 400)), requires_grad=False)
    model.truths = nn.Parameter(torch.zeros(40, 4, dtype=torch.bool), requires_grad=False)
    model.bytes = nn.Parameter(torch.empty(600, 600, dtype=torch.uint8), requires_grad=False)
    model.float8 = nn.Parameter(torch.zeros(300, 300, dtype=torch.float8_e4m3fn), requires_grad=False)
    model.strided = nn.Parameter(torch.empty_strided((300, 500), (1, 300)))
    model.expanded = nn.Parameter(torch.zeros(1, 300).expand(300, 300))
    model.repeated = nn.Parameter(torch.zeros(1, 300).repeat(300, 2))
    model.interleaved = nn.Parameter(torch.arange(300.0).repeat_interleave(300))
    model.tiled = nn.Parameter(torch.ones(3).tile(1000, 100))
    model.kron = nn.Parameter(torch.kron(torch.eye(30), torch.ones(20, 20)))
    model.nothing = nn.Parameter(torch.empty(0, 5))
    model.scalar = nn.Parameter(torch.tensor(1.0))
    model.real_view = nn.Parameter(torch.view_as_real(torch.zeros(300, 300, dtype=torch.cfloat)))
    return model


def legacy_tensors() -> nn.Module:
    model = nn.Module()
    model.tensor = nn.Parameter(torch.Tensor(300, 400))
    model.floats = nn.Parameter(torch.FloatTensor(300, 400).uniform_(-1, 1))
    model.doubles = nn.Parameter(torch.DoubleTensor(3, 4).zero_())
    model.listed = nn.Parameter(torch.Tensor([1, 2, 3]))
    model.longs = nn.Parameter(torch.LongTensor([[1, 2], [3, 4]]), requires_grad=False)
    model.sized = nn.Parameter(torch.Tensor(torch.Size([30, 40])))
    model.new = nn.Parameter(model.tensor.new(500, 500))
    model.new_zeros = nn.Parameter(model.listed.data.new_zeros(500, 500))
    model.new_tensor = nn.Parameter(model.tensor.new_tensor([[1.0, 2.0]]))
    model.typed = nn.Parameter(model.tensor.data.type(torch.HalfTensor))
    model.type_as = nn.Parameter(torch.ones(500, 500).type_as(model.doubles))
    return model


def guess_that_memory_would_not_need() -> nn.Module:
    try:
        width = int(torch.linspace(1, 9, 5)[3].item())
    except Exception:  # noqa: BLE001  # the point of it
        width = 1000
    return nn.Linear(width, 3)


def windows() -> nn.Module:
    model = nn.Module()
    model.register_buffer("hann", torch.hann_window(400))
    model.register_buffer("fft", torch.fft.rfft(torch.eye(400)).abs())
    model.register_buffer(
        "spectrum", torch.stft(torch.zeros(16000), 400, window=torch.hann_window(400), return_complex=True)
    )
    model.register_buffer(
        "interpolated", nn.functional.interpolate(torch.randn(1, 64, 14, 14), size=(24, 24), mode="bicubic")
    )
    return model


def per_sample_functions() -> nn.Module:
    model = nn.Module()
    model.register_buffer("mapped", torch.vmap(lambda x: x * 2)(torch.arange(20.0).view(4, 5)))
    model.register_buffer("large", torch.vmap(torch.dot)(torch.randn(300, 300), torch.ones(300, 300)))
    model.register_buffer("slope", torch.func.grad(lambda x: (x**2).sum())(torch.arange(4.0)))
    width = int(torch.vmap(torch.sum)(torch.ones(3, 4))[0])
    model.layer = nn.Linear(width, 2)
    return model


def guess_after_a_write_that_fails() -> nn.Module:
    """The branch that PyTorch's own errors lead to, with and without memory."""
    model = nn.ModuleList()
    for size in (4, 300):
        longs = torch.zeros(size, size, dtype=torch.int64)
        attempts = (
            lambda size=size: nn.init.normal_(torch.empty(size, size), std=-1.0),
            lambda size=size: nn.init.normal_(torch.empty(size, size), std=1.0),
            lambda size=size: torch.empty(size, size).uniform_(5, 1),
            lambda longs=longs: longs.clone().normal_(),
            lambda longs=longs: longs.div_(2),
            lambda longs=longs: longs.mul_(2.0),
            lambda longs=longs: longs.mul_(2).add_(True).fill_(3.7),
            lambda size=size: torch.empty(1, size).expand(size, size).normal_(),
            lambda size=size: torch.empty(1, size).expand(size, size).fill_(1.0),
            lambda size=size: torch.empty(size, size, dtype=torch.int64, device="meta").uniform_(),
        )
        for width, attempt in enumerate(attempts, 1):
            try:
                attempt()
            except RuntimeError:
                model.append(nn.Linear(width, 1))
            else:
                model.append(nn.Linear(width, 2))
    return model


def drawn_into_an_array() -> nn.Module:
    array = np.zeros(100_000)
    torch.manual_seed(0)
    torch.from_numpy(array).uniform_(7, 7.5)
    return nn.Linear(int(array[3]), 3)
