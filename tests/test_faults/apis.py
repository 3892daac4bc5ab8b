"""Acme in two framings, where a response can break, and what is true of every failure."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import anyio
import httpx
import pytest

from streamsession import JSONLinesDecoder, RetryPolicy, StreamError, Timeouts
from streamsession.testing import Answer, ScriptedResponse, ScriptedServer, Step, json_lines, sse
from tests.acme import Acme, Finish, Token

PATIENCE = 5.0
"""Far more than anything here takes, in seconds."""
KIB, MIB = 1024, 1024 * 1024
ONCE = RetryPolicy(attempts=1)
POOL_OF_ONE = httpx.Limits(max_connections=1)

ErrorT = TypeVar("ErrorT", bound=StreamError)
Fate: TypeAlias = Literal["reused", "client closed", "server hung up", "server reset"]


class Lines(Acme):
    """Acme over JSON Lines."""

    framing = JSONLinesDecoder


@dataclass(frozen=True)
class Api:
    """One framing: the session that reads it, and what its server writes."""

    session: type[Acme]
    media: str
    write: Callable[..., bytes]
    noise: dict[str, bytes]
    """What may come at any time and is no event."""

    def chat(self, *texts: str) -> bytes:
        """The body of a whole stream."""
        return self.tokens(*texts) + self.write(Finish())

    def tokens(self, *texts: str) -> bytes:
        """The beginning of a body, without the final event."""
        return self.write(*[Token(text=text) for text in texts])

    def answer(self, *steps: Step, status: int = 200, **headers: str) -> ScriptedResponse:
        """A response of this framing; `Content_Encoding="gzip"` adds a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return ScriptedResponse(steps, status, headers=named, content_type=self.media)

    @property
    def head(self) -> bytes:
        """The head of a chunked response, as it is on the wire."""
        lines = ("HTTP/1.1 200 OK", f"Content-Type: {self.media}", "Transfer-Encoding: chunked")
        return "\r\n".join((*lines, "", "")).encode()


PING = {"type": "ping"}
SSE = Api(
    Acme,
    "text/event-stream",
    sse,
    {
        "comments": b": ping\n\n",
        "blank lines": b"\n",
        "pings": b"event: ping\ndata: {}\n\n",
        "unknown events": sse(PING),
        "ids": b"id: 1\nretry: 0\n\n",
    },
)
LINES = Api(
    Lines,
    "application/jsonl",
    json_lines,
    {"blank lines": b"\r\n", "unknown events": json_lines(PING)},
)
BY_NAME = {"SSE": SSE, "JSON Lines": LINES}

in_both = pytest.mark.parametrize("api", BY_NAME.values(), ids=BY_NAME)
"""For a test of the parameter `api`."""


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body, as it is on the wire."""
    return b"%x\r\n%b\r\n" % (len(data), data)


# Where a response can break


@dataclass(frozen=True)
class Place:
    """A place in a response: what is on the wire before it, and what the user has by then."""

    before: Callable[[Api], bytes]
    texts: tuple[str, ...] = ()


def _half(api: Api) -> bytes:
    return api.tokens("half").rstrip()[:-1]


PLACES = {
    "before the status line": Place(lambda _: b""),
    "in the status line": Place(lambda _: b"HTTP/1.1 20"),
    "in the head": Place(lambda api: api.head[:-5]),
    "before the first chunk": Place(lambda api: api.head),
    "in the size of a chunk": Place(lambda api: api.head + b"1"),
    "in the first event": Place(lambda api: api.head + chunk(_half(api))),
    "after the first event": Place(lambda api: api.head + chunk(api.tokens("Hello")), ("Hello",)),
    "in the second event": Place(
        lambda api: api.head + chunk(api.tokens("Hello") + _half(api)), ("Hello",)
    ),
    "in a chunk": Place(
        lambda api: api.head + chunk(api.tokens("Hello") + _half(api))[:-9], ("Hello",)
    ),
}


# What is true of every failure


@contextmanager
def row(name: str) -> Generator[None]:
    """Say in which row of a table something failed."""
    try:
        yield
    except BaseException as exc:
        exc.add_note(f"in the row {name!r}")
        raise


async def failure(
    api: Api,
    server: ScriptedServer,
    answer: Answer,
    kind: type[ErrorT],
    *,
    texts: Sequence[str] = (),
    fate: Fate | None = "client closed",
    timeout: Timeouts | None = None,
    max_event_bytes: int | None = None,
) -> ErrorT:
    """What a stream raises in a session of its own, which tries once; see `fails`."""
    async with api.session(
        base_url=server.url, limits=POOL_OF_ONE, retry=ONCE, max_event_bytes=max_event_bytes
    ) as session:
        return await fails(
            api, session, server, [answer], kind, texts=texts, fate=fate, timeout=timeout
        )


async def fails(
    api: Api,
    session: Acme,
    server: ScriptedServer,
    answers: Sequence[Answer],
    kind: type[ErrorT],
    *,
    texts: Sequence[str] = (),
    fate: Fate | None = "client closed",
    timeout: Timeouts | None = None,
) -> ErrorT:
    """What a stream raises, and the proof that it did no other harm.

    What had come is on the error, the stream does not claim to be complete, and another stream of
    the same session, which should have one connection, is whole.

    Args:
        api: The framing.
        session: Reads the stream and then another.
        server: Plays the answers, then a whole stream.
        answers: One for each attempt.
        kind: The class of the error, exactly.
        texts: Of the tokens that come before it.
        fate: What becomes of the connection; None if that is not promised.
        timeout: The clocks of the stream, if not those of the session.
    """
    asked = len(server.requests)
    server.play(*answers, api.answer(api.chat("next")))
    error = await failure_in(session, kind, texts=texts, attempts=len(answers), timeout=timeout)
    assert len(server.requests) == asked + len(answers)
    last = server.requests[-1].connection
    await works(session, reused=None if fate is None else fate == "reused")
    if fate not in (None, "reused"):
        assert (await server.until_closed(last)).state == fate
    await server.until_idle()
    return error


async def failure_in(
    session: Acme,
    kind: type[ErrorT],
    prompt: str = "Hello",
    *,
    texts: Sequence[str] | None = (),
    attempts: int = 1,
    timeout: Timeouts | None = None,
) -> ErrorT:
    """What a stream of this session raises, with what had come before; None is not looked at."""
    stream = session.open_stream("POST", "/generate", json={"prompt": prompt}, timeout=timeout)
    with anyio.fail_after(PATIENCE), pytest.raises(StreamError) as caught:
        await stream.collect()
    error = caught.value
    assert type(error) is kind, repr(error)
    assert isinstance(error, kind)
    assert error.partial is stream.reply
    assert error.events is stream.reply.events
    if texts is not None:
        assert stream.reply.events == [Token(text=text) for text in texts]
        assert error.partial.text == "".join(texts)
    assert error.attempts == stream.stats.attempts == attempts
    assert not stream.reply.complete
    return error


async def works(session: Acme, *, reused: bool | None = None, text: str = "next") -> None:
    """The next stream of this session is whole, on a connection that is new, or not, or either."""
    stream = session.stream()
    with anyio.fail_after(PATIENCE):
        assert (await stream.collect()).text == text
    assert stream.reply.complete
    assert reused is None or stream.response.reused is reused


def limits(**seconds: float) -> Timeouts:
    """Only these clocks."""
    return Timeouts(**{**dict.fromkeys(("connect", "first_event", "idle", "total")), **seconds})
