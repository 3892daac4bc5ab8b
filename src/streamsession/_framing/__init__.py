"""Framing: bytes in, frames out. No I/O, no async, no clock, and no look inside a frame."""

from ._decoder import DEFAULT_MAX_EVENT_BYTES, Decoder
from ._json_lines import JSONLinesDecoder
from ._message import EventStreamMessage
from ._payload import payload_of, payloads_of
from ._sse import InheritedId, ServerSentEvent, SSEDecoder

__all__ = [
    "DEFAULT_MAX_EVENT_BYTES",
    "Decoder",
    "EventStreamMessage",
    "InheritedId",
    "JSONLinesDecoder",
    "SSEDecoder",
    "ServerSentEvent",
    "payload_of",
    "payloads_of",
]
