"""What a server says about its failures: in a frame, or in a response that is no stream. No I/O."""

from collections.abc import Mapping
from typing import Any, Final

from ._errors import RemoteError, StreamError, UnexpectedContent, status_error
from ._framing import EventStreamMessage, payload_of
from ._json import is_object, parse_json
from ._retry import retry_after

__all__ = ["ERROR_MENTION", "is_acceptable", "refusal", "reported_error"]

_QUOTED: Final = 400  # characters in a message; all that came stays on the error

# The names that OpenAI, Anthropic, Google and AWS give to failures that pass.
_PASSING: Final = frozenset({
    "api_error", "internal", "internal_error", "internal_server_error", "overloaded",
    "overloaded_error", "rate_limit_error", "rate_limit_exceeded", "resource_exhausted",
    "server_error", "service_unavailable", "throttling_exception", "timeout", "timeout_error",
    "unavailable", "408", "409", "429", "500", "502", "503", "504", "529",
    "internalerror", "internalfailureexception", "internalserverexception",
    "internalstreamfailure", "modelnotreadyexception", "modelstreamerrorexception",
    "modeltimeoutexception", "serviceunavailableexception", "slowdown", "throttlingexception",
    "toomanyrequestsexception",
})  # fmt: skip

_SAID_NOTHING: Final = "the server reported an error"


ERROR_MENTION: Final[Mapping[type, Any]] = {str: '"error"', bytes: b'"error"'}
"""What a payload that reports a failure holds, unless its frame is named `error`; by its type."""


def reported_error(frame: Any) -> RemoteError | None:
    """The failure that a frame reports; None if it reports none.

    Known are the common shapes: a server-sent event named `error`, an object with an `error` member
    that is not null (or whose `type` or `object` is "error"), and a message of the AWS event stream
    that calls itself an exception or an error.
    """
    if isinstance(frame, EventStreamMessage) and (error := _announced_error(frame)):
        return error
    payload, name = payload_of(frame)
    if not isinstance(payload, str | bytes):
        return None
    if name != "error" and ERROR_MENTION[type(payload)] not in payload:
        return None
    data = parse_json(payload)
    body = data
    if is_object(data) and data.get("error"):
        body = data["error"]
    elif name != "error" and not (
        is_object(data) and "error" in (data.get("type"), data.get("object"))
    ):
        return None
    if not is_object(body):
        text = payload if isinstance(payload, str) else payload.decode(errors="replace")
        text = body if isinstance(body, str) else text
        return RemoteError(text or _SAID_NOTHING, data=data)
    named = [str(body[key]) for key in ("type", "status", "code") if body.get(key)]
    message = body.get("message") or body.get("detail") or body.get("errorText")
    return RemoteError(
        str(message or _SAID_NOTHING),
        type=next((each for each in named if each != "error"), ""),
        retryable=any(each.lower() in _PASSING for each in named),
        data=data,
    )


def _announced_error(message: EventStreamMessage) -> RemoteError | None:
    """The failure that the headers of a message announce; None if they announce none.

    An exception is one that the API declares and its payload describes; an error is any other, with
    all there is to say in the headers (https://smithy.io/2.0/aws/amazon-eventstream.html).
    """
    if message.message_type not in ("exception", "error"):
        return None
    name, data = message.event_type, parse_json(message.payload)
    said: Any = message.payload.decode(errors="replace")
    if is_object(data):
        said = data.get("message") or data.get("Message")
    return RemoteError(
        str(message.error_message or said or _SAID_NOTHING),
        type=name,
        retryable=name.lower() in _PASSING,
        data=data,
    )


def is_acceptable(status: int, media: str, accepted: tuple[str, ...]) -> bool:
    """Whether a response carries what was asked for; one that names no media type may."""
    as_json = media.endswith("+json") and "application/json" in accepted
    return 200 <= status < 300 and (not media or media in accepted or as_json)  # noqa: PLR2004


def refusal(
    status: int, media: str, headers: Mapping[str, str], body: bytes, *, expected: str, now: float
) -> StreamError:
    """The error that a response which is not acceptable stands for.

    Args:
        status: Its HTTP status.
        media: The media type of its body.
        headers: Its headers.
        body: The beginning of its body.
        expected: The media type that was asked for.
        now: Seconds since the epoch.
    """
    text = body.decode(errors="replace")
    says = " ".join(str(reported_error(text) or text).split())
    says = says and f": {says:.{_QUOTED}}"
    about = {"body": text, "data": parse_json(text)}
    if 200 <= status < 300:  # noqa: PLR2004
        message = f"expected {expected}, got {media}{says}"
        return UnexpectedContent(message, content_type=media, **about)
    wait = retry_after(headers, now)
    asked = "" if wait is None else f" (asked to wait {wait:g} s)"
    message = f"HTTP {status}{asked}{says}"
    return status_error(status)(message, status=status, retry_after=wait, **about)
