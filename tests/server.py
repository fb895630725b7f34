"""A web server in this process, as good or as bad as a test wants it, that says what it was asked and what it sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Visit(BaseHTTPRequestHandler):
    """One request. A test's own manner of answering gets it, and uses these methods."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.asked.append((self.path, dict(self.headers)))
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has read enough
            self.server.manner(self)

    do_HEAD = do_POST = do_GET  # noqa: N815  # names of the base class's

    def log_message(self, *_: object) -> None: ...

    @property
    def content(self) -> bytes:
        return self.server.files[self.path.partition("?")[0]]

    def asked_range(self, size: int) -> tuple[int, int]:
        """Return the first byte that is asked for, and the one after the last."""
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        return int(first), min(int(last) + 1, size)

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, data: bytes) -> None:
        if self.command == "HEAD":
            return
        for start in range(0, len(data), 2**14):
            self.wfile.write(data[start : start + 2**14])
            self.server.sent += len(data[start : start + 2**14])


Manner = Callable[[Visit], None]


def with_ranges(visit: Visit) -> None:
    """Answer as a good server does."""
    if visit.path.partition("?")[0] not in visit.server.files:
        visit.head(404, Content_Length=0)
        return
    content = visit.content
    first, stop = visit.asked_range(len(content))
    if first >= len(content):
        visit.head(416, Content_Range=f"bytes */{len(content)}", Content_Length=0)
        return
    said = f"bytes {first}-{stop - 1}/{len(content)}"
    visit.head(206, Content_Range=said, Content_Length=stop - first, ETag='"1"')
    visit.send(content[first:stop])


def without_ranges(visit: Visit) -> None:
    """Send the whole file, whatever was asked for."""
    visit.head(200, Content_Length=len(visit.content))
    visit.send(visit.content)


class Server(ThreadingHTTPServer):
    """Files, by their paths, and how they are sent."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, manner: Manner, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.manner = manner
        self.files = files
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.sent = 0
        self.leaving = threading.Event()  # set when the test is over: what stalls may wait for it

    def url(self, path: str, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.server_address[1]}{path}"


@contextmanager
def serving(files: dict[str, bytes] | None = None, manner: Manner = with_ranges) -> Iterator[Server]:
    """Serve files as long as the context lasts."""
    server = Server(manner, files or {})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.leaving.set()
        server.shutdown()
        server.server_close()
        thread.join()
