"""Stands for pretrained weights that were not fetched: whoever needs their shapes or values is told."""

from __future__ import annotations

from typing import Any

from paramcount.errors import BuildError

_GENERIC = "build it without weights: its constructor may have an argument for that, such as -a pretrained=false"


class WeightsNeeded(BuildError, AttributeError, TypeError):
    """The constructor looks into weights that were not fetched.

    An AttributeError, too, because hasattr() is no such look; and a TypeError, because list() asks for a length first.
    """

    def __init__(self, what: str) -> None:
        """Say what of the weights the constructor wants to know."""
        super().__init__(
            f"its constructor takes {what} from pretrained weights, and no weights are ever fetched", hint=_GENERIC
        )


# Of a tensor, what gives another one: it is as unknown as the first.
_STILL_UNKNOWN = (
    {"bfloat16", "clone", "contiguous", "cpu", "cuda", "data", "detach", "double", "expand", "flatten", "flip", "float"}
    | {"half", "mean", "permute", "repeat", "requires_grad_", "reshape", "squeeze", "sum", "T", "t", "to", "transpose"}
    | {"type_as", "unsqueeze", "view"}
)


class Unfetched(dict[str, Any]):
    """Stands for a checkpoint that was not downloaded: empty, whatever part of it is asked for or taken out."""

    def __init__(self, name: str = "") -> None:
        """Stand for the part of this name."""
        self._name = name
        self.taken: list[str] = []  # parts that it is without, as far as is known
        super().__init__()

    def __getitem__(self, key: Any) -> Any:
        return self.get(key, Unfetched(key)) if isinstance(key, str) else Unfetched(self._name)

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def pop(self, key: str, default: Any = None) -> Any:
        self.taken.append(key)
        return super().pop(key, Unfetched(key) if default is None else default)

    def __len__(self) -> int:
        if "." in self._name or self._name.endswith(("weight", "bias")):
            raise WeightsNeeded(f"the length of {self._name}")
        return 0

    def __bool__(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in _STILL_UNKNOWN:
            return _UnfetchedMethod(self._name)
        raise WeightsNeeded(f".{name}")

    def _arithmetic(self, *_others: Any) -> Unfetched:
        return Unfetched(self._name)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __matmul__ = __neg__ = _arithmetic

    @classmethod
    def __torch_function__(cls, function: Any, _types: Any, _args: Any = (), _kwargs: Any = None) -> Any:
        return Unfetched(getattr(function, "__name__", ""))


class _UnfetchedMethod(Unfetched):
    """What an unfetched tensor makes of itself: called, or as it is."""

    def __call__(self, *_args: Any, **_kwargs: Any) -> Unfetched:
        return Unfetched(self._name)
