"""Cohere's Chat API: what each of its events becomes, and how a stream ends."""

import itertools
import json
from typing import Any, assert_type

import httpx
import pytest
from pydantic import JsonValue, TypeAdapter

from cohere import Change, Citation, Cohere, CohereEvent, End, ToolPlan
from offline import COHERE
from streamsession import (
    DecodeError,
    Done,
    NotFound,
    ReasoningDelta,
    RemoteError,
    Reply,
    RetryPolicy,
    Stream,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from streamsession.testing import (
    HANG_UP,
    ScriptedResponse,
    ScriptedServer,
    Step,
    mock_stream,
    sse,
    sse_event,
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
reply.finish_reason='TOOL_CALL'
"""


def wire_event(kind: str, index: Any = None, **data: Any) -> bytes:
    """An event as the API writes it."""
    place = {} if index is None else {"index": index}
    return sse_event({"type": kind, **place, **data}, event=kind)


def change(kind: str, index: int | None = None, **message: Any) -> bytes:
    return wire_event(kind, index, delta={"message": message})


def text(piece: str, index: int = 0) -> bytes:
    return change("content-delta", index, content={"text": piece})


def begin(index: int, call_id: str, name: str, arguments: str = "") -> bytes:
    function = {"name": name, "arguments": arguments}
    call = {"id": call_id, "type": "function", "function": function}
    return change("tool-call-start", index, tool_calls=call)


def arguments(index: int, piece: str) -> bytes:
    return change("tool-call-delta", index, tool_calls={"function": {"arguments": piece}})


def finish(index: int) -> bytes:
    return wire_event("tool-call-end", index)


def end(reason: str | None = "COMPLETE", **more: Any) -> bytes:
    return wire_event("message-end", delta={"finish_reason": reason, **more})


def usage(prompt: float | None, completion: float | None) -> dict[str, Any]:
    tokens = {"input_tokens": prompt, "output_tokens": completion}
    return {"billed_units": {"input_tokens": 1, "output_tokens": 2}, "tokens": tokens}


EMPTY: dict[str, Any] = {"content": [], "tool_plan": "", "tool_calls": [], "citations": []}
START = wire_event("message-start", id="m1", delta={"message": {"role": "assistant", **EMPTY}})
MARKER = sse("[DONE]")
SOURCES: list[JsonValue] = [{"type": "document", "id": "d1", "document": {"title": "Facts"}}]
CITED = {"start": 0, "end": 4, "text": "Ruby", "sources": SOURCES, "type": "TEXT_CONTENT"}
ANSWER = b"".join(
    [
        START,
        change("content-start", 0, content={"type": "thinking", "thinking": ""}),
        change("content-delta", 0, content={"thinking": "Hm."}),
        wire_event("content-end", 0),
        change("content-start", 1, content={"type": "text", "text": ""}),
        text("Grüße", 1),
        change("citation-start", 0, citations=CITED),
        wire_event("citation-end", 0),
        wire_event("content-end", 1),
        change("tool-plan-delta", tool_plan="I will look."),
        begin(0, "t1", "now"),
        arguments(0, '{"zone": "UTC"}'),
        finish(0),
        end("TOOL_CALL", usage=usage(3, 5)),
        MARKER,
    ]
)


def nameless(body: bytes) -> bytes:
    """The events without their names, which are in their data, too."""
    return b"".join(line for line in body.splitlines(keepends=True) if line[:5] != b"event")


def open_cohere(*steps: Any) -> Cohere:
    return Cohere(transport=playing(*steps), api_key=CANARY, retry=ONCE)


async def read(*events: bytes) -> Reply[CohereEvent]:
    """The reply that a stream of these events adds up to."""
    async with open_cohere(*events) as session:
        return await session.stream([], model="m").collect()


async def failure(*events: bytes) -> Any:
    """The error that a stream of these events ends with."""
    async with open_cohere(*events) as session:
        return await ending(session.stream([], model="m"))


def test_the_program_prints_the_answer_of_the_server_inside_it(programs: Programs) -> None:
    program = programs["cohere.py"]

    assert program.stdout == PRINTED
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_asks_the_server_in_the_environment(live: Live) -> None:
    with ScriptedServer(at_once(COHERE)) as server:
        named = {"COHERE_API_KEY": CANARY, "COHERE_MODEL": "m1"}
        printed = live("cohere.py", "Why?", COHERE_BASE_URL=server.url, **named)

    assert printed == PRINTED
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v2/chat")
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert request.json() == {
        "model": "m1",
        "messages": [{"role": "user", "content": "Why?"}],
        "stream": True,
    }


@pytest.mark.anyio
async def test_options_go_into_the_request() -> None:
    answer = mock_stream(ANSWER)
    async with Cohere(transport=httpx.MockTransport(answer)) as session:
        await session.stream([], model="m", documents=["Facts"], k=1).collect()

    body = json.loads(answer.requests[0].content)
    assert (body["documents"], body["k"]) == (["Facts"], 1)


@pytest.mark.anyio
async def test_text_comes_in_pieces_and_empty_ones_are_no_events() -> None:
    first = change("content-start", 0, content={"type": "text", "text": ""})
    reply = await read(START, first, text("Hel"), text(""), text("lo"), end(), MARKER)

    assert reply.events == [
        TextDelta(text="Hel"),
        TextDelta(text="lo"),
        Done(finish_reason="COMPLETE"),
    ]


@pytest.mark.anyio
async def test_a_block_may_begin_with_text() -> None:
    first = change("content-start", 0, content={"type": "text", "text": "Hel"})
    reply = await read(START, first, text("lo"), end())

    assert reply.text == "Hello"


@pytest.mark.anyio
async def test_thinking_is_reasoning() -> None:
    pieces = (change("content-delta", 0, content={"thinking": piece}) for piece in ("H", "m."))
    reply = await read(START, *pieces, text("Yes", 1), end())

    assert (reply.reasoning, reply.text) == ("Hm.", "Yes")
    assert reply.events[:2] == [ReasoningDelta(text="H"), ReasoningDelta(text="m.")]


@pytest.mark.anyio
async def test_the_tool_plan_is_neither_text_nor_reasoning() -> None:
    pieces = (change("tool-plan-delta", tool_plan=piece) for piece in ("I ", "will."))
    reply = await read(START, *pieces, end("TOOL_CALL"))

    assert (reply.reasoning, reply.text) == ("", "")
    assert reply.events[:-1] == [ToolPlan(tool_plan="I "), ToolPlan(tool_plan="will.")]


@pytest.mark.anyio
async def test_a_tool_call_is_assembled_and_finished_before_the_next() -> None:
    reply = await read(
        START,
        begin(0, "t1", "now"),
        arguments(0, '{"zone": '),
        arguments(0, '"UTC"}'),
        finish(0),
        begin(1, "t2", "sum"),
        finish(1),
        end("TOOL_CALL"),
    )

    raw = '{"zone": "UTC"}'
    assert reply.events == [
        ToolCallStart(id="t1", name="now"),
        ToolCallDelta(id="t1", arguments='{"zone": '),
        ToolCallDelta(id="t1", arguments='"UTC"}'),
        ToolCall(id="t1", name="now", arguments={"zone": "UTC"}, raw_arguments=raw),
        ToolCallStart(id="t2", name="sum"),
        ToolCall(id="t2", name="sum", arguments={}, raw_arguments=""),
        Done(finish_reason="TOOL_CALL"),
    ]


@pytest.mark.anyio
async def test_a_tool_call_may_begin_with_its_arguments() -> None:
    reply = await read(
        START, begin(0, "t1", "now", '{"a": '), arguments(0, "1}"), finish(0), end("TOOL_CALL")
    )

    assert [call.arguments for call in reply.tool_calls] == [{"a": 1}]


@pytest.mark.anyio
async def test_a_tool_call_cut_off_by_max_tokens_has_no_arguments() -> None:
    reply = await read(START, begin(0, "t1", "now"), arguments(0, '{"zone": "U'), end("MAX_TOKENS"))

    (call,) = reply.tool_calls
    assert (call.arguments, call.raw_arguments) == (None, '{"zone": "U')
    assert reply.finish_reason == "MAX_TOKENS"


@pytest.mark.anyio
async def test_a_citation_names_a_part_of_the_text_and_its_sources() -> None:
    reply = await read(
        START,
        text("Ruby is fun."),
        change("citation-start", 0, citations=CITED),
        wire_event("citation-end", 0),
        end(),
    )

    citation = reply.events[1]
    assert citation == Citation(start=0, end=4, sources=SOURCES)
    assert isinstance(citation, Citation)
    assert reply.text[citation.start : citation.end] == "Ruby"
    assert citation.wire.citation["type"] == "TEXT_CONTENT"


@pytest.mark.anyio
async def test_a_citation_may_leave_out_what_it_does_not_know() -> None:
    reply = await read(START, change("citation-start", 0, citations={"sources": None}), end())

    assert reply.events[:-1] == [Citation(sources=[])]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reported", "spent"),
    [
        (usage(3, 5), Usage(input_tokens=3, output_tokens=5)),
        (usage(3.0, 5.0), Usage(input_tokens=3, output_tokens=5)),
        (usage(3, None), Usage(input_tokens=3)),
        ({"billed_units": {"input_tokens": 1, "output_tokens": 2}, "tokens": None}, None),
        ({}, None),
        (None, None),
    ],
)
async def test_usage_counts_tokens_not_billed_units(reported: object, spent: Usage | None) -> None:
    reply = await read(START, text("A"), end(usage=reported))

    assert reply.usage == spent


@pytest.mark.anyio
async def test_a_generation_that_failed_is_a_remote_error_with_what_had_come() -> None:
    said = "your request resulted in an invalid tool generation"
    kind = "INVALID_TOOL_GENERATION"
    plan = change("tool-plan-delta", tool_plan="I will.")
    error = await failure(START, plan, end("ERROR", usage={}, error=said, error_type=kind), MARKER)

    assert isinstance(error, RemoteError)
    assert (error.type, error.retryable, str(error)) == ("ERROR", False, said)
    assert error.data["error_type"] == kind
    assert error.events == [ToolPlan(tool_plan="I will.")]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("last", "kind", "message"),
    [
        (end("ERROR"), "ERROR", "the generation failed"),
        (end("TIMEOUT", error=None, usage=usage(3, 5)), "TIMEOUT", "the generation failed"),
        (end(None, error="too long"), "", "too long"),
        (sse_event({"error": {"message": "no", "type": "internal"}}), "internal", "no"),
    ],
)
async def test_a_failure_is_known_by_each_of_its_signs(
    last: bytes, kind: str, message: str
) -> None:
    error = await failure(START, text("A"), last, MARKER)

    assert isinstance(error, RemoteError)
    assert (error.type, str(error), error.partial.text) == (kind, message, "A")


@pytest.mark.anyio
async def test_a_timeout_before_the_first_event_is_tried_again() -> None:
    slow = ScriptedResponse([START, end("TIMEOUT", usage=usage(3, 0)), MARKER])
    async with ScriptedServer(slow, at_once(COHERE)) as server:
        policy = RetryPolicy(base_delay=0)
        async with Cohere(base_url=server.url, retry=policy) as session:
            stream = session.stream([], model="m")
            reply = await stream.collect()

    assert reply.text == "Let me look."
    assert stream.stats.attempts == 2


@pytest.mark.anyio
async def test_a_refusal_is_the_error_of_its_status() -> None:
    refusal = ScriptedResponse.json({"id": "r1", "message": "model 'm' not found"}, status=404)
    async with ScriptedServer(refusal) as server, Cohere(base_url=server.url) as session:
        error = await ending(session.stream([], model="m"))

    assert isinstance(error, NotFound)
    assert "model 'm' not found" in str(error)


@pytest.mark.anyio
async def test_the_marker_may_be_missing() -> None:
    assert (await read(ANSWER.removesuffix(MARKER))).events == (await read(ANSWER)).events


@pytest.mark.anyio
@pytest.mark.parametrize("last", [None, {"finish_reason": None, "error": None}])
async def test_an_end_without_a_reason_is_complete(last: object) -> None:
    reply = await read(START, text("A"), wire_event("message-end", id=None, delta=last))

    assert reply.complete
    assert reply.events == [TextDelta(text="A"), Done(finish_reason=None)]


@pytest.mark.anyio
async def test_events_without_a_name_are_known_by_their_type() -> None:
    assert (await read(nameless(ANSWER))).events == (await read(ANSWER)).events


@pytest.mark.anyio
async def test_unknown_events_blocks_and_nulls_are_tolerated() -> None:
    async with open_cohere(
        START,
        wire_event("debug", prompt="of another shape", index="x"),
        change("content-start", 0, content={"type": "hologram", "light": [1]}),
        change("content-delta", 0, content=None),
        wire_event("content-delta", 0, delta=None),
        change("tool-call-delta", 7, tool_calls={"function": {"arguments": "{}"}}),
        finish(7),
        text("Hello", 1),
        end(),
    ) as session:
        stream = session.stream([], model="m")
        reply = await stream.collect()

    assert reply.events == [TextDelta(text="Hello"), Done(finish_reason="COMPLETE")]
    assert stream.stats.unknown_events == 1


@pytest.mark.anyio
@pytest.mark.parametrize("wrong", [sse("[1]"), change("content-delta", 0, content={"text": 1})])
async def test_an_event_of_the_wrong_shape_is_a_decode_error(wrong: bytes) -> None:
    error = await failure(START, text("A"), wrong, end())

    assert isinstance(error, DecodeError)
    assert error.partial.text == "A"


@pytest.mark.anyio
async def test_the_wire_is_reachable_from_an_event() -> None:
    logged = {"delta": {"message": {"content": {"text": "A"}}}, "logprobs": {"text": "A"}}
    reply = await read(START, wire_event("content-delta", 0, **logged), end(usage=usage(3, 5)))

    first, _, done = reply.events
    assert isinstance(first, TextDelta)
    assert isinstance(first.wire, Change)
    assert first.wire.model_extra == {"logprobs": {"text": "A"}}
    assert isinstance(done, Done)
    assert isinstance(done.wire, End)
    assert done.wire.usage == usage(3, 5)


@pytest.mark.anyio
async def test_every_event_survives_json() -> None:
    events = (await read(ANSWER)).events
    adapter: TypeAdapter[CohereEvent] = TypeAdapter(CohereEvent)

    assert [adapter.validate_json(event.model_dump_json()) for event in events] == events


@pytest.mark.anyio
@ONE_LOOP
async def test_cut_at_every_byte_it_ends_complete_or_with_a_named_error() -> None:
    call = change("tool-call-start", tool_calls={"id": "t1"}) + wire_event("tool-call-end")
    body = nameless(text("ü") + call + end())
    whole = (await read(body)).events
    ends: list[tuple[list[Step], type[StreamError]]]
    ends = [([], StreamTruncated), ([HANG_UP], StreamInterrupted)]
    cuts = list(itertools.product(range(len(body)), ends))
    bodies = ([body[:cut], *last] for cut, (last, _) in cuts)
    async with Cohere(transport=playing_each(bodies), retry=ONCE) as session:
        for cut, (last, named) in cuts:
            stream = session.stream([], model="m")
            error = await ending(stream)

            came = stream.reply.events
            assert came == whole[: len(came)], cut
            if error is None:
                assert not last
                assert cut >= len(body) - 2  # the final event without its blank line
                assert came == whole
            else:
                assert isinstance(error, named), cut
                assert error.partial is stream.reply


def test_the_event_type_is_inferred() -> None:
    session = Cohere(api_key=CANARY)

    assert_type(session.stream([], model="m"), Stream[CohereEvent])
