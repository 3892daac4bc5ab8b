"""Secrets go to one origin, and are told by nothing: no error, log line, traceback or pickle."""

import logging
import os
import pickle
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from streamsession import (
    AuthenticationError,
    BearerAuth,
    ConnectFailed,
    DecodeError,
    EventTooLarge,
    HeaderAuth,
    InvalidRequest,
    PermissionDenied,
    RemoteError,
    Reply,
    Request,
    RetryPolicy,
    ServerError,
    SessionClosed,
    SessionError,
    StatusError,
    Stream,
    StreamClosed,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    TimedOut,
    Timeouts,
    TokenAuth,
    UnexpectedContent,
)
from streamsession._http._pool import (
    _redirect_target,  # pyright: ignore[reportPrivateUsage] - hypothesis needs it fast
)
from streamsession._plan import StreamOptions
from streamsession.testing import (
    HANG_UP,
    HOLD,
    RESET,
    Gate,
    ScriptedResponse,
    ScriptedServer,
    Step,
    mock_stream,
    sse,
)
from tests.acme import URL, Acme, Finish, Token, chat, sent, token
from tests.canary import CANARY, chain, is_told_in, told_by

pytestmark = pytest.mark.anyio

HELLO = ScriptedResponse([chat("Hello")])
ONCE = RetryPolicy(attempts=1)
SHORT = 0.05
QUERY = CANARY[::-1]
"""Stands in for the canary where a known defect tells it, which would fail the test by itself."""


def defect(reason: str, *, told: bool = True) -> pytest.MarkDecorator:
    """Marks what is not as it should be yet."""
    return pytest.mark.xfail(told, strict=True, reason=reason)


# One origin

FOLLOWED = [
    "/x",
    "x",
    "?x",
    "#x",
    "",
    "//{own}/x",
    "http://{own}",
    "http://{own}/x",
    "HTTP://{own}/x",
    "hTtP://{own}/x",
    "http:/x",
    "///evil.example",
    "/https://evil.example",
    "/@evil.example",
    "http:///evil.example/x",
    "\\\\evil.example",
    "/\\evil.example",
    "/../../x",
    "/%2e%2e/x",
    "http://{own}#@evil.example/",
    "http://{own}?@evil.example/",
    "http://{own}/@evil.example/",
]
"""Whatever they look like, by the standard they lead to the same origin."""

REFUSED = [
    "http://{other}/x",
    "//{other}/x",
    "HTTP://{other}/x",
    "https://{own}/x",
    "http://localhost:{port}/x",
    "http://127.0.0.1/x",
    "http://127.0.0.1:/x",
    "http://127.0.0.1:0/x",
    "http://127.0.0.1.:{port}/x",
    "http://127.1:{port}/x",
    "http://2130706433:{port}/x",
    "http://0x7f.1:{port}/x",
    "http://[::1]:{port}/x",
    "http://[::ffff:127.0.0.1]:{port}/x",
    "http://[::1%25lo]:{port}/x",
    "http://\u00b9\u00b2\u2077.0.0.1:{port}/x",
    "http://127.0.0.1\u00b7:{port}/x",
    "http://127.0.0.1%2eevil:{port}/x",
    "http://127.0.0.1%00:{port}/x",
    "http://{own}@{other}/x",
    "http://{own}\\@{other}/x",
    "http://{own}%40{other}/x",
    "//{own}@{other}/x",
    "//{own}\\.{other}/x",
    "\thttp://{other}/x",
    "/\t/{other}/x",
    "ht\ttp://{other}/x",
    "http://{own};{other}/x",
    "http://{own} {other}/x",
    "////{other}/x",
    "ftp://{own}/x",
    "ws://{own}/x",
    "file:///etc/passwd",
    "http+unix://{own}/x",
]
"""They lead elsewhere, or may lead elsewhere for who reads them differently."""

STATUSES = (301, 302, 303, 307, 308)


def redirects(location: str, *statuses: int) -> list[ScriptedResponse]:
    """A redirect of every status, its `Location` in UTF-8 if it is not ASCII."""
    headers = {"Location": location.encode().decode("latin-1")}
    return [ScriptedResponse(status=each, headers=headers) for each in statuses or STATUSES]


@pytest.mark.parametrize("location", FOLLOWED, ids=ascii)
async def test_a_redirect_within_the_origin_is_followed_with_the_key(
    scripted_server: ScriptedServer, location: str
) -> None:
    own = scripted_server.url.partition("//")[2]
    async with Acme(base_url=scripted_server.url, api_key=CANARY) as session:
        for redirect in redirects(location.format(own=own), 303, 308):
            scripted_server.play(redirect, HELLO)
            assert (await session.stream(CANARY).collect()).text == "Hello"
            first, second = scripted_server.requests[-2:]
            assert second.headers["authorization"] == f"Bearer {CANARY}"
            assert second.headers["host"] == own
            assert second.body == (first.body if redirect.status == 308 else b"")


@pytest.mark.parametrize("location", REFUSED, ids=ascii)
async def test_nothing_reaches_another_origin(
    scripted_server: ScriptedServer, location: str
) -> None:
    with ScriptedServer(HELLO, repeat=True) as other_server:
        own, other = (each.url.partition("//")[2] for each in (scripted_server, other_server))
        target = location.format(own=own, other=other, port=own.rpartition(":")[2])
        scripted_server.play(*redirects(target, 303, 308))
        async with Acme(base_url=scripted_server.url, api_key=CANARY) as session:
            for status in (303, 308):
                with pytest.raises(StatusError, match=r"^redirected to") as caught:
                    await session.stream(CANARY).collect()
                assert caught.value.status in (status, 0)
        assert other_server.connections == []
        assert len(scripted_server.requests) == 2


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize("location", ["http://{other}/x", "//{other}/x", "http://{own}@{other}/x"])
async def test_a_client_that_follows_redirects_by_itself_does_not_here(
    scripted_server: ScriptedServer, library: Any, location: str
) -> None:
    """Its own base URL, headers, parameters and credentials change nothing about that."""
    with ScriptedServer(HELLO, repeat=True) as other_server:
        own, other = (each.url.partition("//")[2] for each in (scripted_server, other_server))
        scripted_server.play(*redirects(location.format(own=own, other=other)))
        options: dict[str, Any] = {
            "follow_redirects": True,
            "base_url": f"{other_server.url}/base/",
            "auth": library.BasicAuth("user", CANARY),
            "headers": {"authorization": CANARY, "x-team": CANARY},
            "params": {"page": "1"},
        }
        async with (
            library.AsyncClient(**options) as client,
            Acme(base_url=scripted_server.url, http_client=client, api_key=CANARY) as session,
        ):
            for _ in STATUSES:
                with pytest.raises(StatusError, match="redirected to another origin"):
                    await session.stream(CANARY).collect()
        assert other_server.connections == []
        assert len(scripted_server.requests) == len(STATUSES)
        for request in scripted_server.requests:
            assert request.headers["authorization"] == f"Bearer {CANARY}"


@pytest.mark.parametrize(
    "location",
    [
        "https://api.acme.example:443/x",
        "https://api.acme.example:0443/x",
        "HTTPS://API.ACME.EXAMPLE/x",
    ],
)
async def test_an_origin_is_the_same_however_it_is_written(
    respx_mock: respx.MockRouter, location: str
) -> None:
    moved = mock_stream(status=307, headers={"Location": location})
    respx_mock.post(URL).mock(side_effect=moved)
    route = respx_mock.post("https://api.acme.example/x").mock(side_effect=mock_stream(chat()))
    async with Acme(api_key=CANARY) as session:
        await session.stream(CANARY).collect()
    assert sent(route)[0].headers["authorization"] == f"Bearer {CANARY}"


@pytest.mark.parametrize(
    "location",
    [
        "https://api.acme.example./x",
        "https://api.acme.example:80/x",
        "http://api.acme.example:443/x",
        "https://\u0430pi.acme.example/x",
        "https://api\u3002acme.example/x",
        pytest.param("https://xn--api-acme.example/x"),
        "https://user@api.acme.example.evil.example/x",
        pytest.param("https://api.acme.example:0/x"),
    ],
    ids=ascii,
)
async def test_an_origin_that_only_looks_the_same_is_another(
    respx_mock: respx.MockRouter, location: str
) -> None:
    as_sent = location.encode().decode("latin-1")
    route = respx_mock.route().mock(
        side_effect=mock_stream(status=307, headers={"Location": as_sent})
    )
    async with Acme(api_key=CANARY) as session:
        with pytest.raises(StatusError, match=r"^redirected to"):
            await session.stream(CANARY).collect()
    assert len(sent(route)) == 1


PIECES = ["/", "\\", "@", ":", "?", "#", "%2f", "%5c", "%40", ".", "..", "[", "]", "\t", " ", ";"]
WORDS = ["http", "HTTPS", "127.0.0.1", "evil.example", "8080", "80", "x", "\u3002", "\uff0f"]


@given(st.lists(st.sampled_from(PIECES + WORDS), max_size=12).map("".join))
def test_whoever_reads_a_redirect_reads_the_same_origin(location: str) -> None:
    base = "http://127.0.0.1:8080"
    for start in ("", base, base[5:]):
        try:
            target = _redirect_target(f"{base}/x", start + location, 307)
        except StatusError:
            continue
        for library in (httpx, httpx2):
            try:
                url = library.URL(target)
            except library.InvalidURL:
                continue
            assert (url.scheme, url.host, url.port) == ("http", "127.0.0.1", 8080), target


@pytest.mark.parametrize("user", ["user:password", "user", ":password"])
async def test_a_redirect_does_not_choose_who_is_asking(
    scripted_server: ScriptedServer, user: str
) -> None:
    """Else a body could be sent to an account of the attacker's."""
    target = scripted_server.url.replace("//", f"//{user}@")
    scripted_server.play(ScriptedResponse(status=307, headers={"Location": target}), HELLO)
    async with Acme(base_url=scripted_server.url, api_key=CANARY) as session:
        with pytest.raises(StatusError, match=r"^redirected to"):
            await session.stream(CANARY).collect()
    assert len(scripted_server.requests) == 1


class Resuming(Acme):
    """Goes on at the path that `resume_at` says, or after the last event id."""

    resumable = True
    resume_at: str | None = None

    def resume_request(
        self, request: Request, reply: Reply[Token | Finish], last_event_id: str
    ) -> Request | None:
        if self.resume_at is None:
            return super().resume_request(request, reply, last_event_id)
        return replace(request, path=self.resume_at)


BROKEN = ScriptedResponse([b"id: 1\n" + token("Hello"), HANG_UP])


@pytest.mark.parametrize(
    "path", ["http://{other}/x", "//{other}/x", "\\\\{other}", "/../x", "/%2e%2e/x", "/x\r\ny: z"]
)
async def test_resuming_goes_to_no_other_origin(scripted_server: ScriptedServer, path: str) -> None:
    with ScriptedServer(HELLO) as other:
        scripted_server.play(BROKEN)
        async with Resuming(base_url=scripted_server.url, api_key=CANARY) as session:
            session.resume_at = path.format(other=other.url.partition("//")[2])
            with pytest.raises(InvalidRequest, match="path must"):
                await session.stream(CANARY).collect()
        assert other.connections == []
    assert len(scripted_server.requests) == 1


async def test_resuming_follows_no_redirect_to_another_origin(
    scripted_server: ScriptedServer,
) -> None:
    with ScriptedServer(HELLO) as other:
        moved = ScriptedResponse(status=307, headers={"Location": other.url})
        scripted_server.play(BROKEN, moved)
        async with Resuming(base_url=scripted_server.url, api_key=CANARY) as session:
            with pytest.raises(StatusError, match="another origin") as caught:
                await session.stream(CANARY).collect()
        assert other.connections == []
    assert caught.value.partial.text == "Hello"


async def test_without_credentials_none_are_found_elsewhere(
    scripted_server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"default login user password {CANARY}\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with httpx.AsyncClient() as one, httpx2.AsyncClient() as other:
        for client in (None, one, other):
            scripted_server.play(HELLO)
            async with Acme(base_url=scripted_server.url, http_client=client) as session:
                await session.stream().collect()
    assert len(scripted_server.requests) == 3
    assert all("authorization" not in request.headers for request in scripted_server.requests)


# Cookies


def baking(*cookies: str) -> ScriptedResponse:
    head = "".join(f"Set-Cookie: {cookie}\r\n" for cookie in cookies)
    body = chat("Hello")
    text = f"HTTP/1.1 200 OK\r\n{head}Content-Type: text/event-stream\r\n"
    return ScriptedResponse(
        [f"{text}Content-Length: {len(body)}\r\n\r\n".encode() + body], framing="raw"
    )


async def test_no_cookie_is_kept(scripted_server: ScriptedServer) -> None:
    """Those of a handed-in client are its own affair."""
    wide = ["a=1", "b=2; Domain=acme.example", "c=3; Secure", "d=4; Path=/else", "e=5; Max-Age=0"]
    scripted_server.play(baking(*wide), HELLO, HELLO)
    for requests in (2, 1):
        async with Acme(base_url=scripted_server.url) as session:
            for _ in range(requests):
                await session.stream().collect()
    cookies = [request.headers.get("cookie", "") for request in scripted_server.requests]
    assert cookies == ["", "", ""]


async def test_cookies_do_not_pile_up(scripted_server: ScriptedServer) -> None:
    async with Acme(base_url=scripted_server.url) as session:
        for number in range(20):
            scripted_server.play(baking(*[f"c{number}-{n}={'x' * 100}" for n in range(10)]))
            await session.stream().collect()
    assert max(len(each.headers.get("cookie", "")) for each in scripted_server.requests) < 4096


# Proxies


@contextmanager
def proxy_of_the_environment(
    patch: pytest.MonkeyPatch, *answers: ScriptedResponse
) -> Generator[ScriptedServer]:
    with ScriptedServer(*answers) as proxy:
        for scheme in ("HTTP", "HTTPS"):
            patch.setenv(f"{scheme}_PROXY", proxy.url.replace("//", f"//user:{CANARY}@"))
        patch.delenv("NO_PROXY", raising=False)
        patch.delenv("no_proxy", raising=False)
        yield proxy


TUNNELS = [
    ScriptedResponse([HANG_UP], framing="raw"),
    ScriptedResponse([RESET], framing="raw"),
    ScriptedResponse(status=407),
    ScriptedResponse([b"HTTP/1.1 200 OK\r\n\r\n", HANG_UP], framing="raw"),
]


@pytest.mark.parametrize("answer", TUNNELS, ids=["hang up", "reset", "407", "no TLS"])
async def test_a_proxy_sees_nothing_of_what_goes_through_it(
    monkeypatch: pytest.MonkeyPatch, answer: ScriptedResponse
) -> None:
    with proxy_of_the_environment(monkeypatch, answer) as proxy:
        async with Acme(api_key=CANARY, retry=ONCE) as session:
            with pytest.raises(StreamError) as caught:
                await secret_stream(session).collect()
        (request,) = proxy.requests
    assert (request.method, request.path) == ("CONNECT", "api.acme.example:443")
    assert set(request.headers) == {"host", "accept", "proxy-authorization"}
    assert request.body == b""
    assert told(caught.value) == []


async def test_a_proxy_sees_what_is_not_encrypted_as_it_must(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever names a proxy for plain HTTP trusts it with all of it; `NO_PROXY` takes it back."""
    with proxy_of_the_environment(monkeypatch, HELLO) as proxy, ScriptedServer(HELLO) as server:
        async with Acme(base_url="http://api.acme.example", api_key=CANARY) as session:
            assert (await session.stream(CANARY).collect()).text == "Hello"
        (request,) = proxy.requests
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with Acme(base_url=server.url, api_key=CANARY) as session:
            assert (await session.stream(CANARY).collect()).text == "Hello"
        assert len(proxy.connections) == 1
    assert request.path == "http://api.acme.example/generate"
    assert request.headers["authorization"] == f"Bearer {CANARY}"


@pytest.mark.parametrize("url", ["ftp://proxy.example:1", "socks5://127.0.0.1:1"])
async def test_a_proxy_that_cannot_be_used_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(SessionError):
        async with Acme(retry=ONCE) as session:
            await session.stream().collect()


# What a failure tells


def tells(text: str) -> bool:
    return is_told_in(text) or QUERY in text


def told(exc: BaseException) -> list[str]:
    """Where it is told by an exception, by what that came from, or by its pickle."""
    where = sorted({*told_by(exc, tells)})
    if isinstance(exc, SessionError) and tells(pickle.dumps(exc).decode("latin-1")):
        where.append("the pickle")
    return where


def told_by_locals(exc: BaseException) -> list[str]:
    return [each for each in told(exc) if each.startswith("the variable")]


async def provide() -> str:
    return CANARY


class Keyed(Acme):
    """Acme with its key in a header of its own."""

    api_key_header = "x-api-key"


def with_token(**options: Any) -> Acme:
    return Acme(auth=TokenAuth(provide), **options)


SESSIONS: dict[str, Callable[..., Acme]] = {
    "api_key": partial(Acme, api_key=CANARY),
    "header of its own": partial(Keyed, api_key=SecretStr(CANARY)),
    "HeaderAuth": partial(Acme, auth=HeaderAuth("x-goog-api-key", CANARY)),
    "TokenAuth": with_token,
    "httpx": partial(Acme, auth=httpx.BasicAuth("user", CANARY)),
    "digest": partial(Acme, auth=httpx.DigestAuth(CANARY, CANARY)),
}


def secret_stream(session: Acme) -> Stream[Token | Finish]:
    """A stream with a secret in its body and in a header."""
    return session.open_stream(
        "POST", "/generate", json={"prompt": CANARY}, headers={"x-user": CANARY}
    )


@dataclass(frozen=True)
class Failure:
    """What a server does, and what becomes of the stream."""

    kind: type[StreamError]
    answer: ScriptedResponse
    timeout: Timeouts = field(default_factory=Timeouts)


FAILURES = {
    "cut": Failure(StreamTruncated, ScriptedResponse([token("Hello")])),
    "broken": Failure(StreamInterrupted, ScriptedResponse([token("Hello"), HANG_UP])),
    "no answer": Failure(StreamInterrupted, ScriptedResponse([HANG_UP], framing="raw")),
    "reset": Failure(StreamInterrupted, ScriptedResponse([RESET], framing="raw")),
    "no HTTP": Failure(StreamInterrupted, ScriptedResponse([b"nonsense\r\n\r\n"], framing="raw")),
    "compressed": Failure(
        StreamInterrupted, ScriptedResponse([b"x" * 30], headers={"Content-Encoding": "gzip"})
    ),
    "reported": Failure(RemoteError, ScriptedResponse([sse({"error": {"message": "no"}})])),
    "no event": Failure(TimedOut, ScriptedResponse([HOLD]), Timeouts(first_event=SHORT)),
    "no head": Failure(
        TimedOut, ScriptedResponse([HOLD], framing="raw"), Timeouts(first_event=SHORT)
    ),
    "no next event": Failure(
        TimedOut, ScriptedResponse([token("Hello"), HOLD]), Timeouts(idle=SHORT)
    ),
    "wrong": Failure(DecodeError, ScriptedResponse([sse({"type": "token", "text": 5})])),
    "too large": Failure(EventTooLarge, ScriptedResponse([b"data: " + bytes(2000)])),
    "401": Failure(AuthenticationError, ScriptedResponse(status=401)),
    "500": Failure(ServerError, ScriptedResponse([b"no"], status=500)),
    "elsewhere": Failure(
        StatusError, ScriptedResponse(status=307, headers={"Location": "http://evil.example/"})
    ),
    "nowhere": Failure(StatusError, ScriptedResponse(status=307, headers={"Location": "http://["})),
    "in a circle": Failure(
        StatusError, ScriptedResponse(status=307, headers={"Location": "/generate"})
    ),
    "a login page": Failure(UnexpectedContent, ScriptedResponse.html("Log in")),
    "no gzip": Failure(
        UnexpectedContent, ScriptedResponse([b"x"], headers={"Content-Encoding": "br"})
    ),
}


async def failures(
    url: str, read: Callable[[Acme], Stream[Any]], timeout: Timeouts
) -> Mapping[str, StreamError]:
    """How a stream fails in sessions of every kind, all at the same time."""
    errors: dict[str, StreamError] = {}

    async def fail(name: str, session: Acme) -> None:
        async with session:
            with pytest.raises(StreamError) as caught:
                await read(session).collect()
        errors[name] = caught.value

    async with (
        httpx.AsyncClient(auth=httpx.BasicAuth("user", CANARY)) as one,
        httpx2.AsyncClient(headers={"authorization": CANARY}, cookies={"a": CANARY}) as other,
        anyio.create_task_group() as group,
    ):
        sessions = SESSIONS | {
            "client of httpx": partial(Acme, http_client=one),
            "client of httpx2": partial(Acme, http_client=other),
        }
        for name, make in sessions.items():
            session = make(
                base_url=url,
                headers={"x-team": CANARY},
                retry=ONCE,
                timeout=timeout,
                max_event_bytes=1000,
            )
            group.start_soon(fail, name, session)
    return errors


@pytest.mark.parametrize("name", FAILURES)
async def test_no_failure_tells_a_secret(name: str) -> None:
    failure = FAILURES[name]
    with ScriptedServer(failure.answer, repeat=True) as server:
        errors = await failures(server.url, secret_stream, failure.timeout)
        assert all(CANARY in str(request.headers) for request in server.requests)
        assert all(CANARY.encode() in request.body for request in server.requests)
    assert {type(error) for error in errors.values()} == {failure.kind}
    assert {name: told(error) for name, error in errors.items() if told(error)} == {}


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port of this machine at which nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        yield port


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://127.0.0.1:{port}", TimedOut),
        ("http://127.0.0.1:1", ConnectFailed),
        ("http://x.invalid", ConnectFailed),
    ],
)
async def test_no_failure_to_connect_tells_a_secret(
    silent_port: int, url: str, kind: type[StreamError]
) -> None:
    timeout = Timeouts(connect=SHORT if kind is TimedOut else 5)
    errors = await failures(url.format(port=silent_port), secret_stream, timeout)
    assert {type(error) for error in errors.values()} == {kind}
    assert {name: told(error) for name, error in errors.items() if told(error)} == {}


@pytest.mark.parametrize("how", ["leave", "close", "cancel"])
@pytest.mark.parametrize("begun", [False, True], ids=["first", "next"])
async def test_neither_closing_nor_cancelling_tells_a_secret(how: str, *, begun: bool) -> None:
    errors: list[BaseException] = []
    scopes: list[anyio.CancelScope] = []

    async def read(stream: Stream[Any]) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            try:
                await stream.collect()
            except BaseException as exc:
                errors.append(exc)
                if not isinstance(exc, StreamError):
                    raise

    gate = Gate()
    steps: list[Step] = [token("Hello"), gate, HOLD] if begun else [gate, HOLD]
    response = ScriptedResponse(steps, framing="chunked" if begun else "raw")
    async with AsyncExitStack() as stack:
        server = stack.enter_context(ScriptedServer(response, repeat=True))
        group = await stack.enter_async_context(anyio.create_task_group())
        streams: list[Stream[Any]] = []
        for make in SESSIONS.values():
            session = make(base_url=server.url, headers={"x-team": CANARY})
            streams.append(secret_stream(await stack.enter_async_context(session)))
            group.start_soon(read, streams[-1])
        await gate.reached(times=len(streams))
        if how == "close":
            for stream in streams:
                await stream.aclose()
        if how == "cancel":
            for scope in scopes:
                scope.cancel()
            with anyio.fail_after(5):
                while len(errors) < len(streams):
                    await anyio.lowlevel.checkpoint()
    kind = {
        "leave": SessionClosed,
        "close": StreamClosed,
        "cancel": anyio.get_cancelled_exc_class(),
    }
    assert {type(error) for error in errors} == {kind[how]}
    assert len(errors) == len(SESSIONS)
    assert [told(error) for error in errors if told(error)] == []


@pytest.mark.parametrize("asked", [1, 2], ids=["first", "new"])
async def test_no_failure_to_get_a_token_tells_another(
    scripted_server: ScriptedServer, asked: int
) -> None:
    tokens = iter([CANARY] * (asked - 1))

    async def provide_or_fail() -> str:
        try:
            return next(tokens)
        except StopIteration:
            raise PermissionError("log in again") from None

    scripted_server.play(ScriptedResponse(status=401))
    session = Acme(base_url=scripted_server.url, auth=TokenAuth(provide_or_fail))
    async with session:
        with pytest.raises(PermissionError, match="log in again") as caught:
            await secret_stream(session).collect()
    assert len(scripted_server.requests) == asked - 1
    assert told(caught.value) == []


async def test_a_body_that_fails_on_its_way_tells_nothing(scripted_server: ScriptedServer) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield CANARY.encode()
        raise FileNotFoundError("no such recording")

    scripted_server.play(HELLO)
    async with Acme(base_url=scripted_server.url, api_key=CANARY) as session:
        with pytest.raises(FileNotFoundError) as caught:
            await session.open_stream("POST", "/generate", content=body()).collect()
    assert told(caught.value) == []


WRONG_KEYS = ["\n", "\r\nx-admin: 1", "\0", "\u00e9", "\u2028", "\ud800", " ", "\t", "\x7f"]


@pytest.mark.parametrize("end", WRONG_KEYS, ids=ascii)
async def test_a_key_that_cannot_be_sent_is_refused_and_not_told(
    scripted_server: ScriptedServer, end: str
) -> None:
    async def provide_wrong() -> str:
        return CANARY + end

    wrong: list[dict[str, Any]] = [
        {"api_key": CANARY + end},
        {"auth": BearerAuth(SecretStr(CANARY + end))},
        {"auth": HeaderAuth("x-api-key", CANARY + end)},
        {"auth": TokenAuth(provide_wrong)},
    ]
    for options in wrong:
        async with Acme(base_url=scripted_server.url, **options) as session:
            with pytest.raises(InvalidRequest, match=r"header '[A-Za-z-]+' must be") as caught:
                await session.stream().collect()
        assert told(caught.value) == []
    assert scripted_server.connections == []


def test_a_wrong_option_is_told_without_those_beside_it() -> None:
    """What a traceback with locals shows is another matter, see below."""
    for options in WRONG_OPTIONS:
        with pytest.raises((TypeError, ValueError)) as caught:
            Acme(**options)
        assert not any(tells(f"{each!r} {vars(each)}") for each in chain(caught.value))


WRONG_OPTIONS: list[dict[str, Any]] = [
    {"api_key": CANARY, "auth": BearerAuth(CANARY)},
    {"api_key": CANARY, "base_url": "nowhere"},
    {"api_key": CANARY, "max_event_bytes": 0},
    {"auth": CANARY},
    {"auth": ("user", CANARY)},
    {"headers": {"x-team": CANARY + "\n"}},
    {"headers": {"x-team": CANARY, "x y": "z"}},
    {"base_url": f"https://user:{CANARY}@api.acme.example"},
    {"base_url": f"https://api.acme.example?key={CANARY}"},
]

WRONG_STREAMS: list[dict[str, Any]] = [
    {"path": "//evil.example"},
    {"path": f"/x?key={CANARY} "},
    {"method": "GE T"},
    {"headers": {"x-user": CANARY + "\n"}},
    {"content": CANARY},
    {"json": {"prompt": CANARY, "of": object()}},
    {"json": {"prompt": CANARY, "of": float("nan")}},
    {"timeout": 5},
]


def open_wrong(options: dict[str, Any]) -> BaseException:
    secret: dict[str, Any] = {
        "method": "POST",
        "path": "/x",
        "json": {"prompt": CANARY},
        "params": {"key": CANARY},
        "headers": {"x-user": CANARY},
    }
    with pytest.raises((TypeError, ValueError)) as caught:
        Acme(api_key=CANARY).open_stream(**secret | options)
    return caught.value


@pytest.mark.parametrize("number", range(len(WRONG_STREAMS)))
def test_a_wrong_request_is_told_without_what_is_in_it(number: int) -> None:
    error = open_wrong(WRONG_STREAMS[number])
    assert not any(tells(f"{each!r} {vars(each)}") for each in chain(error))


# Not as it should be yet


def with_query(session: Acme) -> Stream[Token | Finish]:
    return session.open_stream("POST", f"/generate?key={QUERY}", params={"token": QUERY})


@pytest.mark.parametrize(
    "name",
    [
        "cut",
        "broken",
        "401",
        *[pytest.param(each) for each in ("no answer", "no head", "elsewhere")],
    ],
)
async def test_no_failure_tells_what_is_in_a_query(name: str) -> None:
    failure = FAILURES[name]
    with ScriptedServer(failure.answer, repeat=True) as server:
        errors = await failures(server.url, with_query, failure.timeout)
        assert all(request.path.count(QUERY) == 2 for request in server.requests)
    assert {type(error) for error in errors.values()} == {failure.kind}
    assert {name: told(error) for name, error in errors.items() if told(error)} == {}


async def test_no_failure_tells_what_is_in_a_request(scripted_server: ScriptedServer) -> None:
    scripted_server.play(ScriptedResponse(status=403))
    options: StreamOptions = {"json": {"prompt": QUERY}, "headers": {"x-user": QUERY}}
    async with Acme(base_url=scripted_server.url) as session:
        with pytest.raises(PermissionDenied) as caught:
            await session.request("POST", "/x", result=str, **options)
    assert told(caught.value) == []


@defect("httpx logs every URL whole, at INFO")
async def test_no_log_tells_what_is_in_a_query(
    scripted_server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    scripted_server.play(HELLO)
    with caplog.at_level(logging.DEBUG, "httpx"):
        async with Acme(base_url=scripted_server.url) as session:
            await with_query(session).collect()
    assert [record.name for record in caplog.records if tells(record.getMessage())] == []


@pytest.mark.parametrize("name", ["no answer", "reset", "no HTTP"])
async def test_what_a_failure_came_from_is_pickled_without_a_secret(name: str) -> None:
    failure = FAILURES[name]
    with ScriptedServer(failure.answer, repeat=True) as server:
        errors = await failures(server.url, secret_stream, failure.timeout)
    pickles = [pickle.dumps(each) for error in errors.values() for each in chain(error)]
    assert sum(tells(each.decode("latin-1")) for each in pickles) == 0


class Careless(httpx.Auth):
    """Sends a secret as it was read from a file, with its line break."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        request.headers["authorization"] = f"Bearer {QUERY}\n"
        yield request


@pytest.mark.parametrize("where", ["log", "error"])
async def test_a_header_that_the_library_refuses_is_not_told(
    scripted_server: ScriptedServer, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    with caplog.at_level(logging.DEBUG, "httpcore.http11"):
        async with Acme(base_url=scripted_server.url, auth=Careless()) as session:
            with pytest.raises(InvalidRequest) as caught:
                await session.stream().collect()
    if where == "error":
        assert told(caught.value) == []
    else:
        assert [record.name for record in caplog.records if tells(record.getMessage())] == []


@pytest.mark.parametrize(
    "again",
    [
        False,
        pytest.param(
            True,
        ),
    ],
    ids=["from", "again"],
)
async def test_forgetting_variables_ends_nothing_that_goes_on(*, again: bool) -> None:
    """A token provider may raise what a task in the background ran into and has got over."""

    def refreshing() -> Generator[Exception | None]:
        try:
            os.stat("/nowhere/at/all")  # noqa: PTH116 - raises
        except OSError as exc:
            yield exc
        yield None

    background = refreshing()

    async def provide_or_fail() -> str:
        error = next(background)
        if again and error is not None:
            raise error
        raise FileNotFoundError("no token yet") from error

    async with Acme(auth=TokenAuth(provide_or_fail)) as session:
        with pytest.raises(FileNotFoundError):
            await session.stream().collect()
    assert list(background) == [None]


@pytest.mark.parametrize("request_id", ["r\x1b[2J", "r\x9b2J", "r" * 60_000])
async def test_a_server_writes_no_control_characters_into_the_log(
    scripted_server: ScriptedServer, caplog: pytest.LogCaptureFixture, request_id: str
) -> None:
    scripted_server.play(ScriptedResponse([chat()], headers={"X-Request-Id": request_id}))
    with caplog.at_level(logging.DEBUG, "streamsession"):
        async with Acme(base_url=scripted_server.url) as session:
            await session.stream().collect()
    lines = [record.getMessage() for record in caplog.records]
    assert any("request r" in line for line in lines)
    assert all(line.isprintable() and len(line) < 1000 for line in lines)


# The canary itself

LEAKS = """
import base64, logging, os, sys
import pytest
from streamsession import StreamError
from tests.canary import CANARY

def fail(key):
    raise StreamError("no")

@pytest.fixture
def late():
    yield
    print(CANARY)

def test_output():
    print("key:", CANARY)

def test_standard_error():
    os.write(2, CANARY.encode())

def test_beginning():
    print(CANARY[:15] + "...")

@pytest.mark.parametrize("user", ["", "a", "ab"])
def test_base64(user):
    print(base64.b64encode((user + CANARY).encode()).decode())

@pytest.mark.parametrize("name", ["streamsession", "httpx", "httpcore.http11", "httpx2", "asyncio"])
def test_debugging(name):
    logging.getLogger(name).debug("key %s", CANARY)

def test_any_log():
    logging.getLogger("any").warning("key %s", CANARY)

def test_failure():
    assert CANARY == ""

def test_caught_text():
    with pytest.raises(StreamError):
        raise StreamError("no") from ValueError(CANARY)

def test_caught_attribute():
    with pytest.raises(StreamError):
        raise StreamError("no", request_id=CANARY)

def test_caught_variable():
    with pytest.raises(StreamError):
        fail(CANARY)

@pytest.mark.xfail(strict=True)
def test_expected_failure():
    print(CANARY)
    raise ValueError

def test_teardown(late):
    pass

def test_silence(caplog):
    logging.getLogger("streamsession").debug("nobody asked")
    with caplog.at_level("DEBUG", "streamsession"):
        logging.getLogger("streamsession").debug("asked")
    assert [each.getMessage() for each in caplog.records] == ["asked"]
    assert CANARY
"""


def test_who_tells_the_canary_fails_by_name(tmp_path: Path) -> None:
    (tmp_path / "test_leaks.py").write_text(LEAKS, encoding="utf-8")
    path = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.canary", "-p", "no:cacheprovider", "-rA"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    told_of = set(
        re.findall(r"^(?:FAILED|ERROR) test_leaks.py::test_(\S+)", done.stdout, re.MULTILINE)
    )
    assert told_of == {
        *("output", "standard_error", "beginning", "base64[]", "base64[a]", "base64[ab]"),
        *(f"debugging[{each}]" for each in ("streamsession", "httpx", "httpcore.http11")),
        *("debugging[httpx2]", "debugging[asyncio]", "any_log", "failure", "expected_failure"),
        *("caught_text", "caught_attribute", "caught_variable", "teardown"),
    }
    assert set(re.findall(r"^PASSED test_leaks.py::test_(\w+)", done.stdout, re.MULTILINE)) == {
        "silence",
        "teardown",
    }
