"""Safety: setup, body, and a teardown that always runs, whatever happens to the body."""

import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, Self

from anyio.lowlevel import EventLoopToken, current_token

from ._errors import SessionClosed, SessionStateError, TimedOut
from ._exchange import Exchange
from ._http import Pool
from ._runtime import close_within

__all__ = ["Guard"]

log = logging.getLogger("streamsession")


class Guard:
    """Guards a pool and the streams open on it, as an async context manager.

    Attributes:
        id: A fresh id, in every log line.
    """

    _pool: Pool
    _loop: EventLoopToken
    _watch: AsyncGenerator[None] | None = None
    close_timeout: float = 5.0
    """The longest that each step of closing may take, in seconds."""

    def __init__(self) -> None:
        self.id: Final = os.urandom(8).hex()
        self._state: Literal["new", "open", "closed"] = "new"
        self._exchanges: set[Exchange[Any]] = set()

    async def connect(self) -> None:
        """Awaited on entering, with the pool open: a handshake, a token exchange. Does nothing."""

    async def disconnect(self) -> None:
        """Awaited on leaving a session that was entered: a farewell. Does nothing.

        The streams are closed by then, the pool not yet: it may still make requests.
        """

    async def __aenter__(self) -> Self:
        """Open the pool and await `connect`; when that fails or is cancelled, nothing stays open.

        Raises:
            SessionStateError: It was entered before.
        """
        if self._state != "new":
            raise SessionStateError(f"a session is entered once, this one is {self._state}")
        self._pool.open()
        self._state = "open"
        self._loop = current_token()
        log.debug("session %s request -: enter %s", self.id, type(self).__name__)
        try:
            await self.connect()
        except BaseException as exc:
            await self._leave(exc, self._close, self._pool.aclose)
            raise
        self._watch = self._until_the_loop_ends()
        await anext(self._watch)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the open streams, await `disconnect`, close the pool: each of them, whatever happens.

        Each takes at most `close_timeout` seconds, also when cancelled. What fails is raised after
        the others are done, or noted on the exception that leaves the block.
        """
        try:
            await self._leave(exc, *self._steps())
        finally:
            if self._watch is not None:
                await self._watch.aclose()

    async def _until_the_loop_ends(self) -> AsyncGenerator[None]:
        """Leave a session that was never left, as the event loop ends or nobody holds it any more.

        Event loops close what asynchronous generators are still open then (PEP 525).
        """
        try:
            yield
        finally:
            if self._state == "open":
                await self._leave(None, *self._steps())

    def _steps(self) -> Iterable[Callable[[], Awaitable[None]]]:
        return self._close_streams, self.disconnect, self._close, self._pool.aclose

    async def _leave(
        self, reason: BaseException | None, *steps: Callable[[], Awaitable[None]]
    ) -> None:
        failures: list[BaseException] = []
        for step in steps:
            try:
                finished = await close_within(self.close_timeout, step())
            except BaseException as exc:  # noqa: BLE001 - raised once the other steps are done
                failures.append(exc)
            else:
                if not finished:
                    limit = self.close_timeout
                    message = f"{step.__name__.strip('_')} took longer than {limit} s"
                    failures.append(TimedOut(message, clock="close", seconds=limit))
        log.debug("session %s request -: exit, %d failures", self.id, len(failures))
        failures.sort(key=lambda exc: isinstance(exc, Exception))  # a cancellation comes first
        raised = reason
        if failures and (reason is None or not isinstance(failures[0], Exception)):
            raised = failures.pop(0)
        if raised is not None:
            for failure in failures:
                raised.add_note(f"Closing the session failed too: {failure!r}")
            if raised is not reason:
                raise raised

    async def _close(self) -> None:
        self._state = "closed"
        await self._close_streams()

    async def _close_streams(self) -> None:
        why = partial(SessionClosed, "the session was left while this stream was open")
        exchanges = list(self._exchanges)
        for exchange in exchanges:
            exchange.interrupt(why)
        for exchange in exchanges:
            await exchange.end()

    def _on_start(self, exchange: Exchange[Any]) -> None:
        if self._state == "new":
            raise SessionStateError("the session is not open: use `async with` on it first")
        if self._state == "closed":
            raise SessionStateError("the session is closed: open a new one")
        if current_token() != self._loop:
            raise SessionStateError(
                "the session was entered on another event loop: enter one on each"
            )
        self._exchanges.add(exchange)
