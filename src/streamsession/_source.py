"""Where the bytes of a stream come from: its responses, each read on the clocks of the stream."""

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from ._clocks import Clocks
from ._errors import StreamError, TimedOut
from ._http import Response
from ._plan import Plan, StreamStats
from ._reports import is_acceptable, refusal
from ._request import Request
from ._runtime import AlarmRang, close_within

__all__ = ["Source"]

log = logging.getLogger("streamsession")

_EXCERPT_BYTES: Final = 64 * 1024  # of an error body: more than any message, bounded all the same
_EXCERPT_SECONDS: Final = 1.0
# The end of the body comes with the final event or right behind it; without it there is no reuse.
_DRAIN_SECONDS: Final = 0.1
_DRAIN_BYTES: Final = 64 * 1024


class Source:
    """The response that a stream reads at present, and what that cost so far.

    Attributes:
        response: None as long as there is none.
        clocks: They run while something of the server's is awaited; set by `begin`.
        skipping_since: When something was read last that has given the consumer no event; 0 if
            nothing was, and to be set to that once one has come.
    """

    clocks: Clocks

    def __init__(self, plan: Plan[Any], stats: StreamStats) -> None:
        self.response: Response | None = None
        self.skipping_since = 0.0
        self._plan = plan
        self._stats = stats

    def begin(self) -> None:
        """Make the clocks, on the event loop of the stream."""
        self.clocks = Clocks(self._plan.timeouts)

    async def connect(self, request: Request) -> None:
        """Send a request, and have an acceptable response to it; raises `StreamError`."""
        plan = self._plan
        self.response = None
        self.skipping_since = 0.0
        try:
            with self.clocks:
                self._stats.attempts += 1
                self.log("attempt %d: %s", self._stats.attempts, request.method)
                self.response = response = await plan.pool.send(
                    request, headers=plan.headers, connect_timeout=plan.timeouts.connect
                )
        except TimedOut as exc:
            if plan.pool.is_full:
                exc.add_note("All connections of the pool are in use: close streams, raise limits=")
            raise
        status, media, accepted = response.status, response.content_type, plan.content_types
        if not is_acceptable(status, media, accepted):
            body = await self._read_up_to(_EXCERPT_BYTES, _EXCERPT_SECONDS)
            now = plan.retry.clock()
            raise refusal(status, media, response.headers, body, expected=accepted[0], now=now)

    async def read_at_once(self) -> bytes | None:
        """As `read`, at less cost, what is there or comes next; None if that is to tell.

        That is what a consumer waits for who has handled all events: nothing is on the clocks yet.
        """
        response = self.response
        if response is None or self.skipping_since:
            return None
        may_begin = self.clocks.may_be_late
        data = None if response.arriving else response.read_now(may_begin=may_begin)
        if data is None and (arriving := response.arriving):
            with self.clocks:
                try:  # noqa: SIM105 - suppress() takes three calls for each event
                    await arriving
                except Exception:  # noqa: BLE001, S110 - for the library to see
                    pass
            data = response.read_now(may_begin=may_begin)
        if data:
            self._stats.bytes += len(data)
            self.skipping_since = time.monotonic()
        return data

    async def read(self) -> bytes:
        """The next bytes of the body, as soon as there are any; b"" at its end."""
        assert self.response is not None  # noqa: S101 - a decoding reads from a response
        if self.skipping_since:
            self.clocks.waited += time.monotonic() - self.skipping_since
        with self.clocks:
            data = await self.response.read()
        self._stats.bytes += len(data)
        self.skipping_since = time.monotonic()
        return data

    async def drain(self) -> None:
        """Read what follows the final event, so that the connection can be used again."""
        await self._read_up_to(_DRAIN_BYTES, _DRAIN_SECONDS)

    async def aclose(self) -> None:
        """Release the connection, within the time for it."""
        if self.response is not None:
            await self.closing(self.response.aclose)

    async def closing(self, close: Callable[[], Awaitable[None]]) -> None:
        """Await what closes something, within the time for it; its failure is only logged."""
        try:
            if not await close_within(self._plan.close_timeout, close()):
                self.log("closing took longer than %g s", self._plan.close_timeout)
        except Exception as exc:  # noqa: BLE001 - what fails to close must not hide why it was closed
            self.log("closing failed: %s", type(exc).__name__)

    def log(self, message: str, *values: object) -> None:
        """Log what the stream does."""
        request_id = self.response.request_id if self.response else None
        if log.isEnabledFor(logging.DEBUG):
            said = message % values
            log.debug("session %s request %s: %s", self._plan.session_id, request_id or "-", said)

    async def _read_up_to(self, size: int, seconds: float) -> bytes:
        """What comes of the body within the time; it ends early once that many bytes have come."""
        body = bytearray()
        with suppress(AlarmRang, StreamError), self.clocks.within(seconds):
            while self.response and len(body) < size and (piece := await self.response.read()):
                body.extend(piece)
        return bytes(body[:size])
