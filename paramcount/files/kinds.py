"""Tells what kind of file it is by its first bytes, where its name does not say."""

from __future__ import annotations

import re

from paramcount.errors import UnreadableFile
from paramcount.files.ranges import Ranges
from paramcount.inventory import Note

_START = 512  # bytes: a tar archive says what it is at 257
_LONGEST_HEADER = 100_000_000  # bytes, of safetensors
_OLD_PICKLE = re.compile(rb"c[A-Za-z_][\w.]*\n\w+\n|\(dp|\(lp|\}q|\]q")
_HEADER = b'"data_offsets"'  # which safetensors' headers have, and no report
_CALLED = {
    "safetensors": "safetensors file",
    "torch_file": "file of torch.save",
    "gguf": "GGUF file",
    "saved": "report",
}
_PACKED = ((0, b"PK", "zip archive"), (257, b"ustar", "tar archive"), (0, b"\x93NUMPY", "file of NumPy's"))


def kind(file: Ranges) -> str:
    """Return which source reads a file: that of safetensors, of torch.save, of GGUF, or of saved reports.

    Raises:
        UnreadableFile: it is empty, or begins as none of these does.

    """
    start = file.upto(0, _START)
    found = _kind(start)
    if found is None:
        from paramcount.files.foreign import unknown

        raise unknown(file, start)
    return found


class OtherKind(UnreadableFile):
    """A file begins as another source reads it than the one that its name says."""

    def __init__(self, file: str, start: bytes, *, expected: str, found: str) -> None:
        """Take the file's name for messages, its start, the source that was expected to read it, and the right one."""
        self.file, self.found = file, found
        self._expected = _CALLED[expected]
        self._is = next(
            (called for at, beginning, called in _PACKED if start.startswith(beginning, at)), _CALLED[found]
        )
        message = f"{file} is no {self._expected}, but by its first bytes a {self._is}"
        super().__init__(message, hint=f"count it as {found}:{file}")

    def note(self) -> Note:
        """Return what to say of the file where it was read as what it is."""
        message = f"its name is that of a {self._expected}, and by its first bytes it is a {self._is}"
        return Note("named-otherwise", "", message)


def demand_kind(file: Ranges, source: str) -> None:
    """Demand that a file does not begin as one that another source reads, or that none does.

    Raises:
        OtherKind: another source reads it.
        UnreadableFile: none does; the hint is what to do instead.

    """
    start = file.upto(0, _START)
    found = _kind(start)
    if found == source or not start:
        return
    from paramcount.files.foreign import refusal

    # Which calls are in a pickle, also in one of another library's, is told where pickles are read.
    if not (found == "torch_file" and is_pickle(start)) and (error := refusal(file, start)) is not None:
        raise error
    if found is not None:
        raise OtherKind(file.name, start, expected=source, found=found)


def is_pickle(start: bytes) -> bool:
    """Whether a file begins as a pickle does, of any protocol since the second, or as most of those before do."""
    return start.startswith(b"\x80") or _OLD_PICKLE.match(start) is not None


def _kind(start: bytes) -> str | None:
    # First, as its length may begin with any byte.
    if start[8:9] == b"{" and 0 < int.from_bytes(start[:8], "little") <= _LONGEST_HEADER:
        return "safetensors"
    if start.startswith(b"GGUF"):
        return "gguf"
    # A zip archive, an array of NumPy's, a tar archive.
    if start.startswith((b"PK\x03\x04", b"\x93NUMPY")) or start[257:262] == b"ustar" or is_pickle(start):
        return "torch_file"
    # A header of safetensors without its length is no JSON document that anything reads.
    if start.lstrip(b" \t\r\n").startswith(b"{") and _HEADER not in start:
        return "saved"
    return None
