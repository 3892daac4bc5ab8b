"""Events that came together are made ahead, and nothing shows it: each has its turn."""

import copy
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from itertools import count
from typing import Any, Literal, TypeAlias

import anyio
import httpx
import pytest
from pydantic import BaseModel, Field, PrivateAttr, TypeAdapter, field_validator
from typing_extensions import TypedDict

from streamsession import (
    AsyncSession,
    DecodeError,
    Event,
    EventTooLarge,
    RemoteError,
    RetryPolicy,
    ServerSentEvent,
    SessionClosed,
    Stream,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    UnknownEvent,
)
from streamsession.testing import HANG_UP, HOLD, Step, mock_stream, sse, sse_event
from tests.acme import BASE_URL, FINISH, Acme, Finish, Token, chat, token

pytestmark = pytest.mark.anyio

ONCE = RetryPolicy(attempts=1)
PATIENCE = 5.0

AcmeStream: TypeAlias = Stream[Token | Finish]


def playing(*steps: Step) -> httpx.MockTransport:
    return httpx.MockTransport(mock_stream(*steps))


def numbered(*texts: str) -> bytes:
    """Tokens in one chunk, each with an id: 1, 2, 3."""
    events = (sse_event(Token(text=text), id=str(n)) for n, text in enumerate(texts, 1))
    return b"".join(events)


async def read_to_its_end(session: Acme) -> tuple[list[str], StreamError]:
    """The texts that were handed over, and how the stream failed."""
    texts: list[str] = []
    with pytest.raises(StreamError) as caught:  # noqa: PT012 - what comes before it counts, too
        async for text in session.stream().text():
            texts.append(text)  # noqa: PERF401
    assert caught.value.partial.text == "".join(texts)
    return texts, caught.value


class Refused(Exception):
    """What a session's own hook raises."""


async def test_a_frame_that_is_no_event_fails_when_those_before_it_were_handed_over() -> None:
    bad = sse_event('{"type": "token"}', id="9")
    async with Acme(transport=playing(numbered("a", "b") + bad + FINISH), retry=ONCE) as session:
        texts, error = await read_to_its_end(session)

    assert texts == ["a", "b"]
    assert isinstance(error, DecodeError)
    assert (error.index, error.last_event_id) == (2, "9")
    assert error.frame == ServerSentEvent(data='{"type": "token"}', id="9")


async def test_a_report_fails_when_those_before_it_were_handed_over() -> None:
    report = sse({"error": {"message": "Overloaded"}})
    async with Acme(transport=playing(chat("a")[:-1] + b"\n" + report), retry=ONCE) as session:
        assert (await session.stream().collect()).text == "a"
    async with Acme(transport=playing(token("a") + report + FINISH), retry=ONCE) as session:
        texts, error = await read_to_its_end(session)

    assert texts == ["a"]
    assert isinstance(error, RemoteError)


@pytest.mark.parametrize("end", [HANG_UP, b""])
async def test_a_body_that_ends_after_them_fails_when_all_were_handed_over(end: Step) -> None:
    async with Acme(transport=playing(token("a") + token("b"), end), retry=ONCE) as session:
        texts, error = await read_to_its_end(session)

    assert texts == ["a", "b"]
    assert isinstance(error, StreamInterrupted if end is HANG_UP else StreamTruncated)


async def test_one_that_is_too_large_fails_when_those_before_it_were_handed_over() -> None:
    body = token("a") + token("b" * 100)
    async with Acme(transport=playing(body), retry=ONCE, max_event_bytes=64) as session:
        texts, error = await read_to_its_end(session)

    assert texts == ["a"]
    assert isinstance(error, EventTooLarge)
    assert (error.index, error.frame) == (1, None)


@pytest.mark.parametrize("rest", [b"", FINISH, sse("nothing"), sse({"error": {}}) + FINISH])
async def test_a_session_that_is_left_tells_the_id_of_what_was_handed_over(rest: bytes) -> None:
    async with Acme(transport=playing(numbered("a", "b", "c") + rest), retry=ONCE) as session:
        stream = session.stream()
        assert [await anext(stream), await anext(stream)] == [Token(text="a"), Token(text="b")]
    with pytest.raises(SessionClosed) as caught:
        await anext(stream)

    assert caught.value.last_event_id == "2"
    assert caught.value.partial.text == "ab"


async def test_those_of_unknown_types_are_counted_and_hide_no_id() -> None:
    unknown = sse_event('{"type": "news"}', id="x")
    body = numbered("a") + unknown + sse_event(Token(text="b"), id="2")
    async with Acme(transport=playing(body), retry=ONCE) as session:
        stream = session.stream()
        assert [await anext(stream), await anext(stream)] == [Token(text="a"), Token(text="b")]
        assert stream.stats.unknown_events == 1
        assert stream.stats.events == 2
    with pytest.raises(SessionClosed) as caught:
        await anext(stream)

    assert caught.value.last_event_id == "2"


async def test_those_of_unknown_types_may_come_alone() -> None:
    news = sse('{"type": "news"}')
    async with Acme(transport=playing(news + news, news, chat("a")), retry=ONCE) as session:
        stream = session.stream()
        assert (await stream.collect()).events == [Token(text="a"), Finish()]

    assert stream.stats.unknown_events == 3


async def test_they_are_delivered_where_the_union_has_them() -> None:
    class Tolerant(AsyncSession[Token | UnknownEvent | Finish]):
        base_url = BASE_URL
        final_events = (Finish,)

    body = token("a") + sse('{"type": "news"}') + FINISH
    async with Tolerant(transport=playing(body)) as session:
        reply = await session.open_stream("GET", "/").collect()

    unknown = UnknownEvent(type="news", data='{"type": "news"}')
    assert reply.events == [Token(text="a"), unknown, Finish()]


async def test_what_comes_behind_the_final_event_is_not_looked_at() -> None:
    async with Acme(transport=playing(chat("a") + b"data: nothing\n\n"), retry=ONCE) as session:
        assert (await session.stream().collect()).text == "a"


async def test_what_comes_behind_the_marker_is_not_looked_at() -> None:
    class Marked(AsyncSession[Token | Finish]):
        base_url = BASE_URL
        final_marker = "[DONE]"

    body = token("a") + token("b") + sse("[DONE]", "[DONE]", "nothing")
    async with Marked(transport=playing(body)) as session:
        stream = session.open_stream("GET", "/")
        assert (await stream.collect()).text == "ab"
        assert stream.reply.complete


class Particular(Acme):
    """A session with a hook of its own."""

    retry = ONCE

    def remote_error(self, frame: ServerSentEvent) -> RemoteError | None:
        if "c" in frame.data:
            raise Refused
        return RemoteError("no b") if '"b"' in frame.data else None


@pytest.mark.parametrize(("second", "kind"), [("b", RemoteError), ("c", Refused)])
async def test_a_hook_is_asked_of_every_frame_and_what_it_says_has_its_turn(
    second: str, kind: type[Exception]
) -> None:
    for steps in ([token("a"), token(second)], [token("a") + token(second)]):
        async with Particular(transport=playing(*steps)) as session:
            stream = session.stream()
            assert await anext(stream) == Token(text="a")
            with pytest.raises(kind):
                await anext(stream)


async def test_a_decode_of_ones_own_gets_each_frame_when_the_consumer_asks() -> None:
    seen: list[str] = []

    class Custom(Acme):
        async def decode(self, frames: AsyncIterator[Any]) -> AsyncIterator[Token | Finish]:
            async for frame in frames:
                seen.append(frame.id)
                yield Token(text=frame.id)

    async with Custom(transport=playing(numbered("a", "b", "c")), retry=ONCE) as session:
        stream = session.stream()
        assert await anext(stream) == Token(text="1")
        assert seen == ["1"]
        assert await anext(stream) == Token(text="2")
        assert seen == ["1", "2"]
        await stream.aclose()


async def test_the_chunks_in_which_they_come_make_no_difference() -> None:
    body = numbered("a", "b") + sse('{"type": "news"}') + token("ü") + FINISH
    for size in (1, 7, 40, len(body)):
        chunks = [body[start : start + size] for start in range(0, len(body), size)]
        async with Acme(transport=playing(*chunks), retry=ONCE) as session:
            stream = session.stream()
            reply = await stream.collect()
        assert reply.text == "abü"
        assert (stream.stats.events, stream.stats.unknown_events) == (4, 1)
        assert stream.stats.bytes == len(body)


class Lone(AsyncSession[Token]):
    """One type of event, which needs no union to be told."""

    base_url = BASE_URL
    final_events = None


NAMED = [
    ('{"text": "a"}', "token", Token(text="a")),
    ('{"type": "token", "text": "a"}', "token", Token(text="a")),
    ('{"type": "token", "text": "a"}', "finish", Token(text="a")),
    ('{"text": "a", "more": {"type": "finish"}}', "token", Token(text="a")),
    ('{"type": "news"}', "token", UnknownEvent(type="news", data='{"type": "news"}')),
    ('{"text": "a"}', "news", UnknownEvent(type="news", data='{"text": "a"}')),
]


@pytest.mark.parametrize(("data", "name", "event"), NAMED)
@pytest.mark.parametrize("number", [1, 3])
async def test_the_name_of_a_frame_stands_in_for_the_type_that_its_payload_lacks(
    data: str, name: str, event: Any, number: int
) -> None:
    body = sse_event(data, event=name) * number + FINISH
    async with Acme(transport=playing(body), retry=ONCE) as session:
        stream = session.stream()
        events = (await stream.collect()).events

    unknown = number if isinstance(event, UnknownEvent) else 0
    assert events == [event] * (number - unknown) + [Finish()]
    assert stream.stats.unknown_events == unknown


@pytest.mark.parametrize("number", [1, 3])
async def test_a_frame_of_another_name_is_not_the_one_type_there_is(number: int) -> None:
    body = sse_event('{"text": "a", "more": {"type": "x"}}', event="news") * number
    async with Lone(transport=playing(body + token("b")), retry=ONCE) as session:
        stream = session.stream("GET", "/")
        assert (await stream.collect()).events == [Token(text="b")]
    assert stream.stats.unknown_events == number


async def test_an_error_by_name_is_told_among_others() -> None:
    report = sse_event('{"type": "token", "text": "no"}', event="error")
    async with Acme(transport=playing(token("a") + report + FINISH), retry=ONCE) as session:
        texts, error = await read_to_its_end(session)

    assert texts == ["a"]
    assert isinstance(error, RemoteError)


async def test_a_stream_that_may_be_resumed_ends_with_its_final_event_too() -> None:
    class Resumable(Acme):
        resumable = True

    async with Resumable(transport=playing(chat("a"), HOLD), retry=ONCE) as session:
        with anyio.fail_after(PATIENCE):
            assert (await session.stream().collect()).text == "a"


# Kept as texts


class Plain(Event):
    type: Literal["plain"] = "plain"
    text: str = ""


class Numbered(Event):
    type: Literal["numbered"] = "numbered"
    number: int = Field(default_factory=count().__next__)


class Validated(Event):
    type: Literal["validated"] = "validated"
    number: int = 0

    @field_validator("number")
    @classmethod
    def _next(cls, _: int) -> int:
        return next(NUMBERS)


class Finished(BaseModel):
    number: int = 0

    def model_post_init(self, _: Any, /) -> None:
        self.number = next(NUMBERS)


class Initialised(BaseModel):
    number: int = 0

    def __init__(self, **values: Any) -> None:
        super().__init__(**{**values, "number": next(NUMBERS)})


class Private(BaseModel):
    _number: int = PrivateAttr(default_factory=count().__next__)


class Around(BaseModel):
    inner: list[Numbered] | None = None


class Recursive(BaseModel):
    child: "Recursive | None" = None
    number: int = Field(default_factory=count().__next__)


class Named(BaseModel):
    """With the names that schemas give to their own parts."""

    type: str = ""
    metadata: Numbered | None = None
    serialization: int = 0
    default_factory: int = 0
    post_init: int = 0
    computed_fields: int = 0


class Keys(TypedDict):
    type: str
    metadata: Numbered


@dataclass
class Data:
    type: str = ""
    number: int = dataclass_field(default_factory=count().__next__)


@dataclass
class Made:
    type: str = ""
    number: int = 0

    def __post_init__(self) -> None:
        self.number = next(NUMBERS)


class Lazy(BaseModel):
    numbers: Iterable[int]


NUMBERS = count()
INNER = '{"type": "numbered"}'
KINDS = [
    (Plain, '{"text": "a"}'),
    (Numbered, "{}"),
    (Validated, '{"number": 1}'),
    (Plain | Numbered, INNER),
    (Plain | Validated, '{"type": "validated", "number": 1}'),
    (Finished, "{}"),
    (Initialised, "{}"),
    (Private, "{}"),
    (Around, f'{{"inner": [{INNER}]}}'),
    (Recursive, '{"child": {"child": {}}}'),
    (Named, f'{{"type": "t", "metadata": {INNER}}}'),
    (Keys, f'{{"type": "t", "metadata": {INNER}}}'),
    (Data, '{"type": "t"}'),
    (Made, '{"type": "t"}'),
    (list[Numbered], f"[{INNER}, {INNER}]"),
    (dict[str, int], '{"a": 1}'),
]
KINDS_THAT_ARE_READ_ONCE = [(Lazy, '{"numbers": [1, 2]}')]


def in_one_piece(text: str, *, then: bytes = b"") -> httpx.MockTransport:
    return httpx.MockTransport(mock_stream(f"data: {text}\n\n".encode() * 100 + then))


@pytest.mark.parametrize(("kind", "text"), [*KINDS, *KINDS_THAT_ARE_READ_ONCE])
async def test_a_reply_has_the_very_events_that_were_handed_over(kind: Any, text: str) -> None:
    async with Acme(transport=in_one_piece(text)) as session:
        stream = session.open_stream("GET", "/", events=TypeAdapter(kind), final_events=None)
        handed_over: list[Any] = []
        async for event in stream:
            handed_over.append(event)
            if len(handed_over) in (1, 2, 63, 64, 65):
                assert stream.reply.events == handed_over
    assert len(handed_over) == 100
    assert stream.reply.events == handed_over
    assert stream.stats.events == 100


@pytest.mark.parametrize(("kind", "text"), KINDS)
async def test_a_copy_of_a_reply_under_way_has_what_was_handed_over_and_gets_no_more(
    kind: Any, text: str
) -> None:
    async with Acme(transport=in_one_piece(text)) as session:
        stream = session.open_stream("GET", "/", events=TypeAdapter(kind), final_events=None)
        handed_over = [await anext(stream), await anext(stream)]
        ways: list[Callable[[Any], Any]] = [
            copy.copy,
            copy.deepcopy,
            lambda reply: pickle.loads(pickle.dumps(reply)),  # noqa: S301 - our own
        ]
        copies = [way(stream.reply) for way in ways]
        await stream.collect()
    assert [each.events for each in copies] == [handed_over] * 3
    assert [each.complete for each in copies] == [False] * 3
    assert len(stream.reply.events) == 100
    assert stream.reply.complete


@pytest.mark.parametrize("read", [0, 1, 63, 64, 65, 99])
async def test_events_that_were_not_handed_over_are_in_no_reply(read: int) -> None:
    ends: list[Callable[[AcmeStream, Acme], Awaitable[object]]] = [
        lambda stream, _: stream.aclose(),
        lambda _, session: session.__aexit__(None, None, None),
    ]
    for end in ends:
        session = Acme(transport=in_one_piece('{"type": "token", "text": "x"}', then=FINISH))
        async with AsyncExitStack() as stack:
            await session.__aenter__()
            stack.push_async_callback(session.__aexit__, None, None, None)
            stream = session.stream()
            async with stream:
                for _ in range(read):
                    await anext(stream)
                await end(stream, session)
                assert stream.reply.text == "x" * read
                assert stream.stats.events == read
                assert not stream.reply.complete


@pytest.mark.parametrize("number", [62, 63, 64, 65, 128])
@pytest.mark.parametrize(
    ("last", "failure"),
    [
        (FINISH, None),
        (b'data: {"type": "token"}\n\n', DecodeError),
        (b'data: {"error": {"message": "no"}}\n\n', RemoteError),
        (b"", StreamTruncated),
    ],
)
async def test_what_stands_around_the_end_of_a_batch_has_its_turn(
    number: int, last: bytes, failure: type[Exception] | None
) -> None:
    body = b"".join(token(f"{n} ") for n in range(number)) + last + token("never")
    if failure is StreamTruncated:
        body = body.removesuffix(token("never"))
    texts: list[str] = []
    async with Acme(transport=httpx.MockTransport(mock_stream(body))) as session:
        stream = session.stream()
        with pytest.raises(failure) if failure else nullcontext() as caught:
            async for text in stream.text():
                texts.append(text)  # noqa: PERF401 - what comes before a failure counts, too
    assert texts == [f"{n} " for n in range(number)]
    assert stream.reply.text == "".join(texts)
    assert stream.reply.complete is (failure is None)
    error: Exception | None = caught.value if caught else None
    assert not isinstance(error, DecodeError) or error.index == number


async def test_events_made_again_keep_their_place_among_those_of_unknown_types() -> None:
    unknown = b'data: {"type": "new"}\n\n'
    body = (token("a") * 3 + unknown + token("b") * 2) * 30 + FINISH
    kind = TypeAdapter[Any](Token | Finish | UnknownEvent)
    async with Acme(
        transport=httpx.MockTransport(mock_stream(body[:5000], body[5000:]))
    ) as session:
        stream = session.open_stream("GET", "/", events=kind, final_events=(Finish,))
        handed_over: list[Any] = []
        async for event in stream:
            handed_over.append(event)
            if len(handed_over) % 7 == 0:
                assert stream.reply.events == handed_over
    assert stream.reply.events == handed_over
    assert len(handed_over) == 181
