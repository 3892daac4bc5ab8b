"""Promises about closing: whatever happens, nothing stays open and nothing hangs."""

import asyncio
import gc
from contextlib import suppress
from typing import Any

import anyio
from anyio.lowlevel import current_token

from ..._errors import SessionClosed, SessionStateError, StreamClosed
from ..._session import AsyncSession
from ..._stream import Stream
from .._script import HOLD
from .._server import ScriptedServer
from ._bench import Bench, expect
from ._promise import BrokenPromise, promise

__all__ = ["Closing"]

_SOON = 1.0  # seconds; it takes milliseconds
_OWN_NOTHING = (
    "let stream() return what open_stream() returns, hold no stream in an attribute, and close "
    "every async generator that you open"
)
_TEARDOWN = "let disconnect() await only what ends, and start no task that outlives it"


class Closing(Bench):
    """What stays behind when a stream or a session is left."""

    @promise("end the stream by what proves it complete, so that the connection can be reused")
    async def test_the_connection_is_used_again_after_a_whole_stream(self) -> None:
        """After a complete stream its connection serves the next one."""
        with self.server(self.reply()) as server:
            async with self.opened(server.url) as session:
                await self.works_again(session, "nothing")
                await self.works_again(session, "a whole stream")
            one, other = (request.connection for request in self._asked(server)[-2:])
        expect(one == other, "the second stream needed another connection")

    @promise(_OWN_NOTHING)
    async def test_breaking_off_closes_the_connection(self) -> None:
        """Leaving the block of a stream early closes its connection on the spot."""

        async def leave(session: AsyncSession[Any]) -> None:
            async with self.stream(session) as stream:
                await anext(stream)

        await self._left_by(leave)

    @promise(_OWN_NOTHING)
    async def test_an_exception_in_the_block_closes_the_connection(self) -> None:
        """An exception in the block of a stream closes its connection, and comes out unchanged."""

        async def leave(session: AsyncSession[Any]) -> None:
            with suppress(_Leaving):
                async with self.stream(session) as stream:
                    await anext(stream)
                    raise _Leaving

        await self._left_by(leave)

    @promise(_OWN_NOTHING)
    async def test_a_dropped_stream_closes_its_connection(self) -> None:
        """A stream that is broken off in a bare loop and dropped closes its connection."""

        async def leave(session: AsyncSession[Any]) -> None:
            async for _ in self.stream(session):
                break
            gc.collect()

        await self._left_by(leave)

    @promise(_OWN_NOTHING)
    async def test_a_cancelled_stream_closes_its_connection(self) -> None:
        """Cancelling the task that reads a stream closes its connection."""

        async def leave(session: AsyncSession[Any]) -> None:
            with anyio.CancelScope() as scope:
                async for _ in self.stream(session):
                    scope.cancel()

        await self._left_by(leave)

    @promise("shield no await yourself, and swallow no CancelledError")
    async def test_a_task_cancelled_twice_closes_its_connection(self) -> None:
        """A task of asyncio that is cancelled while it is being cancelled loses no connection."""
        if not _on_asyncio():
            self.skip("only asyncio cancels a task a second time")

        async def leave(session: AsyncSession[Any]) -> None:
            reading = asyncio.Event()

            async def read() -> None:
                async for _ in self.stream(session):
                    reading.set()

            task = asyncio.create_task(read())
            await reading.wait()
            while not task.done():
                task.cancel()
                await asyncio.sleep(0)
            expect(task.cancelled(), "the task was cancelled but did not end so")

        await self._left_by(leave)

    @promise(_OWN_NOTHING)
    async def test_closing_in_another_task_ends_the_reader(self) -> None:
        """A stream that another task closes raises StreamClosed in the one that reads it."""
        reader = _Reader()
        with self.server(self.reply(self.halves()[0], HOLD)) as server:
            async with self.opened(server.url) as session, anyio.create_task_group() as tasks:
                stream = self.stream(session)
                tasks.start_soon(reader.read, stream)
                await reader.reading.wait()
                await stream.aclose()
        expect(reader.error, "the reader's loop ended as if the stream were complete")
        expect(type(reader.error) is StreamClosed, f"the reader got {reader.error!r}")

    @promise(_TEARDOWN)
    async def test_leaving_the_session_ends_its_streams(self) -> None:
        """A session that is left raises SessionClosed in the tasks that still read from it."""
        reader = _Reader()
        with self.server(self.reply(self.halves()[0], HOLD)) as server:
            async with anyio.create_task_group() as tasks, self.opened(server.url) as session:
                tasks.start_soon(reader.read, self.stream(session))
                await reader.reading.wait()
        expect(reader.error, "the reader's loop ended as if the stream were complete")
        expect(isinstance(reader.error, SessionClosed), f"the reader got {reader.error!r}")

    @promise(_TEARDOWN)
    async def test_leaving_the_session_leaves_nothing_open(self) -> None:
        """However the block ends, the session's connections are closed and its tasks ended."""
        with self.server(self.reply()) as server:
            with suppress(_Leaving):
                async with self.opened(server.url) as session:
                    await self.works_again(session, "nothing")
                    raise _Leaving
            if _on_asyncio():
                others = asyncio.all_tasks() - {asyncio.current_task()}
                expect(not others, f"tasks are left: {others}")
            for record in server.connections:
                await self._until_closed(server, record.index)

    @promise("connect in connect(), not in the constructor or in stream()")
    async def test_nothing_is_sent_before_a_stream_is_read(self) -> None:
        """Opening a stream sends nothing: reading it does."""
        with self.server(self.reply()) as server:
            async with self.opened(server.url) as session:
                self.stream(session)
                expect(not self._asked(server), "a request was sent")

    @promise("leave __aenter__ and __aexit__ to AsyncSession: use connect() and disconnect()")
    async def test_a_session_that_is_not_open_says_so(self) -> None:
        """Before it is entered and after it is left, a session refuses to stream."""
        with self.server(self.reply()) as server:
            session = self.configured(server.url)
            await self._refuses(session, "before it was entered")
            async with session:
                await self.works_again(session, "nothing")
            await self._refuses(session, "after it was left")

    @promise("let stream() return a new stream for each call")
    async def test_a_stream_is_read_once(self) -> None:
        """Reading a stream that has ended is a SessionStateError, not an empty answer."""
        with self.server(self.reply()) as server:
            async with self.opened(server.url) as session:
                stream = self.stream(session)
                await stream.collect()
                try:
                    await anext(stream)
                except SessionStateError:
                    pass
                except StopAsyncIteration:
                    raise BrokenPromise("it gave nothing, as if the answer were empty") from None

    # What they share

    def _asked(self, server: ScriptedServer) -> list[Any]:
        """The requests for streams."""
        return [request for request in server.requests if self.answer(request) is None]

    async def _left_by(self, leave: Any) -> None:
        """Leave half a stream in this way: its connection must be closed, the session go on."""
        with self.server(self.reply(self.halves()[0], HOLD), self.reply()) as server:
            async with self.opened(server.url) as session:
                await leave(session)
                await self._until_closed(server, self._asked(server)[0].connection)
                await self.works_again(session, "that")

    async def _until_closed(self, server: ScriptedServer, connection: int) -> None:
        try:
            await server.until_closed(connection, timeout=_SOON)
        except TimeoutError:
            raise BrokenPromise("the connection is still open") from None

    async def _refuses(self, session: AsyncSession[Any], when: str) -> None:
        seen = await self.drained(session)
        expect(isinstance(seen.error, SessionStateError), f"{when}, {seen}")


class _Reader:
    """A task that reads a stream until it ends, and remembers how."""

    def __init__(self) -> None:
        self.reading = anyio.Event()
        self.error: Exception | None = None

    async def read(self, stream: Stream[Any]) -> None:
        """Read; `reading` is set at the first event, or at the end if none came."""
        try:
            async for _ in stream:
                self.reading.set()
        except Exception as exc:  # noqa: BLE001 - which one it is, is what is tested
            self.error = exc
        finally:
            self.reading.set()


class _Leaving(Exception):
    """Leaves a block."""


def _on_asyncio() -> bool:
    return isinstance(current_token().native_token, asyncio.AbstractEventLoop)
