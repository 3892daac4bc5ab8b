"""Our side: a session is opened, and its streams are read as a user reads them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from streamsession import AsyncSession

from .reading import PROMPT, Open, Read, Reading, counted

__all__ = ["collected", "ours"]


def ours(
    session_class: type[AsyncSession[Any]],
    *,
    transport: Callable[[], httpx.AsyncBaseTransport | None] = lambda: None,
    keep_reply: bool | None = None,
) -> Open:
    """A session of this class, read event by event."""

    @asynccontextmanager
    async def opened(url: str) -> AsyncGenerator[Read]:
        async with session_class(
            base_url=url, api_key="none", transport=transport(), keep_reply=keep_reply
        ) as session:

            async def read(model: str) -> Reading:
                return await counted(session.stream(PROMPT, model=model))

            yield read

    return opened


def collected(session_class: type[AsyncSession[Any]]) -> Open:
    """A session of this class, whose streams are collected and their text asked for."""

    @asynccontextmanager
    async def opened(url: str) -> AsyncGenerator[Read]:
        async with session_class(base_url=url, api_key="none") as session:

            async def read(model: str) -> Reading:
                reply = await session.stream(PROMPT, model=model).collect()
                assert reply.text  # noqa: S101 - is what collecting is for
                return Reading(len(reply.events), 0.0)

            yield read

    return opened
