"""What a stream is told by its session, and what it tells of itself. Data only."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sized
from dataclasses import dataclass, field, fields
from types import EllipsisType
from typing import Any, Generic, TypedDict

from ._clocks import Timeouts
from ._events import EventT, Reply, UnknownEvent
from ._framing import Decoder
from ._http import Pool
from ._request import Request
from ._retry import RetryPolicy

__all__ = ["Plan", "StreamOptions", "StreamStats", "how_to_end"]


class StreamOptions(TypedDict, total=False):
    """The options of one request; `AsyncSession.open_stream` explains each."""

    json: Any
    content: str | bytes | AsyncIterable[bytes] | None
    params: Mapping[str, Any] | None
    headers: Mapping[str, str] | None
    framing: type[Decoder[Any]] | None
    final_events: tuple[type[Any], ...] | EllipsisType | None
    timeout: Timeouts | None
    retry: RetryPolicy | None


@dataclass(repr=False)
class StreamStats:
    """What a stream has cost and carried so far.

    Attributes:
        attempts: Requests sent, the first one counted.
        unknown_events: Events skipped because the union does not know their type.
        skipped: Elements that the framing dropped as cut short or malformed, where its standard
            says to go on behind them, as that of JSON text sequences does.
        bytes: Bytes of the body read, after decompression.
        time_to_first_event: Seconds from the first request to the first event; None before it.
        longest_gap: The longest wait for the server between two events, in seconds.
    """

    attempts: int = 0
    unknown_events: int = 0
    skipped: int = 0
    bytes: int = 0
    time_to_first_event: float | None = None
    longest_gap: float = 0.0
    _arrived: int = 0
    _ready: Sized = field(default=(), compare=False)

    def __repr__(self) -> str:
        names = ["events", *(each.name for each in fields(self) if each.name[0] != "_")]
        return f"StreamStats({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    @property
    def events(self) -> int:
        """Events handed over."""
        return self._arrived - len(self._ready)

    def count(self, ready: Sized) -> None:
        """Count what has become `ready`; an event is handed over once it is not in there."""
        self._arrived += len(ready)
        self._ready = ready


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)  # neither compared nor shown
class Plan(Generic[EventT]):
    """What an exchange is told by its session."""

    session_id: str
    pool: Pool
    request: Request
    headers: Mapping[str, str]
    framing: type[Decoder[Any]]
    content_types: tuple[str, ...]
    decode: Callable[[AsyncIterator[Any]], AsyncIterator[EventT | UnknownEvent]]
    validates: bool
    """Whether `decode` is no more than an `EventIterator` over the frames."""
    final_events: tuple[type[Any], ...]
    clean_end_completes: bool
    how_to_end: str
    keeps_unknown: bool
    keep_reply: bool
    timeouts: Timeouts
    retry: RetryPolicy
    resumable: bool
    resume: Callable[[Request, Reply[EventT], str], Request | None]
    max_event_bytes: int
    close_timeout: float
    on_start: Callable[[Any], None]
    """Given the exchange before it sends anything; raises if the session is not open."""
    on_end: Callable[[Any], None]
    """Given the exchange once its connection is released."""

    def __post_init__(self) -> None:
        """Tell whoever passed a number what is meant."""
        for option, kind in ((self.timeouts, Timeouts), (self.retry, RetryPolicy)):
            if not isinstance(option, kind):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"expected a {kind.__name__}, got {option!r}")


def how_to_end(finals: tuple[type[Any], ...] | None, marker: str | None, *, custom: bool) -> str:
    """What a stream that ended early lacked, to end the sentence that says so.

    Args:
        finals: The final events; None if a clean end is a sign too.
        marker: The final marker; None if there is none.
        custom: Whether the session has a `decode` of its own, which may decide.
    """
    if finals is None and marker is None:
        return "the last frame was cut short"
    signs = [each.__name__ for each in finals or ()] + ([] if marker is None else [repr(marker)])
    if signs:
        return f"{' or '.join(signs)} had not come"
    if custom:
        return "decode() had not returned to say that it is complete"
    return (
        "nothing was declared to prove it complete: set final_events = (LastEvent,) or "
        "final_marker = '[DONE]', or final_events = None if a clean end is the only sign"
    )
