"""The client's end of a connection, as a thread sees it that must notice everything at once.

Whatever a method waits for, it also notices that the client goes away and that the server stops.
Nothing here knows HTTP, except that a request may be too long.
"""

import os
import selectors
import socket
import struct
import time
from types import TracebackType
from typing import Final, Literal, NoReturn, Self, TypeAlias

from ._waiting import Gate
from ._wire import BadRequest

__all__ = ["End", "Ended", "Peer"]

_READ_BYTES: Final = 64 * 1024
_MAX_UNREAD_BYTES: Final = 32 * 1024 * 1024  # twice the largest request: no client gets there
_LINGER_SECONDS: Final = 1.0
_RESET_ON_CLOSE: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # linger for 0 s

End: TypeAlias = Literal["client closed", "server hung up", "server reset", "server stopped"]


class Ended(Exception):
    """The connection is over; `end` says by whom."""

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end: Final = end


class Peer:
    """A socket for one thread; entering takes it over, leaving closes it.

    Every method raises `Ended` when the client goes away or the `stop` socket turns readable.
    """

    def __init__(self, client: socket.socket, *, stop: socket.socket) -> None:
        self._socket = client
        self._stop = stop
        self._selector = selectors.DefaultSelector()
        self._unread = bytearray()

    def __enter__(self) -> Self:
        self._socket.settimeout(0)
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._selector.register(self._stop, selectors.EVENT_READ)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._selector.close()
        self._socket.close()

    def read_until(self, end: bytes, *, limit: int) -> bytes:
        """Read up to an end mark, which is taken and left out.

        Raises:
            BadRequest: More than `limit` bytes came before it.
        """
        most = limit + len(end)
        while (size := self._unread.find(end, 0, most)) < 0:
            if len(self._unread) >= most:
                raise BadRequest(f"more than {limit} bytes came without {end!r}")
            self._watch()
        taken = self.read(size)
        del self._unread[: len(end)]
        return taken

    def read(self, size: int) -> bytes:
        """Read exactly so many bytes."""
        while len(self._unread) < size:
            self._watch()
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        return taken

    def send(self, data: bytes) -> None:
        """Send all of it, in one go if the client has room, else as fast as it reads."""
        self._watch(0)
        unsent = memoryview(data)
        while unsent:
            try:
                unsent = unsent[self._socket.send(unsent) :]
            except BlockingIOError:
                self._watch_for_room()
            except ConnectionError as exc:
                raise Ended("client closed") from exc

    def pause(self, seconds: float) -> None:
        """Do nothing for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._watch(left)

    def wait_at(self, gate: Gate) -> None:
        """Arrive at a gate and wait until it is open."""
        with gate.arrive() as bell:
            self._selector.register(bell, selectors.EVENT_READ)
            try:
                while not gate.is_open:
                    self._watch()
            finally:
                self._selector.unregister(bell)

    def hold(self) -> NoReturn:
        """Wait for the end."""
        while True:
            self._watch()

    def linger(self) -> None:
        """Say that nothing more will be sent, and let the client read what was.

        A socket closed with bytes unread is reset, and the client may lose the answer that told
        it why; RFC 9112, section 9.6. Reads and drops for at most a second.
        """
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as exc:
            raise Ended("client closed") from exc
        deadline = time.monotonic() + _LINGER_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            self._watch(left)
            self._unread.clear()

    def reset(self) -> NoReturn:
        """Make closing a reset, and end."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        raise Ended("server reset")

    def _watch(self, timeout: float | None = None) -> None:
        """Wait until anything happens, and take in what the client sent."""
        ready = {key.fileobj for key, _ in self._selector.select(timeout)}
        if self._stop in ready:
            raise Ended("server stopped")
        if self._socket in ready:
            self._receive()

    def _watch_for_room(self) -> None:
        self._selector.modify(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
        self._watch()
        self._selector.modify(self._socket, selectors.EVENT_READ)

    def _receive(self) -> None:
        try:
            received = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            received = b""
        if not received:
            raise Ended("client closed")
        self._unread += received
        if len(self._unread) > _MAX_UNREAD_BYTES:
            raise Ended("server hung up")
