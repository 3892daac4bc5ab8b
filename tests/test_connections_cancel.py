"""Cancelling at every phase, once and twice: no connection is lost, and nothing hangs."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

import anyio
import httpx
import pytest

from streamsession import (
    RetryPolicy,
    SessionClosed,
    Stream,
    StreamClosed,
    StreamError,
    TokenAuth,
)
from streamsession.testing import (
    HANG_UP,
    HOLD,
    RESET,
    Gate,
    Pause,
    RecordedRequest,
    ScriptedResponse,
    ScriptedServer,
    sse_event,
)
from tests.acme import Acme, Finish, Token, chat, token

pytestmark = pytest.mark.anyio

HELLO = ScriptedResponse([chat("Hello")])
ENDLESS = ScriptedResponse([token("Hello"), HOLD])
PATIENCE = 5.0
"""Far more than anything here takes, in seconds."""

only_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


class Phase:
    """A stream that comes to rest at one point of its life, over a pool of one connection."""

    keeps_connection = False
    """Whether the connection is rightly open afterwards: nothing was under way on it."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.events = 0
        """How many events are read before the rest."""
        self.retry = RetryPolicy(base_delay=0)
        self.resumable = False

    def script(self) -> list[ScriptedResponse]:
        """What the server answers."""
        raise NotImplementedError

    async def reached(self) -> None:
        """Wait until the stream, having read its events, is about to rest."""
        await self.gate.reached()

    def session(self, server: ScriptedServer) -> Acme:
        class OfThisPhase(Acme):
            resumable = self.resumable

        return OfThisPhase(
            base_url=server.url, limits=httpx.Limits(max_connections=1), retry=self.retry
        )


class WaitingForHeaders(Phase):
    def script(self) -> list[ScriptedResponse]:
        return [ScriptedResponse([self.gate, HOLD], framing="raw")]


class InTheHead(Phase):
    def script(self) -> list[ScriptedResponse]:
        return [ScriptedResponse([b"HTTP/1.1 200 OK\r\n", self.gate, HOLD], framing="raw")]


class WaitingForTheFirstEvent(Phase):
    def script(self) -> list[ScriptedResponse]:
        return [ScriptedResponse([b": hi\n\n", self.gate, HOLD])]


class InTheBody(Phase):
    def __init__(self) -> None:
        super().__init__()
        self.events = 1

    def script(self) -> list[ScriptedResponse]:
        return [ScriptedResponse([token("Hello"), self.gate, HOLD])]


class AfterTheFinalEvent(Phase):
    def __init__(self) -> None:
        super().__init__()
        self.events = 2

    def script(self) -> list[ScriptedResponse]:
        return [ScriptedResponse([chat("Hello"), self.gate, HOLD])]


class InAnErrorBody(Phase):
    def script(self) -> list[ScriptedResponse]:
        return [ScriptedResponse([b"it br", self.gate, HOLD], status=500)]


class BeforeTheNextAttempt(Phase):
    keeps_connection = True

    def __init__(self) -> None:
        super().__init__()
        self._waiting = anyio.Event()
        self.retry = RetryPolicy(sleep=self._wait)

    async def _wait(self, _: float) -> None:
        self._waiting.set()
        await anyio.sleep_forever()

    async def reached(self) -> None:
        await self._waiting.wait()

    def script(self) -> list[ScriptedResponse]:
        return [ScriptedResponse(status=503)]


class BeforeResuming(BeforeTheNextAttempt):
    keeps_connection = False

    def __init__(self) -> None:
        super().__init__()
        self.events = 1
        self.resumable = True

    def script(self) -> list[ScriptedResponse]:
        return [ScriptedResponse([sse_event(Token(text="Hello"), id="1"), HANG_UP])]


class WaitingForAToken(Phase):
    keeps_connection = True

    def __init__(self) -> None:
        super().__init__()
        self._waiting = anyio.Event()

    async def _provide(self) -> str:
        if not self._waiting.is_set():
            self._waiting.set()
            await anyio.sleep_forever()
        return "token"

    async def reached(self) -> None:
        await self._waiting.wait()

    def script(self) -> list[ScriptedResponse]:
        return []

    def session(self, server: ScriptedServer) -> Acme:
        return Acme(
            base_url=server.url,
            limits=httpx.Limits(max_connections=1),
            auth=TokenAuth(self._provide),
        )


PHASES = [
    WaitingForAToken,
    WaitingForHeaders,
    InTheHead,
    WaitingForTheFirstEvent,
    InTheBody,
    AfterTheFinalEvent,
    InAnErrorBody,
    BeforeTheNextAttempt,
    BeforeResuming,
]
every_phase = pytest.mark.parametrize("phase_type", PHASES)


async def come_to_rest(
    phase: Phase, stream: Stream[Token | Finish], start: Callable[[], object]
) -> None:
    """Start what reads the stream and wait until it can go no further."""
    start()
    await phase.reached()
    while stream.stats.events < phase.events:
        await anyio.lowlevel.checkpoint()
    await anyio.wait_all_tasks_blocked()


async def assert_nothing_is_lost(phase: Phase, server: ScriptedServer, session: Acme) -> None:
    """The one connection of the pool is free, and the server has seen the other one closed."""
    server.play(HELLO)
    with anyio.fail_after(PATIENCE):
        assert (await session.stream().collect()).text == "Hello"
    if not phase.keeps_connection:
        await server.until_closed(0)


async def read(stream: Stream[Token | Finish]) -> None:
    async for _ in stream:
        pass


@every_phase
async def test_a_scope_cancels_at_every_phase(
    scripted_server: ScriptedServer, phase_type: type[Phase]
) -> None:
    phase = phase_type()
    scripted_server.play(*phase.script())
    async with phase.session(scripted_server) as session:
        stream = session.stream()
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                await come_to_rest(phase, stream, lambda: group.start_soon(read, stream))
                group.cancel_scope.cancel()
        await assert_nothing_is_lost(phase, scripted_server, session)


@every_phase
async def test_a_scope_cancels_inside_the_block_of_a_stream(
    scripted_server: ScriptedServer, phase_type: type[Phase]
) -> None:
    phase = phase_type()
    scripted_server.play(*phase.script())

    async def read_in_block(stream: Stream[Token | Finish]) -> None:
        async with stream:
            await read(stream)

    async with phase.session(scripted_server) as session:
        stream = session.stream()
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                await come_to_rest(phase, stream, lambda: group.start_soon(read_in_block, stream))
                group.cancel_scope.cancel()
        await assert_nothing_is_lost(phase, scripted_server, session)


@every_phase
async def test_leaving_the_session_ends_a_stream_at_every_phase(
    scripted_server: ScriptedServer, phase_type: type[Phase]
) -> None:
    phase = phase_type()
    scripted_server.play(*phase.script())
    ends: list[StreamError] = []

    async def read_to_an_end(stream: Stream[Token | Finish]) -> None:
        try:
            await read(stream)
        except StreamError as exc:
            ends.append(exc)

    with anyio.fail_after(PATIENCE):
        async with (
            anyio.create_task_group() as group,
            phase.session(scripted_server) as session,
        ):
            stream = session.stream()
            await come_to_rest(phase, stream, lambda: group.start_soon(read_to_an_end, stream))
    if isinstance(phase, AfterTheFinalEvent):
        assert ends == [], "it was complete"
    else:
        assert [type(end) for end in ends] == [SessionClosed]
        assert len(ends[0].events) == phase.events
    for record in scripted_server.connections:
        await scripted_server.until_closed(record.index)


@every_phase
async def test_closing_in_another_task_ends_a_stream_at_every_phase(
    scripted_server: ScriptedServer, phase_type: type[Phase]
) -> None:
    phase = phase_type()
    scripted_server.play(*phase.script())

    async def read_to_an_end(stream: Stream[Token | Finish]) -> None:
        with suppress(StreamClosed):
            await read(stream)

    async with phase.session(scripted_server) as session:
        stream = session.stream()
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                await come_to_rest(phase, stream, lambda: group.start_soon(read_to_an_end, stream))
                await stream.aclose()
        await assert_nothing_is_lost(phase, scripted_server, session)


async def test_a_scope_cancelled_beforehand_sends_nothing(scripted_server: ScriptedServer) -> None:
    async with Acme(
        base_url=scripted_server.url, limits=httpx.Limits(max_connections=1)
    ) as session:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await session.stream().collect()
        assert scope.cancelled_caught
        scripted_server.play(HELLO)
        with anyio.fail_after(PATIENCE):
            assert (await session.stream().collect()).text == "Hello"


async def test_a_stream_cancelled_in_the_queue_of_the_pool_leaves_it(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(ENDLESS, HELLO)
    async with Acme(
        base_url=scripted_server.url, limits=httpx.Limits(max_connections=1)
    ) as session:
        first = session.stream()
        await anext(first)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(read, session.stream())
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        await first.aclose()
        with anyio.fail_after(PATIENCE):
            assert (await session.stream().collect()).text == "Hello"
    assert len(scripted_server.requests) == 2


async def test_closing_after_the_final_event_is_not_stopped_by_cancelling(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(ScriptedResponse([chat("Hello"), HOLD]), HELLO)
    async with Acme(
        base_url=scripted_server.url, limits=httpx.Limits(max_connections=1)
    ) as session:
        stream = session.stream()
        with anyio.CancelScope() as scope:
            async with stream:
                async for event in stream:
                    if isinstance(event, Finish):
                        scope.cancel()
                        break
        with anyio.fail_after(PATIENCE):
            assert (await session.stream().collect()).text == "Hello"
        assert stream.reply.text == "Hello", "it is still held"


async def test_leaving_a_cancelled_session_leaves_no_socket_open(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(*[ENDLESS] * 5)
    with anyio.fail_after(PATIENCE), anyio.CancelScope() as scope:
        async with (
            Acme(base_url=scripted_server.url) as session,
            anyio.create_task_group() as group,
        ):
            for _ in range(4):
                group.start_soon(read, session.stream())
            held = session.stream()
            await anext(held)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    for record in scripted_server.connections:
        await scripted_server.until_closed(record.index)


# Natively


async def cancelled(task: asyncio.Task[None]) -> bool:
    """Whether a task ends by being cancelled, within reasonable time."""
    await asyncio.wait([task], timeout=PATIENCE)
    return task.cancelled()


@only_asyncio
@every_phase
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_task_is_cancelled_at_every_phase(
    scripted_server: ScriptedServer, phase_type: type[Phase], times: int
) -> None:
    phase = phase_type()
    scripted_server.play(*phase.script())
    async with phase.session(scripted_server) as session:
        stream = session.stream()
        tasks: list[asyncio.Task[None]] = []
        await come_to_rest(phase, stream, lambda: tasks.append(asyncio.create_task(read(stream))))
        for _ in range(times):
            tasks[0].cancel()
            await asyncio.sleep(0)
        assert await cancelled(tasks[0])
        await assert_nothing_is_lost(phase, scripted_server, session)


@only_asyncio
@pytest.mark.parametrize("gap", [None, 0, 1, 2, 3, 5, 8])
async def test_a_task_is_cancelled_at_every_step(
    scripted_server: ScriptedServer, gap: int | None
) -> None:
    """After n turns of the event loop and, if there is a gap, once more so many turns later."""
    steps = 40
    scripted_server.play(*[ENDLESS] * (steps + 1))
    async with Acme(
        base_url=scripted_server.url, limits=httpx.Limits(max_connections=1)
    ) as session:
        for turns in range(steps):
            task = asyncio.create_task(read(session.stream()))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            if gap is not None:
                for _ in range(gap):
                    await asyncio.sleep(0)
                task.cancel()
            assert await cancelled(task)
        with anyio.fail_after(PATIENCE):
            assert await anext(session.stream()) == Token(text="Hello")


@only_asyncio
async def test_a_task_that_is_cancelled_while_it_waits_in_the_queue_leaves_it(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(ENDLESS, HELLO)
    async with Acme(
        base_url=scripted_server.url, limits=httpx.Limits(max_connections=1)
    ) as session:
        first = session.stream()
        await anext(first)
        waiting = [asyncio.create_task(read(session.stream())) for _ in range(3)]
        await anyio.wait_all_tasks_blocked()
        closing = asyncio.create_task(first.aclose())
        for task in waiting:
            task.cancel()  # some of them just when it is their turn
            await asyncio.sleep(0)
        await closing
        assert all([await cancelled(task) for task in waiting])
        with anyio.fail_after(PATIENCE):
            assert (await session.stream().collect()).text == "Hello"


@only_asyncio
async def test_a_time_limit_of_asyncio_is_told_from_a_clock(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(ENDLESS)
    async with Acme(base_url=scripted_server.url) as session:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.05):
                await read(session.stream())
        assert not isinstance(caught.value, StreamError)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


def in_all_ways(chance: random.Random) -> Callable[[RecordedRequest], ScriptedResponse]:
    """Answers of every kind, except to a prompt that asks for a calm one."""
    answers: list[Callable[[], ScriptedResponse]] = [
        lambda: ENDLESS,
        lambda: HELLO,
        lambda: ScriptedResponse([chat("Hello"), HOLD]),
        lambda: ScriptedResponse([token("Hello"), HANG_UP]),
        lambda: ScriptedResponse([token("Hello"), Pause(chance.random() * 0.02), RESET]),
        lambda: ScriptedResponse([HANG_UP], framing="raw"),
        lambda: ScriptedResponse(status=503),
        lambda: ScriptedResponse.json({"error": "no stream"}),
    ]

    def answer(request: RecordedRequest) -> ScriptedResponse:
        return ENDLESS if request.json()["prompt"] == "calm" else chance.choice(answers)()

    return answer


async def use_somehow(stream: Stream[Token | Finish], chance: random.Random) -> None:
    """Read, break off, give up, or close in another task."""

    async def close_soon() -> None:
        await anyio.sleep(chance.random() * 0.02)
        await stream.aclose()

    with suppress(StreamError, StopAsyncIteration):
        match chance.randrange(5):
            case 0:
                with anyio.move_on_after(chance.random() * 0.03):
                    await stream.collect()
            case 1:
                async for _ in stream:
                    break
            case 2:
                async with stream:
                    await anext(stream)
            case 3:
                await anext(stream)
                await stream.aclose()
            case _:
                async with anyio.create_task_group() as group:
                    group.start_soon(close_soon)
                    with suppress(StreamError):
                        await stream.collect()


@pytest.mark.parametrize("seed", range(2))
async def test_a_crowd_of_streams_that_end_in_all_ways_leaves_nothing_behind(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same every time
    async with ScriptedServer(in_all_ways(chance), repeat=True) as server:
        limits = httpx.Limits(max_connections=10)
        async with Acme(base_url=server.url, limits=limits) as session:
            with anyio.fail_after(4 * PATIENCE):
                async with anyio.create_task_group() as group:
                    for _ in range(100):
                        group.start_soon(use_somehow, session.stream(), chance)
            await until_ten_are_open(session)
        for record in server.connections:
            await server.until_closed(record.index)


async def until_ten_are_open(session: Acme) -> None:
    """Ten streams at once get their first event from a pool of ten: none of it is lost."""

    async def first_event(stream: Stream[Token | Finish]) -> None:
        assert await anext(stream) == Token(text="Hello")

    streams = [session.stream("calm") for _ in range(10)]
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            for stream in streams:
                group.start_soon(first_event, stream)


@only_asyncio
@pytest.mark.parametrize("seed", range(3))
async def test_no_connection_is_lost_in_a_hundred_random_double_cancels(
    scripted_server: ScriptedServer, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same every time
    scripted_server.play(*[ENDLESS] * 1000)

    async def cancel_twice(session: Acme) -> None:
        task = asyncio.create_task(read(session.stream()))
        await asyncio.sleep(chance.choice([0, chance.random() * 0.02]))
        task.cancel()
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        task.cancel()
        assert await cancelled(task)

    async with Acme(
        base_url=scripted_server.url, limits=httpx.Limits(max_connections=10)
    ) as session:
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(cancel_twice, session)
        await until_ten_are_open(session)


async def test_no_connection_is_lost_in_a_hundred_random_scopes(
    scripted_server: ScriptedServer,
) -> None:
    chance = random.Random(4)  # noqa: S311 - the same every time
    scripted_server.play(*[ENDLESS] * 1000)

    async def give_up(session: Acme) -> None:
        with anyio.move_on_after(chance.random() * 0.02) as outer:
            with anyio.move_on_after(chance.random() * 0.02):
                await read(session.stream())
            outer.cancel()

    async with Acme(
        base_url=scripted_server.url, limits=httpx.Limits(max_connections=10)
    ) as session:
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(give_up, session)
        await until_ten_are_open(session)


@only_asyncio
@pytest.mark.parametrize("turns", range(12))
async def test_cancelling_and_closing_at_the_same_time_end_it_once(
    scripted_server: ScriptedServer, turns: int
) -> None:
    scripted_server.play(ENDLESS, HELLO)
    async with Acme(
        base_url=scripted_server.url, limits=httpx.Limits(max_connections=1)
    ) as session:
        stream = session.stream()
        task = asyncio.create_task(read(stream))
        for _ in range(turns):
            await asyncio.sleep(0)
        closing = asyncio.create_task(stream.aclose())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task, closing], timeout=PATIENCE)
        assert task.done()
        assert closing.done()
        assert closing.exception() is None
        if not task.cancelled():
            assert isinstance(task.exception(), StreamError | None)
        scripted_server.play(HELLO)
        with anyio.fail_after(PATIENCE):
            await anext(session.stream())
