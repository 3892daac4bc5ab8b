"""The Responses API: what each kind of event becomes, how a stream ends, and how one goes on."""

import json
from collections.abc import Iterator
from typing import Any, assert_type

import httpx
import pytest
from pydantic import TypeAdapter

from offline import OPENAI_RESPONSES
from openai_responses import Item, OpenAIResponses, Refusal, ResponseEvent, Started
from streamsession import (
    DecodeError,
    Done,
    NotFound,
    ReasoningDelta,
    RemoteError,
    Reply,
    RetryPolicy,
    StatusError,
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
    RESET,
    MockStream,
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
reply.finish_reason='completed'
"""
AT_ONCE = RetryPolicy(base_delay=0)


def wire_event(kind: str, **data: Any) -> bytes:
    """An event as the API writes it."""
    return sse_event({"type": f"response.{kind}", **data}, event=f"response.{kind}")


def created(**response: object) -> bytes:
    return wire_event("created", response={"id": "r1", "status": "in_progress", **response})


def piece(kind: str, delta: object, place: int | None = 0, **more: object) -> bytes:
    where = {} if place is None else {"output_index": place}
    return wire_event(f"{kind}.delta", delta=delta, **where, **more)


def text(delta: str, place: int | None = 0, **more: object) -> bytes:
    return piece("output_text", delta, place, **more)


def arguments(delta: str, place: int | None = 0, **more: object) -> bytes:
    return piece("function_call_arguments", delta, place, **more)


def added(item: object, place: int | None = 0) -> bytes:
    return wire_event("output_item.added", output_index=place, item=item)


def whole(item: object, place: int | None = 0) -> bytes:
    return wire_event("output_item.done", output_index=place, item=item)


def end(status: str | None = "completed", **response: object) -> bytes:
    kind = status or "completed"
    return wire_event(kind, response={"id": "r1", "status": status, **response})


def message(said: str, kind: str = "output_text") -> dict[str, Any]:
    part = {"type": kind, ("refusal" if kind == "refusal" else "text"): said}
    return {"type": "message", "id": "m1", "role": "assistant", "content": [part]}


def thought(**parts: object) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs1", "summary": [], **parts}


def call(raw: str | None = "", *, id: str = "c1", name: str = "now") -> dict[str, Any]:  # noqa: A002
    return {
        "type": "function_call",
        "id": f"fc_{id}",
        "call_id": id,
        "name": name,
        "arguments": raw,
    }


HELLO = message("Hello")
ANSWER = b"".join(
    [
        created(),
        added(thought()),
        piece("reasoning_summary_text", "Hm."),
        whole(thought(summary=[{"type": "summary_text", "text": "Hm."}])),
        added(message(""), 1),
        text("Grü", 1),
        text("ße", 1),
        whole(message("Grüße"), 1),
        added(call(), 2),
        arguments('{"zone": ', 2),
        arguments('"UTC"}', 2),
        whole(call('{"zone": "UTC"}'), 2),
        end(usage={"input_tokens": 3, "output_tokens": 5}),
    ]
)


def open_responses(*steps: Any) -> OpenAIResponses:
    return OpenAIResponses(transport=playing(*steps), api_key=CANARY, retry=ONCE)


async def read(*events: bytes) -> Reply[ResponseEvent]:
    """The reply that a stream of these events adds up to."""
    async with open_responses(*events) as session:
        return await session.stream("Hi", model="m").collect()


async def events_of(*events: bytes) -> list[ResponseEvent]:
    """The events in a stream of these, without whole items."""
    reply = await read(*events)
    return [event for event in reply.events if not isinstance(event, Item)]


async def failure(*events: bytes) -> Any:
    """The error that a stream of these events ends with."""
    async with open_responses(*events) as session:
        return await ending(session.stream("Hi", model="m"))


def test_the_program_prints_the_answer_of_the_server_inside_it(programs: Programs) -> None:
    program = programs["openai_responses.py"]

    assert program.stdout == PRINTED
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_asks_the_server_in_the_environment(live: Live) -> None:
    with ScriptedServer(at_once(OPENAI_RESPONSES)) as server:
        url = f"{server.url}/v1"
        named = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": CANARY, "OPENAI_MODEL": "m1"}
        printed = live("openai_responses.py", "Why?", **named)

    assert printed == PRINTED
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/responses")
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert request.json() == {"model": "m1", "input": "Why?", "stream": True}


@pytest.mark.anyio
async def test_items_and_options_go_into_the_request() -> None:
    answer = mock_stream(ANSWER)
    async with OpenAIResponses(transport=httpx.MockTransport(answer)) as session:
        items = [HELLO, {"role": "user", "content": "Go on"}]
        await session.stream(items, model="m", store=False, stream=True).collect()

    body = json.loads(answer.requests[0].content)
    assert body == {"input": items, "model": "m", "stream": True, "store": False}


@pytest.mark.anyio
async def test_text_comes_in_pieces_and_empty_ones_are_no_events() -> None:
    silent = piece("output_text", None)
    events = await events_of(created(), text(""), text("Hel"), silent, text("lo"), end())

    assert events == [TextDelta(text="Hel"), TextDelta(text="lo"), Done(finish_reason="completed")]


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["reasoning", "reasoning_text", "reasoning_summary_text"])
async def test_reasoning_is_known_by_each_of_its_names(name: str) -> None:
    reply = await read(created(), piece(name, "Hm"), piece(name, "."), text("A", 1), end())

    assert reply.events[:2] == [ReasoningDelta(text="Hm"), ReasoningDelta(text=".")]
    assert (reply.reasoning, reply.text) == ("Hm.", "A")


@pytest.mark.anyio
async def test_a_refusal_is_no_text() -> None:
    pieces = [piece("refusal", delta) for delta in ("", "I ", "won't.")]
    reply = await read(created(), *pieces, whole(message("I won't.", "refusal")), end())

    assert reply.text == ""
    assert reply.events[:2] == [Refusal(refusal="I "), Refusal(refusal="won't.")]
    assert [type(event) for event in reply.events[2:]] == [Item, Done]


ONE, TWO = call(id="c1", name="one"), call(id="c2", name="two")
CALLS = [
    ToolCallStart(id="c1", name="one"),
    ToolCallStart(id="c2", name="two"),
    ToolCallDelta(id="c2", arguments='{"b": '),
    ToolCallDelta(id="c1", arguments="{}"),
    ToolCallDelta(id="c2", arguments="2}"),
    ToolCall(id="c1", name="one", arguments={}, raw_arguments="{}"),
    ToolCall(id="c2", name="two", arguments={"b": 2}, raw_arguments='{"b": 2}'),
]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("of_one", "of_two"),
    [
        ({"place": 0}, {"place": 1}),
        ({"place": None, "item_id": "fc_c1"}, {"place": None, "item_id": "fc_c2"}),
        ({"place": 0, "item_id": "fc_c1"}, {"place": 0, "item_id": "fc_c2"}),
        ({"place": 0, "item_id": "other1"}, {"place": 1, "item_id": "other2"}),
    ],
    ids=["by place", "by id", "all in one place", "with ids that change"],
)
async def test_fragments_of_calls_are_known_by_place_or_id(of_one: Any, of_two: Any) -> None:
    events = await events_of(
        created(),
        added(ONE, of_one["place"]),
        added(TWO, of_two["place"]),
        arguments('{"b": ', **of_two),
        arguments("{}", **of_one),
        arguments("2}", **of_two),
        whole(ONE | {"arguments": "{}"}, of_one["place"]),
        whole(TWO | {"arguments": '{"b": 2}'}, of_two["place"]),
        end(),
    )

    assert events[:-1] == CALLS


@pytest.mark.anyio
async def test_fragments_without_place_and_id_belong_to_the_last_call() -> None:
    first = [added(ONE), arguments('{"a": 1}', None), whole(ONE)]
    second = [added(TWO, 1), arguments('{"b": ', None), arguments("2}", None)]
    reply = await read(created(), *first, *second, end())

    assert [made.arguments for made in reply.tool_calls] == [{"a": 1}, {"b": 2}]


@pytest.mark.anyio
async def test_fragments_of_no_known_call_are_left_to_the_whole_item() -> None:
    reply = await read(
        created(), added(ONE), arguments("{", 7), whole(call("{}", id="c7"), 7), end()
    )

    assert [(made.id, made.raw_arguments) for made in reply.tool_calls] == [
        ("c7", "{}"),
        ("c1", ""),
    ]


@pytest.mark.anyio
async def test_a_call_without_an_id_of_its_own_goes_by_that_of_its_item() -> None:
    one, two = ({**each, "call_id": None} for each in (ONE, TWO))
    begun = [added(one), added(two, 1), arguments("{}", item_id="fc_c2"), whole(one)]
    reply = await read(created(), *begun, whole(two, 1), end())

    assert [made.id for made in reply.tool_calls] == ["fc_c1", "fc_c2"]


@pytest.mark.anyio
async def test_arguments_given_at_the_beginning_are_whole() -> None:
    reply = await read(created(), added(call('{"a": 1}')), end())

    assert [made.arguments for made in reply.tool_calls] == [{"a": 1}]


@pytest.mark.anyio
@pytest.mark.parametrize("cut", ['{"zone": "U', "[1]"])
async def test_arguments_that_are_no_object_are_none(cut: str) -> None:
    events = await events_of(created(), added(call()), arguments(cut), end("incomplete"))

    assert events[-2:] == [
        ToolCall(id="c1", name="now", arguments=None, raw_arguments=cut),
        Done(finish_reason="incomplete"),
    ]


@pytest.mark.anyio
async def test_a_call_without_arguments_has_none_of_them() -> None:
    empty = call(None)
    reply = await read(created(), added(empty), whole(empty), end())

    assert [(made.arguments, made.raw_arguments) for made in reply.tool_calls] == [({}, "")]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "events",
    [
        [whole(thought(summary=[{"type": "summary_text", "text": "Hm."}])), whole(HELLO, 1)],
        [whole(thought(content=[{"type": "reasoning_text", "text": "Hm."}])), whole(HELLO, 1)],
        [whole(thought(summary=[{"type": "summary_text", "text": "Hm."}]), None), whole(HELLO)],
        [
            piece("reasoning_text", "Hm."),
            text("Hel", 1),
            text("lo", 1),
            whole(thought(summary=[{"type": "summary_text", "text": "Hm."}])),
            whole(HELLO, 1),
        ],
        [piece("reasoning", "Hm.", None), text("Hello", None), whole(thought()), whole(HELLO, 1)],
        [
            piece("reasoning", "Hm."),
            text("Hello", 1),
            whole(thought(content=None)),
            whole(HELLO, 1),
        ],
        [piece("reasoning", "Hm."), whole(thought()), whole(HELLO, 1)],
        [piece("reasoning", "Hm."), whole(thought()), text("Hello", 1), whole(HELLO, 1)],
    ],
)
@pytest.mark.parametrize("output", [None, [], [thought(), HELLO], [HELLO]])
async def test_what_comes_whole_or_in_pieces_comes_once(events: Any, output: object) -> None:
    reply = await read(created(), *events, end(output=output))

    assert (reply.reasoning, reply.text) == ("Hm.", "Hello")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "events",
    [
        [],
        [text("Hello")],
        [text("Hello", 3)],
        [added(call())],
        [added(call()), arguments("{}")],
        [text("Hello"), added(call(), 1), arguments("{}", 1)],
        [whole(call("{}")), whole(HELLO)],
        [added(call()), whole(HELLO, 1)],
        [added(call()), arguments("{}"), whole(HELLO, 1)],
    ],
)
async def test_what_comes_at_the_end_only_comes_once(events: Any) -> None:
    reply = await read(created(), *events, end(output=[HELLO, call("{}")]))

    assert reply.text == "Hello"
    assert [(made.id, made.raw_arguments) for made in reply.tool_calls] == [("c1", "{}")]
    assert reply.events[-1] == Done(finish_reason="completed")


@pytest.mark.anyio
async def test_two_whole_messages_are_two_texts() -> None:
    both = [message("A"), message("B")]

    assert (await read(created(), whole(both[0]), whole(both[1], 1), end())).text == "AB"
    assert (await read(created(), end(output=both))).text == "AB"
    assert (await read(created(), text("A"), whole(both[0]), whole(both[1], 1), end())).text == "AB"


@pytest.mark.anyio
async def test_arguments_that_are_only_said_when_done_are_the_arguments() -> None:
    done = wire_event("function_call_arguments.done", output_index=0, arguments='{"a": 1}')
    reply = await read(created(), added(call()), done, end())
    again = await read(created(), added(call()), arguments('{"a": 1}'), done, end())

    assert [made.arguments for made in (*reply.tool_calls, *again.tool_calls)] == [{"a": 1}] * 2


ITEMS = [
    thought(encrypted_content="c2Vj"),
    {"type": "web_search_call", "id": "ws1", "status": "completed", "action": {"query": "time"}},
    {"type": "custom_tool_call", "id": "ct1", "call_id": "c1", "name": "sql", "input": "SELECT 1"},
    {"type": "tool_search_call", "arguments": {"paths": ["a"]}, "content": "no parts"},
    HELLO,
    call("{}"),
    {},
]


@pytest.mark.anyio
async def test_every_item_comes_whole_to_be_sent_back() -> None:
    streamed = await read(created(), *(whole(each, at) for at, each in enumerate(ITEMS)), end())
    at_the_end = await read(created(), end(output=ITEMS))

    for reply in (streamed, at_the_end):
        assert [event.item for event in reply.events if isinstance(event, Item)] == ITEMS
        assert [made.id for made in reply.tool_calls] == ["c1"]
        assert reply.text == "Hello"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (end(), "completed"),
        (end("incomplete", incomplete_details={"reason": "max_output_tokens"}), "incomplete"),
        (wire_event("done", response={"status": "cancelled"}), "cancelled"),
        (wire_event("completed", response={"id": "r1"}), None),
        (wire_event("completed"), None),
    ],
)
async def test_the_end_says_the_status(last: bytes, reason: str | None) -> None:
    assert await events_of(created(), text("A"), last) == [
        TextDelta(text="A"),
        Done(finish_reason=reason),
    ]


@pytest.mark.anyio
async def test_the_reason_of_an_incomplete_response_is_in_its_wire() -> None:
    reply = await read(
        created(), end("incomplete", incomplete_details={"reason": "content_filter"})
    )

    done = reply.events[-1]
    assert isinstance(done, Done)
    assert done.wire.response["incomplete_details"] == {"reason": "content_filter"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("usage", "reported"),
    [
        ({"input_tokens": 3, "output_tokens": 5}, Usage(input_tokens=3, output_tokens=5)),
        ({"input_tokens": 3, "output_tokens": None}, Usage(input_tokens=3)),
        (None, None),
        ({}, None),
    ],
)
async def test_usage_is_what_the_end_reports(usage: object, reported: Usage | None) -> None:
    assert (await read(created(usage=None), end(usage=usage))).usage == reported


@pytest.mark.anyio
async def test_events_of_other_types_are_counted_and_keep_alives_tolerated() -> None:
    steps = [
        created(),
        wire_event("in_progress", response={}),
        b": keep-alive\n\n",
        sse({"type": "keepalive", "sequence_number": 3}),
        wire_event("content_part.added", part={"type": "output_text", "text": ""}),
        text("A", logprobs=[], obfuscation="x"),
        added({"type": "image_generation_call"}, 1),
        wire_event("output_text.done", text="A"),
        end(),
    ]
    async with open_responses(*steps) as session:
        stream = session.stream("Hi", model="m")
        reply = await stream.collect()

    assert reply.events == [TextDelta(text="A"), Done(finish_reason="completed")]
    assert stream.stats.unknown_events == 4


@pytest.mark.anyio
@pytest.mark.parametrize(
    "content_type", [None, "text/event-stream", "text/event-stream; charset=x"]
)
async def test_servers_need_no_names_no_media_type_and_may_say_done(
    content_type: str | None,
) -> None:
    bare = b"".join(line for line in ANSWER.splitlines(keepends=True) if line[:5] != b"event")
    answer = mock_stream(bare, sse("[DONE]"), content_type=content_type)
    async with OpenAIResponses(transport=httpx.MockTransport(answer), retry=ONCE) as session:
        reply = await session.stream("Hi", model="m").collect()

    assert reply.events == (await read(ANSWER)).events


@pytest.mark.anyio
async def test_an_answer_becomes_these_events() -> None:
    reply = await read(ANSWER)

    assert [event for event in reply.events if not isinstance(event, Item)] == [
        ReasoningDelta(text="Hm."),
        TextDelta(text="Grü"),
        TextDelta(text="ße"),
        ToolCallStart(id="c1", name="now"),
        ToolCallDelta(id="c1", arguments='{"zone": '),
        ToolCallDelta(id="c1", arguments='"UTC"}'),
        ToolCall.parse(id="c1", name="now", raw_arguments='{"zone": "UTC"}'),
        Usage(input_tokens=3, output_tokens=5),
        Done(finish_reason="completed"),
    ]


NESTED = {"type": "server_error", "code": "overloaded", "message": "Busy", "param": None}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reported", "named", "passing"),
    [
        (sse({"type": "error", "code": "bad_input", "message": "Busy"}), "bad_input", False),
        (sse({"type": "error", "code": "server_error", "message": "Busy"}), "server_error", True),
        (sse({"type": "error", "code": None, "message": "Busy"}), "", False),
        (sse({"type": "error", "error": NESTED}), "server_error", True),
        (sse({"type": "error", "error": NESTED | {"code": None}}), "server_error", True),
        (sse_event({"code": "bad_input", "message": "Busy"}, event="error"), "bad_input", False),
        (
            wire_event("failed", response={"error": {"code": "bad_input", "message": "Busy"}}),
            "bad_input",
            False,
        ),
        (
            sse({"type": "response.failed", "response": {"error": NESTED | {"type": None}}}),
            "overloaded",
            True,
        ),
    ],
)
async def test_a_failure_is_a_remote_error(reported: bytes, named: str, passing: bool) -> None:  # noqa: FBT001
    error = await failure(created(error=None), text("A"), reported, end())

    assert isinstance(error, RemoteError)
    assert (str(error), error.type, error.retryable) == ("Busy", named, passing)
    assert error.partial.text == "A"


@pytest.mark.anyio
@pytest.mark.parametrize("response", [{"status": "failed", "error": None}, {}])
async def test_a_failure_without_a_reason_is_one_all_the_same(response: object) -> None:
    error = await failure(created(), text("A"), wire_event("failed", response=response))

    assert isinstance(error, RemoteError)
    assert (error.type, error.retryable) == ("response.failed", False)
    assert error.data["response"] == response


@pytest.mark.anyio
async def test_a_text_about_failures_is_none() -> None:
    about = '{"type":"response.failed","error":{"message":"no"}}'

    assert (await read(created(), text(about), end())).text == about


@pytest.mark.anyio
async def test_a_failure_before_the_first_event_is_tried_again_if_it_passes() -> None:
    failed = wire_event("failed", response={"error": {"code": "server_error", "message": "No"}})
    bodies = [[created() + failed], [ANSWER]]
    async with OpenAIResponses(transport=playing_each(bodies), retry=AT_ONCE) as session:
        stream = session.stream("Hi", model="m")
        reply = await stream.collect()

    assert (reply.text, stream.stats.attempts) == ("Grüße", 2)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "events", [[], [created()], [created(), text("A")], [added(call()), arguments("{}")]]
)
async def test_a_clean_end_before_the_last_event_is_truncated(events: list[bytes]) -> None:
    error = await failure(*events)

    assert isinstance(error, StreamTruncated)
    assert not any(isinstance(event, Done | ToolCall) for event in error.events)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("event", "field"),
    [
        (piece("output_text", 1), "delta"),
        (wire_event("output_item.done", item=[]), "item"),
        (wire_event("completed", response={"output": 1}), "decode() failed"),
        (wire_event("failed", response=None), "decode() failed"),
    ],
)
async def test_an_event_of_the_wrong_shape_is_a_decode_error(event: bytes, field: str) -> None:
    error = await failure(created(), text("A"), event, end())

    assert isinstance(error, DecodeError)
    assert field in str(error)
    assert error.partial.text == "A"


@pytest.mark.anyio
async def test_the_event_of_the_api_is_reachable_from_each_of_ours() -> None:
    reply = await read(
        created(), added(call()), text("A", 1, logprobs=["x"]), whole(call("{}")), end()
    )

    kinds = [event.wire.type for event in reply.events]
    assert kinds == [
        "response.output_item.added",
        "response.output_text.delta",
        "response.output_item.done",
        "response.output_item.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert reply.events[1].wire.model_extra["logprobs"] == ["x"]
    assert reply.tool_calls[0].wire.item == call("{}")


@pytest.mark.anyio
async def test_every_event_survives_json() -> None:
    reply = await read(created(background=True), piece("refusal", "No"), ANSWER)
    adapter: TypeAdapter[ResponseEvent] = TypeAdapter(ResponseEvent)

    assert [type(event) for event in reply.events[:2]] == [Started, Refusal]
    assert [
        adapter.validate_json(event.model_dump_json()) for event in reply.events
    ] == reply.events


@pytest.mark.anyio
@ONE_LOOP
async def test_a_body_that_ends_at_any_byte_is_truncated() -> None:
    events = (await read(ANSWER)).events
    bodies = ([ANSWER[:cut]] for cut in range(len(ANSWER)))
    async with OpenAIResponses(transport=playing_each(bodies), retry=ONCE) as session:
        for cut in range(len(ANSWER)):
            stream = session.stream("Hi", model="m")
            error = await ending(stream)

            if error is None:  # the last event lacks nothing but its blank line
                assert cut >= len(ANSWER) - 2
                assert stream.reply.events == events
            else:
                assert isinstance(error, StreamTruncated), cut
                assert_kept(error, stream, events)


@pytest.mark.anyio
@ONE_LOOP
async def test_a_body_that_breaks_off_at_any_byte_has_interrupted_the_stream() -> None:
    events = (await read(ANSWER)).events
    bodies: Iterator[list[Step]] = ([ANSWER[:cut], HANG_UP] for cut in range(len(ANSWER)))
    async with OpenAIResponses(transport=playing_each(bodies), retry=ONCE) as session:
        for cut in range(len(ANSWER)):
            stream = session.stream("Hi", model="m")
            error = await ending(stream)

            assert isinstance(error, StreamInterrupted), cut
            assert_kept(error, stream, events)


@pytest.mark.anyio
@ONE_LOOP
async def test_a_server_that_hangs_up_at_any_byte_has_interrupted_the_stream() -> None:
    body = created() + text("ü") + end()
    cuts = [ScriptedResponse([body], hang_up_after=cut) for cut in range(len(body))]
    async with (
        ScriptedServer(*cuts) as server,
        OpenAIResponses(base_url=server.url, retry=ONCE) as session,
    ):
        for cut in range(len(body)):
            stream = session.stream("Hi", model="m")
            error = await ending(stream)

            assert isinstance(error, StreamInterrupted), cut
            assert_kept(error, stream, [TextDelta(text="ü")])


def assert_kept(
    error: StreamError, stream: Stream[ResponseEvent], events: list[ResponseEvent]
) -> None:
    """Check that an error has all that came, and that it does not look complete."""
    came = stream.reply.events
    assert error.partial is stream.reply
    assert came == events[: len(came)]
    assert not any(isinstance(event, Done) for event in came)


# In the background


def numbered(*events: bytes) -> list[bytes]:
    """The events of a response that the server goes on with, and their numbers."""
    begun = created(background=True)
    return [
        event.replace(b'"type":', b'"sequence_number":%d,"type":' % number, 1)
        for number, event in enumerate((begun, *events))
    ]


STORY = numbered(
    wire_event("in_progress", response={}),
    added(message("")),
    text("Once "),
    text("upon "),
    text("a time"),
    wire_event("output_text.done", text="Once upon a time"),
    whole(message("Once upon a time")),
    added(call(), 1),
    arguments('{"zone": ', 1),
    arguments('"UTC"}', 1),
    whole(call('{"zone": "UTC"}'), 1),
    end(usage={"input_tokens": 3, "output_tokens": 5}),
)


class Background:
    """Tells a story from where it is asked to, and breaks off.

    Args:
        cuts: How much comes of each response, in bytes; those after the last one are whole.
        honours: Whether it goes on where it is asked to, or always begins anew.
    """

    def __init__(self, *cuts: int, honours: bool = True) -> None:
        self.requests: list[httpx.Request] = []
        self.cuts = list(cuts)
        self._honours = honours

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        after = int(request.url.params.get("starting_after", -1)) if self._honours else -1
        body = b"".join(STORY[after + 1 :])
        steps: list[Step] = [body[: self.cuts.pop(0)], RESET] if self.cuts else [body]
        return mock_stream(*steps)(request)

    def session(self, **options: Any) -> OpenAIResponses:
        return OpenAIResponses(
            transport=httpx.MockTransport(self), api_key=CANARY, retry=AT_ONCE, **options
        )

    @property
    def asked(self) -> list[str]:
        """What was asked for, in order."""
        return [f"{each.method} {each.url.raw_path.decode()}" for each in self.requests]


def size(events: int) -> int:
    """The bytes of so many events of the story."""
    return len(b"".join(STORY[:events]))


async def tell(server: Background, **options: Any) -> Reply[ResponseEvent]:
    """The story, as it comes from this server."""
    async with server.session(**options) as session:
        return await session.stream("Hi", model="m", background=True).collect()


@pytest.mark.anyio
async def test_a_background_response_says_its_id_first() -> None:
    server = Background()
    reply = await tell(server)

    assert reply.events[0] == Started(id="r1")
    assert reply.text == "Once upon a time"
    assert json.loads(server.requests[0].content)["background"] is True


@pytest.mark.anyio
async def test_a_broken_background_stream_goes_on_after_the_last_event() -> None:
    server = Background(size(5) + 30)
    reply = await tell(server)

    assert server.asked == [
        "POST /v1/responses",
        "GET /v1/responses/r1?stream=true&starting_after=4",
    ]
    assert server.requests[1].headers["authorization"] == f"Bearer {CANARY}"
    assert server.requests[1].content == b""
    assert reply.events == (await tell(Background())).events
    assert reply.complete


@pytest.mark.anyio
@pytest.mark.parametrize("honours", [True, False], ids=["it goes on", "it begins anew"])
async def test_nothing_is_lost_or_repeated_wherever_a_background_stream_breaks(
    honours: bool,  # noqa: FBT001
) -> None:
    told = (await tell(Background())).events
    server = Background(honours=honours)
    async with server.session() as session:
        for begun, event in enumerate(STORY):
            for part in (0, 1, len(event) // 2, len(event) - 1):
                server.cuts = [size(begun) + part]
                server.requests.clear()
                reply = await session.stream("Hi", model="m", background=True).collect()

                assert reply.events == told, (begun, part)
                resumed = server.asked[1].partition("?")[0]
                anew = not begun  # nothing was known of the response yet
                assert resumed == ("POST /v1/responses" if anew else "GET /v1/responses/r1")


@pytest.mark.anyio
@pytest.mark.parametrize("honours", [True, False], ids=["it goes on", "it begins anew"])
async def test_a_background_stream_may_break_again_and_again(honours: bool) -> None:  # noqa: FBT001
    told = (await tell(Background())).events
    longest = max(size(at + 3) - size(at) for at in range(len(STORY)))  # two of three are silent
    for cut in range(1, 6):
        anew = range(size(cut) + longest, size(len(STORY)), longest)
        server = Background(size(cut), *([longest] * 9 if honours else anew), honours=honours)

        assert (await tell(server)).events == told, cut
        assert len(server.requests) > 3


@pytest.mark.anyio
async def test_a_background_stream_whose_body_ends_early_goes_on() -> None:
    bodies = [[b"".join(STORY[:4])], [b"".join(STORY[4:])]]
    async with OpenAIResponses(transport=playing_each(bodies), retry=AT_ONCE) as session:
        reply = await session.stream("Hi", model="m", background=True).collect()

    assert reply.events == (await tell(Background())).events


@pytest.mark.anyio
async def test_only_a_background_response_goes_on_without_a_reader() -> None:
    numbered_all_the_same = text("Once ", sequence_number=1)
    answer = mock_stream(created(background=False), numbered_all_the_same, RESET)
    async with OpenAIResponses(transport=httpx.MockTransport(answer), retry=AT_ONCE) as session:
        error = await ending(session.stream("Hi", model="m"))

    assert isinstance(error, StreamInterrupted)
    assert error.partial.text == "Once "
    assert len(answer.requests) == 1


@pytest.mark.anyio
async def test_a_stream_that_keeps_no_reply_does_not_go_on() -> None:
    server = Background(size(5))
    async with server.session(keep_reply=False) as session:
        error = await ending(session.stream("Hi", model="m", background=True))

    assert isinstance(error, StreamInterrupted)
    assert len(server.requests) == 1


@pytest.mark.anyio
async def test_a_background_stream_without_numbers_does_not_go_on() -> None:
    answer = mock_stream(created(background=True), text("Once "), RESET)
    async with OpenAIResponses(transport=httpx.MockTransport(answer), retry=AT_ONCE) as session:
        error = await ending(session.stream("Hi", model="m", background=True))

    assert isinstance(error, StreamInterrupted)
    assert len(answer.requests) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFound), (400, StatusError)], ids=["it is gone", "it is too old"]
)
async def test_a_background_response_that_is_no_longer_there_is_its_error(
    status: int, kind: type[StatusError]
) -> None:
    told = b"".join(STORY[:5])
    gone = sse({"error": {"message": "no longer", "type": "invalid_request_error"}})
    responses = (
        ScriptedResponse([told, RESET], content_type="text/event-stream"),
        ScriptedResponse([gone], status, content_type="application/json"),
    )
    answer = MockStream(*responses)
    async with OpenAIResponses(transport=httpx.MockTransport(answer), retry=AT_ONCE) as session:
        error = await ending(session.stream("Hi", model="m", background=True))

    assert isinstance(error, StatusError)
    assert (type(error), error.status) == (kind, status)
    assert error.partial.text == "Once upon "
    assert len(answer.requests) == 2


@pytest.mark.anyio
async def test_a_server_that_stays_away_interrupts_a_background_stream_in_the_end() -> None:
    server = Background(size(5), 0, 0, 0, 0)
    async with server.session() as session:
        error = await ending(session.stream("Hi", model="m", background=True))

    assert isinstance(error, StreamInterrupted)
    assert error.partial.text == "Once upon "
    assert server.asked[1:] == ["GET /v1/responses/r1?stream=true&starting_after=4"] * 2


@pytest.mark.anyio
async def test_a_background_response_that_was_left_can_be_followed() -> None:
    server = Background(size(6))
    async with server.session() as session:
        async with session.stream("Hi", model="m", background=True) as left:
            async for event in left:
                if isinstance(event, TextDelta):
                    break
        started = left.reply.events[0]
        assert isinstance(started, Started)
        reply = await session.follow(started.id).collect()

    assert server.asked[1:] == ["GET /v1/responses/r1?stream=true"]
    assert reply.events == (await tell(Background())).events


@pytest.mark.anyio
async def test_a_stream_that_follows_goes_on_when_it_breaks() -> None:
    server = Background(size(6))
    async with server.session() as session:
        reply = await session.follow("r1").collect()

    assert server.asked == [
        "GET /v1/responses/r1?stream=true",
        "GET /v1/responses/r1?stream=true&starting_after=5",
    ]
    assert reply.events == (await tell(Background())).events


def test_the_event_type_is_inferred() -> None:
    session = OpenAIResponses(api_key=CANARY)

    assert_type(session.stream("Hi", model="m"), Stream[ResponseEvent])
    assert_type(session.follow("r1"), Stream[ResponseEvent])
