"""Reads at once the operations that torch.save writes for a tensor, of which a checkpoint may have a million."""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterable
from functools import lru_cache
from itertools import compress
from typing import Any, NamedTuple

from paramcount.files.pickles import UNREAD, Global, MalformedPickle, Memo, Record, decoded
from paramcount.files.torch_tensors import Storage, Storages, Tensor, storage_dtype, strided

_WITHOUT_DATA = 20_000  # tensors that are read so in any case; others only if their data lie in the file
_MOST_LAYOUTS = 10_000  # to look at, and to remember; tensors of others are read step by step
_MOST_DIMENSIONS = 8
_MOST_AT_ONCE = 1000  # as many items as picklers put into a mapping at once
_MEMORY = 500  # bytes that a tensor takes, without its name and what it may share with others
_LAYOUT, _DIMENSION = 500, 100  # bytes that a layout takes, and each of its dimensions
_LONGEST_KEY = 20
_LARGEST = 2**63 - 1

_GET = rb"(h.|j....)"
_PUT = rb"(q.|r....|\x94)"
_TEXT = rb"(?:X(.)\0\0\0|\x8c(.))"
_NUMBER = rb"(?:K.|M..|J....|" + b"|".join(rb"\x8a\x%02x.{%d}" % (size, size) for size in range(1, 9)) + rb")"
_NUMBERS = rb"(?:(\)|" + b"|".join((_NUMBER * n) + rb"\x%02x" % (0x84 + n) for n in (1, 2, 3))
_NUMBERS += rb"|\((?:" + _NUMBER + rb"){4,%d}t)" % _MOST_DIMENSIONS + _PUT + rb"?)"
_KEY = rb"(?:" + _TEXT + rb"([0-9]{1,%d})" % _LONGEST_KEY + _PUT + rb"|" + _GET + rb")"
# A device is a text of its own in each tensor, unless it is the CPU, whose name is one for all: location_tag() there.
_DEVICE = rb"(?:(" + _TEXT.replace(b"(.)", b".") + rb"[a-z]{2,20}(?::[0-9]{1,4})?)" + _PUT + rb"|" + _GET + rb")"
# What _rebuild_tensor_v2() in torch/_utils.py is called with: a storage, which is a persistent id of persistent_id() in
# torch/serialization.py, an offset, a size, strides, requires_grad, and hooks, of which there are none.
_TENSOR = (
    rb"\(" + _GET + _GET + _KEY + _DEVICE + rb"(" + _NUMBER + rb")N?t" + _PUT + rb"Q"
    rb"(" + _NUMBER + rb")" + _NUMBERS + _NUMBERS + rb"([\x88\x89])" + _GET + rb"\)R" + _PUT + rb"t" + _PUT + rb"R"
)  # fmt: skip
_FIRST = re.compile(_TENSOR, re.DOTALL)
# What comes between a tensor and the next in a mapping: the one is remembered, and the other has a name.
_NAME = re.compile(_PUT + rb"(?:" + _TEXT + rb"|" + _GET + rb")", re.DOTALL)
_NEXT = re.compile(_PUT + rb"?" + _GET + rb"\(" + _TENSOR, re.DOTALL)
_EACH = re.compile(_NUMBER, re.DOTALL)
_LONG_PUTS = [struct.Struct("<" + "xI" * number) for number in range(10)]  # as many as are written for a tensor


class _Layout(NamedTuple):
    """How a tensor lies in its storage."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    extent: int  # elements of the storage, from its first to its last


class _Remembered(dict[bytes, object]):
    """What a memo holds, by the operation that gets it; None where it does not hold that yet."""

    def __init__(self, memo: Memo) -> None:
        super().__init__()
        self.memo = memo

    def __missing__(self, operation: bytes) -> object:
        key = _place(operation)
        if key >= len(self.memo.values):  # where another may take its place
            return self.memo[key] if key in self.memo.far else None
        value = self[operation] = self.memo[key]
        return value


class TensorIdiom:
    """The calls of ``_rebuild_tensor_v2``, as picklers of PyTorch write them."""

    def __init__(self, storages: Storages, data: int) -> None:
        """Take note of storages, and know of how many tensors the data lie in the file."""
        self.memory = data * _MEMORY
        self._storages = storages
        self._left = data + _WITHOUT_DATA
        self._unknown = _MOST_LAYOUTS  # so many more are looked at
        self._layouts: dict[tuple[bytes, bytes, str], _Layout] = {}
        self._remembered = _Remembered(Memo())

    def starts(self, callable_: object) -> bool:
        """Whether it is how a call of this is written."""
        return (
            isinstance(callable_, Global)
            and callable_.name == "_rebuild_tensor_v2"
            and callable_.module == "torch._utils"
        )

    def read(self, data: bytes, at: int, stack: list[object], memo: Memo) -> int | None:
        """Read a call, and the items of a mapping that follow, as far as they are such calls."""
        if self._remembered.memo is not memo:
            self._remembered = _Remembered(memo)
        found = _FIRST.match(data, at) if self._left else None
        tensor = found and self._tensor(found.groups(), memo, (), ())
        if found is None or tensor is None:
            return None
        function = stack[-1]
        record = stack[-1] = Record(function, known=tensor)
        end, memory = found.end(), _MEMORY
        for _ in range(min(self._left, _MOST_AT_ONCE)):
            named = _NAME.match(data, end)
            if named is None:
                break
            put, length, short_length, known_name = named.groups()
            at = named.end()
            if known_name is None:
                start, at = at, at + (length or short_length)[0]
                name: object = decoded(data[start:at])
            else:
                name = self._remembered[known_name]
            found = _NEXT.match(data, at)
            if found is None or name is None:
                break
            name_put, called, *call = found.groups()
            if self._remembered[called] is not function:
                break
            tensor = self._tensor(call, memo, (put, name_put), (record, name))
            if tensor is None:
                break
            record = Record(function, known=tensor)
            stack += name, record
            end = found.end()
            memory += _MEMORY + (sys.getsizeof(name) if known_name is None else 0)
        self.memory -= memory
        return end

    def _tensor(
        self,
        call: Iterable[Any],
        memo: Memo,
        puts: tuple[Any, ...],
        values: tuple[object, ...],
    ) -> Tensor | None:
        """Return the tensor of a call, and remember what is in it; None if it is another call after all, or a bent one.

        ``call`` are the groups of ``_TENSOR``, and None where there is none; ``puts`` are the operations that remember
        ``values`` before those of the call itself.
        """
        (
            word, kind, length, short_length, digits, key_put, key_get, device, device_put, device_get, numel, id_put,
            offset, size, size_put, stride, stride_put, grad, hooks, hooks_put, args_put,
        ) = call  # fmt: skip
        remembered = self._remembered
        dtype, made_by = storage_dtype(remembered[kind]), remembered[hooks]
        place = remembered[device_get] if device is None else _device(device)
        if memo.is_rewritten or dtype is None or remembered[word] != "storage" or place is None:
            return None
        if not isinstance(made_by, Global) or (made_by.module, made_by.name) != ("collections", "OrderedDict"):
            return None
        if digits is None:
            key = remembered[key_get]
        elif len(digits) == (length or short_length)[0]:
            key = digits.decode()
        else:
            return None
        layout = self._layouts.get((size, stride, dtype)) or self._layout(size, stride, dtype)
        start, held = _number(offset), _number(numel)
        if layout is None or not 0 <= start <= held - layout.extent or not isinstance(key, str):
            return None  # what is wrong with it is told where it is made step by step
        named_puts: tuple[Any, ...] = (key_put,)
        names: tuple[object, ...] = (key,)
        if device is not None:
            named_puts, names = (key_put, device_put), (key, place)
            self.memory -= sys.getsizeof(place)
        is_remembered = _remember(
            memo,
            (*puts, *named_puts, id_put, size_put, stride_put, hooks_put, args_put),
            (*values, *names, UNREAD, layout.shape, layout.stride, UNREAD, UNREAD),
        )
        if not is_remembered:
            return None
        self._left -= 1
        storage = Storage(key, dtype, held)
        self._storages.add(storage)
        return Tensor(layout.shape, dtype, grad == b"\x88", False, storage, start, layout.stride)  # noqa: FBT003  # by their names it takes twice the time

    def _layout(self, size: bytes, stride: bytes, dtype: str) -> _Layout | None:
        """Return the layout that a size and strides make, which is looked at once for all tensors of it."""
        if not self._unknown:
            return None
        self._unknown -= 1
        try:
            made = strided((Storage("", dtype, _LARGEST), 0, _numbers(size), _numbers(stride), False))
        except MalformedPickle:
            return None
        if made.shape is None or dtype.startswith("q"):  # of quantised ones, several elements may share a byte
            return None
        extent = 1 + sum((each - 1) * step for each, step in zip(made.shape, made.stride, strict=True))
        layout = _Layout(made.shape, made.stride, extent if made.numel else 0)
        self._layouts[size, stride, dtype] = layout
        self.memory -= _LAYOUT + len(made.shape) * _DIMENSION
        return layout


def _remember(memo: Memo, puts: tuple[Any, ...], values: tuple[object, ...]) -> bool:
    """Remember values by the operations that are written for it, unless one of them takes another's place.

    What has no operation is not remembered.
    """
    if None in puts:  # as of an empty size, and of a storage that is in several tensors
        values = tuple(compress(values, puts))
        puts = tuple(filter(None, puts))
    written, known, number = b"".join(puts), len(memo.values), len(values)
    # As nearly always: each by the number that follows.
    if (
        len(written) == 5 * number
        and not memo.far
        and _LONG_PUTS[number].unpack(written) == (*range(known, known + number),)
    ):
        memo.values.extend(values)
        return True
    places = [_place(put) if len(put) > 1 else len(memo) + at for at, put in enumerate(puts)]
    if len(set(places)) < number or any(place < known or place in memo.far for place in places):
        return False
    for place, value in zip(places, values, strict=True):
        memo[place] = value
    return True


def _numbers(written: bytes) -> tuple[int, ...]:
    return tuple(map(_number, _EACH.findall(written, written.startswith(b"("))))


def _place(written: bytes) -> int:
    return int.from_bytes(written[1:], "little")


@lru_cache(maxsize=100)  # as there are few
def _device(written: bytes) -> str | None:
    """Return the text that a pickle holds; None if it is no longer or shorter than it says."""
    start = 5 if written.startswith(b"X") else 2
    return written[start:].decode() if len(written) == start + written[1] else None


@lru_cache(maxsize=1000)  # as the sizes of most storages are those of others
def _number(written: bytes) -> int:
    operation = written[0]
    if operation == 0x8A:  # noqa: PLR2004  # an integer of as many bytes as the next says
        return int.from_bytes(written[2:], "little", signed=True)
    return int.from_bytes(written[1:], "little", signed=operation == 0x4A)  # noqa: PLR2004  # of four bytes
