import base64
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from streamsession._framing._event_stream import EventStreamDecoder
from streamsession._framing._message import EventStreamMessage, HeaderValue
from streamsession.testing import event_stream, event_stream_message
from tests.test_framing.cuts import KIB, cases

VALID = [case for case in cases("awseventstream_cases.json") if not case.values[0]["error"]]
INTEGERS = {2: "byte", 3: "short", 4: "integer", 5: "long", 8: "timestamp"}
MIB = 1024 * KIB


class Price(BaseModel):
    in_cents: int = Field(serialization_alias="inCents")


def header_of(kind: int, value: Any) -> Any:
    """The value of a header in a conformance case, as it is given to be written."""
    if kind in INTEGERS:
        return INTEGERS[kind], value
    return base64.b64decode(value) if kind == 6 else UUID(value) if kind == 9 else value


def received(message: bytes) -> EventStreamMessage:
    """A message as a client gets it."""
    (frame,) = EventStreamDecoder(max_event_bytes=25 * MIB).decode(message)
    return frame


def headers_after(**options: Any) -> dict[str, HeaderValue]:
    return dict(received(event_stream_message(**options)).headers)


@pytest.mark.parametrize("case", VALID)
def test_messages_are_written_as_the_format_has_them(case: dict[str, Any]) -> None:
    messages: list[bytes] = []
    for sent in case["expect"]:
        headers = {name: header_of(kind, value) for name, kind, value in sent["headers"]}
        messages.append(event_stream_message(base64.b64decode(sent["payload"]), headers=headers))
    assert event_stream(*messages) == b"".join(case["chunks"])


def test_values_and_models_become_json_by_alias() -> None:
    for payload, text in [
        ({"x": [1, None]}, b'{"x":[1,null]}'),
        (Price(in_cents=5), b'{"inCents":5}'),
        ("text", b'"text"'),
        (None, b"null"),
        (b'{"broken', b'{"broken'),
    ]:
        assert received(event_stream_message(payload)).payload == text


def test_an_event_has_the_headers_of_one() -> None:
    assert headers_after(payload={"text": "Hi"}, event="delta") == {
        ":message-type": "event",
        ":event-type": "delta",
        ":content-type": "application/json",
    }


def test_an_exception_has_the_headers_of_one() -> None:
    assert headers_after(payload={"message": "slow down"}, exception="throttled") == {
        ":message-type": "exception",
        ":exception-type": "throttled",
        ":content-type": "application/json",
    }


def test_an_error_has_the_headers_of_one() -> None:
    assert headers_after(error=("InternalError", "try again")) == {
        ":message-type": "error",
        ":error-code": "InternalError",
        ":error-message": "try again",
    }


def test_the_content_type_is_that_of_the_payload() -> None:
    assert headers_after(payload=b"\0", event="x")[":content-type"] == "application/octet-stream"
    assert ":content-type" not in headers_after(event="x")
    assert headers_after(payload={}) == {}


def test_headers_are_added_to_those_of_an_event_and_replace_them() -> None:
    headers = {":content-type": "text/plain", "n": 1}
    assert headers_after(payload=b"x", event="text", headers=headers) == {
        ":message-type": "event",
        ":event-type": "text",
        ":content-type": "text/plain",
        "n": 1,
    }


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (0, ("integer", 0)),
        (2**31 - 1, ("integer", 2**31 - 1)),
        (-(2**31), ("integer", -(2**31))),
        (2**31, ("long", 2**31)),
        (-(2**31) - 1, ("long", -(2**31) - 1)),
    ],
)
def test_an_integer_is_of_4_bytes_or_else_of_8(value: int, same: Any) -> None:
    assert event_stream_message(headers={"n": value}) == event_stream_message(headers={"n": same})


def test_a_body_is_of_events_and_of_messages_already_built() -> None:
    assert event_stream() == b""
    assert event_stream(("delta", {"text": "Hi"}), b"broken", ("stop", b"")) == (
        event_stream_message({"text": "Hi"}, event="delta")
        + b"broken"
        + event_stream_message(event="stop")
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"event": "x", "exception": "y"}, "give one of them"),
        ({"event": "x", "error": ("y", "z")}, "give one of them"),
        ({"headers": {"": 1}}, "header '': expected a name of 1 to 255 bytes"),
        ({"headers": {"n" * 256: 1}}, "the name of header 'n+ has 256 bytes: .* at most 255"),
        ({"headers": {"\ud800": 1}}, "surrogates"),
        ({"headers": {"s": "\udfff"}}, "surrogates"),
        ({"headers": {"s": "x" * 65536}}, "header 's' has 65536 bytes: expected at most 65535"),
        ({"headers": {"s": bytes(65536)}}, "header 's' has 65536 bytes: expected at most 65535"),
        ({"headers": {"n": ("byte", 128)}}, "header 'n': 128 is no byte of 1 bytes"),
        ({"headers": {"n": ("short", -32769)}}, "header 'n': -32769 is no short of 2 bytes"),
        ({"headers": {"n": ("integer", 2**31)}}, "is no integer of 4 bytes"),
        ({"headers": {"n": 2**63}}, "is no long of 8 bytes"),
        ({"headers": {"n": ("timestamp", 2**63)}}, "is no timestamp of 8 bytes"),
        ({"headers": {"n": 1.5}}, "header 'n': expected a type that a header can have, got 1.5"),
        (
            {"headers": {"a": bytes(65535), "b": bytes(65535)}},
            "headers of 131080 bytes: expected at most 131072",
        ),
        ({"payload": bytes(24 * MIB + 1)}, "a payload of 25165825 bytes: .* at most 25165824"),
        ({"payload": object()}, "serialize"),
    ],
)
def test_what_would_not_arrive_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        event_stream_message(**options)


def test_what_is_as_large_as_it_may_be_arrives() -> None:
    name, text = "n" * 255, "x" * 65535
    rest = bytes(128 * KIB - (4 + len(name) + len(text)) - 5)
    message = event_stream_message(bytes(24 * MIB), headers={name: text, "b": rest})
    assert received(message).headers == {name: text, "b": rest}
    assert len(received(message).payload) == 24 * MIB
    with pytest.raises(ValueError, match="headers of 131073 bytes"):
        event_stream_message(headers={name: text, "b": rest + b"1"})
