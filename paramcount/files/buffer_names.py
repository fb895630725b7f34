"""Tells which tensors of a bare state dict are buffers: by their names, dtypes and shapes, and by what is beside them.

A state dict does not say. What is here are the buffers that PyTorch's own modules save, and those of torchvision, timm,
transformers and diffusers whose names leave no doubt; a name that leaves some is told as doubtful, and is a parameter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache, partial
from typing import NamedTuple

from paramcount.files.stored import Stored


class Told(NamedTuple):
    """What the names tell."""

    buffers: Mapping[str, str]  # what kind of buffer it is, by its name
    doubtful: tuple[str, ...]  # names of tensors that may be buffers


def told(tensors: Iterable[Stored], packed: Collection[str] = ()) -> Told:
    """Tell buffers from parameters; the tensors named in ``packed`` are, or may be, weights of few bits."""
    given = list(tensors)
    candidates = list(_candidates(given))
    # PEFT's adapters have the name of the adapter for a key.
    projections = {t.name: "projections" for t in given if "_A." in t.name or "_B." in t.name if _is_projection(t.name)}
    if not candidates:
        return Told(projections, ())
    by_name = {tensor.name: tensor for tensor in given}
    found: dict[str, str] = projections
    doubtful: list[str] = []
    for tensor in candidates:
        if tensor.packed or tensor.name in packed:
            continue
        module, _, key = tensor.name.rpartition(".")
        place = _Place(tensor, module, key, by_name)
        rule = next((rule for rule in _rules_of(key) if rule.holds(place)), None)
        if rule is not None and not rule.is_doubtful:
            found[tensor.name] = rule.kind
        elif tensor.dtype in _WHOLE:
            found[tensor.name] = "whole numbers" if tensor.dtype != "bool" else "masks"
        elif rule is not None:
            doubtful.append(tensor.name)
    _add_frozen_norms(by_name, found, doubtful)
    _add_averages(by_name, found)
    return Told(found, tuple(doubtful))


def _candidates(tensors: Iterable[Stored]) -> Iterator[Stored]:
    """Yield what may be a buffer by its own name and form; little is asked of weights and biases, as most are."""
    for tensor in tensors:
        key = tensor.name.rpartition(".")[2]
        if key == "weight":
            may_be = len(tensor.shape) == 1 and _is_telling(tensor.name.rsplit(".", 2)[-2:][0])
        elif key == "bias":
            may_be = len(tensor.shape) == _OF_ATTENTION or tensor.name.endswith(_OF_ROUTING)
        else:
            may_be = bool(_rules_of(key))
        if may_be or tensor.dtype in _WHOLE:
            yield tensor


def _add_frozen_norms(tensors: Mapping[str, Stored], found: dict[str, str], doubtful: list[str]) -> None:
    """Add the weights of frozen batch norms, which are buffers: they have no counter, as none had before PyTorch 0.4.1.

    torchvision/ops/misc.py, ``FrozenBatchNorm2d``, of which DETR and Detectron2 have their own.
    """
    norms = [name.removesuffix("running_var") for name in found if name.endswith("running_var")]
    frozen = [norm for norm in norms if f"{norm}num_batches_tracked" not in tensors]
    affine = [name for norm in frozen for name in (f"{norm}weight", f"{norm}bias") if name in tensors]
    if 0 < len(frozen) < len(norms):
        found.update(dict.fromkeys(affine, "frozen batch norm"))
    else:
        doubtful += affine


def _is_projection(name: str) -> bool:
    """Whether it is one of the random matrices that all layers of VeRA or RandLoRA share, which do not train."""
    return name.split(".")[-2] in {"vera_A", "vera_B", "randlora_A", "randlora_B"}


def _add_averages(tensors: Mapping[str, Stored], found: dict[str, str]) -> None:
    """Add the averages of all weights that a module keeps in buffers, under their names without dots.

    ``LitEma`` of https://github.com/CompVis/stable-diffusion/blob/main/ldm/modules/ema.py.
    """
    modules = {name.removesuffix("num_updates") for name in found if name.endswith(".num_updates")}
    averages = {module for module in modules if f"{module}decay" in tensors}
    if averages:
        each = (name for name in tensors if name[: name.rfind(".") + 1] in averages)
        found.update({name: "averages of weights" for name in each if name not in found})


class _Place(NamedTuple):
    """A tensor, and where it is."""

    tensor: Stored
    module: str
    key: str
    tensors: Mapping[str, Stored]

    def beside(self, key: str) -> Stored | None:
        """Return the tensor with this key in the same module."""
        return self.tensors.get(f"{self.module}.{key}" if self.module else key)

    def above(self, key: str) -> Stored | None:
        """Return the tensor with this key in the module that holds this one's."""
        above = self.module.rpartition(".")[0]
        return self.tensors.get(f"{above}.{key}" if above else key)

    @property
    def layer(self) -> str:
        """The last part of the module's name."""
        return self.module.rpartition(".")[2]


class _Rule(NamedTuple):
    """What makes a tensor a buffer of some kind."""

    kind: str
    keys: tuple[str, ...]  # of a tensor; one that begins with * is how such a key ends, and # is a number at the end
    holds: Callable[[_Place], bool]
    is_doubtful: bool = False


# What the rules ask ---------------------------------------------------------------------------------------------------


def _always(_: _Place) -> bool:
    return True


def _is_scalar(place: _Place) -> bool:
    return place.tensor.numel == 1


def _is_vector(place: _Place) -> bool:
    return len(place.tensor.shape) == 1


def _is_row(place: _Place) -> bool:
    return len(place.tensor.shape) == 2 and place.tensor.shape[0] == 1  # noqa: PLR2004  # a matrix


def _is_square(place: _Place) -> bool:
    shape = place.tensor.shape
    return len(shape) > 1 and shape[-1] == shape[-2] > 1


def _is_causal(place: _Place) -> bool:
    """Whether it is one square matrix for all heads, as GPT-2 has its mask under the name of a bias."""
    shape = place.tensor.shape
    return len(shape) == _OF_ATTENTION and shape[:2] == (1, 1) and _is_square(place)


def _is_mask(place: _Place) -> bool:
    """Whether it masks a weight beside it, or what attends to what."""
    masked = place.key.removesuffix("mask").removesuffix("_")
    weights = (place.beside(f"{masked}_orig"), place.beside(masked or "weight"), place.above("original"))
    if any(each is not None and each.shape == place.tensor.shape for each in weights):
        return True
    is_of_attention = re.search(r"attn|attention|causal", place.key) is not None
    return _is_square(place) and (is_of_attention or all(size == 1 for size in place.tensor.shape[:-2]))


def _is_of_spectral_norm(place: _Place) -> bool:
    stem = place.key[:-2]
    orig, left = place.beside(f"{stem}_orig"), place.beside(f"{stem}_u")
    return _is_vector(place) and orig is not None and left is not None


def _is_of_biggan(place: _Place) -> bool:
    number = place.key.lstrip("usv")
    return place.beside(f"u{number}") is not None and place.beside(f"sv{number}") is not None


def _is_of_parametrization(place: _Place) -> bool:
    original = place.above("original")
    if not re.search(r"(?:^|\.)parametrizations\.[^.]+\.\d+$", place.module) or original is None:
        return False
    if place.key != "base":
        return _is_vector(place)
    return _is_square(place) and place.tensor.shape[-1] == max(original.shape[-2:], default=0)


def _is_observed(place: _Place) -> bool:
    """Whether it is of an observer, or of what quantises for show; a learnable one has parameters among it."""
    if place.key in {"scale", "zero_point"} and place.beside("learning_enabled") is not None:
        return False
    if re.fullmatch(r".*activation_post_process(?:_\d+)?|weight_fake_quant", place.layer):
        return True
    is_observer = place.beside("min_val") is not None and place.beside("max_val") is not None
    return is_observer or place.beside("fake_quant_enabled") is not None


def _is_quantiser(place: _Place) -> bool:
    """Whether it scales with whole zero points beside it: torch.ao's quantised and reference modules."""
    match = re.fullmatch(r"(.*?)(scale|zero_point)(_[0-9]+)?", place.key)
    stem, ending, number = match.groups("") if match else ("", "", "")
    beside = place.beside(f"{stem}{'zero_point' if ending == 'scale' else 'scale'}{number}")
    whole = place.tensor if ending == "zero_point" else beside
    return beside is not None and whole is not None and whole.dtype in _WHOLE and beside.numel == place.tensor.numel


def _is_of_modelopt(place: _Place) -> bool:
    return place.layer.endswith("_quantizer")


def _is_of_loss(place: _Place) -> bool:
    return _is_vector(place) and re.search(_OF_LOSS, place.module) is not None and place.beside("bias") is None


def _are_moments(place: _Place) -> bool:
    """Whether a mean and a deviation of the same shape are beside each other."""
    stem = re.sub(r"(?:mean|std|invstd|scale)$", "", place.key)
    mean = place.beside(f"{stem}mean")
    others = [place.beside(stem + key) for key in ("std", "invstd", "scale")]
    return mean is not None and any(each is not None and each.shape == mean.shape for each in others)


def _are_few_moments(place: _Place) -> bool:
    """Whether the two are for the channels of an image, or of one shape as a scaler's."""
    return _are_moments(place) and (place.tensor.numel in {1, 3} or _is_vector(place))


def _is_codebook(place: _Place) -> bool:
    """Whether a code book is learnt by moving averages, which are beside it: EnCodec's, Mimi's, vector_quantize's."""
    return any(
        place.beside(size) is not None and place.beside(total) is not None
        for size, total in (("cluster_size", "embed_avg"), ("cluster_usage", "embed_sum"))
    )


def _is_sinusoid(place: _Place) -> bool:
    shape = place.tensor.shape
    return len(shape) == 2 or (len(shape) == 3 and 1 in shape[:2])  # noqa: PLR2004  # positions and features, and a batch


def _is_of_positions(place: _Place) -> bool:
    return place.layer == "pos_embed"


def _is_of_whisper(place: _Place) -> bool:
    first, second = place.beside("conv1.weight"), place.beside("conv2.weight")
    return first is not None and second is not None and len(first.shape) == 3 and _is_sinusoid(place)  # noqa: PLR2004  # of sound


def _is_of_schedule(place: _Place) -> bool:
    """Whether it has a number for each step of a diffusion, as the noise schedule beside it has."""
    schedule = place.beside("alphas_cumprod")
    return schedule is not None and (place.tensor.shape == schedule.shape or place.key == "scale_factor")


def _are_noise_levels(place: _Place) -> bool:
    are_both = place.beside("sigmas") is not None and place.beside("log_sigmas") is not None
    return _is_vector(place) and (are_both or place.layer == "denoiser")


def _is_queue(place: _Place) -> bool:
    return place.beside("queue_ptr") is not None or place.beside("ptr_queue") is not None


def _is_fourier(place: _Place) -> bool:
    return len(place.tensor.shape) == 2 and place.tensor.shape[0] == 2  # noqa: PLR2004  # random features of two coordinates


def _is_of_rope(place: _Place) -> bool:
    return _is_vector(place) and place.layer == "rope"


def _is_of_rotary(place: _Place) -> bool:
    return re.search(r"rope|rotary", place.module) is not None


def _is_of_gguf(place: _Place) -> bool:
    return re.search(_OF_GGUF, place.module) is not None


def _is_routing(place: _Place) -> bool:
    return place.layer == "exp_probs_b"


def _is_of_xielu(place: _Place) -> bool:
    return _is_scalar(place) and place.beside("alpha_p") is not None


def _is_of_ibert(place: _Place) -> bool:
    return place.beside("act_scaling_factor") is not None


def _is_of_integer_norm(place: _Place) -> bool:
    return _is_scalar(place) and place.layer == "LayerNorm"


def _are_limits(place: _Place) -> bool:
    return _is_scalar(place) and place.beside("input_min") is not None and place.beside("output_max") is not None


# The rules ------------------------------------------------------------------------------------------------------------

_INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_WHOLE = _INTEGERS | {"bool"}  # dtypes that take no gradient
_OF_ROUTING = "exp_probs_b.bias"  # as llama.cpp calls it
_OF_ATTENTION = 4  # dimensions: batch, heads, from and to
# Patterns that few files need: none is compiled before.
_OF_GGUF = r"(?:^|\.)rope_(?:freqs|factors_(?:long|short))$"
_OF_LOSS = r"(?:^|[._])(?:loss(?:es)?|criterion|cross_entropy|nll)(?:_[^.]*|\d+)?$|[Ll]oss$"


@cache
def _is_telling(layer: str) -> bool:
    return bool(re.search(_OF_LOSS, layer) or re.search(_OF_GGUF, layer))


def _rule(kind: str, keys: str, holds: Callable[[_Place], bool] = _always) -> _Rule:
    return _Rule(kind, tuple(keys.split()), holds, is_doubtful=kind == "doubtful")


# Of several that hold, the first tells the kind.
_RULES = (
    _rule("running statistics", "running_mean running_var running_std num_batches_tracked n_averaged"),
    _rule("masks", "mask *_mask", _is_mask),
    _rule("masks", "tril triu", _is_square),
    _rule("masks", "masked_bias", _is_scalar),
    _rule("masks", "bias", _is_causal),
    _rule("masks", "attn_mask_probs"),
    _rule("vectors of spectral norm", "*_u *_v", _is_of_spectral_norm),
    _rule("vectors of spectral norm", "u0 sv0 u1 sv1", _is_of_biggan),
    _rule("parametrizations", "_u _v base", _is_of_parametrization),
    _rule(
        "observers",
        "min_val max_val min_vals max_vals eps histogram scale zero_point fake_quant_enabled observer_enabled"
        " static_enabled learning_enabled epoch_activation_min epoch_activation_max average_percentile_ratio"
        " comp_percentile constant_channels percentile_batches_tracked",
        _is_observed,
    ),
    _rule("scales and zero points", "scale zero_point *_scale *_zero_point *_scale_# *_zero_point_#", _is_quantiser),
    _rule("scales and zero points", "_amax _scale _double_scale _pre_quant_scale _bias_value", _is_of_modelopt),
    _rule("positions", "position_ids token_type_ids", _is_row),
    _rule("positions", "relative_position_index relative_coords_table"),
    _rule("positions", "pe", _is_sinusoid),
    _rule("positions", "pos_embed", _is_of_positions),
    _rule("positions", "positional_embedding", _is_of_whisper),
    _rule("positions", "positional_encoding_gaussian_matrix pos_idx_to_embed"),
    _rule("rotary frequencies", "inv_freq *_inv_freq inv_timescale inv_timescales freqs_cis freqs_cos freqs_sin"),
    _rule("rotary frequencies", "cos_cached sin_cached cos_cache sin_cache"),
    _rule("rotary frequencies", "freqs", _is_of_rope),
    _rule("rotary frequencies", "weight", _is_of_gguf),
    _rule("weights of a loss", "weight", _is_of_loss),
    _rule("weights of a loss", "empty_weight pos_weight", _is_vector),
    _rule("moments", "norm_mean norm_std pixel_mean pixel_std data_mean data_std", _are_moments),
    _rule("moments", "latents_mean latents_std _latents_mean _latents_std latent_mean latent_std", _are_moments),
    _rule("moments", "global_mean global_invstd", _are_moments),
    _rule("moments", "mean std scale", _are_few_moments),
    _rule("routing", "e_score_correction_bias balancing_biases", _is_vector),
    _rule("routing", "bias", _is_routing),
    _rule(
        "code books", "embed embed_avg embed_sum cluster_size cluster_usage inited initted initialized", _is_codebook
    ),
    _rule("code books", "_ema_cluster_size", _is_vector),
    _rule("anchors", "anchors anchor_grid"),
    _rule(
        "noise schedules",
        "betas alphas_cumprod *_alphas_cumprod *alphas_cumprod_prev posterior_variance posterior_log_variance_clipped"
        " posterior_mean_coef1 posterior_mean_coef2 loss_weight p2_loss_weight scale_factor",
        _is_of_schedule,
    ),
    _rule("noise schedules", "sigmas log_sigmas", _are_noise_levels),
    _rule("queues", "queue *_queue", _is_queue),
    # Of single models of transformers, under names that no parameter has.
    _rule("constants", "final_logits_bias", _is_row),
    _rule("constants", "layer_scalar", _is_scalar),
    _rule("constants", "n_points_scale num_points_scale diagonal_decay key_decay query_decay slope_rate"),
    _rule("constants", "dft_mat_hidden dft_mat_seq"),
    _rule("constants", "beta eps", _is_of_xielu),
    _rule("constants", "input_min input_max output_min output_max", _are_limits),
    _rule("constants", "weight_integer bias_integer act_scaling_factor fc_scaling_factor weight_scaling_factor"),
    _rule("constants", "x_min x_max", _is_of_ibert),
    _rule("constants", "shift", _is_of_integer_norm),
    _rule("doubtful", "freqs", _is_of_rotary),
    _rule("doubtful", "positional_embedding", _is_fourier),
    _rule("doubtful", "expert_bias std_scale std_bias", _is_vector),
    _rule("doubtful", "logvar", _is_of_schedule),
    _rule("doubtful", "sigmas log_sigmas *_window", _is_vector),
    _rule("doubtful", "fb dct_mat window basis *_basis filter frequencies mean std *_mean *_std"),
)


@cache
def _rules_of(key: str) -> tuple[_Rule, ...]:
    return tuple(rule for rule in _RULES if any(map(partial(_has, key), rule.keys)))


def _has(key: str, form: str) -> bool:
    if form.endswith("#"):
        key = key.rstrip("0123456789") + "#"
    return key.endswith(form[1:]) if form.startswith("*") else key == form
