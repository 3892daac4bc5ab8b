"""JSON Lines, and a body that is one JSON text, against every limit."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

from streamsession import JSONLinesDecoder
from streamsession._errors import EventTooLarge
from streamsession._framing import Decoder
from streamsession._framing._json_body import JSONBodyDecoder

from .engine import Case, bodies_of, cut, mutated

__all__ = ["PARTS", "SEEDS", "Reading", "check", "make", "read"]

BOM: Final = b"\xef\xbb\xbf"
UNLIMITED: Final = 10**9

SEEDS: Final = [
    *bodies_of("jsonl_cases.json"),
    b'{"message":{"role":"assistant","content":"caf\xc3\xa9"},"done":false}\n{"done":true}\n',
    b'{"type":"token","text":"a"}\r\n\r\n{"type":"finish"}',
]
PARTS: Final = [
    *(b"\n", b"\r", b"\r\n", b"\n\n", b" ", b"\t", b"\0", b"\x0b", b"\x1e", b"\xff", BOM),
    *(b"{}", b"1", b'"', b"\xe2\x80\xa8", b"\xc2\x85", b'{"type":"token","text":"x"}\n'),
]


@dataclass(frozen=True)
class Reading:
    """What a body holds."""

    frames: list[bytes]
    too_large: bool = False


def read(body: bytes, limit: int = UNLIMITED) -> Reading:
    """The body by the format, all at once."""
    frames: list[bytes] = []
    for line in body.removeprefix(BOM).split(b"\n"):
        if len(line.removesuffix(b"\r")) > limit:
            return Reading(frames, too_large=True)
        if stripped := line.strip(b" \t\r"):
            frames.append(stripped)
    return Reading(frames)


def make(rng: Random) -> Case:
    return cut(rng, mutated(rng, SEEDS, PARTS))


def check(case: Case) -> None:
    body = b"".join(case)
    for limit in (1, 2, 7, 8, 20, 100, UNLIMITED):
        expected = read(body, limit)
        whole = Reading([], too_large=True) if len(body) > limit else Reading([body or b"null"])
        for chunks in (case, (body,), [body[i : i + 1] for i in range(len(body))]):
            assert _decoded(JSONLinesDecoder(max_event_bytes=limit), chunks) == expected
            assert _decoded(JSONBodyDecoder(max_event_bytes=limit), chunks) == whole


def _decoded(decoder: Decoder[bytes], chunks: Iterable[bytes]) -> Reading:
    frames: list[bytes] = []
    try:
        for chunk in chunks:
            frames += decoder.decode(chunk)
        frames += decoder.flush()
    except EventTooLarge:
        return Reading(frames, too_large=True)
    return Reading(frames)
