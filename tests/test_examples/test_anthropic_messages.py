"""The Messages API: what each of its events becomes, and how a stream ends."""

import itertools
from typing import Any, assert_type

import httpx
import pytest
from pydantic import TypeAdapter

from anthropic_messages import (
    AnthropicMessages,
    Content,
    MessageEvent,
    Signature,
)
from offline import ANTHROPIC_MESSAGES
from streamsession import (
    DecodeError,
    Done,
    ReasoningDelta,
    RemoteError,
    Reply,
    RetryPolicy,
    Stream,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    TextDelta,
    TimedOut,
    Timeouts,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from streamsession.testing import (
    HANG_UP,
    HOLD,
    Pause,
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
reply.finish_reason='tool_use'
"""


def wire_event(kind: str, **data: Any) -> bytes:
    """An event as the API writes it."""
    return sse_event({"type": kind, **data}, event=kind)


def start(content: object = (), **tokens: int | None) -> bytes:
    usage = {"input_tokens": 10, "output_tokens": 1, **tokens}
    return wire_event("message_start", message={"id": "m1", "content": content, "usage": usage})


def block(index: int, kind: str, **more: object) -> bytes:
    return wire_event("content_block_start", index=index, content_block={"type": kind, **more})


def delta(index: int, kind: str, **more: object) -> bytes:
    return wire_event("content_block_delta", index=index, delta={"type": kind, **more})


def text(index: int, piece: str) -> bytes:
    return delta(index, "text_delta", text=piece)


def arguments(index: int, piece: str) -> bytes:
    return delta(index, "input_json_delta", partial_json=piece)


def stop(index: int) -> bytes:
    return wire_event("content_block_stop", index=index)


def end(reason: str = "end_turn", **tokens: int | None) -> bytes:
    usage = {"output_tokens": 7, **tokens}
    change = {"stop_reason": reason, "stop_sequence": None}
    return wire_event("message_delta", delta=change, usage=usage) + wire_event("message_stop")


PING = wire_event("ping")
HELLO = block(0, "text", text="") + text(0, "Hello") + stop(0)
USAGE = [Usage(input_tokens=10, output_tokens=1), Usage(input_tokens=10, output_tokens=7)]
ANSWER = b"".join(
    [
        start(),
        PING,
        block(0, "thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="Hm."),
        delta(0, "signature_delta", signature="c2ln"),
        stop(0),
        block(1, "text", text=""),
        text(1, "Grüße"),
        stop(1),
        block(2, "tool_use", id="t1", name="now", input={}),
        arguments(2, '{"zone": "UTC"}'),
        stop(2),
        end("tool_use"),
    ]
)


def nameless(body: bytes) -> bytes:
    """The events without their names, which are in their data, too."""
    return b"".join(line for line in body.splitlines(keepends=True) if line[:5] != b"event")


def open_messages(*steps: Any) -> AnthropicMessages:
    return AnthropicMessages(transport=playing(*steps), api_key=CANARY, retry=ONCE)


async def read(*events: bytes) -> Reply[MessageEvent]:
    """The reply that a stream of these events adds up to."""
    async with open_messages(*events) as session:
        return await session.stream([], model="m").collect()


async def failure(*events: bytes) -> Any:
    """The error that a stream of these events ends with."""
    async with open_messages(*events) as session:
        return await ending(session.stream([], model="m"))


def test_the_program_prints_the_answer_of_the_server_inside_it(programs: Programs) -> None:
    program = programs["anthropic_messages.py"]

    assert program.stdout == PRINTED
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_asks_the_server_in_the_environment(live: Live) -> None:
    with ScriptedServer(at_once(ANTHROPIC_MESSAGES)) as server:
        named = {"ANTHROPIC_API_KEY": CANARY, "ANTHROPIC_MODEL": "m1"}
        printed = live("anthropic_messages.py", "Why?", ANTHROPIC_BASE_URL=server.url, **named)

    assert printed == PRINTED
    (request,) = server.requests
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == CANARY
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    assert request.json() == {
        "model": "m1",
        "messages": [{"role": "user", "content": "Why?"}],
        "stream": True,
        "max_tokens": 4096,
    }


@pytest.mark.anyio
async def test_text_comes_in_pieces() -> None:
    reply = await read(start(), block(0, "text", text=""), text(0, "Hel"), text(0, "lo"), end())

    assert reply.events == [
        USAGE[0],
        TextDelta(text="Hel"),
        TextDelta(text="lo"),
        USAGE[1],
        Done(finish_reason="end_turn"),
    ]


@pytest.mark.anyio
async def test_thinking_is_reasoning_and_its_signature_an_event_of_its_own() -> None:
    reply = await read(
        start(),
        block(0, "thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="Hm"),
        delta(0, "thinking_delta", thinking="."),
        delta(0, "signature_delta", signature="c2ln"),
        stop(0),
        end(),
    )

    assert (reply.reasoning, reply.text) == ("Hm.", "")
    assert reply.events[1:4] == [
        ReasoningDelta(text="Hm"),
        ReasoningDelta(text="."),
        Signature(signature="c2ln"),
    ]


@pytest.mark.anyio
async def test_a_tool_call_is_assembled_and_finished_with_its_block() -> None:
    reply = await read(
        start(),
        block(0, "tool_use", id="t1", name="now", input={}),
        arguments(0, ""),
        arguments(0, '{"zone": '),
        arguments(0, '"UTC"}'),
        stop(0),
        block(1, "text", text=""),
        text(1, "Then"),
        stop(1),
        end("tool_use"),
    )

    raw = '{"zone": "UTC"}'
    assert reply.events[1:6] == [
        ToolCallStart(id="t1", name="now"),
        ToolCallDelta(id="t1", arguments='{"zone": '),
        ToolCallDelta(id="t1", arguments='"UTC"}'),
        ToolCall(id="t1", name="now", arguments={"zone": "UTC"}, raw_arguments=raw),
        TextDelta(text="Then"),
    ]


@pytest.mark.anyio
async def test_the_input_of_a_tool_call_may_stand_at_its_beginning() -> None:
    first = block(0, "tool_use", id="t1", name="now", input={"zone": "UTC"})
    reply = await read(start(), first, stop(0), end("tool_use"))

    (call,) = reply.tool_calls
    assert call.arguments == {"zone": "UTC"}


@pytest.mark.anyio
async def test_a_tool_call_cut_off_by_max_tokens_has_no_arguments() -> None:
    first = block(0, "tool_use", id="t1", name="now", input={})
    reply = await read(start(), first, arguments(0, '{"zone": "U'), end("max_tokens"))

    (call,) = reply.tool_calls
    assert (call.arguments, call.raw_arguments) == (None, '{"zone": "U')
    assert reply.finish_reason == "max_tokens"


@pytest.mark.anyio
async def test_a_tool_that_runs_on_the_server_is_no_tool_call() -> None:
    first = block(0, "server_tool_use", id="s1", name="web_search", input={})
    reply = await read(start(), first, arguments(0, '{"query": "x"}'), stop(0), end())

    assert reply.events == [*USAGE, Done(finish_reason="end_turn")]


@pytest.mark.anyio
async def test_usage_is_cumulative_and_counts_the_cache() -> None:
    tokens = {"cache_creation_input_tokens": 100, "cache_read_input_tokens": 1000}
    reply = await read(start(**tokens), HELLO, end(input_tokens=None, output_tokens=7))

    first, last = (event for event in reply.events if isinstance(event, Usage))
    assert (first.input_tokens, first.output_tokens) == (1110, 1)
    assert (last.input_tokens, last.output_tokens) == (1110, 7)
    assert first.wire["output_tokens"] == 1
    assert last.wire["cache_read_input_tokens"] == 1000


@pytest.mark.anyio
async def test_a_usage_of_nothing_is_told_from_none() -> None:
    reply = await read(start(input_tokens=0, output_tokens=0), HELLO, end(output_tokens=0))

    assert reply.usage == Usage(input_tokens=0, output_tokens=0)


@pytest.mark.anyio
async def test_usage_at_the_end_replaces_that_of_the_beginning() -> None:
    reply = await read(start(), HELLO, end(input_tokens=12, cache_read_input_tokens=8))

    assert reply.usage == Usage(input_tokens=20, output_tokens=7)


@pytest.mark.anyio
async def test_an_overload_before_the_first_block_is_tried_again() -> None:
    overloaded = {"type": "overloaded_error", "message": "Overloaded"}
    failing = ScriptedResponse([start(), PING, wire_event("error", error=overloaded)])
    async with ScriptedServer(failing, ScriptedResponse([start(), HELLO, end()])) as server:
        policy = RetryPolicy(base_delay=0)
        async with AnthropicMessages(base_url=server.url, retry=policy) as session:
            stream = session.stream([], model="m")
            reply = await stream.collect()

    assert reply.events == [
        USAGE[0],
        TextDelta(text="Hello"),
        USAGE[1],
        Done(finish_reason="end_turn"),
    ]
    assert stream.stats.attempts == 2


@pytest.mark.anyio
async def test_an_error_event_is_a_remote_error_with_what_had_come() -> None:
    overloaded = {"type": "overloaded_error", "message": "Overloaded"}
    error = await failure(start(), HELLO, wire_event("error", error=overloaded))

    assert isinstance(error, RemoteError)
    assert (error.type, error.retryable, str(error)) == ("overloaded_error", True, "Overloaded")
    assert error.partial.text == "Hello"


@pytest.mark.anyio
async def test_leaving_early_leaves_nothing_open() -> None:
    answer = mock_stream(start(), HELLO, HOLD)
    async with AnthropicMessages(transport=httpx.MockTransport(answer)) as session:
        async with session.stream([], model="m") as stream:
            async for text in stream.text():
                assert text == "Hello"
                break

        assert answer.closed


@pytest.mark.anyio
async def test_pings_are_no_events() -> None:
    async with open_messages(start(), PING, HELLO, PING, end()) as session:
        stream = session.stream([], model="m")
        await stream.collect()

    assert (stream.stats.events, stream.stats.unknown_events) == (4, 0)


@pytest.mark.anyio
async def test_pings_do_not_keep_a_silent_stream_alive() -> None:
    pings: list[Step] = [PING, Pause(0.02)] * 100
    async with AnthropicMessages(
        transport=playing(start(), HELLO, *pings, HOLD), timeout=Timeouts(idle=0.1), retry=ONCE
    ) as session:
        stream = session.stream([], model="m")
        error = await ending(stream)

    assert isinstance(error, TimedOut)
    assert error.clock == "idle"
    assert error.partial.text == "Hello"


@pytest.mark.anyio
async def test_unknown_events_blocks_and_deltas_are_tolerated() -> None:
    async with open_messages(
        start(),
        wire_event("message_note", message="of another shape", index="x"),
        block(0, "hologram", light=[1]),
        delta(0, "hologram_delta", light=[2]),
        stop(0),
        HELLO,
        delta(0, "citations_delta", citation={"url": "/"}),
        end(),
    ) as session:
        stream = session.stream([], model="m")
        reply = await stream.collect()

    assert reply.text == "Hello"
    assert stream.stats.unknown_events == 1


@pytest.mark.anyio
async def test_events_without_a_name_are_known_by_their_type() -> None:
    assert (await read(nameless(ANSWER))).events == (await read(ANSWER)).events


@pytest.mark.anyio
async def test_a_marker_after_the_end_is_tolerated() -> None:
    assert (await read(start(), HELLO, end(), sse("[DONE]"))).complete


@pytest.mark.anyio
async def test_content_of_message_start_is_not_lost() -> None:
    content = [
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "t1", "name": "now", "input": {"zone": "UTC"}},
    ]
    reply = await read(start(content), end("tool_use"))

    assert reply.text == "Hello"
    assert reply.tool_calls[0].arguments == {"zone": "UTC"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "wrong",
    [
        sse("[1]"),
        wire_event("content_block_delta", index=0),
        wire_event("content_block_delta", index=0, delta=None),
        text(0, "Hello").replace(b'"Hello"', b"1"),
    ],
)
async def test_an_event_of_the_wrong_shape_is_a_decode_error(wrong: bytes) -> None:
    error = await failure(start(), HELLO, wrong, end())

    assert isinstance(error, DecodeError)
    assert error.partial.text == "Hello"


@pytest.mark.anyio
async def test_the_wire_is_reachable_from_an_event() -> None:
    reply = await read(start(), text(0, "Hello"), end())

    (event,) = (event for event in reply.events if isinstance(event, TextDelta))
    assert isinstance(event.wire, Content)
    assert event.wire.type == "text_delta"


@pytest.mark.anyio
async def test_why_the_model_refused_is_reachable_from_the_end() -> None:
    change = {"stop_reason": "refusal", "stop_details": {"category": "cyber"}}
    last = wire_event("message_delta", delta=change, usage={"output_tokens": 0})
    reply = await read(start(), last, wire_event("message_stop"))

    done = reply.events[-1]
    assert done == Done(finish_reason="refusal")
    assert isinstance(done, Done)
    assert done.wire.model_extra["stop_details"] == {"category": "cyber"}


@pytest.mark.anyio
async def test_every_event_survives_json() -> None:
    events = (await read(ANSWER)).events
    adapter: TypeAdapter[MessageEvent] = TypeAdapter(MessageEvent)

    assert [adapter.validate_json(event.model_dump_json()) for event in events] == events


@pytest.mark.anyio
@ONE_LOOP
async def test_cut_at_every_byte_it_ends_complete_or_with_a_named_error() -> None:
    call = block(1, "tool_use", id="t1", name="now") + arguments(1, "{}") + stop(1)
    body = nameless(start() + block(0, "text") + text(0, "ü") + stop(0) + call + end())
    whole = (await read(body)).events
    ends: list[tuple[list[Step], type[StreamError]]]
    ends = [([], StreamTruncated), ([HANG_UP], StreamInterrupted)]
    cuts = list(itertools.product(range(len(body)), ends))
    bodies = ([body[:cut], *last] for cut, (last, _) in cuts)
    async with AnthropicMessages(transport=playing_each(bodies), retry=ONCE) as session:
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
    session = AnthropicMessages(api_key=CANARY)

    assert_type(session.stream([], model="m"), Stream[MessageEvent])
