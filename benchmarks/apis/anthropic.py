"""Events of Anthropic's Messages, read as the same classes by the SDK, the floors and ours.

These classes are the SDK's own. "Own classes" are what one declares for oneself who wants the text;
"neutral events" are what the example makes of the events.
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
from streamsession import AsyncSession, Event, Stream

from ..floors import API, aiohttp_transport, over_httpx, over_socket
from ..ours import on_a_client, our_aiohttp_transport, our_transport, ours
from ..reading import PROMPT, Address, Open, Read, Reading, counted


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


class Text(BaseModel):
    """A piece of the answer, if it is one of its text."""

    text: str = ""


class Delta(Event):
    """A block goes on."""

    type: Literal["content_block_delta"]
    index: int
    delta: Text


class Sign(Event):
    """Something else happens."""

    type: Literal[
        "message_start", "message_delta", "content_block_start", "content_block_stop", "ping"
    ]


class Stop(Event):
    """The message is complete."""

    type: Literal["message_stop"]


OwnEvent: TypeAlias = Delta | Sign | Stop


def _body(model: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": PROMPT}]
    return {"model": model, "max_tokens": 4096, "stream": True, "messages": messages}


class Messages(AsyncSession[MessageEvent]):
    """A session that yields the events of the wire."""

    final_events = (RawMessageStopEvent,)

    def stream(self, prompt: str, *, model: str) -> Stream[MessageEvent]:
        """The answer to a prompt."""
        return self.open_stream("POST", "/v1/messages", json=_body(model))


class OwnMessages(AsyncSession[OwnEvent]):
    """A session that yields the events as declared here."""

    final_events = (Stop,)

    def stream(self, prompt: str, *, model: str) -> Stream[OwnEvent]:
        """The answer to a prompt."""
        return self.open_stream("POST", "/v1/messages", json=_body(model))


def _api(events: TypeAdapter[Any], final: type[BaseModel]) -> API:
    validate = events.validator.validate_json
    return API(path="/v1/messages", body=_body, validate=validate, final=final)


_EVENTS: Final = TypeAdapter[Any](Annotated[MessageEvent, Discriminator("type")])
_API: Final = _api(_EVENTS, RawMessageStopEvent)
_OWN_EVENTS: Final = TypeAdapter[Any](Annotated[OwnEvent, Discriminator("type")])
_OWN_API: Final = _api(_OWN_EVENTS, Stop)


def _anthropic(*, over_aiohttp: bool = False) -> Open:
    """The SDK with its defaults; over aiohttp as it documents it."""

    @asynccontextmanager
    async def opened(address: Address) -> AsyncGenerator[Read]:
        http_client = DefaultAioHttpClient() if over_aiohttp else None
        async with AsyncAnthropic(
            base_url=address.http, api_key="none", http_client=http_client
        ) as client:

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
    "floor, own classes/httpx": over_httpx(_OWN_API),
    "floor, our transport/httpx": over_httpx(_API, transport=our_transport),
    "floor/aiohttp": over_httpx(_API, transport=aiohttp_transport),
    "ours/httpx": ours(Messages),
    "ours, httpx.AsyncClient/httpx": on_a_client(Messages),
    "ours, own classes/httpx": ours(OwnMessages),
    "floor, our transport/aiohttp": over_httpx(_API, transport=our_aiohttp_transport),
    "ours/aiohttp": ours(Messages, transport=our_aiohttp_transport),
    "ours, neutral events/httpx": ours(AnthropicMessages),
    "anthropic/httpx2": _anthropic(),
    "anthropic/aiohttp": _anthropic(over_aiohttp=True),
}
