"""The transport: over which connection a request goes. It knows nothing of sessions and events."""

import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Final, Self

import httpx
from anyio import Lock, aclose_forcefully, connect_tcp, fail_after
from anyio.streams.tls import TLSAttribute, TLSStream

from .._http import tls_context
from .._proxies import Proxies
from .._transport import HTTPTransport
from ._connection import GONE, Connection, Headers, Stream, Unseen

__all__ = ["HTTP2Transport"]

_PROTOCOLS: Final = ("h2", "http/1.1")  # https://www.rfc-editor.org/rfc/rfc9113#section-3.2
_HTTPS: Final = 443
# What is of one connection only (https://www.rfc-editor.org/rfc/rfc9113#section-8.2.2), and the
# host, which has another name.
_OF_HTTP11: Final = frozenset(
    b"connection host keep-alive proxy-connection te transfer-encoding upgrade".split()
)


class HTTP2Transport(httpx.AsyncBaseTransport):
    """Carries requests over HTTP/2: many streams share one connection to each server.

    Another connection is made only when a server allows no more streams on those it has. A stream
    that is closed or cancelled early is reset, which leaves the others alone. A request that a
    leaving server never saw is sent over another connection, once. A server that speaks no HTTP/2,
    one behind a proxy and one at `http://` are spoken to in HTTP/1.1.

    Whoever waits for an event reads for all streams of the connection; while nobody does, the
    server's pings get no answer. The `limits` of the session are of streams.
    """

    def __init__(
        self, *, verify: ssl.SSLContext | None = None, keepalive_expiry: float = 5.0
    ) -> None:
        """Nothing is opened before the first request.

        Args:
            verify: Whom to trust, by a context of its own; None trusts whom httpx does.
            keepalive_expiry: Seconds for which a connection is good for more when it is idle.
        """
        self._tls = verify
        self._keepalive_expiry = keepalive_expiry
        self._proxies = Proxies()
        self._servers: dict[tuple[str, int], _Server] = {}
        limits = httpx.Limits(max_keepalive_connections=20, keepalive_expiry=keepalive_expiry)
        self._http11 = HTTPTransport(limits, verify=verify)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to a request, its body still to be read."""
        proxy = self._proxies.before(request.url.scheme, request.url.host)
        if request.url.scheme == "https" and proxy is None:
            server, sending = self._server(request.url), _Sending(request)
            for is_last in (False, True):
                connection = await server.connection(sending)
                if connection is None:
                    break
                try:
                    return await sending.answer(connection)
                except Unseen:
                    if is_last or not isinstance(request.stream, httpx.ByteStream):
                        raise
        return await self._http11.handle_async_request(request)

    async def aclose(self) -> None:
        """Close every connection."""
        servers, self._servers = self._servers, {}
        async with AsyncExitStack() as stack:  # closes all, even if closing one fails
            for server in servers.values():
                for connection in server.connections:
                    stack.push_async_callback(connection.aclose)
            stack.push_async_callback(self._http11.aclose)

    def _server(self, url: httpx.URL) -> "_Server":
        address = (url.raw_host.decode("ascii"), url.port or _HTTPS)
        if address not in self._servers:
            tls = self._tls or tls_context(*_PROTOCOLS)
            self._servers[address] = _Server(address, tls, self._keepalive_expiry)
        return self._servers[address]


class _Server:
    """The connections to one server; `connections` are all that are not closed."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext, expiry: float) -> None:
        self._address = address
        self._tls = tls
        self._keepalive_expiry = expiry
        self.connections: list[Connection] = []
        self._lock = Lock()
        self._speaks_http2 = True

    async def connection(self, sending: "_Sending") -> Connection | None:
        """One that takes a stream, if it is opened at once; None if the server knows no HTTP/2."""
        for each in self.connections:
            if each.is_busy and each.has_room:
                return each
        try:
            with fail_after(sending.connect_timeout):
                async with self._lock:
                    return await self._idle() or await self._new(sending)
        except TimeoutError as exc:
            raise httpx.ConnectTimeout("") from exc
        except (httpx.TransportError, *GONE, ValueError) as exc:  # ValueError: no such name
            raise httpx.ConnectError(str(exc.__cause__ or exc)) from exc

    async def _idle(self) -> Connection | None:
        """One that is there; those that are of no more use are closed."""
        for each in list(self.connections):
            is_fresh = time.monotonic() < each.idle_since + self._keepalive_expiry
            if each.is_busy or (is_fresh and await each.catch_up()):
                if each.has_room:
                    return each
            else:
                self.connections.remove(each)
                await each.aclose()
        return None

    async def _new(self, sending: "_Sending") -> Connection | None:
        if not self._speaks_http2:
            return None
        await sending.tell("connection.connect_tcp.started")
        socket = await self._socket()
        protocol = socket.extra(TLSAttribute.alpn_protocol, None)  # noqa: S610 - not Django's
        self._speaks_http2 = protocol == _PROTOCOLS[0]
        if not self._speaks_http2:
            await aclose_forcefully(socket)
            return None
        connection = Connection(socket)
        try:
            await connection.start()
        except BaseException:
            await connection.aclose()
            raise
        self.connections.append(connection)
        return connection

    async def _socket(self) -> TLSStream:
        host, port = self._address
        socket = await connect_tcp(host, port)
        self._tls.set_alpn_protocols(_PROTOCOLS)  # whatever else the caller uses it for
        try:
            return await TLSStream.wrap(
                socket, hostname=host, ssl_context=self._tls, standard_compatible=False
            )
        except BaseException:
            await aclose_forcefully(socket)
            raise


class _Sending:
    """One request on its way to its answer."""

    def __init__(self, request: httpx.Request) -> None:
        self._request = request
        self._trace = request.extensions.get("trace")
        self.connect_timeout: float | None = request.extensions.get("timeout", {}).get("connect")

    async def answer(self, connection: Connection) -> httpx.Response:
        """The answer; without one, the stream is closed, however it failed."""
        body = _body(self._request)
        stream = connection.open(_headers(self._request), ends=body is None)
        try:
            await stream.send(body)
            await stream.receive_head()
            head = (stream.status, stream.headers)
            await self.tell("http2.receive_response_headers.complete", return_value=head)
        except BaseException:
            await stream.aclose()
            raise
        return httpx.Response(
            stream.status,
            headers=stream.headers,
            stream=_Body(stream),
            extensions={"http_version": b"HTTP/2"},
        )

    async def tell(self, name: str, **info: Any) -> None:
        """Tell a step as httpcore would (https://www.encode.io/httpcore/extensions/#trace)."""
        if self._trace is not None:
            await self._trace(name, {"request": self._request, **info})


def _body(request: httpx.Request) -> AsyncIterable[bytes] | None:
    is_empty = request.headers.get("content-length", "0") == "0"
    if is_empty and "transfer-encoding" not in request.headers:
        return None
    assert isinstance(request.stream, AsyncIterable)  # noqa: S101 - it is asynchronous
    return request.stream


def _headers(request: httpx.Request) -> Headers:
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    return [
        (b":method", request.method.encode("ascii")),
        (b":authority", dict(headers)[b"host"]),
        (b":scheme", request.url.raw_scheme),
        (b":path", request.url.raw_path),
        *(each for each in headers if each[0] not in _OF_HTTP11),
    ]


class _Body(httpx.AsyncByteStream, AsyncIterator[bytes]):
    """The body of a response, as it arrives."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if data := await self._stream.receive():
            return data
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the stream, and leave the connection."""
        await self._stream.aclose()
