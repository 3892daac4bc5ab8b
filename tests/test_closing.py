"""However a stream or a session is left: the pool is whole, the sockets closed, no task remains."""

import asyncio
import gc
import importlib.util
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import anyio
import anyio.lowlevel
import httpx
import pytest
import trio
from anyio.abc import TaskGroup

from streamsession import (
    RetryPolicy,
    SessionClosed,
    Stream,
    StreamClosed,
    TimedOut,
    Timeouts,
)
from streamsession.testing import (
    HOLD,
    RecordedRequest,
    ScriptedResponse,
    ScriptedServer,
)
from tests.acme import Acme, Finish, Token, chat, token

pytestmark = pytest.mark.anyio

HELLO: Final = ScriptedResponse([chat("Hello")])
ENDLESS: Final = ScriptedResponse([token("Hello"), HOLD])
PATIENCE: Final = 5.0
"""Far more than anything here takes, in seconds."""
ONE: Final = httpx.Limits(max_connections=1)
ONCE: Final = RetryPolicy(attempts=1)

AcmeStream: TypeAlias = Stream[Token | Finish]
Leave: TypeAlias = Callable[[Acme], Awaitable[None]]
"""Begins a stream of a session and leaves it."""

ASYNCIO: Final = [
    pytest.param("asyncio", id="asyncio"),
    pytest.param(
        ("asyncio", {"use_uvloop": True}),
        id="uvloop",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed"
        ),
    ),
]
natively = pytest.mark.parametrize("anyio_backend", ASYNCIO)


def living_tasks() -> int:
    loop = anyio.lowlevel.current_token().native_token
    if isinstance(loop, asyncio.AbstractEventLoop):
        return len(asyncio.all_tasks(loop))
    return trio.lowlevel.current_statistics().tasks_living


@asynccontextmanager
async def nothing_left(server: ScriptedServer) -> AsyncGenerator[None]:
    """Afterwards no task runs that did not before, nothing is garbage, no connection is open."""
    before = living_tasks()
    yield
    gc.collect()  # what is wrong with it is raised by pytest
    with anyio.fail_after(PATIENCE):
        while living_tasks() > before:
            await anyio.lowlevel.checkpoint()
    for record in server.connections:
        if record.is_open:
            await server.until_closed(record.index)


async def read(stream: AcmeStream) -> None:
    async for _ in stream:
        pass


async def turns(number: int) -> None:
    """Let the event loop turn so many times."""
    for _ in range(number):
        await anyio.lowlevel.checkpoint()


# Leaving a stream


async def by_breaking_off(session: Acme) -> None:
    async for _ in session.stream():
        break


async def by_breaking_off_its_block(session: Acme) -> None:
    async with session.stream() as stream:
        async for _ in stream:
            break


async def by_breaking_off_its_text(session: Acme) -> None:
    async for _ in session.stream().text():
        break


async def by_entering_only(session: Acme) -> None:
    async with session.stream():
        pass


async def by_closing(session: Acme) -> None:
    stream = session.stream()
    await anext(stream)
    await stream.aclose()


async def by_closing_in_many_tasks(session: Acme) -> None:
    stream = session.stream()
    await anext(stream)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(stream.aclose)


async def by_closing_in_many_tasks_while_it_is_read(session: Acme) -> None:
    stream = session.stream()
    await anext(stream)
    async with anyio.create_task_group() as group:
        group.start_soon(read_until_closed, stream)
        await anyio.wait_all_tasks_blocked()
        for _ in range(5):
            group.start_soon(stream.aclose)


async def read_until_closed(stream: AcmeStream) -> None:
    with pytest.raises(StreamClosed):
        await read(stream)


async def by_dropping(session: Acme) -> None:
    stream = session.stream()
    await anext(stream)


async def by_dropping_before_it_began(session: Acme) -> None:
    session.stream()


async def by_dropping_in_another_thread(session: Acme) -> None:
    kept = [session.stream()]
    await anext(kept[0])
    thread = threading.Thread(target=kept.clear)
    thread.start()
    await anyio.to_thread.run_sync(thread.join)


class Knot:
    """An object that only the collector frees."""

    def __init__(self, stream: AcmeStream) -> None:
        self.stream = stream
        self.itself = self


async def by_dropping_in_a_cycle(session: Acme) -> None:
    knot = Knot(session.stream())
    await anext(knot.stream)
    del knot
    gc.collect()


async def by_dropping_in_a_cycle_before_it_began(session: Acme) -> None:
    Knot(session.stream())
    gc.collect()


async def by_dropping_in_a_cycle_that_another_thread_collects(session: Acme) -> None:
    knot = Knot(session.stream())
    await anext(knot.stream)
    del knot
    await anyio.to_thread.run_sync(gc.collect)


async def by_a_time_limit(session: Acme) -> None:
    with pytest.raises(TimeoutError), anyio.fail_after(0.02):
        await read(session.stream())


async def by_a_time_limit_around_its_block(session: Acme) -> None:
    with anyio.move_on_after(0.02):
        async with session.stream() as stream:
            await read(stream)


async def by_a_clock(session: Acme) -> None:
    stream = session.open_stream("POST", "/generate", timeout=Timeouts(idle=0.02))
    with pytest.raises(TimedOut):
        await read(stream)


async def by_a_failing_sibling(session: Acme) -> None:
    came = anyio.Event()

    async def fail() -> None:
        await came.wait()
        raise LookupError

    async def read_on() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fail)
            async for _ in session.stream():
                came.set()

    with pytest.raises(ExceptionGroup):
        await read_on()


async def by_closing_in_a_cancelled_scope(session: Acme) -> None:
    stream = session.stream()
    await anext(stream)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await stream.aclose()


WAYS_OUT: Final[list[Leave]] = [
    by_breaking_off,
    by_breaking_off_its_block,
    by_breaking_off_its_text,
    by_entering_only,
    by_closing,
    by_closing_in_many_tasks,
    by_closing_in_many_tasks_while_it_is_read,
    by_closing_in_a_cancelled_scope,
    by_dropping,
    by_dropping_before_it_began,
    by_dropping_in_another_thread,
    by_dropping_in_a_cycle,
    by_dropping_in_a_cycle_before_it_began,
    by_dropping_in_a_cycle_that_another_thread_collects,
    by_a_time_limit,
    by_a_time_limit_around_its_block,
    by_a_clock,
    by_a_failing_sibling,
]


async def assert_the_pool_is_whole(session: Acme) -> None:
    with anyio.fail_after(PATIENCE):
        assert (await session.stream("Hello again").collect()).text == "Hello"


def answer(request: RecordedRequest) -> ScriptedResponse:
    """Without end, but for the last one."""
    if request.path == "/silent":
        return ScriptedResponse([HOLD], framing="raw")
    if request.path == "/busy":
        return ScriptedResponse(status=503)
    return HELLO if b"again" in request.body else ENDLESS


@pytest.fixture
def server(scripted_server: ScriptedServer) -> ScriptedServer:
    scripted_server.play(*[answer] * 20)
    return scripted_server


@pytest.mark.parametrize("leave", WAYS_OUT)
async def test_a_stream_is_left_in_this_way(server: ScriptedServer, leave: Leave) -> None:
    async with nothing_left(server), Acme(base_url=server.url, limits=ONE) as session:
        await leave(session)
        await assert_the_pool_is_whole(session)
    assert {record.state for record in server.connections} == {"client closed"}


@pytest.mark.parametrize("leave", WAYS_OUT)
async def test_a_stream_is_left_in_this_way_while_another_waits_for_its_connection(
    server: ScriptedServer, leave: Leave
) -> None:
    texts: list[str] = []

    async def wait_for_it(session: Acme) -> None:
        texts.append((await session.stream("Hello again").collect()).text)

    async with nothing_left(server), Acme(base_url=server.url, limits=ONE) as session:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                first = session.stream()
                await anext(first)
                group.start_soon(wait_for_it, session)
                await turns(3)
                await first.aclose()
                await leave(session)
    assert texts == ["Hello"]


ERRORS: Final = [LookupError, KeyboardInterrupt, SystemExit, GeneratorExit]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("in_block", [False, True])
async def test_a_stream_is_left_by_an_exception_of_its_reader(
    server: ScriptedServer, error: type[BaseException], *, in_block: bool
) -> None:
    async def fail(session: Acme) -> None:
        stream = session.stream()
        if in_block:
            async with stream:
                async for _ in stream:
                    raise error
        async for _ in stream:
            raise error

    async with nothing_left(server), Acme(base_url=server.url, limits=ONE) as session:
        with pytest.raises(error):
            await fail(session)
        await assert_the_pool_is_whole(session)


async def test_cancelling_a_stream_while_an_exception_is_handled_ends_nothing_else(
    server: ScriptedServer,
) -> None:
    scope = anyio.CancelScope()

    async def read_in_scope(stream: AcmeStream) -> None:
        with scope:
            await read(stream)

    def handle(error: Exception) -> Iterator[str]:
        try:
            raise error
        except LookupError:
            scope.cancel()
            yield "it is being handled"
        yield "it was handled"

    handling = handle(LookupError())
    async with nothing_left(server), Acme(base_url=server.url) as session:
        async with anyio.create_task_group() as group:
            group.start_soon(read_in_scope, session.stream())
            await anyio.wait_all_tasks_blocked()
            assert next(handling) == "it is being handled"
        assert list(handling) == ["it was handled"]


@natively
async def test_a_stream_is_left_by_a_time_limit_of_asyncio(server: ScriptedServer) -> None:
    async with nothing_left(server), Acme(base_url=server.url, limits=ONE) as session:
        stream = session.stream()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02), stream:
                await read(stream)
        await assert_the_pool_is_whole(session)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(session.stream()), 0.02)
        await assert_the_pool_is_whole(session)


@natively
async def test_streams_are_left_by_a_failing_sibling_of_asyncio(server: ScriptedServer) -> None:
    came = anyio.Event()

    async def read_on(stream: AcmeStream) -> None:
        async for _ in stream:
            came.set()

    async def run(session: Acme) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):  # one of them has the connection, the others wait for it
                group.create_task(read_on(session.stream()))
            await came.wait()
            raise LookupError

    async with nothing_left(server), Acme(base_url=server.url, limits=ONE) as session:
        with pytest.raises(ExceptionGroup) as caught:
            await run(session)
        assert caught.group_contains(LookupError)
        await assert_the_pool_is_whole(session)


async def test_a_connection_is_given_back_once(server: ScriptedServer) -> None:
    """A stream that waits to try again has closed its response; closing it does not do so again."""
    waiting = anyio.Event()

    async def wait(_: float) -> None:
        waiting.set()
        await anyio.sleep_forever()

    async with nothing_left(server), Acme(base_url=server.url, limits=ONE) as session:
        busy = session.open_stream("POST", "/busy", retry=RetryPolicy(sleep=wait))
        async with anyio.create_task_group() as group:
            group.start_soon(read_until_closed, busy)
            await waiting.wait()
            await busy.aclose()
        first = session.stream()
        await anext(first)
        with pytest.raises(TimedOut) as caught:
            await session.open_stream("POST", "/", timeout=Timeouts(first_event=0.02)).collect()
        assert "All connections of the pool are in use" in caught.value.__notes__[0]
        await first.aclose()


@natively
@pytest.mark.parametrize("step", range(5))
async def test_a_closing_task_is_cancelled_and_the_stream_is_closed(
    server: ScriptedServer, step: int
) -> None:
    async with nothing_left(server), Acme(base_url=server.url, limits=ONE) as session:
        stream = session.stream()
        await anext(stream)
        reading = asyncio.create_task(read_until_closed(stream))
        await anyio.wait_all_tasks_blocked()
        closing = asyncio.create_task(stream.aclose())
        await turns(1 + step)
        for _ in range(3):
            closing.cancel()
            await turns(1)
        await asyncio.wait([closing, reading], timeout=PATIENCE)
        assert closing.done()
        await reading
        await assert_the_pool_is_whole(session)


class SlowToClose(httpx.AsyncByteStream):
    """A body without end whose connection takes its time to close."""

    def __init__(self) -> None:
        self.closing = anyio.Event()
        self.may_close = anyio.Event()
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield token("Hello")
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        self.closing.set()
        await self.may_close.wait()
        self.closed += 1


@natively
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("by_scope", [False, True])
async def test_closing_goes_on_however_often_it_is_cancelled(times: int, *, by_scope: bool) -> None:
    body = SlowToClose()
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=body))
    async with Acme(transport=transport) as session:
        stream = session.stream()
        await anext(stream)
        scope = anyio.CancelScope()

        async def close() -> None:
            with scope:
                await stream.aclose()
                await anyio.lowlevel.checkpoint()

        closing = asyncio.create_task(close())
        await body.closing.wait()
        if by_scope:
            scope.cancel()
        for _ in range(times - by_scope):
            closing.cancel()
            await turns(2)
        assert not closing.done()
        body.may_close.set()
        await asyncio.wait([closing], timeout=PATIENCE)
        assert closing.cancelled() is (times > by_scope)
        assert body.closed == 1


# Leaving a session


@dataclass
class Crowd:
    """Streams of a session in every state: read by tasks, held half-read, not begun, dropped."""

    ends: list[type[BaseException]] = field(default_factory=list[type[BaseException]])
    came: int = 0
    held: list[AcmeStream] = field(default_factory=list[AcmeStream])

    async def gather(
        self, session: Acme, start: Callable[[Coroutine[Any, Any, None]], Any]
    ) -> None:
        for _ in range(3):
            start(self._read(session.stream()))
        self.held = [session.stream(), session.stream()]
        await anext(self.held[0])
        async for _ in session.stream():
            break
        while self.came < 3:
            await anyio.lowlevel.checkpoint()

    async def _read(self, stream: AcmeStream) -> None:
        try:
            async for _ in stream:
                self.came += 1
        except BaseException as exc:
            self.ends.append(type(exc))
            if not isinstance(exc, SessionClosed):
                raise


class Leaving(Acme):
    """Says farewell, and knows what its streams came to by then."""

    def __init__(self, url: str, crowd: Crowd) -> None:
        super().__init__(base_url=url)
        self._crowd = crowd
        self.farewells: list[int] = []
        self.last = self.stream()

    async def disconnect(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.farewells.append(len(self._crowd.ends))
        self.last = self.stream()  # it may make requests still, and leave them open
        await anext(self.last)


@pytest.mark.parametrize("error", [None, *ERRORS])
async def test_a_session_is_left_with_streams_of_all_kinds(
    server: ScriptedServer, error: type[BaseException] | None
) -> None:
    crowd = Crowd()
    session = Leaving(server.url, crowd)

    async def use(group: TaskGroup) -> None:
        async with session:
            await crowd.gather(session, lambda work: group.start_soon(lambda: work))
            if error is not None:
                raise error

    async with nothing_left(server), anyio.create_task_group() as group:
        with nullcontext() if error is None else pytest.raises(error):
            await use(group)
        assert crowd.ends == [SessionClosed] * 3
        assert session.farewells == [3]
    for stream in (crowd.held[0], session.last):
        with pytest.raises(SessionClosed):
            await anext(stream)


async def test_a_session_is_left_by_a_scope_with_streams_of_all_kinds(
    server: ScriptedServer,
) -> None:
    crowd = Crowd()
    session = Leaving(server.url, crowd)
    async with nothing_left(server), anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            async with session:
                await crowd.gather(session, lambda work: group.start_soon(lambda: work))
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert crowd.ends == [SessionClosed] * 3
        assert session.farewells == [3]


async def test_a_session_is_left_as_all_its_tasks_are_cancelled(server: ScriptedServer) -> None:
    crowd = Crowd()
    session = Leaving(server.url, crowd)
    async with nothing_left(server):
        async with anyio.create_task_group() as group, session:
            await crowd.gather(session, lambda work: group.start_soon(lambda: work))
            group.cancel_scope.cancel()
            await anyio.sleep_forever()
        assert len(crowd.ends) == 3
        assert len(session.farewells) == 1


@natively
@pytest.mark.parametrize(("times", "gap"), [(1, 0), (2, 0), (2, 1), (2, 4), (3, 1)])
async def test_a_session_is_left_as_its_task_is_cancelled(
    server: ScriptedServer, times: int, gap: int
) -> None:
    crowd = Crowd()
    session = Leaving(server.url, crowd)
    tasks: list[asyncio.Task[None]] = []
    ready = anyio.Event()

    async def use() -> None:
        async with session:
            await crowd.gather(session, lambda work: tasks.append(asyncio.create_task(work)))
            ready.set()
            await anyio.sleep_forever()

    async with nothing_left(server):
        using = asyncio.create_task(use())
        await ready.wait()
        for _ in range(times):
            using.cancel()
            await turns(gap)
        await asyncio.wait([using, *tasks], timeout=PATIENCE)
        assert using.cancelled()
        assert crowd.ends == [SessionClosed] * 3
        assert session.farewells == [3]
        await asyncio.gather(*tasks)


@natively
async def test_a_session_is_left_by_a_failing_sibling_of_asyncio(server: ScriptedServer) -> None:
    crowd = Crowd()
    session = Leaving(server.url, crowd)
    ready = anyio.Event()

    async def use(group: asyncio.TaskGroup) -> None:
        async with session:
            await crowd.gather(session, group.create_task)
            ready.set()
            await anyio.sleep_forever()

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(use(group))
            await ready.wait()
            raise LookupError

    async with nothing_left(server):
        with pytest.raises(ExceptionGroup):
            await run()
        assert len(crowd.ends) == 3
        assert session.farewells == [3]


# Failing in the hooks


class Opening(Acme):
    """Has a stream open when it fails to connect."""

    def __init__(self, url: str, error: type[BaseException] | None = None) -> None:
        super().__init__(base_url=url)
        self.waiting = anyio.Event()
        self.stream_of_connect: AcmeStream | None = None
        self.was_disconnected = False
        self._error = error

    async def connect(self) -> None:
        self.stream_of_connect = self.stream()
        await anext(self.stream_of_connect)
        if self._error is not None:
            raise self._error
        self.waiting.set()
        await read(self.stream_of_connect)

    async def disconnect(self) -> None:
        self.was_disconnected = True


@pytest.mark.parametrize("error", ERRORS)
async def test_connect_fails_with_a_stream_open(
    server: ScriptedServer, error: type[BaseException]
) -> None:
    session = Opening(server.url, error)
    async with nothing_left(server):
        with pytest.raises(error):
            await session.__aenter__()
    assert not session.was_disconnected
    assert session.stream_of_connect is not None
    with pytest.raises(SessionClosed):
        await anext(session.stream_of_connect)


async def test_connect_is_cancelled_by_a_scope_with_a_stream_open(server: ScriptedServer) -> None:
    session = Opening(server.url)
    async with nothing_left(server), anyio.create_task_group() as group:
        group.start_soon(session.__aenter__)
        await session.waiting.wait()
        await turns(5)
        group.cancel_scope.cancel()
    assert not session.was_disconnected


@natively
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_connect_is_cancelled_natively_with_a_stream_open(
    server: ScriptedServer, times: int
) -> None:
    session = Opening(server.url)
    async with nothing_left(server):
        entering = asyncio.create_task(session.__aenter__())
        await session.waiting.wait()
        await turns(5)
        for _ in range(times):
            entering.cancel()
            await turns(1)
        await asyncio.wait([entering], timeout=PATIENCE)
        assert entering.cancelled()
    assert not session.was_disconnected


class Farewell(Acme):
    """Has a stream open when it disconnects, and does whatever it is told."""

    close_timeout = 0.2

    def __init__(self, url: str, last: Callable[["Farewell"], Awaitable[None]]) -> None:
        super().__init__(base_url=url)
        self.waiting = anyio.Event()
        self._last = last

    async def disconnect(self) -> None:
        stream = self.stream()
        await anext(stream)
        self.waiting.set()
        await self._last(self)
        await stream.aclose()


@pytest.mark.parametrize("error", ERRORS)
async def test_disconnect_fails_with_a_stream_open(
    server: ScriptedServer, error: type[BaseException]
) -> None:
    async def fail(_: Farewell) -> None:
        raise error

    async with nothing_left(server):
        with pytest.raises(error):
            async with Farewell(server.url, fail) as session:
                await anext(session.stream())


@natively
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_disconnect_is_cancelled_and_ends_all_the_same(
    server: ScriptedServer, times: int
) -> None:
    may_end = anyio.Event()
    ended: list[str] = []

    async def wait(_: Farewell) -> None:
        await may_end.wait()
        ended.append("disconnect")

    session = Farewell(server.url, wait)

    async def use() -> None:
        async with session:
            await anext(session.stream())

    async with nothing_left(server):
        leaving = asyncio.create_task(use())
        await session.waiting.wait()
        for _ in range(times):
            leaving.cancel()
            await turns(2)
        assert not leaving.done()
        may_end.set()
        await asyncio.wait([leaving], timeout=PATIENCE)
        assert leaving.cancelled()
        assert ended == ["disconnect"]


async def by_a_clock_of_its_own(session: Farewell) -> None:
    with pytest.raises(TimedOut, match="no first event"):
        await session.request(
            "GET", "/silent", result=int, timeout=Timeouts(first_event=0.02), retry=ONCE
        )


async def by_its_own_scope(session: Farewell) -> None:
    with anyio.move_on_after(0.02):
        await session.request("GET", "/silent", result=int)


async def by_its_own_time_limit_of_asyncio(session: Farewell) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await anyio.sleep_forever()


async def by_closing_a_stream_of_its_own(session: Farewell) -> None:
    stream = session.stream()
    await anext(stream)
    closing = asyncio.create_task(stream.aclose())
    with pytest.raises(StreamClosed):
        await read(stream)
    await closing


@pytest.mark.parametrize(
    ("end", "anyio_backend"),
    [
        (by_its_own_scope, "asyncio"),
        (by_its_own_scope, "trio"),
        (by_a_clock_of_its_own, "asyncio"),
        (by_a_clock_of_its_own, "trio"),
        (by_closing_a_stream_of_its_own, "asyncio"),
        pytest.param(
            by_its_own_time_limit_of_asyncio,
            "asyncio",
            marks=pytest.mark.xfail(
                strict=True, reason="close_within() holds back what cancels within disconnect()"
            ),
        ),
    ],
)
async def test_what_disconnect_waits_for_ends_in_time(
    server: ScriptedServer, end: Callable[[Farewell], Awaitable[None]]
) -> None:
    ended: list[str] = []

    async def wait(session: Farewell) -> None:
        await end(session)
        ended.append("in time")

    async with nothing_left(server):
        with suppress(TimedOut):
            async with Farewell(server.url, wait):
                pass
        assert ended == ["in time"]


@natively
async def test_a_task_that_disconnect_awaits_is_cancelled_when_it_is_given_up(
    server: ScriptedServer,
) -> None:
    tasks: list[asyncio.Task[None]] = []

    async def wait(_: Farewell) -> None:
        tasks.append(asyncio.create_task(anyio.sleep_forever()))
        await tasks[0]

    async with nothing_left(server):
        with pytest.raises(TimedOut, match="disconnect took longer"):
            async with Farewell(server.url, wait):
                pass
        await asyncio.wait(tasks, timeout=PATIENCE)
        assert tasks[0].cancelled()


class Frugal(Acme):
    """Its streams say goodbye to the server when they are left."""

    def __init__(self, url: str) -> None:
        super().__init__(base_url=url)
        self.goodbyes: list[str] = []

    async def decode(self, frames: AsyncIterator[Any]) -> AsyncIterator[Token | Finish]:
        try:
            async for frame in frames:
                yield Token.model_validate_json(frame.data)
        finally:
            with suppress(TimedOut):
                limits = Timeouts(first_event=0.02)
                await self.request("GET", "/silent", result=int, timeout=limits, retry=ONCE)
            self.goodbyes.append("goodbye")


async def test_what_decode_waits_for_as_it_is_closed_ends_in_time(server: ScriptedServer) -> None:
    async with nothing_left(server), Frugal(server.url) as session:
        session.close_timeout = 0.2
        async with session.stream() as stream:
            await anext(stream)
        assert session.goodbyes == ["goodbye"]


# The caller's body


@pytest.mark.filterwarnings(
    r"ignore:Async generator 'httpx\._content\.AsyncIteratorByteStream\.:ResourceWarning"
)
async def test_the_generator_of_a_body_that_was_sent_in_part_is_closed() -> None:
    closed: list[str] = []
    begun = anyio.Event()

    async def pieces() -> AsyncGenerator[bytes]:
        try:
            begun.set()
            while True:
                yield bytes(2**20)
        finally:
            closed.append("by the session")

    body = pieces()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        async with Acme(base_url=f"http://127.0.0.1:{deaf.getsockname()[1]}") as session:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    stream = session.open_stream("POST", "/generate", content=body)
                    group.start_soon(read, stream)
                    await begun.wait()
                    await anyio.wait_all_tasks_blocked()
                    scope.cancel()
            was_closed = list(closed)
    await body.aclose()
    assert was_closed == ["by the session"]
