"""Names the calls in a pickle that no checkpoint needs: by such calls a file harms whoever loads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from paramcount.errors import ParamcountError
from paramcount.files.expected_calls import is_expected, is_expected_value, is_of_any_state_dict, modern
from paramcount.files.pickles import Blob, Global, Record
from paramcount.inventory import Note

CODE = "calls"  # of the note
NOT_EXECUTED = "nothing in it was executed here"

_MOST_TEXT = 8000  # characters of all calls in a message
_MOST_KEPT = 10_000  # calls
_LARGEST = 10**9
_LONGEST = 60  # characters of an argument
_LONGEST_NAME = 200
_ARGUMENTS_SHOWN = 3
_DEEPEST = 8  # calls of what calls return, and files within files


class _Call(NamedTuple):
    made: object
    args: tuple[object, ...]
    is_bare: bool = False  # made as pickle makes objects, without running a constructor


class RiskyCalls:
    """What loading a file would call, and import, of what no checkpoint needs."""

    loader = "torch.load(weights_only=False)"  # that would make them

    def __init__(self, nested: Callable[[object, RiskyCalls], object] | None = None, depth: int = _DEEPEST) -> None:
        """Start without any.

        Args:
            nested: reads a file of torch.save that a pickle holds as a value, and adds its calls to those given.
            depth: so many files may lie within each other.

        """
        self._calls: dict[str, None] = {}  # in their order
        self._names: dict[str, None] = {}  # that are imported; only some are called
        self._called: set[str] = set()
        self._left_out = 0
        self._nested = nested
        self._depth = depth
        self._usual: dict[int, Global] = {}  # by their ids: names whose calls need no second look

    def named(self, value: Global) -> None:
        """Look at a name that loading the pickle would import."""
        if is_of_any_state_dict(value.module, value.name):
            return
        name = modern(value.module, value.name)
        if not is_expected_value(*name):
            self._keep(self._names, _dotted(name))

    def called(self, call: Record) -> None:
        """Look at a call that loading the pickle would make."""
        made = call.callable
        if self._usual.get(id(made)) is made:
            return
        args = call.args if isinstance(call.args, tuple) else ()
        if isinstance(made, Global) and made.name not in _JUDGED_BY_ARGUMENTS and _is_usual(made):
            self._usual[id(made)] = made
            return
        self._judge(_Call(made, args), _DEEPEST)

    def __bool__(self) -> bool:
        """Whether there is anything to say."""
        return bool(self._calls or self._names)

    def __str__(self) -> str:
        """Say it, with full names; empty where there is nothing to say."""
        names = [name for name in self._names if name not in self._called]
        said = [
            *([f"call {self._listed(self._calls)}"] if self._calls else []),
            *([f"import {self._listed(names)}"] if names else []),
        ]
        if not said:
            return ""
        return f"{self.loader} would {' and '.join(said)}; {NOT_EXECUTED}"

    def notes(self) -> Iterator[Note]:
        """Yield a note that says it, if there is anything to say."""
        if self:
            yield Note(CODE, "", str(self))

    @contextmanager
    def said_on_failure(self) -> Iterator[None]:
        """Let an error that is raised inside say it, too: who cannot count a file may want to load it."""
        try:
            yield
        except ParamcountError as error:
            if self and str(self) not in error.message:
                error.message, error.hint = f"{error.message}; {self}", "do not load it"
                error.args = (error.message,)
            raise

    def _judge(self, call: _Call, depth: int) -> None:
        """Keep a call, and those that follow from its arguments, unless checkpoints make such calls."""
        if not isinstance(call.made, (Global, Record)):
            return  # it fails
        call = _without_partial(call)
        meant = _meant(call.made, _DEEPEST)
        further = _further(".".join(meant), call.args) if meant and depth else None
        if further is not None:
            for each in further:
                self._judge(each, depth - 1)
        elif meant == _UNPICKLER and self._is_read(call.args):
            pass  # its own calls are added
        elif meant is None or not is_expected(
            *meant, has_args=not all(map(_is_plain, call.args)), is_bare=call.is_bare
        ):
            self._called.add(_dotted(meant) if meant else "")
            self._keep(self._calls, f"{_text(call.made, _DEEPEST)}({_arguments(call.args)})")
        if meant and isinstance(call.made, Record):  # a name that was made up on the way
            self.named(Global(*meant))

    def _is_read(self, args: tuple[object, ...]) -> bool:
        """Read the file that a pickle holds as bytes; False if that fails."""
        if self._nested is None or not self._depth or len(args) != 1:
            return False
        inner = RiskyCalls(self._nested, self._depth - 1)
        try:
            self._nested(args[0], inner)
        except ParamcountError:
            return False
        finally:
            for call in inner._calls:  # of its own class
                self._keep(self._calls, call)
            for name in inner._names:  # the same
                self._keep(self._names, name)
            self._called |= inner._called  # the same
        return True

    def _keep(self, found: dict[str, None], text: str) -> None:
        if len(found) < _MOST_KEPT:
            found[text] = None
        elif text not in found:
            self._left_out += 1

    def _listed(self, texts: Iterable[str]) -> str:
        shown: list[str] = []
        length, number = 0, self._left_out
        for text in texts:
            if length < _MOST_TEXT:
                shown.append(text)
                length += len(text)
            else:
                number += 1
        return ", ".join(shown) + (f" and {number:,} more" if number else "")


def _is_usual(made: Global) -> bool:
    return is_of_any_state_dict(made.module, made.name) or is_expected(*modern(made.module, made.name))


def _is_plain(value: object) -> bool:
    """Whether a value is a number or a word, as the values of enumerations are, and no command or path."""
    if isinstance(value, str):
        return re.fullmatch(_WORD, value) is not None
    return value is None or isinstance(value, (int, float))


_WORD = r"[A-Za-z0-9_-]{0,40}"
_UNPICKLER = ("torch.storage", "_load_from_bytes")
_JUDGED_BY_ARGUMENTS = {
    *("__newobj__", "__newobj_ex__", "_reconstructor", "_rebuild_from_type", "_rebuild_from_type_v2"),
    *("type", "encode", "getattr", "_load_from_bytes"),
}


def _further(name: str, args: tuple[object, ...]) -> list[_Call] | None:  # noqa: PLR0911  # a table
    """Return the calls that a function makes of its arguments; None for one that is judged by its own name."""
    match name, args:
        case (("copyreg.__newobj__" | "copyreg.__newobj_ex__"), (kind, *rest)):
            return [_Call(kind, tuple(rest), is_bare=True)]
        case "copyreg._reconstructor", (kind, base, *_):
            return [_Call(kind, (), is_bare=True), _Call(base, (), is_bare=True)]
        case (
            ("torch._tensor._rebuild_from_type" | "torch._tensor._rebuild_from_type_v2"),
            (function, _, tuple(rest), *_),
        ):
            return [_Call(function, tuple(rest))]
        case "builtins.type", (None,):
            return []
        case "_codecs.encode", (str() | Blob(), "latin1" | "latin-1"):  # bytes, as protocol 2 writes them
            return []
        case "builtins.getattr", (Global(module, start), str(end), *_):  # an enumeration's member, or a method
            return [] if is_expected_value(*modern(module, f"{start}.{end}")) else None
        case "builtins.getattr", (Record(), str(), *_):  # what is called by way of it has a word of its own
            return []
    return None


def _without_partial(call: _Call) -> _Call:
    """Return the call that ``functools.partial`` makes of a call of what it returns."""
    for _ in range(_DEEPEST):
        match call.made:
            case Record(Global("functools" | "_functools", "partial"), (of, *given)):
                call = _Call(of, (*given, *call.args))
            case _:
                break
    return call


def _meant(value: object, depth: int) -> tuple[str, str] | None:
    """Return the module and the name in it that a value stands for; None if it stands for none."""
    match value:
        case Global(module, name):
            return modern(module, name)
        case Record(Global("builtins" | "__builtin__", "getattr"), (of, str(name), *_)):
            pass
        case Record(Record(Global("operator" | "_operator", "attrgetter"), (str(name),)), (of,)):
            pass
        case Record(Global("functools" | "_functools", "partial"), (of, *_)):
            return _meant(of, depth - 1) if depth else None
        case _:
            return None
    outer = _meant(of, depth - 1) if depth else None
    return (outer[0], f"{outer[1]}.{name}") if outer else None


def _text(value: object, depth: int) -> str:
    """Return a value as Python would write it, as far as it is worth showing."""
    meant = _meant(value, depth)
    if meant is not None:
        written = f"{value.module}.{value.name}" if isinstance(value, Global) else ""
        name = ".".join(meant)
        return _brief(name, _LONGEST_NAME) + (
            f" (written {_brief(written, _LONGEST_NAME)})" if written not in {"", name} else ""
        )
    if isinstance(value, Record) and depth:
        match value:
            case Record(Global("builtins" | "__builtin__", "getattr"), (of, str(name), *_)):
                return f"{_text(of, depth - 1)}.{_brief(name, _LONGEST_NAME)}"
        args = value.args if isinstance(value.args, tuple) else ()
        return f"{_text(value.callable, depth - 1)}({_arguments(args, depth - 1)})"
    if isinstance(value, str):
        return repr(_brief(value, _LONGEST, shown=str))
    is_short = value is None or (isinstance(value, (int, float)) and abs(value) < _LARGEST)
    return repr(value) if is_short else "…"


def _arguments(args: tuple[object, ...], depth: int = 1) -> str:
    return ", ".join(_text(each, depth) for each in args[:_ARGUMENTS_SHOWN])


def _dotted(name: tuple[str, str]) -> str:
    return _brief(".".join(name), _LONGEST_NAME)


def _brief(text: str, longest: int, shown: Callable[[str], str] = lambda text: repr(text)[1:-1]) -> str:
    return shown(text if len(text) <= longest else text[:longest] + "…")
