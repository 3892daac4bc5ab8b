"""What becomes of the connections, over real sockets."""

import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

import anyio
import httpx
import pytest
from pydantic import TypeAdapter

from streamsession import (
    AsyncSession,
    ConnectFailed,
    RetryPolicy,
    ServerSentEvent,
    SessionClosed,
    StatusError,
    Stream,
    StreamClosed,
    StreamError,
    StreamInterrupted,
    TimedOut,
    Timeouts,
)
from streamsession.testing import (
    HANG_UP,
    HOLD,
    RESET,
    ConnectionRecord,
    Ending,
    Gate,
    RecordedRequest,
    ScriptedResponse,
    ScriptedServer,
    Step,
    sse,
)
from tests.acme import FINISH, Acme, Finish, Token, chat, token
from tests.canary import CANARY

pytestmark = pytest.mark.anyio

HELLO = ScriptedResponse([chat("Hello")])
ENDLESS = ScriptedResponse([token("Hello"), HOLD])
ONCE = RetryPolicy(attempts=1)
PATIENCE = 5.0
"""Far more than anything here takes, in seconds."""


def pool_of(size: int) -> httpx.Limits:
    return httpx.Limits(max_connections=size)


def open_connections(server: ScriptedServer) -> list[ConnectionRecord]:
    return [record for record in server.connections if record.is_open]


async def until_all_closed(server: ScriptedServer) -> None:
    for record in server.connections:
        await server.until_closed(record.index)


# Used again


async def test_a_connection_is_used_again_after_the_final_event(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(*[HELLO] * 5)
    async with Acme(base_url=scripted_server.url) as session:
        for _ in range(5):
            assert (await session.stream().collect()).text == "Hello"
        assert len(open_connections(scripted_server)) == 1
    assert (await scripted_server.until_closed()).requests == 5


async def test_a_connection_is_used_again_when_the_loop_was_left_at_the_final_event(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(*[HELLO] * 3)
    async with Acme(base_url=scripted_server.url) as session:
        for _ in range(3):
            async with session.stream() as stream:
                async for event in stream:
                    if isinstance(event, Finish):
                        break
    assert [record.requests for record in scripted_server.connections] == [3]


class Marked(AsyncSession[Token]):
    """An API whose streams end in a sentinel."""

    final_marker = "[DONE]"


class Wordy(AsyncSession[Token]):
    """An API whose streams are complete when its decode says so."""

    async def decode(self, frames: AsyncIterator[ServerSentEvent]) -> AsyncIterator[Token]:
        async for frame in frames:
            if frame.data == "[DONE]":
                return
            yield Token(text=frame.data)


@pytest.mark.parametrize("session_type", [Marked, Wordy])
async def test_a_connection_is_used_again_whatever_completes_a_stream(
    scripted_server: ScriptedServer, session_type: type[Marked | Wordy]
) -> None:
    scripted_server.play(*[ScriptedResponse([token("Hello"), sse("[DONE]")])] * 3)
    async with session_type(base_url=scripted_server.url) as session:
        for _ in range(3):
            stream = session.stream("GET", "/")
            assert (await stream.collect()).complete
            assert stream.response.reused is (len(scripted_server.requests) > 1)
    assert [record.requests for record in scripted_server.connections] == [3]


async def test_a_connection_is_used_again_after_an_error_status(
    scripted_server: ScriptedServer,
) -> None:
    refused = ScriptedResponse.json({"error": "busy"}, status=503)
    scripted_server.play(refused, refused, HELLO)
    async with Acme(base_url=scripted_server.url) as session:
        assert (await session.stream().collect()).text == "Hello"
    assert [record.requests for record in scripted_server.connections] == [3]


async def test_a_connection_is_used_again_after_a_request(scripted_server: ScriptedServer) -> None:
    scripted_server.play(ScriptedResponse.json("one"), ScriptedResponse(status=204), HELLO)
    async with Acme(base_url=scripted_server.url) as session:
        assert await session.request("GET", "/x", result=str) == "one"
        assert await session.request("GET", "/x", result=TypeAdapter(str | None)) is None
        await session.stream().collect()
    assert [record.requests for record in scripted_server.connections] == [3]


async def test_a_server_that_does_not_hang_up_is_not_waited_for(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(ScriptedResponse([chat("Hello"), HOLD]))
    async with Acme(base_url=scripted_server.url) as session:
        with anyio.fail_after(PATIENCE):
            assert (await session.stream().collect()).text == "Hello"
        record = await scripted_server.until_closed()
    assert record.state == "client closed"


async def test_a_server_that_goes_on_after_the_final_event_is_not_listened_to(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(ScriptedResponse([chat("Hello"), *[token("late") * 1000] * 50, HOLD]))
    async with Acme(base_url=scripted_server.url) as session:
        stream = session.stream()
        with anyio.fail_after(PATIENCE):
            assert (await stream.collect()).text == "Hello"
        await scripted_server.until_closed()
        assert stream.stats.bytes < 1_000_000


# Left early


async def test_breaking_off_never_blocks_the_pool(scripted_server: ScriptedServer) -> None:
    scripted_server.play(*[ENDLESS] * 100)
    async with Acme(base_url=scripted_server.url, limits=pool_of(2)) as session:
        with anyio.fail_after(2 * PATIENCE):
            for _ in range(100):
                async for event in session.stream():
                    assert event == Token(text="Hello")
                    break
    assert len(scripted_server.requests) == 100
    await until_all_closed(scripted_server)


async def test_a_dropped_stream_frees_its_connection(scripted_server: ScriptedServer) -> None:
    scripted_server.play(ENDLESS)
    async with Acme(base_url=scripted_server.url) as session:
        stream = session.stream()
        await anext(stream)
        assert len(open_connections(scripted_server)) == 1
        del stream
        assert (await scripted_server.until_closed()).state == "client closed"


async def test_a_stream_left_in_its_block_is_closed_on_the_spot(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(ENDLESS, HELLO)
    async with Acme(base_url=scripted_server.url, limits=pool_of(1)) as session:
        async with session.stream() as stream:
            async for _ in stream:
                break
        with anyio.fail_after(PATIENCE):
            assert (await session.stream().collect()).text == "Hello"
        assert stream.reply.text == "Hello", "it is still held"
    assert (await scripted_server.until_closed(0)).state == "client closed"


async def test_closing_in_another_task_frees_the_connection(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(ENDLESS, HELLO)
    came = anyio.Event()
    ends: list[str] = []

    async def read(stream: Stream[Token | Finish]) -> None:
        try:
            async for _ in stream:
                came.set()
        except StreamClosed as exc:
            ends.append(exc.partial.text)

    async with Acme(base_url=scripted_server.url, limits=pool_of(1)) as session:
        async with anyio.create_task_group() as group:
            stream = session.stream()
            group.start_soon(read, stream)
            await came.wait()
            await stream.aclose()
        assert ends == ["Hello"]
        with anyio.fail_after(PATIENCE):
            assert (await session.stream().collect()).text == "Hello"


async def test_leaving_the_session_leaves_no_socket_open(scripted_server: ScriptedServer) -> None:
    scripted_server.play(*[ENDLESS] * 10)
    ends: list[StreamError] = []

    async def read(stream: Stream[Token | Finish]) -> None:
        try:
            await stream.collect()
        except StreamError as exc:
            ends.append(exc)

    async with anyio.create_task_group() as group:
        async with Acme(base_url=scripted_server.url) as session:
            streams = [session.stream() for _ in range(10)]
            for stream in streams[:5]:
                group.start_soon(read, stream)
            for stream in streams[5:]:
                await anext(stream)
            await anyio.wait_all_tasks_blocked()
        await until_all_closed(scripted_server)
    assert [type(end) for end in ends] == [SessionClosed] * 5
    assert {record.state for record in scripted_server.connections} == {"client closed"}


# Broken connections


async def test_a_server_that_is_not_there(scripted_server: ScriptedServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    async with Acme(base_url=url) as session:
        with pytest.raises(ConnectFailed) as caught:
            await session.stream().collect()
    assert caught.value.attempts == 3


@pytest.mark.parametrize("ending", [HANG_UP, RESET])
@pytest.mark.parametrize(
    "before",
    [
        pytest.param([], id="before the head"),
        pytest.param([b"HTTP/1.1 200 OK\r\nContent-Ty"], id="in the head"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"], id="after the head"
        ),
    ],
)
async def test_a_connection_that_breaks_before_the_first_event_is_replaced(
    scripted_server: ScriptedServer, before: Sequence[Step], ending: Ending
) -> None:
    scripted_server.play(ScriptedResponse([*before, ending], framing="raw"), HELLO)
    async with Acme(base_url=scripted_server.url, limits=pool_of(1)) as session:
        stream = session.stream()
        assert (await stream.collect()).text == "Hello"
    assert stream.stats.attempts == 2


@pytest.mark.parametrize("ending", [HANG_UP, RESET])
async def test_a_connection_that_breaks_between_events_is_an_error(
    scripted_server: ScriptedServer, ending: Ending
) -> None:
    gate = Gate()
    scripted_server.play(ScriptedResponse([token("Hello"), gate, ending]), HELLO)
    async with Acme(base_url=scripted_server.url, limits=pool_of(1)) as session:
        stream = session.stream()
        await anext(stream)
        gate.open()
        with pytest.raises(StreamInterrupted) as caught:
            await anext(stream)
        assert caught.value.partial.text == "Hello"
        with anyio.fail_after(PATIENCE):
            assert (await session.stream().collect()).text == "Hello"


async def test_a_connection_that_the_server_dropped_while_idle_is_replaced(
    scripted_server: ScriptedServer,
) -> None:
    closing = ScriptedResponse([chat("Hello")], headers={"Keep-Alive": "timeout=0"})
    dropped = ScriptedResponse([HANG_UP], framing="raw")
    scripted_server.play(closing, dropped, HELLO)
    async with Acme(base_url=scripted_server.url) as session:
        await session.stream().collect()
        assert (await session.stream().collect()).text == "Hello"


# Redirects


async def test_a_redirect_within_the_origin_is_followed(scripted_server: ScriptedServer) -> None:
    scripted_server.play(
        ScriptedResponse(status=307, headers={"Location": "/v2/generate?x=1"}),
        ScriptedResponse(status=308, headers={"Location": f"{scripted_server.url}/v3"}),
        HELLO,
    )
    async with Acme(base_url=scripted_server.url, api_key=CANARY) as session:
        assert (await session.stream("Hi").collect()).text == "Hello"
    requests = scripted_server.requests
    assert [request.path for request in requests] == ["/generate", "/v2/generate?x=1", "/v3"]
    assert {request.method for request in requests} == {"POST"}
    assert {request.body for request in requests} == {b'{"prompt":"Hi"}'}
    assert {request.headers["authorization"] for request in requests} == {f"Bearer {CANARY}"}


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_that_changes_the_method_drops_the_body(
    scripted_server: ScriptedServer, status: int
) -> None:
    scripted_server.play(ScriptedResponse(status=status, headers={"Location": "/other"}), HELLO)
    async with Acme(base_url=scripted_server.url) as session:
        assert (await session.stream().collect()).text == "Hello"
    request = scripted_server.requests[1]
    assert (request.method, request.body) == ("GET", b"")


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{other}/x",
        "http://localhost:{own}/x",
        "https://127.0.0.1:{own}/x",
        "//x.invalid",
    ],
    ids=["other port", "other host", "other scheme", "no scheme"],
)
@pytest.mark.parametrize("status", [301, 303, 307])
async def test_neither_credentials_nor_body_reach_another_origin(
    scripted_server: ScriptedServer, location: str, status: int
) -> None:
    with ScriptedServer(HELLO) as other:
        own_port, other_port = (each.url.rpartition(":")[2] for each in (scripted_server, other))
        target = location.format(own=own_port, other=other_port)
        scripted_server.play(ScriptedResponse(status=status, headers={"Location": target}))
        async with Acme(base_url=scripted_server.url, api_key=CANARY) as session:
            with pytest.raises(StatusError, match="redirected to another origin") as caught:
                await session.stream().collect()
        assert other.connections == []
    assert caught.value.status == status
    assert CANARY not in str(caught.value)
    assert len(scripted_server.connections) == 1


async def test_a_redirect_in_a_circle_ends(scripted_server: ScriptedServer) -> None:
    here = ScriptedResponse(status=307, headers={"Location": "/generate"})
    scripted_server.play(*[here] * 100)
    async with Acme(base_url=scripted_server.url, limits=pool_of(1)) as session:
        with pytest.raises(StatusError, match="more than 5 redirects") as caught:
            await session.stream().collect()
    assert caught.value.status == 307
    assert len(scripted_server.requests) == 6


@pytest.mark.parametrize("location", ["http://[", "http://x:y/", "http://x:99999/"])
async def test_a_redirect_to_nowhere_is_an_error(
    scripted_server: ScriptedServer, location: str
) -> None:
    scripted_server.play(ScriptedResponse(status=307, headers={"Location": location}), HELLO)
    async with Acme(base_url=scripted_server.url, limits=pool_of(1), retry=ONCE) as session:
        with pytest.raises(StreamError):
            await session.stream().collect()
        with anyio.fail_after(PATIENCE):
            await session.stream().collect()


async def test_a_redirect_to_nowhere_is_not_tried_again(scripted_server: ScriptedServer) -> None:
    nowhere = ScriptedResponse(status=307, headers={"Location": "http://x:y/"})
    scripted_server.play(*[nowhere] * 3)
    async with Acme(base_url=scripted_server.url) as session:
        with pytest.raises(StreamError) as caught:
            await session.stream().collect()
    assert isinstance(caught.value, StatusError)
    assert len(scripted_server.requests) == 1


# A pool that is full


async def test_a_stream_waits_for_its_turn(scripted_server: ScriptedServer) -> None:
    gate = Gate()
    scripted_server.play(*[ScriptedResponse([token("Hello"), gate, FINISH])] * 6)
    texts: list[str] = []

    async def read(session: Acme) -> None:
        texts.append((await session.stream().collect()).text)

    async with Acme(base_url=scripted_server.url, limits=pool_of(2)) as session:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for _ in range(6):
                    group.start_soon(read, session)
                await gate.reached(times=2)
                await anyio.wait_all_tasks_blocked()
                assert len(scripted_server.requests) == 2
                gate.open()
    assert texts == ["Hello"] * 6
    assert len(scripted_server.connections) == 2


@pytest.mark.parametrize("way", ["drop", "close", "fail"])
async def test_a_waiting_stream_gets_its_turn_however_the_first_ends(
    scripted_server: ScriptedServer, way: str
) -> None:
    gate = Gate()
    end = HANG_UP if way == "fail" else HOLD
    scripted_server.play(ScriptedResponse([token("Hello"), gate, end]), HELLO)
    texts: list[str] = []

    async def read(session: Acme) -> None:
        texts.append((await session.stream().collect()).text)

    async with Acme(base_url=scripted_server.url, limits=pool_of(1)) as session:
        first: Stream[Token | Finish] | None = session.stream()
        assert first is not None
        await anext(first)
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(read, session)
                await anyio.wait_all_tasks_blocked()
                assert len(scripted_server.requests) == 1
                if way == "close":
                    await first.aclose()
                elif way == "fail":
                    gate.open()
                    with contextlib.suppress(StreamInterrupted):
                        await anext(first)
                else:
                    first = None
    assert texts == ["Hello"]


async def test_waiting_in_vain_says_that_the_pool_is_full(scripted_server: ScriptedServer) -> None:
    scripted_server.play(ENDLESS)
    limits = Timeouts(first_event=0.5)
    async with Acme(base_url=scripted_server.url, limits=pool_of(1), timeout=limits) as session:
        first = session.stream()
        await anext(first)
        with pytest.raises(TimedOut) as caught:
            await session.stream().collect()
        assert caught.value.clock == "first_event"
        assert any("connections of the pool" in note for note in caught.value.__notes__)
        await first.aclose()


async def test_a_server_that_is_slow_is_not_blamed_on_the_pool(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(ScriptedResponse([HOLD], framing="raw"))
    limits = Timeouts(first_event=0.1)
    async with Acme(base_url=scripted_server.url, limits=pool_of(2), timeout=limits) as session:
        with pytest.raises(TimedOut) as caught:
            await session.stream().collect()
        assert not hasattr(caught.value, "__notes__")


async def test_a_hundred_streams_are_open_at_once(scripted_server: ScriptedServer) -> None:
    gate = Gate()
    scripted_server.play(*[ScriptedResponse([token("Hello"), gate, FINISH])] * 100)
    texts: list[str] = []

    async def read(session: Acme) -> None:
        texts.append((await session.stream().collect()).text)

    async with (
        Acme(base_url=scripted_server.url) as session,
        anyio.create_task_group() as group,
    ):
        for _ in range(100):
            group.start_soon(read, session)
        await gate.reached(times=100)
        gate.open()
    assert texts == ["Hello"] * 100


async def test_the_server_sees_the_answer_to_each_request_only_once(
    scripted_server: ScriptedServer,
) -> None:
    """No event of one stream reaches another that uses its connection afterwards."""

    def echo(request: RecordedRequest) -> ScriptedResponse:
        return ScriptedResponse([chat(request.json()["prompt"])])

    scripted_server.play(*[echo] * 50)
    texts: list[str] = []

    async def read(session: Acme, prompt: str) -> None:
        for turn in range(5):
            text = f"{prompt}.{turn}"
            assert (await session.stream(text).collect()).text == text
            texts.append(text)

    async with (
        Acme(base_url=scripted_server.url, limits=pool_of(3)) as session,
        anyio.create_task_group() as group,
    ):
        for n in range(10):
            group.start_soon(read, session, str(n))
    assert len(texts) == 50
