"""What servers say of their failures, in the words of the real ones."""

import json
import math
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsession import (
    AuthenticationError,
    JSONLinesDecoder,
    NotFound,
    RateLimited,
    RemoteError,
    ServerError,
    ServerSentEvent,
    StatusError,
    StreamError,
    UnexpectedContent,
)
from streamsession._framing._message import EventStreamMessage, HeaderValue
from streamsession._reports import is_acceptable, refusal, reported_error


class Said(NamedTuple):
    """What is to be told of a report."""

    message: str
    type: str = ""
    retryable: bool = False


NOTHING_SAID = "the server reported an error"

# The shapes as the APIs send them; see their documentation.
REPORTS: dict[str, tuple[dict[str, Any], Said]] = {
    "Mistral": (
        {
            "object": "error",
            "message": "Service tier capacity exceeded for this model.",
            "type": "service_tier_capacity_exceeded",
            "param": None,
            "code": "3505",
        },
        Said("Service tier capacity exceeded for this model.", "service_tier_capacity_exceeded"),
    ),
    "OpenAI chat": (
        {
            "error": {
                "message": "The server had an error while processing your request",
                "type": "server_error",
                "param": None,
                "code": None,
            }
        },
        Said(
            "The server had an error while processing your request", "server_error", retryable=True
        ),
    ),
    "OpenAI chat, refused": (
        {
            "error": {
                "message": "Invalid prompt",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "invalid_prompt",
            }
        },
        Said("Invalid prompt", "invalid_request_error"),
    ),
    "OpenAI chat, too fast": (
        {
            "error": {
                "message": "Rate limit reached",
                "type": "tokens",
                "param": None,
                "code": "rate_limit_exceeded",
            }
        },
        Said("Rate limit reached", "tokens", retryable=True),
    ),
    "OpenAI Responses": (
        {
            "type": "error",
            "code": "server_error",
            "message": "Something went wrong",
            "param": None,
            "sequence_number": 3,
        },
        Said("Something went wrong", "server_error", retryable=True),
    ),
    "Anthropic": (
        {
            "type": "error",
            "error": {"type": "overloaded_error", "message": "Overloaded"},
            "request_id": "req_1",
        },
        Said("Overloaded", "overloaded_error", retryable=True),
    ),
    "Anthropic, refused": (
        {"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}},
        Said("too long", "invalid_request_error"),
    ),
    "Ollama": ({"error": "an error was encountered"}, Said("an error was encountered")),
    "Vercel": ({"type": "error", "errorText": "it broke"}, Said("it broke")),
    "Gemini Interactions": (
        {"event_type": "error", "error": {"code": "gateway_timeout", "message": "m"}},
        Said("m", "gateway_timeout"),
    ),
    "JSON-RPC": (
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "Internal error"}},
        Said("Internal error", "-32603"),
    ),
    "no message": ({"error": {"type": "x"}}, Said(NOTHING_SAID, "x")),
    "only its type": ({"type": "error"}, Said(NOTHING_SAID)),
    "FastAPI": ({"error": {"detail": "not so"}}, Said("not so")),
}
every_report = pytest.mark.parametrize(("report", "said"), REPORTS.values(), ids=REPORTS.keys())


def told(frame: Any) -> Said | None:
    error = reported_error(frame)
    return None if error is None else Said(str(error), error.type, error.retryable)


def forms_of(payload: str) -> list[Any]:
    """The frames that can carry a payload."""
    return [payload, payload.encode(), ServerSentEvent(data=payload)]


# Reports in a stream


@every_report
def test_a_report_is_understood_in_every_framing(report: dict[str, Any], said: Said) -> None:
    for payload in (json.dumps(report), json.dumps(report, indent=2)):
        assert [told(frame) for frame in forms_of(payload)] == [said] * 3
        assert told(ServerSentEvent(event="error", data=payload)) == said


@every_report
def test_what_reported_the_error_stays_on_it(report: dict[str, Any], said: Said) -> None:
    for frame in forms_of(json.dumps(report)):
        error = reported_error(frame)
        assert error is not None
        assert error.data == report
        assert str(error) == said.message


GEMINI = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


def test_the_error_of_gemini_may_pass() -> None:
    for frame in forms_of(json.dumps(GEMINI)):
        error = reported_error(frame)
        assert error is not None
        assert str(error) == "The model is overloaded."
        assert error.retryable


def test_the_error_of_gemini_goes_by_the_name_that_google_gives_it() -> None:
    error = reported_error(json.dumps(GEMINI))
    assert error is not None
    assert error.type == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("it broke", "it broke"),
        ("", NOTHING_SAID),
        ('"it broke"', "it broke"),
        ("null", "null"),
        ("[1]", "[1]"),
        ("{", "{"),
        ("{}", NOTHING_SAID),
        ('{"message": "m"}', "m"),
        ('{"detail": "d"}', "d"),
        ('{"error": null}', NOTHING_SAID),
        ('{"error": "m"}', "m"),
    ],
)
def test_an_event_named_error_is_a_report_whatever_it_carries(data: str, message: str) -> None:
    assert told(ServerSentEvent(event="error", data=data)) == Said(message)


@pytest.mark.parametrize("nothing", [None, False, 0, "", {}, []])
def test_an_error_member_that_says_nothing_is_no_report(nothing: Any) -> None:
    for frame in forms_of(json.dumps({"error": nothing, "text": "x"})):
        assert reported_error(frame) is None


@pytest.mark.parametrize(
    "payload",
    [
        '{"text": "an error"}',
        '{"text": "error"}',
        '{"text": "\\"error\\": \\"x\\""}',
        '{"type": "text", "text": "error"}',
        '{"delta": {"error": "nested"}}',
        '{"type": "message-end", "delta": {"error": "x", "finish_reason": "ERROR"}}',
        '{"type": "response.failed", "response": {"error": {"message": "x"}}}',
        '{"type": "conversation.response.error", "message": "x", "code": 1}',
        '{"errors": ["x"]}',
        '["error"]',
        '"error"',
        "error",
        '"error": "x"',
        '{"error": "cut sh',
        "",
        "[DONE]",
    ],
)
def test_what_merely_mentions_an_error_is_no_report(payload: str) -> None:
    assert [reported_error(frame) for frame in forms_of(payload)] == [None] * 3


@pytest.mark.parametrize("name", ["ping", "errors", "Error", "response.error"])
def test_an_event_of_another_name_is_no_report(name: str) -> None:
    assert reported_error(ServerSentEvent(event=name, data='{"message": "x"}')) is None


@pytest.mark.parametrize("said", [True, 5, ["x"]])
def test_a_report_that_is_no_object_is_quoted(said: Any) -> None:
    payload = json.dumps({"error": said})
    assert told(payload) == told(ServerSentEvent(data=payload)) == Said(payload)


@pytest.mark.parametrize("said", [True, 5, ["x"]])
def test_a_report_that_is_no_object_is_quoted_from_bytes_too(said: Any) -> None:
    payload = json.dumps({"error": said})
    assert told(payload.encode()) == Said(payload)


def test_a_json_line_reports_as_its_decoder_cuts_it_out() -> None:
    frames = JSONLinesDecoder().decode(b'{"response":"Hel"}\n{"error":"it broke"}\n')
    assert [told(frame) for frame in frames] == [None, Said("it broke")]


# Reports in an event stream of AWS


def exception(name: str, payload: bytes) -> EventStreamMessage:
    headers: dict[str, HeaderValue] = {":message-type": "exception", ":exception-type": name}
    return EventStreamMessage(headers, payload)


def failed(**headers: HeaderValue) -> EventStreamMessage:
    named = {f":error-{name}": value for name, value in headers.items()}
    return EventStreamMessage({":message-type": "error", **named})


def test_an_exception_is_named_in_its_headers_and_described_in_its_payload() -> None:
    frame = exception("throttlingException", b'{"message":"Too many tokens, please wait"}')

    assert told(frame) == Said(
        "Too many tokens, please wait", "throttlingException", retryable=True
    )


def test_an_error_has_all_that_it_says_in_its_headers() -> None:
    said = Said("Oh no", "InternalError", retryable=True)

    assert told(failed(code="InternalError", message="Oh no")) == said


@pytest.mark.parametrize(
    ("payload", "message", "data"),
    [
        (b'{"Message":"m","ErrorCode":"StreamBroken"}', "m", {"ErrorCode": "StreamBroken"}),
        (b'{"message":"m","originalStatusCode":400}', "m", {"originalStatusCode": 400}),
        (b"{}", NOTHING_SAID, {}),
        (b'{"message":null}', NOTHING_SAID, {}),
        (b"", NOTHING_SAID, None),
        (b"it broke", "it broke", None),
        (b"\xff", "\ufffd", None),
    ],
)
def test_an_exception_may_say_anything(payload: bytes, message: str, data: Any) -> None:
    reported = reported_error(exception("modelError", payload))

    assert reported is not None
    assert (str(reported), reported.type, reported.retryable) == (message, "modelError", False)
    assert reported.data is None if data is None else data.items() <= reported.data.items()


def test_an_error_without_headers_of_its_own_is_one_all_the_same() -> None:
    assert told(failed()) == Said(NOTHING_SAID)
    assert told(EventStreamMessage({":message-type": "exception"})) == Said(NOTHING_SAID)
    assert told(failed(code=7, message=b"x")) == Said(NOTHING_SAID)


@pytest.mark.parametrize("kind", ["event", "Exception", None, 1])
def test_a_message_of_another_kind_is_no_report(kind: HeaderValue | None) -> None:
    headers: dict[str, HeaderValue] = {":event-type": "token", ":exception-type": "x"}
    headers |= {} if kind is None else {":message-type": kind}

    assert reported_error(EventStreamMessage(headers, b'{"message":"m"}')) is None


@every_report
def test_an_event_may_report_as_in_every_framing(report: dict[str, Any], said: Said) -> None:
    assert told(EventStreamMessage({":message-type": "event"}, json.dumps(report).encode())) == said


# Those of Bedrock are in https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html
# and among the errors of the operation; the others are of SageMaker, Transcribe and S3.
@pytest.mark.parametrize(
    ("name", "retryable"),
    [
        ("internalServerException", True),
        ("modelStreamErrorException", True),
        ("serviceUnavailableException", True),
        ("throttlingException", True),
        ("ThrottlingException", True),
        ("modelTimeoutException", True),
        ("modelNotReadyException", True),
        ("InternalStreamFailure", True),
        ("InternalFailureException", True),
        ("SlowDown", True),
        ("validationException", False),
        ("accessDeniedException", False),
        ("modelErrorException", False),
        ("", False),
    ],
)
def test_the_name_of_an_exception_tells_whether_it_passes(name: str, *, retryable: bool) -> None:
    assert told(exception(name, b'{"message":"m"}')) == Said("m", name, retryable)
    assert told(failed(code=name, message="m")) == Said("m", name, retryable)


# Whatever comes


def test_a_frame_of_a_framing_of_ones_own_is_no_report() -> None:
    assert reported_error(object()) is None


@given(st.text() | st.binary(), st.sampled_from(["message", "error", "ping"]))
def test_whatever_a_frame_carries_it_is_a_report_or_none(payload: str | bytes, name: str) -> None:
    frames: list[Any] = [payload]
    if isinstance(payload, str):
        frames.append(ServerSentEvent(event=name, data=payload))
    for frame in frames:
        error = reported_error(frame)
        assert error is None or isinstance(error, RemoteError)


# Whether it may pass


@pytest.mark.parametrize(
    "name",
    [
        "api_error",
        "overloaded_error",
        "rate_limit_error",
        "rate_limit_exceeded",
        "server_error",
        "timeout_error",
        "UNAVAILABLE",
        "RESOURCE_EXHAUSTED",
        "INTERNAL",
        "service_unavailable",
        "throttling_exception",
    ],
)
@pytest.mark.parametrize("key", ["type", "code", "status"])
def test_failures_that_pass_can_be_tried_again(name: str, key: str) -> None:
    error = reported_error(json.dumps({"error": {key: name, "message": "m"}}))
    assert error is not None
    assert error.retryable
    assert error.type == name


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        (400, False),
        (401, False),
        (404, False),
        (408, True),
        (409, True),
        (429, True),
        (500, True),
        (501, False),
        (502, True),
        (503, True),
        (504, True),
        (529, True),
    ],
)
def test_a_status_as_a_code_tells_whether_it_passes(code: int, *, retryable: bool) -> None:
    for written in (code, str(code)):
        error = reported_error(json.dumps({"error": {"code": written, "message": "m"}}))
        assert error is not None
        assert error.retryable is retryable


@pytest.mark.parametrize(
    "name",
    [
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "insufficient_quota",
        "context_length_exceeded",
        "INVALID_ARGUMENT",
        "PERMISSION_DENIED",
        "error",
        "",
    ],
)
def test_failures_that_stay_are_not_tried_again(name: str) -> None:
    error = reported_error(json.dumps({"error": {"type": name, "message": "m"}}))
    assert error is not None
    assert not error.retryable


# Refusals


def refused(
    status: int,
    body: bytes,
    *,
    media: str = "application/json",
    headers: dict[str, str] | None = None,
) -> StreamError:
    return refusal(status, media, headers or {}, body, expected="text/event-stream", now=0.0)


@pytest.mark.parametrize(
    ("status", "cls"),
    [(302, StatusError), (401, AuthenticationError), (404, NotFound), (500, ServerError)],
)
def test_a_status_that_is_no_success_is_named(status: int, cls: type[StatusError]) -> None:
    error = refused(status, b"")
    assert type(error) is cls
    assert isinstance(error, StatusError)
    assert str(error) == f"HTTP {status}"
    assert (error.status, error.body, error.data) == (status, "", None)


@every_report
def test_a_refusal_says_what_the_server_said(report: dict[str, Any], said: Said) -> None:
    error = refused(400, json.dumps(report).encode())
    assert isinstance(error, StatusError)
    assert str(error) == f"HTTP 400: {said.message}"
    assert error.data == report
    assert error.body == json.dumps(report)


def test_a_refusal_without_a_known_shape_is_quoted() -> None:
    body = b'{"message": "invalid api token"}'
    error = refused(401, body)
    assert isinstance(error, StatusError)
    assert str(error) == 'HTTP 401: {"message": "invalid api token"}'
    assert error.data == {"message": "invalid api token"}


def test_of_a_page_the_beginning_is_quoted_in_one_line() -> None:
    page = "<html>\r\n  <title>Bad\tGateway</title>\n" + "<p>sorry</p>\n" * 100
    error = refused(502, page.encode(), media="text/html")
    assert isinstance(error, ServerError)
    message = str(error)
    assert message.startswith("HTTP 502: <html> <title>Bad Gateway</title> <p>sorry</p>")
    assert len(message) <= len("HTTP 502: ") + 400
    assert error.body == page
    assert error.data is None


def test_a_body_that_is_no_text_is_quoted_all_the_same() -> None:
    error = refused(500, b"\xff\x00\xfe")
    assert isinstance(error, StatusError)
    assert error.body == "\ufffd\x00\ufffd"


def test_a_body_cut_short_is_kept_as_text() -> None:
    error = refused(500, b'{"error": {"message": "it br')
    assert isinstance(error, StatusError)
    assert error.data is None
    assert str(error) == 'HTTP 500: {"error": {"message": "it br'


@pytest.mark.parametrize(
    ("headers", "seconds", "message"),
    [
        ({}, None, "HTTP 429: slow down"),
        ({"retry-after": "2"}, 2.0, "HTTP 429 (asked to wait 2 s): slow down"),
        ({"retry-after-ms": "1500"}, 1.5, "HTTP 429 (asked to wait 1.5 s): slow down"),
        (
            {"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"},
            60.0,
            "HTTP 429 (asked to wait 60 s): slow down",
        ),
        ({"retry-after": "soon"}, None, "HTTP 429: slow down"),
    ],
)
def test_a_refusal_says_how_long_to_wait(
    headers: dict[str, str], seconds: float | None, message: str
) -> None:
    error = refused(429, b'{"error": "slow down"}', headers=headers)
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds
    assert str(error) == message


def test_a_login_page_is_not_what_was_asked_for() -> None:
    error = refused(200, b"<html>\n<h1>Log in</h1>", media="text/html")
    assert isinstance(error, UnexpectedContent)
    assert str(error) == "expected text/event-stream, got text/html: <html> <h1>Log in</h1>"
    assert error.content_type == "text/html"
    assert error.body == "<html>\n<h1>Log in</h1>"
    assert error.data is None


def test_a_json_error_with_a_success_is_parsed() -> None:
    error = refused(200, b'{"error": {"message": "no such model", "type": "x"}}')
    assert isinstance(error, UnexpectedContent)
    assert str(error) == "expected text/event-stream, got application/json: no such model"
    assert error.data == {"error": {"message": "no such model", "type": "x"}}


# What is acceptable


SSE = ("text/event-stream",)
JSON = ("application/json", "text/json")


@pytest.mark.parametrize(
    ("status", "media", "accepted", "acceptable"),
    [
        (200, "text/event-stream", SSE, True),
        (201, "text/event-stream", SSE, True),
        (299, "text/event-stream", SSE, True),
        (200, "", SSE, True),
        (204, "", JSON, True),
        (200, "text/json", JSON, True),
        (200, "application/vnd.acme+json", JSON, True),
        (200, "application/vnd.acme+json", SSE, False),
        (200, "application/json", SSE, False),
        (200, "text/html", SSE, False),
        (199, "text/event-stream", SSE, False),
        (300, "text/event-stream", SSE, False),
        (404, "text/event-stream", SSE, False),
        (500, "", SSE, False),
    ],
)
def test_a_success_of_a_declared_type_is_acceptable(
    status: int, media: str, accepted: tuple[str, ...], *, acceptable: bool
) -> None:
    assert is_acceptable(status, media, accepted) is acceptable


def test_the_wait_that_was_asked_for_is_a_number() -> None:
    error = refused(503, b"", headers={"retry-after": "inf"})
    assert isinstance(error, StatusError)
    assert error.retry_after is None or math.isfinite(error.retry_after)


def test_a_long_message_of_the_server_is_quoted_in_part_and_kept_whole() -> None:
    said = "sorry, " * 1000
    error = refused(422, json.dumps({"error": {"message": said}}).encode())
    assert isinstance(error, StatusError)
    assert len(str(error)) <= len("HTTP 422: ") + 400
    assert error.data == {"error": {"message": said}}
