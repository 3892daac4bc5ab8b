import base64
import copy
import gc
import pickle
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamsession._errors import DecodeError, EventTooLarge, StreamTruncated
from streamsession._framing import Decoder
from streamsession._framing._event_stream import EventStreamDecoder
from streamsession._framing._message import EventStreamMessage, HeaderValue
from streamsession.testing import event_stream, event_stream_message
from tests.fuzz.event_stream import HEADERS, PARTS, Reading, message, read
from tests.test_framing.cuts import (
    KIB,
    Outcome,
    burden,
    burden_allowed,
    bytewise,
    cases,
    costly_calls,
    cuts,
    outcome,
    pieces,
    thorough,
)

DECODER: type[Decoder[EventStreamMessage]] = EventStreamDecoder

KINDS = {
    "prelude_crc": "prelude checksum",
    "message_crc": "message checksum",
    "length": "length",
    "header": "header",
    "truncated": "truncated",
}
NAME = "expected a name of {} bytes and a type, but the headers end"
DELTA = event_stream_message({"text": "Hi"}, event="delta")
TWO = DELTA + message(b"", b"two")


def decode(*chunks: bytes, max_event_bytes: int = 256 * KIB) -> Outcome[EventStreamMessage]:
    return outcome(EventStreamDecoder(max_event_bytes=max_event_bytes), chunks)


def reading(result: Outcome[EventStreamMessage]) -> Reading:
    """What came out, as the second opinion tells it."""
    kind = "too large" if result.too_large else "truncated" if result.truncated else ""
    what = result.damage.partition(":")[0]
    return Reading(result.frames, kind or ("header" if what.startswith("header ") else what))


def decoded(*messages: bytes) -> list[EventStreamMessage]:
    """The frames of a body that is whole."""
    result = decode(*messages)
    assert result == Outcome(result.frames)
    return result.frames


def types_and_values(headers: Iterable[tuple[str, Any]]) -> list[tuple[str, type, Any]]:
    """Of which True is not 1."""
    return [(name, type(value), value) for name, value in headers]


def flipped(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def prelude(size: int, headers_size: int) -> bytes:
    """The first 12 bytes of a message, with the right checksum."""
    return message(lie=headers_size, longer=size - 16)[:12]


@st.composite
def chunked_bodies(draw: st.DrawFn) -> list[bytes]:
    """Bodies of messages and of what is none, cut anywhere."""
    block = st.lists(st.sampled_from(HEADERS), max_size=3, unique=True).map(b"".join)
    parts = st.lists(st.sampled_from(PARTS), max_size=3).map(b"".join)
    off = st.sampled_from([0] * 9 + [-1, 1, 9, 2**17])
    whole = st.builds(message, block | parts, parts)
    lying = st.builds(message, block, parts, lie=off, longer=off)
    spoilt = st.builds(flipped, whole, st.integers(0, 15))
    body = b"".join(draw(st.lists(whole | whole | lying | spoilt | parts, max_size=5)))
    places = sorted(draw(st.lists(st.integers(0, len(body)), max_size=6)))
    return [body[i:j] for i, j in zip([0, *places], [*places, len(body)], strict=True)]


def as_sent(value: tuple[str, int] | HeaderValue) -> HeaderValue:
    return value[1] if isinstance(value, tuple) else value


def as_expected(kind: int, value: Any) -> Any:
    """The value of a header in a conformance case."""
    return base64.b64decode(value) if kind == 6 else UUID(value) if kind == 9 else value


# The format


@pytest.mark.parametrize("case", cases("awseventstream_cases.json"))
def test_a_conformance_case_holds_at_every_cut(case: dict[str, Any]) -> None:
    expected = decode(*case["chunks"])
    assert reading(expected).kind == (KINDS[case["error"]["kind"]] if case["error"] else "")
    for frame, sent in zip(expected.frames, case["expect"], strict=True):
        headers = [(name, as_expected(kind, value)) for name, kind, value in sent["headers"]]
        assert types_and_values(headers) == types_and_values(frame.headers.items())
        assert base64.b64decode(sent["payload"]) == frame.payload
    for chunks in cuts(b"".join(case["chunks"])):
        assert expected == decode(*chunks)


@thorough
@given(chunked_bodies())
def test_it_agrees_with_the_format_however_the_bytes_are_cut(chunks: list[bytes]) -> None:
    body = b"".join(chunks)
    expected = read(body)
    result = decode(*chunks, max_event_bytes=10**9)
    assert repr(expected) == repr(reading(result))
    assert result == decode(body, max_event_bytes=10**9)
    assert result == decode(*bytewise(body), max_event_bytes=10**9)


texts = st.text(st.characters(codec="utf-8"))
names = texts.filter(lambda name: 1 <= len(name.encode()) <= 255)
values = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(),
    texts,
    st.uuids(),
    st.tuples(st.just("byte"), st.integers(-(2**7), 2**7 - 1)),
    st.tuples(st.just("short"), st.integers(-(2**15), 2**15 - 1)),
    st.tuples(st.just("integer"), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just("long"), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just("timestamp"), st.integers(-(2**63), 2**63 - 1)),
)


@thorough
@given(st.lists(st.tuples(st.dictionaries(names, values), st.binary())), st.integers(1, 64))
def test_what_was_encoded_comes_out_again(
    sent: list[tuple[dict[str, Any], bytes]], size: int
) -> None:
    body = event_stream(*(event_stream_message(data, headers=headers) for headers, data in sent))
    for frame, (headers, payload) in zip(decoded(*pieces(body, size)), sent, strict=True):
        expected = [(name, as_sent(value)) for name, value in headers.items()]
        assert types_and_values(expected) == types_and_values(frame.headers.items())
        assert payload == frame.payload


def test_a_message_is_due_as_soon_as_its_last_byte_is_in() -> None:
    decoder = EventStreamDecoder()
    for _ in range(2):
        assert decoder.decode(DELTA[:-1]) == []
        assert [frame.payload for frame in decoder.decode(DELTA[-1:])] == [b'{"text":"Hi"}']
    assert decoder.flush() == []


@pytest.mark.parametrize("milliseconds", [-(2**63), -1, 0, 1_700_000_000_123, 2**63 - 1])
def test_a_timestamp_of_any_size_is_kept_to_the_millisecond(milliseconds: int) -> None:
    body = event_stream_message(headers={":date": ("timestamp", milliseconds)})
    assert decoded(body)[0].headers == {":date": milliseconds}


def test_messages_with_the_same_headers_do_not_share_them() -> None:
    first, second = decoded(DELTA + DELTA)
    assert first == second
    assert first.headers is not second.headers


def test_long_headers_come_out_as_often_as_they_were_sent() -> None:
    long_ = event_stream_message(event="x" * 1000)
    assert [frame.event_type for frame in decoded(long_ + DELTA + long_)] == [
        "x" * 1000,
        "delta",
        "x" * 1000,
    ]


# What a message says of itself


@pytest.mark.parametrize(
    ("body", "message_type", "event_type", "error_message"),
    [
        (event_stream_message(event="delta"), "event", "delta", ""),
        (event_stream_message(exception="throttled"), "exception", "throttled", ""),
        (event_stream_message(error=("Internal", "try again")), "error", "Internal", "try again"),
        (
            event_stream_message(headers={":message-type": "new", ":event-type": "x"}),
            "new",
            "x",
            "",
        ),
        (event_stream_message(headers={":event-type": "x"}), "", "x", ""),
        (event_stream_message(headers={":message-type": "error"}), "error", "", ""),
        (event_stream_message(headers={":message-type": "exception"}), "exception", "", ""),
        (event_stream_message(headers={":message-type": 1, ":event-type": b"x"}), "", "", ""),
        (event_stream_message(b"x"), "", "", ""),
    ],
)
def test_a_message_says_what_it_is(
    body: bytes, message_type: str, event_type: str, error_message: str
) -> None:
    (frame,) = decoded(body)
    assert frame.message_type == message_type
    assert frame.event_type == event_type
    assert frame.error_message == error_message


def test_a_message_can_be_copied_and_kept() -> None:
    (frame,) = decoded(DELTA)
    assert copy.deepcopy(frame) == frame == pickle.loads(pickle.dumps(frame))  # noqa: S301 - ours


# Damage


@pytest.mark.parametrize(
    ("body", "damage"),
    [
        (flipped(message(), 3), "prelude checksum: it says 05c248eb, its bytes give 38a2615b"),
        (flipped(message(), 15), "message checksum: it says 7d98c8fe, its bytes give 7d98c8ff"),
        (prelude(15, 0), "length: a message of 15 bytes, expected at least 16"),
        (prelude(20, 5), "length: headers of 5 bytes in a message of 20, which has room for 4"),
        (prelude(2**20, 2**17 + 1), "length: headers of 131073 bytes, expected at most 131072"),
        (
            message(b"\x01a\0\0\0"),
            "header 1, counted from 0: expected a name of 1 to 255 bytes, got none",
        ),
        (message(b"\x01a\0\x03b"), f"header 1, counted from 0: {NAME.format(3)} after 1"),
        (message(b"\x01a"), f"header 0, counted from 0: {NAME.format(1)} after 1"),
        (message(b"\x02\xc3(\0"), r"header 0, counted from 0: expected UTF-8, got b'\xc3('"),
        (message(b"\x01a\x0a"), "header 'a': expected a type from 0 to 9, got 10"),
        (
            message(b"\x01a\x05\0\0"),
            "header 'a': expected 8 more bytes, but the headers end after 2",
        ),
        (
            message(b"\x01a\x07\0"),
            "header 'a': expected 2 more bytes, but the headers end after 1",
        ),
        (
            message(b"\x01a\x06\0\x03xx"),
            "header 'a': expected 3 more bytes, but the headers end after 2",
        ),
        (message(b"\x01a\x07\0\x02\xc3("), r"header 'a': expected UTF-8, got b'\xc3('"),
        (message(b"\x01a\0\x01a\x01"), "header 'a': expected once, came twice"),
    ],
)
def test_damage_is_told_with_what_was_expected_and_what_came(body: bytes, damage: str) -> None:
    assert decode(body).damage == damage


@pytest.mark.parametrize("size", [12, 17, 2**31, 2**32 - 1])
def test_a_wrong_prelude_is_known_when_its_12_bytes_are_in(size: int) -> None:
    decoder = EventStreamDecoder()
    wrong = flipped(prelude(size, 0), 11)
    assert decoder.decode(wrong[:11]) == []
    with pytest.raises(DecodeError, match="prelude checksum"):
        decoder.decode(wrong[11:])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (flipped(prelude(15, 9), 11), "prelude checksum"),
        (prelude(2**31, 2**30), "length"),
        (flipped(message(b"", bytes(1000)), 20), "too large"),
        (flipped(message(b"\x01a\xff"), 13), "message checksum"),
        (message(b"\x01a\xff"), "header"),
    ],
)
def test_what_is_wrong_first_is_told(body: bytes, kind: str) -> None:
    for chunks in ([body], list(bytewise(body))):
        assert reading(decode(*chunks, max_event_bytes=999)).kind == kind


@pytest.mark.parametrize(
    "wrong", [flipped(DELTA, 3), flipped(DELTA, 20), prelude(1, 1), message(b"\0")]
)
def test_messages_before_a_broken_one_come_out_first(wrong: bytes) -> None:
    decoder = EventStreamDecoder()
    assert len(decoder.decode(TWO + wrong + DELTA)) == 2
    told: set[str] = set()
    for call in (decoder.flush, lambda: decoder.decode(DELTA), decoder.flush):
        with pytest.raises(DecodeError, match="event 2, counted from 0, cannot be cut") as caught:
            call()
        assert (caught.value.index, caught.value.frame) == (2, None)
        assert caught.value.reason
        told.add(str(caught.value))
    assert len(told) == 1


def test_headers_may_be_as_long_as_the_format_allows_and_no_longer() -> None:
    half = b"\x06\xff\xfa" + bytes(65530)  # with a name of 2 bytes, of 64 KiB
    longest = b"\x02a1" + half + b"\x02a2" + half
    assert len(longest) == 128 * KIB
    assert list(decoded(message(longest))[0].headers) == ["a1", "a2"]
    damage = "length: headers of 131073 bytes, expected at most 131072"
    assert decode(message(longest + b"\0")).damage == damage


# The end of the body


def test_a_body_may_end_between_messages_and_nowhere_else() -> None:
    for end in range(len(TWO) + 1):
        result = decode(TWO[:end])
        assert len(result.frames) == (end >= len(DELTA)) + (end == len(TWO))
        assert bool(result.truncated) == (end not in (0, len(DELTA), len(TWO)))
        assert result == decode(*bytewise(TWO[:end]))


@pytest.mark.parametrize(
    ("tail", "told"),
    [
        (message()[:11], "inside the prelude of a message: 11 of its 12 bytes came"),
        (message()[:12], "inside a message: 12 of its 16 bytes came"),
        (DELTA[:-1], f"inside a message: {len(DELTA) - 1} of its {len(DELTA)} bytes came"),
    ],
)
def test_how_much_of_a_message_came_is_told_at_every_call(tail: bytes, told: str) -> None:
    decoder = EventStreamDecoder()
    assert len(decoder.decode(DELTA + tail)) == 1
    for _ in range(2):
        with pytest.raises(StreamTruncated, match=f"the body ended {told}"):
            decoder.flush()


# The limit


@pytest.mark.parametrize(
    "body",
    [
        message(b"", b"12345678"),
        message(b"\x01a\0\x01b\x01", b"78"),
        message(b"\x05found\0", b"8"),
        message() + message(b"", b"12345678") + message(b"\x01a\0"),
    ],
)
def test_a_message_may_be_as_large_as_the_limit_and_no_larger(body: bytes) -> None:
    expected = decode(body)
    assert expected.frames
    for chunks in cuts(body):
        assert expected == decode(*chunks, max_event_bytes=8)
        assert decode(*chunks, max_event_bytes=7).too_large is not None


@thorough
@given(chunked_bodies(), st.integers(0, 30))
@example([prelude(30, 0)], 13)
def test_the_verdict_on_the_size_does_not_depend_on_the_cuts(
    chunks: list[bytes], max_event_bytes: int
) -> None:
    body = b"".join(chunks)
    expected = read(body, max_event_bytes)
    result = decode(*chunks, max_event_bytes=max_event_bytes)
    assert repr(expected) == repr(reading(result))
    assert result == decode(*bytewise(body), max_event_bytes=max_event_bytes)
    assert result.too_large in (None, (max_event_bytes, len(result.frames)))


def test_messages_before_one_too_large_come_out_first() -> None:
    decoder = EventStreamDecoder(max_event_bytes=4)
    body = event_stream(*(message(b"", data) for data in (b"1", b"2", b"34567", b"8")))
    assert [frame.payload for frame in decoder.decode(body)] == [b"1", b"2"]
    for _ in range(2):
        with pytest.raises(EventTooLarge, match=r"at most 4 bytes, but event 2\b"):
            decoder.decode(message())
        with pytest.raises(EventTooLarge) as caught:
            decoder.flush()
        assert (caught.value.limit, caught.value.index) == (4, 2)


@pytest.mark.parametrize("size", [16 + 2**20 + 1, 2**31, 2**32 - 1])
def test_a_size_beyond_the_limit_is_refused_before_anything_is_held(size: int) -> None:
    decoder = EventStreamDecoder(max_event_bytes=2**20)
    with pytest.raises(EventTooLarge):
        decoder.decode(prelude(size, 0))
    decoder = EventStreamDecoder(max_event_bytes=2**20)
    actual = burden(decoder, [prelude(size, 0)[:11], prelude(size, 0)[11:] + bytes(2**19)])
    assert actual.failed
    assert actual.held < 4 * KIB


@pytest.mark.parametrize("wrong", [prelude(2**20, 2**21), message(b"", b"12345"), message(b"\0")])
def test_a_decoder_that_failed_is_freed_with_its_error(wrong: bytes) -> None:
    decoder = EventStreamDecoder(max_event_bytes=4)
    gone = weakref.ref(decoder)
    gc.disable()
    try:
        with pytest.raises(DecodeError):
            decoder.decode(wrong)
        del decoder
        assert gone() is None
    finally:
        gc.enable()


# What it costs


@pytest.mark.parametrize("size", [1, 4 * KIB])
def test_a_message_of_the_limit_is_held_once(size: int) -> None:
    limit = max(2 * KIB, 4 * size)
    body = message(b"", bytes(limit))[:-1]
    actual = burden(
        EventStreamDecoder(max_event_bytes=limit), pieces(body, size), burden_allowed(limit, size)
    )
    assert not actual.failed
    assert actual.held < burden_allowed(limit, size)


@pytest.mark.parametrize("size", [1, 4 * KIB])
@pytest.mark.parametrize(
    "endless",
    [
        message(),
        DELTA,
        message(b"", bytes(1500)),
        message(b"".join(HEADERS)),
        message(b"".join(b"\x02%02x\0" % number for number in range(256))),
    ],
)
def test_messages_may_go_on_for_ever(endless: bytes, size: int) -> None:
    limit = max(2 * KIB, 4 * size)
    body = endless * (2 * limit // len(endless))
    actual = burden(
        EventStreamDecoder(max_event_bytes=limit), pieces(body, size), burden_allowed(limit, size)
    )
    assert not actual.failed
    assert actual.held < burden_allowed(limit, size)


def test_the_work_for_a_byte_does_not_grow_with_what_is_held() -> None:
    assert costly_calls(EventStreamDecoder(), message(b"", bytes(16 * KIB))[:-1]) < 100


def test_the_work_for_a_message_does_not_grow_with_what_came_with_it() -> None:
    body = message() * 2**16

    def seconds(chunks: Sequence[bytes]) -> float:
        began = time.thread_time()
        assert len(decoded(*chunks)) == 2**16
        return time.thread_time() - began

    in_chunks = seconds(list(pieces(body, 4 * KIB)))
    assert seconds([body]) < 5 * in_chunks
