"""`AiohttpTransport`: it sends what httpx sends, and its own ways do not show."""

import importlib.util
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import httpx
import httpx_aiohttp
import pytest
from anyio.abc import SocketStream

from streamsession import (
    ConnectFailed,
    RetryPolicy,
    SessionStateError,
    StatusError,
    StreamError,
    StreamInterrupted,
    TimedOut,
    Timeouts,
)
from streamsession.aiohttp import AiohttpTransport
from streamsession.testing import (
    HANG_UP,
    HOLD,
    RESET,
    Gate,
    RecordedRequest,
    ScriptedResponse,
    ScriptedServer,
    SessionContract,
)
from tests.acme import FINISH, Acme, Token, chat, token
from tests.canary import CANARY
from tests.test_faults.apis import PATIENCE, SSE, chunk, fails, row
from tests.test_faults.conftest import certificates, trusted
from tests.test_faults.fronts import (
    HOST,
    Certificates,
    in_turn,
    listening,
    proxy,
    tls_in_front_of,
    wrapped,
)
from tests.test_faults.test_connecting import ANYWHERE, NO_TLS_WITHIN, TUNNEL
from tests.test_faults.test_ends import NO_HTTP

__all__ = ["certificates", "trusted"]

pytestmark = pytest.mark.anyio

HELLO = ScriptedResponse([chat("Hello")])
ONCE = RetryPolicy(attempts=1)


class FastAcme(Acme):
    """Acme over aiohttp."""

    def __init__(self, **options: Any) -> None:
        super().__init__(transport=AiohttpTransport(), **options)


class CleanEnd(FastAcme):
    """Its streams prove nothing: a clean end is the only sign."""

    final_events: ClassVar[Any] = None


@pytest.fixture(
    params=[
        "asyncio",
        pytest.param(
            ("asyncio", {"use_uvloop": True}),
            id="uvloop",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed"
            ),
        ),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """What it runs on."""
    return request.param


# What is sent


async def in_pieces() -> AsyncIterator[bytes]:
    yield b"one "
    yield b"two"


REQUESTS: dict[str, dict[str, Any]] = {
    "JSON": {"json": {"a": "é"}},
    "text": {"content": "Hello"},
    "bytes": {"content": b"\x00" * 300_000, "headers": {"Content-Type": "x/y"}},
    "in pieces": {"content": in_pieces},
    "nothing": {},
    "a query": {"params": {"q": "a b+c/é~", "r": ["1", "2"]}},
    "a path": {"path": "/a%2Fb/%7e/%41/é/+?x=%2f"},
    "headers": {"headers": {"X-One": "a, b", "accept": "x/y", "user-agent": "me"}},
}


async def sent(request: dict[str, Any], **options: Any) -> list[RecordedRequest]:
    """What the server sees of a request, made with each method."""
    content = request.get("content")
    path = request.get("path", "/generate")
    async with ScriptedServer(HELLO, repeat=True) as server:
        async with Acme(base_url=server.url, api_key="key", **options) as session:
            for method in ("POST", "GET", "DELETE"):
                given: dict[str, Any] = {**request, "content": content}
                if callable(content):
                    given["content"] = content()
                given.pop("path", None)
                await session.open_stream(method, path, **given).collect()
        return server.requests


def seen(request: RecordedRequest) -> Any:
    headers = {name: value for name, value in request.headers.items() if name != "host"}
    return request.method, request.path, headers, request.body


@pytest.mark.parametrize("name", REQUESTS)
async def test_it_sends_what_httpx_sends(name: str) -> None:
    over_httpx = [seen(each) for each in await sent(REQUESTS[name])]
    over_it = [seen(each) for each in await sent(REQUESTS[name], transport=AiohttpTransport())]
    assert over_it == over_httpx


async def test_a_request_is_sent_once_even_if_it_is_one_that_could_be_repeated() -> None:
    async with ScriptedServer(HELLO, ScriptedResponse([HANG_UP], framing="raw"), HELLO) as server:
        async with FastAcme(base_url=server.url, retry=ONCE) as session:
            for _ in range(2):
                stream = session.open_stream("GET", "/")
                if len(server.requests) == 0:
                    await stream.collect()
                else:
                    with pytest.raises(StreamInterrupted):
                        await stream.collect()
        assert len(server.requests) == 2


# What comes


async def catch_up() -> None:
    """Let the event loop read what has come."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_what_came_before_a_hang_up_is_handed_over_however_late() -> None:
    gate = Gate()
    texts = "abc"
    later = [token(text) for text in texts]
    response = ScriptedResponse([token("first"), gate, *later, HANG_UP])
    async with ScriptedServer(response) as server, FastAcme(base_url=server.url) as session:
        stream = session.stream()
        await anext(stream)
        gate.open()
        assert (await server.until_closed()).state == "server hung up"
        await catch_up()
        for text in texts:
            assert await anext(stream) == Token(text=text)
        with pytest.raises(StreamInterrupted):
            await anext(stream)


@pytest.mark.parametrize("ending", [None, RESET])
async def test_a_reset_is_no_clean_end_where_the_end_of_the_connection_is_that_of_the_body(
    ending: Any,
) -> None:
    gate = Gate()
    steps = [token("Hello"), gate, *([] if ending is None else [ending])]
    response = ScriptedResponse(steps, framing="close")
    async with ScriptedServer(response) as server, CleanEnd(base_url=server.url) as session:
        stream = session.stream()
        await anext(stream)
        gate.open()
        if ending is None:
            assert (await stream.collect()).complete
        else:
            with pytest.raises(StreamInterrupted):
                await stream.collect()


async def test_a_body_with_an_end_is_whole_though_its_connection_is_reset_behind_it() -> None:
    gate = Gate()
    response = ScriptedResponse([token("Hello"), gate, b"2\r\n\n\n\r\n0\r\n\r\n", RESET])
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    first = b"%x\r\n%b\r\n" % (len(token("Hello")), token("Hello"))
    response = ScriptedResponse(
        [head + first, gate, b"2\r\n\n\n\r\n0\r\n\r\n", RESET], framing="raw"
    )
    async with ScriptedServer(response) as server, CleanEnd(base_url=server.url) as session:
        stream = session.stream()
        await anext(stream)
        gate.open()
        assert (await server.until_closed()).state == "server reset"
        await catch_up()
        assert (await stream.collect()).complete


async def test_bytes_that_belong_to_no_request_are_not_taken_for_an_answer() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
    good, evil = (head % len(chat(text)) + chat(text) for text in ("good", "evil"))
    before, behind = Gate(), Gate()
    answer = ScriptedResponse([good, before, evil, behind, HOLD], framing="raw")
    async with (
        ScriptedServer(answer, HELLO) as server,
        FastAcme(base_url=server.url) as session,
    ):
        assert (await session.stream().collect()).text == "good"
        before.open()
        await behind.reached()
        await catch_up()
        assert (await session.stream().collect()).text == "Hello"
        assert len(server.connections) == 2


async def test_a_long_header_is_read() -> None:
    long = ScriptedResponse([chat("Hello")], headers={"x-long": "x" * 60_000})
    async with ScriptedServer(long) as server, FastAcme(base_url=server.url) as session:
        stream = session.stream()
        await stream.collect()
        assert len(stream.response.headers["x-long"]) == 60_000


async def test_what_is_no_http_is_interrupted(scripted_server: ScriptedServer) -> None:
    """Save another transfer coding, whose body ends with the connection, as the RFC says."""
    wires = {name: wire for name, wire in NO_HTTP.items() if name != "another coding"}
    limits = httpx.Limits(max_connections=1)
    async with FastAcme(base_url=scripted_server.url, limits=limits, retry=ONCE) as session:
        for name, wire in wires.items():
            with row(name):
                answer = ScriptedResponse([wire, HOLD], framing="raw")
                await fails(SSE, session, scripted_server, [answer], StreamInterrupted)


async def test_an_answer_that_comes_before_the_body_was_read_is_not_delayed_by_it() -> None:
    """Nor does closing it wait for the server to read the rest."""

    async def refuse(client: SocketStream) -> None:
        await client.receive()
        await client.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        await anyio.sleep_forever()

    async with (
        listening(refuse) as port,
        FastAcme(base_url=f"http://{HOST}:{port}", retry=ONCE) as session,
    ):
        with anyio.fail_after(PATIENCE), pytest.raises(StatusError) as caught:
            await session.open_stream("POST", "/", content=bytes(8 * 1024 * 1024)).collect()
    assert caught.value.status == 413


PART_OF_A_HEAD = f"HTTP/1.1 200 OK\r\nSet-Cookie: key={CANARY}\r\n".encode()


@pytest.mark.parametrize(
    "wire", [b"nonsense\r\n\r\n", PART_OF_A_HEAD, None], ids=["nonsense", "a part", "nothing"]
)
async def test_its_own_messages_which_hold_the_query_are_not_told(wire: bytes | None) -> None:
    """Of what is no answer, or part of one, or no handshake; the canary is looked for."""

    async def answer(client: SocketStream) -> None:
        await client.receive()
        await (anyio.sleep_forever() if wire is None else client.send(wire))

    scheme = "https" if wire is None else "http"
    timeout = Timeouts(connect=0.1 if wire is None else PATIENCE)
    async with (
        listening(answer) as port,
        FastAcme(base_url=f"{scheme}://{HOST}:{port}", retry=ONCE, timeout=timeout) as session,
    ):
        with pytest.raises(StreamError) as caught:
            await session.open_stream("GET", "/", params={"key": CANARY}).collect()
    assert HOST not in str(caught.value.__cause__)


# Connections


async def test_its_own_limit_of_a_hundred_connections_is_none_of_ours() -> None:
    gate = Gate()
    response = ScriptedResponse([token("Hello"), gate, FINISH])
    texts: list[str] = []

    async def read(session: Acme) -> None:
        texts.append((await session.stream().collect()).text)

    async with (
        ScriptedServer(response, repeat=True) as server,
        FastAcme(base_url=server.url) as session,
        anyio.create_task_group() as group,
    ):
        for _ in range(150):
            group.start_soon(read, session)
        await gate.reached(times=150)
        gate.open()
    assert texts == ["Hello"] * 150


async def test_a_tls_connection_is_closed_whether_the_server_says_goodbye_or_not(
    trusted: Certificates,
) -> None:
    closed = anyio.Event()

    async def answer(client: SocketStream) -> None:
        stream = await wrapped(client, trusted.good)
        await stream.receive()
        await stream.send(SSE.head + chunk(token("Hello")))
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                await client.receive()
        closed.set()

    async with listening(answer) as port, FastAcme(base_url=f"https://{HOST}:{port}") as session:
        async with session.stream() as stream:
            await anext(stream)
        with anyio.fail_after(PATIENCE):
            await closed.wait()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_name_is_looked_up_for_every_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[object] = []
    look_up: Any = socket.getaddrinfo

    def count(host: Any, *args: Any, **options: Any) -> Any:
        looked_up.append(host)
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", count)
    closing = ScriptedResponse([chat("Hello")], headers={"Connection": "close"})
    async with ScriptedServer(closing, repeat=True) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        async with FastAcme(base_url=url) as session:
            for _ in range(2):
                await session.stream().collect()
    assert looked_up == ["localhost", "localhost"]


async def test_a_handshake_that_fails_in_a_tunnel_does_not_block_the_pool(
    scripted_server: ScriptedServer, trusted: Certificates
) -> None:
    scripted_server.play(HELLO)
    good = proxy(TUNNEL, tls_in_front_of(scripted_server, trusted.good))
    limits = httpx.Limits(max_connections=1)
    async with listening(in_turn(NO_TLS_WITHIN["plain HTTP"], good)) as port:
        transport = AiohttpTransport(proxy=f"http://{HOST}:{port}")
        async with Acme(
            base_url=ANYWHERE, transport=transport, limits=limits, retry=ONCE
        ) as session:
            with pytest.raises(ConnectFailed):
                await session.stream().collect()
            with anyio.fail_after(PATIENCE):
                assert (await session.stream().collect()).text == "Hello"


async def test_a_transport_can_be_used_again_after_its_session() -> None:
    transport = AiohttpTransport()
    async with ScriptedServer(HELLO, repeat=True) as server:
        for _ in range(2):
            async with Acme(base_url=server.url, transport=transport) as session:
                assert (await session.stream().collect()).text == "Hello"
        assert [record.requests for record in server.connections] == [1, 1]


# Without it


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_on_another_event_loop_it_says_what_to_do(scripted_server: ScriptedServer) -> None:
    async with FastAcme(base_url=scripted_server.url) as session:
        with pytest.raises(
            SessionStateError, match="on asyncio only: on trio, leave out transport"
        ):
            await session.stream().collect()


def test_without_aiohttp_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['aiohttp'] = None; import streamsession.aiohttp"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "ImportError: streamsession.aiohttp needs aiohttp: pip install" in done.stderr
    assert "streamsession[aiohttp]" in done.stderr


# httpx-aiohttp, which others use


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ([HANG_UP], StreamInterrupted),
        ([b"nonsense\r\n\r\n"], StreamInterrupted),
        ([HOLD], TimedOut),
    ],
    ids=["hang up", "no HTTP", "silence"],
)
@pytest.mark.parametrize("as_client", [False, True], ids=["transport", "client"])
async def test_the_failures_of_httpx_aiohttp_have_their_right_names(
    steps: list[Any], kind: type[Exception], *, as_client: bool
) -> None:
    limits = Timeouts(first_event=0.1)
    async with (
        ScriptedServer(ScriptedResponse(steps, framing="raw")) as server,
        httpx_aiohttp.HttpxAiohttpClient() as client,
    ):
        options: dict[str, Any] = {"http_client": client}
        if not as_client:
            options = {"transport": httpx_aiohttp.AiohttpTransport()}
        async with Acme(base_url=server.url, retry=ONCE, **options) as session:
            with pytest.raises(kind):
                await session.open_stream("POST", "/", timeout=limits).collect()


# The contract


class TestContract(SessionContract):
    """A session over it keeps every promise."""

    body: ClassVar[bytes] = chat("Hello", " ", "world")

    def session(self, url: str) -> FastAcme:
        return FastAcme(base_url=url, api_key=self.secret)
