"""Every way in which a session can fail, each with a name. This module imports nothing of ours.

SessionError
├── SessionStateError            used in a state that does not allow it
├── InvalidRequest               could not be sent as given                  also ValueError
└── StreamError                  what follows carries what had arrived
    ├── ConnectFailed            no connection to the server                 also ConnectionError
    ├── StatusError              the server refused: HTTP 3xx, 4xx, 5xx
    │   ├── AuthenticationError  401
    │   ├── PermissionDenied     403
    │   ├── NotFound             404
    │   ├── Conflict             409
    │   ├── UnprocessableContent 422
    │   ├── RateLimited          429
    │   └── ServerError          5xx
    ├── UnexpectedContent        a success that is not the declared content
    ├── StreamTruncated          the body ended cleanly before its final event
    ├── StreamInterrupted        the connection broke                        also ConnectionError
    ├── RemoteError              the server reported a failure in the stream
    ├── TimedOut                 a clock ran out                             also TimeoutError
    ├── DecodeError              a frame is not what was declared
    │   └── EventTooLarge        larger than `max_event_bytes`
    └── StreamClosed             closed by another task while it was read
        └── SessionClosed        its session was left
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

Clock = Literal["connect", "first_event", "idle", "total", "close"]


class PartialReply(Protocol):
    """What had arrived before a failure: a `Reply`, as seen from an error."""

    @property
    def text(self) -> str:
        """The text of all token events, joined; "" if none came."""
        ...

    @property
    def events(self) -> Sequence[Any]:
        """The events that were handed over, in order."""
        ...


class _NothingArrived:
    text = ""
    events: Sequence[Any] = ()


class SessionError(Exception):
    """Base of everything this package raises on its own account."""


class SessionStateError(SessionError):
    """A session or stream was used in the wrong state; the message says what to do."""


class InvalidRequest(SessionError, ValueError):
    """A path, header or body is not allowed; nothing was sent."""


class StreamError(SessionError):
    """Base of the failures of a request or its stream; what had arrived stays on it."""

    partial: PartialReply = _NothingArrived()
    """The reply so far; with no text and no events if nothing had arrived."""
    last_event_id: str | None = None
    """The last event id the server gave; None if it gave none."""
    attempts: int = 0
    """How many requests were sent."""
    request_id: str | None = None
    """The server's id of its response; None if it named none or never answered."""

    def __init__(self, message: str, **details: Any) -> None:
        """Details are the attributes that the class documents."""
        super().__init__(message)
        for name, value in details.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no attribute {name!r}")
            setattr(self, name, value)

    @property
    def events(self) -> Sequence[Any]:
        """The events handed over before the failure, in order."""
        return self.partial.events


class ConnectFailed(StreamError, ConnectionError):
    """No connection could be made: refused, name not found, TLS or proxy failure."""


class StatusError(StreamError):
    """The server answered with a status that is not a success."""

    status: int = 0
    """The HTTP status code."""
    body: str = ""
    """The beginning of the response body, up to 64 KiB, as text."""
    data: Any = None
    """The body parsed as JSON; None if it is not JSON."""
    retry_after: float | None = None
    """Seconds the server asked to wait before another try; None if it did not."""


class AuthenticationError(StatusError):
    """401: the credentials are missing, wrong or expired."""


class PermissionDenied(StatusError):
    """403: the credentials are valid but do not allow this."""


class NotFound(StatusError):
    """404: the server knows nothing at this path, or no such model or object."""


class Conflict(StatusError):
    """409: the request conflicts with the state of the server."""


class UnprocessableContent(StatusError):
    """422: the request was understood but its content was refused."""


class RateLimited(StatusError):
    """429: too many requests; `retry_after` says how long to wait if the server said so."""


class ServerError(StatusError):
    """5xx: the server failed."""


class UnexpectedContent(StreamError):
    """The server reported success but sent something else than was asked for."""

    content_type: str = ""
    """The media type that came; "" if none was named."""
    body: str = ""
    """The beginning of the response body, up to 64 KiB, as text."""
    data: Any = None
    """The body parsed as JSON; None if it is not JSON."""


class StreamTruncated(StreamError):
    """The body ended cleanly, but before the event that proves the stream complete."""


class StreamInterrupted(StreamError, ConnectionError):
    """The connection broke before the response was complete."""


class RemoteError(StreamError):
    """The server reported a failure inside the stream."""

    type: str = ""
    """The server's name for the failure, such as "overloaded_error"; "" if it gave none."""
    retryable: bool = False
    """True if the same request may succeed later."""
    data: Any = None
    """What reported it, parsed from JSON; None if it is not JSON."""


class TimedOut(StreamError, TimeoutError):
    """A clock ran out; they count waiting for the server, never the consumer's own time."""

    clock: Clock = "total"
    """Which one: "connect", "first_event", "idle", "total", or "close" for the teardown."""
    seconds: float = 0.0
    """The limit that was reached."""


class DecodeError(StreamError):
    """A frame is not what was declared; the message names the field and what came."""

    frame: Any = None
    """The frame as the framing cut it out; None if it could not be cut out."""
    index: int = 0
    """Its place among the frames of the stream, counted from 0."""
    reason: str = ""
    """What is wrong, in one line."""


class EventTooLarge(DecodeError):
    """An event grew past `max_event_bytes`; it was refused before the memory was spent."""

    limit: int = 0
    """The largest size allowed, in bytes."""


class StreamClosed(StreamError):
    """The stream was closed by another task while this one was reading it."""


class SessionClosed(StreamClosed):
    """The session was left while the stream was still open."""


_BY_STATUS: dict[int, type[StatusError]] = {
    401: AuthenticationError,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    422: UnprocessableContent,
    429: RateLimited,
}


def status_error(status: int) -> type[StatusError]:
    """The class that names an HTTP status."""
    return _BY_STATUS.get(status, ServerError if status >= 500 else StatusError)  # noqa: PLR2004
