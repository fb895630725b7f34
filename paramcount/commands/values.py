"""Takes over from Typer what is on a command line, where there is nothing to convert."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin


class Unconverted:
    """Stands in for Typer's conversion of one parameter, which imports pydantic even for a word that is to stay one.

    That takes as long as half of an answer from a file's header or from the cache. Whatever is not plainly what it is
    to be goes Typer's own way, its errors too.
    """

    def __init__(self, annotation: Any) -> None:
        """Pass values of this type: ``str``, ``list[str]`` or a ``Literal`` of words."""
        self._annotation = annotation

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return what Typer would return."""
        is_list = param.multiple or param.nargs == -1
        if value is None:
            return () if is_list else None
        if is_list and self._annotation == list[str] and all(type(word) is str for word in value):
            return list(value)
        if not is_list and type(value) is str and self._may_be(value):
            return value
        param._runtime_param = None  # noqa: SLF001  # as Typer has it before it needs it
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)

    def _may_be(self, word: str) -> bool:
        if get_origin(self._annotation) is Literal:
            return word in get_args(self._annotation)
        return self._annotation is str


def leave_unconverted(params: list[Any]) -> None:
    """Let all parameters pass what needs no conversion, in a version of Typer that has a place to say so."""
    for param in params:
        descriptor = getattr(param, "type_descriptor", None)
        if descriptor is not None and getattr(param, "_runtime_param", descriptor) is None:
            param._runtime_param = Unconverted(descriptor.annotation)  # noqa: SLF001  # the same
