import contextlib
import socket
import time
from collections.abc import Callable

import pytest

from streamsession.testing import (
    HANG_UP,
    HOLD,
    RESET,
    ConnectionRecord,
    Ending,
    Gate,
    Pause,
    ScriptedResponse,
    ScriptedServer,
    Step,
)
from streamsession.testing._connection import ConnectionState
from streamsession.testing._script import Framing
from tests.test_testing.sockets import (
    GET,
    ask,
    close_with_reset,
    connect,
    has_nothing_to_receive,
    receive,
    receive_all,
)

POST = b"POST / HTTP/1.1\r\nHost: test\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED_HEAD = STREAM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

WAITING_STEPS: list[Callable[[], Step]] = [Gate, lambda: Pause(3600), lambda: HOLD]


def played(response: ScriptedResponse, request: bytes = GET) -> bytes:
    """All bytes of a response, which the request asks to be the last one."""
    request = request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    with ScriptedServer(response) as server, ask(server, request) as client:
        return receive_all(client)


def test_each_step_is_one_chunk() -> None:
    assert played(ScriptedResponse([b"one", b"", b"two three four"])) == (
        CHUNKED_HEAD + b"3\r\none\r\n" + b"e\r\ntwo three four\r\n" + b"0\r\n\r\n"
    )


def test_a_length_announces_all_steps() -> None:
    assert played(ScriptedResponse([b"one", b"two"], framing="length")) == (
        STREAM_HEAD + b"Content-Length: 6\r\n\r\n" + b"onetwo"
    )


def test_a_body_may_end_with_the_connection() -> None:
    with ScriptedServer(ScriptedResponse([b"one", b"two"], framing="close")) as server:
        with ask(server) as client:
            assert receive_all(client) == STREAM_HEAD + b"Connection: close\r\n\r\n" + b"onetwo"
        assert server.wait_closed().state == "server hung up"


def test_a_raw_response_is_what_its_steps_are() -> None:
    assert played(ScriptedResponse([b"HTTP/1.1 2", b"00\n:::\r\n"], framing="raw")) == (
        b"HTTP/1.1 200\n:::\r\n"
    )


def test_given_headers_replace_those_of_the_framing() -> None:
    response = ScriptedResponse(
        [b"one"], headers={"content-length": "10", "X-Id": "7"}, framing="length"
    )
    assert played(response) == STREAM_HEAD + b"content-length: 10\r\nX-Id: 7\r\n\r\none"


def test_no_content_type_and_an_unlisted_status_can_be_sent() -> None:
    response = ScriptedResponse(status=599, content_type=None, framing="length")
    assert played(response) == b"HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_status_without_body_is_only_a_head(framing: Framing) -> None:
    response = ScriptedResponse(status=204, framing=framing)
    assert played(response) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_head_is_answered_with_only_a_head() -> None:
    response = ScriptedResponse([b"one"])
    assert played(response, GET.replace(b"GET", b"HEAD")) == CHUNKED_HEAD


def test_a_raw_response_to_head_is_what_its_steps_are() -> None:
    response = ScriptedResponse([STREAM_HEAD, b"\r\n"], framing="raw")
    assert played(response, GET.replace(b"GET", b"HEAD")) == STREAM_HEAD + b"\r\n"


def test_a_step_is_sent_before_the_next_one_is_looked_at() -> None:
    gate = Gate()
    with ScriptedServer(ScriptedResponse([b"one", gate, b"two"])) as server, ask(server) as client:
        gate.wait_reached()
        sent = CHUNKED_HEAD + b"3\r\none\r\n"
        assert receive(client, len(sent)) == sent
        assert has_nothing_to_receive(client)
        gate.open()
        rest = b"3\r\ntwo\r\n0\r\n\r\n"
        assert receive(client, len(rest)) == rest
        server.wait_idle()
        assert server.connections == [ConnectionRecord(0, requests=1, state="idle")]


def test_a_pause_lasts_as_long_as_it_says() -> None:
    start = time.monotonic()
    played(ScriptedResponse([b"one", Pause(0.05), b"two"]))
    assert time.monotonic() - start >= 0.05


@pytest.mark.parametrize("cut", range(7))
def test_it_hangs_up_after_exactly_so_many_bytes(cut: int) -> None:
    response = ScriptedResponse([b"abc", b"def"], framing="length", hang_up_after=cut)
    with ScriptedServer(response) as server, ask(server) as client:
        head = STREAM_HEAD + b"Content-Length: 6\r\n\r\n"
        assert receive_all(client) == head + b"abcdef"[:cut]
        assert server.wait_closed().state == "server hung up"


def test_a_cut_chunked_body_has_no_last_chunk() -> None:
    response = ScriptedResponse([b"abc", b"def"], hang_up_after=5)
    with ScriptedServer(response) as server, ask(server) as client:
        assert receive_all(client) == CHUNKED_HEAD + b"3\r\nabc\r\n2\r\nde\r\n"


@pytest.mark.parametrize("cut", [0, 9])
def test_a_raw_response_is_cut_within_its_head(cut: int) -> None:
    response = ScriptedResponse([STREAM_HEAD], framing="raw", hang_up_after=cut)
    with ScriptedServer(response) as server, ask(server) as client:
        assert receive_all(client) == STREAM_HEAD[:cut]


def test_steps_before_a_cut_are_played() -> None:
    gate = Gate()
    response = ScriptedResponse([b"abc", gate, b"def"], hang_up_after=4)
    with ScriptedServer(response) as server, ask(server) as client:
        gate.wait_reached()
        gate.open()
        assert receive_all(client) == CHUNKED_HEAD + b"3\r\nabc\r\n1\r\nd\r\n"


def test_a_cut_comes_before_the_pause_behind_it() -> None:
    response = ScriptedResponse([b"abc", Pause(3600)], hang_up_after=3)
    with ScriptedServer(response) as server, ask(server) as client:
        assert receive_all(client) == CHUNKED_HEAD + b"3\r\nabc\r\n"


def test_it_resets_after_exactly_so_many_bytes() -> None:
    response = ScriptedResponse([b"abc", b"def"], framing="close", reset_after=4)
    with ScriptedServer(response) as server, ask(server) as client:
        sent = STREAM_HEAD + b"Connection: close\r\n\r\nabcd"
        assert receive(client, len(sent)) == sent
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert server.wait_closed().state == "server reset"


@pytest.mark.parametrize(
    ("ending", "state"), [(HANG_UP, "server hung up"), (RESET, "server reset")]
)
def test_an_ending_step_ends_the_connection(ending: Ending, state: ConnectionState) -> None:
    with ScriptedServer(ScriptedResponse([ending])) as server, ask(server) as client:
        with contextlib.suppress(ConnectionResetError):
            assert receive_all(client) == CHUNKED_HEAD
        assert server.wait_closed() == ConnectionRecord(0, requests=1, state=state)


@pytest.mark.parametrize("step", WAITING_STEPS)
@pytest.mark.parametrize("close", [socket.socket.close, close_with_reset])
def test_a_waiting_script_notices_that_the_client_goes_away(
    step: Callable[[], Step], close: Callable[[socket.socket], None]
) -> None:
    with ScriptedServer(ScriptedResponse([b"one", step()])) as server:
        client = ask(server)
        receive(client, len(CHUNKED_HEAD) + 8)
        close(client)
        assert server.wait_closed().state == "client closed"


@pytest.mark.parametrize("step", WAITING_STEPS)
def test_a_waiting_script_notices_that_the_server_stops(step: Callable[[], Step]) -> None:
    with ScriptedServer(ScriptedResponse([b"one", step()])) as server, ask(server) as client:
        receive(client, len(CHUNKED_HEAD) + 8)
        server.stop()
        assert server.connections[0].state == "server stopped"
        assert receive_all(client) == b""


@pytest.mark.parametrize("step", WAITING_STEPS)
def test_a_waiting_script_takes_in_what_the_client_sends(step: Callable[[], Step]) -> None:
    with ScriptedServer(ScriptedResponse([b"one", step()])) as server:
        client = ask(server)
        client.sendall(GET * 10_000)
        client.close()
        assert server.wait_closed().state == "client closed"


def test_a_large_step_goes_to_a_slow_reader() -> None:
    body = bytes(8 * 1024 * 1024)
    response = ScriptedResponse([body], framing="close", content_type=None)
    with ScriptedServer(response) as server, connect(server, receive_buffer=4096) as client:
        client.sendall(GET)
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        assert receive_all(client) == head + body


def test_a_client_that_goes_away_without_reading_ends_a_large_step() -> None:
    response = ScriptedResponse([bytes(64 * 1024 * 1024)])
    with ScriptedServer(response) as server:
        with connect(server, receive_buffer=4096) as client:
            client.sendall(GET)
            receive(client, 1)
            assert server.connections[0].state == "responding"
        assert server.wait_closed().state == "client closed"


def test_a_client_that_does_not_read_does_not_keep_the_server_from_stopping() -> None:
    response = ScriptedResponse([bytes(64 * 1024 * 1024)])
    with ScriptedServer(response) as server, connect(server, receive_buffer=4096) as client:
        client.sendall(GET)
        receive(client, 1)
        server.stop()
        assert server.connections[0].state == "server stopped"


def test_a_connection_serves_one_request_after_the_other() -> None:
    answers = [ScriptedResponse([b"one"], framing="length"), ScriptedResponse([b"two"])]
    with ScriptedServer(*answers) as server:
        with ask(server) as client:
            first = STREAM_HEAD + b"Content-Length: 3\r\n\r\none"
            assert receive(client, len(first)) == first
            client.sendall(GET)
            second = CHUNKED_HEAD + b"3\r\ntwo\r\n0\r\n\r\n"
            assert receive(client, len(second)) == second
        assert server.wait_closed() == ConnectionRecord(0, requests=2, state="client closed")
        assert [request.connection for request in server.requests] == [0, 0]


def test_requests_sent_at_once_are_answered_in_order() -> None:
    answers = [ScriptedResponse([text], framing="length") for text in (b"one", b"two")]
    with ScriptedServer(*answers) as server, ask(server, GET * 2) as client:
        head = STREAM_HEAD + b"Content-Length: 3\r\n\r\n"
        both = head + b"one" + head + b"two"
        assert receive(client, len(both)) == both


@pytest.mark.parametrize(
    ("request_bytes", "headers"),
    [
        (GET.replace(b"\r\n", b"\r\nconnection: x, Close\r\n", 1), {}),
        (GET, {"connection": "close"}),
    ],
)
def test_either_side_may_ask_to_close(request_bytes: bytes, headers: dict[str, str]) -> None:
    response = ScriptedResponse([b"one"], headers=headers)
    with ScriptedServer(response) as server, ask(server, request_bytes) as client:
        assert receive_all(client).endswith(b"one\r\n0\r\n\r\n")
        assert server.wait_closed().state == "server hung up"


def test_a_request_is_recorded_as_it_came() -> None:
    with ScriptedServer(ScriptedResponse()) as server:
        head = b"POST /a/b?c=%20 HTTP/1.1\r\nX-Id:  7\r\nx-id: \xe9\r\nContent-Length: 3\r\n\r\n"
        with ask(server, head + b"abc") as client:
            receive(client, 1)
        (request,) = server.requests
    assert (request.method, request.path, request.body) == ("POST", "/a/b?c=%20", b"abc")
    assert (request.headers["X-ID"], request.connection) == ("7, é", 0)


def test_a_chunked_request_is_recorded_without_its_chunks() -> None:
    with ScriptedServer(ScriptedResponse()) as server:
        body = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
        with ask(server, POST + b"Transfer-Encoding: chunked\r\n\r\n" + body + GET) as client:
            receive(client, len(CHUNKED_HEAD + b"0\r\n\r\n") + 1)
        assert [request.body for request in server.requests] == [b"abc0123456789", b""]


@pytest.mark.parametrize(
    ("request_bytes", "reason"),
    [
        (b"nonsense\r\n\r\n", b"the request line is 'nonsense'"),
        (b"GET / SPDY/3\r\n\r\n", b"the request line is 'GET / SPDY/3'"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"a header line is b'no colon'"),
        (b"GET / HTTP/1.1\r\nspace : x\r\n\r\n", b"a header line is b'space : x'"),
        (POST + b"Content-Length: -1\r\n\r\n", b"Content-Length is '-1'"),
        (POST + b"Content-Length: " + b"1" * 5000 + b"\r\n\r\n", b"expected up to 9 digits"),
        (POST + b"Content-Length: 16777217\r\n\r\n", b"larger than 16777216 bytes"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", b"a chunk size is b'x'"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1000001\r\n", b"larger than 16777216 bytes"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc", b"longer than the 1 bytes"),
        (b"x" * 65_541, b"more than 65536 bytes came without"),
        (POST + b"Content-Length: 20000000\r\n\r\n" + bytes(20_000_000), b"larger than 16777216"),
    ],
)
def test_what_is_no_request_is_refused_with_the_reason(request_bytes: bytes, reason: bytes) -> None:
    with ScriptedServer() as server:
        with ask(server, request_bytes) as client:
            response = receive_all(client)
        assert response.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert reason in response
        assert server.requests == []
        assert not server.wait_closed().is_open


def test_a_refused_client_that_stays_is_closed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamsession.testing._peer._LINGER_SECONDS", 0.01)
    with ScriptedServer() as server, ask(server, b"nonsense\r\n\r\n") as client:
        receive_all(client)
        assert server.wait_closed().state == "server hung up"


def test_a_flood_during_a_response_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamsession.testing._peer._MAX_UNREAD_BYTES", 1000)
    with ScriptedServer(ScriptedResponse([HOLD])) as server, ask(server) as client:
        receive(client, len(CHUNKED_HEAD))
        client.sendall(bytes(1001))
        assert server.wait_closed().state == "server hung up"
