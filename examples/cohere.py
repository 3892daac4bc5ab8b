"""Cohere's Chat API, version 2, as neutral events.

Asks a server inside this program; or, with a key in COHERE_API_KEY, the live one; a prompt is an
argument. COHERE_BASE_URL names another server, COHERE_MODEL another model.

The format: https://docs.cohere.com/v2/docs/streaming
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, TypeAlias

from pydantic import AliasPath, BaseModel, Field, JsonValue, TypeAdapter

from streamsession import (
    AsyncSession,
    Done,
    NeutralEvent,
    ReasoningDelta,
    RemoteError,
    Stream,
    TextDelta,
    TokenEvent,
    ToolCalls,
    UnknownEvent,
    Usage,
)


class ToolPlan(NeutralEvent):
    """A piece of what the model plans to do with its tools, to be sent back with its calls."""

    type: Literal["tool_plan"] = "tool_plan"
    tool_plan: str


class Citation(NeutralEvent):
    """What the text from `start` up to `end` rests on."""

    type: Literal["citation"] = "citation"
    start: int | None = None
    end: int | None = None
    sources: list[JsonValue]


CohereEvent: TypeAlias = TokenEvent | ToolPlan | Citation
ChangeType: TypeAlias = Literal[
    "message-start", "content-start", "content-delta", "content-end", "tool-plan-delta",
    "tool-call-start", "tool-call-delta", "tool-call-end", "citation-start", "citation-end",
]  # fmt: skip


class Wire(BaseModel, extra="allow"):
    """An object of the API; what it has not is missing, or null."""


def within(*path: str) -> Any:
    """A field of the message that an event changes; None in an event without it."""
    return Field(None, validation_alias=AliasPath("delta", "message", *path))


class Change(Wire):
    """Some part of the message begins, goes on, or is whole."""

    type: ChangeType
    index: int | None = None
    text: str | None = within("content", "text")
    thinking: str | None = within("content", "thinking")
    tool_plan: str | None = within("tool_plan")
    id: str | None = within("tool_calls", "id")
    name: str | None = within("tool_calls", "function", "name")
    arguments: str | None = within("tool_calls", "function", "arguments")
    citation: Any = within("citations")


class End(Wire):
    """How the message has ended."""

    finish_reason: str | None = None
    error: str | None = None
    usage: dict[str, Any] | None = None


class MessageEnd(Wire):
    """The message has ended, well or not."""

    type: Literal["message-end"]
    delta: End | None = None


WireEvent: TypeAlias = Change | MessageEnd
WIRE: TypeAdapter[WireEvent] = TypeAdapter(WireEvent)


class Answer:
    """The answer as far as it has come; makes its events."""

    def __init__(self) -> None:
        self.calls = ToolCalls()

    def read(self, wire: WireEvent | UnknownEvent) -> Iterator[CohereEvent | UnknownEvent]:
        """The events in one event of the API."""
        match wire:
            case Change():
                yield from self.add(wire)
            case MessageEnd():
                yield from self.end(wire.delta or End())
            case UnknownEvent():
                yield wire

    def add(self, change: Change) -> Iterator[CohereEvent]:
        """The events in a piece of the message."""
        index = change.index
        if change.thinking:
            yield ReasoningDelta(text=change.thinking).of(change)
        if change.text:
            yield TextDelta(text=change.text).of(change)
        if change.tool_plan:
            yield ToolPlan(tool_plan=change.tool_plan).of(change)
        if change.type == "tool-call-start":
            call_id, name = change.id or "", change.name or ""
            yield self.calls.begin(index, id=call_id, name=name, wire=change)
        if change.arguments and index in self.calls:
            yield self.calls.add(index, change.arguments, change)
        if change.type == "tool-call-end" and index in self.calls:
            yield self.calls.finish(index)
        if cited := change.citation:
            start, end, sources = (cited.get(key) for key in ("start", "end", "sources"))
            yield Citation(start=start, end=end, sources=sources or []).of(change)

    def end(self, end: End) -> Iterator[CohereEvent]:
        """The events at the end of the message."""
        reason = end.finish_reason
        if end.error or reason in ("ERROR", "TIMEOUT"):
            said, data = end.error or "the generation failed", end.model_dump(exclude_unset=True)
            raise RemoteError(said, type=reason or "", retryable=reason == "TIMEOUT", data=data)
        yield from self.calls.finish_all()  # those cut off, which have not ended
        if tokens := (end.usage or {}).get("tokens"):
            prompt, completion = tokens.get("input_tokens"), tokens.get("output_tokens")
            yield Usage(input_tokens=prompt, output_tokens=completion).of(end)
        yield Done(finish_reason=reason).of(end)


class Cohere(AsyncSession[CohereEvent]):
    """A session with Cohere."""

    base_url = "https://api.cohere.com"
    final_events = (Done,)

    def stream(
        self, prompt: str | list[Any], *, model: str = "command-a-03-2025", **options: Any
    ) -> Stream[CohereEvent]:
        """The answer to a prompt, or to `messages`; `options` go into the request as they are."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        body = {"messages": messages, "model": model, "stream": True, **options}
        return self.open_stream("POST", "/v2/chat", json=body)

    async def decode(self, frames: AsyncIterator[Any]) -> AsyncIterator[CohereEvent | UnknownEvent]:
        """The message piece by piece, each tool call once it is whole, `Done` at the end."""
        answer = Answer()
        async for wire in self.read(frames, WIRE):
            for event in answer.read(wire):
                yield event
                if isinstance(event, Done):
                    return


if __name__ == "__main__":
    from asking import ask
    from offline import COHERE

    ask(Cohere, COHERE, "COHERE")
