"""Compressed bodies: piece by piece the same as all at once, and never much at a time."""

import gzip
import zlib
from random import Random
from typing import Final

from streamsession import StreamInterrupted
from streamsession._http._response import _Inflater  # pyright: ignore[reportPrivateUsage]

from .engine import Case, cut, mutated

__all__ = ["SEEDS", "check", "inflated", "make"]

_PIECE: Final = 64 * 1024
_TEXT: Final = b'data: {"type":"token","text":"Hello"}\n\n' * 3

SEEDS: Final = [
    gzip.compress(_TEXT, mtime=0),
    zlib.compress(_TEXT),
    zlib.compress(_TEXT, wbits=-15),
    gzip.compress(b"", mtime=0) * 3 + gzip.compress(_TEXT, mtime=0) * 2,
    gzip.compress(gzip.compress(_TEXT, mtime=0), mtime=0),
    gzip.compress(bytes(200_000), mtime=0),
    zlib.compress(b"x") + gzip.compress(b"y", mtime=0) + bytes(9),
    zlib.compress(_TEXT, 0),
]


def inflated(body: bytes, *, may_be_raw: bool) -> tuple[bytes, bool]:
    """The text, as far as it is there, and whether the body is whole: byte by byte."""
    text = bytearray()
    member = None
    if may_be_raw and len(body) == 1:
        return b"", False
    is_raw = may_be_raw and body and (body[0] & 0x8F != 8 or (body[0] * 256 + body[1]) % 31 != 0)
    for byte in body:
        if member is None or member.eof:
            is_first = member is None
            member = zlib.decompressobj(-15 if is_raw and is_first else zlib.MAX_WBITS | 32)
        try:
            text += member.decompress(bytes([byte]))
        except zlib.error:
            return bytes(text), False
    return bytes(text), member is None or member.eof


def make(rng: Random) -> Case:
    return cut(rng, mutated(rng, SEEDS, SEEDS))


def check(case: Case) -> None:
    for may_be_raw in (False, True):
        _check(case, may_be_raw=may_be_raw)


def _check(case: Case, *, may_be_raw: bool) -> None:
    text, is_whole = inflated(b"".join(case), may_be_raw=may_be_raw)
    got = bytearray()
    inflater = _Inflater(may_be_raw=may_be_raw)
    try:
        for chunk in case:
            inflater.pending += chunk
            while piece := inflater.piece():
                assert len(piece) <= _PIECE
                got += piece
        inflater.end()
    except StreamInterrupted:
        assert not is_whole
        assert text.startswith(got)  # zlib keeps what it made before the damage, if it can at all
    else:
        assert is_whole
        assert got == text
