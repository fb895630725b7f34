# total 46, trainable 46, frozen 0, buffers 20, uninitialized 0
"""Weight norm (3 + 12 + 3), pruning (12, and a mask of 12) and spectral norm (16, and vectors of 4 and 4)."""

from torch import nn
from torch.nn.utils import parametrizations, prune


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.new = parametrizations.weight_norm(nn.Linear(4, 3))
        self.pruned = nn.Linear(4, 3, bias=False)
        prune.random_unstructured(self.pruned, "weight", amount=0.5)  # type: ignore[no-untyped-call]  # PyTorch's own lack
        self.spectral = parametrizations.spectral_norm(nn.Linear(4, 4, bias=False))
