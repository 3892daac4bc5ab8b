"""JSON text sequences, against the standard followed byte by byte, and against every limit.

https://www.rfc-editor.org/rfc/rfc7464
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final

import pytest
from pydantic_core import from_json

from streamsession._errors import EventTooLarge
from streamsession._framing._json_seq import JSONSeqDecoder

from .engine import Case, bodies_of, cut, mutated

__all__ = ["PARTS", "SEEDS", "Reading", "check", "make", "read"]

UNLIMITED: Final = 10**9
RS: Final = b"\x1e"
WHITE_SPACE: Final = b" \t\n\r"

SEEDS: Final = [
    *bodies_of("jsonseq_cases.json"),
    b'\x1e{"type":"token","text":"caf\xc3\xa9"}\n\x1e{\n  "type": "finish",\n  "usage": {}\n}\n',
    b'\x1e["]\\"", [{"a": "\\\\"}]]\r\n\n\x1e-1.5e3 \x1e"\\ud83d\\ude00"\x1e{"a":[]}',
]
PARTS: Final = [
    *(b"\x1e", b"\n", b"\r\n", b" ", b"\t", b"\x0c", b"\0", b"\xff", b"\xe2\x82", b"\xef\xbb\xbf"),
    *(b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"1", b"-", b"true", b"null", b"NaN", b"{}"),
    *(b"[1,\n2]", b'{"a":', b'"\\ud800"', b'\x1e{"a":\n1}\n', b"\x1e1\n", b'"]"', b"\x1e\x1e"),
]


@dataclass
class Reading:
    """What a body holds."""

    frames: list[bytes] = field(default_factory=list[bytes])
    skipped: int = 0
    too_large: bool = False


def read(body: bytes, limit: int = UNLIMITED) -> Reading:
    """The body by the standard, no matter what it costs."""
    first, *elements = body.split(RS)
    reading = Reading(skipped=1 if first else 0)
    for element in filter(None, elements):
        text = element[: _end(element)]
        if len(text.removesuffix(b"\n")) > limit:
            reading.too_large = True
            break
        if _is_whole(text):
            reading.frames.append(text.strip(WHITE_SPACE))
            reading.skipped += bool(element.removeprefix(text).strip(WHITE_SPACE))
        else:
            reading.skipped += 1
    return reading


def _end(element: bytes) -> int:
    """Behind the first LF that is in no brackets and has something in front of it."""
    depth = begin = 0
    in_string = is_escaped = False
    for at, byte in enumerate(element):
        is_escape = in_string and byte == ord("\\") and not is_escaped
        if byte == ord('"') and not is_escaped:
            in_string = not in_string
        elif byte in b"[{" and not in_string:
            depth += 1
        elif byte in b"]}" and not in_string:
            depth -= 1
        elif byte == ord("\n"):
            if depth <= 0 and element[begin:at].strip(WHITE_SPACE):
                return at + 1
            begin = at + 1
            in_string = False  # as no string has a line break in it
        is_escaped = is_escape
    return len(element)


def _is_whole(text: bytes) -> bool:
    """Whether it is a JSON text that nothing can be missing from."""
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError:
        return False
    delimits_itself = isinstance(value, dict | list | str)
    return delimits_itself or text[-1] in WHITE_SPACE


def make(rng: Random) -> Case:
    return cut(rng, mutated(rng, SEEDS, PARTS))


def check(case: Case) -> None:
    body = b"".join(case)
    for limit in (0, 1, 2, 7, 8, 20, 100, UNLIMITED):
        expected = read(body, limit)
        for chunks in (case, (body,), [body[i : i + 1] for i in range(len(body))]):
            assert _decoded(JSONSeqDecoder(max_event_bytes=limit), chunks) == expected


def _decoded(decoder: JSONSeqDecoder, chunks: Iterable[bytes]) -> Reading:
    """What came out; that something was too large is told in the same way once more."""
    frames: list[bytes] = []
    try:
        for chunk in chunks:
            frames += decoder.decode(chunk)
        frames += decoder.flush()
    except EventTooLarge as exc:
        failure = exc
    else:
        return Reading(frames, decoder.skipped)
    assert failure.index == len(frames)
    with pytest.raises(EventTooLarge) as again:
        decoder.decode(b"\x1e1\n")
    assert again.value.index == failure.index
    return Reading(frames, decoder.skipped, too_large=True)
