"""Constructors that run a forward pass to learn a size: no memory, no arithmetic, the same sizes."""

# Written as users write, and with what PyTorch does not type.
# mypy: ignore-errors

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def flattened_size() -> nn.Module:
    features = nn.Sequential(
        nn.Conv2d(3, 32, 5, 2), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3)
    )
    with torch.no_grad():
        size = features(torch.zeros(1, 3, 96, 96)).numel()
    return nn.Sequential(features, nn.Flatten(), nn.Linear(size, 10))


def flattened_size_of_random_input() -> nn.Module:
    features = nn.Sequential(
        nn.Conv1d(1, 16, 7), nn.GELU(), nn.AdaptiveAvgPool1d(9), nn.InstanceNorm1d(16, affine=True)
    )
    return nn.Sequential(features, nn.Linear(features(torch.randn(2, 1, 500)).view(2, -1).shape[-1], 4))


def size_of_evaluated_model() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5)).eval()
    with torch.inference_mode():
        _, channels, height, width = model(torch.rand(1, 3, 20, 24)).shape
    return nn.Sequential(model, nn.Linear(channels * height * width, 7))


class Learnt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(40, 96, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(40, 50)
        self.attention = nn.MultiheadAttention(192, 4, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(192, 4, 300, batch_first=True)
        self.norm = nn.LayerNorm(192)
        x = torch.zeros(2, 9, 40)
        out, _ = self.rnn(x)
        _, hidden = self.gru(x)
        attended, _ = self.attention(out, out, out)
        encoded = self.norm(self.encoder(attended))
        scaled = nn.functional.scaled_dot_product_attention(encoded, encoded, encoded)
        self.head = nn.Linear(scaled.flatten(1).shape[1], hidden.shape[-1])


def recurrent_and_attention() -> nn.Module:
    return Learnt()


def lazy_layers_after_a_forward() -> nn.Module:
    model = nn.Sequential(
        nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(300), nn.LazyLinear(400)
    )
    model(torch.zeros(2, 3, 12, 12))
    return model


def lazy_layers_left_alone() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(300))


def shapes_kept_by_a_hook() -> nn.Module:
    sizes: list[int] = []
    backbone = nn.Sequential(nn.Conv2d(3, 24, 3, 2), nn.Conv2d(24, 48, 3, 2), nn.Conv2d(48, 96, 3, 2))

    def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        sizes.append(output.shape[1])

    handles = [layer.register_forward_hook(keep) for layer in backbone]
    backbone(torch.empty(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    return nn.ModuleList([backbone, *[nn.Conv2d(size, 256, 1) for size in sizes]])


def embedding_and_loss() -> nn.Module:
    embedding = nn.Embedding(30000, 64)
    tokens = torch.randint(0, 30000, (2, 17))
    embedded = embedding(tokens)
    bag = nn.EmbeddingBag(9000, 32)
    summed = bag(torch.tensor([1, 2, 3, 4]), torch.tensor([0, 2]))
    loss = nn.functional.cross_entropy(embedded.flatten(0, 1), tokens.flatten() % 64)
    return nn.Sequential(embedding, bag, nn.Linear(embedded.shape[1] + summed.shape[1], 1 + loss.dim()))


def packed_sequence() -> nn.Module:
    rnn = nn.LSTM(30, 60, batch_first=True)
    packed = nn.utils.rnn.pack_padded_sequence(torch.zeros(2, 5, 30), torch.tensor([5, 3]), batch_first=True)
    out, _ = rnn(packed)
    padded, lengths = nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
    return nn.Sequential(rnn, nn.Linear(padded.shape[-1], int(lengths.sum())))


def many_operations() -> nn.Module:
    x = torch.randn(1, 16, 20, 20)
    x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
    x = nn.PixelShuffle(2)(nn.ConvTranspose2d(16, 32, 4, 2, 1)(x))
    x = nn.functional.grid_sample(x, torch.zeros(1, 30, 30, 2), align_corners=False)
    x = nn.functional.pad(nn.functional.unfold(x, 3, stride=2), (1, 2))
    x = nn.GroupNorm(2, x.shape[1])(x).softmax(-1).cumsum(1).flip(0).roll(1, 2)
    x = torch.linalg.norm(x, dim=-1)
    return nn.Linear(x.shape[-1], torch.topk(x, 5).values.shape[-1])
