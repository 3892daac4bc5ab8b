"""The AWS event stream, against its format read step by step, and against every limit.

https://smithy.io/2.0/aws/amazon-eventstream.html#wire-format
"""

import io
import struct
from binascii import crc32
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Final
from uuid import UUID

import pytest

from streamsession._errors import DecodeError, EventTooLarge, StreamTruncated
from streamsession._framing._event_stream import EventStreamDecoder
from streamsession._framing._message import EventStreamMessage, HeaderValue

from .engine import Case, bodies_of, cut, mutated

__all__ = ["PARTS", "SEEDS", "Reading", "check", "kind_of", "make", "message", "read"]

UNLIMITED: Final = 10**9
MAX_HEADERS: Final = 131_072

_INTEGERS: Final = {2: ">b", 3: ">h", 4: ">i", 5: ">q", 8: ">q"}


def message(headers: bytes = b"", payload: bytes = b"", *, lie: int = 0, longer: int = 0) -> bytes:
    """A message with right checksums; its size is off by `longer`, that of its headers by `lie`."""
    sizes = (16 + len(headers) + len(payload) + longer, len(headers) + lie)
    prelude = struct.pack(">II", *(size % 2**32 for size in sizes))
    prelude += struct.pack(">I", crc32(prelude))
    return prelude + headers + payload + struct.pack(">I", crc32(prelude + headers + payload))


SEEDS: Final = [body for body in bodies_of("awseventstream_cases.json") if len(body) < 1000]
HEADERS: Final = [
    *(b"\x01a\0", b"\x01b\x01", b"\x01c\x02\x80", b"\x01d\x03\x80\x01", b"\x01e\x04\x80\0\0\x01"),
    *(b"\x01f\x05" + b"\x80" * 8, b"\x01g\x06\0\x02\xff\xfe", b"\x01h\x07\0\x03\xe2\x82\xac"),
    *(b"\x01i\x08" + b"\xff" * 8, b"\x01j\x09" + bytes(range(16)), b"\x03\xe2\x82\xac\x07\0\0"),
    *(b"\x0d:message-type\x07\0\x05event", b"\x0b:event-type\x07\0\x01x"),
]
PARTS: Final = [
    *(
        b"",
        b"\0",
        b"\x01",
        b"\x01a",
        b"\x02ab",
        b"\xff",
        b"\xe2\x82",
        b"\xed\xa0\x80",
        b'{"text":"x"}',
    ),
    *(b"\x01k\x0a", b"\x01l\x07\xff\xff", b"\x01m\x07\0\x02\xe2\x82", b"\x01n\x09" + bytes(9)),
    *(message(), message(b"", b"x"), message(b"\x01a\0"), *HEADERS),
]


@dataclass(frozen=True)
class Reading:
    """What a body holds."""

    frames: list[EventStreamMessage]
    kind: str = ""
    """What is wrong behind them: a kind of damage, "too large" or "truncated"; "" if nothing is."""


class Wrong(Exception):
    """What a message is not, and of which kind that is."""


def read(body: bytes, limit: int = UNLIMITED) -> Reading:
    """The body by the format, all at once."""
    frames: list[EventStreamMessage] = []
    try:
        while body:
            size, headers_size = _sizes(body, limit)
            frames.append(_message(body[:size], headers_size))
            body = body[size:]
    except Wrong as wrong:
        return Reading(frames, str(wrong))
    return Reading(frames)


def _sizes(body: bytes, limit: int) -> tuple[int, int]:
    if len(body) < 12:
        raise Wrong("truncated")
    size, headers_size, checksum = (int.from_bytes(body[at : at + 4]) for at in (0, 4, 8))
    if crc32(body[:8]) != checksum:
        raise Wrong("prelude checksum")
    if headers_size > MAX_HEADERS or 12 + headers_size + 4 > size:
        raise Wrong("length")
    if size - 16 > limit:
        raise Wrong("too large")
    if len(body) < size:
        raise Wrong("truncated")
    return size, headers_size


def _message(whole: bytes, headers_size: int) -> EventStreamMessage:
    if crc32(whole[:-4]) != int.from_bytes(whole[-4:]):
        raise Wrong("message checksum")
    try:
        headers = _headers(io.BytesIO(whole[12 : 12 + headers_size]))
    except ValueError as exc:
        raise Wrong("header") from exc
    return EventStreamMessage(headers, whole[12 + headers_size : -4])


def _headers(block: io.BytesIO) -> dict[str, HeaderValue]:
    headers: dict[str, HeaderValue] = {}
    while size := block.read(1):
        name = _exactly(block, size[0]).decode()
        if not name or name in headers:
            raise ValueError(name)
        headers[name] = _value(block, _exactly(block, 1)[0])
    return headers


def _value(block: io.BytesIO, kind: int) -> HeaderValue:
    if kind < 2:
        return kind == 0
    if kind in _INTEGERS:
        value: int
        (value,) = struct.unpack(_INTEGERS[kind], _exactly(block, struct.calcsize(_INTEGERS[kind])))
        return value
    if kind == 9:
        return UUID(bytes=_exactly(block, 16))
    if kind > 9:
        raise ValueError(kind)
    data = _exactly(block, int.from_bytes(_exactly(block, 2)))
    return data if kind == 6 else data.decode()


def _exactly(block: io.BytesIO, size: int) -> bytes:
    data = block.read(size)
    if len(data) < size:
        raise ValueError(size)
    return data


def make(rng: Random) -> Case:
    if rng.random() < 0.2:
        return cut(rng, mutated(rng, SEEDS, PARTS))
    blocks = [b"".join(rng.sample(HEADERS, k=rng.randint(0, 4))) for _ in range(2)]
    if rng.random() < 0.4:
        blocks.append(rng.choice(blocks) + rng.choice(PARTS) + rng.choice(PARTS))
    body = b""
    for _ in range(rng.randint(1, 6)):
        lie, longer = rng.choices(((0, 0), (1, 0), (-1, 0), (2**17, 0), (0, 7)), (40, 1, 1, 1, 1))[
            0
        ]
        body += message(rng.choice(blocks), rng.choice(PARTS), lie=lie, longer=longer)
    return cut(rng, mutated(rng, [body], PARTS) if rng.random() < 0.2 else body)


def check(case: Case) -> None:
    body = b"".join(case)
    for limit in (0, 1, 2, 7, 20, 100, UNLIMITED):
        expected = read(body, limit)
        failures: set[str] = set()
        for chunks in (case, (body,), [body[i : i + 1] for i in range(len(body))]):
            actual, failure = _decoded(EventStreamDecoder(max_event_bytes=limit), chunks)
            assert repr(actual) == repr(expected)  # as True is 1, but no integer
            failures.add(failure)
        assert len(failures) == 1


def kind_of(failure: DecodeError | StreamTruncated) -> str:
    """What a failure is called in a `Reading`."""
    if isinstance(failure, StreamTruncated):
        return "truncated"
    if isinstance(failure, EventTooLarge):
        return "too large"
    what = failure.reason.partition(":")[0]
    return "header" if what.startswith("header ") else what


def _decoded(decoder: EventStreamDecoder, chunks: Iterable[bytes]) -> tuple[Reading, str]:
    """The messages, and what is wrong behind them in full; it is told in the same way once more."""
    frames: list[EventStreamMessage] = []
    try:
        for chunk in chunks:
            frames += decoder.decode(chunk)
        frames += decoder.flush()
    except (DecodeError, StreamTruncated) as exc:
        failure = exc
    else:
        return Reading(frames), ""
    with pytest.raises(type(failure)) as again:
        decoder.flush()
    assert str(again.value) == str(failure)
    if isinstance(failure, DecodeError):
        assert failure.index == len(frames)
        with pytest.raises(type(failure)):
            decoder.decode(message())
    return Reading(frames, kind_of(failure)), str(failure)
