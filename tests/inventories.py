"""Inventories made by hand, for tests of what comes after reading a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

from paramcount.inventory import Buffer, Inventory, Module, Note, Param
from paramcount.report import Report

_BYTES = {"float32": 4, "float16": 2, "int8": 1}


def param(
    name: str, *shape: int, dtype: str = "float32", trainable: bool | None = True, tied_to: str | None = None
) -> Param:
    numel = prod(shape)
    return Param(name, shape, dtype, numel, numel * _BYTES[dtype], trainable, tied_to)


def lazy(name: str, *, trainable: bool | None = True) -> Param:
    return Param(name, None, "float32", None, None, trainable)


def buffer(name: str, *shape: int, tied_to: str | None = None) -> Buffer:
    numel = prod(shape)
    return Buffer(name, shape, "float32", numel, numel * 4, tied_to)


def inventory(
    modules: Mapping[str, str],
    params: Iterable[Param] = (),
    buffers: Iterable[Buffer] = (),
    *,
    notes: Iterable[Note] = (),
    overhead: Iterable[Buffer] = (),
    target: str = "net.py:Net",
    root: str = "Net",
) -> Inventory:
    """Return an inventory of modules by name; the type «= a» makes one more name of module ``a``."""
    types = {"": root, **modules}
    listed = [
        Module(name, types[first], first) if (first := kind.removeprefix("= ")) != kind else Module(name, kind)
        for name, kind in types.items()
    ]
    return Inventory(target, "python", tuple(listed), tuple(params), tuple(buffers), tuple(notes), tuple(overhead))


def report(
    modules: Mapping[str, str],
    params: Iterable[Param] = (),
    buffers: Iterable[Buffer] = (),
    *,
    notes: Iterable[Note] = (),
    overhead: Iterable[Buffer] = (),
    target: str = "net.py:Net",
    root: str = "Net",
) -> Report:
    return Report.of(inventory(modules, params, buffers, notes=notes, overhead=overhead, target=target, root=root))
