"""Compressed bodies: in any pieces, unwrapped, cut, damaged, and inflated without an end."""

import tracemalloc
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from streamsession import (
    EventTooLarge,
    ServerError,
    StreamInterrupted,
    StreamTruncated,
    UnexpectedContent,
)
from streamsession.testing import HOLD, Gate, ScriptedResponse, ScriptedServer, chunks_of
from tests.acme import Token
from tests.test_faults.apis import (
    KIB,
    MIB,
    ONCE,
    POOL_OF_ONE,
    Api,
    fails,
    failure,
    in_both,
    row,
    works,
)

pytestmark = pytest.mark.anyio


def packed(wbits: int) -> Callable[[bytes], bytes]:
    def pack(body: bytes) -> bytes:
        packer = zlib.compressobj(wbits=wbits)
        return packer.compress(body) + packer.flush()

    return pack


GZIP, ZLIB, RAW = (packed(wbits) for wbits in (31, zlib.MAX_WBITS, -zlib.MAX_WBITS))

# The deflate of RFC 9110 is wrapped by zlib; many servers send it without, and every client that
# takes deflate takes both: https://www.rfc-editor.org/rfc/rfc9110#field.deflate.coding
PACKINGS = {
    "gzip": ("gzip", GZIP),
    "GZIP": ("GZIP", GZIP),
    "x-gzip": ("x-gzip", GZIP),
    "deflate": ("deflate", ZLIB),
    "deflate without zlib": ("deflate", RAW),
}


@in_both
@pytest.mark.parametrize(("encoding", "pack"), PACKINGS.values(), ids=PACKINGS)
async def test_a_compressed_stream_is_read_in_pieces_of_any_size(
    scripted_server: ScriptedServer, api: Api, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    body = pack(api.chat("Hello", "🙂" * 50))
    pieces = [chunks_of(body, size) for size in (1, 2, 3, 10, len(body))]
    scripted_server.play(*[api.answer(*each, Content_Encoding=encoding) for each in pieces])
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        for turn in range(len(pieces)):
            await works(session, reused=turn > 0, text="Hello" + "🙂" * 50)


@in_both
async def test_a_compressed_event_comes_when_it_was_sent(
    scripted_server: ScriptedServer, api: Api
) -> None:
    packer = zlib.compressobj(wbits=31)
    first = packer.compress(api.tokens("Hello")) + packer.flush(zlib.Z_SYNC_FLUSH)
    gate = Gate()
    rest = packer.compress(api.chat("!")) + packer.flush()
    scripted_server.play(api.answer(first, gate, rest, Content_Encoding="gzip"))
    async with api.session(base_url=scripted_server.url) as session:
        stream = session.stream()
        assert await anext(stream) == Token(text="Hello")
        gate.open()
        assert (await stream.collect()).text == "Hello!"


@in_both
async def test_a_final_event_needs_no_end_of_the_compression(
    scripted_server: ScriptedServer, api: Api
) -> None:
    packer = zlib.compressobj(wbits=31)
    body = packer.compress(api.chat("Hello")) + packer.flush(zlib.Z_SYNC_FLUSH)
    scripted_server.play(
        api.answer(body, HOLD, Content_Encoding="gzip"), api.answer(api.chat("next"))
    )
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        assert (await session.stream().collect()).text == "Hello"
        await works(session, reused=False)


@in_both
@pytest.mark.parametrize(("encoding", "pack"), [("gzip", GZIP), ("deflate", ZLIB)])
async def test_a_compressed_body_that_ends_early_is_never_whole(
    scripted_server: ScriptedServer, api: Api, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    """Cut cleanly: the compression is what tells."""
    body = pack(api.tokens("Hello"))
    for cut in range(1, len(body), 5):
        answer = api.answer(body[:cut], Content_Encoding=encoding)
        scripted_server.play(answer)
    scripted_server.play(api.answer(body, Content_Encoding=encoding))
    async with api.session(base_url=scripted_server.url, retry=ONCE) as session:
        for _ in range(1, len(body), 5):
            stream = session.stream()
            with pytest.raises(StreamInterrupted, match="compressed body was cut") as caught:
                await stream.collect()
            assert caught.value.partial.text in {"", "Hello"}
        with pytest.raises(StreamTruncated):
            await session.stream().collect()


DAMAGED = {
    "no compression": b"data: Hello\n\n",
    "a wrong checksum": GZIP(b"\n")[:-8] + bytes(8),
    "what follows the end": GZIP(b"\n") + b"more of it",
    "damage within": GZIP(b"\n")[:10] + b"\xff" * 10,
}


@in_both
async def test_a_damaged_compression_is_interrupted(
    scripted_server: ScriptedServer, api: Api
) -> None:
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE, retry=ONCE) as session:
        for name, body in DAMAGED.items():
            with row(name):
                answer = api.answer(GZIP(api.tokens("Hello")), body, HOLD, Content_Encoding="gzip")
                error = await fails(
                    api, session, scripted_server, [answer], StreamInterrupted, texts=["Hello"]
                )
                assert "the compressed body is damaged" in str(error)
                assert isinstance(error.__cause__, zlib.error)


@in_both
async def test_a_compression_that_was_not_asked_for_is_unexpected(
    scripted_server: ScriptedServer, api: Api
) -> None:
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        for encoding in ("br", "zstd", "gzip, gzip", "compress", "?"):
            answer = api.answer(b"?", HOLD, Content_Encoding=encoding)
            error = await fails(api, session, scripted_server, [answer], UnexpectedContent)
            assert repr(encoding) in str(error)


# Bombs

SIZE = 8 * MIB


@contextmanager
def within(limit: int) -> Generator[None]:
    """Memory that was in use at any time stays below so many bytes more than before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        assert tracemalloc.get_traced_memory()[1] - before < limit
    finally:
        tracemalloc.stop()


@in_both
async def test_an_event_that_inflates_without_an_end_is_too_large(
    scripted_server: ScriptedServer, api: Api
) -> None:
    bomb = GZIP(api.tokens("Hello") + b"data: " + bytes(SIZE))
    answer = api.answer(bomb, HOLD, Content_Encoding="gzip")
    with within(5 * MIB):
        await failure(
            api, scripted_server, answer, EventTooLarge, texts=["Hello"], max_event_bytes=MIB
        )


@in_both
@pytest.mark.parametrize(("status", "kind"), [(200, UnexpectedContent), (500, ServerError)])
async def test_a_page_that_inflates_without_an_end_is_read_in_part(
    scripted_server: ScriptedServer,
    api: Api,
    status: int,
    kind: type[UnexpectedContent | ServerError],
) -> None:
    answer = ScriptedResponse(
        [GZIP(b"x" * SIZE), HOLD], status, {"Content-Encoding": "gzip"}, content_type="text/html"
    )
    with within(5 * MIB):
        error = await failure(api, scripted_server, answer, kind)
    assert error.body == "x" * 64 * KIB


@in_both
async def test_what_inflates_after_the_final_event_is_not_read(
    scripted_server: ScriptedServer, api: Api
) -> None:
    bomb = GZIP(api.chat("Hello") + b"\n" * SIZE)
    scripted_server.play(
        api.answer(bomb, HOLD, Content_Encoding="gzip"), api.answer(api.chat("next"))
    )
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        stream = session.stream()
        with within(5 * MIB):
            assert (await stream.collect()).text == "Hello"
        assert stream.stats.bytes < MIB
        await works(session, reused=False)
