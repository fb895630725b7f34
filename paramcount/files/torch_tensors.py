"""Tells which records of a pickle are tensors, and what they are, by the functions that PyTorch rebuilds them with."""

from __future__ import annotations

from collections.abc import Callable, Set
from itertools import accumulate
from math import prod
from operator import mul
from types import NoneType
from typing import NamedTuple

from paramcount.files.pickles import Global, MalformedPickle, Pairs, Record

# Bytes of an element: https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch-dtype
_ITEM_SIZES = {
    **dict.fromkeys(("bool", "int8", "uint8", "qint8", "quint8", "quint4x2", "quint2x4"), 1),
    **dict.fromkeys(("bits8", "bits1x8", "bits2x4", "bits4x2", "float4_e2m1fn_x2"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"), 1),
    **{f"{sign}int{bits}": 1 for sign in ("", "u") for bits in range(1, 8)},
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16", "bits16"), 2),
    **dict.fromkeys(("float32", "int32", "uint32", "qint32", "complex32", "bcomplex32"), 4),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    "complex128": 16,
}
_DTYPE_ALIASES = {"float": "float32", "double": "float64", "half": "float16", "short": "int16", "int": "int32"} | {
    "long": "int64",
    "cfloat": "complex64",
    "cdouble": "complex128",
}
# The dtypes that storages' classes stand for: torch/storage.py, _dtype_to_storage_type_map().
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "BFloat16Storage": "bfloat16",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "QInt8Storage": "qint8",
    "QInt32Storage": "qint32",
    "QUInt8Storage": "quint8",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
}
_PER_BYTE = {"quint4x2": 2, "quint2x4": 4}  # elements of a tensor that share a byte, which a storage has as one
_LARGEST = 2**63 - 1  # PyTorch's sizes are signed 64-bit integers
_MOST_DIMENSIONS = 1000
_DEEPEST = 8  # tensors that wrap tensors


class Storage(NamedTuple):
    """Memory that tensors are views of."""

    key: str
    dtype: str
    numel: int
    start: int = 0  # elements into the memory of this key

    @property
    def item_size(self) -> int:
        """Bytes that an element takes."""
        return _ITEM_SIZES[self.dtype]

    @property
    def nbytes(self) -> int:
        """Bytes that the file must hold for it, counted from the start of the memory of its key."""
        return (self.start + self.numel) * _ITEM_SIZES[self.dtype]


class Tensor(NamedTuple):
    """A tensor as a file describes it."""

    shape: tuple[int, ...] | None  # None: a lazy one, which has none yet
    dtype: str
    requires_grad: bool
    is_parameter: bool = False
    storage: Storage | None = None  # None: it has none of its own, as on the meta device
    offset: int = 0  # elements into the storage
    stride: tuple[int, ...] = ()

    @property
    def numel(self) -> int:
        """Elements, 0 for a lazy one."""
        return 0 if self.shape is None else prod(self.shape)

    @property
    def is_contiguous(self) -> bool:
        """Whether its elements lie one after the other in its storage."""
        steps = tuple(accumulate(reversed(self.shape or ()), mul, initial=1))[:-1]
        return all(
            size == 1 or step == own for size, own, step in zip(self.shape or (), self.stride, steps[::-1], strict=True)
        )

    @property
    def nbytes(self) -> int:
        """Bytes that as many elements take."""
        return _bytes(self.numel, self.dtype)


def _bytes(numel: int, dtype: str) -> int:
    return -(-numel * _ITEM_SIZES[dtype] // _PER_BYTE.get(dtype, 1))


def storage(persistent_id: object) -> object:
    """Return what a persistent id of torch.save stands for: a ``Storage``, or the class of a pickled module.

    The forms are those of ``persistent_id()`` in torch/serialization.py.

    Raises:
        MalformedPickle: it has none of the forms.

    """
    match persistent_id:
        case ("module", Global() as module, _, _):  # with its source, in the format before 1.6
            return module
        case ("storage", Global(_, kind), str(key), _, int(numel), *view) if kind in _STORAGES and len(view) <= 1:
            whole = Storage(key, _STORAGES[kind], _size(numel))
            return _view(whole, view[0]) if view and view[0] is not None else whole
    raise MalformedPickle("it has a persistent id that is no storage of torch.save")


class Storages:
    """The storages that a pickle refers to, each as large as anything says of it."""

    def __init__(self) -> None:
        """Start without any."""
        self.found: dict[str, Storage] = {}

    def of(self, persistent_id: object) -> object:
        """Return what a persistent id stands for, as ``storage()`` does, and take note of it.

        Raises:
            MalformedPickle: it has none of the forms of torch.save.

        """
        value = storage(persistent_id)
        if isinstance(value, Storage):
            self.add(value)
        return value

    def add(self, value: Storage) -> None:
        """Take note of a storage."""
        known = self.found.setdefault(value.key, value)
        if known is not value and value.nbytes > known.nbytes:
            self.found[value.key] = value


def storage_dtype(kind: object) -> str | None:
    """Return the dtype of a storage's elements, by its class; None where no storage is of it."""
    return _STORAGES.get(kind.name) if isinstance(kind, Global) else None


def _view(whole: Storage, view: object) -> Storage:
    match view:
        case (str(), int(offset), int(numel)) if _size(offset) + _size(numel) <= whole.numel:
            return whole._replace(start=offset, numel=numel)
    raise MalformedPickle("it has a storage that is a view of less")


class Tensors:
    """The tensors among a pickle's values; each value is looked at once."""

    def __init__(self) -> None:
        """Start without any."""
        self._known: dict[int, tuple[object, Tensor | None]] = {}  # with the value, so that its id stays its own

    def of(self, value: object) -> Tensor | None:
        """Return the tensor that a value is, or None where it is something else.

        Raises:
            MalformedPickle: PyTorch could not build this tensor.

        """
        if not isinstance(value, Record):
            return None
        if isinstance(value.known, Tensor):
            return value.known
        if id(value) not in self._known:
            self._known[id(value)] = (value, _tensor(value, 0))
        return self._known[id(value)][1]


def class_name(record: Record) -> str:
    """Return the name of the class that an object is of, without its module; "" if it has none."""
    made_by = record.callable
    if isinstance(made_by, Global) and made_by.name == "_reconstructor" and isinstance(record.args, tuple):
        made_by = record.args[0] if record.args else None  # protocols 0 and 1
    return made_by.name.rpartition(".")[2] if isinstance(made_by, Global) else ""


def fields(value: object) -> dict[str, object] | None:
    """Return the entries of a mapping by their keys as text, whatever class of mapping; None if it is something else.

    Keys that are neither text nor integers become placeholders.
    """
    if isinstance(value, Record):
        if class_name(value) not in {"OrderedDict", "defaultdict", "Counter"} and value.pairs is None:
            return None
        given = value.args[0] if isinstance(value.args, tuple) and value.args else None
        if isinstance(given, list):  # as Python 2 wrote an OrderedDict
            pairs = [(pair[0], pair[1]) for pair in given if isinstance(pair, (list, tuple)) and len(pair) == 2]  # noqa: PLR2004
            return _by_text([*pairs, *(value.pairs.items() if value.pairs else ())])
        is_counter = isinstance(given, Pairs) and value.pairs is None
        value = given if is_counter else value.pairs or Pairs()
    if not isinstance(value, Pairs):
        return None
    if value.by_text is None:  # as a value may be in many places, this is done once
        value.by_text = _by_text(list(value.items()))
    return value.by_text


def attributes(record: Record) -> dict[str, object]:
    """Return the attributes that an object is pickled with, by name; those of ``__slots__`` are beside the others."""
    state = record.state
    if state is None and isinstance(record.args, tuple) and record.args:
        state = record.args[0]  # torch.fx's modules are rebuilt from theirs
    found: dict[str, object] = {}
    for each in state if isinstance(state, tuple) else (state,):
        if isinstance(each, Pairs):
            found.update(fields(each) or {})
    return found


def _by_text(pairs: list[tuple[object, object]]) -> dict[str, object]:
    if all(type(key) is str for key, _ in pairs):  # as of any state dict
        return dict(pairs)  # type: ignore[arg-type]  # text, as was looked at
    values = {_hashable(key): value for key, value in pairs}  # of equal keys the first stays, with the last value
    taken = {key for key in values if isinstance(key, str)}
    found = {}
    for number, (key, value) in enumerate(values.items()):
        text = key if isinstance(key, str) else _placeholder(key, number, taken)
        taken.add(text)
        found[text] = value
    return found


def _placeholder(key: object, number: int, taken: Set[str]) -> str:
    """Return a text for a key that is none, which no other key has."""
    if type(key) is int and str(key) not in taken:
        return str(key)
    while (text := f"?{number}") in taken:
        number += 1
    return text


def _hashable(key: object) -> object:
    """Return what is equal where Python's own keys are; hashing a file's tuples within tuples could take forever."""
    if isinstance(key, (str, int, float, bytes, NoneType)):
        return key
    if isinstance(key, tuple) and all(isinstance(part, (str, int, float, bytes, NoneType)) for part in key):
        return key
    return key if isinstance(key, Global) else _Identical(key)


class _Identical:
    """A key that is equal to itself alone."""

    def __init__(self, key: object) -> None:
        self._key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identical) and self._key is other._key

    def __hash__(self) -> int:
        return id(self._key)


# The functions that rebuild tensors: torch/_utils.py, torch/_tensor.py, torch/nn/parameter.py -------------------------


def _tensor(value: object, depth: int) -> Tensor | None:
    """Return the tensor that a value is; ``depth`` is how many it is wrapped in."""
    if not isinstance(value, Record) or not isinstance(value.callable, Global):
        return None
    if isinstance(value.known, Tensor):
        return value.known
    name = value.callable.name
    builder = _BUILDERS.get(name) if value.callable.module.partition(".")[0] == "torch" else None
    if builder is None:
        return None
    if depth > _DEEPEST or not isinstance(value.args, tuple):
        raise _wrong(name)
    try:
        return builder(value.args, depth + 1)
    except (IndexError, ValueError) as error:
        if isinstance(error, MalformedPickle):
            raise
        raise _wrong(name) from error


def _wrong(name: str) -> MalformedPickle:
    return MalformedPickle(f"it has a tensor that {name} could not build")


def _size(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:  # not isinstance(): a bool is an int to Python
        raise MalformedPickle("it has a tensor with a size, stride or offset that is no natural number")
    return value


def sizes(value: object) -> tuple[int, ...]:
    """Return a shape or strides, as a tuple, a list or a ``torch.Size``.

    Raises:
        MalformedPickle: it is none.

    """
    if isinstance(value, Record) and class_name(value) == "Size" and isinstance(value.args, tuple) and value.args:
        value = value.args[0]
    if not isinstance(value, (tuple, list)) or len(value) > _MOST_DIMENSIONS:
        raise MalformedPickle("it has a tensor whose shape is no list of sizes")
    return tuple(map(_size, value))


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise MalformedPickle("it has a tensor whose requires_grad is neither true nor false")
    return value


def _dtype(value: object) -> str:
    name = value.name if isinstance(value, Global) and value.module == "torch" else ""
    name = _DTYPE_ALIASES.get(name, name)
    if name not in _ITEM_SIZES:
        raise MalformedPickle(f"it has a tensor of an unknown dtype {name!r}")
    return name


def _sane(tensor: Tensor) -> Tensor:
    """Return the tensor, if there can be one of its shape in its storage."""
    if tensor.nbytes > _LARGEST:
        raise MalformedPickle("it has a tensor larger than any can be")
    if tensor.storage is None or tensor.shape is None:
        return tensor
    if len(tensor.shape) != len(tensor.stride):
        raise MalformedPickle("it has a tensor whose shape and strides differ in length")
    last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride, strict=True))
    if tensor.numel and _bytes(last + 1, tensor.dtype) > tensor.storage.numel * tensor.storage.item_size:
        raise MalformedPickle("it has a tensor that reaches beyond its storage")
    return tensor


def strided(args: tuple[object, ...], dtype: str | None = None) -> Tensor:
    """Return the tensor of a storage, an offset, a size, strides and requires_grad.

    Raises:
        MalformedPickle: there can be none.

    """
    memory, offset, size, stride = args[:4]
    if isinstance(memory, Record):  # of a plain pickle, which makes storages by calls
        memory = memory.known
    if not isinstance(memory, Storage):
        raise MalformedPickle("it has a tensor without a storage")
    grad = _flag(args[4]) if len(args) > 4 else False  # noqa: PLR2004  # the oldest form ends before it
    return _sane(
        Tensor(
            sizes(size),
            dtype or memory.dtype,
            grad,
            storage=memory,
            offset=_size(offset),
            stride=sizes(stride),
        )
    )


def _v2(args: tuple[object, ...], _depth: int) -> Tensor:
    return strided(args)


def _v3(args: tuple[object, ...], _depth: int) -> Tensor:
    return strided(args, _dtype(args[6]))


def _quantized(args: tuple[object, ...], _depth: int) -> Tensor:
    return strided((*args[:4], args[5]))  # args[4] says how it is quantised


def _parameter(args: tuple[object, ...], depth: int) -> Tensor | None:
    data = _tensor(args[0], depth)
    if data is None:
        # Of a class that rebuilds itself in a way of its own.
        return None
    return data._replace(requires_grad=_flag(args[1]), is_parameter=True)


def _subclass(args: tuple[object, ...], depth: int) -> Tensor | None:
    function, kind, inner = args[:3]
    built = _tensor(Record(function, inner), depth)
    is_parameter = isinstance(kind, Global) and kind.name.endswith("Parameter")
    # A parameter whose data is of a class of its own is marked as one: torch/nn/parameter.py, Parameter.__new__().
    is_parameter = is_parameter or (fields(_dict_of(args[3:])) or {}).get("_is_param") is True
    return built._replace(is_parameter=True) if built and is_parameter else built


def _dict_of(state: tuple[object, ...]) -> object:
    """Return an object's attributes from what follows its arguments; beside them may be those of ``__slots__``."""
    attributes = state[0] if state else None
    return attributes[0] if isinstance(attributes, tuple) and attributes else attributes


def _meta(args: tuple[object, ...], _depth: int) -> Tensor:
    dtype, size, _stride, grad = args[:4]
    return _sane(Tensor(sizes(size), _dtype(dtype), _flag(grad)))


def _wrapper(args: tuple[object, ...], _depth: int) -> Tensor:
    return _meta((args[1], args[2], args[3], args[7]), _depth)


def _sparse(args: tuple[object, ...], depth: int) -> Tensor:
    parts = args[1]
    # COO: indices, values, size, is_coalesced; compressed: two of indices, values, size.
    compressed = isinstance(parts, tuple) and len(parts) == 4 and not isinstance(parts[3], bool)  # noqa: PLR2004
    if not isinstance(parts, tuple):
        raise MalformedPickle("it has a sparse tensor without parts")
    values, size = parts[2:4] if compressed else parts[1:3]
    inner = _tensor(values, depth)
    if inner is None:
        raise MalformedPickle("it has a sparse tensor without values")
    return _sane(Tensor(sizes(size), inner.dtype, requires_grad=False))


def _nested(args: tuple[object, ...], depth: int) -> Tensor | None:
    return _tensor(args[0], depth)


def _from_cpu(args: tuple[object, ...], depth: int) -> Tensor | None:
    data = _tensor(args[0], depth)
    return data and _sane(Tensor(data.shape, _dtype(args[1]), _flag(args[3])))


def _from_numpy(args: tuple[object, ...], _depth: int) -> Tensor:
    array = args[0]
    # numpy.ndarray.__reduce__: the state is the version, the shape, the dtype, the order and the data.
    if not isinstance(array, Record) or not isinstance(array.state, tuple):
        raise MalformedPickle("it has a tensor of what is no array")
    return _sane(Tensor(sizes(array.state[1]), _dtype(args[1]), _flag(args[3])))


def _lazy(args: tuple[object, ...], _depth: int) -> Tensor:
    return Tensor(None, "float32", _flag(args[0]), is_parameter=True)


def _lazy_buffer(args: tuple[object, ...], _depth: int) -> Tensor:
    return Tensor(None, "float32", _flag(args[0]))


_BUILDERS: dict[str, Callable[[tuple[object, ...], int], Tensor | None]] = {
    "_rebuild_tensor": _v2,
    "_rebuild_tensor_v2": _v2,
    "_rebuild_tensor_v3": _v3,
    "_rebuild_qtensor": _quantized,
    "_rebuild_parameter": _parameter,
    "_rebuild_parameter_with_state": _parameter,
    "_rebuild_from_type_v2": _subclass,
    "_rebuild_meta_tensor_no_storage": _meta,
    "_rebuild_wrapper_subclass": _wrapper,
    "_rebuild_sparse_tensor": _sparse,
    "_rebuild_nested_tensor": _nested,
    "_rebuild_device_tensor_from_cpu_tensor": _from_cpu,
    "_rebuild_device_tensor_from_numpy": _from_numpy,
    "_rebuild_xla_tensor": _from_numpy,
    "UninitializedParameter": _lazy,
    "UninitializedBuffer": _lazy_buffer,
}
