"""The bytes that the server sends: events of three APIs, cut into HTTP chunks. No I/O.

The APIs are told apart by the path that is asked for. What is to be played is the name of the
model, which every client can choose: "burst-5000-50" is 5,000 tokens, 50 events in each chunk.
"""

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple

PIECE: Final = 4096  # bytes of a large event in one chunk
WORDS: Final = (" the", " answer", " is", " that", " streams", ",", " unlike", " lists", " flow")


class Blocks(NamedTuple):
    """How an API says an answer, as blocks of an event stream.

    Attributes:
        opening: What comes before the first token.
        token: The block that carries a piece of text.
        closing: What comes after the last token.
    """

    opening: tuple[bytes, ...]
    token: Callable[[str], bytes]
    closing: tuple[bytes, ...]


def block(data: Any, event: str = "") -> bytes:
    """One event, compact as servers write it."""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {text}\n\n".encode()


def _named(data: dict[str, Any]) -> bytes:
    return block(data, event=data["type"])


def _chunk(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of https://platform.openai.com/docs/api-reference/chat-streaming/streaming."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-CQ8x0J9yXc1yqAd3XH0ZzZl1bY2Jk",
        "object": "chat.completion.chunk",
        "created": 1760000000,
        "model": "gpt-5-mini-2025-08-07",
        "service_tier": "default",
        "system_fingerprint": None,
        "choices": [choice],
        "usage": None,
        "obfuscation": "Zk3jP9",
        **more,
    }


_USAGE: Final = {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46}


def _token(text: str) -> bytes:
    return block({"type": "token", "text": text})


def _openai_token(text: str) -> bytes:
    return block(_chunk({"content": text}))


def _anthropic_token(text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return _named({"type": "content_block_delta", "index": 0, "delta": delta})


_TOKENS: Final = Blocks(
    opening=(),
    token=_token,
    closing=(block({"type": "done"}),),
)
_OPENAI: Final = Blocks(
    opening=(block(_chunk({"role": "assistant", "content": "", "refusal": None})),),
    token=_openai_token,
    closing=(
        block(_chunk({}, "stop")),
        block(_chunk({}, choices=[], usage=_USAGE)),
        block("[DONE]"),
    ),
)
# https://platform.claude.com/docs/en/build-with-claude/streaming
_ANTHROPIC: Final = Blocks(
    opening=(
        _named(
            {
                "type": "message_start",
                "message": {
                    "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
                    "type": "message",
                    "role": "assistant",
                    "model": "claude-haiku-4-5-20251001",
                    "content": [],
                    "stop_reason": None,
                    "stop_sequence": None,
                    "usage": {"input_tokens": 12, "output_tokens": 1},
                },
            }
        ),
        _named(
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            }
        ),
        _named({"type": "ping"}),
    ),
    token=_anthropic_token,
    closing=(
        _named({"type": "content_block_stop", "index": 0}),
        _named(
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 34},
            }
        ),
        _named({"type": "message_stop"}),
    ),
)

APIS: Final = {
    "/generate": _TOKENS,
    "/chat/completions": _OPENAI,
    "/v1/messages": _ANTHROPIC,
}


def answer(blocks: Blocks, tokens: int) -> list[bytes]:
    """An answer of so many tokens, block by block."""
    words = (WORDS[number % len(WORDS)] for number in range(tokens))
    return [*blocks.opening, *map(blocks.token, words), *blocks.closing]


def pieces(body: bytes, size: int) -> list[bytes]:
    """The body in pieces of that many bytes, the last one shorter."""
    return [body[start : start + size] for start in range(0, len(body), size)]


def groups(blocks: list[bytes], size: int) -> list[bytes]:
    """The blocks joined, so many at a time."""
    return [b"".join(blocks[start : start + size]) for start in range(0, len(blocks), size)]


@lru_cache(maxsize=8)
def parts(path: str, model: str) -> list[bytes]:
    """What is sent for a model that needs no clock, each part as one piece of the wire."""
    blocks = APIS[path]
    match model.split("-"):
        case ["burst", tokens, per_chunk]:
            return groups(answer(blocks, int(tokens)), int(per_chunk))
        case ["bytes", tokens]:
            return pieces(b"".join(answer(blocks, int(tokens))), 1)
        case ["large", mebibytes]:
            event = blocks.token("x" * (int(mebibytes) << 20))
            return pieces(b"".join((*blocks.opening, event, *blocks.closing)), PIECE)
        case _:
            raise ValueError(f"no such model: {model!r}")


def chunked(pieces: Iterable[bytes], *, ended: bool) -> bytes:
    """Each as a chunk of HTTP/1.1 (https://www.rfc-editor.org/rfc/rfc9112#section-7.1)."""
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return b"".join([*chunks, b"0\r\n\r\n" if ended else b""])
