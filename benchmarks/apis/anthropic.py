"""Events of Anthropic's Messages, read as the same classes by the SDK, the floors and ours.

`ours` yields the SDK's own events; the example makes neutral events of them.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, Literal, TypeAlias

from anthropic import AsyncAnthropic, DefaultAioHttpClient
from anthropic.types import (
    RawContentBlockDeltaEvent,
    RawContentBlockStartEvent,
    RawContentBlockStopEvent,
    RawMessageDeltaEvent,
    RawMessageStartEvent,
    RawMessageStopEvent,
)
from pydantic import BaseModel, Discriminator, TypeAdapter

from anthropic_messages import AnthropicMessages
from streamsession import AsyncSession, Stream

from ..floors import API, aiohttp_transport, over_httpx, over_socket
from ..ours import ours
from ..reading import PROMPT, Open, Read, Reading, counted


class Ping(BaseModel):
    """A sign of life, which the SDK skips."""

    type: Literal["ping"]


MessageEvent: TypeAlias = (
    RawMessageStartEvent
    | RawMessageDeltaEvent
    | RawMessageStopEvent
    | RawContentBlockStartEvent
    | RawContentBlockDeltaEvent
    | RawContentBlockStopEvent
    | Ping
)


def _body(model: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": PROMPT}]
    return {"model": model, "max_tokens": 4096, "stream": True, "messages": messages}


class Messages(AsyncSession[MessageEvent]):
    """A session that yields the events of the wire."""

    final_events = (RawMessageStopEvent,)

    def stream(self, prompt: str, *, model: str) -> Stream[MessageEvent]:
        """The answer to a prompt."""
        return self.open_stream("POST", "/v1/messages", json=_body(model))


_EVENTS: Final = TypeAdapter[Any](Annotated[MessageEvent, Discriminator("type")])
_API: Final = API(
    path="/v1/messages",
    body=_body,
    validate=_EVENTS.validator.validate_json,
    final=RawMessageStopEvent,
)


def _anthropic(*, over_aiohttp: bool = False) -> Open:
    """The SDK with its defaults; over aiohttp as it documents it."""

    @asynccontextmanager
    async def opened(url: str) -> AsyncGenerator[Read]:
        http_client = DefaultAioHttpClient() if over_aiohttp else None
        async with AsyncAnthropic(base_url=url, api_key="none", http_client=http_client) as client:

            async def read(model: str) -> Reading:
                stream = await client.messages.create(
                    model=model,
                    max_tokens=4096,
                    stream=True,
                    messages=[{"role": "user", "content": PROMPT}],
                )
                return await counted(stream)

            yield read

    return opened


CONTENDERS: Final[dict[str, Open]] = {
    "floor/socket": over_socket(_API),
    "floor/httpx": over_httpx(_API),
    "floor/aiohttp": over_httpx(_API, transport=aiohttp_transport),
    "ours/httpx": ours(Messages),
    "ours/aiohttp": ours(Messages, transport=aiohttp_transport),
    "ours, neutral events/httpx": ours(AnthropicMessages),
    "anthropic/httpx2": _anthropic(),
    "anthropic/aiohttp": _anthropic(over_aiohttp=True),
}
