"""Quantised weights, packed where ``named_parameters()`` does not see them: each counts as what it stands for."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from paramcount.inventory import Note, Param
from paramcount.units import exact, plural

_QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
_RECURRENT = "torch.ao.nn.quantized.dynamic.modules.rnn"


def packed_params(name: str, module: nn.Module) -> Iterator[Param]:
    """Yield what a module of ``torch.ao.nn.quantized`` has for parameters, in all but PyTorch's registry.

    Elements are those that ``weight()`` and ``bias()`` unpack, bytes are as stored, without scales and zero points;
    none of them trains. What a recurrent layer packs cannot be unpacked: it has a parameter of unknown size.
    """
    home = type(module).__module__
    if not home.startswith(_QUANTIZED):
        return
    prefix = f"{name}." if name else ""
    if home == _RECURRENT and type(module).__name__ == "PackedParameter":
        yield Param(f"{prefix}param", None, "qint8", None, None, trainable=False)
        return
    for key in ("weight", "bias"):
        unpack = getattr(module, key, None)
        tensor = unpack() if callable(unpack) else None
        if isinstance(tensor, Tensor):
            nbytes = tensor.numel() * tensor.element_size()
            dtype = str(tensor.dtype).removeprefix("torch.")
            yield Param(f"{prefix}{key}", tuple(tensor.shape), dtype, tensor.numel(), nbytes, trainable=False)


def packed_notes(params: list[Param]) -> Iterator[Note]:
    """Note that quantised weights are part of a count, which ``named_parameters()`` would not show."""
    known = [param for param in params if param.numel is not None]
    if known:
        elements = exact(sum(param.numel or 0 for param in known))
        message = (
            f"{plural(len(known), 'tensor')} of quantised layers, {elements} elements, count as what they stand for"
        )
        yield Note("packed", "", message)
    for param in params:
        if param.numel is None:
            yield Note("packed", param.name, "a quantised recurrent layer does not unpack: totals are lower bounds")
