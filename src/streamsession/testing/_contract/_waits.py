"""Promises about waiting: not too long for a server, and never for what is not needed."""

import anyio

from ..._clocks import Timeouts
from ..._errors import TimedOut
from .._script import HOLD, Pause, ScriptedResponse, Step
from ._bench import Bench, Outcome, ends_badly, expect
from ._promise import promise

__all__ = ["Waits"]

_SOON = 0.15  # seconds; a loopback needs a hundredth
_SHORT = Timeouts(connect=10, first_event=_SOON, idle=_SOON)
_BRIEF = Timeouts(connect=10, first_event=10, idle=_SOON)
_UNHURRIED = Timeouts(connect=10, first_event=1, idle=1)
_BETWEEN_PINGS = Pause(_SOON / 6)
_PINGS = 40
_CLOCKS = "pass no timeout= of your own in stream(): leave it to the session's `timeout`"


class Waits(Bench):
    """What a consumer sees of a server that keeps them waiting."""

    @promise(_CLOCKS)
    async def test_a_server_that_never_answers_times_out(self) -> None:
        """A server that takes the request and never answers is TimedOut."""
        seen = await self.outcome(ScriptedResponse([HOLD], framing="raw"), timeout=_SHORT)
        _timed_out(seen)

    @promise(_CLOCKS)
    async def test_a_server_that_falls_silent_times_out(self) -> None:
        """A server that stops in the middle of a stream is TimedOut, with what had come."""
        seen = await self.outcome(self.reply(self.halves()[0], HOLD), timeout=_SHORT)
        _timed_out(seen)
        kept = list(getattr(seen.error, "events", ()))
        expect(kept == seen.events, f"{seen}, of which the error carries {len(kept)}")

    @promise("hand over no event for a ping: what keeps a connection open feeds no clock")
    async def test_keep_alives_feed_no_clock(self) -> None:
        """A server that only sends keep-alives is TimedOut, before and after the first frame."""
        ping = self.made("keep_alive")
        flood: list[Step] = [ping, _BETWEEN_PINGS]
        flood *= _PINGS
        first = self.body[: self.frame_ends()[0]]
        for start in (b"", first):
            seen = await self.outcome(self.reply(start, *flood, HOLD), timeout=_SHORT)
            _timed_out(seen)
            fed = seen.stream.stats.bytes > len(start) + len(ping) * _PINGS // 2
            expect(not fed, "the clock ran out only once they had ended")

    @promise("do not measure time in decode() or stream(): the session's clocks count waiting only")
    async def test_the_consumers_own_time_does_not_count(self) -> None:
        """A consumer may take longer over an event than the server is waited for."""
        events = await self.good_events()
        got = 0
        with self.server(self.reply()) as server:
            async with self.opened(server.url, timeout=_BRIEF) as session:
                async for _ in self.stream(session):
                    got += 1
                    if got == 1:
                        await anyio.sleep(2 * _SOON)
        expect(got == len(events), f"the stream ended after {got} of {len(events)} events")

    @promise("end the stream by what proves it complete, not by the end of the body")
    async def test_a_server_that_does_not_hang_up_is_not_waited_for(self) -> None:
        """After its final event a stream is complete, though the server sends no end of body."""
        self._skip_unless_proved()
        seen = await self.outcome(self.reply(self.body, HOLD), timeout=_UNHURRIED)
        expect(seen.error is None, f"{seen}")

    @promise("end the stream by what proves it complete, not by the end of the body")
    async def test_what_follows_the_end_is_not_listened_to(self) -> None:
        """After its final event a stream is complete, though the server goes on sending."""
        self._skip_unless_proved()
        events = await self.good_events()
        trickle: list[Step] = [self.made("keep_alive"), _BETWEEN_PINGS]
        trickle *= 10 * _PINGS
        seen = await self.outcome(self.reply(self.body, *trickle, HOLD), timeout=_UNHURRIED)
        expect(seen.events == events and seen.error is None, f"{seen}")

    def _skip_unless_proved(self) -> None:
        if not self.proves_its_end:
            self.skip("only the end of the body ends a stream of this API")


def _timed_out(seen: Outcome) -> None:
    ends_badly(seen, TimedOut)
    clock = getattr(seen.error, "clock", "")
    expect(clock in {"first_event", "idle"}, f"the clock that ran out was {clock!r}")
