"""A real `strands.Agent` over a session: its turns, and what Strands by itself gets wrong.

Measured with strands-agents 1.62 and a model that only makes chunks: a stream cut short is an
"end_turn", a tool runs with `{}`, a retry repeats tokens, a stalled stream is not cancelled.
"""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, nullcontext
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
import pytest
from anyio import CancelScope
from opentelemetry.instrumentation.threading import (  # pyright: ignore[reportMissingTypeStubs]
    ThreadingInstrumentor,
)
from pydantic import BaseModel
from strands import Agent, tool  # pyright: ignore[reportUnknownVariableType]
from strands.agent import AgentResult
from strands.types.exceptions import (
    ContextWindowOverflowException,
    EventLoopException,
    MaxTokensReachedException,
)
from strands.types.tools import AgentTool, ToolChoice, ToolSpec

from openai_chat import OpenAIChat
from strands_model import OFFLINE, SessionModel, chat_tools
from streamsession import (
    DecodeError,
    RateLimited,
    RemoteError,
    RetryPolicy,
    SessionClosed,
    SessionStateError,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
)
from streamsession.testing import HANG_UP, HOLD, Gate, ScriptedResponse, ScriptedServer, Step
from tests.canary import CANARY
from tests.test_examples.programs import Live, Programs, at_once

PRINTED = """\
I will look it up. In Lima, at 18:04.
{'inputTokens': 120, 'outputTokens': 30, 'totalTokens': 150}
"""
PATIENCE = 5.0
"""Far more than anything here takes, in seconds, and far less than Strands waits before a retry."""
NO_WAIT = RetryPolicy(attempts=3, base_delay=0)

Part: TypeAlias = dict[str, Any] | Step | str


@pytest.fixture
def anyio_backend() -> str:
    """The only one that Strands runs on."""
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
def _threads_as_they_were() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """An `Agent` patches the threads of the whole process for its traces: not for other tests."""
    yield
    ThreadingInstrumentor().uninstrument()


@pytest.fixture
def _no_tracebacks_of_theirs(caplog: pytest.LogCaptureFixture) -> None:  # pyright: ignore[reportUnusedFunction]
    """Strands has its generators closed by the garbage collector, which OpenTelemetry complains of.

    pytest would keep the traceback, and with it the generators and the stream.
    """
    caplog.set_level(logging.CRITICAL, "opentelemetry.context")


# What the server sends


def text(piece: str) -> Part:
    return {"choices": [{"delta": {"content": piece}}]}


def reasoning(piece: str) -> Part:
    return {"choices": [{"delta": {"reasoning_content": piece}}]}


def call(arguments: str, *, index: int = 0, name: str = "weather") -> Part:
    """A tool call, or more of the arguments of one: its name and id may come every time."""
    function = {"name": name, "arguments": arguments}
    fragment = {"index": index, "id": f"c{index}", "function": function}
    return {"choices": [{"delta": {"tool_calls": [fragment]}}]}


def finish(reason: str) -> Part:
    return {"choices": [{"delta": {}, "finish_reason": reason}]}


def usage(prompt: int, completion: int) -> Part:
    spent = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {"choices": [], "usage": spent}


def whole(*parts: Part, reason: str = "stop") -> ScriptedResponse:
    """An answer that is complete."""
    return ScriptedResponse.sse(*parts, finish(reason), usage(3, 5), "[DONE]")


HELLO = whole(text("Hel"), text("lo"))
CALL = whole(call('{"city": "Lima"}'), reason="tool_calls")
THROTTLED = ScriptedResponse.json({"error": {"message": "Slow down."}}, status=429)
TOO_LONG = ScriptedResponse.json(
    {"error": {"message": "Too long.", "code": "context_length_exceeded"}}, status=400
)


# Who asks it


@pytest.fixture
def asked() -> list[str]:
    """What the tool was called with."""
    return []


@pytest.fixture
def weather(asked: list[str]) -> AgentTool:
    """A tool that would run with `{}`."""

    @tool
    def weather(city: str = "everywhere") -> str:
        """Tell the weather."""
        asked.append(city)
        return f"Rain in {city}."

    return weather


@asynccontextmanager
async def agent_of(
    server: ScriptedServer, *tools: AgentTool, **options: Any
) -> AsyncGenerator[Agent]:
    """An agent over a session with the server."""
    async with OpenAIChat(base_url=server.url, api_key=CANARY, retry=NO_WAIT) as session:
        model = SessionModel(session, model_id="m1")
        yield Agent(model, tools=list(tools), callback_handler=None, **options)


async def listen(agent: Agent, heard: list[str], prompt: str | None = "Hi") -> AgentResult:
    """Have it answer; `heard` gets the tokens as they come."""
    result: AgentResult | None = None
    async for event in agent.stream_async(prompt):
        if "data" in event:
            heard.append(event["data"])
        result = event.get("result")
    assert result is not None
    return result


async def failure(agent: Agent) -> tuple[BaseException, list[str]]:
    """What its answer ends with, which is no result, and the tokens that came before."""
    heard: list[str] = []
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the tests look at it
        await listen(agent, heard)
    return caught.value, heard


# An agent at work


def test_the_program_prints_what_the_agent_says_and_spent(programs: Programs) -> None:
    program = programs["strands_model.py"]

    assert program.stdout == PRINTED
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_asks_the_server_in_the_environment(live: Live) -> None:
    with ScriptedServer(*map(at_once, OFFLINE)) as server:
        named = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": CANARY, "OPENAI_MODEL": "m1"}
        printed = live("strands_model.py", "When?", **named)

    assert printed == PRINTED
    first, second = (request.json() for request in server.requests)
    assert first["model"] == "m1"
    assert first["messages"] == [{"role": "user", "content": "When?"}]
    assert second["messages"][-1]["content"] == "The sun sets in Lima at 18:04."


@pytest.mark.anyio
async def test_an_agent_hands_on_the_tokens_and_ends_with_message_and_usage() -> None:
    heard: list[str] = []
    async with ScriptedServer(HELLO) as server, agent_of(server, system_prompt="Be nice.") as agent:
        result = await listen(agent, heard)

    assert heard == ["Hel", "lo"]
    assert result.stop_reason == "end_turn"
    assert result.message["content"] == [{"text": "Hello"}]
    spent = {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8}
    assert result.metrics.accumulated_usage == spent
    (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert request.json() == {
        "model": "m1",
        "messages": [
            {"role": "system", "content": "Be nice."},
            {"role": "user", "content": "Hi"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.anyio
async def test_a_tool_runs_with_its_arguments_and_the_model_goes_on(
    weather: AgentTool, asked: list[str]
) -> None:
    heard: list[str] = []
    first = whole(
        text("Let me look."),
        call('{"city"'),
        call(': "Lima"}'),
        call('{"city": "Oslo"}', index=1),
        reason="tool_calls",
    )
    async with ScriptedServer(first, HELLO) as server, agent_of(server, weather) as agent:
        result = await listen(agent, heard)

    assert sorted(asked) == ["Lima", "Oslo"]
    assert heard == ["Let me look.", "Hel", "lo"]
    assert result.metrics.accumulated_usage["totalTokens"] == 16
    opening, going_on = (request.json() for request in server.requests)
    (offered,) = opening["tools"]
    assert offered["function"]["name"] == "weather"
    assert offered["function"]["parameters"]["properties"]["city"]["type"] == "string"
    _, assistant, *results = going_on["messages"]
    assert assistant["content"] == "Let me look."
    assert [
        (each["id"], each["function"]["name"], json.loads(each["function"]["arguments"]))
        for each in assistant["tool_calls"]
    ] == [("c0", "weather", {"city": "Lima"}), ("c1", "weather", {"city": "Oslo"})]
    assert results == [
        {"role": "tool", "tool_call_id": "c0", "content": "Rain in Lima."},
        {"role": "tool", "tool_call_id": "c1", "content": "Rain in Oslo."},
    ]


@pytest.mark.anyio
async def test_reasoning_is_a_block_of_its_own_and_is_not_sent_back() -> None:
    first = whole(reasoning("H"), reasoning("m."), text("Yes."))
    async with ScriptedServer(first, HELLO) as server, agent_of(server) as agent:
        result = await agent.invoke_async("Hi")
        await agent.invoke_async("Sure?")

    thought, said = result.message["content"]
    assert thought == {"reasoningContent": {"reasoningText": {"text": "Hm."}}}
    assert said == {"text": "Yes."}
    assert server.requests[1].json()["messages"][1:] == [
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Sure?"},
    ]


@pytest.mark.anyio
async def test_a_refusal_is_what_the_agent_says() -> None:
    refused = whole({"choices": [{"delta": {"refusal": "I won't."}}]})
    heard: list[str] = []
    async with ScriptedServer(refused) as server, agent_of(server) as agent:
        await listen(agent, heard)

    assert heard == ["I won't."]


@pytest.mark.anyio
async def test_the_configuration_is_read_at_each_turn() -> None:
    async with ScriptedServer(HELLO, HELLO) as server, agent_of(server) as agent:
        await agent.invoke_async("Hi")
        agent.model.update_config(model_id="m2", params={"seed": 1}, context_window_limit=100)
        await agent.invoke_async("Hi")

    assert agent.model.context_window_limit == 100
    requests = [request.json() for request in server.requests]
    assert [(each["model"], each.get("seed")) for each in requests] == [("m1", None), ("m2", 1)]


DOCUMENT: Part = {"document": {"name": "a", "format": "txt", "source": {"bytes": b""}}}
IMAGE_OF_A_TOOL: Part = {
    "toolResult": {"toolUseId": "c0", "status": "success", "content": [{"image": {}}]}
}


@pytest.mark.anyio
@pytest.mark.parametrize("content", [DOCUMENT, IMAGE_OF_A_TOOL])
async def test_content_that_the_model_cannot_send_is_refused(content: Any) -> None:
    async with ScriptedServer() as server, agent_of(server) as agent:
        with pytest.raises(TypeError, match=r"not (document|image)"):
            await agent.invoke_async([content])

    assert not server.requests


# A stream that is cut short


@pytest.mark.anyio
@pytest.mark.parametrize(("cut", "error"), [((), StreamTruncated), ((HANG_UP,), StreamInterrupted)])
async def test_a_cut_answer_is_an_error_that_keeps_what_came(
    cut: tuple[Step, ...], error: type[StreamError]
) -> None:
    cut_short = ScriptedResponse.sse(text("Hel"), text("lo"), *cut)
    async with ScriptedServer(cut_short) as server, agent_of(server) as agent:
        raised, heard = await failure(agent)

    assert type(raised) is error
    assert isinstance(raised, StreamError)
    assert raised.partial.text == "Hello"
    assert heard == ["Hel", "lo"]
    assert [message["role"] for message in agent.messages] == ["user"]
    assert len(server.requests) == 1


@pytest.mark.anyio
async def test_in_a_later_turn_strands_wraps_the_error(weather: AgentTool) -> None:
    cut_short = ScriptedResponse.sse(text("Hel"))
    async with ScriptedServer(CALL, cut_short) as server, agent_of(server, weather) as agent:
        raised, _ = await failure(agent)

    assert isinstance(raised, EventLoopException)
    assert isinstance(raised.original_exception, StreamTruncated)
    assert raised.original_exception.partial.text == "Hel"


@pytest.mark.anyio
@pytest.mark.parametrize("arguments", ["", '{"city": "Li', '{"city": "Lima"}'])
async def test_a_tool_call_in_a_cut_answer_does_not_run(
    weather: AgentTool, asked: list[str], arguments: str
) -> None:
    cut_short = ScriptedResponse.sse(call(arguments))
    async with ScriptedServer(cut_short) as server, agent_of(server, weather) as agent:
        raised, _ = await failure(agent)

    assert isinstance(raised, StreamTruncated)
    assert asked == []


@pytest.mark.anyio
@pytest.mark.parametrize("arguments", ['{"city": "Li', "Lima", '"Lima"', "[]", "null"])
async def test_a_tool_call_whose_arguments_are_no_object_does_not_run(
    weather: AgentTool, asked: list[str], arguments: str
) -> None:
    malformed = whole(text("Let me look."), call(arguments), reason="tool_calls")
    async with ScriptedServer(malformed, HELLO) as server, agent_of(server, weather) as agent:
        raised, _ = await failure(agent)
        again = await listen(agent, [], prompt=None)

    assert isinstance(raised, DecodeError)
    assert "'weather' are no JSON object" in str(raised)
    assert raised.partial.text == "Let me look."
    assert asked == []
    assert again.message["content"] == [{"text": "Hello"}]
    assert server.requests[1].json()["messages"] == [{"role": "user", "content": "Hi"}]


@pytest.mark.anyio
async def test_a_tool_call_cut_by_the_limit_of_tokens_does_not_run(
    weather: AgentTool, asked: list[str]
) -> None:
    limited = whole(call('{"city": "Li'), reason="length")
    async with ScriptedServer(limited) as server, agent_of(server, weather) as agent:
        raised, _ = await failure(agent)

    assert isinstance(raised, MaxTokensReachedException)
    assert asked == []


@pytest.mark.anyio
async def test_a_tool_without_arguments_runs(weather: AgentTool, asked: list[str]) -> None:
    first = whole(call(""), reason="tool_calls")
    async with ScriptedServer(first, HELLO) as server, agent_of(server, weather) as agent:
        await agent.invoke_async("Hi")

    assert asked == ["everywhere"]


# Trying again


@pytest.mark.anyio
@pytest.mark.parametrize(
    "first", [THROTTLED, ScriptedResponse.sse(HANG_UP), ScriptedResponse.sse()]
)
async def test_what_fails_before_the_first_token_is_tried_again_and_no_token_comes_twice(
    first: ScriptedResponse,
) -> None:
    heard: list[str] = []
    async with ScriptedServer(first, first, HELLO) as server, agent_of(server) as agent:
        result = await listen(agent, heard)

    assert heard == ["Hel", "lo"]
    assert result.message["content"] == [{"text": "Hello"}]
    assert len(server.requests) == 3


@pytest.mark.anyio
async def test_throttling_that_outlives_the_retries_is_an_error_at_once() -> None:
    async with ScriptedServer(THROTTLED, repeat=True) as server, agent_of(server) as agent:
        with anyio.fail_after(PATIENCE):
            raised, _ = await failure(agent)

    assert isinstance(raised, RateLimited)
    assert raised.attempts == len(server.requests) == NO_WAIT.attempts


@pytest.mark.anyio
async def test_throttling_in_mid_stream_is_an_error_and_not_tried_again() -> None:
    report = {"error": {"type": "rate_limit_exceeded", "message": "Slow down."}}
    throttled = ScriptedResponse.sse(text("Hel"), report)
    async with ScriptedServer(throttled, HELLO) as server, agent_of(server) as agent:
        with anyio.fail_after(PATIENCE):
            raised, heard = await failure(agent)

    assert isinstance(raised, RemoteError)
    assert heard == ["Hel"]
    assert len(server.requests) == 1


@pytest.mark.anyio
async def test_a_conversation_that_is_too_long_is_shortened_by_strands() -> None:
    async with ScriptedServer(HELLO, HELLO, TOO_LONG, HELLO) as server, agent_of(server) as agent:
        await agent.invoke_async("One")
        await agent.invoke_async("Two")
        result = await agent.invoke_async("Three")

    assert result.message["content"] == [{"text": "Hello"}]
    *_, refused, shortened = (request.json()["messages"] for request in server.requests)
    assert len(refused) == 5
    assert shortened == refused[2:]


@pytest.mark.anyio
async def test_a_prompt_that_is_too_long_is_an_error_that_says_so() -> None:
    async with ScriptedServer(TOO_LONG, repeat=True) as server, agent_of(server) as agent:
        raised, _ = await failure(agent)

    assert isinstance(raised, ContextWindowOverflowException)


# Leaving early


def before_the_response(gate: Gate) -> ScriptedResponse:
    return ScriptedResponse([gate, HOLD], framing="raw")


def before_any_token(gate: Gate) -> ScriptedResponse:
    return ScriptedResponse([gate, HOLD])


def in_the_text(gate: Gate) -> ScriptedResponse:
    return ScriptedResponse.sse(text("Hel"), usage(3, 1), gate, HOLD)


def in_a_tool_call(gate: Gate) -> ScriptedResponse:
    return ScriptedResponse.sse(call('{"city": "Lima"}'), gate, HOLD)


Stall: TypeAlias = Callable[[Gate], ScriptedResponse]
STALLS = pytest.mark.parametrize(
    ("stall", "last"),  # the chunk that comes last before it
    [
        (before_the_response, None),
        (before_any_token, "messageStart"),
        (in_the_text, "metadata"),
        (in_a_tool_call, "messageStart"),
    ],
)


async def left_while_stalled(
    agent: Agent, gate: Gate, last: str | None, leave: Callable[[CancelScope], None]
) -> list[AgentResult]:
    """The results, at most one, of an answer that is left when nothing more comes of it."""
    seen = anyio.Event()
    results: list[AgentResult] = []

    async def ask() -> None:
        async for event in agent.stream_async("Hi"):
            if last in event.get("event", ()):
                seen.set()
            if "result" in event:
                results.append(event["result"])

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await gate.reached()
            if last is not None:
                await seen.wait()
            leave(tasks.cancel_scope)
    return results


@pytest.mark.anyio
@STALLS
async def test_cancelling_a_stalled_answer_returns_and_closes_its_connection(
    weather: AgentTool, asked: list[str], stall: Stall, last: str | None
) -> None:
    gate = Gate()
    async with ScriptedServer(stall(gate), HELLO) as server, agent_of(server, weather) as agent:
        results = await left_while_stalled(agent, gate, last, lambda _: agent.cancel())
        await server.until_closed()
        again = await agent.invoke_async("Again")

    assert [result.stop_reason for result in results] == ["cancelled"]
    assert asked == []
    assert again.stop_reason == "end_turn"


@pytest.mark.anyio
@STALLS
async def test_cancelling_the_task_closes_the_connection(
    weather: AgentTool, stall: Stall, last: str | None
) -> None:
    gate = Gate()
    async with ScriptedServer(stall(gate), HELLO) as server, agent_of(server, weather) as agent:
        results = await left_while_stalled(agent, gate, last, lambda scope: scope.cancel())
        await server.until_closed()
        again = await agent.invoke_async("Again")

    assert results == []
    assert again.stop_reason == "end_turn"


@pytest.mark.anyio
async def test_a_cancelled_answer_keeps_the_usage_so_far() -> None:
    result: AgentResult | None = None
    async with ScriptedServer(in_the_text(Gate())) as server, agent_of(server) as agent:
        with anyio.fail_after(PATIENCE):
            async for event in agent.stream_async("Hi"):
                if "metadata" in event.get("event", {}):
                    agent.cancel()
                result = event.get("result")

    assert result is not None
    assert result.stop_reason == "cancelled"
    assert result.metrics.accumulated_usage["totalTokens"] == 4


@pytest.mark.anyio
async def test_a_cancelled_answer_is_closed_also_while_nobody_reads_it() -> None:
    result: AgentResult | None = None
    signal = threading.Event()
    async with ScriptedServer(in_the_text(Gate())) as server, agent_of(server) as agent:
        async for event in agent.stream_async("Hi", cancel_signal=signal):
            if "data" in event:
                signal.set()
                await server.until_closed()
            result = event.get("result")

    assert result is not None
    assert result.stop_reason == "cancelled"


@pytest.mark.anyio
async def test_when_an_answer_has_ended_nobody_looks_at_the_signal_any_more() -> None:
    async with ScriptedServer(HELLO) as server, agent_of(server) as agent:
        before = asyncio.all_tasks()
        await agent.invoke_async("Hi")
        await anyio.lowlevel.checkpoint()

        assert asyncio.all_tasks() == before


@pytest.mark.anyio
@pytest.mark.usefixtures("_no_tracebacks_of_theirs")
@pytest.mark.parametrize("closing", [aclosing, nullcontext])
async def test_breaking_off_closes_the_connection_soon_after(closing: Any) -> None:
    async with ScriptedServer(in_the_text(Gate()), HELLO) as server, agent_of(server) as agent:
        async with closing(agent.stream_async("Hi")) as events:
            async for event in events:
                if "data" in event:
                    break
        del events
        await server.until_closed()
        again = await agent.invoke_async("Again")

    assert again.message["content"] == [{"text": "Hello"}]


@pytest.mark.anyio
async def test_leaving_the_session_closes_what_strands_has_left_open() -> None:
    async with ScriptedServer(in_the_text(Gate())) as server:
        async with agent_of(server) as agent:
            events = agent.stream_async("Hi")
            async for event in events:
                if "data" in event:
                    break
        await server.until_closed()
        with pytest.raises(SessionClosed):
            async for _ in events:
                pass


# Structured output


class City(BaseModel):
    """Where it is."""

    name: str


@pytest.mark.anyio
async def test_structured_output_is_the_answer_as_a_model() -> None:
    lima = whole(text('{"name": '), text('"Lima"}'))
    async with ScriptedServer(lima) as server, agent_of(server) as agent:
        with pytest.deprecated_call():
            city = await agent.structured_output_async(City, "Where?")

    assert city == City(name="Lima")
    assert server.requests[0].json()["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "City", "schema": City.model_json_schema()},
    }


@pytest.mark.anyio
@pytest.mark.parametrize("answer", ['{"name": 5}', "Lima", ""])
async def test_an_answer_that_is_not_of_the_model_is_an_error(answer: str) -> None:
    async with ScriptedServer(whole(text(answer))) as server, agent_of(server) as agent:
        prompt: Any = [{"role": "user", "content": [{"text": "Where?"}]}]
        with pytest.raises(DecodeError) as caught:
            async for _ in agent.model.structured_output(City, prompt):
                pass

    assert caught.value.partial.text == answer


@pytest.mark.anyio
async def test_an_agent_that_wants_structured_output_forces_the_tool_for_it() -> None:
    forced = whole(call('{"name": "Lima"}', name="City"), reason="stop")
    async with ScriptedServer(HELLO, forced) as server, agent_of(server) as agent:
        result = await agent.invoke_async("Where?", structured_output_model=City)

    assert result.structured_output == City(name="Lima")
    first, second = (request.json() for request in server.requests)
    assert "tool_choice" not in first
    assert second["tool_choice"] in ({"type": "function", "function": {"name": "City"}}, "required")


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (None, None),
        ({"auto": {}}, None),
        ({"any": {}}, "required"),
        ({"tool": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_the_choice_of_a_tool_is_handed_on(choice: ToolChoice | None, said: object) -> None:
    spec: ToolSpec = {"name": "f", "description": "", "inputSchema": {"json": {}}}

    assert chat_tools([spec], choice).get("tool_choice") == said
    assert chat_tools([], choice) == {}


# One event loop


@pytest.mark.anyio
async def test_calling_an_agent_without_await_is_refused_for_its_other_event_loop() -> None:
    async with ScriptedServer(HELLO) as server, agent_of(server) as agent:
        with pytest.raises(SessionStateError, match="another event loop"):
            agent("Hi")
        result = await agent.invoke_async("Hi")

    assert result.message["content"] == [{"text": "Hello"}]
