"""Events: what they promise of themselves, and the reply that they add up to."""

import copy
import json
import pickle
from typing import Any, Literal, assert_type

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from streamsession import (
    DecodeError,
    Done,
    Event,
    ReasoningDelta,
    Reply,
    SessionStateError,
    TextDelta,
    TokenEvent,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    UnknownEvent,
    Usage,
)

moderate = settings(deadline=None, max_examples=150)

VOCABULARY: TypeAdapter[TokenEvent] = TypeAdapter(TokenEvent)

texts = st.text(max_size=20)
choices = st.integers(0, 5)
numbers = st.none() | st.integers(0, 2**70)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(texts, json_values, max_size=4)

token_events: st.SearchStrategy[TokenEvent] = st.one_of(
    st.builds(TextDelta, text=texts, choice=choices),
    st.builds(ReasoningDelta, text=texts, choice=choices),
    st.builds(ToolCallStart, id=texts, name=texts, choice=choices),
    st.builds(ToolCallDelta, id=texts, arguments=texts, choice=choices),
    st.builds(
        ToolCall,
        id=texts,
        name=texts,
        arguments=st.none() | json_objects,
        raw_arguments=texts,
        choice=choices,
    ),
    st.builds(Usage, input_tokens=numbers, output_tokens=numbers, choice=choices),
    st.builds(Done, finish_reason=st.none() | texts, choice=choices),
)

ONE_OF_EACH: list[TokenEvent] = [
    TextDelta(text="x"),
    ReasoningDelta(text="x"),
    ToolCallStart(id="1", name="f"),
    ToolCallDelta(id="1", arguments="{"),
    ToolCall(id="1", name="f", arguments={}, raw_arguments="{}"),
    Usage(input_tokens=1),
    Done(),
]
of_each_kind = pytest.mark.parametrize(
    "event", ONE_OF_EACH, ids=[type(event).__name__ for event in ONE_OF_EACH]
)


class Spoken(Event):
    """An event of an SDK of one's own, with the field that counts as a token."""

    type: Literal["spoken"] = "spoken"
    text: Any = None


# Round trips


@moderate
@given(token_events)
def test_every_event_is_the_same_after_a_round_trip_over_json(event: TokenEvent) -> None:
    assert type(event).model_validate_json(event.model_dump_json()) == event


@moderate
@given(token_events)
def test_the_vocabulary_tells_its_events_apart(event: TokenEvent) -> None:
    again = VOCABULARY.validate_json(VOCABULARY.dump_json(event))
    assert type(again) is type(event)
    assert again == event


@moderate
@given(token_events)
def test_an_event_is_json_that_other_programs_read(event: TokenEvent) -> None:
    assert json.loads(event.model_dump_json()) == event.model_dump(mode="json")


@given(texts, texts)
def test_an_unknown_event_round_trips(type_: str, data: str) -> None:
    event = UnknownEvent(type=type_, data=data)
    assert UnknownEvent.model_validate_json(event.model_dump_json()) == event


def test_bytes_round_trip() -> None:
    class Audio(Event):
        samples: bytes

    event = Audio(samples=bytes(range(256)))
    assert Audio.model_validate_json(event.model_dump_json()) == event


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_without_json_form_is_refused(number: float) -> None:
    class Measured(Event):
        value: float

    with pytest.raises(ValidationError, match="finite"):
        Measured(value=number)
    with pytest.raises(ValidationError, match="finite"):
        ToolCall(id="1", name="f", arguments={"a": number}, raw_arguments="")


def test_fields_that_the_class_does_not_have_are_ignored() -> None:
    event = TextDelta.model_validate({"type": "text", "text": "x", "logprobs": [1]})
    assert event == TextDelta(text="x")


# Frozen


@of_each_kind
def test_an_event_cannot_be_changed(event: TokenEvent) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(event, "choice", 1)  # noqa: B010 - type checkers refuse it, too


def test_equal_events_have_the_same_hash() -> None:
    assert hash(TextDelta(text="x")) == hash(TextDelta(text="x"))


def test_events_of_two_types_are_never_equal() -> None:
    text: Event = TextDelta(text="x")
    assert text != ReasoningDelta(text="x")


# Tokens


@pytest.mark.parametrize(
    ("event", "token"),
    [
        (TextDelta(text="x"), "x"),
        (TextDelta(text=""), ""),
        (TextDelta(text="x", choice=1), ""),
        (ReasoningDelta(text="x"), ""),
        (ToolCallStart(id="1", name="f"), ""),
        (ToolCallDelta(id="1", arguments="{"), ""),
        (ToolCall(id="1", name="f", arguments={}, raw_arguments="{}"), ""),
        (Usage(input_tokens=1), ""),
        (Done(), ""),
        (UnknownEvent(type="text", data="x"), ""),
        (Spoken(text="x"), "x"),
        (Spoken(), ""),
        (Spoken(text=["x"]), ""),
        (Spoken(text=b"x"), ""),
        (Event(), ""),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_a_token_is_the_text_that_belongs_to_the_answer(event: Event, token: str) -> None:
    assert event.as_token() == token


def test_an_event_can_say_itself_what_its_token_is() -> None:
    class Chunk(Event):
        parts: list[str]

        def as_token(self) -> str:
            return "".join(self.parts)

    assert Chunk(parts=["a", "b"]).as_token() == "ab"


# The wire object


@of_each_kind
def test_the_wire_object_is_reachable(event: TokenEvent) -> None:
    wire = {"type": "chunk", "system_fingerprint": "fp"}
    assert event.model_copy().wire is None
    assert event.model_copy().of(wire).wire is wire


@of_each_kind
def test_the_wire_object_is_not_serialised(event: TokenEvent) -> None:
    made = event.model_copy().of({"secret": 1})
    assert made.model_dump() == event.model_dump()
    assert made.model_dump_json() == event.model_dump_json()
    assert VOCABULARY.dump_json(made) == VOCABULARY.dump_json(event)
    assert TypeAdapter(list[TokenEvent]).dump_python([made]) == [event.model_dump()]
    assert dict(made) == dict(event)
    assert "secret" not in repr(made)
    assert "secret" not in str(made)


@of_each_kind
def test_the_wire_object_is_not_compared(event: TokenEvent) -> None:
    made = event.model_copy().of({"id": 1})
    assert made == event
    assert made == event.model_copy().of({"id": 2})


def test_the_wire_object_does_not_change_the_hash() -> None:
    assert hash(TextDelta(text="x").of({"id": 1})) == hash(TextDelta(text="x"))


@of_each_kind
def test_a_copy_keeps_the_wire_object(event: TokenEvent) -> None:
    made = event.model_copy().of({"id": 1})
    assert made.model_copy().wire is made.wire
    assert made.model_copy(update={"choice": 1}).wire is made.wire
    assert copy.copy(made).wire is made.wire
    assert made.model_copy(deep=True).wire == {"id": 1}


@of_each_kind
def test_pickling_keeps_the_wire_object(event: TokenEvent) -> None:
    made = event.model_copy().of({"id": 1})
    again = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own
    assert again == made
    assert again.wire == {"id": 1}


def test_two_events_can_come_from_the_same_wire_object() -> None:
    wire = {"id": 1}
    assert TextDelta(text="a").of(wire).wire is Usage().of(wire).wire


# Tool calls


def parsed(raw_arguments: str) -> dict[str, JsonValue] | None:
    call = ToolCall.parse(id="1", name="f", raw_arguments=raw_arguments, choice=2)
    assert (call.id, call.name, call.choice) == ("1", "f", 2)
    assert call.raw_arguments == raw_arguments
    return call.arguments


ARGUMENTS: list[tuple[str, dict[str, JsonValue]]] = [
    ("", {}),
    ("{}", {}),
    (' {"a" : 1}\n', {"a": 1}),
    ('{"a": [1, 2.5, true, null, "x", {}]}', {"a": [1, 2.5, True, None, "x", {}]}),
    ('{"a": "1"}', {"a": "1"}),
    ('{"a": 12345678901234567890123}', {"a": 12345678901234567890123}),
    ('{"a": "\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}),
    ('{"a": 1, "a": 2}', {"a": 2}),  # as json.loads reads it
]


@pytest.mark.parametrize(("raw_arguments", "arguments"), ARGUMENTS)
def test_arguments_are_parsed(raw_arguments: str, arguments: dict[str, JsonValue]) -> None:
    assert parsed(raw_arguments) == arguments


@pytest.mark.parametrize(
    "raw_arguments",
    [
        " ",
        "null",
        "[]",
        '["a"]',
        '"{}"',
        "1",
        "true",
        "{",
        '{"a"',
        '{"a": 1',
        '{"a": "x',
        '{"a": 1,}',
        '{"a": 01}',
        '{"a": +1}',
        '{"a": .5}',
        '{"a": 1} {}',
        '{"a": 1}x',
        "{'a': 1}",
        "{a: 1}",
        '{"a": undefined}',
        '{"a": 1} // why not',
        '{"a": "\n"}',
        '{"a": "\\ud800"}',
        '{"a": "\\x"}',
        "\ufeff{}",
        '{"a": ' + "[" * 10_000,
        '{"a": ' + "[" * 10_000 + "]" * 10_000 + "}",
        '{"a": NaN}',
        '{"a": [Infinity]}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
    ],
    ids=lambda raw: raw[:20],
)
def test_what_is_no_json_object_gives_no_arguments(raw_arguments: str) -> None:
    assert parsed(raw_arguments) is None


@moderate
@given(json_objects)
def test_arguments_are_what_the_model_wrote(arguments: dict[str, JsonValue]) -> None:
    assert parsed(json.dumps(arguments)) == arguments


@moderate
@given(json_objects, st.data())
def test_arguments_that_were_cut_short_are_none(
    arguments: dict[str, JsonValue], data: st.DataObject
) -> None:
    whole = json.dumps(arguments)
    assert parsed(whole[: data.draw(st.integers(1, len(whole) - 1))]) is None


def test_a_call_that_began_finishes_with_its_arguments() -> None:
    start = ToolCallStart(id="1", name="f", choice=2).of({"index": 0})
    call = start.finish('{"a": 1}')
    assert call == ToolCall(
        id="1", name="f", arguments={"a": 1}, raw_arguments='{"a": 1}', choice=2
    )
    assert call.wire is start.wire
    assert start.finish('{"a": ').arguments is None


# The reply


def reply_of(*events: Any) -> Reply[Any]:
    reply = Reply[Any]()
    reply.events.extend(events)
    return reply


def test_an_empty_reply_holds_nothing() -> None:
    reply = Reply[TokenEvent]()
    assert reply.text == ""
    assert reply.reasoning == ""
    assert reply.tool_calls == []
    assert reply.usage is None
    assert reply.finish_reason is None
    assert reply.events == []
    assert not reply.complete


def test_the_text_is_that_of_the_first_choice() -> None:
    reply = reply_of(
        TextDelta(text="Hel"),
        TextDelta(text="Good", choice=1),
        ReasoningDelta(text="hm"),
        TextDelta(text="lo"),
    )
    assert reply.text == "Hello"


def test_the_reasoning_is_that_of_the_first_choice() -> None:
    reply = reply_of(
        ReasoningDelta(text="so "),
        TextDelta(text="x"),
        ReasoningDelta(text="no", choice=1),
        ReasoningDelta(text="what"),
    )
    assert reply.reasoning == "so what"


def test_tool_calls_come_in_order_and_of_every_choice() -> None:
    calls = [
        ToolCall.parse(id=str(number), name="f", raw_arguments="", choice=number)
        for number in range(3)
    ]
    fragments = [ToolCallStart(id="0", name="f"), ToolCallDelta(id="0", arguments="{}")]
    assert reply_of(*fragments, *calls).tool_calls == calls


def test_each_usage_replaces_the_one_before() -> None:
    reply = reply_of(Usage(input_tokens=3, output_tokens=1), TextDelta(text="x"))
    assert reply.usage == Usage(input_tokens=3, output_tokens=1)
    reply.events.append(Usage(output_tokens=9))
    assert reply.usage == Usage(output_tokens=9)


def test_the_finish_reason_is_that_of_the_first_choice() -> None:
    reply = reply_of(Done(finish_reason="length", choice=1))
    assert reply.finish_reason is None
    reply.events.extend([Done(finish_reason="stop"), Done(finish_reason="length", choice=2)])
    assert reply.finish_reason == "stop"


def test_an_api_may_not_say_why_it_finished() -> None:
    assert reply_of(Done()).finish_reason is None


@given(st.lists(token_events | texts.map(lambda text: Spoken(text=text)), max_size=20))
def test_the_text_is_all_tokens_joined_however_often_it_is_asked_for(events: list[Event]) -> None:
    asked_often, asked_once = Reply[Event](), reply_of(*events)
    for event in events:
        asked_often.events.append(event)
        assert asked_often.text.endswith(event.as_token())
    assert asked_often.text == asked_once.text == "".join(event.as_token() for event in events)


def test_each_event_is_folded_into_the_text_only_once() -> None:
    folded: list[int] = []

    class Counted(Event):
        number: int

        def as_token(self) -> str:
            folded.append(self.number)
            return str(self.number)

    reply = Reply[Counted]()
    for number in range(5):
        reply.events.append(Counted(number=number))
        assert reply.text == reply.text == "01234"[: number + 1]
        assert repr(reply)
    assert folded == [0, 1, 2, 3, 4]


def test_what_is_no_event_adds_no_text() -> None:
    assert reply_of({"text": "x"}, "y", 3, None, TextDelta(text="z")).text == "z"


def test_the_repr_says_how_far_it_came() -> None:
    reply = reply_of(TextDelta(text="Hel"), TextDelta(text="lo"))
    assert repr(reply) == "<Reply partial: 2 events, text='Hello'>"
    reply.complete = True
    assert repr(reply) == "<Reply complete: 2 events, text='Hello'>"


# The reply as data


class Step(BaseModel):
    what: str


class Recipe(BaseModel):
    title: str
    steps: list[Step] = []


class Draft(TypedDict, total=False):
    title: str
    steps: list[str]


TOAST = '{"title": "Toast", "steps": [{"what": "cut"}, {"what": "toast"}]}'


def complete(text: str, *events: Event) -> Reply[Any]:
    reply = reply_of(TextDelta(text=text), *events)
    reply.complete = True
    return reply


def test_a_reply_is_parsed_into_a_model() -> None:
    recipe = complete(TOAST).parse(Recipe)
    assert_type(recipe, Recipe)
    assert recipe == Recipe(title="Toast", steps=[Step(what="cut"), Step(what="toast")])


def test_a_reply_is_parsed_into_any_type() -> None:
    numbers = complete("[1, 2]").parse(TypeAdapter(list[int]))
    assert_type(numbers, list[int])
    assert numbers == [1, 2]


def test_what_does_not_fit_is_named_with_what_there_is() -> None:
    reply = complete('{"steps": []}')
    with pytest.raises(DecodeError, match=r"field 'title': Field required") as caught:
        reply.parse(Recipe)
    assert caught.value.frame == '{"steps": []}'
    assert caught.value.partial is reply
    assert isinstance(caught.value.__cause__, ValidationError)


def test_what_was_cut_by_a_limit_says_so() -> None:
    with pytest.raises(DecodeError, match=r"EOF while parsing .* \(finish_reason='length'\)"):
        complete(TOAST[:30], Done(finish_reason="length")).parse(Recipe)


def test_a_reply_that_is_not_complete_is_not_parsed() -> None:
    with pytest.raises(SessionStateError, match=r"preview\(\)"):
        reply_of(TextDelta(text=TOAST)).parse(Recipe)


@pytest.mark.parametrize(
    ("text", "draft"),
    [
        ("", None),
        ("  ", None),
        ("Sure! Here", None),
        ('{"ti', {}),
        ('{"title": "To', {"title": "To"}),
        ('{"title": "Toast", "steps": ["cu', {"title": "Toast", "steps": ["cu"]}),
        ('{"title": "Toast", "steps": ["cut"]}', {"title": "Toast", "steps": ["cut"]}),
        ('{"title": 1', {}),
        ('{"title": 1, "steps": []}', None),
    ],
)
def test_a_preview_holds_what_has_come(text: str, draft: Draft | None) -> None:
    preview = reply_of(TextDelta(text=text)).preview(TypeAdapter(Draft))
    assert_type(preview, Draft | None)
    assert preview == draft


def test_a_preview_of_a_model_waits_for_the_fields_it_needs() -> None:
    reply = reply_of()
    seen: list[Recipe | None] = []
    for token in ("{", '"title": "To', 'ast", "steps": [{', '"what": "cut"}', "]}"):
        reply.events.append(TextDelta(text=token))
        seen.append(reply.preview(Recipe))
    toast = Recipe(title="Toast", steps=[Step(what="cut")])
    assert seen == [None, Recipe(title="To"), None, toast, toast]


@moderate
@given(json_objects)
def test_the_last_preview_is_the_whole(sent: dict[str, JsonValue]) -> None:
    reply = complete(json.dumps(sent))
    kind = TypeAdapter(dict[str, JsonValue])
    assert reply.preview(kind) == reply.parse(kind) == sent
