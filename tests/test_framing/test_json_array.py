import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import from_json

from streamsession._errors import DecodeError, EventTooLarge, StreamTruncated
from streamsession._framing import Decoder
from streamsession._framing._json_array import JSONArrayDecoder
from streamsession.testing import json_array
from tests.fuzz.json_array import Reading, read
from tests.test_framing.cuts import (
    KIB,
    Outcome,
    burden,
    burden_allowed,
    bytewise,
    chunks_of,
    costly_calls,
    cuts,
    outcome,
    pieces,
    thorough,
)

DECODER: type[Decoder[bytes]] = JSONArrayDecoder
BOM = b"\xef\xbb\xbf"

chunked_bodies = chunks_of(
    b"[",
    b'{"a": [1, {"b": "]}"}]}',
    b",\r\n",
    b'"\\"\xe2\x80\xa8"',
    b"[[], 7]",
    b"-12.5e3 ",
    b"true",
    b"]",
    b"}",
    b"\t\n",
    b"\\",
    BOM,
)
# What is often right, and so gets further.
chunked_arrays = chunked_bodies.map(lambda chunks: [b"[", *chunks, b"]"])
chunked_lists = st.lists(
    st.sampled_from([b"1", b'"]\\\\"', b'{"}":[{},[0]]}', b"[ ]", b"null"]), max_size=6
).map(lambda elements: [*bytewise(b"[" + b" , ".join(elements)), b"]"])


def decode(*chunks: bytes, max_event_bytes: int = KIB) -> Outcome[bytes]:
    return outcome(JSONArrayDecoder(max_event_bytes=max_event_bytes), chunks)


def parse(text: bytes) -> Any:
    return from_json(text, allow_inf_nan=False)


def parsed(text: bytes) -> Any:
    """The value of a JSON text; None if it is none."""
    try:
        return parse(text)
    except ValueError:
        return None


def reading(result: Outcome[bytes]) -> Reading:
    """What came out, as the second opinion tells it."""
    is_too_large = result.too_large is not None
    return Reading(result.frames, is_too_large, result.damage, bool(result.truncated))


# The format


@pytest.mark.parametrize(
    ("body", "frames"),
    [
        (b"[]", []),
        (b" [ ]\r\n", []),
        (b"[{}]", [b"{}"]),
        (b'[{"a":1}\n,\r\n{"b":\n[]}\n]\n', [b'{"a":1}', b'{"b":\n[]}']),
        (
            b'[1,-2.5e3 ,"3" , true,false,null]',
            [b"1", b"-2.5e3", b'"3"', b"true", b"false", b"null"],
        ),
        (b'["]", "}\\"]", "\\\\", ""]', [b'"]"', b'"}\\"]"', b'"\\\\"', b'""']),
        (b'[[],[[]],[{"a":[[1]]}]]', [b"[]", b"[[]]", b'[{"a":[[1]]}]']),
        (b'[{"a":"]}\\\\"},{"\\"{[":{}}]', [b'{"a":"]}\\\\"}', b'{"\\"{[":{}}']),
        ('["é\u2028😀",1]'.encode(), ['"é\u2028😀"'.encode(), b"1"]),
        (BOM + b"[1]", [b"1"]),
    ],
)
def test_the_elements_of_an_array_come_out_at_every_cut(body: bytes, frames: list[bytes]) -> None:
    for chunks in cuts(body):
        assert decode(*chunks) == Outcome(frames)


@thorough
@given(chunked_bodies | chunked_arrays | chunked_lists)
def test_it_agrees_with_the_grammar_however_the_bytes_are_cut(chunks: list[bytes]) -> None:
    body = b"".join(chunks)
    result = decode(*chunks, max_event_bytes=len(body))
    assert reading(result) == read(body)
    assert result == decode(body, max_event_bytes=len(body))
    assert result == decode(*bytewise(body), max_event_bytes=len(body))


@thorough
@given(chunked_arrays | chunked_lists)
def test_a_body_is_an_array_of_json_if_all_is_right_and_not_otherwise(chunks: list[bytes]) -> None:
    body = b"".join(chunks).removeprefix(BOM)
    result = decode(*chunks, max_event_bytes=len(body))
    values = [parsed(frame) for frame in result.frames]
    nulls = result.frames.count(b"null")
    is_right = result == Outcome(result.frames) and values.count(None) == nulls
    assert parsed(body) == (values if is_right else None)


texts = st.text(st.characters(codec="utf-8"))
values = st.none() | st.booleans() | st.integers() | texts
nested_values = values | st.lists(values) | st.dictionaries(texts, st.lists(values))


@thorough
@given(
    st.lists(nested_values),
    st.sampled_from([{}, {"indent": 0}, {"indent": 2, "ensure_ascii": False}]),
    st.integers(1, 64),
)
def test_what_was_encoded_comes_out_again(
    sent: list[object], options: dict[str, Any], size: int
) -> None:
    body = json.dumps(sent, **options).encode()
    result = decode(*pieces(body, size), max_event_bytes=len(body))
    assert result == Outcome(result.frames)
    assert json.dumps(sent) == json.dumps([parse(frame) for frame in result.frames])


def test_an_element_is_due_as_soon_as_it_is_complete() -> None:
    decoder = JSONArrayDecoder()
    assert decoder.decode(b'[{"a":{"b":"}') == []
    assert decoder.decode(b'"}') == []
    assert decoder.decode(b"}") == [b'{"a":{"b":"}"}}']
    assert decoder.decode(b',[["]') == []
    assert decoder.decode(b'\\"]"]') == []
    assert decoder.decode(b"]") == [b'[["]\\"]"]]']
    assert decoder.decode(b' , "') == []
    assert decoder.decode(b'"') == [b'""']
    assert decoder.decode(b"]") == []
    assert decoder.flush() == []


@pytest.mark.parametrize("behind", [b",", b"]", b" ", b"\t", b"\r", b"\n"])
def test_a_number_or_literal_is_due_with_what_is_behind_it(behind: bytes) -> None:
    for text in (b"12", b"true", b"null"):
        decoder = JSONArrayDecoder()
        assert decoder.decode(b"[" + text[:1]) == []
        assert decoder.decode(text[1:]) == []
        assert decoder.decode(behind) == [text]


def test_what_is_in_an_element_is_left_to_whoever_parses_it() -> None:
    body = b'[tru, {"a"}, {,}, "\x00\xff", [1,,:], NaN, \'x\']'
    frames = [b"tru", b'{"a"}', b"{,}", b'"\x00\xff"', b"[1,,:]", b"NaN", b"'x'"]
    for chunks in cuts(body):
        assert decode(*chunks) == Outcome(frames)


def test_the_builder_writes_what_comes_out() -> None:
    sent = [None, "]\n", {"a": [1]}, b'{"broken"}']
    frames = decode(json_array(*sent)).frames
    assert [parse(frame) for frame in frames[:-1]] == sent[:-1]
    assert frames[-1] == sent[-1]


# An object in place of an array


@pytest.mark.parametrize(
    ("body", "frames"),
    [
        (b'{"error":{"code":429}}', [b'{"error":{"code":429}}']),
        (BOM + b' {"a":"}"}\n', [b'{"a":"}"}']),
        (b'{"a":1}{"b":2}\n {}', [b'{"a":1}', b'{"b":2}', b"{}"]),
    ],
)
def test_an_object_is_one_frame_and_so_is_each_that_follows(
    body: bytes, frames: list[bytes]
) -> None:
    for chunks in cuts(body):
        assert decode(*chunks) == Outcome(frames)


def test_an_object_is_due_with_its_last_bracket() -> None:
    decoder = JSONArrayDecoder()
    assert decoder.decode(b'{"error":{}') == []
    assert decoder.decode(b"}") == [b'{"error":{}}']


# Damage


@pytest.mark.parametrize(
    ("body", "frames", "expected", "got"),
    [
        (b"<html>", 0, "an array or an object", "'<'"),
        (b"null", 0, "an array or an object", "'n'"),
        (b'"[1]"', 0, "an array or an object", "'\"'"),
        (b"]", 0, "an array or an object", "']'"),
        (b"data: {}", 0, "an array or an object", "'d'"),
        (b"\xef\xbb[1]", 0, "an array or an object", r"'\xef'"),
        (BOM + BOM + b"[1]", 0, "an array or an object", r"'\xef'"),
        (b"\x1e[1]", 0, "an array or an object", r"'\x1e'"),
        (b"[,1]", 0, "an element or ']'", "','"),
        (b"[}", 0, "an element or ']'", "'}'"),
        (b"[1,,2]", 1, "an element", "','"),
        (b"[1,]", 1, "an element", "']'"),
        (b"[{},}", 1, "an element", "'}'"),
        (b"[1 2]", 1, "',' or ']'", "'2'"),
        (b'["a""b"]', 1, "',' or ']'", "'\"'"),
        (b'[1"b"]', 1, "',' or ']'", "'\"'"),
        (b"[1{}]", 1, "',' or ']'", "'{'"),
        (b"[{} {}]", 1, "',' or ']'", "'{'"),
        (b"[{}\x0c]", 1, "',' or ']'", r"'\x0c'"),
        (b"[1}", 1, "',' or ']'", "'}'"),
        (b"[{}:1]", 1, "',' or ']'", "':'"),
        (b'[{"a":[1]]', 0, "'}'", "']'"),
        (b"[[{}}]", 0, "']'", "'}'"),
        (b'{"a":1]', 0, "'}'", "']'"),
        (b"[1] [2]", 1, "the end", "'['"),
        (b"[]]", 0, "the end", "']'"),
        (b"{},{}", 1, "another object or the end", "','"),
        (b"{}[]", 1, "another object or the end", "'['"),
    ],
)
def test_damage_is_told_with_what_was_expected_and_what_came(
    body: bytes, frames: int, expected: str, got: str
) -> None:
    for chunks in cuts(body + b"\n,{"):
        result = decode(*chunks)
        assert result.damage == f"expected {expected}, got {got}"
        assert len(result.frames) == frames


def test_elements_before_the_damage_come_out_first() -> None:
    decoder = JSONArrayDecoder()
    assert decoder.decode(b"[1,{},] 3, 4]") == [b"1", b"{}"]
    for call in (decoder.flush, lambda: decoder.decode(b"5]"), decoder.flush):
        with pytest.raises(DecodeError, match="event 2, counted from 0, cannot be cut") as caught:
            call()
        assert (caught.value.index, caught.value.frame) == (2, None)
        assert caught.value.reason == "expected an element, got ']'"


# The end of the body


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "the body is empty: expected a JSON array"),
        (b" \n", "the body is empty: expected a JSON array"),
        (BOM[:2], "the body is empty: expected a JSON array"),
        (b"[", "the JSON array was not closed: the body ended before element 0, counted from 0"),
        (b"[1", "the JSON array was not closed: the body ended inside element 0, counted from 0"),
        (b"[1 ", "the JSON array was not closed: the body ended before element 1, counted from 0"),
        (b"[1,", "the JSON array was not closed: the body ended before element 1, counted from 0"),
        (
            b'[1,"\\',
            "the JSON array was not closed: the body ended inside element 1, counted from 0",
        ),
        (b"[[]", "the JSON array was not closed: the body ended before element 1, counted from 0"),
        (
            b'{"a"',
            "the JSON object was not closed: the body ended inside element 0, counted from 0",
        ),
    ],
)
def test_a_body_that_was_cut_short_is_told_at_every_call(body: bytes, told: str) -> None:
    for chunks in cuts(body):
        assert decode(*chunks).truncated == told
    decoder = JSONArrayDecoder()
    decoder.decode(body)
    for _ in range(2):
        with pytest.raises(StreamTruncated, match=told):
            decoder.flush()


def test_a_body_may_end_where_its_array_does_and_nowhere_else() -> None:
    body = b'[{"a":"]"}, [2] ,"3",4]'
    for end in range(len(body)):
        result = decode(body[:end])
        assert result == Outcome(result.frames, truncated=result.truncated)
        assert result.truncated
        assert result.frames == decode(body).frames[: len(result.frames)]
    assert decode(body + b" \n") == Outcome([b'{"a":"]"}', b"[2]", b'"3"', b"4"])


# The limit


@pytest.mark.parametrize("body", [b"[12345678 ]", b'[1,"234567",1]', b"[ [{}, 0] ,1]", b'{"a":12}'])
def test_an_element_may_be_as_large_as_the_limit_and_no_larger(body: bytes) -> None:
    expected = decode(body)
    assert expected == Outcome(expected.frames)
    size = max(map(len, expected.frames))
    for chunks in cuts(body):
        assert expected == decode(*chunks, max_event_bytes=size)
        assert decode(*chunks, max_event_bytes=size - 1).too_large is not None


@thorough
@given(chunked_bodies | chunked_arrays | chunked_lists, st.integers(0, 12))
@example([b"[{1234]"], 5)
@example([b"[123", b"}"], 3)
def test_the_verdict_on_the_size_does_not_depend_on_the_cuts(
    chunks: list[bytes], max_event_bytes: int
) -> None:
    body = b"".join(chunks)
    result = decode(*chunks, max_event_bytes=max_event_bytes)
    assert reading(result) == read(body, max_event_bytes)
    assert result == decode(*bytewise(body), max_event_bytes=max_event_bytes)
    assert result.too_large in (None, (max_event_bytes, len(result.frames)))


def test_elements_before_one_too_large_come_out_first() -> None:
    decoder = JSONArrayDecoder(max_event_bytes=4)
    assert decoder.decode(b"[1, 2 ,34567,,8") == [b"1", b"2"]
    for _ in range(2):
        with pytest.raises(EventTooLarge, match=r"at most 4 bytes, but event 2\b"):
            decoder.decode(b"9]")
        with pytest.raises(EventTooLarge) as caught:
            decoder.flush()
        assert (caught.value.limit, caught.value.index) == (4, 2)


# What it costs


@pytest.mark.parametrize("size", [1, 4 * KIB])
@pytest.mark.parametrize("endless", [b"x", b"[", b'{"a":', b"{},", b'"[]\\"",', b"[\\"])
def test_an_element_that_never_ends_is_refused_before_its_memory_is_spent(
    endless: bytes, size: int
) -> None:
    limit = max(2 * KIB, 4 * size)
    body = (b"[" if endless == b"x" else b"[[") + endless * (2 * limit // len(endless))
    actual = burden(
        JSONArrayDecoder(max_event_bytes=limit), pieces(body, size), burden_allowed(limit, size)
    )
    assert actual.failed
    assert actual.held < burden_allowed(limit, size)


@pytest.mark.parametrize("size", [1, 4 * KIB])
@pytest.mark.parametrize(
    ("begin", "endless"),
    [(b"", b" "), (b"[", b"\n"), (b"[", b"{},"), (b"[", b'"[",'), (b"[]", b" "), (b"", b"{}\n")],
)
def test_elements_and_what_is_between_them_may_go_on_for_ever(
    begin: bytes, endless: bytes, size: int
) -> None:
    limit = max(2 * KIB, 4 * size)
    body = begin + endless * (2 * limit // len(endless))
    actual = burden(
        JSONArrayDecoder(max_event_bytes=limit), pieces(body, size), burden_allowed(limit, size)
    )
    assert not actual.failed
    assert actual.held < burden_allowed(limit, size)


@pytest.mark.parametrize(
    ("begin", "repeated"),
    [(b"[", b"x"), (b'["', b"x"), (b'[["', b"\\"), (b"[", b"["), (b'[["",', b" "), (b"[[", b"[]")],
)
def test_the_work_for_a_byte_does_not_grow_with_what_is_held(begin: bytes, repeated: bytes) -> None:
    body = begin + repeated * (16 * KIB // len(repeated))
    assert costly_calls(JSONArrayDecoder(), body) < 100


@pytest.mark.parametrize(
    "repeated", [b"1,", b" ", b"{},", b'"x",', b"[", b'["', b'[{"a":', b'["\\"x",{}],', b"[[],"]
)
def test_the_work_for_a_byte_does_not_grow_with_what_came_with_it(repeated: bytes) -> None:
    def seconds(size: int) -> float:
        body = b"[" + repeated * (size // len(repeated))
        began = time.thread_time()
        outcome(JSONArrayDecoder(), [body])
        return time.thread_time() - began

    short = min(seconds(16 * KIB) for _ in range(3))
    assert seconds(8 * 16 * KIB) < 24 * short + 0.05
