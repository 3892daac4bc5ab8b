"""Small events of an API of one's own: `Token | Done`, the class of the README.

The floors make events of the same fields, without our base class. httpx-sse and httpx2 hand over
server-sent events, of which the floors' validator makes the same.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, Literal

import httpx
import httpx2
import httpx_sse
from pydantic import BaseModel, Discriminator, TypeAdapter

from streamsession import AsyncSession, Event, Stream

from ..floors import (
    API,
    LIMITS,
    NO_TIMEOUT,
    KeptAnswer,
    aiohttp_transport,
    http2_transport,
    over_httpx,
    over_socket,
)
from ..ours import (
    collected,
    on_a_client,
    our_aiohttp_transport,
    our_http2_transport,
    our_transport,
    ours,
)
from ..reading import PROMPT, Address, Open, Read, Reading


class Token(Event):
    """A piece of the answer."""

    type: Literal["token"] = "token"
    text: str


class Done(Event):
    """The answer is complete."""

    type: Literal["done"] = "done"


class Acme(AsyncSession[Token | Done]):
    """A session with the API."""

    final_events = (Done,)
    max_event_bytes = 1 << 30  # for the large events

    def stream(self, prompt: str, *, model: str) -> Stream[Token | Done]:
        """The answer to a prompt."""
        return self.open_stream("POST", "/generate", json={"prompt": prompt, "model": model})


class PlainToken(BaseModel):
    """As `Token`."""

    type: Literal["token"]
    text: str


class PlainDone(BaseModel):
    """As `Done`."""

    type: Literal["done"]


_EVENTS: Final = TypeAdapter[Any](Annotated[PlainToken | PlainDone, Discriminator("type")])
_VALIDATE: Final = _EVENTS.validator.validate_json


def _body(model: str) -> dict[str, Any]:
    return {"prompt": PROMPT, "model": model}


_API: Final = API(path="/generate", body=_body, validate=_VALIDATE, final=PlainDone)


async def _validated(
    sent: AsyncIterable[httpx_sse.ServerSentEvent | httpx2.ServerSentEvent],
) -> Reading:
    """What a loop written by hand makes of server-sent events."""
    events, first, event = 0, 0.0, None
    async for each in sent:
        event = _VALIDATE(each.data)
        events += 1
        first = first or time.perf_counter()
    if type(event) is not PlainDone:
        raise EOFError("the answer was cut short")
    return Reading(events, first)


@asynccontextmanager
async def _httpx_sse(address: Address) -> AsyncGenerator[Read]:
    client = httpx.AsyncClient(base_url=address.http, limits=LIMITS, timeout=NO_TIMEOUT)
    async with client:

        async def read(model: str) -> Reading:
            async with httpx_sse.aconnect_sse(
                client, "POST", "/generate", json=_body(model)
            ) as source:
                return await _validated(source.aiter_sse())

        yield read


@asynccontextmanager
async def _httpx2_sse(address: Address) -> AsyncGenerator[Read]:
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=20)
    async with httpx2.AsyncClient(base_url=address.http, limits=limits, timeout=None) as client:

        async def read(model: str) -> Reading:
            async with client.sse(
                "/generate", method="POST", json=_body(model), max_event_size=None
            ) as source:
                return await _validated(source)

        yield read


CONTENDERS: Final[dict[str, Open]] = {
    "floor/socket": over_socket(_API),
    "floor/httpx": over_httpx(_API),
    "floor, our transport/httpx": over_httpx(_API, transport=our_transport),
    "floor, collecting/httpx": over_httpx(_API, answer=KeptAnswer),
    "ours/httpx": ours(Acme),
    "ours, httpx.AsyncClient/httpx": on_a_client(Acme),
    "ours, keep_reply=False/httpx": ours(Acme, keep_reply=False),
    "ours, collect()/httpx": collected(Acme),
    "floor/aiohttp": over_httpx(_API, transport=aiohttp_transport),
    "floor, our transport/aiohttp": over_httpx(_API, transport=our_aiohttp_transport),
    "ours/aiohttp": ours(Acme, transport=our_aiohttp_transport),
    "floor/http2": over_httpx(_API, transport=http2_transport, over_tls=True),
    "floor, our transport/http2": over_httpx(_API, transport=our_http2_transport, over_tls=True),
    "ours/http2": ours(Acme, transport=our_http2_transport, over_tls=True),
    "httpx-sse/httpx": _httpx_sse,
    "httpx2/httpx2": _httpx2_sse,
}
