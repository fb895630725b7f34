"""Constructors that initialise by hand. None of it is done where nobody can see the outcome; all sizes are right."""

# Written as users write, and with what PyTorch does not type.
# mypy: ignore-errors

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn


def all_of_nn_init() -> nn.Module:
    model = nn.ParameterList()
    for size in (8, 300):
        for init in (
            nn.init.uniform_,
            nn.init.normal_,
            nn.init.trunc_normal_,
            nn.init.ones_,
            nn.init.zeros_,
            nn.init.eye_,
            nn.init.xavier_uniform_,
            nn.init.xavier_normal_,
            nn.init.kaiming_uniform_,
            nn.init.kaiming_normal_,
            nn.init.orthogonal_,
        ):
            model.append(nn.Parameter(init(torch.empty(size, size + 2))))
        model.append(nn.Parameter(nn.init.constant_(torch.empty(size, size), 0.3)))
        model.append(nn.Parameter(nn.init.sparse_(torch.empty(size, size), 0.3)))
        model.append(nn.Parameter(nn.init.dirac_(torch.empty(size, size, 3))))
    return model


def orthogonal_by_qr() -> nn.Module:
    model = nn.Module()
    for name, size in (("small", 12), ("large", 300)):
        flat = torch.randn(size, size)
        q, r = torch.linalg.qr(flat)
        q = q * torch.sign(torch.diag(r))
        model.register_parameter(f"{name}_qr", nn.Parameter(q))
        u, s, v = torch.linalg.svd(flat, full_matrices=False)
        model.register_parameter(f"{name}_svd", nn.Parameter(u @ torch.diag(s) @ v))
        model.register_parameter(f"{name}_eigh", nn.Parameter(torch.linalg.eigh(flat @ flat.t())[1]))
        model.register_parameter(f"{name}_inverse", nn.Parameter(torch.inverse(flat + 99 * torch.eye(size))))
        model.register_parameter(f"{name}_cholesky", nn.Parameter(torch.linalg.cholesky(torch.eye(size) * 2)))
        model.register_parameter(f"{name}_expm", nn.Parameter(torch.matrix_exp(flat - flat.t())))
    return model


def orthogonal_by_numpy_of_small() -> nn.Module:
    layer = nn.Linear(12, 12)
    q, _ = np.linalg.qr(np.arange(144.0).reshape(12, 12) % 7 + np.eye(12))
    layer.weight.data = torch.from_numpy(q.astype(np.float32))
    layer.bias.data.copy_(torch.tensor(np.zeros(12)))
    return layer


def initialised_by_apply() -> nn.Module:
    def init(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            fan_in, _ = nn.init._calculate_fan_in_and_fan_out(module.weight)
            bound = 1 / math.sqrt(fan_in)
            module.weight.data.normal_(0, 0.02).clamp_(-bound, bound)
            module.bias.data.zero_()
        elif isinstance(module, nn.LayerNorm):
            nn.init.constant_(module.weight, 1.0)
        elif isinstance(module, nn.Embedding):
            module.weight.data[module.padding_idx].zero_()

    model = nn.Sequential(
        nn.Embedding(3000, 64, padding_idx=0), nn.Linear(64, 300), nn.LayerNorm(300), nn.Linear(300, 64)
    )
    return model.apply(init)


def pieces_of_fused_weights() -> nn.Module:
    model = nn.MultiheadAttention(256, 4)
    q, k, v = model.in_proj_weight.chunk(3)
    for piece in (q, k, v):
        nn.init.xavier_uniform_(piece)
    gru = nn.GRU(128, 128)
    for name, parameter in gru.named_parameters():
        if "weight" in name:
            for gate in parameter.data.chunk(3, 0):
                nn.init.orthogonal_(gate)
        else:
            parameter.data[128:256].fill_(1)
    return nn.Sequential(model, gru)


def norms_by_hooks() -> nn.Module:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(
            nn.utils.weight_norm(nn.Linear(300, 300)),
            nn.utils.weight_norm(nn.Conv2d(3, 4, 3), dim=None),
            nn.utils.spectral_norm(nn.Linear(300, 300)),
            nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)),
            nn.utils.remove_weight_norm(nn.utils.weight_norm(nn.Linear(300, 30))),
            nn.utils.remove_spectral_norm(nn.utils.spectral_norm(nn.Linear(300, 30))),
        )


def norms_by_parametrization() -> nn.Module:
    from torch.nn.utils import parametrizations, parametrize

    class Symmetric(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.triu() + x.triu(1).transpose(-1, -2)

    own = nn.Linear(300, 300)
    parametrize.register_parametrization(own, "weight", Symmetric())
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(300, 300)),
        parametrizations.weight_norm(nn.Linear(5, 5)),
        parametrizations.spectral_norm(nn.Linear(300, 300)),
        parametrizations.spectral_norm(nn.Linear(5, 5)),
        own,
    )


def pruned() -> nn.Module:
    from torch.nn.utils import prune

    model = nn.Sequential(nn.Linear(300, 300), nn.Linear(20, 20), nn.Conv2d(3, 8, 3))
    prune.random_unstructured(model[0], "weight", amount=0.3)
    prune.ln_structured(model[1], "weight", amount=0.5, n=2, dim=0)
    prune.l1_unstructured(model[2], "weight", amount=5)
    prune.identity(model[2], "bias")
    prune.remove(model[1], "weight")
    return model


def quantised_scales() -> nn.Module:
    weight = torch.randn(300, 300)
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    model = nn.Module()
    model.register_buffer("packed", (weight / scale).round().clamp(-128, 127).to(torch.int8))
    model.scale = nn.Parameter(scale)
    return model


def averaged_weights() -> nn.Module:
    students = [nn.Linear(300, 300) for _ in range(3)]
    mean = torch.stack([student.weight for student in students]).mean(0)
    flat = nn.utils.parameters_to_vector(students[0].parameters())
    nn.utils.vector_to_parameters(flat * 2, students[1].parameters())
    model = nn.Linear(300, 300)
    model.weight = nn.Parameter(mean.detach())
    return nn.Sequential(*students, model)


def pieces_written_by_number() -> nn.Module:
    layer = nn.Linear(300, 300)
    table = torch.zeros(6, 6)
    with torch.no_grad():
        layer.weight[0] = 1
        layer.weight[3:7, ::2] = 0.5
        layer.weight[..., None, 2].clamp_(min=0.1).div_(2).sub_(1)
        layer.bias[-1] = torch.tensor(2.0)
        layer.weight[torch.tensor(2) : torch.tensor(4)] = 0
    for row in range(6):
        table[row, : row + 1] = row
    table[1:3, 2] += 4
    return nn.Sequential(layer, nn.Linear(int(table.sum()), int(table[2, 2]) + int(table[-1][0])))
