"""Anthropic's Messages API as neutral events.

Asks a server inside this program; or, with a key in ANTHROPIC_API_KEY, the live one; a prompt is
an argument. ANTHROPIC_BASE_URL names another server, ANTHROPIC_MODEL another model.

The format: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

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
    ToolCalls,
    UnknownEvent,
    Usage,
)


class Signature(NeutralEvent):
    """The proof of the reasoning before it, to be sent back with it."""

    type: Literal["signature"] = "signature"
    signature: str


MessageEvent: TypeAlias = TokenEvent | Signature


class Wire(BaseModel, extra="allow"):
    """An object of the API, with all that is not named here in `model_extra`."""


class Content(Wire):
    """What a block begins with, or what is added to it or to the message."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = {}
    partial_json: str = ""
    stop_reason: str | None = None


class Message(Wire):
    """The message as it begins, seldom with content."""

    content: list[Content] = []
    usage: dict[str, Any] = {}


class MessageStart(Wire):
    """The message begins."""

    type: Literal["message_start"]
    message: Message


class MessageDelta(Wire):
    """The message is about to end."""

    type: Literal["message_delta"]
    delta: Content
    usage: dict[str, Any] | None = None


class BlockChange(Wire):
    """A block begins, or goes on."""

    type: Literal["content_block_start", "content_block_delta"]
    index: int
    content: Content = Field(validation_alias=AliasChoices("content_block", "delta"))


class Sign(Wire):
    """A block or the message is whole, or only still under way."""

    type: Literal["content_block_stop", "message_stop", "ping"]
    index: int = -1


WireEvent: TypeAlias = MessageStart | MessageDelta | BlockChange | Sign
WIRE: TypeAdapter[WireEvent] = TypeAdapter(WireEvent)


class Answer:
    """The answer as far as it has come; makes its events."""

    def __init__(self) -> None:
        self.calls = ToolCalls()
        self.spent: dict[str, Any] = {}
        self.done = Done()

    def read(self, wire: WireEvent | UnknownEvent) -> Iterator[MessageEvent | UnknownEvent]:
        """The events in one event of the API."""
        match wire:
            case MessageStart(message=message):
                self.spend(message.usage)
                for index, content in enumerate(message.content):
                    yield from self.add(index, content)
            case BlockChange(index=index, content=content):
                if wire.type == "content_block_start" and index == 0:
                    yield self.usage()  # not before: once an event is out, nothing is retried
                yield from self.add(index, content)
            case MessageDelta(delta=delta):
                self.spend(wire.usage or {})
                self.done = Done(finish_reason=delta.stop_reason).of(delta)
                yield self.usage()
            case Sign(type="content_block_stop", index=index) if index in self.calls:
                yield self.calls.finish(index)
            case Sign(type="message_stop"):
                yield from self.calls.finish_all()  # those cut off, which have not stopped
                yield self.done
            case UnknownEvent():
                yield wire
            case _:
                pass

    def add(self, index: int, content: Content) -> Iterator[MessageEvent]:
        """The events in a piece of a block."""
        if content.text:
            yield TextDelta(text=content.text).of(content)
        if content.thinking:
            yield ReasoningDelta(text=content.thinking).of(content)
        if content.signature:
            yield Signature(signature=content.signature).of(content)
        if content.type == "tool_use":
            given = to_json(content.input).decode()  # `{}` where fragments follow
            yield self.calls.begin(
                index, id=content.id, name=content.name, arguments=given, wire=content
            )
        if content.partial_json and index in self.calls:
            yield self.calls.add(index, content.partial_json, content)

    def spend(self, usage: dict[str, Any]) -> None:
        """Take in a report of the tokens spent; what it leaves out stays as it was."""
        said = {key: number for key, number in usage.items() if number is not None}
        self.spent = self.spent | said  # another dict: what an event was made from stays as it was

    def usage(self) -> Usage:
        """The tokens spent so far; the API counts those apart that the cache gave or took."""
        spent = self.spent
        parts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        counts = [spent[part] for part in parts if part in spent]
        prompt = sum(counts) if counts else None
        return Usage(input_tokens=prompt, output_tokens=spent.get("output_tokens")).of(spent)


class AnthropicMessages(AsyncSession[MessageEvent]):
    """A session with Anthropic."""

    base_url = "https://api.anthropic.com"
    api_key_header = "x-api-key"
    headers: Mapping[str, str] = {"anthropic-version": "2023-06-01"}
    final_events = (Done,)

    def stream(
        self, prompt: str | list[Any], *, model: str = "claude-haiku-4-5", **options: Any
    ) -> Stream[MessageEvent]:
        """The answer to a prompt, or to `messages`; `options` go into the request as they are."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
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


if __name__ == "__main__":
    from asking import ask
    from offline import ANTHROPIC_MESSAGES

    ask(AnthropicMessages, ANTHROPIC_MESSAGES, "ANTHROPIC")
