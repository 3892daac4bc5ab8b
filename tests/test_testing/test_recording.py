import asyncio
import base64
import gc
import gzip
import json
import re
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import anyio
import httpx
import pytest
import respx
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from streamsession import RetryPolicy, Stream, StreamError, StreamInterrupted, StreamTruncated
from streamsession.testing import (
    HANG_UP,
    HOLD,
    Gate,
    MockStream,
    Pause,
    ScriptedResponse,
    ScriptedServer,
    SecretFound,
    record,
    replay,
    sse,
)
from streamsession.testing._recording._cassette import (
    Chunk,
    EndLine,
    Exchange,
    RequestLine,
    ResponseLine,
    dump,
    load,
)
from tests.acme import BASE_URL, URL, Acme, Finish, Token, chat, token

KEY = "acme-key-2f9a77c1"
HEAD = '{"format": "streamsession recording", "version": 1}'
REQUEST = '{"request": "GET", "path": "/", "headers": {}}'
RESPONSE = '{"response": 200, "after": 0.0, "http": "HTTP/1.1", "headers": {}}'
END = '{"end": "complete", "after": 0.0}'

pytestmark = pytest.mark.anyio
once = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # nothing in it depends on the loop


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stream.jsonl"


def playing(*responses: ScriptedResponse) -> httpx.MockTransport:
    return httpx.MockTransport(MockStream(*responses))


async def get(
    transport: httpx.AsyncBaseTransport, url: str = URL, **headers: str
) -> tuple[httpx.Response, list[bytes]]:
    """A response and the chunks of its body."""
    async with (
        httpx.AsyncClient(transport=transport) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        return response, [chunk async for chunk in response.aiter_raw()]


async def body_from(transport: httpx.AsyncBaseTransport) -> httpx.AsyncByteStream:
    """A body as the transport gives it, without a client around it."""
    response = await transport.handle_async_request(httpx.Request("GET", URL))
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return response.stream


async def recorded(
    path: Path,
    *live: ScriptedResponse,
    url: str = URL,
    secrets: Iterable[str | SecretStr] | SecretStr = (),
    keep_headers: Sequence[str] = (),
    **headers: str,
) -> None:
    """Record what is played, one request for each response."""
    with record(
        path, transport=playing(*live), secrets=secrets, keep_headers=keep_headers
    ) as transport:
        for _ in live:
            await get(transport, url, **headers)


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in text_of(path).splitlines()]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def files_beside(path: Path) -> list[str]:
    """The names in its folder, its own too if it is there."""
    return [each.name for each in path.parent.iterdir()]


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def ticking(*times: float) -> Callable[[], float]:
    """A clock that shows these times, one for each look."""
    return iter(times).__next__


async def read(stream: Stream[Token | Finish]) -> tuple[list[Token | Finish], StreamError | None]:
    """All events of a stream, and how it failed."""
    events: list[Token | Finish] = []
    try:
        async for event in stream:
            events.append(event)  # noqa: PERF401  # those before a failure count
    except StreamError as exc:
        return events, exc
    return events, None


async def read_replayed(path: Path) -> list[tuple[list[Token | Finish], StreamError | None]]:
    """The same stream from the recording, over sockets and without any."""
    single = RetryPolicy(attempts=1)
    async with (
        ScriptedServer(*replay(path)) as server,
        Acme(base_url=server.url, retry=single) as session,
    ):
        over_sockets = await read(session.stream())
    with respx.mock:
        respx.post(URL).mock(side_effect=MockStream(*replay(path)))
        async with Acme(retry=single) as session:
            without = await read(session.stream())
    return [over_sockets, without]


def without_framing(response: httpx.Response) -> httpx.Response:
    """As a server sends it that ends a body by closing, or speaks HTTP/2."""
    del response.headers["Transfer-Encoding"]
    return response


# There and back


async def test_a_session_gets_from_a_recording_what_it_got_live(path: Path) -> None:
    live = ScriptedResponse.sse(Token(text="Grüß"), Token(text=" dich"), Finish())
    async with ScriptedServer(live) as server:
        with record(path) as transport:
            async with Acme(base_url=server.url, api_key=KEY, transport=transport) as session:
                events, error = await read(session.stream())
    assert (len(events), error) == (3, None)
    assert await read_replayed(path) == [(events, None)] * 2


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        (ScriptedResponse([token("Hi"), HANG_UP]), StreamInterrupted),
        (ScriptedResponse([token("Hi")], framing="length", hang_up_after=9), StreamInterrupted),
        (ScriptedResponse([token("Hi")], framing="close"), StreamTruncated),
        (ScriptedResponse([token("Hi")], framing="length"), StreamTruncated),
        (ScriptedResponse([token("Hi")]), StreamTruncated),
    ],
)
async def test_a_stream_that_fails_fails_alike_from_its_recording(
    path: Path, live: ScriptedResponse, expected: type[StreamError]
) -> None:
    seen: list[Token | Finish] = []

    async def record_it(url: str) -> None:
        with record(path) as transport:
            async with Acme(
                base_url=url, transport=transport, retry=RetryPolicy(attempts=1)
            ) as session:
                async for event in session.stream():
                    seen.append(event)  # noqa: PERF401

    async with ScriptedServer(live) as server:
        with pytest.raises(expected) as caught:  # it leaves the block, and the file is written
            await record_it(server.url)
    assert not hasattr(caught.value, "__notes__") or "recording" not in str(caught.value.__notes__)
    for events, error in await read_replayed(path):
        assert events == seen
        assert type(error) is expected


@pytest.mark.parametrize(
    ("live", "framing"),
    [
        (ScriptedResponse([b"one", b"two\n\n", b"\xe2\x82", b"\xac"]), "chunked"),
        (ScriptedResponse([b"one"], framing="length"), "length"),
        (ScriptedResponse([b"one"], framing="close"), "close"),
        (
            ScriptedResponse([gzip.compress(b"one")], headers={"Content-Encoding": "gzip"}),
            "chunked",
        ),
        (ScriptedResponse.json({"error": "slow down"}, status=429), "length"),
        (ScriptedResponse([], framing="length"), "length"),
        (ScriptedResponse(status=204), "chunked"),
        (ScriptedResponse([b"bye"], headers={"Connection": "close"}), "chunked"),
    ],
)
async def test_the_same_bytes_come_in_the_same_chunks_and_framing(
    path: Path, live: ScriptedResponse, framing: str
) -> None:
    async with ScriptedServer(live) as server:
        with record(path) as transport:
            response, chunks = await get(transport, server.url)
    again = replay(path)
    assert chunks == list(live.steps)
    assert [each.framing for each in again] == [framing]
    async with ScriptedServer(*again) as server:
        over_sockets, pieces = await get(httpx.AsyncHTTPTransport(), server.url)
    without, mocked = await get(playing(*again))
    assert pieces == mocked == chunks
    assert response.status_code == over_sockets.status_code == without.status_code
    assert over_sockets.headers == without.headers == response.headers


async def test_an_attempt_that_failed_is_an_exchange_of_its_own(path: Path) -> None:
    async with ScriptedServer(
        ScriptedResponse.json({"error": "busy"}, status=503, headers={"Retry-After": "0"}),
        ScriptedResponse([chat("Hi")]),
    ) as server:
        with record(path) as transport:
            async with Acme(base_url=server.url, transport=transport) as session:
                await session.stream().collect()
    async with ScriptedServer(*replay(path)) as server, Acme(base_url=server.url) as session:
        stream = session.stream()
        reply = await stream.collect()
    assert (reply.text, stream.stats.attempts) == ("Hi", 2)
    assert [each.headers.get("retry-after") for each in replay(path)] == ["0", None]


async def test_streams_at_the_same_time_are_kept_whole_in_the_order_of_their_requests(
    path: Path,
) -> None:
    gate = Gate()
    inner = playing(ScriptedResponse([b"1a", gate, b"1b"]), ScriptedResponse([b"2a", b"2b"]))
    with record(path, transport=inner) as transport:
        async with anyio.create_task_group() as group:
            group.start_soon(get, transport, f"{BASE_URL}/1")
            await gate.reached()
            await get(transport, f"{BASE_URL}/2")
            gate.open()
    assert [each.steps for each in replay(path)] == [(b"1a", b"1b"), (b"2a", b"2b")]
    assert [line["path"] for line in lines_of(path) if "request" in line] == ["/v1/1", "/v1/2"]


async def test_an_answer_given_at_once_is_recorded(path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"path": request.url.path})

    with record(path, transport=httpx.MockTransport(answer)) as transport:
        async with httpx.AsyncClient(transport=transport) as client:
            assert (await client.get(URL)).json() == {"path": "/v1/generate"}
    assert [each.steps for each in replay(path)] == [(b'{"path":"/v1/generate"}',)]


async def test_a_head_keeps_the_length_that_it_tells(path: Path) -> None:
    async with ScriptedServer(ScriptedResponse([b"four"], framing="length")) as server:
        with record(path) as transport:
            async with httpx.AsyncClient(transport=transport) as client:
                await client.head(server.url)
    async with ScriptedServer(*replay(path)) as server, httpx.AsyncClient() as client:
        assert (await client.head(server.url)).headers["Content-Length"] == "4"


@pytest.mark.parametrize(
    ("http", "end", "framing"),
    [
        (b"HTTP/1.0", None, "close"),
        (b"HTTP/1.1", None, "close"),
        (b"HTTP/2", None, "chunked"),
        (b"HTTP/1.1", httpx.ReadError("reset"), "chunked"),
        (b"HTTP/2", httpx.RemoteProtocolError("reset"), "chunked"),
    ],
)
async def test_a_body_without_framing_ends_as_it_did(
    path: Path, http: bytes, end: httpx.TransportError | None, framing: str
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        if end is not None:
            raise end

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=body(), extensions={"http_version": http})

    inner = httpx.MockTransport(lambda request: without_framing(answer(request)))
    with record(path, transport=inner) as transport:
        if end is None:
            await get(transport)
        else:
            with pytest.raises(type(end)):
                await get(transport)
    assert [each.framing for each in replay(path)] == [framing]
    async with ScriptedServer(*replay(path)) as server:
        if end is None:
            assert (await get(httpx.AsyncHTTPTransport(), server.url))[1] == [b"one"]
        else:
            with pytest.raises(httpx.RemoteProtocolError):
                await get(httpx.AsyncHTTPTransport(), server.url)


# What is in the file


async def test_the_file_is_made_to_be_read(path: Path) -> None:
    live = ScriptedResponse(
        [sse("Hi ☃"), b"\xe2\x82", b"\xac\xff", HANG_UP],
        headers={"X-Model": "a-1", "Server": "acme"},
    )
    clock = ticking(100.0, 100.25, 100.2526, 101.0, 101.0004, 103.0)
    with record(path, transport=playing(live), clock=clock) as transport:
        async with httpx.AsyncClient(transport=transport) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(
                    f"{URL}?model=private&stream",
                    headers={"Authorization": f"Bearer {KEY}", "User-Agent": "acme/1"},
                    content=b"a private prompt",
                )
    assert text_of(path).splitlines() == [
        '{"format": "streamsession recording", "version": 1}',
        (
            '{"request": "POST", "path": "/v1/generate?model=[redacted]&[redacted]", "headers": '
            '{"host": "[redacted]", "accept": "*/*", "accept-encoding": "gzip, deflate", '
            '"connection": "keep-alive", "authorization": "[redacted]", "user-agent": "acme/1", '
            '"content-length": "16"}}'
        ),
        (
            '{"response": 200, "after": 0.25, "http": "HTTP/1.1", "headers": '
            '{"content-type": "text/event-stream", "transfer-encoding": "chunked", '
            '"x-model": "[redacted]", "server": "acme"}}'
        ),
        '{"after": 0.003, "text": "data: Hi ☃\\n\\n"}',
        '{"after": 0.747, "base64": "4oI="}',
        '{"after": 0.0, "base64": "rP8="}',
        '{"end": "broken", "after": 2.0, "error": "RemoteProtocolError"}',
    ]


@pytest.mark.parametrize(
    ("pace", "pauses"),
    [(0.0, []), (1.0, [0.3, 1.5, 0.25]), (2.0, [0.6, 3.0, 0.5])],
)
def test_pauses_are_kept_as_long_as_wanted(path: Path, pace: float, pauses: list[float]) -> None:
    written(
        path,
        HEAD,
        REQUEST,
        RESPONSE.replace("0.0", "0.1"),
        '{"after": 0.2, "text": "one"}',
        '{"after": 0.0, "text": "two"}',
        '{"after": 1.5, "text": "three"}',
        END.replace("0.0", "0.25"),
    )
    (response,) = replay(path, pace=pace)
    found = [step.seconds for step in response.steps if isinstance(step, Pause)]
    assert found == pytest.approx(pauses)
    steps = [step for step in response.steps if isinstance(step, bytes)]
    assert steps == [b"one", b"two", b"three"]
    if pauses:
        assert [type(step) for step in response.steps] == [Pause, bytes, bytes, Pause, bytes, Pause]


@pytest.mark.parametrize("pace", [-1.0, float("nan"), float("inf")])
def test_a_pace_that_is_none_is_refused(path: Path, pace: float) -> None:
    with pytest.raises(ValueError, match="expected 0 or more"):
        replay(path, pace=pace)


async def test_headers_keep_their_names_and_only_harmless_values(path: Path) -> None:
    live = ScriptedResponse(
        [b"one"], headers={"Set-Cookie": "session=1", "X-Request-Id": "7", "X-Model": "a-1"}
    )
    with record(path, transport=playing(live), keep_headers=["X-MODEL"]) as transport:
        await get(transport, Cookie="a=b", **{"X-Api-Key": KEY, "Last-Event-Id": "41"})
    _, request, response, *_ = lines_of(path)
    assert request["headers"] == {
        "host": "[redacted]",
        "accept": "*/*",
        "accept-encoding": "gzip, deflate",
        "connection": "keep-alive",
        "user-agent": f"python-httpx/{httpx.__version__}",
        "cookie": "[redacted]",
        "x-api-key": "[redacted]",
        "last-event-id": "41",
    }
    (again,) = replay(path)
    assert again.headers == {
        "content-type": "text/event-stream",
        "x-request-id": "7",
        "x-model": "a-1",
    }
    assert response["headers"] == {
        **again.headers,
        "transfer-encoding": "chunked",
        "set-cookie": "[redacted]",
    }


async def test_a_header_that_comes_twice_is_joined(path: Path) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        headers = [("Vary", "accept"), ("Vary", "origin"), ("Set-Cookie", "a"), ("Set-Cookie", "b")]
        return httpx.Response(200, headers=headers, content=b"one")

    with record(path, transport=httpx.MockTransport(answer)) as transport:
        await get(transport)
    assert lines_of(path)[2]["headers"] == {
        "vary": "accept, origin",
        "set-cookie": "[redacted]",
        "content-length": "3",
    }


async def test_a_stream_that_the_client_left_breaks_where_it_did(path: Path) -> None:
    with record(path, transport=playing(ScriptedResponse([token("Hi"), HOLD]))) as transport:
        async with Acme(transport=transport) as session, session.stream() as stream:
            await anext(stream)
    assert lines_of(path)[-1]["end"] == "left"
    assert [each.steps for each in replay(path)] == [(token("Hi"), HANG_UP)]
    for events, error in await read_replayed(path):
        assert events == [Token(text="Hi")]
        assert type(error) is StreamInterrupted


async def test_a_client_that_waits_no_longer_has_left(path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=late(request))

    async def late(request: httpx.Request) -> AsyncIterator[bytes]:
        yield b"one"
        raise httpx.ReadTimeout("too late", request=request)

    with (
        record(path, transport=httpx.MockTransport(answer)) as transport,
        pytest.raises(httpx.ReadTimeout),
    ):
        await get(transport)
    end = lines_of(path)[-1]
    assert (end["end"], end["error"]) == ("left", "ReadTimeout")


async def test_what_is_still_open_on_leaving_was_left_and_nothing_later_is_kept(path: Path) -> None:
    inner = playing(ScriptedResponse([b"one", b"two"]))
    with record(path, transport=inner) as transport:
        client = httpx.AsyncClient(transport=transport)
        response = await client.send(client.build_request("GET", URL), stream=True)
        chunks = response.aiter_raw()
        assert await anext(chunks) == b"one"
    assert [chunk async for chunk in chunks] == [b"two"]
    assert (await client.get(URL)).content == b"onetwo"
    await client.aclose()
    assert [each.steps for each in replay(path)] == [(b"one", HANG_UP)]


async def test_what_comes_after_closing_is_not_kept(path: Path) -> None:
    """A session reads on for a moment, so that the transport's generators come to an end."""
    now = 0.0
    inner = playing(ScriptedResponse([b"one", b"two"]))
    with record(path, transport=inner, clock=lambda: now) as transport:
        body = await body_from(transport)
        chunks = aiter(body)
        assert await anext(chunks) == b"one"
        now = 1.0
        await body.aclose()
        now = 5.0
        assert await anext(chunks) == b"two"
    assert [each.steps for each in replay(path)] == [(b"one", HANG_UP)]
    assert lines_of(path)[-1] == {"end": "left", "after": 1.0}


# Secrets


def code_points(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in text)


BODIES: dict[str, Callable[[str], Sequence[bytes]]] = {
    "plain": lambda secret: [f"data: {secret}\n\n".encode()],
    "across chunks": lambda secret: [secret[:5].encode(), secret[5:].encode()],
    "in bytes that are no text": lambda secret: [b"\xff\0" + secret.encode() + b"\xff"],
    "escaped": lambda secret: [json.dumps(f"\n{secret}").encode()],
    "escaped as code points": lambda secret: [code_points(secret).encode()],
    "escaped twice": lambda secret: [json.dumps(code_points(secret)).encode()],
    "in a URL": lambda secret: [secret.replace("-", "%2D").encode()],
}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": lambda body: gzip.compress(body[:7]) + gzip.compress(body[7:]),
    "deflate": zlib.compress,
    "Deflate": lambda body: zlib.compress(body)[2:-4],  # without its header, as some servers do
    "gzip, deflate": lambda body: zlib.compress(gzip.compress(body)),
}


async def refusal(
    path: Path,
    *live: ScriptedResponse,
    url: str = URL,
    secrets: Iterable[str | SecretStr] | SecretStr = (),
    **headers: str,
) -> str:
    """What a recording is refused with; nothing is written."""
    with pytest.raises(SecretFound) as caught:
        await recorded(path, *live, url=url, secrets=secrets, **headers)
    assert files_beside(path) == []
    return str(caught.value)


@once
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_credential_in_the_body_is_found(
    path: Path, body: Callable[[str], Sequence[bytes]]
) -> None:
    live = ScriptedResponse(body(KEY))
    message = await refusal(path, live, Authorization=f"Bearer {KEY}")
    assert message == (
        "in exchange 1, the body holds what the request's header 'authorization' held: "
        "nothing was written"
    )


@once
@pytest.mark.parametrize("compress", COMPRESSIONS.values(), ids=COMPRESSIONS)
@pytest.mark.parametrize("cut", [None, -9], ids=["whole", "cut"])
async def test_a_credential_in_a_compressed_body_is_found(
    path: Path, compress: Callable[[bytes], bytes], cut: int | None
) -> None:
    encoding = next(name for name, each in COMPRESSIONS.items() if each is compress)
    body = compress(f"data: {KEY} {'and so on ' * 50}".encode())[:cut]
    live = ScriptedResponse([body], headers={"Content-Encoding": encoding})
    assert KEY.encode() not in body
    assert "the compressed body holds" in await refusal(path, live, secrets=KEY)


async def test_damage_hides_nothing_that_stands_before_it(path: Path) -> None:
    """Whole blocks before the damage could be read by anyone, however late it comes."""
    packer = zlib.compressobj()
    before = packer.compress(KEY.encode()) + packer.flush(zlib.Z_FULL_FLUSH)
    live = ScriptedResponse([before + b"\xff\xff"], headers={"Content-Encoding": "deflate"})
    assert "the compressed body" in await refusal(path, live, Authorization=KEY)


async def test_a_body_that_is_not_compressed_as_it_says_is_recorded(path: Path) -> None:
    await recorded(path, ScriptedResponse([b"plain"], headers={"Content-Encoding": "gzip"}))
    assert [each.steps for each in replay(path)] == [(b"plain",)]


async def test_a_compression_that_hides_secrets_is_refused(path: Path) -> None:
    live = ScriptedResponse([b"\x0b\x02\x80hello\x03"], headers={"Content-Encoding": "br"})
    with pytest.raises(ValueError, match="compressed with 'br'"):
        await recorded(path, live)
    assert files_beside(path) == []


@once
@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ({"Authorization": f"Bearer {KEY}"}, KEY),
        ({"Authorization": f"token {KEY}"}, KEY),
        ({"Authorization": f"Basic {base64.b64encode(b'me:' + KEY.encode()).decode()}"}, KEY),
        ({"Authorization": "Basic not-base64"}, "not-base64"),
        ({"Proxy-Authorization": f"Bearer {KEY}"}, f"Bearer {KEY}"),
        ({"Cookie": f"a=b; session={KEY}"}, KEY),
        ({"X-Api-Key": KEY}, KEY),
        ({"X-Anything": KEY}, KEY),
        ({"X-Anything": f"Bearer {KEY}"}, KEY),
    ],
)
async def test_every_credential_that_was_sent_is_looked_for(
    path: Path, headers: dict[str, str], secret: str
) -> None:
    message = await refusal(path, ScriptedResponse.sse({"echo": secret}), **headers)
    (name,) = headers
    assert f"the request's header {name.lower()!r}" in message
    assert secret not in message


async def test_a_credential_in_the_query_is_looked_for_too(path: Path) -> None:
    url = f"{URL}?alt=sse&access_token={KEY.replace('-', '%2D')}"
    message = await refusal(path, ScriptedResponse.sse(KEY), url=url)
    assert "the body holds what 'access_token' in the request's query held" in message


async def test_what_is_no_credential_may_stand_in_the_body(path: Path) -> None:
    """A placeholder for a key, the host, the model in the query, a header that is kept."""
    await recorded(
        path,
        ScriptedResponse.sse("ollama at api.acme.example with acme-large-1 of 2026-01-01"),
        url=f"{URL}?model=acme-large-1",
        keep_headers=["x-version"],
        **{"Authorization": "Bearer ollama", "X-Version": "2026-01-01"},
    )
    assert len(replay(path)) == 1


async def test_a_header_that_is_no_secret_can_be_named(path: Path) -> None:
    message = await refusal(
        path, ScriptedResponse.sse("in 2026-01-01"), **{"X-Version": "2026-01-01"}
    )
    assert "(if it is no secret, name it in keep_headers)" in message


KNOWN = [
    "sk-abcdefghijklmnop0123",
    "sk-ant-api03-abcdefgh",
    "sk-proj-abcdefgh",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "github_pat_0123456789abcdefghij_x",
    "xoxb-0123456789-abc",
    "AIzaSyA0123456789abcdefghijklmnopqrstuv",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "-----BEGIN RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----",
]


@once
@pytest.mark.parametrize("known", KNOWN)
async def test_a_well_known_key_is_found_by_its_shape(path: Path, known: str) -> None:
    message = await refusal(path, ScriptedResponse.sse({"text": f"\n{known}"}))
    assert "the body holds a" in message
    assert known not in message


@once
@pytest.mark.parametrize(
    "text",
    [
        "risk-management-and-compliance-report",
        "sk-learn",
        "AKIA",
        "a ghp_ prefix",
        "eyJhbGciOiJIUzI1NiJ9",
        "-----BEGIN CERTIFICATE-----",
    ],
)
async def test_what_only_resembles_a_key_is_recorded(path: Path, text: str) -> None:
    await recorded(path, ScriptedResponse.sse(text))
    assert len(replay(path)) == 1


@once
@pytest.mark.parametrize("secret", ["s3", SecretStr("s3"), ["s3"], [SecretStr("s3"), "other"]])
async def test_a_secret_that_was_named_is_found_however_short(
    path: Path, secret: str | SecretStr | list[str | SecretStr]
) -> None:
    message = await refusal(path, ScriptedResponse([b"a s3 b"]), secrets=secret)
    assert "the body holds one of secrets=" in message


@once
async def test_a_secret_that_was_named_and_sent_is_said_to_be_named(path: Path) -> None:
    live = ScriptedResponse.sse(KEY)
    message = await refusal(path, live, secrets=KEY, **{"X-Anything": KEY})
    assert "the body holds one of secrets=: nothing" in message


@once
async def test_a_character_of_two_escapes_is_found(path: Path) -> None:
    live = ScriptedResponse([b'{"text": "\\ud83d\\udd11 key"}'])
    assert "one of secrets=" in await refusal(path, live, secrets="🔑 key")


@once
async def test_looking_for_keys_takes_time_in_proportion_to_the_body(path: Path) -> None:
    started = time.process_time()
    await recorded(path, ScriptedResponse([b"eyJ-" * 25_000]))
    assert time.process_time() - started < 1, "seconds; ten times that if it were quadratic"


@once
@pytest.mark.parametrize(
    ("url", "headers", "place"),
    [
        (f"{BASE_URL}/bot{KEY}/send", {}, "the path"),
        (f"{BASE_URL}/bot{KEY.replace('-', '%2d')}/send", {}, "the path"),
        (f"{URL}?{KEY}=1", {}, "the path"),
        (URL, {"User-Agent": f"me {KEY}"}, "the request's header 'user-agent'"),
        (URL, {}, "the response's header 'x-request-id'"),
    ],
)
async def test_a_secret_is_found_in_the_path_and_in_headers_that_are_kept(
    path: Path, url: str, headers: dict[str, str], place: str
) -> None:
    live = ScriptedResponse(headers={"X-Request-Id": f"id-{KEY}"})
    message = await refusal(path, live, url=url, secrets=[KEY], **headers)
    assert message == f"in exchange 1, {place} holds one of secrets=: nothing was written"


async def test_a_credential_is_looked_for_in_every_exchange(path: Path) -> None:
    inner = playing(ScriptedResponse.sse("fine"), ScriptedResponse.sse(KEY))

    async def keep() -> None:
        with record(path, transport=inner) as transport:
            await get(transport, Authorization=f"Bearer {KEY}")
            await get(transport)

    with pytest.raises(SecretFound, match="in exchange 2, the body"):
        await keep()


def test_an_empty_secret_is_refused_before_anything_is_sent(path: Path) -> None:
    with pytest.raises(ValueError, match="environment variable"), record(path, secrets=["", KEY]):
        pytest.fail("the block was entered")


# When nothing can be written


async def test_an_old_recording_is_replaced_only_by_one_that_can_be_written(path: Path) -> None:
    await recorded(path, ScriptedResponse.sse("old"))
    with pytest.raises(SecretFound):
        await recorded(path, ScriptedResponse.sse(KEY), Authorization=KEY)
    assert [each.steps for each in replay(path)] == [(sse("old"),)]
    await recorded(path, ScriptedResponse.sse("new"))
    assert [each.steps for each in replay(path)] == [(sse("new"),)]
    assert files_beside(path) == [path.name]


async def failing(path: Path, body: str, failure: BaseException) -> None:
    """A recording whose block raises."""
    with record(path, transport=playing(ScriptedResponse.sse(body))) as transport:
        await get(transport, Authorization=KEY)
        raise failure


async def test_what_leaves_the_block_is_raised_and_noted_when_nothing_was_written(
    path: Path,
) -> None:
    with pytest.raises(LookupError, match="mine") as caught:
        await failing(path, KEY, LookupError("mine"))
    (note,) = caught.value.__notes__
    assert note.startswith(f"The recording {path} was not written: in exchange 1, the body holds")
    assert KEY not in note
    assert files_beside(path) == []


async def test_what_leaves_the_block_is_raised_as_it_is_when_it_was_written(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        await failing(path, "Hi", KeyboardInterrupt())
    assert not hasattr(caught.value, "__notes__")
    assert [each.steps for each in replay(path)] == [(sse("Hi"),)]


async def test_a_cancelled_block_is_written(path: Path) -> None:
    gate = Gate()
    async with anyio.create_task_group() as group:
        group.start_soon(recorded, path, ScriptedResponse([token("Hi"), gate]))
        await gate.reached()
        group.cancel_scope.cancel()
    assert [each.steps for each in replay(path)] == [(token("Hi"), HANG_UP)]


def test_a_recording_of_nothing_says_what_to_pass(path: Path) -> None:
    with pytest.raises(ValueError, match=r"give the transport .* transport=\.\.\."), record(path):
        pass
    assert files_beside(path) == []


async def test_a_request_without_a_response_leaves_nothing(path: Path) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/refused":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, content=b"one")

    async def ask(*paths: str) -> None:
        with record(path, transport=httpx.MockTransport(refuse)) as transport:
            for each in paths:
                with suppress(httpx.ConnectError):
                    await get(transport, f"https://api.example{each}")

    with pytest.raises(ValueError, match="no request got a response"):
        await ask("/refused")
    await ask("/refused", "/")
    assert [each.steps for each in replay(path)] == [(b"one",)]


def test_a_missing_folder_is_told_before_anything_is_sent(path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match="does not exist: make it first"),
        record(path / "stream.jsonl"),
    ):
        pytest.fail("the block was entered")
    with pytest.raises(IsADirectoryError), record(path.parent):
        pytest.fail("the block was entered")


async def test_a_file_that_cannot_be_written_is_told_and_leaves_no_draft(path: Path) -> None:
    async def keep() -> None:
        with record(path, transport=playing(ScriptedResponse.sse("Hi"))) as transport:
            await get(transport)
            (path / "in the way").mkdir(parents=True)

    with pytest.raises(OSError, match=path.name):
        await keep()
    assert files_beside(path) == [path.name]


async def test_a_recording_is_bounded(path: Path) -> None:
    piece = bytes(1000)

    async def keep(limit: int) -> None:
        live = ScriptedResponse([piece] * 3, framing="length")
        with record(path, transport=playing(live), max_bytes=limit) as transport:
            assert (await get(transport))[1] == [piece] * 3  # the client gets all in any case

    with pytest.raises(ValueError, match=r"more than 3383 bytes \(max_bytes\)"):
        await keep(3 * 1128 - 1)
    assert files_beside(path) == []
    await keep(3 * 1128)
    assert [each.size for each in replay(path)] == [3000]


class Pieces(httpx.AsyncByteStream):
    """A body of eight pieces, each made when it is asked for."""

    size = 2**17

    def __init__(self) -> None:
        self._left = 8

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._left == 0:
            raise StopAsyncIteration
        self._left -= 1
        return b"x" * self.size


@once
async def test_what_will_not_be_written_is_not_held_in_memory(path: Path) -> None:
    inner = httpx.MockTransport(lambda _: httpx.Response(200, stream=Pieces()))

    async def grown(transport: httpx.AsyncBaseTransport) -> float:
        """By how many pieces, with a response read and still open."""
        body = await body_from(transport)
        before = tracemalloc.get_traced_memory()[0]
        async for _ in body:
            pass
        return (tracemalloc.get_traced_memory()[0] - before) / Pieces.size

    async def too_much() -> None:
        with record(path, transport=inner, max_bytes=4 * Pieces.size) as transport:
            assert await grown(transport) < 2, "beyond max_bytes"

    tracemalloc.start()
    try:
        with record(path, transport=inner) as transport:
            assert await grown(transport) > 7, "it is kept"
        assert await grown(transport) < 2, "after the block"
        with pytest.raises(ValueError, match="max_bytes"):
            await too_much()
    finally:
        tracemalloc.stop()


async def test_what_inflates_to_too_much_is_refused(path: Path) -> None:
    bomb = ScriptedResponse([zlib.compress(bytes(10**6))], headers={"Content-Encoding": "deflate"})

    async def keep() -> None:
        with record(path, transport=playing(bomb), max_bytes=10**4) as transport:
            await get(transport)

    with pytest.raises(ValueError, match="inflates to more than 10000 bytes"):
        await keep()


# The transport that is recorded


class Body(httpx.AsyncByteStream):
    """Counts how often it is closed, and may fail at it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.closings = 0
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"one"

    async def aclose(self) -> None:
        self.closings += 1
        if self._error is not None:
            raise self._error


class Transport(httpx.AsyncBaseTransport):
    """Says what is called."""

    def __init__(self, body: Body) -> None:
        self.called: list[str] = []
        self._body = body

    async def __aenter__(self) -> Self:
        self.called.append("enter")
        return self

    async def __aexit__(self, *args: object) -> None:
        self.called.append("exit")

    async def aclose(self) -> None:
        self.called.append("close")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.called.append("handle")
        return httpx.Response(200, stream=self._body, extensions={"mine": request.extensions})


async def test_the_transport_is_entered_left_and_closed_as_without(path: Path) -> None:
    inner = Transport(Body())
    with record(path, transport=inner) as transport:
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get(URL)
        await httpx.AsyncClient(transport=transport).aclose()
    assert inner.called == ["enter", "handle", "exit", "close"]


async def test_a_body_is_closed_once_also_when_that_fails(path: Path) -> None:
    body = Body(httpx.CloseError("failed"))
    with record(path, transport=Transport(body)) as transport:
        recording = await body_from(transport)
        with pytest.raises(httpx.CloseError):
            await recording.aclose()
        await recording.aclose()
    assert body.closings == 1


async def test_a_body_that_no_async_client_takes_is_handed_on_as_it_is(path: Path) -> None:
    class Blocking(httpx.SyncByteStream):
        pass

    refused = httpx.Response(200, stream=Blocking())
    inner = httpx.MockTransport(lambda _: refused)
    with (
        pytest.raises(ValueError, match="no request got a response"),
        record(path, transport=inner) as transport,
    ):
        assert await transport.handle_async_request(httpx.Request("GET", URL)) is refused


async def test_extensions_go_through_both_ways(path: Path) -> None:
    steps: list[str] = []

    async def trace(name: str, _: object) -> None:
        steps.append(name)

    async with ScriptedServer(ScriptedResponse([b"one"]), repeat=True) as server:
        with record(path) as transport:
            async with httpx.AsyncClient(transport=transport) as client:
                for _ in range(2):
                    request = client.build_request(
                        "GET", server.url, extensions={"trace": trace, "timeout": {}}
                    )
                    response = await client.send(request)
                    assert response.extensions["http_version"] == b"HTTP/1.1"
                    assert "network_stream" in response.extensions
        assert len(server.connections) == 1, "it was used again"
    assert steps.count("connection.connect_tcp.complete") == 1


async def test_a_session_that_leaves_early_gives_its_connection_back(path: Path) -> None:
    live = [ScriptedResponse([token("Hi"), HOLD]), ScriptedResponse([chat("Hi")])]
    one = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1))
    async with ScriptedServer(*live) as server:
        with record(path, transport=one) as transport:
            async with Acme(base_url=server.url, transport=transport) as session:
                async for _ in session.stream():
                    break
                gc.collect()
                await server.until_closed(0)
                with anyio.fail_after(5):
                    assert (await session.stream().collect()).text == "Hi"
    assert [step[-1] for each in replay(path) if (step := each.steps)] == [HANG_UP, chat("Hi")]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_that_is_cancelled_loses_no_connection(path: Path, times: int) -> None:
    one = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1))
    live = [ScriptedResponse([token("Hi"), HOLD]), ScriptedResponse([chat("Hi")])]
    begun = anyio.Event()

    async def read_on(stream: Stream[Token | Finish]) -> None:
        async for _ in stream:
            begun.set()

    async with ScriptedServer(*live) as server:
        with record(path, transport=one) as transport:
            async with Acme(base_url=server.url, transport=transport) as session:
                task = asyncio.create_task(read_on(session.stream()))
                await begun.wait()
                await anyio.wait_all_tasks_blocked()
                for _ in range(times):
                    task.cancel()
                    await anyio.lowlevel.checkpoint()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await server.until_closed(0)
                with anyio.fail_after(5):
                    assert (await session.stream().collect()).text == "Hi"
    ends = [line["end"] for line in lines_of(path) if "end" in line]
    assert ends == ["left", "complete"]


# Files that are none


CHUNK = '{"after": 0.0, "text": "one"}'
WHOLE = [HEAD, REQUEST, RESPONSE, CHUNK, END]


def changed(line: int, text: str) -> list[str]:
    """A whole file with one line replaced, counted from 1."""
    return [*WHOLE[: line - 1], text, *WHOLE[line:]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "line 1: the file ends too early"),
        (["# Hello"], "line 1: Invalid JSON"),
        (["{}"], "line 1: format: Field required"),
        (['{"format": "har", "version": 1}'], "line 1: format: Input should be 'streamsession"),
        (changed(1, HEAD.replace("1}", "2}")), "line 1: version 2 is not known, expected 1"),
        (changed(1, HEAD.replace("1}", '2, "new": 0}')), "line 1: version 2 is not known"),
        (changed(1, HEAD.replace("1}", '1, "new": 0}')), "line 1: 'new' is not known"),
        ([HEAD], "line 2: the file ends too early"),
        (WHOLE[:3], "line 4: the file ends too early"),
        (WHOLE[:4], "line 5: the file ends too early"),
        ([*WHOLE, ""], "line 6: Invalid JSON"),
        ([*WHOLE, REQUEST], "line 7: the file ends too early"),
        (changed(2, RESPONSE), "line 2: expected the request line, got the response line"),
        (changed(3, CHUNK), "line 3: expected the response line, got the chunk line"),
        (changed(4, REQUEST), "line 4: expected the end line, got the request line"),
        (changed(2, "[]"), "line 2: Input should be an object"),
        (changed(4, '{"data": ""}'), "line 4: expected an object with one of request, response"),
        (changed(4, '{"text": "one"}'), "line 4: after: Field required"),
        (changed(4, '{"text": "one", "after": -1}'), "line 4: after: Input should be greater"),
        (changed(4, '{"text": "one", "after": NaN}'), "line 4: after: Input should be a finite"),
        (changed(4, '{"text": "one", "after": "1"}'), "line 4: after: Input should be a valid"),
        (changed(4, '{"text": 1, "after": 1}'), "line 4: text: Input should be a valid string"),
        (changed(4, '{"text": "", "after": 1, "x": 1}'), "line 4: x: Extra inputs"),
        (changed(4, '{"text": "", "base64": "", "after": 1}'), "line 4: Value error, a chunk has"),
        (changed(4, '{"base64": "a", "after": 1}'), "line 4: "),
        (changed(4, '{"base64": "*Zm9v", "after": 1}'), "line 4: "),
        (changed(5, '{"end": "bored", "after": 1}'), "line 5: end: Input should be 'complete'"),
        (changed(3, RESPONSE.replace("200", "101")), "exchange 1: status is 101"),
        (changed(3, RESPONSE.replace("200", "204")), "exchange 1: a response with status 204"),
        (changed(3, RESPONSE.replace("{}", '{"x": "a\\nb"}')), "exchange 1: header 'x' is not one"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_by_its_line(
    path: Path, lines: list[str], message: str
) -> None:
    written(path, *lines)
    with pytest.raises(ValueError, match=re.escape(f"{path}, {message}")) as caught:
        replay(path)
    assert type(caught.value) is ValueError


def test_bytes_that_are_no_text_are_refused_by_their_line(path: Path) -> None:
    path.write_bytes(HEAD.encode() + b"\n\xff\n")
    with pytest.raises(ValueError, match="line 2: "):
        replay(path)


def test_line_ends_of_another_system_are_read(path: Path) -> None:
    path.write_bytes("\r\n".join(WHOLE).encode())
    assert [each.steps for each in replay(path)] == [(b"one",)]


def test_a_file_that_is_missing_is_missing(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replay(str(path))


_seconds = st.integers(0, 10**7).map(lambda ms: ms / 1000)
_headers = st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3)
_data = st.one_of(st.binary(max_size=20), st.text(max_size=20).map(str.encode))
_exchanges = st.builds(
    Exchange,
    st.builds(RequestLine, request=st.text(max_size=9), path=st.text(max_size=9), headers=_headers),
    st.builds(
        ResponseLine,
        response=st.integers(100, 999),
        after=_seconds,
        http=st.text(max_size=9),
        headers=_headers,
    ),
    st.lists(st.builds(Chunk, _seconds, _data), max_size=4).map(tuple),
    st.builds(
        EndLine,
        end=st.sampled_from(["complete", "broken", "left"]),
        after=_seconds,
        error=st.none() | st.text(max_size=9),
    ),
)


@given(st.lists(_exchanges, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, exchanges: list[Exchange]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(dump(exchanges))
    assert load(path) == exchanges
