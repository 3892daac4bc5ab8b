"""What a session sends and how it reads the answer: headers, credentials, options, `request`."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Generic, Literal

import anyio
import httpx
import pytest
import respx
from pydantic import BaseModel, SecretStr, TypeAdapter
from typing_extensions import TypeVar

from streamsession import (
    AsyncSession,
    AuthenticationError,
    BearerAuth,
    Credentials,
    DecodeError,
    Event,
    HeaderAuth,
    InvalidRequest,
    JSONLinesDecoder,
    NotFound,
    RemoteError,
    Reply,
    Request,
    RetryPolicy,
    ServerSentEvent,
    Stream,
    StreamTruncated,
    TokenAuth,
    UnexpectedContent,
)
from streamsession.testing import (
    HANG_UP,
    ScriptedResponse,
    ScriptedServer,
    json_lines,
    mock_stream,
    sse,
    sse_event,
)
from tests.acme import BASE_URL, FINISH, URL, Acme, Finish, Token, chat, in_turn, sent, token
from tests.canary import CANARY

pytestmark = pytest.mark.anyio

EventT = TypeVar("EventT")


class Account(BaseModel):
    """The answer of an endpoint that does not stream."""

    name: str
    credit: int


ACCOUNT = f"{BASE_URL}/account"


# Credentials


async def test_an_api_key_is_a_bearer_token(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(URL).mock(side_effect=mock_stream(chat()))
    for key in (CANARY, SecretStr(CANARY)):
        async with Acme(api_key=key) as session:
            await session.stream().collect()
    assert [request.headers["authorization"] for request in sent(route)] == [f"Bearer {CANARY}"] * 2


async def test_an_api_key_goes_into_the_header_that_the_class_names(
    respx_mock: respx.MockRouter,
) -> None:
    class Keyed(Acme):
        api_key_header = "x-api-key"

    route = respx_mock.post(URL).mock(side_effect=mock_stream(chat()))
    async with Keyed(api_key=CANARY) as session:
        await session.stream().collect()
    (request,) = sent(route)
    assert request.headers["x-api-key"] == CANARY
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        (BearerAuth(CANARY), "authorization", f"Bearer {CANARY}"),
        (HeaderAuth("X-Key", CANARY), "x-key", CANARY),
        (httpx.BasicAuth("user", "password"), "authorization", "Basic dXNlcjpwYXNzd29yZA=="),
    ],
    ids=["bearer", "header", "httpx"],
)
async def test_credentials_of_every_kind_are_sent(
    respx_mock: respx.MockRouter, auth: Credentials | httpx.Auth, header: str, value: str
) -> None:
    route = respx_mock.post(URL).mock(side_effect=mock_stream(chat()))
    async with Acme(auth=auth) as session:
        await session.stream().collect()
    assert sent(route)[0].headers[header] == value


async def test_an_httpx_auth_may_answer_a_challenge(respx_mock: respx.MockRouter) -> None:
    challenge = 'Digest realm="acme", nonce="n", qop="auth", algorithm=MD5'
    route = respx_mock.post(URL).mock(
        side_effect=in_turn(
            mock_stream(status=401, headers={"www-authenticate": challenge}),
            mock_stream(chat("Hi")),
        )
    )
    async with Acme(auth=httpx.DigestAuth("user", "password")) as session:
        assert (await session.stream().collect()).text == "Hi"
    assert sent(route)[1].headers["authorization"].startswith("Digest ")


class Tokens:
    """Provides "one", "two", ...; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        await anyio.lowlevel.checkpoint()
        return f"token-{self.asked}"


async def test_a_token_is_fetched_once_for_all_streams(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(URL).mock(side_effect=mock_stream(chat()))
    provider = Tokens()
    async with Acme(auth=TokenAuth(provider)) as session, anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(session.stream().collect)
    assert provider.asked == 1
    assert {request.headers["authorization"] for request in sent(route)} == {"Bearer token-1"}


async def test_a_401_refreshes_the_token_once(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(URL).mock(
        side_effect=in_turn(mock_stream(status=401), mock_stream(chat("Hi")))
    )
    async with Acme(auth=TokenAuth(Tokens())) as session:
        assert (await session.stream().collect()).text == "Hi"
    assert [request.headers["authorization"] for request in sent(route)] == [
        "Bearer token-1",
        "Bearer token-2",
    ]
    assert len({request.content for request in sent(route)}) == 1


async def test_a_second_401_is_an_error(respx_mock: respx.MockRouter) -> None:
    rejected = mock_stream(status=401)
    route = respx_mock.post(URL).mock(side_effect=rejected)
    provider = Tokens()
    async with Acme(auth=TokenAuth(provider)) as session:
        with pytest.raises(AuthenticationError) as caught:
            await session.stream().collect()
    assert (provider.asked, route.call_count) == (2, 2)
    assert caught.value.status == 401
    assert rejected.closed


async def test_streams_that_get_a_401_together_refresh_together(
    respx_mock: respx.MockRouter,
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        stale = request.headers["authorization"] == "Bearer token-1"
        return (mock_stream(status=401) if stale else mock_stream(chat("Hi")))(request)

    respx_mock.post(URL).mock(side_effect=answer)
    provider = Tokens()
    async with Acme(auth=TokenAuth(provider)) as session, anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(session.stream().collect)
    assert provider.asked == 2


async def test_a_401_is_final_for_credentials_that_cannot_be_made_new(
    respx_mock: respx.MockRouter,
) -> None:
    route = respx_mock.post(URL).mock(side_effect=mock_stream(status=401))
    async with Acme(api_key=CANARY) as session:
        with pytest.raises(AuthenticationError):
            await session.stream().collect()
    assert route.call_count == 1


async def test_what_a_token_provider_raises_reaches_the_caller(
    respx_mock: respx.MockRouter,
) -> None:
    async def provide() -> str:
        raise PermissionError("log in first")

    route = respx_mock.post(URL)
    async with Acme(auth=TokenAuth(provide)) as session:
        with pytest.raises(PermissionError, match="log in first"):
            await session.stream().collect()
    assert route.call_count == 0


async def test_a_key_with_a_line_break_is_refused_without_being_told() -> None:
    async with Acme(api_key=CANARY + "\n") as session:
        with pytest.raises(InvalidRequest, match=r"header '[Aa]uthorization'") as caught:
            await session.stream().collect()
    assert CANARY not in str(caught.value)


class Careless(httpx.Auth):
    """Sends a secret as it was read from a file, with its line break."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        request.headers["authorization"] = "Bearer hunter2\n"
        yield request


async def test_a_secret_that_an_httpx_auth_adds_is_not_told_either(
    scripted_server: ScriptedServer,
) -> None:
    async with Acme(base_url=scripted_server.url, auth=Careless()) as session:
        with pytest.raises(InvalidRequest) as caught:
            await session.stream().collect()
    assert "hunter2" not in str(caught.value)


# Headers


async def test_headers_of_the_request_go_over_those_of_the_session(
    respx_mock: respx.MockRouter,
) -> None:
    class Headed(Acme):
        headers: Mapping[str, str] = {"x-one": "class", "x-two": "class", "x-three": "class"}

    route = respx_mock.post(URL).mock(side_effect=mock_stream(chat()))
    async with Headed(
        headers={"X-Two": "session", "X-Three": "session"}, api_key=CANARY
    ) as session:
        await session.open_stream(
            "POST", "/generate", headers={"X-THREE": "request", "Authorization": "other"}
        ).collect()
    (request,) = sent(route)
    assert [request.headers[name] for name in ("x-one", "x-two", "x-three")] == [
        "class",
        "session",
        "request",
    ]
    assert request.headers.get_list("authorization") == ["other"]


async def test_a_request_asks_for_what_it_can_read(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(URL).mock(
        side_effect=in_turn(
            mock_stream(chat()), mock_stream(json_lines(Finish()), content_type="application/jsonl")
        )
    )
    account = respx_mock.get(ACCOUNT).mock(return_value=httpx.Response(200, json="me"))
    async with Acme() as session:
        await session.stream().collect()
        await session.open_stream("POST", "/generate", framing=JSONLinesDecoder).collect()
        await session.request("GET", "/account", result=str)
    as_sse, as_lines = sent(route)
    assert as_sse.headers["accept"] == "text/event-stream"
    assert as_sse.headers["accept-encoding"] == "identity"
    assert as_lines.headers["accept"].split(", ") == list(JSONLinesDecoder.content_types)
    assert sent(account)[0].headers["accept"] == "application/json"


async def test_a_request_says_who_sends_it(respx_mock: respx.MockRouter) -> None:
    class Known(Acme):
        session_id_header = "X-Session-Id"

    route = respx_mock.post(URL).mock(side_effect=mock_stream(chat()))
    async with Known() as session, Acme() as unknown:
        await session.stream().collect()
        await unknown.stream().collect()
    first, second = sent(route)
    assert first.headers["x-session-id"] == session.id
    assert "x-session-id" not in second.headers
    assert first.headers["user-agent"].startswith("streamsession/")


async def test_all_attempts_carry_the_same_idempotency_key(respx_mock: respx.MockRouter) -> None:
    class Idempotent(Acme):
        idempotency_header = "Idempotency-Key"

    route = respx_mock.post(URL).mock(
        side_effect=in_turn(
            mock_stream(status=503), mock_stream(HANG_UP), mock_stream(chat()), mock_stream(chat())
        )
    )
    async with Idempotent() as session:
        await session.stream().collect()
        await session.stream().collect()
    keys = [request.headers["idempotency-key"] for request in sent(route)]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert len(keys[0]) >= 32


async def test_a_body_is_json_or_content(respx_mock: respx.MockRouter) -> None:
    class Prompt(BaseModel):
        text: str

    route = respx_mock.post(URL).mock(side_effect=mock_stream(chat()))
    async with Acme() as session:
        bodies: list[dict[str, Any]] = [
            {"json": {"prompt": Prompt(text="ü"), "n": [1, None]}},
            {"content": "ü"},
            {"content": b"\x00"},
            {},
        ]
        for body in bodies:
            await session.open_stream("POST", "/generate", **body).collect()
        with pytest.raises(InvalidRequest, match="json= or content="):
            session.open_stream("POST", "/generate", json={}, content=b"")
        with pytest.raises(InvalidRequest, match="cannot be sent"):
            session.open_stream("POST", "/generate", json=object())
    as_json, as_text, as_bytes, without = sent(route)
    assert json.loads(as_json.content) == {"prompt": {"text": "ü"}, "n": [1, None]}
    assert as_json.headers["content-type"] == "application/json"
    assert (as_text.content, as_bytes.content, without.content) == ("ü".encode(), b"\x00", b"")


async def test_what_the_body_of_a_request_raises_reaches_the_caller(
    respx_mock: respx.MockRouter,
) -> None:
    async def upload() -> AsyncIterator[bytes]:
        yield b"a"
        raise FileNotFoundError("no such recording")

    respx_mock.post(URL).mock(side_effect=mock_stream(chat()))
    async with Acme() as session:
        with pytest.raises(FileNotFoundError):
            await session.open_stream("POST", "/generate", content=upload()).collect()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET /", "/x"),
        ("GET", "https://evil.example/x"),
        ("GET", "//evil.example/x"),
        ("GET", "/../admin"),
        ("GET", "/%2e%2E/admin"),
        ("GET", "/a b"),
        ("GET", "/a\r\nX: y"),
        ("GET", "/a#b"),
        ("GET", "\\\\evil.example"),
    ],
)
async def test_a_request_that_would_go_elsewhere_is_refused_at_once(method: str, path: str) -> None:
    async with Acme() as session:
        with pytest.raises(InvalidRequest):
            session.open_stream(method, path)


async def test_parameters_are_encoded(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.get(f"{BASE_URL}/x").mock(side_effect=mock_stream(chat()))
    async with Acme() as session:
        await session.open_stream("GET", "/x", params={"q": "a&b=c", "n": 1}).collect()
        await session.open_stream("GET", "/x?q=1").collect()
    assert [str(request.url.query, "ascii") for request in sent(route)] == [
        "q=a%26b%3Dc&n=1",
        "q=1",
    ]


async def test_parameters_are_added_to_those_of_the_path(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.get(f"{BASE_URL}/x").mock(side_effect=mock_stream(chat()))
    async with Acme() as session:
        await session.open_stream("GET", "/x?alt=sse", params={"n": 1}).collect()
    assert dict(sent(route)[0].url.params) == {"alt": "sse", "n": "1"}


async def test_a_path_that_the_library_refuses_is_an_invalid_request() -> None:
    options: list[dict[str, Any]] = [{}, {"params": {"n": 1}}]
    async with Acme() as session:
        for each in options:
            with pytest.raises(InvalidRequest):
                await session.open_stream("GET", "/" + 70_000 * "x", **each).collect()


# Answers that do not stream


@pytest.mark.parametrize("result", [Account, TypeAdapter(Account)])
async def test_a_request_gives_its_typed_result(
    respx_mock: respx.MockRouter, result: type[Account] | TypeAdapter[Account]
) -> None:
    body = {"name": "me", "credit": 3}
    respx_mock.get(ACCOUNT).mock(return_value=httpx.Response(200, json=body))
    async with Acme() as session:
        account = await session.request("GET", "/account", result=result)
    assert account == Account(name="me", credit=3)


async def test_a_request_takes_any_type(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(ACCOUNT).mock(return_value=httpx.Response(200, json=[1, 2]))
    async with Acme() as session:
        assert await session.request("GET", "/account", result=list[int]) == [1, 2]


async def test_an_answer_without_content_is_null(respx_mock: respx.MockRouter) -> None:
    respx_mock.delete(ACCOUNT).mock(return_value=httpx.Response(204))
    async with Acme() as session:
        assert (
            await session.request("DELETE", "/account", result=TypeAdapter(Account | None)) is None
        )


@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "application/hal+json", None])
async def test_a_request_takes_what_is_json(
    respx_mock: respx.MockRouter, media: str | None
) -> None:
    respx_mock.get(ACCOUNT).mock(side_effect=mock_stream(b'"me"', content_type=media))
    async with Acme() as session:
        assert await session.request("GET", "/account", result=str) == "me"


async def test_an_answer_of_the_wrong_shape_is_a_decode_error(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(ACCOUNT).mock(return_value=httpx.Response(200, json={"name": 1, "credit": 1}))
    async with Acme() as session:
        with pytest.raises(DecodeError, match=r"field 'name': .*string.*got 1") as caught:
            await session.request("GET", "/account", result=Account)
    assert caught.value.frame == b'{"name":1,"credit":1}'
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("cut", range(1, 26))
async def test_an_answer_that_was_cut_is_truncated(respx_mock: respx.MockRouter, cut: int) -> None:
    body = b'{"name":"me","credit":12}'
    answers = in_turn(*[mock_stream(body[:cut], content_type="application/json")] * 3)
    respx_mock.get(ACCOUNT).mock(side_effect=answers)
    async with Acme() as session:
        if cut == len(body):
            await session.request("GET", "/account", result=Account)
        else:
            with pytest.raises(StreamTruncated) as caught:
                await session.request("GET", "/account", result=Account)
            assert caught.value.attempts == 3


async def test_a_cut_answer_says_that_it_was_cut(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(ACCOUNT).mock(
        side_effect=mock_stream(b'{"name":', content_type="application/json")
    )
    async with Acme() as session:
        with pytest.raises(StreamTruncated) as caught:
            await session.request("GET", "/account", result=Account)
    assert "final_events" not in str(caught.value)


async def test_a_request_has_the_retries_and_errors_of_a_stream(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.get(ACCOUNT).mock(
        side_effect=in_turn(
            httpx.ConnectError("refused"),
            mock_stream(status=500),
            mock_stream(b'"me"', content_type="application/json"),
            mock_stream(b'{"error": {"message": "no such account"}}', status=404),
            mock_stream(b"<html>", content_type="text/html"),
            mock_stream(b'{"error": "gone"}', content_type="application/json"),
        )
    )
    async with Acme() as session:
        assert await session.request("GET", "/account", result=str) == "me"
        with pytest.raises(NotFound, match="no such account"):
            await session.request("GET", "/account", result=str)
        with pytest.raises(UnexpectedContent, match="expected application/json, got text/html"):
            await session.request("GET", "/account", result=str)
        with pytest.raises(RemoteError, match="gone"):
            await session.request("GET", "/account", result=str)


async def test_a_request_works_in_a_session_with_a_marker(respx_mock: respx.MockRouter) -> None:
    class Marked(Acme):
        final_marker = "[DONE]"

    respx_mock.get(ACCOUNT).mock(return_value=httpx.Response(200, json="me"))
    async with Marked() as session:
        assert await session.request("GET", "/account", result=str) == "me"


# Options of one stream


class Row(Event):
    """One row of an endpoint with events of its own."""

    n: int


class LastRow(Row):
    """The last one."""


async def test_an_endpoint_may_have_events_of_its_own(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(f"{BASE_URL}/rows").mock(
        side_effect=mock_stream(json_lines({"n": 1}, {"n": 2}), content_type="application/x-ndjson")
    )
    async with Acme() as session:
        rows = await session.open_stream(
            "GET",
            "/rows",
            events=TypeAdapter(Row),
            framing=JSONLinesDecoder,
            final_events=None,
        ).collect()
    assert rows.events == [Row(n=1), Row(n=2)]


async def test_the_final_events_of_the_session_are_not_those_of_other_events(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.get(f"{BASE_URL}/rows").mock(side_effect=mock_stream(sse({"n": 1})))
    async with Acme(retry=RetryPolicy(attempts=1)) as session:
        with pytest.raises(StreamTruncated, match="nothing was declared"):
            await session.open_stream("GET", "/rows", events=TypeAdapter(Row)).collect()
        rows = await session.open_stream(
            "GET", "/rows", events=TypeAdapter(Row), final_events=(Row,)
        ).collect()
    assert rows.complete


async def test_a_session_may_accept_further_content_types(respx_mock: respx.MockRouter) -> None:
    class Sloppy(Acme):
        content_types = ("text/plain",)

    respx_mock.post(URL).mock(side_effect=mock_stream(chat("Hi"), content_type="text/plain"))
    async with Sloppy() as session:
        assert (await session.stream().collect()).text == "Hi"
    async with Acme() as strict:
        with pytest.raises(UnexpectedContent):
            await strict.stream().collect()


async def test_a_frame_may_be_as_large_as_the_session_says(respx_mock: respx.MockRouter) -> None:
    respx_mock.post(URL).mock(side_effect=mock_stream(chat("x" * 100)))
    size = len(Token(text="x" * 100).model_dump_json())
    async with Acme(max_event_bytes=size) as session:
        assert len((await session.stream().collect()).text) == 100
    async with Acme(max_event_bytes=size - 1) as session:
        with pytest.raises(DecodeError, match=f"at most {size - 1} bytes"):
            await session.stream().collect()


# The hook decode


class Words(AsyncSession[Token]):
    """Frames of whole words; complete when "." comes, which no class attribute could say."""

    base_url = BASE_URL
    retry = RetryPolicy(base_delay=0)

    def stream(self) -> Stream[Token]:
        return self.open_stream("POST", "/generate")

    async def decode(self, frames: AsyncIterator[ServerSentEvent]) -> AsyncIterator[Token]:
        count = 0
        async for frame in frames:
            if frame.data == ".":
                return
            count += 1
            yield Token(text=f"{count}{json.loads(frame.data)['word']}")


async def words(respx_mock: respx.MockRouter, *bodies: bytes) -> Reply[Token]:
    respx_mock.post(URL).mock(side_effect=in_turn(*map(mock_stream, bodies)))
    async with Words() as session:
        return await session.stream().collect()


async def test_returning_from_decode_completes_the_stream(respx_mock: respx.MockRouter) -> None:
    reply = await words(respx_mock, sse({"word": "a"}, {"word": "b"}, "."))
    assert reply.text == "1a2b"
    assert reply.complete


async def test_running_off_the_frames_is_truncated(respx_mock: respx.MockRouter) -> None:
    with pytest.raises(StreamTruncated, match=r"decode\(\) had not returned") as caught:
        await words(respx_mock, sse({"word": "a"}))
    assert caught.value.partial.text == "1a"


@pytest.mark.parametrize(
    ("data", "reason"), [("not json", "JSONDecodeError"), ('{"x": 1}', "KeyError: 'word'")]
)
async def test_what_decode_trips_over_is_a_decode_error(
    respx_mock: respx.MockRouter, data: str, reason: str
) -> None:
    with pytest.raises(DecodeError, match=reason) as caught:
        await words(respx_mock, sse({"word": "a"}, data))
    assert caught.value.frame == ServerSentEvent(data=data)
    assert (caught.value.index, caught.value.partial.text) == (1, "1a")
    assert isinstance(caught.value.__cause__, ValueError | LookupError)


class Pairs(Words):
    """Each event is made of two frames, taken one by one."""

    async def decode(self, frames: AsyncIterator[ServerSentEvent]) -> AsyncIterator[Token]:
        while True:
            first = await anext(frames)
            yield Token(text=first.data + (await anext(frames)).data)


async def test_a_decode_that_asks_for_a_frame_too_many_ran_off_the_frames(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.post(URL).mock(side_effect=mock_stream(sse("a", "b", "c")))
    async with Pairs() as session:
        with pytest.raises(StreamTruncated) as caught:
            await session.stream().collect()
    assert caught.value.partial.text == "ab"


async def test_where_a_clean_end_is_enough_it_is_for_a_decode_that_asks_for_more(
    respx_mock: respx.MockRouter,
) -> None:
    class UntilTheEnd(Pairs):
        final_events = None

    respx_mock.post(URL).mock(side_effect=mock_stream(sse("a", "b")))
    async with UntilTheEnd() as session:
        reply = await session.stream().collect()
    assert (reply.text, reply.complete) == ("ab", True)


async def test_a_stop_of_the_authors_own_making_is_no_end(respx_mock: respx.MockRouter) -> None:
    class Stopping(Words):
        async def decode(self, frames: AsyncIterator[ServerSentEvent]) -> AsyncIterator[Token]:
            async for _ in frames:
                raise StopAsyncIteration
            yield Token(text="")

    respx_mock.post(URL).mock(side_effect=mock_stream(sse("a", ".")))
    async with Stopping() as session:
        with pytest.raises(RuntimeError, match="StopAsyncIteration"):
            await session.stream().collect()


async def test_json_that_is_nested_too_deeply_is_a_decode_error(
    respx_mock: respx.MockRouter,
) -> None:
    with pytest.raises(DecodeError, match="RecursionError"):
        await words(respx_mock, sse("[" * 100_000))


async def test_every_attempt_decodes_anew(respx_mock: respx.MockRouter) -> None:
    class Counting(Words):
        async def decode(self, frames: AsyncIterator[ServerSentEvent]) -> AsyncIterator[Token]:
            count = 0
            async for frame in frames:
                count += 1
                if frame.data == ".":
                    return
                if frame.data != "skip":
                    yield Token(text=f"{count}")

    respx_mock.post(URL).mock(
        side_effect=in_turn(mock_stream(sse("skip"), HANG_UP), mock_stream(sse("skip", "x", ".")))
    )
    async with Counting() as session:
        assert (await session.stream().collect()).text == "2"


async def test_an_exception_of_the_authors_own_leaves_decode_unchanged(
    respx_mock: respx.MockRouter,
) -> None:
    class Odd(Exception):
        pass

    class Raising(Words):
        async def decode(self, frames: AsyncIterator[ServerSentEvent]) -> AsyncIterator[Token]:
            async for _ in frames:
                raise Odd
            yield Token(text="")

    stream = mock_stream(sse("x"))
    respx_mock.post(URL).mock(side_effect=stream)
    async with Raising() as session:
        with pytest.raises(Odd):
            await session.stream().collect()
    assert stream.closed


async def test_decode_may_wrap_that_of_its_parent(respx_mock: respx.MockRouter) -> None:
    class Loud(Acme):
        async def decode(self, frames: AsyncIterator[Any]) -> AsyncIterator[Token | Finish]:
            async for event in super().decode(frames):
                if isinstance(event, Token):
                    yield Token(text=event.text.upper())

    respx_mock.post(URL).mock(
        side_effect=in_turn(mock_stream(chat("Hi")), mock_stream(token("Hi")))
    )
    async with Loud() as session:
        assert (await session.stream().collect()).text == "HI"
        with pytest.raises(StreamTruncated) as caught:
            await session.stream().collect()
    assert caught.value.partial.text == "HI"


async def test_decode_may_leave_that_of_its_parent_early(respx_mock: respx.MockRouter) -> None:
    class Brief(Acme):
        async def decode(self, frames: AsyncIterator[Any]) -> AsyncIterator[Token | Finish]:
            async for event in super().decode(frames):
                yield Token(text="enough")
                if event == Token(text="b"):
                    return

    respx_mock.post(URL).mock(side_effect=mock_stream(chat("a", "b", "c")))
    async with Brief() as session:
        reply = await session.stream().collect()
    assert (reply.text, reply.complete) == ("enoughenough", True)


# Other hooks


async def test_what_reports_an_error_can_be_redefined(respx_mock: respx.MockRouter) -> None:
    class Coded(Acme):
        def remote_error(self, frame: ServerSentEvent) -> RemoteError | None:
            if frame.event != "failure":
                return None
            return RemoteError(
                f"code {frame.data}", type=frame.data, retryable=frame.data == "busy"
            )

    respx_mock.post(URL).mock(
        side_effect=in_turn(
            mock_stream(sse_event("busy", event="failure")),
            mock_stream(b'data: {"type": "token", "text": "a", "error": "b"}\n\n', FINISH),
            mock_stream(sse_event("broken", event="failure")),
        )
    )
    async with Coded() as session:
        assert (await session.stream().collect()).text == "a"
        with pytest.raises(RemoteError, match="code broken") as caught:
            await session.stream().collect()
    assert (caught.value.type, caught.value.attempts) == ("broken", 1)


async def test_how_to_resume_can_be_redefined(respx_mock: respx.MockRouter) -> None:
    class WithCursor(Acme):
        def resume_request(
            self, request: Request, reply: Reply[Token | Finish], last_event_id: str
        ) -> Request | None:
            return replace(request, params={"after": len(reply.events)})

    route = respx_mock.post(url__startswith=URL).mock(
        side_effect=in_turn(mock_stream(token("a"), token("b"), HANG_UP), mock_stream(chat("c")))
    )
    async with WithCursor() as session:
        assert (await session.stream().collect()).text == "abc"
    assert [dict(request.url.params) for request in sent(route)] == [{}, {"after": "2"}]
    assert sent(route)[0].content == sent(route)[1].content


# The event type


class Middle(AsyncSession[EventT], Generic[EventT]):
    """An SDK's own base, generic like its parent."""

    base_url = BASE_URL
    final_events: ClassVar[tuple[type[Any], ...] | None] = None


class Second(Middle[EventT], Generic[EventT]):
    """And one more."""


class Renamed(Generic[EventT]):
    """A mix-in before the session."""


class Mixed(Renamed[int], Second[Token | Finish]):
    """A class with two generic parents."""

    final_events = (Finish,)


class Leaf(Second[Token | Finish]):
    """The class that says it at last."""

    final_events = (Finish,)


class Child(Leaf):
    """A class that says nothing."""


@pytest.mark.parametrize("cls", [Leaf, Mixed, Child])
async def test_the_event_type_is_found_through_generic_parents(
    respx_mock: respx.MockRouter, cls: type[AsyncSession[Token | Finish]]
) -> None:
    respx_mock.post(URL).mock(side_effect=mock_stream(chat("Hi")))
    async with cls() as session:
        reply = await session.stream("POST", "/generate").collect()
    assert reply.events == [Token(text="Hi"), Finish()]


async def test_a_generic_base_may_say_how_streams_end(respx_mock: respx.MockRouter) -> None:
    class Rows(Middle[Row]):
        pass

    respx_mock.post(URL).mock(side_effect=mock_stream(sse({"n": 1})))
    async with Rows() as session:
        assert (await session.stream("POST", "/generate").collect()).events == [Row(n=1)]


BARE = """
from typing import Generic
import anyio, httpx
from typing_extensions import TypeVar
from streamsession import AsyncSession
from streamsession.testing import mock_stream, sse

T = TypeVar("T")

class Middle(AsyncSession[T], Generic[T]):
    final_events = None

class Bare(Middle):
    pass

async def main():
    transport = httpx.MockTransport(mock_stream(sse({"type": "text", "text": "Hi"})))
    async with Bare(base_url="https://api.acme.example", transport=transport) as session:
        print(type(await anext(session.stream("GET", "/"))).__name__)

anyio.run(main)
"""


def test_the_events_of_a_class_that_names_none_do_not_depend_on_what_ran_before() -> None:
    first = (
        "AsyncSession(base_url='https://api.acme.example').open_stream('GET', '/')\n\nclass Middle"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        for code in (BARE, BARE.replace("class Middle", first))
    }
    assert len(seen) == 1, seen


def test_events_that_cannot_be_told_apart_are_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r'Row, LastRow each a `type: Literal\["..."\]'):

        class Ambiguous(AsyncSession[Row | LastRow]):  # pyright: ignore[reportUnusedClass]
            pass


async def test_a_union_may_be_told_apart_by_a_field_of_another_name(
    respx_mock: respx.MockRouter,
) -> None:
    class Add(Event):
        op: Literal["add"]

    class Remove(Event):
        op: Literal["remove"]

    class Patches(AsyncSession[Add | Remove]):
        base_url = BASE_URL
        final_events = (Remove,)

    respx_mock.post(URL).mock(side_effect=mock_stream(sse({"op": "add"}, {"op": "remove"})))
    async with Patches() as session:
        reply = await session.stream("POST", "/generate").collect()
    assert reply.events == [Add(op="add"), Remove(op="remove")]


class HeaderPair(Credentials):
    """Signs with two headers, and has others to try."""

    def __init__(self) -> None:
        self.rejected: list[Mapping[str, str]] = []

    async def headers(self) -> Mapping[str, str]:
        return {"X-User": "me", "X-Nonce": str(len(self.rejected))}

    async def refresh(self, rejected: Mapping[str, str]) -> bool:
        self.rejected.append(rejected)
        return True


async def test_credentials_of_the_authors_own_sign_and_refresh(
    respx_mock: respx.MockRouter,
) -> None:
    route = respx_mock.post(URL).mock(
        side_effect=in_turn(mock_stream(status=401), mock_stream(chat()))
    )
    auth = HeaderPair()
    async with Acme(auth=auth) as session:
        await session.stream().collect()
    assert [request.headers["x-nonce"] for request in sent(route)] == ["0", "1"]
    assert auth.rejected == [{"X-User": "me", "X-Nonce": "0"}]


@pytest.mark.anyio
async def test_an_answer_of_an_unknown_type_is_a_decode_error(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.play(ScriptedResponse.json({"type": "zzz"}))
    async with Acme(base_url=scripted_server.url) as session:
        with pytest.raises(DecodeError, match="does not know"):
            await session.request("GET", "/x", result=Token)


@pytest.mark.anyio
async def test_a_body_that_can_be_sent_once_does_not_follow_a_redirect_that_drops_it(
    scripted_server: ScriptedServer,
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"once"

    elsewhere = ScriptedResponse(status=303, headers={"location": "/seen"})
    scripted_server.play(elsewhere, ScriptedResponse.json({"type": "token", "text": "x"}))
    async with Acme(base_url=scripted_server.url) as session:
        await session.request("POST", "/x", result=Token, content=body())
    assert [(each.method, each.body) for each in scripted_server.requests] == [
        ("POST", b"once"),
        ("GET", b""),
    ]
