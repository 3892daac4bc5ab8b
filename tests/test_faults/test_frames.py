"""Frames that are not what was declared, that never end, and large ones that are as they should."""

import time
from dataclasses import dataclass

import pytest

from streamsession import (
    DecodeError,
    EventTooLarge,
    RemoteError,
    ServerSentEvent,
    StreamInterrupted,
)
from streamsession.testing import HANG_UP, HOLD, ScriptedResponse, ScriptedServer, chunks_of, sse
from tests.acme import Finish, Token
from tests.test_faults.apis import (
    KIB,
    LINES,
    MIB,
    POOL_OF_ONE,
    SSE,
    Api,
    fails,
    failure,
    in_both,
    row,
)

pytestmark = pytest.mark.anyio

# Wrong frames


@dataclass(frozen=True)
class Wrong:
    """A frame's data, and what the error says of it."""

    data: bytes
    reason: str


WRONG = {
    "no JSON": Wrong(b"Hello", "Invalid JSON"),
    "half of it": Wrong(b'{"type":"token","text":"Hel', "Invalid JSON: EOF"),
    "two at once": Wrong(b'{"type":"finish"}{"type":"finish"}', "Invalid JSON: trailing"),
    "no object": Wrong(b'"Hello"', "should be an object"),
    "a list": Wrong(b'[{"type":"token","text":"Hello"}]', "should be an object"),
    "null": Wrong(b"null", "should be an object"),
    "no type": Wrong(b'{"text":"Hello"}', "'type'"),
    "a type that is no text": Wrong(b'{"type":["token"]}', "'type'"),
    "a missing field": Wrong(b'{"type":"token"}', "field 'text': Field required"),
    "a wrong field": Wrong(b'{"type":"token","text":[]}', "field 'text': Input should be"),
    "a deep one": Wrong(b'{"type":"token","text":' + b"[" * 100_000, "Invalid JSON"),
    "half a surrogate": Wrong(b'{"type":"token","text":"\\ud800"}', "Invalid JSON"),
    "NaN": Wrong(b'{"type":"token","text":NaN}', "field 'text'"),
}


def written(api: Api, data: bytes) -> bytes:
    return b"data: " + data + b"\n\n" if api is SSE else data + b"\n"


@in_both
async def test_a_wrong_frame_is_named_and_ends_the_stream(
    scripted_server: ScriptedServer, api: Api
) -> None:
    """What a server means to say it says again: there is no second attempt."""
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        for name, wrong in WRONG.items():
            with row(name):
                pieces = [
                    api.tokens("Hello"),
                    api.noise["unknown events"],
                    written(api, wrong.data),
                ]
                error = await fails(
                    api,
                    session,
                    scripted_server,
                    [api.answer(*pieces, HOLD)],
                    DecodeError,
                    texts=["Hello"],
                )
                assert wrong.reason in error.reason
                assert error.reason in str(error)
                assert "\n" not in str(error)
                assert len(str(error)) < KIB
                frame = ServerSentEvent(data=wrong.data.decode()) if api is SSE else wrong.data
                assert (error.index, error.frame) == (2, frame)


@in_both
@pytest.mark.parametrize("wrong", ["no JSON", "a missing field"])
async def test_a_wrong_frame_is_told_before_the_connection_that_broke_after_it(
    scripted_server: ScriptedServer, api: Api, wrong: str
) -> None:
    answer = api.answer(api.tokens("Hello") + written(api, WRONG[wrong].data), HANG_UP)
    await failure(api, scripted_server, answer, DecodeError, texts=["Hello"], fate="server hung up")


NOT_UTF8 = {
    "a byte of no text": b"\xff",
    "half a character": "🙂".encode()[:2],
    "a surrogate": b"\xed\xa0\x80",
    "more bytes than needed": b"\xc0\xaf",
}


async def test_a_json_line_that_is_no_utf8_is_a_decode_error(
    scripted_server: ScriptedServer,
) -> None:
    async with LINES.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        for name, data in NOT_UTF8.items():
            with row(name):
                line = b'{"type":"token","text":"' + data + b'"}'
                answer = LINES.answer(LINES.tokens("Hello"), line + b"\n", LINES.chat("late"), HOLD)
                error = await fails(
                    LINES, session, scripted_server, [answer], DecodeError, texts=["Hello"]
                )
                assert (error.index, error.frame) == (1, line)


async def test_an_event_stream_that_is_no_utf8_is_read_as_the_standard_says(
    scripted_server: ScriptedServer,
) -> None:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation."""
    async with SSE.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        for name, data in NOT_UTF8.items():
            with row(name):
                event = b'data: {"type":"token","text":"' + data + b'"}\n\n'
                scripted_server.play(SSE.answer(event, sse(Finish())))
                assert (await session.stream().collect()).text == data.decode(errors="replace")


@in_both
async def test_a_reported_failure_ends_the_stream_though_it_goes_on(
    scripted_server: ScriptedServer, api: Api
) -> None:
    report = api.write({"error": {"type": "overloaded", "message": "try later"}})
    answer = api.answer(api.tokens("Hello"), report, api.chat("late"), HOLD)
    error = await failure(api, scripted_server, answer, RemoteError, texts=["Hello"])
    assert (str(error), error.type, error.retryable) == ("try later", "overloaded", True)


@in_both
async def test_a_failure_reported_before_the_first_event_is_tried_again(
    scripted_server: ScriptedServer, api: Api
) -> None:
    report = api.answer(api.write({"error": {"type": "overloaded", "message": "try later"}}), HOLD)
    scripted_server.play(report, report, api.answer(api.chat("Hello")))
    async with api.session(base_url=scripted_server.url, limits=POOL_OF_ONE) as session:
        stream = session.stream()
        assert (await stream.collect()).text == "Hello"
    assert stream.stats.attempts == 3


@in_both
async def test_an_unknown_type_is_no_error(scripted_server: ScriptedServer, api: Api) -> None:
    unknown = api.write({"type": "finished"}, {"type": "Token", "text": "x"}, {"type": "🙂"})
    scripted_server.play(api.answer(api.tokens("a"), unknown, api.chat("b")))
    async with api.session(base_url=scripted_server.url) as session:
        stream = session.stream()
        assert (await stream.collect()).events == [Token(text="a"), Token(text="b"), Finish()]
    assert stream.stats.unknown_events == 3


async def test_an_empty_type_is_an_unknown_one(scripted_server: ScriptedServer) -> None:
    scripted_server.play(SSE.answer(SSE.write({"type": ""}), SSE.chat("a")))
    async with SSE.session(base_url=scripted_server.url) as session:
        stream = session.stream()
        assert (await stream.collect()).text == "a"
    assert stream.stats.unknown_events == 1


# Large ones


@in_both
async def test_a_line_that_never_ends_keeps_what_came_before_it(
    scripted_server: ScriptedServer, api: Api
) -> None:
    answer = api.answer(api.tokens("Hello"), b"data: ", *[b"x" * 64 * KIB] * 20, HOLD)
    error = await failure(
        api, scripted_server, answer, EventTooLarge, texts=["Hello"], max_event_bytes=MIB
    )
    assert (error.limit, error.index) == (MIB, 1)


@in_both
@pytest.mark.parametrize("over", [0, 1])
async def test_the_limit_is_inclusive(scripted_server: ScriptedServer, api: Api, over: int) -> None:
    event = Token(text="x" * KIB)
    size = len(event.model_dump_json())
    scripted_server.play(api.answer(*chunks_of(api.write(event), 7), api.write(Finish())))
    async with api.session(base_url=scripted_server.url, max_event_bytes=size - over) as session:
        if over:
            with pytest.raises(EventTooLarge):
                await session.stream().collect()
        else:
            assert (await session.stream().collect()).text == "x" * KIB


@in_both
async def test_a_large_event_in_small_pieces_costs_no_more_than_its_bytes(
    scripted_server: ScriptedServer, api: Api
) -> None:
    seconds: list[float] = []
    async with api.session(base_url=scripted_server.url) as session:
        for size in (MIB, 8 * MIB, MIB):
            text = "x" * size
            scripted_server.play(api.answer(*chunks_of(api.chat(text), 4 * KIB)))
            began = time.thread_time()  # what other threads and programs take does not count
            assert (await session.stream().collect()).text == text
            seconds.append(time.thread_time() - began)
    small, large, again = seconds
    # A decoder that copies what it holds with each piece takes 20 to 40 times as long.
    assert large < 16 * max(small, again)


@in_both
async def test_a_large_event_that_is_cut_off_is_not_handed_over(
    scripted_server: ScriptedServer, api: Api
) -> None:
    body = api.tokens("Hello", "x" * MIB)
    answer = ScriptedResponse([body], content_type=api.media, hang_up_after=len(body) - 3)
    await failure(
        api,
        scripted_server,
        answer,
        StreamInterrupted,
        texts=["Hello"],
        fate="server hung up",
    )
