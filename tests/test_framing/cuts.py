"""Feeding decoders: the same bytes, cut in all ways, and what they lead to."""

import base64
import json
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from streamsession._errors import DecodeError, EventTooLarge, StreamTruncated
from streamsession._framing import Decoder

FrameT = TypeVar("FrameT")

DATA = Path(__file__).parent.parent / "data"
KIB = 1024

# Without a deadline: how long an example takes says nothing on a busy machine.
thorough = settings(deadline=None, max_examples=150)


@dataclass(frozen=True)
class Outcome(Generic[FrameT]):
    """What a body led to."""

    frames: list[FrameT]
    too_large: tuple[int, int] | None = None
    """The limit and the index of the event, if one was too large."""
    damage: str = ""
    """The reason, if the framing was broken."""
    truncated: str = ""
    """The message, if the body was cut short."""


def outcome(decoder: Decoder[FrameT], chunks: Iterable[bytes]) -> Outcome[FrameT]:
    frames: list[FrameT] = []
    try:
        for chunk in chunks:
            frames += decoder.decode(chunk)
        frames += decoder.flush()
    except EventTooLarge as exc:
        return Outcome(frames, (exc.limit, exc.index))
    except DecodeError as exc:
        return Outcome(frames, damage=exc.reason)
    except StreamTruncated as exc:
        return Outcome(frames, truncated=str(exc))
    return Outcome(frames)


def cases(name: str) -> list[Any]:
    """The conformance cases of a file, as pytest parameters."""
    listed: list[dict[str, Any]] = json.loads((DATA / name).read_text(encoding="utf-8"))
    for case in listed:
        case["chunks"] = [base64.b64decode(chunk) for chunk in case["chunks"]]
    return [pytest.param(case, id=case["id"]) for case in listed]


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    return (body[i : i + size] for i in range(0, len(body), size))


def bytewise(body: bytes) -> Iterator[bytes]:
    return pieces(body, 1)


def cuts(body: bytes) -> Iterator[list[bytes]]:
    """The body in one, two and, if it is short, three chunks; and byte by byte.

    A body of more than 400 bytes is cut at about 100 places, any other one at every place.
    """
    yield [body]
    yield list(bytewise(body))
    places = range(0, len(body) + 1, len(body) // 100 if len(body) > 400 else 1)
    yield from ([body[:i], body[i:]] for i in places)
    if len(body) <= 30:
        yield from ([body[:i], body[i:j], body[j:]] for i, j in combinations(places, 2))


def chunks_of(*parts: bytes) -> st.SearchStrategy[list[bytes]]:
    """Chunks, each made of some of the parts and of their beginnings."""
    begun = [part[:end] for part in parts for end in range(1, len(part))]
    return st.lists(st.lists(st.sampled_from([*parts, *begun]), max_size=6).map(b"".join))


@dataclass(frozen=True)
class Burden:
    """What endless input did to a decoder."""

    held: int
    """The most memory that was in use between two chunks, in bytes, one chunk included."""
    failed: bool


def burden(decoder: Decoder[Any], chunks: Iterable[bytes]) -> Burden:
    chunks = list(chunks)
    rehearsing = deepcopy(decoder)
    with suppress(DecodeError):
        for chunk in chunks:  # what is made once, the first time, is held by no decoder
            rehearsing.decode(chunk)
    most = 0
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for chunk in chunks:
            decoder.decode(chunk)
            now, _ = tracemalloc.get_traced_memory()
            most = max(most, now - before)
    except DecodeError:
        return Burden(most, failed=True)
    finally:
        tracemalloc.stop()
    return Burden(most, failed=False)


def burden_allowed(limit: int, size: int) -> float:
    """What may be held by a decoder and its caller, in bytes.

    A bytearray reserves an eighth more than it holds; 4 KiB are for objects of fixed size.
    """
    return (limit + size) * 9 / 8 + size + 4 * KIB


def costly_calls(decoder: Decoder[Any], body: bytes) -> int:
    """How often a single byte made the decoder allocate more than 3 KiB at a time.

    One that copies what it holds, and so is quadratic, does it at nearly every byte.
    """
    costly = 0
    tracemalloc.start()
    try:
        for byte in bytewise(body):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            decoder.decode(byte)
            _, peak = tracemalloc.get_traced_memory()
            costly += peak - before > 3 * KIB  # 2.5 are what coverage makes of the least
    finally:
        tracemalloc.stop()
    return costly
