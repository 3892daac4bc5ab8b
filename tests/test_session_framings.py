"""What a session makes of each framing: typed events, and every end by its name."""

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from streamsession import (
    AsyncSession,
    DecodeError,
    Decoder,
    Event,
    EventTooLarge,
    JSONLinesDecoder,
    RemoteError,
    Reply,
    Request,
    RetryPolicy,
    SSEDecoder,
    Stream,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    UnknownEvent,
)
from streamsession._framing._more import EventStreamDecoder, JSONArrayDecoder, JSONSeqDecoder
from streamsession.testing import (
    HANG_UP,
    ScriptedResponse,
    ScriptedServer,
    chunks_of,
    event_stream_message,
    json_lines,
    json_seq,
    sse_event,
)
from tests.acme import Finish, Token

pytestmark = pytest.mark.anyio

ONCE = RetryPolicy(attempts=1)
AT_ONCE = RetryPolicy(base_delay=0)

HELLO = Token(text="Hello")
THERE = Token(text=" there")
EVENTS = [HELLO, THERE, Finish()]


def named(event: Event) -> tuple[str, dict[str, Any]]:
    """The type of an event, and the rest of it."""
    data = event.model_dump()
    return data.pop("type"), data


@dataclass(frozen=True)
class Framed:
    """A framing, and how a server writes in it.

    Attributes:
        framing: Its decoder.
        of: The bytes of an event.
        before: What begins a body.
        between: What stands in front of each frame but the first.
        after: What ends a body.
        failure: A frame that reports one that passes, of the type "throttlingException".
        damaged: A frame that cannot be read.
        reason: Why.
    """

    framing: type[Decoder[Any]]
    of: Callable[[Event], bytes]
    failure: bytes
    damaged: bytes
    reason: str
    before: bytes = b""
    between: bytes = b""
    after: bytes = b""

    def begun(self, *frames: Event | bytes) -> bytes:
        """A body as it begins with these frames."""
        each = [frame if isinstance(frame, bytes) else self.of(frame) for frame in frames]
        return self.before + self.between.join(each)

    def body(self, *frames: Event | bytes) -> bytes:
        """A whole body."""
        return self.begun(*frames) + self.after

    def answer(self, *steps: Any) -> ScriptedResponse:
        """A response of these bytes."""
        return ScriptedResponse(steps, content_type=self.framing.content_types[0])


def _message(event: Event) -> bytes:
    kind, data = named(event)
    return event_stream_message(data, event=kind)


def _sse(event: Event) -> bytes:
    kind, data = named(event)
    return sse_event(data, event=kind)


def _json(event: Event) -> bytes:
    return event.model_dump_json().encode()


_FAILURE = {"error": {"type": "throttlingException", "message": "Slow down"}}

SSE = Framed(
    SSEDecoder,
    _sse,
    failure=sse_event(_FAILURE["error"], event="error"),
    damaged=sse_event("{", event="token"),
    reason="Invalid JSON",
)
LINES = Framed(
    JSONLinesDecoder,
    json_lines,
    failure=json_lines(_FAILURE),
    damaged=b"{\n",
    reason="Invalid JSON",
)
SEQUENCE = Framed(
    JSONSeqDecoder,
    json_seq,
    failure=json_seq(_FAILURE),
    damaged=b'\x1e{"type":"token"}\n',
    reason="field 'text': Field required",
)
ARRAY = Framed(
    JSONArrayDecoder,
    _json,
    failure=json.dumps(_FAILURE).encode(),
    damaged=b"]",
    reason="expected an element",
    before=b"[",
    between=b",\n",
    after=b"]",
)
MESSAGES = Framed(
    EventStreamDecoder,
    _message,
    failure=event_stream_message({"message": "Slow down"}, exception="throttlingException"),
    damaged=_message(THERE).replace(b"there", b"their"),
    reason="message checksum",
)


def in_each(*framed: Framed) -> pytest.MarkDecorator:
    """Run a test in each of these framings."""
    return pytest.mark.parametrize("framed", framed, ids=[each.framing.__name__ for each in framed])


in_all = in_each(SSE, LINES, SEQUENCE, ARRAY, MESSAGES)


class Session(AsyncSession[Token | Finish]):
    """An API that speaks all framings."""

    final_events: ClassVar[tuple[type[Any], ...] | None] = (Finish,)
    retry = ONCE

    def stream(self, framed: Framed) -> Stream[Token | Finish]:
        return self.open_stream("POST", "/generate", framing=framed.framing)


class Endless(Session):
    """The same without a final event: a stream just ends."""

    final_events = None


class Resumable(Session):
    """The same with a cursor, which counts the events."""

    retry = AT_ONCE

    def resume_request(
        self, request: Request, reply: Reply[Token | Finish], last_event_id: str
    ) -> Request:
        return replace(request, params={"after": len(reply.events)})


class EndlessResumable(Resumable):
    final_events = None


@asynccontextmanager
async def streaming(
    framed: Framed, *answers: ScriptedResponse, kind: type[Session] = Session, **options: Any
) -> AsyncGenerator[tuple[Stream[Token | Finish], ScriptedServer]]:
    """A stream that these answers are for, and the server that gives them."""
    with ScriptedServer(*answers) as server:
        async with kind(base_url=server.url, **options) as session:
            yield session.stream(framed), server


async def failure(
    framed: Framed,
    *steps: Any,
    events: Sequence[Event] = (HELLO,),
    kind: type[Session] = Session,
    **options: Any,
) -> Any:
    """The error that a stream of these bytes ends with, after these events."""
    async with streaming(framed, framed.answer(*steps), kind=kind, **options) as (stream, _):
        with pytest.raises(StreamError) as caught:
            await stream.collect()
    assert caught.value.events == list(events)
    assert caught.value.partial is stream.reply
    assert not stream.reply.complete
    return caught.value


# Whole bodies


@in_all
async def test_chunks_of_any_size_give_the_typed_events(framed: Framed) -> None:
    body = framed.body(*EVENTS)
    sizes = (1, 7, len(body))
    answers = [framed.answer(*chunks_of(body, size)) for size in sizes]
    with ScriptedServer(*answers) as server:
        async with Session(base_url=server.url) as session:
            for _ in sizes:
                reply = await session.stream(framed).collect()
                assert reply.events == EVENTS
                assert reply.complete
    assert {request.connection for request in server.requests} == {0}
    assert framed.framing.content_types[0] in server.requests[0].headers["accept"]


@in_all
async def test_a_clean_end_completes_what_has_no_final_event(framed: Framed) -> None:
    answer = framed.answer(framed.body(HELLO, THERE))
    async with streaming(framed, answer, kind=Endless) as (stream, _):
        assert (await stream.collect()).events == [HELLO, THERE]


async def test_a_message_of_an_unknown_type_is_skipped_and_counted() -> None:
    padding = event_stream_message({"type": "of its own", "p": "abc"}, event="padding")
    body = MESSAGES.body(HELLO, event_stream_message({"p": "abc"}, event="padding"), padding)
    async with streaming(MESSAGES, MESSAGES.answer(body, _message(Finish()))) as (stream, _):
        assert (await stream.collect()).events == [HELLO, Finish()]
        assert stream.stats.unknown_events == 2


async def test_an_unknown_message_is_delivered_to_who_wants_it() -> None:
    class Curious(AsyncSession[Token | Finish | UnknownEvent]):
        framing = EventStreamDecoder
        final_events = (Finish,)

    body = MESSAGES.body(event_stream_message({"p": "abc"}, event="padding"), Finish())
    with ScriptedServer(MESSAGES.answer(body)) as server:
        async with Curious(base_url=server.url) as session:
            reply = await session.stream("POST", "/generate").collect()
    assert reply.events == [UnknownEvent(type="padding", data='{"p":"abc"}'), Finish()]


# Cut short


@in_all
@pytest.mark.parametrize("kind", [Session, Resumable])
async def test_a_body_cut_at_any_byte_before_the_final_event_is_truncated(
    framed: Framed, kind: type[Session]
) -> None:
    begun = framed.begun(HELLO, THERE)
    whole = framed.begun(HELLO)
    cuts = range(len(whole), len(begun))
    with ScriptedServer(*(framed.answer(begun[:cut]) for cut in cuts)) as server:
        async with kind(base_url=server.url, retry=ONCE) as session:
            for cut in cuts:
                with pytest.raises(StreamTruncated) as caught:
                    await session.stream(framed).collect()
                came = caught.value.events
                assert came == [HELLO, THERE][: len(came)], cut
                assert HELLO in came, cut


@in_each(ARRAY, MESSAGES)
async def test_a_framing_shows_that_a_body_was_cut_although_a_clean_end_is_complete(
    framed: Framed,
) -> None:
    error = await failure(framed, framed.begun(HELLO, THERE)[:-4], kind=Endless)
    assert type(error) is StreamTruncated
    assert "the body ended" in str(error)
    assert "frames" not in str(error)


@in_all
async def test_a_body_cut_before_the_first_event_is_tried_again(framed: Framed) -> None:
    cut = framed.answer(framed.begun(HELLO)[:-4])
    answers = [cut, framed.answer(framed.body(*EVENTS))]
    async with streaming(framed, *answers, retry=AT_ONCE) as (stream, _):
        assert (await stream.collect()).events == EVENTS
        assert stream.stats.attempts == 2


@in_each(ARRAY, MESSAGES)
@pytest.mark.parametrize("kind", [Resumable, EndlessResumable])
async def test_a_body_that_its_framing_shows_to_be_cut_is_resumed(
    framed: Framed, kind: type[Resumable]
) -> None:
    cut = framed.answer(framed.begun(HELLO, THERE)[:-4])
    answers = [cut, framed.answer(framed.body(THERE, Finish()))]
    async with streaming(framed, *answers, kind=kind) as (stream, server):
        assert (await stream.collect()).events == EVENTS
        assert [request.path for request in server.requests] == ["/generate", "/generate?after=1"]


@in_all
async def test_a_connection_that_breaks_is_interrupted(framed: Framed) -> None:
    error = await failure(framed, framed.begun(HELLO, THERE)[:-4], HANG_UP)
    assert type(error) is StreamInterrupted


# Frames that cannot be read


@in_all
async def test_a_damaged_frame_is_a_decode_error_that_says_which(framed: Framed) -> None:
    error = await failure(framed, framed.body(HELLO, framed.damaged, Finish()))
    assert type(error) is DecodeError
    assert error.index == 1
    assert framed.reason in error.reason


@in_all
async def test_a_damaged_frame_of_a_resumed_stream_is_counted_from_its_beginning(
    framed: Framed,
) -> None:
    answers = [
        framed.answer(framed.begun(HELLO, THERE), HANG_UP),
        framed.answer(framed.body(HELLO, framed.damaged)),
    ]
    async with streaming(framed, *answers, kind=Resumable) as (stream, _):
        with pytest.raises(DecodeError) as caught:
            await stream.collect()
    assert caught.value.events == [HELLO, THERE, HELLO]
    assert caught.value.index == 3


@in_all
async def test_a_frame_that_is_too_large_is_refused(framed: Framed) -> None:
    large = Token(text="x" * 1000)
    error = await failure(framed, framed.body(HELLO, large, Finish()), max_event_bytes=200)
    assert type(error) is EventTooLarge
    assert (error.limit, error.index) == (200, 1)


# Failures that the server reports


@in_all
async def test_a_failure_in_the_stream_is_a_remote_error(framed: Framed) -> None:
    error = await failure(framed, framed.body(HELLO, framed.failure))
    assert type(error) is RemoteError
    assert (str(error), error.type) == ("Slow down", "throttlingException")
    assert error.retryable


async def test_an_error_without_a_type_of_its_own_is_a_remote_error() -> None:
    error = await failure(
        MESSAGES, MESSAGES.body(HELLO, event_stream_message(error=("BadRequest", "Not so")))
    )
    assert type(error) is RemoteError
    assert (str(error), error.type, error.retryable) == ("Not so", "BadRequest", False)


async def test_an_object_in_place_of_the_array_may_report_a_failure() -> None:
    error = await failure(ARRAY, ARRAY.failure, events=[])
    assert type(error) is RemoteError
    assert error.type == "throttlingException"


@in_all
async def test_a_failure_that_passes_is_tried_again_before_the_first_event(framed: Framed) -> None:
    answers = [framed.answer(framed.body(framed.failure)), framed.answer(framed.body(*EVENTS))]
    async with streaming(framed, *answers, retry=AT_ONCE) as (stream, _):
        assert (await stream.collect()).events == EVENTS
        assert stream.stats.attempts == 2


# What a framing skips

BROKEN = b'\x1e{"type":"tok\n'


async def test_texts_that_a_sequence_drops_are_counted() -> None:
    body = SEQUENCE.body(BROKEN, HELLO, BROKEN, BROKEN, Finish())
    for size in (1, len(body)):
        answer = SEQUENCE.answer(*chunks_of(body, size))
        async with streaming(SEQUENCE, answer) as (stream, _):
            assert (await stream.collect()).events == [HELLO, Finish()]
            assert (stream.stats.skipped, stream.stats.unknown_events) == (3, 0)


async def test_the_last_text_of_a_sequence_is_counted_if_it_was_cut_short() -> None:
    answer = SEQUENCE.answer(SEQUENCE.begun(HELLO, BROKEN.rstrip()))
    async with streaming(SEQUENCE, answer, kind=Endless) as (stream, _):
        assert (await stream.collect()).events == [HELLO]
        assert stream.stats.skipped == 1


async def test_what_is_skipped_adds_up_over_the_attempts() -> None:
    answers = [SEQUENCE.answer(BROKEN), SEQUENCE.answer(SEQUENCE.body(BROKEN, *EVENTS))]
    async with streaming(SEQUENCE, *answers, retry=AT_ONCE) as (stream, _):
        assert (await stream.collect()).events == EVENTS
        assert (stream.stats.attempts, stream.stats.skipped) == (2, 2)


async def test_what_is_skipped_adds_up_when_a_stream_is_resumed() -> None:
    answers = [
        SEQUENCE.answer(SEQUENCE.begun(HELLO, BROKEN, BROKEN.rstrip())),
        SEQUENCE.answer(SEQUENCE.body(BROKEN, THERE, Finish())),
    ]
    async with streaming(SEQUENCE, *answers, kind=Resumable) as (stream, _):
        assert (await stream.collect()).events == EVENTS
        assert stream.stats.skipped == 3


@in_each(SSE, LINES, ARRAY, MESSAGES)
async def test_other_framings_skip_nothing(framed: Framed) -> None:
    async with streaming(framed, framed.answer(framed.body(*EVENTS))) as (stream, _):
        await stream.collect()
        assert stream.stats.skipped == 0
