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
        self._alarm = new_alarm()
        self._started = 0.0
        self._next: Clock | None = None  # what runs out first in the block; None if its own limit
        self._limit = math.inf  # of the next block alone
        self._why: Callable[[], SessionError] | None = None  # it was interrupted
        self.begin("first_event")

    @property
    def may_be_late(self) -> bool:
        """Whether what is awaited in the next block may begin before: no clock can have run out."""
        return self._alarm.may_be_late and not self.waited and self._limits.total is None

    def begin(self, clock: Literal["first_event", "idle", "total"]) -> None:
        """Wait for something else from now on, on its own clock; "total" has no other."""
        self._waited_before += self.waited
        self.waited = 0.0
        self._clock: Clock = clock
        self._seconds: float = getattr(self._limits, clock) or math.inf

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
        if self._why is not None:
            raise self._why()
        self._next, left = self._clock, self._seconds - self.waited
        if self._limits.total is not None:
            of_total = self._limits.total - self._waited_before - self.waited
            if of_total < left or self._clock == "total":
                self._next, left = "total", of_total
        if self._limit < math.inf:
            self._next, left, self._limit = None, min(self._limit, left), math.inf
        if left <= 0:
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

    def _ran_out(self) -> Exception:
        if self._next is None:
            return AlarmRang()
        limit: float = getattr(self._limits, self._next)
        return TimedOut(_RAN_OUT[self._next].format(limit), clock=self._next, seconds=limit)
