"""What an agent tells while it runs: flat events, each tagged with its turn. No I/O.

What the model says keeps the fields and the `type` of the neutral vocabulary, of which it is:
`case TextDelta(text=text)` matches here as in a session's stream.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, JsonValue, TypeAdapter

from openai_chat import ChatEvent, Refusal
from streamsession import (
    Done,
    Event,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)


class InTurn(Event):
    """Base of all of them."""

    turn: int
    """The turn it belongs to, counted from 1."""


class TurnStarted(InTurn):
    """The model is about to be asked, for the first time or with the results of its tools."""

    type: Literal["turn_started"] = "turn_started"


class TurnText(InTurn, TextDelta):
    """A piece of the answer's text."""


class TurnReasoning(InTurn, ReasoningDelta):
    """A piece of the model's reasoning."""


class TurnRefusal(InTurn, Refusal):
    """A piece of the model's refusal to answer."""


class TurnToolCallStart(InTurn, ToolCallStart):
    """The model begins to call a tool."""


class TurnToolCallDelta(InTurn, ToolCallDelta):
    """A fragment of a tool call's arguments."""


class TurnToolCall(InTurn, ToolCall):
    """A tool call with all its arguments; it runs once the answer is complete."""


class TurnUsage(InTurn, Usage):
    """The tokens that the turn has spent so far."""


class TurnDone(InTurn, Done):
    """The answer of the turn is complete; its tools come next."""


class InToolCall(InTurn):
    """Base of what happens to a tool call; those of several calls are mixed, as they come."""

    id: str
    """The call's id, as the model gave it."""
    name: str


class ToolStarted(InToolCall):
    """A tool runs; not told of a call that is refused for its arguments."""

    type: Literal["tool_started"] = "tool_started"


class ToolProgress(InToolCall):
    """What a tool told while it runs."""

    type: Literal["tool_progress"] = "tool_progress"
    progress: JsonValue


class ToolResult(InToolCall):
    """What the model is told of a call."""

    type: Literal["tool_result"] = "tool_result"
    content: str
    """What the tool returned, as it is or as JSON; or why there is no such thing."""
    is_error: bool = False


class AgentDone(InTurn):
    """The run is over: the model has answered without calling a tool."""

    type: Literal["agent_done"] = "agent_done"
    text: str
    """The text of the last turn."""
    usage: Usage
    """The tokens spent in all turns; None where a turn's are not known."""
    finish_reason: str | None
    """Why the last turn ended, as the API names it: "length" if it was cut short."""


ModelEvent: TypeAlias = (
    TurnText
    | TurnReasoning
    | TurnRefusal
    | TurnToolCallStart
    | TurnToolCallDelta
    | TurnToolCall
    | TurnUsage
    | TurnDone
)
ToolEvent: TypeAlias = ToolStarted | ToolProgress | ToolResult
AgentEvent: TypeAlias = Annotated[
    TurnStarted | ModelEvent | ToolEvent | AgentDone, Field(discriminator="type")
]
"""Whatever a run yields; `TypeAdapter(AgentEvent)` reads it back from JSON."""

_MODEL_EVENT: Final[TypeAdapter[ModelEvent]] = TypeAdapter(
    Annotated[ModelEvent, Field(discriminator="type")]
)


def in_turn(event: ChatEvent, turn: int) -> ModelEvent:
    """What the session said, tagged with its turn."""
    return _MODEL_EVENT.validate_python({**event.model_dump(), "turn": turn}).of(event.wire)


def total(reports: Iterable[Usage | None]) -> Usage:
    """The tokens of several turns; None where one of them did not say."""
    known = [report or Usage() for report in reports]
    return Usage(
        input_tokens=_sum(report.input_tokens for report in known),
        output_tokens=_sum(report.output_tokens for report in known),
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(filter(None, known))
