"""ConverseStream: what each of its events becomes, and how a stream ends."""

import hashlib
import itertools
from collections.abc import Generator
from typing import Any, assert_type

import httpx
import pytest
from pydantic import TypeAdapter

from bedrock_converse import BedrockConverse, ConverseEvent, Piece, Signature
from offline import BEDROCK_CONVERSE
from streamsession import (
    DecodeError,
    Done,
    PermissionDenied,
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
    HOLD,
    ScriptedResponse,
    ScriptedServer,
    Step,
    event_stream,
    event_stream_message,
    mock_stream,
)
from tests.canary import CANARY
from tests.test_examples.programs import (
    ONCE,
    ONE_LOOP,
    Live,
    Programs,
    at_once,
    ending,
    playing_each,
)

MEDIA = "application/vnd.amazon.eventstream"

PRINTED = f"""\
Let me look.
reply.reasoning='Ask the clock.'
reply.tool_calls={[ToolCall.parse(id="c1", name="time", raw_arguments="{}")]}
reply.usage={Usage(input_tokens=12, output_tokens=34)!r}
reply.finish_reason='tool_use'
"""


def start(index: int, **block: object) -> bytes:
    return event_stream(("contentBlockStart", {"contentBlockIndex": index, "start": block}))


def delta(index: int, **piece: object) -> bytes:
    return event_stream(("contentBlockDelta", {"contentBlockIndex": index, "delta": piece}))


def tool(index: int, identifier: str, name: str, **more: str) -> bytes:
    return start(index, toolUse={"toolUseId": identifier, "name": name, **more})


def arguments(index: int, fragment: str) -> bytes:
    return delta(index, toolUse={"input": fragment})


def reasoning(index: int, **piece: str) -> bytes:
    return delta(index, reasoningContent=piece)


def stop(index: int) -> bytes:
    return event_stream(("contentBlockStop", {"contentBlockIndex": index}))


def end(reason: str | None = "end_turn", **more: object) -> bytes:
    return event_stream(("messageStop", {"stopReason": reason, **more}))


def metadata(**more: object) -> bytes:
    usage = {"inputTokens": 10, "outputTokens": 7, "totalTokens": 17, **more}
    return event_stream(("metadata", {"metrics": {"latencyMs": 5}, "usage": usage}))


BEGIN = event_stream(("messageStart", {"role": "assistant", "p": "abcd"}))
HELLO = delta(0, text="Hello")
SPENT = Usage(input_tokens=10, output_tokens=7)
DONE = Done(finish_reason="end_turn")
ANSWER = b"".join(
    [
        BEGIN,
        reasoning(0, text="Hm."),
        reasoning(0, signature="c2ln"),
        stop(0),
        reasoning(1, redactedContent="aGlkZGVu"),
        stop(1),
        delta(2, text="Grüße"),
        stop(2),
        tool(3, "t1", "now"),
        arguments(3, '{"zone": "UTC"}'),
        stop(3),
        end("tool_use"),
        metadata(),
    ]
)


def answering(*steps: Step) -> httpx.MockTransport:
    """A transport that answers every request with a stream of these steps."""
    return httpx.MockTransport(mock_stream(*steps, content_type=MEDIA))


def open_converse(*steps: Step) -> BedrockConverse:
    return BedrockConverse(transport=answering(*steps), api_key=CANARY, retry=ONCE)


async def read(*events: bytes) -> Reply[ConverseEvent]:
    """The reply that a stream of these events adds up to, though the server does not hang up."""
    async with open_converse(*events, HOLD) as session:
        return await session.stream([], model="m").collect()


async def failure(*steps: Step) -> Any:
    """The error that a stream of these steps ends with."""
    async with open_converse(*steps) as session:
        stream = session.stream([], model="m")
        error = await ending(stream)
    assert not stream.reply.complete
    assert not any(isinstance(event, Done) for event in stream.reply.events)
    return error


def test_the_program_prints_the_answer_of_the_server_inside_it(programs: Programs) -> None:
    program = programs["bedrock_converse.py"]

    assert program.stdout == PRINTED
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_asks_the_server_in_the_environment(live: Live) -> None:
    with ScriptedServer(at_once(BEDROCK_CONVERSE)) as server:
        named = {"BEDROCK_API_KEY": CANARY, "BEDROCK_MODEL": "us.maker.model-1:0"}
        printed = live("bedrock_converse.py", "Why?", BEDROCK_BASE_URL=server.url, **named)

    assert printed == PRINTED
    (request,) = server.requests
    assert request.method == "POST"
    assert request.path == "/model/us.maker.model-1%3A0/converse-stream"
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert request.headers["accept"] == MEDIA
    assert request.headers["content-type"] == "application/json"
    assert request.json() == {"messages": [{"role": "user", "content": [{"text": "Why?"}]}]}


@pytest.mark.anyio
async def test_a_conversation_and_its_options_are_sent_as_they_are() -> None:
    messages = [
        {"role": "user", "content": [{"text": "Why?"}, {"cachePoint": {"type": "default"}}]}
    ]
    profile = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.maker.model-1:0"
    options = {"system": [{"text": "Be brief."}], "inferenceConfig": {"maxTokens": 9}}
    with ScriptedServer(at_once(BEDROCK_CONVERSE)) as server:
        async with BedrockConverse(base_url=server.url) as session:
            await session.stream(messages, model=profile, **options).collect()

    (request,) = server.requests
    in_one_segment = profile.replace(":", "%3A").replace("/", "%2F")
    assert request.path == f"/model/{in_one_segment}/converse-stream"
    assert request.json() == {"messages": messages, **options}


class Signing(httpx.Auth):
    """Signs what is sent, as SigV4 does."""

    requires_request_body = True

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        request.headers["authorization"] = hashlib.sha256(request.content).hexdigest()
        yield request


@pytest.mark.anyio
async def test_requests_may_be_signed_in_place_of_a_key() -> None:
    with ScriptedServer(at_once(BEDROCK_CONVERSE)) as server:
        async with BedrockConverse(base_url=server.url, auth=Signing()) as session:
            await session.stream("Why?").collect()

    (request,) = server.requests
    assert request.headers["authorization"] == hashlib.sha256(request.body).hexdigest()


@pytest.mark.anyio
async def test_text_comes_in_pieces() -> None:
    reply = await read(
        BEGIN,
        delta(0, text=""),
        delta(0, text="Hel"),
        delta(0, text="lo"),
        stop(0),
        end(),
        metadata(),
    )

    assert reply.events == [TextDelta(text="Hel"), TextDelta(text="lo"), SPENT, DONE]


@pytest.mark.anyio
async def test_reasoning_and_what_is_to_be_sent_back_with_it_are_told_apart() -> None:
    reply = await read(
        BEGIN,
        reasoning(0, text="H"),
        reasoning(0, text="m."),
        reasoning(0, signature="c2ln"),
        stop(0),
        reasoning(1, redactedContent="aGlkZGVu"),
        stop(1),
        HELLO,
        end(),
        metadata(),
    )

    assert (reply.reasoning, reply.text) == ("Hm.", "Hello")
    assert reply.events[:4] == [
        ReasoningDelta(text="H"),
        ReasoningDelta(text="m."),
        Signature(signature="c2ln"),
        Signature(redacted="aGlkZGVu"),
    ]


@pytest.mark.anyio
async def test_a_tool_call_is_assembled_and_finished_with_its_block() -> None:
    reply = await read(
        BEGIN,
        tool(0, "t1", "now"),
        arguments(0, ""),
        arguments(0, '{"zone": '),
        arguments(0, '"UTC"}'),
        stop(0),
        delta(1, text="Then"),
        stop(1),
        end("tool_use"),
        metadata(),
    )

    raw = '{"zone": "UTC"}'
    assert reply.events[:5] == [
        ToolCallStart(id="t1", name="now"),
        ToolCallDelta(id="t1", arguments='{"zone": '),
        ToolCallDelta(id="t1", arguments='"UTC"}'),
        ToolCall(id="t1", name="now", arguments={"zone": "UTC"}, raw_arguments=raw),
        TextDelta(text="Then"),
    ]


@pytest.mark.anyio
async def test_the_fragments_of_several_tool_calls_go_by_their_block() -> None:
    reply = await read(
        *(BEGIN, tool(0, "t1", "now"), tool(1, "t2", "then"), arguments(1, '{"n": '), stop(0)),
        *(arguments(1, "2}"), stop(1), end("tool_use"), metadata()),
    )

    assert [(call.id, call.arguments) for call in reply.tool_calls] == [
        ("t1", {}),
        ("t2", {"n": 2}),
    ]


@pytest.mark.anyio
async def test_a_tool_call_cut_off_by_max_tokens_has_no_arguments() -> None:
    first = BEGIN + tool(0, "t1", "now") + arguments(0, '{"zone": "U')
    for last in (b"", stop(0)):
        reply = await read(first, last, end("max_tokens"), metadata())

        (call,) = reply.tool_calls
        assert (call.arguments, call.raw_arguments) == (None, '{"zone": "U')
        assert reply.finish_reason == "max_tokens"


@pytest.mark.anyio
async def test_blocks_that_a_gateway_never_stops_end_with_the_message() -> None:
    """https://github.com/maximhq/bifrost/issues/4262."""
    call = tool(1, "t1", "now") + arguments(1, '{"zone": "UTC"}')
    reply = await read(BEGIN, start(0), HELLO, call, end("tool_use"), metadata())

    assert reply.text == "Hello"
    assert reply.tool_calls == [
        ToolCall.parse(id="t1", name="now", raw_arguments='{"zone": "UTC"}')
    ]


@pytest.mark.anyio
async def test_a_tool_that_runs_on_the_server_is_no_tool_call() -> None:
    first = tool(0, "s1", "nova_grounding", type="server_tool_use")
    result = start(1, toolResult={"toolUseId": "s1", "status": "success"})
    reply = await read(
        BEGIN, first, arguments(0, '{"query": "x"}'), stop(0), result, stop(1), end(), metadata()
    )

    assert reply.events == [SPENT, DONE]


@pytest.mark.anyio
async def test_usage_counts_the_cache() -> None:
    cached = {"cacheReadInputTokens": 1000, "cacheWriteInputTokens": 100}
    reply = await read(BEGIN, HELLO, end(), metadata(**cached))

    assert reply.usage == Usage(input_tokens=1110, output_tokens=7)


@pytest.mark.anyio
async def test_nothing_spent_is_not_the_same_as_nothing_said() -> None:
    zero = await read(BEGIN, end("guardrail_intervened"), metadata(inputTokens=0, outputTokens=0))
    silent = await read(BEGIN, end(), event_stream(("metadata", {"usage": None})))
    empty = await read(BEGIN, end(), metadata(inputTokens=None, outputTokens=None))

    assert zero.usage == Usage(input_tokens=0, output_tokens=0)
    assert silent.usage is None
    assert empty.usage == Usage()


# The end


@pytest.mark.anyio
async def test_what_was_spent_may_be_said_before_the_end() -> None:
    reply = await read(BEGIN, HELLO, metadata(), end())

    assert reply.events == [TextDelta(text="Hello"), SPENT, DONE]


@pytest.mark.anyio
async def test_without_what_was_spent_a_clean_end_is_complete() -> None:
    async with open_converse(BEGIN, HELLO, end()) as session:
        reply = await session.stream([], model="m").collect()

    assert reply.events == [TextDelta(text="Hello"), DONE]
    assert reply.usage is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ([HANG_UP], StreamInterrupted),
        ([metadata()[:-1]], StreamTruncated),
        ([metadata()[:-1], HANG_UP], StreamInterrupted),
    ],
)
async def test_what_was_spent_is_not_lost_in_a_cut(
    steps: list[Step], named: type[StreamError]
) -> None:
    error = await failure(BEGIN, HELLO, end(), *steps)

    assert type(error) is named
    assert error.partial.text == "Hello"


@pytest.mark.anyio
async def test_what_was_spent_does_not_prove_the_end() -> None:
    error = await failure(BEGIN, HELLO, stop(0), metadata())

    assert type(error) is StreamTruncated
    assert error.events == [TextDelta(text="Hello"), SPENT]


@pytest.mark.anyio
async def test_an_exception_is_a_remote_error_with_what_had_come() -> None:
    said = {"message": "Model stream failed", "originalStatusCode": 500}
    exception = event_stream_message(said, exception="modelStreamErrorException")
    for before in (BEGIN + HELLO, BEGIN + HELLO + end()):
        error = await failure(before, exception)

        assert isinstance(error, RemoteError)
        assert (error.type, str(error)) == ("modelStreamErrorException", "Model stream failed")
        assert error.retryable
        assert error.data == said
        assert error.partial.text == "Hello"


@pytest.mark.anyio
async def test_an_exception_that_is_for_good_is_not_tried_again() -> None:
    exception = event_stream_message({"message": "Not so"}, exception="validationException")
    with ScriptedServer(ScriptedResponse([BEGIN, exception], content_type=MEDIA)) as server:
        async with BedrockConverse(base_url=server.url) as session:
            error = await ending(session.stream([], model="m"))

    assert isinstance(error, RemoteError)
    assert not error.retryable
    assert len(server.requests) == 1


@pytest.mark.anyio
async def test_throttling_before_the_first_block_is_tried_again() -> None:
    exception = event_stream_message({"message": "Slow down"}, exception="throttlingException")
    bodies: list[list[Step]] = [[BEGIN, exception], [BEGIN, HELLO, end(), metadata()]]
    transport = playing_each(bodies, content_type=MEDIA)
    async with BedrockConverse(transport=transport, retry=RetryPolicy(base_delay=0)) as session:
        stream = session.stream([], model="m")
        reply = await stream.collect()

    assert reply.events == [TextDelta(text="Hello"), SPENT, DONE]
    assert stream.stats.attempts == 2


@pytest.mark.anyio
async def test_a_refusal_names_the_request() -> None:
    refusal = ScriptedResponse.json(
        {"message": "You don't have access to the model"},
        status=403,
        headers={"x-amzn-RequestId": "r-1", "x-amzn-ErrorType": "AccessDeniedException"},
    )
    with ScriptedServer(refusal) as server:
        async with BedrockConverse(base_url=server.url) as session:
            error = await ending(session.stream([], model="m"))

    assert isinstance(error, PermissionDenied)
    assert error.request_id == "r-1"
    assert "You don't have access" in str(error)


@pytest.mark.anyio
async def test_leaving_early_leaves_nothing_open() -> None:
    answer = mock_stream(BEGIN, HELLO, HOLD, content_type=MEDIA)
    async with BedrockConverse(transport=httpx.MockTransport(answer)) as session:
        async with session.stream([], model="m") as stream:
            async for text in stream.text():
                assert text == "Hello"
                break

        assert answer.closed


# What is not expected


@pytest.mark.anyio
async def test_unknown_events_blocks_and_deltas_are_tolerated() -> None:
    async with open_converse(
        BEGIN,
        event_stream(("messageNote", {"contentBlockIndex": "x"})),
        event_stream_message(b"\x00", event="padding"),
        start(0, hologram={"light": 1}),
        delta(0, hologram={"light": 2}),
        delta(0, citation={"title": "Clocks", "sourceContent": [{"text": "x"}]}),
        arguments(0, "of no tool"),
        stop(0),
        HELLO,
        end(),
        metadata(),
    ) as session:
        stream = session.stream([], model="m")
        reply = await stream.collect()

    assert reply.events == [TextDelta(text="Hello"), SPENT, DONE]
    assert stream.stats.unknown_events == 2


@pytest.mark.anyio
async def test_what_is_null_or_missing_is_tolerated() -> None:
    bare: list[tuple[str, object]] = [
        ("messageStart", b""),
        ("contentBlockStart", {"start": None}),
        ("contentBlockStart", {"start": {"toolUse": None}}),
        ("contentBlockDelta", {"delta": None}),
        ("contentBlockDelta", {"delta": {"text": None, "toolUse": None, "reasoningContent": None}}),
        ("contentBlockDelta", {"delta": {"reasoningContent": {"text": None, "signature": None}}}),
        ("contentBlockStart", {"start": {"toolUse": {"toolUseId": "t1"}}}),
        ("contentBlockDelta", {"delta": {"toolUse": {"input": None}}}),
        ("contentBlockStop", {}),
        ("messageStop", {}),
        ("metadata", {}),
    ]
    reply = await read(event_stream(*bare))

    call = ToolCall.parse(id="t1", name="", raw_arguments="")
    assert reply.events == [ToolCallStart(id="t1", name=""), call, Done()]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (event_stream(("contentBlockDelta", [1])), "should be an object"),
        (event_stream(("contentBlockDelta", b"{")), "Invalid JSON"),
        (delta(0, text=1), "field 'delta.text'"),
        (event_stream(("metadata", {"usage": {"outputTokens": "many"}})), "field 'output_tokens'"),
        (event_stream(("metadata", {"usage": {"inputTokens": "many"}})), "TypeError"),
        (HELLO.replace(b"Hello", b"Hullo"), "checksum"),
    ],
)
async def test_an_event_of_the_wrong_shape_is_a_decode_error(wrong: bytes, reason: str) -> None:
    error = await failure(BEGIN, HELLO, wrong, end(), metadata())

    assert type(error) is DecodeError
    assert reason in error.reason
    assert error.index == 2
    assert error.partial.text == "Hello"


@pytest.mark.anyio
async def test_the_wire_is_reachable_from_an_event() -> None:
    event = event_stream(("metadata", {"usage": {}, "trace": {"guardrail": {"actionReason": "x"}}}))
    reply = await read(BEGIN, HELLO, end(additionalModelResponseFields={"/seed": 7}), event)

    text, spent, done = reply.events
    assert isinstance(text, TextDelta)
    assert isinstance(text.wire, Piece)
    assert text.wire.index == 0
    assert isinstance(spent, Usage)
    assert spent.wire.model_extra["trace"] == {"guardrail": {"actionReason": "x"}}
    assert isinstance(done, Done)
    assert done.wire.model_extra["additionalModelResponseFields"] == {"/seed": 7}


@pytest.mark.anyio
async def test_every_event_survives_json() -> None:
    events = (await read(ANSWER)).events
    adapter: TypeAdapter[ConverseEvent] = TypeAdapter(ConverseEvent)

    assert {type(event) for event in events} == {
        *(ReasoningDelta, Signature, TextDelta),
        *(ToolCallStart, ToolCallDelta, ToolCall, Usage, Done),
    }
    assert [adapter.validate_json(event.model_dump_json()) for event in events] == events


@pytest.mark.anyio
@ONE_LOOP
async def test_cut_at_every_byte_it_ends_complete_or_with_a_named_error() -> None:
    call = tool(1, "t", "now") + arguments(1, "{}") + stop(1)
    body = delta(0, text="ü") + call + end() + metadata()
    whole = (await read(body)).events
    before_metadata = len(body) - len(metadata())
    ends: list[tuple[list[Step], type[StreamError]]]
    ends = [([], StreamTruncated), ([HANG_UP], StreamInterrupted)]
    cuts = list(itertools.product(range(len(body)), ends))
    bodies = ([body[:cut], *last] for cut, (last, _) in cuts)
    transport = playing_each(bodies, content_type=MEDIA)
    async with BedrockConverse(transport=transport, retry=ONCE) as session:
        for cut, (last, named) in cuts:
            stream = session.stream([], model="m")
            error = await ending(stream)

            came = stream.reply.events
            if error is None:
                assert not last
                assert cut == before_metadata
                assert came == [event for event in whole if not isinstance(event, Usage)]
            else:
                assert type(error) is named, cut
                assert error.partial is stream.reply
                assert came == whole[: len(came)], cut


def test_the_event_type_is_inferred() -> None:
    session = BedrockConverse(api_key=CANARY)

    assert_type(session.stream([], model="m"), Stream[ConverseEvent])
