import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import from_json

from streamsession._errors import EventTooLarge
from streamsession._framing import Decoder
from streamsession._framing._json_seq import JSONSeqDecoder
from streamsession.testing import json_seq
from tests.fuzz.json_seq import Reading, read
from tests.test_framing.cuts import (
    KIB,
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

DECODER: type[Decoder[bytes]] = JSONSeqDecoder
RS = b"\x1e"
WHITE_SPACE = b" \t\n\r"

chunked_bodies = chunks_of(
    b'\x1e{"a":1}\n',
    b'\x1e{\n"a": [\n"\\"]"]\n}\r\n',
    b"\x1e12 ",
    b"true\n",
    b"\x1eNaN\n",
    b'"\\ud800"',
    b'"\xe2\x80\xa8\xc2\x85"',
    b"[]",
    b"\x1e",
    b"\n",
    b"\t",
    b"\x0c",
    b"\xff",
)


def refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


PARSER = json.JSONDecoder(parse_constant=refused, object_pairs_hook=list)


def read_by_the_standard(body: bytes) -> Reading:
    """A second opinion: the whole body at once, by another parser."""
    first, *elements = body.split(RS)
    reading = Reading(skipped=1 if first else 0)
    for element in filter(None, elements):
        begin = len(element) - len(element.lstrip(WHITE_SPACE))
        try:
            _, end = PARSER.raw_decode(element.decode("latin-1"), begin)
            value, _ = PARSER.raw_decode(element[begin:end].decode())
            json.dumps(value, ensure_ascii=False).encode()
        except ValueError:
            reading.skipped += 1
            continue
        behind, _, rest = element[end:].partition(b"\n")
        is_delimited = isinstance(value, list | str) or end < len(element)
        if behind.strip(WHITE_SPACE) or not is_delimited:
            reading.skipped += 1
            continue
        reading.frames.append(element[begin:end])
        reading.skipped += bool(rest.strip(WHITE_SPACE))
    return reading


def decode(*chunks: bytes, max_event_bytes: int = KIB) -> Reading:
    decoder = JSONSeqDecoder(max_event_bytes=max_event_bytes)
    result = outcome(decoder, chunks)
    assert result.too_large in (None, (max_event_bytes, len(result.frames)))
    return Reading(result.frames, decoder.skipped, result.too_large is not None)


# The format


@pytest.mark.parametrize("case", cases("jsonseq_cases.json"))
def test_a_conformance_case_holds_at_every_cut(case: dict[str, Any]) -> None:
    expected = decode(*case["chunks"])
    for chunks in cuts(b"".join(case["chunks"])):
        assert expected == decode(*chunks)
    assert expected.skipped == case["skipped"]
    assert json.dumps(case["expect"]) == json.dumps([from_json(each) for each in expected.frames])


@thorough
@given(chunked_bodies)
@example([b'\x1e"a\nb"\n', b'\x1e1\n"', b'\x1e"\\\n"\n'])
def test_it_agrees_with_the_standard_however_the_bytes_are_cut(chunks: list[bytes]) -> None:
    body = b"".join(chunks)
    expected = read_by_the_standard(body)
    assert expected == decode(*chunks, max_event_bytes=len(body))
    assert expected == decode(*bytewise(body), max_event_bytes=len(body))


texts = st.text(st.characters(codec="utf-8"))
values = st.none() | st.booleans() | st.integers() | texts
nested_values = values | st.lists(values) | st.dictionaries(texts, st.lists(values))


@thorough
@given(
    st.lists(nested_values),
    st.sampled_from([None, 0, 2]),
    st.sampled_from([b"\n", b"\r\n", b" \n\n", b" "]),
    st.integers(1, 64),
)
def test_what_was_encoded_comes_out_again(
    sent: list[object], indent: int | None, end: bytes, size: int
) -> None:
    encoded = [json.dumps(value, ensure_ascii=False, indent=indent).encode() for value in sent]
    body = b"".join(RS + text + end for text in encoded)
    assert decode(*pieces(body, size), max_event_bytes=len(body)) == Reading(encoded)


def test_a_text_is_due_with_the_line_feed_behind_it() -> None:
    decoder = JSONSeqDecoder()
    assert decoder.decode(b'\x1e{"a":') == []
    assert decoder.decode(b"1}\r") == []
    assert decoder.decode(b"\n") == [b'{"a":1}']


def test_a_text_of_several_lines_is_due_with_the_line_feed_behind_the_last() -> None:
    decoder = JSONSeqDecoder()
    for line in (b"\x1e\n", b"{\n", b' "}": [\n', b" 1\n", b" ]\n"):
        assert decoder.decode(line) == []
    assert decoder.decode(b"}\n") == [b'{\n "}": [\n 1\n ]\n}']


def test_a_text_without_a_line_feed_is_due_with_the_next_rs_or_at_the_end() -> None:
    decoder = JSONSeqDecoder()
    assert decoder.decode(b'\x1e{"a":1}') == []
    assert decoder.decode(b"\x1e") == [b'{"a":1}']
    assert decoder.decode(b"[] ") == []
    assert decoder.flush() == [b"[]"]
    assert decoder.flush() == []
    assert decoder.skipped == 0


@pytest.mark.parametrize("text", [b"12", b"-1.5e3", b"true", b"false", b"null"])
def test_a_text_that_may_have_been_cut_short_is_dropped(text: bytes) -> None:
    whole = RS + text
    for chunks in cuts(whole + whole):
        assert decode(*chunks) == Reading(skipped=2)
    for behind in (b"\n", b" ", b"\t", b"\r"):
        assert decode(whole + behind + whole + behind) == Reading([text, text])


@pytest.mark.parametrize(
    ("body", "frames", "skipped"),
    [
        (b'\x1e{"a":1}\n{"b":2}\n{"c":3}\n\x1e1\n', [b'{"a":1}', b"1"], 1),
        (b"\x1e1\n \r\n\t\n\x1e2\n", [b"1", b"2"], 0),
        (b"\x1e[1] x\n\x1e2\n", [b"2"], 1),
        (b"\x1e1 2\n3\n", [], 1),
        (b"\x1e}\n{}\n\x1e2\n", [b"2"], 1),
        (b'\x1e{"a":\n\x1e2\n', [b"2"], 1),
        (b'\x1e"a\nb"\n\x1e2\n', [b"2"], 1),
        (b"\x1e\n\x1e \x1e1\n", [b"1"], 2),
        (b"\n\x1e1\n", [b"1"], 1),
        (b"\xef\xbb\xbf\x1e1\n", [b"1"], 1),
        (b"\x1e\xef\xbb\xbf1\n", [], 1),
        (b'\x1e"\xff"\n\x1e"\\ud800"\n\x1e"\xed\xa0\x80"\n', [], 3),
        (b"\x1e1,\n\x1e[1,]\n\x1e{1:1}\n\x1e01\n\x1e+1\n\x1e'a'\n", [], 6),
        (b"\x1e-Infinity\n\x1eNaN\n\x1e[NaN]\n", [], 3),
        (RS + b"[" * 202 + b"]" * 202 + b"\n\x1e2\n", [b"2"], 1),
    ],
)
def test_what_is_no_json_text_is_skipped_and_counted(
    body: bytes, frames: list[bytes], skipped: int
) -> None:
    for chunks in cuts(body):
        assert decode(*chunks) == Reading(frames, skipped)


def test_what_is_skipped_is_counted_as_soon_as_it_is_known() -> None:
    decoder = JSONSeqDecoder()
    counts: list[int] = []
    for data in (b"x", b"y\x1e", b"{]\n", b"}\n\x1e1\n", b"1", b"2\x1e3", b"\x1e"):
        decoder.decode(data)
        counts.append(decoder.skipped)
    assert counts == [1, 1, 2, 2, 3, 3, 4]


def test_the_builder_writes_what_comes_out() -> None:
    values = [None, "\x1e\n", {"a": [1]}]
    frames = decode(json_seq(*values)).frames
    assert [from_json(frame) for frame in frames] == values


# The limit


@pytest.mark.parametrize(
    "body", [b"\x1e1234567 ", b"\x1e1\n\x1e12345678\n\n\n\x1e1\n", b"\x1e\n[\n12\n\n]\n"]
)
def test_a_text_may_be_as_large_as_the_limit_and_no_larger(body: bytes) -> None:
    expected = decode(body)
    assert expected.frames
    for chunks in cuts(body):
        assert expected == decode(*chunks, max_event_bytes=8)
        assert decode(*chunks, max_event_bytes=7).too_large


@thorough
@given(chunked_bodies, st.integers(0, 12))
@example([b"\x1e[\n", b"\x1e1\n"], 1)
def test_the_verdict_on_the_size_does_not_depend_on_the_cuts(
    chunks: list[bytes], max_event_bytes: int
) -> None:
    body = b"".join(chunks)
    expected = decode(body, max_event_bytes=max_event_bytes)
    assert expected == decode(*chunks, max_event_bytes=max_event_bytes)
    assert expected == decode(*bytewise(body), max_event_bytes=max_event_bytes)
    assert expected == read(body, max_event_bytes)


def test_a_text_too_large_is_not_skipped_even_if_it_is_malformed() -> None:
    for chunks in cuts(b"\x1e12345x789\n\x1e1\n"):
        assert decode(*chunks, max_event_bytes=8) == Reading(too_large=True)


def test_texts_before_one_too_large_come_out_first() -> None:
    decoder = JSONSeqDecoder(max_event_bytes=4)
    assert decoder.decode(b"\x1e1\n\x1e\x1e2\n\x1e34567\n\x1e8\n") == [b"1", b"2"]
    for _ in range(2):
        with pytest.raises(EventTooLarge, match=r"at most 4 bytes, but event 2\b"):
            decoder.decode(b"\x1e9\n")
        with pytest.raises(EventTooLarge) as caught:
            decoder.flush()
        assert (caught.value.limit, caught.value.index) == (4, 2)


# What it costs


@pytest.mark.parametrize("size", [1, 4 * KIB])
@pytest.mark.parametrize("endless", [b"x", b" ", b"\n", b"[", b'["a",\n'])
def test_a_text_that_never_ends_is_refused_before_its_memory_is_spent(
    endless: bytes, size: int
) -> None:
    limit = max(2 * KIB, 4 * size)
    body = RS + endless * (2 * limit // len(endless))
    actual = burden(
        JSONSeqDecoder(max_event_bytes=limit), pieces(body, size), burden_allowed(limit, size)
    )
    assert actual.failed
    assert actual.held < burden_allowed(limit, size)


@pytest.mark.parametrize("size", [1, 4 * KIB])
@pytest.mark.parametrize(
    ("begin", "endless"),
    [
        (b"", b"x"),
        (b"", b"\x1e"),
        (b"", b"\x1e1\n"),
        (b"", b"\x1e{\n}\n"),
        (b"", b"\x1e}\n"),
        (b"\x1e1\n", b"\n"),
        (b"\x1e1\n", b"x\n"),
        (b"\x1e}\n", b"}\n"),
    ],
)
def test_texts_and_what_is_between_them_may_go_on_for_ever(
    begin: bytes, endless: bytes, size: int
) -> None:
    limit = max(2 * KIB, 4 * size)
    body = begin + endless * (2 * limit // len(endless))
    actual = burden(
        JSONSeqDecoder(max_event_bytes=limit), pieces(body, size), burden_allowed(limit, size)
    )
    assert not actual.failed
    assert actual.held < burden_allowed(limit, size)


@pytest.mark.parametrize("repeated", [b"x", b"[", b'"\\"'])
def test_the_work_for_a_byte_does_not_grow_with_what_is_held(repeated: bytes) -> None:
    body = b"\x1e[" + repeated * (16 * KIB // len(repeated))
    assert costly_calls(JSONSeqDecoder(), body) < 100


@pytest.mark.parametrize("repeated", [b"\x1e1\n", b"\x1e", b"\n", b"}\n", b'"a",\n', b'\\"', b"]["])
def test_the_work_for_a_byte_does_not_grow_with_what_came_with_it(repeated: bytes) -> None:
    def seconds(size: int) -> float:
        body = b'\x1e["' + repeated * (size // len(repeated)) + b"\n"
        began = time.thread_time()
        outcome(JSONSeqDecoder(), [body])
        return time.thread_time() - began

    short = min(seconds(16 * KIB) for _ in range(3))
    assert seconds(8 * 16 * KIB) < 24 * short + 0.05
