"""Addresses of files elsewhere: told from paths, taken apart, and shown without what is secret in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

# Of two letters and more, as C:\ is a drive; simplecache::s3://… is how fsspec chains protocols.
_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]+"
_URL = rf"(?:{_SCHEME}::)*(?P<scheme>{_SCHEME})://"
# Begun only where no longer one begins, so that each character is looked at once.
_HEAD = r"(?<![A-Za-z0-9+.\-])[0-9+.\-]*(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]+)://"
_IN_TEXT = rf"{_HEAD}[^\s'\"<>`]*"
# In a path: another address with its colon and slashes escaped, or without its protocol.
_USER_INSIDE = r"(?:(?<=%3A%2F%2F)|(?<=%3a%2f%2f))[^/]{1,400}(?:%40|@)|(?<=/)[^/@:]{1,200}:[^/@]{1,200}@"
_HF = r"\b(hf_)[A-Za-z0-9]{20,}"  # https://huggingface.co/docs/hub/security-tokens
_SHORTEST_SECRET = 3  # characters that are looked for in the messages of libraries
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


def paths(word: str) -> Iterator[str]:
    """Yield what may be a path on this machine in a target: «torch_file:model.pt:state_dict» has one between colons."""
    if not is_url(word) or scheme(word) == "file":
        parts = split(word).path.split(":")
        for start, end in combinations(range(len(parts) + 1), 2):
            yield ":".join(parts[start:end])


def shown(word: str) -> str:
    """Return a word as it may be shown: of a URL no user, no password, no query and no fragment."""
    return _cleaned(word)[0] if "://" in word else word  # which it nearly never is


def secrets(word: str) -> list[str]:
    """Return what must not be shown of a word, in each form that a library may write it in, the longest first."""
    from urllib.parse import unquote

    dropped = _cleaned(word)[1] if "://" in word else []
    forms = {form for text in dropped for form in (text, unquote(text))}
    parts = {part for form in forms for part in re.split(r"[?&#:@]|(?<==)", form)}
    return sorted((text for text in forms | parts if len(text) >= _SHORTEST_SECRET), key=len, reverse=True)


def _cleaned(word: str) -> tuple[str, list[str]]:
    """Return a word as it may be shown, and what was dropped: of each address in it, one in another included."""
    heads = list(re.finditer(_HEAD, word))
    if not heads:
        return word, []
    kept, dropped = [word[: heads[0].start()]], []
    in_query = False
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        rest = word[head.end() : after.start() if after else None]
        if in_query:
            dropped.append(head[0] + rest)
        else:
            user, rest = _user(head["scheme"].lower(), rest)
            path, query = _query(head["scheme"].lower(), rest)
            kept += [head[0], path]
            dropped += [user, query]
            in_query = bool(query)
        if after and in_query and rest.endswith("::"):
            kept.append("::")
            in_query = False
    return "".join(kept), list(filter(None, dropped))


def _user(protocol: str, rest: str) -> tuple[str, str]:
    """Return the user of an address, with the password, and what follows."""
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in host and (protocol not in _AT_NAMES or ":" in host.rpartition("@")[0]):
        user = host.rpartition("@")[0]
    elif "@" in host or protocol in _AT_NAMES or not _has_user(host):
        user = ""
    elif "@" in rest:
        user = rest.rpartition("@")[0]
    else:
        return rest, ""
    rest = rest[len(user) + 1 :] if user else rest
    inside = re.findall(_USER_INSIDE, rest)
    return " ".join([user, *inside]).strip(), re.sub(_USER_INSIDE, "", rest) if inside else rest


def _query(protocol: str, rest: str) -> tuple[str, str]:
    found = re.search("[?#]" if protocol in _WEB else "[?]", rest)
    return (rest, "") if found is None else (rest[: found.start()], rest[found.start() :].removesuffix("::"))


def _has_user(host: str) -> bool:
    """Whether what stands for the host is the first half of user:password@host, with a / or ? in the password."""
    _, colon, port = host.rpartition(":")
    return bool(colon) and not host.startswith("[") and not port.isdigit() and port != ""


def without_secrets(text: str) -> str:
    """Return a text with each URL in it as it may be shown, in a time that goes by its length."""
    if "://" in text:
        text = re.sub(_IN_TEXT, _shown_in_text, text)
    return re.sub(_HF, r"\1…", text) if "hf_" in text else text


def _shown_in_text(found: re.Match[str]) -> str:
    address = found[0].rstrip("?!.,:;)")  # the text's own stops are not the address's
    if not address.endswith("//"):
        return shown(address) + found[0][len(address) :]
    return found[0] if len(found[0]) - len(address) < 2 else shown(found[0])  # noqa: PLR2004  # one stop
