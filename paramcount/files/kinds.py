"""Tells what kind of file it is by its first bytes, where its name does not say."""

from __future__ import annotations

import re

from paramcount.errors import UnreadableFile
from paramcount.files.ranges import Ranges

_START = 512  # bytes: a tar archive says what it is at 257
_LONGEST_HEADER = 100_000_000  # bytes, of safetensors
_OLD_PICKLE = re.compile(rb"c[A-Za-z_][\w.]*\n\w+\n|\(dp|\(lp|\}q|\]q")
_CALLED = {
    "safetensors": "safetensors file",
    "torch_file": "file of torch.save",
    "gguf": "GGUF file",
    "saved": "report",
}


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


def demand_kind(file: Ranges, source: str) -> None:
    """Demand that a file does not begin as one that another source reads, or that none does.

    Raises:
        UnreadableFile: it does; the hint is the word that counts it, or what else to do.

    """
    start = file.upto(0, _START)
    found = _kind(start)
    if found == source or not start:
        return
    from paramcount.files.foreign import refusal

    if (error := refusal(file, start)) is not None:
        raise error
    if found not in {None, "saved"}:  # what is JSON may be a header without its length
        message = f"{file.name} is no {_CALLED[source]}, but by its first bytes a {_CALLED[found]}"
        raise UnreadableFile(message, hint=f"count it as {found}:{file.name}")


def _kind(start: bytes) -> str | None:
    # First, as its length may begin with any byte.
    if start[8:9] == b"{" and 0 < int.from_bytes(start[:8], "little") <= _LONGEST_HEADER:
        return "safetensors"
    if start.startswith(b"GGUF"):
        return "gguf"
    # A zip archive; a pickle of any protocol since the second, or of one before.
    if start.startswith((b"PK\x03\x04", b"\x80")) or start[257:262] == b"ustar" or _OLD_PICKLE.match(start):
        return "torch_file"
    if start.lstrip(b" \t\r\n").startswith(b"{"):
        return "saved"
    return None
