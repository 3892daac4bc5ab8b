"""Server-sent events, against the standard followed step by step, and against every limit.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final

import pytest

from streamsession import ServerSentEvent, SSEDecoder
from streamsession._errors import EventTooLarge

from .engine import Case, bodies_of, cut, mutated

__all__ = ["PARTS", "SEEDS", "Reading", "check", "make", "read", "unfinished"]

BOM: Final = b"\xef\xbb\xbf"
UNLIMITED: Final = 10**9
_LF: Final = 0x0A
_CR: Final = 0x0D

SEEDS: Final = [
    *bodies_of("sse_cases.json"),
    b'event: ping\ndata: {"type":"ping"}\n\nevent: error\ndata: {"error":{"type":"x"}}\n\n:\n\n',
    b'event: token\ndata: {"type":"token","text":"caf\xc3\xa9"}\n\nevent: finish\ndata: {}\n\n',
    b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n',
    b"\xef\xbbdata: a\n\n" + BOM + b"data: b\n\n" + BOM + b"data: c\n\n",
    b"id: 1\nretry: 3000\ndata: a\ndata: b\n\nid: 2\ndata\n\nid:\n\nid: 3\n\n",
]
PARTS: Final = [
    *(b"data: ", b"data", b"data:", b"event: ", b"event", b"id: ", b"id", b"retry: ", b"retry"),
    *(b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b": ", b":", b" ", b"\t", b"\0", b"7", b"x"),
    *(b"dat", b"\xff", b"\xe2\x82", BOM, "\u2028".encode(), b"data: x\n\n", b"event: y\n"),
]


@dataclass
class Reading:
    """What a body holds."""

    frames: list[ServerSentEvent] = field(default_factory=list[ServerSentEvent])
    too_large: bool = False
    last_event_id: str = ""
    retry: int | None = None


def read(body: bytes, limit: int = UNLIMITED) -> Reading:
    """The body by the steps of the standard, no matter what they cost."""
    reading = Reading()
    data = event = last_event_id = ""
    size = 0  # of the event so far, with an LF after each field
    lines, rest = _lines(body.removeprefix(BOM))
    for line in lines:
        if not line:
            reading.last_event_id = last_event_id
            if data:
                message = (event or "message", data[:-1], last_event_id, reading.retry)
                reading.frames.append(ServerSentEvent(*message))
            data = event = ""
            size = 0
            continue
        if size + _size(line) > limit:
            reading.too_large = True
            return reading
        name, _, value = line.partition(b":")
        if not name:
            continue
        text = value.removeprefix(b" ").decode(errors="replace")
        size += _size(line) + 1
        match name:
            case b"event":
                event = text
            case b"data":
                data += text + "\n"
            case b"id" if "\0" not in text:
                last_event_id = text
            case b"retry" if text and set(text) <= set("0123456789") and len(text) < 309:
                reading.retry = int(text)
            case _:
                pass
    begun = bool(rest) and not BOM.startswith(body)
    reading.too_large = begun and size + _size(rest, ended=False) > limit
    return reading


def unfinished(body: bytes, limit: int = UNLIMITED) -> ServerSentEvent | None:
    """The event that a line end and a blank line would complete; None if they would not."""
    if BOM.startswith(body):
        return None
    completed = read(body.removesuffix(b"\r") + b"\n\n", limit).frames
    return next(iter(completed[len(read(body, limit).frames) :]), None)


def _lines(body: bytes) -> tuple[list[bytes], bytes]:
    """The lines that have ended, and the beginning of one that has not."""
    lines: list[bytes] = []
    line = bytearray()
    before = 0
    for byte in body:
        if byte == _CR or (byte == _LF and before != _CR):
            lines.append(bytes(line))
            line.clear()
        elif byte != _LF:
            line.append(byte)
        before = byte
    return lines, bytes(line)


def _size(line: bytes, *, ended: bool = True) -> int:
    """What a line adds to its event: its value if it is data or a comment, else all of it."""
    name, colon, value = line.partition(b":")
    may_be_data = not ended and not colon and b"data".startswith(name)
    is_value = name in (b"data", b"") or may_be_data
    return len(value.removeprefix(b" ")) if is_value else len(line)


def make(rng: Random) -> Case:
    return cut(rng, mutated(rng, SEEDS, PARTS))


def check(case: Case) -> None:
    body = b"".join(case)
    expected = read(body)
    decoder = SSEDecoder()
    assert _decoded(decoder, case) == (expected.frames, False)
    assert (decoder.last_event_id, decoder.retry) == (expected.last_event_id, expected.retry)
    assert decoder.unfinished == unfinished(body)
    for limit in (1, 2, 7, 8, 20, 100):
        expected = read(body, limit)
        for chunks in (case, (body,), [body[i : i + 1] for i in range(len(body))]):
            limited = SSEDecoder(max_event_bytes=limit)
            assert _decoded(limited, chunks) == (expected.frames, expected.too_large)


def _decoded(decoder: SSEDecoder, chunks: Iterable[bytes]) -> tuple[list[ServerSentEvent], bool]:
    """The events, and whether one was too large; it is told in the same way once more."""
    events: list[ServerSentEvent] = []
    try:
        for chunk in chunks:
            events += decoder.decode(chunk)
        events += decoder.flush()
    except EventTooLarge as exc:
        failure = exc
    else:
        return events, False
    assert failure.index == len(events)
    with pytest.raises(EventTooLarge) as again:
        decoder.decode(b"data: x\n\n")
    assert again.value.index == failure.index
    return events, True
