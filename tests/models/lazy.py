# total 24, trainable 24, frozen 0, buffers 0, uninitialized 2
"""A lazy layer, whose two parameters have no shape before a first forward, and one that has: 3 × 6 + 6."""

from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.known = nn.Linear(3, 6)
        self.lazy = nn.LazyLinear(7)
