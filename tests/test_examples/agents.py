"""What the tests of the agent share: a model that is scripted, and an agent that asks it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import anyio
import httpx

from agent import run_agent
from agent_events import AgentEvent
from agent_guard import Agent
from openai_chat import OpenAIChat
from streamsession.testing import ScriptedResponse, ScriptedServer, Step
from tests.canary import CANARY
from tests.test_examples.programs import ONCE

ToolFunction = Callable[..., Awaitable[object]]
Chunk = dict[str, Any]

PATIENCE: Final = 5.0
"""Far more than anything here takes, in seconds."""


def text(text: str) -> Chunk:
    """A chunk with a piece of the answer."""
    return {"choices": [{"delta": {"content": text}}]}


def call(index: int, name: str, arguments: str, *, call_id: str | None = None) -> Chunk:
    """A chunk with a whole tool call; its id is "c1" at the index 1."""
    function = {"name": name, "arguments": arguments}
    fragment = {"index": index, "id": call_id or f"c{index}", "function": function}
    return {"choices": [{"delta": {"tool_calls": [fragment]}}]}


def ending(
    *steps: Chunk | Step, finish: str = "stop", spent: tuple[int, int] | None = (10, 5)
) -> ScriptedResponse:
    """A whole answer of these chunks; None spends it does not know how many tokens."""
    chunks: list[object] = [*steps, {"choices": [{"finish_reason": finish}]}]
    if spent:
        chunks.append(
            {"choices": [], "usage": {"prompt_tokens": spent[0], "completion_tokens": spent[1]}}
        )
    return ScriptedResponse.sse(*chunks, "[DONE]")


def calling(*calls: tuple[str, str]) -> ScriptedResponse:
    """A whole answer that calls tools, each a name and its arguments, as "c0", "c1" and so on."""
    chunks = [call(index, name, arguments) for index, (name, arguments) in enumerate(calls)]
    return ending(*chunks, finish="tool_calls")


FINAL = ending(text("It is done."), spent=(20, 7))
"""The last answer of most tests."""


@asynccontextmanager
async def open_session(server: ScriptedServer) -> AsyncGenerator[OpenAIChat]:
    """A session with the server over a pool of one connection: one that is lost blocks the next."""
    async with OpenAIChat(
        base_url=server.url, api_key=CANARY, retry=ONCE, limits=httpx.Limits(max_connections=1)
    ) as session:
        yield session


@asynccontextmanager
async def open_agent(
    server: ScriptedServer, *tools: ToolFunction, **options: Any
) -> AsyncGenerator[Agent]:
    """An agent with these tools that asks the server."""
    async with open_session(server) as session, Agent(session, tools=tools, **options) as agent:
        yield agent


async def events_of(agent: Agent, prompt: str | None = "Go.") -> list[AgentEvent]:
    """All events of a run."""
    with anyio.fail_after(PATIENCE):
        async with aclosing(run_agent(agent, prompt)) as events:
            return [event async for event in events]


def sent(server: ScriptedServer, request: int = -1) -> Any:
    """The messages in a request."""
    return server.requests[request].json()["messages"]


def results(events: Sequence[AgentEvent]) -> list[str]:
    """What the model was told of its calls, in the order of the events."""
    return [event.content for event in events if event.type == "tool_result"]
