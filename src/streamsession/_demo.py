"""What `streamsession demo` shows: typed events as they come, over the public API only."""

import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
from pydantic_core import from_json

from . import (
    AsyncSession,
    Done,
    ServerSentEvent,
    SessionError,
    Stream,
    TextDelta,
    TokenEvent,
    Usage,
)
from .testing import RecordedRequest, ScriptedResponse, ScriptedServer

__all__ = ["run"]

_SECONDS_PER_TOKEN = 0.04  # 25 a second, a little faster than people read
_REPLY = (
    "Hello, human! These tokens come over a real connection, one server-sent event each. "
    "A context manager guards the session, an async generator hands them over, "
    "and each of them is a typed Pydantic object."
)


class EmbeddedSession(AsyncSession):
    """A server that speaks the neutral vocabulary needs no more than the bare session."""

    def stream(self, prompt: str) -> Stream[TokenEvent]:
        """The reply to a prompt."""
        return self.open_stream("POST", "/reply", json={"prompt": prompt})


class OpenAISession(AsyncSession):
    """OpenAI-compatible Chat Completions, text only; `examples/openai_chat.py` shows all of it."""

    base_url = "https://api.openai.com/v1"
    model = "gpt-4o-mini"

    def stream(self, prompt: str) -> Stream[TokenEvent]:
        """The reply to a prompt."""
        body = {"model": self.model, "messages": [{"role": "user", "content": prompt}]}
        options = {"stream": True, "stream_options": {"include_usage": True}}
        return self.open_stream("POST", "/chat/completions", json={**body, **options})

    async def decode(self, frames: AsyncIterator[ServerSentEvent]) -> AsyncIterator[TokenEvent]:
        """Text, usage and the finish reason."""
        async for frame in frames:
            if frame.data == "[DONE]":
                return
            if error := self.remote_error(frame):
                raise error
            chunk: Any = from_json(frame.data)
            for choice in chunk["choices"] or ():
                if text := choice["delta"].get("content"):
                    yield TextDelta(text=text).of(chunk)
                if reason := choice.get("finish_reason"):
                    yield Done(finish_reason=reason).of(chunk)
            if usage := chunk.get("usage"):
                yield Usage(
                    input_tokens=usage["prompt_tokens"], output_tokens=usage["completion_tokens"]
                )


class AnthropicSession(AsyncSession):
    """Anthropic's Messages, text only; `examples/anthropic_messages.py` shows all of it."""

    base_url = "https://api.anthropic.com/v1"
    model = "claude-haiku-4-5"
    api_key_header = "x-api-key"
    headers = {"anthropic-version": "2023-06-01"}  # noqa: RUF012 - a default, never changed

    def stream(self, prompt: str) -> Stream[TokenEvent]:
        """The reply to a prompt."""
        messages = [{"role": "user", "content": prompt}]
        body = {"model": self.model, "max_tokens": 1024, "stream": True, "messages": messages}
        return self.open_stream("POST", "/messages", json=body)

    async def decode(self, frames: AsyncIterator[ServerSentEvent]) -> AsyncIterator[TokenEvent]:
        """Text, usage and the stop reason."""
        async for frame in frames:
            if error := self.remote_error(frame):
                raise error
            event: Any = from_json(frame.data)
            match event["type"]:
                case "content_block_delta" if text := event["delta"].get("text"):
                    yield TextDelta(text=text).of(event)
                case "message_delta":
                    yield Usage(output_tokens=event["usage"]["output_tokens"]).of(event)
                    yield Done(finish_reason=event["delta"]["stop_reason"]).of(event)
                case "message_stop":
                    return
                case _:
                    pass


_LIVE: dict[str, tuple[type[OpenAISession | AnthropicSession], str]] = {
    "openai": (OpenAISession, "OPENAI_API_KEY"),
    "anthropic": (AnthropicSession, "ANTHROPIC_API_KEY"),
}


def run(*, api: str | None, base_url: str | None, model: str | None, prompt: str) -> int:
    """Stream the reply to a prompt and say what it took; returns the exit status.

    Args:
        api: The live API; None starts a server on this machine.
        base_url: Of the live server; None is the API's own.
        model: The model to ask; None is a small one.
        prompt: What to say to it.
    """
    try:
        if api is not None:
            session_class, variable = _LIVE[api]
            session = session_class(base_url=base_url, api_key=os.environ.get(variable))
            session.model = model or session.model
            anyio.run(_show, session, prompt)
        else:
            with ScriptedServer(_reply, repeat=True) as server:
                print(f"A server on this machine streams from {server.url}\n")
                anyio.run(_show, EmbeddedSession(base_url=server.url), prompt)
    except SessionError as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _reply(request: RecordedRequest) -> ScriptedResponse:
    """The embedded server's side: one event a token, at reading speed."""
    tokens = [TextDelta(text=word + " ") for word in _REPLY.split()]
    usage = Usage(input_tokens=len(request.body.split()), output_tokens=len(tokens))
    return ScriptedResponse.sse(
        *tokens, usage, Done(finish_reason="stop"), pause=_SECONDS_PER_TOKEN
    )


async def _show(session: EmbeddedSession | OpenAISession | AnthropicSession, prompt: str) -> None:
    async with session:
        begun = anyio.current_time()
        stream = session.stream(prompt)
        async for event in stream:
            fields = event.model_dump(exclude={"type", "choice"}, exclude_none=True)
            shown = "  ".join(f"{name}={value!r}" for name, value in fields.items())
            print(f"{anyio.current_time() - begun:7.3f} s  {type(event).__name__:<10} {shown}")
        seconds = anyio.current_time() - begun
        tokens = sum(isinstance(event, TextDelta) for event in stream.reply.events)
        async with session.stream("Once more.") as again:
            used = "used it again" if again.response.reused else "needed another"
        print(f"\n{stream.reply.text.strip()}\n")
        print(f"time to first event  {stream.stats.time_to_first_event or 0:.3f} s")
        print(f"tokens per second    {tokens / seconds:.1f}  ({tokens} in {seconds:.2f} s)")
        print(f"connection           went back to the pool: the next request {used}")
