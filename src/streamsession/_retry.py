"""When to try again, and how long to wait. Arithmetic only: no I/O, nothing sleeps here."""

import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import inf, isfinite
from typing import Final

from ._errors import (
    ConnectFailed,
    RemoteError,
    StatusError,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    TimedOut,
)

__all__ = ["Backoff", "RetryPolicy", "retry_after"]

# Whole seconds in the standard; servers also send fractions, and negative ones. float() takes more.
# Compiled when first used, which is seldom.
_NUMBER: Final = r"[ \t]*-?[0-9]+(\.[0-9]*)?[ \t]*"


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Which failures are tried again, how often, and after how long.

    The wait before attempt n + 1 is `random() * min(max_delay, base_delay * 2 ** (n - 1))` seconds:
    exponential with full jitter, so that clients cut off together do not come back together
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    A wait that the server asked for takes its place.

    Attributes:
        attempts: How many requests are sent at most, the first one counted; 1 never tries again.
            A resumed stream starts counting anew whenever it has made progress.
        base_delay: The longest first wait, in seconds.
        max_delay: The longest wait of our own choosing, in seconds.
        max_retry_after: The longest wait that a server may ask for, in seconds; above it the
            request fails at once, and the error says how long the server asked for.
        statuses: The HTTP statuses tried again, besides all 5xx.
        random: Where the jitter comes from: returns a number in [0, 1).
        clock: Seconds since the epoch, to read a `Retry-After` that is a date.
        sleep: Awaited with the seconds to wait; None sleeps on the running event loop.
    """

    attempts: int = 3
    base_delay: float = 0.5
    max_delay: float = 8.0
    max_retry_after: float = 60.0
    statuses: frozenset[int] = frozenset({408, 409, 429})
    random: Callable[[], float] = random.random
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] | None = None

    def __post_init__(self) -> None:
        """Refuse a policy that cannot even try once, or that waits no real time."""
        if self.attempts < 1:
            raise ValueError(
                f"RetryPolicy.attempts counts the first try: 1 or more, got {self.attempts}"
            )
        for name in ("base_delay", "max_delay", "max_retry_after"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"RetryPolicy.{name} is in seconds, 0 or more")

    def is_transient(self, error: StreamError) -> bool:
        """Whether the same request may succeed later."""
        match error:
            case StatusError():
                return error.status in self.statuses or error.status >= 500  # noqa: PLR2004
            case RemoteError():
                return error.retryable
            case TimedOut():
                return error.clock == "connect"  # the other clocks are the caller's patience
            case _:
                return isinstance(error, ConnectFailed | StreamInterrupted | StreamTruncated)

    def delay(self, attempt: int, asked: float | None = None) -> float | None:
        """Seconds to wait after the failure of an attempt; None to give up.

        Args:
            attempt: The number of the attempt that failed, counted from 1.
            asked: Seconds that the server asked to wait; None if it did not.
        """
        if attempt >= self.attempts:
            return None
        if asked is not None:
            return asked if asked <= self.max_retry_after else None
        doublings = min(attempt - 1, 62)  # past any max_delay, short of a float's range
        return self.random() * min(self.max_delay, self.base_delay * 2.0**doublings)


class Backoff:
    """The waits of one stream between its attempts.

    Attributes:
        failures: How many there were since the stream made progress.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self.failures = 0
        self._policy = policy
        self._reconnection_time: float | None = None

    def delay(
        self, error: StreamError, *, attempts: int, reconnection_time: float | None
    ) -> float | None:
        """Seconds until the next attempt; None if there is none, which is noted on the error.

        Args:
            error: Why the last attempt failed.
            attempts: How many requests were sent.
            reconnection_time: Seconds that the stream said to wait, now or earlier; None if it
                says nothing now.
        """
        if not self._policy.is_transient(error):
            return None
        self.failures += 1
        if reconnection_time is not None:
            self._reconnection_time = reconnection_time
        asked = error.retry_after if isinstance(error, StatusError) else None
        asked = self._reconnection_time if asked is None else asked
        delay = self._policy.delay(self.failures, asked)
        if delay is None:
            limit = self._policy.max_retry_after
            if asked is not None and asked > limit:
                wait = f"the server asked to wait {asked:g} s, max_retry_after is {limit:g} s"
                error.add_note(f"Not tried again: {wait}.")
            elif self.failures > 1:
                error.add_note(f"Gave up after {attempts} attempts.")
        return delay


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a response asks to wait, 0 or more; None if it does not say, or not legibly.

    Reads `retry-after-ms`, then `Retry-After` as seconds or as a date
    (https://www.rfc-editor.org/rfc/rfc9110#field.retry-after).

    Args:
        headers: The response's, with lower-case lookup.
        now: Seconds since the epoch, to measure a date from.
    """
    seconds = _number(headers.get("retry-after-ms", ""))
    if seconds is not None:
        return seconds / 1000
    value = headers.get("retry-after", "")
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        date = parsedate_to_datetime(value)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)  # as every HTTP date is
        return max(0.0, date.timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _number(text: str) -> float | None:
    number = float(text) if re.fullmatch(_NUMBER, text) else inf
    return max(0.0, number) if isfinite(number) else None
