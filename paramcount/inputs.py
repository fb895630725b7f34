"""What a model's forward is given, as a user writes it: a shape, with a dtype and a name where they are needed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from paramcount.errors import UsageError, closest, did_you_mean

_FORM = re.compile(r"(?:(?P<name>[^\W\d]\w*)=)?(?P<shape>[0-9]{1,12}(?:,[0-9]{1,12})*)(?::(?P<dtype>\w+))?")
_EXAMPLE = "for example: 1,3,224,224 or 1,128:int64 or input_ids=1,128:int64"
# Those of https://docs.pytorch.org/docs/stable/tensor_attributes.html that layers take.
DTYPES = (
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "complex64",
    "complex128",
)


class WrongInput(UsageError):
    """An input is not written as one."""

    code = "wrong-input"


@dataclass(frozen=True, slots=True)
class Input:
    """One tensor for a model's forward; its values are zeros."""

    shape: tuple[int, ...]
    dtype: str = DTYPES[0]
    name: str | None = None  # of the argument; None: by position

    @classmethod
    def parse(cls, text: str) -> Input:
        """Read «[NAME=]SHAPE[:DTYPE]».

        Raises:
            WrongInput: it has another form, or the dtype is none.

        """
        match = _FORM.fullmatch(text.replace(" ", ""))
        if match is None:
            raise WrongInput(f"input {text!r} is not SHAPE, SHAPE:DTYPE or NAME=SHAPE:DTYPE", hint=_EXAMPLE)
        dtype = match["dtype"] or DTYPES[0]
        if dtype not in DTYPES:
            hint = did_you_mean(closest(dtype, DTYPES)) or f"there is {', '.join(DTYPES)}"
            raise WrongInput(f"input {text!r}: {dtype!r} is no dtype", hint=hint)
        return cls(tuple(map(int, match["shape"].split(","))), dtype, match["name"])

    def __str__(self) -> str:
        """Return it as it is written."""
        name = f"{self.name}=" if self.name else ""
        dtype = "" if self.dtype == DTYPES[0] else f":{self.dtype}"
        return f"{name}{','.join(map(str, self.shape))}{dtype}"
