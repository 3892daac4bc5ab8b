"""Farewells are found among the frames, however these arrive, and nothing else is lost."""

import pytest
from h2.exceptions import ProtocolError
from hyperframe.frame import DataFrame, GoAwayFrame, PingFrame

from streamsession.http2._frames import Farewell, Frames
from streamsession.testing import every_split

DATA = DataFrame(1, data=b"x" * 300).serialize()
PING = PingFrame(0, opaque_data=b"12345678").serialize()
LEAVING = GoAwayFrame(0, last_stream_id=7, error_code=0).serialize()
CALMER = GoAwayFrame(
    0, last_stream_id=2**31 - 1, error_code=11, additional_data=b"calm"
).serialize()
FAREWELLS = [Farewell(7, "code 0"), Farewell(2**31 - 1, "code 11 'calm'")]


def fed(*pieces: bytes) -> tuple[bytes, list[Farewell]]:
    frames, others, farewells = Frames(), b"", list[Farewell]()
    for piece in pieces:
        whole, found = frames.feed(piece)
        others += whole
        farewells += found
    return others, farewells


def test_farewells_are_taken_out() -> None:
    assert fed(DATA + LEAVING + PING + CALMER + DATA) == (DATA + PING + DATA, FAREWELLS)


def test_little_is_shown_of_what_a_farewell_adds() -> None:
    long = GoAwayFrame(0, last_stream_id=1, error_code=0, additional_data=b"x" * 9000)
    _, (farewell,) = fed(long.serialize())
    assert farewell.why == f"code 0 '{'x' * 200}'"


def test_it_is_the_same_however_it_is_cut() -> None:
    wire = LEAVING + PING + CALMER + PING
    for pieces in every_split(wire):
        assert fed(*pieces) == (PING + PING, FAREWELLS)


def test_only_whole_frames_are_let_through() -> None:
    assert fed(PING + DATA[:-1]) == (PING, [])
    assert fed(PING[:8]) == (b"", [])


def test_a_frame_that_is_too_large_is_refused_at_once() -> None:
    with pytest.raises(ProtocolError, match="a frame of 16385 bytes"):
        fed(PING, b"\x00\x40\x01\x00\x00\x00\x00\x00\x01")
    with pytest.raises(ProtocolError):
        fed(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_farewell_that_is_too_short_is_left_to_h2() -> None:
    short = b"\x00\x00\x04\x07\x00\x00\x00\x00\x00" + bytes(4)
    assert fed(short + PING) == (short + PING, [])


@pytest.mark.parametrize("size", [0, 16384])
def test_frames_of_any_allowed_size_are_let_through(size: int) -> None:
    wire = DataFrame(1, data=bytes(size)).serialize()
    assert fed(*[wire] * 3) == (wire * 3, [])
