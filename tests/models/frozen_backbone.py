# total 62, trainable 12, frozen 50, buffers 11, uninitialized 0
"""A frozen backbone with batch norm under a head that trains: (4 × 8 + 8) + (5 + 5) and 5 × 2 + 2."""

from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(5))
        self.backbone.requires_grad_(requires_grad=False)
        self.head = nn.Linear(5, 2)
