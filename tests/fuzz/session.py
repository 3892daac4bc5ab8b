"""A whole session: whatever the server does, an event of the union, the end, or a named error.

A case is the head of the response, then its body in chunks. The head is `status ending framing`,
and `open` if a clean end is all that completes the stream, then a line for each header.
"""

import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import anyio
import httpx
from anyio.lowlevel import checkpoint
from typing_extensions import override

from streamsession import (
    AsyncSession,
    DecodeError,
    Event,
    EventTooLarge,
    JSONLinesDecoder,
    RemoteError,
    RetryPolicy,
    ServerSentEvent,
    SSEDecoder,
    StatusError,
    StreamError,
    StreamInterrupted,
    StreamTruncated,
    TimedOut,
    Timeouts,
    UnexpectedContent,
    UnknownEvent,
)
from streamsession._framing import payload_of
from streamsession._reports import reported_error
from tests.acme import BASE_URL, Finish, Token, chat

from . import events, json_lines, sse
from .engine import Case, cut, mutated
from .inflate import inflated

__all__ = ["check", "make"]

_LIMIT: Final = 200  # bytes of an event
_ENDS: Final[dict[bytes, type[Exception] | None]] = {
    b"end": None,
    b"hold": None,
    b"reset": httpx.ReadError,
    b"cut": httpx.RemoteProtocolError,
    b"late": httpx.ReadTimeout,
    b"os": ConnectionResetError,
    b"broken": anyio.BrokenResourceError,
    b"decoding": httpx.DecodingError,
}
_HEADS: Final = [
    *(b"200 end sse", b"200 end sse", b"200 reset sse", b"200 cut sse", b"200 end lines"),
    *(b"200 end sse open", b"200 end lines open", b"200 os lines open"),
    b"200 end lines\ncontent-type: application/jsonl",
    b"200 late lines\ncontent-type: application/x-ndjson; charset=utf-16",
    b"200 end sse\ncontent-type: Text/Event-Stream ; charset=utf-8\nx-request-id: 7",
    b"200 end sse\ncontent-type: text/event-stream\ncontent-encoding: gzip",
    b"200 end sse\ncontent-encoding: deflate",
    b"503 end sse\nretry-after: 3\ncontent-type: application/json",
    b"529 os sse\nretry-after-ms: 20\nretry-after: Mon, 24 Nov 2025 16:00:10 GMT",
    b"302 end sse\nlocation: /v2/generate\nlocation: http://other.example/",
    b"307 end sse\nlocation: //api.acme.example:443/v1/?a=b#c",
    b"200 end sse\ncontent-type: text/html\ncontent-length: 12\ntransfer-encoding: chunked",
]
_HEAD_PARTS: Final = [
    *(b"200 ", b"204 ", b"401 ", b"408 ", b"999 ", b"end", b"cut", b"os", b"late", b"broken"),
    *(b"hold ", b"decoding ", b"sse", b"lines", b"open"),
    *(b"\n", b": ", b",", b";", b" ", b"\t", b"\0"),
    *(b"content-encoding: br", b"content-encoding: gzip", b"content-type: text/event-stream"),
    *(b"content-type: application/json", b"location: ", b"location: http://[", b"\xff", b"\xe9"),
    *(b"https://api.acme.example/v1/", b"..", b"%", b"set-cookie: a=b; expires=x", b"\x1f7"),
]
_BODIES: Final = [
    chat("a", "b", "caf\u00e9"),
    chat("a") + b'data: {"type":"token","text":"after the end"}\n\n',
    chat("a", "b").replace(b"\n\n", b"\r\n\r\n"),
    b'{"type":"token","text":"a"}\n{"type":"token","text":"b"}\n{"type":"finish"}\n',
    b'{"type":"token","text":"a"}\n{"error":{"message":"it broke"}}',
    *(b'event: token\ndata: {"text":"a"}\n\nevent: x\ndata: ' + each for each in events.PAYLOADS),
    zlib.compress(chat("a", "b")),
    zlib.compress(chat("a", "b"), wbits=31) + zlib.compress(b"", wbits=31) * 3,
    zlib.compress(bytes(300_000), wbits=31),
    *sse.SEEDS[-3:],
    *json_lines.SEEDS[-2:],
]
_PARTS: Final = [*sse.PARTS, *json_lines.PARTS, *events.PAYLOADS, *_BODIES[:5]]


@dataclass
class _Body(httpx.AsyncByteStream):
    """Counts how often it is closed."""

    chunks: list[bytes]
    ending: bytes
    closed: int = 0

    @override
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await checkpoint()
        assert not self.closed
        if self.chunks:
            return self.chunks.pop(0)
        if self.ending == b"hold":
            await anyio.sleep_forever()
        if failure := _ENDS[self.ending]:
            raise failure("the server is gone")
        raise StopAsyncIteration

    @override
    async def aclose(self) -> None:
        await checkpoint()
        self.closed += 1


@dataclass
class _Script:
    """One response, played anew for each request."""

    case: Case
    bodies: list[_Body] = field(default_factory=list[_Body])

    def __post_init__(self) -> None:
        first, *lines = (self.case or (b"",))[0].split(b"\n")
        status, ending, framing, finals, *_ = [*first.split(b" "), b"", b"", b"", b""]
        self.status = max(100, int(status[:3])) if status.isdigit() else 200
        self.ending = ending if ending in _ENDS else b"end"
        self.finals = None if finals == b"open" else (Finish,)
        self.framing = JSONLinesDecoder if framing == b"lines" else SSEDecoder
        pairs = (line.partition(b":") for line in lines)
        self.headers = httpx.Headers([(name.strip(), value.strip()) for name, _, value in pairs])
        self.content = b"".join(self.case[1:])
        # What may come sooner than the end: a clock, or damage in what zlib reads at once.
        self.excuses: tuple[type[Any], ...] = (TimedOut,) if self.ending == b"hold" else ()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = _Body(list(self.case[1:]), self.ending)
        self.bodies.append(body)
        return httpx.Response(self.status, headers=self.headers, stream=body)


class _Session(AsyncSession[Token | Finish]):
    base_url = BASE_URL
    final_events = (Finish,)
    max_event_bytes = _LIMIT
    close_timeout = 2.0
    timeout = Timeouts(first_event=5, idle=5)


def make(rng: Random) -> Case:
    head = rng.choice(_HEADS)
    if rng.random() < 0.3:
        head = mutated(rng, _HEADS, _HEAD_PARTS)
    return head, *cut(rng, mutated(rng, _BODIES, _PARTS))


def check(case: Case) -> None:
    for backend in ("asyncio", "trio"):
        anyio.run(_attack, case, backend=backend)


async def _attack(case: Case) -> None:
    script = _Script(case)
    got: list[Any] = []
    failure: StreamError | None = None
    timeout = Timeouts(first_event=0.02, idle=0.02) if script.ending == b"hold" else None
    policy = RetryPolicy(attempts=2, sleep=_no_sleep)
    transport = httpx.MockTransport(script)
    with anyio.fail_after(20):
        async with _Session(transport=transport, retry=policy) as session:
            stream = session.open_stream(
                "GET",
                "/",
                framing=script.framing,
                final_events=script.finals,
                timeout=timeout,
            )
            try:
                async for event in stream:
                    got.append(event)  # noqa: PERF401 - what came before a failure is kept
            except StreamError as exc:
                failure = exc
            assert failure is None or (failure.partial is stream.reply and str(failure))
            assert all(body.closed == 1 for body in script.bodies)
            assert stream.reply.events == got
            assert stream.reply.complete is (
                failure is None or (script.finals is not None and Finish() in got)
            )
    assert all(body.closed == 1 for body in script.bodies)
    wanted, outcomes = _expected(script)
    if not isinstance(failure, script.excuses):
        assert got == wanted
        assert isinstance(failure, outcomes), f"{failure!r} is none of {outcomes}"
    assert got == wanted[: len(got)]


async def _no_sleep(seconds: float) -> None:
    assert 0 <= seconds <= 60
    await checkpoint()


def _expected(  # noqa: PLR0911 - as many as there are ends
    script: _Script,
) -> tuple[list[Any], tuple[type[Any], ...]]:
    """The events, and how the stream may end; `NoneType` for a good end."""
    encoding = script.headers.get("content-encoding", "").strip().lower()
    media = script.headers.get("content-type", "").partition(";")[0].strip().lower()
    content, is_whole = script.content, True
    if not 200 <= script.status < 300:
        return [], (StatusError,)
    if encoding in ("gzip", "x-gzip", "deflate"):
        content, is_whole = inflated(content, may_be_raw=encoding == "deflate")
        script.excuses += () if is_whole else (StreamInterrupted,)
    elif content and encoding not in ("", "identity"):
        return [], (UnexpectedContent,)
    if media and media not in script.framing.content_types:
        return [], (UnexpectedContent,)
    is_clean = script.ending == b"end" and is_whole
    frames, left, is_too_large = _read(script, content, is_clean=is_clean)
    wanted: list[Any] = []
    for frame in frames:
        event = _event(frame)
        if reported_error(frame):
            return wanted, (RemoteError,)
        if event is None:
            return wanted, (DecodeError, StreamTruncated)
        if not isinstance(event, UnknownEvent):
            wanted.append(event)
        if event == Finish() and script.finals:
            return wanted, (type(None),)
    # That an event is too large is told after those before it, which came in the same chunk.
    ends: list[type[Any]] = [EventTooLarge] if is_too_large else []
    if not is_clean:
        ends += [StreamInterrupted, TimedOut]
    elif not is_too_large:
        ends.append(StreamTruncated if script.finals or left else type(None))
        if not (media or frames or left or script.finals) and content:
            ends = [UnexpectedContent]
    return wanted, tuple(ends)


def _read(
    script: _Script, content: bytes, *, is_clean: bool
) -> tuple[Sequence[ServerSentEvent | bytes], bool, bool]:
    """The frames, whether one was left unfinished, and whether one is too large."""
    if script.framing is SSEDecoder:
        reading = sse.read(content, _LIMIT)
        left = sse.unfinished(content, _LIMIT)
        is_final = left is not None and script.finals and _event(left) == Finish()
        if is_clean and left and (is_final or reported_error(left)):
            return [*reading.frames, left], False, reading.too_large
        return reading.frames, left is not None, reading.too_large
    lines = json_lines.read(content, _LIMIT)
    if not (is_clean or lines.too_large):
        lines = json_lines.read(content[: content.rfind(b"\n") + 1])
    return lines.frames, False, lines.too_large


def _event(frame: ServerSentEvent | bytes) -> Event | None:
    payload, name = payload_of(frame)
    return events.expected(payload, name)
