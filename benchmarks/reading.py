"""What all contenders have in common: how they are opened, and what reading a stream tells."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

__all__ = ["PROMPT", "Address", "Open", "Read", "Reading", "counted", "order", "settle"]

PROMPT: Final = "Say something long."

_LOOKS_EVERY: Final = 0.1  # seconds
_IDLE: Final = 0.02  # of a core: more than looking costs, less than a thousand events a second


class Address(NamedTuple):
    """Where the server is.

    Attributes:
        http: The URL at which it speaks HTTP/1.1.
        https: The URL at which it speaks HTTP/2, over TLS.
        authority: Who certifies it there, as PEM.
    """

    http: str
    https: str
    authority: str

    def trusted(self) -> ssl.SSLContext:
        """A new context that trusts it, and nobody else."""
        return ssl.create_default_context(cadata=self.authority)


class Reading(NamedTuple):
    """What reading a stream to its end told.

    Attributes:
        events: How many events were handed over.
        first: When the first of them was, by `time.perf_counter`.
    """

    events: int
    first: float


Read: TypeAlias = Callable[[str], Awaitable[Reading]]
"""Reads the answer of the model of this name to its end; fails if its final event did not come."""

Open: TypeAlias = Callable[[Address], AbstractAsyncContextManager[Read]]
"""Opens a client on the server there."""


async def counted(events: AsyncIterable[Any]) -> Reading:
    """What reading these told, as one reads them who does nothing with them."""
    count, first = 0, 0.0
    async for _ in events:
        count += 1
        first = first or time.perf_counter()
    return Reading(count, first)


async def order(address: Address, path: str) -> int:
    """Have the server do something with all answers that are open, at next to no cost of our own.

    Returns:
        How many they were, when it is done.
    """
    url = urlsplit(address.http)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(f"POST {path} HTTP/1.1\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    answers = int(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return answers


async def settle(*, within: float = 60.0) -> None:
    """Wait until this process has nothing left to do.

    Raises:
        TimeoutError: It still works after so many seconds.
    """
    async with asyncio.timeout(within):
        is_idle = False
        while not is_idle:
            before = time.process_time()
            await asyncio.sleep(_LOOKS_EVERY)
            is_idle = time.process_time() - before < _IDLE * _LOOKS_EVERY
