"""Servers that stall at any place of a response, and those that send no event for ever."""

from collections.abc import Mapping
from dataclasses import dataclass

import anyio
import httpx
import pytest

from streamsession import (
    RateLimited,
    RetryPolicy,
    ServerError,
    StatusError,
    TimedOut,
    Timeouts,
    UnexpectedContent,
)
from streamsession.testing import (
    HANG_UP,
    HOLD,
    Pause,
    RecordedRequest,
    ScriptedResponse,
    ScriptedServer,
    Step,
)
from tests.test_faults.apis import (
    KIB,
    LINES,
    ONCE,
    PLACES,
    SSE,
    Api,
    failure,
    failure_in,
    in_both,
    limits,
    works,
)

pytestmark = pytest.mark.anyio

SHORT = 0.1
"""A limit that runs out within a test, in seconds."""


@dataclass(frozen=True)
class Stall:
    """A response that never ends, and what the user has before it stalls."""

    response: ScriptedResponse
    texts: tuple[str, ...] = ()


async def all_time_out(
    api: Api, server: ScriptedServer, stalls: Mapping[str, Stall], clock: str
) -> None:
    """Read them all at once, in one session: each runs out its clock and harms no other stream."""

    def answer(request: RecordedRequest) -> ScriptedResponse:
        stall = stalls.get(request.json()["prompt"])
        return api.answer(api.chat("next")) if stall is None else stall.response

    async def read(name: str) -> None:
        # On a slow machine the total may run out before the first event.
        texts = None if clock == "total" else stalls[name].texts
        timeout = limits(**{clock: SHORT})
        error = await failure_in(session, TimedOut, name, texts=texts, timeout=timeout)
        assert (error.clock, error.seconds, error.__cause__) == (clock, SHORT, None), name
        assert error.partial.text in {"", *stalls[name].texts}

    pool = httpx.Limits(max_connections=len(stalls))
    server.play(*[answer] * (len(stalls) + 1))
    async with api.session(base_url=server.url, limits=pool, retry=ONCE) as session:
        async with anyio.create_task_group() as group:
            for name in stalls:
                group.start_soon(read, name)
        for record in server.connections:
            assert (await server.until_closed(record.index)).state == "client closed"
        await works(session, reused=False)


def silent(api: Api) -> dict[str, Stall]:
    """At every place."""
    return {
        name: Stall(ScriptedResponse([place.before(api), HOLD], framing="raw"), place.texts)
        for name, place in PLACES.items()
    }


def trickling(api: Api) -> dict[str, Stall]:
    """With all that is no event, before and after the first one."""

    def trickle(piece: bytes) -> list[Step]:
        pieces: list[Step] = [Pause(SHORT / 10), piece]
        return [*pieces * 100, HOLD]

    noises = {**api.noise, "bytes of an event": b"x"}
    stalls = {
        f"{name} after {texts}": Stall(api.answer(api.tokens(*texts), *trickle(noise)), texts)
        for name, noise in noises.items()
        for texts in ((), ("Hello",))
    }
    for status in (100, 103):
        early = f"HTTP/1.1 {status} Early\r\n\r\n".encode()
        stalls[str(status)] = Stall(ScriptedResponse(trickle(early), framing="raw"))
    return stalls


@in_both
@pytest.mark.parametrize("clock", ["first_event", "idle", "total"])
async def test_whatever_a_server_does_but_send_an_event_a_clock_runs_out(
    scripted_server: ScriptedServer, api: Api, clock: str
) -> None:
    stalls = {
        name: stall
        for name, stall in {**silent(api), **trickling(api)}.items()
        if clock == "total" or bool(stall.texts) == (clock == "idle")
    }
    await all_time_out(api, scripted_server, stalls, clock)


@in_both
async def test_a_refusal_that_stalls_is_still_told_by_its_status(
    scripted_server: ScriptedServer, api: Api
) -> None:
    def answer(request: RecordedRequest) -> ScriptedResponse:
        status = request.json()["prompt"]
        return ScriptedResponse([b"<html>ple", HOLD], int(status), content_type="text/html")

    async def read(status: int, kind: type[StatusError | UnexpectedContent]) -> None:
        timeout = limits(first_event=5 * SHORT)  # all else is read, for a second at most
        error = await failure_in(session, kind, str(status), timeout=timeout)
        assert error.body == "<html>ple"

    pool = httpx.Limits(max_connections=3)
    scripted_server.play(*[answer] * 3, api.answer(api.chat("next")))
    async with api.session(base_url=scripted_server.url, limits=pool, retry=ONCE) as session:
        async with anyio.create_task_group() as group:
            group.start_soon(read, 200, UnexpectedContent)
            group.start_soon(read, 429, RateLimited)
            group.start_soon(read, 503, ServerError)
        for record in scripted_server.connections:
            assert (await scripted_server.until_closed(record.index)).state == "client closed"
        await works(session, reused=False)


# Floods


@in_both
async def test_a_flood_of_what_is_no_event_feeds_no_clock(
    scripted_server: ScriptedServer, api: Api
) -> None:
    noise = next(iter(api.noise.values()))
    flood = [noise * (64 * KIB // len(noise))] * 300
    answer = api.answer(api.tokens("Hello"), *flood, HOLD)
    timeout = limits(idle=SHORT / 100)
    error = await failure(api, scripted_server, answer, TimedOut, texts=["Hello"], timeout=timeout)
    assert error.clock == "idle"


async def test_a_flood_of_events_that_are_skipped_ends_when_the_clock_runs_out(
    scripted_server: ScriptedServer,
) -> None:
    noise = LINES.noise["unknown events"]
    flood = [noise * (64 * KIB // len(noise))] * 300
    scripted_server.play(LINES.answer(*flood, HOLD))
    timeout = limits(first_event=SHORT / 2)
    async with LINES.session(base_url=scripted_server.url, timeout=timeout) as session:
        with anyio.fail_after(5 * SHORT), pytest.raises(TimedOut):
            await session.stream().collect()


async def test_informational_responses_without_an_end_feed_no_clock(
    scripted_server: ScriptedServer,
) -> None:
    flood = [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000] * 300
    answer = ScriptedResponse([*flood, HOLD], framing="raw")
    timeout = limits(first_event=2 * SHORT)
    error = await failure(LINES, scripted_server, answer, TimedOut, timeout=timeout)
    assert error.clock == "first_event"


async def test_only_the_clock_that_ran_out_is_named(scripted_server: ScriptedServer) -> None:
    answer = SSE.answer(SSE.tokens("Hello"), HOLD)
    timeout = Timeouts(connect=60, first_event=60, idle=SHORT, total=60)
    error = await failure(SSE, scripted_server, answer, TimedOut, texts=["Hello"], timeout=timeout)
    assert (error.clock, error.seconds) == ("idle", SHORT)
    assert str(error).startswith(f"no event for {SHORT} s")


# What does not count


async def test_the_wait_between_two_attempts_is_no_wait_for_an_event(
    scripted_server: ScriptedServer,
) -> None:
    async def wait(_: float) -> None:
        await anyio.sleep(3 * SHORT)

    scripted_server.play(SSE.answer(b": ping\n\n", HANG_UP), SSE.answer(SSE.chat("Hello")))
    async with SSE.session(base_url=scripted_server.url, retry=RetryPolicy(sleep=wait)) as session:
        stream = session.stream()
        assert (await stream.collect()).text == "Hello"
    assert stream.stats.attempts == 2
    assert stream.stats.longest_gap < 3 * SHORT
