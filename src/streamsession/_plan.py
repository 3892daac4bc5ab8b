"""What a stream is told by its session, and what it tells of itself. Data only."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic

from ._clocks import Timeouts
from ._events import EventT, Reply, UnknownEvent
from ._framing import Decoder
from ._http import Pool
from ._request import Request
from ._retry import RetryPolicy

__all__ = ["Plan", "StreamStats"]


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
    on_start: Callable[[Any], None]
    """Given the exchange before it sends anything; raises if the session is not open."""
    on_end: Callable[[Any], None]
    """Given the exchange once its connection is released."""
