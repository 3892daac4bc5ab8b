import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import from_json

from streamsession._errors import EventTooLarge
from streamsession._framing import Decoder, JSONLinesDecoder
from tests.test_framing.cuts import (
    KIB,
    Outcome,
    burden,
    burden_allowed,
    bytewise,
    cases,
    chunks_of,
    costly_calls,
    cuts,
    outcome,
    pieces,
    thorough,
)

DECODER: type[Decoder[bytes]] = JSONLinesDecoder

chunked_bodies = chunks_of(
    b'{"a":1}\n',
    b"12\r\n",
    b'"\xe2\x80\xa8\xc2\x85"',
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"\x0b",
    b"\x1e",
    "\ufeff".encode(),
    b"\xff",
)


def read_by_the_format(body: bytes) -> list[bytes]:
    """A second opinion: the whole body at once."""
    lines = body.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [line.strip(b" \t\r") for line in lines if set(line) - set(b" \t\r")]


def decode(*chunks: bytes, max_event_bytes: int = KIB) -> Outcome[bytes]:
    return outcome(JSONLinesDecoder(max_event_bytes=max_event_bytes), chunks)


def parse(frame: bytes) -> Any:
    return from_json(frame, allow_inf_nan=False)


# The format


@pytest.mark.parametrize("case", cases("jsonl_cases.json"))
def test_a_conformance_case_holds_at_every_cut(case: dict[str, Any]) -> None:
    expected = decode(*case["chunks"])
    for chunks in cuts(b"".join(case["chunks"])):
        assert expected == decode(*chunks)
    values = expected.frames
    if case["error"]:
        values = expected.frames[: case["error"]["after"]]
        with pytest.raises(ValueError, match="line 1 column"):
            parse(expected.frames[len(values)])
    assert json.dumps(case["expect"]) == json.dumps([parse(frame) for frame in values])


@thorough
@given(chunked_bodies)
def test_it_agrees_with_the_format_however_the_bytes_are_cut(chunks: list[bytes]) -> None:
    body = b"".join(chunks)
    expected = Outcome(read_by_the_format(body))
    assert expected == decode(*chunks, max_event_bytes=len(body))
    assert expected == decode(*bytewise(body), max_event_bytes=len(body))


@thorough
@given(
    st.lists(st.none() | st.integers() | st.text(st.characters(codec="utf-8"))),
    st.sampled_from([b"\n", b"\r\n", b" \n\n"]),
    st.integers(1, 64),
)
def test_what_was_encoded_comes_out_again(sent: list[object], end: bytes, size: int) -> None:
    lines = [json.dumps(value, ensure_ascii=False).encode() for value in sent]
    assert lines == outcome(JSONLinesDecoder(), pieces(end.join(lines), size)).frames


def test_a_line_is_due_as_soon_as_it_ended() -> None:
    decoder = JSONLinesDecoder()
    assert decoder.decode(b'{"a":') == []
    assert decoder.decode(b"1}\r") == []
    assert decoder.decode(b"\n") == [b'{"a":1}']


def test_a_last_line_without_its_end_comes_out_at_the_end_of_the_body_and_once() -> None:
    decoder = JSONLinesDecoder()
    assert decoder.decode(b"1\n2 \r") == [b"1"]
    assert decoder.flush() == [b"2"]
    assert decoder.flush() == []


def test_half_a_byte_order_mark_is_a_line_of_its_own() -> None:
    assert decode(b"\xef", b"\xbb").frames == [b"\xef\xbb"]
    assert decode(b"\xef", b"\xbb", b"\xbf").frames == []


# The limit


@pytest.mark.parametrize("body", [b"12345678", b"1\n12345678\r\n1", b"\xef\xbb\xbf 2345678\n"])
def test_a_line_may_be_as_large_as_the_limit_and_no_larger(body: bytes) -> None:
    expected = decode(body)
    for chunks in cuts(body):
        assert expected == decode(*chunks, max_event_bytes=8)
        assert decode(*chunks, max_event_bytes=7).too_large is not None


@thorough
@given(chunked_bodies, st.integers(0, 12))
@example([b"\xef\xbb", b"\xbf"], 1)
def test_the_verdict_on_the_size_does_not_depend_on_the_cuts(
    chunks: list[bytes], max_event_bytes: int
) -> None:
    body = b"".join(chunks)
    expected = decode(body, max_event_bytes=max_event_bytes)
    assert expected == decode(*chunks, max_event_bytes=max_event_bytes)
    assert expected == decode(*bytewise(body), max_event_bytes=max_event_bytes)
    assert expected.frames == decode(body).frames[: len(expected.frames)]
    assert all(len(frame) <= max_event_bytes for frame in expected.frames)
    assert expected.too_large in (None, (max_event_bytes, len(expected.frames)))


def test_lines_before_one_too_large_come_out_first() -> None:
    decoder = JSONLinesDecoder(max_event_bytes=4)
    assert decoder.decode(b"1\n\n2\n34567\n8\n") == [b"1", b"2"]
    for _ in range(2):
        with pytest.raises(EventTooLarge, match=r"at most 4 bytes, but event 2\b"):
            decoder.decode(b"9\n")
        with pytest.raises(EventTooLarge) as caught:
            decoder.flush()
        assert (caught.value.limit, caught.value.index) == (4, 2)


@pytest.mark.parametrize("size", [1, 16 * KIB])
@pytest.mark.parametrize("endless", [b"x", b" ", b"\r"])
def test_a_line_that_never_ends_is_refused_before_its_memory_is_spent(
    endless: bytes, size: int
) -> None:
    limit = max(2 * KIB, 4 * size)
    actual = burden(
        JSONLinesDecoder(max_event_bytes=limit),
        pieces(endless * (2 * limit), size),
        burden_allowed(limit, size),
    )
    assert actual.failed
    assert actual.held < burden_allowed(limit, size)


@pytest.mark.parametrize("size", [1, 16 * KIB])
@pytest.mark.parametrize("endless", [b"\n", b"x\n"])
def test_lines_may_go_on_for_ever(endless: bytes, size: int) -> None:
    limit = max(2 * KIB, 4 * size)
    actual = burden(
        JSONLinesDecoder(max_event_bytes=limit),
        pieces(endless * (2 * limit), size),
        burden_allowed(limit, size),
    )
    assert not actual.failed
    assert actual.held < burden_allowed(limit, size)


def test_the_work_for_a_byte_does_not_grow_with_what_is_held() -> None:
    assert costly_calls(JSONLinesDecoder(), b"x" * 16 * KIB) < 100
