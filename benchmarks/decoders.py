"""Decoders alone: from chunks to frames, without a socket, an event loop, or typed events.

Each peer's is driven in the cheapest way there is, and makes what it hands over: ours, httpx-sse,
httpx2, openai and anthropic server-sent events with all their fields, the floors only the payloads.
"""

import codecs
import struct
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final, TypeAlias

import anthropic._streaming
import httpx2._sse
import httpx_sse._decoders
import openai._streaming
from pydantic_core import from_json, to_json

from streamsession import (
    Decoder,
    EventStreamDecoder,
    JSONArrayDecoder,
    JSONLinesDecoder,
    JSONSeqDecoder,
    SSEDecoder,
)
from streamsession.testing import event_stream, json_lines, json_seq

from .bodies import APIS, WORDS, answer, groups

_BOTOCORE: Final[Any] = import_module("botocore.eventstream")  # which has no types

Decode: TypeAlias = Callable[[Sequence[bytes]], int]
"""Decodes the chunks of a whole body; returns how many frames there were."""


def _ours(decoder_class: type[Decoder[Any]]) -> Decode:
    def decode(chunks: Sequence[bytes]) -> int:
        decoder = decoder_class()
        frames = 0
        for chunk in chunks:
            for _ in decoder.decode(chunk):
                frames += 1
        return frames + len(decoder.flush())

    return decode


def _lines_by_hand(prefix: bytes, separator: bytes = b"\n") -> Decode:
    """Payloads that stand between separators, each behind a prefix."""
    size = len(prefix)

    def decode(chunks: Sequence[bytes]) -> int:
        frames, rest = 0, b""
        for chunk in chunks:
            lines = (rest + chunk).split(separator)
            rest = lines.pop()
            for line in lines:
                if line[:size] == prefix and line[size:]:
                    frames += 1
        return frames + bool(rest)

    return decode


def _httpx_sse(chunks: Sequence[bytes]) -> int:
    text = codecs.getincrementaldecoder("utf-8")("replace")
    lines, decoder = httpx_sse._decoders.SSELineDecoder(), httpx_sse._decoders.SSEDecoder()
    frames = 0
    for chunk in chunks:
        for line in lines.decode(text.decode(chunk)):
            if decoder.decode(line) is not None:
                frames += 1
    return frames


def _httpx2(chunks: Sequence[bytes]) -> int:
    text = codecs.getincrementaldecoder("utf-8")("replace")
    parser = httpx2._sse._SSEParser()  # pyright: ignore[reportPrivateUsage]
    frames = 0
    for chunk in chunks:
        for _ in parser.decode(text.decode(chunk)):
            frames += 1
    return frames


def _openai(chunks: Sequence[bytes]) -> int:
    frames = 0
    for _ in openai._streaming.SSEDecoder().iter_bytes(iter(chunks)):
        frames += 1
    return frames


def _anthropic(chunks: Sequence[bytes]) -> int:
    frames = 0
    for _ in anthropic._streaming.SSEDecoder().iter_bytes(iter(chunks)):
        frames += 1
    return frames


def _whole_array(chunks: Sequence[bytes]) -> int:
    """No frame before the last chunk, but what else would one write?"""
    return len(from_json(b"".join(chunks)))


def _messages_by_hand(chunks: Sequence[bytes]) -> int:
    """Payloads only: neither headers nor checksums are looked at."""
    frames, rest = 0, b""
    for chunk in chunks:
        data, start = rest + chunk, 0
        while len(data) - start >= 12:
            size, headers_size = struct.unpack_from(">II", data, start)
            if len(data) < start + size:
                break
            frames += bool(data[start + 12 + headers_size : start + size - 4])
            start += size
        rest = data[start:]
    return frames


def _botocore(chunks: Sequence[bytes]) -> int:
    buffer = _BOTOCORE.EventStreamBuffer()
    frames = 0
    for chunk in chunks:
        buffer.add_data(chunk)
        for _ in buffer:
            frames += 1
    return frames


_OF_SSE: Final[dict[str, Decode]] = {
    "floor": _lines_by_hand(b"data: "),
    "ours": _ours(SSEDecoder),
    "httpx-sse": _httpx_sse,
    "httpx2": _httpx2,
    "openai": _openai,
    "anthropic": _anthropic,
}
DECODERS: Final[dict[str, dict[str, Decode]]] = {
    "data": _OF_SSE,
    "event and data": _OF_SSE,
    "JSON Lines": {"floor": _lines_by_hand(b""), "ours": _ours(JSONLinesDecoder)},
    "JSON text sequence": {"floor": _lines_by_hand(b"", b"\x1e"), "ours": _ours(JSONSeqDecoder)},
    "JSON array": {"floor": _whole_array, "ours": _ours(JSONArrayDecoder)},
    "AWS event stream": {
        "floor": _messages_by_hand,
        "ours": _ours(EventStreamDecoder),
        "botocore": _botocore,
    },
}
"""By what is decoded, who decodes it."""


def chunks_of(what: str, *, events: int, per_chunk: int) -> list[bytes]:
    """A body of so many tokens, cut behind every so many events."""
    return groups(_blocks(what, events), per_chunk)


def _blocks(what: str, events: int) -> list[bytes]:
    tokens = [{"type": "token", "text": WORDS[each % len(WORDS)]} for each in range(events)]
    match what:
        case "data":
            return answer(APIS["/generate"], events)
        case "event and data":
            return answer(APIS["/v1/messages"], events)
        case "JSON Lines":
            return [json_lines(token) for token in tokens]
        case "JSON text sequence":
            return [json_seq(token) for token in tokens]
        case "JSON array":
            return [b"[", *(to_json(token) + b",\n" for token in tokens[1:]), b"{}]"]
        case _:
            return [event_stream(("chunk", token)) for token in tokens]
