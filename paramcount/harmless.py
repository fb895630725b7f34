r"""Makes text from outside harmless where it is shown: names in files, words, what libraries and servers say.

All that could act on a terminal, a log or a spreadsheet is written as Python escapes it: ``\x1b``, ``\u202e``. What
runners of CI obey: https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs takes a line that
begins with ``::``, and ``##[`` anywhere in one; Azure's ``##vso[`` and TeamCity's ``##teamcity[`` are like the latter.
What spreadsheets calculate: https://owasp.org/www-community/attacks/CSV_Injection.
"""

from __future__ import annotations

import re

# Patterns that few texts need: none is compiled before.
_AT_START = r"\A(\W*?):(?=:)"
_ANYWHERE = r"#(?=#\w*\[)"
_FORMULA = r"\s*[-=+@\uff1d\uff0b\uff0d\uff20]"  # the last four are the wide forms, which Excel takes, too


def visible(text: str) -> str:
    """Return a text on one line, with nothing in it that a terminal or a runner acts on."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    if "::" in text:
        text = re.sub(_AT_START, r"\1\\x3a", text)
    return re.sub(_ANYWHERE, r"\\x23", text) if "##" in text else text


def visible_lines(text: str) -> str:
    """Return a text of several lines, each as ``visible`` has it."""
    return "\n".join(map(visible, text.split("\n")))


def cell(text: str) -> str:
    """Return a text for a cell of a spreadsheet: what would be a formula is text, behind an apostrophe."""
    if text[:1].isalnum() and text.isprintable() and "##" not in text:  # as nearly always
        return text
    text = visible(text)
    return f"'{text}" if re.match(_FORMULA, text) else text


def in_json(document: str) -> str:
    r"""Return the same JSON without what a runner obeys: there ``#`` is in texts alone, where ``\u0023`` equals it."""
    return re.sub(_ANYWHERE, r"\\u0023", document) if "##" in document else document


def shortened(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters: its beginning and its end."""
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
