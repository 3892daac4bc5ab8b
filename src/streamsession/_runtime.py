"""What asyncio and trio do differently: interrupting a wait, closing for certain, running later.

The only room that knows the event loops by name. It knows nothing of HTTP or of streams.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Protocol, Self

from anyio import CancelScope, current_time
from anyio.lowlevel import current_token
from typing_extensions import TypeVar

__all__ = ["Alarm", "AlarmRang", "cancelled_once", "close_within", "new_alarm", "run_later"]

T = TypeVar("T")

_CLEANUP_SECONDS = (
    5.0  # as long as asyncio's own ssl_shutdown_timeout and uvicorn's grace are short
)


class AlarmRang(Exception):  # noqa: N818
    """A wait was interrupted: its time is over, or `Alarm.ring` was called."""


class Alarm(Protocol):
    """Limits one wait after another of the same task: `with alarm.within(seconds): await ...`.

    Raises `AlarmRang` from the block when the time is over or someone rings. It is entered and left
    inside one call, never across a `yield` (https://peps.python.org/pep-0789/).
    """

    def within(self, seconds: float | None) -> Self:
        """Limit the next wait; None waits until someone rings."""
        ...

    def ring(self) -> None:
        """Interrupt the wait under way, from any task of the loop; if there is none, the next."""
        ...

    def stop(self) -> None:
        """Give back what the alarm holds of the event loop; it is not used again."""
        ...

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def new_alarm() -> Alarm:
    """An alarm for the running event loop."""
    loop = current_token().native_token
    return _LoopAlarm(loop) if isinstance(loop, asyncio.AbstractEventLoop) else _ScopeAlarm()


class _ScopeAlarm:
    """An alarm of one cancel scope per wait: right on every event loop."""

    def __init__(self) -> None:
        self._scope: CancelScope | None = None
        self._seconds: float | None = None
        self._rung = False

    def within(self, seconds: float | None) -> Self:
        self._seconds = seconds
        return self

    def ring(self) -> None:
        self._rung = True
        if self._scope is not None:
            self._scope.cancel()

    def stop(self) -> None:
        pass  # every scope was left with its wait

    def __enter__(self) -> None:
        deadline = math.inf if self._seconds is None else current_time() + self._seconds
        self._scope = CancelScope(deadline=deadline)
        self._scope.__enter__()
        if self._rung:
            self._scope.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.__exit__(kind, exc, traceback)
            if scope.cancelled_caught:
                raise AlarmRang from exc


class _LoopAlarm:
    """An alarm with one timer for all the waits of a stream, for asyncio.

    Entering a cancel scope with a deadline costs 8 µs, as much as all the rest of reading an event.
    This one arms a timer that is moved only when it fires, and interrupts as `asyncio.timeout` does.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._seconds: float | None = None
        self._due = math.inf
        self._cancels_before = 0
        self._rung = False  # by ring(): stays
        self._fired = False  # the wait under way was interrupted

    def within(self, seconds: float | None) -> Self:
        self._seconds = seconds
        return self

    def ring(self) -> None:
        self._rung = True
        if self._task is not None:
            self._interrupt()

    def __enter__(self) -> None:
        if self._rung:
            raise AlarmRang
        task = asyncio.current_task(self._loop)
        if task is None:  # pragma: no cover - a coroutine driven by hand, outside any task
            raise RuntimeError("a stream must be read from within an asyncio task")
        self._cancels_before = task.cancelling()
        self._fired = False
        self._due = math.inf if self._seconds is None else self._loop.time() + self._seconds
        if self._due < (math.inf if self._timer is None else self._timer.when()):
            self._arm()
        self._task = task

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if not self._fired or task is None:
            return
        if task.uncancel() > self._cancels_before:
            return  # someone else has cancelled the task too, and comes first
        if kind is None or issubclass(kind, asyncio.CancelledError):
            raise AlarmRang from exc

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self.stop()
        self._timer = self._loop.call_at(self._due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < self._due:
            self._arm()
        else:
            self._interrupt()

    def _interrupt(self) -> None:
        if self._task is not None and not self._fired:
            self._fired = True
            self._task.cancel()


def cancelled_once(work: Awaitable[T]) -> Awaitable[T]:
    """`work`, to be awaited, so that at most one cancellation of the task reaches it.

    A second one waits until `work` has cleaned up after the first, for 5 seconds at most.
    """
    return _Guarded(work, cancels=1, seconds=_CLEANUP_SECONDS)


async def close_within(seconds: float, work: Awaitable[None]) -> bool:
    """Await `work` to its end even if this task is cancelled, natively or by a scope.

    Args:
        seconds: How long it may take.
        work: What closes something; what it raises is raised here.

    Returns:
        False if it was given up because the time was over.
    """
    with CancelScope(shield=True, deadline=current_time() + seconds) as scope:
        await _Guarded(work, cancels=0, seconds=seconds)
    return not scope.cancelled_caught


class _Guarded(Generic[T]):
    """An awaitable that lets some cancellations of its asyncio task through and holds back the rest.

    When httpx is cancelled it closes its connection. A second cancellation interrupts that, and the
    connection is lost to the pool for good (https://github.com/encode/httpx/issues/3782). The shield
    of anyio holds back only its own scopes, not `Task.cancel`; `asyncio.shield` needs another task,
    in which the scopes that httpcore has entered must not be left. So it is the futures awaited
    within that are shielded, one by one, in the task itself. Elsewhere all passes through.
    """

    _held_back: asyncio.CancelledError | None = None

    def __init__(self, work: Awaitable[T], *, cancels: int, seconds: float) -> None:
        self._work = work
        self._cancels = cancels
        self._seconds = seconds
        self._until = 0.0 if cancels else time.monotonic() + seconds

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._work.__await__()
        step: Callable[[Any], Any] = steps.send
        argument: Any = None
        try:
            while True:
                trap = step(argument)
                try:
                    step, argument = steps.send, (yield from self._wait(trap))
                except BaseException as exc:  # noqa: BLE001 - handed on to the work within
                    step, argument = steps.throw, exc
        except StopIteration as end:
            if self._held_back is not None:
                raise self._held_back from None
            return end.value
        except asyncio.CancelledError:
            if self._held_back is not None and not self._held_back.args:
                raise self._held_back from None  # Task.cancel, which a scope would not answer for
            raise

    def _wait(self, trap: Any) -> Generator[Any, Any, Any]:
        """Hand a trap to the event loop until it is over or a cancellation may pass."""
        while True:
            try:
                if self._cancels or not isinstance(trap, asyncio.Future):
                    return (yield trap)
                if trap.done():
                    return None
                yield from _shielded(trap)
            except asyncio.CancelledError as exc:
                if self._cancels:
                    self._cancels -= 1
                    self._until = time.monotonic() + self._seconds
                    raise
                if time.monotonic() >= self._until:
                    raise
                self._held_back = exc
                if trap is None:
                    return None


def _shielded(future: "asyncio.Future[Any]") -> Generator[Any, Any, None]:
    """Wait for a future without being able to cancel it."""
    done = future.get_loop().create_future()

    def wake(_: object) -> None:
        if not done.done():
            done.set_result(None)

    future.add_done_callback(wake)
    try:
        yield from done
    finally:
        future.remove_done_callback(wake)


_closing: set[asyncio.Task[None]] = set()


def run_later(loop: object, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have an event loop run `work` in a task of its own, soon; does nothing if the loop has ended.

    For what is left behind by an object that was dropped: callable from anywhere, the garbage
    collector included.

    Args:
        loop: What `anyio.lowlevel.current_token().native_token` was.
        work: Must not raise: nobody is there to catch it.
    """
    if isinstance(loop, asyncio.AbstractEventLoop):

        def start() -> None:
            task = loop.create_task(work())
            _closing.add(task)  # the loop itself holds a task only weakly
            task.add_done_callback(_closing.discard)

        with suppress(RuntimeError):  # the loop is closed, and its sockets with it
            loop.call_soon_threadsafe(start)
    else:
        import trio  # noqa: PLC0415 - optional: whoever has a token of trio's has it

        if isinstance(loop, trio.lowlevel.TrioToken):
            with suppress(trio.RunFinishedError):
                loop.run_sync_soon(trio.lowlevel.spawn_system_task, work)
