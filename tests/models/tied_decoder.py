# total 1100, trainable 1100, frozen 0, buffers 0, uninitialized 0
"""An embedding whose weight is also the decoder's, which has a bias of its own: 100 × 10 + 100."""

from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 10)
        self.decoder = nn.Linear(10, 100)
        self.decoder.weight = self.embedding.weight
