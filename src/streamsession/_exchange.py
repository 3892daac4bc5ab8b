"""One stream at work: attempts, clocks, resuming, and closing whatever happens.

An `Exchange` never refers to the `Stream` that the user holds: when that is dropped, it is seen.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Generic

from anyio import Event as Flag
from anyio import move_on_after, sleep
from anyio.lowlevel import current_token
from typing_extensions import TypeVar

from ._decoding import Decoding
from ._errors import (
    DecodeError,
    SessionError,
    SessionStateError,
    StreamClosed,
    StreamError,
    TimedOut,
)
from ._events import EventT, Reply
from ._explain import explain
from ._http import Response
from ._plan import Plan, StreamStats
from ._request import Request
from ._retry import Backoff
from ._runtime import run_later
from ._source import Source

__all__ = ["Exchange"]

T = TypeVar("T")
ExceptionT = TypeVar("ExceptionT", bound=BaseException)

_FINISHED: Final = "the stream is finished: its events are in `reply`; call stream() for another"
_FAILED: Final = "the stream has failed: what came is in `reply`; call stream() for another"
_CLOSED: Final = "the stream was closed; call stream() for another"


class Exchange(Generic[EventT]):
    """Reads one stream, over as many attempts as it takes.

    Attributes:
        reply: What was handed over.
        stats: What the stream has cost and carried so far.
        ready: Events that `next` would hand over without waiting. All but the last of them may be
            taken by whoever holds the exchange: it is said there how the stream goes on.
    """

    _loop: object

    def __init__(self, plan: Plan[EventT]) -> None:
        self.reply: Reply[EventT] = Reply()
        self.stats = StreamStats()
        self._source = Source(plan, self.stats)
        self.ready: deque[EventT] = deque()
        self._plan = plan
        self._decoding: Decoding[EventT] | None = None  # of the attempt under way
        self._last: object = None  # of the events that came together last, once handed over
        self._begun = 0.0
        self._backoff = Backoff(plan.retry)
        self._busy = False  # a task is reading
        self._left: Flag | None = None  # set when it has left, for whoever waits for that
        self._why: Callable[[], SessionError] | None = None  # nothing more comes
        self._closed: Flag | None = None  # once it is being closed; set when it is

    async def start(self) -> None:
        """Send the request if that was not done yet; returns once the response has begun."""
        await self._run(_stay)

    @property
    def response(self) -> Response | None:
        """That of the attempt under way; None before it has begun."""
        return self._source.response

    async def next(self) -> EventT:
        """The next event; raises StopAsyncIteration once the stream has proved itself complete."""
        if not self.ready:
            await self._run(Decoding.fill)
            self.stats.count(self.ready)
            self._source.skipping_since = 0.0
            self._backoff.failures = 0
            if self._source.clocks.waited or self.stats.time_to_first_event is None:
                self._note_wait()
        event = self.ready.popleft()
        if not self.ready:  # only the last of those that came together can be the final one
            self._last = event
            if isinstance(event, self._plan.final_events):
                self.reply.complete = True
        return event

    def _note_wait(self) -> None:
        """An event was waited for, and is here."""
        stats = self.stats
        stats.longest_gap = max(stats.longest_gap, self._source.clocks.waited)
        self._source.clocks.begin("idle")
        if stats.time_to_first_event is None:
            stats.time_to_first_event = time.monotonic() - self._begun
            self._source.log("first event after %.3f s", stats.time_to_first_event)

    async def _run(self, step: Callable[[Decoding[Any]], Awaitable[T]]) -> T:
        """Take a step in the current attempt, or in another one if that failed before any event."""
        if self._busy:
            raise SessionStateError("another task reads the stream; open one for each task")
        if self._why is not None:
            raise self._annotated(self._why())
        self._busy = True
        try:
            while True:
                try:
                    result = await step(self._decoding or await self._open())
                except StreamError as exc:
                    delay = None if self.stats.events else self._delay(exc)
                    if delay is None:
                        raise
                else:
                    if self._why is None:
                        return result
                    raise self._why()  # when it had been woken, and could not be interrupted
                await self._shut()
                await self._sleep(delay)
                self._decoding = None
        except StopAsyncIteration:
            self.reply.complete = True
            try:
                await self._source.drain()
            finally:
                self.interrupt(partial(SessionStateError, _FINISHED))
                await self._end()
            raise
        except BaseException as exc:
            self.interrupt(partial(SessionStateError, _FAILED))
            self._annotated(exc)
            await self._end()
            raise
        finally:
            self._busy = False
            if self._left is not None:
                self._left.set()

    # Attempts

    async def _open(self) -> Decoding[EventT]:
        """Begin an attempt: a response, and a fresh decoding of it."""
        if not self._begun:
            self._plan.on_start(self)
            self._loop = current_token().native_token
            self._source.begin()
            self._begun = time.monotonic()
        await self._connect(self._plan.request)
        self._decoding = Decoding(
            self._plan,
            self.stats,
            self.reply,
            self._source,
            resume=self._resume,
        )
        self.ready = self._decoding.ready
        return self._decoding

    async def _connect(self, request: Request) -> None:
        self._source.clocks.begin("idle" if self.stats.events else "first_event")
        await self._source.connect(request)

    async def _resume(self, error: StreamError) -> Request | None:
        """Go on in a new response where this one broke; None if the API cannot."""
        while self._plan.resumable and self.stats.events and self._decoding is not None:
            resume_id = self._decoding.last_event_id or ""
            try:
                request = self._plan.resume(self._plan.request, self.reply, resume_id)
            except SessionError:
                raise
            except (LookupError, TypeError, ValueError) as exc:
                reason = explain(exc)
                raise DecodeError(f"resume_request() failed: {reason}", reason=reason) from exc
            if request is None:
                return None
            delay = self._delay(error)
            if delay is None:
                raise error
            await self._source.aclose()
            await self._sleep(delay)
            try:
                await self._connect(request)
            except StreamError as exc:
                error = exc
            else:
                return request
        return None

    def _delay(self, error: StreamError) -> float | None:
        """Seconds until the next attempt; None if there is none."""
        if not self._plan.request.replayable:
            return None
        said = self._decoding.reconnection_time if self._decoding is not None else None
        delay = self._backoff.delay(error, attempts=self.stats.attempts, reconnection_time=said)
        if delay is not None:
            self._source.log("trying again in %.3f s after %s", delay, type(error).__name__)
        return delay

    async def _sleep(self, seconds: float) -> None:
        self._source.clocks.begin("total")
        with self._source.clocks:
            await (self._plan.retry.sleep or sleep)(seconds)

    def _annotated(self, exc: ExceptionT) -> ExceptionT:
        """The exception, with what had arrived before it."""
        if isinstance(exc, StreamError):
            exc.partial = self.reply
            exc.attempts = self.stats.attempts
            exc.request_id = self.response.request_id if self.response else None
        if isinstance(exc, StreamError) and self._decoding is not None:
            exc.last_event_id = self._decoding.last_event_id
            if isinstance(exc, DecodeError):
                if exc.frame is None and exc.index <= self._decoding.index:
                    exc.frame = self._decoding.frame
                exc.index = max(self._decoding.index, exc.index)
        if isinstance(exc, TimedOut) and exc.clock == "connect":
            exc.seconds = self._plan.timeouts.connect or 0.0
        return exc

    # Ending

    def interrupt(self, why: Callable[[], SessionError]) -> None:
        """From now on whoever reads gets `why`, also a task that is reading already."""
        if self._why is None:
            self._why = why
            self.ready = deque()  # not cleared: it tells how far the stream was read
            if self._busy and self._begun:
                self._source.clocks.interrupt(why)

    async def end(self) -> None:
        """Release the connection once no task is reading any more; `interrupt` comes before."""
        if self._busy:
            self._left = self._left or Flag()
            with move_on_after(self._plan.close_timeout, shield=True):
                await self._left.wait()
        await self._end()

    async def close(self) -> None:
        """End the stream and release its connection, for reuse if the final event has come."""
        if self._busy:
            self.interrupt(partial(StreamClosed, "another task closed the stream"))
        elif self._why is None:
            self.interrupt(partial(SessionStateError, _CLOSED))
        try:
            if self._closed is None and isinstance(self._last, self._plan.final_events):
                await self._source.drain()
        finally:
            await self.end()

    def abandon(self) -> None:
        """Have the event loop end a stream that nobody holds any more; callable from anywhere."""
        if self._begun and self._closed is None:
            run_later(self._loop, self._end_abandoned)

    async def _end_abandoned(self) -> None:
        try:
            await self.close()
        except Exception as exc:  # noqa: BLE001 - nobody is left to catch it
            self._source.log("closing a dropped stream failed: %s", type(exc).__name__)

    async def _end(self) -> None:
        if self._closed is not None:
            await self._closed.wait()
            return
        self._closed = Flag()
        try:
            await self._shut()
        finally:
            if self._begun:
                self._source.clocks.stop()
                self._plan.on_end(self)
                self._source.log("end after %d events", self.stats.events)
            self._closed.set()

    async def _shut(self) -> None:
        """Close what the attempt has open: what decodes, then the response."""
        try:
            if self._decoding is not None:
                await self._source.closing(self._decoding.aclose)
        finally:
            await self._source.aclose()


async def _stay(decoding: Decoding[Any]) -> None:
    pass
