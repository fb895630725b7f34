"""Refuses every connection while a constructor runs, and remembers what was asked for."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any
from urllib.error import URLError

from paramcount.modules.substitutes import Substitute, bystanders

_MOST_REFUSED = 60  # then whoever asks is not looking for another way: it tries for ever
_HERE = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::"}  # noqa: S104  # an address that is not connected to
_ADDRESS = re.compile(r"(?:https?|ftp|s3|gs|hf|ssh)://\S+")


@dataclass(slots=True)
class Fetches:
    """What a constructor wanted from a network."""

    skipped: list[str] = field(default_factory=list)  # weights, without which it went on
    refused: list[str] = field(default_factory=list)  # all else
    decides: bool = False  # whether what is not known of the weights may decide about a layer

    def clear(self) -> None:
        """Forget an attempt that failed."""
        self.skipped.clear()
        self.refused.clear()
        self.decides = False


class NetworkRefused(OSError):
    """A connection that was not attempted: for a library the same as a machine without a network."""

    def __init__(self, address: str) -> None:
        """Name what was asked for."""
        super().__init__(f"paramcount connects to nothing while it builds a model: {address} was not asked")
        self.address = address


class TriesForEver(BaseException):
    """Passes what catches every Exception and tries again."""


class Guard:
    """Refuses connections; knows the address that a library is about to ask, which a socket no longer does."""

    def __init__(self, fetches: Fetches) -> None:
        """Write what is refused into ``fetches``."""
        self._fetches = fetches
        self._asked: list[str] = []

    def refuse(self, address: object) -> NetworkRefused:
        """Return the error for a connection to an address; or for what was asked of it, where that is known."""
        told = _on_the_hub(self._asked[-1] if self._asked else str(address))
        self._fetches.refused.append(told)
        if len(self._fetches.refused) > _MOST_REFUSED:
            raise TriesForEver
        return NetworkRefused(told)

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Refuse as ever, and forget it: whoever asks goes another way."""
        before = len(self._fetches.refused)
        try:
            yield
        finally:
            del self._fetches.refused[before:]

    def substitutes(self) -> dict[str, Substitute]:
        """Return what stands for the functions through which Python code reaches a network."""
        return {
            "socket:create_connection": self._connection,
            "socket:getaddrinfo": self._lookup,
            "subprocess:Popen.__init__": self._program,
            "urllib.request:OpenerDirector.open": self._asking(lambda request: getattr(request, "full_url", request)),
            "requests.sessions:Session.send": self._asking(lambda request: request.url),
            "httpx._client:Client.send": self._asking(lambda request: request.url),
            "httpx2._client:Client.send": self._asking(lambda request: request.url),
        }

    def _connection(self, _original: Substitute, address: Any, *_args: Any, **_kwargs: Any) -> Any:
        raise self.refuse(_host(address))

    def _lookup(self, original: Substitute, host: Any, *args: Any, **kwargs: Any) -> Any:
        if (host.decode(errors="replace") if isinstance(host, bytes) else host) in _HERE:
            return original(host, *args, **kwargs)
        raise self.refuse(host)

    def _program(self, original: Substitute, process: Any, args: Any, *more: Any, **kwargs: Any) -> Any:
        words = [args] if isinstance(args, str) else list(args) if isinstance(args, list | tuple) else []
        for word in words:
            if isinstance(word, str) and (match := _ADDRESS.search(word)):
                raise self.refuse(match[0])
        return original(process, args, *more, **kwargs)

    def _asking(self, address: Callable[[Any], Any]) -> Substitute:
        def ask(original: Substitute, client: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            self._asked.append(str(address(request)))
            try:
                return original(client, request, *args, **kwargs)
            finally:
                self._asked.pop()

        return ask

    @contextmanager
    def active(self) -> Iterator[None]:
        """Refuse what sockets connect to, too; and let nobody wait for a network that will not be there."""
        import socket

        internet = {socket.AF_INET, socket.AF_INET6}
        own = {name: vars(socket.socket).get(name) for name in ("connect", "connect_ex")}
        sleep, others = time.sleep, bystanders()

        def connecting(connect: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
            def refuse(sock: Any, address: Any) -> Any:
                if sock.family in internet and get_ident() not in others:
                    raise self.refuse(_host(address))
                return connect(sock, address)

            return refuse

        for name in own:
            setattr(socket.socket, name, connecting(getattr(socket.socket, name)))
        time.sleep = lambda seconds: sleep(0 if self._fetches.refused and get_ident() not in others else seconds)
        try:
            yield
        finally:
            time.sleep = sleep
            for name, method in own.items():
                if method is None:
                    delattr(socket.socket, name)
                else:
                    setattr(socket.socket, name, method)


# Where the hub has what: https://huggingface.co/docs/hub/api
_HUB = re.compile(
    r"https?://[^/]+/(?:api/models/(?P<id>.+?)(?:/(?:revision|tree)/.*)?|(?P<of>.+?)/resolve/[^/]+/(?P<file>.+))"
)


def _on_the_hub(address: str) -> str:
    match = _HUB.fullmatch(address.partition("?")[0])
    if match is None:
        return address
    return f"{match['file'] + ' of ' if match['file'] else ''}{match['id'] or match['of']} on the hub"


def _host(address: Any) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) and len(address) > 1 else str(address)


def refusal_in(error: BaseException, fetches: Fetches) -> str | None:
    """Return the refused address that an exception came of; None where it came of something else."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        if isinstance(each, NetworkRefused):
            return each.address
        if isinstance(each, TriesForEver | _not_in_the_cache()):
            return fetches.refused[-1] if fetches.refused else None
        seen.add(id(each))
        reason = each.reason if isinstance(each, URLError) else None  # it may name no cause
        each = each.__cause__ or each.__context__ or (reason if isinstance(reason, BaseException) else None)
    return None


def _not_in_the_cache() -> type[BaseException]:
    """Return what huggingface_hub raises for a file that it would have to fetch."""
    hub = sys.modules.get("huggingface_hub.errors")
    kind = None if hub is None else vars(hub).get("LocalEntryNotFoundError")
    return kind if isinstance(kind, type) and issubclass(kind, BaseException) else NetworkRefused
