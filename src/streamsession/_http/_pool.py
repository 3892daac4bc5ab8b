"""The connections of a session, and how one request gets its answer over them."""

import re
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import urljoin, urlsplit

import httpx
from anyio import CancelScope, Semaphore
from anyio.lowlevel import checkpoint

from .._auth import Credentials
from .._errors import InvalidRequest, SessionStateError, StatusError
from .._request import Request, check_headers, join_url, origin
from .._runtime import Guarded
from ._response import Response
from ._translate import forget_locals, raise_as_ours

__all__ = ["Auth", "HTTPClient", "Limits", "Pool", "Transport"]

Auth: TypeAlias = Credentials | httpx.Auth
Limits: TypeAlias = httpx.Limits
Transport: TypeAlias = httpx.AsyncBaseTransport

# Streams are long and idle connections few: hundreds at once, where httpx's own default is 100.
_LIMITS: Final = httpx.Limits(max_connections=1000, max_keepalive_connections=20)
_MAX_REDIRECTS: Final = 5
_UNSENDABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NO_URL: Final = "redirected to what is no URL"


class HTTPClient(Protocol):
    """What a handed-in client must do: `httpx.AsyncClient` does, `httpx2.AsyncClient` too."""

    @property
    def is_closed(self) -> bool: ...

    def build_request(self, method: str, url: Any, *args: Any, **kwargs: Any) -> Any: ...

    async def send(self, request: Any, *args: Any, **kwargs: Any) -> Any: ...


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
        new_transport: Callable[[Limits], Transport],
        client: HTTPClient | None,
        request_id_headers: tuple[str, ...],
    ) -> None:
        if hasattr(client, "__enter__"):
            raise TypeError("http_client must be asynchronous: an AsyncClient, not a Client")
        if not isinstance(auth, Auth | None) and not hasattr(auth, "async_auth_flow"):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("auth must be Credentials, such as BearerAuth(key), or an httpx.Auth")
        self._base_url = base_url
        self._headers = headers
        self._auth = auth
        self._limits = limits or _LIMITS
        self._transport = transport
        self._new_transport = new_transport  # if none was handed in
        self._client: Any = client
        self._is_own = client is None
        self._request_id_headers = request_id_headers
        # A request cancelled while it queues in httpcore's pool can leave a connection there for
        # good (https://github.com/encode/httpcore/issues/1093): so ours never queue there.
        size = _size_of(transport or getattr(client, "_transport", None))
        if client is None and (limits is not None or size is None):
            sizes = (size, self._limits.max_connections)
            size = min((each for each in sizes if each is not None), default=None)
        self._slots = None if size is None else Semaphore(size, fast_acquire=True)

    @property
    def is_full(self) -> bool:
        """Whether the next request must wait for another to end."""
        return self._slots is not None and self._slots.value == 0

    def open(self) -> None:
        """Make a client, unless one was handed in."""
        if self._is_own:
            self._client = _Client(transport=self._transport or self._new_transport(self._limits))

    async def aclose(self) -> None:
        """Close every connection of a client of our own."""
        if self._is_own and self._client is not None:
            await self._client.aclose()

    async def send(
        self, request: Request, *, headers: Mapping[str, str], connect_timeout: float | None
    ) -> Response:
        """The answer to a request, its body still to be read.

        A redirect is followed within the origin only, so that neither credentials nor body reach
        another. After a 401, credentials that can be made new are, once.

        Args:
            request: What to send.
            headers: Sent with it, under the session's and the request's own.
            connect_timeout: Seconds to reach the server; None for no limit.

        Raises:
            ConnectFailed: No connection could be made.
            InvalidRequest: The library refused to send it.
            SessionStateError: The handed-in client was closed.
            StatusError: A redirect must not be followed.
            StreamInterrupted: The connection broke before the answer.
            TimedOut: The connect clock ran out.
            UnexpectedContent: The body has a compression that was not asked for.
        """
        if self._client.is_closed:
            raise SessionStateError("the http_client was closed before its session; close it after")
        if self._slots is not None:
            await self._slots.acquire()
        sending = _Sending(self._client, self._auth, connect_timeout)
        try:
            raw = await sending.answer(
                request, join_url(self._base_url, request.path), {**headers, **self._headers}
            )
            names = (name for name in self._request_id_headers if name in raw.headers)
            request_id = raw.headers[name] if (name := next(names, None)) else None
            return Response(
                raw, request_id=request_id, reused=sending.reused, on_close=self._release
            )
        except BaseException as exc:
            forget_locals(exc)
            try:
                if sending.raw is not None:
                    await Guarded(sending.raw.aclose(), cancels=0)
            finally:
                self._release()
            raise

    def _release(self) -> None:
        if self._slots is not None:
            self._slots.release()


class _NoCookies(httpx.Cookies):
    def extract_cookies(self, response: httpx.Response) -> None:
        """Leave them where they are."""


class _Client(httpx.AsyncClient):
    """Keeps no cookies, and does not spend a tenth of a request on finding that out."""

    _none = _NoCookies()

    @property
    def cookies(self) -> httpx.Cookies:
        return self._none

    @cookies.setter
    def cookies(self, cookies: Any) -> None:
        raise NotImplementedError


def _size_of(transport: Any) -> int | None:
    """How many requests a handed-in transport takes at once; None if it cannot be told."""
    pool = getattr(transport, "_pool", None)
    size = None if getattr(pool, "_http2", False) else getattr(pool, "_max_connections", None)
    return size if isinstance(size, int) and size < sys.maxsize else None  # which is no limit


class _Sending:
    """One request on its way to its answer: signed, redirected, and cancelled only where it may be.

    httpcore loses a connection for good that is cancelled when it is made but not yet used
    (https://github.com/encode/httpcore/issues/1093). Its trace extension tells when that is:
    cancelling waits until it is over.
    """

    _guarded: Guarded[Any]

    def __init__(self, client: Any, auth: Auth | None, connect_timeout: float | None) -> None:
        self._client = client
        self._auth = auth
        self._timeouts = (connect_timeout, None, None, None)  # connect, read, write, pool
        self._connected = False
        self.raw: Any = None  # the last answer; lost to the caller if a cancellation comes with it
        self._status = 0  # of an answer that the library may then refuse
        self._socket: Any = None  # without TLS yet: httpcore forgets it if that fails
        self._tunnelling = False  # through a proxy, to which this was the last request
        self.reused = False

    def answer(self, request: Request, url: str, headers: Mapping[str, str]) -> Guarded[Any]:
        """The answer, to be awaited."""
        self._guarded = Guarded(self._signed(request, url, headers))
        return self._guarded

    async def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        """Told of every step of httpcore (https://www.encode.io/httpcore/extensions/#trace)."""
        connecting = name.startswith("connection.")
        self._connected |= connecting
        self.reused = not self._connected
        if name == "http11.send_request_headers.started":
            self._tunnelling = info["request"].method == b"CONNECT"
        elif name == "http11.receive_response_headers.complete":
            self._status = info["return_value"][1]
        elif name == "http2.receive_response_headers.complete":
            self._status = info["return_value"][0]
        if name == "connection.connect_tcp.complete":
            self._socket = info["return_value"]
        elif name not in ("connection.start_tls.started", "connection.start_tls.failed"):
            self._socket = None
        if connecting and name.endswith(".complete"):
            self._guarded.hold()
        else:
            self._guarded.release()

    async def _signed(self, request: Request, url: str, headers: Mapping[str, str]) -> Any:
        """Send with the session's credentials, and once more with new ones after a 401."""
        auth = self._auth
        if not isinstance(auth, Credentials):
            return await self._redirected(request, url, headers, auth)
        secret = await auth.headers()
        signed = {**headers, **check_headers(secret)}
        raw = await self._redirected(request, url, signed, auth)
        try:
            if raw.status_code != 401 or not request.replayable or not await auth.refresh(secret):  # noqa: PLR2004
                return raw
        except BaseException:
            await raw.aclose()
            raise
        await raw.aclose()
        signed = {**headers, **check_headers(await auth.headers())}
        return await self._redirected(request, url, signed, auth)

    async def _sent(self, request: Any, auth: Auth | None) -> Any:
        """The answer to one request, and to those that an `httpx.Auth` makes of it.

        Left to the library, the body of each answer but the last would be read, however long.
        """
        if auth is None or isinstance(auth, Credentials):
            own = {} if auth is None else {"auth": None}
            return await self._sent_once(request, **own)
        flow = auth.async_auth_flow(request)
        try:
            request = await anext(flow)
            while True:
                raw = await self._sent_once(request, auth=None)
                try:
                    request = await flow.asend(raw)
                except StopAsyncIteration:
                    return raw
                except BaseException:
                    await raw.aclose()
                    raise
                await raw.aclose()
        finally:
            await flow.aclose()

    async def _sent_once(self, request: Any, **own: None) -> Any:
        for name, value in request.headers.items():
            if _UNSENDABLE.search(value):  # which httpcore would log
                raise InvalidRequest(f"header {name!r} must be text without line breaks")
        sending = self._client.send(request, stream=True, follow_redirects=False, **own)
        self.raw = raw = await sending
        return raw

    async def _close_socket(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            with CancelScope(shield=True):
                await sock.aclose()

    async def _redirected(
        self, request: Request, url: str, headers: Mapping[str, str], auth: Auth | None
    ) -> Any:
        """Send, and follow redirects within the origin."""
        body = None if isinstance(request.content, bytes | None) else _Body(request.content)
        method, content = request.method, body or request.content
        options: dict[str, Any] = {
            "headers": {**headers, **request.headers},
            "timeout": self._timeouts,
            "extensions": {"trace": self._trace},
        }
        if request.params:  # build_request(params=) would drop the query of the path
            url = _with_params(url, request.params)
        status = 0
        for _ in range(1 + _MAX_REDIRECTS):
            self._status, built = 0, None
            try:
                built = self._client.build_request(method, url, content=content, **options)
                raw = await self._sent(built, auth)
            except Exception as exc:
                if body is not None and body.error is exc:
                    raise
                names = {cls.__name__ for cls in type(exc).__mro__}
                refused = built is not None and not names.isdisjoint({"InvalidURL", "IDNAError"})
                if refused or (300 <= self._status < 400 and not self._tunnelling):  # noqa: PLR2004
                    raise StatusError(_NO_URL, status=self._status) from exc  # of the location
                raise_as_ours(exc, answered=False, connected=not self._tunnelling, url=url)
            finally:
                self._guarded.release()
                await self._close_socket()
                if body is not None:
                    await body.aclose()
            status = raw.status_code
            if status not in (301, 302, 303, 307, 308) or "location" not in raw.headers:
                return raw
            await raw.aclose()
            url = _redirect_target(str(built.url), raw.headers["location"], status)
            if status not in (307, 308):  # only these repeat method and body
                method, content = "GET", None
            elif not request.replayable:
                raise StatusError("redirected, but the body can be sent once", status=status)
        raise StatusError(f"more than {_MAX_REDIRECTS} redirects", status=status)


class _Body(AsyncIterator[bytes]):
    """A body that the caller makes; what it raises is the caller's, not the transport's."""

    def __init__(self, content: AsyncIterable[bytes]) -> None:
        self.error: Exception | None = None
        self._pieces = aiter(content)

    async def __anext__(self) -> bytes:
        await checkpoint()  # the server may have answered already, and others wait for their turn
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            raise
        except Exception as exc:
            self.error = exc
            raise

    async def aclose(self) -> None:
        """Close the generator that makes it, which may not have come to its end."""
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()


def _with_params(url: str, params: Mapping[str, Any]) -> str:
    try:
        return str(httpx.URL(url).copy_merge_params(params))
    except UnicodeEncodeError as exc:
        raise InvalidRequest(f"params= cannot be sent: {exc.reason}") from None
    except Exception as exc:  # noqa: BLE001 - translated or raised again
        raise_as_ours(exc, answered=False)


def _redirect_target(url: str, location: str, status: int) -> str:
    """Where a redirect leads, if it may be followed."""
    try:
        target = urljoin(url, location)
        scheme, host, port = origin(target)
    except ValueError:
        raise StatusError(_NO_URL, status=status) from None
    if (scheme, host, port) == origin(url):
        if "@" in urlsplit(target).netloc:
            raise StatusError("redirected to a URL with credentials: not followed", status=status)
        return target
    raise StatusError(
        f"redirected to another origin, {scheme}://{host}:{port}: not followed, so that no "
        "credentials reach it; if it is right, make it the base_url",
        status=status,
    )
