"""How long to wait for the server, and the clocks that measure it. Knows no HTTP and no events."""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import Final, Literal

from typing_extensions import TypeVar

from ._errors import Clock, TimedOut
from ._runtime import AlarmRang, new_alarm

__all__ = ["Clocks", "Timeouts"]

T = TypeVar("T")


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
    """The clocks of one stream, which run only while something is awaited through them.

    Attributes:
        waited: Seconds spent so far on what is waited for now.
        may_be_late: Whether a wait may begin before its limit is set, as long as nothing was waited
            for.
    """

    def __init__(self, limits: Timeouts) -> None:
        self.waited = 0.0
        self._limits = limits
        self._waited_before = 0.0
        self._clock: Clock = "first_event"
        self._alarm = new_alarm()
        self.may_be_late = self._alarm.may_be_late and limits.total is None

    def begin(self, clock: Literal["first_event", "idle", "total"]) -> None:
        """Wait for something else from now on, on its own clock; "total" has no other."""
        self._waited_before += self.waited
        self.waited = 0.0
        self._clock = clock

    async def limit(self, work: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
        """Await something of the server's until the first clock runs out.

        Args:
            work: What to await.
            seconds: A limit of its own, besides the clocks; None is none.

        Raises:
            AlarmRang: `interrupt` was called, or there is a limit of its own and time is over.
            TimedOut: A clock has run out, and there is no limit of its own.
        """
        clock: Clock | None
        clock, left = self._next()
        if seconds is not None:
            clock, left = None, min(seconds, math.inf if left is None else left)
        started = time.monotonic()
        try:
            if left is not None and left <= 0:
                raise AlarmRang  # noqa: TRY301 - as if it rang, even if there is always some to read
            with self._alarm.within(left):
                return await work()
        except AlarmRang:
            if clock is None or self._alarm.was_rung:
                raise
            limit: float = getattr(self._limits, clock)
            message = _RAN_OUT[clock].format(limit)
            raise TimedOut(message, clock=clock, seconds=limit) from None
        finally:
            self.waited += time.monotonic() - started

    def interrupt(self) -> None:
        """Raise `AlarmRang` in whoever waits, now and from now on."""
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
