"""What asyncio and trio do differently: interrupting a wait, closing for certain, running later.

The only room that knows the event loops by name. It knows nothing of HTTP or of streams.
"""

import asyncio
import math
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Self

from anyio import CancelScope, current_time
from anyio.lowlevel import current_token
from typing_extensions import TypeVar

__all__ = [
    "Alarm",
    "AlarmRang",
    "Begun",
    "Guarded",
    "close_within",
    "is_asyncio",
    "new_alarm",
    "run_later",
    "take",
    "unseen_generators",
]

T = TypeVar("T")


_BY_SCOPE: Final = "Cancelled via cancel scope"  # as anyio itself tells it
_BY_ALARM: Final = "interrupted by streamsession"


class AlarmRang(Exception):
    """A wait was interrupted: its time is over, or `Alarm.ring` was called."""


class Alarm:
    """Limits one wait after another of the same stream: `with alarm.within(seconds): await ...`.

    Raises `AlarmRang` from the block when the time is over or someone rings. A block is entered and
    left inside one call, never across a `yield` (https://peps.python.org/pep-0789/).

    Attributes:
        may_be_late: Whether it may be set when what it limits has begun, and waits already.
        was_rung: Whether `ring` was called, ever.
    """

    may_be_late: ClassVar[bool] = False  # a scope must surround all that its block enters

    def __init__(self) -> None:
        self._seconds = math.inf
        self.was_rung = False
        self._scope: CancelScope | None = None

    def within(self, seconds: float) -> Self:
        """Limit the next wait; infinity waits until someone rings."""
        self._seconds = seconds
        return self

    def ring(self) -> None:
        """Interrupt the wait under way, from any task of the loop, and every later one."""
        self.was_rung = True
        if self._scope is not None:
            self._scope.cancel()

    def stop(self) -> None:
        """Give back what the alarm holds of the event loop; it is not used again."""

    def __enter__(self) -> None:
        if self.was_rung:
            raise AlarmRang
        self._scope = CancelScope(deadline=current_time() + self._seconds).__enter__()

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


class _LoopAlarm(Alarm):
    """The same for asyncio, with one timer for all the waits of a stream.

    Entering a cancel scope with a deadline costs 8 µs, as much as all the rest of reading an event.
    This timer is moved only when it fires, and interrupts as `asyncio.timeout` does.
    """

    may_be_late = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf
        self._cancels_before = 0
        self._fired = False
        self._cancelled = False

    def ring(self) -> None:
        self.was_rung = True
        self._interrupt()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> None:
        task = asyncio.current_task(self._loop)
        if self.was_rung or task is None:
            raise AlarmRang
        self._cancels_before = task.cancelling()
        self._fired = False
        self._due = self._loop.time() + self._seconds
        if self._due < (math.inf if self._timer is None else self._timer.when()):
            self._set_timer()
        self._task = task

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if task is None or not self._fired:
            return
        if self._cancelled and task.uncancel() > self._cancels_before:
            return  # someone else has cancelled the task too, and comes first
        if kind is None or issubclass(kind, asyncio.CancelledError):
            raise AlarmRang from exc

    def _set_timer(self) -> None:
        self.stop()
        self._timer = self._loop.call_at(self._due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._task is not None and self._loop.time() < self._due:
            self._set_timer()
        else:  # what came while the loop was blocked goes first
            self._loop.call_soon(self._expire, self._due)

    def _expire(self, due: float) -> None:
        if self._due == due:
            self._interrupt()

    def _interrupt(self) -> None:
        if self._task is not None and not self._fired:
            self._fired = True
            # A task that rings itself is not waiting: its block will end by itself.
            self._cancelled = self._task is not asyncio.current_task(self._loop)
            if self._cancelled:
                self._task.cancel(_BY_ALARM)


def is_asyncio() -> bool:
    """Whether the running event loop is one of asyncio, or stands in for it as uvloop's does."""
    return isinstance(current_token().native_token, asyncio.AbstractEventLoop)


def new_alarm() -> Alarm:
    """An alarm for the running event loop."""
    return _LoopAlarm(asyncio.get_running_loop()) if is_asyncio() else Alarm()


async def close_within(seconds: float, work: Awaitable[None]) -> bool:
    """Await `work` to its end even if this task is cancelled, natively or by a scope.

    Returns:
        False if it was given up because the seconds were over.
    """
    with CancelScope(shield=True, deadline=current_time() + seconds) as scope:
        await Guarded(work, cancels=0)
    return not scope.cancelled_caught


class Begun(Generic[T]):
    """What is left of something awaitable that has taken its first step and waits for a trap."""

    def __init__(self, steps: Generator[Any, Any, T], trap: Any) -> None:
        self._steps = steps
        self._trap = trap

    def __await__(self) -> Generator[Any, Any, T]:
        steps, trap = self._steps, self._trap
        try:
            while True:
                try:
                    argument = yield trap
                except BaseException as exc:  # noqa: BLE001 - handed on
                    trap = steps.throw(exc)
                else:
                    trap = steps.send(argument)
        except StopIteration as end:
            result: T = end.value
            return result


class Guarded(Generic[T]):
    """`work`, to be awaited so that `Task.cancel` reaches it at most so many times.

    A cancelled httpx closes its connection; a second cancellation interrupts that, and the
    connection is lost to the pool for good (https://github.com/encode/httpx/issues/3782). anyio's
    shield holds back only scopes, not `Task.cancel`; `asyncio.shield` needs another task, in which
    the scopes that httpcore has entered must not be left. So it is the futures awaited within that
    are shielded, one by one, in the task itself. What is held back comes when `work` has ended.

    Scopes and alarms that `work` has entered itself reach it however few may. asyncio.timeout() is
    not told from others: within `work` it is held back.

    Nor does a cancellation reach a mere checkpoint, where httpcore takes its locks with nothing to
    undo: it waits for the next wait.
    """

    _scope: CancelScope | None = None
    _held_back: asyncio.CancelledError | None = None

    def __init__(self, work: Awaitable[T], *, cancels: int = 1) -> None:
        """Prepare to await.

        Args:
            work: What to await.
            cancels: How many cancellations reach it; one that it answers itself counts for none.
        """
        self._work = work
        self._passing = _BY_SCOPE if cancels else (_BY_SCOPE, _BY_ALARM)
        self._most_cancels = cancels
        self._cancels = cancels
        self._level = 0  # how often the task was cancelled when one passed; 0 if all are answered

    def hold(self) -> None:
        """Let no cancellation through from here on; called by `work` itself, as is `release`."""
        if self._scope is None:
            self._scope = CancelScope(shield=True).__enter__()

    def release(self) -> None:
        """Let cancellations through again, and one that was held back at the next wait."""
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.__exit__(None, None, None)

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
            result: T = end.value
            return result
        except BaseException as exc:
            if self._held_back is None or isinstance(exc, GeneratorExit):
                raise
            raise self._held_back from exc  # which no scope would answer for
        finally:
            self.release()

    def _wait(self, trap: Any) -> Generator[Any, Any, Any]:
        """Hand a trap to the event loop until it is over or a cancellation may pass."""
        while True:
            if self._level and _cancelling() < self._level:  # answered by a scope or time limit
                self._cancels, self._level = self._most_cancels, 0
            may_pass = self._cancels > 0 and self._scope is None
            try:
                if not asyncio.isfuture(trap) or (may_pass and self._held_back is None):
                    return (yield trap)
                if may_pass:
                    trap.cancel()
                    held_back, self._held_back = self._held_back, None
                    raise held_back or asyncio.CancelledError
                if trap.done():
                    return None
                yield from _shielded(trap)
            except asyncio.CancelledError as exc:
                if str(exc).startswith(self._passing):
                    self._count()
                    if trap is not None:
                        trap.cancel()  # as the task would have done, were it not shielded
                    raise
                if may_pass and trap is not None:
                    self._count()
                    raise
                self._held_back = exc
                if trap is None:
                    return None

    def _count(self) -> None:
        self._cancels -= 1
        self._level = self._level or _cancelling()


def _cancelling() -> int:
    """How many cancellations of the running task nobody has answered yet."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def take(future: asyncio.Future[Any]) -> None:
    """Tell a future that an await yielded that it was taken, as Task does: they count on that."""
    setattr(future, "_asyncio_future_blocking", False)  # noqa: B010 - not private: see asyncio.isfuture


def _shielded(future: asyncio.Future[Any]) -> Generator[Any, Any, None]:
    """Wait for a future without being able to cancel it."""
    take(future)
    done = future.get_loop().create_future()

    def wake(_: object) -> None:
        if not done.done():
            done.set_result(None)

    future.add_done_callback(wake)
    try:
        yield from done
    finally:
        future.remove_done_callback(wake)


@contextmanager
def unseen_generators() -> Generator[None]:
    """Keep asyncio from closing, as it ends, the generators that begin in this block.

    They are still closed when nobody holds them any more.
    """
    seen_by, _ = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=None)
    try:
        yield
    finally:
        sys.set_asyncgen_hooks(firstiter=seen_by)


_running: set[asyncio.Task[None]] = set()  # an asyncio loop holds its tasks only weakly


def run_later(loop: object, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have an event loop run `work` in a task of its own, soon; nothing if the loop has ended.

    For what an object that was dropped leaves behind: callable from anywhere, also while garbage
    is collected.

    Args:
        loop: What `anyio.lowlevel.current_token().native_token` was.
        work: Must not raise: nobody is there to catch it.
    """
    if isinstance(loop, asyncio.AbstractEventLoop):

        def start() -> None:
            task = loop.create_task(work())
            _running.add(task)
            task.add_done_callback(_running.discard)

        with suppress(RuntimeError):  # the loop is closed, and its sockets with it
            loop.call_soon_threadsafe(start)
    else:
        import trio  # noqa: PLC0415 - optional: whoever has a token of trio's has it

        if isinstance(loop, trio.lowlevel.TrioToken):
            with suppress(trio.RunFinishedError):
                loop.run_sync_soon(trio.lowlevel.spawn_system_task, work)
