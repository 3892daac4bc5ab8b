"""A conversation: messages as Chat Completions take them. No I/O."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias
from uuid import uuid4

from pydantic import BaseModel, Field, JsonValue
from pydantic_core import to_json

from agent_events import ToolResult
from openai_chat import ChatEvent, Chunk, Delta, Refusal
from streamsession import ReasoningDelta, Reply, ToolCall

Message: TypeAlias = dict[str, JsonValue]


class Conversation(BaseModel):
    """What was said so far, and always such that it can be sent to go on.

    Attributes:
        id: What it is kept under.
        version: How often it was saved; stores know by it who comes late.
        messages: Without the instructions, which may change.
        cut: The places of answers that were cut short, by a failure or by who left the run.
    """

    id: str = Field(default_factory=lambda: uuid4().hex)
    version: int = 0
    messages: list[Message] = []
    cut: list[int] = []

    def add_prompt(self, text: str) -> None:
        """The user says something."""
        self.messages.append({"role": "user", "content": text})

    def add_answer(self, reply: Reply[ChatEvent]) -> None:
        """The model has answered, or was cut short; nothing is added if it said nothing."""
        refusal = "".join(each.refusal for each in reply.events if isinstance(each, Refusal))
        if not reply.text and not refusal:
            return
        if not reply.complete:
            self.cut.append(len(self.messages))
        refused: Message = {"refusal": refusal} if refusal else {}
        self.messages.append({"role": "assistant", "content": reply.text or None, **refused})

    def add_calls(
        self, reply: Reply[ChatEvent], calls: Sequence[ToolCall], results: Iterable[ToolResult]
    ) -> None:
        """The model has called tools; each call needs a result, or the API refuses them all."""
        answer: Message = {"role": "assistant", "content": reply.text or None}
        answer["tool_calls"] = [_as_sent(call) for call in calls]
        if _reasons_in_content(reply):
            answer["reasoning_content"] = reply.reasoning
        self.messages.append(answer)
        for result in results:
            told: Message = {"role": "tool", "tool_call_id": result.id, "content": result.content}
            self.messages.append(told)


def _as_sent(call: ToolCall) -> Message:
    arguments = call.raw_arguments or "{}"
    if call.arguments is None:
        # Servers parse the history too, and may refuse all that follows malformed arguments:
        # https://github.com/vllm-project/vllm/pull/48922
        arguments = to_json({"malformed": call.raw_arguments}).decode()
    sent: Message = {"id": call.id, "type": "function"}
    sent["function"] = {"name": call.name, "arguments": arguments}
    for delta in _deltas(call):
        for part in delta.tool_calls or ():
            # Gemini wants its signature back:
            # https://ai.google.dev/gemini-api/docs/thought-signatures
            extra = part.model_extra or {}
            if part.id == call.id and "extra_content" in extra:
                sent["extra_content"] = extra["extra_content"]
    return sent


def _reasons_in_content(reply: Reply[ChatEvent]) -> bool:
    # Who sends it under this name wants it back with tool calls:
    # https://api-docs.deepseek.com/guides/thinking_mode
    pieces = (each for each in reply.events if isinstance(each, ReasoningDelta) and not each.choice)
    return any(delta.reasoning_content for piece in pieces for delta in _deltas(piece))


def _deltas(event: ReasoningDelta | ToolCall) -> Iterator[Delta]:
    """What the API sent in the chunk that an event was made of."""
    if isinstance(event.wire, Chunk):
        for choice in event.wire.choices or ():
            if choice.delta and choice.index == event.choice:
                yield choice.delta
