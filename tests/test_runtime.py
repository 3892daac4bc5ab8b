"""What asyncio and trio do differently: alarms, cancellation held back, closing, running later."""

import asyncio
import gc
import math
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint, current_token

from streamsession._runtime import Alarm, AlarmRang, Guarded, close_within, new_alarm, run_later

T = TypeVar("T")

SHORT = 0.02

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


async def settle() -> None:
    """Let every other task run until it waits."""
    for _ in range(20):
        await checkpoint()


def current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def cancelling() -> int:
    """How many cancellations of the task are still to be answered; 0 on trio."""
    return current_task().cancelling() if _is_asyncio() else 0


def _is_asyncio() -> bool:
    return isinstance(current_token().native_token, asyncio.AbstractEventLoop)


async def wait_with(alarm: Alarm, seconds: float) -> None:
    """Wait for what never comes."""
    with alarm.within(seconds):
        await anyio.sleep_forever()


# Alarm


@pytest.mark.anyio
async def test_a_wait_within_its_time_is_left_alone() -> None:
    alarm = new_alarm()
    with alarm.within(60):
        await settle()
    assert not alarm.was_rung
    alarm.stop()


@pytest.mark.anyio
async def test_a_wait_that_takes_too_long_is_interrupted() -> None:
    alarm = new_alarm()
    with pytest.raises(AlarmRang):
        await wait_with(alarm, SHORT)
    assert not alarm.was_rung
    assert cancelling() == 0
    await settle()
    alarm.stop()


@pytest.mark.anyio
async def test_one_alarm_limits_many_waits_each_on_its_own() -> None:
    alarm = new_alarm()
    for seconds in (60, SHORT, math.inf, SHORT, 60, SHORT):
        if seconds == SHORT:
            with pytest.raises(AlarmRang):
                await wait_with(alarm, seconds)
        else:
            with alarm.within(seconds):
                await settle()
    assert cancelling() == 0
    alarm.stop()


@pytest.mark.anyio
async def test_the_time_of_an_earlier_wait_does_not_end_a_later_one() -> None:
    alarm = new_alarm()
    with alarm.within(SHORT):
        await checkpoint()
    with alarm.within(60):
        await anyio.sleep(2 * SHORT)
    with alarm.within(SHORT):
        await checkpoint()
    await anyio.sleep(2 * SHORT)
    with alarm.within(math.inf):
        await anyio.sleep(2 * SHORT)
    alarm.stop()


@pytest.mark.anyio
async def test_a_failure_within_passes_unchanged() -> None:
    alarm = new_alarm()

    async def fail() -> None:
        with alarm.within(60):
            await checkpoint()
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await fail()
    with alarm.within(60):
        await settle()
    alarm.stop()


@pytest.mark.anyio
async def test_a_failure_while_being_interrupted_passes_unchanged() -> None:
    alarm = new_alarm()

    async def fail() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise LookupError("mine")

    async def wait() -> None:
        with alarm.within(SHORT):
            await fail()

    with pytest.raises(LookupError, match="mine"):
        await wait()
    assert cancelling() == 0
    await settle()
    alarm.stop()


@pytest.mark.anyio
async def test_another_task_can_ring() -> None:
    alarm = new_alarm()

    async def wait() -> None:
        with pytest.raises(AlarmRang):
            await wait_with(alarm, math.inf)
        assert cancelling() == 0
        await settle()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await settle()
        alarm.ring()
        alarm.ring()
        assert alarm.was_rung
    alarm.stop()


@pytest.mark.anyio
async def test_once_rung_no_wait_is_entered_any_more() -> None:
    alarm = new_alarm()
    alarm.ring()
    for seconds in (math.inf, 60):
        with pytest.raises(AlarmRang), alarm.within(seconds):
            pytest.fail("entered")
    await settle()
    alarm.stop()


@pytest.mark.anyio
async def test_ringing_between_two_waits_touches_nobody() -> None:
    alarm = new_alarm()
    with alarm.within(60):
        await checkpoint()
    alarm.ring()
    await settle()
    assert cancelling() == 0
    alarm.stop()


@on_asyncio
@pytest.mark.anyio
async def test_ringing_from_within_the_wait_leaves_nothing_behind() -> None:
    alarm = new_alarm()
    with pytest.raises(AlarmRang), alarm.within(60):
        alarm.ring()
    try:
        await checkpoint()
    except asyncio.CancelledError:
        pytest.fail("cancelled after the alarm was answered")
    finally:
        alarm.stop()


@pytest.mark.anyio
async def test_a_scope_outside_wins_over_the_alarm() -> None:
    alarm = new_alarm()
    rang: list[bool] = []
    scope = anyio.CancelScope()

    async def wait() -> None:
        with scope:
            try:
                await wait_with(alarm, 60)
            except AlarmRang:
                rang.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await settle()
        scope.cancel()
        alarm.ring()
    assert scope.cancelled_caught
    assert rang == []
    alarm.stop()


@on_asyncio
@pytest.mark.anyio
@pytest.mark.parametrize("alarm_first", [True, False])
async def test_a_cancellation_from_outside_wins_over_the_alarm(*, alarm_first: bool) -> None:
    alarm = new_alarm()
    task = asyncio.create_task(wait_with(alarm, 60))
    await settle()
    first, second = (alarm.ring, task.cancel) if alarm_first else (task.cancel, alarm.ring)
    first()
    second()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert task.cancelling() == 1
    alarm.stop()


@on_asyncio
@pytest.mark.anyio
async def test_what_came_while_the_loop_was_blocked_comes_before_the_alarm() -> None:
    alarm = new_alarm()
    data = anyio.Event()

    async def read() -> None:
        with alarm.within(SHORT):
            await data.wait()
        with alarm.within(60):
            await settle()

    task = asyncio.create_task(read())
    await settle()
    time.sleep(2 * SHORT)  # noqa: ASYNC251 - it blocks the loop on purpose
    asyncio.get_running_loop().call_soon(data.set)
    await task
    alarm.stop()


@on_asyncio
@pytest.mark.anyio
@pytest.mark.parametrize("rings_itself", [True, False])
async def test_a_cancellation_that_came_before_the_wait_stays_counted(
    *, rings_itself: bool
) -> None:
    alarm = new_alarm()

    async def wait() -> None:
        with alarm.within(SHORT):
            if rings_itself:
                alarm.ring()
            else:
                await anyio.sleep_forever()

    async def be_stubborn() -> int:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            with pytest.raises(AlarmRang):
                await wait()
        return current_task().cancelling()

    task = asyncio.create_task(be_stubborn())
    await settle()
    task.cancel()
    assert await task == 1
    alarm.stop()


@pytest.mark.anyio
async def test_a_scope_within_ends_its_own_block_only() -> None:
    alarm = new_alarm()
    with alarm.within(60):
        with anyio.move_on_after(SHORT) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        await settle()
    alarm.stop()


@pytest.mark.anyio
async def test_the_alarm_reaches_through_scopes_within() -> None:
    alarm = new_alarm()
    reached: list[bool] = []

    async def wait() -> None:
        with alarm.within(SHORT):
            with anyio.move_on_after(60):
                await anyio.sleep_forever()
            reached.append(True)

    with pytest.raises(AlarmRang):
        await wait()
    assert reached == []
    assert cancelling() == 0
    with anyio.move_on_after(60) as scope:
        await settle()
    assert not scope.cancelled_caught
    alarm.stop()


@pytest.mark.anyio
async def test_the_alarm_ends_the_tasks_that_the_wait_has_started() -> None:
    alarm = new_alarm()
    ended: list[bool] = []

    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async def wait() -> None:
        with alarm.within(SHORT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child)
                tasks.start_soon(child)

    with pytest.raises(AlarmRang):
        await wait()
    assert ended == [True, True]
    await settle()
    alarm.stop()


@pytest.mark.anyio
async def test_a_scope_around_still_ends_on_time() -> None:
    alarm = new_alarm()
    with pytest.raises(TimeoutError), anyio.fail_after(SHORT):
        await wait_with(alarm, 60)
    assert cancelling() == 0
    with anyio.move_on_after(60) as scope, pytest.raises(AlarmRang):
        await wait_with(alarm, SHORT)
    assert not scope.cancel_called
    alarm.stop()


@on_asyncio
@pytest.mark.anyio
async def test_an_asyncio_timeout_around_still_ends_on_time() -> None:
    alarm = new_alarm()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SHORT):
            await wait_with(alarm, 60)
    assert cancelling() == 0
    async with asyncio.timeout(60):
        with pytest.raises(AlarmRang):
            await wait_with(alarm, SHORT)
    assert cancelling() == 0
    alarm.stop()


@on_asyncio
@pytest.mark.anyio
async def test_an_asyncio_timeout_within_ends_its_own_block_only() -> None:
    alarm = new_alarm()
    with alarm.within(60):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT):
                await anyio.sleep_forever()
        await settle()
    assert cancelling() == 0
    alarm.stop()


@on_asyncio
@pytest.mark.anyio
async def test_an_asyncio_timeout_that_is_due_with_the_alarm_wins() -> None:
    alarm = new_alarm()
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        async with asyncio.timeout(None) as timeout:
            loop.call_later(SHORT, timeout.reschedule, loop.time())
            loop.call_later(SHORT, loop.call_soon, alarm.ring)
            await wait_with(alarm, 60)

    with pytest.raises(TimeoutError):
        await wait()
    assert cancelling() == 0
    alarm.stop()


@pytest.mark.anyio
@pytest.mark.parametrize(("outer", "inner"), [(SHORT, 60), (60, SHORT)])
async def test_of_two_alarms_the_one_that_rings_is_answered(outer: float, inner: float) -> None:
    outside, inside = new_alarm(), new_alarm()
    answered = ""
    try:
        with outside.within(outer):
            try:
                await wait_with(inside, inner)
            except AlarmRang:
                answered = "inside"
    except AlarmRang:
        answered = "outside"
    assert answered == ("outside" if outer < inner else "inside")
    assert cancelling() == 0
    await settle()
    outside.stop()
    inside.stop()


@pytest.mark.anyio
async def test_a_stopped_alarm_is_held_by_nothing() -> None:
    alarm = new_alarm()
    with alarm.within(60):
        await checkpoint()
    reference = weakref.ref(alarm)
    gc.disable()
    try:
        alarm.stop()
        alarm.stop()
        del alarm
        assert reference() is None
    finally:
        gc.enable()


# Guarded: what passes


@pytest.mark.anyio
async def test_the_value_of_the_work_is_passed_on() -> None:
    async def work() -> str:
        await settle()
        return "done"

    assert await Guarded(work()) == "done"
    assert await Guarded(work(), cancels=0) == "done"


@pytest.mark.anyio
async def test_the_failure_of_the_work_is_passed_on() -> None:
    async def work() -> None:
        await checkpoint()
        raise LookupError("of the work")

    with pytest.raises(LookupError, match="of the work"):
        await Guarded(work())


@pytest.mark.anyio
async def test_work_that_never_waits_is_just_done() -> None:
    async def work() -> int:
        return 1

    async def fail() -> None:
        raise LookupError("at once")

    assert await Guarded(work(), cancels=0) == 1
    with pytest.raises(LookupError, match="at once"):
        await Guarded(fail(), cancels=0)


@pytest.mark.anyio
async def test_the_next_item_of_a_generator_can_be_guarded() -> None:
    async def count() -> AsyncGenerator[int]:
        for number in range(3):
            await checkpoint()
            yield number

    numbers = count()
    assert [await Guarded(anext(numbers)) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(StopAsyncIteration):
        await Guarded(anext(numbers))


@on_asyncio
@pytest.mark.anyio
async def test_results_and_failures_of_futures_reach_the_work() -> None:
    loop = asyncio.get_running_loop()
    ready, failed = loop.create_future(), loop.create_future()
    loop.call_soon(ready.set_result, "ready")
    loop.call_soon(failed.set_exception, LookupError("failed"))

    async def work() -> str:
        with pytest.raises(LookupError, match="failed"):
            await failed
        return str(await ready)

    assert await Guarded(work(), cancels=0) == "ready"


class Throwing:
    """Awaited by hand: hands a trap to whoever drives it, and takes what it throws."""

    def __await__(self) -> Generator[None, object, object]:
        try:
            return (yield None)
        except LookupError as exc:
            return exc


def test_what_is_sent_or_thrown_from_outside_reaches_the_work() -> None:
    async def work() -> Any:
        return await Throwing()

    for give in ("send", "throw"):
        driven: Coroutine[Any, Any, Any] = _await(Guarded(work()))
        driven.send(None)
        given: Any = LookupError("thrown") if give == "throw" else "sent"
        with pytest.raises(StopIteration) as end:
            getattr(driven, give)(given)
        assert end.value.value is given


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


def test_closing_the_coroutine_closes_the_work() -> None:
    closed: list[type[BaseException] | None] = []

    async def work() -> None:
        try:
            await Throwing()
        finally:
            closed.append(sys.exc_info()[0])

    driven: Coroutine[Any, Any, None] = _await(Guarded(work()))
    driven.send(None)
    driven.close()
    assert closed == [GeneratorExit]


# Guarded: what is held back


@dataclass
class Careful:
    """Work that takes its time to clean up: until `cleaned_up` is set."""

    cleaned_up: anyio.Event = field(default_factory=anyio.Event)
    log: list[str] = field(default_factory=list[str])

    async def __call__(self) -> None:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            self.log.append("cancelled")
            try:
                with anyio.CancelScope(shield=True):
                    await self.cleaned_up.wait()
                self.log.append("cleaned up")
            except asyncio.CancelledError:
                self.log.append("interrupted")
            raise


@dataclass
class Patient:
    """Work that ends once `over` is set."""

    over: anyio.Event = field(default_factory=anyio.Event)
    log: list[str] = field(default_factory=list[str])

    async def __call__(self) -> str:
        try:
            await self.over.wait()
        except asyncio.CancelledError:
            self.log.append("cancelled")
            raise
        self.log.append("over")
        return "value"


def start(work: Awaitable[T]) -> asyncio.Task[T]:
    return asyncio.create_task(_await(work))


@on_asyncio
@pytest.mark.anyio
async def test_a_second_and_third_cancellation_wait_for_the_clean_up() -> None:
    work = Careful()
    task = start(Guarded(work()))
    await settle()
    for _ in range(3):
        task.cancel()
        await settle()
        assert work.log == ["cancelled"]
        assert not task.done()
    work.cleaned_up.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.log == ["cancelled", "cleaned up"]
    assert task.cancelled()


@on_asyncio
@pytest.mark.anyio
@pytest.mark.parametrize("cancels", [0, 1, 2])
async def test_as_many_cancellations_reach_the_work_as_may(cancels: int) -> None:
    reached = 0
    over = anyio.Event()

    async def stubborn() -> None:
        nonlocal reached
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                reached += 1

    task = start(Guarded(stubborn(), cancels=cancels))
    await settle()
    for _ in range(4):
        task.cancel()
        await settle()
    over.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reached == cancels


@on_asyncio
@pytest.mark.anyio
async def test_what_was_held_back_comes_once_the_work_has_ended() -> None:
    work = Patient()
    task = start(Guarded(work(), cancels=0))
    await settle()
    task.cancel()
    await settle()
    assert not task.done()
    work.over.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.log == ["over"]


@on_asyncio
@pytest.mark.anyio
async def test_what_was_held_back_comes_also_when_the_work_fails() -> None:
    over = anyio.Event()

    async def fail() -> None:
        await over.wait()
        raise LookupError("of the work")

    async def go_on() -> None:
        try:
            await Guarded(fail(), cancels=0)
        except LookupError:
            await checkpoint()

    task = start(go_on())
    await settle()
    task.cancel()
    await settle()
    over.set()
    await asyncio.wait([task])
    assert task.cancelled()


@on_asyncio
@pytest.mark.anyio
async def test_the_message_of_a_cancellation_held_back_is_kept() -> None:
    work = Patient()
    caught: list[str] = []

    async def wait() -> None:
        try:
            await Guarded(work(), cancels=0)
        except asyncio.CancelledError as exc:
            caught.append(str(exc))
            raise

    task = start(wait())
    await settle()
    task.cancel("by the user")
    await settle()
    work.over.set()
    await asyncio.wait([task])
    assert caught == ["by the user"]


@on_asyncio
@pytest.mark.anyio
async def test_a_cancellation_after_one_by_a_scope_waits_for_the_clean_up() -> None:
    work = Careful()
    scope = anyio.CancelScope()

    async def wait() -> None:
        with scope:
            await Guarded(work())

    task = start(wait())
    await settle()
    scope.cancel()
    await settle()
    task.cancel()
    await settle()
    work.cleaned_up.set()
    await asyncio.wait([task])
    assert work.log == ["cancelled", "cleaned up"]


@on_asyncio
@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [0, 0.0001])
async def test_work_that_waits_in_steps_is_guarded_in_each(seconds: float) -> None:
    steps: list[int] = []

    async def work() -> None:
        for step in range(50):
            await asyncio.sleep(seconds)
            steps.append(step)

    task = start(Guarded(work(), cancels=0))
    for _ in range(10):
        await checkpoint()
        task.cancel()
    await asyncio.wait([task])
    assert steps == list(range(50))
    assert task.cancelled()


@on_asyncio
@pytest.mark.anyio
async def test_a_cancellation_does_not_reach_a_mere_checkpoint_but_the_next_wait() -> None:
    log: list[str] = []

    async def work() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        log.append("past the checkpoints")
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cancelled")

    task = start(Guarded(work()))
    await checkpoint()
    task.cancel()
    await asyncio.wait([task])
    assert log == ["past the checkpoints", "cancelled"]
    assert task.cancelled()


@on_asyncio
@pytest.mark.anyio
@pytest.mark.parametrize("cancels", [0, 1])
async def test_a_task_awaited_within_is_cancelled_if_the_cancellation_may_pass(
    cancels: int,
) -> None:
    over = anyio.Event()
    inner = asyncio.create_task(over.wait())
    task = start(Guarded(_await(inner), cancels=cancels))
    await settle()
    task.cancel()
    await settle()
    over.set()
    await asyncio.wait([task])
    assert task.cancelled()
    assert inner.cancelled() == bool(cancels)


@on_asyncio
@pytest.mark.anyio
async def test_a_cancellation_that_comes_late_cancels_what_is_awaited_then() -> None:
    gate = anyio.Event()
    inner = asyncio.create_task(anyio.sleep_forever())

    async def work(guarded: Callable[[], Guarded[None]]) -> None:
        guarded().hold()
        await gate.wait()
        guarded().release()
        await inner

    guarded: Guarded[None] = Guarded(work(lambda: guarded))
    task = start(guarded)
    await settle()
    task.cancel()
    gate.set()
    await asyncio.wait([task])
    assert task.cancelled()
    await settle()
    assert inner.cancelled()


@on_asyncio
@pytest.mark.anyio
async def test_what_is_awaited_in_guarded_work_can_be_awaited_elsewhere_too() -> None:
    over = anyio.Event()
    shared = asyncio.create_task(over.wait())
    guarded = start(Guarded(_await(shared), cancels=0))
    await settle()
    other = start(shared)
    await settle()
    over.set()
    await asyncio.wait([guarded, other])
    await guarded
    await other


@on_asyncio
@pytest.mark.anyio
async def test_a_cancellation_reaches_work_that_has_cancelled_scopes_of_its_own() -> None:
    log: list[str] = []

    async def work() -> None:
        for _ in range(3):
            with anyio.move_on_after(0):
                await anyio.sleep_forever()
        log.append("moved on")
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cancelled")

    task = start(Guarded(work()))
    while not log:
        await checkpoint()
    task.cancel()
    await asyncio.wait([task])
    assert log == ["moved on", "cancelled"]
    assert task.cancelled()


class Twice:
    """Awaited by hand: hands over two traps."""

    def __await__(self) -> Generator[None]:
        yield None
        yield None


def test_closing_the_coroutine_closes_it_also_when_a_cancellation_is_held_back() -> None:
    async def work() -> None:
        await Twice()

    driven: Coroutine[Any, Any, None] = _await(Guarded(work(), cancels=0))
    driven.send(None)
    driven.throw(asyncio.CancelledError())
    driven.close()


# Guarded: held by the work itself


@dataclass
class InParts:
    """Work in two parts, of which the first may not be cancelled."""

    first: anyio.Event = field(default_factory=anyio.Event)
    second: anyio.Event = field(default_factory=anyio.Event)
    log: list[str] = field(default_factory=list[str])

    def guarded(self) -> Guarded[None]:
        guarded: Guarded[None] = Guarded(self._work(lambda: guarded))
        return guarded

    async def _work(self, guarded: Callable[[], Guarded[None]]) -> None:
        guarded().hold()
        guarded().hold()
        await self.first.wait()
        self.log.append("first")
        guarded().release()
        guarded().release()
        await self.second.wait()
        self.log.append("second")


@on_asyncio
@pytest.mark.anyio
async def test_while_held_no_cancellation_passes_and_then_it_does() -> None:
    work = InParts()
    task = start(work.guarded())
    await settle()
    task.cancel()
    task.cancel()
    await settle()
    assert not task.done()
    work.first.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.log == ["first"]


@pytest.mark.anyio
async def test_while_held_no_scope_passes_and_then_it_does() -> None:
    work = InParts()
    scope = anyio.CancelScope()

    async def wait() -> None:
        with scope:
            await work.guarded()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await settle()
        scope.cancel()
        await settle()
        assert work.log == []
        work.first.set()
    assert work.log == ["first"]
    assert scope.cancelled_caught


@pytest.mark.anyio
async def test_holding_without_being_cancelled_changes_nothing() -> None:
    work = InParts()
    work.first.set()
    work.second.set()
    await work.guarded()
    assert work.log == ["first", "second"]


@pytest.mark.anyio
async def test_what_work_still_holds_when_it_ends_is_released() -> None:
    async def hold(guarded: Callable[[], Guarded[None]]) -> None:
        guarded().hold()
        await checkpoint()
        raise LookupError("of the work")

    guarded: Guarded[None] = Guarded(hold(lambda: guarded))
    with anyio.CancelScope() as scope:
        with pytest.raises(LookupError, match="of the work"):
            await guarded
        scope.cancel()
        await checkpoint()
        pytest.fail("still shielded")
    assert scope.cancelled_caught


# Guarded and scopes


@pytest.mark.anyio
@pytest.mark.parametrize("cancels", [0, 1])
async def test_the_cancellation_of_a_scope_passes(cancels: int) -> None:
    with anyio.move_on_after(SHORT) as scope:
        await Guarded(anyio.sleep_forever(), cancels=cancels)
    assert scope.cancelled_caught
    assert cancelling() == 0
    await settle()


@pytest.mark.anyio
@pytest.mark.parametrize("cancels", [0, 1])
async def test_the_scopes_that_work_enters_are_its_own(cancels: int) -> None:
    async def work() -> list[str]:
        log: list[str] = []
        with anyio.move_on_after(SHORT):
            await anyio.sleep_forever()
        log.append("moved on")
        try:
            with anyio.fail_after(SHORT):
                await anyio.sleep_forever()
        except TimeoutError:
            log.append("failed")
        return log

    assert await Guarded(work(), cancels=cancels) == ["moved on", "failed"]
    assert cancelling() == 0


@pytest.mark.anyio
@pytest.mark.parametrize("cancels", [0, 1])
async def test_work_may_race_tasks_as_connecting_does(cancels: int) -> None:
    async def connect() -> str:
        winner = ""

        async def try_address(address: str, *, answers: bool) -> None:
            nonlocal winner
            if not answers:
                await anyio.sleep_forever()
            await settle()
            winner = address
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: try_address("::1", answers=False))
            tasks.start_soon(lambda: try_address("127.0.0.1", answers=True))
        return winner

    assert await Guarded(connect(), cancels=cancels) == "127.0.0.1"
    assert cancelling() == 0


@on_asyncio
@pytest.mark.anyio
async def test_tasks_of_the_work_go_on_while_a_cancellation_is_held_back() -> None:
    over = anyio.Event()
    log: list[str] = []

    async def connect() -> None:
        async def try_address() -> None:
            await over.wait()
            log.append("connected")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(try_address)
            tasks.start_soon(try_address)

    task = start(Guarded(connect(), cancels=0))
    await settle()
    task.cancel()
    await settle()
    over.set()
    await asyncio.wait([task])
    assert log == ["connected", "connected"]
    assert task.cancelled()


@on_asyncio
@pytest.mark.anyio
async def test_a_cancellation_that_passes_ends_the_tasks_of_the_work() -> None:
    ended: list[bool] = []

    async def work() -> None:
        async def child() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(True)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
            tasks.start_soon(child)

    task = start(Guarded(work()))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True, True]


# close_within


@pytest.mark.anyio
async def test_closing_that_ends_in_time_is_done() -> None:
    closed: list[bool] = []

    async def close() -> None:
        await settle()
        closed.append(True)

    assert await close_within(60, close()) is True
    assert closed == [True]


@pytest.mark.anyio
async def test_closing_that_takes_too_long_is_given_up() -> None:
    started = anyio.current_time()
    assert await close_within(SHORT, anyio.sleep_forever()) is False
    assert SHORT * 0.9 <= anyio.current_time() - started < 60
    assert cancelling() == 0
    await settle()


@pytest.mark.anyio
async def test_what_closing_raises_is_raised() -> None:
    async def fail() -> None:
        await checkpoint()
        raise OSError("could not close")

    with pytest.raises(OSError, match="could not close"):
        await close_within(60, fail())


@pytest.mark.anyio
async def test_closing_completes_in_a_cancelled_scope() -> None:
    closed: list[bool] = []

    async def close() -> None:
        await settle()
        closed.append(True)

    with anyio.CancelScope() as scope:
        scope.cancel()
        closed.append(await close_within(60, close()))
        await checkpoint()
        pytest.fail("the cancellation was lost")
    assert scope.cancelled_caught
    assert closed == [True, True]


@on_asyncio
@pytest.mark.anyio
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_closing_completes_though_its_task_is_cancelled(times: int) -> None:
    work = Patient()

    async def close() -> None:
        await work()

    task = start(close_within(60, close()))
    await settle()
    for _ in range(times):
        task.cancel()
        await settle()
    assert not task.done()
    work.over.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.log == ["over"]


@on_asyncio
@pytest.mark.anyio
async def test_closing_is_given_up_in_time_though_its_task_is_cancelled() -> None:
    task = start(close_within(2 * SHORT, anyio.sleep_forever()))
    await settle()
    task.cancel("by the user")
    await settle()
    assert not task.done()
    with pytest.raises(asyncio.CancelledError, match=r"^by the user$"):
        await asyncio.wait_for(task, 60)


@on_asyncio
@pytest.mark.anyio
async def test_a_cancellation_is_not_lost_when_closing_fails() -> None:
    over = anyio.Event()

    async def fail() -> None:
        await over.wait()
        raise OSError("could not close")

    async def go_on() -> None:
        try:
            await close_within(60, fail())
        except OSError:
            await checkpoint()

    task = start(go_on())
    await settle()
    task.cancel()
    await settle()
    over.set()
    await asyncio.wait([task])
    assert task.cancelled()


# run_later


@pytest.mark.anyio
async def test_work_for_later_runs_in_a_task_of_its_own() -> None:
    ran = anyio.Event()
    finished = anyio.Event()

    async def work() -> None:
        ran.set()
        await checkpoint()
        finished.set()

    run_later(current_token().native_token, work)
    assert not ran.is_set()
    with anyio.fail_after(10):
        await finished.wait()


@pytest.mark.anyio
async def test_work_for_later_can_be_left_from_another_thread() -> None:
    token = current_token().native_token
    ran = anyio.Event()

    async def work() -> None:
        ran.set()

    if isinstance(token, asyncio.AbstractEventLoop):
        token.set_debug(enabled=True)  # refuses what is not safe from another thread
    thread = threading.Thread(target=run_later, args=(token, work))
    thread.start()
    with anyio.fail_after(10):
        await ran.wait()
    thread.join()


@on_asyncio
@pytest.mark.anyio
async def test_work_for_later_is_held_until_it_is_done() -> None:
    awaited: list[weakref.ref[asyncio.Future[None]]] = []
    tasks: list[weakref.ref[asyncio.Task[Any]]] = []

    async def work() -> None:
        future = asyncio.get_running_loop().create_future()
        awaited.append(weakref.ref(future))
        tasks.append(weakref.ref(current_task()))
        await future  # which nothing else refers to, so that nothing else keeps the task

    run_later(current_token().native_token, work)
    await settle()
    gc.collect()
    future = awaited[0]()
    assert future is not None
    future.set_result(None)
    del future
    await settle()
    gc.collect()
    assert tasks[0]() is None


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_work_for_a_loop_that_has_ended_is_dropped(backend: str) -> None:
    async def token() -> object:
        return current_token().native_token

    async def work() -> None:
        pytest.fail("ran in a loop that has ended")

    run_later(anyio.run(token, backend=backend), work)


def test_nothing_is_kept_of_work_that_is_done() -> None:
    class Left:
        async def close(self) -> None:
            await checkpoint()

    async def leave() -> weakref.ref[Left]:
        left = Left()
        run_later(current_token().native_token, left.close)
        reference = weakref.ref(left)
        del left
        await settle()
        return reference

    for run in (anyio.run, trio.run):
        reference = run(leave)
        gc.collect()
        assert reference() is None
