"""Answers a constructor that asks a GPU for something, on a machine that has none: no parameter lives there anyway.

What only waits, frees or selects does nothing. What a GPU is like, its size or its age, is invented, and told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any

import torch
import torch.serialization

ASSUMED = "compute capability 8.0, 108 multiprocessors and 80 GB"
_CAPABILITY = (8, 0)
_BYTES = 80 * 10**9


class _Inert:
    """A stream, an event or a graph: it can be used in every way, and does nothing."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        self.device = torch.device("cpu")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _nothing

    def __enter__(self) -> _Inert:
        return self

    def __exit__(self, *_exception: object) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, _end: object) -> float:
        return 0.0

    def record_event(self, event: Any = None) -> Any:
        return event or _Inert()


def _nothing(*_args: Any, **_options: Any) -> None:
    return None


def _zero(*_args: Any, **_options: Any) -> int:
    return 0


def _outside(*_args: Any, **_options: Any) -> int:
    return -1  # no device was current before


def _state(*_args: Any, **_options: Any) -> torch.Tensor:
    return torch.zeros(16, dtype=torch.uint8)


_ANSWERS: dict[str, Any] = {
    **dict.fromkeys(
        (
            *("init", "_lazy_init", "synchronize", "set_device", "set_device_index", "set_stream", "empty_cache"),
            *("ipc_collect", "reset_peak_memory_stats", "reset_max_memory_allocated", "reset_max_memory_cached"),
            *("reset_accumulated_memory_stats", "set_per_process_memory_fraction", "set_rng_state", "manual_seed"),
            *("set_rng_state_all", "manual_seed_all", "seed", "seed_all"),
        ),
        _nothing,
    ),
    **dict.fromkeys(("current_device", "current_device_index", "current_device_idx", "initial_seed"), _zero),
    **dict.fromkeys(("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"), _zero),
    **dict.fromkeys(("current_allocated_memory", "driver_allocated_memory", "utilization"), _zero),
    **dict.fromkeys(("_exchange_device", "_maybe_exchange_device"), _outside),
    **dict.fromkeys(("Stream", "Event", "ExternalStream", "CUDAGraph", "MemPool", "StreamContext"), _Inert),
    **dict.fromkeys(("stream", "graph", "current_stream", "default_stream"), _Inert),
    "get_rng_state": _state,
    "get_rng_state_all": list,
    "memory_summary": lambda *_args, **_options: "",
    "can_device_access_peer": lambda *_args: False,
}
_INVENTED: dict[str, Any] = {
    "get_device_capability": _CAPABILITY,
    "get_device_name": "GPU",
    "get_device_properties": SimpleNamespace(
        name="GPU",
        major=_CAPABILITY[0],
        minor=_CAPABILITY[1],
        total_memory=_BYTES,
        multi_processor_count=108,
        warp_size=32,
        max_threads_per_multi_processor=2048,
        regs_per_multiprocessor=65536,
        shared_memory_per_block=49152,
        shared_memory_per_multiprocessor=167936,
        L2_cache_size=40 * 2**20,
        is_integrated=False,
        is_multi_gpu_board=False,
        gcnArchName="",
    ),
    "mem_get_info": (_BYTES, _BYTES),
    "get_memory_info": (_BYTES, _BYTES),
    "recommended_max_memory": _BYTES,
}
_TYPES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")


@contextmanager
def missing_gpu(told: Callable[[str], None]) -> Iterator[None]:
    """Let every question to a GPU have an answer inside; ``told`` gets the name of each whose answer is invented."""
    if torch.accelerator.is_available():
        yield
        return
    undo: list[Callable[[], object]] = []
    for place, name, answer in _stand_ins(told):
        undo.append(_replace(place, name, answer))
    registry = torch.serialization._package_registry  # noqa: SLF001  # register_package() has no opposite
    restorer = (-1, _untagged, _restored)
    registry.insert(0, restorer)
    try:
        yield
    finally:
        registry.remove(restorer)
        for each in reversed(undo):
            each()


def _replace(place: Any, name: str, answer: Any) -> Callable[[], object]:
    """Put something in the place of what a module has, and return how to undo that.

    A function stays itself, for all who imported it by its name, and only does what another does.
    """
    before = getattr(place, name)
    if not isinstance(before, FunctionType) or before.__closure__ or before.__globals__.get(before.__name__) != before:
        setattr(place, name, answer)
        return lambda: setattr(place, name, before)
    own = before.__code__, before.__defaults__, before.__kwdefaults__, before.__dict__
    before.__code__, before.__defaults__, before.__kwdefaults__ = _calling(before.__name__), None, None
    before.__dict__ = {**own[3], "stand_in": answer}

    def undo() -> None:
        before.__code__, before.__defaults__, before.__kwdefaults__, before.__dict__ = own

    return undo


@cache
def _calling(name: str) -> CodeType:
    """Return the code of a function of that name that calls its own attribute."""
    scope: dict[str, Any] = {}
    exec(f"def {name}(*args, **options): return {name}.stand_in(*args, **options)", scope)  # noqa: S102  # our own text
    code: CodeType = scope[name].__code__
    return code


def _stand_ins(told: Callable[[str], None]) -> Iterator[tuple[Any, str, Any]]:
    """Yield what stands in for what: a module or a class, a name in it, and another value."""
    done = set()  # several modules have the same function
    for place in (torch.cuda, torch.cuda.memory, torch.cuda.random, torch.xpu, torch.mps, torch.accelerator):
        kind = place.__name__.removeprefix("torch.").partition(".")[0]
        answers = {**_ANSWERS, **{key: _telling(told, f"torch.{kind}.{key}", said) for key, said in _INVENTED.items()}}
        for name in answers.keys() & vars(place).keys():
            if not isinstance(vars(place)[name], FunctionType) or vars(place)[name] not in done:
                done.add(vars(place)[name])
                yield place, name, answers[name]
    types = {f"{name}Tensor": _tensor_type(f"{name}Tensor") for name in _TYPES}
    for name, stand_in in types.items():
        if hasattr(torch.cuda, name):
            yield torch.cuda, name, stand_in
    for storage in (torch.storage._StorageBase, torch.TypedStorage):  # noqa: SLF001  # map_location=lambda s, _: s.cuda()
        yield storage, "cuda", _itself
    yield torch, "Generator", _generator(torch.Generator)
    yield torch, "set_default_tensor_type", _set_default_tensor_type


def _itself(storage: Any, *_args: Any, **_options: Any) -> Any:
    return storage


def _telling(told: Callable[[str], None], name: str, answer: Any) -> Callable[..., Any]:
    def ask(*_args: Any, **_options: Any) -> Any:
        told(name)
        return answer

    return ask


class _NoInstances(type):
    """The type of tensors on a GPU: it makes them on the CPU, and none that is there is one of its own."""

    def __instancecheck__(cls, _instance: object) -> bool:
        return False


@cache  # a class takes long to make
def _tensor_type(name: str) -> Any:
    def make(_kind: object, *args: Any, **options: Any) -> torch.Tensor:
        made: torch.Tensor = getattr(torch, name)(*args, **options)
        return made

    return _NoInstances(name, (), {"__new__": make, "__module__": "torch.cuda"})


def _set_default_tensor_type(kind: Any, /) -> None:
    name = kind if isinstance(kind, str) else kind.__name__
    torch._C._set_default_tensor_type(getattr(torch, name.rpartition(".")[2]))  # noqa: SLF001  # as the function itself


@cache
def _generator(real: Any) -> Any:
    class _Kind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

    class Generator(metaclass=_Kind):
        """A generator of the CPU, whatever device was named."""

        def __new__(cls, _device: Any = "cpu", *, device: Any = None) -> Any:
            del device
            return real()

    return Generator


def _untagged(_storage: object) -> None:
    """Say nothing of where a storage is: saving stays as it is."""


def _restored(storage: Any, location: str) -> Any:
    """Leave what was saved on a device that is not here on the CPU."""
    return None if location.partition(":")[0] in ("cpu", "meta") else storage
