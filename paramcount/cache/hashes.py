"""Hashes, without importing hashlib, which loads a library of ciphers for them."""

from __future__ import annotations

try:
    from _blake2 import blake2b
except ImportError:  # a Python that is none of CPython's
    from hashlib import blake2b


def digest(data: bytes) -> str:
    """Return the hash of ``data``, in letters."""
    return blake2b(data, digest_size=20).hexdigest()


CHECKSUM = 16  # bytes


def checksum(data: bytes) -> bytes:
    """Return what tells whether ``data`` are all there, and none other."""
    return blake2b(data, digest_size=CHECKSUM).digest()
