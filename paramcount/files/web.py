"""Reads parts of a file by http and https, with Python's own client: ranges where the server has them."""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException, HTTPMessage, HTTPResponse
from socket import SHUT_RDWR, socket
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from paramcount.errors import ParamcountError, UnknownTarget, UnreadableFile
from paramcount.files.blocks import BLOCK, Blocks
from paramcount.files.patience import in_time, out_of_patience, seconds
from paramcount.files.streams import Stream
from paramcount.urls import shown

MOST_WITHOUT_RANGES = 128 * 2**20  # bytes; the largest header that safetensors allows is 100 MB
_SLOWEST = 4 * 2**10  # bytes a second
_CHUNK = 256 * 2**10
_LONGEST_REDIRECT = 2**20  # bytes that come with one, for people to read
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_MAY_BE_WRITTEN = "/%:=&?~+!$,;'@()*[]"  # in a URL, as they are
_OK, _PARTIAL, _NO_SUCH_RANGE = 200, 206, 416
_REFUSED, _GONE, _MAY_PASS = {401, 402, 403, 407, 451}, {404, 410}, {408, 425, 429, 500, 502, 503, 504}


@contextmanager
def opened(url: str) -> Iterator[Blocks | Stream]:
    """Open a file by its URL, for as long as the context lasts.

    How parts are asked for and answered: https://www.rfc-editor.org/rfc/rfc9110#name-range-requests. Of a server that
    does not know how to, the file is read from its start, no further than is needed.

    Raises:
        UnknownTarget: there is no such file.
        UnreadableFile: the server does not give it, or not as it should.

    """
    site = _Site(url)
    response = site.ask(0, BLOCK)
    if response is None:
        yield Blocks(site.name, 0, site.fetch)
    elif response.status == _PARTIAL:
        with closing(response):
            first = site.part(response, 0, BLOCK)
        yield Blocks(site.name, site.size, site.fetch, first)
    else:
        with closing(response), closing(site.stream(response)) as stream:
            yield stream


class _Site:
    """One file on a server."""

    def __init__(self, url: str) -> None:
        self.name = shown(url)
        self.size = -1
        self._version: str | None = None
        with self._translated():
            parts = urlsplit(url)
            user, _, host = parts.netloc.rpartition("@")
            path, query = quote(parts.path, _MAY_BE_WRITTEN), quote(parts.query, _MAY_BE_WRITTEN)
            self._url = SplitResult(parts.scheme, host, path, query, "").geturl()
            self._home = _origin(self._url)
        password = unquote(user) if ":" in user else f"{unquote(user)}:"
        self._secret = "Basic " + base64.b64encode(password.encode()).decode() if user else None
        self._opener = build_opener(_Redirects(self._sign))

    def fetch(self, start: int, stop: int) -> bytes:
        """Return the bytes from one place up to another."""
        response = self.ask(start, stop)
        if response is None:
            raise self._wrong("says that the file has become shorter")
        with closing(response):
            if response.status != _PARTIAL:
                raise self._wrong("sends parts of the file at first, and then all of it")
            return self.part(response, start, stop)

    def ask(self, start: int, stop: int) -> HTTPResponse | None:
        """Ask for a part; None says that there is no such part, as of an empty file."""
        request = Request(self._url)  # noqa: S310  # it is http or https, or this would not have been called
        request.add_header("Range", f"bytes={start}-{stop - 1}")
        request.add_header("Accept-Encoding", "identity")
        request.add_header("User-Agent", "paramcount")
        self._sign(request)
        timeout = seconds()
        with self._translated():
            try:
                response: HTTPResponse = in_time(lambda: self._opener.open(request, timeout=timeout), self.name)
            except HTTPError as error:
                if error.code != _NO_SUCH_RANGE:
                    raise
                error.close()
                return None
        encoding = response.headers.get("Content-Encoding", "identity")
        if response.status not in {_OK, _PARTIAL} or encoding.lower() != "identity":
            response.close()
            raise self._wrong(
                f"sends it packed by {encoding}"
                if response.status in {_OK, _PARTIAL}
                else f"answers {response.status} {response.reason}"
            )
        self._url = response.url  # whoever led there need not be asked again
        return response

    def part(self, response: HTTPResponse, start: int, stop: int) -> bytes:
        """Return what was asked for, where that is what the server says that it sends."""
        said = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if said is None:
            raise self._wrong("does not say which part it sends, and of how many bytes")
        first, last, size = map(int, said.groups())
        version = response.headers.get("ETag")
        if self.size in {-1, size} and self._version in {None, version}:
            self.size, self._version = size, version
        else:
            raise self._wrong("has another file at this address than a moment ago")
        if (first, last) != (start, min(stop, size) - 1):
            raise self._wrong(f"was asked for bytes {start}-{min(stop, size) - 1}, and sends {first}-{last} of {size}")
        more = self._reader(response)
        parts = []
        left = last + 1 - first
        while left:
            data = more(min(left, _CHUNK))
            if not data:
                raise self._wrong(f"ended the connection {left:,} bytes before the end of what it should send")
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def stream(self, response: HTTPResponse) -> Stream:
        """Return the file as it comes."""
        length = response.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() and not response.chunked else None
        return Stream(self.name, self._reader(response), size=size, most=MOST_WITHOUT_RANGES)

    def _reader(self, response: HTTPResponse) -> Callable[[int], bytes]:
        begun, patience, received = time.monotonic(), seconds(), 0

        def more(length: int) -> bytes:
            nonlocal received
            with self._translated(), _cut_off(response):
                data = in_time(lambda: response.read1(length), self.name)
            received += len(data)
            passed = time.monotonic() - begun
            if data and passed > patience and received < passed * _SLOWEST:
                raise out_of_patience(self.name, what=f"only {received:,} bytes came")
            return data

        return more

    def _sign(self, request: Request) -> None:
        """Say who asks, and to nobody else than whom the user told to."""
        if self._secret and _origin(request.full_url) == self._home:
            request.add_unredirected_header("Authorization", self._secret)

    def _wrong(self, what: str) -> UnreadableFile:
        return UnreadableFile(f"cannot read {self.name}: its server {what}", hint=_FETCH)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise what goes wrong on the way as what it means."""
        try:
            yield
        except ParamcountError:
            raise
        except HTTPError as error:
            error.close()
            raise self._refusal(error) from error
        except (HTTPException, OSError, ValueError) as error:  # ValueError: an impossible URL
            cause = error.reason if isinstance(error, URLError) else error
            if isinstance(cause, TimeoutError):
                raise out_of_patience(self.name) from error
            said = str(cause) or type(cause).__name__
            raise UnreadableFile(
                f"cannot read {self.name}: {said}", hint="check the address, and the network"
            ) from error

    def _refusal(self, error: HTTPError) -> ParamcountError:
        status = f"its server answers {error.code} {error.reason.splitlines()[0] if error.reason else ''}".rstrip()
        if error.code in _GONE:
            return UnknownTarget(f"there is no file {self.name}: {status}", hint="check the address")
        hint = _FETCH
        if error.code in _REFUSED:
            hint = "it takes an address that is signed, or https://USER:PASSWORD@HOST/…; or fetch it, and count that"
        elif error.code in _MAY_PASS:
            hint = "try again later"
        return UnreadableFile(f"cannot read {self.name}: {status}", hint=hint)


@contextmanager
def _cut_off(response: HTTPResponse) -> Iterator[None]:
    """End the connection where reading takes too long, or closing it would wait for who still reads from it."""
    try:
        yield
    except ParamcountError:
        with suppress(OSError, ValueError), socket(fileno=os.dup(response.fileno())) as connection:
            connection.shutdown(SHUT_RDWR)
        raise


_FETCH = "fetch the file, and count that: curl -fLO URL"


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


class _Redirects(HTTPRedirectHandler):
    """Goes where a server says that the file is, if it is on the web."""

    def __init__(self, sign: Callable[[Request], None]) -> None:
        self._sign = sign

    def redirect_request(  # noqa: PLR0917  # urllib's own signature
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if len(fp.read(_LONGEST_REDIRECT + 1)) > _LONGEST_REDIRECT:  # urllib would go on reading without an end
            fp.close()
            problem = f"cannot read {shown(req.full_url)}: its server sends more with a redirect than an address"
            raise UnreadableFile(problem, hint=_FETCH)
        if not newurl.lower().startswith(("http://", "https://")):
            raise HTTPError(req.full_url, code, f"and leads to {shown(newurl)}, not to the web", headers, fp)
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            self._sign(following)
        return following
