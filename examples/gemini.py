"""The Gemini API's streamGenerateContent as neutral events, in both of its framings.

Asks a server inside this program; or, with a key in GEMINI_API_KEY, the live one; a prompt is an
argument. GEMINI_BASE_URL names another server, GEMINI_MODEL another model.

The format: https://ai.google.dev/api/generate-content
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from pydantic import AliasPath, BaseModel, Field, JsonValue
from pydantic.alias_generators import to_camel
from pydantic_core import to_json

from streamsession import (
    AsyncSession,
    Done,
    JSONArrayDecoder,
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


class Signature(NeutralEvent):
    """The proof of the reasoning before it, to be sent back in the part that is its `wire`."""

    type: Literal["signature"] = "signature"
    signature: str


class OtherPart(NeutralEvent):
    """A part of another kind: a picture, code that was run, what it printed."""

    type: Literal["other_part"] = "other_part"
    part: dict[str, JsonValue]


GeminiEvent: TypeAlias = TokenEvent | Signature | OtherPart


class Wire(BaseModel, extra="allow", alias_generator=to_camel):
    """An object of the API, with all that is not named here in `model_extra`."""


class Call(Wire):
    """A tool call, whole; or, if `streamFunctionCallArguments` was asked for, a piece of one."""

    id: str | None = None
    name: str | None = None
    args: dict[str, Any] | None = None
    partial_args: list[dict[str, Any]] | None = None
    will_continue: bool | None = None


class Part(Wire):
    """What a chunk adds to an answer."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: Call | None = None


class Candidate(Wire):
    """A piece of one of several answers to the same prompt."""

    index: int | None = None
    parts: list[Part] | None = Field(None, validation_alias=AliasPath("content", "parts"))
    finish_reason: str | None = Field(None, coerce_numbers_to_str=True)


class Chunk(Wire):
    """The object of one frame."""

    candidates: list[Candidate] | None = None
    prompt_feedback: dict[str, Any] | None = None
    usage_metadata: dict[str, Any] | None = None


class GeminiDecoder(SSEDecoder):
    """Server-sent events; errors come between them, as bare JSON of one line or several.

    https://github.com/vercel/ai/issues/5217
    """

    def read_field(self, line: bytes) -> None:
        """Take in a line of JSON as the data that it is; no field begins like one."""
        super().read_field(b"data:" + line if line[0] in b'"[{ }]' else line)


def put(there: Any, path: list[str], value: Any) -> Any:
    """What is there, with a value at a path into it; text goes on with the text there."""
    if not path:
        return (there or "") + value if isinstance(value, str) else value
    step, *path = path
    if step.startswith("["):
        items: list[Any] = there or []
        at = int(step[1:-1])
        items += [None] * (at == len(items))
        items[at] = put(items[at], path, value)
        return items
    members: dict[str, Any] = there or {}
    members[step] = put(members.get(step), path, value)
    return members


class Answer:
    """One of the answers as far as it has come; makes its events."""

    def __init__(self, choice: int) -> None:
        self.choice = choice
        self.calls = ToolCalls(choice=choice)
        self.last = -1  # of the calls, counted from 0
        self.arguments: Any = {}
        self.done = Done(choice=choice)

    def read(self, piece: Candidate, chunk: Chunk) -> Iterator[GeminiEvent]:
        """The events in a piece of it."""
        for part in piece.parts or ():
            if part.text:
                kind = ReasoningDelta if part.thought else TextDelta
                yield kind(text=part.text, choice=self.choice).of(part)
            elif part.function_call:
                yield from self.read_call(part.function_call, part)
            elif part.model_extra and part.text is None:
                whole = part.model_dump(by_alias=True, exclude_unset=True)
                yield OtherPart(part=whole, choice=self.choice).of(part)
            if part.thought_signature:
                yield Signature(signature=part.thought_signature, choice=self.choice).of(part)
        if piece.finish_reason:
            self.done = Done(finish_reason=piece.finish_reason, choice=self.choice).of(chunk)

    def read_call(self, call: Call, part: Part) -> Iterator[GeminiEvent]:
        """The events in a tool call, or in a piece of one; only the first piece has its name."""
        if call.name:
            self.last += 1
            self.arguments = dict(call.args or {})
            call_id = call.id or f"call_{self.last}"  # without ids, results go by the order
            cut = "{"  # what is left of arguments that are cut off: no JSON, so that none run them
            yield self.calls.begin(self.last, id=call_id, name=call.name, arguments=cut, wire=part)
        for given in call.partial_args or ():
            path = given["jsonPath"].replace("[", ".[").split(".")[1:]  # of `$.days[0].tide`
            value = given.get("stringValue", given.get("numberValue", given.get("boolValue")))
            self.arguments = put(self.arguments, path, value)
        if self.last in self.calls and not call.will_continue:
            self.calls.add(self.last, to_json(self.arguments).decode())
            yield self.calls.finish(self.last)


class Gemini(AsyncSession[GeminiEvent]):
    """A session with Google."""

    base_url = "https://generativelanguage.googleapis.com/v1beta"
    api_key_header = "x-goog-api-key"
    framing = GeminiDecoder
    final_events = (Done,)

    def stream(
        self,
        prompt: str | list[Any],
        *,
        model: str = "gemini-flash-latest",
        sse: bool = True,
        **options: Any,
    ) -> Stream[GeminiEvent]:
        """The answer to a prompt, or to `contents`; `options` go into the request as they are.

        Without `sse` it comes as it does by default from this API, in a JSON array.
        """
        said = [{"role": "user", "parts": [{"text": prompt}]}]
        body = {"contents": said if isinstance(prompt, str) else prompt, **options}
        path = f"/models/{quote(model, safe='')}:streamGenerateContent"
        if sse:
            return self.open_stream("POST", path, json=body, params={"alt": "sse"})
        return self.open_stream("POST", path, json=body, framing=JSONArrayDecoder)

    async def decode(self, frames: AsyncIterator[Any]) -> AsyncIterator[GeminiEvent]:
        """Pieces of the answers as they come; at the end what takes whole ones.

        That is at the end of the body: an answer may go on after it has had a finishReason.
        """
        answers: dict[int, Answer] = {}
        async for frame in frames:
            if error := self.remote_error(frame):
                raise error
            data = frame.data if isinstance(frame, ServerSentEvent) else frame
            chunk = Chunk.model_validate_json(data)
            for piece in chunk.candidates or ():
                choice = piece.index or 0
                answer = answers.setdefault(choice, Answer(choice))
                for event in answer.read(piece, chunk):
                    yield event
            spent = chunk.usage_metadata or {}  # which counts thoughts apart
            prompt, output = spent.get("promptTokenCount"), spent.get("candidatesTokenCount")
            if prompt or output:
                yield Usage(input_tokens=prompt, output_tokens=output).of(chunk)
            if (chunk.prompt_feedback or {}).get("blockReason"):
                yield Done().of(chunk)  # there is no answer
                return
        if all(answer.done.finish_reason for answer in answers.values()):
            for _, answer in sorted(answers.items()):
                for call in answer.calls.finish_all():
                    yield call
                yield answer.done


if __name__ == "__main__":
    from asking import ask
    from offline import GEMINI

    ask(Gemini, GEMINI, "GEMINI")
