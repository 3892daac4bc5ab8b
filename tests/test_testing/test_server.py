import threading

import anyio
import anyio.to_thread
import httpx
import pytest

from streamsession.testing import (
    HOLD,
    ConnectionRecord,
    Gate,
    RecordedRequest,
    ScriptedResponse,
    ScriptedServer,
    sse,
)
from tests.test_testing.sockets import ask, connect, receive, receive_all


def get(server: ScriptedServer, path: str = "/") -> httpx.Response:
    return httpx.get(server.url + path)


def threads_of(server: ScriptedServer) -> list[threading.Thread]:
    port = server.url.rpartition(":")[2]
    return [thread for thread in threading.enumerate() if port in thread.name]


# Answers


def test_answers_are_given_in_order() -> None:
    with ScriptedServer(ScriptedResponse.html("one"), ScriptedResponse.html("two")) as server:
        server.play(ScriptedResponse.html("three"))
        assert [get(server).text for _ in range(3)] == ["one", "two", "three"]


def test_a_request_without_an_answer_says_so() -> None:
    with ScriptedServer() as server:
        response = get(server, "/a?b=1")
        assert response.status_code == httpx.codes.INTERNAL_SERVER_ERROR
        assert response.text == (
            "Scripted server: no answer is left for GET /a?b=1: add one with play()."
        )
        assert [request.path for request in server.requests] == ["/a?b=1"]


def test_the_last_answer_can_repeat() -> None:
    answers = [ScriptedResponse.html("one"), ScriptedResponse.html("two")]
    with ScriptedServer(*answers, repeat=True) as server:
        assert [get(server).text for _ in range(3)] == ["one", "two", "two"]
        server.play(ScriptedResponse.html("three"))
        assert [get(server).text for _ in range(3)] == ["two", "three", "three"]


def test_a_function_answers_by_the_request() -> None:
    def echo(request: RecordedRequest) -> ScriptedResponse:
        return ScriptedResponse.json({"method": request.method, "body": request.json()})

    with ScriptedServer(echo) as server:
        response = httpx.post(server.url, json=[1])
    assert response.json() == {"method": "POST", "body": [1]}


def test_a_function_that_raises_is_a_500_and_is_raised_on_leaving() -> None:
    def fail(request: RecordedRequest) -> ScriptedResponse:
        raise LookupError(request.path)

    server = ScriptedServer(fail)
    server.start()
    response = get(server, "/a")
    assert response.status_code == httpx.codes.INTERNAL_SERVER_ERROR
    assert "the function that answers GET /a raised LookupError('/a')" in response.text
    with pytest.raises(ExceptionGroup) as caught, server:
        pass
    assert caught.group_contains(LookupError, match="/a")


@pytest.mark.anyio
async def test_a_function_that_raises_is_raised_on_leaving_asynchronously() -> None:
    def fail(request: RecordedRequest) -> ScriptedResponse:
        raise LookupError(request.path)

    with pytest.raises(ExceptionGroup) as caught:
        async with ScriptedServer(fail) as server, httpx.AsyncClient() as client:
            await client.get(server.url)
    assert caught.group_contains(LookupError)


def test_a_failure_of_the_test_itself_is_not_hidden() -> None:
    def fail(request: RecordedRequest) -> ScriptedResponse:
        raise LookupError(request.path)

    def test() -> None:
        with ScriptedServer(fail) as server:
            assert get(server).is_success

    with pytest.raises(AssertionError):
        test()


def test_a_function_that_returns_no_response_is_a_failure() -> None:
    def nothing(_: RecordedRequest) -> ScriptedResponse:
        return None  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    with pytest.raises(ExceptionGroup) as caught, ScriptedServer(nothing) as server:
        get(server)
    assert caught.group_contains(TypeError, match="returned None, expected a ScriptedResponse")


def test_what_is_no_answer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"b'bare bytes' is no answer"):
        ScriptedServer(b"bare bytes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Records


def test_records_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamsession.testing._server._MAX_RECORDS", 2)
    with ScriptedServer(ScriptedResponse.html(""), repeat=True) as server:
        for path in ("/1", "/2", "/3"):
            get(server, path)
        assert [request.path for request in server.requests] == ["/1", "/2"]
        assert [connection.index for connection in server.connections] == [0, 1]


def test_connections_beyond_the_limit_are_closed_and_counted() -> None:
    with ScriptedServer(ScriptedResponse([HOLD]), repeat=True, max_connections=1) as server:
        with ask(server) as first:
            receive(first, 1)
            with connect(server) as second:
                assert receive_all(second) == b""
        server.wait_closed(0)
        with ask(server) as third:
            receive(third, 1)
        assert server.wait_closed(1).state == "client closed"
        assert server.refused == 1


# Waiting


def test_waiting_for_a_closed_connection_tells_who_closed_it() -> None:
    with ScriptedServer() as server:
        connect(server).close()
        assert server.wait_closed() == ConnectionRecord(0, requests=0, state="client closed")


def test_waiting_in_vain_lists_the_connections() -> None:
    with ScriptedServer(ScriptedResponse([HOLD])) as server, ask(server) as client:
        receive(client, 1)
        with pytest.raises(TimeoutError, match=r"(?s)1 connections .* 0: responding, 1 requests"):
            server.wait_idle(timeout=0.01)
        with pytest.raises(TimeoutError, match=r"(?s)1 connections .* 0: responding, 1 requests"):
            server.wait_closed(timeout=0.01)
        with pytest.raises(TimeoutError, match="1 connections were made"):
            server.wait_closed(1, timeout=0.01)


@pytest.mark.anyio
async def test_waiting_in_a_task_in_vain_lists_the_connections() -> None:
    async with ScriptedServer() as server:
        with pytest.raises(TimeoutError, match="0 connections were made"):
            await server.until_closed(timeout=0.01)


@pytest.mark.anyio
async def test_a_stream_is_read_step_by_step() -> None:
    gate = Gate()
    async with (
        ScriptedServer(ScriptedResponse.sse("one", gate, "two")) as server,
        httpx.AsyncClient() as client,
    ):
        async with client.stream("GET", server.url) as response:
            chunks = response.aiter_raw()
            assert await anext(chunks) == sse("one")
            await gate.reached()
            assert server.connections[0].state == "responding"
            gate.open()
            assert [chunk async for chunk in chunks] == [sse("two")]
        await server.until_idle()
        assert server.connections[0] == ConnectionRecord(0, requests=1, state="idle")


@pytest.mark.anyio
async def test_leaving_a_stream_early_is_noticed() -> None:
    async with ScriptedServer(ScriptedResponse([HOLD])) as server, httpx.AsyncClient() as client:
        async with client.stream("GET", server.url):
            pass
        assert (await server.until_closed()).state == "client closed"
        await server.until_idle()


@pytest.mark.anyio
async def test_many_connections_are_served_at_once() -> None:
    gate = Gate()
    async with (
        ScriptedServer(ScriptedResponse([gate, b"one"]), repeat=True) as server,
        httpx.AsyncClient() as client,
    ):

        async def read() -> None:
            response = await client.get(server.url)
            assert response.content == b"one"

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(read)
            await gate.reached(times=50)
            gate.open()
        await server.until_idle()
        assert {connection.requests for connection in server.connections} == {1}


# Lifecycle


def test_starting_and_stopping_twice_does_nothing() -> None:
    server = ScriptedServer(ScriptedResponse.html("one"))
    server.start()
    url = server.url
    server.start()
    assert httpx.get(url).text == "one"
    server.stop()
    server.stop()
    assert server.url == url
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_a_server_that_was_stopped_cannot_start_again() -> None:
    with ScriptedServer() as server:
        pass
    with pytest.raises(RuntimeError, match="make a new one"):
        server.start()


def test_a_server_that_was_not_started_has_no_url() -> None:
    server = ScriptedServer()
    with pytest.raises(RuntimeError, match="enter it with `with` or `async with`"):
        _ = server.url
    server.stop()


def test_leaving_ends_all_threads_and_connections() -> None:
    with ScriptedServer(ScriptedResponse([HOLD]), repeat=True) as server:
        clients = [ask(server), ask(server), connect(server)]
        for client in clients[:2]:
            receive(client, 1)
        assert threads_of(server)
    assert threads_of(server) == []
    assert {connection.state for connection in server.connections} <= {"server stopped"}
    for client in clients:
        client.close()


@pytest.mark.anyio
async def test_a_cancelled_block_ends_all_threads() -> None:
    server = ScriptedServer(ScriptedResponse([HOLD]))
    with anyio.CancelScope() as scope:
        async with server:
            with ask(server) as client:
                receive(client, 1)
            scope.cancel()
            await anyio.sleep_forever()
    assert threads_of(server) == []
    assert not server.connections[0].is_open


@pytest.mark.anyio
async def test_leaving_does_not_wait_for_a_thread_that_others_use() -> None:
    limiter = anyio.to_thread.current_default_thread_limiter()
    borrowers = [object() for _ in range(int(limiter.available_tokens))]
    async with ScriptedServer():
        for borrower in borrowers:
            limiter.acquire_on_behalf_of_nowait(borrower)
    for borrower in borrowers:
        limiter.release_on_behalf_of(borrower)


@pytest.mark.anyio
async def test_it_plays_while_the_event_loop_is_blocked() -> None:
    gate = Gate()
    async with ScriptedServer(ScriptedResponse([gate, b"one"])) as server:
        with ask(server) as client:  # blocks, like everything down to `await`
            gate.wait_reached()
            gate.open()
            server.wait_idle()
            assert receive(client, 1) == b"H"


def test_a_function_that_does_not_return_is_an_error_on_leaving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamsession.testing._acceptor._JOIN_SECONDS", 0.01)
    entered, leave = threading.Event(), threading.Event()

    def stuck(_: RecordedRequest) -> ScriptedResponse:
        entered.set()
        leave.wait(5)
        return ScriptedResponse()

    server = ScriptedServer(stuck)
    server.start()
    with ask(server):
        entered.wait(5)
        with pytest.raises(RuntimeError, match="a function that answers requests not returned"):
            server.stop()
        leave.set()
        monkeypatch.undo()
        server.stop()
    assert threads_of(server) == []


def test_a_function_cannot_stop_its_own_server() -> None:
    def stop(_: RecordedRequest) -> ScriptedResponse:
        server.stop()
        return ScriptedResponse()

    server = ScriptedServer(stop)
    with pytest.raises(ExceptionGroup) as caught, server:
        get(server)
    assert caught.group_contains(RuntimeError, match="cannot stop its own server")
    assert threads_of(server) == []
