"""Anthropic's Messages API as neutral events.

Offline, against a server inside this program:  python examples/anthropic_messages.py
Live:                   ANTHROPIC_API_KEY=... python examples/anthropic_messages.py "Why is ...?"
Another server, model:  ANTHROPIC_BASE_URL=... ANTHROPIC_MODEL=... python ...

The format: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic import AliasChoices, BaseModel, Field, TypeAdapter
from pydantic_core import to_json

from streamsession import (
    AsyncSession,
    Done,
    Event,
    ReasoningDelta,
    ServerSentEvent,
    Stream,
    TextDelta,
    TokenEvent,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    UnknownEvent,
    Usage,
)
from streamsession.testing import ScriptedResponse, ScriptedServer, sse_event


class Signature(Event):
    """The proof of the reasoning before it, to be sent back with it."""

    type: Literal["signature"] = "signature"
    signature: str


MessageEvent: TypeAlias = TokenEvent | Signature


# The wire: the fields used here. What is sent besides them is in `event.wire.model_extra`.


class Content(BaseModel, extra="allow"):
    """What a block begins with, or what is added to it; each type has fields of its own."""

    type: str
    text: str = ""
    thinking: str = ""
    signature: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = {}
    partial_json: str = ""


class Spent(BaseModel, extra="allow"):
    """The tokens spent so far; None for those that an event leaves as they were."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class Message(BaseModel, extra="allow"):
    """The message as it begins, seldom with content, and what changes as it ends."""

    content: list[dict[str, Any]] = []
    stop_reason: str | None = None
    usage: Spent | None = None


class Update(BaseModel, extra="allow"):
    """The data of `message_start` and `message_delta`."""

    message: Message = Field(validation_alias=AliasChoices("message", "delta"))
    usage: Spent | None = None


OBJECT = TypeAdapter(dict[str, Any])


@dataclass
class Call:
    """A tool call as far as it has come."""

    start: ToolCallStart
    input: dict[str, Any]
    fragments: list[str] = field(default_factory=list[str])

    def finished(self) -> ToolCall:
        """The whole call; its fragments, if there are any, replace the first input."""
        arguments = "".join(self.fragments) or to_json(self.input).decode()
        call = ToolCall.parse(id=self.start.id, name=self.start.name, raw_arguments=arguments)
        return call.of(self.start.wire)


@dataclass
class Answer:
    """The answer as far as it has come; makes its events."""

    calls: dict[int, Call] = field(default_factory=dict[int, Call])
    spent: Spent = field(default_factory=Spent)
    message: Message = field(default_factory=Message)

    def read(self, frame: ServerSentEvent) -> Iterator[MessageEvent | UnknownEvent]:
        """The events in one event of the API."""
        data = OBJECT.validate_json(frame.data)
        match kind := data.get("type", frame.event):
            case "content_block_start":
                if data["index"] == 0:  # not before: once an event is out, nothing is retried
                    yield self._usage()
                yield from self._pieces(data["index"], data["content_block"])
            case "content_block_delta":
                yield from self._pieces(data["index"], data["delta"])
            case "content_block_stop":
                if call := self.calls.pop(data["index"], None):
                    yield call.finished()
            case "message_start" | "message_delta":
                update = Update.model_validate(data)
                self.message = update.message
                spent = update.usage or update.message.usage or Spent()
                self.spent = self.spent.model_copy(update=spent.model_dump(exclude_none=True))
                for index, content in enumerate(self.message.content):
                    yield from self._pieces(index, content)
                if kind == "message_delta":
                    yield self._usage()
            case "message_stop":
                for call in self.calls.values():  # cut off: they have not stopped
                    yield call.finished()
                yield Done(finish_reason=self.message.stop_reason or "").of(self.message)
            case "ping":
                pass
            case _:
                yield UnknownEvent(type=kind, data=frame.data)

    def _pieces(self, index: int, data: dict[str, Any]) -> Iterator[MessageEvent]:
        content = Content.model_validate(data)
        if content.text:
            yield TextDelta(text=content.text).of(content)
        if content.thinking:
            yield ReasoningDelta(text=content.thinking).of(content)
        if content.signature:
            yield Signature(signature=content.signature)
        if content.type == "tool_use":
            start = ToolCallStart(id=content.id, name=content.name).of(content)
            self.calls[index] = Call(start, content.input)
            yield start
        if content.partial_json and (call := self.calls.get(index)):
            call.fragments.append(content.partial_json)
            yield ToolCallDelta(id=call.start.id, arguments=content.partial_json).of(content)

    def _usage(self) -> Usage:
        spent, prompt = self.spent, self.spent.input_tokens
        if prompt is not None:  # it leaves out those that the cache gave or took
            prompt += spent.cache_creation_input_tokens or 0
            prompt += spent.cache_read_input_tokens or 0
        return Usage(input_tokens=prompt, output_tokens=spent.output_tokens).of(spent)


class AnthropicMessages(AsyncSession[MessageEvent]):
    """A session with Anthropic."""

    base_url = "https://api.anthropic.com"
    api_key_header = "x-api-key"
    headers: Mapping[str, str] = {"anthropic-version": "2023-06-01"}
    final_events = (Done,)

    def stream(
        self, messages: Sequence[Mapping[str, Any]], *, model: str, **options: Any
    ) -> Stream[MessageEvent]:
        """The answer to a conversation; `options` go into the request as they are."""
        body = {"messages": messages, "model": model, "stream": True, "max_tokens": 4096}
        return self.open_stream("POST", "/v1/messages", json={**body, **options})

    async def decode(
        self, frames: AsyncIterator[ServerSentEvent]
    ) -> AsyncGenerator[MessageEvent | UnknownEvent]:
        """The blocks piece by piece, each tool call once it is whole, `Done` at the end."""
        answer = Answer()
        async for frame in frames:
            if error := self.remote_error(frame):
                raise error
            for event in answer.read(frame):
                yield event
                if isinstance(event, Done):
                    return


async def main(
    prompt: str, model: str, base_url: str | None = None, api_key: str | None = None
) -> None:
    """Ask once, print the answer while it comes, then what else came with it."""
    messages = [{"role": "user", "content": prompt}]
    async with AnthropicMessages(base_url=base_url, api_key=api_key) as session:
        stream = session.stream(messages, model=model)
        async for token in stream.text():
            print(token, end="", flush=True)
    reply = stream.reply
    print(f"\n[{reply.finish_reason}]")
    if reply.reasoning:
        print(f"[reasoning] {reply.reasoning}")
    for call in reply.tool_calls:
        print(f"[tool call] {call.name}: {call.arguments}")
    if usage := reply.usage:
        print(f"[tokens] {usage.input_tokens} in, {usage.output_tokens} out")


def wire_event(kind: str, **data: Any) -> bytes:
    """An event as the API writes it."""
    return sse_event({"type": kind, **data}, event=kind)


OFFLINE = ScriptedResponse.sse(
    wire_event("message_start", message={"content": [], "usage": {"input_tokens": 12}}),
    wire_event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    wire_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Let me "}),
    wire_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "look."}),
    wire_event("content_block_stop", index=0),
    wire_event(
        "content_block_start",
        index=1,
        content_block={"type": "tool_use", "id": "c1", "name": "time"},
    ),
    wire_event("content_block_stop", index=1),
    wire_event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 34}),
    wire_event("message_stop"),
    pause=0.05,
)

if __name__ == "__main__":
    prompt = sys.argv[1] if sys.argv[1:] else "Say hello."
    model = os.environ.get("ANTHROPIC_MODEL", "claude-haiku-4-5")
    url, key = os.environ.get("ANTHROPIC_BASE_URL"), os.environ.get("ANTHROPIC_API_KEY")
    if url or key:
        asyncio.run(main(prompt, model, url, key))
    else:
        with ScriptedServer(OFFLINE) as server:
            asyncio.run(main(prompt, model, server.url))
