# total 18, trainable 18, frozen 0, buffers 0, uninitialized 0
"""Modules that refer to each other in a circle: 3 × 3 + 3 and 3 + 3."""

from torch import nn


class Child(nn.Module):
    def __init__(self, parent: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(3)
        self.parent = parent


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.child = Child(self)
