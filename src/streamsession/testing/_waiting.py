"""Waiting for a change that another thread makes: in a thread, on asyncio or on trio.

Nothing here knows HTTP. Every waiter owns the sockets that wake it, so nothing needs closing.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Generator
from typing import Final

import anyio
import anyio.lowlevel

__all__ = ["PATIENCE", "Condition", "Gate"]

PATIENCE: Final = 5.0  # seconds; far above what a loopback needs, far below a test's own time-out
_EVERY_RING: Final = 4096  # bytes read at once from a listener; each ring is one byte


class Condition:
    """A condition variable that any thread may notify, and threads and event loops may wait on.

    The state it stands for lives elsewhere: change that first, then notify.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bells: set[socket.socket] = set()

    def notify_all(self) -> None:
        """Wake all waiters, to look at the state again; never blocks."""
        with self._lock:
            for bell in self._bells:
                with contextlib.suppress(BlockingIOError):  # full: it will be readable anyway
                    bell.send(b"\0")

    @contextlib.contextmanager
    def listener(self) -> Generator[socket.socket]:
        """Lend a non-blocking socket that turns readable at every notification from now on."""
        listener, bell = socket.socketpair()
        with listener, bell:
            listener.settimeout(0)
            bell.settimeout(0)
            with self._lock:
                self._bells.add(bell)
            try:
                yield listener
            finally:
                with self._lock:
                    self._bells.discard(bell)

    def wait_for(
        self, predicate: Callable[[], bool], *, timeout: float, report: Callable[[], str]
    ) -> None:
        """Block this thread until the predicate holds.

        Args:
            predicate: Looks at the state; called after every notification.
            timeout: Seconds to wait at most.
            report: Says how things stand, for the error.

        Raises:
            TimeoutError: The predicate did not hold in time.
        """
        deadline = time.monotonic() + timeout
        with self.listener() as listener:
            while not predicate():
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError(f"waited {timeout} s in vain: {report()}")
                listener.settimeout(remaining)
                with contextlib.suppress(TimeoutError):
                    listener.recv(_EVERY_RING)

    async def wait_for_async(
        self,
        predicate: Callable[[], bool],
        *,
        timeout: float,
        report: Callable[[], str],
    ) -> None:
        """Like `wait_for`, in a task; uses no thread, and cancelling leaves nothing behind."""
        await anyio.lowlevel.checkpoint()
        with self.listener() as listener, anyio.move_on_after(timeout):
            while not predicate():
                await anyio.wait_readable(listener)
                listener.recv(_EVERY_RING)
            return
        raise TimeoutError(f"waited {timeout} s in vain: {report()}")


class Gate:
    """A place in a script where playing stops until the test opens it.

    With it a test needs no sleep: it waits until the script has come this far, does what is to be
    tested, and opens. A gate may stand in several responses; once open it stays open.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals = 0
        self._arrived = Condition()
        self._is_open = False
        self._opened = Condition()

    @property
    def is_open(self) -> bool:
        """Whether playing passes without stopping."""
        return self._is_open

    def open(self) -> None:
        """Let every script pass, now and later; from any thread, any number of times."""
        self._is_open = True
        self._opened.notify_all()

    async def reached(
        self,
        *,
        times: int = 1,
        timeout: float = PATIENCE,
    ) -> None:
        """Wait until scripts have come to this gate, open or not; cancelling leaves no trace.

        Args:
            times: How many arrivals to wait for, counted from the making of the gate.
            timeout: Seconds to wait at most.

        Raises:
            TimeoutError: Fewer arrived in time.
        """
        await self._arrived.wait_for_async(
            lambda: self._arrivals >= times, timeout=timeout, report=lambda: self._report(times)
        )

    def wait_reached(self, *, times: int = 1, timeout: float = PATIENCE) -> None:
        """Like `reached`, blocking this thread: for tests without an event loop."""
        self._arrived.wait_for(
            lambda: self._arrivals >= times, timeout=timeout, report=lambda: self._report(times)
        )

    @contextlib.contextmanager
    def arrive(self) -> Generator[socket.socket]:
        """Count an arrival and lend a socket that turns readable when the gate opens.

        For those who play scripts. Look at `is_open` first: an open gate does not ring again.
        """
        with self._opened.listener() as listener:
            with self._lock:
                self._arrivals += 1
            self._arrived.notify_all()
            yield listener

    def _report(self, times: int) -> str:
        return (
            f"the gate was reached {self._arrivals} times, expected {times}; "
            "was the request sent, and does its response hold this gate?"
        )
