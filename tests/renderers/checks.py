"""What a check says, ordinary and hostile, for the formats that CI servers read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from paramcount.grid import Grid

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """A result as ``paramcount check`` hands it to a renderer, as far as these formats look at it."""

    reports: list[Document] = field(default_factory=list)
    errors: list[Document] = field(default_factory=list)

    def grids(self) -> list[Grid]:
        raise AssertionError("these formats read what the JSON format has")

    def to_dict(self) -> Document:
        return {
            "format_version": "1.0",
            "paramcount_version": "0.1.0",
            "reports": self.reports,
            "errors": self.errors,
        }


def at(line: int, column: int = 21, file: str = "models.yaml") -> Document:
    return {"file": file, "line": line, "column": column}


def finding(message: str, rule: str = "total", layer: str = "", location: Document | None = None) -> Document:
    counts = {"limit": 22500000, "actual": 23100000, "over": 600000}
    return {"rule": rule, "layer": layer, **counts, "message": message, "location": location}


def model(name: str, *findings: Document, target: str = "net.py:Net", notes: tuple[Document, ...] = ()) -> Document:
    status = "over" if findings else "ok"
    counted = {"target": target, "source": "python", "total": 23100000, "notes": list(notes)}
    return {**counted, "name": name, "status": status, "findings": list(findings)}


def uncounted(name: str, *findings: Document, target: str = "net.py:Net") -> Document:
    return {"target": target, "name": name, "status": "error", "findings": list(findings)}


def error(target: str, message: str, code: str = "build-failed", hint: str | None = None, **more: Any) -> Document:
    return {"target": target, "code": code, "message": message, "hint": hint, **more}


def note(message: str, code: str = "loose-limit", where: str = "", location: Document | None = None) -> Document:
    return {"code": code, "where": where, "message": message, "location": location}


FINE = Check([model("classifier"), model("reference")])
# One of everything: two findings, a remark, a note that is none, a model that cannot be counted, a file that cannot
# be read.
MIXED = Check(
    [
        model(
            "classifier",
            finding("total is 23.1M, 600K over the limit of 22.5M", location=at(12)),
            finding("head: bytes is 1.20 MB, 200 KB over the limit of 1.00 MB", "bytes", "head", at(15, 30)),
            notes=(
                note("the limit of 60K is far above the trainable: it is 1.5K", location=at(13)),
                note("layers[0] is in a list", "unregistered", "layers[0]"),
            ),
        ),
        uncounted("broken", target="broken.py:Net"),
        model("reference"),
    ],
    [
        error("broken.py:Net", "Net in broken.py cannot be built", hint="give width"),
        error("models.lock.json", "models.lock.json:1:1: no JSON", "config", location=at(1, 1, "models.lock.json")),
    ],
)

# Everything that Python can hold, halves of UTF-16 pairs too, and what the formats take for their own.
NASTY = (
    "::error::",
    "%0A%25",
    "a,b=c:d",
    "]]>",
    "<!--&amp;",
    "'\"`",
    "\r\n",
    "\x00\x1b[31m\x7f\x85",
    "{0}}",
    "[a](b)\\](c)",
    "🙂",
    "👩\u200d💻",
    "\ud800",
    "\ufffe",
    " both ",
    "x" * 10_000,
)
TEXTS = st.text(st.characters()) | st.lists(st.sampled_from(NASTY), max_size=3).map("".join)
FILES = st.text(st.characters(), min_size=1).filter(lambda name: not {"/", "\\"} & set(name) and name.strip(".") != "")
_LOCATIONS = st.none() | st.builds(at, st.integers(1, 10**6), st.integers(1, 10**6), FILES)
_FINDINGS = st.builds(finding, TEXTS, st.sampled_from(["total", "growth", "allow", "new"]) | TEXTS, TEXTS, _LOCATIONS)
_NOTES = st.builds(note, TEXTS, st.sampled_from(["remark", "unneeded-allowance", "loose-limit"]), TEXTS, _LOCATIONS)
_ERRORS = st.builds(error, TEXTS, TEXTS, st.sampled_from(["build-failed", "config"]), st.none() | TEXTS)


@st.composite
def checks(draw: st.DrawFn) -> Check:
    names = draw(st.lists(TEXTS.filter(bool), max_size=4, unique=True))
    kinds = st.sampled_from(["counted", "uncounted"])
    reports = []
    for name in names:
        findings = draw(st.lists(_FINDINGS, max_size=4))
        if draw(kinds) == "counted":
            reports.append(model(name, *findings, notes=tuple(draw(st.lists(_NOTES, max_size=2)))))
        else:
            reports.append(uncounted(name, *findings))
    return Check(reports, draw(st.lists(_ERRORS, max_size=3)))


def without(text: str, unholdable: str) -> str:
    r"""Return ``text`` with each of some characters as Python writes it, ``\x00``."""
    return "".join(ascii(char)[1:-1] if char in unholdable else char for char in text)


HALVES = "".join(map(chr, range(0xD800, 0xE000)))
