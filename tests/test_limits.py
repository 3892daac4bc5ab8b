"""What grows is bounded: the memory of a whole process, whatever its peer sends without an end."""

import gc
import multiprocessing
import socket
import sys
import warnings
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from streamsession import (
    AuthenticationError,
    EventTooLarge,
    JSONLinesDecoder,
    RetryPolicy,
    ServerError,
    ServerSentEvent,
    SSEDecoder,
    StatusError,
    StreamError,
    StreamInterrupted,
    TimedOut,
    Timeouts,
    TokenAuth,
    UnexpectedContent,
)
from streamsession.testing import HANG_UP, ScriptedResponse, ScriptedServer, Step
from tests.acme import FINISH, Acme, Token, chat, token

if sys.platform == "win32":
    pytest.skip("needs fork, and the peak of a process's memory", allow_module_level=True)
else:
    import resource

KIB, MIB = 1024, 1024 * 1024
PIECE = b"x" * 64 * KIB
ENDLESS = 192 * MIB
MOST = 32 * MIB
"""How far a process may grow, in bytes; an event may be half of that by default."""
SHORT = 0.2


class Once(Acme):
    """Acme without a second attempt."""

    retry = RetryPolicy(attempts=1)
    timeout = Timeouts(first_event=10, idle=10)


class Lines(Once):
    framing = JSONLinesDecoder


class Resumable(Once):
    resumable = True
    keep_reply = False


class Counting(Once):
    """Hands over no events, however many frames there are."""

    async def decode(self, frames: AsyncIterator[ServerSentEvent]) -> AsyncIterator[Token]:
        async for frame in frames:
            if frame.data.startswith("{"):
                return
        yield Token(text="never")


class Impatient(Once):
    """Waits for no answer."""

    timeout = Timeouts(first_event=SHORT)


class Tokened(Once):
    """Has another token to try."""

    def __init__(self, *, base_url: str) -> None:
        async def provide() -> str:
            return "key"

        super().__init__(base_url=base_url, auth=TokenAuth(provide))


class Challenged(Once):
    """Answers a challenge."""

    def __init__(self, *, base_url: str) -> None:
        super().__init__(base_url=base_url, auth=httpx.DigestAuth("user", "password"))


async def stream(session: Once) -> None:
    async for _ in session.stream():
        pass


async def ask(session: Once) -> None:
    await session.request("GET", "/x", result=str)


# What is sent


def plain(beginning: bytes = b"", piece: bytes = PIECE, size: int = ENDLESS) -> list[Step]:
    return [beginning, *[piece] * (size // len(piece)), HANG_UP]


def bomb(beginning: bytes = b"") -> list[Step]:
    """The same in gzip, a thousand times smaller."""
    squeezed, following = _squeezed(beginning)
    return [squeezed, *[following] * (ENDLESS // MIB), HANG_UP]


@cache
def _squeezed(beginning: bytes) -> tuple[bytes, bytes]:
    """The beginning, and a MiB that can follow it and itself any number of times."""
    squeeze = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    first = squeeze.compress(beginning) + squeeze.flush(zlib.Z_FULL_FLUSH)
    return first, squeeze.compress(b"x" * MIB) + squeeze.flush(zlib.Z_FULL_FLUSH)


def body(
    steps: list[Step],
    media: str = "text/event-stream",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> ScriptedResponse:
    return ScriptedResponse(steps, status, headers=headers or {}, content_type=media)


def gzipped(
    steps: list[Step], media: str = "text/event-stream", status: int = 200
) -> ScriptedResponse:
    return body(steps, media, status, {"Content-Encoding": "gzip"})


def raw(*steps: bytes, piece: bytes = PIECE) -> ScriptedResponse:
    return ScriptedResponse([*steps, *plain(b"", piece)], framing="raw")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DIGEST = 'Digest realm="acme", nonce="n", qop="auth", algorithm=MD5'


@dataclass(frozen=True)
class Flood:
    """What a peer sends, who reads it, and how that ends."""

    answer: Callable[[], ScriptedResponse]
    end: type[StreamError] | None
    session: type[Once] = Once
    read: Callable[[Any], Awaitable[None]] = stream


def ids() -> list[Step]:
    events = [b"id: %d%b\n" % (n, b"x" * MIB) + token("") for n in range(64)]
    return [*events, FINISH]


FLOODS = {
    "data": Flood(lambda: body(plain(b"data: ")), EventTooLarge),
    "comment": Flood(lambda: body(plain(b": ")), EventTooLarge),
    "id": Flood(lambda: body(plain(b"id: ")), EventTooLarge),
    "no colon": Flood(lambda: body(plain()), EventTooLarge),
    "no blank line": Flood(lambda: body(plain(b"", b"data: " + PIECE + b"\n")), EventTooLarge),
    "JSON Lines": Flood(lambda: body(plain(), "application/jsonl"), EventTooLarge, Lines),
    "answer": Flood(lambda: body(plain(b'"'), "application/json"), EventTooLarge, Once, ask),
    "error": Flood(lambda: body(plain(), "text/plain", 500), ServerError),
    "page": Flood(lambda: body(plain(), "text/html"), UnexpectedContent),
    "after the end": Flood(lambda: body(plain(chat("Hi"))), None),
    "redirect": Flood(lambda: body(plain(), "text/html", 307, {"Location": "/"}), StatusError),
    "refused token": Flood(
        lambda: body(plain(), "text/html", 401),
        AuthenticationError,
        Tokened,
    ),
    "challenge": Flood(
        lambda: body(plain(b"", size=64 * MIB), "text/html", 401, {"WWW-Authenticate": DIGEST}),
        AuthenticationError,
        Challenged,
    ),
    "bomb of data": Flood(lambda: gzipped(bomb(b"data: ")), EventTooLarge),
    "bomb of JSON Lines": Flood(lambda: gzipped(bomb(), "application/jsonl"), EventTooLarge, Lines),
    "bomb for an answer": Flood(
        lambda: gzipped(bomb(b'"'), "application/json"), EventTooLarge, Once, ask
    ),
    "bomb in an error": Flood(lambda: gzipped(bomb(), "text/plain", 500), ServerError),
    "bomb after the end": Flood(lambda: gzipped(bomb(chat("Hi"))), None),
    "ids": Flood(lambda: body(ids()), None, Resumable),
    "unknown events": Flood(
        lambda: body([*[b'data: {"type":"other","x":"%b"}\n\n' % PIECE] * 1000, FINISH]), None
    ),
    "small frames": Flood(lambda: body([b"data\n\n" * 200_000, FINISH]), None, Counting),
    "head": Flood(lambda: raw(b"HTTP/1.1 200 OK\r\nX: "), StreamInterrupted),
    "headers": Flood(
        lambda: raw(b"HTTP/1.1 200 OK\r\n", piece=b"x: y\r\n" * 10_000), StreamInterrupted
    ),
    "informational": Flood(
        lambda: raw(piece=b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000),
        TimedOut,
        Impatient,
    ),
    "chunk extension": Flood(lambda: raw(HEAD, b"1;"), StreamInterrupted),
    "trailer": Flood(lambda: raw(HEAD, b"0\r\nx: "), StreamInterrupted),
    "trailers": Flood(lambda: raw(HEAD, b"0\r\n", piece=b"x: y\r\n" * 10_000), StreamInterrupted),
}


# Measuring


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    units = 1 if sys.platform == "darwin" else KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * units


async def grow(url: str, name: str) -> tuple[type[StreamError] | None, int]:
    """How reading a flood ends, and by how many bytes this process has grown for it."""
    flood = FLOODS[name]
    async with flood.session(base_url=url) as session:
        await session.open_stream("POST", "/", framing=SSEDecoder).collect()  # loads what is needed
        before = peak()
        end: type[StreamError] | None = None
        try:
            await flood.read(session)
        except StreamError as exc:
            end = type(exc)
    return end, peak() - before


def grow_in_child(result: Connection, backend: str, url: str, name: str) -> None:
    result.send(anyio.run(grow, url, name, backend=backend))


@pytest.fixture(scope="module")
def children() -> Any:
    """Makes processes that have everything imported, each a fork of one that does nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


ON_TRIO = ["data", "answer", "error"]


CASES = [
    pytest.param(name, backend, id=f"{name}-{backend}")
    for backend in ("asyncio", "trio")
    for name in FLOODS
    if backend == "asyncio" or name in ON_TRIO
]


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_no_flood_fills_the_memory(children: Any, name: str, backend: str) -> None:
    receiver, sender = children.Pipe(duplex=False)
    flood = FLOODS[name]
    with ScriptedServer(ScriptedResponse([chat()]), flood.answer(), repeat=True) as server:
        child = children.Process(target=grow_in_child, args=(sender, backend, server.url, name))
        child.start()
        sender.close()
        with receiver:
            end, growth = receiver.recv()
        child.join()
        child.close()
    assert end is flood.end
    assert growth < MOST


# Connections that are not yet one


async def break_off(listener: socket.socket) -> None:
    """Cancel a stream whose server has heard its hello and never answers."""

    def hear() -> socket.socket:
        peer, _ = listener.accept()
        peer.settimeout(5)
        assert peer.recv(1)
        return peer

    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    async with Acme(base_url=url) as session, anyio.create_task_group() as group:
        group.start_soon(session.stream().collect)
        with await anyio.to_thread.run_sync(hear):
            group.cancel_scope.cancel()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_handshake_that_is_broken_off_leaves_no_socket(backend: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        warnings.catch_warnings(record=True) as warned,
    ):
        listener.settimeout(5)
        warnings.simplefilter("always", ResourceWarning)
        anyio.run(break_off, listener, backend=backend)
        gc.collect()
    assert [str(each.message) for each in warned if "unclosed" in str(each.message)] == []
