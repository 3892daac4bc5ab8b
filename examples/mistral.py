"""Mistral's Chat Completions as neutral events.

Asks a server inside this program; or, with a key in MISTRAL_API_KEY, the live one; a prompt is an
argument. MISTRAL_BASE_URL names another server, MISTRAL_MODEL another model.

The format: https://docs.mistral.ai/api/endpoint/chat
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, TypeAlias

from pydantic import AliasPath, BaseModel, Field
from pydantic_core import to_json

from streamsession import (
    AsyncSession,
    Done,
    NeutralEvent,
    ReasoningDelta,
    RemoteError,
    ServerSentEvent,
    Stream,
    TextDelta,
    TokenEvent,
    ToolCalls,
    Usage,
)


class Reference(NeutralEvent):
    """What the text around it rests on: the ids of sources that a tool's result has named."""

    type: Literal["reference"] = "reference"
    reference_ids: list[int | str]


MistralEvent: TypeAlias = TokenEvent | Reference


class Wire(BaseModel, extra="allow"):
    """An object of the API; what it has not is missing, or null."""


class Part(Wire):
    """A part of the content: a text, thoughts that are parts themselves, or a reference."""

    text: str | None = None
    thinking: "list[Part] | None" = None
    reference_ids: list[int | str] | None = None


class Fragment(Wire):
    """A tool call, or a piece of one: the id of all but its first piece is missing or "null"."""

    index: int | None = None
    id: str | None = None
    name: str | None = Field(None, validation_alias=AliasPath("function", "name"))
    arguments: str | dict[str, Any] | None = Field(
        None, validation_alias=AliasPath("function", "arguments")
    )


class Delta(Wire):
    """What a chunk adds to an answer."""

    content: str | list[Part] | None = None
    tool_calls: list[Fragment] | None = None


class Choice(Wire):
    """A piece of one of several answers to the same prompt."""

    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None


class Chunk(Wire):
    """The object of one frame: pieces of answers, or an error with its type and message."""

    object: str | None = None
    type: str | None = None
    message: Any = None
    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None

    def failure(self) -> RemoteError | None:
        """The error that it is, or that an answer has ended in; None if it is none."""
        if self.object != "error" and all(c.finish_reason != "error" for c in self.choices or ()):
            return None
        said, data = self.message or "the model failed", self.model_dump(exclude_unset=True)
        return RemoteError(str(said), type=self.type or "error", data=data)


class Answer:
    """One of the answers as far as it has come; makes its events."""

    def __init__(self, choice: int) -> None:
        self.calls = ToolCalls(choice=choice)
        self.ids: dict[int, str] = {}  # the latest one at an index, which may be 0 for all
        self.done = Done(choice=choice)

    def read(self, piece: Choice, chunk: Chunk) -> Iterator[MistralEvent]:
        """The events in a piece of it."""
        choice, delta = piece.index, piece.delta or Delta()
        if piece.finish_reason:
            self.done = Done(finish_reason=piece.finish_reason, choice=choice).of(chunk)
        content = delta.content or []
        for part in [Part(text=content)] if isinstance(content, str) else content:
            for thought in part.thinking or ():
                if thought.text:
                    yield ReasoningDelta(text=thought.text, choice=choice).of(chunk)
            if part.text:
                yield TextDelta(text=part.text, choice=choice).of(chunk)
            if part.reference_ids:
                yield Reference(reference_ids=part.reference_ids, choice=choice).of(chunk)
        for position, fragment in enumerate(delta.tool_calls or ()):
            index = position if fragment.index is None else fragment.index
            named = fragment.id if fragment.id != "null" else None
            call_id = self.ids[index] = named or self.ids.get(index, "")
            key = index, call_id
            if key not in self.calls:
                yield self.calls.begin(key, id=call_id, name=fragment.name or "", wire=chunk)
            if given := fragment.arguments:
                text = given if isinstance(given, str) else to_json(given).decode()
                yield self.calls.add(key, text, chunk)


class Mistral(AsyncSession[MistralEvent]):
    """A session with Mistral."""

    base_url = "https://api.mistral.ai"
    final_events = (Done,)

    def stream(
        self, prompt: str | list[Any], *, model: str = "mistral-small-latest", **options: Any
    ) -> Stream[MistralEvent]:
        """The answer to a prompt, or to `messages`; `options` go into the request as they are."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        body = {"messages": messages, "model": model, "stream": True, **options}
        return self.open_stream("POST", "/v1/chat/completions", json=body)

    async def decode(self, frames: AsyncIterator[ServerSentEvent]) -> AsyncIterator[MistralEvent]:
        """Pieces of the answers as they come; at the end what takes whole ones.

        Without `[DONE]`, a clean end will do if each answer has its finish_reason.
        """
        answers: dict[int, Answer] = {}
        async for frame in frames:
            if frame.data == "[DONE]":
                break
            if error := self.remote_error(frame):
                raise error
            chunk = Chunk.model_validate_json(frame.data)
            if error := chunk.failure():
                raise error
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
    from offline import MISTRAL

    ask(Mistral, MISTRAL, "MISTRAL")
