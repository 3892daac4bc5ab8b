"""Ollama's chat API: what each kind of line becomes, and how a stream ends."""

import itertools
import json
from typing import Any, assert_type

import httpx
import pytest
from pydantic import TypeAdapter

from offline import OLLAMA
from ollama import Chunk, Ollama
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
    TokenEvent,
    ToolCall,
    ToolCallStart,
    Usage,
)
from streamsession.testing import (
    HANG_UP,
    ScriptedResponse,
    ScriptedServer,
    Step,
    json_lines,
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

NDJSON = "application/x-ndjson"
PRINTED = f"""\
Let me look.
reply.reasoning='Ask the clock.'
reply.tool_calls={[ToolCall.parse(id="c1", name="time", raw_arguments="{}")]}
reply.usage={Usage(input_tokens=12, output_tokens=34)!r}
reply.finish_reason='stop'
"""


def line(**message: object) -> dict[str, Any]:
    """A line as the API writes it."""
    message = {"role": "assistant", "content": "", **message}
    return {"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": False}


def call(name: str, arguments: object, **more: object) -> dict[str, Any]:
    return {**more, "function": {"name": name, "arguments": arguments}}


def end(reason: str | None = "stop", /, **counts: int | None) -> dict[str, Any]:
    done = {} if reason is None else {"done_reason": reason}
    return {**line(), "done": True, **done, "total_duration": 5, **counts}


ANSWER = json_lines(
    {"message": {"thinking": "Hm."}},
    {"message": {"content": "Grüße"}},
    {"message": {"tool_calls": [call("now", {"zone": "UTC"}, id="t1")]}},
    {"done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 5},
)


def open_ollama(*lines: object) -> Ollama:
    answer = mock_stream(json_lines(*lines), content_type=NDJSON)
    return Ollama(transport=httpx.MockTransport(answer), retry=ONCE)


async def read(*lines: object) -> Reply[TokenEvent]:
    """The reply that these lines add up to."""
    async with open_ollama(*lines) as session:
        return await session.stream([], model="m").collect()


async def failure(*lines: object) -> Any:
    """The error that a stream of these lines ends with."""
    async with open_ollama(*lines) as session:
        return await ending(session.stream([], model="m"))


def test_the_program_prints_the_answer_of_the_server_inside_it(programs: Programs) -> None:
    program = programs["ollama.py"]

    assert program.stdout == PRINTED
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_asks_the_server_in_the_environment_without_a_key(live: Live) -> None:
    with ScriptedServer(at_once(OLLAMA)) as server:
        printed = live("ollama.py", "Why?", OLLAMA_BASE_URL=server.url, OLLAMA_MODEL="m1")

    assert printed == PRINTED
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/api/chat")
    assert NDJSON in request.headers["accept"]
    assert "authorization" not in request.headers
    assert request.json() == {
        "model": "m1",
        "messages": [{"role": "user", "content": "Why?"}],
        "stream": True,
    }


def test_the_program_sends_the_key_in_the_environment(live: Live) -> None:
    with ScriptedServer(at_once(OLLAMA)) as server:
        live("ollama.py", OLLAMA_BASE_URL=server.url, OLLAMA_API_KEY=CANARY)

    (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {CANARY}"


@pytest.mark.anyio
async def test_options_go_into_the_request() -> None:
    answer = mock_stream(ANSWER, content_type=NDJSON)
    async with Ollama(transport=httpx.MockTransport(answer)) as session:
        options = {"temperature": 0}
        await session.stream([], model="m", think="low", options=options).collect()

    body = json.loads(answer.requests[0].content)
    assert (body["think"], body["options"]) == ("low", options)


@pytest.mark.anyio
async def test_text_comes_in_pieces_and_empty_ones_are_no_events() -> None:
    reply = await read(line(content="Hel"), line(content=""), line(content="lo"), end())

    assert reply.events == [TextDelta(text="Hel"), TextDelta(text="lo"), Done(finish_reason="stop")]


@pytest.mark.anyio
async def test_thinking_is_reasoning() -> None:
    reply = await read(line(thinking="H"), line(thinking="m."), line(content="Yes"), end())

    assert (reply.reasoning, reply.text) == ("Hm.", "Yes")
    assert reply.events[:2] == [ReasoningDelta(text="H"), ReasoningDelta(text="m.")]


@pytest.mark.anyio
async def test_a_tool_call_is_whole_as_it_comes() -> None:
    reply = await read(line(tool_calls=[call("sum", {"of": [1, 2]}, id="t1")]), end())

    assert reply.events == [
        ToolCallStart(id="t1", name="sum"),
        ToolCall(id="t1", name="sum", arguments={"of": [1, 2]}, raw_arguments='{"of":[1,2]}'),
        Done(finish_reason="stop"),
    ]


@pytest.mark.anyio
async def test_tool_calls_without_ids_get_some_by_which_they_can_be_told_apart() -> None:
    two = [call("now", {"zone": "UTC"}), call("now", {"zone": "CET"}, id="")]
    reply = await read(line(tool_calls=two), line(tool_calls=[call("sum", {})]), end())

    calls = [(each.id, each.name, each.arguments) for each in reply.tool_calls]
    assert calls == [
        ("call_0", "now", {"zone": "UTC"}),
        ("call_1", "now", {"zone": "CET"}),
        ("call_2", "sum", {}),
    ]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("given", "arguments"),
    [(None, {}), ("", {}), ('{"a": 1}', {"a": 1}), ('{"a": ', None), ("[1]", None)],
)
async def test_arguments_may_be_text_or_missing(
    given: str | None, arguments: dict[str, Any] | None
) -> None:
    reply = await read(line(tool_calls=[call("now", given, id="t1")]), end())

    assert [each.arguments for each in reply.tool_calls] == [arguments]


@pytest.mark.anyio
async def test_what_the_last_line_holds_is_not_lost() -> None:
    last = {**end("length"), **line(content="lo", tool_calls=[call("now", {})]), "done": True}
    reply = await read(line(content="Hel"), last)

    assert reply.text == "Hello"
    assert [each.name for each in reply.tool_calls] == ["now"]
    assert reply.finish_reason == "length"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"prompt_eval_count": 3, "eval_count": 5}, Usage(input_tokens=3, output_tokens=5)),
        ({"eval_count": 5}, Usage(output_tokens=5)),
        ({"prompt_eval_count": 3, "eval_count": None}, Usage(input_tokens=3)),
        ({"prompt_eval_count": 0, "eval_count": 0}, Usage(input_tokens=0, output_tokens=0)),
        ({}, None),
    ],
)
async def test_usage_is_what_the_last_line_counts(
    counts: dict[str, int | None], usage: Usage | None
) -> None:
    assert (await read(line(content="A"), end(**counts))).usage == usage


@pytest.mark.anyio
@pytest.mark.parametrize("reason", [None, ""])
async def test_done_without_a_reason_is_complete(reason: str | None) -> None:
    reply = await read(line(content="A"), end(reason))

    assert reply.complete
    assert reply.events == [TextDelta(text="A"), Done(finish_reason=None)]


@pytest.mark.anyio
async def test_what_follows_the_last_line_is_not_read() -> None:
    assert (await read(line(content="A"), end(), b"[1]\n")).complete


@pytest.mark.anyio
async def test_nulls_blank_lines_and_other_objects_are_tolerated() -> None:
    reply = await read(
        {"model": "m", "message": None, "done": None},
        b"\n",
        {"status": "loading"},
        line(content=None, thinking=None, tool_calls=None, images=None),
        line(content="A"),
        end(),
    )

    assert reply.events == [TextDelta(text="A"), Done(finish_reason="stop")]


@pytest.mark.anyio
async def test_loading_a_model_is_answered_with_one_object() -> None:
    loaded = ScriptedResponse.json({"model": "m", "done": True, "done_reason": "load"})
    async with ScriptedServer(loaded) as server, Ollama(base_url=server.url) as session:
        reply = await session.stream([], model="m").collect()

    assert reply.events == [Done(finish_reason="load")]


@pytest.mark.anyio
async def test_an_error_line_is_a_remote_error_with_what_had_come() -> None:
    error = await failure(line(content="A"), {"error": "the model runner has stopped"})

    assert isinstance(error, RemoteError)
    assert str(error) == "the model runner has stopped"
    assert error.partial.text == "A"


@pytest.mark.anyio
async def test_a_model_that_is_not_there_is_not_found() -> None:
    missing = ScriptedResponse.json({"error": "model 'm' not found"}, status=404)
    async with ScriptedServer(missing) as server, Ollama(base_url=server.url) as session:
        error = await ending(session.stream([], model="m"))

    assert isinstance(error, NotFound)
    assert "model 'm' not found" in str(error)


@pytest.mark.anyio
async def test_a_busy_server_is_asked_again() -> None:
    busy = ScriptedResponse.json({"error": "server busy"}, status=503)
    async with ScriptedServer(busy, at_once(OLLAMA)) as server:
        policy = RetryPolicy(base_delay=0)
        async with Ollama(base_url=server.url, retry=policy) as session:
            stream = session.stream([], model="m")
            reply = await stream.collect()

    assert reply.text == "Let me look."
    assert stream.stats.attempts == 2


@pytest.mark.anyio
@pytest.mark.parametrize("wrong", [b"[1]\n", line(content=1), {"done": "perhaps"}])
async def test_a_line_of_the_wrong_shape_is_a_decode_error(wrong: object) -> None:
    error = await failure(line(content="A"), wrong, end())

    assert isinstance(error, DecodeError)
    assert error.partial.text == "A"


@pytest.mark.anyio
async def test_the_line_is_reachable_from_its_event() -> None:
    reply = await read(line(content="A"), end(eval_count=5))

    assert [type(event.wire) for event in reply.events] == [Chunk, Chunk, Chunk]
    done = reply.events[-1]
    assert isinstance(done, Done)
    assert done.wire.model_extra["total_duration"] == 5


@pytest.mark.anyio
async def test_every_event_survives_json() -> None:
    events = (await read(ANSWER)).events
    adapter: TypeAdapter[TokenEvent] = TypeAdapter(TokenEvent)

    assert [adapter.validate_json(event.model_dump_json()) for event in events] == events


@pytest.mark.anyio
@ONE_LOOP
async def test_cut_at_every_byte_it_ends_complete_or_with_a_named_error() -> None:
    whole = (await read(ANSWER)).events
    ends: list[tuple[list[Step], type[StreamError]]]
    ends = [([], StreamTruncated), ([HANG_UP], StreamInterrupted)]
    cuts = list(itertools.product(range(len(ANSWER)), ends))
    bodies = ([ANSWER[:cut], *last] for cut, (last, _) in cuts)
    async with Ollama(transport=playing_each(bodies, content_type=NDJSON), retry=ONCE) as session:
        for cut, (last, named) in cuts:
            stream = session.stream([], model="m")
            error = await ending(stream)

            came = stream.reply.events
            assert came == whole[: len(came)], cut
            if error is None:
                assert not last
                assert cut == len(ANSWER) - 1  # the last line end may be missing
                assert came == whole
            else:
                assert isinstance(error, named), cut
                assert error.partial is stream.reply


def test_the_event_type_is_inferred() -> None:
    session = Ollama()

    assert_type(session.stream([], model="m"), Stream[TokenEvent])
