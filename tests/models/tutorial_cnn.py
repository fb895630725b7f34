# total 87018, trainable 87018, frozen 0, buffers 0, uninitialized 0
"""The model of a plain CNN tutorial: 448 + 4,640 + 81,930 parameters."""

from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc = nn.Linear(32 * 16 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.conv2(self.conv1(x).relu()).relu(), 2)
        return self.fc(x.flatten(1))  # type: ignore[no-any-return]  # nn.Module calls are Any
