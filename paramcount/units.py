"""Numbers as people read them: exact integers with separators, and sizes in decimal bytes."""

from __future__ import annotations

_DECIMAL_BYTES = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("KB", 10**3))


def exact(number: int) -> str:
    """Return every digit, in groups of three: ``25,557,032``."""
    return f"{number:,}"


def size(nbytes: int) -> str:
    """Return a number of bytes in the largest decimal unit that it fills, with up to two decimals: ``102.23 MB``."""
    for unit, factor in _DECIMAL_BYTES:
        if nbytes >= factor:
            return f"{nbytes / factor:,.2f} {unit}"
    return f"{nbytes} B"


def plural(number: int, noun: str) -> str:
    """Return «1 module», «2 modules», «1,000 entries»."""
    if number != 1:
        noun = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{exact(number)} {noun}"
