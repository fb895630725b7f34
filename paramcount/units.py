"""Numbers as people read and write them: exact integers with separators, counts in K, M, B, T, and sizes in bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_DECIMAL_BYTES = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("KB", 10**3))
_COUNT_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
# Decimal prefixes are powers of 1000 and binary ones powers of 1024: https://physics.nist.gov/cuu/Units/binary.html
_BINARY_BYTES = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_SIZE_UNITS = dict([*_DECIMAL_BYTES, *_BINARY_BYTES, ("", 1)])
_LONGEST = 40  # characters; more is a slip of the keyboard, and Python refuses to read very long integers

# What is accepted, as regular expressions that JSON Schema understands, too.
COUNT_PATTERN: Final = r"^(0|[1-9][0-9]*)(\.[0-9]+(?=[KMBT]))?[KMBT]?$"
SIZE_PATTERN: Final = r"^(0|[1-9][0-9]*)(\.[0-9]+(?=[KMGT]))?([KMGT]i?B)?$"


def parse_count(written: object) -> int:
    """Return the number of elements that ``written`` stands for: an integer as it is, or ``"25M"``, ``"22.5M"``.

    Raises:
        ValueError: it is anything else, or negative, or comes to a fraction; the message says what to write.

    """
    accepted = "write a whole number such as 22500000, or one with K, M, B or T such as 22.5M"
    return _parse(written, COUNT_PATTERN, _COUNT_UNITS, f"is no count: {accepted}")


def parse_size(written: object) -> int:
    """Return the number of bytes that ``written`` stands for: an integer as it is, or ``"90MB"``, ``"1.5GiB"``.

    Raises:
        ValueError: it is anything else, or negative, or comes to a fraction; the message says what to write.

    """
    accepted = "write bytes such as 90000000, or a number with KB, MB, GB, TB, KiB, MiB, GiB or TiB such as 90MB"
    return _parse(written, SIZE_PATTERN, _SIZE_UNITS, f"is no size: {accepted}")


def _parse(written: object, pattern: str, units: Mapping[str, int], refusal: str) -> int:
    if type(written) is int and written >= 0:  # not bool, which is an int to Python
        return written
    match = re.fullmatch(pattern, written) if isinstance(written, str) and len(written) <= _LONGEST else None
    if match is None:
        raise ValueError(f"{as_written(written)} {refusal}")
    text = match[0]
    number = text.rstrip("KMGTBi")
    whole, _, fraction = number.partition(".")
    scaled = int(whole + fraction) * units[text[len(number) :]]
    number_of, rest = divmod(scaled, int("1" + "0" * len(fraction)))
    if rest:
        raise ValueError(f"{as_written(written)} comes to a fraction: it has too many decimals for its unit")
    return number_of


def as_written(value: object) -> str:
    """Return a value as YAML writes it, for a message: ``true``, ``'25.5'``, ``a mapping``; long text is cut."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return repr(value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…")
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else str(value)


def short(number: int) -> str:
    """Return a count to three digits, in the unit that a limit is written in: ``25.6M``, ``600K``, ``512``."""
    if number < 1000:  # noqa: PLR2004  # the smallest unit's factor
        return str(number)
    digits = len(str(number))
    step = int("1" + "0" * (digits - 3))
    rounded = (2 * number + step) // (2 * step) * step  # half up, in integers
    unit, factor = next((u, f) for u, f in reversed(_COUNT_UNITS.items()) if rounded >= f)
    return f"{rounded / factor:,.10g}{unit}"


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
    """Return «1 module», «2 modules», «3 keys», «1,000 entries»."""
    if number != 1:
        noun = noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"
    return f"{exact(number)} {noun}"
