"""Chunks of OpenAI's Chat Completions, read as the same class by the SDK, the floors and ours.

That class is the SDK's own `ChatCompletionChunk`. "Own classes" are what one declares for oneself
who wants the text, and why it ended; "neutral events" are what the example makes of the chunks.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from openai import AsyncOpenAI, DefaultAioHttpClient
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel, TypeAdapter

from openai_chat import OpenAIChat
from streamsession import AsyncSession, Event, Stream

from ..floors import API, aiohttp_transport, over_httpx, over_socket
from ..ours import on_a_client, our_aiohttp_transport, our_transport, ours
from ..reading import PROMPT, Address, Open, Read, Reading, counted


class Delta(BaseModel):
    """What a chunk adds to an answer."""

    content: str | None = None


class Choice(BaseModel):
    """A piece of one of several answers."""

    index: int
    delta: Delta
    finish_reason: str | None = None


class Chunk(Event):
    """A chunk without what is of no use here."""

    choices: list[Choice]


def _body(model: str) -> dict[str, Any]:
    return {"model": model, "stream": True, "messages": [{"role": "user", "content": PROMPT}]}


class Chat(AsyncSession[ChatCompletionChunk]):
    """A session that yields the chunks of the wire."""

    final_marker = "[DONE]"

    def stream(self, prompt: str, *, model: str) -> Stream[ChatCompletionChunk]:
        """The answer to a prompt."""
        return self.open_stream("POST", "/chat/completions", json=_body(model))


class OwnChat(AsyncSession[Chunk]):
    """A session that yields the chunks as declared here."""

    final_marker = "[DONE]"

    def stream(self, prompt: str, *, model: str) -> Stream[Chunk]:
        """The answer to a prompt."""
        return self.open_stream("POST", "/chat/completions", json=_body(model))


def _api(chunk: type[BaseModel]) -> API:
    validate = TypeAdapter(chunk).validator.validate_json
    return API(path="/chat/completions", body=_body, validate=validate, marker=b"[DONE]")


_API: Final = _api(ChatCompletionChunk)


def _openai(*, over_aiohttp: bool = False) -> Open:
    """The SDK with its defaults; over aiohttp as it documents it."""

    @asynccontextmanager
    async def opened(address: Address) -> AsyncGenerator[Read]:
        http_client = DefaultAioHttpClient() if over_aiohttp else None
        async with AsyncOpenAI(
            base_url=address.http, api_key="none", http_client=http_client
        ) as client:

            async def read(model: str) -> Reading:
                stream = await client.chat.completions.create(
                    model=model, stream=True, messages=[{"role": "user", "content": PROMPT}]
                )
                return await counted(stream)

            yield read

    return opened


CONTENDERS: Final[dict[str, Open]] = {
    "floor/socket": over_socket(_API),
    "floor/httpx": over_httpx(_API),
    "floor, own classes/httpx": over_httpx(_api(Chunk)),
    "floor, our transport/httpx": over_httpx(_API, transport=our_transport),
    "floor/aiohttp": over_httpx(_API, transport=aiohttp_transport),
    "ours/httpx": ours(Chat),
    "ours, httpx.AsyncClient/httpx": on_a_client(Chat),
    "ours, own classes/httpx": ours(OwnChat),
    "floor, our transport/aiohttp": over_httpx(_API, transport=our_aiohttp_transport),
    "ours/aiohttp": ours(Chat, transport=our_aiohttp_transport),
    "ours, neutral events/httpx": ours(OpenAIChat),
    "openai/httpx2": _openai(),
    "openai/aiohttp": _openai(over_aiohttp=True),
}
