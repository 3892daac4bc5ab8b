"""JSON texts: bodies that say what was meant, and beginnings that are told from the whole."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from streamsession import Event, InvalidRequest, ServerSentEvent
from streamsession._json import encode_json, is_cut_short, is_object, parse_json

moderate = settings(deadline=None, max_examples=150)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=4), json_values, max_size=4)


# Bodies


class Part(BaseModel):
    mime_type: str = Field(alias="mimeType")
    size: int | None = None


class Prompt(Event):
    system_text: str = Field(serialization_alias="systemText")
    parts: list[Part] = Field(default_factory=list[Part])


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ({"a": [1, 2.5, True, None, "x"]}, b'{"a":[1,2.5,true,null,"x"]}'),
        ("\u00e9\u2028", '"\u00e9\u2028"'.encode()),
        ([], b"[]"),
        (0, b"0"),
        (False, b"false"),
        ("NaN and Infinity", b'"NaN and Infinity"'),
        ({"NaN": "-Infinity"}, b'{"NaN":"-Infinity"}'),
        ((1, 2), b"[1,2]"),
        (2**70, str(2**70).encode()),
        (datetime(2026, 11, 23, tzinfo=UTC), b'"2026-11-23T00:00:00Z"'),
        (Part(mimeType="a/b"), b'{"mimeType":"a/b","size":null}'),
        (
            Prompt(system_text="s", parts=[Part(mimeType="a/b", size=1)]),
            b'{"systemText":"s","parts":[{"mimeType":"a/b","size":1}]}',
        ),
        ({"input": [Part(mimeType="a/b", size=1)]}, b'{"input":[{"mimeType":"a/b","size":1}]}'),
    ],
    ids=repr,
)
def test_a_json_body_is_made_of_anything_json_able(value: Any, body: bytes) -> None:
    assert encode_json(value) == body


circular: list[Any] = []
circular.append(circular)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {"a": object()},
        b"\xff",
        "\ud800",
        circular,
        float("nan"),
        {"temperature": float("inf")},
        {"a": [float("-inf"), "NaN"]},
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_has_no_json_form_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^json= cannot be sent"):
        encode_json(value)


@moderate
@given(json_values)
def test_a_json_body_says_what_was_meant(value: Any) -> None:
    assert json.loads(encode_json(value)) == value


# Beginnings


@moderate
@given(objects, st.booleans(), st.sampled_from([None, 2]))
def test_a_whole_object_is_not_cut_short(value: Any, ascii_only: bool, indent: int | None) -> None:  # noqa: FBT001
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert not is_cut_short(text)
    assert not is_cut_short(text.encode())
    assert not is_cut_short(f" {text}\n")


@moderate
@given(objects, st.booleans())
def test_every_beginning_of_an_object_is_cut_short(value: Any, ascii_only: bool) -> None:  # noqa: FBT001
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert [end for end in range(1, len(text)) if not is_cut_short(text[:end])] == []
    body = text.encode()
    assert [end for end in range(1, len(body)) if not is_cut_short(body[:end])] == []


@pytest.mark.parametrize("text", ["x", "{,", '{"a" 1', "{1", "{'a'", "<html>", "", " "])
def test_what_begins_no_json_text_is_not_cut_short(text: str) -> None:
    assert not is_cut_short(text)
    assert not is_cut_short(text.encode())


@pytest.mark.parametrize("text", ["null", "true", "0", '"x"', "[]", "[1]", "{}"])
def test_a_whole_text_of_any_kind_is_not_cut_short(text: str) -> None:
    assert not is_cut_short(text)
    assert not is_cut_short(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "[1 2",
        '{"a":1}x',
        '{"a":1} {"b":2}',
        '{"a":1} {"b',
        " null",
        "null\n",
    ],
)
def test_what_is_whole_or_wrong_before_its_end_is_not_cut_short(text: str) -> None:
    assert not is_cut_short(text)


@pytest.mark.parametrize("frame", [None, 5, {"a": 1}, ServerSentEvent(data='{"a')])
def test_only_text_and_bytes_can_be_cut_short(frame: Any) -> None:
    assert not is_cut_short(frame)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        (b"[1]", [1]),
        ("null", None),
        ("", None),
        ("x", None),
        (b"\xff", None),
    ],
)
def test_what_is_no_json_has_no_value(text: str | bytes, value: Any) -> None:
    assert parse_json(text) == value


def test_only_an_object_is_an_object() -> None:
    assert is_object({})
    assert not any(map(is_object, [[], "{}", None, 1]))
