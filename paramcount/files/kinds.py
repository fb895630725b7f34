"""Tells what kind of file it is by its first bytes, where its name does not say."""

from __future__ import annotations

from paramcount.errors import UnreadableFile
from paramcount.files.ranges import Ranges

_START = 512  # bytes: a tar archive says what it is at 257
_SHOWN = 16
_LONGEST_HEADER = 100_000_000  # bytes, of safetensors
# A web page, and a pointer to a file: who reads files of torch.save says what to do about them.
_LFS_POINTER = b"version https://git-lfs"
_NO_FILES = (b"<", _LFS_POINTER)
_CALLED = {"safetensors": "safetensors file", "torch_file": "file of torch.save", "gguf": "GGUF file"}
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gzip -dc"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc"),
    b"\xfd7zXZ\0": ("xz", "xz -dc"),
    b"BZh": ("bzip2", "bzip2 -dc"),
}


def kind(file: Ranges) -> str:
    """Return which source reads a file: that of safetensors, of torch.save, of GGUF, or of saved reports.

    Raises:
        UnreadableFile: it is empty, or begins as none of these does.

    """
    start = file.upto(0, _START)
    text = start.lstrip(b" \t\r\n")
    # First, as its length may begin with any byte.
    if start[8:9] == b"{" and 0 < int.from_bytes(start[:8], "little") <= _LONGEST_HEADER:
        return "safetensors"
    if start.startswith(b"GGUF"):
        return "gguf"
    # A zip archive; a pickle of any protocol since the second.
    if start.startswith((b"PK\x03\x04", b"\x80")) or text.startswith(_NO_FILES) or start[257:262] == b"ustar":
        return "torch_file"
    if text.startswith(b"{"):
        return "saved"
    raise _unknown(file.name, start)


def cure(file: Ranges, otherwise: str) -> str:
    """Return what to do about a file that is a pointer to one, or a web page; else what is to be done otherwise."""
    start = file.upto(0, _START)
    if start.startswith(_LFS_POINTER):
        return "it is a Git LFS pointer to the file: fetch that with git lfs pull"
    if start.lstrip().startswith(b"<"):
        return "it is a web page: fetch the file from the address of the file itself"
    return otherwise


def demand_kind(file: Ranges, source: str) -> None:
    """Demand that a file does not begin as one that another source reads.

    Raises:
        UnreadableFile: it does; the hint is the word that counts it.

    """
    start = file.upto(0, _START)
    try:
        found = kind(file)
    except UnreadableFile:  # what it is instead, who reads it says
        return
    if found not in {source, "saved"} and not start.lstrip(b" \t\r\n").startswith(_NO_FILES):
        message = f"{file.name} is no {_CALLED[source]}, but by its first bytes a {_CALLED[found]}"
        raise UnreadableFile(message, hint=f"count it as {found}:{file.name}")


def _unknown(name: str, start: bytes) -> UnreadableFile:
    if not start:
        return UnreadableFile(f"{name} is empty: nothing came", hint="look at what should have written it")
    for magic, (packer, command) in _COMPRESSED.items():
        if start.startswith(magic):
            hint = f"unpack it on the way: {command} FILE | paramcount /dev/stdin"
            return UnreadableFile(f"{name} is packed by {packer}", hint=hint)
    return UnreadableFile(
        f"{name} begins with {start[:_SHOWN]!r}, as no file that can be counted does",
        hint="safetensors, files of torch.save, GGUF and reports of -f json can be",
    )
