"""The loopback server: plays bytes that are ready made, so that it is never what is waited for.

A model named "paced" is answered up to its first token; what follows is ordered from outside:
`POST /pace/RATE/SECONDS` sends all those answers so many tokens a second each, the streams evenly
one after another, and is answered when that is done; `POST /finish` ends them. Either is answered
with how many they were.
"""

import asyncio
import re
import ssl
from collections.abc import Iterable
from functools import lru_cache, partial
from multiprocessing.connection import Connection
from typing import Any, Final

import trustme

from .bodies import chunked, parts
from .playing import Paced, asked_for
from .reading import Address
from .server_http2 import HTTP2, PREFACE

__all__ = ["serve"]

_HOST: Final = "127.0.0.1"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_DONE: Final = b"HTTP/1.1 200 OK\r\n\r\n%d\n"
_BACKLOG: Final = 4096  # connections may come all at once


@lru_cache(maxsize=8)
def _response(path: str, model: str) -> bytes:
    return _HEAD + chunked(parts(path, model), ended=True)


class Player(asyncio.Protocol):
    """A connection: HTTP/1.1 and kept alive, or HTTP/2 if the client begins with that."""

    _transport: asyncio.Transport

    def __init__(self, paced: Paced) -> None:
        self._paced = paced
        self._received = b""
        self._http2: HTTP2 | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of TCP and TLS, it is
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Pace it no more."""
        self._paced.drop(self)
        if self._http2 is not None:
            self._http2.drop()

    def data_received(self, data: bytes) -> None:
        """Answer a request once all of it has come."""
        if not self._received and data.startswith(PREFACE):
            self._http2 = HTTP2(self._transport, self._paced)
        if self._http2 is not None:
            self._http2.receive(data)
            return
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if found and len(body) >= (int(length[1]) if length else 0):
            self._received = b""
            self._answer(head.split(b" ", 2)[1].decode(), asked_for(body))

    def send(self, pieces: Iterable[bytes], *, ended: bool = False) -> None:
        """Send what follows of an answer, each piece as a chunk."""
        self._transport.write(chunked(pieces, ended=ended))

    def _answer(self, path: str, model: str) -> None:
        if model == "paced":
            self._transport.write(_HEAD)
            self._paced.begin(self, path)
        elif model:
            self._transport.write(_response(path, model))
        else:
            self._transport.write(_DONE % self._paced.obey(path))


def serve(pipe: "Connection[Any, Any]") -> None:
    """Send the address, then serve until the other end is closed."""
    asyncio.run(_serve(pipe))


async def _serve(pipe: "Connection[Any, Any]") -> None:
    loop = asyncio.get_running_loop()
    paced = Paced()
    authority = trustme.CA()
    listen = partial(loop.create_server, lambda: Player(paced), _HOST, 0, backlog=_BACKLOG)
    async with await listen() as plain, await listen(ssl=_tls(authority)) as over_tls:
        http, https = (each.sockets[0].getsockname()[1] for each in (plain, over_tls))
        pem = authority.cert_pem.bytes().decode("ascii")
        pipe.send(Address(f"http://{_HOST}:{http}", f"https://{_HOST}:{https}", pem))
        await loop.run_in_executor(None, pipe.poll, None)  # its end is something to read, too


def _tls(authority: trustme.CA) -> ssl.SSLContext:
    """That of a server which would rather speak HTTP/2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with authority.issue_cert(_HOST).private_key_and_cert_chain_pem.tempfile() as path:
        context.load_cert_chain(path)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context
