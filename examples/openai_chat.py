"""OpenAI-compatible Chat Completions, of any server that speaks it, as neutral events.

Offline, against a server inside this program:  python examples/openai_chat.py
Live:                   OPENAI_API_KEY=... python examples/openai_chat.py "Why is the sky blue?"
Another server, model:  OPENAI_BASE_URL=http://localhost:8080/v1 OPENAI_MODEL=... python ...

The format: https://platform.openai.com/docs/api-reference/chat-streaming
"""

import asyncio
import os
import sys
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
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from streamsession.testing import ScriptedResponse, ScriptedServer


class Refusal(NeutralEvent):
    """A piece of the model's refusal to answer; no part of the answer."""

    type: Literal["refusal"] = "refusal"
    refusal: str


ChatEvent: TypeAlias = TokenEvent | Refusal


class Wire(BaseModel, extra="allow"):
    """An object of the API, with all that is not named here in `model_extra`.

    Servers leave out, or write null for, what they have not.
    """


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
        self.calls: dict[tuple[int, str], tuple[ToolCallStart, list[str]]] = {}
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
            if (index, call_id) not in self.calls:
                start = ToolCallStart(id=call_id, name=part.name or "", choice=choice).of(chunk)
                self.calls[index, call_id] = start, []
                yield start
            start, fragments = self.calls[index, call_id]
            if part.arguments:
                fragments.append(part.arguments)
                yield ToolCallDelta(id=start.id, arguments=part.arguments, choice=choice).of(chunk)


class OpenAIChat(AsyncSession[ChatEvent]):
    """A session with an OpenAI-compatible server."""

    base_url = "https://api.openai.com/v1"
    framing = ChatDecoder
    final_events = (Done,)

    def stream(self, messages: list[Any], *, model: str, **options: Any) -> Stream[ChatEvent]:
        """The answer to a conversation; `options` go into the request as they are."""
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
            for start, fragments in answer.calls.values():
                yield start.finish("".join(fragments))
            yield answer.done


async def main(prompt: str, model: str, url: str | None, key: str | None = None) -> None:
    """Ask once, print the answer while it comes, then what else came with it."""
    async with OpenAIChat(base_url=url, api_key=key) as session:
        stream = session.stream([{"role": "user", "content": prompt}], model=model)
        async for text in stream.text():
            print(text, end="", flush=True)
    reply = stream.reply
    print(f"\n{reply.reasoning=}\n{reply.tool_calls=}\n{reply.usage=}\n{reply.finish_reason=}")


OFFLINE = ScriptedResponse.sse(
    '{"choices": [{"delta": {"reasoning_content": "Ask the clock."}}]}',
    '{"choices": [{"delta": {"content": "Let me "}}]}',
    '{"choices": [{"delta": {"content": "look."}}]}',
    '{"choices": [{"delta": {"tool_calls": [{"id": "c1", "function": {"name": "time"}}]}}]}',
    '{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]}',
    '{"choices": [{"finish_reason": "tool_calls"}]}',
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
