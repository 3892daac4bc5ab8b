"""What is asked of the server: all that is refused before it is sent, and that nothing is told."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import FrozenInstanceError, replace
from typing import Any
from urllib.parse import parse_qsl

import h11
import httpx
import httpx2
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from streamsession import HeaderAuth, InvalidRequest, Request
from streamsession._request import check_base_url, check_headers, join_url, origin
from streamsession.testing import ScriptedResponse, ScriptedServer, mock_stream
from tests.acme import URL, Acme, chat, sent
from tests.canary import CANARY


def hidden(value: object) -> str:
    """The id of a test; it does not tell the canary."""
    return ascii(value).replace(CANARY, "KEY")


def refusal_of_path(path: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        Request("GET", path)
    return str(caught.value)


# Methods


@pytest.mark.parametrize("method", ["GET", "POST", "get", "M-SEARCH", "!#$%&'*+.^_`|~0"])
def test_a_name_is_a_method(method: str) -> None:
    assert Request(method, "/x").method == method


@pytest.mark.parametrize(
    "method", ["", " ", "GET ", "GET /", "GET\r\nHost: evil", "GET\n", "GE\x00T", "GÉT", "G:T"]
)
def test_what_is_no_name_is_no_method(method: str) -> None:
    with pytest.raises(InvalidRequest, match="method"):
        Request(method, "/x")


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "connect", "Trace"])
def test_a_method_that_asks_for_no_resource_is_refused(method: str) -> None:
    with pytest.raises(InvalidRequest, match="method"):
        Request(method, "/x")


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/generate",
        "generate",
        "/a/b/c/",
        "/a//b",
        "/models/x:stream",
        "models/x:stream",
        "/x:stream",
        "/v1beta/models/gemini-2.0:streamGenerateContent?alt=sse",
        "/x?y=1&z=%20",
        "?y=1",
        "/x?next=https://elsewhere.example/",
        "/x?y=../z",
        "/x?y=//z",
        "/https://elsewhere.example",
        "/...",
        "/..x/x../.x/x.",
        "/a%2Fb",
        "/%252e%252e/x",
        "/caf\u00e9",
        "/@user",
    ],
)
def test_a_path_below_the_base_url_is_accepted(path: str) -> None:
    assert Request("GET", path).path == path


@pytest.mark.parametrize("path", ["/a b", "/a\tb", "/a\rb", "/a\nb", "/a\r\nHost: evil", "/a\x00"])
def test_spaces_and_line_breaks_are_refused_in_a_path(path: str) -> None:
    assert "quote" in refusal_of_path(path)


@pytest.mark.parametrize("path", ["/a#b", "#", "/a?b#c", "/a\\b", "\\\\evil", "/\\evil", "/a\x7f"])
def test_what_changes_the_meaning_of_a_url_is_refused_in_a_path(path: str) -> None:
    assert "quote" in refusal_of_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/x",
        "http://evil.example",
        "HTTPS://evil.example",
        "https:evil",
        "https:/evil",
        "//evil.example/x",
        "///evil.example",
        "//",
        "javascript:alert(1)",
        "data:,x",
        ":80/x",
        "user:password@evil.example/x",
    ],
)
def test_another_host_is_refused_as_a_path(path: str) -> None:
    assert "another host" in refusal_of_path(path)


@pytest.mark.parametrize("dots", [".", ".."])
@pytest.mark.parametrize("place", ["{}", "/{}", "{}/x", "/{}/x", "/x/{}", "/x/{}/y", "/x/{}?y=1"])
@pytest.mark.parametrize("written", ["plain", "upper", "lower", "first", "last"])
def test_what_would_leave_the_base_url_is_refused_however_it_is_written(
    dots: str, place: str, written: str
) -> None:
    segment = {
        "plain": dots,
        "upper": dots.replace(".", "%2E"),
        "lower": dots.replace(".", "%2e"),
        "first": dots.replace(".", "%2e", 1),
        "last": dots[:-1] + "%2E",
    }[written]
    assert "would leave base_url" in refusal_of_path(place.format(segment))


@pytest.mark.parametrize(
    "path", ["/..%5cx", "/x/..%5C..%5cy", "/%2e%2e%5cx", "/..;/x", "/x/..;y=1/z", "/%2e%2e;/x"]
)
def test_what_some_servers_take_for_dots_is_refused(path: str) -> None:
    """Windows's separator, and the parameters that Java's servers drop before they look."""
    assert "would leave base_url" in refusal_of_path(path)


def test_a_path_that_cannot_be_encoded_is_refused() -> None:
    refusal_of_path("/\ud800")


@pytest.mark.parametrize(
    "path",
    [f"/{CANARY} x", f"//{CANARY}", f"https://{CANARY}@h", f"/{CANARY}/..", f"/#{CANARY}"],
    ids=hidden,
)
def test_the_message_does_not_hold_the_path(path: str) -> None:
    assert CANARY not in refusal_of_path(path)


@given(st.text())
def test_a_path_is_accepted_whole_or_refused_by_name(path: str) -> None:
    try:
        request = Request("GET", path)
    except InvalidRequest:
        return
    url = join_url("https://api.example.com/v1", request.path)
    assert url.startswith("https://api.example.com/v1")
    assert origin(url) == ("https", "api.example.com", 443)


@given(st.text())
def test_an_accepted_path_becomes_one_target(path: str) -> None:
    try:
        url = join_url("https://api.example.com/v1", Request("GET", path).path)
    except InvalidRequest:
        return
    for library in (httpx, httpx2):
        target: bytes = library.URL(url).raw_path
        assert target.startswith(b"/v1")
        assert all(0x21 <= byte <= 0x7E for byte in target), target


# Headers


@pytest.mark.parametrize("name", ["x-api-key", "Accept", "X_Y.Z", "!#$%&'*+-.^_`|~09"])
def test_the_name_of_a_header_is_accepted_in_lower_case(name: str) -> None:
    assert check_headers({name: "x"}) == {name.lower(): "x"}


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a:", ":authority", "a\r\nb", "a\n", "a\x00", "caf\u00e9", "(a)", "a/b"],
)
def test_what_is_no_name_of_a_header_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is not the name of a header"):
        check_headers({name: CANARY})


@pytest.mark.parametrize("value", ["", "x", "a b", "a\tb", "~!@#$%^&*()_+{}|:<>?", 'a "quoted" b'])
def test_ascii_text_is_the_value_of_a_header(value: str) -> None:
    assert check_headers({"x": value}) == {"x": value}


WRONG_VALUES = [
    f"{CANARY}\n",
    f"{CANARY}\r",
    f"{CANARY}\r\nx-admin: 1",
    f"\n{CANARY}",
    f"{CANARY}\x00",
    f"{CANARY}\x0b",
    f"{CANARY}\x7f",
    f"{CANARY}\u00e9",
    f"{CANARY}\u2028",
    f"{CANARY}\ud800",
    f" {CANARY}",
    f"{CANARY} ",
    f"\t{CANARY}",
    f"{CANARY}\t",
]


@pytest.mark.parametrize("value", WRONG_VALUES, ids=hidden)
def test_a_value_that_cannot_be_sent_is_refused_and_never_told(value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_headers({"X-Api-Key": value})
    assert "X-Api-Key" in str(caught.value)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(InvalidRequest, match="X-Api-Key"):
        Request("GET", "/x", headers={"X-Api-Key": value})


def test_of_two_headers_that_differ_in_case_the_last_counts() -> None:
    assert check_headers({"Accept": "a", "accept": "b"}) == {"accept": "b"}


WRITTEN = "".join(map(chr, range(0x20, 0x7F)))


@given(st.text() | st.text(WRITTEN), st.text() | st.text(WRITTEN))
def test_an_accepted_header_is_one_line_on_the_wire(name: str, value: str) -> None:
    try:
        ((name, value),) = check_headers({name: value}).items()
    except InvalidRequest:
        return
    if name in FRAMING:
        return
    headers = [("host", "h"), (name, value)]
    head = h11.Connection(h11.CLIENT).send(h11.Request(method="GET", target="/", headers=headers))
    assert head is not None
    assert head.split(b"\r\n")[1:] == [b"host: h", f"{name}: {value}".encode(), b"", b""]


FRAMING = ("content-length", "transfer-encoding", "host", "connection", "upgrade")
"""They say where a message ends or who it is for, which is for the library to say."""


@pytest.mark.parametrize("name", [*FRAMING, "Host", "Transfer-Encoding"])
def test_a_header_that_frames_the_message_is_refused(name: str) -> None:
    """A `Transfer-Encoding` goes out beside the `Content-Length`: that is request smuggling."""
    with pytest.raises(InvalidRequest, match=name):
        Request("POST", "/x", headers={name: "chunked"})


# Requests


def test_a_request_keeps_its_headers_in_lower_case() -> None:
    assert Request("GET", "/x", headers={"X-Trace": "1"}).headers == {"x-trace": "1"}


def test_a_request_that_is_replaced_is_checked_again() -> None:
    request = Request("GET", "/x", headers={"a": "1"})
    following = replace(request, headers={**request.headers, "Last-Event-ID": "7"})
    assert following.headers == {"a": "1", "last-event-id": "7"}
    assert request.headers == {"a": "1"}
    with pytest.raises(InvalidRequest, match="last-event-id"):
        replace(request, headers={"last-event-id": "7\n"})


def test_a_request_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(Request("GET", "/x"), "path", "//evil")  # noqa: B010 - type checkers refuse it, too


def test_the_repr_of_a_request_tells_no_secret() -> None:
    request = Request(
        "POST",
        "/x",
        params={"key": CANARY},
        headers={"x-api-key": CANARY},
        content=CANARY.encode(),
    )
    assert repr(request) == "Request(method='POST', path='/x')"


async def chunks() -> AsyncIterator[bytes]:
    yield b"x"


@pytest.mark.parametrize(
    ("content", "replayable"), [(None, True), (b"", True), (b"x", True), (chunks(), False)]
)
def test_only_a_body_that_is_at_hand_can_be_sent_again(content: Any, *, replayable: bool) -> None:
    assert Request("POST", "/x", content=content).replayable is replayable


@pytest.mark.parametrize("content", ["text", 5, {"a": 1}, [b"x"], bytearray(b"x")])
def test_a_body_of_another_kind_is_refused(content: Any) -> None:
    with pytest.raises(InvalidRequest, match="content must be"):
        Request("POST", "/x", content=content)


# Base URLs


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://api.example.com/v1", "https://api.example.com/v1"),
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("https://api.example.com", "https://api.example.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("HTTPS://API.example.com/V1", "HTTPS://API.example.com/V1"),
        ("https://b\u00fccher.example", "https://b\u00fccher.example"),
    ],
)
def test_an_absolute_url_is_a_base_without_its_final_slash(url: str, base: str) -> None:
    assert check_base_url(url) == base


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com",
        "api.example.com/v1",
        "localhost:8080",
        "/v1",
        "//api.example.com",
        "https:",
        "https://",
        "https:///v1",
        "https://:8080",
        "ftp://api.example.com",
        "file:///etc/passwd",
        "wss://api.example.com",
        "https://api.example.com:port",
        "https://api.example.com:99999",
        "https://api.example.com:-1",
        "https://[::1",
        "https://api.example.com/v1#",
        "https://api.example.com/#x",
        "https://api.example.com /v1",
        "https://api.example.com\n",
        "https://api.example.com\r\nHost: evil",
        "\thttps://api.example.com",
        "https:\\\\api.example.com",
        "https://api.example.com\\@evil.example",
        "https://ex\u2100mple.com",
        "https://\ud800.example",
        "https://api.example.com\uff20evil.example",
        "https://api.example.com\uff0fevil.example",
        "https://api.example.com\uff03evil.example",
        "https://api.example.com:\uff14\uff14\uff13",
        "https://api.example.com:+443",
        "https://api.example.com:4_43",
        "https://api.example.com\x00.evil.example",
        "https://?",
        "https://#",
        "https://\\",
        "http+unix://api.example.com",
        "javascript://api.example.com",
    ],
    ids=ascii,
)
def test_what_is_no_absolute_url_is_no_base(url: str) -> None:
    with pytest.raises(InvalidRequest, match="absolute URL"):
        check_base_url(url)


def test_who_forgot_the_base_url_is_told_where_it_goes() -> None:
    with pytest.raises(InvalidRequest, match="set it on the class or pass base_url="):
        check_base_url("")


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{CANARY}@api.example.com",
        f"https://{CANARY}@api.example.com",
        f"https://{CANARY}@api.example.com:port",
        f"https://user:{CANARY}@",
        f"ftp://{CANARY}@api.example.com",
        f"https://user:{CANARY}#@api.example.com",
        f"https://api.example.com?key={CANARY}",
        f"https://@{CANARY}",
        f"https://:@{CANARY}",
        f"https://a@{CANARY}@api.example.com",
    ],
    ids=hidden,
)
def test_credentials_are_refused_in_a_base_url_and_never_told(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_base_url(url)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_credentials_in_a_base_url_are_sent_to_their_own_argument() -> None:
    with pytest.raises(InvalidRequest, match="api_key= or auth="):
        check_base_url("https://user:password@api.example.com")


@pytest.mark.parametrize(
    "query",
    [
        "?a=1",
        "/v1?a=1",
        "?",
        "/v1?",
    ],
)
def test_a_query_is_refused_in_a_base_url(query: str) -> None:
    with pytest.raises(InvalidRequest, match="query"):
        check_base_url(f"https://api.example.com{query}")


# Joining


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("", "https://h/v1"),
        ("/", "https://h/v1/"),
        ("x", "https://h/v1/x"),
        ("/x", "https://h/v1/x"),
        ("/x/", "https://h/v1/x/"),
        ("/x?y=1", "https://h/v1/x?y=1"),
        ("/https://evil", "https://h/v1/https://evil"),
    ],
)
def test_the_path_is_appended_with_one_slash(path: str, url: str) -> None:
    assert join_url("https://h/v1", path) == url


# Origins


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h", ("https", "h", 443)),
        ("http://h/x?y", ("http", "h", 80)),
        ("https://h:8443/x", ("https", "h", 8443)),
        ("https://h:443", ("https", "h", 443)),
        ("HTTPS://API.Example.COM", ("https", "api.example.com", 443)),
        ("http://[::1]:8080/x", ("http", "::1", 8080)),
        ("https://user:password@h", ("https", "h", 443)),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, expected: tuple[str, str, int]) -> None:
    assert origin(url) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://h", "http://h"),
        ("https://h", "https://h:8443"),
        ("https://h", "https://h.evil.example"),
        ("https://h", "https://sub.h"),
    ],
)
def test_origins_that_differ_in_anything_are_not_the_same(one: str, other: str) -> None:
    assert origin(one) != origin(other)


@pytest.mark.parametrize("url", ["https://h:port", "https://h:99999", "https://[::1"])
def test_what_is_no_url_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        origin(url)


# On the wire


@pytest.mark.anyio
async def test_a_body_is_framed_in_one_way(scripted_server: ScriptedServer) -> None:
    scripted_server.play(ScriptedResponse([chat()]))
    headers = {"Transfer-Encoding": "chunked"}
    async with Acme(base_url=scripted_server.url) as session:
        with contextlib.suppress(InvalidRequest):
            await session.open_stream("POST", "/x", json={}, headers=headers).collect()
    for request in scripted_server.requests:
        assert not {"content-length", "transfer-encoding"} <= set(request.headers)


@pytest.mark.anyio
@pytest.mark.parametrize("place", ["request", "session", "auth"])
async def test_the_key_goes_to_the_host_of_the_base_url(
    scripted_server: ScriptedServer, place: str
) -> None:
    scripted_server.play(ScriptedResponse([chat()]))
    host = {"Host": "evil.example"}
    options: dict[str, dict[str, Any]] = {
        "request": {"api_key": CANARY},
        "session": {"api_key": CANARY, "headers": host},
        "auth": {"auth": HeaderAuth("Host", "evil.example"), "headers": {"x-api-key": CANARY}},
    }
    with contextlib.suppress(InvalidRequest):
        async with Acme(base_url=scripted_server.url, **options[place]) as session:
            headers = host if place == "request" else {}
            await session.open_stream("POST", "/x", headers=headers).collect()
    assert all(request.headers["host"] != "evil.example" for request in scripted_server.requests)


class BadlyNamed(Acme):
    """Names headers as no header can be named."""

    session_id_header = "x-session\r\nx-admin"
    idempotency_header = "x-key\r\nx-admin"


@pytest.mark.anyio
async def test_the_names_of_headers_that_a_class_declares_are_checked(
    respx_mock: respx.MockRouter,
) -> None:
    """h11 refuses them, but not every transport is h11."""
    route = respx_mock.post(URL).mock(side_effect=mock_stream(chat()))
    with contextlib.suppress(InvalidRequest):
        async with BadlyNamed() as session:
            await session.stream().collect()
    assert not any("\n" in name for request in sent(route) for name in request.headers)


PARAMS = {
    "line": "a\r\nx-admin: 1",
    "path": "/../..\\x",
    "query": "a&b=c#d?e=f;g",
    "nul": "\x00",
    "space": " \t\u00a0\u2028",
    "percent": "%0d%0a%",
    "text": "\u00fc\U0001f642",
    "na&me=\r\n ": "",
}


@pytest.mark.anyio
async def test_parameters_are_values_and_nothing_else(scripted_server: ScriptedServer) -> None:
    scripted_server.play(ScriptedResponse([chat()]))
    async with Acme(base_url=scripted_server.url) as session:
        await session.open_stream("GET", "/x?own=1", params=PARAMS).collect()
    (request,) = scripted_server.requests
    path, _, query = request.path.partition("?")
    assert path == "/x"
    assert dict(parse_qsl(query, keep_blank_values=True)) == {"own": "1"} | PARAMS
    assert "x-admin" not in request.headers


@pytest.mark.anyio
@pytest.mark.parametrize("options", [{"params": {"q": "\ud800"}}, {"content": "\ud800"}], ids=str)
async def test_text_that_cannot_be_encoded_is_an_invalid_request(options: dict[str, Any]) -> None:
    async with Acme() as session:
        with pytest.raises(InvalidRequest):
            await session.open_stream("POST", "/x", **options).collect()
