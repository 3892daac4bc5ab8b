"""OpenAI's Responses API, of any server that speaks it, as neutral events.

Asks a server inside this program; or, with a key in OPENAI_API_KEY, the live one; a prompt is an
argument. OPENAI_BASE_URL names another server, OPENAI_MODEL another model.

The format: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from pydantic import AliasChoices, BaseModel, Field, JsonValue, TypeAdapter
from pydantic_core import from_json, to_json

from streamsession import (
    AsyncSession,
    Done,
    NeutralEvent,
    ReasoningDelta,
    RemoteError,
    Reply,
    Request,
    ServerSentEvent,
    Stream,
    TextDelta,
    TokenEvent,
    ToolCalls,
    UnknownEvent,
    Usage,
)


class Started(NeutralEvent):
    """A background response has begun, and goes on even if nobody reads it."""

    type: Literal["started"] = "started"
    id: str


class Refusal(NeutralEvent):
    """A piece of the model's refusal to answer; no part of the answer."""

    type: Literal["refusal"] = "refusal"
    refusal: str


class Item(NeutralEvent):
    """A whole item of the output, of any type; sent back in `input` where nothing is stored."""

    type: Literal["item"] = "item"
    item: dict[str, JsonValue]


ResponseEvent: TypeAlias = TokenEvent | Started | Refusal | Item


class Wire(BaseModel, extra="allow"):
    """An event of the API, with all that is not named here in `model_extra`."""

    sequence_number: int | None = None


class Change(Wire):
    """The response begins, or ends."""

    type: Literal["response.created", "response.completed", "response.incomplete", "response.done"]
    response: dict[str, Any] = {}


class ItemChange(Wire):
    """An item of the output begins, or is whole."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int | None = None
    item: dict[str, Any]


class Piece(Wire):
    """A piece of an item; `done` brings them all once more."""

    type: Literal[
        "response.output_text.delta",
        "response.refusal.delta",
        "response.reasoning.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
    ]
    output_index: int | None = None
    item_id: str | None = None
    delta: str | None = Field(None, validation_alias=AliasChoices("delta", "arguments"))


WireEvent: TypeAlias = Change | ItemChange | Piece
WIRE: TypeAdapter[WireEvent] = TypeAdapter(WireEvent)
ANYWHERE = -1  # in the output


def text_event(kind: str, text: str) -> TextDelta | ReasoningDelta | Refusal | None:
    """The event of a text of this kind; None if there is none, or no text."""
    match kind:
        case "output_text" if text:
            return TextDelta(text=text)
        case "refusal" if text:
            return Refusal(refusal=text)
        case "summary_text" | "reasoning" | "reasoning_text" | "reasoning_summary_text" if text:
            return ReasoningDelta(text=text)
        case _:
            return None


class Answer:
    """The answer as far as it has come; makes its events."""

    def __init__(self) -> None:
        self.calls = ToolCalls()
        self.call_ids: dict[int | str | None, str] = {}  # by place, by id; None is the latest
        # The places of what came in pieces, by type of event: the whole item is not to repeat it.
        self.places: dict[str, set[int | None]] = defaultdict(set)
        self.has_arguments: set[str] = set()  # calls
        self.has_items = False
        self.last: int | None = None  # `sequence_number`, in the background

    def read(self, wire: WireEvent | UnknownEvent) -> Iterator[ResponseEvent | UnknownEvent]:
        """The events in one event of the API."""
        match wire:
            case UnknownEvent():
                yield wire
            case _ if self.is_repeated(wire):
                pass
            case Change(type="response.created", response={"background": True, "id": str(id_)}):
                self.last = wire.sequence_number
                yield Started(id=id_).of(wire)
            case Change(response=response) if wire.type != "response.created":
                yield from self.end(response, wire)
            case ItemChange(type="response.output_item.done", item=item, output_index=place):
                self.has_items = True
                yield from self.whole(item, {place, None}, wire)
            case ItemChange(item={"type": "function_call"} as item, output_index=place):
                yield self.begin(item, place, wire)
            case Piece(delta=str(delta)):
                yield from self.add(delta, wire)
            case _:
                pass

    def is_repeated(self, wire: Wire) -> bool:
        """Whether a server that was asked to go on begins anew instead."""
        number, last = wire.sequence_number, self.last
        if number is None or last is None:
            return False
        self.last = max(number, last)
        return number <= last

    def add(self, delta: str, wire: Piece) -> Iterator[ResponseEvent]:
        """The event in a piece of an item."""
        kind, verb = wire.type.split(".")[1:]
        call_id = self.call_ids.get(wire.item_id or "", self.call_ids.get(wire.output_index, ""))
        if event := text_event(kind, delta):
            self.places[event.type] |= {wire.output_index, ANYWHERE}
            yield event.of(wire)
        elif call_id in self.calls and (verb == "delta" or call_id not in self.has_arguments):
            self.has_arguments.add(call_id)
            yield self.calls.add(call_id, delta, wire)

    def begin(self, item: dict[str, Any], place: int | None, wire: Wire) -> ResponseEvent:
        """A tool call begins."""
        call_id, name = item.get("call_id") or item.get("id") or "", item.get("name") or ""
        self.call_ids |= dict.fromkeys((place, item.get("id"), None), call_id)
        given = item.get("arguments") or ""
        return self.calls.begin(call_id, id=call_id, name=name, arguments=given, wire=wire)

    def whole(
        self, item: dict[str, Any], places: set[int | None], wire: Wire
    ) -> Iterator[ResponseEvent]:
        """What has not come yet of an item that is in one of these places; then the item."""
        if item.get("type") in ("message", "reasoning"):
            for part in (*(item.get("summary") or ()), *(item.get("content") or ())):
                event = text_event(part.get("type"), part.get("text") or part.get("refusal"))
                if event and self.places[event.type].isdisjoint(places):
                    yield event.of(wire)
        elif item.get("type") == "function_call":
            call_id = item.get("call_id") or item.get("id") or ""
            if call_id not in self.calls:
                yield self.begin(item, None, wire)
            if item.get("arguments") and call_id not in self.has_arguments:
                yield self.calls.add(call_id, item["arguments"], wire)
            yield self.calls.finish(call_id).of(wire)
        yield Item(item=item).of(wire)

    def end(self, response: dict[str, Any], wire: Wire) -> Iterator[ResponseEvent]:
        """The end, after what has not come before it."""
        for item in response.get("output") or ():
            if not self.has_items or item.get("call_id") in self.calls:
                yield from self.whole(item, {ANYWHERE}, wire)
        yield from self.calls.finish_all()  # those cut off
        if spent := response.get("usage"):
            prompt, answer = spent.get("input_tokens"), spent.get("output_tokens")
            yield Usage(input_tokens=prompt, output_tokens=answer).of(wire)
        yield Done(finish_reason=response.get("status")).of(wire)


class OpenAIResponses(AsyncSession[ResponseEvent]):
    """A session with a server that speaks the Responses API."""

    base_url = "https://api.openai.com/v1"
    final_events = (Done,)

    def stream(
        self, prompt: str | list[Any], *, model: str = "gpt-5-mini", **options: Any
    ) -> Stream[ResponseEvent]:
        """The answer to a prompt, or to `input`; `options` go into the request as they are.

        With `background=True` a stream that breaks goes on where it broke.
        """
        body = {"input": prompt, "model": model, "stream": True, **options}
        return self.open_stream("POST", "/responses", json=body)

    def follow(self, response_id: str) -> Stream[ResponseEvent]:
        """A background response from its beginning on, as far as it is and while it goes on."""
        return self.open_stream("GET", f"/responses/{response_id}", params={"stream": "true"})

    def resume_request(
        self, request: Request, reply: Reply[ResponseEvent], last_event_id: str
    ) -> Request | None:
        """The rest of a background response, after the last event in `reply`; None of others.

        https://platform.openai.com/docs/guides/background#streaming-a-background-response
        """
        events = reply.events
        after = events[-1].wire.sequence_number if events else None
        if after is None or not isinstance(events[0], Started):
            return None
        path = f"/responses/{events[0].id}"
        params = {"stream": "true", "starting_after": after}
        return replace(request, method="GET", path=path, params=params, content=None)

    def remote_error(self, frame: ServerSentEvent) -> RemoteError | None:
        """The failure that a frame reports; where the response has failed, it is in there."""
        if '"response.failed"' in frame.data:
            data = from_json(frame.data)
            data["error"] = data["response"].get("error")
            frame = frame._replace(event="error", data=to_json(data).decode())
        return super().remote_error(frame)

    async def decode(
        self, frames: AsyncIterator[Any]
    ) -> AsyncIterator[ResponseEvent | UnknownEvent]:
        """The items piece by piece, then each of them whole, `Done` at the end."""
        answer = Answer()
        async for wire in self.read(frames, WIRE):
            for event in answer.read(wire):
                yield event
                if isinstance(event, Done):
                    return


if __name__ == "__main__":
    from asking import ask
    from offline import OPENAI_RESPONSES

    ask(OpenAIResponses, OPENAI_RESPONSES, "OPENAI")
