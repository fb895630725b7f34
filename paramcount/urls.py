"""Addresses of files elsewhere: told from paths, taken apart, and shown without what is secret in them."""

from __future__ import annotations

import re
from typing import NamedTuple

# Of two letters and more, as C:\ is a drive; simplecache::s3://… is how fsspec chains protocols.
_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]+"
_URL = rf"(?:{_SCHEME}::)*(?P<scheme>{_SCHEME})://"
_START = _URL.replace("?P<scheme>", "?:")
_IN_TEXT = _START + r"[^\s'\"<>`]*[^\s'\"<>`?!.,:;)]"  # the text's own stops are not the URL's
_CHAINED = f"::(?={_START})"  # zip://model.pt::https://host/x.zip
_PREFIX = rf"\w+:(?={_START})"
_WEB = {"http", "https"}
# hf://gpt2@main/… is a revision, abfs://container@account/… a container: no secrets.
_AT_NAMES = {"hf", "abfs", "abfss", "wasb", "wasbs"}


class Address(NamedTuple):
    """A word in its parts, which together are the word; of one that is no URL, all is path."""

    root: str  # "https://host:8080/"
    path: str  # "folder/model.ckpt:state_dict"
    query: str  # "?download=true#fragment"


def is_url(word: str) -> bool:
    """Whether the word begins as a URL does."""
    return _start(word) is not None


def _start(word: str) -> re.Match[str] | None:
    return re.match(_URL, word, re.ASCII) if "://" in word else None


def is_web(word: str) -> bool:
    """Whether the word is a URL of http or https."""
    return scheme(word) in _WEB and "::" not in word.partition("://")[0]


def scheme(word: str) -> str:
    """Return the protocol of a URL, of several the last; an empty text for what is none."""
    match = _start(word)
    return match["scheme"].lower() if match else ""


def split(word: str) -> Address:
    """Take a word apart. A fragment is of the web alone: in a store's names # is a character as any other."""
    start = _start(word)
    if start is None:
        return Address("", word, "")
    # A store has no host of its own: memory://model.pt is a file already.
    host, ends = ("[^/?#]*/?", "?#") if scheme(word) in _WEB else ("(?:[^/?]*/)?", "?")
    match = re.compile(f"({host})([^{ends}]*)(.*)", re.DOTALL).match(word, start.end())
    assert match is not None  # noqa: S101  # each part may be empty
    return Address(start[0] + match[1], match[2], match[3])


def with_part(word: str, part: str) -> str:
    """Return the word for a part of a file: the part follows the file's name, before any query."""
    root, path, query = split(word)
    return f"{root}{path}:{part}{query}"


def parted(word: str, form: re.Pattern[str]) -> tuple[str, str | None] | None:
    """Return the file and the part that a word names, by a pattern of these two groups for its path."""
    root, path, query = split(word)
    match = form.fullmatch(path)
    return None if match is None else (f"{root}{match['file']}{query}", match["part"])


def shown(word: str) -> str:
    """Return a word as it may be shown: of a URL no user, no password, no query and no fragment."""
    if "://" not in word:  # as nearly always
        return word
    prefix = re.match(_PREFIX, word, re.ASCII)
    if prefix is not None:  # safetensors:https://…
        return prefix[0] + shown(word[prefix.end() :])
    start = _start(word)
    if start is None:
        return word
    chained = re.split(_CHAINED, word, flags=re.ASCII)
    if len(chained) > 1:
        return "::".join(map(shown, chained))
    host = re.compile(r"[^/?#]*").match(word, start.end())
    assert host is not None  # noqa: S101  # it may be empty
    address = word
    if scheme(word) not in _AT_NAMES and _has_user(host[0]):
        address = start[0] + word[start.end() :].rpartition("@")[2]
    elif scheme(word) not in _AT_NAMES:
        address = start[0] + host[0].rpartition("@")[2] + word[host.end() :]
    root, path, _ = split(address)
    return root + path


def _has_user(host: str) -> bool:
    """Whether what stands for the host is the first half of user:password@host, with a / or ? in the password."""
    _, colon, port = host.rpartition(":")
    return bool(colon) and "@" not in host and not host.startswith("[") and not port.isdigit() and port != ""


def without_secrets(text: str) -> str:
    """Return a text with each URL in it as it may be shown."""
    return re.sub(_IN_TEXT, lambda found: shown(found[0]), text, flags=re.ASCII) if "://" in text else text
