"""Cancelling at every phase, once and again: no connection is lost, and nothing hangs."""

import asyncio
import importlib.util
import itertools
import logging
import random
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Final, Literal, TypeAlias

import anyio
import anyio.lowlevel
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
    mock_stream,
    sse_event,
)
from tests.acme import Acme, Finish, Token, chat, token

pytestmark = pytest.mark.anyio

HELLO = ScriptedResponse([chat("Hello")])
ENDLESS = ScriptedResponse([token("Hello"), HOLD])
PATIENCE = 5.0
"""Far more than anything here takes, in seconds."""
ONE: Final = httpx.Limits(max_connections=1)
TEN: Final = httpx.Limits(max_connections=10)
LARGE: Final = 8 * 1024 * 1024
"""More bytes than the sockets of a connection hold that nobody reads from."""

Way: TypeAlias = tuple[Literal["task", "scope"], ...]
"""What cancels a task, one after the other: `Task.cancel`, or a scope of anyio around it."""

UVLOOP: Final = ("asyncio", {"use_uvloop": True})
if_uvloop_is_installed = pytest.mark.skipif(
    importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed"
)
natively = pytest.mark.parametrize(
    "anyio_backend",
    ["asyncio", pytest.param(UVLOOP, id="uvloop", marks=if_uvloop_is_installed)],
)
WAYS: Final[list[Way]] = [
    ("task",),
    ("task", "task"),
    ("task", "task", "task"),
    ("scope", "task"),
    ("task", "scope"),
    ("scope", "task", "task"),
    ("task", "scope", "task"),
]
in_every_way = pytest.mark.parametrize("way", WAYS, ids=" then ".join)


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

    def session(self, server: ScriptedServer) -> Acme:
        class OfThisPhase(Acme):
            resumable = self.resumable

        return OfThisPhase(base_url=server.url, limits=ONE, retry=self.retry)

    async def stream(self, session: Acme) -> Stream[Token | Finish]:
        """The stream that is to rest; nobody reads it yet."""
        return session.stream()

    async def reached(self) -> None:
        """Wait until the stream, having read its events, is about to rest."""
        await self.gate.reached()

    async def be_over(self, server: ScriptedServer) -> None:
        """Let the next stream be answered."""
        server.play(HELLO)

    def close(self) -> None:
        """Leave nothing behind."""


class Deaf:
    """A server whose connections nobody reads from before it listens; then it answers once."""

    def __init__(self, *, backlog: int) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.socket.settimeout(PATIENCE)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.unheard: list[socket.socket] = []
        """Connections that it has taken."""
        self._thread = threading.Thread(target=self._answer)

    def take_one(self) -> socket.socket:
        client, _ = self.socket.accept()
        client.settimeout(PATIENCE)
        self.unheard.append(client)
        return client

    def listen(self) -> None:
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self._thread.join()
        for client in (*self.unheard, self.socket):
            client.close()

    def _answer(self) -> None:
        while True:
            with self.unheard.pop() if self.unheard else self.take_one() as client:
                if self._was_answered(client):
                    return

    def _was_answered(self, client: socket.socket) -> bool:
        """Whether the request of `Acme` came, not the end of the connection."""
        with suppress(ConnectionError):
            while heard := client.recv(2**20):
                if heard.endswith(b"}"):
                    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                    client.sendall(head + b"Connection: close\r\n\r\n" + chat("Hello"))
                    return True
        return False


class OfADeafServer(Phase):
    backlog = 10
    keeps_connection = True  # of the other server, that is: it has none

    def __init__(self) -> None:
        super().__init__()
        self.deaf = Deaf(backlog=self.backlog)

    def script(self) -> list[ScriptedResponse]:
        return []

    def session(self, server: ScriptedServer) -> Acme:
        return Acme(base_url=self.deaf.url, limits=ONE)

    async def be_over(self, server: ScriptedServer) -> None:
        self.deaf.listen()

    def close(self) -> None:
        self.deaf.close()


class Connecting(OfADeafServer):
    """One connection fills the queue, so that the system does not answer another."""

    backlog = 0

    def __init__(self) -> None:
        super().__init__()
        self._first = socket.create_connection(self.deaf.socket.getsockname())

    async def reached(self) -> None:
        pass

    async def be_over(self, server: ScriptedServer) -> None:
        self._first.close()
        self.deaf.take_one()
        await super().be_over(server)

    def close(self) -> None:
        self._first.close()
        super().close()


class SendingALargeBody(OfADeafServer):
    async def stream(self, session: Acme) -> Stream[Token | Finish]:
        return session.open_stream("POST", "/generate", content=bytes(LARGE))

    async def reached(self) -> None:
        await anyio.wait_readable(self.deaf.socket)
        await anyio.wait_readable(self.deaf.take_one())


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
        return Acme(base_url=server.url, limits=ONE, auth=TokenAuth(self._provide))


class WaitingForTheCallersBody(Phase):
    def __init__(self) -> None:
        super().__init__()
        self._waiting = anyio.Event()

    async def _content(self) -> AsyncIterator[bytes]:
        yield b"a piece"
        self._waiting.set()
        await anyio.sleep_forever()

    async def stream(self, session: Acme) -> Stream[Token | Finish]:
        return session.open_stream("POST", "/generate", content=self._content())

    async def reached(self) -> None:
        await self._waiting.wait()

    def script(self) -> list[ScriptedResponse]:
        return []


class InTheQueueOfThePool(Phase):
    _first: Stream[Token | Finish]

    async def stream(self, session: Acme) -> Stream[Token | Finish]:
        self._first = session.stream()
        await anext(self._first)
        return session.stream()

    async def reached(self) -> None:
        pass

    def script(self) -> list[ScriptedResponse]:
        return [ENDLESS]

    async def be_over(self, server: ScriptedServer) -> None:
        server.play(HELLO)
        await self._first.aclose()


PHASES: Final = [
    WaitingForAToken,
    InTheQueueOfThePool,
    Connecting,
    SendingALargeBody,
    WaitingForTheCallersBody,
    WaitingForHeaders,
    InTheHead,
    WaitingForTheFirstEvent,
    InTheBody,
    AfterTheFinalEvent,
    InAnErrorBody,
    BeforeTheNextAttempt,
    BeforeResuming,
]


@pytest.fixture(params=PHASES)
def phase(request: pytest.FixtureRequest) -> Iterator[Phase]:
    phase: Phase = request.param()
    yield phase
    phase.close()


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
    with anyio.fail_after(PATIENCE):
        await phase.be_over(server)
        assert (await session.stream().collect()).text == "Hello"
    if not phase.keeps_connection:
        await server.until_closed(0)


async def until_all_closed(server: ScriptedServer) -> None:
    for record in server.connections:
        if record.is_open:
            await server.until_closed(record.index)


async def read(stream: Stream[Token | Finish]) -> None:
    async for _ in stream:
        pass


async def test_a_scope_cancels_at_every_phase(
    scripted_server: ScriptedServer, phase: Phase
) -> None:
    scripted_server.play(*phase.script())
    async with phase.session(scripted_server) as session:
        stream = await phase.stream(session)
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                await come_to_rest(phase, stream, lambda: group.start_soon(read, stream))
                group.cancel_scope.cancel()
        await assert_nothing_is_lost(phase, scripted_server, session)


async def test_a_scope_cancels_inside_the_block_of_a_stream(
    scripted_server: ScriptedServer, phase: Phase
) -> None:
    scripted_server.play(*phase.script())

    async def read_in_block(stream: Stream[Token | Finish]) -> None:
        async with stream:
            await read(stream)

    async with phase.session(scripted_server) as session:
        stream = await phase.stream(session)
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                await come_to_rest(phase, stream, lambda: group.start_soon(read_in_block, stream))
                group.cancel_scope.cancel()
        await assert_nothing_is_lost(phase, scripted_server, session)


async def test_leaving_the_session_ends_a_stream_at_every_phase(
    scripted_server: ScriptedServer, phase: Phase
) -> None:
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
            stream = await phase.stream(session)
            await come_to_rest(phase, stream, lambda: group.start_soon(read_to_an_end, stream))
    if isinstance(phase, AfterTheFinalEvent):
        assert ends == [], "it was complete"
    else:
        assert [type(end) for end in ends] == [SessionClosed]
        assert len(ends[0].events) == phase.events
    await until_all_closed(scripted_server)


async def test_closing_in_another_task_ends_a_stream_at_every_phase(
    scripted_server: ScriptedServer, phase: Phase
) -> None:
    scripted_server.play(*phase.script())

    async def read_to_an_end(stream: Stream[Token | Finish]) -> None:
        with suppress(StreamClosed):
            await read(stream)

    async with phase.session(scripted_server) as session:
        stream = await phase.stream(session)
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                await come_to_rest(phase, stream, lambda: group.start_soon(read_to_an_end, stream))
                await stream.aclose()
        await assert_nothing_is_lost(phase, scripted_server, session)


async def test_a_scope_cancelled_beforehand_sends_nothing(scripted_server: ScriptedServer) -> None:
    async with Acme(base_url=scripted_server.url, limits=ONE) as session:
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
    async with Acme(base_url=scripted_server.url, limits=ONE) as session:
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
    async with Acme(base_url=scripted_server.url, limits=ONE) as session:
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
    await until_all_closed(scripted_server)


# Natively


async def cancelled(task: asyncio.Task[None]) -> bool:
    """Whether a task ends by being cancelled, within reasonable time."""
    await asyncio.wait([task], timeout=PATIENCE)
    return task.cancelled()


class Reader:
    """A task that reads a stream until it is cancelled, natively or by the scope around it."""

    def __init__(self, stream: Stream[Token | Finish]) -> None:
        self._scope = anyio.CancelScope()
        self._was_cancelled = False
        self.task = asyncio.create_task(self._read(stream))

    async def _read(self, stream: Stream[Token | Finish]) -> None:
        with self._scope, suppress(StreamError):
            await read(stream)

    async def cancel(self, way: Way, *, gap: int = 1) -> None:
        """In the way given, with so many turns of the event loop in between."""
        for step, what in enumerate(way):
            await turns(gap if step else 0)
            if what == "task":
                self._was_cancelled |= self.task.cancel()
            else:
                self._scope.cancel()

    async def ends(self) -> bool:
        """Whether it does so within reasonable time, cancelled if it was before the scope ended."""
        await asyncio.wait([self.task], timeout=PATIENCE)
        return self.task.done() and self.task.cancelled() is self._was_cancelled


async def turns(number: int) -> None:
    """Let the event loop turn so many times."""
    for _ in range(number):
        await asyncio.sleep(0)


@natively
@pytest.mark.parametrize("way", WAYS[:4], ids=" then ".join)
async def test_a_task_is_cancelled_at_every_phase(
    scripted_server: ScriptedServer, phase: Phase, way: Way
) -> None:
    scripted_server.play(*phase.script())
    async with phase.session(scripted_server) as session:
        stream = await phase.stream(session)
        readers: list[Reader] = []
        await come_to_rest(phase, stream, lambda: readers.append(Reader(stream)))
        await readers[0].cancel(way)
        assert await readers[0].ends()
        await assert_nothing_is_lost(phase, scripted_server, session)


@natively
@in_every_way
async def test_a_task_is_cancelled_at_every_step(scripted_server: ScriptedServer, way: Way) -> None:
    """After so many turns of the event loop, and again some turns later."""
    scripted_server.play(*[ENDLESS] * 41)
    async with Acme(base_url=scripted_server.url, limits=ONE) as session:
        for step in range(40):
            reader = Reader(session.stream())
            await turns(step)
            await reader.cancel(way, gap=step % 5)
            assert await reader.ends()
        with anyio.fail_after(PATIENCE):
            assert await anext(session.stream()) == Token(text="Hello")


STEPS: Final = [
    "connect_tcp.started",
    "connect_tcp.complete",
    "send_request_headers.started",
    "send_request_headers.complete",
    "send_request_body.started",
    "send_request_body.complete",
    "receive_response_headers.started",
    "receive_response_headers.complete",
    "receive_response_body.started",
    "receive_response_body.complete",
    "response_closed.started",
    "response_closed.complete",
]
at_every_step_of_httpcore = pytest.mark.parametrize("step", STEPS)


class Tripwire(logging.Handler):
    """Does something as soon as httpcore logs a step, in the task that takes it."""

    def __init__(self, step: str, action: Callable[[], object]) -> None:
        super().__init__()
        self._step = step
        self._action = action
        self.was_tripped = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.was_tripped and record.getMessage().startswith(self._step):
            self.was_tripped = True
            self._action()


@pytest.fixture
def trip(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[Tripwire], None]]:
    """Lays a tripwire."""
    loggers = [logging.getLogger(f"httpcore.{name}") for name in ("connection", "http11")]
    laid: list[Tripwire] = []

    def lay(wire: Tripwire) -> None:
        laid.append(wire)
        for logger in loggers:
            caplog.set_level(logging.DEBUG, logger.name)
            logger.addHandler(wire)

    yield lay
    for logger in loggers:
        for wire in laid:
            logger.removeHandler(wire)


@at_every_step_of_httpcore
async def test_a_scope_cancels_at_every_step_of_httpcore(
    scripted_server: ScriptedServer, trip: Callable[[Tripwire], None], step: str
) -> None:
    scripted_server.play(HELLO, HELLO)
    scope = anyio.CancelScope()
    trip(wire := Tripwire(step, scope.cancel))
    async with Acme(base_url=scripted_server.url, limits=ONE) as session:
        with anyio.fail_after(PATIENCE), scope:
            await session.stream().collect()
        assert wire.was_tripped
        with anyio.fail_after(PATIENCE):
            assert (await session.stream().collect()).text == "Hello"
    await until_all_closed(scripted_server)


@natively
@at_every_step_of_httpcore
@pytest.mark.parametrize("gap", [None, 1])
async def test_a_task_is_cancelled_at_every_step_of_httpcore(
    scripted_server: ScriptedServer, trip: Callable[[Tripwire], None], step: str, gap: int | None
) -> None:
    """Once or, if there is a gap, again so many turns later."""
    scripted_server.play(HELLO, HELLO)
    tripped = anyio.Event()
    async with Acme(base_url=scripted_server.url, limits=ONE) as session:
        reader = Reader(session.stream())

        def cancel() -> None:
            reader.task.cancel()
            tripped.set()

        trip(Tripwire(step, cancel))
        await tripped.wait()
        if gap is not None:
            await turns(gap)
            reader.task.cancel()
        await asyncio.wait([reader.task], timeout=PATIENCE)
        assert reader.task.done()
        with anyio.fail_after(PATIENCE):
            assert (await session.stream().collect()).text == "Hello"
    await until_all_closed(scripted_server)


def at_any_path() -> Callable[[RecordedRequest], ScriptedResponse]:
    """Answers to what `begin` sends."""
    busy = itertools.cycle([True, False])

    def answer(request: RecordedRequest) -> ScriptedResponse:
        match request.path:
            case "/moved":
                return ScriptedResponse(status=307, headers={"Location": "/generate"})
            case "/private" if request.headers["authorization"] != "Bearer new":
                return ScriptedResponse.json({"error": "expired"}, status=401)
            case "/busy" if next(busy):
                return ScriptedResponse.json({"error": "busy"}, status=503)
            case "/short":
                return HELLO
            case _:
                return ENDLESS

    return answer


def begin(session: Acme, kind: str) -> Stream[Token | Finish]:
    """A stream with more to it than one request and one answer."""
    match kind:
        case "a large body":
            return session.open_stream("POST", "/generate", content=bytes(LARGE // 8))
        case "a body in pieces":
            return session.open_stream("POST", "/generate", content=in_pieces())
        case "a name to be resolved":
            return session.stream()
        case path:
            return session.open_stream("POST", path)


async def in_pieces() -> AsyncIterator[bytes]:
    for _ in range(8):
        yield b"a piece"
        await anyio.lowlevel.checkpoint()


@natively
@pytest.mark.parametrize(
    "kind",
    [
        "a name to be resolved",
        "a large body",
        "a body in pieces",
        "/moved",
        "/private",
        "/busy",
        "/short",
    ],
)
async def test_a_task_is_cancelled_at_every_step_of_a_longer_way(kind: str) -> None:
    chance = random.Random(kind)  # noqa: S311 - the same every time
    tokens = itertools.cycle(["old", "new"])

    async def provide() -> str:
        await anyio.lowlevel.checkpoint()
        return next(tokens)

    async with ScriptedServer(at_any_path(), repeat=True) as server:
        host = "localhost" if kind == "a name to be resolved" else "127.0.0.1"
        url = server.url.replace("127.0.0.1", host)
        async with Acme(base_url=url, limits=ONE, auth=TokenAuth(provide)) as session:
            for step in range(0, 90, 3):
                reader = Reader(begin(session, kind))
                await turns(step)
                await reader.cancel(chance.choice(WAYS), gap=chance.randrange(4))
                assert await reader.ends()
            with anyio.fail_after(PATIENCE):
                assert await anext(session.stream()) == Token(text="Hello")
        await until_all_closed(server)


@natively
async def test_a_task_that_is_cancelled_while_it_waits_in_the_queue_leaves_it(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(ENDLESS, HELLO)
    async with Acme(base_url=scripted_server.url, limits=ONE) as session:
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


@natively
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
        await until_all_closed(server)


async def until_ten_are_open(session: Acme) -> None:
    """Ten streams at once get their first event from a pool of ten: none of it is lost."""

    async def first_event(stream: Stream[Token | Finish]) -> None:
        assert await anext(stream) == Token(text="Hello")

    streams = [session.stream("calm") for _ in range(10)]
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            for stream in streams:
                group.start_soon(first_event, stream)


@pytest.mark.parametrize(
    ("anyio_backend", "seed", "number"),
    [
        ("asyncio", 3782, 1000),
        pytest.param(UVLOOP, 1093, 200, id="uvloop-1093-200", marks=if_uvloop_is_installed),
    ],
)
async def test_no_connection_is_lost_in_a_thousand_random_cancels(seed: int, number: int) -> None:
    """A pool of ten, always full; every reader is cancelled once, twice or three times."""
    chance = random.Random(seed)  # noqa: S311 - the same every time
    left = iter(range(number))

    async def cancel_one_after_another(session: Acme) -> None:
        for _ in left:
            reader = Reader(session.stream())
            await asyncio.sleep(chance.choice([0, chance.random() * 0.01]))
            await turns(chance.randrange(8))
            await reader.cancel(chance.choice(WAYS), gap=chance.randrange(6))
            assert await reader.ends()

    async with ScriptedServer(ENDLESS, repeat=True) as server:
        async with Acme(base_url=server.url, limits=TEN) as session:
            with anyio.fail_after(4 * PATIENCE):
                async with anyio.create_task_group() as group:
                    for _ in range(15):
                        group.start_soon(cancel_one_after_another, session)
            assert next(left, None) is None
            await until_ten_are_open(session)
        await until_all_closed(server)


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("seed", [1093])
async def test_no_connection_is_lost_in_a_thousand_random_scopes(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same every time
    left = iter(range(1000))

    async def give_up_one_after_another(session: Acme) -> None:
        for _ in left:
            with anyio.move_on_after(chance.random() * 0.01) as outer, suppress(StreamError):
                with anyio.move_on_after(chance.random() * 0.01):
                    await read(session.stream())
                outer.cancel()

    async with ScriptedServer(ENDLESS, repeat=True) as server:
        async with Acme(base_url=server.url, limits=TEN) as session:
            with anyio.fail_after(4 * PATIENCE):
                async with anyio.create_task_group() as group:
                    for _ in range(15):
                        group.start_soon(give_up_one_after_another, session)
            assert next(left, None) is None
            await until_ten_are_open(session)
        await until_all_closed(server)


@natively
@pytest.mark.parametrize("step", range(12))
async def test_cancelling_and_closing_at_the_same_time_end_it_once(
    scripted_server: ScriptedServer, step: int
) -> None:
    scripted_server.play(ENDLESS, HELLO)
    async with Acme(base_url=scripted_server.url, limits=ONE) as session:
        stream = session.stream()
        task = asyncio.create_task(read(stream))
        await turns(step)
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


# What the work within does about cancellations


async def give_up_natively() -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(0.001):
            await anyio.sleep_forever()


async def give_up_by_scope() -> None:
    with anyio.move_on_after(0.001):
        await anyio.sleep_forever()


class Transport(httpx.AsyncBaseTransport):
    """Takes its time to clean up, shielded as httpcore does it, and in steps that wait."""

    def __init__(self, first_step: Callable[[], Awaitable[None]]) -> None:
        self.waiting = anyio.Event()
        self.cleaning_up = anyio.Event()
        self.may_end = anyio.Event()
        self.cleaned_up = False
        self._first_step = first_step

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            self.waiting.set()
            await anyio.sleep_forever()
        finally:
            await self.clean_up()
        raise AssertionError

    async def clean_up(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._first_step()
            self.cleaning_up.set()
            await self.may_end.wait()
        self.cleaned_up = True


def in_two_steps(way: Way, *, impatient: bool) -> Any:
    """A case: how it is cancelled, and whether the clean-up gives something up first."""
    return pytest.param(
        way,
        give_up_by_scope if impatient else anyio.lowlevel.checkpoint,
        id=" then ".join(way) + (", impatient" if impatient else ""),
    )


@natively
@pytest.mark.parametrize(
    ("way", "first_step"),
    [in_two_steps(way, impatient=impatient) for way in WAYS for impatient in (False, True)],
)
async def test_a_transport_cleans_up_however_often_it_is_cancelled(
    way: Way, first_step: Callable[[], Awaitable[None]]
) -> None:
    transport = Transport(first_step)
    async with Acme(transport=transport) as session:
        reader = Reader(session.stream())
        await transport.waiting.wait()
        await anyio.wait_all_tasks_blocked()
        await reader.cancel(way[:1])
        await transport.cleaning_up.wait()
        await turns(2)
        await reader.cancel(way[1:], gap=3)
        await turns(3)
        assert not reader.task.done()
        transport.may_end.set()
        assert await reader.ends()
        assert transport.cleaned_up


class Swift(httpx.MockTransport):
    """Answers without ever waiting for more than its turn."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        await turns(3)
        return response


@natively
async def test_an_answer_that_comes_as_its_task_is_cancelled_is_closed() -> None:
    for step in range(1, 10):
        answer = mock_stream(token("Hello"), HOLD)
        async with Acme(transport=Swift(answer)) as session:
            reader = Reader(session.stream())
            await turns(step)
            await reader.cancel(("task",))
            assert await reader.ends()
            assert answer.closed, f"cancelled after {step} turns"


class ImpatientToken(Acme):
    """Its credentials come from a function that gives something up before it has them."""

    def __init__(self, url: str, give_up: Callable[[], Coroutine[Any, Any, None]]) -> None:
        super().__init__(base_url=url, limits=ONE, auth=TokenAuth(self._provide))
        self._give_up = give_up

    async def _provide(self) -> str:
        await self._give_up()
        return "token"


class ImpatientBody(Acme):
    """Its body comes from a generator that gives something up."""

    def __init__(self, url: str, give_up: Callable[[], Coroutine[Any, Any, None]]) -> None:
        super().__init__(base_url=url, limits=ONE)
        self._give_up = give_up

    def stream(self, prompt: str = "Hello") -> Stream[Token | Finish]:
        return self.open_stream("POST", "/generate", content=self._content(prompt))

    async def _content(self, prompt: str) -> AsyncIterator[bytes]:
        await self._give_up()
        yield prompt.encode()


@natively
@pytest.mark.parametrize("session_type", [ImpatientToken, ImpatientBody])
@pytest.mark.parametrize("give_up", [give_up_by_scope, give_up_natively])
async def test_a_time_limit_of_the_callers_own_code_leaves_the_task_to_be_cancelled(
    scripted_server: ScriptedServer,
    session_type: type[ImpatientToken | ImpatientBody],
    give_up: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    phase = WaitingForHeaders()
    scripted_server.play(ScriptedResponse([phase.gate, HANG_UP], framing="raw"))
    async with session_type(scripted_server.url, give_up) as session:
        stream = session.stream()
        readers: list[Reader] = []
        await come_to_rest(phase, stream, lambda: readers.append(Reader(stream)))
        await readers[0].cancel(("task",))
        await anyio.wait_all_tasks_blocked()
        was_cancelled = readers[0].task.done()
        phase.gate.open()
        assert await readers[0].ends()
        assert was_cancelled
        await assert_nothing_is_lost(phase, scripted_server, session)


class Hurried(Transport):
    """Gives its wait up by a scope of its own."""

    def __init__(self) -> None:
        super().__init__(anyio.lowlevel.checkpoint)
        self.scope = anyio.CancelScope()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            with self.scope:
                self.waiting.set()
                await anyio.sleep_forever()
        finally:
            await self.clean_up()
        return httpx.Response(200)


@natively
@pytest.mark.parametrize(
    "scope_first",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.xfail(
                strict=True, reason="Guarded counts as one what it takes two answers for"
            ),
        ),
    ],
)
async def test_a_transport_cleans_up_when_its_own_scope_is_cancelled_with_its_task(
    *, scope_first: bool
) -> None:
    transport = Hurried()
    async with Acme(transport=transport) as session:
        reader = Reader(session.stream())
        await transport.waiting.wait()
        await anyio.wait_all_tasks_blocked()
        if scope_first:
            transport.scope.cancel()
        await reader.cancel(("task",))
        transport.scope.cancel()
        await transport.cleaning_up.wait()
        await turns(2)
        await reader.cancel(("task",))
        await turns(3)
        was_interrupted = reader.task.done()
        transport.may_end.set()
        assert await reader.ends()
        assert not was_interrupted
        assert transport.cleaned_up
