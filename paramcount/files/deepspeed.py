"""Gives the parameters that DeepSpeed's ZeRO-3 leaves empty in its model states the shapes that it keeps beside them.

The form is that of ``_save_checkpoint()`` in deepspeed/runtime/engine.py, as deepspeed/utils/zero_to_fp32.py reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from paramcount.files.torch_parts import Named
from paramcount.files.torch_tensors import fields, sizes
from paramcount.inventory import Note
from paramcount.units import plural

WEIGHTS = "module"  # the key of the state dict


def whole(tensors: Sequence[Named], beside: Mapping[str, object]) -> tuple[list[Named], tuple[Note, ...]]:
    """Return the tensors of a state dict in full size, and what to say of it; ``beside`` is what the file has further.

    Raises:
        MalformedPickle: a shape is none.

    """
    shapes = dict(_shapes(beside))
    firsts = {name: first for name, first in _pairs(beside.get("shared_params")) if isinstance(first, str)}
    by_name = {named.name: named for named in tensors}
    filled: list[Named] = []
    for named in tensors:
        first = by_name.get(firsts.get(named.name, named.name), named)
        shape = shapes.get(first.name)
        if shape is not None and named.tensor.shape == (0,) != shape:
            # One value for all names of a parameter, which is what tells that they are of one.
            tensor = named.tensor._replace(shape=shape, storage=None)
            filled.append(named._replace(value=first.value, tensor=tensor))
        else:
            filled.append(named)
    number = sum(new is not old for new, old in zip(filled, tensors, strict=True))
    if not number:
        return filled, ()
    known = shapes.keys() | (buffers(tensors, beside) or frozenset())
    filled = [each if each.tensor.shape != (0,) or each.name in known else _without_shape(each) for each in filled]
    empty = f"ZeRO-3 leaves {plural(number, 'parameter')} empty in this file"
    message = f"{empty}: what counts are the shapes that DeepSpeed keeps beside them, which are those of the whole"
    return filled, (Note("sharded", "", message),)


def _without_shape(named: Named) -> Named:
    """Return a parameter that is empty, and of which no shape is kept: a frozen one, where those were left out."""
    return named._replace(tensor=named.tensor._replace(shape=None, storage=None))


def buffers(tensors: Sequence[Named], beside: Mapping[str, object]) -> frozenset[str] | None:
    """Return the names of the buffers among ``tensors``, which DeepSpeed lists; None if that is not of these."""
    listed = beside.get("buffer_names")
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        return None
    names = frozenset(listed)
    return names if names <= {named.name for named in tensors} else None


def _shapes(beside: Mapping[str, object]) -> Iterator[tuple[str, tuple[int, ...]]]:
    groups = beside.get("param_shapes")  # one for each group of the optimizer's
    found = (*(groups if isinstance(groups, list) else [groups]), beside.get("frozen_param_shapes"))
    for group in {id(group): group for group in found}.values():
        for name, shape in (fields(group) or {}).items():
            yield name, sizes(shape)


def _pairs(value: object) -> Iterator[tuple[str, object]]:
    """Yield names and the first names of the same parameters, which are kept as a mapping or as a list of pairs."""
    if isinstance(value, list):
        yield from ((each[0], each[1]) for each in value if isinstance(each, (list, tuple)) and len(each) == 2)  # noqa: PLR2004
    else:
        yield from (fields(value) or {}).items()
