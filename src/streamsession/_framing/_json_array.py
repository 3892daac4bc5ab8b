"""A JSON array that comes piece by piece. Cuts its elements out and parses none.

So stream Google's APIs over REST, such as https://ai.google.dev/api/generate-content without
`alt=sse`. The grammar: https://www.rfc-editor.org/rfc/rfc8259
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import ClassVar, Final

from .._errors import StreamTruncated
from ._decoder import DEFAULT_MAX_EVENT_BYTES
from ._limit import EventLimit

__all__ = ["JSONArrayDecoder"]

_BOM: Final = b"\xef\xbb\xbf"
_CLOSING: Final = {"[": "]", "{": "}"}

_WHITE_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NUMBER_OR_LITERAL: Final = re.compile(rb'[^ \t\n\r,"\[\]{}]++')

# In an array or object: to the next brackets that open (1) or close (2), past whole strings and
# what holds no brackets of its own; or to a string that goes on after the bytes.
_FLAT: Final = rb'[^"\[\]{}]++|%b' % _STRING.pattern
_TO_BRACKETS: Final = re.compile(
    rb"(?:%b|[\[{](?:%b)*+[\]}])*+(?:([\[{]++)|([\]}]++))?" % (_FLAT, _FLAT), re.DOTALL
)


class _Place(Enum):
    """A place outside of elements, by what is expected there."""

    START = "an array or an object"
    FIRST = "an element or ']'"
    ELEMENT = "an element"
    BEHIND = "',' or ']'"
    OBJECT = "another object or the end"
    END = "the end"


class JSONArrayDecoder:
    """Cuts the elements out of a body that is an array, each the `bytes` of one JSON text.

    An element is due as soon as it is complete: a number, true, false or null with what stands
    behind it, any other with its last byte. A frame need not be JSON: whoever parses it has to
    refuse that. But what stands between elements must be right, and the array must be closed. One
    BOM in front of it is ignored. The size of an event is that of its element.

    If the body is an object in place of an array, as some servers report an error, the frame is
    that object; and if others follow it, they are frames, too.
    """

    content_types: ClassVar[tuple[str, ...]] = ("application/json",)

    def __init__(self, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._limit = EventLimit(max_event_bytes)
        self._start: bytes | None = b""  # what may yet prove to be a BOM; None once that is decided
        self._place = _Place.START
        self._end = _EndOfValue()
        self._element = bytearray()  # what has come of one
        self._elements = 0  # that were complete

    def decode(self, data: bytes) -> list[bytes]:
        """The elements that these bytes complete; raises as `Decoder.decode` says."""
        failed = self._limit.exceeded or self._limit.damage
        return self._limit.hand_over([] if failed else list(self._cut(data)))

    def flush(self) -> list[bytes]:
        """Nothing; raises as `Decoder.flush` says."""
        self._limit.hand_over([])
        if self._place is _Place.START:
            raise StreamTruncated("the body is empty: expected a JSON array")
        if self._element or self._place not in (_Place.OBJECT, _Place.END):
            what = "object" if self._place is _Place.OBJECT else "array"
            where = "inside" if self._element else "before"
            raise StreamTruncated(
                f"the JSON {what} was not closed: the body ended {where} element {self._elements},"
                " counted from 0"
            )
        return []

    def _cut(self, data: bytes) -> Iterator[bytes]:
        if self._start is not None:
            data = self._without_bom(self._start + data)
        begin, at = len(self._end.lead), 0
        data = self._end.lead + data
        while True:
            if not self._element:
                begin = at = self._next_element(data, at)
            if at == len(data) or self._limit.damage:
                return
            end = self._end.find(data, at, kind=self._element[0] if self._element else data[at])
            self._element += data[begin:end]
            self._check(is_whole=end is not None)
            if end is None or self._limit.exceeded or self._limit.damage:
                return
            yield bytes(self._element)
            self._element.clear()
            self._elements += 1
            at = end

    def _without_bom(self, start: bytes) -> bytes:
        if _BOM.startswith(start):
            self._start = start
            return b""
        self._start = None
        return start.removeprefix(_BOM)

    def _next_element(self, data: bytes, at: int) -> int:
        """Where the next element begins; or the data end, or are wrong."""
        while (at := _past(_WHITE_SPACE, data, at)) < len(data):
            match self._place, chr(data[at]):
                case _Place.BEHIND, ",":
                    self._place = _Place.ELEMENT
                case _Place.ELEMENT | _Place.FIRST, byte if byte not in ",]}":
                    self._place = _Place.BEHIND
                    break
                case _Place.BEHIND | _Place.FIRST, "]":
                    self._place = _Place.END
                case _Place.START, "[":
                    self._place = _Place.FIRST
                case _Place.START | _Place.OBJECT, "{":
                    self._place = _Place.OBJECT
                    break
                case place, byte:
                    self._limit.damage = f"expected {place.value}, got {byte!a}"
                    break
            at += 1
        return at

    def _check(self, *, is_whole: bool) -> None:
        opening, last = chr(self._element[0]), chr(self._element[-1])
        closing = _CLOSING.get(opening, last)
        if len(self._element) > self._limit.max_bytes:
            self._limit.exceeded = True
        elif is_whole and last != closing:
            self._limit.damage = f"expected {closing!a}, got {last!a}"


class _EndOfValue:
    """Finds the end of a JSON value whose beginning may have come before.

    Attributes:
        lead: What to put in front of the next bytes if the value goes on: the beginning of the
            string that they are in, or nothing.
    """

    def __init__(self) -> None:
        self.lead = b""
        self._depth = 0  # of open brackets

    def find(self, data: bytes, at: int, *, kind: int) -> int | None:
        """Where the value ends that begins or goes on there; None if after these bytes.

        The first byte of a value tells its kind.
        """
        if kind in b"[{":
            end = self._through_brackets(data, at)
            is_whole = not self._depth
        elif kind in b'"':
            end = _past(_STRING, data, at)
            is_whole = end > at
        else:
            end = _past(_NUMBER_OR_LITERAL, data, at)
            is_whole = end < len(data)
        self.lead = b""
        if not is_whole and end < len(data):
            backslashes = len(data) - len(data.rstrip(b"\\"))
            self.lead = b'"\\' if backslashes % 2 else b'"'
        return end if is_whole else None

    def _through_brackets(self, data: bytes, at: int) -> int:
        """Where the outermost one closes; or the data end, or a string begins that goes on."""
        if not self._depth:
            self._depth = 1
            at += 1
        while (to := _TO_BRACKETS.match(data, at)) and to.end() > at:
            at = to.end()
            self._depth += to.end(1) - to.start(1)
            closed = to.end(2) - to.start(2)
            if closed >= self._depth:
                at -= closed - self._depth
                self._depth = 0
                break
            self._depth -= closed
        return at


def _past(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    """Where the match ends that begins at a place; there, if there is none."""
    found = pattern.match(data, at)
    return found.end() if found else at
