"""The buffers in a bare state dict are those that its live model has, and a file counts as the module does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.ao import quantization as _quantization
from torch.ao.quantization import quantize_fx as _quantize_fx
from torch.ao.quantization._learnable_fake_quantize import _LearnableFakeQuantize
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as _prune

from paramcount.files.buffer_names import Told, told
from paramcount.files.stored import Stored
from paramcount.report import Report
from paramcount.sources import Target, resolve

quantization: Any = _quantization  # which has no types
quantize_fx: Any = _quantize_fx
prune: Any = _prune


def counted(word: object) -> Report:
    source, name = resolve(str(word))
    return Report.of(source.read(Target(str(word)), name))


def stored(name: str, shape: tuple[int, ...], dtype: str = "float32") -> Stored:
    return Stored(name, shape, dtype, torch.Size(shape).numel(), 4 * torch.Size(shape).numel())


def told_of(state: dict[str, Any]) -> Told:
    return told(stored(name, tuple(each.shape), str(each.dtype)[6:]) for name, each in state.items())


def saved_buffers(model: nn.Module) -> set[str]:
    params = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return model.state_dict().keys() - params


# Modules of PyTorch ---------------------------------------------------------------------------------------------------


def _pruned(*names: str) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 6), nn.Conv2d(3, 6, 3))
    for name in names:
        prune.random_unstructured(model[0], name, 0.5)
    prune.ln_structured(model[1], "weight", 0.3, 2, 0)
    return model


def _observed() -> Any:
    model: Any = nn.Sequential(nn.Linear(4, 6), nn.ReLU()).eval()
    model.qconfig = quantization.get_default_qconfig("fbgemm")
    model = quantization.prepare(model)
    model(torch.randn(3, 4))
    return model


def _trained_for_quantising(backend: str) -> Any:
    model: Any = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6, 4)).train()
    model.qconfig = quantization.get_default_qat_qconfig(backend)
    model = quantization.prepare_qat(model)
    model(torch.randn(2, 3, 3, 3))
    return model


def _traced(prepare: Callable[..., nn.Module]) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid())
    mapping = quantization.get_default_qat_qconfig_mapping("fbgemm")
    return prepare(model.train(), mapping, torch.randn(3, 4))


def _for_reference() -> Any:
    """Return a model of plain layers between functions that quantise for show, with scales in the graph for those."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6, 4)).eval()
    example = torch.randn(2, 3, 3, 3)
    observed = quantize_fx.prepare_fx(model, quantization.get_default_qconfig_mapping("fbgemm"), example)
    observed(example)
    converted = quantize_fx.convert_to_reference_fx(observed)
    plain = {key: each for key, each in converted.state_dict().items() if isinstance(each, torch.Tensor)}
    converted.state_dict = lambda: plain  # without the dtypes and schemes that are in it, too
    return converted


class _Masked(nn.Module):
    """Has the masks that people write."""

    def __init__(self) -> None:
        super().__init__()
        self.c_attn = nn.Linear(8, 24)
        self.weight = nn.Parameter(torch.ones(5, 4))
        self.register_buffer("bias", torch.tril(torch.ones(16, 16)).view(1, 1, 16, 16))
        self.register_buffer("masked_bias", torch.tensor(-1e4))
        self.register_buffer("mask", torch.ones(5, 4))
        self.register_buffer("tril", torch.tril(torch.ones(16, 16)))
        self.register_buffer("causal_mask", torch.ones(1, 16, 16).bool())
        self.register_buffer("attn_mask", torch.zeros(4, 9, 9))
        self.register_buffer("position_ids", torch.arange(16)[None])


class _Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 8))
        self.register_buffer("pe", torch.zeros(5, 1, 8))
        self.register_buffer("inv_freq", torch.zeros(8))
        self.register_buffer("freqs_cis", torch.zeros(16, 4, dtype=torch.complex64))
        self.register_buffer("cos_cached", torch.zeros(16, 8))
        self.register_buffer("sin_cached", torch.zeros(16, 8))


class _Diffusion(nn.Module):
    """Has its noise schedule in buffers, and averages of all weights under their names without dots."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))
        alphas = torch.linspace(0.99, 0.9, 10).cumprod(0)
        for name in ("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_one_minus_alphas_cumprod"):
            self.register_buffer(name, alphas.clone())
        self.register_buffer("posterior_mean_coef1", alphas.clone())
        self.register_buffer("scale_factor", torch.tensor(0.18))
        self.model_ema = nn.Module()
        self.model_ema.register_buffer("decay", torch.tensor(0.9999))
        self.model_ema.register_buffer("num_updates", torch.tensor(0, dtype=torch.int))
        for name, param in self.model.named_parameters():
            self.model_ema.register_buffer(name.replace(".", ""), param.detach().clone())
        self.denoiser = nn.Module()
        self.denoiser.register_buffer("sigmas", alphas.clone())


class _Adapted(nn.Module):
    """Has what PEFT's VeRA adds to a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = nn.Linear(4, 6)
        for name in ("vera_A", "vera_B"):
            self.add_module(name, nn.Module())
            self.get_submodule(name).register_buffer("default", torch.zeros(2, 4))
        self.vera_lambda_d = nn.ParameterDict({"default": torch.zeros(2)})


class _Contrastive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 6)
        self.register_buffer("queue", torch.zeros(6, 20))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))


class _Listening(nn.Module):
    """Has the encoder of OpenAI's Whisper, whose positions are a buffer, and its decoder's, which train."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.conv1, self.encoder.conv2 = nn.Conv1d(4, 6, 3), nn.Conv1d(6, 6, 3)
        self.encoder.register_buffer("positional_embedding", torch.zeros(15, 6))
        self.decoder = nn.Module()
        self.decoder.positional_embedding = nn.Parameter(torch.zeros(15, 6))


def _losses() -> nn.Module:
    of_two = nn.BCEWithLogitsLoss(weight=torch.ones(6), pos_weight=torch.ones(6))
    others = {"loss": nn.CrossEntropyLoss(weight=torch.ones(6)), "criterion": nn.NLLLoss(weight=torch.ones(6))}
    return nn.ModuleDict({"net": nn.Linear(4, 6), "bce_loss": of_two, **others})


MODULES: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)),
    "pruned": lambda: _pruned("weight"),
    "pruned twice": lambda: _pruned("weight", "bias"),
    "spectral norm": lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(4, 6)), nn.Conv2d(3, 4, 1)),
    "spectral norm of a convolution": lambda: nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)),
    "spectral norm as a parametrization": lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 6))),
    "orthogonal": lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(4, 6))),
    "orthogonal itself": lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    "weight norm": lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 6))),
    "weight norm as a parametrization": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 6))),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))),
    "observed": _observed,
    "trained for quantising, fbgemm": lambda: _trained_for_quantising("fbgemm"),
    "trained for quantising, qnnpack": lambda: _trained_for_quantising("qnnpack"),
    "traced and observed": lambda: _traced(quantize_fx.prepare_fx),
    "traced and trained for quantising": lambda: _traced(quantize_fx.prepare_qat_fx),
    "for reference": _for_reference,
    "masks": _Masked,
    "positions": _Positions,
    "losses": _losses,
    "diffusion": _Diffusion,
    "contrastive": _Contrastive,
    "VeRA": lambda: nn.Sequential(_Adapted()),
    "Whisper": _Listening,
    "frozen batch norm": lambda: nn.Sequential(nn.BatchNorm2d(4), torchvision.ops.FrozenBatchNorm2d(4)),
    "embeddings": lambda: nn.Embedding(3, 4),
    "plain": lambda: nn.TransformerEncoderLayer(8, 2, 16),
    "Swin": lambda: torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [1, 1], [7, 7]),
    "Swin V2": lambda: torchvision.models.swin_transformer.SwinTransformer(
        [4, 4], 8, [1, 1], [1, 1], [7, 7], block=torchvision.models.swin_transformer.SwinTransformerBlockV2
    ),
    "MaxViT": lambda: torchvision.models.MaxVit((64, 64), 8, 2, [8, 8], [1, 1], 4, 0.0),
}


# Those that PyTorch pickles as they are.
WHOLE = (
    "batch norm",
    "pruned",
    "averaged",
    "masks",
    "positions",
    "losses",
    "diffusion",
    "contrastive",
    "frozen batch norm",
    "plain",
    "Swin",
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", MODULES)
def test_every_form_of_a_model_has_its_parameters_and_buffers(kind: str, tmp_path: Path) -> None:
    model = MODULES[kind]()
    state = {name: each.detach().clone().contiguous() for name, each in model.state_dict().items()}
    assert told_of(state).buffers.keys() == saved_buffers(model)
    save_file(state, tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "state.pt")
    files = [tmp_path / "model.safetensors", tmp_path / "state.pt"]
    if kind in WHOLE:
        torch.save(model, tmp_path / "whole.pt")
        files.append(tmp_path / "whole.pt")
    for file in files:
        report = counted(file)
        assert report.total == sum(param.numel() for param in model.parameters())
        assert report.buffers.total == sum(state[name].numel() for name in saved_buffers(model))


def test_parameters_that_a_learnable_quantiser_has_are_parameters() -> None:
    learnable: Any = _LearnableFakeQuantize
    model = nn.ModuleDict({"weight_fake_quant": learnable(quantization.MovingAverageMinMaxObserver)})
    assert told_of(model.state_dict()).buffers.keys() == saved_buffers(model)
    assert {"weight_fake_quant.scale", "weight_fake_quant.zero_point"}.isdisjoint(saved_buffers(model))


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "swin_v2_t", "maxvit_t", "vit_b_32", "convnext_tiny", "inception_v3", "googlenet", "vgg11_bn"),
        *(
            "mobilenet_v3_small",
            "fasterrcnn_resnet50_fpn",
            "raft_small",
            "mc3_18",
            "swin3d_t",
            "mvit_v1_b",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight init")
def test_a_model_of_torchvision_is_told_apart(name: str) -> None:
    more: dict[str, Any] = {"weights_backbone": None} if name.endswith("fpn") else {}
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, **more)
    found = told_of(model.state_dict())
    assert set(found.buffers) == saved_buffers(model)
    assert not found.doubtful


# Names alone ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("head.bias", "attn.rel_bias", "ls1.gamma", "logit_scale", "norm.scale", "proxy_loss.weight", "mask_token"),
        *("arc.weight_u", "net.weight_v", "patch_mask", "conv.base", "adapter.scale", "std_head.weight", "eps", "beta"),
    ],
)
def test_a_parameter_that_sounds_like_a_buffer_is_one(name: str) -> None:
    assert told([stored(name, (6, 4)), stored("net.weight", (4, 4)), stored("net.bias", (4,))]) == Told({}, ())


def test_a_bias_is_a_mask_only_in_the_shape_of_one() -> None:
    shapes = ((7,), (1, 7, 1, 1), (1, 1, 1, 1), (1, 2, 7, 7), (1, 1, 7, 5), (1, 1, 7, 7))
    assert [bool(told([stored("h.0.attn.bias", shape)]).buffers) for shape in shapes] == [False] * 5 + [True]


def test_whole_numbers_are_no_parameters_but_packed_ones() -> None:
    for dtype in ("int64", "int32", "int16", "uint8", "bool"):
        ids = stored("a.ids", (3, 4), dtype)
        assert told([ids]).buffers.keys() == {"a.ids"}
        assert told([ids], {"a.ids"}).buffers == {}
        assert told([ids._replace(packed=True)]).buffers == {}


def test_what_is_told_by_name_is_listed_by_kind(tmp_path: Path) -> None:
    save_file(
        {
            **{f"{at}.running_mean": torch.zeros(3) for at in range(3)},
            "h.attn.bias": torch.ones(1, 1, 4, 4),
            "fc.weight": torch.zeros(2, 3),
            "stft.window": torch.zeros(8),
        },
        tmp_path / "model.safetensors",
    )
    report = counted(tmp_path / "model.safetensors")
    assert (report.total, report.buffers.total) == (6 + 8, 9 + 16)
    notes = {note.code: (note.where, note.message) for note in report.notes}
    assert "(running statistics: 0.running_mean and 2 more; masks: h.attn.bias)" in notes["buffers-by-name"][1]
    assert notes["perhaps-buffer"][0] == "stft.window"


def test_batch_norms_that_may_be_frozen_are_told() -> None:
    norm = [stored(f"n.{key}", (4,)) for key in ("weight", "bias", "running_mean", "running_var")]
    assert told(norm).doubtful == ("n.weight", "n.bias")
