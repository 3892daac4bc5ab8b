"""Amazon Bedrock's ConverseStream, the same for the models of all makers, as neutral events.

Asks a server inside this program; or, with an API key in BEDROCK_API_KEY, the live one; a prompt is
an argument. BEDROCK_BASE_URL names another region, BEDROCK_MODEL another model.

The format: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from pydantic import AliasPath, BaseModel, Field, TypeAdapter

from streamsession import (
    AsyncSession,
    Done,
    EventStreamDecoder,
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
    """What is to be sent back with reasoning: its proof, or in its place all of it, encrypted."""

    type: Literal["signature"] = "signature"
    signature: str | None = None
    redacted: str | None = None  # in base64


ConverseEvent: TypeAlias = TokenEvent | Signature


def at(*path: str) -> Any:
    """A field from deeper in the object; None where there is none."""
    return Field(None, validation_alias=AliasPath(*path))


class Piece(BaseModel, extra="allow"):
    """An event of the API: its type, which the frame names, and of the rest what that type has."""

    type: Literal[
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]
    index: int = Field(0, validation_alias="contentBlockIndex")
    call_id: str | None = at("start", "toolUse", "toolUseId")
    tool: str | None = at("start", "toolUse", "name")
    tool_type: str | None = at("start", "toolUse", "type")
    arguments: str | None = at("delta", "toolUse", "input")
    reasoning: str | None = at("delta", "reasoningContent", "text")
    signature: str | None = at("delta", "reasoningContent", "signature")
    redacted: str | None = at("delta", "reasoningContent", "redactedContent")
    text: str | None = at("delta", "text")
    stop_reason: str | None = at("stopReason")
    usage: dict[str, Any] | None = None


PIECE = TypeAdapter(Piece)


class Answer:
    """The answer as far as it has come; makes its events."""

    def __init__(self) -> None:
        self.calls = ToolCalls()
        self.done: Done | None = None

    def read(self, piece: Piece) -> Iterator[ConverseEvent]:
        """The events in a piece of it."""
        if piece.reasoning:
            yield ReasoningDelta(text=piece.reasoning).of(piece)
        if piece.signature or piece.redacted:
            yield Signature(signature=piece.signature, redacted=piece.redacted).of(piece)
        if piece.text:
            yield TextDelta(text=piece.text).of(piece)
        if piece.call_id and piece.tool_type != "server_tool_use":
            yield self.calls.begin(piece.index, id=piece.call_id, name=piece.tool or "", wire=piece)
        if piece.arguments and piece.index in self.calls:
            yield self.calls.add(piece.index, piece.arguments, piece)
        if piece.type == "contentBlockStop" and piece.index in self.calls:
            yield self.calls.finish(piece.index)
        if piece.type == "messageStop":
            yield from self.calls.finish_all()  # those cut off, which have not stopped
            self.done = Done(finish_reason=piece.stop_reason).of(piece)
        if piece.usage is not None:
            yield spent(piece.usage).of(piece)


def spent(usage: dict[str, Any]) -> Usage:
    """The tokens spent; the API counts those apart that the cache gave or took."""
    parts = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
    said = [usage[part] for part in parts if usage.get(part) is not None]
    return Usage(input_tokens=sum(said) if said else None, output_tokens=usage.get("outputTokens"))


class BedrockConverse(AsyncSession[ConverseEvent]):
    """A session with Amazon Bedrock; instead of an API key, `auth=` takes what signs by SigV4."""

    base_url = "https://bedrock-runtime.us-east-1.amazonaws.com"
    request_id_headers = ("x-amzn-requestid",)
    framing = EventStreamDecoder
    final_events = (Done,)

    def stream(
        self, prompt: str | list[Any], *, model: str = "us.amazon.nova-2-lite-v1:0", **options: Any
    ) -> Stream[ConverseEvent]:
        """The answer to a prompt, or to `messages`; `options` go into the request as they are."""
        content = [{"text": prompt}]
        messages = [{"role": "user", "content": content}] if isinstance(prompt, str) else prompt
        path = f"/model/{quote(model, safe='')}/converse-stream"
        return self.open_stream("POST", path, json={"messages": messages, **options})

    async def decode(
        self, frames: AsyncIterator[Any]
    ) -> AsyncIterator[ConverseEvent | UnknownEvent]:
        """The blocks piece by piece, each tool call once it is whole, `Done` at the end."""
        answer = Answer()
        missing = {"messageStop", "metadata"}  # without the latter, a clean end will do
        async for piece in self.read(frames, PIECE):
            if isinstance(piece, UnknownEvent):
                yield piece
                continue
            for event in answer.read(piece):
                yield event
            missing.discard(piece.type)
            if not missing:
                break
        if answer.done:
            yield answer.done


if __name__ == "__main__":
    from asking import ask
    from offline import BEDROCK_CONVERSE

    ask(BedrockConverse, BEDROCK_CONVERSE, "BEDROCK")
