"""What endless input costs a decoder: time in proportion to the bytes, and memory of the limit.

A case is how the input begins, what it repeats, and the size of its pieces in digits.
"""

import time
from contextlib import suppress
from random import Random
from typing import Any, Final

from streamsession import (
    DecodeError,
    Decoder,
    EventStreamDecoder,
    JSONArrayDecoder,
    JSONLinesDecoder,
    JSONSeqDecoder,
    SSEDecoder,
    StreamTruncated,
)
from streamsession._framing._json_body import JSONBodyDecoder
from tests.test_framing.cuts import burden, pieces

from . import event_stream, json_array, json_lines, json_seq, sse
from .engine import Case

__all__ = ["check", "make"]

_DECODERS: Final[tuple[type[Decoder[Any]], ...]] = (
    SSEDecoder,
    JSONLinesDecoder,
    JSONBodyDecoder,
    JSONSeqDecoder,
    JSONArrayDecoder,
    EventStreamDecoder,
)
_UNITS: Final = [
    *(b"x", b"\n", b"\r", b"\r\n", b"\0", b"data: x\n", b"data\n", b"data: x\n\n", b"data:x\r\r"),
    *(b"id: 1\n", b"id: 1\n\n", b"retry: 1\n", b"event: x\n", b": ping\n\n", b"x\n", b"{}\n"),
    *(b"[", b"{},", b"1,", b'"', b"\\", b"\x1e", b"\x1e1\n", b"\x1e{", b"[]\n", b"\0\0\0\x10"),
    *(b"id: " + b"x" * 999 + b"\n\n", b"data: " + b"x" * 9999 + b"\n", b"\xf0\x9f", b"data", b":"),
]
_PARTS: Final = [
    *(part for each in (sse, json_lines, json_seq, json_array, event_stream) for part in each.PARTS)
]
_SIZES: Final = (1, 2, 7, 4096, 4097, 2**16, 10**9)

_LIMIT: Final = 2048  # bytes of an event
_HELD: Final = 10  # times as much: text may take 4 bytes a character, and an id is held twice
_ENDLESS: Final = 30 * _LIMIT

_NO_LIMIT: Final = 10**9
_MEASURABLE: Final = 0.005  # seconds
_ENOUGH: Final = 2**20  # bytes
_LONGER: Final = 8
_LINEAR: Final = 24  # at most so many times as long for 8 times the bytes; a square takes 64
_TRIES: Final = 4  # as other programs may have taken the time


def make(rng: Random) -> Case:
    begin = b"".join(rng.choices(_PARTS, k=rng.randint(0, 3)))
    unit = rng.choice(_UNITS)
    if rng.random() < 0.5:
        unit = b"".join(rng.choices(_PARTS, k=rng.randint(1, 4)))
    return begin, unit, b"%d" % rng.choice(_SIZES)


def check(case: Case) -> None:
    begin, unit, digits = (*case, b"", b"", b"")[:3]
    unit = unit or b"\n"
    size = max(1, int(digits[:9]) if digits.isdigit() else 1)
    for decoder in _DECODERS:
        _check_time(decoder, begin, unit, size)
        body = begin + unit * (_ENDLESS // len(unit))
        held = burden(decoder(max_event_bytes=_LIMIT), pieces(body, min(size, _LIMIT))).held
        assert held < _HELD * _LIMIT + 2 * size, f"{decoder.__name__} held {held} bytes"


def _check_time(decoder: type[Decoder[Any]], begin: bytes, unit: bytes, size: int) -> None:
    length = 1024
    while (
        short := _seconds(decoder, begin + unit * (length // len(unit) + 1), size)
    ) < _MEASURABLE:
        if length >= _ENOUGH:
            break
        length *= 2
    body = begin + unit * (_LONGER * length // len(unit))
    took = [_seconds(decoder, body, size)]
    while min(took) > _LINEAR * max(short, _MEASURABLE) and len(took) < _TRIES:
        took.append(_seconds(decoder, body, size))
        short = max(short, _seconds(decoder, body[: len(body) // _LONGER], size))
    times = min(took) / max(short, _MEASURABLE)
    assert times <= _LINEAR, f"{decoder.__name__}: 8 times the bytes took {times:.0f} times as long"


def _seconds(decoder: type[Decoder[Any]], body: bytes, size: int) -> float:
    """CPU time to cut a body."""
    cutter = decoder(max_event_bytes=_NO_LIMIT)
    began = time.thread_time()
    with suppress(DecodeError, StreamTruncated):
        for piece in pieces(body, size):
            cutter.decode(piece)
        cutter.flush()
    return time.thread_time() - began
