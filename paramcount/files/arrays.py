"""NumPy's arrays in a pickle, and tensors that pickle.dump() wrote: told by how they would be built, as tensors are."""

from __future__ import annotations

from paramcount.files.pickles import Blob, Cursor, Global, MalformedPickle, Record, load
from paramcount.files.torch_tensors import Storage, Tensor, Tensors, sizes, storage
from paramcount.inventory import Note

_KINDS = {"f2": "float16", "f4": "float32", "f8": "float64", "c8": "complex64", "c16": "complex128", "b1": "bool"} | {
    f"{short}{size}": f"{kind}{8 * size}" for short, kind in (("i", "int"), ("u", "uint")) for size in (1, 2, 4, 8)
}
_OF_EXTENSIONS = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")  # ml_dtypes'
_MADE_BY = {"_reconstruct", "_frombuffer"}  # numpy/_core/multiarray.py and numeric.py
_MARKERS = 3  # pickles before the one that is meant: torch/serialization.py, _legacy_save()

NOTE = Note("arrays", "", "its arrays are NumPy's, and no tensors of PyTorch: each counts as the tensor it would be")


class Arrays(Tensors):
    """The tensors among a pickle's values, and the arrays that could be tensors."""

    def __init__(self) -> None:
        """Start without any."""
        super().__init__()
        self._arrays: dict[int, tuple[object, Tensor | None]] = {}

    def of(self, value: object) -> Tensor | None:
        """Return the tensor that a value is or would be, or None where it is something else."""
        found = super().of(value)
        if found is not None or not isinstance(value, Record):
            return found
        if id(value) not in self._arrays:
            self._arrays[id(value)] = (value, array(value))
        return self._arrays[id(value)][1]


def array(value: Record) -> Tensor | None:
    """Return the tensor that an array of NumPy would be; None where a value is something else, or holds no numbers."""
    made = value.callable
    if not isinstance(made, Global) or made.name not in _MADE_BY or not made.module.startswith("numpy"):
        return None
    # An array's state is version, shape, dtype, order and data; _frombuffer() takes data, dtype, shape and order.
    match value.state if made.name == "_reconstruct" else value.args:
        case (int(), shape, Record() as kind, bool(), _) | (_, Record() as kind, shape, str()):
            dtype = _dtype(kind)
            return None if dtype is None else Tensor(sizes(shape), dtype, requires_grad=False)
    return None


def _dtype(kind: Record) -> str | None:
    """Return the name of a dtype; None of text, of Python's objects and of records."""
    said = kind.args[0] if isinstance(kind.args, tuple) and kind.args else None
    if isinstance(said, Global):
        return said.name if said.name in _OF_EXTENSIONS else None
    return dtype_of(said) if isinstance(said, str) else None


def dtype_of(written: str) -> str | None:
    """Return the dtype that a tensor would have of what NumPy writes as ``<f4``, whatever the order of its bytes."""
    return _KINDS.get(written.lstrip("<>|="))


def held_array(value: object) -> object:
    """Return the objects of an array of Python objects; of an array of one, that."""
    match value:
        case Record(state=(int(), shape, Record(), bool(), list(objects))):
            return objects[0] if shape == () and len(objects) == 1 else objects
    return value


def note_storage(call: Record) -> None:
    """Tell the storage that ``torch.storage._load_from_bytes`` would make, which is how pickle.dump() has it.

    Its bytes are what torch.save wrote of it in the format before 1.6: what they begin with says how large it is.
    """
    made, args = call.callable, call.args
    if not isinstance(made, Global) or made.name != "_load_from_bytes" or not isinstance(args, tuple) or not args:
        return
    cursor = Cursor(held_bytes(args[0]))
    try:
        for _ in range(_MARKERS):
            load(cursor, storage)
        found = load(cursor, storage)
    except MalformedPickle:  # it is told where a tensor is made of it
        return
    if isinstance(found, Storage):
        call.known = found._replace(key=f"call {id(call)}")


def held_bytes(value: object) -> bytes:
    """Return bytes, which protocols before 3 have as text to be encoded, as far as they were kept."""
    if isinstance(value, Record) and isinstance(value.args, tuple) and value.args:
        value = value.args[0]
        if isinstance(value, bytes):  # bytes() and bytearray() of bytes
            return value
        if isinstance(value, Blob):
            return value.head.decode("utf-8", "ignore").encode("latin-1", "replace")
        return value.encode("latin-1", "replace") if isinstance(value, str) else b""
    if isinstance(value, Blob):
        return value.head
    return value if isinstance(value, bytes) else b""
