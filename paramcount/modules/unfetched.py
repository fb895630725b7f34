"""Stands for pretrained weights that were not fetched: whoever needs their shapes or values is told."""

from __future__ import annotations

import sys
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from typing import Any

from paramcount.errors import BuildError
from paramcount.modules.failure import is_users

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


def _nobody(_is_of_all: bool) -> None:  # noqa: FBT001  # its only argument
    """Tell nobody."""


class Unfetched(dict[str, Any]):
    """Stands for a checkpoint that was not downloaded: empty, whatever part of it is asked for or taken out.

    Which names it has is not known, though a constructor may ask: ``asked`` is called when a user's code does, with
    whether any number of layers may follow from the answer. A library's own loader fits names to a model that is there.
    """

    def __init__(self, name: str = "", asked: Callable[[bool], object] = _nobody) -> None:
        """Stand for the part of this name."""
        self._name = name
        self._asked = asked
        self.taken: list[str] = []  # parts that it is without, as far as is known
        super().__init__()

    def __getitem__(self, key: Any) -> Any:
        return super().get(key, self._part(key)) if isinstance(key, str) else self._part(self._name)

    def _part(self, name: str) -> Unfetched:
        return Unfetched(name, self._asked)

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def pop(self, key: str, default: Any = None) -> Any:
        self.taken.append(key)
        return super().pop(key, self._part(key) if default is None else default)

    def get(self, key: str, default: Any = None) -> Any:
        if not super().__contains__(key) and not isinstance(default, Unfetched):
            self._look(is_of_all=False)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self._look()
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self._look()
        return super().__iter__()

    def keys(self) -> KeysView[str]:  # type: ignore[override]  # a dict's own are such, too
        self._look()
        return super().keys()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]  # the same
        self._look()
        return super().values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]  # the same
        self._look()
        return super().items()

    def __len__(self) -> int:
        if "." in self._name or self._name.endswith(("weight", "bias")):
            raise WeightsNeeded(f"the length of {self._name}")
        self._look()
        return super().__len__()

    def __bool__(self) -> bool:
        self._look()
        return False

    def _look(self, *, is_of_all: bool = True) -> None:
        if is_users(sys._getframe(2).f_code.co_filename):  # noqa: SLF001  # who asks: inspect costs too much
            self._asked(is_of_all)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_is_param":  # nn.Parameter() sets it on what is not quite a tensor
            raise WeightsNeeded("a parameter")
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in _STILL_UNKNOWN:
            return _UnfetchedMethod(self._name, self._asked)
        self._look(is_of_all=False)  # the error may be caught
        raise WeightsNeeded(f".{name}")

    def _arithmetic(self, *_others: Any) -> Unfetched:
        return self._part(self._name)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __matmul__ = __neg__ = _arithmetic

    @classmethod
    def __torch_function__(cls, function: Any, _types: Any, _args: Any = (), _kwargs: Any = None) -> Any:
        return Unfetched(getattr(function, "__name__", ""))


class _UnfetchedMethod(Unfetched):
    """What an unfetched tensor makes of itself: called, or as it is."""

    def __call__(self, *_args: Any, **_kwargs: Any) -> Unfetched:
        return self._part(self._name)
