"""What mypy and pyright infer. Both check this file; that it also runs keeps the types honest."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Generic, assert_never, assert_type

import httpx
import httpx2
import pytest
from pydantic import BaseModel, TypeAdapter
from typing_extensions import TypeVar

from streamsession import (
    AsyncSession,
    Decoder,
    Done,
    Event,
    JSONLinesDecoder,
    Reply,
    Response,
    ServerSentEvent,
    SSEDecoder,
    StatusError,
    Stream,
    StreamStats,
    StreamTruncated,
    TextDelta,
    TokenEvent,
    UnknownEvent,
)
from streamsession.testing import json_lines, mock_stream, sse
from tests.acme import BASE_URL, Acme, Finish, Token, chat, token

pytestmark = pytest.mark.anyio

EventT = TypeVar("EventT")
FrameT = TypeVar("FrameT")


class Account(BaseModel):
    """The answer of an endpoint that does not stream."""

    name: str


def answering(*steps: bytes, media: str = "text/event-stream") -> httpx.MockTransport:
    return httpx.MockTransport(mock_stream(*steps, content_type=media))


async def test_the_loop_knows_the_union_of_a_subclass() -> None:
    async with Acme(transport=answering(chat("Hello"))) as session:
        assert_type(session, Acme)
        async for event in session.stream("Hi"):
            assert_type(event, Token | Finish)
            match event:
                case Token():
                    assert_type(event.text, str)
                case Finish():
                    pass
                case _:
                    assert_never(event)


async def test_the_loop_knows_the_events_of_a_session_without_a_subclass() -> None:
    done = sse(TextDelta(text="Hi"), Done())
    async with AsyncSession(base_url=BASE_URL, transport=answering(done)) as session:
        assert_type(session, AsyncSession[TokenEvent])
        async for event in session.stream("POST", "/generate"):
            assert_type(event, TokenEvent)
            if event.type == "text":
                assert_type(event, TextDelta)


class Plain(AsyncSession):
    """A subclass that names no event type."""

    base_url = BASE_URL


async def test_a_subclass_that_names_no_events_has_the_neutral_ones() -> None:
    async with Plain(transport=answering(sse(Done()))) as session:
        async for event in session.stream("POST", "/generate"):
            assert_type(event, TokenEvent)


class Middle(AsyncSession[EventT], Generic[EventT]):
    """A generic base of an SDK's own."""

    base_url = BASE_URL


class Leaf(Middle[Token | UnknownEvent]):
    """And what names the events at last."""

    final_events = (Token,)

    def stream(self) -> Stream[Token | UnknownEvent]:
        return self.open_stream("POST", "/generate")


async def test_the_events_are_known_through_a_generic_base() -> None:
    async with Leaf(transport=answering(token("Hello"))) as session:
        async for event in session.stream():
            assert_type(event, Token | UnknownEvent)


async def test_a_narrowed_signature_is_checked() -> None:
    async with Acme(transport=answering(chat("Hello"))) as session:
        with pytest.raises(TypeError):
            session.stream(model="acme-1")  # type: ignore[call-arg]
        stream = session.stream(prompt="Hi")
        assert_type(stream, Stream[Token | Finish])
        generator: AsyncGenerator[Token | Finish, None] = stream
        assert_type(await anext(generator), Token | Finish)


async def test_an_endpoint_with_events_of_its_own_has_their_type() -> None:
    adapter: TypeAdapter[int | str] = TypeAdapter(int | str)
    transport = answering(json_lines(1, "two"), media="application/jsonl")
    async with Acme(transport=transport) as session:
        stream = session.open_stream(
            "GET", "/rows", events=adapter, framing=JSONLinesDecoder, final_events=None
        )
        assert_type(stream, Stream[int | str])
        async for row in stream:
            assert_type(row, int | str)
        assert_type(await stream.collect(), Reply[int | str])


async def test_a_request_has_the_type_of_its_result() -> None:
    one = answering(b'{"name": "me"}', media="application/json")
    async with Acme(transport=one) as session:
        account = await session.request("GET", "/account", result=Account)
        assert_type(account, Account)
        assert_type(account.name, str)
    many: TypeAdapter[list[Account]] = TypeAdapter(list[Account])
    async with Acme(transport=answering(b"[]", media="application/json")) as session:
        assert_type(await session.request("GET", "/accounts", result=many), list[Account])


async def test_what_a_stream_tells_of_itself_is_typed() -> None:
    async with Acme(transport=answering(chat("Hello"))) as session, session.stream() as stream:
        assert_type(stream, Stream[Token | Finish])
        assert_type(stream.text(), AsyncIterator[str])
        reply = await stream.collect()
        assert_type(reply, Reply[Token | Finish])
        assert_type(reply.events, list[Token | Finish])
        assert_type(reply.text, str)
        assert_type(stream.reply, Reply[Token | Finish])
        assert_type(stream.stats, StreamStats)
        assert_type(stream.stats.time_to_first_event, float | None)
        assert_type(stream.response, Response)
        assert_type(stream.response.request_id, str | None)


async def test_what_an_error_carries_is_typed() -> None:
    async with Acme(transport=answering(token("Hello"))) as session:
        with pytest.raises(StreamTruncated) as caught:
            await session.stream().collect()
        error = caught.value
        assert_type(error.partial.text, str)
        assert_type(error.partial.events, Sequence[Any])
        assert_type(error.events, Sequence[Any])
        assert_type(error.last_event_id, str | None)
        assert_type(error.attempts, int)
        assert_type(error.request_id, str | None)
    assert_type(StatusError("").retry_after, float | None)


def frames_of(decoder: Decoder[FrameT], data: bytes) -> Sequence[FrameT]:
    return [*decoder.decode(data), *decoder.flush()]


def test_decoders_have_the_type_of_their_frames() -> None:
    assert_type(frames_of(SSEDecoder(), b"data: 1\n\n"), Sequence[ServerSentEvent])
    assert_type(frames_of(JSONLinesDecoder(), b"1"), Sequence[bytes])
    framing: type[Decoder[Any]] = SSEDecoder
    assert isinstance(framing(max_event_bytes=1), SSEDecoder)


async def test_clients_of_both_libraries_may_be_handed_in() -> None:
    async with httpx.AsyncClient() as client, httpx2.AsyncClient() as client2:
        assert_type(Acme(http_client=client), Acme)
        assert_type(Acme(http_client=client2), Acme)


def test_every_kind_of_credentials_may_be_handed_in() -> None:
    assert_type(Acme(auth=httpx.BasicAuth("user", "password")), Acme)


def test_an_event_has_the_type_of_its_fields() -> None:
    class Typed(Event):
        number: int

    assert_type(Typed(number=1).number, int)
    assert_type(Typed.model_validate({"number": 1}), Typed)
    assert_type(Typed(number=1).as_token(), str)
