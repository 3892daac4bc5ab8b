"""Our side: a session is opened, and its streams are read as a user reads them.

The transports of ours are here, too, as a floor may stand on them as well.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from streamsession import AsyncSession
from streamsession._transport import HTTPTransport
from streamsession.aiohttp import AiohttpTransport
from streamsession.http2 import HTTP2Transport

from .floors import LIMITS, Transport
from .reading import PROMPT, Address, Open, Read, Reading, counted

__all__ = [
    "collected",
    "on_a_client",
    "our_aiohttp_transport",
    "our_http2_transport",
    "our_transport",
    "ours",
]


def our_transport(_: Address) -> httpx.AsyncBaseTransport:
    """What a session stands on that was told nothing else."""
    return HTTPTransport(LIMITS)


def our_aiohttp_transport(_: Address) -> httpx.AsyncBaseTransport:
    """That of the extra `[aiohttp]`."""
    return AiohttpTransport()


def our_http2_transport(address: Address) -> httpx.AsyncBaseTransport:
    """That of the extra `[http2]`."""
    return HTTP2Transport(verify=address.trusted())


def ours(
    session_class: type[AsyncSession[Any]],
    *,
    transport: Transport | None = None,
    over_tls: bool = False,
    keep_reply: bool | None = None,
) -> Open:
    """A session of this class, read event by event."""

    @asynccontextmanager
    async def opened(address: Address) -> AsyncGenerator[Read]:
        async with session_class(
            base_url=address.https if over_tls else address.http,
            api_key="none",
            transport=transport and transport(address),
            keep_reply=keep_reply,
        ) as session:
            yield _reader(session)

    return opened


def on_a_client(session_class: type[AsyncSession[Any]]) -> Open:
    """A session of this class that was handed httpx's own client."""

    @asynccontextmanager
    async def opened(address: Address) -> AsyncGenerator[Read]:
        async with (
            httpx.AsyncClient(limits=LIMITS) as client,
            session_class(base_url=address.http, api_key="none", http_client=client) as session,
        ):
            yield _reader(session)

    return opened


def _reader(session: AsyncSession[Any]) -> Read:
    async def read(model: str) -> Reading:
        return await counted(session.stream(PROMPT, model=model))

    return read


def collected(session_class: type[AsyncSession[Any]]) -> Open:
    """A session of this class, whose streams are collected and their text asked for."""

    @asynccontextmanager
    async def opened(address: Address) -> AsyncGenerator[Read]:
        async with session_class(base_url=address.http, api_key="none") as session:

            async def read(model: str) -> Reading:
                reply = await session.stream(PROMPT, model=model).collect()
                assert reply.text  # noqa: S101 - is what collecting is for
                return Reading(len(reply.events), 0.0)

            yield read

    return opened
