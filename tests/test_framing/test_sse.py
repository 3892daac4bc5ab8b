import gc
import re
import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamsession._errors import EventTooLarge
from streamsession._framing import Decoder, ServerSentEvent, SSEDecoder
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

DECODER: type[Decoder[ServerSentEvent]] = SSEDecoder

chunked_bodies = chunks_of(
    b"data: x\n\n",
    b"event: y\ndata: z\n\n",
    b"data",
    b"data:\n",
    b"id",
    b"event",
    b"retry",
    b":",
    b" ",
    b"\n",
    b"\n\n",
    b"\r",
    b"\r\n",
    b"\0",
    b"12",
    b"x",
    "\ufeff".encode(),
    "\u2028".encode(),
    "\N{WAVING HAND SIGN}".encode(),
    b"\xff",
)


class Reading(NamedTuple):
    events: list[ServerSentEvent]
    last_event_id: str
    retry: int | None


def read_by_the_standard(body: bytes) -> Reading:
    """A second opinion: the standard's steps over the whole text, no matter what they cost."""
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    events: list[ServerSentEvent] = []
    data = kind = id_buffer = last_event_id = ""
    retry: int | None = None
    for line in re.findall(r"([^\r\n]*)(?:\r\n|\r|\n)", text):
        if line == "":
            last_event_id = id_buffer
            if data:
                events.append(ServerSentEvent(kind or "message", data[:-1], id_buffer, retry))
            data = kind = ""
        field = re.fullmatch(r"([^:]+)(?:: ?(.*))?", line, re.DOTALL)
        name, value = field.groups(default="") if field else ("", "")
        if name == "data":
            data += value + "\n"
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            id_buffer = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            retry = int(value)
    return Reading(events, last_event_id, retry)


def decode(*chunks: bytes, max_event_bytes: int = KIB) -> Outcome[ServerSentEvent]:
    return outcome(SSEDecoder(max_event_bytes=max_event_bytes), chunks)


def fed(*chunks: bytes) -> SSEDecoder:
    """A decoder that has got these chunks."""
    decoder = SSEDecoder()
    for chunk in chunks:
        decoder.decode(chunk)
    return decoder


def data_of(events: Iterable[ServerSentEvent]) -> list[str]:
    return [event.data for event in events]


# The standard


@pytest.mark.parametrize("case", cases("sse_cases.json"))
def test_a_conformance_case_holds_at_every_cut(case: dict[str, Any]) -> None:
    expected = [ServerSentEvent(**event) for event in case["expect"]]
    assert expected == outcome(SSEDecoder(), case["chunks"]).frames
    for chunks in cuts(b"".join(case["chunks"])):
        assert expected == outcome(SSEDecoder(), chunks).frames


@thorough
@given(chunked_bodies)
def test_it_agrees_with_the_standard_however_the_bytes_are_cut(chunks: list[bytes]) -> None:
    body = b"".join(chunks)
    expected = read_by_the_standard(body)
    for cut in (chunks, [body], bytewise(body)):
        decoder = SSEDecoder()
        actual = [event for chunk in cut for event in decoder.decode(chunk)]
        assert expected == Reading(actual, decoder.last_event_id, decoder.retry)


text_line = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"))


@thorough
@given(
    st.lists(st.tuples(text_line, st.lists(text_line, min_size=1).map("\n".join), text_line)),
    st.integers(1, 64),
)
def test_what_was_encoded_comes_out_again(sent: list[tuple[str, str, str]], size: int) -> None:
    body = b""
    for kind, data, id_ in sent:
        lines = [f"event: {kind}", f"id: {id_}", *(f"data: {line}" for line in data.split("\n"))]
        body += "".join(f"{line}\n" for line in [*lines, ""]).encode()
    expected = [ServerSentEvent(kind or "message", data, id_) for kind, data, id_ in sent]
    assert expected == outcome(SSEDecoder(), pieces(body, size)).frames


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_is_due_as_soon_as_its_blank_line_is_in(end: bytes) -> None:
    decoder = fed(b": the start" + end)
    for text in ("a", "b"):
        assert decoder.decode(b"data: " + text.encode() + end) == []
        assert data_of(decoder.decode(end)) == [text]


def test_a_chunk_of_whole_events_is_cut_at_once_with_the_id_and_time_set_before() -> None:
    decoder = fed(b"id: 7\nretry: 90\n\n")
    expected = [
        ServerSentEvent("message", "1", "7", 90),
        ServerSentEvent("go", "\N{SNOWMAN}", "7", 90),
        ServerSentEvent("message", "", "7", 90),
    ]
    body = "data: 1\n\nevent: go\ndata: \N{SNOWMAN}\n\nevent: \ndata: \n\n".encode()
    assert expected == decoder.decode(body)


def test_a_byte_order_mark_after_a_chunk_of_whole_events_is_not_dropped() -> None:
    bom = "\ufeff".encode()
    for start in (b"", b"\n", b": comment\n\n"):
        assert data_of(decode(start, b"data: 1\n\n", bom + b"data: 2\n\n").frames) == ["1"]


def test_whole_events_after_a_line_that_has_begun_belong_to_that_line() -> None:
    assert decode(b"\n", b": comment ", b"data: 1\n\n", b"data: 2\n\n").frames == [
        ServerSentEvent(data="2")
    ]


def test_an_empty_chunk_between_cr_and_lf_does_not_part_them() -> None:
    assert data_of(decode(b"data: a\r", b"", b"\ndata: b\n\n").frames) == ["a\nb"]


# State


def test_the_last_event_id_counts_from_the_end_of_its_block() -> None:
    decoder = fed(b"id: 1\ndata: x\n\n", b"id: 2\ndata: half")
    assert decoder.last_event_id == "1"
    decoder.decode(b"\n\n")
    assert decoder.last_event_id == "2"


def test_a_block_without_data_sets_the_last_event_id_and_the_retry_time() -> None:
    decoder = fed(b"id: 3\nretry: 250\n\n")
    assert (decoder.last_event_id, decoder.retry) == ("3", 250)
    decoder.decode(b"id\n\n")
    assert decoder.last_event_id == ""


def test_nothing_is_known_of_ids_and_times_before_they_are_sent() -> None:
    decoder = fed(b"data: x\n\n")
    assert (decoder.last_event_id, decoder.retry) == ("", None)


def test_a_retry_line_without_its_end_sets_no_time() -> None:
    assert fed(b"retry: 30").retry is None


def test_a_retry_time_beyond_all_floats_is_ignored() -> None:
    assert fed(b"retry: " + b"9" * 308 + b"\n").retry == 10**308 - 1
    assert fed(b"retry: 5\nretry: " + b"9" * 309 + b"\n").retry == 5
    assert fed(b"retry: " + b"9" * 5000 + b"\n").retry is None


# The end of the body


@pytest.mark.parametrize(
    ("tail", "unfinished"),
    [
        (b"", None),
        (b"data: x\n\n", None),
        (b"data: x\r\r", None),
        (b": comment", None),
        (b"event: go\n", None),
        (b"id: 2", None),
        (b"data: x", ServerSentEvent("message", "x", "1")),
        (b"data: x\n", ServerSentEvent("message", "x", "1")),
        (b"data: x\r", ServerSentEvent("message", "x", "1")),
        (b"data: x\r\n", ServerSentEvent("message", "x", "1")),
        (b"data: x\nevent: go", ServerSentEvent("go", "x", "1")),
        (b"data: x\nid: 2\ndata", ServerSentEvent("message", "x\n", "2")),
        (b"data: \xe2\x82", ServerSentEvent("message", "\ufffd", "1")),
    ],
)
def test_what_the_end_of_the_body_cut_short_is_not_an_event_but_told(
    tail: bytes, unfinished: ServerSentEvent | None
) -> None:
    decoder = fed(b"id: 1\ndata: whole\n\n", tail)
    assert decoder.flush() == []
    assert unfinished == decoder.unfinished


@thorough
@given(chunked_bodies)
def test_the_unfinished_event_is_the_one_that_a_blank_line_brings(chunks: list[bytes]) -> None:
    decoder = fed(*chunks)
    unfinished = decoder.unfinished
    assert decoder.decode(b"\n\n") == ([] if unfinished is None else [unfinished])


def test_asking_for_the_unfinished_event_changes_nothing() -> None:
    decoder = fed(b"retry: 1\n\ndata: a\nretry: 23")
    assert decoder.unfinished == ServerSentEvent("message", "a", "", 23)
    assert decoder.retry == 1
    assert data_of(decoder.decode(b"4\ndata: b\n\n")) == ["a\nb"]
    assert decoder.retry == 234


def test_an_unfinished_event_that_is_too_large_is_none() -> None:
    decoder = SSEDecoder(max_event_bytes=1)
    assert data_of(decoder.decode(b"data: a\n\ndata: bc")) == ["a"]
    assert decoder.unfinished is None


# The limit


@pytest.mark.parametrize(
    "body",
    [
        b"data: 12345678\n\n",
        b"data:12345678\r\n\r\n",
        b"data: 1234\ndata:678\n\n",
        b"data: \xe2\x82\xac45678\n\n",
        b"event:x\ndata:\n\n",
        b"id: 12\ndata: 8\n\n",
        b":234567\n:234567\n:234567\ndata: 12345678\n\n",
        b"data: 12345678\n\nid: 5678\n\ndata: 12345678\n\n",
    ],
)
def test_an_event_may_be_as_large_as_the_limit_and_no_larger(body: bytes) -> None:
    expected = decode(body)
    for chunks in cuts(body):
        assert expected == decode(*chunks, max_event_bytes=8)
        assert decode(*chunks, max_event_bytes=7).too_large is not None


@thorough
@given(chunked_bodies, st.integers(0, 12))
@example([b"data: 1\ndat", b"a:2"], 3)
@example([b"\xef\xbb", b"\xbf"], 1)
def test_the_verdict_on_the_size_does_not_depend_on_the_cuts(
    chunks: list[bytes], max_event_bytes: int
) -> None:
    body = b"".join(chunks)
    expected = decode(body, max_event_bytes=max_event_bytes)
    assert expected == decode(*chunks, max_event_bytes=max_event_bytes)
    assert expected == decode(*bytewise(body), max_event_bytes=max_event_bytes)
    assert expected.frames == decode(body).frames[: len(expected.frames)]
    assert expected.too_large in (None, (max_event_bytes, len(expected.frames)))


@thorough
@given(chunked_bodies)
def test_no_body_within_the_limit_is_refused(chunks: list[bytes]) -> None:
    assert decode(*chunks, max_event_bytes=len(b"".join(chunks))).too_large is None


@pytest.mark.parametrize("line", [b"dat", b"d: 456", b"dat:456789"])
def test_a_line_whose_name_only_begins_like_data_counts_whole(line: bytes) -> None:
    for chunks in cuts(line + b"\n"):
        assert decode(*chunks, max_event_bytes=len(line)).too_large is None
        assert decode(*chunks, max_event_bytes=len(line) - 1).too_large is not None


def test_events_before_one_too_large_come_out_first() -> None:
    decoder = SSEDecoder(max_event_bytes=4)
    before = decoder.decode(b"data: 1\n\ndata: 2\n\ndata: 34567\n\ndata: 8\n\n")
    assert data_of(before) == ["1", "2"]
    for _ in range(2):
        with pytest.raises(EventTooLarge, match=r"at most 4 bytes, but event 2\b"):
            decoder.decode(b"data: 9\n\n")
        with pytest.raises(EventTooLarge) as caught:
            decoder.flush()
        assert (caught.value.limit, caught.value.index) == (4, 2)


def test_a_decoder_that_failed_is_freed_with_its_error() -> None:
    decoder = SSEDecoder(max_event_bytes=1)
    gone = weakref.ref(decoder)
    gc.disable()
    try:
        with pytest.raises(EventTooLarge):
            decoder.decode(b"data: 123")
        del decoder
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("size", [1, 16 * KIB])
@pytest.mark.parametrize(
    ("start", "endless"),
    [
        (b"", b"data: 0123456789abcdef\n"),
        (b"", b"data:\n"),
        (b"", b"id: 0123456789abcdef\n"),
        (b"", b"event: 0123456789abcdef\n"),
        (b"", b"unknown: 0123456789abcdef\n"),
        (b"data: ", b"x"),
        (b"id: ", b"x"),
        (b": ", b"x"),
        (b"", b"x"),
        (b"id: x\ndata: x\nevent: ", b"x"),
    ],
)
def test_an_event_that_never_ends_is_refused_before_its_memory_is_spent(
    start: bytes, endless: bytes, size: int
) -> None:
    limit = max(2 * KIB, 4 * size)
    body = start + endless * (2 * limit)
    actual = burden(
        SSEDecoder(max_event_bytes=limit), pieces(body, size), burden_allowed(limit, size)
    )
    assert actual.failed
    assert actual.held < burden_allowed(limit, size)


@pytest.mark.parametrize("size", [1, 16 * KIB])
@pytest.mark.parametrize(
    "endless", [b": x\n", b": x\n\n", b"data: %b\n\n" % (b"x" * 500), b"id: x\n\n", b"\r"]
)
def test_what_makes_no_event_large_may_go_on_for_ever(endless: bytes, size: int) -> None:
    limit = max(2 * KIB, 4 * size)
    body = endless * (4 * limit // len(endless))
    actual = burden(
        SSEDecoder(max_event_bytes=limit), pieces(body, size), burden_allowed(limit, size)
    )
    assert not actual.failed
    assert actual.held < burden_allowed(limit, size)


@pytest.mark.parametrize("endless", [b"x", b"data: x\n", b": x\n", b"data: x\n\n"])
def test_the_work_for_a_byte_does_not_grow_with_what_is_held(endless: bytes) -> None:
    body = b"data: " + endless * (16 * KIB // len(endless))
    assert costly_calls(SSEDecoder(), body) < 100
