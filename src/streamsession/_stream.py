"""What the user reads from: one stream of events. It holds an `Exchange`, which does the work."""

from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Generic, Self
from weakref import finalize

from ._errors import SessionStateError
from ._events import Event, EventT, Reply
from ._exchange import Exchange
from ._http import Response
from ._plan import Plan, StreamStats

__all__ = ["Stream"]


class Stream(AsyncGenerator[EventT, None], Generic[EventT]):
    """The events of one response, one at a time: `async for event in session.stream(...)`.

    Nothing is sent before the first event is asked for. Leaving the loop early and dropping the
    stream releases its connection soon after; `async with session.stream(...) as stream` does it on
    the spot. Cancelling ends the stream. Every way in which it can end early is a `StreamError`.

    One task reads a stream at a time, once.
    """

    def __init__(self, plan: Plan[EventT]) -> None:
        self._exchange = Exchange(plan)
        # Not __del__: the finalizer cannot keep the stream alive and runs on every event loop.
        finalize(self, self._exchange.abandon).atexit = False

    def __repr__(self) -> str:
        stats = self._exchange.stats
        return f"<Stream events={stats.events} attempts={stats.attempts}>"

    @property
    def reply(self) -> Reply[EventT]:
        """What has arrived so far."""
        return self._exchange.reply

    @property
    def stats(self) -> StreamStats:
        """What the stream has cost and carried so far."""
        return self._exchange.stats

    @property
    def response(self) -> Response:
        """The status, headers and request id of the response.

        Raises:
            SessionStateError: It has not begun; `async with` the stream, or read an event first.
        """
        if self._exchange.response is None:
            raise SessionStateError("no response yet: use `async with`, or read an event first")
        return self._exchange.response

    async def __aenter__(self) -> Self:
        """Send the request, and wait for the response to begin; raises as iterating does."""
        await self._exchange.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release the connection, also when cancelled."""
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EventT:
        """The next event.

        Raises:
            StopAsyncIteration: The stream is complete: what proves it has come.
            StreamError: It ended in any other way; what had arrived is on the error.
            SessionStateError: It had ended before, or another task reads it.
        """
        ready = self._exchange.ready
        return ready.popleft() if len(ready) > 1 else await self._exchange.next()

    async def asend(self, value: None) -> EventT:
        """The next event, as `__anext__`: a stream takes no values."""
        return await anext(self)

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> EventT:
        """Close the stream and raise the exception."""
        await self.aclose()
        raise typ

    async def aclose(self) -> None:
        """Release the connection: at once, in at most the session's `close_timeout`, and only once.

        Another task that is reading the stream gets `StreamClosed`. Cancelling does not stop it.
        """
        await self._exchange.close()

    def text(self) -> AsyncIterator[str]:
        """The text of the tokens, piece by piece, without events that have none."""
        return _Texts(self)

    async def collect(self) -> Reply[EventT]:
        """Read to the end; returns the whole reply. Raises as iterating does."""
        if not self.reply.complete:
            async for _ in self:
                pass
        return self.reply


class _Texts(AsyncIterator[str]):
    """Not a generator: one that was left early would have to be closed by the event loop."""

    def __init__(self, stream: Stream[EventT]) -> None:
        self._stream = stream

    async def __anext__(self) -> str:
        async for event in self._stream:
            if isinstance(event, Event) and (token := event.as_token()):
                return token
        raise StopAsyncIteration
