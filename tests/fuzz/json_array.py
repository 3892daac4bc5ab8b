"""A JSON array that comes piece by piece, against its grammar byte by byte, and every limit.

https://www.rfc-editor.org/rfc/rfc8259
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final

import pytest

from streamsession._errors import DecodeError, EventTooLarge, StreamTruncated
from streamsession._framing._json_array import JSONArrayDecoder

from .engine import Case, cut, mutated

__all__ = ["PARTS", "SEEDS", "Reading", "check", "make", "read"]

BOM: Final = b"\xef\xbb\xbf"
UNLIMITED: Final = 10**9
WHITE_SPACE: Final = b" \t\n\r"
CLOSING: Final = {ord("["): ord("]"), ord("{"): ord("}")}

SEEDS: Final = [
    b"[]",
    b'[{"candidates": [{"content": {"parts": [{"text": "caf\xc3\xa9"}]}}]\n}\n,\r\n{"a": {}}\n]\n',
    BOM + b'[1, -2.5e3 ,true,null,"]\\"[", "\\\\",[[],[{}]],{"a":"}"}]',
    b'{"error": {"code": 429, "message": "[quota]"}}\n{"a":1}',
]
PARTS: Final = [
    *(b"[", b"]", b"{", b"}", b",", b",\n", b'"', b"\\", b" ", b"\r\n", b"\t", b":", b"\x0c"),
    *(b"1", b"true", b"{}", b"[]", b'"]"', b'"\\""', b'{"a":', b"[[", b"}}", b"\0", b"\xff", BOM),
    *(b'{"a":[{"b":"}"}]}', b"\xe2\x82", b"\x1e"),
]


@dataclass
class Reading:
    """What a body holds, and how it fails: in one way at most."""

    frames: list[bytes] = field(default_factory=list[bytes])
    too_large: bool = False
    damage: str = ""
    is_truncated: bool = False


class _Damage(Exception):
    """Something else came than what was expected."""


class _TooLarge(Exception):
    """An element is."""


def read(body: bytes, limit: int = UNLIMITED) -> Reading:
    """The body by the grammar, no matter what it costs."""
    reading = Reading()
    try:
        _read(body.removeprefix(BOM), limit, reading.frames)
    except IndexError:  # it ends where more is needed
        reading.is_truncated = True
    except _Damage as exc:
        reading.is_truncated = BOM.startswith(body)
        reading.damage = "" if reading.is_truncated else str(exc)
    except _TooLarge:
        reading.too_large = True
    return reading


def _read(body: bytes, limit: int, frames: list[bytes]) -> None:
    at = _past_white_space(body, 0)
    if body[at] == ord("{"):
        while at < len(body):
            _expect("another object or the end", body, at, b"{")
            at = _element(body, at, limit, frames)
        return
    _expect("an array or an object", body, at, b"[")
    at = _past_white_space(body, at + 1)
    expected = "an element or ']'"
    while body[at] != ord("]") or frames:
        _expect(expected, body, at, bytes(set(range(256)) - set(b",]}")))
        at = _element(body, at, limit, frames)
        _expect("',' or ']'", body, at, b",]")
        if body[at] == ord("]"):
            break
        at = _past_white_space(body, at + 1)
        expected = "an element"
    at = _past_white_space(body, at + 1)
    if at < len(body):
        _expect("the end", body, at, b"")


def _expect(what: str, body: bytes, at: int, allowed: bytes) -> None:
    if body[at] not in allowed:
        raise _Damage(f"expected {what}, got {chr(body[at])!a}")


def _past_white_space(body: bytes, at: int) -> int:
    while at < len(body) and body[at] in WHITE_SPACE:
        at += 1
    return at


def _element(body: bytes, at: int, limit: int, frames: list[bytes]) -> int:
    """Where the next byte is that means something, behind the element that begins there."""
    ends = _ends(body, at)
    text = body[at : ends[0]] if ends else body[at:]
    if len(text) > limit:
        raise _TooLarge
    if not ends:
        raise IndexError
    closing = CLOSING.get(text[0], text[-1])
    if text[-1] != closing:
        raise _Damage(f"expected {chr(closing)!a}, got {chr(text[-1])!a}")
    frames.append(text)
    return _past_white_space(body, ends[0])


def _ends(body: bytes, begin: int) -> list[int]:
    """Where the value ends that begins there; nowhere if the body does not hold all of it."""
    depth = 0
    in_string = is_escaped = False
    is_bare = body[begin] not in b'"[{'
    for at in range(begin, len(body)):
        byte = body[at]
        is_escape = in_string and byte == ord("\\") and not is_escaped
        if is_bare and byte in WHITE_SPACE + b',"[]{}':
            return [at]
        if byte == ord('"') and not is_escaped:
            in_string = not in_string
        elif not in_string:
            depth += (byte in b"[{") - (byte in b"]}")
        if not (is_bare or depth or in_string):
            return [at + 1]
        is_escaped = is_escape
    return []


def make(rng: Random) -> Case:
    return cut(rng, mutated(rng, SEEDS, PARTS))


def check(case: Case) -> None:
    body = b"".join(case)
    for limit in (0, 1, 2, 7, 8, 20, 100, UNLIMITED):
        expected = read(body, limit)
        for chunks in (case, (body,), [body[i : i + 1] for i in range(len(body))]):
            assert _decoded(JSONArrayDecoder(max_event_bytes=limit), chunks) == expected


def _decoded(decoder: JSONArrayDecoder, chunks: Iterable[bytes]) -> Reading:
    """What came out; how it failed is told in the same way once more."""
    frames: list[bytes] = []
    try:
        for chunk in chunks:
            frames += decoder.decode(chunk)
        frames += decoder.flush()
    except (DecodeError, StreamTruncated) as exc:
        failure = exc
    else:
        return Reading(frames)
    with pytest.raises(type(failure)) as again:
        decoder.flush()
    assert str(again.value) == str(failure)
    if isinstance(failure, StreamTruncated):
        return Reading(frames, is_truncated=True)
    assert failure.index == len(frames)
    is_too_large = isinstance(failure, EventTooLarge)
    return Reading(frames, is_too_large, failure.reason)
