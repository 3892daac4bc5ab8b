"""An agent: a model that calls tools, turn by turn, as one async generator of typed events.

Asks a server inside this program; or, with a key in OPENAI_API_KEY, the live one; a prompt is an
argument. OPENAI_BASE_URL names another server, OPENAI_MODEL another model.
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import date
from typing import Annotated

from pydantic import Field

from agent_events import (
    AgentDone,
    AgentEvent,
    ToolProgress,
    ToolResult,
    TurnStarted,
    in_turn,
    total,
)
from agent_guard import Agent
from agent_tools import Progress
from openai_chat import OpenAIChat
from streamsession import ReasoningDelta, SessionError, TextDelta, ToolCall
from streamsession.testing import ScriptedResponse, ScriptedServer


class MaxTurnsReached(SessionError):
    """The model has not come to an end; all its turns are kept, and another run may go on."""


async def run_agent(agent: Agent, prompt: str | None = None) -> AsyncGenerator[AgentEvent]:
    """What happens, event by event, until the model answers without calling a tool.

    The tools that a turn calls run all at once, and their events come as they happen. Close it, as
    `aclosing` does, to leave it early: then, as when cancelled, tools and model are stopped and
    what came is kept; see `Agent`. `agent.turns` has what is known at any time.

    Args:
        agent: The one to run, in its block; one run at a time.
        prompt: What the user says; None goes on from where the conversation stands, such as after
            a failure.

    Raises:
        StreamError: As the session raises it, when what came is kept.
        MaxTurnsReached: The model called tools in every turn allowed.
        ConversationConflict: Someone else uses the conversation too.
        SessionStateError: Another run is under way, or the agent is not open.
    """
    with agent.running():
        if prompt is not None:
            await agent.hear(prompt)
        for _ in range(agent.max_turns):
            async with agent.next_turn() as turn:
                yield TurnStarted(turn=turn.number)
                async for said in turn.answer:
                    yield in_turn(said, turn.number)
                async for done in turn.call_tools():
                    yield done
            if not turn.calls:
                yield AgentDone(
                    turn=turn.number,
                    text=turn.reply.text,
                    usage=total(each.reply.usage for each in agent.turns),
                    finish_reason=turn.reply.finish_reason,
                )
                return
        raise MaxTurnsReached(
            f"the model still calls tools after {agent.max_turns} turns: raise max_turns=, or "
            "go on with run_agent(agent)"
        )


async def weekday(day: Annotated[date, Field(description="Such as 2000-12-31.")]) -> str:
    """The day of the week of a date."""
    return f"{day:%A}"


async def prime_factors(
    number: Annotated[int, Field(gt=1, le=10**6)], progress: Progress
) -> list[int]:
    """The prime factors of a number."""
    factors: list[int] = []
    divisor = 2
    while number > 1:
        if number % divisor:
            divisor += 1
        else:
            number //= divisor
            factors.append(divisor)
            await progress(f"{divisor} is one")
    return factors


def show(event: AgentEvent) -> None:
    """Print what is worth it."""
    match event:
        case TurnStarted():
            print(f"\n== turn {event.turn}")
        case TextDelta():
            print(event.text, end="", flush=True)
        case ReasoningDelta():
            print(f"({event.text})")
        case ToolCall():
            print(f"\n{event.id}: {event.name} {event.raw_arguments}", end="")
        case ToolProgress():
            print(f"\n{event.id}: {event.progress}", end="")
        case ToolResult():
            print(f"\n{event.id}: {event.content}", end="")
        case AgentDone(usage=usage):
            print(f"\n== {usage.input_tokens} tokens in, {usage.output_tokens} out")
        case _:
            pass


async def main(prompt: str, model: str, url: str | None, key: str | None = None) -> None:
    """Run the agent once, and print what it does."""
    async with (
        OpenAIChat(base_url=url, api_key=key) as session,
        Agent(session, tools=[weekday, prime_factors], model=model) as agent,
        aclosing(run_agent(agent, prompt)) as events,
    ):
        async for event in events:
            show(event)


PROMPT = "On which day of the week was 20 July 1969, and what are the prime factors of 1969?"
CALLS = [
    {"index": 0, "id": "c1", "function": {"name": "weekday"}},
    {"index": 1, "id": "c2", "function": {"name": "prime_factors"}},
    {"index": 0, "function": {"arguments": '{"day": "1969-07-20"}'}},
    {"index": 1, "function": {"arguments": '{"number": 1969}'}},
]
OFFLINE = (
    ScriptedResponse.sse(
        {"choices": [{"delta": {"reasoning_content": "I have tools for both."}}]},
        {"choices": [{"delta": {"content": "Let me see."}}]},
        *({"choices": [{"delta": {"tool_calls": [call]}}]} for call in CALLS),
        {"choices": [{"finish_reason": "tool_calls"}]},
        {"choices": [], "usage": {"prompt_tokens": 120, "completion_tokens": 30}},
        "[DONE]",
        pause=0.05,
    ),
    ScriptedResponse.sse(
        {"choices": [{"delta": {"content": "It was a Sunday, "}}]},
        {"choices": [{"delta": {"content": "and 1969 is 11 times 179."}}]},
        {"choices": [{"finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 180, "completion_tokens": 15}},
        "[DONE]",
        pause=0.05,
    ),
)

if __name__ == "__main__":
    prompt = " ".join(sys.argv[1:]) or PROMPT
    model = os.environ.get("OPENAI_MODEL", "gpt-5-mini")
    url, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    if url or key:
        asyncio.run(main(prompt, model, url, key))
    else:
        with ScriptedServer(*OFFLINE) as server:
            asyncio.run(main(prompt, model, server.url))
