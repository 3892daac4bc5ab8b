"""The AWS event stream. Cuts messages and reads no payload: that is for the validation of events.

The format: https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from collections.abc import Mapping
from enum import IntEnum
from struct import Struct
from typing import ClassVar, Final
from uuid import UUID
from zlib import crc32

from .._errors import StreamTruncated
from ._decoder import DEFAULT_MAX_EVENT_BYTES
from ._limit import EventLimit
from ._message import EventStreamMessage, HeaderValue

__all__ = ["MAX_HEADERS_BYTES", "VALUE_SIZES", "EventStreamDecoder", "HeaderType"]

# The format's limit for who sends. It is kept to here as well, as in botocore: headers that were
# read may take twenty times their bytes, which `max_event_bytes` does not see.
MAX_HEADERS_BYTES: Final = 128 * 1024

_PRELUDE: Final = Struct(">III")  # the sizes of the message and of its headers, and a checksum
_CHECKSUM: Final = Struct(">I")
_OVERHEAD: Final = _PRELUDE.size + _CHECKSUM.size  # of a message, besides its headers and payload

_MOST_KEPT: Final = 256  # bytes of headers; those of a Bedrock event are about 90


class HeaderType(IntEnum):
    """The types of a header's value, by their number on the wire; an integer is signed."""

    TRUE = 0
    FALSE = 1
    BYTE = 2
    SHORT = 3
    INTEGER = 4
    LONG = 5
    BYTE_ARRAY = 6
    STRING = 7
    TIMESTAMP = 8
    UUID = 9


VALUE_SIZES: Final[Mapping[int, int]] = {
    HeaderType.TRUE: 0,
    HeaderType.FALSE: 0,
    HeaderType.BYTE: 1,
    HeaderType.SHORT: 2,
    HeaderType.INTEGER: 4,
    HeaderType.LONG: 8,
    HeaderType.TIMESTAMP: 8,
    HeaderType.UUID: 16,
}
"""The bytes of a value, by its type; those of the other two types begin with 2 that say it."""


class _Broken(Exception):
    """Bytes that are no message, and why."""


class EventStreamDecoder:
    """Cuts a body into messages and verifies their checksums.

    A message is due as soon as its last byte is in; one whose prelude is wrong or names a size
    beyond the limit is refused as soon as that is in. The size of an event is that of its headers
    and its payload.
    """

    content_types: ClassVar[tuple[str, ...]] = ("application/vnd.amazon.eventstream",)

    def __init__(self, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._limit = EventLimit(max_event_bytes)
        # A message is read in two sections: its prelude, and the rest.
        self._held = bytearray()  # the beginning of a section
        self._size = _PRELUDE.size  # of the whole section
        self._headers_size: int | None = None  # None while the section is a prelude
        self._checksum = 0  # of the prelude
        self._last_block = b""
        self._last_headers: dict[str, HeaderValue] = {}

    def decode(self, data: bytes) -> list[EventStreamMessage]:
        """The messages that these bytes end; raises as `Decoder.decode` says."""
        messages: list[EventStreamMessage] = []
        if not (self._limit.exceeded or self._limit.damage):
            try:
                self._cut(memoryview(data), messages)
            except _Broken as broken:
                self._limit.damage = str(broken)
        return self._limit.hand_over(messages)

    def flush(self) -> list[EventStreamMessage]:
        """Nothing; raises as `Decoder.flush` says, StreamTruncated if a message has begun."""
        messages: list[EventStreamMessage] = self._limit.hand_over([])
        came, size, what = len(self._held), self._size, "the prelude of a message"
        if self._headers_size is not None:
            came, size, what = came + _PRELUDE.size, size + _PRELUDE.size, "a message"
        if came:
            raise StreamTruncated(f"the body ended inside {what}: {came} of its {size} bytes came")
        return messages

    def _cut(self, data: memoryview, messages: list[EventStreamMessage]) -> None:
        """Add the messages that end in `data`, also if one after them is broken."""
        start = 0
        while (end := start + self._size - len(self._held)) <= len(data):
            section = self._section(data[start:end])
            start = end
            if self._headers_size is not None:
                messages.append(self._message(section, self._headers_size))
            else:
                self._begin(section)
                if self._limit.exceeded:
                    return
        self._held += data[start:]

    def _section(self, end: memoryview) -> memoryview:
        if not self._held:
            return end
        section, self._held = self._held, bytearray()
        section += end
        return memoryview(section)

    def _begin(self, prelude: memoryview) -> None:
        size, headers_size, checksum = _PRELUDE.unpack(prelude)
        computed = crc32(prelude[: -_CHECKSUM.size])
        if checksum != computed:
            raise _Broken(
                f"prelude checksum: it says {checksum:08x}, its bytes give {computed:08x}"
            )
        _check_sizes(size, headers_size)
        self._limit.exceeded = size - _OVERHEAD > self._limit.max_bytes
        self._size = size - _PRELUDE.size
        self._headers_size = headers_size
        self._checksum = crc32(prelude[-_CHECKSUM.size :], computed)

    def _message(self, rest: memoryview, headers_size: int) -> EventStreamMessage:
        body = rest[: -_CHECKSUM.size]
        (checksum,) = _CHECKSUM.unpack(rest[-_CHECKSUM.size :])
        computed = crc32(body, self._checksum)
        if checksum != computed:
            raise _Broken(
                f"message checksum: it says {checksum:08x}, its bytes give {computed:08x}"
            )
        headers = self._headers(body[:headers_size].tobytes())
        self._size = _PRELUDE.size
        self._headers_size = None
        return EventStreamMessage(headers, body[headers_size:].tobytes())

    def _headers(self, block: bytes) -> dict[str, HeaderValue]:
        """The headers in a block; not read again if the last one was the same, as most are."""
        if len(block) > _MOST_KEPT:
            return _parsed(block)
        if block != self._last_block:
            self._last_headers = _parsed(block)
            self._last_block = block
        return self._last_headers.copy()


def _check_sizes(size: int, headers_size: int) -> None:
    if size < _OVERHEAD:
        raise _Broken(f"length: a message of {size} bytes, expected at least {_OVERHEAD}")
    if headers_size > MAX_HEADERS_BYTES:
        expected = f"expected at most {MAX_HEADERS_BYTES}"
        raise _Broken(f"length: headers of {headers_size} bytes, {expected}")
    if headers_size > size - _OVERHEAD:
        room = f"which has room for {size - _OVERHEAD}"
        raise _Broken(f"length: headers of {headers_size} bytes in a message of {size}, {room}")


def _parsed(block: bytes) -> dict[str, HeaderValue]:
    headers: dict[str, HeaderValue] = {}
    at = 0
    while at < len(block):
        name, at = _name(block, at, len(headers))
        if name in headers:
            raise _Broken(f"header {name!r}: expected once, came twice")
        headers[name], at = _value(block, at, name)
    return headers


def _name(block: bytes, at: int, index: int) -> tuple[str, int]:
    """The name of the header that begins at `at`, and where its type is."""
    size, start = block[at], at + 1
    end = start + size
    if not size:
        raise _nameless(index, "expected a name of 1 to 255 bytes, got none")
    if end >= len(block):
        expected = f"expected a name of {size} bytes and a type"
        raise _nameless(index, f"{expected}, but the headers end after {len(block) - start}")
    try:
        return block[start:end].decode(), end
    except UnicodeDecodeError:
        raise _nameless(index, f"expected UTF-8, got {block[start:end]!r:.80}") from None


def _nameless(index: int, reason: str) -> _Broken:
    return _Broken(f"header {index}, counted from 0: {reason}")


def _value(block: bytes, at: int, name: str) -> tuple[HeaderValue, int]:
    """The value of a header whose type is at `at`, and where it ends."""
    kind, start = block[at], at + 1
    if kind in (HeaderType.STRING, HeaderType.BYTE_ARRAY):
        size = int.from_bytes(_part(block, start, 2, name))
        start += 2
    elif kind in VALUE_SIZES:
        size = VALUE_SIZES[kind]
    else:
        raise _Broken(f"header {name!r}: expected a type from 0 to 9, got {kind}")
    return _converted(kind, _part(block, start, size, name), name), start + size


def _part(block: bytes, start: int, size: int, name: str) -> bytes:
    left = len(block) - start
    if size > left:
        expected = f"expected {size} more bytes"
        raise _Broken(f"header {name!r}: {expected}, but the headers end after {left}")
    return block[start : start + size]


def _converted(kind: int, raw: bytes, name: str) -> HeaderValue:
    match kind:
        case HeaderType.STRING:
            try:
                return raw.decode()
            except UnicodeDecodeError:
                raise _Broken(f"header {name!r}: expected UTF-8, got {raw!r:.80}") from None
        case HeaderType.BYTE_ARRAY:
            return raw
        case HeaderType.TRUE | HeaderType.FALSE:
            return kind == HeaderType.TRUE
        case HeaderType.UUID:
            return UUID(bytes=raw)
        case _:
            return int.from_bytes(raw, signed=True)
