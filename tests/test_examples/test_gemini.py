"""The Gemini API: what each kind of part becomes, in both framings, and how a stream ends."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, assert_type

import httpx
import pytest
from pydantic import TypeAdapter

from gemini import Chunk, Gemini, GeminiEvent, OtherPart, Part, Signature
from offline import GEMINI
from streamsession import (
    AuthenticationError,
    DecodeError,
    Done,
    ReasoningDelta,
    RemoteError,
    Stream,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    TextDelta,
    ToolCall,
    ToolCallStart,
    UnexpectedContent,
    Usage,
)
from streamsession.testing import (
    HANG_UP,
    ScriptedServer,
    Step,
    every_split,
    mock_stream,
    sse,
)
from tests.canary import CANARY
from tests.test_examples.programs import (
    ONCE,
    ONE_LOOP,
    Live,
    Programs,
    at_once,
    ending,
    playing,
    playing_each,
)

PRINTED = f"""\
Let me look.
reply.reasoning='Ask the clock.'
reply.tool_calls={[ToolCall.parse(id="c1", name="time", raw_arguments="{}")]}
reply.usage={Usage(input_tokens=12, output_tokens=34)!r}
reply.finish_reason='STOP'
"""

SPENT = {"promptTokenCount": 3, "candidatesTokenCount": 5, "thoughtsTokenCount": 7}


def chunk(*parts: object, index: int | None = None, finish: object = None, **more: Any) -> Any:
    """A chunk with parts of one candidate, without what the API would leave out."""
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if index is not None:
        candidate["index"] = index
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "gemini", "responseId": "r1", **more}


def text(piece: str, **more: Any) -> Any:
    """A chunk with a piece of text."""
    return chunk({"text": piece}, **more)


def call(**members: Any) -> Any:
    """A chunk with a tool call, or a piece of one."""
    return chunk({"functionCall": members})


def piece(path: str, **value: Any) -> Any:
    """A chunk with an argument of the call under way, or a piece of it."""
    return call(partialArgs=[{"jsonPath": path, **value}], willContinue=True)


def array(*chunks: object) -> bytes:
    """The body of a JSON array as the API writes it."""
    return b"[" + b"\n,\n".join(json.dumps(each, indent=2).encode() for each in chunks) + b"\n]\n"


STOP = chunk(finish="STOP")
CHUNKS = (
    '{"candidates":[{"content":{"parts":[{"text":"Hm.","thought":true},{"text":"Grüße"}]}}]}',
    '{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f"},"thoughtSignature":"c"}]}}]}',
    '{"candidates":[{"content":{"parts":[{"inlineData":{}}]}}]}',
    '{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3}}',
)
FRAMINGS = {"sse": sse(*CHUNKS), "array": f"[{','.join(CHUNKS)}]\n".encode()}
FAILURE = {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}


def open_gemini(*steps: Any) -> Gemini:
    return Gemini(transport=playing(*steps), api_key=CANARY, retry=ONCE)


def open_array(*steps: Any) -> Gemini:
    transport = playing_each([steps], content_type="application/json; charset=UTF-8")
    return Gemini(transport=transport, api_key=CANARY, retry=ONCE)


def open_each(framing: str, bodies: Iterable[Sequence[Step]]) -> Gemini:
    """A session that is answered with one body after the other."""
    media = "text/event-stream" if framing == "sse" else "application/json"
    return Gemini(transport=playing_each(bodies, content_type=media), retry=ONCE)


async def read(*chunks: object) -> list[GeminiEvent]:
    """The events in a stream of these chunks, which are the same in a JSON array."""
    async with open_gemini(sse(*chunks)) as session:
        events = (await session.stream([]).collect()).events
    async with open_array(array(*chunks)) as session:
        assert (await session.stream([], sse=False).collect()).events == events
    return events


async def read_whole() -> list[GeminiEvent]:
    """The events of a whole answer, the same in each framing."""
    return await read(*map(json.loads, CHUNKS))


async def failure(*chunks: object) -> Any:
    """The error that a stream of these chunks ends with."""
    async with open_gemini(sse(*chunks)) as session:
        return await ending(session.stream([]))


async def array_failure(body: bytes) -> Any:
    """The error that a stream with this body ends with, if it should be a JSON array."""
    async with open_array(body) as session:
        return await ending(session.stream([], sse=False))


def test_the_program_prints_the_answer_of_the_server_inside_it(programs: Programs) -> None:
    program = programs["gemini.py"]

    assert program.stdout == PRINTED
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_asks_the_server_in_the_environment(live: Live) -> None:
    with ScriptedServer(at_once(GEMINI)) as server:
        url = f"{server.url}/v1beta"
        named = {"GEMINI_BASE_URL": url, "GEMINI_API_KEY": CANARY, "GEMINI_MODEL": "m1"}
        printed = live("gemini.py", "Why?", **named)

    assert printed == PRINTED
    (request,) = server.requests
    assert (request.method, request.path) == (
        "POST",
        "/v1beta/models/m1:streamGenerateContent?alt=sse",
    )
    assert request.headers["x-goog-api-key"] == CANARY
    assert "authorization" not in request.headers
    assert request.headers["accept"] == "text/event-stream"
    assert request.json() == {"contents": [{"role": "user", "parts": [{"text": "Why?"}]}]}


@pytest.mark.anyio
async def test_options_go_into_the_request() -> None:
    answer = mock_stream(FRAMINGS["sse"])
    contents = [{"role": "user", "parts": [{"text": "Hi"}]}]
    async with Gemini(transport=httpx.MockTransport(answer)) as session:
        await session.stream(contents, model="a/b?", generationConfig={"topK": 1}).collect()

    (request,) = answer.requests
    assert request.url.raw_path == b"/v1beta/models/a%2Fb%3F:streamGenerateContent?alt=sse"
    assert json.loads(request.content) == {"contents": contents, "generationConfig": {"topK": 1}}


@pytest.mark.anyio
async def test_a_json_array_is_asked_for_by_leaving_out_alt() -> None:
    answer = mock_stream(array(text("A"), STOP), content_type="application/json")
    async with Gemini(transport=httpx.MockTransport(answer)) as session:
        reply = await session.stream("Hi", model="m", sse=False).collect()

    (request,) = answer.requests
    assert request.url.raw_path == b"/v1beta/models/m:streamGenerateContent"
    assert request.headers["accept"] == "application/json"
    assert json.loads(request.content)["contents"][0]["parts"] == [{"text": "Hi"}]
    assert reply.text == "A"


@pytest.mark.anyio
async def test_text_comes_in_pieces_and_empty_ones_are_no_events() -> None:
    events = await read(text(""), text("Hel"), chunk(), text("lo"), text("", finish="STOP"))

    assert events == [TextDelta(text="Hel"), TextDelta(text="lo"), Done(finish_reason="STOP")]


@pytest.mark.anyio
async def test_thoughts_are_reasoning() -> None:
    parts = {"text": "Hm.", "thought": True}, {"text": "A", "thought": False}

    assert await read(chunk(*parts), STOP) == [
        ReasoningDelta(text="Hm."),
        TextDelta(text="A"),
        Done(finish_reason="STOP"),
    ]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "signed",
    [
        {"text": "A"},
        {"text": "Hm.", "thought": True},
        {"functionCall": {"id": "t1", "name": "now", "args": {"of": 1}}},
        {"executableCode": {"language": "PYTHON", "code": "1"}},
        {"text": ""},
        {"thought": True},
    ],
)
async def test_a_signature_comes_after_what_it_signs_with_the_part_to_send_back(
    signed: dict[str, Any],
) -> None:
    part = {**signed, "thoughtSignature": "c2ln"}
    *signed_events, signature, _ = await read(chunk(part), STOP)

    assert signature == Signature(signature="c2ln")
    assert isinstance(signature.wire, Part)
    assert signature.wire.model_dump(by_alias=True, exclude_unset=True) == part
    assert all(event.wire is signature.wire for event in signed_events)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "part",
    [
        {"inlineData": {"mimeType": "image/png", "data": "iVBO"}, "thought": True},
        {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}},
    ],
)
async def test_a_part_of_another_kind_comes_as_it_is(part: dict[str, Any]) -> None:
    assert await read(chunk(part), STOP) == [OtherPart(part=part), Done(finish_reason="STOP")]


@pytest.mark.anyio
async def test_a_tool_call_comes_whole() -> None:
    events = await read(call(name="sum", args={"of": [1, 2]}, id="t1"), STOP)

    assert events == [
        ToolCallStart(id="t1", name="sum"),
        ToolCall(id="t1", name="sum", arguments={"of": [1, 2]}, raw_arguments='{"of":[1,2]}'),
        Done(finish_reason="STOP"),
    ]


@pytest.mark.anyio
async def test_calls_without_ids_get_some_that_tell_them_apart() -> None:
    calls = {"functionCall": {"name": "now"}}, {"functionCall": {"name": "now", "args": None}}
    events = await read(chunk(*calls), call(name="sum", args={}, id="t1"), call(name="now"), STOP)

    starts = [event for event in events if isinstance(event, ToolCallStart)]
    calls_made = [event for event in events if isinstance(event, ToolCall)]
    assert [start.id for start in starts] == ["call_0", "call_1", "t1", "call_3"]
    assert [(made.id, made.arguments) for made in calls_made] == [(s.id, {}) for s in starts]


@pytest.mark.anyio
@pytest.mark.parametrize("last", [{}, {"partialArgs": None}, {"willContinue": False}])
async def test_streamed_arguments_are_put_together(last: dict[str, Any]) -> None:
    """https://docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling"""
    events = await read(
        call(name="plan", willContinue=True),
        piece("$.city", stringValue="Bos", willContinue=True),
        piece("$.city", stringValue="ton"),
        piece("$.days[0].tide", numberValue=1.5),
        call(willContinue=True),
        piece("$.days[0].notes[0]", stringValue="a"),
        piece("$.days[0].notes[1]", stringValue="b"),
        piece("$.days[1].tide", numberValue=2),
        piece("$.dry", boolValue=True),
        piece("$.wind", nullValue="NULL_VALUE"),
        call(**last),
        STOP,
    )

    days = [{"tide": 1.5, "notes": ["a", "b"]}, {"tide": 2}]
    assert events[0] == ToolCallStart(id="call_0", name="plan")
    assert isinstance(events[1], ToolCall)
    assert events[1].arguments == {"city": "Boston", "days": days, "dry": True, "wind": None}
    assert events[2:] == [Done(finish_reason="STOP")]


@pytest.mark.anyio
async def test_streamed_arguments_end_with_the_piece_that_announces_no_other() -> None:
    last = [{"jsonPath": "$.to", "stringValue": "b"}]
    events = await read(
        call(name="one", willContinue=True, partialArgs=[{"jsonPath": "$.a", "numberValue": 1}]),
        call(partialArgs=last),
        call(name="two", args={"a": 2}, willContinue=True),
        call(partialArgs=last),
        call(),
        STOP,
    )

    calls = [event.arguments for event in events if isinstance(event, ToolCall)]
    assert calls == [{"a": 1, "to": "b"}, {"a": 2, "to": "b"}]


@pytest.mark.anyio
@pytest.mark.parametrize("came", [[], [piece("$.city", stringValue="Bos", willContinue=True)]])
async def test_streamed_arguments_that_were_cut_off_are_none(came: list[object]) -> None:
    first = call(name="plan", willContinue=True)
    events = await read(first, *came, call(name="now"), chunk(finish="MAX_TOKENS"))

    calls = [(event.id, event.arguments) for event in events if isinstance(event, ToolCall)]
    assert calls == [("call_1", {}), ("call_0", None)]
    assert events[-1] == Done(finish_reason="MAX_TOKENS")


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["$", "$[0]", "$.days[1]", "$.city.name", "$['a b']"])
async def test_streamed_arguments_that_cannot_be_put_together_are_a_decode_error(path: str) -> None:
    error = await failure(
        call(name="plan", willContinue=True),
        piece("$.city", stringValue="Boston"),
        piece(path, stringValue="x"),
        STOP,
    )

    assert isinstance(error, DecodeError)


@pytest.mark.anyio
async def test_choices_are_kept_apart() -> None:
    async with open_gemini(
        sse(
            text("B", index=1),
            text("A"),
            text("a", index=0),
            chunk({"functionCall": {"name": "now"}}, index=1, finish="MAX_TOKENS"),
            chunk(finish="STOP", index=0),
        )
    ) as session:
        reply = await session.stream([], generationConfig={"candidateCount": 2}).collect()

    assert (reply.text, reply.finish_reason) == ("Aa", "STOP")
    assert reply.events[-3:] == [
        ToolCall(id="call_0", name="now", arguments={}, raw_arguments="{}", choice=1),
        Done(finish_reason="STOP"),
        Done(finish_reason="MAX_TOKENS", choice=1),
    ]


@pytest.mark.anyio
async def test_each_report_of_usage_replaces_the_one_before() -> None:
    async with open_gemini(
        sse(
            text("A", usageMetadata={"promptTokenCount": 9}),
            text("B", usageMetadata={"trafficType": "ON_DEMAND"}),
            text("C", finish="STOP", usageMetadata=SPENT),
            {"usageMetadata": {"trafficType": "ON_DEMAND"}},
        )
    ) as session:
        reply = await session.stream([]).collect()

    reports = [event for event in reply.events if isinstance(event, Usage)]
    assert reports == [Usage(input_tokens=9), Usage(input_tokens=3, output_tokens=5)]
    assert reply.usage is reports[-1]
    assert reports[-1].wire.usage_metadata == SPENT


@pytest.mark.anyio
async def test_an_answer_may_go_on_after_a_finish_reason() -> None:
    code: dict[str, Any] = {"executableCode": {"code": "1"}}
    result: dict[str, Any] = {"codeExecutionResult": {"output": "1"}}
    events = await read(
        chunk(code, finish="STOP"),
        chunk(result),
        text("One", finish="MAX_TOKENS"),
        {"candidates": [], "usageMetadata": SPENT},
    )

    assert events == [
        OtherPart(part=code),
        OtherPart(part=result),
        TextDelta(text="One"),
        Usage(input_tokens=3, output_tokens=5),
        Done(finish_reason="MAX_TOKENS"),
    ]


@pytest.mark.anyio
async def test_a_finish_reason_by_number_is_a_name_too() -> None:
    """Some clients ask the API for numbers, with `$alt=json;enum-encoding=int`."""
    assert await read(text("A", finish=1)) == [TextDelta(text="A"), Done(finish_reason="1")]


@pytest.mark.anyio
async def test_an_answer_that_was_stopped_has_no_content() -> None:
    stopped = {"candidates": [{"finishReason": "RECITATION", "finishMessage": "No."}]}
    events = await read(text("A"), stopped)

    assert events == [TextDelta(text="A"), Done(finish_reason="RECITATION")]
    assert events[-1].wire.candidates[0].model_extra == {"finishMessage": "No."}


@pytest.mark.anyio
async def test_a_prompt_that_was_blocked_has_an_answer_without_reason() -> None:
    feedback = {"blockReason": "SAFETY", "blockReasonMessage": "No."}
    events = await read({"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 9}})

    assert events == [Usage(input_tokens=9), Done()]
    assert events[-1].wire.prompt_feedback == feedback


@pytest.mark.anyio
async def test_nothing_is_waited_for_after_a_prompt_was_blocked() -> None:
    for end in (b"\n", b"\n\n" + sse(text("late"))):
        body = sse({"promptFeedback": {"blockReason": "OTHER"}}).rstrip() + end
        async with open_gemini(body) as session:
            assert (await session.stream([]).collect()).events == [Done()]


@pytest.mark.anyio
async def test_nulls_and_what_is_missing_or_new_are_tolerated() -> None:
    events = await read(
        {"candidates": None, "promptFeedback": None, "usageMetadata": None},
        {"promptFeedback": {"safetyRatings": []}},
        {"candidates": [{"content": None, "finishReason": None, "index": None}]},
        {"candidates": [{"content": {"parts": None}}, {"content": {"role": "model"}}]},
        {"candidates": [{"citationMetadata": {"citations": ["b"]}}], "createTime": "2026-01-01"},
        chunk({"text": None, "functionCall": None, "thoughtSignature": None}, {}),
        chunk({"text": "", "partMetadata": {}}, {"text": "A", "thought": None, "partMetadata": {}}),
        STOP,
    )

    assert events == [TextDelta(text="A"), Done(finish_reason="STOP")]


@pytest.mark.anyio
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
async def test_the_last_chunk_needs_no_blank_line(end: str) -> None:
    last = sse(text("B", finish="STOP")).rstrip() + end.encode()
    async with open_gemini(sse(text("A")), last) as session:
        reply = await session.stream([]).collect()

    assert (reply.text, reply.finish_reason) == ("AB", "STOP")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [text("A")],
        [call(name="plan", willContinue=True)],
        [text("A"), text("B", index=1), STOP],
        [{"usageMetadata": SPENT}],
        [{"this": [{"is": {"not": [{"a": "valid"}]}, "response": {}}]}],
    ],
)
async def test_a_clean_end_before_a_finish_reason_is_truncated(chunks: list[object]) -> None:
    for error in (await failure(*chunks), await array_failure(array(*chunks))):
        assert isinstance(error, StreamTruncated)
        assert not any(isinstance(event, Done | ToolCall) for event in error.events)


@pytest.mark.anyio
async def test_an_array_that_was_not_closed_is_truncated() -> None:
    error = await array_failure(array(text("A"), STOP).rstrip(b"\n]"))

    assert isinstance(error, StreamTruncated)
    assert error.partial.text == "A"
    assert not any(isinstance(event, Done) for event in error.events)


PRETTY = json.dumps({"error": FAILURE}, indent=2).encode()
COMPACT = json.dumps({"error": FAILURE}).encode()


@pytest.mark.anyio
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("reported", [b"data: " + COMPACT, COMPACT, PRETTY])
async def test_a_failure_within_the_stream_is_a_remote_error(reported: bytes, end: bytes) -> None:
    crlf = reported.replace(b"\n", b"\r\n") if b"\r" in end else reported
    error = await failure(text("A"), STOP, crlf + end)

    assert isinstance(error, RemoteError)
    assert (error.type, error.retryable) == ("UNAVAILABLE", True)
    assert (str(error), error.partial.text) == ("The model is overloaded.", "A")
    assert not any(isinstance(event, Done) for event in error.events)


@pytest.mark.anyio
async def test_a_failure_as_bare_json_is_known_wherever_it_is_cut() -> None:
    body = sse('{"candidates":[{"content":{"parts":[{"text":"A"}]}}]}') + b"{\n" + COMPACT[1:]
    splits = list(every_split(body))
    async with Gemini(transport=playing_each(splits), retry=ONCE) as session:
        for split in splits:
            error = await ending(session.stream([]))

            assert isinstance(error, RemoteError), split
            assert error.partial.text == "A"


@pytest.mark.anyio
async def test_a_failure_that_was_cut_itself_is_never_the_end() -> None:
    start = sse(text("A"), STOP)
    bodies = [[start, PRETTY[:cut]] for cut in range(1, len(PRETTY))]
    async with Gemini(transport=playing_each(bodies), retry=ONCE) as session:
        for _ in bodies:
            assert isinstance(await ending(session.stream([])), StreamTruncated)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "came"),
    [
        (array(text("A"), {"error": FAILURE}), "A"),
        (array({"error": FAILURE}), ""),
        (PRETTY, ""),
        (COMPACT + b"\n", ""),
    ],
)
async def test_a_failure_in_an_array_or_instead_of_it_is_a_remote_error(
    body: bytes, came: str
) -> None:
    error = await array_failure(body)

    assert isinstance(error, RemoteError)
    assert (error.type, str(error)) == ("UNAVAILABLE", "The model is overloaded.")
    assert error.partial.text == came


@pytest.mark.anyio
async def test_a_refused_request_has_the_error_of_its_status() -> None:
    body = b'{"error": {"code": 401, "message": "no key", "status": "UNAUTHENTICATED"}}'
    transport = httpx.MockTransport(mock_stream(body, status=401))
    async with Gemini(transport=transport, retry=ONCE) as session:
        error = await ending(session.stream([]))

    assert isinstance(error, AuthenticationError)
    assert "no key" in str(error)


@pytest.mark.anyio
async def test_an_array_is_no_event_stream() -> None:
    async with open_array(array(text("A"), STOP)) as session:
        assert isinstance(await ending(session.stream([])), UnexpectedContent)


@pytest.mark.anyio
async def test_a_chunk_of_the_wrong_shape_is_a_decode_error() -> None:
    for error in (
        await failure(text("A"), chunk({"text": 1}), STOP),
        await array_failure(array(text("A"), chunk({"text": 1}), STOP)),
    ):
        assert isinstance(error, DecodeError)
        assert "candidates.0.content.parts.0.text" in str(error)
        assert error.partial.text == "A"


@pytest.mark.anyio
async def test_the_part_is_reachable_from_its_event_and_the_chunk_from_the_others() -> None:
    events = await read(
        {**text("A"), "serviceTier": "flex"},
        chunk({"functionCall": {"name": "now"}, "partMetadata": {"n": 1}}),
        chunk(finish="STOP", usageMetadata=SPENT, serviceTier="slow"),
    )

    delta, start, made, usage, done = events
    assert isinstance(delta.wire, Part)
    assert start.wire is made.wire
    assert start.wire.model_extra == {"partMetadata": {"n": 1}}
    assert isinstance(done.wire, Chunk)
    assert usage.wire is done.wire
    assert done.wire.model_extra == {
        "modelVersion": "gemini", "responseId": "r1", "serviceTier": "slow"
    }  # fmt: skip


@pytest.mark.anyio
async def test_every_event_survives_json() -> None:
    async with open_gemini(FRAMINGS["sse"]) as session:
        events = (await session.stream([]).collect()).events
    adapter: TypeAdapter[GeminiEvent] = TypeAdapter(GeminiEvent)

    assert {type(event) for event in events} == {
        ReasoningDelta, TextDelta, ToolCallStart, ToolCall, Signature, OtherPart, Usage, Done
    }  # fmt: skip
    assert [adapter.validate_json(event.model_dump_json()) for event in events] == events


@pytest.mark.anyio
@ONE_LOOP
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_body_that_ends_at_any_byte_is_complete_or_truncated(framing: str) -> None:
    body = FRAMINGS[framing]
    whole, as_sse = await read_whole(), framing == "sse"
    async with open_each(framing, [[body[:cut]] for cut in range(len(body))]) as session:
        for cut in range(len(body)):
            stream = session.stream([], sse=as_sse)
            error = await ending(stream)

            if error is None:
                assert cut >= len(body.rstrip())
                assert stream.reply.events == whole
            else:
                assert isinstance(error, StreamTruncated), cut
                assert_kept(error, stream, whole)


@pytest.mark.anyio
@ONE_LOOP
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_body_that_breaks_off_at_any_byte_has_interrupted_the_stream(framing: str) -> None:
    body = FRAMINGS[framing]
    whole, as_sse = await read_whole(), framing == "sse"
    async with open_each(framing, [[body[:cut], HANG_UP] for cut in range(len(body))]) as session:
        for cut in range(len(body)):
            stream = session.stream([], sse=as_sse)
            error = await ending(stream)

            assert isinstance(error, StreamInterrupted), cut
            assert_kept(error, stream, whole)


def assert_kept(error: StreamError, stream: Stream[GeminiEvent], whole: list[GeminiEvent]) -> None:
    """Check that an error has all that came, and that the answer was not called complete."""
    came = stream.reply.events
    assert error.partial is stream.reply
    assert came == whole[: len(came)]
    assert not any(isinstance(event, Done) for event in came)


def test_the_event_type_is_inferred() -> None:
    session = Gemini(api_key=CANARY)

    assert_type(session.stream("Hi"), Stream[GeminiEvent])
    assert_type(session.stream([], model="m", sse=False), Stream[GeminiEvent])
