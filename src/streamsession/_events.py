"""What the user gets: events, a neutral vocabulary for tokens, and the reply they add up to.

No I/O, no clock, no framing: an event does not know how it was sent.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from functools import partial
from typing import Any, Generic, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter
from pydantic_core import from_json
from typing_extensions import TypeVar

from ._errors import DecodeError, SessionStateError
from ._explain import explain
from ._json import as_adapter

__all__ = [
    "Done",
    "Event",
    "EventT",
    "NeutralEvent",
    "ReasoningDelta",
    "Reply",
    "TextDelta",
    "TokenEvent",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallStart",
    "UnknownEvent",
    "Usage",
]


class Event(BaseModel):
    """One typed piece of a stream; immutable, JSON-serialisable, and equal after a round trip.

    Give each member of a union its own `type: Literal["..."] = "..."`: the stream decides by it.
    Fields that the wire has and the class has not are ignored.
    """

    # Infinity and NaN are not JSON, bytes are not text: either would break the round trip.
    model_config = ConfigDict(
        frozen=True,
        allow_inf_nan=False,
        ser_json_bytes="base64",
        val_json_bytes="base64",
        defer_build=True,  # importing the package builds no validator that is not used
    )

    def as_token(self) -> str:
        """The text that this event adds to the reply: its field `text` if it has one, else ""."""
        text = getattr(self, "text", "")
        return text if isinstance(text, str) else ""


class UnknownEvent(Event):
    """An event of a type that the session's union does not know.

    Delivered if the union includes this class; otherwise skipped and counted in `Stream.stats`.
    """

    type: str
    """The type that the server named."""
    data: str
    """The event's payload as it came; not parsed."""


class NeutralEvent(Event):
    """Base of the vocabulary: what the APIs of language models have in common.

    Subclass it for what one of them has besides.
    """

    choice: int = 0
    """Which of several answers to the same prompt, counted from 0."""

    @property
    def wire(self) -> Any:
        """The object of the API that this event was made from; None if it was made without one.

        It is there to reach what the vocabulary leaves out: no field, not serialised, not compared.
        """
        return vars(self).get("_wire")

    def of(self, wire: object) -> Self:
        """This event, with the wire object it was made from."""
        vars(self)["_wire"] = wire  # beside the fields, where pydantic keeps cached properties
        return self


class TextDelta(NeutralEvent):
    """A piece of the answer's text."""

    type: Literal["text"] = "text"
    text: str

    def as_token(self) -> str:
        """The text, if it belongs to the first choice."""
        return "" if self.choice else self.text


class ReasoningDelta(NeutralEvent):
    """A piece of the model's reasoning; no part of the answer."""

    type: Literal["reasoning"] = "reasoning"
    text: str

    def as_token(self) -> str:
        """Nothing: reasoning is no part of the answer."""
        return ""


class ToolCallDelta(NeutralEvent):
    """A fragment of a tool call's arguments: JSON text that is not complete by itself."""

    type: Literal["tool_call_delta"] = "tool_call_delta"
    id: str
    arguments: str


class ToolCall(NeutralEvent):
    """A tool call with all its arguments."""

    type: Literal["tool_call"] = "tool_call"
    id: str
    name: str
    arguments: dict[str, JsonValue] | None
    """The arguments, strictly parsed; None if they are not a JSON object: never run it then."""
    raw_arguments: str
    """The arguments as the model wrote them; "" where it wrote none."""

    @classmethod
    def parse(cls, *, id: str, name: str, raw_arguments: str, choice: int = 0) -> Self:  # noqa: A002
        """A tool call from its assembled arguments; no arguments at all are an empty object."""
        call = partial(cls, id=id, name=name, raw_arguments=raw_arguments, choice=choice)
        try:
            return call(arguments=from_json(raw_arguments or "{}"))
        except ValueError:
            return call(arguments=None)


class ToolCallStart(NeutralEvent):
    """The model begins to call a tool; the arguments follow in pieces."""

    type: Literal["tool_call_start"] = "tool_call_start"
    id: str
    name: str

    def finish(self, raw_arguments: str) -> ToolCall:
        """The call with its assembled arguments; see `ToolCall.parse`."""
        call = ToolCall.parse(
            id=self.id, name=self.name, raw_arguments=raw_arguments, choice=self.choice
        )
        return call.of(self.wire)


class Usage(NeutralEvent):
    """The tokens spent so far; each report replaces the one before it."""

    type: Literal["usage"] = "usage"
    input_tokens: int | None = None
    """Tokens of the prompt; None if the API did not say."""
    output_tokens: int | None = None
    """Tokens of the answer; None if the API did not say."""


class Done(NeutralEvent):
    """The answer is complete."""

    type: Literal["done"] = "done"
    finish_reason: str | None = None
    """Why it ended, as the API names it: "stop", "length", "tool_calls"; None if it did not say."""


TokenEvent: TypeAlias = (
    TextDelta | ReasoningDelta | ToolCallStart | ToolCallDelta | ToolCall | Usage | Done
)
"""The neutral vocabulary, the event type of a session that declares none of its own."""

EventT = TypeVar("EventT", default=TokenEvent)
"""What a stream yields."""


class Reply(Generic[EventT]):
    """What has arrived of a stream: all of it, or what came before it ended early.

    Adding an event costs the same however many came before; `text` is joined when asked for. Where
    events say no more than the text they came in, that is kept, and `events` makes them again.

    Attributes:
        complete: True once the stream has proved itself complete.
    """

    __slots__ = (
        "_ahead",
        "_events",
        "_folded",
        "_ready",
        "_remake",
        "_texts",
        "_tokens",
        "complete",
    )

    def __init__(self, events: Iterable[EventT] = (), *, complete: bool = False) -> None:
        self.complete = complete
        self._events = [*events]
        self._texts: list[Any] = []  # of events that came after those
        self._ahead: list[EventT] = []  # made of them, or come after them
        self._ready: Sized = ()  # those of them that were not handed over yet
        self._remake: Callable[[Any], Any] | None = None
        self._tokens: list[str] = []
        self._folded = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """What a copy needs, or a pickle."""
        return partial(Reply, complete=self.complete), (self.events,)

    def begin(self, ready: Sized, remake: Callable[[Any], Any] | None) -> None:
        """Take what `ready` still holds for not handed over.

        Args:
            ready: Where events wait.
            remake: Makes the same event of its text once more; None keeps no texts.
        """
        self._ready, self._remake = ready, remake

    def keep(self, events: Iterable[EventT], texts: Sequence[Any] = ()) -> None:
        """Add events, or the texts that they are made of, if those are enough."""
        if texts and self._remake is not None:
            self._texts += texts
        else:
            self._make()
            self._ahead += events

    def _make(self) -> None:
        if self._texts and self._remake is not None:
            self._ahead += [*map(self._remake, self._texts)]  # all of them, or none
            self._texts.clear()

    @property
    def events(self) -> list[EventT]:
        """The events in order, equal to those handed over; none if `keep_reply` is False."""
        if self._texts or self._ahead:
            self._make()
            handed_over = len(self._ahead) - len(self._ready)
            self._events += self._ahead[:handed_over]
            del self._ahead[:handed_over]
        return self._events

    def __repr__(self) -> str:
        state = "complete" if self.complete else "partial"
        return f"<Reply {state}: {len(self.events)} events, text={self.text!r}>"

    @property
    def text(self) -> str:
        """The tokens of all events, joined: see `Event.as_token`."""
        new = self.events[self._folded :]
        self._folded += len(new)
        tokens = (event.as_token() for event in new if isinstance(event, Event))
        self._tokens.extend(token for token in tokens if token)
        if len(self._tokens) > 1:
            self._tokens = ["".join(self._tokens)]
        return self._tokens[0] if self._tokens else ""

    @property
    def reasoning(self) -> str:
        """The text of the first choice's reasoning, joined; "" if there was none."""
        return "".join(part.text for part in self._all(ReasoningDelta) if not part.choice)

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The finished tool calls, in order."""
        return list(self._all(ToolCall))

    @property
    def usage(self) -> Usage | None:
        """The last report of the tokens spent; None if none came."""
        return next(self._all(Usage, newest_first=True), None)

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended; None if it did not say."""
        ends = self._all(Done, newest_first=True)
        return next((end.finish_reason for end in ends if not end.choice), None)

    def parse(self, kind: TypeAdapter["_T"] | type["_T"]) -> "_T":
        """The answer as data: its text, which is JSON, validated as this type.

        Raises:
            DecodeError: The text is not JSON of this type; the message names the field.
            SessionStateError: The reply is not complete; see `preview`.
        """
        if not self.complete:
            raise SessionStateError("the reply is not complete: read to its end, or preview() it")
        try:
            return as_adapter(kind).validate_json(self.text)
        except ValueError as exc:
            ended = f" (finish_reason={self.finish_reason!r})" if self.finish_reason else ""
            reason = f"{explain(exc)}{ended}"
            error = DecodeError(f"the reply is not what was asked for: {reason}", reason=reason)
            error.frame, error.partial = self.text, self
            raise error from exc

    def preview(self, kind: TypeAdapter["_T"] | type["_T"]) -> "_T | None":
        """What the JSON of the text holds so far; None while that is nothing of this type.

        The last string or number may be cut short. What is still to come needs defaults in a
        model, or `total=False` in a `TypedDict`. All the text is parsed at each call: call it as
        often as somebody looks, not for every token.
        """
        try:
            return as_adapter(kind).validate_json(
                self.text, experimental_allow_partial="trailing-strings"
            )
        except ValueError:
            return None

    def _all(self, kind: type["_KindT"], *, newest_first: bool = False) -> Iterator["_KindT"]:
        events = reversed(self.events) if newest_first else self.events
        return (event for event in events if isinstance(event, kind))


_KindT = TypeVar("_KindT", bound=Event)
_T = TypeVar("_T")
