"""The clocks of a stream: which one runs out, what it counts, and what interrupts it."""

import asyncio
import gc
import math
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import anyio
import pytest
from anyio.lowlevel import checkpoint

from streamsession import StreamClosed, TimedOut, Timeouts
from streamsession._clocks import Clocks
from streamsession._runtime import AlarmRang

pytestmark = pytest.mark.anyio

T = TypeVar("T")

SHORT = 0.02
NEVER = Timeouts(connect=None, first_event=None, idle=None, total=None)

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


def limits(
    *, first_event: float | None = None, idle: float | None = None, total: float | None = None
) -> Timeouts:
    return Timeouts(connect=None, first_event=first_event, idle=idle, total=total)


async def arrive() -> str:
    """What the server sends at once."""
    await checkpoint()
    return "arrived"


async def within(
    clocks: Clocks, work: Callable[[], Awaitable[T]], seconds: float | None = None
) -> T:
    """Await something of the server's."""
    with clocks if seconds is None else clocks.within(seconds):
        return await work()


def closed() -> StreamClosed:
    return StreamClosed("closed")


async def settle() -> None:
    """Let every other task run until it waits."""
    for _ in range(20):
        await checkpoint()


async def run_out(clocks: Clocks) -> TimedOut:
    """Wait for what never comes; the error of the clock that ran out first."""
    with pytest.raises(TimedOut) as caught:
        await within(clocks, anyio.sleep_forever)
    return caught.value


# Timeouts


def test_the_defaults_are_a_patient_users() -> None:
    assert Timeouts() == Timeouts(connect=10.0, first_event=300.0, idle=120.0, total=None)


@pytest.mark.parametrize("name", ["connect", "first_event", "idle", "total"])
@pytest.mark.parametrize("seconds", [None, 0.001, 1, 1e9, math.inf])
def test_a_time_to_wait_is_accepted(name: str, seconds: float | None) -> None:
    options: dict[str, Any] = {name: seconds}
    assert getattr(Timeouts(**options), name) == seconds


@pytest.mark.parametrize("name", ["connect", "first_event", "idle", "total"])
@pytest.mark.parametrize("seconds", [0, 0.0, -1, -0.5, -math.inf, math.nan])
def test_what_is_no_time_to_wait_is_refused(name: str, seconds: float) -> None:
    options: dict[str, Any] = {name: seconds}
    with pytest.raises(ValueError, match=rf"Timeouts\.{name} must be .* got {seconds!r}"):
        Timeouts(**options)


def test_timeouts_are_frozen() -> None:
    with pytest.raises(AttributeError):
        setattr(Timeouts(), "idle", 1.0)  # noqa: B010 - type checkers refuse it, too


# Which clock


async def test_what_arrives_in_time_is_passed_on() -> None:
    clocks = Clocks(limits(first_event=60, idle=60, total=60))
    assert await within(clocks, arrive) == "arrived"
    clocks.stop()


async def test_without_limits_it_waits() -> None:
    clocks = Clocks(NEVER)
    assert await within(clocks, arrive) == "arrived"
    clocks.begin("idle")
    assert await within(clocks, arrive) == "arrived"
    clocks.stop()


async def test_a_failure_passes_unchanged() -> None:
    async def fail() -> None:
        await checkpoint()
        raise LookupError("the server's")

    clocks = Clocks(limits(first_event=60))
    with pytest.raises(LookupError, match="the server's"):
        await within(clocks, fail)
    assert await within(clocks, arrive) == "arrived"
    clocks.stop()


@pytest.mark.parametrize(
    ("begin", "timeouts", "clock", "message"),
    [
        (
            "first_event",
            limits(first_event=SHORT, idle=60, total=60),
            "first_event",
            "no first event within 0.02 s",
        ),
        (
            "idle",
            limits(first_event=60, idle=SHORT, total=60),
            "idle",
            "no event for 0.02 s; comments and pings do not count",
        ),
        (
            "total",
            limits(first_event=0.001, idle=0.001, total=SHORT),
            "total",
            "all waiting together took longer than 0.02 s",
        ),
        (
            "first_event",
            limits(first_event=60, idle=0.001, total=SHORT),
            "total",
            "all waiting together took longer than 0.02 s",
        ),
        (
            "idle",
            limits(first_event=0.001, idle=60, total=SHORT),
            "total",
            "all waiting together took longer than 0.02 s",
        ),
    ],
)
async def test_the_clock_that_runs_out_first_is_named(
    begin: Literal["first_event", "idle", "total"], timeouts: Timeouts, clock: str, message: str
) -> None:
    clocks = Clocks(timeouts)
    clocks.begin(begin)
    error = await run_out(clocks)
    assert (error.clock, error.seconds, str(error)) == (clock, SHORT, message)
    clocks.stop()


async def test_at_first_it_waits_for_the_first_event() -> None:
    clocks = Clocks(limits(first_event=SHORT))
    assert (await run_out(clocks)).clock == "first_event"
    clocks.stop()


async def test_a_clock_that_ran_out_names_no_lower_layer() -> None:
    clocks = Clocks(limits(first_event=SHORT))
    error = await run_out(clocks)
    assert error.__cause__ is None
    assert error.__suppress_context__
    clocks.stop()


async def test_waiting_between_attempts_has_no_clock_but_the_total() -> None:
    clocks = Clocks(limits(first_event=SHORT, idle=SHORT))
    clocks.begin("total")
    await within(clocks, lambda: anyio.sleep(2 * SHORT))
    clocks.stop()


# What it counts


async def test_waiting_is_counted() -> None:
    clocks = Clocks(NEVER)
    assert clocks.waited == 0
    await within(clocks, lambda: anyio.sleep(SHORT))
    assert clocks.waited >= SHORT * 0.9
    clocks.begin("idle")
    assert clocks.waited == 0
    clocks.stop()


async def test_a_wait_that_fails_is_counted() -> None:
    clocks = Clocks(limits(first_event=SHORT))
    await run_out(clocks)
    assert clocks.waited >= SHORT * 0.9
    clocks.stop()


async def test_the_consumers_own_time_does_not_count() -> None:
    clocks = Clocks(limits(first_event=5 * SHORT, idle=5 * SHORT, total=5 * SHORT))
    for clock in ("first_event", "idle", "idle"):
        clocks.begin(clock)
        await within(clocks, arrive)
        await anyio.sleep(6 * SHORT)  # the consumer's
        await within(clocks, arrive)
    assert clocks.waited < 6 * SHORT
    clocks.stop()


async def test_the_waits_for_one_event_are_added_up() -> None:
    clocks = Clocks(limits(idle=10 * SHORT))
    clocks.begin("idle")
    for _ in range(5):  # parts of an event, or comments
        await within(clocks, lambda: anyio.sleep(SHORT))
    started = anyio.current_time()
    assert (await run_out(clocks)).clock == "idle"
    assert anyio.current_time() - started < 10 * SHORT
    clocks.stop()


async def test_a_new_event_winds_the_idle_clock_up_again() -> None:
    clocks = Clocks(limits(idle=10 * SHORT))
    for _ in range(12):
        clocks.begin("idle")
        await within(clocks, lambda: anyio.sleep(SHORT))
    clocks.stop()


async def test_the_total_clock_is_never_wound_up() -> None:
    clocks = Clocks(limits(first_event=60, idle=60, total=10 * SHORT))
    steps = 0

    async def read_on() -> None:
        nonlocal steps
        while True:
            clocks.begin("total" if steps % 2 else "idle")
            await within(clocks, lambda: anyio.sleep(SHORT))
            steps += 1

    with pytest.raises(TimedOut) as caught:
        await read_on()
    assert caught.value.clock == "total"
    assert 1 <= steps <= 10
    clocks.stop()


async def test_a_clock_that_has_run_out_stays_so() -> None:
    clocks = Clocks(limits(first_event=60, idle=60, total=SHORT))
    await run_out(clocks)
    clocks.begin("idle")
    assert (await run_out(clocks)).clock == "total"
    clocks.stop()


# A limit of its own


async def test_a_limit_of_its_own_is_no_clock() -> None:
    clocks = Clocks(limits(first_event=60))
    with pytest.raises(AlarmRang):
        await within(clocks, anyio.sleep_forever, SHORT)
    assert await within(clocks, arrive) == "arrived"
    clocks.stop()


@pytest.mark.parametrize("timeouts", [limits(first_event=SHORT), limits(total=SHORT)])
async def test_a_limit_of_its_own_is_no_longer_than_what_is_left_on_the_clocks(
    timeouts: Timeouts,
) -> None:
    clocks = Clocks(timeouts)
    started = anyio.current_time()
    with pytest.raises(AlarmRang):
        await within(clocks, anyio.sleep_forever, 60)
    assert anyio.current_time() - started < 30
    clocks.stop()


async def test_what_arrives_within_a_limit_of_its_own_is_passed_on() -> None:
    clocks = Clocks(NEVER)
    assert await within(clocks, arrive, 60) == "arrived"
    clocks.stop()


# Interrupting


async def test_who_waits_is_interrupted() -> None:
    clocks = Clocks(limits(first_event=60))

    async def wait() -> None:
        with pytest.raises(StreamClosed):
            await within(clocks, anyio.sleep_forever)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await settle()
        clocks.interrupt(closed)
    clocks.stop()


@pytest.mark.parametrize("seconds", [None, 60])
async def test_once_interrupted_nothing_is_awaited_any_more(seconds: float | None) -> None:
    clocks = Clocks(limits(first_event=60))
    await within(clocks, arrive)
    clocks.interrupt(closed)
    for _ in range(2):
        begun: list[bool] = []

        async def work(begun: list[bool] = begun) -> None:
            begun.append(True)
            await checkpoint()

        with pytest.raises(StreamClosed):
            await within(clocks, work, seconds)
        assert begun == []
    clocks.stop()


async def test_an_interruption_is_not_taken_for_a_clock() -> None:
    clocks = Clocks(limits(first_event=SHORT))
    clocks.interrupt(closed)
    await anyio.sleep(2 * SHORT)
    with pytest.raises(StreamClosed):
        await within(clocks, anyio.sleep_forever)
    clocks.stop()


async def test_an_interruption_between_two_waits_does_not_touch_the_consumer() -> None:
    clocks = Clocks(limits(first_event=60))
    await within(clocks, arrive)
    clocks.interrupt(closed)
    await settle()  # the consumer's own awaiting
    clocks.stop()


@on_asyncio
async def test_a_cancellation_from_outside_is_not_taken_for_a_clock() -> None:
    clocks = Clocks(limits(first_event=60))

    async def wait() -> None:
        await within(clocks, anyio.sleep_forever)

    task = asyncio.create_task(wait())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    clocks.stop()


async def test_a_scope_from_outside_is_not_taken_for_a_clock() -> None:
    clocks = Clocks(limits(first_event=60))
    with anyio.move_on_after(SHORT) as scope:
        await within(clocks, anyio.sleep_forever)
    assert scope.cancelled_caught
    clocks.stop()


# Stopping


async def test_nothing_stays_armed_after_stopping() -> None:
    clocks = Clocks(limits(first_event=60, total=60))
    await within(clocks, arrive)
    reference = weakref.ref(clocks)
    gc.disable()
    try:
        clocks.stop()
        del clocks
        assert reference() is None
    finally:
        gc.enable()


@on_asyncio
async def test_a_timer_does_not_outlive_its_clocks() -> None:
    clocks = Clocks(limits(first_event=60))
    await within(clocks, arrive)
    alarm = weakref.ref(vars(clocks)["_alarm"])
    clocks.stop()
    del clocks
    gc.collect()
    assert alarm() is None


async def test_stopping_twice_or_unused_is_nothing() -> None:
    clocks = Clocks(limits(first_event=60))
    clocks.stop()
    clocks.stop()


async def test_a_limit_that_is_passed_unused_interrupts_nobody() -> None:
    clocks = Clocks(limits(first_event=SHORT))
    await within(clocks, arrive)
    await anyio.sleep(2 * SHORT)
    clocks.begin("total")
    await within(clocks, lambda: anyio.sleep(2 * SHORT))
    clocks.stop()
