"""Random inventories, for properties of all that comes after reading a model."""

from __future__ import annotations

from math import prod

from hypothesis import strategies as st

from paramcount.inventory import Buffer, Inventory, Module, Note, Param
from paramcount.report import Report

_BYTES = {"float32": 4, "float16": 2, "int8": 1}
_KEYS = ("weight", "bias", "scale")

_paths = st.lists(st.sampled_from(["a", "b", "0", "1", "module", "_orig_mod"]), min_size=1, max_size=3).map(tuple)


@st.composite
def inventories(draw: st.DrawFn, *, whole: bool = False) -> Inventory:
    """Draw a model; a ``whole`` one knows of all its parameters their shape and whether they train."""
    drawn = draw(st.sets(_paths, max_size=6))
    paths = sorted({path[:length] for path in drawn for length in range(1, len(path) + 1)})  # parents first
    modules = [Module("", "Net")]
    modules += [Module(".".join(path), draw(st.sampled_from(["Linear", "Conv2d", "Block"]))) for path in paths]
    params: list[Param] = []
    for module in modules:
        for key in draw(st.sets(st.sampled_from(_KEYS))):
            one = _param(f"{module.name}.{key}".removeprefix("."), tuple(params), whole=whole)
            params += [draw(one)]
    if draw(st.booleans()) and params:
        first = params[0]
        modules.append(Module("again", "Net", same_as=""))
        params.append(Param("again.weight", *_form(first), tied_to=first.tied_to or first.name))
    buffers = (Buffer("buffers", (3,), "int64", 3, 24),) if draw(st.booleans()) else ()
    notes = (Note("pruned", "a", "is pruned"),) if draw(st.booleans()) else ()
    overhead = (Buffer("scales", (2, 2), "float16", 4, 8),) if draw(st.booleans()) else ()
    return Inventory("net.py:Net", "python", tuple(modules), tuple(params), buffers, notes, overhead)


def reports(*, whole: bool = False) -> st.SearchStrategy[Report]:
    """Return a strategy for the reports of random models."""
    return inventories(whole=whole).map(Report.of)


@st.composite
def _param(draw: st.DrawFn, name: str, before: tuple[Param, ...], *, whole: bool) -> Param:
    counted = [param for param in before if param.tied_to is None]
    if counted and draw(st.integers(0, 5)) == 0:
        first = draw(st.sampled_from(counted))
        return Param(name, *_form(first), tied_to=first.name)
    shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
    shape = draw(shapes if whole else st.none() | shapes)
    dtype = draw(st.sampled_from(list(_BYTES)))
    trainable = draw(st.booleans() if whole else st.sampled_from([True, False, None]))
    if shape is None:
        return Param(name, None, dtype, None, None, trainable)
    numel = prod(shape)
    part = st.none() | st.integers(0, numel)
    return Param(
        name,
        shape,
        dtype,
        numel,
        numel * _BYTES[dtype],
        trainable,
        packed=not whole and draw(st.booleans()),
        active=None if whole else draw(part),
        local=None if whole else draw(part),
        adapter=None if whole else draw(st.sampled_from([None, "", "default"])),
    )


def _form(param: Param) -> tuple[tuple[int, ...] | None, str, int | None, int | None, bool | None]:
    return param.shape, param.dtype, param.numel, param.nbytes, param.trainable
