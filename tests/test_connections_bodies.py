"""Bodies over real sockets: cut at every byte, compressed, damaged, too large, without an end."""

import gzip
import tracemalloc
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
import httpx
import pytest
from pydantic import TypeAdapter

from streamsession import (
    EventTooLarge,
    JSONLinesDecoder,
    RetryPolicy,
    ServerError,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    UnexpectedContent,
)
from streamsession.testing import (
    HOLD,
    Gate,
    ScriptedResponse,
    ScriptedServer,
    chunks_of,
    json_lines,
    sse,
    sse_event,
)
from tests.acme import FINISH, Acme, Finish, Token, chat, token

pytestmark = pytest.mark.anyio

KIB, MIB = 1024, 1024 * 1024


class Once(Acme):
    """Acme without a second attempt."""

    retry = RetryPolicy(attempts=1)


class Lines(Once):
    """Acme over JSON Lines."""

    framing = JSONLinesDecoder


# Cut at every byte

TEXTS = ("Hé", "🙂\u2028!")
BLOCKS = [
    b": welcome\n\n",
    *(sse_event(Token(text=text), id=str(n)) for n, text in enumerate(TEXTS)),
    sse_event({"type": "ping"}, event="ping"),
    FINISH,
]
CHAT = b"".join(BLOCKS)
"""A chat as a server sends it: a comment, tokens of several bytes, a ping, the final event."""


@dataclass(frozen=True)
class Outcome:
    """How a stream ended and what had come."""

    end: type[StreamError] | None
    text: str


async def outcome(session: Acme) -> Outcome:
    stream = session.stream()
    try:
        reply = await stream.collect()
    except StreamError as exc:
        return Outcome(type(exc), exc.partial.text)
    return Outcome(None, reply.text)


def text_within(blocks: list[bytes], size: int) -> str:
    """The text of the events that are whole after so many bytes."""
    whole = b""
    text = ""
    for block in blocks:
        whole += block
        if len(whole) <= size:
            text += "".join(each for each in TEXTS if sse_text(each) in block)
    return text


def sse_text(text: str) -> bytes:
    return Token(text=text).model_dump_json().encode()


async def test_a_chat_that_ends_cleanly_at_any_byte_is_whole_or_truncated(
    scripted_server: ScriptedServer,
) -> None:
    whole = len(CHAT.rstrip())  # a final event needs no blank line at the end of the body
    scripted_server.play(*[ScriptedResponse([CHAT[:cut]]) for cut in range(len(CHAT) + 1)])
    async with Once(base_url=scripted_server.url) as session:
        for cut in range(len(CHAT) + 1):
            end = None if cut >= whole else StreamTruncated
            assert await outcome(session) == Outcome(end, text_within(BLOCKS, cut)), cut


async def test_a_chat_that_is_cut_off_at_any_byte_is_interrupted(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(
        *[ScriptedResponse([CHAT], hang_up_after=cut) for cut in range(len(CHAT) + 1)]
    )
    async with Once(base_url=scripted_server.url) as session:
        for cut in range(len(CHAT) + 1):
            end = None if cut == len(CHAT) else StreamInterrupted
            assert await outcome(session) == Outcome(end, text_within(BLOCKS, cut)), cut


async def test_a_chat_that_is_reset_at_any_byte_is_never_taken_for_whole(
    scripted_server: ScriptedServer,
) -> None:
    """A reset may overtake what was sent before it, so that what has come is not known."""
    cuts = range(0, len(CHAT), 7)
    scripted_server.play(*[ScriptedResponse([CHAT], reset_after=cut) for cut in cuts])
    async with Once(base_url=scripted_server.url) as session:
        for _ in cuts:
            result = await outcome(session)
            assert result.end is StreamInterrupted
            assert "".join(TEXTS).startswith(result.text)


async def test_json_lines_that_end_cleanly_at_any_byte_are_whole_or_truncated(
    scripted_server: ScriptedServer,
) -> None:
    lines = [json_lines(Token(text=text)) for text in TEXTS] + [json_lines(Finish())]
    body = b"".join(lines)
    scripted_server.play(*[ScriptedResponse.json_lines(body[:n]) for n in range(len(body) + 1)])
    ends = [len(b"".join(lines[: n + 1])) - 1 for n in range(len(TEXTS))]  # without the line end
    async with Lines(base_url=scripted_server.url) as session:
        for cut in range(len(body) + 1):
            text = "".join(TEXTS[n] for n, end in enumerate(ends) if end <= cut)
            end = None if cut >= len(body) - 1 else StreamTruncated
            assert await outcome(session) == Outcome(end, text), cut


async def test_a_chat_in_chunks_of_any_size_is_the_same_chat(
    scripted_server: ScriptedServer,
) -> None:
    sizes = range(1, 40)
    scripted_server.play(*[ScriptedResponse(chunks_of(CHAT, size)) for size in sizes])
    async with Once(base_url=scripted_server.url) as session:
        for _ in sizes:
            assert await outcome(session) == Outcome(None, "".join(TEXTS))


# Compressed


def compressed(body: bytes, encoding: str = "gzip") -> bytes:
    return gzip.compress(body) if encoding == "gzip" else zlib.compress(body)


def encoded(*steps: bytes, encoding: str = "gzip", status: int = 200) -> ScriptedResponse:
    return ScriptedResponse(steps, status, headers={"Content-Encoding": encoding})


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
async def test_a_compressed_body_is_read(
    scripted_server: ScriptedServer, encoding: str, size: int
) -> None:
    body = compressed(CHAT, encoding)
    scripted_server.play(encoded(*chunks_of(body, size), encoding=encoding))
    async with Once(base_url=scripted_server.url) as session:
        assert await outcome(session) == Outcome(None, "".join(TEXTS))


async def test_a_compressed_event_comes_when_it_was_sent(scripted_server: ScriptedServer) -> None:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    first = packer.compress(token("Hello")) + packer.flush(zlib.Z_SYNC_FLUSH)
    rest = packer.compress(FINISH) + packer.flush()
    gate = Gate()
    scripted_server.play(
        ScriptedResponse([first, gate, rest], headers={"Content-Encoding": "gzip"})
    )
    async with Once(base_url=scripted_server.url) as session:
        stream = session.stream()
        with anyio.fail_after(5):
            assert await anext(stream) == Token(text="Hello")
        gate.open()
        assert (await stream.collect()).complete


async def test_a_body_of_several_members_is_read(scripted_server: ScriptedServer) -> None:
    scripted_server.play(encoded(compressed(token("a")) + compressed(chat("b"))))
    async with Once(base_url=scripted_server.url) as session:
        assert await outcome(session) == Outcome(None, "ab")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_body_that_was_cut_at_any_byte_is_an_error(
    scripted_server: ScriptedServer, encoding: str
) -> None:
    body = compressed(token("Hello"), encoding)
    scripted_server.play(*[encoded(body[:n], encoding=encoding) for n in range(1, len(body))])
    async with Once(base_url=scripted_server.url) as session:
        for cut in range(1, len(body)):
            result = await outcome(session)
            assert result.end is StreamInterrupted, cut
            assert result.text in {"", "Hello"}


async def test_a_compressed_body_that_is_damaged_is_an_error(
    scripted_server: ScriptedServer,
) -> None:
    body = compressed(token("Hello"))
    damaged = [body[:n] + bytes([body[n] ^ 0xFF]) + body[n + 1 :] for n in range(len(body))]
    scripted_server.play(*[encoded(each) for each in damaged])
    async with Once(base_url=scripted_server.url) as session:
        for _ in damaged:
            assert (await outcome(session)).end is not None


async def test_what_is_not_compressed_at_all_is_an_error(scripted_server: ScriptedServer) -> None:
    scripted_server.play(encoded(CHAT))
    async with Once(base_url=scripted_server.url) as session:
        with pytest.raises(StreamInterrupted, match="compressed body is damaged") as caught:
            await session.stream().collect()
    assert isinstance(caught.value.__cause__, zlib.error)


async def test_a_compression_of_another_kind_is_unexpected(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(encoded(b"?", encoding="zstd"), ScriptedResponse([CHAT]))
    async with Once(
        base_url=scripted_server.url, limits=httpx.Limits(max_connections=1)
    ) as session:
        with pytest.raises(UnexpectedContent, match="'zstd'"):
            await session.stream().collect()
        with anyio.fail_after(5):
            assert (await session.stream().collect()).complete


async def test_no_content_is_not_cut_content(scripted_server: ScriptedServer) -> None:
    scripted_server.play(ScriptedResponse(status=204, headers={"Content-Encoding": "gzip"}))
    async with Once(base_url=scripted_server.url) as session:
        assert await session.request("DELETE", "/x", result=TypeAdapter(str | None)) is None


async def test_a_compressed_error_is_read(scripted_server: ScriptedServer) -> None:
    scripted_server.play(encoded(compressed(b'{"error": "it broke"}'), status=500))
    async with Once(base_url=scripted_server.url) as session:
        with pytest.raises(ServerError, match="it broke") as caught:
            await session.stream().collect()
    assert caught.value.data == {"error": "it broke"}


# Too large, and without an end


@dataclass
class Memory:
    """The most memory that was in use at any time, in bytes."""

    peak: int = 0


@contextmanager
def measured() -> Generator[Memory]:
    memory = Memory()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield memory
        memory.peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


BOMB = gzip.compress(b"data: " + bytes(32 * MIB), compresslevel=9)


async def test_a_bomb_does_not_fill_the_memory(scripted_server: ScriptedServer) -> None:
    scripted_server.play(encoded(BOMB))
    async with Once(base_url=scripted_server.url, max_event_bytes=MIB) as session:
        stream = session.stream()
        with measured() as memory, pytest.raises(EventTooLarge):
            await stream.collect()
    assert memory.peak < 5 * MIB
    assert stream.stats.bytes < 2 * MIB


async def test_a_bomb_in_an_error_does_not_fill_the_memory(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(encoded(BOMB, status=500))
    async with Once(base_url=scripted_server.url) as session:
        with measured() as memory, pytest.raises(ServerError) as caught:
            await session.stream().collect()
    assert len(caught.value.body) == 64 * KIB
    assert memory.peak < 4 * MIB


async def test_a_bomb_after_the_final_event_does_not_fill_the_memory(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(encoded(gzip.compress(chat("Hello") + bytes(32 * MIB))))
    async with Once(base_url=scripted_server.url, max_event_bytes=MIB) as session:
        with measured() as memory:
            assert (await session.stream().collect()).text == "Hello"
    assert memory.peak < 4 * MIB


@pytest.mark.parametrize(
    "beginning", [b"data: ", b": ", b"event: ", b"id: ", b"", b"data: a\n"], ids=repr
)
async def test_a_line_without_an_end_stays_within_the_limit(
    scripted_server: ScriptedServer, beginning: bytes
) -> None:
    piece = b"x" * 64 * KIB
    scripted_server.play(ScriptedResponse([beginning, *[piece] * 400, HOLD]))
    async with Once(base_url=scripted_server.url, max_event_bytes=MIB) as session:
        stream = session.stream()
        with (
            measured() as memory,
            anyio.fail_after(10),
            pytest.raises(EventTooLarge) as caught,
        ):
            await stream.collect()
        assert (caught.value.limit, caught.value.index) == (MIB, 0)
        assert memory.peak < 5 * MIB
        assert stream.stats.bytes < 2 * MIB
        await scripted_server.until_closed()


async def test_lines_without_a_blank_line_stay_within_the_limit(
    scripted_server: ScriptedServer,
) -> None:
    piece = b"data: xxxxxxxxxx\n" * 1000
    scripted_server.play(ScriptedResponse([*[piece] * 400, HOLD]))
    async with Once(base_url=scripted_server.url, max_event_bytes=MIB) as session:
        stream = session.stream()
        with anyio.fail_after(10), pytest.raises(EventTooLarge):
            await stream.collect()
        assert stream.stats.bytes < 4 * MIB


async def test_a_json_line_without_an_end_stays_within_the_limit(
    scripted_server: ScriptedServer,
) -> None:
    response = ScriptedResponse([*[b"x" * 64 * KIB] * 400, HOLD], content_type="application/jsonl")
    scripted_server.play(response)
    async with Lines(base_url=scripted_server.url, max_event_bytes=MIB) as session:
        stream = session.stream()
        with anyio.fail_after(10), pytest.raises(EventTooLarge):
            await stream.collect()
        assert stream.stats.bytes < 2 * MIB


async def test_an_answer_without_an_end_stays_within_the_limit(
    scripted_server: ScriptedServer,
) -> None:
    response = ScriptedResponse([*[b"x" * 64 * KIB] * 400, HOLD], content_type="application/json")
    scripted_server.play(response)
    async with Once(base_url=scripted_server.url, max_event_bytes=MIB) as session:
        with anyio.fail_after(10), pytest.raises(EventTooLarge):
            await session.request("GET", "/x", result=str)


async def test_many_events_at_once_are_no_large_event(scripted_server: ScriptedServer) -> None:
    scripted_server.play(ScriptedResponse([sse(*[Token(text="x" * 90)] * 10_000), FINISH]))
    async with Once(base_url=scripted_server.url, max_event_bytes=200) as session:
        assert len((await session.stream().collect()).text) == 900_000
