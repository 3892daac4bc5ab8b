"""However a run is left: model and tools stop soon, and what came is known and kept."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import anyio
import anyio.lowlevel
import pytest

from agent import run_agent
from agent_conversation import Conversation, Message
from agent_events import AgentEvent, ToolProgress, ToolStarted, TurnStarted, TurnText
from agent_guard import Agent
from agent_store import MemoryStore
from agent_tools import Progress
from streamsession import (
    RemoteError,
    SessionError,
    SessionStateError,
    StreamClosed,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    TimedOut,
    Timeouts,
    Usage,
)
from streamsession.testing import HANG_UP, HOLD, RecordedRequest, ScriptedResponse, ScriptedServer
from tests.test_examples.agents import (
    FINAL,
    PATIENCE,
    ToolFunction,
    call,
    calling,
    ending,
    events_of,
    open_agent,
    open_session,
    sent,
    text,
)

pytestmark = pytest.mark.anyio

INTERRUPTED: Final = "Error: interrupted before it ended; part of it may have been done"


@dataclass
class Tools:
    """A tool that waits for ever and others that end, and what became of the first."""

    told: list[str] = field(default_factory=list[str])
    began: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)

    async def look(self) -> str:
        """Look."""
        return "seen"

    async def wait(self) -> None:
        """Wait for ever."""
        self.told.append("began")
        self.began.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.told.append("ended")
            self.ended.set()

    async def note(self) -> str:
        """End once the other one has begun."""
        await self.began.wait()
        return "noted"

    def all(self) -> list[ToolFunction]:
        return [self.look, self.wait, self.note]


# Left early: in each phase, in each way


@dataclass(frozen=True)
class Phase:
    """Where a run comes to rest in its second turn, and what is known and kept of it then."""

    name: str
    second: ScriptedResponse
    rests_at: Callable[[AgentEvent], bool]
    kept: tuple[Message, ...]
    usage: Usage | None = None
    text: str = ""
    told: tuple[str, ...] = ()


def _called(*names: str) -> list[Message]:
    return [
        {"id": f"c{index}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for index, name in enumerate(names)
    ]


PHASES = [
    Phase(
        name="before the model answers",
        second=ScriptedResponse([HOLD]),
        rests_at=lambda event: event == TurnStarted(turn=2),
        kept=(),
    ),
    Phase(
        name="while the model answers",
        second=ScriptedResponse.sse(text("I have "), text("seen"), HOLD),
        rests_at=lambda event: event == TurnText(turn=2, text="seen"),
        kept=({"role": "assistant", "content": "I have seen"},),
        text="I have seen",
    ),
    Phase(
        name="while the model calls a tool",
        second=ScriptedResponse.sse(text("So"), call(0, "wait", "{}"), HOLD),
        rests_at=lambda event: event.type == "tool_call_delta" and event.turn == 2,
        kept=({"role": "assistant", "content": "So"},),
        text="So",
    ),
    Phase(
        name="while tools run",
        second=ending(
            text("So"), call(0, "wait", "{}"), call(1, "note", "{}"), finish="tool_calls"
        ),
        rests_at=lambda event: event.type == "tool_result" and event.turn == 2,
        kept=(
            {"role": "assistant", "content": "So", "tool_calls": [*_called("wait", "note")]},
            {"role": "tool", "tool_call_id": "c0", "content": INTERRUPTED},
            {"role": "tool", "tool_call_id": "c1", "content": "noted"},
        ),
        usage=Usage(input_tokens=10, output_tokens=5),
        text="So",
        told=("began", "ended"),
    ),
]
in_each_phase = pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)

Leave = Callable[[Agent, Phase], Awaitable[None]]


async def by_a_break(agent: Agent, phase: Phase) -> None:
    async with aclosing(run_agent(agent, "Go.")) as events:
        async for event in events:
            if phase.rests_at(event):
                break


async def read_on(agent: Agent, phase: Phase, rests: anyio.Event) -> None:
    """Read all that comes, and tell when the run comes to rest."""
    async with aclosing(run_agent(agent, "Go.")) as events:
        async for event in events:
            if phase.rests_at(event):
                rests.set()


async def by_an_error_of_the_reader(agent: Agent, phase: Phase) -> None:
    async def read() -> None:
        async with aclosing(run_agent(agent, "Go.")) as events:
            async for event in events:
                if phase.rests_at(event):
                    raise LookupError("of mine")

    with pytest.raises(LookupError, match="of mine"):
        await read()


async def by_cancelling_the_reader_that_waits(agent: Agent, phase: Phase) -> None:
    with anyio.CancelScope() as scope:
        async with aclosing(run_agent(agent, "Go.")) as events:
            async for event in events:
                if phase.rests_at(event):
                    scope.deadline = anyio.current_time() + 0.05
    assert scope.cancelled_caught


async def by_cancelling_the_reader_that_works(agent: Agent, phase: Phase) -> None:
    with anyio.CancelScope() as scope:
        async with aclosing(run_agent(agent, "Go.")) as events:
            async for event in events:
                if phase.rests_at(event):
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught


async def by_a_failing_sibling(agent: Agent, phase: Phase) -> None:
    rests = anyio.Event()

    async def fail() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_on, agent, phase, rests)
            await rests.wait()
            await anyio.wait_all_tasks_blocked()
            raise LookupError

    with pytest.raises(ExceptionGroup):
        await fail()


LEAVES: list[Leave] = [
    by_a_break,
    by_an_error_of_the_reader,
    by_cancelling_the_reader_that_waits,
    by_cancelling_the_reader_that_works,
    by_a_failing_sibling,
]


class AsyncStore(MemoryStore):
    """A store that can be cancelled while it saves, as one over a network."""

    async def save(self, conversation: Conversation) -> None:
        await anyio.lowlevel.checkpoint()
        await super().save(conversation)


def playing(phase: Phase) -> ScriptedServer:
    """A server of two turns and of whatever comes later."""

    def answer(request: RecordedRequest) -> ScriptedResponse:
        messages = request.json()["messages"]
        if messages[-1]["content"] == "Go.":
            return calling(("look", "{}"))
        return phase.second if messages[-1]["role"] == "tool" else FINAL

    return ScriptedServer(answer, repeat=True)


@in_each_phase
@pytest.mark.parametrize("leave", LEAVES)
async def test_a_run_that_is_left_stops_and_keeps_what_came(phase: Phase, leave: Leave) -> None:
    tools = Tools()
    async with (
        playing(phase) as server,
        open_agent(server, *tools.all(), store=AsyncStore()) as agent,
    ):
        with anyio.fail_after(PATIENCE):
            await leave(agent, phase)

        assert tools.told == [*phase.told]
        assert [turn.reply.text for turn in agent.turns] == ["", phase.text]
        usages = [turn.reply.usage for turn in agent.turns]
        assert usages == [Usage(input_tokens=10, output_tokens=5), phase.usage]
        assert agent.conversation.messages[3:] == [*phase.kept]
        is_cut = bool(phase.text and not phase.usage)
        assert agent.conversation.cut == [3] * is_cut
        assert agent.conversation == await agent.store.load(agent.conversation.id)

        with anyio.fail_after(PATIENCE):  # over the same connection pool, which has room for one
            await events_of(agent, "On.")
    assert sent(server)[3:] == [*phase.kept, {"role": "user", "content": "On."}]


@in_each_phase
async def test_leaving_the_block_ends_a_run_that_nobody_closed(phase: Phase) -> None:
    tools = Tools()
    async with playing(phase) as server, open_session(server) as session:
        agent = Agent(session, tools=tools.all())
        with anyio.fail_after(PATIENCE):
            async with agent:
                events = run_agent(agent, "Go.")
                async for event in events:
                    if phase.rests_at(event):
                        break

        assert tools.told == [*phase.told]
        assert agent.conversation.messages[3:] == [*phase.kept]
        with anyio.fail_after(PATIENCE):
            assert (await session.stream("Hello").collect()).text == "It is done."
        with pytest.raises(SessionError):
            await anext(events)


@in_each_phase
async def test_leaving_the_block_ends_the_run_of_another_task(phase: Phase) -> None:
    tools = Tools()
    failures: list[StreamError] = []
    rests = anyio.Event()

    async def read(agent: Agent) -> None:
        try:
            await read_on(agent, phase, rests)
        except StreamError as exc:
            failures.append(exc)

    async with (
        playing(phase) as server,
        open_session(server) as session,
        anyio.create_task_group() as tasks,
    ):
        with anyio.fail_after(PATIENCE):
            async with Agent(session, tools=tools.all()) as agent:
                tasks.start_soon(read, agent)
                await rests.wait()
                await anyio.wait_all_tasks_blocked()
        assert tools.told == [*phase.told]
        assert agent.conversation.messages[3:] == [*phase.kept]
        with anyio.fail_after(PATIENCE):
            assert (await session.stream("Hello").collect()).text == "It is done."
    (failure,) = failures
    assert isinstance(failure, StreamClosed)
    assert failure.partial.text == phase.text


async def by_a_task_cancellation(agent: Agent, phase: Phase) -> None:
    rests = anyio.Event()
    task = asyncio.create_task(read_on(agent, phase, rests))
    await rests.wait()
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_a_time_limit_of_asyncio(agent: Agent, phase: Phase) -> None:
    async def read() -> None:
        async with asyncio.timeout(None) as limit, aclosing(run_agent(agent, "Go.")) as events:
            async for event in events:
                if phase.rests_at(event):
                    limit.reschedule(asyncio.get_running_loop().time() + 0.05)

    with pytest.raises(TimeoutError):
        await read()


@in_each_phase
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("leave", [by_a_task_cancellation, by_a_time_limit_of_asyncio])
async def test_a_run_that_is_left_in_ways_of_asyncio(phase: Phase, leave: Leave) -> None:
    await test_a_run_that_is_left_stops_and_keeps_what_came(phase, leave)


async def test_an_error_leaves_the_block_as_it_is() -> None:
    async def fail(server: ScriptedServer) -> None:
        async with open_agent(server):
            raise LookupError("mine")

    async with ScriptedServer() as server:
        with pytest.raises(LookupError, match="mine"):
            await fail(server)


async def test_a_run_whose_agent_is_left_before_its_first_turn_asks_nothing() -> None:
    saving, go_on = anyio.Event(), anyio.Event()
    failures: list[SessionStateError] = []

    class Waiting(MemoryStore):
        async def save(self, conversation: Conversation) -> None:
            saving.set()
            await go_on.wait()

    async def read(agent: Agent) -> None:
        try:
            await events_of(agent)
        except SessionStateError as exc:
            failures.append(exc)

    async with ScriptedServer(FINAL) as server, anyio.create_task_group() as tasks:
        async with open_agent(server, store=Waiting()) as agent:
            tasks.start_soon(read, agent)
            await saving.wait()
        go_on.set()
    assert [str(failure) for failure in failures] == [
        "the agent is not open: use `async with` on it"
    ]
    assert server.requests == []


# Failures of the model


async def read_into(events: list[AgentEvent], agent: Agent) -> None:
    """Keep all that comes before a failure."""
    async with aclosing(run_agent(agent, "Go.")) as run:
        async for event in run:
            events.append(event)  # noqa: PERF401 - a comprehension would lose them


CUT: Final = (text("I have "), text("seen"), call(0, "note", '{"a'))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (ScriptedResponse.sse(*CUT), StreamTruncated),
        (ScriptedResponse.sse(*CUT, HANG_UP), StreamInterrupted),
        (ScriptedResponse.sse(*CUT, {"error": {"message": "overloaded"}}), RemoteError),
        (ScriptedResponse.sse(*CUT, HOLD), TimedOut),
    ],
)
async def test_a_failure_of_the_model_runs_no_tool_and_keeps_the_text(
    answer: ScriptedResponse, kind: type[StreamError]
) -> None:
    tools = Tools()
    async with (
        ScriptedServer(calling(("look", "{}")), answer, FINAL) as server,
        open_agent(server, *tools.all()) as agent,
    ):
        agent.session.timeout = Timeouts(idle=0.1)
        events: list[AgentEvent] = []
        with pytest.raises(kind) as caught:
            await read_into(events, agent)

        assert caught.value.partial is agent.turns[-1].reply
        assert caught.value.partial.text == agent.turns[-1].reply.text == "I have seen"
        assert not [each for each in events if isinstance(each, ToolStarted) and each.turn == 2]
        assert agent.turns[0].reply.usage == Usage(input_tokens=10, output_tokens=5)
        assert agent.conversation.cut == [3]
        await events_of(agent, None)

    assert sent(server)[2:] == [
        {"role": "tool", "tool_call_id": "c0", "content": "seen"},
        {"role": "assistant", "content": "I have seen"},
    ]


async def test_a_refused_request_leaves_the_conversation_as_it_was() -> None:
    refused = ScriptedResponse.json({"error": {"message": "no"}}, status=400)
    async with ScriptedServer(refused, FINAL) as server, open_agent(server) as agent:
        with pytest.raises(StreamError, match="400"):
            await events_of(agent, "Go.")
        await events_of(agent, None)

    assert sent(server, 0) == sent(server, 1) == [{"role": "user", "content": "Go."}]


# Tools that do not stop at once


class Slow:
    """A tool that shields what it does at the end, until it is told to leave off."""

    def __init__(self) -> None:
        self.cleaning = anyio.Event()
        self.clean = anyio.Event()
        self.ended = False

    async def run(self, progress: Progress) -> str:
        """Clean up for long."""
        try:
            await progress("running")
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                self.cleaning.set()
                await progress("cleaning up")  # while nobody listens
                await self.clean.wait()
                self.ended = True
        return "never"


async def leave_when_it_runs(agent: Agent) -> None:
    async with aclosing(run_agent(agent, "Go.")) as events:
        async for event in events:
            if isinstance(event, ToolProgress):
                break


async def test_leaving_waits_for_what_a_tool_shields() -> None:
    slow = Slow()
    async with (
        ScriptedServer(calling(("run", "{}"))) as server,
        open_agent(server, slow.run) as agent,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(leave_when_it_runs, agent)
        with anyio.fail_after(PATIENCE):
            await slow.cleaning.wait()
            await anyio.wait_all_tasks_blocked()
            assert len(agent.conversation.messages) == 1  # still waiting
            slow.clean.set()

    assert slow.ended
    assert agent.conversation.messages[-1]["content"] == INTERRUPTED


async def test_leaving_a_run_goes_on_without_a_tool_that_shields_itself_for_too_long() -> None:
    slow = Slow()
    async with (
        ScriptedServer(calling(("run", "{}")), FINAL) as server,
        open_agent(server, slow.run) as agent,
    ):
        agent.close_timeout = 0.05
        with anyio.fail_after(PATIENCE):
            await leave_when_it_runs(agent)

            assert not slow.ended
            assert agent.conversation.messages[-1]["content"] == INTERRUPTED
            assert (await events_of(agent, "On."))[-1].type == "agent_done"
        slow.clean.set()
    assert slow.ended


async def test_a_cancelled_tool_that_ends_nevertheless_has_its_result_kept() -> None:
    running = anyio.Event()

    async def tool(progress: Progress) -> str:
        with anyio.CancelScope(shield=True):
            await progress("running")
            await running.wait()
        return "the money is sent"

    async with (
        ScriptedServer(calling(("tool", "{}"))) as server,
        open_agent(server, tool) as agent,
        aclosing(run_agent(agent, "Go.")) as events,
    ):
        async for event in events:
            if isinstance(event, ToolProgress):
                running.set()
                break

    assert agent.conversation.messages[-1]["content"] == "the money is sent"


async def test_what_is_no_ordinary_error_of_a_tool_ends_the_agent() -> None:
    class Stop(BaseException):
        pass

    async def tool() -> None:
        raise Stop

    async with ScriptedServer(calling(("tool", "{}"), ("wait", "{}"))) as server:
        with anyio.fail_after(PATIENCE), pytest.raises(BaseExceptionGroup) as caught:
            async with open_agent(server, tool, Tools().wait) as agent:
                await events_of(agent)

    assert caught.value.subgroup(Stop) is not None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_tool_that_awaits_a_cancelled_task_is_told_as_interrupted() -> None:
    async def tool() -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    async with (
        ScriptedServer(calling(("tool", "{}")), FINAL) as server,
        open_agent(server, tool) as agent,
    ):
        events = await events_of(agent)

    assert events[-1].type == "agent_done"
    assert sent(server)[-1]["content"] == INTERRUPTED


# A break without closing


async def test_a_run_that_is_dropped_is_ended_by_the_event_loop() -> None:
    tools = Tools()

    async def read(agent: Agent) -> None:
        async for event in run_agent(agent, "Go."):
            if event.type == "tool_result":
                break

    async with (
        ScriptedServer(calling(("wait", "{}"), ("note", "{}")), FINAL) as server,
        open_agent(server, *tools.all()) as agent,
    ):
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # of trio's
            await read(agent)
        with anyio.fail_after(PATIENCE):
            await tools.ended.wait()
            await anyio.wait_all_tasks_blocked()
            assert (await events_of(agent, "On."))[-1].type == "agent_done"
    assert [message["content"] for message in sent(server)[2:4]] == [INTERRUPTED, "noted"]


async def test_a_run_that_is_held_keeps_others_out_until_it_is_closed() -> None:
    tools = Tools()
    async with (
        ScriptedServer(calling(("wait", "{}"), ("note", "{}")), FINAL) as server,
        open_agent(server, *tools.all()) as agent,
    ):
        events = run_agent(agent, "Go.")
        while (await anext(events)).type != "tool_result":
            pass
        with pytest.raises(SessionStateError, match="close it first"):
            await events_of(agent, "On.")
        assert tools.told == ["began"]

        await events.aclose()

        assert tools.told == ["began", "ended"]
        assert (await events_of(agent, "On."))[-1].type == "agent_done"
