"""Anthropic's Messages API as neutral events.

Offline, against a server inside this program:  python examples/anthropic_messages.py
Live:                   ANTHROPIC_API_KEY=... python examples/anthropic_messages.py "Why is ...?"
Another server, model:  ANTHROPIC_BASE_URL=... ANTHROPIC_MODEL=... python ...

The format: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from pydantic import AliasChoices, BaseModel, Field, TypeAdapter
from pydantic_core import to_json

from streamsession import (
    AsyncSession,
    Done,
    NeutralEvent,
    ReasoningDelta,
    Stream,
    TextDelta,
    TokenEvent,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    UnknownEvent,
    Usage,
)
from streamsession.testing import ScriptedResponse, ScriptedServer


class Signature(NeutralEvent):
    """The proof of the reasoning before it, to be sent back with it."""

    type: Literal["signature"] = "signature"
    signature: str


MessageEvent: TypeAlias = TokenEvent | Signature


class Wire(BaseModel, extra="allow"):
    """An object of the API, with all that is not named here in `model_extra`."""


class Content(Wire):
    """What a block begins with, or what is added to it; each type has fields of its own."""

    type: str
    text: str = ""
    thinking: str = ""
    signature: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = {}
    partial_json: str = ""


class Message(Wire):
    """The message as it begins, seldom with content, or what changes as it ends."""

    content: list[Content] = []
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None


class MessageChange(Wire):
    """The message begins, or is about to end."""

    type: Literal["message_start", "message_delta"]
    message: Message = Field(validation_alias=AliasChoices("message", "delta"))
    usage: dict[str, Any] | None = None


class BlockChange(Wire):
    """A block begins, or goes on."""

    type: Literal["content_block_start", "content_block_delta"]
    index: int
    content: Content = Field(validation_alias=AliasChoices("content_block", "delta"))


class BlockStop(Wire):
    """A block is whole."""

    type: Literal["content_block_stop"]
    index: int


class Sign(Wire):
    """The message is whole, or only still under way."""

    type: Literal["message_stop", "ping"]


WireEvent: TypeAlias = MessageChange | BlockChange | BlockStop | Sign
WIRE: TypeAdapter[WireEvent] = TypeAdapter(WireEvent)


class Answer:
    """The answer as far as it has come; makes its events."""

    def __init__(self) -> None:
        self.calls: dict[int, tuple[ToolCallStart, list[str]]] = {}
        self.spent: dict[str, Any] = {}
        self.done = Done()

    def read(self, wire: WireEvent | UnknownEvent) -> Iterator[MessageEvent | UnknownEvent]:
        """The events in one event of the API."""
        match wire:
            case MessageChange(message=message):
                spent = wire.usage or message.usage or {}
                self.spent = self.spent | {key: n for key, n in spent.items() if n is not None}
                self.done = Done(finish_reason=message.stop_reason).of(message)
                for index, content in enumerate(message.content):
                    yield from self.add(index, content)
                if wire.type == "message_delta":
                    yield self.usage()
            case BlockChange():
                if wire.type == "content_block_start" and wire.index == 0:
                    yield self.usage()  # not before: once an event is out, nothing is retried
                yield from self.add(wire.index, wire.content)
            case BlockStop():
                yield from self.finish(wire.index)
            case Sign(type="message_stop"):
                for index in list(self.calls):  # cut off: they have not stopped
                    yield from self.finish(index)
                yield self.done
            case Sign():
                pass
            case UnknownEvent():
                yield wire

    def add(self, index: int, content: Content) -> Iterator[MessageEvent]:
        """The events in a piece of a block."""
        if content.text:
            yield TextDelta(text=content.text).of(content)
        if content.thinking:
            yield ReasoningDelta(text=content.thinking).of(content)
        if content.signature:
            yield Signature(signature=content.signature).of(content)
        if content.type == "tool_use":
            start = ToolCallStart(id=content.id, name=content.name).of(content)
            self.calls[index] = start, []
            yield start
        if content.partial_json and index in self.calls:
            start, fragments = self.calls[index]
            fragments.append(content.partial_json)
            yield ToolCallDelta(id=start.id, arguments=content.partial_json).of(content)

    def finish(self, index: int) -> Iterator[ToolCall]:
        """The whole call, if the block is one; its fragments replace the input it began with."""
        if index in self.calls:
            start, fragments = self.calls.pop(index)
            yield start.finish("".join(fragments) or to_json(start.wire.input).decode())

    def usage(self) -> Usage:
        """The tokens spent so far; the API counts those apart that the cache gave or took."""
        spent = self.spent
        parts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        prompt = sum(spent.get(part, 0) for part in parts) or None
        return Usage(input_tokens=prompt, output_tokens=spent.get("output_tokens")).of(spent)


class AnthropicMessages(AsyncSession[MessageEvent]):
    """A session with Anthropic."""

    base_url = "https://api.anthropic.com"
    api_key_header = "x-api-key"
    headers: Mapping[str, str] = {"anthropic-version": "2023-06-01"}
    final_events = (Done,)

    def stream(self, messages: list[Any], *, model: str, **options: Any) -> Stream[MessageEvent]:
        """The answer to a conversation; `options` go into the request as they are."""
        defaults = {"stream": True, "max_tokens": 4096}
        body = {"messages": messages, "model": model, **defaults, **options}
        return self.open_stream("POST", "/v1/messages", json=body)

    async def decode(
        self, frames: AsyncIterator[Any]
    ) -> AsyncIterator[MessageEvent | UnknownEvent]:
        """The blocks piece by piece, each tool call once it is whole, `Done` at the end."""
        answer = Answer()
        async for wire in self.read(frames, WIRE):
            for event in answer.read(wire):
                yield event
                if isinstance(event, Done):
                    return


async def main(prompt: str, model: str, url: str | None, key: str | None = None) -> None:
    """Ask once, print the answer while it comes, then what else came with it."""
    async with AnthropicMessages(base_url=url, api_key=key) as session:
        stream = session.stream([{"role": "user", "content": prompt}], model=model)
        async for text in stream.text():
            print(text, end="", flush=True)
    reply = stream.reply
    print(f"\n{reply.reasoning=}\n{reply.tool_calls=}\n{reply.usage=}\n{reply.finish_reason=}")


OFFLINE = ScriptedResponse.sse(
    {"type": "message_start", "message": {"usage": {"input_tokens": 12}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Let me "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "look."}},
    {"type": "content_block_stop", "index": 0},
    '{"type": "content_block_start", "index": 1,'
    ' "content_block": {"type": "tool_use", "id": "c1", "name": "time"}}',
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 34}},
    {"type": "message_stop"},
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
