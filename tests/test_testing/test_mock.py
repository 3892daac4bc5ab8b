from collections.abc import Callable

import anyio
import httpx
import pytest
import respx

from streamsession.testing import (
    HANG_UP,
    HOLD,
    RESET,
    Ending,
    Gate,
    MockStream,
    Pause,
    ScriptedResponse,
    ScriptedServer,
    mock_stream,
    sse,
)

URL = "https://api.example/stream"

pytestmark = pytest.mark.anyio


def client_of(stream: MockStream) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(stream))


async def chunks_from(client: httpx.AsyncClient, url: str = URL) -> list[bytes]:
    async with client.stream("GET", url) as response:
        return [chunk async for chunk in response.aiter_raw()]


async def test_steps_come_through_respx_one_chunk_each() -> None:
    stream = mock_stream(b"one", b"", Pause(0), b"two", headers={"X-Id": "7"})
    with respx.mock:
        respx.post(URL).mock(side_effect=stream)
        async with (
            httpx.AsyncClient() as client,
            client.stream("POST", URL, content=b"body") as response,
        ):
            chunks = [chunk async for chunk in response.aiter_raw()]
    assert chunks == [b"one", b"two"]
    assert response.status_code == httpx.codes.OK
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["X-Id"] == "7"
    assert [request.content for request in stream.requests] == [b"body"]


async def test_every_call_gets_a_fresh_stream() -> None:
    with respx.mock:
        route = respx.get(URL).mock(side_effect=mock_stream(b"one", b"two"))
        async with httpx.AsyncClient() as client:
            assert await chunks_from(client) == [b"one", b"two"]
            assert await chunks_from(client) == [b"one", b"two"]
    assert route.call_count == 2


async def test_each_request_gets_the_next_response_and_then_the_last_again_and_again() -> None:
    one, two = ScriptedResponse([b"one"], 503), ScriptedResponse([b"two", b"three"])
    stream = MockStream(one, two)
    async with client_of(stream) as client:
        assert (await client.get(URL)).status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert await chunks_from(client) == [b"two", b"three"]
        assert await chunks_from(client) == [b"two", b"three"]
    assert len(stream.requests) == 3
    assert stream.closed


def test_without_a_response_it_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one"):
        MockStream()


async def test_an_error_status_has_its_body() -> None:
    stream = MockStream(ScriptedResponse.json({"error": "slow down"}, status=429))
    async with client_of(stream) as client:
        response = await client.get(URL)
    assert response.status_code == httpx.codes.TOO_MANY_REQUESTS
    assert response.json() == {"error": "slow down"}


async def test_it_is_closed_when_every_response_is() -> None:
    stream = mock_stream(b"one", HOLD)
    assert not stream.closed
    async with client_of(stream) as client:
        async with client.stream("GET", URL):
            assert not stream.closed
        assert stream.closed
        async with client.stream("GET", URL):
            assert not stream.closed
    assert stream.closed


@pytest.mark.parametrize(
    ("ending", "error"), [(HANG_UP, httpx.RemoteProtocolError), (RESET, httpx.ReadError)]
)
async def test_an_ending_raises_what_a_real_connection_raises(
    ending: Ending, error: type[httpx.TransportError]
) -> None:
    async def collect(client: httpx.AsyncClient, url: str) -> list[bytes]:
        async with client.stream("GET", url) as response:
            chunks = response.aiter_raw()
            received = [await anext(chunks)]
            with pytest.raises(error) as caught:
                await anext(chunks)
        assert type(caught.value) is error
        return received

    response = ScriptedResponse([b"one", ending])
    async with client_of(MockStream(response)) as client:
        mocked = await collect(client, URL)
    async with ScriptedServer(response) as server, httpx.AsyncClient() as client:
        real = await collect(client, server.url)
    assert mocked == real == [b"one"]


@pytest.mark.parametrize(
    "response",
    [
        ScriptedResponse([b"one", HANG_UP], framing="close"),
        ScriptedResponse([b"one", HANG_UP], framing="length"),
        ScriptedResponse([b"one", RESET], framing="length"),
        ScriptedResponse([b"one"], framing="close"),
        ScriptedResponse([b"one"], hang_up_after=3, framing="length"),
    ],
)
async def test_a_body_that_is_complete_for_its_framing_ends_cleanly(
    response: ScriptedResponse,
) -> None:
    async with client_of(MockStream(response)) as client:
        mocked = await chunks_from(client)
    async with ScriptedServer(response) as server, httpx.AsyncClient() as client:
        real = await chunks_from(client, server.url)
    assert mocked == real == [b"one"]


async def test_a_body_shorter_than_it_was_announced_is_incomplete() -> None:
    response = ScriptedResponse(
        [b"one", HANG_UP], framing="length", headers={"content-length": "4"}
    )
    async with client_of(MockStream(response)) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await chunks_from(client)
    async with ScriptedServer(response) as server, httpx.AsyncClient() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await chunks_from(client, server.url)


async def test_it_is_cut_after_so_many_bytes() -> None:
    stream = MockStream(ScriptedResponse.sse("one", "two", hang_up_after=13))
    async with client_of(stream) as client, client.stream("GET", URL) as response:
        chunks = response.aiter_raw()
        assert await anext(chunks) == sse("one")
        assert await anext(chunks) == b"da"
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(chunks)


async def test_it_waits_at_a_gate_in_any_number_of_streams() -> None:
    gate = Gate()
    collected: list[list[bytes]] = []

    async def collect(client: httpx.AsyncClient) -> None:
        collected.append(await chunks_from(client))

    async with (
        client_of(mock_stream(b"one", gate, b"two")) as client,
        anyio.create_task_group() as group,
    ):
        for _ in range(3):
            group.start_soon(collect, client)
        await gate.reached(times=3)
        assert collected == []
        gate.open()
    assert collected == [[b"one", b"two"]] * 3


@pytest.mark.parametrize("step", [Gate, lambda: Pause(3600), lambda: HOLD])
async def test_waiting_ends_when_it_is_cancelled(
    step: Callable[[], Gate | Pause | Ending],
) -> None:
    stream = mock_stream(b"one", step())
    async with client_of(stream) as client, client.stream("GET", URL) as response:
        chunks = response.aiter_raw()
        assert await anext(chunks) == b"one"

        async def wait() -> None:
            await anext(chunks)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert stream.closed


def test_a_raw_response_is_refused() -> None:
    raw = ScriptedResponse([b"HTTP/1.1 200 OK\r\n\r\n"], framing="raw")
    for responses in ([raw], [ScriptedResponse(), raw]):
        with pytest.raises(ValueError, match="needs a wire"):
            MockStream(*responses)


def test_steps_are_checked() -> None:
    with pytest.raises(ValueError, match="no step can follow"):
        mock_stream(HANG_UP, b"late")
