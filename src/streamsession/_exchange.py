"""One stream at work: attempts, clocks, resuming, and closing whatever happens.

An `Exchange` never refers to the `Stream` that the user holds: when that is dropped, it is seen.
"""

import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic

from anyio import Event as Flag
from anyio import move_on_after, sleep
from anyio.lowlevel import current_token
from typing_extensions import TypeVar

from ._errors import (
    Clock,
    DecodeError,
    SessionError,
    SessionStateError,
    StatusError,
    StreamClosed,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    TimedOut,
    UnexpectedContent,
    status_error,
)
from ._events import EventT, Reply, UnknownEvent
from ._framing import Decoder, SSEDecoder
from ._http import Pool, Response
from ._request import Request
from ._resume import ReplayFilter
from ._retry import RetryPolicy, retry_after
from ._runtime import Alarm, AlarmRang, close_within, new_alarm, run_later
from ._timeouts import Timeouts
from ._validate import parse_json, reported_error

__all__ = ["Exchange", "Plan", "StreamStats"]

T = TypeVar("T")
ExceptionT = TypeVar("ExceptionT", bound=BaseException)

log = logging.getLogger("streamsession")

_EXCERPT_BYTES: Final = 64 * 1024  # of an error body: more than any message, bounded all the same
_EXCERPT_SECONDS: Final = 5.0
# The end of the body comes with the final event or right behind it; without it there is no reuse.
_DRAIN_SECONDS: Final = 0.1
_DRAIN_BYTES: Final = 64 * 1024


@dataclass
class StreamStats:
    """What a stream has cost and carried so far.

    Attributes:
        attempts: Requests sent, the first one counted.
        events: Events handed over.
        unknown_events: Events skipped because the union does not know their type.
        bytes: Bytes of the body read, after decompression.
        time_to_first_event: Seconds from the first request to the first event; None before it.
        longest_gap: The longest wait for the server between two events, in seconds.
    """

    attempts: int = 0
    events: int = 0
    unknown_events: int = 0
    bytes: int = 0
    time_to_first_event: float | None = None
    longest_gap: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[EventT]):
    """What an exchange is told by its session."""

    session_id: str
    pool: Pool
    request: Request
    headers: Mapping[str, str]
    framing: type[Decoder[Any]]
    content_types: tuple[str, ...]
    decode: Callable[[AsyncIterator[Any]], AsyncIterator[EventT | UnknownEvent]]
    final_events: tuple[type[Any], ...]
    clean_end_completes: bool
    how_to_end: str
    keeps_unknown: bool
    keep_reply: bool
    timeouts: Timeouts
    retry: RetryPolicy
    resume: Callable[[Request, Reply[EventT], str], Request | None]
    max_event_bytes: int
    close_timeout: float
    on_start: Callable[["Exchange[EventT]"], None]
    on_end: Callable[["Exchange[EventT]"], None]


class Exchange(Generic[EventT]):
    """Reads one stream, over as many attempts as it takes."""

    _alarm: Alarm
    _loop: object

    def __init__(self, plan: Plan[EventT]) -> None:
        self.reply: Reply[EventT] = Reply()
        self.stats = StreamStats()
        self.response: Response | None = None
        self._plan = plan
        self._events: AsyncIterator[EventT | UnknownEvent] | None = None
        self._frames: AsyncGenerator[Any] | None = None
        self._decoder: Decoder[Any] = plan.framing(max_event_bytes=plan.max_event_bytes)
        self._replay = ReplayFilter()
        self._index = -1  # of the last frame
        self._frame: Any = None
        self._in_tail = False  # the body has ended; what is left may be cut short
        self._held: deque[EventT | UnknownEvent] | None = None  # events that the tail may not prove
        self._ran_off = False  # the frames have ended
        self._last: EventT | None = None
        self._last_id: str | None = None
        self._begun = 0.0
        self._waited = 0.0  # seconds for the server since the attempt or the last event began
        self._waited_before = 0.0
        self._failures = 0  # since there was progress
        self._busy: Flag | None = None  # while a task reads, set when it has left
        self._why: Callable[[], SessionError] | None = None  # once it has ended
        self._closed: Flag | None = None  # once it is being closed

    @property
    def is_busy(self) -> bool:
        """Whether a task is reading."""
        return self._busy is not None

    # Reading

    async def start(self) -> None:
        """Send the request if that was not done yet; returns once the response has begun."""
        await self._run(self._started)

    async def next(self) -> EventT:
        """The next event; raises StopAsyncIteration once the stream has proved itself complete."""
        event = await self._run(self._pull)
        stats = self.stats
        stats.events += 1
        stats.longest_gap = max(stats.longest_gap, self._waited)
        self._waited_before += self._waited
        self._waited = 0.0
        self._failures = 0
        self._last = event
        if self._plan.keep_reply:
            self.reply.events.append(event)
        if stats.time_to_first_event is None:
            stats.time_to_first_event = time.monotonic() - self._begun
            self._log("first event after %.3f s", stats.time_to_first_event)
        return event

    async def _run(self, step: Callable[[], Awaitable[T]]) -> T:
        """Take a step in the current attempt, or in another one if that failed before any event."""
        if self._busy is not None:
            raise SessionStateError("the stream is read by another task; open a stream for each")
        if self._why is not None:
            raise self._annotate(self._why())
        self._busy = Flag()
        try:
            while True:
                try:
                    if self._events is None:
                        await self._open()
                    return await step()
                except StreamError as exc:
                    delay = None if self.stats.events else self._delay(exc)
                    if delay is None:
                        raise
                    await self._shut()
                    await self._sleep(delay)
        except StopAsyncIteration:
            self.reply.complete = True
            await self._drain()
            self.interrupt(partial(SessionStateError, _FINISHED))
            await self._end()
            raise
        except BaseException as exc:
            self.interrupt(partial(SessionStateError, _FAILED))
            self._annotate(exc)
            await self._end()
            raise
        finally:
            self._busy.set()
            self._busy = None

    async def _started(self) -> None:
        pass

    async def _pull(self) -> EventT:
        """The next event of this attempt that the consumer may see."""
        events = self._events
        while events is not None:
            try:
                if self._held and not self._in_tail:
                    event = self._held.popleft()
                else:
                    event = await anext(events)
            except StopAsyncIteration:
                if self._ran_off and not self._plan.clean_end_completes:
                    raise self._truncated() from None
                if not self._held:
                    raise
                self._in_tail = False  # the decoder was satisfied: the tail was the final event
                continue
            except StreamError as exc:
                if self._in_tail and isinstance(exc, DecodeError):
                    raise self._truncated() from exc
                raise
            except (ValueError, LookupError) as exc:  # of json, pydantic, or a decode() that trusts
                if self._in_tail:
                    raise self._truncated() from exc
                reason = f"{type(exc).__name__}: {exc}"
                raise DecodeError(f"decode() failed: {reason}", reason=reason) from exc
            if self._in_tail and self._held is not None:
                self._held.append(event)
            elif isinstance(event, UnknownEvent) and not self._plan.keeps_unknown:
                self.stats.unknown_events += 1
            else:
                return event

    async def _read_frames(self) -> AsyncGenerator[Any]:
        """The frames of the response, and of those that resume it."""
        plan = self._plan
        while True:
            broken: StreamError | None = None
            self._decoder = decoder = plan.framing(max_event_bytes=plan.max_event_bytes)
            while True:
                try:
                    data = await self._read()
                except StreamInterrupted as exc:
                    broken = exc
                    break
                if not data:
                    break
                for frame in decoder.decode(data):
                    if self._replay.is_new(frame):
                        self._index += 1
                        self._frame = frame
                        yield frame
            may_resume = broken is not None or not plan.clean_end_completes
            if may_resume and await self._resume(broken or self._truncated()):
                continue
            if broken is not None:
                raise broken
            break
        self._in_tail = True
        for frame in decoder.flush():
            self._index += 1
            yield frame
        if isinstance(decoder, SSEDecoder) and decoder.unfinished is not None:
            self._held = deque()
            yield decoder.unfinished
            self._ran_off = True
            raise self._truncated()  # the tail was not the final event: nothing of it counts
        self._ran_off = True

    async def _read(self) -> bytes:
        assert self.response is not None  # noqa: S101 - opened before its frames are read
        data = await self._limited(self.response.read)
        self.stats.bytes += len(data)
        return data

    # Attempts

    async def _open(self) -> None:
        """Begin an attempt: a response, and a fresh decoding of its frames."""
        if self._begun == 0.0:
            self._plan.on_start(self)
            self._loop = current_token().native_token
            self._alarm = new_alarm()
            self._begun = time.monotonic()
        await self._connect(self._plan.request)
        self._frames = self._read_frames()
        self._events = self._plan.decode(self._frames)

    async def _connect(self, request: Request) -> None:
        plan = self._plan
        self.stats.attempts += 1
        self._waited_before += self._waited
        self._waited = 0.0
        self._log(
            "attempt %d: %s %s", self.stats.attempts, request.method, request.path.partition("?")[0]
        )
        send = partial(
            plan.pool.send, request, headers=plan.headers, connect_timeout=plan.timeouts.connect
        )
        self.response = await self._limited(send)
        media = self.response.content_type
        if not 200 <= self.response.status < 300:  # noqa: PLR2004
            raise await self._refused(self.response)
        types = plan.content_types
        as_json = media.endswith("+json") and "application/json" in types
        if media and media not in types and not as_json:
            raise await self._unexpected(self.response, media)

    async def _resume(self, error: StreamError) -> bool:
        """Go on in a new response where this one broke; False if the API cannot."""
        last_id = self.last_event_id or ""
        while self.stats.events:
            request = self._plan.resume(self._plan.request, self.reply, last_id)
            if request is None:
                return False
            delay = self._delay(error)
            if delay is None:
                raise error
            await self._shut_response()
            await self._sleep(delay)
            try:
                await self._connect(request)
            except StreamError as exc:
                error = exc
            else:
                self._replay.resume()
                return True
        return False

    def _delay(self, error: StreamError) -> float | None:
        """Seconds until the next attempt; None if there is none."""
        retry = self._plan.retry
        if not retry.is_transient(error) or not self._plan.request.replayable:
            return None
        self._failures += 1
        asked = error.retry_after if isinstance(error, StatusError) else None
        if (
            asked is None
            and isinstance(self._decoder, SSEDecoder)
            and self._decoder.retry is not None
        ):
            asked = self._decoder.retry / 1000
        delay = retry.delay(self._failures, asked)
        if delay is None:
            if self._failures > 1:
                error.add_note(f"Gave up after {self.stats.attempts} attempts.")
        else:
            self._log("trying again in %.3f s after %s", delay, type(error).__name__)
        return delay

    async def _sleep(self, seconds: float) -> None:
        retry_sleep = self._plan.retry.sleep or sleep
        self._waited_before += self._waited
        self._waited = 0.0
        await self._limited(partial(retry_sleep, seconds), only_total=True)

    async def _limited(self, work: Callable[[], Awaitable[T]], *, only_total: bool = False) -> T:
        """Await something of the server's until the first clock runs out."""
        clock, seconds = self._time_left(only_total=only_total)
        started = time.monotonic()
        try:
            with self._alarm.within(seconds):
                return await work()
        except AlarmRang:
            raise (self._timed_out(clock) if self._why is None else self._why()) from None
        finally:
            self._waited += time.monotonic() - started

    def _time_left(self, *, only_total: bool) -> tuple[Clock, float | None]:
        limits = self._plan.timeouts
        clock: Clock = "idle" if self.stats.events else "first_event"
        limit = limits.idle if self.stats.events else limits.first_event
        seconds = None if limit is None or only_total else limit - self._waited
        if limits.total is not None:
            left = limits.total - self._waited_before - self._waited
            if seconds is None or left < seconds:
                clock, seconds = "total", left
        return clock, None if seconds is None else max(seconds, 0.0)

    # Errors

    def _timed_out(self, clock: Clock) -> TimedOut:
        limits = self._plan.timeouts
        seconds = {"first_event": limits.first_event, "idle": limits.idle}.get(clock, limits.total)
        message = {
            "first_event": f"no first event within {seconds} s",
            "idle": f"no event for {seconds} s; comments and pings do not count",
        }.get(clock, f"the stream took longer than {seconds} s in all")
        if self.response is None and self._plan.pool.is_full:
            message += "; all connections of the pool are in use: close streams or raise limits="
        return TimedOut(message, clock=clock, seconds=seconds or 0.0)

    def _truncated(self) -> StreamTruncated:
        came = f"{self.stats.events} events" if self.stats.events else "nothing"
        return StreamTruncated(f"the body ended after {came}, but {self._plan.how_to_end}")

    async def _body(self, response: Response) -> tuple[str, Any, str]:
        """The beginning of an error body as text, parsed if it is JSON, and what it says."""
        body = bytearray()
        with suppress(AlarmRang, StreamError), self._alarm.within(_EXCERPT_SECONDS):
            while len(body) < _EXCERPT_BYTES and (piece := await response.read()):
                body += piece
        text = body[:_EXCERPT_BYTES].decode(errors="replace")
        data = parse_json(text)
        error = reported_error(text)
        says = str(error) if error else " ".join(text.split())[:200]
        return text, data, f": {says}" if says else ""

    async def _refused(self, response: Response) -> StatusError:
        text, data, says = await self._body(response)
        wait = retry_after(response.headers, self._plan.retry.clock())
        asked = "" if wait is None else f" (retry after {wait:g} s)"
        return status_error(response.status)(
            f"HTTP {response.status}{asked}{says}",
            status=response.status,
            body=text,
            data=data,
            retry_after=wait,
        )

    async def _unexpected(self, response: Response, media: str) -> UnexpectedContent:
        text, data, says = await self._body(response)
        return UnexpectedContent(
            f"expected {self._plan.content_types[0]}, got {media}{says}",
            content_type=media,
            body=text,
            data=data,
        )

    @property
    def last_event_id(self) -> str | None:
        """The id that a resumed stream would go on from; None if the server gave none."""
        if isinstance(self._decoder, SSEDecoder) and self._decoder.last_event_id:
            self._last_id = self._decoder.last_event_id
        return self._last_id

    def _annotate(self, exc: ExceptionT) -> ExceptionT:
        """The exception, with all that arrived before it."""
        if isinstance(exc, StreamError):
            exc.partial = self.reply
            exc.last_event_id = self.last_event_id
            exc.attempts = self.stats.attempts
            exc.request_id = self.response.request_id if self.response else None
            if isinstance(exc, DecodeError):
                exc.index = max(self._index, 0)
                exc.frame = self._frame if exc.frame is None else exc.frame
            if isinstance(exc, TimedOut) and exc.clock == "connect":
                exc.seconds = self._plan.timeouts.connect or 0.0
        return exc

    # Ending

    def interrupt(self, why: Callable[[], SessionError]) -> None:
        """From now on whoever reads gets `why`, also a task that is reading already."""
        if self._why is None:
            self._why = why
        if self._busy is not None and self._begun:
            self._alarm.ring()

    async def end(self) -> None:
        """Release the connection once no task is reading any more; `interrupt` comes before."""
        if self._busy is not None:
            with move_on_after(self._plan.close_timeout, shield=True):
                await self._busy.wait()
        await self._end()

    async def close(self) -> None:
        """End the stream and release its connection, for reuse if the final event has come."""
        if self.is_busy:
            self.interrupt(partial(StreamClosed, "another task closed the stream"))
        else:
            self.interrupt(partial(SessionStateError, _CLOSED))
            if self._closed is None and isinstance(self._last, self._plan.final_events):
                await self._drain()
        await self.end()

    def abandon(self) -> None:
        """Have the event loop end a stream that nobody holds any more; callable from anywhere."""
        if self._begun and self._closed is None:
            run_later(self._loop, self._end_abandoned)

    async def _end_abandoned(self) -> None:
        try:
            await self.close()
        except Exception as exc:  # noqa: BLE001 - nobody is left to catch it
            self._log("closing a dropped stream failed: %r", exc)

    async def _drain(self) -> None:
        """Read what follows the final event, so that the connection can be used again."""
        read = 0
        with suppress(AlarmRang, StreamError), self._alarm.within(_DRAIN_SECONDS):
            while self.response and read < _DRAIN_BYTES and (data := await self.response.read()):
                read += len(data)

    async def _end(self) -> None:
        if self._closed is not None:
            await self._closed.wait()
            return
        self._closed = Flag()
        try:
            await self._shut()
        finally:
            if self._begun:
                self._alarm.stop()
                self._plan.on_end(self)
                self._log("end: %d events", self.stats.events)
            self._closed.set()

    async def _shut(self) -> None:
        """Close what the attempt has open: what decodes, then the response."""
        events, frames, self._events, self._frames = self._events, self._frames, None, None
        try:
            for generator in (events, frames):
                if isinstance(generator, AsyncGenerator):
                    await self._closing(generator.aclose)
        finally:
            await self._shut_response()

    async def _shut_response(self) -> None:
        if self.response is not None:
            await self._closing(self.response.aclose)

    async def _closing(self, close: Callable[[], Awaitable[None]]) -> None:
        try:
            if not await close_within(self._plan.close_timeout, close()):
                self._log("closing took longer than %g s", self._plan.close_timeout)
        except Exception as exc:  # noqa: BLE001 - what failed to close must not hide why
            self._log("closing failed: %s", type(exc).__name__)

    def _log(self, message: str, *values: object) -> None:
        request_id = self.response.request_id if self.response else None
        log.debug(
            f"session %s request %s: {message}", self._plan.session_id, request_id or "-", *values
        )  # noqa: G004 E501


_FINISHED: Final = "the stream is finished: its events are in `reply`; call stream() for another"
_FAILED: Final = "the stream has failed: what came is in `reply`; call stream() for another"
_CLOSED: Final = "the stream was closed; call stream() for another"
