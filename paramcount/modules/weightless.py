"""A way to run any constructor in next to no memory: small tensors are real, large ones have only a shape.

Large tensors live on the meta device. Small ones are computed as usual, because constructors read values from them
(drop-path rates from ``linspace``, layer widths from ``tolist()``). Where the two meet, the result is as unknown as
its least known part, and a value that is asked for and not known ends the attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from typing import Any, Protocol

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

# Elements up to which a tensor is real. One without values of its own yet (empty, random) is most likely a weight.
LARGEST_COMPUTED = 1 << 16
LARGEST_UNINITIALIZED = 1 << 8

aten = torch.ops.aten
Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class ValueNeeded(RuntimeError):
    """The constructor reads a value that only real memory would hold."""


class Log(Protocol):
    """Where the modes leave word of what they did."""

    nbytes: int
    obstacle: str | None


class Weightless:
    """The two modes that together stand in for memory and for every device."""

    def __init__(self, log: Log) -> None:
        """Report to ``log``."""
        self._tensors = _Tensors(log)
        self._requests = _Requests(self._tensors)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Build without memory inside this context."""
        with self._requests, self._tensors:
            yield


class _Tensors(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's own lack
    """Decides for each operation whether its result is real, and skips all writing of values nobody can read."""

    def __init__(self, log: Log) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the same
        self.log = log
        # Real storages that hold no values yet, because writing them was skipped: kept alive, so that no other
        # tensor can come by the same address.
        self.hollow: dict[int, torch.UntypedStorage] = {}

    def is_unknown(self, tensor: torch.Tensor) -> bool:
        return tensor.is_meta or (bool(self.hollow) and tensor.untyped_storage()._cdata in self.hollow)  # noqa: SLF001

    def hollow_out(self, tensor: torch.Tensor) -> None:
        if not tensor.is_meta:
            storage = tensor.untyped_storage()
            self.hollow[storage._cdata] = storage  # noqa: SLF001  # the one identity a storage has

    def need(self, what: str) -> ValueNeeded:
        self.log.obstacle = self.log.obstacle or what
        return ValueNeeded(f"paramcount builds without memory, and here {what}")

    def __torch_dispatch__(self, func: Any, types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("pin_memory"):
            kwargs = {**kwargs, "pin_memory": False}
        if _writes_values(func):
            return self.write(func, args, kwargs)
        tensors = [leaf for leaf in tree_iter((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if not tensors or func in _LIKE_FACTORIES:
            return self.create(func, args, kwargs)
        if any(self.is_unknown(tensor) for tensor in tensors):
            return self.infer(func, args, kwargs)
        if func is aten._to_copy.default or _is_view(func) or _certainly_small(tensors, args):  # noqa: SLF001
            return func(*args, **kwargs)
        return self.compute(func, args, kwargs)

    def write(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Write values in place, or not: a target that is large, or gets unknown values, is not worth the memory."""
        target = args[0]
        if target.is_meta:
            return target
        sources = [leaf for leaf in tree_iter((args[1:], kwargs)) if isinstance(leaf, torch.Tensor)]
        if any(self.is_unknown(source) for source in sources) or (
            target.numel() > LARGEST_COMPUTED and torch.Tag.nondeterministic_seeded in func.tags
        ):
            self.hollow_out(target)
            return target
        return func(*args, **kwargs)

    def create(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Make a tensor from nothing but its size, real where it is small."""
        shell = func(*args, **{**kwargs, "device": "meta"})
        if _device_type(kwargs.get("device")) == "meta":
            return shell
        source = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if source is not None and source.is_meta:
            return shell
        valueless = func in _VALUELESS or torch.Tag.nondeterministic_seeded in func.tags
        if shell.numel() > (LARGEST_UNINITIALIZED if valueless else LARGEST_COMPUTED):
            self.log.nbytes += shell.numel() * shell.element_size()
            return shell
        return func(*args, **{**kwargs, "device": "cpu"})

    def infer(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Find only the shape of a result, because a part of it is unknown."""
        if func is aten._local_scalar_dense.default:  # noqa: SLF001
            raise self.need("a value is read from a tensor that has none")
        if torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags:
            raise self.need(f"the outcome of {func.__name__.partition('.')[0]} depends on values that are not there")
        if func is aten._to_copy.default and _device_type(kwargs.get("device")) == "cpu" and args[0].is_meta:  # noqa: SLF001
            # Not the user's .cpu(), which never gets this far: PyTorch itself is about to read the memory.
            raise self.need("a value is read from a tensor that has none")
        if _is_view(func) and not args[0].is_meta:
            return func(*args, **kwargs)  # a view of a hollow storage is as hollow, and still the same memory
        if "device" in kwargs:
            kwargs = {**kwargs, "device": "meta"}
        args, kwargs = tree_map_only(torch.Tensor, _to_meta, (args, kwargs))
        return func(*args, **kwargs)

    def compute(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Compute what may be large only if it is not."""
        shells = tree_map_only(torch.Tensor, _to_meta, (args, kwargs))
        try:
            shell = func(*shells[0], **shells[1])
        except Exception:  # noqa: BLE001  # no shape without values: compute it
            return func(*args, **kwargs)
        results = [leaf for leaf in tree_iter(shell) if isinstance(leaf, torch.Tensor)]
        if any(result.numel() > LARGEST_COMPUTED for result in results):
            self.log.nbytes += sum(result.numel() * result.element_size() for result in results)
            return shell
        return func(*args, **kwargs)


class _Requests(TorchFunctionMode):
    """Answers requests that the dispatcher would see too late: for a device, and for values by another way."""

    def __init__(self, tensors: _Tensors) -> None:
        super().__init__()
        self.tensors = tensors

    def __torch_function__(self, func: Any, types: Any, args: Args = (), kwargs: Kwargs | None = None) -> Any:
        kwargs = kwargs or {}
        if func in _IN_PLACE_MOVES:
            return args[0]
        if func in _MOVES:
            return _moved(args[0], to_cpu=func is torch.Tensor.cpu)
        if func is torch.Tensor.to:
            return _to(args, kwargs)
        if func in _READERS and self.tensors.is_unknown(args[0]):
            raise self.tensors.need("a value is read from a tensor that has none")
        if func is _SET_DATA:
            return self.set_data(*args)
        device = _device_type(kwargs.get("device"))
        if device not in (None, "cpu", "meta") or (device is None and func in _factories()):
            kwargs = {**kwargs, "device": "cpu"}
        return func(*args, **kwargs)

    def set_data(self, tensor: torch.Tensor, value: torch.Tensor) -> None:
        """Assign ``tensor.data``, which PyTorch refuses between a real tensor and one that has only a shape."""
        if tensor.is_meta == value.is_meta:
            _SET_DATA(tensor, value)
        elif tensor.is_meta:
            _SET_DATA(tensor, _to_meta(value))
        else:
            shell = torch.Tensor._make_subclass(type(tensor), value.detach(), tensor.requires_grad)  # noqa: SLF001
            shell.__dict__.update(tensor.__dict__)
            torch.utils.swap_tensors(tensor, shell)  # type: ignore[no-untyped-call]  # PyTorch's own lack


_SET_DATA = torch.Tensor.data.__set__  # type: ignore[attr-defined]
_MOVES = {torch.Tensor.cuda, torch.Tensor.cpu, torch.Tensor.xpu}
_IN_PLACE_MOVES = {torch.Tensor.share_memory_, torch.Tensor.pin_memory}
_READERS = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__}
_LIKE_FACTORIES = {
    aten.empty_like.default,
    aten.full_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
    aten.new_full.default,
    aten.new_ones.default,
    aten.new_zeros.default,
    aten.ones_like.default,
    aten.rand_like.default,
    aten.randint_like.default,
    aten.randint_like.low_dtype,
    aten.randn_like.default,
    aten.zeros_like.default,
}
_VALUELESS = {
    aten.empty.memory_format,
    aten.empty_strided.default,
    aten.empty_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
}


@cache
def _factories() -> frozenset[Callable[..., Any]]:
    return frozenset(_device_constructors())


@cache
def _writes_values(func: Any) -> bool:
    return torch.Tag.inplace in func.tags and torch.Tag.inplace_view not in func.tags


@cache
def _is_view(func: Any) -> bool:
    return func.is_view or torch.Tag.inplace_view in func.tags


def _certainly_small(tensors: list[torch.Tensor], args: Args) -> bool:
    """Whether no operation could make something large of these: neither an outer product nor a repetition."""
    bound = prod(max(1, tensor.numel()) for tensor in tensors)
    bound *= prod(leaf for leaf in tree_iter(args) if type(leaf) is int and leaf > 1)
    return bound <= LARGEST_COMPUTED


def _device_type(device: Any) -> str | None:
    """Return «cpu», «cuda», …, or None where no device is named."""
    if device is None:
        return None
    return torch.device(device).type


def _to_meta(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.is_meta else tensor.to("meta")


def _moved(tensor: torch.Tensor, *, to_cpu: bool) -> torch.Tensor:
    """Return what a move gives: the same tensor where it is there already, else a copy that is no parameter."""
    return tensor if to_cpu else tensor.clone()


def _to(args: Args, kwargs: Kwargs) -> torch.Tensor:
    """Call ``Tensor.to`` without its device, unless that is meta."""
    tensor, *rest = args
    device = kwargs.get("device")
    if device is None and rest and isinstance(rest[0], str | torch.device | int) and not isinstance(rest[0], bool):
        device = rest[0]
    kind = _device_type(device)
    if kind == "meta":
        return torch.Tensor.to(*args, **kwargs)
    rest = [arg for arg in rest if arg is not device]
    kwargs = {key: value for key, value in kwargs.items() if key not in ("device", "non_blocking")}
    converted = torch.Tensor.to(tensor, *rest, **kwargs) if rest or kwargs else tensor
    return converted if converted is not tensor or kind in (None, "cpu") else _moved(tensor, to_cpu=False)
