"""What a frame carries, whatever framing cut it out. Reads none of it."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from ._message import EventStreamMessage
from ._sse import PlainEvents, ServerSentEvent

__all__ = ["payload_of", "payloads_of"]


_name, _data = itemgetter(0), itemgetter(1)  # of a ServerSentEvent, at half the cost of a loop


def payload_of(frame: Any) -> tuple[Any, str]:
    """The JSON text that a frame carries, and the type it names; "" if it names none.

    A frame of a framing of one's own is taken for its text: it must be `str` or `bytes`.
    """
    if type(frame) is ServerSentEvent:
        name, data, _, _ = frame
        return data, "" if name == "message" else name
    if isinstance(frame, EventStreamMessage):
        is_event = frame.message_type in ("event", "")
        name = frame.event_type or ("" if is_event else "error")
        return frame.payload or b"{}", name  # botocore reads an empty payload so, too
    return frame, ""


def payloads_of(frames: Sequence[Any]) -> tuple[Sequence[Any], set[str]]:
    """The JSON texts of frames that came together, and the types they name; none of odd frames."""
    if isinstance(frames, PlainEvents):
        return frames.texts, set()
    if type(frames[0]) is ServerSentEvent:
        return [*map(_data, frames)], {*map(_name, frames)} - {"message"}
    return frames if {*map(type, frames)} == {bytes} else (), set()
