"""Server-sent events. Cuts events and reads no data: that is for the validation of events.

The standard: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import copy
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import ClassVar, Final, NamedTuple, Self, overload

from .._errors import EventTooLarge
from ._decoder import DEFAULT_MAX_EVENT_BYTES
from ._limit import EventLimit
from ._lines import LineCutter

__all__ = ["InheritedId", "PlainEvents", "SSEDecoder", "ServerSentEvent"]

_CR: Final = 0x0D  # `int in bytes` is several times faster than `bytes in bytes`

# A plain event is one line of data, with or without a type in front of it.
_PLAIN_EVENT_OR_REST: Final = re.compile(
    r"(?:event: ([^\n]*+)\n)?+data: ([^\n]*+)\n\n|(.++)", re.DOTALL
)

# Bytes: to cut less in another way takes longer than it saves.
_WORTH_IT: Final = 256

# A longer integer may be more than a float can hold, and of 4301 digits int() makes none.
_MAX_RETRY_DIGITS: Final = sys.float_info.max_10_exp


class InheritedId(str):
    """The id of an event that did not come with it but before it, in a block without data."""

    __slots__ = ()


class ServerSentEvent(NamedTuple):
    """One event as it was sent.

    Attributes:
        event: Its type; "message" if it named none.
        data: Its `data` lines, joined by LF.
        id: The last event id, be it its own or an earlier one; "" if there was none.
        retry: The last reconnection time, its own or an earlier one, in milliseconds; None if
            there was none.
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None


# What `ServerSentEvent(...)` itself calls, at a third of the cost.
_event: Final[Callable[[tuple[str, str, str, int | None]], ServerSentEvent]] = partial(
    tuple.__new__,  # pyright: ignore[reportUnknownMemberType] # of any class
    ServerSentEvent,
)


class PlainEvents(Sequence[ServerSentEvent]):
    """Events of nothing but data, each made when somebody looks at it.

    Attributes:
        texts: Their data.
    """

    __slots__ = ("_id", "_retry", "texts")

    def __init__(self, texts: list[str], last_id: str, retry: int | None) -> None:
        self.texts = texts
        self._id = last_id
        self._retry = retry

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, index: int) -> ServerSentEvent: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> ServerSentEvent | Self:
        if isinstance(index, slice):
            return type(self)(self.texts[index], self._id, self._retry)
        return _event(("message", self.texts[index], self._id, self._retry))

    def __iter__(self) -> Iterator[ServerSentEvent]:
        fields = zip(repeat("message"), self.texts, repeat(self._id), repeat(self._retry))
        return map(_event, fields)

    def behind(self, events: list[ServerSentEvent]) -> Sequence[ServerSentEvent]:
        """These behind others, which most often are of their kind."""
        kind = ("message", self._id, self._retry)
        if all((event, last_id, retry) == kind for event, _, last_id, retry in events):
            return type(self)([*(each.data for each in events), *self.texts], *kind[1:])
        return [*events, *self]


class SSEDecoder:
    """Cuts a body into server-sent events.

    An event is due as soon as its blank line is in, even one that ended in a CR whose LF is yet to
    come. Bytes that are not UTF-8 become U+FFFD. The size of an event is that of its data and of
    the whole lines of its other fields, joined by LF; comments count only while they are read.
    """

    content_types: ClassVar[tuple[str, ...]] = ("text/event-stream",)

    def __init__(self, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._lines = LineCutter()
        self._limit = EventLimit(max_event_bytes)
        self._after_cr = False
        self._is_between_events = False
        self._last_event_id = ""
        self._retry: int | None = None
        # The buffers of the standard, and the size of the event so far with an LF after each field.
        self._data: bytes | bytearray | None = None
        self._type = ""
        self._id = ""
        self._size = 0

    @property
    def last_event_id(self) -> str:
        """The id to resume after, as of the last block that ended; "" if there was none.

        It is ahead of a caller who is still busy with the first of several events that came at
        once: each of them carries its own. A block without data sets it, too.
        """
        return self._last_event_id

    @property
    def retry(self) -> int | None:
        """The last reconnection time, in milliseconds; None if there was none."""
        return self._retry

    @property
    def unfinished(self) -> ServerSentEvent | None:
        """The event that a line end and a blank line would complete now; None if they would not.

        At the end of the body it is what the standard discards. Whether it is whole and only lacks
        the blank line, or was cut short, its framing cannot tell.
        """
        try:
            completed = copy.deepcopy(self).decode(b"\n\n")
        except EventTooLarge:
            return None
        return completed[0] if completed else None

    def decode(self, data: bytes) -> list[ServerSentEvent]:
        """The events whose blank line these bytes bring; raises as `Decoder.decode` says."""
        events = self.cut(data)
        return events if isinstance(events, list) else [*events]

    def cut(self, data: bytes) -> Sequence[ServerSentEvent]:
        """The same, made when somebody looks at them, if they are plain."""
        if self._is_between_events and (plain := self._plain_events(data)):
            self._limit.handed_over += len(plain)
            return plain
        if self._after_cr or _CR in data:
            data = self._with_lf_only(data)
        return self._limit.hand_over(self._cut(data))

    def _cut(self, data: bytes) -> Sequence[ServerSentEvent]:
        """The events of a chunk that begins or ends within one: those between are cut at once."""
        begin = 0 if self._is_between_events else data.find(b"\n\n") + 2
        end = data.rfind(b"\n\n") + 2
        if end - begin < _WORTH_IT:
            return self._events(data)
        events = self._events(data[:begin])
        whole = data[begin:end]
        plain = self._plain_events(whole) if self._is_between_events else None
        if plain is None:
            return events + self._events(whole) + self._events(data[end:])
        self._events(data[end:])  # which has no end of an event
        return plain.behind(events) if isinstance(plain, PlainEvents) else events + plain

    def flush(self) -> list[ServerSentEvent]:
        """Nothing, see `unfinished`; raises as `Decoder.flush` says."""
        return self._limit.hand_over([])

    def _with_lf_only(self, data: bytes) -> bytes:
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if _CR in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return data

    def _plain_events(self, data: bytes) -> PlainEvents | list[ServerSentEvent] | None:
        """What `_events` would return, at a fraction of the cost, for whole plain events only."""
        if len(data) > self._limit.max_bytes:
            return None
        if _CR in data:
            data = data.replace(b"\r\n", b"\n")
            if _CR in data:
                return None
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = data.decode("utf-8", "replace")  # takes twice as long, also if nothing is wrong
        last_id, retry = self._id, self._retry
        if text[:6] == "data: " and text[-2:] == "\n\n":
            values = text[6:-2].split("\n\ndata: ")
            if "\n" not in "".join(values):  # one line each
                if len(values) == 1:
                    return [_event(("message", values[0], last_id, retry))]
                return PlainEvents(values, last_id, retry)
        found = _PLAIN_EVENT_OR_REST.findall(text)
        if found and found[-1][2]:
            return None
        return [_event((name or "message", value, last_id, retry)) for name, value, _ in found]

    def _events(self, data: bytes) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        for line in [] if self._limit.exceeded else self._lines.cut(data):
            if not line:
                if self._data is not None:
                    events.append(self._event(self._data))
                self._end_block()
            elif self._fits(line):
                self.read_field(line)
            else:
                self._limit.exceeded = True
                break
        self._limit.exceeded |= not self._fits(self._lines.partial, ended=False)
        between = not (self._size or self._after_cr or self._limit.exceeded)
        self._is_between_events = between and self._lines.between_lines
        return events

    def _fits(self, line: bytes | bytearray, *, ended: bool = True) -> bool:
        """Whether the event stays within the limit with this line."""
        room = self._limit.max_bytes - self._size
        return not line or len(line) <= room or _cost(line, ended=ended) <= room

    def read_field(self, line: bytes) -> None:
        """Take in one line that is not blank, without its end; override it for a dialect.

        An event of nothing but one `data` line, with or without an `event` line before it, may not
        come here.
        """
        name = line[:colon] if (colon := line.find(b":")) >= 0 else line
        value = line[len(name) + 1 + line.startswith(b" ", len(name) + 1) :]  # it may be long
        match name:
            case b"":  # a comment
                return
            case b"data":
                if self._data is None:
                    self._data = value
                elif isinstance(self._data, bytes):  # the first of more, which are added to it
                    self._data = bytearray(b"\n".join((self._data, value)))
                else:
                    self._data += b"\n" + value
            case b"event":
                self._type = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
            case b"retry" if value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
                self._retry = int(value)
            case _:
                pass
        self._size += len(value if name == b"data" else line) + len(b"\n")

    def _event(self, data: bytes | bytearray) -> ServerSentEvent:
        text = data.decode("utf-8", "replace")
        return ServerSentEvent(self._type or "message", text, self._id, self._retry)

    def _end_block(self) -> None:
        if self._data is None and self._id != self._last_event_id:
            self._id = InheritedId(self._id)
        self._last_event_id = self._id
        self._data = None
        self._type = ""
        self._size = 0


def _cost(line: bytes | bytearray, *, ended: bool) -> int:
    """The bytes that a line adds to an event: its value if it is data or a comment, else all.

    It must not shrink as the line grows, or the verdict would depend on where chunks are cut: so
    what may yet become a data line counts as one.
    """
    name, colon, value = bytes(line[: len(b"data: ")]).partition(
        b":"
    )  # and no more: it may be long
    may_be_data = not (ended or colon) and b"data".startswith(name)
    if name in (b"data", b"") or may_be_data:
        return len(line) - len(name + colon) - value.startswith(b" ")
    return len(line)
