"""Messages of an AWS event stream, as bytes. No I/O.

The format: https://smithy.io/2.0/aws/amazon-eventstream.html
"""

import struct
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias
from uuid import UUID
from zlib import crc32

from pydantic_core import to_json

from .._framing._event_stream import MAX_HEADERS_BYTES, VALUE_SIZES, HeaderType
from .._framing._message import HeaderValue

__all__ = ["event_stream", "event_stream_message"]

IntegerType: TypeAlias = Literal["byte", "short", "integer", "long", "timestamp"]

_MAX_PAYLOAD_BYTES: Final = 24 * 1024 * 1024  # the format's
_OVERHEAD: Final = 16  # bytes of a message besides its headers and its payload


def event_stream(*messages: bytes | tuple[str, object]) -> bytes:
    """The body of an AWS event stream.

    Args:
        messages: Of each event, its type and its payload: `bytes` as they are, anything else as
            JSON (Pydantic models by alias). `bytes` alone are taken for messages already built,
            such as those of `event_stream_message`, or broken ones.

    Raises:
        ValueError: A message cannot be written; see `event_stream_message`.
    """
    return b"".join(
        each if isinstance(each, bytes) else event_stream_message(each[1], event=each[0])
        for each in messages
    )


def event_stream_message(
    payload: object = b"",
    *,
    event: str | None = None,
    exception: str | None = None,
    error: tuple[str, str] | None = None,
    headers: Mapping[str, HeaderValue | tuple[IntegerType, int]] | None = None,
) -> bytes:
    """One message of an AWS event stream, with its checksums.

    Args:
        payload: `bytes` as they are; anything else as JSON (Pydantic models by alias).
        event: The type of an event; it gets the headers of one, and its payload a `:content-type`,
            which is application/octet-stream for `bytes`.
        exception: The type of an exception; in the same way.
        error: The code and the text of an error; it gets the headers of one.
        headers: Further ones; they replace those of the same name. An `int` is written as an
            integer of 4 bytes, or as a long if it needs 8; for another type give that, too, such
            as ("byte", 7), or ("timestamp", 1700000000000) in milliseconds since the epoch.

    Raises:
        ValueError: It would be two of event, exception and error, or would not arrive as it is: a
            header name that is empty or of more than 255 bytes, a value that its type cannot hold,
            half a surrogate pair, headers of more than 128 KiB, a payload of more than 24 MiB; or
            `payload` cannot be JSON.
    """
    body = payload if isinstance(payload, bytes) else to_json(payload)
    if len(body) > _MAX_PAYLOAD_BYTES:
        raise ValueError(f"a payload of {len(body)} bytes: expected at most {_MAX_PAYLOAD_BYTES}")
    own = _headers_of(event=event, exception=exception, error=error)
    if body and error is None and own:
        is_json = not isinstance(payload, bytes)
        own[":content-type"] = "application/json" if is_json else "application/octet-stream"
    block = b"".join(_header(*each) for each in {**own, **(headers or {})}.items())
    if len(block) > MAX_HEADERS_BYTES:
        raise ValueError(f"headers of {len(block)} bytes: expected at most {MAX_HEADERS_BYTES}")
    sizes = struct.pack(">II", _OVERHEAD + len(block) + len(body), len(block))
    return _with_checksum(_with_checksum(sizes) + block + body)


def _with_checksum(data: bytes) -> bytes:
    return data + struct.pack(">I", crc32(data))


def _headers_of(
    *, event: str | None, exception: str | None, error: tuple[str, str] | None
) -> dict[str, HeaderValue]:
    """The headers that say what a message is."""
    match event, exception, error:
        case None, None, None:
            return {}
        case str(), None, None:
            return {":message-type": "event", ":event-type": event}
        case None, str(), None:
            return {":message-type": "exception", ":exception-type": exception}
        case None, None, (code, text):
            return {":message-type": "error", ":error-code": code, ":error-message": text}
        case _:
            raise ValueError("a message is an event, an exception or an error: give one of them")


def _header(name: str, value: HeaderValue | tuple[IntegerType, int]) -> bytes:
    what = f"header {name!r:.80}"
    if not name:
        raise ValueError(f"{what}: expected a name of 1 to 255 bytes")
    header_type, data = _value(what, value)
    return _sized(f"the name of {what}", name.encode(), 1) + bytes([header_type]) + data


def _value(what: str, value: HeaderValue | tuple[IntegerType, int]) -> tuple[HeaderType, bytes]:
    match value:
        case bool():
            return HeaderType.TRUE if value else HeaderType.FALSE, b""
        case int():
            return _integer(what, "integer" if -(2**31) <= value < 2**31 else "long", value)
        case (integer_type, number):
            return _integer(what, integer_type, number)
        case bytes():
            return HeaderType.BYTE_ARRAY, _sized(what, value, 2)
        case str():
            return HeaderType.STRING, _sized(what, value.encode(), 2)
        case UUID():
            return HeaderType.UUID, value.bytes
        case _:
            raise ValueError(f"{what}: expected a type that a header can have, got {value!r:.80}")


def _integer(what: str, integer_type: IntegerType, value: int) -> tuple[HeaderType, bytes]:
    header_type = HeaderType[integer_type.upper()]
    size = VALUE_SIZES[header_type]
    try:
        return header_type, value.to_bytes(size, signed=True)
    except OverflowError:
        raise ValueError(f"{what}: {value} is no {integer_type} of {size} bytes") from None


def _sized(what: str, data: bytes, size_bytes: int) -> bytes:
    """The data after their size."""
    most = 256**size_bytes - 1
    if len(data) > most:
        raise ValueError(f"{what} has {len(data)} bytes: expected at most {most}")
    return len(data).to_bytes(size_bytes) + data
