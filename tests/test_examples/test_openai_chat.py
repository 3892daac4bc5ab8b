"""Chat Completions of any server: what each kind of chunk becomes, and how a stream ends."""

import json
from collections.abc import Iterator
from typing import Any, assert_type

import httpx
import pytest
from pydantic import TypeAdapter

from offline import OPENAI_CHAT
from openai_chat import ChatEvent, Chunk, OpenAIChat, Refusal
from streamsession import (
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
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from streamsession.testing import (
    HANG_UP,
    ScriptedResponse,
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
reply.finish_reason='tool_calls'
"""


def chunk(delta: object = None, *, index: int = 0, finish: str | None = None, **more: Any) -> Any:
    """A chunk with a piece of one choice."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "choices": [choice], **more}


def tool(index: int | None, arguments: str | None, **first: str) -> Any:
    """A chunk with a fragment of a tool call; `first` has its id and name."""
    function: dict[str, Any] = {"arguments": arguments}
    fragment: dict[str, Any] = {"function": function}
    if index is not None:
        fragment["index"] = index
    if first:
        function["name"] = first["name"]
        fragment |= {"id": first["id"], "type": "function"}
    return chunk({"tool_calls": [fragment]})


STOP = chunk({}, finish="stop")
ANSWER = sse(
    '{"choices":[{"delta":{"reasoning":"Hm."}}]}',
    '{"choices":[{"delta":{"content":"Grüße"}}]}',
    '{"choices":[{"delta":{"tool_calls":[{"id":"t1","function":{"name":"now"}}]}}]}',
    '{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{}"}}]}}]}',
    '{"choices":[{"finish_reason":"tool_calls"}]}',
    '{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}',
    "[DONE]",
)


def open_chat(*steps: Any) -> OpenAIChat:
    return OpenAIChat(transport=playing(*steps), api_key=CANARY, retry=ONCE)


async def read(*chunks: object) -> list[ChatEvent]:
    """The events in a stream of these chunks."""
    async with open_chat(sse(*chunks)) as session:
        reply = await session.stream([], model="m").collect()
    return reply.events


async def failure(*chunks: object) -> Any:
    """The error that a stream of these chunks ends with."""
    async with open_chat(sse(*chunks)) as session:
        return await ending(session.stream([], model="m"))


def test_the_program_prints_the_answer_of_the_server_inside_it(programs: Programs) -> None:
    program = programs["openai_chat.py"]

    assert program.stdout == PRINTED
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_asks_the_server_in_the_environment(live: Live) -> None:
    with ScriptedServer(at_once(OPENAI_CHAT)) as server:
        url = f"{server.url}/v1"
        named = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": CANARY, "OPENAI_MODEL": "m1"}
        printed = live("openai_chat.py", "Why?", **named)

    assert printed == PRINTED
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert request.json() == {
        "model": "m1",
        "messages": [{"role": "user", "content": "Why?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.anyio
async def test_options_go_into_the_request() -> None:
    answer = mock_stream(ANSWER)
    async with OpenAIChat(transport=httpx.MockTransport(answer)) as session:
        await session.stream([], model="m", n=2, stream_options={}).collect()

    body = json.loads(answer.requests[0].content)
    assert (body["n"], body["stream_options"]) == (2, {})


@pytest.mark.anyio
async def test_text_comes_in_pieces_and_empty_ones_are_no_events() -> None:
    events = await read(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": None}),
        chunk({"content": "lo"}),
        STOP,
        "[DONE]",
    )

    assert events == [TextDelta(text="Hel"), TextDelta(text="lo"), Done(finish_reason="stop")]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "Hm."},
        {"reasoning": "Hm."},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"reasoning_content": "Hm.", "reasoning": "Hm."},
        {"reasoning_content": None, "reasoning": "Hm.", "reasoning_details": []},
    ],
)
async def test_reasoning_is_known_by_each_of_its_names_and_comes_once(delta: object) -> None:
    events = await read(chunk(delta), STOP, "[DONE]")

    assert events[:-1] == [ReasoningDelta(text="Hm.")]


@pytest.mark.anyio
async def test_tool_calls_are_assembled_by_index() -> None:
    events = await read(
        tool(0, "", id="t1", name="now"),
        tool(1, None, id="t2", name="sum"),
        tool(1, '{"of": '),
        tool(0, "{}"),
        tool(1, "[1, 2]}"),
        tool(1, None),
        chunk({}, finish="tool_calls"),
        "[DONE]",
    )

    assert events == [
        ToolCallStart(id="t1", name="now"),
        ToolCallStart(id="t2", name="sum"),
        ToolCallDelta(id="t2", arguments='{"of": '),
        ToolCallDelta(id="t1", arguments="{}"),
        ToolCallDelta(id="t2", arguments="[1, 2]}"),
        ToolCall(id="t1", name="now", arguments={}, raw_arguments="{}"),
        ToolCall(id="t2", name="sum", arguments={"of": [1, 2]}, raw_arguments='{"of": [1, 2]}'),
        Done(finish_reason="tool_calls"),
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("index", [0, None])
async def test_another_id_at_the_same_index_is_another_call(index: int | None) -> None:
    events = await read(
        tool(index, '{"a": 1}', id="t1", name="one"),
        tool(index, '{"b": ', id="t2", name="two"),
        tool(index, "2}"),
        chunk({}, finish="tool_calls"),
        "[DONE]",
    )

    calls = [event for event in events if isinstance(event, ToolCall)]
    assert [(call.id, call.arguments) for call in calls] == [("t1", {"a": 1}), ("t2", {"b": 2})]


@pytest.mark.anyio
@pytest.mark.parametrize(("raw", "arguments"), [('{"a": ', None), ("", {}), ("[1]", None)])
async def test_arguments_that_are_no_object_are_none(
    raw: str, arguments: dict[str, Any] | None
) -> None:
    events = await read(tool(0, raw, id="t1", name="now"), chunk({}, finish="length"), "[DONE]")

    call = ToolCall(id="t1", name="now", arguments=arguments, raw_arguments=raw)
    assert events[-2:] == [call, Done(finish_reason="length")]


@pytest.mark.anyio
async def test_choices_are_kept_apart() -> None:
    two = tool(0, "{}", id="t1", name="now")
    two["choices"][0]["index"] = 1
    async with open_chat(
        sse(
            chunk({"content": "A"}),
            chunk({"content": "B"}, index=1),
            chunk({"content": "a"}),
            two,
            chunk({}, index=1, finish="length"),
            chunk({}, finish="stop"),
            "[DONE]",
        )
    ) as session:
        reply = await session.stream([], model="m", n=2).collect()

    assert reply.text == "Aa"
    assert reply.finish_reason == "stop"
    assert reply.events[-3:] == [
        Done(finish_reason="stop"),
        ToolCall(id="t1", name="now", arguments={}, raw_arguments="{}", choice=1),
        Done(finish_reason="length", choice=1),
    ]


@pytest.mark.anyio
async def test_a_refusal_is_no_text() -> None:
    async with open_chat(
        sse(chunk({"refusal": "I "}), chunk({"refusal": "won't."}), STOP, "[DONE]")
    ) as session:
        reply = await session.stream([], model="m").collect()

    assert reply.text == ""
    assert reply.events[:-1] == [Refusal(refusal="I "), Refusal(refusal="won't.")]


SPENT = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "chunks",
    [
        [chunk({"content": "A"}, usage=None), STOP, {"choices": [], "usage": SPENT}],
        [chunk({"content": "A"}), {**STOP, "usage": SPENT}],
        [chunk({"content": "A"}), STOP, chunk({"content": ""}, usage=SPENT)],
        [chunk({"content": "A"}), {**STOP, "x_groq": {"id": "r1", "usage": SPENT}}],
        [chunk({"content": "A"}), {**STOP, "usage": SPENT, "x_groq": {"id": "r1"}}],
        [{**STOP, "choices": None, "usage": {"prompt_tokens": 3}}, {**STOP, "usage": SPENT}],
    ],
)
async def test_usage_is_found_wherever_it_is(chunks: list[object]) -> None:
    async with open_chat(sse(*chunks, "[DONE]")) as session:
        reply = await session.stream([], model="m").collect()

    assert reply.usage == Usage(input_tokens=3, output_tokens=5)
    assert reply.finish_reason == "stop"


@pytest.mark.anyio
async def test_null_choices_null_deltas_and_other_objects_are_tolerated() -> None:
    events = await read(
        {"object": "", "choices": None, "prompt_filter_results": []},
        {"object": "chat.completion.chunk"},
        chunk(None),
        chunk({"content": "A", "tool_calls": None, "annotations": []}),
        {**STOP, "object": "chat.completion.done"},
        "[DONE]",
    )

    assert events == [TextDelta(text="A"), Done(finish_reason="stop")]


@pytest.mark.anyio
async def test_done_without_a_finish_reason_is_complete() -> None:
    assert await read(chunk({"content": "A"}), "[DONE]") == [
        TextDelta(text="A"),
        Done(finish_reason=None),
    ]


@pytest.mark.anyio
async def test_done_without_a_finish_reason_proves_the_tool_calls() -> None:
    events = await read(tool(0, "{}", id="t1", name="now"), "[DONE]")

    call = ToolCall(id="t1", name="now", arguments={}, raw_arguments="{}")
    assert events[2:] == [call, Done()]


@pytest.mark.anyio
async def test_a_clean_end_after_every_finish_reason_is_complete() -> None:
    events = await read(chunk({"content": "A"}), STOP, chunk({}, usage=SPENT))

    assert events[-1] == Done(finish_reason="stop")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [chunk({"content": "A"})],
        [chunk({"content": "A"}), chunk({"content": "B"}, index=1), STOP],
        [{"choices": [], "usage": SPENT}],
    ],
)
async def test_a_clean_end_before_a_finish_reason_is_truncated(chunks: list[object]) -> None:
    error = await failure(*chunks)

    assert isinstance(error, StreamTruncated)
    assert not any(isinstance(event, Done | ToolCall) for event in error.events)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "reported",
    [
        sse({"error": {"message": "too long", "type": "invalid_request_error", "code": 400}}),
        sse({**chunk({"content": ""}, finish="error"), "error": {"message": "too long"}}),
        b'event: error\ndata: {"error": {"message": "too long"}}\n\n',
        b'error: {"code": 400, "message": "too long", "type": "exceed_context_size_error"}\n\n',
        b'error:{"message": "too long"}\r\n\r\n',
    ],
)
async def test_a_failure_within_the_stream_is_a_remote_error(reported: bytes) -> None:
    error = await failure(chunk({"content": "A"}), reported, "[DONE]")

    assert isinstance(error, RemoteError)
    assert (str(error), error.partial.text) == ("too long", "A")


@pytest.mark.anyio
async def test_a_failure_in_a_field_is_known_wherever_it_is_cut() -> None:
    body = sse('{"choices":[{"delta":{"content":"A"}}]}') + b'error: {"message":"no"}\r\n\r\n'
    splits = list(every_split(body))
    async with OpenAIChat(transport=playing_each(splits), retry=ONCE) as session:
        for split in splits:
            error = await ending(session.stream([], model="m"))

            assert isinstance(error, RemoteError), split
            assert (str(error), error.partial.text) == ("no", "A")


@pytest.mark.anyio
async def test_a_chunk_of_the_wrong_shape_is_a_decode_error() -> None:
    error = await failure(chunk({"content": "A"}), chunk({"content": 1}), "[DONE]")

    assert isinstance(error, DecodeError)
    assert "choices.0.delta.content" in str(error)
    assert error.partial.text == "A"


@pytest.mark.anyio
async def test_the_chunk_is_reachable_from_its_event() -> None:
    call = {**tool(0, None, id="t1", name="now"), "tier": "flex"}
    events = await read(chunk({"refusal": "No"}, tier="flex"), call, {**STOP, "tier": "slow"})

    tiers = [event.wire.model_extra["tier"] for event in events]
    assert isinstance(events[0].wire, Chunk)
    assert tiers == ["flex", "flex", "flex", "slow"]
    assert [type(event) for event in events] == [Refusal, ToolCallStart, ToolCall, Done]


@pytest.mark.anyio
async def test_every_event_survives_json() -> None:
    async with open_chat(sse(chunk({"refusal": "no"})), ANSWER) as session:
        events = (await session.stream([], model="m").collect()).events
    adapter: TypeAdapter[ChatEvent] = TypeAdapter(ChatEvent)

    assert [adapter.validate_json(event.model_dump_json()) for event in events] == events


@pytest.mark.anyio
@ONE_LOOP
async def test_a_body_that_ends_at_any_byte_is_complete_or_truncated() -> None:
    whole = await read(ANSWER)
    without_usage = [event for event in whole if not isinstance(event, Usage)]
    after_reason = ANSWER.index(b'data: {"choices":[],')
    bodies = ([ANSWER[:cut]] for cut in range(len(ANSWER)))
    async with OpenAIChat(transport=playing_each(bodies), retry=ONCE) as session:
        for cut in range(len(ANSWER)):
            stream = session.stream([], model="m")
            error = await ending(stream)

            if error is None:
                assert cut >= after_reason - len("\n\n")
                assert stream.reply.events in (whole, without_usage), cut
            else:
                assert isinstance(error, StreamTruncated), cut
                assert_kept(error, stream, whole)


@pytest.mark.anyio
@ONE_LOOP
async def test_a_body_that_breaks_off_at_any_byte_has_interrupted_the_stream() -> None:
    whole = await read(ANSWER)
    bodies: Iterator[list[Step]] = ([ANSWER[:cut], HANG_UP] for cut in range(len(ANSWER)))
    async with OpenAIChat(transport=playing_each(bodies), retry=ONCE) as session:
        for cut in range(len(ANSWER)):
            stream = session.stream([], model="m")
            error = await ending(stream)

            assert isinstance(error, StreamInterrupted), cut
            assert_kept(error, stream, whole)


@pytest.mark.anyio
@ONE_LOOP
async def test_a_server_that_hangs_up_at_any_byte_has_interrupted_the_stream() -> None:
    body = sse('{"choices":[{"delta":{"content":"ü"},"finish_reason":"stop"}]}', "[DONE]")
    cuts = [ScriptedResponse([body], hang_up_after=cut) for cut in range(len(body))]
    async with (
        ScriptedServer(*cuts) as server,
        OpenAIChat(base_url=server.url, retry=ONCE) as session,
    ):
        for cut in range(len(body)):
            stream = session.stream([], model="m")
            error = await ending(stream)

            assert isinstance(error, StreamInterrupted), cut
            assert_kept(error, stream, [TextDelta(text="ü")])


def assert_kept(error: StreamError, stream: Stream[ChatEvent], whole: list[ChatEvent]) -> None:
    """Check that an error has all that came, and that nothing of it takes a whole answer."""
    came = stream.reply.events
    assert error.partial is stream.reply
    assert came == whole[: len(came)]
    assert not any(isinstance(event, Done | ToolCall) for event in came)


def test_the_event_type_is_inferred() -> None:
    session = OpenAIChat(api_key=CANARY)

    assert_type(session.stream([], model="m"), Stream[ChatEvent])
