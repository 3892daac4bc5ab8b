"""Mistral's Chat Completions: what each kind of chunk becomes, and how a stream ends."""

import itertools
import json
from typing import Any, assert_type

import httpx
import pytest
from pydantic import TypeAdapter

from mistral import Chunk, Mistral, MistralEvent, Reference
from offline import MISTRAL
from streamsession import (
    DecodeError,
    Done,
    RateLimited,
    ReasoningDelta,
    RemoteError,
    Reply,
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
reply.finish_reason='tool_calls'
"""


def chunk(delta: object = None, *, index: int = 0, finish: str | None = None, **more: Any) -> Any:
    """A chunk with a piece of one choice, padded as the API pads it."""
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "choices": [choice], "p": "ab", **more}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def thinking(*parts: object, **more: object) -> dict[str, Any]:
    return {"type": "thinking", "thinking": list(parts), **more}


def fragment(name: str, arguments: object, **more: object) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **more}


def calling(*fragments: object, finish: str | None = None) -> Any:
    """A chunk with tool calls, or with pieces of them."""
    return chunk({"content": None, "tool_calls": list(fragments)}, finish=finish)


EMPTY: dict[str, Any] = {"type": "reference", "reference_ids": []}
SPENT = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
STOP = chunk({"content": ""}, finish="stop")
CALLED = chunk({"content": ""}, finish="tool_calls")
LAST = {**calling(fragment("now", "{}", id="t1", index=0), finish="tool_calls"), "usage": SPENT}
ANSWER = sse(
    chunk({"content": [thinking(text("Hm."))]}),
    chunk({"content": [text("Grü"), {"type": "reference", "reference_ids": [1, "b"]}]}),
    chunk({"content": "ße"}),
    LAST,
    "[DONE]",
)


def open_mistral(*steps: Any) -> Mistral:
    return Mistral(transport=playing(*steps), api_key=CANARY, retry=ONCE)


async def read(*chunks: object) -> Reply[MistralEvent]:
    """The reply that these chunks add up to."""
    async with open_mistral(sse(*chunks)) as session:
        return await session.stream([], model="m").collect()


async def failure(*chunks: object) -> Any:
    """The error that a stream of these chunks ends with."""
    async with open_mistral(sse(*chunks)) as session:
        return await ending(session.stream([], model="m"))


def test_the_program_prints_the_answer_of_the_server_inside_it(programs: Programs) -> None:
    program = programs["mistral.py"]

    assert program.stdout == PRINTED
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_asks_the_server_in_the_environment(live: Live) -> None:
    with ScriptedServer(at_once(MISTRAL)) as server:
        named = {"MISTRAL_API_KEY": CANARY, "MISTRAL_MODEL": "m1"}
        printed = live("mistral.py", "Why?", MISTRAL_BASE_URL=server.url, **named)

    assert printed == PRINTED
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert request.json() == {
        "model": "m1",
        "messages": [{"role": "user", "content": "Why?"}],
        "stream": True,
    }


@pytest.mark.anyio
async def test_options_go_into_the_request() -> None:
    answer = mock_stream(ANSWER)
    async with Mistral(transport=httpx.MockTransport(answer)) as session:
        await session.stream([], model="m", n=2, reasoning_effort="high").collect()

    body = json.loads(answer.requests[0].content)
    assert (body["n"], body["reasoning_effort"]) == (2, "high")


@pytest.mark.anyio
async def test_text_comes_in_pieces_and_empty_ones_are_no_events() -> None:
    reply = await read(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": None}),
        chunk({"content": [text("lo"), text("")]}),
        STOP,
        "[DONE]",
    )

    assert reply.events == [TextDelta(text="Hel"), TextDelta(text="lo"), Done(finish_reason="stop")]


@pytest.mark.anyio
async def test_thoughts_among_the_content_are_reasoning() -> None:
    reply = await read(
        chunk({"content": [thinking(text("H"))]}),
        chunk({"content": [thinking(text("m"), text("."), closed=True), text("Yes")]}),
        STOP,
        "[DONE]",
    )

    assert (reply.reasoning, reply.text) == ("Hm.", "Yes")
    assert reply.events[0] == ReasoningDelta(text="H")


@pytest.mark.anyio
async def test_references_are_events_of_their_own_and_empty_ones_none() -> None:
    reply = await read(
        chunk({"content": [text("So"), {"type": "reference", "reference_ids": [1, "b"]}]}),
        chunk({"content": [EMPTY]}),
        STOP,
        "[DONE]",
    )

    assert reply.text == "So"
    assert reply.events[1:] == [Reference(reference_ids=[1, "b"]), Done(finish_reason="stop")]


@pytest.mark.anyio
@pytest.mark.parametrize("indexes", [({}, {}), ({"index": 0}, {"index": 0}), ({}, {"index": 1})])
async def test_whole_calls_in_one_chunk_are_kept_apart(indexes: tuple[Any, Any]) -> None:
    one, two = indexes
    reply = await read(
        calling(
            fragment("now", "{}", id="t1", **one),
            fragment("sum", '{"of": [1]}', id="t2", **two),
            finish="tool_calls",
        ),
        "[DONE]",
    )

    assert reply.events == [
        ToolCallStart(id="t1", name="now"),
        ToolCallDelta(id="t1", arguments="{}"),
        ToolCallStart(id="t2", name="sum"),
        ToolCallDelta(id="t2", arguments='{"of": [1]}'),
        ToolCall(id="t1", name="now", arguments={}, raw_arguments="{}"),
        ToolCall(id="t2", name="sum", arguments={"of": [1]}, raw_arguments='{"of": [1]}'),
        Done(finish_reason="tool_calls"),
    ]


@pytest.mark.anyio
async def test_whole_calls_in_one_chunk_are_kept_apart_without_ids() -> None:
    reply = await read(calling(fragment("now", "{}"), fragment("sum", '{"a": 1}')), CALLED)

    calls = [(call.id, call.name, call.arguments) for call in reply.tool_calls]
    assert calls == [("", "now", {}), ("", "sum", {"a": 1})]


@pytest.mark.anyio
async def test_whole_calls_in_chunks_of_their_own_are_kept_apart() -> None:
    one, two = fragment("now", '{"a": 1}', id="t1"), fragment("now", '{"b": 2}', id="t2")
    reply = await read(calling(one), calling(two), CALLED)

    calls = [(call.id, call.arguments) for call in reply.tool_calls]
    assert calls == [("t1", {"a": 1}), ("t2", {"b": 2})]


@pytest.mark.anyio
@pytest.mark.parametrize("unnamed", [{}, {"id": None}, {"id": "null"}, {"id": "t1"}])
async def test_a_call_goes_on_in_fragments_without_an_id_of_their_own(unnamed: Any) -> None:
    reply = await read(
        calling(fragment("read", "", id="t1", index=0)),
        calling(fragment("", '{"path": ', index=0, **unnamed)),
        calling(fragment("", '"a.py"}', index=0, **unnamed)),
        CALLED,
        "[DONE]",
    )

    raw = '{"path": "a.py"}'
    call = ToolCall(id="t1", name="read", arguments={"path": "a.py"}, raw_arguments=raw)
    assert reply.tool_calls == [call]
    assert reply.events[:2] == [
        ToolCallStart(id="t1", name="read"),
        ToolCallDelta(id="t1", arguments='{"path": '),
    ]


@pytest.mark.anyio
async def test_fragments_of_several_calls_go_by_their_index() -> None:
    reply = await read(
        calling(fragment("now", '{"a": ', id="t1", index=0)),
        calling(fragment("sum", '{"b": ', id="t2", index=1)),
        calling(fragment("", "1}", id="null", index=0), fragment("", "2}", id="null", index=1)),
        CALLED,
        "[DONE]",
    )

    calls = [(call.id, call.arguments) for call in reply.tool_calls]
    assert calls == [("t1", {"a": 1}), ("t2", {"b": 2})]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("given", "arguments"),
    [({"a": 1}, {"a": 1}), ("", {}), (None, {}), ('{"a": ', None), ("[1]", None)],
)
async def test_arguments_may_be_an_object_missing_or_cut(
    given: object, arguments: dict[str, Any] | None
) -> None:
    reply = await read(calling(fragment("now", given, id="t1"), finish="length"), "[DONE]")

    assert [call.arguments for call in reply.tool_calls] == [arguments]
    assert reply.finish_reason == "length"


@pytest.mark.anyio
async def test_choices_are_kept_apart() -> None:
    two = calling(fragment("now", "{}", id="t1"), finish="tool_calls")
    two["choices"][0]["index"] = 1
    reply = await read(
        chunk({"content": "A"}),
        chunk({"content": [thinking(text("Hm."))]}, index=1),
        two,
        chunk({"content": "a"}, finish="length"),
        "[DONE]",
    )

    assert (reply.text, reply.reasoning, reply.finish_reason) == ("Aa", "", "length")
    assert reply.events[-3:] == [
        Done(finish_reason="length"),
        ToolCall(id="t1", name="now", arguments={}, raw_arguments="{}", choice=1),
        Done(finish_reason="tool_calls", choice=1),
    ]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "chunks",
    [
        [chunk({"content": "A"}, usage=None), {**STOP, "usage": SPENT}],
        [chunk({"content": "A"}), STOP, {"choices": [], "usage": SPENT}],
        [{**STOP, "choices": None, "usage": {"prompt_tokens": 3}}, {**STOP, "usage": SPENT}],
    ],
)
async def test_usage_is_the_last_that_is_reported(chunks: list[object]) -> None:
    assert (await read(*chunks, "[DONE]")).usage == Usage(input_tokens=3, output_tokens=5)


@pytest.mark.anyio
async def test_null_choices_null_deltas_and_other_parts_are_tolerated() -> None:
    reply = await read(
        {"object": "chat.completion.chunk", "choices": None},
        {},
        chunk(None),
        chunk({"content": [{"type": "hologram", "light": [1]}, thinking({"type": "hologram"})]}),
        chunk({"content": "A", "tool_calls": None, "metadata": {}, "index": 0}),
        STOP,
        "[DONE]",
    )

    assert reply.events == [TextDelta(text="A"), Done(finish_reason="stop")]


@pytest.mark.anyio
async def test_a_marker_without_a_finish_reason_is_complete() -> None:
    reply = await read(calling(fragment("now", "{}", id="t1")), "[DONE]")

    call = ToolCall(id="t1", name="now", arguments={}, raw_arguments="{}")
    assert reply.events[2:] == [call, Done(finish_reason=None)]


@pytest.mark.anyio
async def test_a_clean_end_after_every_finish_reason_is_complete() -> None:
    assert (await read(chunk({"content": "A"}), STOP)).events[-1] == Done(finish_reason="stop")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [chunk({"content": "A"})],
        [chunk({"content": "A"}), chunk({"content": "B"}, index=1), STOP],
        [calling(fragment("now", "{}", id="t1"))],
    ],
)
async def test_a_clean_end_before_a_finish_reason_is_truncated(chunks: list[object]) -> None:
    error = await failure(*chunks)

    assert isinstance(error, StreamTruncated)
    assert not any(isinstance(event, Done | ToolCall) for event in error.events)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reported", "kind", "message"),
    [
        (
            {"object": "error", "message": "Unavailable", "type": "unreachable_backend", "code": 1},
            "unreachable_backend",
            "Unavailable",
        ),
        ({"error": {"message": "Unavailable", "type": "internal"}}, "internal", "Unavailable"),
        (chunk({"content": ""}, finish="error"), "error", "the model failed"),
    ],
)
async def test_a_failure_within_the_stream_is_a_remote_error(
    reported: Any, kind: str, message: str
) -> None:
    error = await failure(chunk({"content": "A"}), reported, "[DONE]")

    assert isinstance(error, RemoteError)
    assert (error.type, str(error), error.partial.text) == (kind, message, "A")
    assert error.data == reported


@pytest.mark.anyio
async def test_a_refusal_is_the_error_of_its_status() -> None:
    body = {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited"}
    refusal = ScriptedResponse.json(body, status=429)
    async with (
        ScriptedServer(refusal) as server,
        Mistral(base_url=server.url, retry=ONCE) as session,
    ):
        error = await ending(session.stream([], model="m"))

    assert isinstance(error, RateLimited)
    assert "Rate limit exceeded" in str(error)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (chunk({"content": 1}), "choices.0.delta.content"),
        (chunk({"content": [text("A"), {"text": 1}]}), "choices.0.delta.content"),
        ("[1]", ""),
    ],
)
async def test_a_chunk_of_the_wrong_shape_is_a_decode_error(wrong: object, field: str) -> None:
    error = await failure(chunk({"content": "A"}), wrong, STOP, "[DONE]")

    assert isinstance(error, DecodeError)
    assert field in str(error)
    assert error.partial.text == "A"


@pytest.mark.anyio
async def test_the_chunk_is_reachable_from_its_event() -> None:
    reply = await read(ANSWER)

    assert {type(event.wire) for event in reply.events} == {Chunk}
    assert [event.wire.model_extra["p"] for event in reply.events] == ["ab"] * len(reply.events)


@pytest.mark.anyio
async def test_every_event_survives_json() -> None:
    events = (await read(ANSWER)).events
    adapter: TypeAdapter[MistralEvent] = TypeAdapter(MistralEvent)

    assert [adapter.validate_json(event.model_dump_json()) for event in events] == events


@pytest.mark.anyio
@ONE_LOOP
async def test_cut_at_every_byte_it_ends_complete_or_with_a_named_error() -> None:
    body = sse('{"choices":[{"delta":{"content":"ü"}}]}', {"choices": LAST["choices"]}, "[DONE]")
    whole = (await read(body)).events
    after_reason = body.index(b"data: [DONE]")
    ends: list[tuple[list[Step], type[StreamError]]]
    ends = [([], StreamTruncated), ([HANG_UP], StreamInterrupted)]
    cuts = list(itertools.product(range(len(body)), ends))
    bodies = ([body[:cut], *last] for cut, (last, _) in cuts)
    async with Mistral(transport=playing_each(bodies), retry=ONCE) as session:
        for cut, (last, named) in cuts:
            stream = session.stream([], model="m")
            error = await ending(stream)

            came = stream.reply.events
            assert came == whole[: len(came)], cut
            if error is None:
                assert not last
                assert cut >= after_reason - len("\n\n")
                assert came == whole
            else:
                assert isinstance(error, named), cut
                assert error.partial is stream.reply
                assert not any(isinstance(event, Done | ToolCall) for event in came)


def test_the_event_type_is_inferred() -> None:
    session = Mistral(api_key=CANARY)

    assert_type(session.stream([], model="m"), Stream[MistralEvent])
