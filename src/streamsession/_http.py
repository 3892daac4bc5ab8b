"""The only room that knows the HTTP library: a connection pool, and one response read from it.

It speaks to httpx and to anything with httpx's interface, such as an `httpx2.AsyncClient`. It knows
nothing of frames, events, retries or clocks; whoever awaits it sets the limits.
"""

import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, NoReturn, Protocol, TypeAlias
from urllib.parse import urljoin, urlsplit

import httpx
from anyio import Semaphore

from ._auth import Credentials
from ._errors import (
    ConnectFailed,
    InvalidRequest,
    SessionStateError,
    StatusError,
    StreamError,
    StreamInterrupted,
    TimedOut,
    UnexpectedContent,
)
from ._request import Request, check_headers, join_url
from ._runtime import cancelled_once

__all__ = ["Auth", "HTTPClient", "Limits", "Pool", "Response", "Transport", "translate"]

Auth: TypeAlias = Credentials | httpx.Auth
Limits: TypeAlias = httpx.Limits
Transport: TypeAlias = httpx.AsyncBaseTransport


class HTTPClient(Protocol):
    """What a handed-in client must do: `httpx.AsyncClient` does, `httpx2.AsyncClient` too."""

    @property
    def is_closed(self) -> bool: ...

    def build_request(self, method: str, url: Any, **options: Any) -> Any: ...

    async def send(self, request: Any, **options: Any) -> Any: ...


# Streams are long and idle connections few: hundreds at once, where httpx's default is 100.
_LIMITS: Final = httpx.Limits(max_connections=1000, max_keepalive_connections=20)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_KEEPING_REDIRECTS: Final = frozenset({307, 308})  # these repeat method and body
_MAX_REDIRECTS: Final = 5  # more than one is a mistake already; curl stops at 50, httpx at 20
_PIECE: Final = 64 * 1024  # bytes inflated at a time: what httpcore reads from a socket at a time


class Response:
    """One answer of the server; read it to its end or close it.

    Attributes:
        status: The HTTP status code.
        headers: The response's headers; look-up ignores case.
        request_id: The server's id of this response; None if it named none.
    """

    def __init__(self, raw: Any, *, request_id: str | None, on_close: Callable[[], None]) -> None:
        self.status: int = raw.status_code
        self.headers: Mapping[str, str] = raw.headers
        self.request_id = request_id
        self._raw = raw
        # Not aiter_raw(), which adds a layer, nor aiter_bytes(), which inflates without a bound.
        self._chunks: AsyncIterator[bytes] = aiter(raw.stream)
        self._inflater = _Inflater() if _is_compressed(self) else None
        self._on_close = on_close
        self._closed = False

    def __repr__(self) -> str:
        return f"<Response {self.status} request_id={self.request_id!r}>"

    @property
    def content_type(self) -> str:
        """The media type without its parameters, in lower case; "" if none was named."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """The next bytes of the body, decompressed, as soon as there are any; b"" at its end.

        Cancelling closes the connection.

        Raises:
            StreamInterrupted: The connection broke, or the compression is damaged.
        """
        if self._inflater is None:
            return await self._read_chunk()
        while not (piece := self._inflater.piece()):
            chunk = await self._read_chunk()
            if not chunk:
                self._inflater.end()
                return b""
            self._inflater.add(chunk)
        return piece

    async def aclose(self) -> None:
        """Give the connection back: for reuse if the body was read to its end, else closed."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._raw.aclose()
        except Exception as exc:  # noqa: BLE001 - translated or raised again
            _raise_as_ours(exc, answered=True)
        finally:
            self._on_close()

    async def _read_chunk(self) -> bytes:
        try:
            while not (chunk := await cancelled_once(anext(self._chunks))):
                pass
        except StopAsyncIteration:
            return b""
        except Exception as exc:  # noqa: BLE001 - translated or raised again
            _raise_as_ours(exc, answered=True)
        return chunk


class Pool:
    """The connections of a session: made on `open`, or handed in and then never closed here."""

    def __init__(
        self,
        *,
        base_url: str,
        headers: Mapping[str, str],
        auth: Auth | None,
        limits: Limits | None,
        transport: Transport | None,
        client: HTTPClient | None,
        request_id_headers: tuple[str, ...],
    ) -> None:
        self._base_url = base_url
        self._headers = headers
        self._auth = auth
        self._limits = limits or _LIMITS
        self._transport = transport
        self._handed_in = client
        self._client = client
        self._owned: httpx.AsyncClient | None = None
        self._request_id_headers = request_id_headers
        # A request cancelled while it queues in httpcore's pool can leave a connection there for
        # good (https://github.com/encode/httpcore/issues/1093): so ours never queue there.
        size = None if client or transport else self._limits.max_connections
        self._slots = None if size is None else Semaphore(size, fast_acquire=True)

    @property
    def is_full(self) -> bool:
        """Whether the next request must wait for another to end."""
        return self._slots is not None and self._slots.value == 0

    def open(self) -> None:
        """Make the client, unless one was handed in."""
        if self._client is None:
            self._client = self._owned = httpx.AsyncClient(
                limits=self._limits, transport=self._transport
            )

    async def aclose(self) -> None:
        """Close every connection of a client of our own."""
        if self._owned is not None:
            await self._owned.aclose()

    async def send(
        self, request: Request, *, headers: Mapping[str, str], connect_timeout: float | None
    ) -> Response:
        """The answer to a request, its body still to be read.

        A redirect is followed within the origin of the base URL only, so that neither credentials
        nor body reach another. A 401 makes refreshable credentials new, once.

        Args:
            request: What to send.
            headers: Sent with it, after the session's and before the request's own.
            connect_timeout: Seconds to reach the server; None for no limit.

        Raises:
            ConnectFailed: No connection could be made.
            InvalidRequest: The library refused to send it.
            SessionStateError: The handed-in client was closed.
            StatusError: The redirect must not be followed.
            StreamInterrupted: The connection broke before the answer.
            TimedOut: The connect clock ran out.
            UnexpectedContent: The body has a compression that was not asked for.
        """
        if self._slots is not None:
            await self._slots.acquire()
        try:
            raw = await cancelled_once(self._authorised(request, headers, connect_timeout))
        except BaseException:
            self._release_slot()
            raise
        request_id = next(
            (raw.headers[name] for name in self._request_id_headers if name in raw.headers), None
        )
        return Response(raw, request_id=request_id, on_close=self._release_slot)

    def _release_slot(self) -> None:
        if self._slots is not None:
            self._slots.release()

    async def _authorised(
        self, request: Request, headers: Mapping[str, str], connect_timeout: float | None
    ) -> Any:
        """Send with the session's credentials, and once more with new ones after a 401."""
        auth = self._auth
        plain = {**self._headers, **headers}
        if not isinstance(auth, Credentials):
            extra = {} if auth is None else {"auth": auth}
            return await self._redirected(request, plain, timeout=connect_timeout, **extra)

        async def attempt(secret: Mapping[str, str]) -> Any:
            signed = {**plain, **check_headers(secret)}
            return await self._redirected(request, signed, timeout=connect_timeout, auth=None)

        secret = await auth.headers()
        raw = await attempt(secret)
        if raw.status_code == 401 and request.replayable:  # noqa: PLR2004
            try:
                renewed = await auth.refresh(secret)
            except BaseException:
                await raw.aclose()
                raise
            if renewed:
                await raw.aclose()
                raw = await attempt(await auth.headers())
        return raw

    async def _redirected(
        self, request: Request, headers: Mapping[str, str], *, timeout: float | None, **auth: Any
    ) -> Any:
        """Send, and follow redirects within the origin."""
        options = {
            "headers": {**headers, **request.headers},
            "timeout": (timeout, None, None, None),
        }
        method, content, params = request.method, request.content, request.params or None
        url = join_url(self._base_url, request.path)
        for _ in range(1 + _MAX_REDIRECTS):
            built = self._build(method, url, params=params, content=content, **options)
            raw = await self._send(built, auth)
            if raw.status_code not in _REDIRECTS or "location" not in raw.headers:
                return raw
            await raw.aclose()
            url = _redirect_target(str(built.url), raw, replayable=request.replayable)
            params = None
            if raw.status_code not in _KEEPING_REDIRECTS and method != "HEAD":
                method, content = "GET", None
        raise StatusError(
            f"the server redirected more than {_MAX_REDIRECTS} times", status=raw.status_code
        )

    def _build(self, method: str, url: str, **options: Any) -> Any:
        if self._client is None or self._client.is_closed:
            raise SessionStateError("the http_client was closed before its session; close it after")
        try:
            return self._client.build_request(method, url, **options)
        except Exception as exc:  # noqa: BLE001 - translated or raised again
            _raise_as_ours(exc, answered=False)

    async def _send(self, built: Any, auth: Mapping[str, Any]) -> Any:
        client = self._client
        try:
            return await client.send(built, stream=True, follow_redirects=False, **auth)
        except Exception as exc:  # noqa: BLE001 - translated or raised again
            _raise_as_ours(exc, answered=False)


def _redirect_target(url: str, raw: Any, *, replayable: bool) -> str:
    """Where a redirect leads, if it may be followed."""
    status = raw.status_code
    try:
        target = urljoin(url, raw.headers["location"])
        same_origin = _origin(target) == _origin(url)
    except ValueError:
        raise StatusError("the server redirected to no valid URL", status=status) from None
    if not same_origin:
        raise StatusError(
            "the server redirected to another origin, "
            f"{'://'.join(map(str, _origin(target)[:2]))}: not followed, so that no credentials "
            "reach it; if it is right, make it the base_url",
            status=status,
        )
    if status in _KEEPING_REDIRECTS and not replayable:
        raise StatusError("redirected, but the body cannot be sent a second time", status=status)
    return target


def _origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port (https://www.rfc-editor.org/rfc/rfc6454#section-4)."""
    parts = urlsplit(url)
    return (
        parts.scheme,
        parts.hostname or "",
        parts.port or (443 if parts.scheme == "https" else 80),
    )


def _is_compressed(response: Response) -> bool:
    """Whether the body must be inflated.

    Raises:
        UnexpectedContent: It is compressed in a way that was not asked for.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("gzip", "x-gzip", "deflate"):
        return True
    if encoding in ("identity", ""):
        return False
    raise UnexpectedContent(
        f"the body is compressed with {encoding!r}, which was not asked for",
        content_type=response.content_type,
    )


class _Inflater:
    """Inflates gzip and deflate a piece at a time, so that a bomb cannot fill the memory."""

    def __init__(self) -> None:
        self._new = lambda: zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by the header
        self._stream = self._new()
        self._pending = b""

    def add(self, chunk: bytes) -> None:
        """Take in compressed bytes; call only when `piece` has none left."""
        self._pending += chunk

    def piece(self) -> bytes:
        """Up to 64 KiB of what the compressed bytes hold; b"" if more of them are needed."""
        while self._pending:
            if self._stream.eof:  # another gzip member follows
                self._stream = self._new()
            try:
                piece = self._stream.decompress(self._pending, _PIECE)
            except zlib.error as exc:
                raise StreamInterrupted(f"the compressed body is damaged: {exc}") from exc
            self._pending = self._stream.unconsumed_tail or self._stream.unused_data
            if piece:
                return piece
        return b""

    def end(self) -> None:
        """Check that the compressed data has ended where the body did."""
        if not self._stream.eof:
            raise StreamInterrupted("the compressed body was cut")


# How the exceptions of httpx and httpx2 are told: by name, so that neither need be installed.
_HTTP_LIBRARIES: Final = frozenset({"httpx", "httpx2"})
_BELOW_HTTP: Final = frozenset({"anyio", "h11", "h2", "httpcore", "httpcore2", "trio"})
_OURS: Final[Mapping[str, type[StreamError | InvalidRequest]]] = {
    "CloseError": StreamInterrupted,
    "ConnectError": ConnectFailed,
    "ConnectTimeout": TimedOut,
    "CookieConflict": InvalidRequest,
    "DecodingError": StreamInterrupted,
    "HTTPError": StreamInterrupted,
    "HTTPStatusError": StatusError,
    "InvalidURL": InvalidRequest,
    "LocalProtocolError": InvalidRequest,
    "NetworkError": StreamInterrupted,
    "PoolTimeout": TimedOut,
    "ProtocolError": StreamInterrupted,
    "ProxyError": ConnectFailed,
    "ReadError": StreamInterrupted,
    "ReadTimeout": TimedOut,
    "RemoteProtocolError": StreamInterrupted,
    "RequestError": StreamInterrupted,
    "RequestNotRead": InvalidRequest,
    "ResponseNotRead": StreamInterrupted,
    "StreamClosed": StreamInterrupted,
    "StreamConsumed": StreamInterrupted,
    "StreamError": StreamInterrupted,
    "TimeoutException": TimedOut,
    "TooManyRedirects": StatusError,
    "TransportError": StreamInterrupted,
    "UnsupportedProtocol": InvalidRequest,
    "WriteError": StreamInterrupted,
    "WriteTimeout": TimedOut,
}


_WHAT_HAPPENED: Final[Mapping[type[Exception], str]] = {
    ConnectFailed: "could not connect",
    InvalidRequest: "the request cannot be sent",
    StatusError: "the HTTP client refused the answer",
    StreamInterrupted: "the connection broke",
}


def translate(exc: Exception, *, answered: bool) -> StreamError | InvalidRequest | None:
    """Our name for what a transport raised; None if it did not come from one.

    Args:
        exc: What was raised.
        answered: Whether the response had begun.
    """
    for cls in type(exc).__mro__:
        library = cls.__module__.partition(".")[0]
        if library in _HTTP_LIBRARIES and cls.__name__ in _OURS:
            ours = _OURS[cls.__name__]
            break
        if library in _BELOW_HTTP or cls is OSError:
            ours = StreamInterrupted if answered else ConnectFailed
            break
    else:
        return None
    if answered and issubclass(ours, InvalidRequest | ConnectFailed):
        ours = StreamInterrupted
    what = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    if ours is TimedOut:
        connecting = type(exc).__name__ == "ConnectTimeout"
        return TimedOut(
            "could not connect in time" if connecting else f"the connection timed out ({what})",
            clock="connect" if connecting else "idle" if answered else "first_event",
        )
    return ours(f"{_WHAT_HAPPENED[ours]} ({what})")


def _raise_as_ours(exc: Exception, *, answered: bool) -> NoReturn:
    ours = translate(exc, answered=answered)
    if ours is None:
        raise exc
    raise ours from exc
