"""From frame to event: the discriminator decides, and nothing passes for what it is not."""

import json
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    JsonValue,
    TypeAdapter,
    model_validator,
)
from typing_extensions import TypedDict, TypeVar

from streamsession import (
    DecodeError,
    Done,
    Event,
    RemoteError,
    ServerSentEvent,
    TextDelta,
    TokenEvent,
    UnknownEvent,
    Usage,
)
from streamsession._explain import explain
from streamsession._framing import payload_of
from streamsession._framing._message import EventStreamMessage, HeaderValue
from streamsession._reports import reported_error
from streamsession._validate import EventIterator, EventReader

T = TypeVar("T")

moderate = settings(deadline=None, max_examples=150)


class Totals(BaseModel):
    """What a field of an event holds."""

    tokens: int


class Token(Event):
    """A member that could be taken for any other: all of its fields have defaults."""

    type: Literal["token"] = "token"
    text: str = ""


class Finish(Event):
    """A member with a field that must be there, and one with fields of its own."""

    type: Literal["finish"] = "finish"
    reason: str
    usage: Totals | None = None


class Beat(Event):
    """A member that goes by two types."""

    type: Literal["beat", "heartbeat"] = "beat"
    at: float = 0


def reader_of(declared: Any) -> EventReader[Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(declared)
    return EventReader(adapter)


READER = reader_of(Token | Finish | Beat)
KEEPING_UNKNOWN = reader_of(Token | Finish | Beat | UnknownEvent)
ALONE: dict[type[Event], EventReader[Any]] = {
    each: reader_of(each) for each in (Token, Finish, Beat)
}


def read(declared: Any, payload: str | bytes, name: str = "") -> Any:
    """The event that a fresh reader makes of a payload; the same from text and from bytes."""
    event = reader_of(declared).read(payload, name)
    other = payload.encode() if isinstance(payload, str) else payload.decode()
    assert reader_of(declared).read(other, name) == event
    return event


def reason_of(declared: Any, payload: str | bytes, name: str = "") -> str:
    """Why a payload is no event."""
    with pytest.raises(DecodeError) as caught:
        reader_of(declared).read(payload, name)
    assert str(caught.value) == f"not an event of the stream: {caught.value.reason}"
    assert "\n" not in caught.value.reason
    return caught.value.reason


# Unions


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        ('{"type":"token","text":"x"}', Token(text="x")),
        ('{"text":"x","type":"token"}', Token(text="x")),
        ('{"type":"token"}', Token()),
        (' \n{"type" : "token"}\n', Token()),
        ('{"type":"finish","reason":"stop"}', Finish(reason="stop")),
        (
            '{"type":"finish","reason":"stop","usage":{"tokens":3}}',
            Finish(reason="stop", usage=Totals(tokens=3)),
        ),
        ('{"type":"beat","at":1.5}', Beat(at=1.5)),
        ('{"type":"heartbeat"}', Beat(type="heartbeat")),
        ('{"type":"token","text":"x","more":[1]}', Token(text="x")),
    ],
)
def test_the_type_decides_which_event_it_is(payload: str, event: Event) -> None:
    assert read(Token | Finish | Beat, payload) == event


def test_the_order_of_the_union_does_not_matter() -> None:
    for declared in (Token | Finish, Finish | Token):
        assert read(declared, '{"type":"finish","reason":"stop"}') == Finish(reason="stop")
        assert read(declared, '{"type":"token"}') == Token()


Nested = Annotated[Token | Finish, Field(discriminator="type")]


@pytest.mark.parametrize(
    "declared",
    [
        Nested,
        Annotated[Token | Finish, Discriminator("type")],
        Annotated[Token | Finish, "a remark"],
        Nested | Beat,
        Annotated[Nested | Beat, Field(discriminator="type")],
        Nested | UnknownEvent,
        Annotated[Token, "a remark"] | Finish,
        (Token | Beat) | (Finish | Token),
    ],
    ids=range(8),
)
def test_unions_may_be_annotated_and_nested(declared: Any) -> None:
    reader = reader_of(declared)
    assert reader.read('{"type":"finish","reason":"stop"}') == Finish(reason="stop")
    assert reader.read('{"type":"token","text":"x"}') == Token(text="x")
    assert reader.read('{"type":"ping"}') == UnknownEvent(type="ping", data='{"type":"ping"}')


def test_the_neutral_vocabulary_is_such_a_union() -> None:
    assert read(TokenEvent, '{"type":"text","text":"x"}') == TextDelta(text="x")
    assert read(TokenEvent, '{"type":"usage","input_tokens":1}') == Usage(input_tokens=1)
    assert read(TokenEvent, '{"type":"done"}') == Done()


class ByKind(Event):
    kind: Literal["a"]
    value: int = 0


class ByOtherKind(Event):
    kind: Literal["b"]
    value: int = 0


def test_the_field_that_decides_need_not_be_called_type() -> None:
    declared = ByKind | ByOtherKind
    assert read(declared, '{"kind":"b","value":1}') == ByOtherKind(kind="b", value=1)
    assert read(declared, '{"value":1}', "a") == ByKind(kind="a", value=1)
    assert read(declared, '{"kind":"c"}') == UnknownEvent(type="c", data='{"kind":"c"}')
    assert "kind" in reason_of(declared, '{"type":"a"}')


class Aliased(Event):
    type: Literal["a"] = Field("a", alias="event_type")
    text: str = Field("", alias="outputText")


class OtherAliased(Event):
    type: Literal["b"] = Field("b", alias="event_type")


def test_fields_go_by_their_aliases() -> None:
    for declared in (Aliased | OtherAliased, Aliased | OtherAliased | UnknownEvent):
        first = read(declared, '{"event_type":"a","outputText":"x"}')
        assert isinstance(first, Aliased)
        assert first.text == "x"
        assert isinstance(read(declared, '{"event_type":"b"}'), OtherAliased)
        assert isinstance(read(declared, "{}", "b"), OtherAliased)
        assert read(declared, '{"event_type":"c"}').type == "c"
        assert read(declared, "{}", "c").type == "c"


class Kind(StrEnum):
    ONE = "one"
    TWO = "two"


class One(Event):
    type: Literal[Kind.ONE] = Kind.ONE


class Two(Event):
    type: Literal[Kind.TWO] = Kind.TWO


def test_types_may_be_members_of_an_enum() -> None:
    assert read(One | Two, '{"type":"two"}') == Two()
    assert read(One | Two, "{}", "two") == Two()
    assert read(One | Two, '{"type":"three"}').type == "three"


class Node(Event):
    type: Literal["node"] = "node"
    children: list["Node | Token"] = Field(default_factory=list["Node | Token"])


def test_events_may_hold_others_of_their_kind() -> None:
    payload = '{"type":"node","children":[{"type":"node"},{"type":"token","text":"x"}]}'
    whole = Node(children=[Node(), Token(text="x")])
    assert read(Node | Token, payload) == whole
    assert read(Node, payload) == whole


ValueT = TypeVar("ValueT")


class Holding(Event, Generic[ValueT]):
    type: Literal["holding"] = "holding"
    value: ValueT


def test_events_may_be_generic() -> None:
    assert read(Holding[int] | Token, '{"type":"holding","value":3}') == Holding[int](value=3)
    assert "value" in reason_of(Holding[int] | Token, '{"type":"holding","value":"x"}')


class Checked(Event):
    """A member that is validated as a whole."""

    type: Literal["checked"] = "checked"
    low: int = 0
    high: int = 0


class CheckedBefore(Checked):
    @model_validator(mode="before")
    @classmethod
    def _as_it_is(cls, data: Any) -> Any:
        return data


class CheckedAfter(Checked):
    @model_validator(mode="after")
    def _ordered(self) -> "CheckedAfter":
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


@pytest.mark.parametrize("checked", [CheckedBefore, CheckedAfter])
def test_an_event_that_is_validated_as_a_whole_is_a_member_like_any_other(
    checked: type[Checked],
) -> None:
    reader = reader_of(checked | Token)
    assert reader.read('{"type":"checked","high":1}') == checked(high=1)
    assert reader.read('{"type":"ping"}') == UnknownEvent(type="ping", data='{"type":"ping"}')
    assert reader.read('{"type":"ping"}', "checked").type == "ping"


def test_what_a_validation_as_a_whole_refuses_is_no_event() -> None:
    assert "low must not be above high" in reason_of(
        CheckedAfter | Token, '{"type":"checked","low":1}'
    )


def test_a_member_that_the_union_validates_besides_is_refused_rather_than_not_validated() -> None:
    def refuse(event: CheckedAfter) -> CheckedAfter:
        raise ValueError("refused by the union")

    with pytest.raises(TypeError, match="models told apart by a field"):
        reader_of(Annotated[CheckedAfter, AfterValidator(refuse)] | Token)


class SameObject(Event):
    object: Literal["chunk"] = "chunk"
    kind: Literal["a"] = "a"


class SameObjectToo(Event):
    object: Literal["chunk"] = "chunk"
    kind: Literal["b"] = "b"


class SameType(Event):
    type: Literal["chunk"] = "chunk"
    kind: Literal["a"] = "a"


class SameTypeToo(Event):
    type: Literal["chunk"] = "chunk"
    kind: Literal["b"] = "b"


@pytest.mark.parametrize(
    "declared",
    [
        SameObject | SameObjectToo,
        SameType | SameTypeToo,
        Annotated[SameType | SameTypeToo, Field(discriminator="kind")],
    ],
    ids=["no type", "same type", "said by the user"],
)
def test_the_field_that_decides_is_the_one_in_which_they_differ(declared: Any) -> None:
    assert read(declared, '{"type":"chunk","object":"chunk","kind":"b"}').kind == "b"


class Spoken(Event):
    role: Literal["model"] = "model"
    type: Literal["spoken"] = "spoken"


class Heard(Event):
    role: Literal["user"] = "user"
    type: Literal["heard"] = "heard"


def test_of_several_fields_in_which_they_differ_the_type_decides() -> None:
    assert read(Spoken | Heard, '{"type":"heard"}') == Heard()
    assert read(Spoken | Heard, '{"type":"seen","role":"user"}').type == "seen"
    assert "'type'" in reason_of(Spoken | Heard, '{"role":"user"}')


# What cannot be told apart


class Plain(Event):
    text: str


class PlainToo(Event):
    text: str
    number: int = 0


@pytest.mark.parametrize(
    ("declared", "named"),
    [
        (Plain | PlainToo, "Plain, PlainToo"),
        (Token | Plain, "Token, Plain"),
        (Plain | UnknownEvent, "Plain"),
        (Token | ByKind, "Token, ByKind"),
    ],
)
def test_members_that_cannot_be_told_apart_are_refused_by_name(declared: Any, named: str) -> None:
    with pytest.raises(TypeError, match=rf"give {named} each a `type: Literal"):
        reader_of(declared)


def test_two_members_of_the_same_type_are_refused() -> None:
    class Imposter(Event):
        type: Literal["token"] = "token"

    with pytest.raises(TypeError, match="give Token, Imposter each"):
        reader_of(Token | Imposter)


@pytest.mark.parametrize(("other", "payload"), [(dict[str, int], '{"a":1}'), (str, '"x"')])
def test_a_member_that_is_no_model_is_kept_or_refused(other: Any, payload: str) -> None:
    try:
        reader = reader_of(Token | Finish | other)
    except TypeError:
        return
    assert reader.read(payload) == json.loads(payload)


# One type alone


@pytest.mark.parametrize("declared", [Token, Token | UnknownEvent])
def test_a_single_event_with_a_type_is_told_from_others(declared: Any) -> None:
    assert read(declared, '{"type":"token","text":"x"}') == Token(text="x")
    assert read(declared, '{"text":"x"}') == Token(text="x")
    assert read(declared, '{"text":"x"}', "token") == Token(text="x")
    for payload, name in (('{"type":"ping"}', ""), ('{"type":"ping"}', "token")):
        assert read(declared, payload, name) == UnknownEvent(type="ping", data=payload)
    assert read(declared, "{}", "ping") == UnknownEvent(type="ping", data="{}")


def test_a_single_event_without_a_type_is_every_frame() -> None:
    assert read(Plain, '{"text":"x"}') == Plain(text="x")
    assert read(Plain, '{"type":"ping","text":"x"}') == Plain(text="x")
    assert read(Plain, '{"text":"x"}', "ping") == Plain(text="x")
    assert "'text'" in reason_of(Plain, '{"type":"ping"}')


def test_the_unknown_event_alone_is_a_model_like_any_other() -> None:
    reader = reader_of(UnknownEvent)
    assert reader.read('{"type":"x","data":"y"}') == UnknownEvent(type="x", data="y")
    assert reader.keeps_unknown


def test_models_need_not_be_events() -> None:
    assert read(Totals, '{"tokens":3}') == Totals(tokens=3)


class Account(TypedDict):
    name: str
    age: int


@pytest.mark.parametrize(
    ("declared", "payload", "value"),
    [
        (dict[str, int], '{"a":1}', {"a": 1}),
        (list[int], "[1,2]", [1, 2]),
        (list[Totals], '[{"tokens":1}]', [Totals(tokens=1)]),
        (Account, '{"name":"x","age":3}', {"name": "x", "age": 3}),
        (JsonValue, '{"a":[1,null]}', {"a": [1, None]}),
        (JsonValue, "null", None),
        (int, "3", 3),
        (str | int, '"x"', "x"),
        (Totals | None, "null", None),
        (Any, '{"type":"x"}', {"type": "x"}),
    ],
    ids=repr,
)
def test_any_type_can_be_read(declared: Any, payload: str, value: Any) -> None:
    assert read(declared, payload) == value
    assert read(declared, payload, "a name") == value
    assert not reader_of(declared).keeps_unknown


@pytest.mark.parametrize(
    ("declared", "payload", "reason"),
    [
        (dict[str, int], '{"a":"x"}', "field 'a': Input should be a valid integer"),
        (list[int], '[1,"x"]', "field '1': Input should be a valid integer"),
        (Account, '{"name":"x"}', "field 'age': Field required"),
        (int, '"x"', "Input should be a valid integer"),
        (JsonValue, "{", "Invalid JSON: EOF while parsing"),
    ],
)
def test_any_type_names_what_is_wrong(declared: Any, payload: str, reason: str) -> None:
    assert reason_of(declared, payload).startswith(reason)


# Types that the union does not know


@pytest.mark.parametrize(
    ("declared", "keeps"),
    [
        (Token | Finish, False),
        (Token | Finish | UnknownEvent, True),
        (UnknownEvent | Token | Finish, True),
        (Token, False),
        (Token | UnknownEvent, True),
    ],
)
def test_a_reader_tells_whether_unknown_events_are_wanted(declared: Any, *, keeps: bool) -> None:
    reader = reader_of(declared)
    assert reader.keeps_unknown is keeps
    payload = '{"type":"ping","at":[1]}'
    assert reader.read(payload) == UnknownEvent(type="ping", data=payload)


def test_the_payload_of_an_unknown_event_stays_as_it_came() -> None:
    payload = '{ "type":"ping",\t"n": 1.0, "n": 2 }'
    for form in (payload, payload.encode()):
        assert READER.read(form) == UnknownEvent(type="ping", data=payload)


@pytest.mark.parametrize("name", ["", "token"])
def test_an_empty_type_is_an_unknown_one(name: str) -> None:
    payload = '{"type":"","text":"x"}'
    assert read(Token | Finish, payload, name) == UnknownEvent(type="", data=payload)


KNOWN = ("token", "finish", "beat", "heartbeat")
members = st.one_of(
    st.builds(Token, text=st.text()),
    st.builds(Finish, reason=st.text(), usage=st.none() | st.builds(Totals)),
    st.builds(Beat, at=st.floats(allow_nan=False, allow_infinity=False)),
)
unknown_types = st.text(min_size=1).filter(lambda name: name not in KNOWN) | st.sampled_from(
    ["Token", "TOKEN", " token", "token ", "tokens", "null", "UnknownEvent", "unknown", "\0"]
)


@moderate
@given(members, unknown_types, st.sampled_from([*KNOWN, "", "ping"]))
def test_an_unknown_type_is_never_taken_for_another(member: Event, type_: str, name: str) -> None:
    payload = json.dumps({**member.model_dump(), "type": type_})
    for reader in (READER, KEEPING_UNKNOWN, ALONE[type(member)]):
        assert reader.read(payload, name) == UnknownEvent(type=type_, data=payload)


@moderate
@given(members, st.none() | st.booleans() | st.integers() | st.lists(st.sampled_from(KNOWN)))
def test_a_type_that_is_no_name_is_never_taken_for_another(member: Event, type_: Any) -> None:
    payload = json.dumps({**member.model_dump(), "type": type_})
    for reader in (READER, KEEPING_UNKNOWN, ALONE[type(member)]):
        with pytest.raises(DecodeError, match="type"):
            reader.read(payload)


@moderate
@given(members)
def test_a_known_event_comes_back_as_it_was_sent(member: Event) -> None:
    for reader in (READER, KEEPING_UNKNOWN, ALONE[type(member)]):
        assert reader.read(member.model_dump_json()) == member


@pytest.mark.parametrize("payload", ['{"type":"finish"}', '{"type":"finish","reason":3}'])
def test_a_known_event_of_the_wrong_shape_is_no_unknown_one(payload: str) -> None:
    for declared in (Token | Finish, Token | Finish | UnknownEvent, Finish):
        for name in ("", "finish", "token", "ping"):
            assert reason_of(declared, payload, name).startswith("field 'reason'")


class Block(Event):
    type: Literal["block"] = "block"
    content: Nested


def test_a_known_event_may_hold_a_union_of_its_own() -> None:
    payload = '{"type":"block","content":{"type":"finish","reason":"x"}}'
    assert read(Block | Beat, payload) == Block(content=Finish(reason="x"))


@pytest.mark.parametrize("declared", [Block | Beat, Block])
def test_an_unknown_type_inside_a_known_event_does_not_make_it_unknown(declared: Any) -> None:
    reason = reason_of(declared, '{"type":"block","content":{"type":"image"}}')
    assert reason.startswith("field 'content'")


# The name of the server-sent event


def test_the_name_stands_in_for_a_missing_type() -> None:
    declared = Token | Finish
    assert read(declared, '{"text":"x"}', "token") == Token(text="x")
    assert read(declared, '{"reason":"x"}', "finish") == Finish(reason="x")
    assert read(declared, '{"text":"x"}', "ping") == UnknownEvent(type="ping", data='{"text":"x"}')


def test_without_type_and_name_it_is_no_event() -> None:
    assert "'type'" in reason_of(Token | Finish, '{"text":"x"}')
    assert "'type'" in reason_of(Token | Finish, "{}")


@pytest.mark.parametrize("extra", [0, 5, 15, 16, 40, 500])
def test_the_type_in_the_json_wins_over_the_name(extra: int) -> None:
    padding: dict[str, Any] = {f"field-{number}": number for number in range(extra)}
    for fields in ({**padding, "type": "token"}, {"type": "token", **padding}):
        payload = json.dumps(fields)
        assert read(Token | Finish, payload, "finish") == Token()
        assert read(Token | Finish, payload, "ping") == Token()
        assert read(Token, payload, "ping") == Token()
    payload = json.dumps({**padding, "type": "ping"})
    assert read(Token | Finish, payload, "token") == UnknownEvent(type="ping", data=payload)


@pytest.mark.parametrize("payload", ["{}", " {}", "\n\t{}", "{ }", "{\n}", "{}\n"])
def test_an_empty_object_needs_only_its_name(payload: str) -> None:
    assert read(Token | Finish, payload, "token") == Token()
    assert read(Token | Finish, payload, "ping") == UnknownEvent(type="ping", data=payload)
    assert reason_of(Token | Finish, payload, "finish") == "field 'reason': Field required"


@pytest.mark.parametrize("space", [" ", "\n", "\r\n\t "])
def test_white_space_before_the_object_changes_nothing(space: str) -> None:
    assert read(Token | Finish, f'{space}{{"text":"x"}}', "token") == Token(text="x")
    assert read(Token | Finish, f'{space}{{"type":"token"}}') == Token()


@pytest.mark.parametrize("space", ["\x0b", "\x1c", "\x85", "\xa0", "\u2028"])
def test_what_json_does_not_take_for_white_space_is_refused_with_a_name_too(space: str) -> None:
    assert reason_of(Token | Finish, f'{space}{{"text":"x"}}').startswith("Invalid JSON")
    assert reason_of(Token | Finish, f'{space}{{"text":"x"}}', "token").startswith("Invalid JSON")


@pytest.mark.parametrize("name", ['a"b', "a\\b", 'x","type":"token', "\u2028", "caf\u00e9", "\0"])
def test_a_name_can_be_any_text(name: str) -> None:
    assert read(Token | Finish, '{"text":"x"}', name) == UnknownEvent(
        type=name, data='{"text":"x"}'
    )


@pytest.mark.parametrize("payload", ["", "hello", "{", '{"a":', "{'a': 1}", "2026-11-23", "{}x"])
def test_what_an_event_of_an_unknown_name_carries_need_not_be_json(payload: str) -> None:
    for declared in (Token | Finish, Token | Finish | UnknownEvent, Token):
        assert read(declared, payload, "ping") == UnknownEvent(type="ping", data=payload)
        assert reason_of(declared, payload, "token").startswith("Invalid JSON")
        assert reason_of(declared, payload).startswith("Invalid JSON")


@pytest.mark.parametrize("payload", ["null", "1764000000", '"x"', "true", '[{"a":1}]'])
def test_what_an_event_of_an_unknown_name_carries_need_not_be_an_object(payload: str) -> None:
    assert read(Token | Finish, payload, "ping") == UnknownEvent(type="ping", data=payload)


@pytest.mark.parametrize("payload", ["null", "3", '"x"', "true", '[{"type":"token"}]'])
def test_what_is_no_object_is_no_event(payload: str) -> None:
    for name in ("", "token"):
        assert reason_of(Token | Finish, payload, name).startswith("Input should be an object")


def test_where_no_types_are_declared_a_name_excuses_nothing() -> None:
    assert reason_of(Plain, '{"text":"x', "delta").startswith("Invalid JSON")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "token",
    ],
)
def test_bytes_that_are_no_text_are_no_event(name: str) -> None:
    reason = reason_of(Token | Finish, b'{"type":"token","text":"\xff"}', name)
    assert reason.startswith("Invalid JSON")


# What the error says


class Item(BaseModel):
    label: str


class Order(Event):
    type: Literal["order"] = "order"
    items: list[Item]
    by_name: dict[str, Item] = Field(default_factory=dict[str, Item])
    count: int = 0


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ('{"type":"finish"}', "field 'reason': Field required"),
        (
            '{"type":"finish","reason":3}',
            "field 'reason': Input should be a valid string, got 3",
        ),
        (
            '{"type":"finish","reason":"x","usage":{"tokens":[]}}',
            "field 'usage.tokens': Input should be a valid integer, got []",
        ),
        (
            '{"type":"order","items":[{"label":"x"},{"label":null}]}',
            "field 'items.1.label': Input should be a valid string, got None",
        ),
        (
            '{"type":"order","items":[],"by_name":{"a b":{}}}',
            "field 'by_name.a b.label': Field required",
        ),
        (
            '{"type":"order","items":[{}],"count":[]}',
            "field 'items.0.label': Field required (and 1 more)",
        ),
        (
            '{"type":"order","items":[{},{},{"label":"x"}],"count":[]}',
            "field 'items.0.label': Field required (and 2 more)",
        ),
        ("[1]", "Input should be an object, got [1]"),
    ],
)
def test_the_error_names_the_field_and_what_came(payload: str, reason: str) -> None:
    assert reason_of(Finish | Order, payload) == reason


def test_the_error_of_a_single_event_names_the_field() -> None:
    assert reason_of(Order, '{"items":[{}]}') == "field 'items.0.label': Field required"


def test_the_error_keeps_what_caused_it() -> None:
    with pytest.raises(DecodeError) as caught:
        READER.read('{"type":"finish"}')
    assert isinstance(caught.value.__cause__, ValueError)


def test_what_came_is_quoted_only_in_part() -> None:
    reason = reason_of(Finish | Token, json.dumps({"type": "finish", "reason": ["x"] * 1000}))
    assert reason.startswith("field 'reason': Input should be a valid string, got ['x', 'x'")
    assert len(reason) < 200


def test_a_frame_that_is_wrong_throughout_does_not_fill_the_memory() -> None:
    payload = json.dumps({"type": "order", "items": [1] * 5_000})
    reader = reader_of(Order | Finish)
    tracemalloc.start()
    try:
        with suppress(DecodeError):  # whatever catches it must not look at it meanwhile
            reader.read(payload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * len(payload)


def test_a_field_may_be_called_as_its_event() -> None:
    class Sum(Event):
        type: Literal["sum"] = "sum"
        sum: int

    assert reason_of(Sum, '{"type":"sum","sum":"x"}').startswith("field 'sum'")


def test_what_is_no_error_of_pydantics_is_explained_by_its_name() -> None:
    assert explain(KeyError("x")) == "KeyError: 'x'"


@moderate
@given(st.text() | st.binary(), st.sampled_from(["", "ping"]))
def test_whatever_comes_it_is_an_event_or_a_decode_error(payload: str | bytes, name: str) -> None:
    assume(not (name and isinstance(payload, bytes)))  # only server-sent events have names
    try:
        event = READER.read(payload, name)
    except DecodeError:
        return
    assert isinstance(event, Event)


# Frames


def test_the_payload_of_a_frame_is_its_data() -> None:
    assert payload_of(ServerSentEvent(event="token", data="x")) == ("x", "token")
    assert payload_of(ServerSentEvent(data="x")) == ("x", "")
    assert payload_of(b"x") == (b"x", "")
    assert payload_of("x") == ("x", "")


def message(name: HeaderValue, payload: bytes) -> EventStreamMessage:
    return EventStreamMessage({":message-type": "event", ":event-type": name}, payload)


def test_the_name_of_a_message_is_its_event_type() -> None:
    assert payload_of(message("token", b'{"text":"x"}')) == (b'{"text":"x"}', "token")
    assert payload_of(EventStreamMessage({}, b"x")) == (b"x", "")
    assert payload_of(message(1, b"x")) == (b"x", "")


def test_a_message_without_a_payload_is_an_object_without_members() -> None:
    assert payload_of(message("token", b"")) == (b"{}", "token")
    assert read(Token | Finish, *payload_of(message("token", b""))) == Token()


class Frames:
    """Hands over frames, and tells how many were asked for."""

    def __init__(self, *frames: Any) -> None:
        self._frames = iter(frames)
        self.read = 0

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        for frame in self._frames:
            self.read += 1
            return frame
        raise StopAsyncIteration


async def events_of(
    frames: Frames,
    *,
    final_events: tuple[type[Any], ...] = (Finish,),
    final_marker: str | None = None,
    remote_error: Callable[[Any], RemoteError | None] = reported_error,
    into: list[Any] | None = None,
) -> list[Any]:
    """All events of some frames; also those before a failure, in `into`."""
    events: list[Any] = [] if into is None else into
    reading = EventIterator(
        frames,
        reader=READER,
        remote_error=remote_error,
        final_events=final_events,
        final_marker=final_marker,
    )
    async for event in reading:
        events.append(event)  # noqa: PERF401 - what came before a failure is kept
    return events


def sse(event: Event) -> ServerSentEvent:
    return ServerSentEvent(data=event.model_dump_json())


@pytest.mark.anyio
async def test_each_frame_is_an_event() -> None:
    frames = Frames(sse(Token(text="a")), sse(Beat()), sse(Token(text="b")))
    assert await events_of(frames) == [Token(text="a"), Beat(), Token(text="b")]


@pytest.mark.anyio
async def test_unknown_events_are_among_them() -> None:
    events = await events_of(Frames(ServerSentEvent("ping", "{}"), sse(Token())))
    assert events == [UnknownEvent(type="ping", data="{}"), Token()]


@pytest.mark.anyio
async def test_frames_may_be_bytes() -> None:
    frames = Frames(b'{"type":"token","text":"a"}', b'{"type":"finish","reason":"x"}')
    assert await events_of(frames) == [Token(text="a"), Finish(reason="x")]


@pytest.mark.anyio
async def test_messages_are_told_apart_by_their_event_types() -> None:
    frames = Frames(
        message("token", b'{"text":"a"}'),
        message("padding", b'{"p":"abc"}'),
        message("finish", b'{"reason":"x"}'),
    )
    unknown = UnknownEvent(type="padding", data='{"p":"abc"}')
    assert await events_of(frames) == [Token(text="a"), unknown, Finish(reason="x")]


@pytest.mark.anyio
async def test_the_final_event_is_the_last() -> None:
    frames = Frames(sse(Token()), sse(Finish(reason="x")), sse(Token()))
    assert await events_of(frames) == [Token(), Finish(reason="x")]
    assert frames.read == 2


@pytest.mark.anyio
async def test_any_of_several_final_events_is_the_last() -> None:
    for final in (Beat(), Finish(reason="x")):
        frames = Frames(sse(Token()), sse(final), sse(Token()))
        assert await events_of(frames, final_events=(Beat, Finish)) == [Token(), final]


@pytest.mark.anyio
async def test_without_a_final_event_all_frames_are_read() -> None:
    frames = Frames(sse(Finish(reason="x")), sse(Token()))
    assert await events_of(frames, final_events=()) == [Finish(reason="x"), Token()]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "marker", [ServerSentEvent(data="[DONE]"), ServerSentEvent("end", "[DONE]"), b"[DONE]"]
)
async def test_the_marker_ends_the_stream_and_is_no_event(marker: Any) -> None:
    frames = Frames(sse(Token()), marker, sse(Token()))
    assert await events_of(frames, final_marker="[DONE]") == [Token()]
    assert frames.read == 2


@pytest.mark.anyio
@pytest.mark.parametrize("other", ["[done]", "[DONE] ", ' "[DONE]"', "DONE", ""])
async def test_only_the_exact_marker_ends_the_stream(other: str) -> None:
    for frame in (ServerSentEvent(data=other), other.encode()):
        with pytest.raises(DecodeError):
            await events_of(Frames(frame), final_marker="[DONE]")


@pytest.mark.anyio
async def test_an_undeclared_marker_is_no_event() -> None:
    with pytest.raises(DecodeError, match="Invalid JSON"):
        await events_of(Frames(ServerSentEvent(data="[DONE]")))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "report",
    [
        ServerSentEvent("error", '{"message":"it broke"}'),
        ServerSentEvent("error", "it broke"),
        ServerSentEvent(data='{"error":{"message":"it broke"}}'),
        b'{"error":"it broke"}',
        EventStreamMessage({":message-type": "exception"}, b'{"message":"it broke"}'),
    ],
)
async def test_what_the_server_reports_is_raised_after_the_events_before_it(report: Any) -> None:
    events: list[Any] = []
    with pytest.raises(RemoteError, match=r"^it broke$"):
        await events_of(Frames(sse(Token()), report, sse(Token())), into=events)
    assert events == [Token()]


@pytest.mark.anyio
async def test_what_a_report_is_can_be_said_otherwise() -> None:
    def refused(frame: Any) -> RemoteError | None:
        return RemoteError("no more") if b"finish" in frame else None

    events: list[Any] = []
    frames = Frames(b'{"type":"token","error":"not one"}', b'{"type":"finish","reason":"x"}')
    with pytest.raises(RemoteError, match="no more"):
        await events_of(frames, remote_error=refused, into=events)
    assert events == [Token()]


@pytest.mark.anyio
async def test_a_frame_that_is_no_event_is_a_decode_error() -> None:
    events: list[Any] = []
    with pytest.raises(DecodeError, match="field 'reason': Field required"):
        await events_of(Frames(sse(Token()), b'{"type":"finish"}'), into=events)
    assert events == [Token()]
