"""The transport: which pool of httpcore carries a request."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Self

import httpcore
import httpx

from .._errors import ConnectFailed
from .._http import UNSCOPED, forget_locals, tls_context
from .._proxies import Proxies
from .._runtime import is_asyncio
from ._sockets import Connection, Sockets

__all__ = ["HTTPTransport", "Pools", "Share"]

# At every request httpcore looks at each connection of its pool: at 1000 that takes a millisecond,
# as much as ten events. So many share one.
_PER_POOL: Final = 100
_UNLIMITED: Final = 1000  # connections, to share the idle ones among
_PIECES: Final = "streamsession.pieces"


@dataclass(eq=False)
class Share:
    """One of the pools that share the connections.

    Attributes:
        pool: Holds its connections.
        room: How many more requests it takes.
    """

    pool: httpcore.AsyncConnectionPool
    room: int


class HTTPTransport(httpx.AsyncHTTPTransport):
    """Carries requests as httpx's own transport does, at less cost: on asyncio, see `Sockets`.

    It is one, but for its pool: whatever tests or traces that finds this one, too.
    """

    def __init__(self, limits: httpx.Limits, *, verify: ssl.SSLContext | None = None) -> None:
        """Nothing is opened before the first request.

        Args:
            limits: Of all its connections together: whoever uses it keeps within them.
            verify: Whom to trust; None trusts whom httpx does.
        """
        # Instead of what httpx's own makes for itself, which is asked for no more than this.
        self._pool: Any = Pools(limits, verify)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to a request, its body still to be read."""
        response = await super().handle_async_request(request)
        pieces = response.extensions.pop(_PIECES, None)
        if pieces is not None:
            response.extensions[UNSCOPED] = (response.stream, pieces)
        return response


class Pools:
    """Several pools that share what one may hold."""

    def __init__(self, limits: httpx.Limits, tls: ssl.SSLContext | None) -> None:
        self._limits = limits
        self._tls = tls
        self._proxies = Proxies()
        self._number = -(-(limits.max_connections or _UNLIMITED) // _PER_POOL)
        self._shares: dict[str | None, list[Share]] = {}  # by proxy

    async def handle_async_request(self, request: httpcore.Request) -> Any:
        """The answer to a request, its body still to be read."""
        url = request.url
        proxy = self._proxies.before(url.scheme.decode("ascii"), url.host.decode("ascii"))
        share = self.take(proxy)
        try:
            response: Any = await share.pool.handle_async_request(request)
        except BaseException:
            share.room += 1
            raise
        response.stream = body = _Body(response.stream, share)
        if isinstance(response.extensions.get("network_stream"), Connection):
            response.extensions[_PIECES] = aiter(body)
        return response

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection of every pool, even if closing another fails."""
        async with AsyncExitStack() as stack:
            for share in (each for shares in self._shares.values() for each in shares):
                stack.push_async_callback(share.pool.aclose)
        self._shares.clear()

    def take(self, proxy: str | None) -> Share:
        """The first pool that takes another request, so that idle connections are used again.

        Raises:
            ConnectFailed: The proxy that the environment names cannot be used.
        """
        shares = self._shares.setdefault(proxy, [])
        share = next((each for each in shares if each.room), None)
        if share is None:
            shares.append(share := self._new_share(len(shares), proxy))
        share.room -= 1
        return share

    def _new_share(self, index: int, proxy: str | None) -> Share:
        size, idle = self._part(index)
        try:
            pool = httpcore.AsyncConnectionPool(
                ssl_context=self._tls or tls_context(),
                proxy=None if proxy is None else _proxy(proxy),
                max_connections=size,
                max_keepalive_connections=idle,
                keepalive_expiry=self._limits.keepalive_expiry,
                network_backend=Sockets() if is_asyncio() else None,
            )
        except (ImportError, ValueError) as exc:
            forget_locals(exc)
            raise ConnectFailed(f"the proxy of the environment cannot be used: {exc}") from exc
        return Share(pool, size)

    def _part(self, index: int) -> tuple[int, int | None]:
        """How many connections one of the pools may hold, and how many of them idle.

        The first, which is asked first, has most of the idle ones.
        """
        most, idle = self._limits.max_connections, self._limits.max_keepalive_connections
        each, more = (_PER_POOL, 0) if most is None else divmod(most, self._number)
        if idle is not None:
            others = self._number - 1
            first = min(each + (more > 0), idle - others * min(1, idle // self._number))
            idle = first if index == 0 else (idle - first) // others
        return each + (index < more), idle


def _proxy(url: str) -> httpcore.Proxy:
    proxy = httpx.Proxy(url)
    if proxy.url.scheme.startswith("socks"):
        import_module("socksio")  # which httpcore would only ask for later
    address = httpcore.URL(
        scheme=proxy.url.raw_scheme,
        host=proxy.url.raw_host,
        port=proxy.url.port,
        target=proxy.url.raw_path,
    )
    return httpcore.Proxy(address, auth=proxy.raw_auth)


class _Body:
    """The body of a response, as it arrives."""

    def __init__(self, stream: Any, share: Share) -> None:
        self._stream = stream
        self._share: Share | None = share

    def __aiter__(self) -> AsyncIterator[bytes]:
        pieces: AsyncIterator[bytes] = aiter(self._stream)
        return pieces

    async def aclose(self) -> None:
        """Give the connection back to its pool, or close it if the body has not ended."""
        share, self._share = self._share, None
        try:
            await self._stream.aclose()
        finally:
            if share is not None:
                share.room += 1
