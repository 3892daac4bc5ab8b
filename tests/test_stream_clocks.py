"""The four clocks: they count waiting for the server, and nothing else."""

import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
import respx

from streamsession import (
    ConnectFailed,
    RetryPolicy,
    StreamError,
    TimedOut,
    Timeouts,
)
from streamsession.testing import (
    HANG_UP,
    HOLD,
    Gate,
    MockStream,
    Pause,
    Step,
    mock_stream,
    sse,
    sse_event,
)
from tests.acme import FINISH, URL, Acme, Finish, Token, chat, in_turn, sent, token

pytestmark = pytest.mark.anyio

SHORT = 0.05
"""A limit that runs out within a test, in seconds."""
NOTHING = b": ping\n\n"


def limits(**seconds: float) -> Timeouts:
    """Only these clocks."""
    return Timeouts(**{**dict.fromkeys(("connect", "first_event", "idle", "total")), **seconds})


async def timed_out(answer: MockStream, timeout: Timeouts, **options: Any) -> TimedOut:
    """What a stream with this answer raises, within reasonable time."""
    with respx.mock, anyio.fail_after(5):
        respx.post(URL).mock(side_effect=answer)
        async with Acme(timeout=timeout, **options) as session:
            with pytest.raises(TimedOut) as caught:
                await session.stream().collect()
    assert answer.closed
    return caught.value


# Each clock


async def test_the_first_event_may_take_too_long() -> None:
    error = await timed_out(
        mock_stream(HOLD, headers={"X-Request-Id": "req-1"}), limits(first_event=SHORT)
    )
    assert (error.clock, error.seconds) == ("first_event", SHORT)
    assert str(error) == "no first event within 0.05 s"
    assert isinstance(error, TimeoutError)
    assert (error.attempts, error.request_id, error.partial.text) == (1, "req-1", "")


async def test_the_first_event_counts_from_the_request(respx_mock: respx.MockRouter) -> None:
    async def think(_: httpx.Request) -> httpx.Response:
        await anyio.sleep(20 * SHORT)
        return httpx.Response(400)

    respx_mock.post(URL).mock(side_effect=think)
    began = anyio.current_time()
    async with Acme(timeout=limits(first_event=SHORT)) as session:
        with pytest.raises(TimedOut) as caught:
            await session.stream().collect()
    assert caught.value.clock == "first_event"
    assert anyio.current_time() - began < 19 * SHORT


async def test_the_next_event_may_take_too_long() -> None:
    answer = mock_stream(sse_event(Token(text="Hello"), id="7"), HOLD)
    error = await timed_out(answer, limits(idle=SHORT))
    assert (error.clock, error.seconds) == ("idle", SHORT)
    assert str(error).startswith("no event for 0.05 s")
    assert (error.partial.text, error.last_event_id, error.attempts) == ("Hello", "7", 1)


async def test_all_together_may_take_too_long() -> None:
    steps = [step for n in range(100) for step in (token(str(n % 10)), Pause(SHORT / 5))]
    error = await timed_out(mock_stream(*steps), limits(total=SHORT, idle=SHORT))
    assert (error.clock, error.seconds) == ("total", SHORT)
    assert error.partial.text.startswith("0")


async def test_connecting_may_take_too_long(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(URL).mock(side_effect=httpx.ConnectTimeout("slow"))
    async with Acme(timeout=limits(connect=0.25)) as session:
        with pytest.raises(TimedOut) as caught:
            await session.stream().collect()
    assert (caught.value.clock, caught.value.seconds) == ("connect", 0.25)
    assert isinstance(caught.value.__cause__, httpx.ConnectTimeout)
    assert route.call_count == 3, "it is tried again"
    given = sent(route)[0].extensions["timeout"]
    assert given == {"connect": 0.25, "read": None, "write": None, "pool": None}


@pytest.mark.parametrize("clock", ["first_event", "idle"])
async def test_the_patience_of_the_caller_is_not_tried_again(clock: str) -> None:
    begin = [token("Hello")] if clock == "idle" else []
    answer = mock_stream(*begin, HOLD)
    error = await timed_out(answer, limits(**{clock: SHORT}))
    assert error.clock == clock
    assert len(answer.requests) == 1


# What does not feed the idle clock

FEEDING: list[Any] = [
    pytest.param(NOTHING, id="comment"),
    pytest.param(sse({"type": "ping"}), id="unknown event"),
    pytest.param(sse_event("", event="ping"), id="named ping"),
    pytest.param(sse_event(id="1"), id="id without data"),
    pytest.param(b"data: part of an event\n", id="part of an event"),
]


@pytest.mark.parametrize("nothing", FEEDING)
@pytest.mark.parametrize("clock", ["first_event", "idle"])
async def test_what_is_no_event_feeds_no_clock(clock: str, nothing: bytes) -> None:
    steps: list[Step] = [token("Hello")] if clock == "idle" else []
    for _ in range(100):
        steps += [Pause(SHORT / 10), nothing]
    error = await timed_out(mock_stream(*steps, HANG_UP), limits(**{clock: SHORT}))
    assert error.clock == clock


async def test_a_flood_of_pings_feeds_no_clock() -> None:
    steps = [token("Hello"), *[NOTHING] * 100_000]
    error = await timed_out(mock_stream(*steps, HANG_UP), limits(idle=SHORT))
    assert error.clock == "idle"


async def test_events_feed_the_idle_clock(respx_mock: respx.MockRouter) -> None:
    steps = [step for _ in range(10) for step in (Pause(SHORT / 2), token("x"))]
    respx_mock.post(URL).mock(side_effect=mock_stream(*steps, FINISH))
    async with Acme(timeout=limits(idle=4 * SHORT)) as session:
        assert (await session.stream().collect()).text == "x" * 10


# The consumer's own time


async def slow(events: AsyncIterator[Token | Finish], seconds: float) -> list[Token | Finish]:
    """All events; about the first one its consumer thinks for so long."""
    first = await anext(events)
    thought = anyio.Event()

    async def think() -> None:
        await anyio.sleep(seconds)
        thought.set()

    async with anyio.create_task_group() as group:
        group.start_soon(think)
        await thought.wait()
    return [first, *[event async for event in events]]


async def test_the_consumers_own_time_does_not_count(respx_mock: respx.MockRouter) -> None:
    respx_mock.post(URL).mock(side_effect=mock_stream(token("a"), token("b"), FINISH))
    most = 6 * SHORT
    async with Acme(timeout=limits(first_event=most, idle=most, total=most)) as session:
        assert len(await slow(session.stream(), 7 * SHORT)) == 3


async def test_time_between_the_response_and_the_first_read_does_not_count(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.post(URL).mock(side_effect=mock_stream(chat("a")))
    async with Acme(timeout=limits(first_event=6 * SHORT)) as session, session.stream() as stream:
        await anyio.sleep(7 * SHORT)
        assert (await stream.collect()).text == "a"


async def test_waiting_after_a_slow_consumer_is_not_cut_short(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.post(URL).mock(side_effect=mock_stream(token("a"), Pause(SHORT), FINISH))
    async with Acme(timeout=limits(idle=8 * SHORT, total=8 * SHORT)) as session:
        assert len(await slow(session.stream(), 9 * SHORT)) == 2


# The total clock over several attempts


async def test_the_total_counts_all_attempts_and_the_waits_between() -> None:
    async def wait(_: float) -> None:
        await anyio.sleep(SHORT / 4)

    answer = mock_stream(status=503)
    retry = RetryPolicy(attempts=1000, sleep=wait)
    error = await timed_out(answer, limits(total=4 * SHORT, first_event=4 * SHORT), retry=retry)
    assert error.clock == "total"
    assert error.attempts == len(answer.requests) > 1


async def test_the_total_ends_a_wait_between_two_attempts() -> None:
    async def wait(_: float) -> None:
        await anyio.sleep_forever()

    answer = mock_stream(status=503)
    error = await timed_out(answer, limits(total=SHORT), retry=RetryPolicy(sleep=wait))
    assert (error.clock, error.attempts) == ("total", 1)


async def test_each_attempt_has_the_first_event_clock_for_itself(
    respx_mock: respx.MockRouter,
) -> None:
    late = mock_stream(Pause(4 * SHORT), HANG_UP)
    respx_mock.post(URL).mock(
        side_effect=in_turn(late, late, mock_stream(Pause(4 * SHORT), FINISH))
    )
    async with Acme(timeout=limits(first_event=10 * SHORT)) as session:
        stream = session.stream()
        await stream.collect()
    assert stream.stats.attempts == 3


async def test_a_resumed_stream_waits_on_the_idle_clock(respx_mock: respx.MockRouter) -> None:
    class Resumable(Acme):
        resumable = True

    broken = mock_stream(sse_event(Token(text="a"), id="1"), HANG_UP)
    respx_mock.post(URL).mock(side_effect=in_turn(broken, mock_stream(HOLD)))
    async with Resumable(timeout=limits(idle=SHORT)) as session:
        with pytest.raises(TimedOut) as caught:
            await session.stream().collect()
    assert (caught.value.clock, caught.value.attempts) == ("idle", 2)
    assert caught.value.partial.text == "a"


# Setting them


async def test_a_stream_may_have_clocks_of_its_own(respx_mock: respx.MockRouter) -> None:
    respx_mock.post(URL).mock(side_effect=mock_stream(HOLD))
    async with Acme(timeout=limits()) as session:
        with anyio.fail_after(5), pytest.raises(TimedOut):
            await session.open_stream(
                "POST", "/generate", timeout=limits(first_event=SHORT)
            ).collect()


async def test_none_never_runs_out(respx_mock: respx.MockRouter) -> None:
    gate = Gate()
    respx_mock.post(URL).mock(side_effect=mock_stream(gate, chat("a")))
    async with Acme(timeout=limits()) as session, anyio.create_task_group() as group:
        group.start_soon(session.stream().collect)
        await gate.reached()
        await anyio.wait_all_tasks_blocked()
        gate.open()


@pytest.mark.parametrize("clock", ["connect", "first_event", "idle", "total"])
@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_limit_must_be_a_time_to_wait(clock: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=rf"Timeouts.{clock} must be more than 0 seconds"):
        Timeouts(**{clock: seconds})


async def test_the_callers_own_time_limit_comes_before_the_clocks(
    respx_mock: respx.MockRouter,
) -> None:
    answer = mock_stream(token("a"), HOLD)
    respx_mock.post(URL).mock(side_effect=answer)
    async with Acme(timeout=limits(idle=60)) as session:
        with pytest.raises(TimeoutError) as caught, anyio.fail_after(SHORT):
            await session.stream().collect()
    assert not isinstance(caught.value, StreamError)
    assert answer.closed


async def test_a_failure_to_connect_is_no_time_out(respx_mock: respx.MockRouter) -> None:
    respx_mock.post(URL).mock(side_effect=httpx.ConnectError("refused"))
    async with Acme(timeout=limits(connect=SHORT)) as session:
        with pytest.raises(ConnectFailed):
            await session.stream().collect()


class Scoped(httpx.AsyncByteStream):
    """A body that waits in a cancel scope, as httpcore's own do."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with anyio.CancelScope():
            await anyio.sleep_forever()
        yield b""


class Late(httpx.AsyncBaseTransport):
    """An answer that comes when its clock has run out, while the event loop could not see that."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        time.sleep(0.05)  # noqa: ASYNC251 - that is how it cannot
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(200, headers=headers, stream=Scoped(), request=request)


async def test_a_clock_that_ran_out_unseen_leaves_no_scope_of_the_library_open() -> None:
    async with httpx.AsyncClient(transport=Late()) as client:
        timeout = Timeouts(first_event=0.01)
        async with Acme(
            http_client=client, timeout=timeout, retry=RetryPolicy(attempts=1)
        ) as session:
            with anyio.CancelScope(), pytest.raises(TimedOut):
                await session.stream().collect()
