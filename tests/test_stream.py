"""A stream as an async generator, a context manager, and an account of itself."""

import gc
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, suppress
from typing import ClassVar, Literal

import anyio
import httpx
import pytest
import respx

from streamsession import (
    AsyncSession,
    Event,
    NotFound,
    ReasoningDelta,
    SessionStateError,
    Stream,
    StreamClosed,
    StreamError,
    StreamTruncated,
    TextDelta,
)
from streamsession.testing import HOLD, Gate, MockStream, Pause, mock_stream, sse
from tests.acme import BASE_URL, FINISH, URL, Acme, Finish, Token, chat, token

pytestmark = pytest.mark.anyio


@pytest.fixture
def hello(respx_mock: respx.MockRouter) -> MockStream:
    """The server answers "Hello", "Human", "!"."""
    answer = mock_stream(token("Hello"), token("Human"), token("!"), FINISH)
    respx_mock.post(URL).mock(side_effect=answer)
    return answer


@pytest.fixture
def held(respx_mock: respx.MockRouter) -> MockStream:
    """The server answers "Hello" and then nothing more."""
    answer = mock_stream(token("Hello"), HOLD)
    respx_mock.post(URL).mock(side_effect=answer)
    return answer


EVENT_STREAM = {"content-type": "text/event-stream"}


class Reading:
    """A task that waits for one event."""

    def __init__(self, stream: Stream[Token | Finish]) -> None:
        self.error: BaseException | None = None
        self._stream = stream

    async def run(self) -> None:
        try:
            await anext(self._stream)
        except StreamError as exc:
            self.error = exc


def inside(stream: Stream[Token | Finish]) -> weakref.ref[object]:
    """What a stream holds, which has the connection."""
    return weakref.ref(vars(stream)["_exchange"])


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is not freed by counting references is not freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# The protocol of a generator


async def test_a_stream_is_an_async_generator(hello: MockStream) -> None:
    async with Acme() as session:
        stream = session.stream()
        assert isinstance(stream, AsyncGenerator)
        assert aiter(stream) is stream
        assert await anext(stream) == Token(text="Hello")
        assert await stream.asend(None) == Token(text="Human")
        assert [event async for event in stream] == [Token(text="!"), Finish()]
    assert hello.closed


async def test_aclosing_closes_it(held: MockStream) -> None:
    async with Acme() as session:
        async with aclosing(session.stream()) as stream:
            await anext(stream)
            assert not held.closed
        assert held.closed


async def test_what_is_thrown_into_it_closes_it_and_comes_out(held: MockStream) -> None:
    async with Acme() as session:
        stream = session.stream()
        await anext(stream)
        with pytest.raises(ZeroDivisionError, match="oops"):
            await stream.athrow(ZeroDivisionError("oops"))
        assert held.closed
        with pytest.raises(ZeroDivisionError):
            await session.stream().athrow(ZeroDivisionError)


async def test_closing_it_twice_is_closing_it_once(held: MockStream) -> None:
    async with Acme() as session:
        stream = session.stream()
        await anext(stream)
        await stream.aclose()
        await stream.aclose()
    assert held.closed


async def test_a_stream_that_was_closed_before_it_began_sends_nothing(
    respx_mock: respx.MockRouter,
) -> None:
    route = respx_mock.post(URL)
    async with Acme() as session:
        stream = session.stream()
        await stream.aclose()
        with pytest.raises(SessionStateError, match="was closed; call stream"):
            await anext(stream)
    assert route.call_count == 0


async def test_anext_takes_a_default(hello: MockStream) -> None:
    async with Acme() as session:
        stream = session.stream()
        events = [await anext(stream, None) for _ in range(5)]
    assert events[-1] is None
    assert hello.closed


async def test_a_finished_stream_is_not_read_again(hello: MockStream) -> None:
    async with Acme() as session:
        stream = session.stream()
        await stream.collect()
        for again in (anext(stream), stream.asend(None), stream.__aenter__()):
            with pytest.raises(SessionStateError, match=r"is finished: .* call stream"):
                await again
        assert len(stream.reply.events) == 4
    assert len(hello.requests) == 1


async def test_a_failed_stream_is_not_read_again(respx_mock: respx.MockRouter) -> None:
    respx_mock.post(URL).mock(side_effect=mock_stream(token("Hello")))
    async with Acme() as session:
        stream = session.stream()
        with pytest.raises(StreamTruncated):
            await stream.collect()
        for _ in range(2):
            with pytest.raises(SessionStateError, match="has failed: what came is in `reply`"):
                await stream.collect()
        assert stream.reply.text == "Hello"


async def test_a_stream_is_read_by_one_task(respx_mock: respx.MockRouter) -> None:
    gate = Gate()
    respx_mock.post(URL).mock(side_effect=mock_stream(gate, chat("Hello")))
    texts: list[str] = []

    async def read(stream: Stream[Token | Finish]) -> None:
        texts.append((await stream.collect()).text)

    async with Acme() as session:
        stream = session.stream()
        async with anyio.create_task_group() as group:
            group.start_soon(read, stream)
            await gate.reached()
            with pytest.raises(SessionStateError, match="another task reads the stream"):
                await anext(stream)
            gate.open()
    assert texts == ["Hello"], "the first one is not disturbed"


async def test_closing_it_in_another_task_ends_the_one_that_reads(held: MockStream) -> None:
    ends: list[StreamError] = []

    async def read(stream: Stream[Token | Finish]) -> None:
        with pytest.raises(StreamClosed, match="another task closed the stream") as caught:
            await stream.collect()
        ends.append(caught.value)

    async with Acme() as session:
        stream = session.stream()
        async with anyio.create_task_group() as group:
            group.start_soon(read, stream)
            await anyio.wait_all_tasks_blocked()
            await stream.aclose()
            assert held.closed
    assert [type(end) for end in ends] == [StreamClosed]
    assert ends[0].partial.text == "Hello"


async def test_closing_it_just_as_an_event_arrives_ends_the_one_that_reads(
    respx_mock: respx.MockRouter,
) -> None:
    arriving = anyio.Event()

    async def late() -> AsyncIterator[bytes]:
        yield token("Hello")
        await arriving.wait()
        yield token("late")

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=EVENT_STREAM, content=late())

    respx_mock.post(URL).mock(side_effect=answer)
    async with Acme() as session:
        stream = session.stream()
        assert await anext(stream) == Token(text="Hello")
        reading = Reading(stream)
        async with anyio.create_task_group() as group:
            group.start_soon(reading.run)
            await anyio.wait_all_tasks_blocked()
            arriving.set()
            await stream.aclose()
    assert isinstance(reading.error, StreamClosed)
    assert reading.error.partial.text == "Hello"


# The context manager


async def test_entering_waits_for_the_response(respx_mock: respx.MockRouter) -> None:
    gate = Gate()
    respx_mock.post(URL).mock(
        side_effect=mock_stream(gate, chat("Hello"), headers={"X-Request-Id": "req-1"})
    )
    async with Acme() as session:
        stream = session.stream()
        with pytest.raises(SessionStateError, match="no response yet"):
            _ = stream.response
        async with stream:
            response = stream.response
            assert (response.status, response.request_id) == (200, "req-1")
            assert response.content_type == "text/event-stream"
            assert response.headers["x-request-id"] == "req-1"
            assert "req-1" in repr(response)
            gate.open()
            assert (await stream.collect()).text == "Hello"


async def test_entering_raises_what_the_server_refuses(respx_mock: respx.MockRouter) -> None:
    answer = mock_stream(status=404)
    respx_mock.post(URL).mock(side_effect=answer)
    async with Acme() as session:
        with pytest.raises(NotFound):
            await session.stream().__aenter__()
    assert answer.closed


async def test_leaving_early_closes_it_on_the_spot(held: MockStream) -> None:
    async with Acme() as session:
        with suppress(ZeroDivisionError):
            async with session.stream() as stream:
                async for _ in stream:
                    raise ZeroDivisionError
        assert held.closed


async def test_leaving_it_cancelled_closes_it_on_the_spot(held: MockStream) -> None:
    async with Acme() as session:
        with anyio.CancelScope() as scope:
            async with session.stream() as stream:
                await anext(stream)
                scope.cancel()
                await anext(stream)
        assert scope.cancelled_caught
        assert held.closed


# What is read from it


async def test_text_gives_the_tokens_that_have_any(respx_mock: respx.MockRouter) -> None:
    events = [
        TextDelta(text="Hi"),
        ReasoningDelta(text="hm"),
        TextDelta(text=""),
        TextDelta(text="!"),
    ]
    respx_mock.post(URL).mock(side_effect=mock_stream(sse(*events, {"type": "done"})))
    async with AsyncSession(base_url=BASE_URL) as session:
        stream = session.stream("POST", "/generate")
        assert [text async for text in stream.text()] == ["Hi", "!"]
        assert stream.reply.complete
        assert stream.reply.reasoning == "hm"


async def test_text_and_events_can_be_read_in_turns(hello: MockStream) -> None:
    async with Acme() as session:
        stream = session.stream()
        async for text in stream.text():
            assert text == "Hello"
            break
        assert await anext(stream) == Token(text="Human")
        assert [text async for text in stream.text()] == ["!"]
    assert hello.closed


async def test_collect_gives_the_whole_reply(hello: MockStream) -> None:
    async with Acme() as session:
        stream = session.stream()
        await anext(stream)
        reply = await stream.collect()
        assert reply.text == "HelloHuman!"
        assert await stream.collect() is reply is stream.reply
    assert hello.closed


async def test_the_reply_grows_with_the_events(hello: MockStream) -> None:
    texts: list[str] = []
    async with Acme() as session:
        stream = session.stream()
        assert (stream.reply.text, stream.reply.complete) == ("", False)
        async for event in stream:
            assert stream.reply.complete == isinstance(event, Finish)
            texts.append(stream.reply.text)
    assert texts == ["Hello", "HelloHuman", "HelloHuman!", "HelloHuman!"]
    assert repr(stream.reply) == "<Reply complete: 4 events, text='HelloHuman!'>"


async def test_a_reply_is_complete_once_the_final_event_was_read(hello: MockStream) -> None:
    async with Acme() as session, session.stream() as stream:
        async for event in stream:
            if isinstance(event, Finish):
                break
        assert stream.reply.complete
    assert hello.closed


async def test_events_may_be_read_by_one_task_after_another(hello: MockStream) -> None:
    events: list[Token | Finish] = []

    async def read_one(stream: Stream[Token | Finish]) -> None:
        events.append(await anext(stream))

    async with Acme() as session:
        stream = session.stream()
        for _ in range(4):
            async with anyio.create_task_group() as group:
                group.start_soon(read_one, stream)
        assert await stream.collect() is stream.reply
    assert events == stream.reply.events
    assert hello.closed


async def test_looking_at_the_reply_after_every_event_reads_each_once(
    respx_mock: respx.MockRouter,
) -> None:
    class Costly(Event):
        type: Literal["costly"] = "costly"
        asked: ClassVar[list[int]] = []

        def as_token(self) -> str:
            self.asked.append(1)
            return "x"

    class CostlySession(AsyncSession[Costly]):
        base_url = BASE_URL
        final_events = None

    respx_mock.post(URL).mock(side_effect=mock_stream(sse(*[Costly()] * 100)))
    async with CostlySession() as session:
        stream = session.stream("POST", "/generate")
        async for _ in stream:
            _ = stream.reply.text
    assert stream.reply.text == "x" * 100
    assert len(Costly.asked) == 100


async def test_its_stats_tell_how_far_it_was_read(respx_mock: respx.MockRouter) -> None:
    """Also to whoever took them before, and of events that came together."""
    respx_mock.post(URL).mock(side_effect=mock_stream(token("a") + token("b") + token("c")))
    async with Acme() as session:
        stream = session.stream()
        stats = stream.stats
        read = [stats.events]
        with suppress(StreamTruncated):
            async for _ in stream:
                read.append(stats.events)  # noqa: PERF401 - what came before a failure counts
    assert read == [0, 1, 2, 3]
    assert stats.attempts == 1
    assert stats is stream.stats
    assert repr(stats).startswith("StreamStats(events=3, attempts=1, unknown_events=0, ")


async def test_a_stream_that_keeps_no_reply_keeps_nothing(respx_mock: respx.MockRouter) -> None:
    respx_mock.post(URL).mock(side_effect=mock_stream(token("Hello"), token("!")))
    async with Acme(keep_reply=False) as session:
        stream = session.stream()
        with pytest.raises(StreamTruncated) as caught:
            await stream.collect()
    assert stream.stats.events == 2
    assert (stream.reply.events, stream.reply.text) == ([], "")
    assert (list(caught.value.events), caught.value.partial.text) == ([], "")


async def test_the_stats_tell_what_it_cost(respx_mock: respx.MockRouter) -> None:
    steps: list[bytes | Pause] = [
        token("a"),
        Pause(0.05),
        sse({"type": "ping"}),
        token("b"),
        FINISH,
    ]
    respx_mock.post(URL).mock(side_effect=mock_stream(*steps))
    async with Acme() as session:
        stream = session.stream()
        stats = stream.stats
        assert (stats.attempts, stats.events, stats.time_to_first_event) == (0, 0, None)
        await anext(stream)
        first = stats.time_to_first_event
        assert first is not None
        assert 0 < first < 5
        await stream.collect()
    assert (stats.attempts, stats.events, stats.unknown_events) == (1, 3, 1)
    assert stats.bytes == sum(len(step) for step in steps if isinstance(step, bytes))
    assert stats.time_to_first_event == first
    assert 0.04 < stats.longest_gap < 5
    assert repr(stream) == "<Stream events=3 attempts=1>"


# Dropping it


async def test_a_dropped_stream_is_freed_at_once_and_closed_soon(
    held: MockStream, no_collector: None
) -> None:
    async with Acme() as session:
        async for _ in session.stream():
            break
        await anyio.wait_all_tasks_blocked()
        assert held.closed


@pytest.mark.parametrize("events", [0, 1, 4])
async def test_a_stream_is_in_no_reference_cycle(
    hello: MockStream, no_collector: None, events: int
) -> None:
    async with Acme() as session:
        stream = session.stream()
        for _ in range(events):
            await anext(stream)
        exchange, alive = inside(stream), weakref.ref(stream)
        del stream
        assert alive() is None
        await anyio.wait_all_tasks_blocked()
        assert exchange() is None


async def test_a_finished_stream_is_in_no_reference_cycle(
    hello: MockStream, no_collector: None
) -> None:
    async with Acme() as session:
        stream = session.stream()
        await stream.collect()
        exchange = inside(stream)
        del stream
        assert exchange() is None


async def test_a_failed_stream_is_in_no_reference_cycle(
    respx_mock: respx.MockRouter, no_collector: None
) -> None:
    respx_mock.post(URL).mock(side_effect=mock_stream(token("Hello")))
    async with Acme() as session:
        stream = session.stream()
        with suppress(StreamTruncated):
            await stream.collect()
        exchange = inside(stream)
        del stream
        assert exchange() is None


async def test_a_session_is_in_no_reference_cycle(hello: MockStream, no_collector: None) -> None:
    session = Acme()
    async with session:
        await session.stream().collect()
    alive = weakref.ref(session)
    del session
    assert alive() is None


async def test_a_stream_that_outlives_its_loop_can_be_dropped(no_collector: None) -> None:
    class Kept:
        stream: AsyncIterator[Token | Finish] | None = None

    def run(backend: str) -> None:
        async def leave() -> None:
            transport = httpx.MockTransport(mock_stream(token("Hello"), HOLD))
            session = await Acme(transport=transport).__aenter__()
            Kept.stream = session.stream()
            await anext(Kept.stream)

        anyio.run(leave, backend=backend)
        Kept.stream = None

    for backend in ("asyncio", "trio"):
        await anyio.to_thread.run_sync(run, backend)
