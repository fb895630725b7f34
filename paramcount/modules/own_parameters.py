"""Compares what a module's own ``parameters()`` gives, as an optimizer is given it, with what PyTorch's would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ctypes import c_ulong, py_object, pythonapi
from itertools import islice
from threading import Thread
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from paramcount.inventory import Note
from paramcount.modules.attributes import class_module, class_name, definer
from paramcount.units import exact

_METHODS = ("parameters", "named_parameters")
_MOST_SURPLUS = 10_000  # what may be given beyond twice what there is, before it is taken to have no end
_PATIENCE = 5  # seconds for a method that is asked for a note alone
_NO_ANSWER: list[Any] = ["no answer"]


def own_parameters_notes(modules: Sequence[tuple[str, nn.Module]], counted: Sequence[Tensor] | None) -> Iterator[Note]:
    """Note each module whose own ``parameters()`` or ``named_parameters()`` gives other tensors than there are.

    Args:
        modules: all by name, the model itself first.
        counted: the model's parameters, as its own ``named_parameters()`` gives them; None where that is PyTorch's.

    """
    kinds: dict[type, str] = {}
    for name, module in modules:
        kind = type(module)
        if kind not in kinds:
            kinds[kind] = next((method for method in _METHODS if _is_overridden(kind, method)), "")
        method = kinds[kind]
        if method or "parameters" in vars(module) or "named_parameters" in vars(module):
            method = method or next(method for method in _METHODS if method in vars(module))
            yield from _note(name, module, method, counted if not name else None)


def _is_overridden(kind: type, method: str) -> bool:
    owner = definer(kind, method)
    return owner is not None and not class_module(owner).startswith("torch.")


def _note(name: str, module: nn.Module, method: str, counted: Sequence[Tensor] | None) -> Iterator[Note]:
    registered = registered_parameters(module)
    who = f"{class_name(type(module))} has a {method}() of its own, which"
    if counted is not None and method == "named_parameters":
        # The count is over these, by definition.
        missing = registered.keys() - {id(tensor) for tensor in counted}
        if missing:
            left_out = exact(sum(_numel(registered[key]) for key in missing))
            message = f"{who} leaves out {left_out} elements that are registered: they are not in the count"
            yield Note("own-parameters", name, message)
        return
    reference = registered if counted is None else {id(tensor): tensor for tensor in counted}
    whole = exact(elements(reference))
    most = 2 * len(reference) + _MOST_SURPLUS
    given, error = _given(module, most)
    if error is not None:
        message = f"{who} fails when it is called without arguments ({type(error).__name__}): the count is without it"
        yield Note("own-parameters", name, message)
        return
    tensors = [each for each in given if issubclass(type(each), Tensor)]
    if len(tensors) == len(reference) and {id(tensor) for tensor in tensors} == reference.keys():
        return
    if len(given) == most:
        said = "does not end"
    elif given == _NO_ANSWER:
        said = f"gives no answer in {_PATIENCE} seconds"
    elif len(tensors) < len(given):
        said = "gives other things than tensors"
    else:
        said = f"gives {exact(sum(map(_numel, tensors)))} elements, and named_parameters() {whole}"
    yield Note("own-parameters", name, f"{who} {said}: the count is over named_parameters()")


def _given(module: nn.Module, most: int) -> tuple[list[Any], BaseException | None]:
    """Return what ``parameters()`` gives, up to a number, or what it raises; it has some seconds, in another thread."""
    found: list[list[Any]] = []
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            found.append(list(islice(iter(module.parameters()), most)))
        except BaseException as error:  # noqa: BLE001  # whatever a user's method raises
            raised.append(error)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    if thread.is_alive():
        # Raise SystemExit there: nothing else ends a loop in a thread.
        pythonapi.PyThreadState_SetAsyncExc(c_ulong(thread.ident or 0), py_object(SystemExit))
        return _NO_ANSWER, None
    return (found[0] if found else []), next(iter(raised), None)


def registered_parameters(module: nn.Module) -> dict[int, Tensor]:
    """Return all parameters at and below a module by ``id()``, whatever its class says of them."""
    found: dict[int, Tensor] = {}
    seen: set[int] = set()
    waiting: list[nn.Module] = [module]
    while waiting:
        here = waiting.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        found.update((id(param), param) for param in here._parameters.values() if param is not None)  # noqa: SLF001
        waiting.extend(child for child in here._modules.values() if child is not None)  # noqa: SLF001
    return found


def elements(params: Mapping[int, Tensor]) -> int:
    """Return how many elements parameters have; one that has no shape yet adds nothing."""
    return sum(map(_numel, params.values()))


def _numel(tensor: Tensor) -> int:
    return 0 if is_lazy(tensor) else int(tensor.numel())
