import math
from collections.abc import Callable, Iterator

import pytest
from pydantic import BaseModel, Field

from streamsession.testing import (
    chunks_of,
    every_split,
    json_array,
    json_lines,
    json_seq,
    sse,
    sse_event,
)


class Price(BaseModel):
    in_cents: int = Field(serialization_alias="inCents")


def test_text_is_the_data_of_an_event_as_it_is() -> None:
    assert sse("one", "[DONE]") == b"data: one\n\ndata: [DONE]\n\n"


def test_values_and_models_become_json_by_alias() -> None:
    assert sse({"x": [1, None]}, Price(in_cents=5), 7) == (
        b'data: {"x":[1,null]}\n\ndata: {"inCents":5}\n\ndata: 7\n\n'
    )


def test_bytes_are_blocks_already_built() -> None:
    assert sse(b": broken", sse_event("x")) == b": brokendata: x\n\n"


def test_no_events_make_an_empty_body() -> None:
    assert sse() == b""
    assert json_lines() == b""
    assert json_seq() == b""


def test_a_block_has_every_field_that_was_given() -> None:
    block = sse_event("x", event="token", id="7", retry=1500, comment="ping")
    assert block == b": ping\nevent: token\nid: 7\nretry: 1500\ndata: x\n\n"


def test_a_block_may_have_no_data() -> None:
    assert sse_event(comment="ping") == b": ping\n\n"
    assert sse_event(retry=0) == b"retry: 0\n\n"
    assert sse_event(id="") == b"id: \n\n"


@pytest.mark.parametrize(
    ("data", "block"),
    [
        ("", b"data: \n\n"),
        ("a\nb", b"data: a\ndata: b\n\n"),
        ("a\n", b"data: a\ndata: \n\n"),
        ("\n", b"data: \ndata: \n\n"),
        (" x", b"data:  x\n\n"),
        ("a\u2028b\x0bc", "data: a\u2028b\x0bc\n\n".encode()),
        (b"\xff\nb", b"data: \xff\ndata: b\n\n"),
    ],
)
def test_data_is_written_line_by_line(data: object, block: bytes) -> None:
    assert sse_event(data) == block


def test_a_comment_is_written_line_by_line() -> None:
    assert sse_event(comment="a\nb") == b": a\n: b\n\n"


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb"])
def test_a_carriage_return_is_refused_because_it_would_not_arrive(text: str) -> None:
    with pytest.raises(ValueError, match="carriage return"):
        sse_event(text)
    with pytest.raises(ValueError, match="carriage return"):
        sse_event(comment=text)


@pytest.mark.parametrize("text", ["a\rb", "a\nb"])
def test_a_line_break_in_event_or_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"event .* line break"):
        sse_event("x", event=text)
    with pytest.raises(ValueError, match=r"id .* line break"):
        sse_event("x", id=text)


def test_what_the_client_would_ignore_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        sse_event("x", id="a\0b")
    with pytest.raises(ValueError, match="retry is -1"):
        sse_event("x", retry=-1)
    with pytest.raises(ValueError, match="an event of nothing"):
        sse_event()
    with pytest.raises(ValueError, match="an event of nothing"):
        sse(None)


def test_what_cannot_be_json_is_refused() -> None:
    with pytest.raises(ValueError, match="serialize"):
        sse(object())


def test_json_lines_end_each_value_with_a_line_feed() -> None:
    body = json_lines("text", None, Price(in_cents=5), b'{"broken')
    assert body == b'"text"\nnull\n{"inCents":5}\n{"broken'


def test_a_text_sequence_has_a_record_separator_before_each_value_and_a_line_feed_behind() -> None:
    body = json_seq("a\x1eb", None, Price(in_cents=5), b'\x1e{"broken')
    assert body == b'\x1e"a\\u001eb"\n\x1enull\n\x1e{"inCents":5}\n\x1e{"broken'


def test_an_array_has_its_values_in_brackets_with_commas_between() -> None:
    assert json_array() == b"[]"
    assert json_array({}) == b"[{}]"
    body = json_array("text", None, Price(in_cents=5), b'{"broken')
    assert body == b'["text",\nnull,\n{"inCents":5},\n{"broken]'


@pytest.mark.parametrize("build", [json_lines, json_seq, json_array])
def test_a_value_that_cannot_be_json_is_refused(build: Callable[[object], bytes]) -> None:
    with pytest.raises(ValueError, match="serialize"):
        build(object())


def test_every_split_in_two_is_at_every_place() -> None:
    assert list(every_split(b"abc")) == [[b"a", b"bc"], [b"ab", b"c"]]


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_every_split_is_counted_joins_to_the_body_and_has_no_empty_piece(parts: int) -> None:
    body = b"abcdef"
    splits = list(every_split(body, parts))
    assert len(splits) == math.comb(len(body) - 1, parts - 1)
    assert all(b"".join(split) == body and all(split) for split in splits)
    assert len({tuple(split) for split in splits}) == len(splits)


def test_every_split_is_lazy() -> None:
    splits = every_split(bytes(10_000), 5)
    assert isinstance(splits, Iterator)
    assert [len(piece) for piece in next(splits)] == [1, 1, 1, 1, 9_996]


@pytest.mark.parametrize(("body", "parts"), [(b"", 1), (b"a", 2), (b"abc", 0)])
def test_a_body_that_cannot_be_split_is_refused_at_once(body: bytes, parts: int) -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        every_split(body, parts)


def test_chunks_are_of_one_size_but_the_last() -> None:
    assert chunks_of(b"abcde", 2) == [b"ab", b"cd", b"e"]
    assert chunks_of(b"abcd", 2) == [b"ab", b"cd"]
    assert chunks_of(b"", 2) == []


def test_chunks_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="size is 0"):
        chunks_of(b"abc", 0)
