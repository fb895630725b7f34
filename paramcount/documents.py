"""The documents that ``-f json`` writes, and how those of several machines become one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from types import NoneType
from typing import Any, Literal

from paramcount.errors import EXIT_DIFFERS, EXIT_USAGE, UnreadableFile, UsageError, exit_code_of, gravest
from paramcount.jsons import MalformedJson, load
from paramcount.shards import Shard
from paramcount.units import as_written, plural

Kind = Literal["count", "check", "list"]
Entry = Mapping[str, Any]

_MAJOR = "1"  # of the format
_TYPES: Mapping[str, type] = {
    "target": str,
    "name": str,
    "message": str,
    "code": str,
    "source": str,
    "status": str,
    "findings": list,
    "total": int,
    "trainable": int,
    "frozen": int,
    "unknown": int,
    "uninitialized": int,
    "bytes": int,
    "buffers": dict,
}
_COUNTS = ("total", "trainable", "frozen", "unknown", "uninitialized", "bytes", "buffers")
_OF_A_FINDING: Mapping[str, tuple[type, ...]] = {
    "rule": (str,),
    "layer": (str,),
    "limit": (int, NoneType),
    "actual": (int, NoneType),
    "over": (int, NoneType),
    "message": (str,),
}
_OF_A_PLACE: Mapping[str, type] = {"file": str, "line": int, "column": int}
_NEEDED: Mapping[Kind, tuple[str, ...]] = {
    "count": ("target", "source", *_COUNTS),
    "check": ("target", "name", "status", "findings"),
    "list": ("target", "name", "source"),
}


class Incompatible(UsageError):
    """Documents that are no parts of one whole."""

    code = "incompatible"


@dataclass(frozen=True, slots=True)
class Document:
    """What one run found."""

    file: str
    kind: Kind | None  # None: nothing in it tells
    entries: tuple[Entry, ...]  # its reports, or the models of a list
    errors: tuple[Entry, ...]
    shard: Shard | None = None
    version: str | None = None  # of paramcount, that wrote it; None: it does not say

    @property
    def exit_code(self) -> int:
        """What the run that wrote it exited with."""
        codes = [exit_code_of(str(error.get("code"))) for error in self.errors]
        return gravest([*codes, *(_exit_code(entry) for entry in self.entries if self.kind == "check")])


def _exit_code(report: Entry) -> int:
    if report["status"] != "error":
        return EXIT_DIFFERS if report["status"] == "over" else 0
    # A pattern that matches no layer has no actual number; anything else that is an error is not known.
    unmatched = any(finding.get("actual") is None and finding.get("rule") != "locked" for finding in report["findings"])
    return EXIT_USAGE if unmatched else exit_code_of("unknown-value")


def read(data: bytes, file: str) -> Document:
    """Return the document in a file.

    Raises:
        UnreadableFile: it is none that count, check or list wrote, or not in a version that is known.

    """
    try:
        document = load(data)
    except MalformedJson as error:
        raise _unreadable(error.place(file), error.problem) from error
    if not isinstance(document, dict) or "old" in document or not ({"reports", "models"} & document.keys()):
        raise _unreadable(file, "it is no result of count, check or list")
    version = document.get("format_version")
    if not isinstance(version, str) or version.partition(".")[0] != _MAJOR:
        raise _unreadable(file, f"format_version {as_written(version)} is unknown: this paramcount reads {_MAJOR}.x")
    entries = _mappings(document, "models" if "models" in document else "reports", file)
    errors = _mappings(document, "errors", file)
    kind = _kind(document, entries, errors)
    for number, entry in enumerate(entries):
        _demand(entry, _NEEDED[kind or "count"], f"{file}: entry {number}")
        if "total" in entry:
            _demand(entry, _COUNTS, f"{file}: entry {number}")
            _demand(entry["buffers"], ("total", "bytes"), f"{file}: entry {number}: buffers")
        for finding in entry.get("findings", ()):
            _demand_finding(finding, f"{file}: entry {number}")
        for note in _mappings(entry, "notes", f"{file}: entry {number}") if "notes" in entry else ():
            _demand(note, ("code", "message"), f"{file}: entry {number}: notes")
            _demand_location(note, f"{file}: entry {number}")
        if kind == "check":
            _demand_status(entry, f"{file}: entry {number}")
    for number, said in enumerate(errors):
        _demand(said, ("message", "code"), f"{file}: error {number}")
        _demand_location(said, f"{file}: error {number}")
    try:
        shard = Shard.parse(document["shard"]) if "shard" in document else None
    except ValueError as error:
        raise _unreadable(file, f"shard {error}") from error
    written_by = document.get("paramcount_version")
    return Document(file, kind, entries, errors, shard, written_by if isinstance(written_by, str) else None)


def _unreadable(place: str, problem: str) -> UnreadableFile:
    return UnreadableFile(f"{place}: {problem}", hint="merge what count, check or list wrote with -f json")


def _mappings(document: Mapping[str, Any], key: str, file: str) -> tuple[Entry, ...]:
    items = document.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _unreadable(file, f"{key} is {as_written(items)}, not a list of mappings")
    return tuple(items)


def _demand(entry: Entry, keys: Iterable[str], where: str) -> None:
    for key in keys:
        if type(entry.get(key)) is not _TYPES[key]:
            raise _unreadable(where, f"{key} cannot be {as_written(entry.get(key))}")


def _demand_finding(finding: object, where: str) -> None:
    """Demand a finding as check writes it: what is made of it exits, and stands in annotations."""
    if not isinstance(finding, dict) or not finding.keys() >= _OF_A_FINDING.keys():
        raise _unreadable(where, f"{as_written(finding)} is no finding")
    for key, kinds in _OF_A_FINDING.items():
        if type(finding[key]) not in kinds:
            raise _unreadable(where, f"{key} of a finding cannot be {as_written(finding[key])}")
    _demand_location(finding, where)


def _demand_location(said: Mapping[str, Any], where: str) -> None:
    place = said.get("location")
    if place is None:
        return
    if not isinstance(place, dict) or any(type(place.get(key)) is not kind for key, kind in _OF_A_PLACE.items()):
        raise _unreadable(where, f"location cannot be {as_written(place)}")


def _demand_status(report: Entry, where: str) -> None:
    """Demand the status that follows from the findings: ok without any, over where all are, else error."""
    findings, status = report["findings"], report["status"]
    open_ = {finding["rule"] for finding in findings if finding["over"] is None}
    # Without a difference in the total, a model that is not what the lock says is over, or cannot be compared.
    fitting = {"over", "error"} if open_ == {"locked"} else {"error"} if open_ else {"over"} if findings else {"ok"}
    if status not in (fitting if "total" in report else {"error"}):
        raise _unreadable(where, f"status {as_written(status)} contradicts its {plural(len(findings), 'finding')}")


def _kind(document: Mapping[str, Any], entries: Iterable[Entry], errors: Iterable[Entry]) -> Kind | None:
    if "models" in document:
        return "list"
    if any("status" in entry for entry in entries) or any("name" in error for error in errors):
        return "check"
    return "count" if entries else None


# Joining --------------------------------------------------------------------------------------------------------------


def merge(documents: Sequence[Document]) -> Document:
    """Return one document of all: shards in the order of the whole, others one after the other, a list by its names.

    Raises:
        Incompatible: they are of different commands or versions, a shard is missing or of another whole, or two differ
            in what they say of a model.

    """
    kind, version = _only_kind(documents), _only_version(documents)
    parts = _in_order(documents)
    interleaved = parts[0].shard is not None
    if interleaved:
        _demand_one_whole(parts, kind)
    entries = _joined(parts, kind, interleaved=interleaved)
    errors: list[Entry] = []
    for part in parts:
        errors += [error for error in part.errors if error not in errors]
    if kind == "list":
        entries.sort(key=lambda entry: (entry["source"], entry["name"]))
    if interleaved:
        places = {entry[_key(kind)]: place for place, entry in enumerate(entries)}
        errors.sort(key=lambda error: (places.get(error.get(_key(kind)), -1), str(error.get("target"))))
    return Document("", kind, tuple(entries), tuple(errors), version=version)


def _key(kind: Kind | None) -> str:
    """Return the key of what tells one model from another."""
    return "name" if kind == "check" else "target"


def _only_kind(documents: Iterable[Document]) -> Kind | None:
    first: Document | None = None
    for document in documents:
        if document.kind is None:
            continue
        if first is not None and first.kind != document.kind:
            raise Incompatible(
                f"{first.file} is of {first.kind}, and {document.file} of {document.kind}",
                hint="merge what one command wrote",
            )
        first = first or document
    return first.kind if first else None


def _only_version(documents: Sequence[Document]) -> str | None:
    """Return the one version that wrote the documents: another may count otherwise, and know other keys."""
    first = documents[0]
    for document in documents:
        if document.version != first.version:
            said = [f"paramcount {each.version or '(unknown)'}" for each in (first, document)]
            raise Incompatible(
                f"{first.file} is of {said[0]}, and {document.file} of {said[1]}",
                hint="run all of them with one version",
            )
    return first.version


def _demand_one_whole(shards: Sequence[Document], kind: Kind | None) -> None:
    """Demand that shards, in their order, could be of the same models: none twice, and no share out of proportion."""
    key, holders = _key(kind), dict[str, Document]()
    for shard in shards:
        for name in {entry[key] for entry in shard.entries}:
            if (other := holders.setdefault(name, shard)) is not shard:
                raise Incompatible(
                    f"{other.file} and {shard.file} both have {name}, which is in one shard of a whole",
                    hint="run all shards on the same models",
                )
    is_cut = any(
        error.get("name") is None or error["code"] == "interrupted" for each in shards for error in each.errors
    )
    if kind != "check" or is_cut:  # of a list, --min and --max leave some out
        return
    sizes = [len(shard.entries) for shard in shards]
    whole = sum(sizes)
    for shard, size in zip(shards, sizes, strict=True):
        if size != len(range(whole)[shard.shard.index - 1 :: shard.shard.of] if shard.shard else ()):
            raise Incompatible(
                f"{shard.file} has {plural(size, 'model')}, which is not shard {shard.shard} of {whole}",
                hint="run all shards on the same models",
            )


def _in_order(documents: Sequence[Document]) -> list[Document]:
    """Return the documents, each once, and shards by their numbers, of which none may be missing."""
    parts: list[Document] = []
    for document in documents:
        if not any(
            (part.shard, part.entries, part.errors) == (document.shard, document.entries, document.errors)
            for part in parts
        ):
            parts.append(document)
    by_shard: dict[int, Document] = {}
    first = parts[0]
    for part in parts:
        if (part.shard and part.shard.of) != (first.shard and first.shard.of):
            raise Incompatible(
                f"{first.file} is {_share(first)}, and {part.file} {_share(part)}", hint="merge the shards of one whole"
            )
        if part.shard is None:
            continue
        if part.shard.index in by_shard:
            raise Incompatible(
                f"{by_shard[part.shard.index].file} and {part.file} are both shard {part.shard}",
                hint="merge what one run wrote",
            )
        by_shard[part.shard.index] = part
    if first.shard is None:
        return parts
    missing = [str(Shard(n, first.shard.of)) for n in range(1, first.shard.of + 1) if n not in by_shard]
    if missing:
        raise Incompatible(
            f"of {plural(first.shard.of, 'shard')} {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            hint="merge them all: a part is no result",
        )
    return [by_shard[index] for index in sorted(by_shard)]


def _share(document: Document) -> str:
    return f"shard {document.shard}" if document.shard else "no shard"


def _joined(parts: Sequence[Document], kind: Kind | None, *, interleaved: bool) -> list[Entry]:
    """Return the entries of all parts; one model may be in two of them if they agree on it."""
    key = _key(kind)
    said: dict[str, tuple[Document, list[Entry]]] = {}
    fresh: list[list[Entry]] = []
    for part in parts:
        own: list[Entry] = []
        for entry in part.entries:
            where, known = said.setdefault(entry[key], (part, []))
            if where is part:  # one run may count a model twice
                known.append(entry)
                own.append(entry)
            elif entry not in known:
                raise Incompatible(
                    f"{where.file} and {part.file} do not say the same of {entry[key]}",
                    hint="merge results of the same code, with the same options",
                )
        fresh.append(own)
    if interleaved:
        return [entry for row in zip_longest(*fresh) for entry in row if entry is not None]
    return [entry for own in fresh for entry in own]
