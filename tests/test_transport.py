"""The transport of a session: its pools hold together what it may, and each only its share."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
import respx

from streamsession import Stream
from streamsession._transport import HTTPTransport
from streamsession._transport._pools import Pools, Share
from streamsession.testing import Gate, ScriptedResponse, ScriptedServer
from tests.acme import FINISH, URL, Acme, Finish, Token, token

PATIENCE = 20.0

pytestmark = pytest.mark.anyio


def limits_of(share: Share) -> tuple[int | None, int | None]:
    """The connections of a pool, and how many of them may be idle: what httpcore was told."""
    pool: Any = share.pool
    return pool._max_connections, pool._max_keepalive_connections


def all_of(pools: Pools, number: int) -> list[Share]:
    """The pools that so many requests take."""
    return list(dict.fromkeys(pools.take(None) for _ in range(number)))


@pytest.mark.parametrize(
    ("most", "idle", "shares"),
    [
        (1, 1, [(1, 1)]),
        (100, 20, [(100, 20)]),
        (101, 20, [(51, 19), (50, 1)]),
        (101, 101, [(51, 51), (50, 50)]),
        (250, 2, [(84, 2), (83, 0), (83, 0)]),
        (250, 3, [(84, 1), (83, 1), (83, 1)]),
        (250, 0, [(84, 0), (83, 0), (83, 0)]),
        (1000, 20, [(100, 11)] + [(100, 1)] * 9),
        (1000, 550, [(100, 100)] + [(100, 50)] * 9),
    ],
)
async def test_the_pools_share_the_limits(
    most: int, idle: int, shares: list[tuple[int, int]]
) -> None:
    pools = Pools(httpx.Limits(max_connections=most, max_keepalive_connections=idle), None)
    shared = [limits_of(share) for share in all_of(pools, most)]
    assert shared == shares
    assert sum(size for size, _ in shares) == most
    assert sum(each for _, each in shares) == idle


async def test_without_a_limit_there_are_as_many_as_it_takes() -> None:
    pools = Pools(httpx.Limits(max_connections=None, max_keepalive_connections=None), None)
    made = all_of(pools, 350)
    assert [each.room for each in made] == [0, 0, 0, 50]


async def test_the_first_with_room_takes_the_next_request() -> None:
    pools = Pools(httpx.Limits(max_connections=200), None)
    first, second = all_of(pools, 150)
    first.room += 1
    assert pools.take(None) is first
    assert pools.take(None) is second


async def test_the_pools_of_another_proxy_are_others() -> None:
    pools = Pools(httpx.Limits(max_connections=2), None)
    direct, proxied = pools.take(None), pools.take("http://127.0.0.1:1")
    assert direct is not proxied
    assert [each.room for each in (direct, proxied)] == [1, 1]


async def test_streams_beyond_the_share_of_one_have_connections_that_are_used_again() -> None:
    gate = Gate()
    held = [ScriptedResponse([token("a"), gate, FINISH])] * 101
    limits = httpx.Limits(max_connections=101, max_keepalive_connections=101)

    async def read(stream: Stream[Token | Finish]) -> None:
        assert await anext(stream) == Token(text="a")
        begun.append(stream)
        if len(begun) == 101:
            gate.open()
        await stream.collect()

    async with ScriptedServer(*held, *held) as server:
        async with Acme(base_url=server.url, limits=limits) as session:
            for _ in range(2):
                begun: list[Stream[Token | Finish]] = []
                with anyio.fail_after(PATIENCE):
                    async with anyio.create_task_group() as group:
                        for _ in range(101):
                            group.start_soon(read, session.stream())
        assert len(server.connections) == 101


class Loud(httpx.AsyncBaseTransport):
    """Carries requests over another transport, and reads its bodies aloud."""

    def __init__(self, transport: httpx.AsyncBaseTransport, *, anew: bool) -> None:
        self._transport = transport
        self._anew = anew

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        aloud = Aloud(response.stream)
        if not self._anew:
            response.stream = aloud
            return response
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=aloud,
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._transport.aclose()


class Aloud(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            yield piece.replace(b"hello", b"HELLO")

    async def aclose(self) -> None:
        await self._stream.aclose()


@pytest.mark.parametrize("anew", [False, True])
async def test_what_another_transport_puts_around_its_stream_is_read(*, anew: bool) -> None:
    with ScriptedServer(ScriptedResponse([token("hello"), FINISH])) as server:
        transport = Loud(HTTPTransport(httpx.Limits()), anew=anew)
        async with Acme(base_url=server.url, transport=transport) as session:
            assert (await session.stream().collect()).text == "HELLO"


async def test_it_can_be_entered_and_is_closed_when_left(scripted_server: ScriptedServer) -> None:
    scripted_server.play(ScriptedResponse([b"Hello"], framing="length"))
    async with HTTPTransport(httpx.Limits(max_connections=1)) as transport:
        answer = await transport.handle_async_request(httpx.Request("GET", scripted_server.url))
        assert await answer.aread() == b"Hello"
    assert (await scripted_server.until_closed(0)).state == "client closed"


async def test_what_patches_the_transport_of_httpx_patches_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[httpx.Request] = []

    async def handle(_: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(
            200, content=token("patched") + FINISH, headers={"content-type": "text/event-stream"}
        )

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", handle)
    async with Acme() as session:
        assert (await session.stream().collect()).text == "patched"
    assert len(asked) == 1


async def test_respx_finds_it(respx_mock: respx.MockRouter) -> None:
    headers = {"content-type": "text/event-stream"}
    respx_mock.post(URL).respond(content=token("mocked") + FINISH, headers=headers)
    async with Acme() as session:
        assert (await session.stream().collect()).text == "mocked"
        assert (await session.stream().collect()).text == "mocked"
