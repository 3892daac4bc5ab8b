"""HTTP/1.1 as a scripted server speaks it: bytes in, bytes out.

No I/O. RFC 9112; requests are read strictly enough to show a client's mistake.
"""

import http
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import httpx

from ._script import ScriptedResponse

__all__ = [
    "LAST_CHUNK",
    "BadRequest",
    "RequestHead",
    "asks_to_close",
    "chunk",
    "parse_chunk_size",
    "parse_head",
    "response_head",
    "response_headers",
]

LAST_CHUNK: Final = b"0\r\n\r\n"
_SIZE: Final = re.compile("[0-9]{1,9}")
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,8}")


class BadRequest(Exception):
    """The client sent something that is not a request this server takes."""


class RequestHead(NamedTuple):
    """The request line and the headers."""

    method: str
    path: str
    headers: httpx.Headers

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        coding: str = self.headers.get("transfer-encoding", "")
        return coding.lower() == "chunked"

    @property
    def content_length(self) -> int:
        """The size of the body, in bytes; 0 if none is announced."""
        value: str = self.headers.get("content-length", "0")
        if not _SIZE.fullmatch(value):
            raise BadRequest(f"Content-Length is {value!r}, expected up to 9 digits")
        return int(value)


def parse_head(head: bytes) -> RequestHead:
    """Read a request line and headers, without the empty line that ends them.

    Raises:
        BadRequest: It is not HTTP/1.x.
    """
    first, *lines = head.split(b"\r\n")
    request_line = first.decode("latin-1")
    method, _, rest = request_line.partition(" ")
    path, _, version = rest.rpartition(" ")
    if not (method and path and version.startswith("HTTP/1.")):
        raise BadRequest(f"the request line is {request_line!r}")
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not (name and colon) or name != name.strip():
            raise BadRequest(f"a header line is {line!r}")
        headers.append((name, value.strip()))
    return RequestHead(method, path, httpx.Headers(headers))


def parse_chunk_size(line: bytes) -> int:
    """Read the line in front of a chunk, in bytes of the chunk; extensions are ignored.

    Raises:
        BadRequest: It is no hexadecimal number.
    """
    digits = line.partition(b";")[0].strip()
    if not _CHUNK_SIZE.fullmatch(digits):
        raise BadRequest(f"a chunk size is {line!r}, expected up to 8 hexadecimal digits")
    return int(digits, 16)


def asks_to_close(*messages: Mapping[str, str]) -> bool:
    """Whether the headers of any message say that its connection ends after it."""
    return any(
        option.strip().lower() == "close"
        for headers in messages
        for name, value in headers.items()
        if name.lower() == "connection"
        for option in value.split(",")
    )


def response_head(response: ScriptedResponse) -> bytes:
    """The status line and headers of a response; nothing for a raw one."""
    if response.framing == "raw":
        return b""
    try:
        phrase = http.HTTPStatus(response.status).phrase
    except ValueError:  # a status of nobody's list is just what a test may want
        phrase = ""
    lines = [f"HTTP/1.1 {response.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in response_headers(response).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def response_headers(response: ScriptedResponse) -> dict[str, str]:
    """The headers of a response: the given ones, and what they do not name of its own."""
    own: dict[str, str] = {}
    if response.content_type is not None and response.has_body:
        own["Content-Type"] = response.content_type
    match response.framing:
        case "chunked" if response.has_body:
            own["Transfer-Encoding"] = "chunked"
        case "length" if response.has_body:
            own["Content-Length"] = str(response.size)
        case "close":
            own["Connection"] = "close"
        case _:
            pass
    given = {name.lower() for name in response.headers}
    return {
        **{name: value for name, value in own.items() if name.lower() not in given},
        **response.headers,
    }


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
