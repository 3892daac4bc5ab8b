"""OpenAI-compatible Chat Completions, of any server that speaks it, as neutral events.

Offline, against a server inside this program:  python examples/openai_chat.py
Live:                   OPENAI_API_KEY=... python examples/openai_chat.py "Why is the sky blue?"
Another server, model:  OPENAI_BASE_URL=http://localhost:8080/v1 OPENAI_MODEL=... python ...

The format: https://platform.openai.com/docs/api-reference/chat-streaming
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic import AliasChoices, AliasPath, BaseModel, Field

from streamsession import (
    AsyncSession,
    Done,
    Event,
    ReasoningDelta,
    ServerSentEvent,
    SSEDecoder,
    Stream,
    StreamTruncated,
    TextDelta,
    TokenEvent,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from streamsession.testing import ScriptedResponse, ScriptedServer


class Refusal(Event):
    """A piece of the model's refusal to answer; no part of the answer."""

    type: Literal["refusal"] = "refusal"
    refusal: str
    choice: int = 0


ChatEvent: TypeAlias = TokenEvent | Refusal


# The wire: the fields used here; servers leave out, or write null for, what they have not. What
# is sent besides them is in `event.wire.model_extra`.


class Fragment(BaseModel, extra="allow"):
    """A piece of a tool call; the first one has its id and name."""

    index: int | None = None
    id: str | None = None
    name: str | None = Field(None, validation_alias=AliasPath("function", "name"))
    arguments: str | None = Field(None, validation_alias=AliasPath("function", "arguments"))


class Delta(BaseModel, extra="allow"):
    """What a chunk adds to a choice; a server fills one or more of the fields for reasoning."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    detail: str | None = Field(
        default=None, validation_alias=AliasPath("reasoning_details", 0, "text")
    )
    tool_calls: list[Fragment] | None = None


class Choice(BaseModel, extra="allow"):
    """A piece of one of several answers to the same prompt."""

    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None


class Spent(BaseModel, extra="allow"):
    """The tokens spent so far."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Chunk(BaseModel, extra="allow"):
    """The object of one frame, whatever it calls itself."""

    choices: list[Choice] | None = None
    usage: Spent | None = Field(
        None, validation_alias=AliasChoices(AliasPath("x_groq", "usage"), "usage")
    )


class ChatDecoder(SSEDecoder):
    """Server-sent events; an error that llama.cpp wrote as a field `error: {...}` is one of them.

    https://github.com/ggml-org/llama.cpp/pull/16109
    """

    def read_field(self, line: bytes) -> None:
        if line.startswith(b"error:"):
            super().read_field(b"event: error")
            line = line.replace(b"error:", b"data:", 1)
        super().read_field(line)


@dataclass
class Call:
    """A tool call as far as it has come."""

    index: int
    id: str
    name: str
    fragments: list[str] = field(default_factory=list[str])


@dataclass
class Answer:
    """One of the answers as far as it has come; makes its events."""

    choice: int
    calls: list[Call] = field(default_factory=list[Call])
    finish_reason: str = ""
    last: Chunk | None = None

    def read(self, piece: Choice, chunk: Chunk) -> Iterator[ChatEvent]:
        """The events in a piece of it."""
        choice, delta = self.choice, piece.delta or Delta()
        if piece.finish_reason:
            self.finish_reason, self.last = piece.finish_reason, chunk
        if reasoning := delta.reasoning_content or delta.reasoning or delta.detail:
            yield ReasoningDelta(text=reasoning, choice=choice).of(chunk)
        if delta.content:
            yield TextDelta(text=delta.content, choice=choice).of(chunk)
        if delta.refusal:
            yield Refusal(refusal=delta.refusal, choice=choice)
        for part in delta.tool_calls or ():
            index = part.index or 0
            call = next((call for call in reversed(self.calls) if call.index == index), None)
            if call is None or (part.id and part.id != call.id):  # Gemini's are all at 0
                call = Call(index, part.id or "", part.name or "")
                self.calls.append(call)
                yield ToolCallStart(id=call.id, name=call.name, choice=choice).of(chunk)
            if arguments := part.arguments:
                call.fragments.append(arguments)
                yield ToolCallDelta(id=call.id, arguments=arguments, choice=choice).of(chunk)

    def finish(self) -> Iterator[ChatEvent]:
        """The events that take all of it."""
        for call in self.calls:
            arguments = "".join(call.fragments)
            yield ToolCall.parse(
                id=call.id, name=call.name, raw_arguments=arguments, choice=self.choice
            ).of(self.last)
        yield Done(finish_reason=self.finish_reason, choice=self.choice).of(self.last)


class OpenAIChat(AsyncSession[ChatEvent]):
    """A session with an OpenAI-compatible server."""

    base_url = "https://api.openai.com/v1"
    framing = ChatDecoder
    final_events = None  # a clean end may be complete: `decode` knows

    def stream(
        self, messages: Sequence[Mapping[str, Any]], *, model: str, **options: Any
    ) -> Stream[ChatEvent]:
        """The answer to a conversation; `options` go into the request as they are."""
        body = {"messages": messages, "model": model, "stream": True, **options}
        body.setdefault("stream_options", {"include_usage": True})
        return self.open_stream("POST", "/chat/completions", json=body)

    async def decode(self, frames: AsyncIterator[ServerSentEvent]) -> AsyncGenerator[ChatEvent]:
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
                usage = Usage(
                    input_tokens=spent.prompt_tokens, output_tokens=spent.completion_tokens
                )
                yield usage.of(chunk)
        else:
            if not answers or not all(answer.finish_reason for answer in answers.values()):
                raise StreamTruncated("the body ended without [DONE] or a finish_reason")
        for _, answer in sorted(answers.items()):
            for event in answer.finish():
                yield event


async def main(
    prompt: str, model: str, base_url: str | None = None, api_key: str | None = None
) -> None:
    """Ask once, print the answer while it comes, then what else came with it."""
    messages = [{"role": "user", "content": prompt}]
    async with OpenAIChat(base_url=base_url, api_key=api_key) as session:
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


OFFLINE = ScriptedResponse.sse(
    '{"choices": [{"delta": {"reasoning_content": "Ask the clock."}}]}',
    '{"choices": [{"delta": {"content": "Let me "}}]}',
    '{"choices": [{"delta": {"content": "look."}}]}',
    '{"choices": [{"delta": {"tool_calls": [{"id": "c1", "function": {"name": "time"}}]}}]}',
    '{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]}',
    '{"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}',
    '{"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 34}}',
    "[DONE]",
    pause=0.05,
)

if __name__ == "__main__":
    prompt = sys.argv[1] if sys.argv[1:] else "Say hello."
    model = os.environ.get("OPENAI_MODEL", "gpt-5-mini")
    url, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    if url or key:
        asyncio.run(main(prompt, model, url, key))
    else:
        with ScriptedServer(OFFLINE) as server:
            asyncio.run(main(prompt, model, server.url))
