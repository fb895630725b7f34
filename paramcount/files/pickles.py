"""Reads pickles without running them: every object that a pickle would build by a call becomes an inert record."""

from __future__ import annotations

import codecs
import re
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from paramcount.pause import paused_collector

# Beyond these a pickle is no checkpoint's, but made to exhaust whoever reads it.
MOST_BYTES = 64 * 2**20
_MOST_OPERATIONS = 2_500_000
_OPERATIONS_EACH, _MEMORY_EACH = 120, 4000  # more, for a piece of data that it describes
_AT_ONCE = 2500  # operations between looks at how many values are on the stack, of which each adds one at most
_MOST_AT_ONCE = 1_000_000  # values on the stack
_MOST_MEMORY = 128 * 2**20  # that the values built may take
_LONGEST_INTEGER = 1024  # bytes; also the longest in decimal digits
_LONGEST_LINE = 64 * 2**10
_LONGEST_KEPT = 2**20  # bytes; characters may take four times as much
_HEAD = 2**12  # bytes kept of what is longer
_NEWEST_PROTOCOL = 5
_MEMOIZE, _LONG_GET, _SHORT_INTEGER = b"\x94jK"

# What CPython takes for a value of each kind, roughly and never less.
_CONTAINER = 160
_RECORD = 160
_REFERENCE = 8
_MEMO = 100
_NUMBER = 32
_GLOBAL = 1024  # more than it takes: a checkpoint has few


class MalformedPickle(ValueError):
    """Bytes that no pickler wrote, or that ask for more than a reader should give."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle asks to import, which is not done."""

    module: str
    name: str


@dataclass(slots=True, eq=False)
class Pairs:
    """A dictionary, as its keys and values in turn: nothing from a file is hashed, for a hash may take forever."""

    flat: list[object] = field(default_factory=list)
    by_text: dict[str, object] | None = field(default=None, repr=False)  # its fields, once somebody asked for them

    def items(self) -> Iterator[tuple[object, object]]:
        """Yield its keys and values; of equal keys the last is meant."""
        yield from zip(self.flat[::2], self.flat[1::2], strict=True)


@dataclass(slots=True, eq=False)
class Record:
    """An object that a pickle asks to build by a call, which is not done; two are one object if they are identical."""

    callable: object
    args: object = ()
    state: object = None  # what __setstate__() would be given
    items: Sequence[object] = ()  # of a sequence or a set
    pairs: Pairs | None = None  # of a mapping
    known: object = None  # what it stands for, where whoever read it has told already, and kept no arguments


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes or text of a pickle that are too long to keep, as an array's data."""

    head: bytes  # what they begin with
    length: int  # bytes in the file


class Cursor:
    """A place in bytes that are fetched as they are needed."""

    def __init__(self, data: bytes, fetch: Callable[[int, int], bytes] | None = None) -> None:
        """Start at the beginning of ``data``; ``fetch(start, least)`` returns what follows, at least so many bytes."""
        self.data = data
        self.at = 0  # in the data
        self._fetch = fetch
        self._base = 0  # where the data begins
        self._skipped = 0  # bytes that were passed over, and need not be fetched

    @property
    def position(self) -> int:
        """Bytes from the start."""
        return self._base + self.at

    def take(self, length: int) -> bytes:
        """Return the next ``length`` bytes.

        Raises:
            MalformedPickle: there are not so many.

        """
        end = self.at + length
        if end > len(self.data):
            self._need(length)
            end = self.at + length
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def skip(self, length: int) -> None:
        """Pass over the next ``length`` bytes; where there are not so many, whoever reads on is told.

        Raises:
            MalformedPickle: there are not so many, and no more can be fetched.

        """
        beyond = self.at + length - len(self.data)
        if beyond <= 0:
            self.at += length
        elif self._fetch is None:
            raise MalformedPickle("it is cut short")
        else:
            self._base += self.at + length
            self._skipped += beyond
            self.data, self.at = b"", 0

    def fetched(self) -> int:
        """Return where in the data the next byte is, once it is there.

        Raises:
            MalformedPickle: there is none.

        """
        self._need(1)
        return self.at

    def go_back(self, position: int) -> None:
        """Return to a place before this one."""
        if position < self._base:  # what was there is forgotten
            self._base, self.data, self._skipped = position, b"", 0
        self.at = position - self._base

    def line(self) -> bytes:
        """Return the rest of the line, without its end."""
        end = self.data.find(b"\n", self.at, self.at + _LONGEST_LINE)
        while end < 0:
            known = len(self.data) - self.at
            if known >= _LONGEST_LINE:
                raise MalformedPickle("it holds a line without an end")
            self._need(known + 1)
            end = self.data.find(b"\n", self.at, self.at + _LONGEST_LINE)
        return self.take(end - self.at + 1)[:-1]

    def _need(self, length: int) -> None:
        rest = self.data[self.at :]
        end = self.position - self._skipped + length
        if self._fetch is None or end > MOST_BYTES:
            raise MalformedPickle("it is cut short" if end <= MOST_BYTES else "it is too large")
        self._base += self.at
        self.at = 0
        self.data = rest + self._fetch(self._base + len(rest), length - len(rest))
        if len(self.data) < length:
            raise MalformedPickle("it is cut short")


class Idiom(Protocol):
    """A sequence of operations that a pickle repeats, and that can be read at once."""

    memory: int  # bytes that what it reads may still take, beyond what any pickle may; less than 0 if it took more

    def starts(self, callable_: object) -> bool:
        """Whether it is how a call of this is written."""

    def read(self, data: bytes, at: int, stack: list[object], memo: Memo) -> int | None:
        """Read a call, and what like it follows; return where that ends.

        ``data`` go on at ``at`` after the mark before the arguments, and what is called is on the stack. The values go
        there, too, and what is remembered into the memo. None if it is something else after all, with both untouched.
        """


class Watcher(Protocol):
    """Sees what loading a pickle would import and call."""

    def named(self, value: Global) -> None:
        """See a name that would be imported, once."""

    def called(self, call: Record) -> None:
        """See a call that would be made; ``copyreg.__newobj__`` makes an object without running its constructor."""


class Memo:
    """The values that a pickle remembers, by number."""

    def __init__(self) -> None:
        """Start without any."""
        self.values: list[object] = []  # picklers count from 0 or 1: hardly a number is left out
        self.is_rewritten = False  # whether one of those was put in another's place, which no pickler does
        self.far: dict[int, object] = {}  # by numbers that leave others out

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.values) + len(self.far)

    def __getitem__(self, key: int) -> object:
        """Return the value of a number."""
        values = self.values
        value = values[key] if 0 <= key < len(values) else self.far[key]
        if value is UNREAD:
            raise _Reread
        return value

    def __setitem__(self, key: int, value: object) -> None:
        """Remember a value."""
        known = len(self.values)
        if key == known:
            self.values.append(value)
        elif key < known:
            self.values[key] = value
            self.is_rewritten = True
        else:
            self.far[key] = value


UNREAD = object()  # what an idiom has passed over


class _Reread(Exception):  # no error: the pickle has to be read operation by operation
    pass


@paused_collector()
def load(
    cursor: Cursor,
    persistent: Callable[[object], object],
    idiom: Idiom | None = None,
    *,
    watcher: Watcher | None = None,
    pieces: int = 0,
) -> object:
    """Return the value of the next pickle, of which nothing was imported and nothing called.

    The operations are those that Python's ``pickletools`` documents, up to protocol 5. Dictionaries become ``Pairs``,
    sets lists, names to import ``Global``, and objects ``Record``. Values can contain themselves, and can be nested
    deeper than Python's stack.

    Args:
        cursor: where the pickle begins; after it, that is where it has ended.
        persistent: says what a persistent id stands for.
        idiom: what of it can be read at once.
        watcher: sees each import and each call that is not made.
        pieces: how many pieces of data there are that it describes, for each of which it may take more than others.

    Raises:
        MalformedPickle: these are no pickle's bytes, or they exceed a limit.

    """
    start = cursor.position
    machine = _Machine(cursor, persistent, idiom, watcher)
    machine.turns += pieces * _OPERATIONS_EACH // _AT_ONCE
    machine.most_memory += pieces * _MEMORY_EACH
    try:
        return _run(machine)
    except _Reread:
        cursor.go_back(start)
        again = _Machine(cursor, persistent, watcher=watcher)
        again.turns = machine.turns  # what was done once is not done again for nothing
        return _run(again)


def _run(machine: _Machine) -> object:
    cursor = machine.cursor
    try:
        return machine.run()
    except (IndexError, KeyError) as error:
        raise MalformedPickle(f"an operation near byte {cursor.position:,} lacks what it works on") from error
    except (ValueError, struct.error) as error:
        if isinstance(error, MalformedPickle):
            raise
        raise MalformedPickle(f"a value near byte {cursor.position:,} cannot be read") from error


class _Stop(Exception):  # no error: the pickle's end
    pass


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(
        self,
        cursor: Cursor,
        persistent: Callable[[object], object],
        idiom: Idiom | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.cursor = cursor
        self.watcher = watcher
        self.persistent = persistent
        self.idiom = idiom
        self.stack: list[object] = []
        self.outer: list[list[object]] = []  # the stacks beneath each mark
        self.memo = Memo()
        self.globals: dict[tuple[str, str], Global] = {}
        self.turns = _MOST_OPERATIONS // _AT_ONCE
        self.memory = 0
        self.most_memory = _MOST_MEMORY

    def run(self) -> object:
        cursor, operations, memo = self.cursor, _BY_BYTE, self.memo
        try:
            while self.turns:
                self.turns -= 1
                for _ in range(_AT_ONCE):
                    at, data = cursor.at, cursor.data
                    if at == len(data):
                        at, data = cursor.fetched(), cursor.data
                    code = data[at]
                    cursor.at = at + 1
                    # Of many pickles half are these three, of which each takes less than a call.
                    if code == _MEMOIZE and not memo.far:
                        memo.values.append(self.stack[-1])
                    elif code == _LONG_GET and at + 5 <= len(data):
                        self.stack.append(memo[int.from_bytes(data[at + 1 : at + 5], "little")])
                        cursor.at = at + 5
                    elif code == _SHORT_INTEGER and at + 2 <= len(data):
                        self.stack.append(data[at + 1])
                        self.memory += _NUMBER
                        cursor.at = at + 2
                    else:
                        operations[code](self)
                if len(self.stack) > _MOST_AT_ONCE:
                    raise MalformedPickle("it holds too many values at once")
                self.spend(0)
        except _Stop:
            return self.stack[-1]
        raise MalformedPickle("it takes more operations than any checkpoint of its size")

    def spend(self, memory: int) -> None:
        self.memory += memory
        if self.memory > self.most_memory:
            raise MalformedPickle(f"its values take more than {self.most_memory:,} bytes")

    def push(self, value: object, memory: int) -> None:
        self.memory += memory  # of so little, as of all that a turn adds, it is enough to look at the sum after it
        self.stack.append(value)

    def push_large(self, value: object, memory: int) -> None:
        self.spend(memory)
        self.stack.append(value)

    def mark(self) -> None:
        if (
            self.idiom is not None
            and self.stack
            and type(self.stack[-1]) is Global
            and self.idiom.starts(self.stack[-1])
        ):
            end = self.idiom.read(self.cursor.data, self.cursor.at, self.stack, self.memo)
            if end is not None:
                self.cursor.at = end
                if self.idiom.memory < 0:
                    self.spend(-self.idiom.memory)
                    self.idiom.memory = 0
                return
        self.memory += _CONTAINER
        self.outer.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[object]:
        above = self.stack
        self.stack = self.outer.pop()
        return above

    def number(self, length: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.cursor.take(length), "little", signed=signed)

    def byte(self) -> int:
        cursor = self.cursor
        at = cursor.at
        if at == len(cursor.data):
            at = cursor.fetched()
        cursor.at = at + 1
        return cursor.data[at]

    # Text and numbers

    def text(self, length: int) -> None:
        data = self.counted(length)
        value = data if isinstance(data, Blob) else decoded(data)
        self.push_large(value, _HEAD if isinstance(value, Blob) else sys.getsizeof(value))

    def counted(self, length: int) -> bytes | Blob:
        if length < 0:
            raise MalformedPickle(f"it holds a string of {length:,} bytes")
        if length <= _LONGEST_KEPT:
            return self.cursor.take(length)
        head = self.cursor.take(_HEAD)
        self.cursor.skip(length - _HEAD)
        return Blob(head, length)

    def data(self, length: int) -> None:
        data = self.counted(length)
        self.push_large(data, _CONTAINER + (_HEAD if isinstance(data, Blob) else length))

    def quoted(self) -> None:
        line = self.cursor.line().strip()
        if len(line) < 2 or line[:1] not in {b'"', b"'"} or line[-1:] != line[:1]:  # noqa: PLR2004  # two quotes
            raise MalformedPickle("it holds a string without quotes")
        value = _unescaped(line[1:-1])
        self.push_large(value, sys.getsizeof(value))

    def raw_text(self) -> None:
        value = self.cursor.line().decode("raw_unicode_escape")
        self.push_large(value, 4 * len(value) + _CONTAINER)

    def integer_line(self) -> None:
        line = self.cursor.line()
        if line in {b"00", b"01"}:
            self.push(line == b"01", 0)
        else:
            self.push_large(_decimal(line), len(line) + _NUMBER)

    def long(self, length: int) -> None:
        if not 0 <= length <= _LONGEST_INTEGER:
            raise MalformedPickle(f"it holds an integer of {length:,} bytes")
        self.push(int.from_bytes(self.cursor.take(length), "little", signed=True), length + _NUMBER)

    # Containers

    def append(self, values: list[object], target: object) -> None:
        self.spend(_REFERENCE * len(values))
        if isinstance(target, list):
            target.extend(values)
        elif isinstance(target, Record):
            self.see_method(target, ("extend", "append", "add"), values)
            if not isinstance(target.items, list):
                target.items = []
            target.items.extend(values)
        else:
            self.see_method(target, ("append",), values)
            raise MalformedPickle("it appends to what is no sequence")

    def set_items(self, values: list[object], target: object) -> None:
        pairs = target
        if isinstance(target, Record):
            pairs = target.pairs = target.pairs or Pairs()
        if not isinstance(pairs, Pairs) or len(values) % 2:
            self.see_method(target, ("__setitem__",), values)
            raise MalformedPickle("it sets items of what is no mapping")
        self.spend(_REFERENCE * len(values))
        pairs.flat.extend(values)

    def collect(self, length: int) -> None:
        if len(self.stack) < length:
            raise IndexError
        values = tuple(self.stack[-length:])
        del self.stack[-length:]
        self.push(values, 56 + _REFERENCE * length)

    def remember(self, key: int) -> None:
        values = self.memo.values
        if key == len(values):  # as nearly always, and limited by the number of operations
            values.append(self.stack[-1])
        else:
            self.spend(_MEMO)
            self.memo[key] = self.stack[-1]

    # Objects

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise MalformedPickle("it imports what is no name")
        known = self.globals.get((module, name))
        if known is None:
            self.spend(_GLOBAL + sys.getsizeof(module) + sys.getsizeof(name))
            known = self.globals[module, name] = Global(module, name)
            if self.watcher is not None:
                self.watcher.named(known)
        self.stack.append(known)

    def record(self, callable_: object, args: object, keywords: object = None, *, is_bare: bool = False) -> None:
        record = Record(callable_, args if keywords is None else (args, keywords))
        if self.watcher is not None:
            self.watcher.called(_bare(callable_, args, keywords) if is_bare else record)
        self.push(record, _RECORD)

    def see_method(self, target: object, names: Sequence[str], values: object) -> None:
        """See the calls of a name's attributes, and of what an object's state has put in its methods' place.

        Pickle sets a state last: no pickler goes on with an object after it.
        """
        if self.watcher is None:
            return
        args = tuple(values) if isinstance(values, list) else (values,)
        if isinstance(target, Global):
            self.watcher.called(Record(Global(target.module, f"{target.name}.{names[0]}"), args))
        elif isinstance(target, Record) and target.state is not None:
            for part in target.state if isinstance(target.state, tuple) else (target.state,):
                if isinstance(part, Pairs):
                    self.spend(_REFERENCE * len(part.flat))  # for the time that it takes to look at each
                    for method in (value for name, value in part.items() if name in names):
                        self.watcher.called(Record(method, args))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        self.see_method(target, ("__setstate__",), state)
        if not isinstance(target, Record):
            raise MalformedPickle("it sets the state of what has none")
        target.state = state

    def refuse_buffer(self) -> NoReturn:
        raise MalformedPickle("it refers to buffers outside of itself")


def _bare(kind: object, args: object, keywords: object) -> Record:
    """Return the call that makes an object of a class without running its constructor."""
    given = [*args] if isinstance(args, tuple) else [args]
    return Record(_NEW_OBJECT, (kind, *given, *([keywords] if isinstance(keywords, Pairs) and keywords.flat else [])))


_NEW_OBJECT = Global("copyreg", "__newobj__")


def decoded(data: bytes) -> str:
    """Return text as Python's unpickler reads it, lone surrogates too; bytes that are no text, by their escapes."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "backslashreplace")


def _decimal(line: bytes) -> int:
    text = line.removesuffix(b"L")
    if len(text) > _LONGEST_INTEGER or not re.fullmatch(rb"\s*[+-]?[0-9]+\s*", text):
        raise MalformedPickle("it holds an integer that is none, or has too many digits")
    return int(text)


def _unescaped(escaped: bytes) -> str:
    return decoded(codecs.escape_decode(escaped)[0])  # by which Python's unpickler reads it


# The operations, by their bytes ---------------------------------------------------------------------------------------


def _unknown(machine: _Machine) -> NoReturn:
    raise MalformedPickle(f"byte {machine.cursor.position - 1:,} is no operation of a pickle")


def _protocol(machine: _Machine) -> None:
    protocol = machine.number(1)
    if protocol > _NEWEST_PROTOCOL:
        raise MalformedPickle(f"it is of protocol {protocol}, and {_NEWEST_PROTOCOL} is the newest known")


def _stop(machine: _Machine) -> NoReturn:
    if machine.outer or len(machine.stack) != 1:
        raise MalformedPickle("it ends with more or less than one value")
    raise _Stop


def _pop(machine: _Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


def _put_line(machine: _Machine) -> None:
    key = _decimal(machine.cursor.line())
    if not 0 <= key < 2**32:
        raise MalformedPickle(f"it remembers a value as number {key:,}")
    machine.remember(key)


def _integer(length: int, *, signed: bool = False) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.number(length, signed=signed), _NUMBER)


def _extension(length: int, *, signed: bool = False) -> Callable[[_Machine], None]:
    return lambda machine: machine.name("copyreg", f"extension {machine.number(length, signed=signed)}")


def _constant(value: object) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(value)


def _text(length: int, *, signed: bool = False) -> Callable[[_Machine], None]:
    return lambda machine: machine.text(machine.number(length, signed=signed))


def _data(length: int) -> Callable[[_Machine], None]:
    return lambda machine: machine.data(machine.number(length))


def _float_line(machine: _Machine) -> None:
    machine.push(float(machine.cursor.line()), _NUMBER)


def _float(machine: _Machine) -> None:
    machine.push(struct.unpack(">d", machine.cursor.take(8))[0], _NUMBER)


def _tuple(machine: _Machine) -> None:
    values = tuple(machine.pop_mark())
    machine.push_large(values, 56 + _REFERENCE * len(values))


def _list(machine: _Machine) -> None:
    values = machine.pop_mark()
    machine.push_large(values, _CONTAINER + _REFERENCE * len(values))


def _dict(machine: _Machine) -> None:
    values = machine.pop_mark()
    pairs = Pairs()
    machine.set_items(values, pairs)
    machine.push(pairs, _CONTAINER)


def _append(machine: _Machine) -> None:
    value = machine.stack.pop()
    target = machine.stack[-1]
    if type(target) is list:  # by far the most often
        target.append(value)
        machine.spend(_REFERENCE)
    else:
        machine.append([value], target)


def _appends(machine: _Machine) -> None:
    values = machine.pop_mark()
    machine.append(values, machine.stack[-1])


def _set_item(machine: _Machine) -> None:
    value = machine.stack.pop()
    key = machine.stack.pop()
    machine.set_items([key, value], machine.stack[-1])


def _set_items(machine: _Machine) -> None:
    values = machine.pop_mark()
    machine.set_items(values, machine.stack[-1])


def _global(machine: _Machine) -> None:
    module, name = machine.cursor.line(), machine.cursor.line()
    machine.name(module.decode("utf-8", "backslashreplace"), name.decode("utf-8", "backslashreplace"))


def _stack_global(machine: _Machine) -> None:
    name = machine.stack.pop()
    machine.name(machine.stack.pop(), name)


def _reduce(machine: _Machine) -> None:
    args = machine.stack.pop()
    machine.record(machine.stack.pop(), args)


def _new(machine: _Machine) -> None:
    args = machine.stack.pop()
    machine.record(machine.stack.pop(), args, is_bare=True)


def _new_with_keywords(machine: _Machine) -> None:
    keywords = machine.stack.pop()
    args = machine.stack.pop()
    machine.record(machine.stack.pop(), args, keywords, is_bare=True)


def _instance(machine: _Machine) -> None:
    _global(machine)
    callable_ = machine.stack.pop()
    machine.record(callable_, tuple(machine.pop_mark()))


def _object(machine: _Machine) -> None:
    callable_, *args = machine.pop_mark() or [None]
    if callable_ is None:
        raise IndexError
    machine.record(callable_, tuple(args))


def _persistent(machine: _Machine) -> None:
    machine.push(machine.persistent(machine.stack.pop()), _RECORD)


def _persistent_line(machine: _Machine) -> None:
    machine.push(machine.persistent(machine.cursor.line().decode("utf-8", "backslashreplace")), _RECORD)


_OPERATIONS: dict[bytes, Callable[[_Machine], object]] = {
    b"\x80": _protocol,
    b"\x95": lambda machine: machine.number(8),  # a frame only says how much to read ahead
    b".": _stop,
    b"0": _pop,
    b"1": _Machine.pop_mark,
    b"2": lambda machine: machine.stack.append(machine.stack[-1]),
    b"(": _Machine.mark,
    b"p": _put_line,
    b"q": lambda machine: machine.remember(machine.byte()),
    b"r": lambda machine: machine.remember(machine.number(4)),
    b"\x94": lambda machine: machine.remember(len(machine.memo)),
    b"g": lambda machine: machine.stack.append(machine.memo[_decimal(machine.cursor.line())]),
    b"h": lambda machine: machine.stack.append(machine.memo[machine.byte()]),
    b"j": lambda machine: machine.stack.append(machine.memo[machine.number(4)]),
    b"N": _constant(None),
    b"\x88": _constant(True),  # noqa: FBT003  # the value itself
    b"\x89": _constant(False),  # noqa: FBT003  # the value itself
    b"I": _Machine.integer_line,
    b"L": lambda machine: machine.push(_decimal(machine.cursor.line()), _LONGEST_INTEGER),
    b"J": _integer(4, signed=True),
    b"K": lambda machine: machine.push(machine.byte(), _NUMBER),
    b"M": _integer(2),
    b"\x8a": lambda machine: machine.long(machine.number(1)),
    b"\x8b": lambda machine: machine.long(machine.number(4, signed=True)),
    b"F": _float_line,
    b"G": _float,
    b"S": _Machine.quoted,
    b"T": _text(4, signed=True),
    b"U": _text(1),
    b"V": _Machine.raw_text,
    b"X": _text(4),
    b"\x8c": _text(1),
    b"\x8d": _text(8),
    b"B": _data(4),
    b"C": _data(1),
    b"\x8e": _data(8),
    b"\x96": _data(8),
    b"\x97": _Machine.refuse_buffer,
    b"\x98": _Machine.refuse_buffer,
    b")": lambda machine: machine.stack.append(()),
    b"t": _tuple,
    b"\x85": lambda machine: machine.collect(1),
    b"\x86": lambda machine: machine.collect(2),
    b"\x87": lambda machine: machine.collect(3),
    b"]": lambda machine: machine.push([], _CONTAINER),
    b"a": _append,
    b"e": _appends,
    b"l": _list,
    b"}": lambda machine: machine.push(Pairs(), _CONTAINER),
    b"d": _dict,
    b"s": _set_item,
    b"u": _set_items,
    b"\x8f": lambda machine: machine.push([], _CONTAINER),
    b"\x90": _appends,
    b"\x91": _list,
    b"c": _global,
    b"\x93": _stack_global,
    b"R": _reduce,
    b"\x81": _new,
    b"\x92": _new_with_keywords,
    b"i": _instance,
    b"o": _object,
    b"b": _Machine.build,
    b"Q": _persistent,
    b"P": _persistent_line,
    b"\x82": _extension(1),
    b"\x83": _extension(2),
    b"\x84": _extension(4, signed=True),
}
_BY_BYTE = [_OPERATIONS.get(bytes([code]), _unknown) for code in range(256)]
