"""Every end of a stream has a name, and the error tells what had arrived."""

import copy
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx
import pydantic
import pytest
import respx

from streamsession import (
    AsyncSession,
    AuthenticationError,
    Conflict,
    DecodeError,
    Event,
    EventTooLarge,
    JSONLinesDecoder,
    NotFound,
    PermissionDenied,
    RateLimited,
    RemoteError,
    RetryPolicy,
    ServerError,
    ServerSentEvent,
    SessionError,
    SessionStateError,
    StatusError,
    Stream,
    StreamClosed,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    UnexpectedContent,
    UnknownEvent,
    UnprocessableContent,
)
from streamsession.testing import (
    HANG_UP,
    HOLD,
    RESET,
    Ending,
    MockStream,
    ScriptedResponse,
    Step,
    chunks_of,
    json_lines,
    mock_stream,
    sse,
    sse_event,
)
from tests.acme import BASE_URL, FINISH, URL, Acme, Finish, Token, chat, token

pytestmark = pytest.mark.anyio

NEVER = RetryPolicy(attempts=1)
HELLO = sse_event(Token(text="Hello"), id="7")


class Once(Acme):
    """Acme without a second attempt."""

    retry = NEVER


class Marked(AsyncSession[Token]):
    """An API whose streams end in a sentinel."""

    base_url = BASE_URL
    final_marker = "[DONE]"
    retry = NEVER

    def stream(self) -> Stream[Token]:
        return self.open_stream("POST", "/generate")


class Endless(AsyncSession[Token]):
    """An API whose streams just end."""

    base_url = BASE_URL
    final_events = None
    retry = NEVER

    def stream(self) -> Stream[Token]:
        return self.open_stream("POST", "/generate")


async def failure(session: Acme | Marked | Endless, answer: MockStream) -> StreamError:
    """What a stream with this answer raises."""
    with respx.mock:
        respx.post(URL).mock(side_effect=answer)
        async with session:
            stream = session.stream()
            with pytest.raises(StreamError) as caught:
                await stream.collect()
    assert answer.closed
    assert caught.value.partial is stream.reply
    assert caught.value.events == stream.reply.events
    assert not stream.reply.complete
    return caught.value


async def texts(session: Acme | Marked | Endless, answer: MockStream) -> list[str]:
    """The tokens of a stream that completes."""
    with respx.mock:
        respx.post(URL).mock(side_effect=answer)
        async with session:
            reply = await session.stream().collect()
    assert reply.complete
    assert answer.closed
    return [event.text for event in reply.events if isinstance(event, Token)]


# The final event


async def test_the_final_event_ends_the_loop(respx_mock: respx.MockRouter) -> None:
    answer = mock_stream(chat("Hello", "!"))
    respx_mock.post(URL).mock(side_effect=answer)
    async with Once() as session:
        stream = session.stream()
        events = [event async for event in stream]
    assert events == [Token(text="Hello"), Token(text="!"), Finish()]
    assert stream.reply.complete
    assert stream.reply.events == events
    assert answer.closed


async def test_nothing_after_the_final_event_counts() -> None:
    late = mock_stream(chat("Hello"), token("late"), b"data: not json\n\n", HANG_UP)
    assert await texts(Once(), late) == ["Hello"]


async def test_the_marker_ends_the_loop_and_is_no_event() -> None:
    answer = mock_stream(token("Hello"), b"data: [DONE]\n\n", token("late"))
    assert await texts(Marked(), answer) == ["Hello"]


async def test_a_marker_may_end_json_lines() -> None:
    class Lines(Marked):
        framing = JSONLinesDecoder

    body = json_lines(Token(text="Hello"), b"[DONE]\n")
    answer = mock_stream(body, content_type="application/x-ndjson")
    assert await texts(Lines(), answer) == ["Hello"]


# What lacks its blank line at the end of the body

ENDS = ("", "\n", "\r", "\r\n")


@pytest.mark.parametrize("end", ENDS)
async def test_a_final_event_needs_no_blank_line(end: str) -> None:
    tail = FINISH.rstrip() + end.encode()
    assert await texts(Once(), mock_stream(token("Hello"), tail)) == ["Hello"]


@pytest.mark.parametrize("end", ENDS)
async def test_a_marker_needs_no_blank_line(end: str) -> None:
    tail = b"data: [DONE]" + end.encode()
    assert await texts(Marked(), mock_stream(token("Hello"), tail)) == ["Hello"]


@pytest.mark.parametrize("end", ENDS)
async def test_any_other_unfinished_event_is_truncated_and_not_handed_over(end: str) -> None:
    tail = token("half").rstrip() + end.encode()
    for session in (Once(), Marked(), Endless()):
        error = await failure(session, mock_stream(HELLO, tail))
        assert type(error) is StreamTruncated
        assert error.partial.text == "Hello"


@pytest.mark.parametrize("cut", range(1, len(FINISH.rstrip())))
async def test_a_final_event_that_was_cut_is_truncated(cut: int) -> None:
    error = await failure(Once(), mock_stream(HELLO, FINISH[:cut]))
    assert type(error) is StreamTruncated
    assert error.partial.text == "Hello"


@pytest.mark.parametrize("cut", range(1, len("data: [DONE]")))
async def test_a_marker_that_was_cut_is_truncated(cut: int) -> None:
    error = await failure(Marked(), mock_stream(HELLO, b"data: [DONE]"[:cut]))
    assert type(error) is StreamTruncated
    assert error.partial.text == "Hello"


async def test_what_an_unfinished_final_event_made_is_handed_over_in_order() -> None:
    class Doubled(Once):
        async def decode(self, frames: AsyncIterator[ServerSentEvent]) -> AsyncIterator[Token]:
            async for frame in frames:
                yield Token(text=frame.data)
                yield Token(text=frame.data.upper())
                if frame.data == "end":
                    return

    answer = mock_stream(b"data: a\n\ndata: end")
    assert await texts(Doubled(), answer) == ["a", "A", "end", "END"]


class Counting(Once):
    """Its final event is not on the wire."""

    async def decode(self, frames: AsyncIterator[ServerSentEvent]) -> AsyncIterator[Token | Finish]:
        async for frame in frames:
            yield Token(text=frame.data)
        yield Finish()


async def test_a_final_event_that_decode_makes_of_the_end_needs_no_blank_line() -> None:
    answer = mock_stream(b'data: {"a": 1}\n\ndata: {"b": 2}')
    assert await texts(Counting(), answer) == ['{"a": 1}', '{"b": 2}']


@pytest.mark.parametrize("cut", [b"data: b", b"data: 12", b'data: "b"'])
async def test_what_may_have_been_cut_is_none(cut: bytes) -> None:
    error = await failure(Counting(), mock_stream(b'data: {"a": 1}\n\n' + cut))
    assert isinstance(error, StreamTruncated)
    assert error.partial.text == '{"a": 1}'


class Lines(Once):
    """Acme over JSON Lines."""

    framing = JSONLinesDecoder


def lines(*steps: Step) -> MockStream:
    return mock_stream(*steps, content_type="application/x-ndjson")


LAST_LINE = json_lines(Finish())


async def test_a_last_line_needs_no_line_end() -> None:
    body = json_lines(Token(text="Hello")) + LAST_LINE.rstrip()
    assert await texts(Lines(), lines(body)) == ["Hello"]


@pytest.mark.parametrize("cut", range(1, len(LAST_LINE.rstrip())))
async def test_a_last_line_that_was_cut_is_truncated(cut: int) -> None:
    error = await failure(Lines(), lines(json_lines(Token(text="Hello")), LAST_LINE[:cut]))
    assert type(error) is StreamTruncated
    assert error.partial.text == "Hello"


# The body ended cleanly


async def test_a_clean_end_before_the_final_event_is_truncated() -> None:
    answer = mock_stream(HELLO, token("!"), headers={"X-Request-Id": "req-1"})
    error = await failure(Once(), answer)
    assert type(error) is StreamTruncated
    assert "Finish had not come" in str(error)
    assert error.partial.text == "Hello!"
    assert error.events == [Token(text="Hello"), Token(text="!")]
    assert (error.last_event_id, error.attempts, error.request_id) == ("7", 1, "req-1")
    assert error.__cause__ is None


async def test_an_empty_body_is_truncated() -> None:
    error = await failure(Once(), mock_stream())
    assert type(error) is StreamTruncated
    assert (error.partial.text, list(error.events)) == ("", [])
    assert (error.last_event_id, error.request_id) == (None, None)


async def test_the_message_names_all_that_was_waited_for() -> None:
    class Both(Once):
        final_marker = "[DONE]"

    error = await failure(Both(), mock_stream(HELLO))
    assert "Finish or '[DONE]' had not come" in str(error)


async def test_who_declared_nothing_is_told_which_line_to_add() -> None:
    class Undeclared(AsyncSession[Token]):
        base_url = BASE_URL
        retry = NEVER

        def stream(self) -> Stream[Token]:
            return self.open_stream("POST", "/generate")

    with respx.mock:
        respx.post(URL).mock(side_effect=mock_stream(HELLO))
        async with Undeclared() as session:
            with pytest.raises(StreamTruncated) as caught:
                await session.stream().collect()
    for line in ("final_events = (", "final_marker = '[DONE]'", "final_events = None"):
        assert line in str(caught.value)


async def test_a_clean_end_completes_where_it_is_the_only_sign() -> None:
    assert await texts(Endless(), mock_stream(HELLO, token("!"))) == ["Hello", "!"]
    assert await texts(Endless(), mock_stream()) == []


async def test_a_marker_still_counts_where_no_event_is_final() -> None:
    class MarkedOnly(Marked):
        final_events = None

    assert await texts(MarkedOnly(), mock_stream(HELLO, b"data: [DONE]\n\n")) == ["Hello"]
    assert type(await failure(MarkedOnly(), mock_stream(HELLO))) is StreamTruncated


# The connection broke


@pytest.mark.parametrize(
    ("ending", "cause"), [(HANG_UP, httpx.RemoteProtocolError), (RESET, httpx.ReadError)]
)
@pytest.mark.parametrize("session", [Once, Marked, Endless])
async def test_a_broken_connection_is_interrupted(
    ending: Ending, cause: type[Exception], session: type[Once | Marked | Endless]
) -> None:
    answer = mock_stream(HELLO, ending, headers={"Request-Id": "req-1"})
    error = await failure(session(), answer)
    assert type(error) is StreamInterrupted
    assert isinstance(error, ConnectionError)
    assert type(error.__cause__) is cause
    assert str(error).startswith("the connection broke")
    assert error.partial.text == "Hello"
    assert (error.last_event_id, error.attempts, error.request_id) == ("7", 1, "req-1")


async def test_half_an_event_before_the_break_is_not_handed_over() -> None:
    error = await failure(Once(), mock_stream(HELLO, token("half").rstrip(), HANG_UP))
    assert type(error) is StreamInterrupted
    assert error.partial.text == "Hello"


# The server reported a failure

OVERLOADED = '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'


@pytest.mark.parametrize(
    ("frame", "message", "kind", "retryable"),
    [
        pytest.param(
            sse_event(OVERLOADED, event="error"), "Overloaded", "overloaded_error", True, id="named"
        ),
        pytest.param(sse_event(OVERLOADED), "Overloaded", "overloaded_error", True, id="by type"),
        pytest.param(
            sse({"error": {"message": "no", "type": "invalid_request_error", "code": None}}),
            "no",
            "invalid_request_error",
            False,
            id="object",
        ),
        pytest.param(
            sse({"error": {"code": 503, "status": "UNAVAILABLE", "message": "later"}}),
            "later",
            "UNAVAILABLE",
            True,
            id="code",
        ),
        pytest.param(sse({"error": "model not found"}), "model not found", "", False, id="string"),
        pytest.param(
            sse({"type": "error", "message": "bad"}), "bad", "", False, id="type and message"
        ),
        pytest.param(sse_event("it broke", event="error"), "it broke", "", False, id="plain text"),
        pytest.param(
            sse_event("", event="error"), "the server reported an error", "", False, id="empty"
        ),
    ],
)
async def test_a_reported_failure_is_a_remote_error(
    frame: bytes, message: str, kind: str, *, retryable: bool
) -> None:
    answer = mock_stream(HELLO, frame, headers={"X-Request-Id": "req-1"})
    error = await failure(Once(), answer)
    assert isinstance(error, RemoteError)
    assert type(error) is RemoteError
    assert (str(error), error.type, error.retryable) == (message, kind, retryable)
    assert error.partial.text == "Hello"
    assert (error.last_event_id, error.attempts, error.request_id) == ("7", 1, "req-1")


async def test_what_reported_a_failure_is_kept() -> None:
    error = await failure(Once(), mock_stream(sse_event(OVERLOADED, event="error")))
    assert isinstance(error, RemoteError)
    assert error.data["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize(
    "data",
    [
        {"type": "token", "text": "Hello", "error": None},
        {"type": "token", "text": 'an "error" is quoted'},
        {"type": "token", "text": "error"},
    ],
)
async def test_an_event_that_only_speaks_of_errors_is_none(data: object) -> None:
    assert len(await texts(Once(), mock_stream(sse(data), FINISH))) == 1


# A frame that is not what was declared


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ('{"type": "token"}', "field 'text': Field required"),
        ('{"type": "token", "text": 5}', "field 'text': Input should be a valid string, got 5"),
        ('{"text": "a"}', "Unable to extract tag using discriminator 'type'"),
        ("not json", "Invalid JSON"),
        ('{"type": "token", "text": "a"', "Invalid JSON"),
        ("[1]", "Input should be an object"),
        ("null", "Input should be an object"),
        ("", "Invalid JSON"),
        ('{"type": 5}', "'type'"),
        ('{"type": null}', "'type'"),
        ('{"type": "token", "text": "\\ud800"}', "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
    ],
)
async def test_a_wrong_frame_is_a_decode_error(data: str, reason: str) -> None:
    answer = mock_stream(HELLO, sse_event(data), headers={"X-Request-Id": "req-1"})
    error = await failure(Once(), answer)
    assert isinstance(error, DecodeError)
    assert type(error) is DecodeError
    assert reason in error.reason
    assert error.reason in str(error)
    assert "\n" not in str(error)
    assert error.frame == ServerSentEvent(data=data, id="7")
    assert error.index == 1
    assert error.partial.text == "Hello"
    assert (error.last_event_id, error.attempts, error.request_id) == ("7", 1, "req-1")
    assert isinstance(error.__cause__, pydantic.ValidationError)


async def test_bytes_that_are_not_utf8_are_a_decode_error_of_their_event() -> None:
    body = json_lines(Token(text="Hello")) + b'{"type": "token", "text": "\xff"}\n' + LAST_LINE
    error = await failure(Lines(), lines(body))
    assert type(error) is DecodeError
    assert error.partial.text == "Hello"


async def test_a_wrong_unfinished_frame_is_truncated() -> None:
    error = await failure(Once(), mock_stream(HELLO, b'data: {"type": "token"}\n'))
    assert type(error) is StreamTruncated
    assert isinstance(error.__cause__, DecodeError | None)


async def test_a_long_value_is_not_quoted_in_full() -> None:
    error = await failure(Once(), mock_stream(sse({"type": "token", "text": ["x" * 10_000]})))
    assert type(error) is DecodeError
    assert len(str(error)) < 500


@pytest.mark.parametrize("session", [Once, Lines])
async def test_an_event_that_is_too_large_is_refused(session: type[Once]) -> None:
    write = json_lines if session is Lines else sse
    media = "application/x-ndjson" if session is Lines else "text/event-stream"
    answer = mock_stream(
        write(Token(text="Hello")), write(Token(text="x" * 1000)), FINISH, content_type=media
    )
    error = await failure(session(max_event_bytes=100), answer)
    assert isinstance(error, EventTooLarge)
    assert (error.limit, error.index) == (100, 1)
    assert "max_event_bytes" in str(error)
    assert error.partial.text == "Hello"


# The status

PROBLEM = {"error": {"type": "invalid_request_error", "message": "no such thing"}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (300, StatusError),
        (304, StatusError),
        (400, StatusError),
        (401, AuthenticationError),
        (403, PermissionDenied),
        (404, NotFound),
        (405, StatusError),
        (408, StatusError),
        (409, Conflict),
        (418, StatusError),
        (422, UnprocessableContent),
        (429, RateLimited),
        (500, ServerError),
        (503, ServerError),
        (529, ServerError),
        (599, ServerError),
        (600, ServerError),
    ],
)
async def test_every_status_that_is_no_success_has_its_error(
    status: int, kind: type[StatusError]
) -> None:
    response = (
        ScriptedResponse(status=status)
        if status == 304
        else ScriptedResponse.json(PROBLEM, status=status, headers={"X-Request-Id": "req-1"})
    )
    error = await failure(Once(), MockStream(response))
    assert isinstance(error, StatusError)
    assert type(error) is kind
    assert error.status == status
    assert f"HTTP {status}" in str(error)
    assert (error.attempts, list(error.events), error.last_event_id) == (1, [], None)
    assert error.__cause__ is None
    if status != 304:
        assert "no such thing" in str(error)
        assert (error.data, error.request_id) == (PROBLEM, "req-1")
        assert error.body == '{"error":{"type":"invalid_request_error","message":"no such thing"}}'


async def test_a_status_says_how_long_the_server_asked_to_wait() -> None:
    answer = mock_stream(status=429, headers={"Retry-After": "7"})
    error = await failure(Once(), answer)
    assert isinstance(error, RateLimited)
    assert error.retry_after == 7
    assert "asked to wait 7 s" in str(error)


async def test_the_body_of_an_error_need_not_be_json() -> None:
    page = "<html>Bad Gateway</html>"
    error = await failure(Once(), MockStream(ScriptedResponse.html(page, status=502)))
    assert isinstance(error, ServerError)
    assert (error.body, error.data) == (page, None)
    assert "Bad Gateway" in str(error)


async def test_an_error_in_the_form_of_a_stream_is_told_by_its_status() -> None:
    answer = mock_stream(b'{"error": {"message": "quota"}}', status=429)
    error = await failure(Once(), answer)
    assert type(error) is RateLimited
    assert "quota" in str(error)


@pytest.mark.parametrize("ending", [HANG_UP, RESET])
async def test_an_error_body_that_breaks_off_is_kept_as_far_as_it_came(ending: Ending) -> None:
    error = await failure(Once(), mock_stream(b"it br", ending, status=500))
    assert isinstance(error, ServerError)
    assert error.body == "it br"


async def test_of_a_large_error_body_only_the_beginning_is_read() -> None:
    answer = mock_stream(*[b"x" * 1024] * 1024, HOLD, status=500)
    error = await failure(Once(), answer)
    assert isinstance(error, ServerError)
    assert len(error.body) == 64 * 1024
    assert len(str(error)) < 500


# Another content type


async def test_a_login_page_is_unexpected_content() -> None:
    page = ScriptedResponse.html("<h1>Please log in</h1>", headers={"X-Request-Id": "req-1"})
    error = await failure(Once(), MockStream(page))
    assert isinstance(error, UnexpectedContent)
    assert error.content_type == "text/html"
    assert str(error).startswith("expected text/event-stream, got text/html: ")
    assert "Please log in" in str(error)
    assert (error.body, error.data) == ("<h1>Please log in</h1>", None)
    assert (error.attempts, error.request_id, list(error.events)) == (1, "req-1", [])


async def test_a_json_error_in_place_of_a_stream_is_parsed() -> None:
    error = await failure(Once(), MockStream(ScriptedResponse.json(PROBLEM)))
    assert isinstance(error, UnexpectedContent)
    assert error.data == PROBLEM
    assert "no such thing" in str(error)


@pytest.mark.parametrize(
    "media", ["text/event-stream", "text/event-stream;charset=utf-8", "Text/Event-Stream", None]
)
async def test_the_declared_content_type_is_known_in_all_its_forms(media: str | None) -> None:
    assert await texts(Once(), mock_stream(chat("Hello"), content_type=media)) == ["Hello"]


async def test_a_compression_that_was_not_asked_for_is_unexpected() -> None:
    error = await failure(Once(), mock_stream(b"?", headers={"Content-Encoding": "br"}))
    assert isinstance(error, UnexpectedContent)
    assert "'br'" in str(error)


# The consumer


async def test_a_stream_that_is_broken_off_in_a_block_is_closed_at_its_end(
    respx_mock: respx.MockRouter,
) -> None:
    answer = mock_stream(HELLO, HOLD)
    respx_mock.post(URL).mock(side_effect=answer)
    async with Once() as session:
        async with session.stream() as stream:
            async for _ in stream:
                break
            assert not answer.closed
        assert answer.closed
        with pytest.raises(SessionStateError, match="was closed"):
            await anext(stream)


# Events that the union does not know


async def test_unknown_events_are_skipped_and_counted(respx_mock: respx.MockRouter) -> None:
    answer = mock_stream(
        sse_event({"type": "ping"}, event="ping"), token("a"), sse({"type": "new"}), FINISH
    )
    respx_mock.post(URL).mock(side_effect=answer)
    async with Once() as session:
        stream = session.stream()
        reply = await stream.collect()
    assert reply.events == [Token(text="a"), Finish()]
    assert (stream.stats.events, stream.stats.unknown_events) == (2, 2)


async def test_unknown_events_are_delivered_where_the_union_has_them(
    respx_mock: respx.MockRouter,
) -> None:
    class Curious(AsyncSession[Token | Finish | UnknownEvent]):
        base_url = BASE_URL
        final_events = (Finish,)

    answer = mock_stream(
        sse({"type": "new", "text": "a"}), sse_event("Hi!", event="note"), token("a"), FINISH
    )
    respx_mock.post(URL).mock(side_effect=answer)
    async with Curious() as session:
        stream = session.stream("POST", "/generate")
        reply = await stream.collect()
    assert reply.events == [
        UnknownEvent(type="new", data='{"type":"new","text":"a"}'),
        UnknownEvent(type="note", data="Hi!"),
        Token(text="a"),
        Finish(),
    ]
    assert stream.stats.unknown_events == 0


async def test_the_name_of_the_event_stands_in_for_a_type_that_the_json_lacks() -> None:
    answer = mock_stream(sse_event({"text": "a"}, event="token"), sse_event("{}", event="finish"))
    assert await texts(Once(), answer) == ["a"]


async def test_an_unknown_event_is_never_taken_for_the_only_one_known() -> None:
    answer = mock_stream(sse({"type": "other", "text": "a"}), sse({"type": "token", "text": "b"}))
    assert await texts(Endless(), answer) == ["b"]


async def test_a_wrong_event_of_a_known_type_is_no_unknown_one() -> None:
    class Narrow(Event):
        type: Literal["token"] = "token"
        kind: Literal["a", "b"]

    class NarrowSession(AsyncSession[Narrow | UnknownEvent]):
        base_url = BASE_URL
        final_events = None

    with respx.mock:
        respx.post(URL).mock(side_effect=mock_stream(sse({"type": "token", "kind": "c"})))
        async with NarrowSession() as session:
            with pytest.raises(DecodeError, match="field 'kind'"):
                await session.stream("POST", "/generate").collect()


# Whatever comes


def mutated(body: bytes, chance: random.Random) -> bytes:
    """The body with some of its bytes changed, dropped, repeated, or put elsewhere."""
    changed = bytearray(body)
    for _ in range(chance.randrange(1, 6)):
        start = chance.randrange(len(changed) + 1)
        part = changed[start : start + chance.randrange(1, 30)]
        match chance.randrange(5):
            case 0:
                changed[start : start + 1] = chance.randbytes(1)
            case 1:
                del changed[start : start + len(part)]
            case 2:
                changed[start:start] = part * chance.randrange(1, 4)
            case 3:
                changed[start:start] = chance.choice(
                    [b"\n\n", b"\r", b"data:", b"{", b'"', b"\xff"]
                )
            case _:
                del changed[start : start + len(part)]
                place = chance.randrange(len(changed) + 1)
                changed[place:place] = part
    return bytes(changed)


@pytest.mark.parametrize("session_type", [Once, Marked, Endless, Lines])
async def test_whatever_the_server_sends_the_end_has_a_name(
    session_type: type[Once | Marked | Endless | Lines],
) -> None:
    chance = random.Random(7)  # noqa: S311 - the same every time
    if session_type is Lines:
        media, body = "application/jsonl", json_lines(*[Token(text="añ🙂")] * 3, Finish())
    else:
        media, body = "text/event-stream", chat("añ🙂", "b\n", "c") + sse("[DONE]")
    endings: list[list[Step]] = [[], [], [HANG_UP], [RESET]]

    def answer(request: httpx.Request) -> httpx.Response:
        pieces = chunks_of(mutated(body, chance), chance.randrange(1, 60))
        return mock_stream(*pieces, *chance.choice(endings), content_type=media)(request)

    ends: Counter[type[Exception] | None] = Counter()
    async with session_type(transport=httpx.MockTransport(answer)) as session:
        for _ in range(200):
            stream = session.stream()
            try:
                await stream.collect()
            except StreamError as exc:
                ends[type(exc)] += 1
            else:
                ends[None] += 1
    assert ends.keys() >= {None, StreamInterrupted, DecodeError}


# The tree


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (StreamInterrupted, ConnectionError),
        (EventTooLarge, DecodeError),
        (RateLimited, StatusError),
        (StreamClosed, StreamError),
        (StreamError, SessionError),
    ],
)
def test_errors_can_be_caught_by_what_they_are(error: type[Exception], also: type) -> None:
    assert issubclass(error, also)


def all_subclasses(of: type[Any]) -> set[type[Any]]:
    return {of}.union(*map(all_subclasses, of.__subclasses__()))


def test_every_error_can_be_copied() -> None:
    for kind in all_subclasses(StreamError):
        if kind.__module__.startswith("streamsession"):
            error = kind("what happened")
            assert str(copy.copy(error)) == "what happened"
            assert (list(error.events), error.partial.text) == ([], "")
