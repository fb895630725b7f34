"""Addresses: what is a URL, what are its parts, and that no secret of one is ever shown."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramcount.errors import Bug, ParamcountError
from paramcount.urls import Address, is_url, is_web, scheme, secrets, shown, split, with_part, without_secrets


@pytest.mark.parametrize("word", ["https://h/x", "S3://b/k", "simplecache::s3://b/k", "memory://x", "git+ssh://h/x"])
def test_a_url_has_a_scheme_of_its_own(word: str) -> None:
    assert is_url(word)


@pytest.mark.parametrize("word", ["", "model.pt", "C:/x", "c://x", "a/b://c", "report.json:https://h/x", "://x"])
def test_a_path_is_no_url(word: str) -> None:
    assert not is_url(word)
    assert scheme(word) == ""
    assert split(word) == Address("", word, "")
    assert shown(word) == word


def test_the_web_is_http_itself_and_nothing_chained_to_it() -> None:
    assert is_web("http://h/x")
    assert is_web("HTTPS://h/x")
    assert not is_web("simplecache::https://h/x")
    assert not is_web("s3://b/x")


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("https://h.pt:8080/a/x.ckpt:sd?t=1", ("https://h.pt:8080/", "a/x.ckpt:sd", "?t=1")),
        ("https://h/x#y", ("https://h/", "x", "#y")),
        ("https://h", ("https://h", "", "")),
        ("https://h?x", ("https://h", "", "?x")),
        ("s3://bucket/a#b?versionId=1", ("s3://bucket/", "a#b", "?versionId=1")),
        ("hf://org/repo@rev/x.pt", ("hf://org/", "repo@rev/x.pt", "")),
        ("memory://x.pt", ("memory://", "x.pt", "")),
    ],
)
def test_a_url_is_taken_apart(word: str, parts: tuple[str, str, str]) -> None:
    assert split(word) == parts


@given(st.text(alphabet="a:/?#@.\n", max_size=20))
def test_the_parts_together_are_the_word(rest: str) -> None:
    for word in (rest, f"https://{rest}", f"s3://{rest}"):
        assert "".join(split(word)) == word


@pytest.mark.parametrize(
    ("word", "harmless"),
    [
        ("https://user:pass@host/a/x.pt?X-Amz-Signature=s&token=t", "https://host/a/x.pt"),
        ("https://token@host:80/x.pt:part#secret", "https://host:80/x.pt:part"),
        ("https://user:pa/ss@host/x.pt", "https://host/x.pt"),
        ("https://user:pa?ss@host/x.pt", "https://host/x.pt"),
        ("https://user:p@ss@host/x.pt", "https://host/x.pt"),
        ("safetensors:https://user:pass@host/x.pt?t", "safetensors:https://host/x.pt"),
        ("simplecache::https://user:pass@host/x?t", "simplecache::https://host/x"),
        ("zip://x.pt::https://user:pass@host/x.zip?t", "zip://x.pt::https://host/x.zip"),
        ("simplecache::zip://x.pt?t::https://user:pass@host/x.zip", "simplecache::zip://x.pt::https://host/x.zip"),
        ("https://host/x?a=b::c", "https://host/x"),
        ("https://host/p/https://user:pass@other/x?t", "https://host/p/https://other/x"),
        ("https://host/p?u=https://user:pass@other/x", "https://host/p"),
        ("https://host/p/https%3A%2F%2Fuser:pass%40other/x", "https://host/p/https%3A%2F%2Fother/x"),
        ("https://host/user:pass@other/x", "https://host/other/x"),
        (" https://user:pass@host/x?t", " https://host/x"),
        ("s3://KEY:SEC/RET@bucket/x", "s3://bucket/x"),
        ("hf://user:pass@repo/x", "hf://repo/x"),
        ("filecache::simplecache::s3://k:s@b/x?v", "filecache::simplecache::s3://b/x"),
        ("https://user:p%40ss@host/x", "https://host/x"),
        ("https://user:pass", "https://"),
        ("https://[::1]:80/x@2?t", "https://[::1]:80/x@2"),
        ("https://host/pkg@1.2/x.pt", "https://host/pkg@1.2/x.pt"),
        ("hf://gpt2@main/x.pt", "hf://gpt2@main/x.pt"),
        ("abfs://container@account/x.pt?sig=s", "abfs://container@account/x.pt"),
    ],
)
def test_no_user_and_no_query_is_shown(word: str, harmless: str) -> None:
    assert shown(word) == harmless
    assert shown(harmless) == harmless


def test_a_part_goes_before_the_query() -> None:
    assert with_part("https://h/x.pt?t=1", "ema.model") == "https://h/x.pt:ema.model?t=1"
    assert with_part("x.pt", "ema") == "x.pt:ema"


def test_no_error_and_no_traceback_holds_a_secret() -> None:
    raw = "https://user:hush@host/x.pt?sig=hush"
    assert without_secrets(f"no {raw}, '{raw}'.") == "no https://host/x.pt, 'https://host/x.pt'."
    assert without_secrets("memory://? (https://h/x?t=1) s3://?a") == "memory://? (https://h/x) s3://"
    try:
        raise ValueError(f"cannot open {raw}")
    except ValueError as error:
        cause = error
    bug = Bug.of(cause)
    bug.keep_traceback()
    told = ParamcountError(f"a {raw}", hint=f"b {raw}", details=f"c {raw}")
    for text in (str(bug), bug.traceback, str(told), told.message, *told.args, told.hint or "", told.details):
        assert "https://host/x.pt" in text
        assert "hush" not in text


@pytest.mark.parametrize("text", ["y" * 400_000 + "://", "a://" * 100_000, "a.b-" * 100_000, "ab://x@" * 50_000 + "?"])
@pytest.mark.parametrize("clean", [without_secrets, shown])
def test_a_long_text_takes_a_time_by_its_length(text: str, clean: Callable[[str], str]) -> None:
    began = time.process_time()
    clean(text)
    assert time.process_time() - began < 2


def test_what_is_secret_of_a_word_is_known_in_each_of_its_forms() -> None:
    found = secrets("s3://KEY:hush%2Fhush@bucket/x.pt?sig=quiet")
    assert {"KEY:hush%2Fhush", "KEY:hush/hush", "hush/hush", "quiet"} <= set(found)
    assert found == sorted(found, key=len, reverse=True)
    assert secrets("model.pt") == secrets("https://host/x.pt") == []


def test_an_error_hides_what_is_secret_wherever_a_library_says_it() -> None:
    try:
        raise ValueError('Invalid bucket name "KEY:hush@bucket"')
    except ValueError as error:
        cause = error
    told = ParamcountError(f"no: {cause}", hint=f"b {cause}", details=f"c {cause}")
    told.__cause__ = cause
    told.hide(secrets("s3://KEY:hush@bucket/x.pt"))
    told.keep_traceback()
    for text in (str(told), *told.args, told.traceback, told.details):
        assert "bucket" in text
        assert "hush" not in text
    assert without_secrets("Bearer hf_" + "a" * 34) == "Bearer hf_…"
