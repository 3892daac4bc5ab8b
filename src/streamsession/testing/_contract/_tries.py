"""Promises about trying again: what may pass is, and no token comes twice."""

from typing import Any

import anyio.lowlevel

from ..._errors import ConnectFailed, RateLimited, ServerError, StreamError, StreamInterrupted
from ..._retry import RetryPolicy
from .._script import HANG_UP, ScriptedResponse
from ._bench import Bench, Outcome, ends_badly, expect, is_prefix
from ._promise import promise

__all__ = ["Tries"]

_POLICY = "pass no retry= of your own in stream(): leave it to the session's `retry`"
_ONCE = "send a body that can be sent again, or set tries_again = False on the contract"
_ATTEMPTS = 3
_ASKED = 7.0  # seconds
_TOO_LONG = 3600.0  # seconds


class Tries(Bench):
    """What becomes of a request that fails."""

    @promise(f"{_ONCE}; {_POLICY}")
    async def test_what_may_pass_is_tried_again(self) -> None:
        """A request that fails before its first event, in a way that may pass, is tried again."""
        self._skip_unless_tried_again()
        events = await self.good_events()
        for failure in (
            ScriptedResponse((), 503, content_type=None, framing="length"),
            ScriptedResponse([HANG_UP], framing="raw"),
            self.reply(HANG_UP),
        ):
            waits = _Waits()
            seen = await self.outcome(failure, self.reply(), retry=waits.policy())
            expect(seen.events == events and not seen.error, f"{seen}")
            got = seen.stream.stats.attempts
            expect(got == 2, f"it took {got} attempts, expected 2")  # noqa: PLR2004

    @promise(f"do not try again yourself: the session does it, within its policy; {_POLICY}")
    async def test_giving_up_is_an_error(self) -> None:
        """A request that fails every time is given up with the last error, after all attempts."""
        self._skip_unless_tried_again()
        waits = _Waits()
        failure = ScriptedResponse((), 503, content_type=None, framing="length")
        with self.server(failure) as server:
            async with self.opened(server.url, retry=waits.policy()) as session:
                seen = await self.drained(session)
            asked = [request for request in server.requests if self.answer(request) is None]
        ends_badly(seen, ServerError)
        expect(len(asked) == _ATTEMPTS, f"{len(asked)} requests were sent, not {_ATTEMPTS}")
        told = getattr(seen.error, "attempts", None)
        expect(told == _ATTEMPTS, f"the error tells of {told} attempts, not of {_ATTEMPTS}")

    @promise("do not start a stream anew after its first event; for a cursor, use resume_request()")
    async def test_no_event_comes_twice(self) -> None:
        """A stream that breaks after an event repeats none, though the server starts anew."""
        events = await self.good_events()
        half, _ = self.halves()
        seen = await self.outcome(self.reply(half, HANG_UP), self.reply(), retry=_Waits().policy())
        if not seen.events:
            self.skip("the body gives no event before its last frame: give a longer one")
        if seen.error is None:
            expect(seen.events == events, f"{seen}: they are not those of the good body")
        else:
            ends_badly(seen, StreamInterrupted)
            expect(is_prefix(seen.events, events), f"{seen}, which are not the first ones")

    @promise(_POLICY)
    async def test_the_wait_that_the_server_asks_for_is_kept(self) -> None:
        """`Retry-After` says how long to wait before the next attempt."""
        self._skip_unless_tried_again()
        waits = _Waits()
        seen = await self.outcome(_limited(_ASKED), self.reply(), retry=waits.policy())
        expect(seen.error is None, f"{seen}")
        expect(waits.seconds == [_ASKED], f"asked for {_ASKED} s, it waited {waits.seconds}")

    @promise(_POLICY)
    async def test_a_wait_that_is_too_long_fails_at_once(self) -> None:
        """A server that asks for an hour is not waited for: the error says how long it asked."""
        waits = _Waits()
        seen = await self.outcome(_limited(_TOO_LONG), self.reply(), retry=waits.policy())
        ends_badly(seen, RateLimited)
        asked = getattr(seen.error, "retry_after", None)
        expect(asked == _TOO_LONG, f"the error says {asked}, the server {_TOO_LONG}")
        expect(not waits.seconds, f"it waited {waits.seconds}")

    @promise("leave idempotency_header to the session; set no key of your own in headers=")
    async def test_every_attempt_carries_the_same_idempotency_key(self) -> None:
        """The attempts of one request carry one idempotency key, another request another."""
        self._skip_unless_tried_again()
        failure = ScriptedResponse((), 503, content_type=None, framing="length")
        with self.server(failure, self.reply()) as server:
            async with self.opened(server.url, retry=_Waits().policy()) as session:
                name = session.idempotency_header
                if name is None:
                    self.skip("idempotency_header is not set")
                await self.drained(session)
                await self.drained(session)
            asked = [request for request in server.requests if self.answer(request) is None]
        first, second, other = (request.headers.get(name) for request in asked)
        expect(first, "no key was sent")
        expect(first == second, "the second attempt carried another key")
        expect(first != other, "another request carried the same key")

    @promise("let open_stream() connect; wrap no transport that hides why it could not")
    async def test_a_server_that_is_not_there_is_connect_failed(self) -> None:
        """No server at the address is ConnectFailed, not an error of the HTTP library."""
        with self.server(self.reply()) as server:
            pass
        session = self.configured(server.url)
        try:
            async with session:
                ends_badly(await self.drained(session), ConnectFailed)
        except StreamError as exc:  # of a connect() that makes requests
            ends_badly(Outcome([], exc, self.stream(session)), ConnectFailed)

    def _skip_unless_tried_again(self) -> None:
        if not self.tries_again:
            self.skip("the body of this request can be sent once only")


class _Waits:
    """Stands in for sleeping."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def policy(self) -> RetryPolicy:
        """A policy that remembers its waits."""
        return RetryPolicy(attempts=_ATTEMPTS, base_delay=0, sleep=self._wait)

    async def _wait(self, seconds: float) -> Any:
        self.seconds += [seconds] if seconds else []
        await anyio.lowlevel.checkpoint()


def _limited(seconds: float) -> ScriptedResponse:
    headers = {"retry-after": f"{seconds:g}"}
    return ScriptedResponse((), 429, headers, content_type=None, framing="length")
