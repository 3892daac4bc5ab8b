"""Bodies in pieces: several at once, left waiting while nobody asks, and ended in every case."""

import asyncio
import gc
import importlib.util
from collections.abc import AsyncGenerator
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest

from streamsession import Stream, StreamInterrupted
from streamsession._http._body import UnscopedBody
from streamsession.testing import HANG_UP, HOLD, RESET, Gate, ScriptedResponse, ScriptedServer, Step
from tests.acme import Acme, Token, chat, token

PATIENCE: Final = 20.0
ENOUGH: Final = 64 * 1024  # bytes to be taken at once
QUIET: Final = 1000  # turns of the event loop
WITH_UVLOOP: Final = pytest.param(
    ("asyncio", {"use_uvloop": True}),
    id="uvloop",
    marks=pytest.mark.skipif(
        importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed"
    ),
)

BEGIN: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED: Final = BEGIN + b"Transfer-Encoding: chunked\r\n\r\n"
SIZED: Final = BEGIN + b"Content-Length: %d\r\n\r\n"

pytestmark = pytest.mark.anyio
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio", WITH_UVLOOP])
everywhere = pytest.mark.parametrize("anyio_backend", ["asyncio", WITH_UVLOOP, "trio"])


async def turns() -> None:
    """Let all come that was sent."""
    for _ in range(QUIET):
        await anyio.lowlevel.checkpoint()


async def something_has_arrived(stream: Stream[Any]) -> None:
    """On the connection of a response, if only its end."""
    connection: Any = vars(stream.response)["_raw"].extensions["network_stream"]
    with anyio.fail_after(PATIENCE):
        while not connection.get_extra_info("is_readable"):
            await anyio.lowlevel.checkpoint()


# A session's


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@everywhere
@pytest.mark.parametrize("end", [HANG_UP, RESET])
@pytest.mark.parametrize("pieces", [1, 2, 40])
async def test_what_broke_behind_events_is_told_after_them_in_the_consumers_own_scopes(
    scripted_server: ScriptedServer, anyio_backend: Any, end: Step, pieces: int
) -> None:
    if anyio_backend == "trio" and end is RESET:
        pytest.skip("what trio has not read yet is lost with a reset")
    first, last = Gate(), Gate()
    tokens = b"".join(chunk(token(str(number))) for number in range(pieces))
    steps: list[Step] = [CHUNKED + chunk(token("a")), first, tokens, last, end]
    scripted_server.play(ScriptedResponse(steps, framing="raw"))
    async with Acme(base_url=scripted_server.url) as session:
        stream = session.stream()
        assert await anext(stream) == Token(text="a")
        first.open()
        await something_has_arrived(stream)  # while the consumer is busy
        last.open()
        await turns()
        for number in range(pieces):
            with anyio.fail_after(PATIENCE):
                assert await anext(stream) == Token(text=str(number))
        with pytest.raises(StreamInterrupted), anyio.fail_after(PATIENCE):
            await anext(stream)


@everywhere
async def test_a_scope_that_is_cancelled_when_it_breaks_is_left_as_ever(
    scripted_server: ScriptedServer,
) -> None:
    gate = Gate()
    scripted_server.play(ScriptedResponse([token("a"), gate, token("b"), HANG_UP]))
    async with Acme(base_url=scripted_server.url) as session:
        stream = session.stream()
        await anext(stream)
        gate.open()
        await turns()
        with anyio.CancelScope() as scope:
            scope.cancel()
            while True:
                await anext(stream)
                await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught or stream.reply.text
        with anyio.fail_after(PATIENCE):
            await stream.aclose()


@everywhere
async def test_many_streams_in_turn_have_one_connection(scripted_server: ScriptedServer) -> None:
    scripted_server.play(*[ScriptedResponse([chat("a", "b")])] * 100)
    async with Acme(base_url=scripted_server.url) as session:
        for _ in range(100):
            assert (await session.stream().collect()).text == "ab"
    assert [each.requests for each in scripted_server.connections] == [100]


@everywhere
@pytest.mark.parametrize("more", [[HANG_UP], [RESET], [b"HTTP/1.1 408 Timeout\r\n\r\n", HOLD]])
async def test_a_connection_that_the_server_left_or_wrote_to_is_not_used_again(
    scripted_server: ScriptedServer, more: list[Step]
) -> None:
    gate = Gate()
    whole = [SIZED % len(chat("a")), chat("a"), gate, *more]
    scripted_server.play(ScriptedResponse(whole, framing="raw"), ScriptedResponse([chat("b")]))
    async with Acme(base_url=scripted_server.url) as session:
        first = session.stream()
        assert (await first.collect()).text == "a"
        gate.open()
        await something_has_arrived(first)
        stream = session.stream()
        assert (await stream.collect()).text == "b"
        assert not stream.response.reused
        assert stream.stats.attempts == 1
    assert len(scripted_server.connections) == 2


@everywhere
async def test_a_stream_that_is_left_while_the_consumer_is_busy_ends_its_wait(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(ScriptedResponse([token("a"), HOLD]))
    async with Acme(base_url=scripted_server.url) as session:
        stream = session.stream()
        await anext(stream)
        async with anyio.create_task_group() as group:
            group.start_soon(stream.aclose)
        assert (await scripted_server.until_closed(0)).state == "client closed"


@everywhere
async def test_a_generator_that_never_waits_gets_the_answer_that_came_early(
    scripted_server: ScriptedServer,
) -> None:
    sent = 0
    others = 0

    async def body() -> AsyncGenerator[bytes]:
        nonlocal sent
        for sent in range(200):  # noqa: B007 - it is what is counted
            yield bytes(1000)

    async def count_turns() -> None:
        nonlocal others
        while True:
            others += 1
            await anyio.lowlevel.checkpoint()

    scripted_server.play(ScriptedResponse([chat("a")]))
    async with Acme(base_url=scripted_server.url) as session, anyio.create_task_group() as group:
        group.start_soon(count_turns)
        stream = session.open_stream("POST", "/", content=body())
        assert (await stream.collect()).text == "a"
        group.cancel_scope.cancel()
    assert others >= sent == 199


# By itself


class Server:
    """Makes the pieces of a body, as the library does: to wait, it awaits a future."""

    def __init__(self) -> None:
        self.pieces: list[bytes | Exception] = []
        self.asked: asyncio.Future[None] | None = None
        self.turns = 0
        self.is_closed = False

    async def generate(self) -> AsyncGenerator[bytes]:
        try:
            while True:
                while self.pieces:
                    for _ in range(self.turns):
                        await asyncio.sleep(0)
                    piece = self.pieces.pop(0)
                    if isinstance(piece, Exception):
                        raise piece
                    yield piece
                self.asked = asyncio.get_running_loop().create_future()
                await self.asked
        finally:
            self.is_closed = True

    def send(self, *pieces: bytes | Exception) -> None:
        self.pieces += pieces
        if self.asked is not None and not self.asked.done():
            self.asked.set_result(None)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def body(server: Server) -> UnscopedBody:
    return UnscopedBody(server.generate())


@on_asyncio
async def test_what_came_together_is_taken_together(server: Server, body: UnscopedBody) -> None:
    server.send(b"a", b"b", b"c")
    assert body.read_now() == b"abc"
    assert body.read_now() is None
    server.send(b"d", b"e")
    assert body.read_now() == b"de"
    await body.leave()


@on_asyncio
async def test_no_more_is_taken_at_once_than_holds_the_loop(
    server: Server, body: UnscopedBody
) -> None:
    server.send(*[b"x"] * 20)
    assert [body.read_now() for _ in range(2)] == [b"x" * 16, b"xxxx"]
    server.send(bytes(ENOUGH), bytes(ENOUGH))
    assert [len(body.read_now() or b"") for _ in range(2)] == [ENOUGH, ENOUGH]
    await body.leave()


@on_asyncio
async def test_a_read_waits_for_what_comes_next(server: Server, body: UnscopedBody) -> None:
    reading = asyncio.create_task(body.read())
    await turns()
    assert not reading.done()
    server.send(b"a")
    assert await reading == b"a"
    await body.leave()


@on_asyncio
async def test_an_error_behind_pieces_is_told_after_them_and_again(
    server: Server, body: UnscopedBody
) -> None:
    server.send(b"a", OSError("broken"))
    assert body.read_now() == b"a"
    for _ in range(2):
        with pytest.raises(OSError, match="broken"):
            await body.read()
    await body.leave()
    await body.unwind()


@on_asyncio
async def test_the_end_behind_pieces_is_told_after_them() -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        yield b"a"

    body = UnscopedBody(pieces())
    assert [await body.read() for _ in range(3)] == [b"a", b"", b""]
    await body.leave()
    await body.unwind()


@on_asyncio
@pytest.mark.parametrize("number", [1, 5, 1000])
async def test_turns_for_others_are_no_end_of_a_piece(
    server: Server, body: UnscopedBody, number: int
) -> None:
    server.turns = number
    server.send(b"a", b"b")
    got = b""
    with anyio.fail_after(PATIENCE):
        while got != b"ab":
            got += await body.read()
    server.send(OSError("broken"))
    with pytest.raises(OSError, match="broken"):
        await body.read()


@on_asyncio
async def test_a_wait_that_nobody_awaits_can_be_left(server: Server, body: UnscopedBody) -> None:
    assert body.read_now() is None
    assert not server.is_closed
    await body.leave()
    await body.leave()
    assert server.is_closed


@on_asyncio
async def test_a_wait_that_was_cancelled_can_be_left(server: Server, body: UnscopedBody) -> None:
    reading = asyncio.create_task(body.read())
    await turns()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await body.leave()
    assert server.is_closed


@on_asyncio
async def test_what_fails_while_nobody_waits_is_told_to_who_reads_and_to_nobody_else(
    server: Server, body: UnscopedBody
) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    for is_read in (True, False):
        assert body.read_now() is None
        assert server.asked is not None
        server.asked.set_exception(OSError("broken"))
        if is_read:
            with pytest.raises(OSError, match="broken"):
                await body.read()
            body = UnscopedBody(server.generate())
    await body.leave()
    server.asked = None
    del body
    gc.collect()
    await turns()
    assert told == []


@on_asyncio
async def test_a_body_that_was_left_in_the_middle_is_unwound(
    server: Server, body: UnscopedBody
) -> None:
    server.send(bytes(ENOUGH), b"more")
    assert len(await body.read()) == ENOUGH
    await body.leave()
    assert not server.is_closed
    await body.unwind()
    assert server.is_closed


@on_asyncio
async def test_a_body_that_was_dropped_in_the_middle_is_closed(server: Server) -> None:
    body = UnscopedBody(server.generate())
    server.send(bytes(ENOUGH), b"more")
    assert body.read_now() == bytes(ENOUGH)
    del body
    gc.collect()
    await turns()
    assert server.is_closed


def test_the_end_of_the_loop_closes_what_began_before_or_after_but_not_what_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    servers = [Server(), Server(), Server()]
    before, within, after = (each.generate() for each in servers)
    kept: list[object] = [before, after]

    async def main() -> None:
        for each in servers:
            each.send(b"a")
        assert await anext(before) == b"a"
        kept.append(body := UnscopedBody(within))
        assert body.read_now() == b"a"
        assert await anext(after) == b"a"

    asyncio.run(main())
    assert [each.is_closed for each in servers] == [True, False, True]
    assert caplog.records == []
    servers[1].asked = None
    kept.clear()
    gc.collect()  # what is wrong with it is raised by pytest
