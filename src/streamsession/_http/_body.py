"""The body of an answer in the pieces in which the library gives it. Knows no compression."""

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import suppress
from typing import Any, Final

from anyio import CancelScope

from .._runtime import Begun, Guarded, take, unseen_generators

__all__ = ["UNSCOPED", "Body", "UnscopedBody", "body_of"]

UNSCOPED: Final = "streamsession.unscoped"
"""The extension of a response whose pieces can be waited for without entering a cancel scope.

It holds the stream of the response, as the transport made it, and an iterator of its pieces.
"""

_MOST_BUFFERED: Final = 64 * 1024  # pieces of one byte that httpcore may have read already
# A piece costs the library some 10 µs, so these hold the loop as long as opening a stream does.
_MOST_AT_ONCE: Final = 16
_ENOUGH: Final = 64 * 1024  # bytes, as many as httpcore reads at a time
_MOST_TURNS: Final = 100  # for others, in a row; closing a broken connection takes about five


class Body:
    """The pieces of a body, of any library on any event loop.

    Attributes:
        arriving: What may be awaited for `read_now` to have something; how it fails is for that to
            tell. None if there is something, or `read` must be awaited.
    """

    arriving: asyncio.Future[Any] | None = None

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._begun: Begun[bytes] | None = None  # the next piece, which must be waited for
        self._is_suspended = False  # the library's generators are, in the middle of the body

    def read_now(self, *, may_begin: bool) -> bytes | None:
        """What has arrived already, b"" at the end of the body.

        None if `read` is to tell: then it must be awaited next, in the same task, and nothing may
        come between, as the library may be in a cancel scope. Unless that is sure, it may not
        begin.
        """
        if not may_begin:
            return None
        self._is_suspended = False
        try:
            steps = anext(self._pieces).__await__()
            self._begun = Begun(steps, next(steps))
        except StopIteration as end:
            self._is_suspended = True
            return end.value or None
        except StopAsyncIteration:
            return b""
        return None

    async def read(self) -> bytes:
        """What arrives next; b"" at the end of the body. Cancelling closes the connection."""
        while True:
            self._is_suspended = False
            begun, self._begun = self._begun, None
            try:
                piece: bytes = await Guarded(begun or anext(self._pieces))
            except StopAsyncIteration:
                return b""
            self._is_suspended = True
            if piece:
                return piece

    async def leave(self) -> None:
        """End a wait that nobody awaits any more, before the body is closed."""

    async def unwind(self) -> None:
        """Let the library's generators come to an end: trio warns of each that is only dropped."""
        if self._is_suspended:
            with CancelScope() as scope, suppress(Exception):
                scope.cancel()  # so that they end at the first thing they would wait for
                for _ in range(_MOST_BUFFERED):
                    if not await anext(self._pieces, None):
                        break


class _Left(Exception):
    """Tells the library that the piece it waits for will not be taken."""


class UnscopedBody(Body):
    """The pieces of a body of which several may be taken at once, and the next awaited by us.

    To wait for a piece, the library does no more than await a future. So it can be left waiting
    while the consumer is busy: what has arrived meanwhile is taken together, and what has not is
    waited for outside of the library, where a cancellation cannot harm it.
    """

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        super().__init__(pieces)
        self._steps: Generator[Any, Any, bytes] | None = None  # of the next piece, which waits
        self._is_begun = False
        self._error: BaseException | None = None  # came behind pieces that were to be read first

    def read_now(self, *, may_begin: bool = True) -> bytes | None:
        """What has arrived already, b"" at the end of the body; None if there is nothing."""
        steps, self._steps = self._steps, None
        if steps is None and not self._is_begun:
            return self._begin()
        arriving, self.arriving = self.arriving, None
        if arriving is not None and not arriving.done():
            self._steps, self.arriving = steps, arriving
            return None
        if self._error is not None:
            raise self._error
        pieces: list[bytes] = []
        size = 0
        self._is_suspended = False
        try:
            while len(pieces) < _MOST_AT_ONCE and size < _ENOUGH:
                try:
                    steps = steps or anext(self._pieces).__await__()
                    self.arriving = _stepped(steps)
                except StopIteration as end:
                    pieces.append(end.value)
                    size += len(end.value)
                    steps = None
                else:
                    self._steps = steps
                    if self.arriving is not None:
                        take(self.arriving)
                    return b"".join(pieces) or None
        except StopAsyncIteration:
            return b"".join(pieces)
        except BaseException as exc:
            if not pieces:
                raise
            self._error = exc
        self._is_suspended = self._error is None
        return b"".join(pieces) or None

    def _begin(self) -> bytes | None:
        self._is_begun = True
        with unseen_generators():  # one that waits cannot be closed
            return self.read_now()

    async def read(self) -> bytes:
        """What arrives next; b"" at the end of the body. If cancelled, it is still to be closed."""
        while (data := self.read_now()) is None:
            if self.arriving is None:
                await asyncio.sleep(0)
                continue
            with suppress(Exception):  # which is for the library to see
                await self.arriving
        return data

    async def leave(self) -> None:
        """End a wait that nobody awaits any more, before the body is closed."""
        steps, self._steps = self._steps, None
        if steps is None:
            return
        if self.arriving is not None and self.arriving.done() and not self.arriving.cancelled():
            self.arriving.exception()  # nobody else will see it
        with suppress(_Left, StopAsyncIteration):
            await Begun(steps, steps.throw(_Left()))


def _stepped(steps: Generator[Any, Any, bytes]) -> asyncio.Future[Any] | None:
    """Let the library go on until it waits for a future; None if that takes too long.

    A turn that it gives to others may be in a scope, such as the one in which it closes what broke:
    the consumer must not go on in there.
    """
    for _ in range(_MOST_TURNS):
        future: asyncio.Future[Any] | None = next(steps)
        if future is not None:
            return future
    return None


def body_of(raw: Any) -> Body:
    """The body of a response of the library."""
    stream, pieces = raw.extensions.get(UNSCOPED, (None, None))
    # Neither if another transport has put a stream of its own around it, as httpx's client does.
    if stream is not None and stream in (raw.stream, getattr(raw.stream, "_stream", None)):
        return UnscopedBody(pieces)
    # Not aiter_raw(), which adds a layer, nor aiter_bytes(), which inflates without a bound.
    return Body(aiter(raw.stream))
