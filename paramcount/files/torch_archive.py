"""Reads what torch.save wrote, in its zip format and the one before it, as far as structure goes: no tensor's data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from paramcount.errors import ParamcountError, UnreadableFile
from paramcount.files import arrays, foreign, npy, tars, torch_export, torch_packed, torch_zip
from paramcount.files.kinds import OtherKind, demand_kind
from paramcount.files.pickles import MOST_BYTES, Cursor, MalformedPickle, Pairs, Record, load
from paramcount.files.ranges import Held, Ranges
from paramcount.files.risky_calls import RiskyCalls
from paramcount.files.torch_idiom import TensorIdiom
from paramcount.files.torch_tensors import Storage, Storages, Tensor, Tensors
from paramcount.files.torch_zip import AlikeEntries, Entry, MalformedZip
from paramcount.inventory import Note

# torch/serialization.py: MAGIC_NUMBER, PROTOCOL_VERSION, and the longest of the file's other markers.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_ZIP = b"PK\x03\x04"
_CHUNK = 256 * 2**10
# Of the format before 1.6 only the end says how many tensors' data are there: so many, as long as it is not known.
_BYTES_EACH = 1000
_MOST_EXPECTED = 50_000
_LARGEST_CODE = 16 * 2**20
_LONGEST_WORD = 16  # bytes
_LEGACY_PICKLES = 5  # the magic number, the version, the machine, the object, and the keys of its storages


@dataclass(frozen=True, slots=True)
class Archive:
    """A file's pickle, read as inert values."""

    root: object
    code: dict[str, str] = field(default_factory=dict)  # what TorchScript compiled, by the module it was in
    stored: int = 0  # tensors whose data lie in the file, each at a place of its own, as far as that is known
    constants: int = 0  # bytes of tensors that a program keeps outside of its modules
    elements_of_constants: int = 0  # 0: not known
    calls: RiskyCalls = field(default_factory=RiskyCalls)  # that loading it would make
    elements: Callable[[Tensor], bytes | None] = lambda _: None  # of a small tensor, as long as the file is open
    notes: tuple[Note, ...] = ()  # what there is to say of how it was saved


def read(file: Ranges) -> Archive:
    """Return the values of a file that torch.save, torch.jit.save or torch.export.save wrote.

    The formats are those of https://docs.pytorch.org/docs/stable/notes/serialization.html and torch/serialization.py.

    Raises:
        UnreadableFile: it is none, is damaged, or exceeds what a checkpoint's structure can take.

    """
    calls = RiskyCalls(_nested)
    with calls.said_on_failure():
        return _read(file, calls)


def read_unpacked(file: Ranges, sizes: Mapping[str, int | None]) -> Archive:
    """Return the values of an archive of torch.save that was unpacked; ``file`` is the pickle in it.

    Args:
        file: what was data.pkl.
        sizes: bytes of the storages beside it, by their keys; None where that is not known.

    Raises:
        UnreadableFile: it is damaged, or a storage is missing.

    """
    calls = RiskyCalls(_nested)
    with calls.said_on_failure():
        try:
            storages = Storages()
            idiom = TensorIdiom(storages, len(sizes))
            value = load(Cursor(b"", _fetch(file)), storages.of, idiom, watcher=calls)
            for key, each in storages.found.items():
                size = sizes.get(key, -1)
                if size is not None and size < each.nbytes:
                    raise MalformedPickle(f"the data of storage {key!r} is missing or too short")
        except MalformedPickle as error:
            raise UnreadableFile(f"{file.name}: {error}", hint=HINT) from error
    return Archive(value, stored=len(sizes), calls=calls, notes=(_UNPACKED,))


_UNPACKED = Note("unpacked", "", "this is an unpacked archive of torch.save: torch.load() reads it only as one file")


def _read(file: Ranges, calls: RiskyCalls) -> Archive:
    start = file.upto(0, foreign.START)
    try:
        if tars.is_tar(start):
            return _in_tar(file, calls)
        if start.startswith(npy.MAGIC):
            calls.loader = npy.LOADER
            root, notes = npy.one(file, calls)
            return Archive(root, calls=calls, notes=notes)
        return _zipped(file, calls) if start.startswith(_ZIP) else _legacy(file, start, calls)
    except (MalformedPickle, MalformedZip) as error:
        raise UnreadableFile(f"{file.name}: {error}", hint=HINT) from error


def _in_tar(file: Ranges, calls: RiskyCalls) -> Archive:
    member, note = tars.weights(file)
    if tars.is_tar(member.upto(0, foreign.START)):
        raise UnreadableFile(f"{member.name} is a tar archive in another", hint="unpack it, and count the file in it")
    try:
        demand_kind(member, "torch_file")
    except OtherKind as error:
        raise tars.to_be_unpacked(file.name, member.name) from error
    return replace(_read(member, calls), notes=(note,))


def _nested(held: object, calls: RiskyCalls) -> None:
    """See the calls of the file that a pickle holds in itself, as storages are pickled by other means than torch.save.

    Raises:
        UnreadableFile: it cannot be read as far as loading it would call anything.

    """
    data = arrays.held_bytes(held)
    if data.startswith(_ZIP):
        _read(Held("a file within it", data), calls)
        return
    cursor = Cursor(data)
    try:
        for _ in range(_LEGACY_PICKLES):
            load(cursor, lambda _: None, watcher=calls)
    except MalformedPickle as error:
        raise UnreadableFile(str(error)) from error


HINT = "fetch or save it again; if it is whole, please report this"


# The zip format, of 1.6 and later -------------------------------------------------------------------------------------


def _zipped(file: Ranges, calls: RiskyCalls) -> Archive:
    try:
        entries = torch_zip.entries(file)
    except AlikeEntries as error:
        if (arrays_alike := npy.distinct(error.entries)) is None:
            for entry in error.entries:
                if entry.name.lower().endswith("data.pkl"):
                    _look_into(file, entry, calls)
            raise
        entries = arrays_alike
    if npy.is_archive(entries):
        calls.loader = npy.LOADER
        root, notes = npy.archive(file, entries, calls)
        return Archive(root, calls=calls, notes=notes)
    if torch_export.is_program(entries):
        program = torch_export.read(file, entries, lambda inner: _read(inner, calls).root)
        for entry in torch_export.pickled(entries):
            _look_into(file, entry, calls)
        return Archive(program.root, constants=program.constants, calls=calls)
    return _saved(file, entries, calls)


def _look_into(file: Ranges, entry: Entry, calls: RiskyCalls) -> None:
    """See the calls of an entry that nothing is counted from, but that is unpickled where the archive is loaded."""
    with suppress(ParamcountError, MalformedPickle, MalformedZip):  # up to where it cannot be read
        data = torch_zip.content(file, entry, most=MOST_BYTES)
        if data.startswith(_ZIP):
            _read(Held(entry.name, data), calls)
        cursor = Cursor(data)
        for _ in range(_LEGACY_PICKLES):
            load(cursor, lambda _: None, watcher=calls)


def _saved(file: Ranges, entries: dict[str, Entry], calls: RiskyCalls) -> Archive:
    root = _root(file, entries)
    data = torch_zip.content(file, entries[f"{root}/data.pkl"], most=MOST_BYTES)
    storages = Storages()
    stored = _stored(entries, f"{root}/data/")
    value = load(Cursor(data), storages.of, TensorIdiom(storages, stored), watcher=calls)
    _demand_stored(storages, entries, f"{root}/data/")
    constants, held = _constants(file, entries, root, value)
    elements = partial(_elements, file, entries, root)
    return Archive(value, _code(file, f"{root}/code/", entries), stored, constants, held, calls, elements)


def _demand_stored(storages: Storages, entries: dict[str, Entry], folder: str) -> None:
    for key, each in storages.found.items():
        entry = entries.get(f"{folder}{key}")
        if entry is None or entry.size < each.nbytes:
            raise MalformedZip(f"the data of storage {key!r} is missing or too short")


def _constants(file: Ranges, entries: dict[str, Entry], root: str, program: object) -> tuple[int, int]:
    """Return the bytes and the elements of the tensors that a program keeps as constants.

    Weights that operators packed are put into the module they were in: ``torch.jit.freeze()`` makes constants of them.
    """
    folder = f"{root}/constants/"
    held = {name: each for name, each in entries.items() if name.startswith(folder)}
    pickled = entries.get(f"{root}/constants.pkl")
    if not held or pickled is None or not isinstance(program, Record) or not isinstance(program.state, Pairs):
        return sum(each.size for each in held.values()), 0
    storages, tensors, size, elements = Storages(), Tensors(), 0, 0
    values = load(Cursor(torch_zip.content(file, pickled, most=MOST_BYTES)), storages.of)
    _demand_stored(storages, entries, folder)
    for number, value in enumerate(values if isinstance(values, tuple) else ()):
        if torch_packed.packed_object(value) is not None:
            program.state.flat += (f"constant_{number}", value)
        elif (tensor := tensors.of(value)) is not None and tensor.storage is not None:
            size += held[f"{folder}{tensor.storage.key}"].size
            elements += tensor.numel
    return size, elements


def _elements(file: Ranges, entries: dict[str, Entry], root: str, tensor: Tensor) -> bytes | None:
    """Return a tensor's bytes, as they are in the file; None where they are not there in one piece."""
    storage, entry = tensor.storage, entries.get(f"{root}/byteorder")
    if storage is None or not tensor.is_contiguous:
        return None
    if entry is not None and torch_zip.content(file, entry, most=_LONGEST_WORD) != b"little":
        return None
    held = entries[f"{root}/data/{storage.key}"]
    start = (storage.start + tensor.offset) * storage.item_size
    return torch_zip.inside(file, held).read(start, tensor.nbytes)


def _stored(entries: dict[str, Entry], folder: str) -> int:
    """Return how many storages have their data in an archive, each at a place of its own."""
    return len({each.header for name, each in entries.items() if each.size and name.startswith(folder)})


def _code(file: Ranges, folder: str, entries: dict[str, Entry]) -> dict[str, str]:
    """Return the texts of TorchScript's code, which is never run."""
    found = {name: each for name, each in entries.items() if name.startswith(folder) and name.endswith(".py")}
    if sum(max(each.size, each.packed) for each in found.values()) > _LARGEST_CODE:
        raise MalformedZip("its code is larger than any can be")
    return {
        name.removeprefix(folder).removesuffix(".py").replace("/", "."): torch_zip.content(
            file, each, most=_LARGEST_CODE
        ).decode("utf-8", "replace")
        for name, each in found.items()
    }


def _root(file: Ranges, entries: dict[str, Entry]) -> str:
    """Return the folder in the archive that holds the pickle."""
    roots = [name.rpartition("/")[0] for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    marked = [name for name in entries if "/.data/extern_modules" in name]
    if any(name.partition("/")[2].startswith(".data/extern_modules") for name in marked):
        hint = "where it was made, save the model's state_dict() by torch.save, and count that"
        raise UnreadableFile(f"{file.name} is a torch.package archive, which cannot be counted", hint=hint)
    if len(roots) != 1 or "/" in roots[0] or not roots[0]:
        what, hint = foreign.in_zip(entries.keys()) or ("is a zip archive that torch.save did not write", HINT)
        raise UnreadableFile(f"{file.name} {what}", hint=foreign.named(hint, file.name))
    return roots[0]


PLAIN = Note("plain-pickle", "", "pickle.dump() wrote this, and not torch.save(): torch.load() does not read it")


# The format before 1.6 ------------------------------------------------------------------------------------------------


class _OfPlainPickles:
    """Sees the calls of a pickle, and tells the storages that pickle.dump() has in it."""

    def __init__(self, calls: RiskyCalls) -> None:
        self._calls = calls
        self.named = calls.named

    def called(self, call: Record) -> None:
        self._calls.called(call)
        arrays.note_storage(call)


def calls_of(file: Ranges, calls: RiskyCalls | None = None) -> RiskyCalls:
    """Return the calls that unpickling a file would make, up to where it is no pickle."""
    calls = RiskyCalls(_nested) if calls is None else calls
    with suppress(ParamcountError, MalformedPickle):
        load(Cursor(b"", _fetch(file)), lambda _: None, watcher=calls)
    return calls


def calls_in_tar(file: Ranges) -> RiskyCalls:
    """Return the calls in what PyTorch before 0.1.10 pickled into a tar archive."""
    calls = RiskyCalls(_nested)
    with suppress(ParamcountError):
        for part in tars.old_pickles(file):
            calls_of(part, calls)
    return calls


def _legacy(file: Ranges, start: bytes, calls: RiskyCalls) -> Archive:
    try:
        demand_kind(file, "torch_file")
        if (refusal := foreign.refusal(file, start)) is not None:
            raise refusal
    except UnreadableFile as error:
        # joblib's files are pickles, too, and some bytes begin a pickle as well as another format.
        if calls_of(file, calls) and isinstance(error, OtherKind):
            raise UnreadableFile(error.message, hint=error.hint) from error  # and is not read as that
        raise
    storages = Storages()
    cursor = Cursor(b"", _fetch(file))
    try:
        magic = load(cursor, storages.of, watcher=_OfPlainPickles(calls))
    except MalformedPickle as error:
        raise UnreadableFile(f"{file.name} is no file that torch.save wrote", hint=HINT) from error
    if magic != _MAGIC or type(magic) is not int:
        return Archive(magic, calls=calls, notes=(PLAIN,))
    if load(cursor, storages.of, watcher=calls) != _PROTOCOL:
        raise MalformedPickle("it is of a version of torch.save's format that is not known")
    load(cursor, storages.of, watcher=calls)  # the sizes of integers on the machine that saved it
    expected = min((file.known_size or 0) // _BYTES_EACH, _MOST_EXPECTED)
    root = load(cursor, storages.of, TensorIdiom(storages, expected), watcher=calls)
    keys = load(cursor, storages.of, watcher=calls)
    _demand_data(file, cursor.position, keys, storages.found)
    stored = sum(each.nbytes > 0 for each in storages.found.values())
    return Archive(root, stored=min(stored, expected), calls=calls)


def _fetch(file: Ranges) -> Callable[[int, int], bytes]:
    return lambda start, least: file.upto(start, max(least, _CHUNK))


def _demand_data(file: Ranges, at: int, keys: object, storages: dict[str, Storage]) -> None:
    """Demand that the storages follow: each its number of elements in eight bytes, then the elements."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise MalformedPickle("it does not list its storages")
    if len(keys) != len(set(keys)) or set(keys) != storages.keys():
        raise MalformedPickle("it does not list the storages that its tensors are in")
    if file.known_size is None:  # it is not read to its end for that
        return
    if (
        file.is_far
        and at + sum(8 + (each.start + each.numel) * each.item_size for each in storages.values()) == file.size
    ):
        return  # where they come to just the file's end, a request for each would not change what is counted
    for key in keys:
        known = storages[key]
        if at + 8 > file.size:
            raise MalformedPickle("it is cut short")
        numel = int.from_bytes(file.read(at, 8), "little", signed=True)
        if numel < known.start + known.numel:
            raise MalformedPickle(f"the data of storage {key!r} is too short")
        at += 8 + numel * known.item_size
    if at > file.size:
        raise MalformedPickle("it is cut short")
