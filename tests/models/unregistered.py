# total 6, trainable 6, frozen 0, buffers 0, uninitialized 0
"""Modules and parameters where parameters() cannot see them, beside one where it can: 2 × 2 + 2."""

import torch
from torch import nn


class Helper:
    def __init__(self) -> None:
        self.norm = nn.LayerNorm(7)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Linear(2, 2)
        self.layers = [nn.Linear(3, 3), nn.Linear(4, 4), nn.ReLU()]
        self.heads = {"a": (nn.Linear(5, 5),)}
        self.scale = torch.ones(6, requires_grad=True)
        self.helper = Helper()
        self.again = [self.seen, self.seen.weight]
