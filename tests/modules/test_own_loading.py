"""What loading a state dict does beside filling tensors is told module by module, and of a plain model nothing is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torchvision.models.vision_transformer import MLPBlock

from paramcount.inventory import Special
from paramcount.modules.own_loading import find_special

State = dict[str, Tensor]


class Renaming(nn.Linear):
    """Takes the names of an older version, by an override or a hook."""

    def _load_from_state_dict(self, state_dict: State, prefix: str, *args: Any) -> None:
        for key in ("weight", "bias"):
            if f"{prefix}old_{key}" in state_dict:
                state_dict[prefix + key] = state_dict.pop(f"{prefix}old_{key}")
        super()._load_from_state_dict(state_dict, prefix, *args)


def _without_scale(_module: nn.Module, state: State, prefix: str, *_: Any) -> None:
    state.pop(f"{prefix}scale", None)


def _hooked() -> nn.Module:
    layer = nn.Linear(2, 3)
    layer.register_load_state_dict_pre_hook(_without_scale)  # type: ignore[no-untyped-call]  # PyTorch has no types
    return layer


class Lenient(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return super().load_state_dict(state_dict, strict=False, assign=assign)


class Meter(nn.Linear):
    """Keeps more than tensors in its state dict."""

    def get_extra_state(self) -> Any:
        return {"steps": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


class Saver(nn.Linear):
    """Writes extra state that it does not take back."""

    def get_extra_state(self) -> Any:
        return torch.zeros(2)


def _loads_after() -> nn.Module:
    layer = nn.Linear(2, 3)
    hook: Any = layer.register_load_state_dict_post_hook  # PyTorch has no types
    hook(lambda _module, _keys: None)
    return layer


def _batch_norms() -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(2), nn.InstanceNorm1d(2, affine=True), nn.LazyLinear(2))


FOUND: dict[str, tuple[Callable[[], nn.Module], tuple[Special, ...]]] = {
    "plain layers": (lambda: nn.Sequential(nn.Linear(2, 2), nn.TransformerEncoderLayer(4, 2)), ()),
    "layers whose loading is known": (_batch_norms, ()),
    "an override": (lambda: nn.Sequential(Renaming(2, 3), nn.Linear(3, 3)), (Special("0", "own"),)),
    "five overrides": (
        lambda: nn.Sequential(*(Renaming(2, 2) for _ in range(5))),
        tuple(Special(name, "own") for name in "01234"),
    ),
    "a hook before": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.Sequential(_hooked(), nn.Linear(2, 2))),
        (Special("1.0", "own"),),
    ),
    "a hook after": (lambda: nn.Sequential(nn.Linear(2, 2), _loads_after()), (Special("1", "own"),)),
    "a model that loads as it likes": (Lenient, (Special("", "own"),)),
    "such a model in another": (lambda: nn.Sequential(Lenient()), ()),  # its own load_state_dict() is not called
    "extra state": (
        lambda: nn.Sequential(nn.Linear(2, 2), Meter(2, 2), nn.Sequential(Meter(2, 2))),
        (Special("1._extra_state", "extra state"), Special("2.0._extra_state", "extra state")),
    ),
    "extra state at the root": (lambda: Meter(2, 2), (Special("_extra_state", "extra state"),)),
    "extra state that is only written": (lambda: Saver(2, 2), ()),
    "weight norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2)), nn.Linear(2, 2)),
        (Special("0.weight", "weight norm"),),
    ),
    "weight norm as it was": (lambda: weight_norm(nn.Linear(2, 2)), ()),
    "another parametrization": (lambda: parametrizations.orthogonal(nn.Linear(2, 2)), ()),
    "spectral norm as it was": (lambda: spectral_norm(nn.Linear(2, 2)), (Special("", "old names"),)),
    "a layer that had other names": (lambda: nn.Sequential(MLPBlock(4, 8, 0.0)), (Special("0", "old names"),)),
}


@pytest.mark.parametrize("what", FOUND)
def test_every_module_that_loads_in_a_way_of_its_own_is_found(what: str) -> None:
    make, found = FOUND[what]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old functions are deprecated
        model = make()
    assert tuple(find_special(model.named_modules(), model)) == found


def test_what_its_own_loading_takes_is_what_plain_loading_would_refuse() -> None:
    """PyTorch's own word for it that these have to be told apart: the old names load into the one alone."""
    state = {f"old_{key}": tensor for key, tensor in nn.Linear(2, 3).state_dict().items()}
    Renaming(2, 3).load_state_dict(dict(state), strict=True)
    with pytest.raises(RuntimeError, match="Missing key"):
        nn.Linear(2, 3).load_state_dict(state, strict=True)
    Lenient().load_state_dict({}, strict=True)
    _hooked().load_state_dict({**nn.Linear(2, 3).state_dict(), "scale": torch.ones(1)}, strict=True)
