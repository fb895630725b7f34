"""Constructors in which PyTorch refuses a write, whose values nobody would have seen."""

# Written as users write, and with what PyTorch does not type.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
import torch
from torch import nn


def negative_deviation() -> nn.Module:
    layer = nn.Linear(300, 300)
    nn.init.normal_(layer.weight, std=-1.0)
    return layer


def negative_deviation_after_a_good_one() -> nn.Module:
    layer = nn.Linear(300, 300)
    nn.init.normal_(layer.weight, std=1.0)
    layer.weight.data.normal_(0, 1).normal_(0, -1)
    return layer


def negative_deviation_in_a_tensor() -> nn.Module:
    layer = nn.Linear(300, 300)
    nn.init.normal_(layer.weight, std=torch.tensor(-1.0))
    return layer


def negative_deviation_in_an_array() -> nn.Module:
    layer = nn.Linear(300, 300)
    nn.init.normal_(layer.weight, std=np.array(-1.0))
    return layer


def range_upside_down() -> nn.Module:
    layer = nn.Linear(300, 300)
    nn.init.uniform_(layer.weight, 5, 1)
    return layer


def bounds_without_a_number() -> nn.Module:
    return nn.ParameterList([nn.init.kaiming_uniform_(torch.empty(300, 300), a=float("nan"))])


def constant_that_does_not_fit() -> nn.Module:
    return nn.ParameterList([nn.init.constant_(torch.empty(300, 300, dtype=torch.int8), 1000)])


def integers_drawn_from_a_bell_curve() -> nn.Module:
    return nn.ParameterList([torch.empty(300, 300, dtype=torch.int64).normal_()])


def integers_divided() -> nn.Module:
    return nn.ParameterList([torch.zeros(300, 300, dtype=torch.int64).mul_(2).div_(2)])


def integers_times_a_fraction() -> nn.Module:
    return nn.ParameterList([torch.zeros(300, 300, dtype=torch.int64).mul_(2).mul_(2.0)])


def integers_plus_fractions() -> nn.Module:
    table = torch.zeros(300, 300, dtype=torch.int64)
    table += torch.zeros(300)
    return nn.ParameterList([table])


def small_integers_plus_large_fractions() -> nn.Module:
    counts = torch.zeros(300, dtype=torch.int64)
    counts += torch.ones(300, 300)[0]
    return nn.ParameterList([counts])


def expanded_drawn() -> nn.Module:
    return nn.ParameterList([torch.empty(1, 70_000).expand(300, 70_000).normal_()])


def expanded_multiplied() -> nn.Module:
    return nn.ParameterList([torch.ones(300, 300)[:1].expand(300, 300).mul_(2)])


def probability_of_two() -> nn.Module:
    return nn.ParameterList([torch.empty(300, 300).bernoulli_(2.0)])


def layer_of_eight_bits() -> nn.Module:
    return nn.Linear(300, 300, dtype=torch.float8_e4m3fn)


def layer_of_eight_bits_reset() -> nn.Module:
    layer = nn.Linear(300, 300).to(torch.float8_e4m3fn)
    layer.reset_parameters()
    return layer
