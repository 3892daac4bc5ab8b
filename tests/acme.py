"""The API that the tests speak: Acme of DESIGN, what it sends, and a policy that never sleeps."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import anyio.lowlevel
import httpx
import respx

from streamsession import AsyncSession, Event, RetryPolicy, Stream
from streamsession.testing import sse

BASE_URL = "https://api.acme.example/v1"
URL = f"{BASE_URL}/generate"

Answer: TypeAlias = Callable[[httpx.Request], httpx.Response]


class Token(Event):
    """A piece of text."""

    type: Literal["token"] = "token"
    text: str


class Finish(Event):
    """The proof that a stream is complete."""

    type: Literal["finish"] = "finish"


class Acme(AsyncSession[Token | Finish]):
    """The SDK of Acme; it never waits between attempts."""

    base_url = BASE_URL
    final_events = (Finish,)
    retry = RetryPolicy(base_delay=0)
    close_timeout = 2.0

    def stream(self, prompt: str = "Hello") -> Stream[Token | Finish]:
        """The answer to a prompt."""
        return self.open_stream("POST", "/generate", json={"prompt": prompt})


def token(text: str) -> bytes:
    """One token on the wire."""
    return sse(Token(text=text))


FINISH = sse(Finish())


def chat(*texts: str) -> bytes:
    """A whole stream on the wire."""
    return b"".join(map(token, texts)) + FINISH


def in_turn(*answers: Answer | Exception) -> Answer:
    """A side effect for respx: each request gets the next answer, or the exception raised."""
    left = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        following = next(left)
        if isinstance(following, Exception):
            raise following
        return following(request)

    return answer


def sent(route: respx.Route) -> list[httpx.Request]:
    """The requests that a route answered."""
    calls: list[respx.models.Call] = list(route.calls)
    return [call.request for call in calls]


@dataclass
class Waits:
    """Stands in for `RetryPolicy.sleep`: remembers the seconds and returns at once."""

    seconds: list[float] = field(default_factory=list[float])

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await anyio.lowlevel.checkpoint()
