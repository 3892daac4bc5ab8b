"""The agent: what a run tells, what it asks of the model, and how it calls tools."""

import json
from collections.abc import AsyncGenerator
from typing import Any, assert_type, get_args

import anyio
import pytest
from pydantic import TypeAdapter

from agent import OFFLINE, PROMPT, MaxTurnsReached, main, run_agent
from agent_events import (
    AgentDone,
    AgentEvent,
    ToolProgress,
    ToolResult,
    ToolStarted,
    TurnDone,
    TurnReasoning,
    TurnRefusal,
    TurnStarted,
    TurnText,
    TurnToolCall,
    TurnToolCallDelta,
    TurnToolCallStart,
    TurnUsage,
)
from agent_guard import Agent
from agent_tools import Progress
from openai_chat import Chunk, OpenAIChat
from streamsession import SessionStateError, Usage
from streamsession.testing import ScriptedResponse, ScriptedServer
from tests.canary import CANARY
from tests.test_examples.agents import (
    FINAL,
    PATIENCE,
    call,
    calling,
    ending,
    events_of,
    open_agent,
    results,
    sent,
    text,
)
from tests.test_examples.programs import Live, Programs, at_once

PRINTED = """
== turn 1
(I have tools for both.)
Let me see.
c1: weekday {"day": "1969-07-20"}
c2: prime_factors {"number": 1969}
c1: Sunday
c2: 11 is one
c2: 179 is one
c2: [11,179]
== turn 2
It was a Sunday, and 1969 is 11 times 179.
== 300 tokens in, 45 out
"""


class Meeting:
    """Two tools that can only end together."""

    def __init__(self) -> None:
        self.here = anyio.Event()
        self.there = anyio.Event()

    async def come(self, name: str, progress: Progress) -> str:
        """Wait for the other one."""
        await progress(name)
        self.here.set()
        await self.there.wait()
        return "We met."

    async def go(self) -> list[int]:
        """Let the other one go on."""
        await self.here.wait()
        self.there.set()
        return [1, 2]


async def nothing() -> None:
    """Do nothing."""


# The program


def test_the_program_runs_two_tools_of_the_server_inside_it(programs: Programs) -> None:
    program = programs["agent.py"]

    assert program.stdout == PRINTED
    assert (program.returncode, program.stderr) == (0, "")


def test_the_program_asks_the_server_in_the_environment(live: Live) -> None:
    with ScriptedServer(*map(at_once, OFFLINE)) as server:
        url = f"{server.url}/v1"
        named = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": CANARY, "OPENAI_MODEL": "m1"}
        printed = live("agent.py", "Well?", **named)

    assert printed == PRINTED
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {CANARY}"}
    assert server.requests[0].json()["model"] == "m1"
    assert sent(server, 0) == [{"role": "user", "content": "Well?"}]


@pytest.mark.anyio
async def test_it_runs_on_both_event_loops(capsys: pytest.CaptureFixture[str]) -> None:
    async with ScriptedServer(*map(at_once, OFFLINE)) as server:
        await main(PROMPT, "m1", server.url)

    assert sorted(capsys.readouterr().out.splitlines()) == sorted(PRINTED.splitlines())


# What a run tells


@pytest.mark.anyio
async def test_two_turns_are_told_event_by_event() -> None:
    meeting = Meeting()
    first = ending(
        {"choices": [{"delta": {"reasoning": "Hm."}}]},
        text("Let "),
        text("me."),
        call(0, "come", '{"name": "A"}'),
        call(1, "go", "{}"),
        finish="tool_calls",
    )
    async with (
        ScriptedServer(first, FINAL) as server,
        open_agent(server, meeting.come, meeting.go) as agent,
    ):
        events = await events_of(agent)

    told = [event for event in events if not isinstance(event, ToolStarted | ToolResult)]
    assert told == [
        TurnStarted(turn=1),
        TurnReasoning(turn=1, text="Hm."),
        TurnText(turn=1, text="Let "),
        TurnText(turn=1, text="me."),
        TurnToolCallStart(turn=1, id="c0", name="come"),
        TurnToolCallDelta(turn=1, id="c0", arguments='{"name": "A"}'),
        TurnToolCallStart(turn=1, id="c1", name="go"),
        TurnToolCallDelta(turn=1, id="c1", arguments="{}"),
        TurnUsage(turn=1, input_tokens=10, output_tokens=5),
        TurnToolCall(
            turn=1,
            id="c0",
            name="come",
            arguments={"name": "A"},
            raw_arguments='{"name": "A"}',
        ),
        TurnToolCall(turn=1, id="c1", name="go", arguments={}, raw_arguments="{}"),
        TurnDone(turn=1, finish_reason="tool_calls"),
        ToolProgress(turn=1, id="c0", name="come", progress="A"),
        TurnStarted(turn=2),
        TurnText(turn=2, text="It is done."),
        TurnUsage(turn=2, input_tokens=20, output_tokens=7),
        TurnDone(turn=2, finish_reason="stop"),
        AgentDone(
            turn=2,
            text="It is done.",
            usage=Usage(input_tokens=30, output_tokens=12),
            finish_reason="stop",
        ),
    ]
    of_one = [event for event in events if getattr(event, "id", "") == "c0"]
    assert [event.type for event in of_one] == [
        "tool_call_start",
        "tool_call_delta",
        "tool_call",
        "tool_started",
        "tool_progress",
        "tool_result",
    ]
    assert of_one[-1] == ToolResult(turn=1, id="c0", name="come", content="We met.")
    assert ToolResult(turn=1, id="c1", name="go", content="[1,2]") in events


@pytest.mark.anyio
async def test_each_event_survives_json_and_no_type_is_left_out() -> None:
    async def tool(progress: Progress) -> None:
        await progress({"half": [0.5, None]})

    first = ending(
        {"choices": [{"delta": {"reasoning": "Hm."}}]},
        {"choices": [{"delta": {"refusal": "Not that."}}]},
        call(0, "tool", '{"a": 1'),
        call(1, "tool", "{}"),
        finish="tool_calls",
    )
    async with ScriptedServer(first, FINAL) as server, open_agent(server, tool) as agent:
        events = await events_of(agent)
    adapter: TypeAdapter[AgentEvent] = TypeAdapter(AgentEvent)

    assert [adapter.validate_json(event.model_dump_json()) for event in events] == events
    assert {type(event) for event in events} == set(get_args(get_args(AgentEvent)[0]))
    assert {event.turn for event in events} == {1, 2}


@pytest.mark.anyio
async def test_the_object_of_the_api_is_reachable_from_what_the_model_says() -> None:
    async with (
        ScriptedServer(ending({**text("Hi"), "tier": "flex"})) as server,
        open_agent(server) as agent,
    ):
        said = next(event for event in await events_of(agent) if isinstance(event, TurnText))

    assert isinstance(said.wire, Chunk)
    assert said.wire.model_extra == {"tier": "flex"}


@pytest.mark.anyio
async def test_progress_is_told_while_the_tool_runs() -> None:
    heard = anyio.Event()

    async def tool(progress: Progress) -> str:
        await progress(1)
        await heard.wait()
        return "heard"

    async with (
        ScriptedServer(calling(("tool", "{}")), FINAL) as server,
        open_agent(server, tool) as agent,
    ):
        with anyio.fail_after(PATIENCE):
            async for event in run_agent(agent, "Go."):
                if isinstance(event, ToolProgress):
                    heard.set()

    assert agent.turns[0].results[0].content == "heard"


@pytest.mark.anyio
async def test_a_result_is_told_while_another_tool_runs() -> None:
    told = anyio.Event()

    async def slow() -> str:
        await told.wait()
        return "slow"

    async def quick() -> str:
        return "quick"

    async with (
        ScriptedServer(calling(("slow", "{}"), ("quick", "{}")), FINAL) as server,
        open_agent(server, slow, quick) as agent,
    ):
        with anyio.fail_after(PATIENCE):
            async for event in run_agent(agent, "Go."):
                if isinstance(event, ToolResult):
                    told.set()

    assert [message["content"] for message in sent(server)[2:]] == ["slow", "quick"]


@pytest.mark.anyio
async def test_usage_that_a_turn_did_not_tell_is_not_known_in_total() -> None:
    first = ending(call(0, "nothing", ""), finish="tool_calls", spent=None)
    async with ScriptedServer(first, FINAL) as server, open_agent(server, nothing) as agent:
        events = await events_of(agent)

    assert events[-1].model_dump()["usage"] == Usage().model_dump()
    assert [turn.reply.usage for turn in agent.turns] == [
        None,
        Usage(input_tokens=20, output_tokens=7),
    ]


@pytest.mark.anyio
async def test_an_answer_that_was_too_long_says_so() -> None:
    async with (
        ScriptedServer(ending(text("It"), finish="length")) as server,
        open_agent(server) as agent,
    ):
        *_, done = await events_of(agent)

    assert isinstance(done, AgentDone)
    assert (done.text, done.finish_reason) == ("It", "length")


# What it asks


@pytest.mark.anyio
async def test_the_second_request_has_the_calls_and_their_results_in_the_order_of_the_calls() -> (
    None
):
    meeting = Meeting()
    first = ending(
        text("Let me."),
        call(0, "come", '{"name": "A"}', call_id="x"),
        call(1, "go", "", call_id="y"),
        finish="tool_calls",
    )
    async with (
        ScriptedServer(first, FINAL) as server,
        open_agent(
            server,
            meeting.come,
            meeting.go,
            instructions="Be brief.",
            model="m1",
            temperature=0,
        ) as agent,
    ):
        await events_of(agent)

    def function(name: str, description: str, **parameters: Any) -> Any:
        schema = {"additionalProperties": False, "title": name, "type": "object", **parameters}
        about = {"name": name, "description": description, "parameters": schema}
        return {"type": "function", "function": about}

    come = function(
        "come",
        "Wait for the other one.",
        properties={"name": {"title": "Name", "type": "string"}},
        required=["name"],
    )
    one, two = [request.json() for request in server.requests]
    assert one == {
        "model": "m1",
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [come, function("go", "Let the other one go on.", properties={})],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Go."},
        ],
    }
    assert two == {
        **one,
        "messages": [
            *one["messages"],
            {
                "role": "assistant",
                "content": "Let me.",
                "tool_calls": [
                    {
                        "id": "x",
                        "type": "function",
                        "function": {"name": "come", "arguments": '{"name": "A"}'},
                    },
                    {"id": "y", "type": "function", "function": {"name": "go", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "x", "content": "We met."},
            {"role": "tool", "tool_call_id": "y", "content": "[1,2]"},
        ],
    }


@pytest.mark.anyio
async def test_an_agent_without_tools_sends_no_list_of_them() -> None:
    async with ScriptedServer(FINAL) as server, open_agent(server) as agent:
        await events_of(agent)

    assert "tools" not in server.requests[0].json()


@pytest.mark.anyio
async def test_the_next_run_goes_on_with_the_conversation() -> None:
    async with ScriptedServer(FINAL, FINAL) as server, open_agent(server) as agent:
        await events_of(agent, "One.")
        events = await events_of(agent, "Two.")

    assert {event.turn for event in events} == {1}
    assert events[-1].model_dump()["usage"]["input_tokens"] == 20
    assert agent.conversation.cut == []
    assert [message["content"] for message in sent(server)] == ["One.", "It is done.", "Two."]


@pytest.mark.anyio
async def test_a_refusal_is_kept_as_one() -> None:
    refusal = ending(
        *({"choices": [{"delta": {"refusal": piece}}]} for piece in ("I ", "won't.")),
    )
    async with ScriptedServer(refusal) as server, open_agent(server) as agent:
        events = await events_of(agent)

    assert TurnRefusal(turn=1, refusal="I ") in events
    assert agent.conversation.messages[1:] == [
        {"role": "assistant", "content": None, "refusal": "I won't."}
    ]


@pytest.mark.anyio
async def test_a_server_that_signs_its_calls_or_wants_its_reasoning_back_gets_it() -> None:
    both = call(0, "nothing", "{}")
    fragments = both["choices"][0]["delta"]["tool_calls"]
    fragments += call(1, "nothing", "{}")["choices"][0]["delta"]["tool_calls"]
    fragments[1]["extra_content"] = {"google": {"thought_signature": "c2ln"}}
    first = ending(
        {"choices": [{"delta": {"reasoning_content": "Do "}}]},
        {"choices": [{"delta": {"reasoning_content": "it."}}]},
        both,
        finish="tool_calls",
    )
    async with ScriptedServer(first, FINAL) as server, open_agent(server, nothing) as agent:
        await events_of(agent)

    answer = sent(server)[1]
    assert answer["reasoning_content"] == "Do it."
    assert [each.get("extra_content") for each in answer["tool_calls"]] == [
        None,
        {"google": {"thought_signature": "c2ln"}},
    ]


@pytest.mark.anyio
async def test_reasoning_by_another_name_is_not_sent_back() -> None:
    other = {"index": 1, "delta": {"reasoning_content": "Not me."}}
    first = ending(
        {"choices": [{"delta": {"reasoning": "Do it."}}, other]},
        {"choices": [{"index": 1, "finish_reason": "stop"}]},
        call(0, "nothing", "{}"),
        finish="tool_calls",
    )
    async with ScriptedServer(first, FINAL) as server, open_agent(server, nothing) as agent:
        await events_of(agent)

    assert sorted(sent(server)[1]) == ["content", "role", "tool_calls"]


# Tools


@pytest.mark.anyio
async def test_a_tool_that_raises_is_an_error_for_the_model_and_the_run_goes_on() -> None:
    async def tool() -> str:
        raise LookupError("no such city")

    async with (
        ScriptedServer(calling(("tool", "{}")), FINAL) as server,
        open_agent(server, tool) as agent,
    ):
        events = await events_of(agent)

    told = "Error: LookupError: no such city"
    assert ToolResult(turn=1, id="c0", name="tool", content=told, is_error=True) in events
    assert sent(server)[-1] == {"role": "tool", "tool_call_id": "c0", "content": told}
    assert isinstance(events[-1], AgentDone)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("tool", '{"number": 4', "not a JSON object"),
        ("tool", '{"number": ', "not a JSON object"),
        ("tool", "[4]", "not a JSON object"),
        ("tool", "null", "not a JSON object"),
        ("tool", "{number: 4}", "not a JSON object"),
        ("tool", '{"number": 4}}', "not a JSON object"),
        ("tool", '{"number": "4"}', "number: Input should be a valid integer"),
        ("tool", '{"number": 4.5}', "number: Input should be a valid integer"),
        ("tool", '{"number": NaN}', "not a JSON object"),
        ("tool", '{"number": 4, "more": 1}', "more: Extra inputs are not permitted"),
        ("tool", '{"number": 4, "progress": 1}', "progress: Extra inputs are not permitted"),
        ("tool", "{}", "number: Field required"),
        ("tool", "", "number: Field required"),
        ("tooth", '{"number": 4}', "there is no tool 'tooth'; there are: tool"),
    ],
)
async def test_a_call_that_does_not_fit_runs_nothing_and_is_told_why(
    name: str, arguments: str, why: str
) -> None:
    runs: list[int] = []

    async def tool(number: int, progress: Progress) -> None:
        runs.append(number)

    async with (
        ScriptedServer(calling((name, arguments)), FINAL) as server,
        open_agent(server, tool) as agent,
    ):
        events = await events_of(agent)

    (result,) = [event for event in events if isinstance(event, ToolResult)]
    assert runs == []
    assert not [event for event in events if isinstance(event, ToolStarted)]
    assert result.is_error
    assert why in result.content
    assert name != "tool" or '"required":["number"]' in result.content
    assert sent(server)[-1]["content"] == result.content
    assert isinstance(events[-1], AgentDone)


@pytest.mark.anyio
@pytest.mark.parametrize("arguments", ['{"number": 4', "[4]", "", "{}", '{"number": "4"}'])
async def test_the_calls_in_a_request_are_json_objects_whatever_the_model_wrote(
    arguments: str,
) -> None:
    async def tool(number: int) -> None: ...

    async with (
        ScriptedServer(calling(("tool", arguments)), FINAL) as server,
        open_agent(server, tool) as agent,
    ):
        await events_of(agent)

    told = json.loads(sent(server)[1]["tool_calls"][0]["function"]["arguments"])
    valid = {"": {}, "{}": {}, '{"number": "4"}': {"number": "4"}}
    assert told == valid.get(arguments, {"malformed": arguments})


@pytest.mark.anyio
@pytest.mark.parametrize(("finish", "runs"), [("tool_calls", 1), ("stop", 1), ("length", 0)])
async def test_no_arguments_at_all_are_none_unless_the_answer_was_cut_off_before_them(
    finish: str, runs: int
) -> None:
    ran: list[str] = []

    async def tool(path: str = "/") -> None:
        ran.append(path)

    first = ending(call(0, "tool", ""), finish=finish)
    async with ScriptedServer(first, FINAL) as server, open_agent(server, tool) as agent:
        events = await events_of(agent)

    assert ran == ["/"] * runs
    assert ("not a JSON object" in results(events)[0]) == (not runs)


@pytest.mark.anyio
async def test_calls_of_one_turn_that_fail_do_not_stop_the_others() -> None:
    async def tool(number: int) -> int:
        return 10 // number

    calls = [("tool", f'{{"number": {number}}}') for number in (0, 2, '"x"')]
    async with (
        ScriptedServer(calling(*calls, ("none", "{}")), FINAL) as server,
        open_agent(server, tool) as agent,
    ):
        await events_of(agent)

    told = [message["content"] for message in sent(server)[2:]]
    assert told[:2] == ["Error: ZeroDivisionError: integer division or modulo by zero", "5"]
    assert [content.startswith("Error: ") for content in told] == [True, False, True, True]


@pytest.mark.anyio
async def test_only_the_first_of_several_answers_calls_tools() -> None:
    other = call(0, "tool", "{}", call_id="other")
    other["choices"][0]["index"] = 1
    end = {"choices": [{"index": 1, "finish_reason": "tool_calls"}]}
    async with (
        ScriptedServer(ending(text("Hi"), other, end)) as server,
        open_agent(server, nothing) as agent,
    ):
        events = await events_of(agent)

    assert results(events) == []
    assert isinstance(events[-1], AgentDone)


@pytest.mark.anyio
async def test_calls_without_ids_each_have_their_result() -> None:
    first = ScriptedResponse.sse(
        {
            "choices": [
                {
                    "delta": {
                        "tool_calls": [
                            {"index": index, "function": {"name": "tool", "arguments": arguments}}
                            for index, arguments in enumerate(['{"a": 1}', '{"a": 2}'])
                        ]
                    },
                    "finish_reason": "tool_calls",
                }
            ]
        },
        "[DONE]",
    )

    async def tool(a: int) -> int:
        return a

    async with ScriptedServer(first, FINAL) as server, open_agent(server, tool) as agent:
        await events_of(agent)

    assert [message["content"] for message in sent(server)[2:]] == ["1", "2"]


# What is refused


@pytest.mark.anyio
async def test_a_run_of_too_many_turns_ends_with_an_error_and_can_go_on() -> None:
    answer = calling(("nothing", "{}"))
    async with (
        ScriptedServer(answer, answer, FINAL) as server,
        open_agent(server, nothing, max_turns=2) as agent,
    ):
        with pytest.raises(MaxTurnsReached, match="after 2 turns: raise max_turns="):
            await events_of(agent)
        assert len(server.requests) == 2
        assert len(agent.turns) == 2
        assert len(agent.conversation.messages) == 5

        events = await events_of(agent, None)

    assert isinstance(events[-1], AgentDone)
    assert sent(server) == agent.conversation.messages[:5]


@pytest.mark.anyio
async def test_a_second_run_at_the_same_time_is_refused_at_once() -> None:
    async with ScriptedServer(FINAL, FINAL) as server, open_agent(server) as agent:
        first = run_agent(agent, "One.")
        assert await anext(first) == TurnStarted(turn=1)

        with pytest.raises(SessionStateError, match="a run is under way"):
            await anext(run_agent(agent, "Two."))

        assert [event async for event in first][-1].type == "agent_done"
        assert agent.conversation.messages[0] == {"role": "user", "content": "One."}
        assert (await events_of(agent, "Two."))[-1].type == "agent_done"


@pytest.mark.anyio
async def test_an_agent_runs_only_in_its_block_and_is_entered_once_at_a_time() -> None:
    async with ScriptedServer(FINAL) as server, open_agent(server) as agent:
        with pytest.raises(SessionStateError, match="open already"):
            await agent.__aenter__()
    for closed in (agent, Agent(OpenAIChat())):
        with pytest.raises(SessionStateError, match="not open: use `async with`"):
            await events_of(closed)
    assert agent.conversation.messages == []


def test_an_agent_that_could_not_work_is_refused() -> None:
    session = OpenAIChat()
    with pytest.raises(ValueError, match="share a name: nothing, nothing"):
        Agent(session, tools=[nothing, nothing])
    with pytest.raises(ValueError, match="at least one turn"):
        Agent(session, max_turns=0)
    with pytest.raises(ValueError, match="keep_reply"):
        Agent(OpenAIChat(keep_reply=False))


def test_the_event_type_is_inferred() -> None:
    agent = Agent(OpenAIChat(api_key=CANARY))

    assert_type(run_agent(agent, "Hello"), AsyncGenerator[AgentEvent])
