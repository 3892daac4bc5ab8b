"""From bytes to events over one run of `decode`: what the end of the body proves, and what not."""

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Generic

from ._errors import DecodeError, SessionError, StreamError, StreamInterrupted, StreamTruncated
from ._events import EventT, UnknownEvent
from ._framing import Decoder, SSEDecoder
from ._plan import Plan
from ._reports import is_cut_short
from ._resume import ReplayFilter

__all__ = ["Decoding"]


class Decoding(Generic[EventT]):
    """Reads a stream from its first frame on, across the responses that resume it.

    Attributes:
        frame: The last frame handed to `decode`; None before the first.
        index: Its number, counted from 0; -1 before the first.
    """

    def __init__(
        self,
        plan: Plan[EventT],
        *,
        read: Callable[[], Awaitable[bytes]],
        resume: Callable[[StreamError], Awaitable[bool]],
    ) -> None:
        self.frame: Any = None
        self.index = -1
        self._plan = plan
        self._read = read
        self._resume = resume
        self._decoder: Decoder[Any] = plan.framing(max_event_bytes=plan.max_event_bytes)
        self._replay = ReplayFilter()
        # The body has ended, and what it left may have been cut short.
        self._in_tail = False
        # Events of an unfinished frame, handed over only if it turns out to be the final one.
        self._held: deque[EventT | UnknownEvent] | None = None
        self._ran_off = False
        self._frames = self._read_frames()
        self._events = plan.decode(self._frames)

    @property
    def last_event_id(self) -> str:
        """The id of the last frame that had one; "" if none had."""
        return self._replay.last_id

    @property
    def resume_id(self) -> str:
        """The last id the server gave, also without data; asked once all its frames are out."""
        ahead = self._decoder.last_event_id if isinstance(self._decoder, SSEDecoder) else ""
        return ahead or self._replay.last_id

    @property
    def reconnection_time(self) -> float | None:
        """Seconds that the server asked to wait before reconnecting; None if it did not."""
        retry = self._decoder.retry if isinstance(self._decoder, SSEDecoder) else None
        return None if retry is None else retry / 1000

    async def next(self) -> EventT | UnknownEvent:
        """The next event; raises StopAsyncIteration once the stream has proved itself complete.

        Raises:
            StreamError: It ended in another way.
        """
        if self._held and not self._in_tail:
            return self._held.popleft()
        try:
            event = await anext(self._events)
            while self._held is not None and self._in_tail:
                self._held.append(event)
                event = await anext(self._events)
        except StopAsyncIteration:
            if self._ran_off and not self._plan.clean_end_completes:
                raise self.truncated() from None
            self._in_tail = False  # `decode` was satisfied: what it held back has been proved
            if not self._held:
                raise
            return self._held.popleft()
        except (DecodeError, ValueError, LookupError) as exc:
            if self._in_tail and (self._held is not None or is_cut_short(self.frame)):
                raise self.truncated() from exc
            if isinstance(exc, SessionError):
                raise
            reason = f"{type(exc).__name__}: {exc}"  # of json, pydantic, or a `decode` that trusts
            raise DecodeError(f"decode() failed: {reason}", reason=reason) from exc
        return event

    async def aclose(self) -> None:
        """Close what decodes, then what it reads from; nothing is read afterwards."""
        try:
            close = getattr(self._events, "aclose", None)  # of an async generator, as it should be
            if close is not None:
                await close()
        finally:
            await self._frames.aclose()
            vars(self).pop("_read", None)  # bound to whoever holds this: a reference cycle
            vars(self).pop("_resume", None)

    def truncated(self) -> StreamTruncated:
        """The error of a body that ended before what proves it complete."""
        return StreamTruncated(
            f"the body ended after {self.index + 1} frames: {self._plan.how_to_end}"
        )

    async def _read_frames(self) -> AsyncGenerator[Any]:
        """The frames of the response, and of those that resume it."""
        plan = self._plan
        broken: StreamError | None = None
        while True:
            try:
                while data := await self._read():
                    for frame in self._decoder.decode(data):
                        if self._replay.is_new(frame):
                            self.index += 1
                            self.frame = frame
                            yield frame
                broken = None if plan.clean_end_completes else self.truncated()
            except StreamInterrupted as exc:
                broken = exc
            if broken is None or not await self._resume(broken):
                break
            self._replay.resume()
            self._decoder = plan.framing(max_event_bytes=plan.max_event_bytes)
        if isinstance(broken, StreamInterrupted):
            raise broken
        self._in_tail = True
        for frame in self._decoder.flush():
            self.index += 1
            self.frame = frame
            yield frame
        if isinstance(self._decoder, SSEDecoder) and self._decoder.unfinished is not None:
            self._held = deque()
            yield self._decoder.unfinished
            raise self.truncated()  # it was not the final event: nothing of it counts
        self._ran_off = True
