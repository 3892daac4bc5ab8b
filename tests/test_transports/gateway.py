"""A gateway that speaks HTTP/2 with clients, in front of a `ScriptedServer`.

Whatever tests script for HTTP/1.1 is so seen over HTTP/2. Each stream has a connection of its own
behind the gateway: it ends when the client resets the stream, and when it breaks, the stream is
reset.
"""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import h11
import trustme
from h2.errors import ErrorCodes

from streamsession.testing import ScriptedServer
from tests.test_transports.http2_server import Answer, Http2Server, Http2Stream

HOSTS: Final = ("127.0.0.1", "localhost")
_OF_HTTP11: Final = {"connection", "keep-alive", "transfer-encoding"}
_NEEDS_DATA: Final[object] = h11.NEED_DATA


@cache
def authority() -> trustme.CA:
    """Who certifies the servers of these tests."""
    return trustme.CA()


@cache
def certificate() -> trustme.LeafCert:
    return authority().issue_cert(*HOSTS)


def server_context() -> ssl.SSLContext:
    """A context of its own for each server: what it offers by ALPN is set on it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with certificate().private_key_and_cert_chain_pem.tempfile() as path:
        context.load_cert_chain(path)
    return context


class ServerBehindAGateway(ScriptedServer):
    """A `ScriptedServer` that is reached over HTTP/2."""

    _gateway: Http2Server | None = None

    @property
    def url(self) -> str:
        assert self._gateway is not None
        return self._gateway.url

    @property
    def gateway(self) -> Http2Server:
        assert self._gateway is not None
        return self._gateway

    def start(self) -> None:
        super().start()
        if self._gateway is None:
            port = urlsplit(super().url).port or 0
            self._gateway = Http2Server(_handing_on_to(port), server_context())
            self._gateway.start()

    def stop(self) -> None:
        if self._gateway is not None:
            self._gateway.stop()
        super().stop()


def _handing_on_to(port: int) -> Answer:
    async def answer(stream: Http2Stream) -> None:
        await stream.is_whole.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            _ask(stream, http := h11.Connection(h11.CLIENT), writer.write)
            await _relay(stream, http, reader)
        except (h11.RemoteProtocolError, ConnectionError):
            with suppress(Exception):  # the client may be gone
                await stream.reset(ErrorCodes.INTERNAL_ERROR)
        finally:
            writer.transport.abort()

    return answer


def _ask(stream: Http2Stream, http: h11.Connection, write: Callable[[bytes], object]) -> None:
    headers = [(name, value) for name, value in stream.headers.items() if name[0] != ":"]
    headers.append(("host", stream.headers[":authority"]))
    if stream.body and "content-length" not in stream.headers:
        headers.append(("content-length", str(len(stream.body))))
    method, target = stream.headers[":method"], stream.path
    request = h11.Request(method=method, target=target, headers=headers)
    for event in (request, h11.Data(stream.body), h11.EndOfMessage()):
        write(http.send(event) or b"")


async def _relay(stream: Http2Stream, http: h11.Connection, reader: asyncio.StreamReader) -> None:
    while True:
        event: Any = http.next_event()
        match event:
            case h11.InformationalResponse() | h11.Response():
                named = {name.decode(): value.decode() for name, value in event.headers}
                kept = {name: value for name, value in named.items() if name not in _OF_HTTP11}
                await stream.respond(event.status_code, kept)
            case h11.Data():
                await stream.send(bytes(event.data))
            case h11.EndOfMessage():
                await stream.end()
                return
            case _ if event is _NEEDS_DATA:
                http.receive_data(await reader.read(2**16))
            case _:
                raise h11.RemoteProtocolError(f"unexpected {event}")
