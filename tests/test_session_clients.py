"""A client that was handed in is used with its own settings, and is never closed."""

import asyncio
import random
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import anyio.to_thread
import httpx
import httpx2
import pytest

from streamsession import (
    AuthenticationError,
    BearerAuth,
    ConnectFailed,
    InvalidRequest,
    RetryPolicy,
    SessionStateError,
    StatusError,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    TimedOut,
    Timeouts,
    TokenAuth,
)
from streamsession.testing import (
    HANG_UP,
    HOLD,
    RESET,
    Gate,
    Pause,
    ScriptedResponse,
    ScriptedServer,
)
from tests.acme import FINISH, Acme, chat, token
from tests.canary import CANARY

pytestmark = pytest.mark.anyio

Client = Callable[..., Any]

HELLO = ScriptedResponse([chat("Hello")])
ONCE = RetryPolicy(attempts=1)


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    """The library of the client."""
    return request.param


@pytest.fixture
def closed_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


async def failure(library: Any, response: ScriptedResponse, **options: Any) -> StreamError:
    """What a stream over a handed-in client raises for this response."""
    async with ScriptedServer(response) as server, library.AsyncClient() as client:
        session = Acme(base_url=server.url, http_client=client, retry=ONCE, **options)
        async with session:
            with pytest.raises(StreamError) as caught:
                await session.stream().collect()
        assert not client.is_closed
        assert not any(record.is_open for record in [await server.until_closed()])
    return caught.value


# Using it


async def test_it_is_used_and_not_closed(library: Any) -> None:
    async with ScriptedServer(HELLO, repeat=True) as server:
        client = library.AsyncClient(headers={"X-Mine": "yes"}, cookies={"tasty": "1"})
        async with client:
            for _ in range(2):
                async with Acme(base_url=server.url, http_client=client) as session:
                    assert (await session.stream().collect()).text == "Hello"
                assert not client.is_closed
            response = await client.get(server.url)
            assert response.status_code == 200
        assert len(server.connections) == 1, "its connection is used again"
        assert server.requests[0].headers["x-mine"] == "yes"
        assert server.requests[0].headers["cookie"] == "tasty=1"
        assert server.requests[0].headers["accept"] == "text/event-stream"


async def test_leaving_closes_the_streams_but_not_the_client(library: Any) -> None:
    response = ScriptedResponse([token("Hello"), HOLD])
    async with ScriptedServer(response, HELLO) as server, library.AsyncClient() as client:
        async with Acme(base_url=server.url, http_client=client) as session:
            stream = session.stream()
            await anext(stream)
        await server.until_closed()
        assert (await client.get(server.url)).status_code == 200


async def test_many_streams_share_it(library: Any) -> None:
    texts: list[str] = []

    async def read(session: Acme) -> None:
        texts.append((await session.stream().collect()).text)

    async with (
        ScriptedServer(HELLO, repeat=True) as server,
        library.AsyncClient() as client,
        Acme(base_url=server.url, http_client=client) as session,
        anyio.create_task_group() as group,
    ):
        for _ in range(20):
            group.start_soon(read, session)
    assert texts == ["Hello"] * 20


async def test_its_own_credentials_are_sent_unless_the_session_has_some(library: Any) -> None:
    auth = library.BasicAuth("user", "password")
    async with (
        ScriptedServer(HELLO, repeat=True) as server,
        library.AsyncClient(auth=auth) as client,
    ):
        async with Acme(base_url=server.url, http_client=client) as session:
            await session.stream().collect()
        async with Acme(
            base_url=server.url, http_client=client, auth=BearerAuth(CANARY)
        ) as session:
            await session.stream().collect()
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["Basic dXNlcjpwYXNzd29yZA==", f"Bearer {CANARY}"]


async def test_a_token_is_refreshed_over_it(library: Any) -> None:
    tokens = iter(["one", "two", "three"])

    async def provide() -> str:
        return next(tokens)

    refused = ScriptedResponse(status=401)
    async with (
        ScriptedServer(refused, HELLO, refused, refused) as server,
        library.AsyncClient() as client,
        Acme(base_url=server.url, http_client=client, auth=TokenAuth(provide)) as session,
    ):
        assert (await session.stream().collect()).text == "Hello"
        with pytest.raises(AuthenticationError):
            await session.stream().collect()
        sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["Bearer one", "Bearer two", "Bearer two", "Bearer three"]


async def test_it_follows_no_redirect_to_another_origin(library: Any) -> None:
    async with ScriptedServer(HELLO) as other:
        redirect = ScriptedResponse(status=307, headers={"Location": other.url})
        async with (
            ScriptedServer(redirect) as server,
            library.AsyncClient(follow_redirects=True) as client,
            Acme(base_url=server.url, http_client=client, api_key=CANARY) as session,
        ):
            with pytest.raises(StatusError, match="another origin"):
                await session.stream().collect()
        assert other.requests == []


async def test_a_closed_one_is_refused(library: Any) -> None:
    client = library.AsyncClient()
    await client.aclose()
    async with Acme(http_client=client) as session:
        with pytest.raises(SessionStateError, match="http_client was closed before its session"):
            await session.stream().collect()


# What goes wrong


@pytest.mark.parametrize("own", [True, False], ids=["own", "handed in"])
async def test_a_refused_connection(library: Any, closed_port: int, *, own: bool) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    async with (
        library.AsyncClient() as client,
        Acme(base_url=url, http_client=None if own else client, retry=ONCE) as session,
    ):
        with pytest.raises(ConnectFailed, match="could not connect") as caught:
            await session.stream().collect()
    assert isinstance(caught.value, ConnectionError)
    assert type(caught.value.__cause__).__name__ == "ConnectError"


async def test_a_name_that_is_not_found(library: Any) -> None:
    async with (
        library.AsyncClient() as client,
        Acme(base_url="http://x.invalid", http_client=client, retry=ONCE) as session,
    ):
        with pytest.raises(ConnectFailed):
            await session.stream().collect()


@pytest.mark.parametrize("ending", [HANG_UP, RESET])
async def test_a_hang_up_before_the_answer(library: Any, ending: Any) -> None:
    error = await failure(library, ScriptedResponse([ending], framing="raw"))
    assert type(error) is StreamInterrupted
    assert (error.partial.text, error.request_id) == ("", None)
    assert type(error.__cause__).__module__.startswith(library.__name__)


@pytest.mark.parametrize("head", [b"HTTP/1.1 2", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nX:"])
async def test_an_answer_that_is_no_http(library: Any, head: bytes) -> None:
    error = await failure(library, ScriptedResponse([head, HANG_UP], framing="raw"))
    assert type(error) is StreamInterrupted


async def test_a_hang_up_in_the_body(library: Any) -> None:
    error = await failure(library, ScriptedResponse([token("Hello"), HANG_UP]))
    assert type(error) is StreamInterrupted
    assert error.partial.text == "Hello"
    assert type(error.__cause__).__name__ == "RemoteProtocolError"


async def test_a_reset_in_the_body(library: Any) -> None:
    gate = Gate()
    response = ScriptedResponse([token("Hello"), gate, RESET])
    async with (
        ScriptedServer(response) as server,
        library.AsyncClient() as client,
        Acme(base_url=server.url, http_client=client) as session,
    ):
        stream = session.stream()
        await anext(stream)
        gate.open()
        with pytest.raises(StreamInterrupted) as caught:
            await anext(stream)
    assert type(caught.value.__cause__).__name__ == "ReadError"
    assert caught.value.partial.text == "Hello"


async def test_a_body_that_ends_early(library: Any) -> None:
    error = await failure(library, ScriptedResponse([token("Hello")], framing="close"))
    assert type(error) is StreamTruncated


async def test_damaged_chunks(library: Any) -> None:
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    error = await failure(
        library, ScriptedResponse([head, b"zz\r\n", FINISH, HANG_UP], framing="raw")
    )
    assert type(error) is StreamInterrupted


@pytest.mark.parametrize("steps", [[HOLD], [token("Hello"), HOLD]])
async def test_the_clocks_run_over_it(library: Any, steps: list[Any]) -> None:
    limits = Timeouts(first_event=0.1, idle=0.1)
    error = await failure(library, ScriptedResponse(steps), timeout=limits)
    assert isinstance(error, TimedOut)
    assert error.clock == ("idle" if len(steps) > 1 else "first_event")


async def test_the_clocks_run_before_its_answer(library: Any) -> None:
    response = ScriptedResponse([HOLD], framing="raw")
    error = await failure(library, response, timeout=Timeouts(first_event=0.1))
    assert isinstance(error, TimedOut)
    assert error.clock == "first_event"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ConnectTimeout", TimedOut),
        ("PoolTimeout", TimedOut),
        ("ReadTimeout", TimedOut),
        ("WriteError", StreamInterrupted),
        ("ProxyError", ConnectFailed),
        ("UnsupportedProtocol", InvalidRequest),
    ],
)
async def test_what_its_transport_raises_has_our_name(
    library: Any, name: str, kind: type[Exception]
) -> None:
    def fail(_: object) -> object:
        raise getattr(library, name)("why")

    async with (
        library.AsyncClient(transport=library.MockTransport(fail)) as client,
        Acme(http_client=client, retry=ONCE) as session,
    ):
        with pytest.raises(kind, match="why") as caught:
            await session.stream().collect()
    assert type(caught.value.__cause__) is getattr(library, name)


async def test_a_pool_of_its_own_that_is_full_makes_streams_wait(library: Any) -> None:
    gate = Gate()
    limits = library.Limits(max_connections=1)
    response = ScriptedResponse([token("Hello"), gate, FINISH])
    texts: list[str] = []

    async def read(session: Acme) -> None:
        texts.append((await session.stream().collect()).text)

    async with (
        ScriptedServer(response, HELLO) as server,
        library.AsyncClient(limits=limits) as client,
        Acme(base_url=server.url, http_client=client) as session,
        anyio.create_task_group() as group,
    ):
        group.start_soon(read, session)
        await gate.reached()
        group.start_soon(read, session)
        await anyio.wait_all_tasks_blocked()
        assert len(server.requests) == 1
        gate.open()
    assert texts == ["Hello", "Hello"]


async def test_a_synchronous_client_is_refused() -> None:
    client: Any = httpx.Client()
    with client, pytest.raises(TypeError, match="an AsyncClient, not a Client"):
        Acme(http_client=client)


async def test_what_is_no_auth_is_refused() -> None:
    key: Any = "key"
    with pytest.raises(TypeError, match="such as BearerAuth"):
        Acme(auth=key)


def test_a_session_is_used_on_the_loop_that_it_was_entered_on() -> None:
    async def main() -> None:
        async with Acme() as session:

            async def elsewhere() -> None:
                with pytest.raises(SessionStateError, match="another event loop"):
                    await session.stream().collect()

            await anyio.to_thread.run_sync(anyio.run, elsewhere)

    anyio.run(main)


def handed_in(kind: str) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=10)
    if kind == "transport":
        return {"transport": httpx.AsyncHTTPTransport(limits=limits)}
    library: Any = httpx if kind == "httpx" else httpx2
    return {"http_client": library.AsyncClient(limits=library.Limits(max_connections=10))}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", ["httpx", "httpx2", "transport"])
async def test_no_connection_of_theirs_is_lost_in_random_double_cancels(kind: str) -> None:
    """Requests cancelled in the queue of httpcore's pool would lose some: ours queue before it."""
    chance = random.Random(1)  # noqa: S311 - no secrets
    answer = ScriptedResponse([token("a"), Pause(0.002), token("b"), Pause(0.002), chat("c")])

    async def read(session: Acme) -> None:
        await session.stream().collect()

    async def break_off(session: Acme) -> None:
        task = asyncio.create_task(read(session))
        await asyncio.sleep(chance.random() * 0.02)
        task.cancel()
        for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    options = handed_in(kind)
    with ScriptedServer(answer, repeat=True, max_connections=2000) as server:
        async with Acme(base_url=server.url, **options) as session:
            for _ in range(12):
                await asyncio.gather(*[break_off(session) for _ in range(50)])
            with anyio.fail_after(10):
                await asyncio.gather(*[read(session) for _ in range(10)])
        if "http_client" in options:
            await options["http_client"].aclose()


@pytest.mark.parametrize("kind", ["httpx", "httpx2", "transport"])
async def test_a_stream_waits_for_its_turn_in_front_of_their_pool(kind: str) -> None:
    options = handed_in(kind)
    brief = Timeouts(first_event=0.05)
    with ScriptedServer(ScriptedResponse([token("a"), HOLD]), repeat=True) as server:
        async with (
            Acme(base_url=server.url, retry=ONCE, **options) as session,
            AsyncExitStack() as all_,
        ):
            for _ in range(10):
                await anext(await all_.enter_async_context(session.stream()))
            with pytest.raises(TimedOut) as caught:
                await anext(session.open_stream("POST", "/generate", timeout=brief))
        if "http_client" in options:
            await options["http_client"].aclose()
    assert "All connections of the pool are in use" in caught.value.__notes__[0]
    assert len(server.requests) == 10
