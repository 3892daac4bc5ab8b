"""What all contenders have in common: how they are opened, and what reading a stream tells."""

import asyncio
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

__all__ = ["PROMPT", "Open", "Read", "Reading", "counted", "order", "settle"]

PROMPT: Final = "Say something long."

_LOOKS_EVERY: Final = 0.1  # seconds
_IDLE: Final = 0.02  # of a core: more than looking costs, less than a thousand events a second


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

Open: TypeAlias = Callable[[str], AbstractAsyncContextManager[Read]]
"""Opens a client on the server at this URL."""


async def counted(events: AsyncIterable[Any]) -> Reading:
    """What reading these told, as one reads them who does nothing with them."""
    count, first = 0, 0.0
    async for _ in events:
        count += 1
        first = first or time.perf_counter()
    return Reading(count, first)


async def order(url: str, path: str) -> None:
    """Have the server do something; returns when it is done, at next to no cost of our own."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"POST {path} HTTP/1.1\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()


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
