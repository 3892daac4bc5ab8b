"""The HTTP library's clients of a pool: as many of them as its connections take."""

import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx

from .._errors import ConnectFailed
from ._tls import tls_context
from ._translate import forget_locals

__all__ = ["Client", "Clients"]

# At every request httpcore looks at each connection of its pool: at 1000 that takes a millisecond,
# as much as ten events. So many share one.
_PER_CLIENT: Final = 100
_UNLIMITED: Final = 1000  # connections, to share the idle ones among


@dataclass(eq=False)
class Client:
    """One of the clients.

    Attributes:
        library: That of the HTTP library.
        room: How many more requests it takes.
    """

    library: httpx.AsyncClient
    room: int


class Clients:
    """Clients that share what a pool may hold; each is made when the others are full."""

    def __init__(self, limits: httpx.Limits, transport: httpx.AsyncBaseTransport | None) -> None:
        """Make the first.

        Args:
            limits: Of all of them together.
            transport: Carries the requests of one client; its limits are its own.

        Raises:
            ConnectFailed: The proxy that the environment names cannot be used.
        """
        self._limits = limits
        self._transport = transport
        self._number = -(-(limits.max_connections or _UNLIMITED) // _PER_CLIENT)
        self._clients: list[Client] = []
        self._add()

    def take(self) -> Client:
        """The first that takes another request, so that idle connections are used again."""
        client = next((each for each in self._clients if each.room), None) or self._add()
        client.room -= 1
        return client

    async def aclose(self) -> None:
        """Close every connection of every client, even if closing another fails."""
        async with AsyncExitStack() as stack:
            for client in self._clients:
                stack.push_async_callback(client.library.aclose)

    def _add(self) -> Client:
        limits = self._limits if self._transport else self._share_of(len(self._clients))
        jar = CookieJar(DefaultCookiePolicy(allowed_domains=()))  # keeps none
        try:
            library = httpx.AsyncClient(
                verify=tls_context(), cookies=jar, limits=limits, transport=self._transport
            )
        except (ImportError, ValueError) as exc:
            forget_locals(exc)
            raise ConnectFailed(f"the proxy of the environment cannot be used: {exc}") from exc
        room = sys.maxsize if self._transport else limits.max_connections
        self._clients.append(client := Client(library, room or _PER_CLIENT))
        return client

    def _share_of(self, index: int) -> httpx.Limits:
        """What one of them may hold; the first, which is asked first, has most of the idle ones."""
        most, idle = self._limits.max_connections, self._limits.max_keepalive_connections
        each, more = (_PER_CLIENT, 0) if most is None else divmod(most, self._number)
        size = each + (index < more)
        if idle is not None:
            others = self._number - 1
            first = min(each + (more > 0), idle - others * min(1, idle // self._number))
            idle = first if index == 0 else (idle - first) // others
        expiry = self._limits.keepalive_expiry
        return httpx.Limits(
            max_connections=size, max_keepalive_connections=idle, keepalive_expiry=expiry
        )
