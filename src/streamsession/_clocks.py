"""How long to wait for the server, and the clocks that measure it. Knows no HTTP and no events."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Final, Literal, Self

from ._errors import Clock, SessionError, TimedOut
from ._runtime import AlarmRang, new_alarm

__all__ = ["Clocks", "Timeouts"]


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """The four clocks of a request, in seconds; None never runs out.

    They count waiting for the server, never the consumer's own time between two events.

    Attributes:
        connect: To reach the server: TCP, then TLS. A failure here is tried again.
        first_event: From the start of an attempt, waiting for a free connection included, to its
            first event. Models that think before they answer need minutes.
        idle: From one event to the next. Comments, pings and parts of an event do not feed it. A
            stream that was idle for too long is not resumed: its connection is not broken.
        total: All the waiting of a stream, its retries and the waits between them included.
    """

    connect: float | None = 10.0
    first_event: float | None = 300.0
    idle: float | None = 120.0
    total: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is no time to wait."""
        for field in fields(self):
            seconds = getattr(self, field.name)
            if seconds is not None and not seconds > 0:
                raise ValueError(
                    f"Timeouts.{field.name} must be more than 0 seconds, or None for no limit; "
                    f"got {seconds!r}"
                )


_RAN_OUT: Final = {
    "first_event": "no first event within {} s",
    "idle": "no event for {} s; comments and pings do not count",
    "total": "all waiting together took longer than {} s",
}


class Clocks:
    """The clocks of one stream, which run only inside their block: `with clocks: await ...`.

    A block is for something of the server's. It is entered and left inside one call, never across a
    `yield`.

    Attributes:
        waited: Seconds spent so far on what is waited for now.
    """

    def __init__(self, limits: Timeouts) -> None:
        self.waited = 0.0
        self._limits = limits
        self._waited_before = 0.0
        self._clock: Clock = "first_event"
        self._alarm = new_alarm()
        self._started = 0.0
        self._next_clock: Clock | None = None  # that runs out, in the block; None if a limit does
        self._limit: float | None = None  # of the block alone
        self._why: Callable[[], SessionError] | None = None  # it was interrupted

    def begin(self, clock: Literal["first_event", "idle", "total"]) -> None:
        """Wait for something else from now on, on its own clock; "total" has no other."""
        self._waited_before += self.waited
        self.waited = 0.0
        self._clock = clock

    def within(self, seconds: float) -> Self:
        """Limit the next block, besides the clocks: `AlarmRang` once so many seconds are over."""
        self._limit = seconds
        return self

    def __enter__(self) -> None:
        """Let the clocks run.

        Raises:
            SessionError: They were interrupted.
            TimedOut: One had run out, even if there is always something to read.
        """
        self._next_clock, left = self._next()
        limit, self._limit = self._limit, None
        if limit is not None:
            self._next_clock, left = None, min(limit, math.inf if left is None else left)
        if self._why is not None:
            raise self._why()
        if left is not None and left <= 0:
            raise self._ran_out()
        self._started = time.monotonic()
        self._alarm.within(left).__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop them.

        Raises:
            AlarmRang: The limit of the block was over.
            SessionError: They were interrupted.
            TimedOut: One has run out.
        """
        self.waited += time.monotonic() - self._started
        try:
            self._alarm.__exit__(kind, exc, traceback)
        except AlarmRang:
            raise (self._why or self._ran_out)() from None  # noqa: RSE102 - a call

    def interrupt(self, why: Callable[[], SessionError]) -> None:
        """Raise this in whoever waits, now and from now on."""
        self._why = why
        self._alarm.ring()

    def stop(self) -> None:
        """Give back what the clocks hold of the event loop; they are not used again."""
        self._alarm.stop()

    def _next(self) -> tuple[Clock, float | None]:
        """The clock that runs out next, and the seconds left on it."""
        limit = None if self._clock == "total" else getattr(self._limits, self._clock)
        left = None if limit is None else max(0.0, limit - self.waited)
        if self._limits.total is not None:
            of_total = max(0.0, self._limits.total - self._waited_before - self.waited)
            if left is None or of_total < left:
                return "total", of_total
        return self._clock, left

    def _ran_out(self) -> Exception:
        clock = self._next_clock
        if clock is None:
            return AlarmRang()
        limit: float = getattr(self._limits, clock)
        return TimedOut(_RAN_OUT[clock].format(limit), clock=clock, seconds=limit)
