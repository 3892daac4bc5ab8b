"""Event loops that end with streams open: interrupted, left by an exception, or simply over."""

import asyncio
import gc
import importlib
import importlib.util
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

import anyio
import anyio.lowlevel
import httpx
import pytest
import trio

from streamsession import SessionClosed, Stream
from streamsession.testing import HOLD, ConnectionRecord, ScriptedResponse, ScriptedServer
from tests.acme import Acme, Finish, Token, token

ENDLESS: Final = ScriptedResponse([token("Hello"), HOLD])
ONE: Final = httpx.Limits(max_connections=1)

AcmeStream: TypeAlias = Stream[Token | Finish]
Main: TypeAlias = Callable[[str], Coroutine[Any, Any, None]]
"""What runs on an event loop, given the URL of the server."""


def with_asyncio(main: Main, url: str) -> None:
    asyncio.run(main(url))


def with_uvloop(main: Main, url: str) -> None:
    new_event_loop = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(url))


def with_anyio(main: Main, url: str) -> None:
    anyio.run(main, url)


def with_anyio_on_trio(main: Main, url: str) -> None:
    anyio.run(main, url, backend="trio")


def with_trio(main: Main, url: str) -> None:
    trio.run(main, url)


ON_ASYNCIO: Final = [
    with_asyncio,
    with_anyio,
    pytest.param(
        with_uvloop,
        marks=pytest.mark.skipif(
            importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed"
        ),
    ),
]
ON_TRIO: Final = [with_trio, with_anyio_on_trio]
on_every_loop = pytest.mark.parametrize("run", [*ON_ASYNCIO, *ON_TRIO])
on_asyncio = pytest.mark.parametrize("run", ON_ASYNCIO)


@pytest.fixture
def server(
    scripted_server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> Iterator[ScriptedServer]:
    """Afterwards nothing is garbage, no connection is open, and asyncio has not complained."""
    scripted_server.play(*[ENDLESS] * 10)
    with caplog.at_level(logging.WARNING, "asyncio"):
        yield scripted_server
        gc.collect()  # what is wrong with it is raised by pytest
    for record in scripted_server.connections:
        assert closed(scripted_server, record).state == "client closed"
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


def closed(server: ScriptedServer, record: ConnectionRecord) -> ConnectionRecord:
    return server.wait_closed(record.index)


async def read(stream: AcmeStream) -> None:
    async for _ in stream:
        pass


def interrupt_soon() -> None:
    """Press Ctrl-C when the task waits next."""
    loop = anyio.lowlevel.current_token().native_token
    if isinstance(loop, asyncio.AbstractEventLoop):
        loop.call_soon(signal.raise_signal, signal.SIGINT)
    else:
        trio.lowlevel.current_trio_token().run_sync_soon(signal.raise_signal, signal.SIGINT)


# Interrupted


async def reading(url: str) -> None:
    async with Acme(base_url=url) as session:
        async for _ in session.stream():
            interrupt_soon()


async def reading_in_a_block(url: str) -> None:
    async with Acme(base_url=url) as session, session.stream() as stream:
        async for _ in stream:
            interrupt_soon()


async def reading_in_other_tasks(url: str) -> None:
    async with Acme(base_url=url) as session, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(read, session.stream())
        held = session.stream()
        await anext(held)
        interrupt_soon()
        await anyio.sleep_forever()


async def waiting_for_the_pool(url: str) -> None:
    async with Acme(base_url=url, limits=ONE) as session:
        first = session.stream()
        await anext(first)
        interrupt_soon()
        await read(session.stream())


async def connecting(url: str) -> None:
    async with Acme(base_url=url) as session:
        interrupt_soon()
        await read(session.stream())


async def entering_the_session(url: str) -> None:
    class Slow(Acme):
        async def connect(self) -> None:
            async for _ in self.stream():
                interrupt_soon()

    async with Slow(base_url=url):
        pass


async def leaving_the_session(url: str) -> None:
    class Slow(Acme):
        async def disconnect(self) -> None:
            interrupt_soon()
            for _ in range(10):
                await anyio.lowlevel.checkpoint()

    async with Slow(base_url=url) as session:
        await anext(session.stream())
    await anyio.sleep_forever()  # asyncio tells it a task by cancelling, which may be held back


@on_every_loop
@pytest.mark.parametrize(
    "main",
    [
        reading,
        reading_in_a_block,
        reading_in_other_tasks,
        waiting_for_the_pool,
        connecting,
        entering_the_session,
        leaving_the_session,
    ],
)
def test_the_program_is_interrupted(
    server: ScriptedServer, run: Callable[[Main, str], None], main: Main
) -> None:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - looked at below
        run(main, server.url)
    assert any(isinstance(each, KeyboardInterrupt) for each in within(caught.value))


def within(exc: BaseException) -> Iterator[BaseException]:
    """It and what it groups: anyio and trio group what comes out of tasks."""
    members: Sequence[BaseException] = getattr(exc, "exceptions", ())
    yield exc
    for member in members:
        yield from within(member)


# Left by an exception


async def raising_while_reading(url: str, error: BaseException) -> None:
    async with Acme(base_url=url) as session:
        async for _ in session.stream():
            raise error


async def raising_beside_tasks_that_read(url: str, error: BaseException) -> None:
    async with Acme(base_url=url) as session, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(read, session.stream())
        await anext(session.stream())
        raise error


async def raising_in_a_task(url: str, error: BaseException) -> None:
    async def fail(session: Acme) -> None:
        async for _ in session.stream():
            raise error

    async with Acme(base_url=url) as session, anyio.create_task_group() as group:
        group.start_soon(read, session.stream())
        group.start_soon(fail, session)


@on_every_loop
@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), SystemExit(3), LookupError("no")])
@pytest.mark.parametrize(
    "main", [raising_while_reading, raising_beside_tasks_that_read, raising_in_a_task]
)
def test_the_program_is_left_by_an_exception(
    server: ScriptedServer,
    run: Callable[[Main, str], None],
    main: Callable[[str, BaseException], Coroutine[Any, Any, None]],
    error: BaseException,
) -> None:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - looked at below
        run(lambda url: main(url, error), server.url)
    assert error in within(caught.value)
    error.__traceback__ = None  # which holds all that was raised through


# Left by an exception that is handled while others read


async def leave_by_an_exception(url: str) -> None:
    ends: list[type[BaseException]] = []

    async def read_to_an_end(stream: AcmeStream) -> None:
        try:
            await read(stream)
        except SessionClosed as exc:
            ends.append(type(exc))

    async def use(session: Acme, group: anyio.abc.TaskGroup) -> None:
        async with session:
            group.start_soon(read_to_an_end, session.stream())
            await anext(session.stream())
            raise LookupError

    async with anyio.create_task_group() as group:
        with suppress(LookupError):
            await use(Acme(base_url=url), group)
        assert ends == [SessionClosed]


@on_every_loop
def test_an_exception_that_leaves_the_session_ends_the_streams_of_other_tasks(
    server: ScriptedServer, run: Callable[[Main, str], None]
) -> None:
    run(leave_by_an_exception, server.url)


# Over


class Kept:
    """What outlives an event loop."""

    def __init__(self) -> None:
        self.everything: list[object] = []


@on_asyncio
def test_asyncio_ends_while_tasks_read(
    server: ScriptedServer, run: Callable[[Main, str], None]
) -> None:
    kept = Kept()

    async def use(url: str, ready: anyio.Event) -> None:
        async with Acme(base_url=url, limits=ONE) as session, asyncio.TaskGroup() as group:
            group.create_task(read(session.stream()))  # one of them waits for the other
            async for _ in session.stream():
                ready.set()

    async def main(url: str) -> None:
        ready = anyio.Event()
        kept.everything.append(asyncio.create_task(use(url, ready)))
        await asyncio.wait([asyncio.create_task(ready.wait())], timeout=0.1)

    run(main, server.url)


@on_asyncio
@pytest.mark.parametrize("is_kept", [False, True])
def test_asyncio_ends_with_a_session_that_was_never_left(
    server: ScriptedServer, run: Callable[[Main, str], None], *, is_kept: bool
) -> None:
    kept = Kept()

    async def main(url: str) -> None:
        session = await Acme(base_url=url).__aenter__()
        stream = session.stream()
        await anext(stream)
        if is_kept:
            kept.everything += [session, stream]

    run(main, server.url)
    kept.everything.clear()


@on_every_loop
def test_the_loop_ends_as_a_stream_is_dropped(
    server: ScriptedServer, run: Callable[[Main, str], None]
) -> None:
    async def main(url: str) -> None:
        async with Acme(base_url=url) as session:
            async for _ in session.stream():
                break

    run(main, server.url)


@on_every_loop
def test_a_stream_outlives_its_loop(
    server: ScriptedServer, run: Callable[[Main, str], None]
) -> None:
    kept = Kept()

    async def main(url: str) -> None:
        async with Acme(base_url=url) as session:
            kept.everything += [session, stream := session.stream(), session.stream()]
            await anext(stream)

    run(main, server.url)
    kept.everything.clear()


class Polite(Acme):
    """Takes its leave."""

    farewells = 0

    async def disconnect(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.farewells += 1


@on_every_loop
@pytest.mark.parametrize("way", ["begun", "entered", "read", "unused"])
def test_a_session_that_was_never_left_is_left_as_the_loop_ends(
    server: ScriptedServer,
    run: Callable[[Main, str], None],
    caplog: pytest.LogCaptureFixture,
    way: str,
) -> None:
    sessions: list[Polite] = []
    kept = Kept()

    async def main(url: str) -> None:
        session = await Polite(base_url=url).__aenter__()
        sessions.append(session)
        kept.everything.append(stream := session.stream())
        if way == "entered":
            await stream.__aenter__()
        if way == "read":
            await anext(stream)
        if way == "begun":  # and ended
            await anext(stream)
            await stream.aclose()

    with caplog.at_level(logging.DEBUG, "streamsession"):
        run(main, server.url)
    assert sessions[0].farewells == 1
    assert [line for line in caplog.messages if "failed:" in line] == []
    kept.everything.clear()


@on_asyncio
def test_a_session_that_was_dropped_is_left_when_it_is_collected(
    server: ScriptedServer, run: Callable[[Main, str], None]
) -> None:
    async def main(url: str) -> None:
        session = await Acme(base_url=url).__aenter__()
        stream = session.stream()
        await anext(stream)
        del session, stream
        gc.collect()
        with anyio.fail_after(20):
            await server.until_closed(0)

    run(main, server.url)


@on_every_loop
def test_a_session_that_was_left_has_nothing_to_do_as_the_loop_ends(
    server: ScriptedServer, run: Callable[[Main, str], None]
) -> None:
    sessions: list[Polite] = []

    async def main(url: str) -> None:
        async with Polite(base_url=url) as session:
            sessions.append(session)

    run(main, server.url)
    assert sessions[0].farewells == 1
    assert gc.collect() >= 0
    assert server.connections == []


class Unreachable(Polite):
    async def connect(self) -> None:
        raise LookupError("no server")


@on_every_loop
def test_a_session_that_could_not_be_entered_is_not_left_as_the_loop_ends(
    server: ScriptedServer, run: Callable[[Main, str], None]
) -> None:
    sessions: list[Unreachable] = []

    async def main(url: str) -> None:
        sessions.append(Unreachable(base_url=url))
        with pytest.raises(LookupError):
            await sessions[0].__aenter__()

    run(main, server.url)
    assert sessions[0].farewells == 0


@on_every_loop
def test_a_session_of_another_thread_is_left_as_the_loop_there_ends(
    server: ScriptedServer, run: Callable[[Main, str], None]
) -> None:
    sessions: list[Polite] = []

    async def main(url: str) -> None:
        sessions.append(await Polite(base_url=url).__aenter__())
        kept.everything.append(stream := sessions[0].stream())
        await anext(stream)

    kept = Kept()
    thread = threading.Thread(target=run, args=(main, server.url))
    thread.start()
    thread.join()
    assert sessions[0].farewells == 1
    kept.everything.clear()
