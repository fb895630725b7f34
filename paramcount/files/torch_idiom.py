"""Reads at once the operations that torch.save writes for a tensor, of which a checkpoint may have a million."""

from __future__ import annotations

import re
from collections.abc import Callable

from paramcount.files.pickles import UNREAD, Global, Memo, Record

_WITHOUT_DATA = 20_000  # tensors that are read so in any case; others only if their data lie in the file
_MOST_SHAPES = 10_000  # to remember
_MEMORY = 500  # bytes that a tensor takes, with its name
_LONGEST_KEY = 20

_GET = rb"(h.|j....)"
_PUT = rb"(q.|r....|\x94)"
_NUMBER = rb"(?:K.|M..|J....|" + b"|".join(rb"\x8a\x%02x.{%d}" % (size, size) for size in range(1, 9)) + rb")"
_NUMBERS = rb"(?:(\)|" + b"|".join((_NUMBER * n) + rb"\x%02x" % (0x84 + n) for n in (1, 2, 3))
_NUMBERS += rb"|\((?:" + _NUMBER + rb"){4,64}t)" + _PUT + rb"?)"
_KEY = rb"(?:(?:X(.)\0\0\0|\x8c(.))([0-9]{1,%d})" % _LONGEST_KEY + _PUT + rb"|" + _GET + rb")"
# What _rebuild_tensor_v2() in torch/_utils.py is called with: a storage, which is a persistent id of persistent_id() in
# torch/serialization.py, an offset, a size, strides, requires_grad, and hooks, of which there are none.
_TENSOR = re.compile(
    rb"\(" + _GET + _GET + _KEY + _GET + rb"(" + _NUMBER + rb")(N?)t" + _PUT + rb"Q"
    rb"(" + _NUMBER + rb")" + _NUMBERS + _NUMBERS + rb"([\x88\x89])" + _GET + rb"\)R" + _PUT + rb"t" + _PUT + rb"R",
    re.DOTALL,
)  # fmt: skip
_NO_HOOKS = Record(Global("collections", "OrderedDict"))


class TensorIdiom:
    """The calls of ``_rebuild_tensor_v2``, as picklers of PyTorch write them."""

    def __init__(self, persistent: Callable[[object], object], data: int) -> None:
        """Take what a persistent id stands for, and how many tensors' data lie in the file."""
        self.memory = data * _MEMORY
        self._persistent = persistent
        self._left = data + _WITHOUT_DATA
        self._shapes: dict[bytes, tuple[int, ...]] = {}

    def starts(self, callable_: object) -> bool:
        """Whether it is how a call of this is written."""
        return isinstance(callable_, Global) and callable_.name == "_rebuild_tensor_v2"

    def read(self, data: bytes, at: int, memo: Memo) -> tuple[tuple[object, ...], int] | None:
        """Return the arguments of a call, and where its operations end; None if they are others after all."""
        found = _TENSOR.match(data, at) if self._left else None
        if found is None:
            return None
        (
            word, kind, length, short_length, digits, key_put, key_get, device, numel, no_view, id_put,
            offset, size, size_put, stride, stride_put, grad, hooks, hooks_put, args_put,
        ) = found.groups()  # fmt: skip
        made_by = memo[_place(hooks)]
        if not isinstance(made_by, Global) or made_by.name != "OrderedDict":
            return None
        if digits is None:
            key = memo[_place(key_get)]
        elif len(digits) == (length or short_length)[0]:
            key = digits.decode()
        else:
            return None
        self._left -= 1
        view = (None,) if no_view else ()
        storage = self._persistent(
            (memo[_place(word)], memo[_place(kind)], key, memo[_place(device)], _number(numel), *view)
        )
        sizes, strides = self._numbers(size), self._numbers(stride)
        args = (storage, _number(offset), sizes, strides, grad == b"\x88", _NO_HOOKS)
        known = len(memo.values)
        puts = key_put, id_put, size_put, stride_put, hooks_put, args_put
        values = key, UNREAD, sizes, strides, UNREAD, args
        if all(puts) and [int.from_bytes(put[1:], "little") for put in puts] == [*range(known, known + len(puts))]:
            memo.values.extend(values)  # as always, but where one storage is in several tensors, or a size is empty
        else:
            for put, value in zip(puts, values, strict=True):
                if put is not None:
                    memo[_place(put) if len(put) > 1 else len(memo)] = value
        return args, found.end()

    def _numbers(self, written: bytes) -> tuple[int, ...]:
        """Return the numbers that make a tuple."""
        known = self._shapes.get(written)
        if known is None:
            known = tuple(map(_number, _EACH.findall(written, written.startswith(b"("))))
            if len(self._shapes) < _MOST_SHAPES:
                self._shapes[written] = known
        return known


_EACH = re.compile(_NUMBER, re.DOTALL)


def _place(written: bytes) -> int:
    return int.from_bytes(written[1:], "little")


def _number(written: bytes) -> int:
    operation = written[0]
    if operation == 0x8A:  # noqa: PLR2004  # an integer of as many bytes as the next says
        return int.from_bytes(written[2:], "little", signed=True)
    return int.from_bytes(written[1:], "little", signed=operation == 0x4A)  # noqa: PLR2004  # of four bytes
