# total 41808406, trainable 41808406, frozen 0, buffers 53173, uninitialized 0
"""A compiled detector: 41,808,406 parameters.

Those are the 41,755,286 that torchvision publishes, and 53,120 of batch norms, which are frozen in what it publishes.
"""

import torch
from torch import nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        detector = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
        twice = torch.compile(lambda x: 2 * x, backend="eager")
        assert twice(torch.ones(2)).tolist() == [2.0, 2.0]
        self.detector = torch.compile(detector)
