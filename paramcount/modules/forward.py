"""Runs a model once, so that lazy layers get their shapes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from paramcount.inputs import Input
from paramcount.inventory import Note
from paramcount.modules.failure import ForwardFailed
from paramcount.units import plural


def warm_up(model: nn.Module, inputs: Sequence[Input]) -> tuple[nn.Module, tuple[Note, ...]]:
    """Return ``model`` after one forward with tensors of zeros, as in evaluation; without inputs as it is.

    Raises:
        ForwardFailed: the forward raised an exception, which is its cause.

    """
    if not inputs:
        return model, ()
    written = " ".join(map(str, inputs))
    lazy = sum(map(is_lazy, model.parameters()))
    positional = [_zeros(given) for given in inputs if given.name is None]
    by_name = {given.name: _zeros(given) for given in inputs if given.name is not None}
    training = [module for module in model.modules() if module.training]
    model.eval()  # batch norm in training refuses a batch of one
    try:
        with torch.no_grad():
            model(*positional, **by_name)
    except Exception as error:
        raise ForwardFailed(written) from error
    finally:
        for module in training:
            module.training = True
    shaped = lazy - sum(map(is_lazy, model.parameters()))
    message = f"{plural(shaped, 'parameter')} of lazy layers got their shapes from one forward with input {written}"
    return model, (Note("input", "", message),) if shaped else ()


def _zeros(given: Input) -> torch.Tensor:
    return torch.zeros(given.shape, dtype=getattr(torch, given.dtype))
