"""Constructors that no memory could hold. Each counts in a moment; its docstring is its number of parameters."""

# Written as users write, and with what PyTorch does not type.
# mypy: ignore-errors

from __future__ import annotations

import torch
from torch import nn


def _of(*tensors: torch.Tensor) -> nn.Module:
    return nn.ParameterList([nn.Parameter(tensor) for tensor in tensors])


def factories() -> nn.Module:
    """60_000_000_000"""
    shape = (100_000, 100_000)
    return _of(
        torch.zeros(shape),
        torch.ones(shape),
        torch.empty(shape),
        torch.full(shape, 0.5),
        torch.randn(shape),
        torch.rand(shape),
    )


def more_factories() -> nn.Module:
    """50_000_000_000"""
    shape = (100_000, 100_000)
    return _of(
        torch.empty_strided(shape, (100_000, 1)),
        torch.zeros(1).new_zeros(shape),
        torch.empty(shape).normal_(),
        torch.normal(0.0, 1.0, size=shape),
        torch.eye(100_000),
    )


def legacy() -> nn.Module:
    """20_000_000_000"""
    return _of(torch.Tensor(100_000, 100_000), torch.FloatTensor(100_000, 100_000).uniform_(0, 1))


def ranges() -> nn.Module:
    """30_000_000_000"""
    return _of(torch.arange(1e10), torch.linspace(0, 1, 10_000_000_000), torch.arange(10_000_000_000).float())


def computed() -> nn.Module:
    """60_000_000_000"""
    line = torch.arange(100_000.0)
    return _of(
        torch.outer(line, line),
        line.repeat(100_000),
        line[:, None] * line[None],
        line.expand(100_000, 100_000).contiguous(),
        torch.cdist(line[:, None], line[:, None]),
        line[:, None] @ line[None],
    )


def embedding() -> nn.Module:
    """4_000_000_000"""
    return nn.Embedding(4_000_000, 1000)


def experts() -> nn.Module:
    """92_309_504"""
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(1024, 16, 4096, batch_first=True), 2)
    model.experts = nn.Parameter(torch.zeros(1024, 64, 1024))
    model.shifts = nn.Parameter(model.experts[0, :, :128].clone() * 2)
    model.double()
    return model


def initialised() -> nn.Module:
    """40_000_300_000"""
    first = nn.Linear(100_000, 100_000)
    nn.init.kaiming_normal_(first.weight)
    nn.init.orthogonal_(first.weight)
    second = nn.Linear(100_000, 100_000).half().cpu()
    third = nn.utils.parametrizations.weight_norm(nn.Linear(100_000, 100_000, bias=False))
    fourth = nn.Linear(100_000, 100_000, bias=False)
    fourth.load_state_dict(second.state_dict(), strict=False)
    fourth.weight.data = fourth.weight.data.t().contiguous()
    return nn.Sequential(first, second, third, fourth)


def forwarded() -> nn.Module:
    """400_020_000"""
    layer = nn.Linear(20_000, 20_000)
    return layer if layer(torch.zeros(100_000, 20_000)).shape == (100_000, 20_000) else nn.Identity()


def lengths_by_rows() -> nn.Module:
    """40_960_000_000"""
    table = torch.zeros(8192, 5_000_000)
    table[:, ::2] = torch.arange(2_500_000)
    return _of(table)
