"""What the keys of a state dict in a file are to ``load_state_dict()``, beside tensors that fit by their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from paramcount.files.pickles import Global, Record
from paramcount.files.torch_parts import Named, Part, Parts
from paramcount.files.torch_tensors import fields
from paramcount.inventory import EXTRA_STATE, Special

_Layout = Literal["DTensor", "sparse", "meta"]
_LAYOUTS: Mapping[str, _Layout] = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_meta_tensor_no_storage": "meta",
}
_AROUND_DATA = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_DEEPEST = 8  # parameters and subclasses around one another
_COUNTS_BATCHES = 2  # the version since which batch norm has num_batches_tracked: torch/nn/modules/batchnorm.py


def special(part: Part, tensors: Iterable[Named], parts: Parts) -> Iterator[Special]:
    """Yield what ``load_state_dict()`` would make of a mapping's keys, but for those of plain tensors.

    It takes the mapping as it stands: a key of anything else, an optimizer's state or a loss, is as unexpected as a
    tensor of another name would be.
    """
    yield from _counting(part.value)
    for key, value in (fields(part.value) or {}).items():
        tensor = parts.modules.tensors.of(value)
        if tensor is not None:
            if key in part.without:
                yield Special(key, "left out", tensor.shape, tensor.dtype)
        elif key.rpartition(".")[2] != EXTRA_STATE:
            is_counted = key not in part.without and parts.holds_tensors(value)
            yield Special(key, "nested" if is_counted else "no tensor")
            yield from _counting(value, f"{key}.") if is_counted else ()
    for named in tensors:
        if (layout := _layout(named.value)) is not None:
            yield Special(named.name, layout)


def _counting(value: object, above: str = "") -> Iterator[Special]:
    """Yield the modules in a state dict of which batch norm would not fill in a counter."""
    for module, said in versions(value).items():
        version = (fields(said) or {}).get("version")
        if isinstance(version, int) and version >= _COUNTS_BATCHES:
            yield Special(f"{above}{module}", "counts batches")


def versions(value: object) -> dict[str, object]:
    """Return what a state dict says of the version of each module, by its dotted name: ``state_dict()._metadata``."""
    attributes = fields(value.state) if isinstance(value, Record) else None
    return fields((attributes or {}).get("_metadata")) or {}


def _layout(value: object) -> _Layout | None:
    """Return the layout of a tensor that ``copy_()`` does not put into a plain one."""
    function, args = _call(value)
    for _ in range(_DEEPEST):
        if function not in _AROUND_DATA or not args:
            break
        function, args = _call(args[0])
    if function == "_rebuild_wrapper_subclass":
        kind = args[0] if args else None
        return "DTensor" if isinstance(kind, Global) and kind.name == "DTensor" else None
    return _LAYOUTS.get(function)


def _call(value: object) -> tuple[str, tuple[object, ...]]:
    """Return the name of the function that rebuilds a tensor, and its arguments."""
    if not isinstance(value, Record) or value.known is not None or not isinstance(value.args, tuple):
        return "", ()
    function, args = value.callable, value.args
    if isinstance(function, Global) and function.name == "_rebuild_from_type_v2":
        function, args = args[0], args[2] if isinstance(args[2], tuple) else ()
    return function.name if isinstance(function, Global) else "", args
