"""From bytes to events over one run of `decode`: what the end of the body proves, and what not."""

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import compress
from typing import Any, Final, Generic

from ._errors import (
    DecodeError,
    SessionError,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    UnexpectedContent,
)
from ._events import EventT, Reply, UnknownEvent
from ._explain import explain
from ._framing import Decoder, ServerSentEvent, SSEDecoder
from ._json import is_cut_short, parse_json
from ._plan import Plan, StreamStats
from ._request import Request
from ._resume import ReplayFilter
from ._runtime import unseen_generators
from ._source import Source
from ._validate import EventIterator

__all__ = ["Decoding"]

# What json, pydantic, and code that trusts the shape of its data raise about data.
_OF_DATA: Final = (AttributeError, LookupError, RecursionError, TypeError, ValueError)


# Frames validated together. Events of OpenAI come to ten objects each, and at 700 new ones the
# garbage collector has a look.
_AT_ONCE: Final = 64


class Decoding(Generic[EventT]):
    """Reads a stream from its first frame on, across the responses that resume it.

    Frames that are events as they stand are validated as many at a time as came together. What a
    `decode` makes of them, or a `ReplayFilter` lets pass, waits until the consumer asks for it.

    Attributes:
        ready: Events that can be handed over without waiting.
        index: The number of the last frame that was read, counted from 0; -1 before the first.
    """

    def __init__(
        self,
        plan: Plan[EventT],
        stats: StreamStats,
        reply: Reply[EventT],
        source: Source,
        *,
        resume: Callable[[StreamError], Awaitable[Request | None]],
    ) -> None:
        """Read from the source; `resume` has it go on where its response broke."""
        self.ready: deque[EventT] = deque()
        self.index = -1
        self._frame: Any = None  # the last one read
        self._frame_before: Any = None  # the last one of the events that were ready before
        self._ready_of: Sequence[Any] = ()  # the frames of `ready`, and of what was ready with it
        self._plan = plan
        self._stats = stats
        self._reply = reply
        self._is_typed = bool(source.response and source.response.content_type)
        self._bytes_before = stats.bytes  # those of other attempts
        self._source = source
        self._resume = resume
        self._decoder = self._new_decoder()
        began_after = plan.request.headers.get("last-event-id", "")
        self._replay = ReplayFilter(began_after) if plan.resumable else None
        self._came: Sequence[Any] = ()  # frames that came together and wait to be read
        self._has_ended = False  # the body
        self._tail: Sequence[Any] = ()  # frames that its end completed
        # The body has ended, and what it left may have been cut short.
        self._in_tail = False
        # Events of an unfinished frame, handed over only if it turns out to be the final one.
        self._held: deque[EventT | UnknownEvent] | None = None
        self._ran_off = False
        self._last: object = None  # event, handed over or held
        self._frames = self._read_frames()
        self._events = plan.decode(self._frames)
        at_once = plan.validates and self._replay is None
        self._validation = (
            self._events if isinstance(self._events, EventIterator) and at_once else None
        )
        reply.begin(self.ready, self._validation.remake if self._validation else None)

    @property
    def frame(self) -> Any:
        """The frame of the last event that was handed over; later ones count if they gave none."""
        waiting = len(self.ready)
        if not waiting:
            return self._frame
        of_all = (self._frame_before, *self._ready_of)
        return of_all[-1 - waiting]

    @property
    def last_event_id(self) -> str | None:
        """The last id that the server gave; None if it gave none, or took it back."""
        if self._replay is not None:
            return self._replay.last_id or None
        return self.frame.id or None if isinstance(self.frame, ServerSentEvent) else None

    @property
    def reconnection_time(self) -> float | None:
        """Seconds that the server asked to wait before reconnecting; None if it did not."""
        retry = self._decoder.retry if isinstance(self._decoder, SSEDecoder) else None
        return None if retry is None else retry / 1000

    async def fill(self) -> None:
        """Have the next event that the consumer wants to see `ready`, with those that came with it.

        Raises:
            StopAsyncIteration: The stream has proved itself complete.
            StreamError: It ended in another way.
        """
        self._frame_before = self._frame
        while self._validation is not None:
            came = b"" if self._came or self._has_ended else await self._source.read_at_once()
            frames = (came and self._cut(came)) or await self._next_frames()
            if len(frames) > _AT_ONCE:
                frames, self._came = frames[:_AT_ONCE], frames[_AT_ONCE:]
            if self._validate(self._validation, frames):
                return
        while True:
            event = await self._next()
            if not isinstance(event, UnknownEvent) or self._plan.keeps_unknown:
                self._last = event
                self.ready.append(event)  # type: ignore[arg-type] # EventT includes UnknownEvent
                self._ready_of = (self._frame,)
                if self._plan.keep_reply:
                    self._reply.keep([event])  # type: ignore[list-item]
                return
            self._stats.unknown_events += 1

    def _validate(self, validation: EventIterator[Any], frames: Sequence[Any]) -> bool:
        """Make events of frames that came together; whether any of them is `ready` now.

        A frame that is none, or is behind the end, is left to `_next`, and all that follow it.
        """
        events = validation.read(frames)
        read = len(events)
        if read < len(frames) or not read or validation.is_complete:
            frames, self._came = frames[:read], [*frames[read:], *self._came]
            self._validation = None
        if read:
            self.index += read
            self._frame = frames[-1]
            if validation.unknown and not self._plan.keeps_unknown:
                self._stats.unknown_events += validation.unknown
                known = [not isinstance(event, UnknownEvent) for event in events]
                events, frames = [*compress(events, known)], [*compress(frames, known)]
            self._ready_of = frames
            self.ready.extend(events)  # type: ignore[arg-type] # as in `fill`
            if self._plan.keep_reply:
                self._reply.keep(events, validation.texts)  # type: ignore[arg-type]
        return bool(events)

    async def _next(self) -> EventT | UnknownEvent:
        if self._held and not self._in_tail:
            return self._held.popleft()
        try:
            event = await anext(self._events)
            while self._held is not None and self._in_tail:
                self._held.append(event)
                self._last = event
                event = await anext(self._events)
        except StopAsyncIteration:
            return self._end()
        except (DecodeError, *_OF_DATA) as exc:
            if self._in_tail and (self._held is not None or is_cut_short(self.frame)):
                raise self._truncated() from exc
            if isinstance(exc, SessionError):
                raise
            reason = explain(exc)
            raise DecodeError(f"decode() failed: {reason}", reason=reason) from exc
        except RuntimeError as exc:
            # An `anext(frames)` in `decode` met the end: Python does not let it out of a generator.
            if not (self._ran_off and isinstance(exc.__cause__, StopAsyncIteration)):
                raise
            return self._end()
        return event

    def _end(self) -> EventT | UnknownEvent:
        """What was held back until `decode` ended, if that proved it; raises as `next`."""
        is_clean = self._plan.clean_end_completes and self._held is None
        proved = is_clean or isinstance(self._last, self._plan.final_events)
        if self._ran_off and not proved:
            raise self._truncated() from None
        self._in_tail = False  # `decode` was satisfied
        if not self._held:
            raise StopAsyncIteration
        return self._held.popleft()

    async def aclose(self) -> None:
        """Close what decodes, then what it reads from; nothing is read afterwards."""
        try:
            if hasattr(self._events, "aclose"):  # an async generator, as it should be
                await _closing(self._events)
        finally:
            await _closing(self._frames)
            with suppress(AttributeError):  # it was closed before
                del self._resume  # of whoever holds this: a reference cycle

    def _truncated(self) -> StreamTruncated:
        """The error of a body that ended before what proves it complete."""
        return StreamTruncated(
            f"the body ended after {self.index + 1} frames: {self._plan.how_to_end}"
        )

    async def _next_frames(self) -> Sequence[Any]:
        """The frames that come next; none once the body, and of those that resume it, has ended."""
        if self._came:
            came, self._came = self._came, ()
            return came
        while not self._has_ended:
            broken: StreamError | None = None
            is_cut, self._tail = True, ()
            try:
                while data := await self._source.read():
                    if frames := self._cut(data):
                        return frames
                self._tail = self._cut()
                is_cut, is_behind = False, self._replay is not None and self._replay.is_behind
                if is_behind or not self._plan.clean_end_completes:
                    broken = self._truncated()
            except (StreamInterrupted, StreamTruncated) as exc:  # the latter is of the framing
                broken = exc
            if broken is None or not await self._go_on(broken):
                self._has_ended = True
                is_settled = self._replay is None or self._replay.is_settled
                if broken and (is_cut or not is_settled):
                    raise broken
        return ()

    async def _go_on(self, broken: StreamError) -> bool:
        """Read on in the response to another request; False if there is none."""
        replay = self._replay
        if replay is not None and isinstance(self._decoder, SSEDecoder):
            replay.end(self._decoder.last_event_id)
        request = await self._resume(broken)
        if request is None:
            return False
        if replay is not None:
            replay.resume(after=_asked_after(request, replay.last_id))
        self._decoder = self._new_decoder()
        return True

    def _new_decoder(self) -> Decoder[Any]:
        decoder = self._plan.framing(max_event_bytes=self._plan.max_event_bytes)
        self._skipped_before = self._stats.skipped if hasattr(decoder, "skipped") else None
        self._decode: Callable[[bytes], Sequence[Any]] = decoder.decode
        if isinstance(decoder, SSEDecoder) and type(decoder).decode is SSEDecoder.decode:
            self._decode = decoder.cut  # unless a dialect does more
        return decoder

    def _cut(self, data: bytes = b"") -> Sequence[Any]:
        """The frames that some bytes complete, or without any, the end of the body."""
        decoder = self._decoder
        try:
            return self._decode(data) if data else decoder.flush()
        except DecodeError as exc:
            exc.index = self.index + 1  # the decoder counts from the beginning of its response
            raise
        finally:
            if self._skipped_before is not None:
                self._stats.skipped = self._skipped_before + getattr(decoder, "skipped", 0)

    async def _read_frames(self) -> AsyncGenerator[Any]:
        """Each frame in its turn, then what the end of the body completes."""
        plan, replay = self._plan, self._replay
        while frames := await self._next_frames():
            for frame in frames:
                for new in (frame,) if replay is None else replay.new(frame):
                    self.index += 1
                    self._frame = new
                    yield new
        self._in_tail = True
        for frame in (*(replay.held if replay else ()), *self._tail):
            self.index += 1
            self._frame = frame
            yield frame
        if isinstance(self._decoder, SSEDecoder) and self._decoder.unfinished is not None:
            self._held = deque()
            unfinished = self._decoder.unfinished
            yield unfinished
            if not isinstance(
                parse_json(unfinished.data), dict | list
            ):  # nothing shows it is whole
                raise self._truncated()
            self._ran_off = True  # nothing of it counts, unless `decode` now makes a final event
            return
        unproved = plan.clean_end_completes and self.index < 0 and not self._is_typed
        if unproved and self._stats.bytes > self._bytes_before:
            expected = plan.content_types[0]
            raise UnexpectedContent(f"expected {expected}, got a body without type and events")
        self._ran_off = True


def _closing(generator: Any) -> Awaitable[None]:
    """Its `aclose`, which begins it if need be: asyncio warns of any that begins as it ends."""
    with unseen_generators():
        closing: Awaitable[None] = generator.aclose()
    return closing


def _asked_after(request: Request, last_id: str) -> str | None:
    """The id that a request asks to go on after, in its header or its query; None if in neither."""
    in_query = last_id != "" and last_id in map(str, request.params.values())
    return request.headers.get("last-event-id", last_id if in_query else None)
