"""Resuming by `Last-Event-ID`: what is handed over is what was sent, without a gap or a repeat.

A case is a sequence of blocks, a byte for each, and then a number of bytes after which each
response breaks off. The server is an honest one: asked for what follows an id, it sends that.
"""

from collections.abc import Iterator
from random import Random
from typing import Final

import anyio
import httpx
from anyio.lowlevel import checkpoint

from streamsession import RetryPolicy, StreamError
from streamsession.testing import HANG_UP, MockStream, mock_stream
from tests.acme import FINISH, Acme, Finish, Token, token

from .engine import Case

__all__ = ["check", "make"]

_NO_ID: Final = 8
_NO_DATA: Final = 4


class _Resumable(Acme):
    resumable = True


def make(rng: Random) -> Case:
    blocks = rng.randbytes(rng.randint(0, 12))
    return blocks, *(bytes([rng.randrange(160)]) for _ in range(rng.randint(0, 8)))


def check(case: Case) -> None:
    for backend in ("asyncio", "trio"):
        anyio.run(_attack, case, backend=backend)


async def _attack(case: Case) -> None:
    server = _Server(case)
    policy = RetryPolicy(sleep=_no_sleep)
    transport = httpx.MockTransport(server)
    got: list[Token | Finish] = []
    with anyio.fail_after(20):
        async with _Resumable(transport=transport, retry=policy) as session:
            try:
                async for event in session.stream():
                    got.append(event)  # noqa: PERF401 - what came before a failure is kept
            except StreamError:
                assert Finish() not in got
            else:
                assert got == [*server.tokens, Finish()]
    assert all(played.closed for played in server.played)
    assert got[: len(server.tokens)] == server.tokens[: len(got)]


async def _no_sleep(seconds: float) -> None:
    assert seconds >= 0
    await checkpoint()


class _Server:
    """Sends its blocks, those after an id if asked so, and breaks off as the case says."""

    def __init__(self, case: Case) -> None:
        self.blocks = list(_blocks(case[0] if case else b""))
        self.tokens = [text for _, text, _ in self.blocks if text is not None]
        self.played: list[MockStream] = []
        self._breaks = [ord(chunk[:1]) for chunk in case[1:] if chunk]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        after = request.headers.get("last-event-id")
        places = [place for place, (id_, _, _) in enumerate(self.blocks) if id_ == after]
        first = places[0] + 1 if after is not None else 0
        body = b"".join(wire for _, _, wire in self.blocks[first:]) + FINISH
        steps = (body[: self._breaks.pop(0)], HANG_UP) if self._breaks else (body,)
        self.played.append(mock_stream(*steps))
        return self.played[-1](request)


def _blocks(kinds: bytes) -> Iterator[tuple[str | None, Token | None, bytes]]:
    """The id, the token and the wire of each block; most have an id, and most have data."""
    for place, kind in enumerate(kinds):
        id_ = None if kind & _NO_ID else f"id-{place}"
        text = None if kind & _NO_DATA else Token(text=str(place))
        head = "" if id_ is None else f"id: {id_}\n"
        yield id_, text, head.encode() + (b"\n" if text is None else token(text.text))
