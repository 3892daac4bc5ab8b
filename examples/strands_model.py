"""A model of Strands Agents over a session of ours: the pattern for any session.

Offline, against a server inside this program:  python examples/strands_model.py
Live:                   OPENAI_API_KEY=... python examples/strands_model.py "Sunset in Lima?"
Another server, model:  OPENAI_BASE_URL=http://localhost:8080/v1 OPENAI_MODEL=... python ...

It needs `pip install 'strands-agents>=1.54'`. Strands wants the chunks of Bedrock's ConverseStream:
`Chunks` makes them of the neutral events of any session; the rest is for Chat Completions.
https://strandsagents.com/docs/user-guide/sdk/model-providers/custom_model_provider/
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from strands import Agent, tool  # pyright: ignore[reportUnknownVariableType]
from strands.models import Model
from strands.types.content import ContentBlockStart, Messages
from strands.types.event_loop import StopReason
from strands.types.event_loop import Usage as Spent
from strands.types.exceptions import ContextWindowOverflowException
from strands.types.streaming import ContentBlockDelta, StreamEvent
from strands.types.tools import ToolChoice, ToolResultContent, ToolSpec

from openai_chat import ChatEvent, OpenAIChat, Refusal
from streamsession import (
    DecodeError,
    Done,
    ReasoningDelta,
    Reply,
    SessionError,
    StatusError,
    Stream,
    TextDelta,
    ToolCall,
    Usage,
)
from streamsession.testing import ScriptedResponse, ScriptedServer

T = TypeVar("T", bound=BaseModel)

# By their names in Chat Completions; another API has other ones.
STOP_REASONS: Final[dict[str | None, StopReason]] = {
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "content_filtered",
}
# In what OpenAI, llama.cpp and vLLM answer to a conversation that is too long.
OVERFLOWS: Final = ("context_length_exceeded", "exceed_context_size", "maximum context length")
POLL_SECONDS: Final = 0.05  # as often as Strands looks at such signals


class SessionModel(Model):
    """What an `Agent` asks; each turn is a stream of the session that was entered around it.

        async with OpenAIChat(api_key="...") as session:
            agent = Agent(SessionModel(session, model_id="gpt-5-mini"))
            async for event in agent.stream_async("Hello"): ...

    Not for `agent("Hello")`: that runs an event loop of its own, and a session belongs to one. To
    leave early, call `agent.cancel()` and read on: after a `break`, Strands leaves the stream to
    the garbage collector, or to the end of the session.

    Args:
        session: It alone tries again, and only before the first token.
        config: `model_id`; if need be `params` of requests, and `context_window_limit` in tokens.
    """

    def __init__(self, session: OpenAIChat, **config: Any) -> None:
        self.session = session
        self.config = config

    def update_config(self, **model_config: Any) -> None:
        """Change some of the configuration, from the next turn on."""
        self.config.update(model_config)

    def get_config(self) -> dict[str, Any]:
        """The configuration as it is now."""
        return self.config

    async def stream(
        self,
        messages: Messages,
        tool_specs: list[ToolSpec] | None = None,
        system_prompt: str | None = None,
        *,
        tool_choice: ToolChoice | None = None,
        cancel_signal: threading.Event | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[StreamEvent, None]:
        """The chunks of one turn; leaving it closes its stream, and so does `Agent.cancel`, soon.

        Raises:
            StreamError: It failed, which Strands does not try again. Nor a 429: the session has,
                and after a `ModelThrottledException` Strands would wait for minutes more.
            DecodeError: The arguments of a tool call are no JSON object.
            ContextWindowOverflowException: Strands shortens the conversation and asks again.
        """
        signal = cancel_signal or threading.Event()
        stream = self.ask(messages, system_prompt, **chat_tools(tool_specs, tool_choice))
        watch = asyncio.create_task(close_when_set(signal, stream))
        try:
            async with stream:
                yield {"messageStart": {"role": "assistant"}}
                chunks = Chunks(stream.reply)
                async for event in stream:
                    for chunk in chunks.read(event):
                        yield chunk
        except SessionError as exc:
            if signal.is_set():
                return  # without `messageStop`: Strands now knows it for cancelled
            if isinstance(exc, StatusError) and any(words in exc.body for words in OVERFLOWS):
                raise ContextWindowOverflowException(str(exc)) from exc
            raise
        finally:
            watch.cancel()

    async def structured_output(
        self,
        output_model: type[T],
        prompt: Messages,
        system_prompt: str | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[dict[str, T | Any], None]:
        """One event, `{"output": ...}`: the answer as that model.

        Raises:
            StreamError: It failed; a `DecodeError` if the answer is not of that model.
        """
        schema = {"name": output_model.__name__, "schema": output_model.model_json_schema()}
        wanted = {"type": "json_schema", "json_schema": schema}
        reply = await self.ask(prompt, system_prompt, response_format=wanted).collect()
        yield {"output": reply.parse(output_model)}

    def ask(self, messages: Messages, system: str | None, **options: Any) -> Stream[ChatEvent]:
        """The answer to a conversation; nothing is sent yet."""
        options = {**self.config.get("params", {}), **options}
        chat = list(chat_messages(messages, system))
        return self.session.stream(chat, model=self.config["model_id"], **options)


async def close_when_set(signal: threading.Event, stream: Stream[Any]) -> None:
    """Close a stream soon after the signal is set, also while another task waits for an event."""
    while not signal.is_set():  # noqa: ASYNC110 - another thread may set it: nothing to await
        await asyncio.sleep(POLL_SECONDS)
    await stream.aclose()


class Chunks:
    """Neutral events as chunks: blocks, each of one kind of content, one after the other.

    A tool call is passed on once the answer is complete and its arguments are a JSON object. Else
    it is an error, as there is nothing that Strands runs no tool with: what is no JSON becomes
    `{}`, and a sub-agent takes anything. The answer is then no part of the conversation, and
    `agent.stream_async()` has the model try again.

    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
    """

    def __init__(self, reply: Reply[Any]) -> None:
        self.reply = reply  # for the error
        self.calls: list[ToolCall] = []
        self.block: object = None  # what the one that has begun is of

    def read(self, event: ChatEvent) -> Iterator[StreamEvent]:
        """The chunks of an event; usage goes at once, so that a cancelled turn has it too."""
        match event:
            case TextDelta():
                yield from self.add(TextDelta, {}, {"text": event.text})
            case ReasoningDelta():
                yield from self.add(ReasoningDelta, {}, {"reasoningContent": {"text": event.text}})
            case Refusal():
                yield from self.add(TextDelta, {}, {"text": event.refusal})
            case ToolCall():
                self.calls.append(event)
            case Usage():
                read, wrote = event.input_tokens or 0, event.output_tokens or 0
                spent = Spent(inputTokens=read, outputTokens=wrote, totalTokens=read + wrote)
                yield {"metadata": {"usage": spent}}
            case Done():
                yield from self.end(STOP_REASONS.get(event.finish_reason, "end_turn"))
            case _:
                pass  # a fragment of a tool call

    def add(
        self, block: object, start: ContentBlockStart, delta: ContentBlockDelta
    ) -> Iterator[StreamEvent]:
        """A delta, in the block that has begun if it is the same, else in another one."""
        if block is not self.block:
            yield from self.stop()
            yield {"contentBlockStart": {"start": start}}
        self.block = block
        yield {"contentBlockDelta": {"delta": delta}}

    def stop(self) -> Iterator[StreamEvent]:
        """The end of the block that has begun, if one has."""
        if self.block is not None:
            yield {"contentBlockStop": {}}

    def end(self, reason: StopReason) -> Iterator[StreamEvent]:
        """The tool calls, and why the answer ended."""
        for call in self.calls:
            if call.arguments is None and reason != "max_tokens":  # of which Strands runs none
                wrong = f"the arguments of {call.name!r} are no JSON object"
                text = f"{wrong}: {call.raw_arguments!r:.200}"
                raise DecodeError(text, reason=wrong, partial=self.reply)
            start: ContentBlockStart = {"toolUse": {"toolUseId": call.id, "name": call.name}}
            yield from self.add(call, start, {"toolUse": {"input": call.raw_arguments}})
        yield from self.stop()
        yield {"messageStop": {"stopReason": reason}}


def chat_messages(messages: Messages, system_prompt: str | None) -> Iterator[dict[str, Any]]:
    """A conversation as Chat Completions has it, where each tool result is a message.

    Raises:
        TypeError: It has content other than text, reasoning and tools.
    """
    if system_prompt:
        yield {"role": "system", "content": system_prompt}
    for message in messages:
        texts: list[str] = []
        calls: list[dict[str, Any]] = []
        for block in message["content"]:
            if "text" in block:
                texts.append(block["text"])
            elif "toolUse" in block:
                use = block["toolUse"]
                function = {"name": use["name"], "arguments": json.dumps(use["input"])}
                calls.append({"id": use["toolUseId"], "type": "function", "function": function})
            elif "toolResult" in block:
                result = block["toolResult"]
                text = "\n".join(map(result_text, result["content"]))
                yield {"role": "tool", "tool_call_id": result["toolUseId"], "content": text}
            elif "reasoningContent" not in block:  # which the API does not take back
                raise TypeError(f"only text and tools can be sent, not {', '.join(block)}")
        content = {"content": "\n".join(texts)} if texts else {}
        if said := content | ({"tool_calls": calls} if calls else {}):
            yield {"role": message["role"], **said}


def result_text(part: ToolResultContent) -> str:
    """A part of what a tool returned."""
    if "text" in part:
        return part["text"]
    if "json" in part:
        return json.dumps(part["json"])
    raise TypeError(f"only text and JSON can be sent, not {', '.join(part)}")


def chat_tools(specs: list[ToolSpec] | None, choice: ToolChoice | None) -> dict[str, Any]:
    """What a request says of the tools that the model can, or has to, call."""
    if not specs:
        return {}
    tools: list[dict[str, Any]] = []
    for spec in specs:
        function = {"name": spec["name"], "description": spec["description"]}
        function |= {"parameters": spec["inputSchema"]["json"]}
        tools.append({"type": "function", "function": function})
    match choice:
        case {"tool": {"name": name}}:
            return {"tools": tools, "tool_choice": {"type": "function", "function": {"name": name}}}
        case {"any": _}:
            return {"tools": tools, "tool_choice": "required"}
        case _:
            return {"tools": tools}


@tool
def sunset(city: str) -> str:
    """Tell when the sun sets today.

    Args:
        city: Where.
    """
    return f"The sun sets in {city} at 18:04."


async def main(prompt: str, model: str, url: str | None, key: str | None = None) -> None:
    """Have an agent answer, and print what it says and spent."""
    async with OpenAIChat(base_url=url, api_key=key) as session:
        agent = Agent(SessionModel(session, model_id=model), tools=[sunset], callback_handler=None)
        async for event in agent.stream_async(prompt):
            print(event.get("data", ""), end="", flush=True)
        print(f"\n{agent.event_loop_metrics.accumulated_usage}")


OFFLINE = (
    ScriptedResponse.sse(
        '{"choices": [{"delta": {"content": "I will look it up. "}}]}',
        '{"choices": [{"delta": {"tool_calls": [{"id": "c1", "function": {"name": "sunset"}}]}}]}',
        r'{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{\"city\": "}}]}}]}',
        r'{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "\"Lima\"}"}}]}}]}',
        '{"choices": [{"finish_reason": "tool_calls"}]}',
        '{"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 20}}',
        "[DONE]",
        pause=0.05,
    ),
    ScriptedResponse.sse(
        '{"choices": [{"delta": {"content": "In Lima, "}}]}',
        '{"choices": [{"delta": {"content": "at 18:04."}}]}',
        '{"choices": [{"finish_reason": "stop"}]}',
        '{"choices": [], "usage": {"prompt_tokens": 80, "completion_tokens": 10}}',
        "[DONE]",
        pause=0.05,
    ),
)

if __name__ == "__main__":
    question = " ".join(sys.argv[1:]) or "When does the sun set in Lima?"
    model_id = os.environ.get("OPENAI_MODEL", "gpt-5-mini")
    base_url, api_key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    if base_url or api_key:
        asyncio.run(main(question, model_id, base_url, api_key))
    else:
        with ScriptedServer(*OFFLINE) as server:
            asyncio.run(main(question, model_id, server.url))
