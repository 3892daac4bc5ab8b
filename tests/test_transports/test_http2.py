"""`HTTP2Transport`: one connection, many streams, none of which hurts another."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any, TypeAlias

import anyio
import h2.events
import httpx
import pytest
from anyio.abc import SocketStream
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, GoAwayFrame, PingFrame

from streamsession import (
    ConnectFailed,
    RetryPolicy,
    SessionClosed,
    Stream,
    StreamError,
    StreamInterrupted,
    TimedOut,
    Timeouts,
)
from streamsession.http2 import HTTP2Transport
from streamsession.testing import ScriptedResponse, ScriptedServer
from tests.acme import FINISH, Acme, Finish, Token, chat, token
from tests.test_connections_cancel import Reader, natively, turns
from tests.test_faults.fronts import HOST, listening, proxy, tls_in_front_of, wrapped
from tests.test_transports.gateway import server_context
from tests.test_transports.http2_server import Answer, Http2Server, Http2Stream

pytestmark = pytest.mark.anyio

AcmeStream: TypeAlias = Stream[Token | Finish]

ONCE = RetryPolicy(attempts=1)
PATIENCE = 5.0
"""Far more than anything here takes, in seconds."""
MIB = 1024 * 1024
NONSENSE = bytes(9)
"""A frame of data that are of no stream."""


class Acme2(Acme):
    """Acme over HTTP/2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(transport=HTTP2Transport(), **options)


@contextmanager
def serving(answer: Answer, **options: Any) -> Generator[Http2Server]:
    with Http2Server(answer, server_context(), **options) as server:
        yield server


async def hello(stream: Http2Stream) -> None:
    await stream.play(chat("Hello"))


async def endless(stream: Http2Stream) -> None:
    await stream.respond()
    await stream.send(token("Hello"))
    await asyncio.Event().wait()


class Held:
    """Answers with a first event, and with the rest when it is told to."""

    def __init__(self) -> None:
        self.streams: list[Http2Stream] = []
        self._may_go_on = asyncio.Event()

    async def __call__(self, stream: Http2Stream) -> None:
        self.streams.append(stream)
        await stream.respond()
        await stream.send(token("Hello"))
        await self._may_go_on.wait()
        await stream.send(FINISH)
        await stream.end()

    def go_on(self) -> None:
        """On the loop of the server: `server.do(held.go_on)`."""
        self._may_go_on.set()


async def begun(stack: AsyncExitStack, session: Acme, number: int) -> list[AcmeStream]:
    """So many streams, each of which has had its first event."""
    streams = [await stack.enter_async_context(session.stream()) for _ in range(number)]
    for stream in streams:
        assert await anext(stream) == Token(text="Hello")
    return streams


async def works(session: Acme) -> None:
    with anyio.fail_after(PATIENCE):
        assert await anext(session.stream()) == Token(text="Hello")


# One connection, many streams


async def test_many_streams_share_one_connection() -> None:
    held = Held()
    with serving(held) as server:
        async with Acme2(base_url=server.url) as session, AsyncExitStack() as stack:
            streams = await begun(stack, session, 50)
            server.do(held.go_on)
            assert [(await each.collect()).text for each in streams] == ["Hello"] * 50
        (connection,) = server.connections
    assert connection.most_open == 50


async def test_streams_that_begin_at_the_same_time_make_one_connection() -> None:
    texts: list[str] = []

    async def read(session: Acme) -> None:
        texts.append((await session.stream().collect()).text)

    with serving(hello) as server:
        async with Acme2(base_url=server.url) as session, anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(read, session)
        assert len(server.connections) == 1
    assert texts == ["Hello"] * 50


async def test_one_after_the_other_use_the_same_connection() -> None:
    with serving(hello) as server:
        async with Acme2(base_url=server.url) as session:
            reused: list[bool] = []
            for _ in range(5):
                stream = session.stream()
                await stream.collect()
                reused.append(stream.response.reused)
        assert [each.opened for each in server.connections] == [5]
    assert reused == [False, True, True, True, True]


async def test_there_are_as_many_connections_as_the_server_makes_necessary() -> None:
    held = Held()
    with serving(held, max_streams=10) as server:
        async with Acme2(base_url=server.url) as session, AsyncExitStack() as stack:
            await begun(stack, session, 25)
            assert [len(each.streams) for each in server.connections] == [10, 10, 5]
            assert all(each.most_open <= 10 for each in server.connections)


async def test_the_limit_of_the_session_is_one_of_streams() -> None:
    brief = Timeouts(first_event=0.1)
    limits = httpx.Limits(max_connections=3)
    with serving(endless) as server:
        async with (
            Acme2(base_url=server.url, limits=limits, retry=ONCE) as session,
            AsyncExitStack() as stack,
        ):
            await begun(stack, session, 3)
            with pytest.raises(TimedOut) as caught:
                await session.open_stream("POST", "/", timeout=brief).collect()
        assert len(server.connections) == 1
        assert server.connections[0].opened == 3
    assert "All connections of the pool are in use" in caught.value.__notes__[0]


async def test_httpx_own_http2_is_not_limited_to_as_many_streams_as_connections() -> None:
    held = Held()
    limits = httpx.Limits(max_connections=1)
    with serving(held) as server:
        transport = httpx.AsyncHTTPTransport(http2=True, limits=limits)
        async with Acme(base_url=server.url, transport=transport) as session:
            one, two = session.stream(), session.stream()
            await anext(one)
            with anyio.fail_after(PATIENCE):
                await anext(two)
            server.do(held.go_on)
            await one.collect()
            await two.collect()


async def test_the_request_is_sent_as_http2_has_it() -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    seen: list[Http2Stream] = []

    async def answer(stream: Http2Stream) -> None:
        seen.append(stream)
        await stream.is_whole.wait()
        await hello(stream)

    with serving(answer) as server:
        async with Acme2(base_url=f"{server.url}/v1", api_key="key") as session:
            await session.open_stream(
                "POST", "/a%2Fb?x=1", params={"y": "é"}, content=content(), headers={"TE": "x"}
            ).collect()
            await session.open_stream("GET", "/").collect()
        authority = server.url.removeprefix("https://")
    assert seen[0].headers == {
        ":method": "POST",
        ":authority": authority,
        ":scheme": "https",
        ":path": "/v1/a%2Fb?x=1&y=%C3%A9",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "authorization": "Bearer key",
        "user-agent": seen[0].headers["user-agent"],
    }
    assert seen[0].names[:4] == [":method", ":authority", ":scheme", ":path"]
    assert [each.body for each in seen] == [b"one two", b""]


# No stream waits for another


async def test_an_event_is_handed_over_though_all_the_others_wait() -> None:
    """With one lock for reading, it would be when something comes for another stream."""
    held = Held()
    with serving(held) as server:
        async with Acme2(base_url=server.url) as session, AsyncExitStack() as stack:
            streams = await begun(stack, session, 10)
            came = anyio.Event()

            async def read(stream: AcmeStream) -> None:
                with suppress(StreamError):
                    await anext(stream)
                    came.set()

            async with anyio.create_task_group() as group:
                for stream in streams:
                    group.start_soon(read, stream)
                await anyio.wait_all_tasks_blocked()
                for each in reversed(held.streams):
                    came = anyio.Event()
                    server.run(each.send(token("later")))
                    with anyio.fail_after(PATIENCE):
                        await came.wait()


async def test_a_stream_that_nobody_reads_stops_no_other_and_takes_little_memory() -> None:
    flooding: list[Http2Stream] = []

    async def answer(stream: Http2Stream) -> None:
        if stream.path != "/flood":
            await hello(stream)
            return
        flooding.append(stream)
        await stream.respond()
        await stream.send(token("Hello"))
        await stream.send(b": " + bytes(4 * MIB))

    with serving(answer) as server:
        async with Acme2(base_url=server.url) as session, AsyncExitStack() as stack:
            for _ in range(20):
                stream = session.open_stream("POST", "/flood")
                await anext(await stack.enter_async_context(stream))
            for _ in range(100):
                assert (await session.stream().collect()).text == "Hello"
            assert len(server.connections) == 1
        assert max(each.sent for each in flooding) <= MIB


async def test_what_was_read_is_made_room_for() -> None:
    events = 10_000

    async def answer(stream: Http2Stream) -> None:
        await stream.play(*[token("x" * 1000) * 100] * (events // 100), FINISH)

    with serving(answer) as server:
        async with Acme2(base_url=server.url, keep_reply=False) as session:
            stream = session.stream()
            with anyio.fail_after(4 * PATIENCE):
                async for _ in stream:
                    pass
    assert stream.stats.events == events + 1
    assert stream.stats.bytes > 10_000_000


async def test_a_connection_is_not_starved_by_what_was_thrown_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seven streams would fill its window, were it as small as this."""
    monkeypatch.setattr("streamsession.http2._connection._MAX_WINDOW", 2 * MIB)

    async def answer(stream: Http2Stream) -> None:
        await stream.respond()
        await stream.send(token("Hello") + b": " + bytes(300_000))
        await asyncio.Event().wait()

    with serving(answer) as server:
        async with Acme2(base_url=server.url) as session:
            for _ in range(20):
                async with session.stream() as stream:
                    await anext(stream)
            await works(session)
        assert len(server.connections) == 1


# Leaving


@natively
async def test_a_stream_that_is_cancelled_leaves_the_others_alone() -> None:
    held = Held()
    with serving(held) as server:
        async with Acme2(base_url=server.url) as session, AsyncExitStack() as stack:
            streams = await begun(stack, session, 9)
            readers = [Reader(each) for each in streams]
            await anyio.wait_all_tasks_blocked()
            for n, reader in enumerate(readers[:6]):
                await reader.cancel(("scope", "task") if n % 2 else ("task", "task"))
                assert await reader.ends()
            (connection,) = server.connections
            await server.until(lambda: len(connection.resets) == 6)
            server.do(held.go_on)
            for reader in readers[6:]:
                assert await reader.ends()
            assert all(each.reply.complete for each in streams[6:])
            await works(session)
            assert len(server.connections) == 1


async def test_streams_are_left_in_every_way_without_a_trace() -> None:
    """The server allows five, and sees all of them end."""

    async def use(session: Acme, n: int) -> None:
        stream = session.stream()
        with anyio.move_on_after(None if n % 4 else 0.001):
            if n % 4 == 1:
                await anext(stream)
            elif n % 4 == 2:
                async with stream:
                    await anext(stream)
            else:
                await anext(stream)
                await stream.aclose()

    with serving(endless, max_streams=5) as server:
        async with Acme2(base_url=server.url) as session:
            for _ in range(20):
                async with anyio.create_task_group() as group:
                    for n in range(5):
                        group.start_soon(use, session, n)
            await anyio.wait_all_tasks_blocked()
            await works(session)
        assert len(server.connections) <= 2, "one more, if a reset is late"
        assert all(each.most_open <= 5 for each in server.connections)


@natively
async def test_a_stream_is_cancelled_at_every_step(anyio_backend: Any) -> None:
    with serving(endless, max_streams=3) as server:
        async with Acme2(base_url=server.url) as session, AsyncExitStack() as stack:
            (other,) = await begun(stack, session, 1)
            for step in range(30):
                reader = Reader(session.stream())
                await turns(step)
                await reader.cancel(("task", "task"), gap=step % 4)
                assert await reader.ends()
            await works(session)
            assert not other.reply.complete
            assert len(server.connections) == 1
            (connection,) = server.connections
            assert connection.is_open
            assert connection.error is None


async def test_leaving_the_session_says_farewell() -> None:
    ends: list[StreamError] = []

    async def read(stream: AcmeStream) -> None:
        try:
            await stream.collect()
        except StreamError as exc:
            ends.append(exc)

    with serving(endless) as server:
        async with anyio.create_task_group() as group:
            async with Acme2(base_url=server.url) as session:
                for stream in [session.stream() for _ in range(5)]:
                    await anext(stream)  # left unread, TCP would reset, and lose the farewell
                    group.start_soon(read, stream)
                await anyio.wait_all_tasks_blocked()
            await server.until(lambda: not server.connections[0].is_open)
        (connection,) = server.connections
        assert sorted(connection.resets) == [1, 3, 5, 7, 9]
        assert isinstance(connection.heard[-1], h2.events.ConnectionTerminated)
    assert [type(each) for each in ends] == [SessionClosed] * 5


async def test_a_server_that_takes_nothing_more_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cancelled task goes on to the end of its piece, but not for ever."""
    monkeypatch.setattr("streamsession.http2._outbox._PIECE_SECONDS", 1.0)

    async def answer(stream: Http2Stream) -> None:
        if stream.path != "/deaf":
            await endless(stream)
        stream.connection.h2.increment_flow_control_window(2**30)
        stream.connection.h2.increment_flow_control_window(2**30, stream.id)
        await stream.connection.flush()
        transport: Any = stream.connection.writer.transport
        transport.pause_reading()
        await asyncio.Event().wait()

    with serving(answer) as server:
        async with Acme2(base_url=server.url, retry=ONCE) as session, AsyncExitStack() as stack:
            ends: list[StreamError] = []

            async def read(stream: AcmeStream) -> None:
                with pytest.raises(StreamInterrupted, match="takes no more data") as caught:
                    await anext(stream)
                ends.append(caught.value)

            others = await begun(stack, session, 3)
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as group:
                    for other in others:
                        group.start_soon(read, other)
                    with anyio.move_on_after(0.5), suppress(StreamInterrupted):
                        large = bytes(64 * MIB)
                        await session.open_stream("POST", "/deaf", content=large).collect()
            assert len(ends) == 3
            await works(session)
            assert len(server.connections) == 2


# The server ends streams and connections


async def test_a_stream_that_is_reset_is_interrupted_and_no_other() -> None:
    async def answer(stream: Http2Stream) -> None:
        if stream.id != 1:
            await hello(stream)
            return
        await stream.respond()
        await stream.send(token("a"))
        await stream.reset(ErrorCodes.INTERNAL_ERROR)

    with serving(answer) as server:
        async with Acme2(base_url=server.url) as session:
            with pytest.raises(StreamInterrupted, match="INTERNAL_ERROR") as caught:
                await session.stream().collect()
            assert caught.value.partial.text == "a"
            assert (await session.stream().collect()).text == "Hello"
        assert len(server.connections) == 1


async def test_a_stream_that_is_refused_is_tried_again() -> None:
    async def answer(stream: Http2Stream) -> None:
        if stream.id == 1:
            await stream.reset(ErrorCodes.REFUSED_STREAM)
        else:
            await hello(stream)

    with serving(answer) as server:
        async with Acme2(base_url=server.url) as session:
            stream = session.stream()
            assert (await stream.collect()).text == "Hello"
    assert stream.stats.attempts == 2


async def test_a_reset_behind_the_end_is_no_failure() -> None:
    """It says that the server wants no more of the request."""

    async def answer(stream: Http2Stream) -> None:
        await stream.play(chat("Hello"))
        await stream.reset(ErrorCodes.NO_ERROR)

    with serving(answer, takes_bodies=False) as server:
        async with Acme2(base_url=server.url) as session:
            for _ in range(2):
                stream = session.open_stream("POST", "/", content=bytes(MIB))
                with anyio.fail_after(PATIENCE):
                    assert (await stream.collect()).text == "Hello"
            assert len(server.connections) == 1


def farewell(last_stream: int, code: int = 0) -> bytes:
    return GoAwayFrame(0, last_stream_id=last_stream, error_code=code).serialize()


async def test_streams_that_the_server_still_answers_outlive_its_farewell() -> None:
    held = Held()
    with serving(held) as server:
        async with Acme2(base_url=server.url) as session, AsyncExitStack() as stack:
            streams = await begun(stack, session, 3)
            data = DataFrame(1, data=token("more")).serialize()
            server.send_raw(farewell(last_stream=5) + data)
            assert await anext(streams[0]) == Token(text="more")
            await works(session)
            assert [each.opened for each in server.connections] == [3, 1]
            server.do(held.go_on)
            for stream in streams:
                assert (await stream.collect()).complete
            await server.until(lambda: not server.connections[0].is_open)


async def test_streams_that_the_server_never_saw_are_sent_elsewhere_at_once() -> None:
    silent = asyncio.Event()

    async def answer(stream: Http2Stream) -> None:
        if stream.connection is stream.connection.server.connections[0] and stream.id > 1:
            await silent.wait()
        await stream.respond()
        await stream.send(token("Hello"))
        await silent.wait()
        await stream.send(FINISH)
        await stream.end()

    attempts: list[int] = []

    async def read(stream: AcmeStream) -> None:
        await stream.collect()
        attempts.append(stream.stats.attempts)

    with serving(answer) as server:
        async with Acme2(base_url=server.url) as session, AsyncExitStack() as stack:
            (first,) = await begun(stack, session, 1)
            async with anyio.create_task_group() as group:
                group.start_soon(read, session.stream())
                await server.until_answering(2)
                server.send_raw(farewell(last_stream=1, code=ErrorCodes.ENHANCE_YOUR_CALM))
                await server.until(lambda: len(server.connections) == 2)
                server.do(silent.set)
            assert (await first.collect()).complete
    assert attempts == [1]


@pytest.mark.parametrize("how", ["hang up", "nonsense"])
async def test_a_connection_that_breaks_interrupts_all_of_its_streams(how: str) -> None:
    ends: list[StreamError] = []

    async def read(stream: AcmeStream) -> None:
        try:
            await stream.collect()
        except StreamError as exc:
            ends.append(exc)

    with serving(endless) as server:
        async with Acme2(base_url=server.url) as session, AsyncExitStack() as stack:
            streams = await begun(stack, session, 5)
            async with anyio.create_task_group() as group:
                for stream in streams:
                    group.start_soon(read, stream)
                await anyio.wait_all_tasks_blocked()
                if how == "hang up":
                    server.do(server.connections[0].writer.transport.abort)
                else:
                    server.send_raw(NONSENSE)
            await works(session)
            assert len(server.connections) == 2
    assert [type(each) for each in ends] == [StreamInterrupted] * 5
    assert {each.partial.text for each in ends} == {"Hello"}


# Idle connections


IDLE: dict[str, tuple[Callable[[Http2Server], object], bool]] = {
    "nothing": (lambda _: None, True),
    "a ping": (
        lambda server: server.send_raw(PingFrame(0, opaque_data=bytes(8)).serialize()),
        True,
    ),
    "a farewell": (lambda server: server.send_raw(farewell(2**31 - 1)), False),
    "the end": (lambda server: server.do(server.connections[0].writer.transport.abort), False),
    "nonsense": (lambda server: server.send_raw(NONSENSE), False),
}


@pytest.mark.parametrize("name", IDLE)
async def test_what_came_on_an_idle_connection_is_seen_before_it_is_used_again(name: str) -> None:
    come, is_reused = IDLE[name]
    with serving(hello) as server:
        async with Acme2(base_url=server.url, retry=ONCE) as session:
            assert (await session.stream().collect()).text == "Hello"
            come(server)
            await server.until_done()
            if name == "the end":
                await server.until(lambda: not server.connections[0].is_open)
            assert (await session.stream().collect()).text == "Hello"
            if name == "a ping":
                heard = server.connections[0].heard
                await server.until(
                    lambda: any(isinstance(each, h2.events.PingAckReceived) for each in heard)
                )
        assert len(server.connections) == (1 if is_reused else 2)


async def test_an_idle_connection_is_not_used_again_once_it_is_stale() -> None:
    with serving(hello) as server:
        transport = HTTP2Transport(keepalive_expiry=0)
        async with Acme(base_url=server.url, transport=transport) as session:
            for _ in range(2):
                await session.stream().collect()
        assert len(server.connections) == 2
        await server.until(lambda: not any(each.is_open for each in server.connections))


async def test_a_limit_that_the_server_lowers_later_is_kept() -> None:
    held = Held()
    with serving(held) as server:
        async with Acme2(base_url=server.url) as session, AsyncExitStack() as stack:
            await begun(stack, session, 2)
            http = server.connections[0].h2

            async def lower() -> None:
                http.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 2})
                await server.connections[0].flush()

            server.run(lower())
            heard = server.connections[0].heard
            stream = session.stream()

            async def read() -> None:
                with suppress(StreamError):
                    await anext(stream)

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await server.until(
                    lambda: any(isinstance(e, h2.events.SettingsAcknowledged) for e in heard[1:])
                )
            await begun(stack, session, 1)
            assert len(server.connections) == 2


# Bodies of requests


@pytest.mark.parametrize("size", [0, 1, 100_000, 2 * MIB])
async def test_a_body_of_any_size_is_sent_as_the_server_makes_room(size: int) -> None:
    got: list[bytes] = []

    async def answer(stream: Http2Stream) -> None:
        await stream.is_whole.wait()
        got.append(stream.body)
        await hello(stream)

    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    with serving(answer) as server:
        async with Acme2(base_url=server.url) as session:
            with anyio.fail_after(4 * PATIENCE):
                await session.open_stream("POST", "/", content=content).collect()
    assert got == [content]


async def test_many_large_bodies_are_sent_at_the_same_time() -> None:
    sizes: list[int] = []

    async def answer(stream: Http2Stream) -> None:
        await stream.is_whole.wait()
        sizes.append(len(stream.body))
        await hello(stream)

    async def send(session: Acme) -> None:
        await session.open_stream("POST", "/", content=bytes(MIB)).collect()

    with serving(answer) as server:
        async with Acme2(base_url=server.url) as session:
            with anyio.fail_after(4 * PATIENCE):
                async with anyio.create_task_group() as group:
                    for _ in range(8):
                        group.start_soon(send, session)
        assert len(server.connections) == 1
    assert sizes == [MIB] * 8


async def test_what_the_body_raises_reaches_the_caller_and_resets_the_stream() -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"a piece"
        raise ZeroDivisionError

    with serving(endless) as server:
        async with Acme2(base_url=server.url) as session:
            with pytest.raises(ZeroDivisionError):
                await session.open_stream("POST", "/", content=content()).collect()
            await server.until(lambda: server.connections[0].resets == [1])
            await works(session)
        assert len(server.connections) == 1


# Connecting


async def test_a_server_that_speaks_no_http2_is_spoken_to_in_http11(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(*[ScriptedResponse([chat("Hello")])] * 3)
    handler = tls_in_front_of(scripted_server, server_context())
    async with listening(handler) as port, Acme2(base_url=f"https://{HOST}:{port}") as session:
        for _ in range(3):
            assert (await session.stream().collect()).text == "Hello"
    assert len(scripted_server.connections) == 2, "the first was to ask what it speaks"


async def test_without_tls_it_is_http11(scripted_server: ScriptedServer) -> None:
    scripted_server.play(ScriptedResponse([chat("Hello")]))
    async with Acme2(base_url=scripted_server.url) as session:
        assert (await session.stream().collect()).text == "Hello"


async def test_behind_a_proxy_it_is_http11(
    scripted_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_server.play(ScriptedResponse([chat("Hello")]))
    tunnel = b"HTTP/1.1 200 Connection established\r\n\r\n"
    handler = proxy(tunnel, tls_in_front_of(scripted_server, server_context()))
    async with listening(handler) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{HOST}:{port}")
        async with Acme2(base_url=f"https://{HOST}:1") as session:
            assert (await session.stream().collect()).text == "Hello"


async def hang_up_after_tls(client: SocketStream) -> None:
    stream = await wrapped(client, _offering_http2())
    await stream.aclose()


async def silence_after_tls(client: SocketStream) -> None:
    await wrapped(client, _offering_http2())
    await anyio.sleep_forever()


async def nonsense_after_tls(client: SocketStream) -> None:
    stream = await wrapped(client, _offering_http2())
    await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def _offering_http2() -> Any:
    context = server_context()
    context.set_alpn_protocols(["h2"])
    return context


@pytest.mark.parametrize("handler", [hang_up_after_tls, nonsense_after_tls, silence_after_tls])
async def test_a_server_that_does_not_begin_to_speak_is_no_connection(handler: Any) -> None:
    timeout = Timeouts(connect=0.3)
    async with (
        listening(handler) as port,
        Acme2(base_url=f"https://{HOST}:{port}", retry=ONCE, timeout=timeout) as session,
    ):
        if handler is silence_after_tls:
            with pytest.raises(TimedOut) as caught:
                await session.stream().collect()
            assert caught.value.clock == "connect"
        else:
            with pytest.raises(ConnectFailed):
                await session.stream().collect()


async def test_a_server_that_is_not_there_is_no_connection() -> None:
    async with listening(hang_up_after_tls) as port:
        pass
    async with Acme2(base_url=f"https://{HOST}:{port}", retry=ONCE) as session:
        with pytest.raises(ConnectFailed, match="could not connect to https://"):
            await session.stream().collect()


async def test_a_certificate_that_is_not_the_servers_is_no_connection() -> None:
    with serving(hello) as server:
        url = server.url.replace("127.0.0.1", "127.0.0.2")
        async with Acme2(base_url=url, retry=ONCE) as session:
            with pytest.raises(ConnectFailed):
                await session.stream().collect()


def test_without_h2_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['h2'] = None; import streamsession.http2"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "ImportError: streamsession.http2 needs h2: pip install" in done.stderr
    assert "streamsession[http2]" in done.stderr
