# total 14294967296, trainable 14294967296, frozen 0, buffers 0, uninitialized 0
"""An embedding of 2^32 parameters and a tensor of 10 billion zeros: 57 GB, if anybody allocated them."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(2**22, 2**10)
        self.table = nn.Parameter(torch.zeros(10_000_000_000))
