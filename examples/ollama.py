"""Ollama's own chat API as neutral events.

Asks a server inside this program; or, with its URL in OLLAMA_BASE_URL, a live one, by custom at
http://localhost:11434; a prompt is an argument. OLLAMA_MODEL names another model; OLLAMA_API_KEY
holds the key that https://ollama.com wants.

The format: https://docs.ollama.com/api/chat
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from pydantic import AliasPath, BaseModel, Field
from pydantic_core import to_json

from streamsession import (
    AsyncSession,
    Done,
    JSONLinesDecoder,
    ReasoningDelta,
    Stream,
    TextDelta,
    TokenEvent,
    ToolCallStart,
    Usage,
)


class Wire(BaseModel, extra="allow"):
    """An object of the API; zeros and what is empty it leaves out."""


class Call(Wire):
    """A whole tool call, whose arguments are an object already."""

    id: str | None = None
    name: str | None = Field(None, validation_alias=AliasPath("function", "name"))
    arguments: dict[str, Any] | str | None = Field(
        None, validation_alias=AliasPath("function", "arguments")
    )


class Message(Wire):
    """What a line adds to the answer."""

    content: str | None = None
    thinking: str | None = None
    tool_calls: list[Call] | None = None


class Chunk(Wire):
    """The object of one line; the last one is `done`."""

    message: Message | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None


class Answer:
    """The answer as far as it has come; makes its events."""

    def __init__(self) -> None:
        self.calls = 0

    def read(self, chunk: Chunk) -> Iterator[TokenEvent]:
        """The events in a line of it."""
        message = chunk.message or Message()
        if message.thinking:
            yield ReasoningDelta(text=message.thinking).of(chunk)
        if message.content:
            yield TextDelta(text=message.content).of(chunk)
        for call in message.tool_calls or ():
            # Old servers give no id: they know a result by its `tool_name`.
            call_id = call.id or f"call_{self.calls}"
            self.calls += 1
            start = ToolCallStart(id=call_id, name=call.name or "").of(chunk)
            yield start
            given = call.arguments or {}
            yield start.finish(given if isinstance(given, str) else to_json(given).decode())
        prompt, completion = chunk.prompt_eval_count, chunk.eval_count
        if prompt is not None or completion is not None:
            yield Usage(input_tokens=prompt, output_tokens=completion).of(chunk)
        if chunk.done:
            yield Done(finish_reason=chunk.done_reason or None).of(chunk)


class Ollama(AsyncSession[TokenEvent]):
    """A session with an Ollama server."""

    base_url = "http://localhost:11434"
    framing = JSONLinesDecoder
    content_types = ("application/json",)  # one line of it: a model has been loaded
    final_events = (Done,)

    def stream(
        self, prompt: str | list[Any], *, model: str = "qwen3", **options: Any
    ) -> Stream[TokenEvent]:
        """The answer to a prompt, or to `messages`; `options` go into the request as they are."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        body = {"messages": messages, "model": model, "stream": True, **options}
        return self.open_stream("POST", "/api/chat", json=body)

    async def decode(self, frames: AsyncIterator[bytes]) -> AsyncIterator[TokenEvent]:
        """Pieces of the answer as they come, tool calls whole; `Done` at the end."""
        answer = Answer()
        async for line in frames:
            if error := self.remote_error(line):
                raise error
            chunk = Chunk.model_validate_json(line)
            for event in answer.read(chunk):
                yield event
            if chunk.done:
                return


if __name__ == "__main__":
    from asking import ask
    from offline import OLLAMA

    ask(Ollama, OLLAMA, "OLLAMA")
