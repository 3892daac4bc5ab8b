"""The floors: what a good engineer writes by hand for one API, on one transport, and no more.

Each sends one request, cuts the body into lines wherever its chunks begin and end, makes a typed
event of each `data:` line straight from the bytes with a validator prepared once, and sees at the
end whether the final event came. That is correct for APIs whose events are one line of JSON each,
as all three here are. There are no retries, no timeouts, no limits, no account of what went wrong;
nothing is kept, and events are counted where they are made: no generator hands them over.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import httpx
from httpx_aiohttp import AiohttpTransport
from pydantic import ValidationError
from pydantic_core import to_json

from .reading import Address, Open, Read, Reading

__all__ = [
    "API",
    "LIMITS",
    "NO_TIMEOUT",
    "Answer",
    "KeptAnswer",
    "Transport",
    "aiohttp_transport",
    "http2_transport",
    "over_httpx",
    "over_socket",
]

Transport: TypeAlias = Callable[[Address], httpx.AsyncBaseTransport]
"""Makes a transport to a server."""

LIMITS: Final = httpx.Limits(max_connections=1000, max_keepalive_connections=20)  # as ours
NO_TIMEOUT: Final = httpx.Timeout(None)
_MOST_READ: Final = 64 * 1024  # bytes, as httpcore reads


@dataclass(frozen=True, kw_only=True)
class API:
    """What a hand-written loop knows of an API.

    Attributes:
        path: Where to ask.
        body: What to ask, by the name of the model.
        validate: Makes an event of JSON text.
        final: The event that proves an answer complete; None if a marker does.
        marker: The payload that does, and is no event.
    """

    path: str
    body: Callable[[str], dict[str, Any]]
    validate: Callable[[bytes], Any]
    final: type[Any] | None = None
    marker: bytes = b""


class Answer:
    """The events in the chunks of one body."""

    def __init__(self, api: API) -> None:
        self._api = api
        self._begun: list[bytes] = []  # pieces of the line that has not ended
        self._last: Any = None
        self._marked = False
        self._events = 0
        self._first = 0.0

    def feed(self, chunk: bytes) -> None:
        """Take in a chunk."""
        validate = self._api.validate
        for line in self.cut(chunk):
            if line[:5] == b"data:":
                try:
                    self._last = validate(line[5:])
                    self._events += 1
                except ValidationError:
                    self._marked = line[5:].strip() == self._api.marker
                    if not self._marked:
                        raise
        if self._events and not self._first:
            self._first = time.perf_counter()

    def cut(self, chunk: bytes) -> list[bytes]:
        """The lines that a chunk ends, in time linear in its bytes."""
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._begun:
            lines[0] = b"".join((*self._begun, lines[0]))
            self._begun.clear()
        if rest:
            self._begun.append(rest)
        return lines

    def end(self) -> Reading:
        """What it told, if the final event or marker came."""
        if not self._marked and type(self._last) is not self._api.final:
            raise EOFError("the answer was cut short")
        return Reading(self._events, self._first)


class KeptAnswer(Answer):
    """The events in a list and, at the end, their text: what `collect()` returns."""

    def __init__(self, api: API) -> None:
        super().__init__(api)
        self.kept: list[Any] = []
        self.text = ""

    def feed(self, chunk: bytes) -> None:
        """Take in a chunk of an answer without a marker."""
        validate = self._api.validate
        self.kept += [validate(line[5:]) for line in self.cut(chunk) if line[:5] == b"data:"]

    def end(self) -> Reading:
        """What it told, if the final event came."""
        self._events, self._last = len(self.kept), self.kept[-1]
        self.text = "".join(getattr(event, "text", "") for event in self.kept)
        return super().end()


def aiohttp_transport(_: Address) -> httpx.AsyncBaseTransport:
    """That of httpx-aiohttp, for as many connections as ours makes."""
    return AiohttpTransport(limits=LIMITS)


def http2_transport(address: Address) -> httpx.AsyncBaseTransport:
    """That of httpx itself over HTTP/2."""
    return httpx.AsyncHTTPTransport(http2=True, limits=LIMITS, verify=address.trusted())


def over_httpx(
    api: API,
    *,
    transport: Transport | None = None,
    over_tls: bool = False,
    answer: Callable[[API], Answer] = Answer,
) -> Open:
    """The loop on an `httpx.AsyncClient`, over its own transport or another one."""

    @asynccontextmanager
    async def opened(address: Address) -> AsyncGenerator[Read]:
        client = httpx.AsyncClient(
            base_url=address.https if over_tls else address.http,
            limits=LIMITS,
            timeout=NO_TIMEOUT,
            transport=transport and transport(address),
        )
        async with aclosing(client):  # a session does not enter its client, either

            async def read(model: str) -> Reading:
                reply = answer(api)
                async with client.stream("POST", api.path, json=api.body(model)) as response:
                    response.raise_for_status()
                    async for chunk in response.aiter_bytes():
                        reply.feed(chunk)
                return reply.end()

            yield read

    return opened


def over_socket(api: API) -> Open:
    """The loop on a socket of asyncio: all it knows of HTTP/1.1 are its chunks."""

    @asynccontextmanager
    async def opened(address: Address) -> AsyncGenerator[Read]:
        url = urlsplit(address.http)
        idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

        async def read(model: str) -> Reading:
            if not idle:
                idle.append(await asyncio.open_connection(url.hostname, url.port))
            reader, writer = connection = idle.pop()
            writer.write(_request(url.netloc, api.path, to_json(api.body(model))))
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise ConnectionError(head)
            answer, chunks = Answer(api), Chunks()
            while not chunks.ended:
                for chunk in chunks.cut(await reader.read(_MOST_READ)):
                    answer.feed(chunk)
            idle.append(connection)
            return answer.end()

        yield read
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()

    return opened


def _request(host: str, path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class Chunks:
    """Cuts the chunks of HTTP/1.1 out of bytes; those here have no extensions and no trailers."""

    def __init__(self) -> None:
        self.ended = False
        self._rest: bytes = b""

    def cut(self, data: bytes) -> list[bytes]:
        """The chunks that these bytes complete."""
        if not data:
            raise EOFError("the connection was closed")
        data = self._rest + data
        chunks: list[bytes] = []
        begin = 0
        while (line_end := data.find(b"\r\n", begin)) > 0:
            start = line_end + 2
            end = start + int(data[begin:line_end], 16)
            if len(data) < end + 2:
                break
            self.ended = start == end
            chunks.append(data[start:end])
            begin = end + 2
        self._rest = data[begin:]
        return chunks
