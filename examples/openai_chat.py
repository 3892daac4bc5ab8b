"""OpenAI-compatible Chat Completions, of any server that speaks it, as neutral events.

Asks a server inside this program; or, with a key in OPENAI_API_KEY, the live one; a prompt is an
argument. OPENAI_BASE_URL names another server, OPENAI_MODEL another model.

The format: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, TypeAlias

from pydantic import AliasChoices, AliasPath, BaseModel, Field

from streamsession import (
    AsyncSession,
    Done,
    NeutralEvent,
    ReasoningDelta,
    ServerSentEvent,
    SSEDecoder,
    Stream,
    TextDelta,
    TokenEvent,
    ToolCalls,
    Usage,
)


class Refusal(NeutralEvent):
    """A piece of the model's refusal to answer; no part of the answer."""

    type: Literal["refusal"] = "refusal"
    refusal: str


ChatEvent: TypeAlias = TokenEvent | Refusal


class Wire(BaseModel, extra="allow"):
    """An object of the API; what servers have not they leave out, or write null for."""


class Fragment(Wire):
    """A piece of a tool call; the first one has its id and name."""

    index: int | None = None
    id: str | None = None
    name: str | None = Field(None, validation_alias=AliasPath("function", "name"))
    arguments: str | None = Field(None, validation_alias=AliasPath("function", "arguments"))


class Delta(Wire):
    """What a chunk adds to an answer; reasoning goes by one or more of three names."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    detail: str | None = Field(
        default=None, validation_alias=AliasPath("reasoning_details", 0, "text")
    )
    tool_calls: list[Fragment] | None = None


class Choice(Wire):
    """A piece of one of several answers to the same prompt."""

    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None


class Chunk(Wire):
    """The object of one frame, whatever it calls itself."""

    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = Field(
        None, validation_alias=AliasChoices(AliasPath("x_groq", "usage"), "usage")
    )


class ChatDecoder(SSEDecoder):
    """Server-sent events; llama.cpp reports errors in a field of that name.

    https://github.com/ggml-org/llama.cpp/pull/16109
    """

    def read_field(self, line: bytes) -> None:
        """Take in `error: {...}` as the event that other servers make of it."""
        if line.startswith(b"error:"):
            super().read_field(b"event: error")
            line = line.replace(b"error:", b"data:", 1)
        super().read_field(line)


class Answer:
    """One of the answers as far as it has come; makes its events."""

    def __init__(self, choice: int) -> None:
        self.calls = ToolCalls(choice=choice)
        self.ids: dict[int, str] = {}  # the latest one at an index: Gemini's are all at 0
        self.done = Done(choice=choice)

    def read(self, piece: Choice, chunk: Chunk) -> Iterator[ChatEvent]:
        """The events in a piece of it."""
        choice, delta = piece.index, piece.delta or Delta()
        if piece.finish_reason:
            self.done = Done(finish_reason=piece.finish_reason, choice=choice).of(chunk)
        if reasoning := delta.reasoning_content or delta.reasoning or delta.detail:
            yield ReasoningDelta(text=reasoning, choice=choice).of(chunk)
        if delta.content:
            yield TextDelta(text=delta.content, choice=choice).of(chunk)
        if delta.refusal:
            yield Refusal(refusal=delta.refusal, choice=choice).of(chunk)
        for part in delta.tool_calls or ():
            index = part.index or 0
            call_id = self.ids[index] = part.id or self.ids.get(index, "")
            key = index, call_id
            if key not in self.calls:
                yield self.calls.begin(key, id=call_id, name=part.name or "", wire=chunk)
            if part.arguments:
                yield self.calls.add(key, part.arguments, chunk)


class OpenAIChat(AsyncSession[ChatEvent]):
    """A session with an OpenAI-compatible server."""

    base_url = "https://api.openai.com/v1"
    framing = ChatDecoder
    final_events = (Done,)

    def stream(
        self, prompt: str | list[Any], *, model: str = "gpt-5-mini", **options: Any
    ) -> Stream[ChatEvent]:
        """The answer to a prompt, or to `messages`; `options` go into the request as they are."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        defaults = {"stream": True, "stream_options": {"include_usage": True}}
        body = {"messages": messages, "model": model, **defaults, **options}
        return self.open_stream("POST", "/chat/completions", json=body)

    async def decode(self, frames: AsyncIterator[ServerSentEvent]) -> AsyncIterator[ChatEvent]:
        """Pieces of the answers as they come; at the end what takes whole ones.

        Not every server says `[DONE]`: a clean end will do if each answer has its finish_reason.
        """
        answers: dict[int, Answer] = {}
        async for frame in frames:
            if frame.data == "[DONE]":
                break
            if error := self.remote_error(frame):
                raise error
            chunk = Chunk.model_validate_json(frame.data)
            for piece in chunk.choices or ():
                answer = answers.setdefault(piece.index, Answer(piece.index))
                for event in answer.read(piece, chunk):
                    yield event
            if spent := chunk.usage:
                prompt, completion = spent.get("prompt_tokens"), spent.get("completion_tokens")
                yield Usage(input_tokens=prompt, output_tokens=completion).of(chunk)
        else:
            if not all(answer.done.finish_reason for answer in answers.values()):
                return  # the stream was cut short: the session sees it by the lack of `Done`
        for _, answer in sorted(answers.items()):
            for call in answer.calls.finish_all():
                yield call
            yield answer.done


if __name__ == "__main__":
    from asking import ask
    from offline import OPENAI_CHAT

    ask(OpenAIChat, OPENAI_CHAT, "OPENAI")
