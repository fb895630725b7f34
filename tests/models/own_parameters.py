# total 33, trainable 33, frozen 0, buffers 0, uninitialized 0
"""A module with parameters of its own beside, and below, its layers: 3 + (4 × 5 + 5) + 5."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 5)
        self.scale = nn.Parameter(torch.ones(5))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(3))
        self.block = Block()
