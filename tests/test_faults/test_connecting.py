"""No connection: nobody there, no such name, no trust, a proxy in the way; and TLS that is cut."""

import socket
from typing import Any

import httpx
import pytest
from anyio.abc import SocketStream

from streamsession import (
    ConnectFailed,
    ServerError,
    SessionError,
    StatusError,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    TimedOut,
    UnexpectedContent,
)
from streamsession.testing import HANG_UP, ScriptedResponse, ScriptedServer
from tests.test_faults.apis import (
    ONCE,
    POOL_OF_ONE,
    SSE,
    Api,
    chunk,
    failure_in,
    in_both,
    limits,
    row,
    works,
)
from tests.test_faults.fronts import (
    HOST,
    Certificates,
    Handler,
    handing_on_to,
    hang_up,
    in_turn,
    listening,
    proxy,
    reset,
    saying,
    stall,
    tls_in_front_of,
    wrapped,
)

pytestmark = pytest.mark.anyio

SHORT = 0.1
"""A limit that runs out within a test, in seconds."""

# Nobody there


@in_both
async def test_a_server_that_was_not_there_is_reached_when_it_is(
    scripted_server: ScriptedServer, api: Api
) -> None:
    scripted_server.play(api.answer(api.chat("next")))
    serve = handing_on_to(scripted_server)
    async with listening(serve) as port:
        pass
    async with api.session(base_url=f"http://{HOST}:{port}", limits=POOL_OF_ONE) as session:
        error = await failure_in(session, ConnectFailed, attempts=3)
        assert isinstance(error, ConnectionError)
        assert isinstance(error.__cause__, httpx.ConnectError)
        assert str(error).startswith(f"could not connect to http://{HOST}:{port}")
        assert error.__notes__ == ["Gave up after 3 attempts."]
        async with listening(serve, port=port):
            await works(session, reused=False)


# No such name


class Names:
    """Stands in for the resolver: `api.acme.invalid` is here, if it is found at all."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.failure: OSError | None = None
        self._resolve: Any = socket.getaddrinfo
        patch.setattr(socket, "getaddrinfo", self.look_up)

    def look_up(self, host: Any, *args: Any, **options: Any) -> Any:
        if host in ("api.acme.invalid", b"api.acme.invalid"):
            if self.failure is not None:
                raise self.failure
            host = HOST
        return self._resolve(host, *args, **options)


NO_NAME = {
    "unknown": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    "later": socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    "broken": socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"),
}


@in_both
async def test_a_name_that_is_not_found_is_no_connection(
    scripted_server: ScriptedServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch)
    url = f"http://api.acme.invalid:{scripted_server.url.rpartition(':')[2]}"
    async with api.session(base_url=url, limits=POOL_OF_ONE) as session:
        for name, failure in NO_NAME.items():
            with row(name):
                names.failure = failure
                error = await failure_in(session, ConnectFailed, attempts=3)
                assert isinstance(error.__cause__, httpx.ConnectError)
                assert str(error).startswith(f"could not connect to {url}")
                assert str(failure.strerror) in str(error)
        names.failure = None
        scripted_server.play(api.answer(api.chat("next")))
        await works(session, reused=False)


@in_both
@pytest.mark.parametrize("host", [f"{'a' * 64}.invalid", "xn--"], ids=["too long", "no IDNA"])
async def test_what_cannot_be_a_name_is_an_error_of_ours(api: Api, host: str) -> None:
    with pytest.raises(SessionError):
        async with api.session(base_url=f"http://{host}", retry=ONCE) as session:
            await session.stream().collect()


# No TLS

NO_TLS: dict[str, Handler] = {
    "plain HTTP": saying(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    "an alert": saying(b"\x15\x03\x03\x00\x02\x02\x28"),
    "hanging up": hang_up,
    "a reset": reset,
    "half a hello": saying(b"\x16\x03\x03\x40\x00\x02"),
}


@in_both
@pytest.mark.parametrize("handler", NO_TLS.values(), ids=NO_TLS)
async def test_a_handshake_that_fails_is_no_connection(
    scripted_server: ScriptedServer, api: Api, trusted: Certificates, handler: Handler
) -> None:
    scripted_server.play(*[api.answer(api.chat("next"))] * 2)
    handle = in_turn(handler, tls_in_front_of(scripted_server, trusted.good))
    async with (
        listening(handle) as port,
        api.session(base_url=f"https://{HOST}:{port}", limits=POOL_OF_ONE, retry=ONCE) as session,
    ):
        error = await failure_in(session, ConnectFailed)
        assert isinstance(error.__cause__, httpx.ConnectError)
        assert str(error).startswith(f"could not connect to https://{HOST}:{port}")
        await works(session, reused=False)
        await works(session, reused=True)


@pytest.mark.parametrize("certificate", ["of_another_host", "of_another_authority"])
async def test_a_certificate_that_is_not_the_servers_is_no_connection(
    scripted_server: ScriptedServer, trusted: Certificates, certificate: str
) -> None:
    handler = tls_in_front_of(scripted_server, getattr(trusted, certificate))
    async with (
        listening(handler) as port,
        SSE.session(
            base_url=f"https://{HOST}:{port}", api_key="key", limits=POOL_OF_ONE
        ) as session,
    ):
        await failure_in(session, ConnectFailed, attempts=3)
    assert scripted_server.requests == []


async def test_the_error_says_why_there_is_no_trust(
    scripted_server: ScriptedServer, trusted: Certificates
) -> None:
    handler = tls_in_front_of(scripted_server, trusted.of_another_host)
    async with (
        listening(handler) as port,
        SSE.session(base_url=f"https://{HOST}:{port}", retry=ONCE) as session,
    ):
        error = await failure_in(session, ConnectFailed)
        assert "certificate verify failed" in str(error)


@in_both
async def test_a_handshake_that_stalls_runs_out_the_connect_clock(
    scripted_server: ScriptedServer, api: Api, trusted: Certificates
) -> None:
    scripted_server.play(api.answer(api.chat("next")))
    handle = in_turn(stall, tls_in_front_of(scripted_server, trusted.good))
    async with (
        listening(handle) as port,
        api.session(base_url=f"https://{HOST}:{port}", limits=POOL_OF_ONE, retry=ONCE) as session,
    ):
        error = await failure_in(session, TimedOut, timeout=limits(connect=SHORT))
        assert (error.clock, error.seconds) == ("connect", SHORT)
        await works(session, reused=False)


async def test_a_server_that_speaks_tls_where_none_was_expected_is_interrupted(
    scripted_server: ScriptedServer, trusted: Certificates
) -> None:
    scripted_server.play(SSE.answer(SSE.chat("next")))
    handle = in_turn(tls_in_front_of(scripted_server, trusted.good), handing_on_to(scripted_server))
    async with (
        listening(handle) as port,
        SSE.session(base_url=f"http://{HOST}:{port}", limits=POOL_OF_ONE, retry=ONCE) as session,
    ):
        await failure_in(session, StreamInterrupted)
        await works(session, reused=False)


# TLS that is cut


@in_both
@pytest.mark.parametrize("ends_politely", [True, False])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
async def test_a_stream_over_tls_that_is_cut_is_never_whole(
    scripted_server: ScriptedServer,
    api: Api,
    trusted: Certificates,
    framing: Any,
    *,
    ends_politely: bool,
) -> None:
    """An end without `close_notify` may be an attacker's; httpx does not tell it from another."""
    body = api.chat("Hello", "late")
    cut = ScriptedResponse(
        [body], content_type=api.media, framing=framing, hang_up_after=len(api.tokens("Hello"))
    )
    scripted_server.play(cut, *[api.answer(api.chat("next"))] * 2)
    handle = tls_in_front_of(scripted_server, trusted.good, ends_politely=ends_politely)
    async with (
        listening(handle) as port,
        api.session(base_url=f"https://{HOST}:{port}", limits=POOL_OF_ONE, retry=ONCE) as session,
    ):
        kind = StreamTruncated if framing == "close" else StreamInterrupted
        await failure_in(session, kind, texts=["Hello"])
        await works(session, reused=False)
        await works(session, reused=True)


@in_both
async def test_a_stream_over_tls_that_is_damaged_is_interrupted(
    scripted_server: ScriptedServer, api: Api, trusted: Certificates
) -> None:
    async def damage(client: SocketStream) -> None:
        stream = await wrapped(client, trusted.good)
        await stream.receive()
        await stream.send(api.head + chunk(api.tokens("Hello")))
        await client.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        await stall(client)

    scripted_server.play(api.answer(api.chat("next")))
    handle = in_turn(damage, tls_in_front_of(scripted_server, trusted.good))
    async with (
        listening(handle) as port,
        api.session(base_url=f"https://{HOST}:{port}", limits=POOL_OF_ONE, retry=ONCE) as session,
    ):
        await failure_in(session, StreamInterrupted, texts=["Hello"])
        await works(session, reused=False)


# Proxies

TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"
ANYWHERE = f"https://{HOST}:1"
"""Which only the proxy can reach."""


def behind_a_proxy(port: int) -> httpx.AsyncHTTPTransport:
    return httpx.AsyncHTTPTransport(proxy=f"http://{HOST}:{port}", limits=POOL_OF_ONE)


def refusing(status: bytes) -> Handler:
    page = b"<html>" + b"x" * 1000
    return proxy(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(page), page))


NO_TUNNEL: dict[str, Handler] = {
    "407": refusing(b"407 Proxy Authentication Required"),
    "403": refusing(b"403 Forbidden"),
    "502": refusing(b"502 Bad Gateway"),
    "301": proxy(b"HTTP/1.1 301 Moved\r\nLocation: http://localhost/\r\n\r\n"),
    "hanging up": proxy(b""),
    "hanging up in its head": proxy(TUNNEL[:20]),
    "a reset": reset,
    "no HTTP": proxy(b"\x05\x00\r\n\r\n"),
}


@in_both
@pytest.mark.parametrize("handler", NO_TUNNEL.values(), ids=NO_TUNNEL)
async def test_a_proxy_that_makes_no_tunnel_is_no_connection(
    scripted_server: ScriptedServer, api: Api, trusted: Certificates, handler: Handler
) -> None:
    scripted_server.play(*[api.answer(api.chat("next"))] * 2)
    good = proxy(TUNNEL, tls_in_front_of(scripted_server, trusted.good))
    async with (
        listening(in_turn(handler, good)) as port,
        api.session(base_url=ANYWHERE, transport=behind_a_proxy(port), retry=ONCE) as session,
    ):
        error = await failure_in(session, ConnectFailed)
        assert str(error).startswith(f"could not connect to {ANYWHERE}")
        await works(session, reused=False)
        await works(session, reused=True)


NO_TLS_WITHIN: dict[str, Handler] = {
    "hanging up": proxy(TUNNEL),
    "plain HTTP": proxy(TUNNEL, NO_TLS["plain HTTP"]),
}


@pytest.mark.parametrize("handler", NO_TLS_WITHIN.values(), ids=NO_TLS_WITHIN)
async def test_a_handshake_that_fails_in_a_tunnel_is_no_connection(handler: Handler) -> None:
    async with (
        listening(handler) as port,
        SSE.session(base_url=ANYWHERE, transport=behind_a_proxy(port), retry=ONCE) as session,
    ):
        await failure_in(session, ConnectFailed)


@pytest.mark.xfail(
    strict=True,
    reason="httpcore keeps the connection: https://github.com/encode/httpcore/issues/1023",
)
async def test_a_handshake_that_fails_in_a_tunnel_does_not_block_the_pool(
    scripted_server: ScriptedServer, trusted: Certificates
) -> None:
    scripted_server.play(SSE.answer(SSE.chat("next")))
    good = proxy(TUNNEL, tls_in_front_of(scripted_server, trusted.good))
    timeout = limits(first_event=5 * SHORT)
    async with (
        listening(in_turn(NO_TLS_WITHIN["plain HTTP"], good)) as port,
        SSE.session(
            base_url=ANYWHERE, transport=behind_a_proxy(port), retry=ONCE, timeout=timeout
        ) as session,
    ):
        await failure_in(session, ConnectFailed)
        await works(session, reused=False)


async def test_a_proxy_that_stalls_runs_out_a_clock(
    scripted_server: ScriptedServer, trusted: Certificates
) -> None:
    scripted_server.play(SSE.answer(SSE.chat("next")))
    good = proxy(TUNNEL, tls_in_front_of(scripted_server, trusted.good))
    async with (
        listening(in_turn(stall, good)) as port,
        SSE.session(base_url=ANYWHERE, transport=behind_a_proxy(port), retry=ONCE) as session,
    ):
        error = await failure_in(session, TimedOut, timeout=limits(first_event=SHORT))
        assert error.clock == "first_event"
        await works(session, reused=False)


@in_both
async def test_a_proxy_that_hands_on_what_is_not_encrypted_fails_as_a_server_does(
    scripted_server: ScriptedServer, api: Api
) -> None:
    answers: dict[type[StreamError], ScriptedResponse] = {
        StatusError: ScriptedResponse(status=407),
        ServerError: ScriptedResponse.html("<h1>Bad Gateway</h1>", status=502),
        StreamInterrupted: api.answer(HANG_UP),
        StreamTruncated: api.answer(),
        UnexpectedContent: ScriptedResponse.html("<h1>Please log in</h1>"),
    }
    port = int(scripted_server.url.rpartition(":")[2])
    async with api.session(
        base_url="http://api.acme.invalid", transport=behind_a_proxy(port), retry=ONCE
    ) as session:
        for kind, answer in answers.items():
            scripted_server.play(answer, api.answer(api.chat("next")))
            await failure_in(session, kind)
            await works(session, reused=kind is not StreamInterrupted)
    assert {each.path for each in scripted_server.requests} == {"http://api.acme.invalid/generate"}


async def test_a_proxy_that_is_not_there_is_no_connection() -> None:
    async with listening(hang_up) as port:
        pass
    async with SSE.session(
        base_url=ANYWHERE, transport=behind_a_proxy(port), retry=ONCE
    ) as session:
        await failure_in(session, ConnectFailed)
        await failure_in(session, ConnectFailed)
