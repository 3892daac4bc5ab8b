"""A loopback listener that runs each connection in a thread, and ends all of them.

Nothing here knows HTTP or scripts.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Final, TypeAlias

__all__ = ["Acceptor", "Admit"]

_JOIN_SECONDS: Final = 5.0  # for all threads together; they end at once unless test code blocks one

Admit: TypeAlias = Callable[[socket.socket, socket.socket], Callable[[], None] | None]


class Acceptor:
    """Listens on a free port of 127.0.0.1 from its making until it is closed.

    Args:
        admit: Called in order of acceptance with a client's socket and the stop socket; what it
            returns runs in a new thread, owns the client's socket, and ends when the stop socket
            turns readable. None turns the client away.
    """

    def __init__(self, admit: Admit) -> None:
        self._admit = admit
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=socket.SOMAXCONN)
        self._listener.settimeout(0)
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # clients inherit it
        self.port: Final[int] = self._listener.getsockname()[1]
        self._stop, self._stopper = socket.socketpair()
        self._connections: list[threading.Thread] = []
        self._accepting = self._thread(self._accept)
        self._accepting.start()

    def close(self) -> None:
        """Stop listening, tell every thread to end, and wait for them, for at most 5 s.

        Does nothing if that is done.

        Raises:
            RuntimeError: A thread does not end, or the caller is one of them.
        """
        if threading.current_thread() in self._connections:
            raise RuntimeError("a function that answers requests cannot stop its own server")
        self._stopper.close()  # so the other end turns readable, for all threads at once
        deadline = time.monotonic() + _JOIN_SECONDS
        self._accepting.join(_JOIN_SECONDS)  # first: it starts the others
        for thread in self._connections:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in (self._accepting, *self._connections)):
            raise RuntimeError(
                f"a connection's thread did not end within {_JOIN_SECONDS} s: "
                "has a function that answers requests not returned?"
            )
        self._stop.close()

    def _accept(self) -> None:
        with self._listener, selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._stop, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._stop in ready:
                    return
                with contextlib.suppress(BlockingIOError, ConnectionAbortedError):  # already gone
                    self._serve(self._listener.accept()[0])

    def _serve(self, client: socket.socket) -> None:
        run = self._admit(client, self._stop)
        if run is None:
            client.close()
            return
        thread = self._thread(run)
        self._connections = [t for t in self._connections if t.is_alive()] + [thread]
        thread.start()  # when it is listed: `close` asks whether it is called by one of them

    def _thread(self, run: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=run, name=f"ScriptedServer:{self.port}", daemon=True)
