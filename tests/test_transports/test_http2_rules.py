"""`HTTP2Transport`: neither servers that break the rules nor callers in a hurry harm other streams.

What a session would not do, such as sending a header that HTTP/2 has not, is done by `client`.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import anyio
import h2.events
import httpx
import pytest
from anyio.abc import SocketStream
from anyio.lowlevel import checkpoint
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, PingFrame, SettingsFrame

from streamsession import ConnectFailed, StreamError, StreamInterrupted
from streamsession.http2 import HTTP2Transport
from tests.acme import Token, chat, token
from tests.test_connections_cancel import natively, turns
from tests.test_faults.fronts import HOST, listening, wrapped
from tests.test_transports.gateway import server_context
from tests.test_transports.http2_server import Http2Server, Http2Stream
from tests.test_transports.test_http2 import (
    MIB,
    ONCE,
    PATIENCE,
    Acme2,
    begun,
    endless,
    farewell,
    hello,
    serving,
    works,
)

pytestmark = pytest.mark.anyio

WIDE = 2**30
"""A window in bytes that nothing here fills."""


def client(server: Http2Server, *, keepalive_expiry: float = 5.0) -> httpx.AsyncClient:
    """A bare client over the transport."""
    transport = HTTP2Transport(keepalive_expiry=keepalive_expiry)
    return httpx.AsyncClient(base_url=server.url, transport=transport)


# Servers


async def test_a_stream_that_has_ended_outlives_its_connection() -> None:
    async def answer(stream: Http2Stream) -> None:
        await (hello if stream.path == "/whole" else endless)(stream)

    with serving(answer) as server:
        async with client(server) as http, http.stream("GET", "/whole") as whole:
            async with http.stream("GET", "/") as other:
                pieces = other.aiter_raw()
                assert await anext(pieces)
                server.do(server.connections[0].writer.transport.abort)
                with pytest.raises(httpx.TransportError):
                    await anext(pieces)
            assert await whole.aread() == chat("Hello")


@pytest.mark.parametrize("how", ["a limit of none", "a farewell"])
async def test_a_server_that_takes_no_streams_is_no_connection(how: str) -> None:
    context = server_context()
    context.set_alpn_protocols(["h2"])
    none = SettingsFrame(0, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 0}).serialize()
    greeting = none if how == "a limit of none" else SettingsFrame(0).serialize() + farewell(0)

    async def greet(tcp: SocketStream) -> None:
        stream = await wrapped(tcp, context)
        await stream.send(greeting)
        await anyio.sleep_forever()

    async with (
        listening(greet) as port,
        Acme2(base_url=f"https://{HOST}:{port}", retry=ONCE) as session,
    ):
        with anyio.fail_after(PATIENCE), pytest.raises(ConnectFailed, match="takes no streams"):
            await session.stream().collect()


@pytest.mark.parametrize("status", ["000", "20", "2" * 5000, "x"])
async def test_a_status_that_is_none_fails_its_own_stream_only(status: str) -> None:
    async def answer(stream: Http2Stream) -> None:
        if stream.id == 1:
            await endless(stream)
        stream.connection.h2.send_headers(stream.id, [(":status", status)])
        await stream.connection.flush()

    with serving(answer) as server:
        async with Acme2(base_url=server.url, retry=ONCE) as session, AsyncExitStack() as stack:
            (other,) = await begun(stack, session, 1)
            with anyio.fail_after(PATIENCE), pytest.raises(StreamInterrupted, match="no status"):
                await session.stream().collect()
            server.run(server.connections[0].streams[1].send(token("more")))
            assert await anext(other) == Token(text="more")


async def test_padding_takes_no_room() -> None:
    """More of it than the window of a stream, and no data, before the answer."""
    padding = 255

    async def answer(stream: Http2Stream) -> None:
        await stream.respond()
        http = stream.connection.h2
        for _ in range(2 * MIB // padding):
            while http.local_flow_control_window(stream.id) <= padding:
                await stream.connection.until_changed()
            http.send_data(stream.id, b"", pad_length=padding)
            await stream.connection.flush()
        await stream.send(chat("Hello"))
        await stream.end()

    with serving(answer) as server:
        async with Acme2(base_url=server.url, retry=ONCE) as session:
            with anyio.fail_after(4 * PATIENCE):
                assert (await session.stream().collect()).text == "Hello"


async def test_a_server_that_begins_streams_itself_is_hung_up_on() -> None:
    """Each would be remembered, for a few bytes of the server's."""
    begins = [
        HeadersFrame(2 * n, data=b"\x88", flags=["END_HEADERS"]).serialize() for n in range(1, 200)
    ]
    with serving(endless) as server:
        async with Acme2(base_url=server.url) as session, AsyncExitStack() as stack:
            (stream,) = await begun(stack, session, 1)
            server.send_raw(b"".join(begins))
            with anyio.fail_after(PATIENCE), pytest.raises(StreamInterrupted, match="streams"):
                await anext(stream)


async def test_a_farewell_that_came_with_the_last_response_costs_no_attempt() -> None:
    """It is read already, but not yet decrypted, when the connection is taken for idle."""

    async def answer(stream: Http2Stream) -> None:
        if stream.connection is not server.connections[0]:
            await hello(stream)
            return
        await stream.respond()
        await stream.send(chat("Hello"))
        stream.connection.h2.end_stream(stream.id)
        stream.connection.writer.write(stream.connection.h2.data_to_send())
        stream.connection.writer.write(farewell(last_stream=1))

    with serving(answer) as server:
        async with Acme2(base_url=server.url, retry=ONCE) as session:
            for _ in range(2):
                assert (await session.stream().collect()).text == "Hello"
        assert len(server.connections) == 2


@pytest.mark.parametrize("replayable", [True, False])
async def test_a_request_is_sent_elsewhere_once_and_only_if_it_can_be(*, replayable: bool) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"once"

    async def leave(stream: Http2Stream) -> None:
        stream.connection.writer.write(farewell(last_stream=0))

    with serving(leave) as server:
        async with Acme2(base_url=server.url, retry=ONCE) as session:
            body = b"again" if replayable else content()
            with pytest.raises(StreamInterrupted, match="takes no more"):
                await session.open_stream("POST", "/", content=body).collect()
        assert len(server.connections) == 1 + replayable


async def test_a_farewell_amid_other_frames_loses_none_of_them() -> None:
    """And it is shown, though not all that the server may have to say."""
    wordy = GoAwayFrame(0, last_stream_id=1, error_code=11, additional_data=b"x" * 9000)
    ping = PingFrame(0, opaque_data=bytes(8)).serialize()
    with serving(endless) as server:
        async with Acme2(base_url=server.url, retry=ONCE) as session, AsyncExitStack() as stack:
            first, second = await begun(stack, session, 2)
            more = DataFrame(1, data=token("more")).serialize()
            server.send_raw(ping + wordy.serialize() + ping + more)
            assert await anext(first) == Token(text="more")
            with pytest.raises(StreamInterrupted) as caught:
                await anext(second)
            assert str(caught.value).endswith(f"no more: ENHANCE_YOUR_CALM '{'x' * 200}')")
            heard = server.connections[0].heard
            await server.until(
                lambda: [type(each) for each in heard].count(h2.events.PingAckReceived) == 2
            )


async def test_a_connection_that_broke_while_a_stream_was_left_is_replaced() -> None:
    with serving(endless) as server:
        async with Acme2(base_url=server.url, retry=ONCE) as session:
            stream = session.stream()
            await anext(stream)
            writer = server.connections[0].writer
            at_once = struct.pack("ii", 1, 0)  # so that a reset is sent
            tcp = writer.get_extra_info("socket")
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            server.do(writer.transport.abort)
            await server.until(lambda: not server.connections[0].is_open)
            await server.until_done()
            await stream.aclose()
            await works(session)


async def test_a_server_that_speaks_no_http2_hears_nothing_of_it() -> None:
    context = server_context()
    context.set_alpn_protocols(["http/1.1"])
    heard: list[bytes] = []

    async def hear(tcp: SocketStream) -> None:
        stream = await wrapped(tcp, context)
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            heard.append(b"")
            heard[-1] += await stream.receive()

    async with (
        listening(hear) as port,
        Acme2(base_url=f"https://{HOST}:{port}", retry=ONCE) as session,
    ):
        with pytest.raises(StreamInterrupted):
            await session.stream().collect()
    assert [each[:5] for each in heard] == [b"", b"POST "]


# Requests


async def test_a_header_that_cannot_be_sent_spoils_no_later_request() -> None:
    """Those before it were compressed already, as the server never learns."""
    heard: list[str | None] = []

    async def answer(stream: Http2Stream) -> None:
        heard.append(stream.headers.get("x-name"))
        await hello(stream)

    with serving(answer) as server:
        async with client(server) as http:
            await http.get("/")
            with pytest.raises(httpx.LocalProtocolError):
                await http.get("/", headers={"x-lost": "1", ":lost": "2"})
            for _ in range(2):
                await http.get("/", headers={"x-name": "kept"})
    assert heard == [None, "kept", "kept"]
    assert [each.error for each in server.connections] == [None, None]


async def test_bodies_are_made_no_faster_than_they_are_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamsession.http2._outbox._PIECE_SECONDS", 1.0)
    piece, pieces = bytes(64 * 1024), 0

    async def content() -> AsyncIterator[bytes]:
        nonlocal pieces
        for pieces in range(1024):  # noqa: B007 - it is counted
            yield piece
            await checkpoint()

    async def answer(stream: Http2Stream) -> None:
        stream.connection.h2.increment_flow_control_window(WIDE)
        await stream.connection.flush()
        transport: Any = stream.connection.writer.transport
        transport.pause_reading()
        await asyncio.Event().wait()

    async def send(session: Acme2) -> None:
        with suppress(StreamError):
            await session.open_stream("POST", "/", content=content()).collect()

    with serving(answer) as server:
        server.settings[SettingCodes.INITIAL_WINDOW_SIZE] = WIDE
        async with (
            Acme2(base_url=server.url, retry=ONCE) as session,
            anyio.create_task_group() as group,
        ):
            for _ in range(2):
                group.start_soon(send, session)
            before = -1
            while pieces > before or not pieces:
                before = pieces
                await anyio.sleep(0.2)
            group.cancel_scope.cancel()
    assert pieces * len(piece) < 32 * MIB, "what the sockets hold, and little more"


# Closing


async def test_a_stream_that_is_left_in_a_cancelled_scope_is_reset() -> None:
    with serving(endless) as server:
        async with client(server) as http:
            with anyio.CancelScope() as scope:
                async with http.stream("GET", "/"):
                    scope.cancel()
            await server.until(lambda: server.connections[0].resets == [1])


async def test_a_response_that_another_task_closes_stops_no_other() -> None:
    """Not even when the connection breaks while the task that reads is still there."""
    ends: list[Exception] = []

    async def read(response: httpx.Response) -> None:
        try:
            async for _ in response.aiter_raw():
                pass
        except (httpx.TransportError, httpx.StreamError) as exc:
            ends.append(exc)

    with serving(endless) as server:
        async with client(server) as http, anyio.create_task_group() as group:
            responses: list[httpx.Response] = []
            for _ in range(2):
                response = await http.send(http.build_request("GET", "/"), stream=True)
                responses.append(response)
                group.start_soon(read, response)
                await anyio.wait_all_tasks_blocked()
            for response in responses:
                await response.aclose()
            with anyio.fail_after(PATIENCE):
                async with http.stream("GET", "/"):
                    server.do(server.connections[0].writer.transport.abort)
                while len(ends) < 2:
                    await checkpoint()


@natively
async def test_an_idle_connection_is_closed_even_if_who_closes_it_is_cancelled() -> None:
    with serving(hello) as server:
        async with client(server, keepalive_expiry=0) as http:
            for step in range(12):
                await http.get("/")
                task = asyncio.create_task(http.get("/"))
                await turns(step)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await http.get("/")
            await server.until_done()
            await server.until(lambda: sum(each.is_open for each in server.connections) <= 1)


@natively
async def test_closing_closes_every_connection_even_if_it_is_cancelled() -> None:
    with serving(endless, max_streams=1) as server:
        http = client(server)
        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(http.stream("GET", "/"))
        task = asyncio.create_task(http.aclose())
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert len(server.connections) == 3
        await server.until(lambda: not any(each.is_open for each in server.connections))
