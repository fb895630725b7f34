# total 46, trainable 36, frozen 10, buffers 5, uninitialized 0
"""Parameters of five dtypes: 5 × 2 + 2 halves, 4 × 2 doubles, 6 bfloat16, 10 bytes and 10 complex numbers."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.halves = nn.Linear(5, 2).half()
        self.doubles = nn.Linear(4, 2, bias=False).double()
        self.brain = nn.Parameter(torch.zeros(6, dtype=torch.bfloat16))
        self.codes = nn.Parameter(torch.zeros(10, dtype=torch.uint8), requires_grad=False)
        self.waves = nn.Parameter(torch.zeros(10, dtype=torch.complex64))
        self.register_buffer("steps", torch.zeros(5, dtype=torch.int64))
