"""The transport: what httpx asks for, done by aiohttp, and its ways that httpx has not.

It knows nothing of sessions, streams and events.
"""

import asyncio
import math
import ssl
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Final, NoReturn, Self

import aiohttp
import httpx
from anyio import CancelScope
from yarl import URL

from .._errors import ConnectFailed, SessionStateError
from .._http import UNSCOPED, tls_context
from .._proxies import Proxies

__all__ = ["AiohttpTransport"]

_PIECE: Final = 64 * 1024  # bytes sent or read at a time, as many as httpcore reads
_MAX_LINE: Final = 100 * 1024  # bytes of a header, as many as h11 takes; aiohttp's own is 8190
_PROTOCOL: Final = "http/1.1"
_NOT_ADDED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_THEIRS: Final = (aiohttp.ClientError, OSError, RuntimeError, ValueError)  # OSError: timeouts too


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Carries the requests of one session over aiohttp, at a fraction of what httpx itself costs.

    It sends what httpx would send, and fails as httpx would, only that it is more lenient with
    servers that deviate from HTTP/1.1. It makes as many connections as the `limits` of the session
    allow, and keeps each of them for a while when it is idle, however many they are.
    """

    def __init__(
        self,
        *,
        verify: ssl.SSLContext | None = None,
        proxy: str | None = None,
        keepalive_expiry: float = 5.0,
    ) -> None:
        """Nothing is opened before the first request.

        Args:
            verify: Whom to trust; None trusts whom httpx does.
            proxy: The URL of an HTTP proxy; None takes those of the environment.
            keepalive_expiry: Seconds for which an idle connection is kept.
        """
        self._tls = verify
        self._proxies = Proxies(proxy)
        self._keepalive_expiry = keepalive_expiry
        self._client: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to a request, its body still to be read.

        Raises:
            SessionStateError: This is not asyncio.
        """
        if self._client is None:
            self._client = self._new_client()
        proxy = self._proxies.before(request.url.scheme, request.url.host)
        if proxy is not None and not proxy.startswith("http"):
            raise ConnectFailed(f"aiohttp takes no {proxy.partition(':')[0]} proxy")
        return await _Sending(request).answer(self._client, proxy)

    async def aclose(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _new_client(self) -> aiohttp.ClientSession:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise SessionStateError(
                "aiohttp runs on asyncio only: on trio, leave out transport=AiohttpTransport()"
            ) from None
        tls = self._tls or tls_context(_PROTOCOL)
        tls.set_alpn_protocols([_PROTOCOL])  # whatever else the caller uses it for
        connector = aiohttp.TCPConnector(
            limit=0,  # the session's own stands before it
            keepalive_timeout=self._keepalive_expiry,
            ssl=tls,
            use_dns_cache=False,  # so that the next attempt looks again
        )
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_start.append(_on_connecting)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NOT_ADDED,
            request_class=_Request,
            trace_configs=[trace],
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
        )


class _StaleConnectionError(Exception):
    """An idle connection has got bytes that belong to no request."""


class _Request(aiohttp.ClientRequest):
    """Remembers over what it was sent.

    Attributes:
        protocol: Of the connection; None as long as there is none.
        transport: The same.
    """

    protocol: Any = None
    transport: asyncio.Transport | None = None

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        """Send it, unless what came before would be taken for its answer."""
        if conn.protocol.should_close:
            raise _StaleConnectionError
        self.protocol, self.transport = conn.protocol, conn.transport
        return await super().send(conn)


class _Sending:
    """One request on its way to its answer."""

    def __init__(self, request: httpx.Request) -> None:
        self._request = request
        self._trace = request.extensions.get("trace")
        self._sent: _Request | None = None
        self._upload: _Upload | None = None

    async def answer(self, client: aiohttp.ClientSession, proxy: str | None) -> httpx.Response:
        """The answer; without one, the connection is gone, however it failed."""
        try:
            response = await self._exchange(client, proxy)
            assert self._sent is not None  # noqa: S101 - it has an answer
            await self.tell(
                "http11.receive_response_headers.complete",
                return_value=(b"HTTP/1.1", response.status),
            )
        except BaseException:
            await self._abort()
            raise
        reason = (response.reason or "").encode(errors="replace")
        body = _Body(response, self._sent)
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=body,
            extensions={
                "http_version": b"HTTP/1.1",
                "reason_phrase": reason,
                UNSCOPED: (body, body),
            },
        )

    async def tell(self, name: str, **info: Any) -> None:
        """Tell a step as httpcore would (https://www.encode.io/httpcore/extensions/#trace)."""
        if self._trace is not None:
            await self._trace(name, {"request": self._request, **info})

    async def _exchange(
        self, client: aiohttp.ClientSession, proxy: str | None
    ) -> aiohttp.ClientResponse:
        request = self._request
        seconds = request.extensions.get("timeout", {})
        try:
            return await client.request(
                request.method,
                URL(str(request.url), encoded=True),  # not to be encoded once more
                headers=_headers(request),
                data=self._content(),
                allow_redirects=False,
                auto_decompress=False,
                proxy=proxy,
                timeout=aiohttp.ClientTimeout(
                    connect=seconds.get("connect"),
                    sock_read=seconds.get("read"),
                    ceil_threshold=math.inf,  # not to be rounded up to whole seconds
                ),
                middlewares=(self._once,),
                trace_request_ctx=self,
            )
        except _THEIRS as exc:
            self._fail(exc)

    async def _once(self, request: Any, handler: Any) -> aiohttp.ClientResponse:
        """Send it once: if the server hung up on a GET, aiohttp itself would try again."""
        self._sent = request
        if "content-length" not in self._request.headers:
            request.headers.pop("Content-Length", None)  # which aiohttp has added to say 0
        while True:
            try:
                response: aiohttp.ClientResponse = await handler(request)
            except _StaleConnectionError:
                continue  # on another connection
            except _THEIRS as exc:
                self._fail(exc)
            return response

    def _content(self) -> Any:
        """The body; in pieces if it is large or made on the way."""
        request = self._request
        try:
            content = request.content
        except httpx.RequestNotRead:
            assert isinstance(request.stream, AsyncIterable)  # noqa: S101 - it is asynchronous
            self._upload = _Upload(aiter(request.stream))
            return self._upload
        if len(content) > _PIECE:
            self._upload = _Upload(_pieces(content))
            return self._upload
        return content or None

    def _fail(self, exc: Exception) -> NoReturn:
        if self._upload is not None and self._upload.error is not None:
            _raise(self._upload.error)
        is_connected = self._sent is not None and self._sent.protocol is not None
        _raise(_as_httpx(exc, is_connected=is_connected), exc)

    async def _abort(self) -> None:
        if self._sent is not None and self._sent.transport is not None:
            self._sent.transport.abort()  # close() would wait for a server that does not read
        if self._upload is not None:
            with CancelScope(shield=True):
                await self._upload.is_idle.wait()


def _headers(request: httpx.Request) -> list[tuple[str, str]]:
    return [
        (name.decode("ascii"), value.decode("ascii"))
        for name, value in request.headers.raw
        if name.lower() != b"transfer-encoding"  # which aiohttp adds itself
    ]


class _Upload(AsyncIterator[bytes]):
    """A body that aiohttp takes from another task.

    Attributes:
        error: What the body raised; aiohttp takes it for an error of the connection.
        is_idle: Set while nobody waits for the next piece.
    """

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self.error: Exception | None = None
        self.is_idle = asyncio.Event()
        self.is_idle.set()
        self._pieces = pieces

    async def __anext__(self) -> bytes:
        self.is_idle.clear()
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            raise
        except Exception as exc:
            self.error = exc
            raise
        finally:
            self.is_idle.set()


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _PIECE):
        yield content[start : start + _PIECE]


class _Body(httpx.AsyncByteStream, AsyncIterator[bytes]):
    """The body of a response, as it arrives."""

    def __init__(self, response: aiohttp.ClientResponse, sent: _Request) -> None:
        self._response = response
        self._content = response.content
        self._sent = sent
        is_chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
        self._has_length = is_chunked or "content-length" in response.headers

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._content.read(_PIECE)
        except _THEIRS as exc:
            # What came before the error is still there, and this is the only way to it.
            data = self._content._read_nowait(_PIECE)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            if not data:
                _raise(_as_httpx(exc, is_connected=True), exc)
        if data:
            return data
        error = None if self._has_length else self._sent.protocol.exception()
        if isinstance(error, OSError):  # aiohttp takes every end of such a body for a clean one
            _raise(_as_httpx(error, is_connected=True), error)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the connection, unless the body has ended: then it is free already."""
        is_open = self._response.connection is not None
        self._response.close()
        if is_open and self._sent.transport is not None:
            self._sent.transport.abort()


def _raise(error: Exception, theirs: Exception | None = None) -> NoReturn:
    """Raise it with what the system said, and nothing of aiohttp: that holds the request."""
    cause = theirs.__cause__ if theirs is not None else None
    if isinstance(cause, OSError):
        cause.__traceback__ = cause.__cause__ = cause.__context__ = None
    try:
        raise error from cause if isinstance(cause, OSError) else None
    finally:
        error.__context__ = None


_KINDS: Final = (
    (aiohttp.SocketTimeoutError, httpx.ReadTimeout),
    (TimeoutError, httpx.ConnectTimeout),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError),
    (aiohttp.ClientProxyConnectionError, httpx.ProxyError),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError),
)


def _as_httpx(exc: Exception, *, is_connected: bool) -> httpx.TransportError:
    """What httpx would raise where aiohttp raised this."""
    kind = next((kind for theirs, kind in _KINDS if isinstance(exc, theirs)), httpx.ReadError)
    if not is_connected and kind in (httpx.ReadError, httpx.RemoteProtocolError):
        kind = httpx.ConnectError
    return kind(" ".join(_reason(exc).split()))


def _reason(exc: Exception) -> str:
    """Why, and nothing of the request: some of aiohttp's messages hold its query."""
    match exc:
        case aiohttp.ClientResponseError():
            return exc.message
        case aiohttp.ServerDisconnectedError():
            return "Server disconnected"  # and not what came of the head
        case TimeoutError() | aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return ""
        case _:
            return str(exc.__cause__ or exc)


async def _on_connecting(_client: object, context: Any, _params: object) -> None:
    await context.trace_request_ctx.tell("connection.connect_tcp.started")
