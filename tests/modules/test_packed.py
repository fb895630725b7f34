"""A quantised weight counts as the weights that it stands for, and what cannot be unpacked is never 0."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torchvision.models import quantization

import paramcount


def quantized(model: nn.Module, *kinds: type[nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao announces its end
        return torch.ao.quantization.quantize_dynamic(model, set(kinds))  # type: ignore[no-any-return, no-untyped-call]


def test_quantised_linears_count_as_their_float_selves() -> None:
    report = paramcount.count(quantized(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2, bias=False)), nn.Linear))
    assert (report.total, report.trainable) == (8 * 4 + 4 + 4 * 2, 0)
    assert {p.name: p.shape for p in report.params} == {"0.weight": (4, 8), "0.bias": (4,), "1.weight": (2, 4)}
    assert report.nbytes == (8 * 4 + 4 * 2) * 1 + 4 * 4  # weights in bytes, the bias as float32
    assert [note.code for note in report.notes] == ["packed"]


def test_torchvisions_quantised_model_has_all_weights_of_its_convolutions_and_linears() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = quantization.resnet18(quantize=True)
        unpacked = [
            part() for m in model.modules() for key in ("weight", "bias") if callable(part := getattr(m, key, None))
        ]
    assert paramcount.count(model).total == sum(tensor.numel() for tensor in unpacked) > 11_000_000


def test_what_cannot_be_unpacked_is_unknown() -> None:
    report = paramcount.count(quantized(nn.Sequential(nn.LSTM(4, 4)), nn.LSTM))
    assert (report.total, report.uninitialized) == (0, 1)
    assert [note.code for note in report.notes] == ["packed"]
