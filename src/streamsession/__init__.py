"""The skeleton of a streaming-API SDK: a guarded async session that streams typed events.

`AsyncSession` guards an httpx connection pool and hands over typed Pydantic events one at a time
while it stays open. Subclass it for an API; every name here is public.
"""

from ._auth import BearerAuth, Credentials, HeaderAuth, TokenAuth
from ._clocks import Timeouts
from ._errors import (
    AuthenticationError,
    Conflict,
    ConnectFailed,
    DecodeError,
    EventTooLarge,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    RemoteError,
    ServerError,
    SessionClosed,
    SessionError,
    SessionStateError,
    StatusError,
    StreamClosed,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    TimedOut,
    UnexpectedContent,
    UnprocessableContent,
)
from ._events import (
    Done,
    Event,
    ReasoningDelta,
    Reply,
    TextDelta,
    TokenEvent,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    UnknownEvent,
    Usage,
)
from ._framing import Decoder, JSONLinesDecoder, ServerSentEvent, SSEDecoder
from ._http import Response
from ._plan import StreamStats
from ._request import Request
from ._retry import RetryPolicy
from ._session import AsyncSession
from ._stream import Stream
from ._version import __version__

__all__ = [
    "AsyncSession",
    "AuthenticationError",
    "BearerAuth",
    "Conflict",
    "ConnectFailed",
    "Credentials",
    "DecodeError",
    "Decoder",
    "Done",
    "Event",
    "EventTooLarge",
    "HeaderAuth",
    "InvalidRequest",
    "JSONLinesDecoder",
    "NotFound",
    "PermissionDenied",
    "RateLimited",
    "ReasoningDelta",
    "RemoteError",
    "Reply",
    "Request",
    "Response",
    "RetryPolicy",
    "SSEDecoder",
    "ServerError",
    "ServerSentEvent",
    "SessionClosed",
    "SessionError",
    "SessionStateError",
    "StatusError",
    "Stream",
    "StreamClosed",
    "StreamError",
    "StreamInterrupted",
    "StreamStats",
    "StreamTruncated",
    "TextDelta",
    "TimedOut",
    "Timeouts",
    "TokenAuth",
    "TokenEvent",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallStart",
    "UnexpectedContent",
    "UnknownEvent",
    "UnprocessableContent",
    "Usage",
    "__version__",
]
