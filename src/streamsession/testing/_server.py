"""A loopback HTTP server that plays scripts, in threads of its own.

Not on the tested event loop: so it is the same for asyncio, trio and synchronous code, and keeps
playing while the tested loop is blocked or cancelled.
"""

import socket
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import anyio
import anyio.to_thread

from ._acceptor import Acceptor
from ._connection import Connection, ConnectionRecord
from ._script import Answer, RecordedRequest, ScriptedResponse
from ._waiting import PATIENCE, Condition

__all__ = ["ScriptedServer"]

_MAX_RECORDS: Final = 10_000
_REPORTED: Final = 20  # connections in an error message, the last ones: about a screen


class ScriptedServer:
    """An HTTP/1.1 server on 127.0.0.1 that answers each request with the next scripted response.

    Enter it with `with` or `async with`; leaving closes every connection and ends every thread,
    also when cancelled, within 5 s. An answer that is a function runs in the connection's thread;
    if it raises, the client gets a 500 that says so, and leaving raises it. A request for which no
    answer is left gets a 500 too.

    Requests may have a head of 64 KiB and a body of 16 MiB; worse ones get a 400.

    Args:
        answers: The first answers; `play` adds more.
        repeat: Give the last answer again and again instead of running out of answers.
        max_connections: Open at the same time; further ones are closed at once.
    """

    def __init__(self, *answers: Answer, repeat: bool = False, max_connections: int = 256) -> None:
        self._repeat = repeat
        self._max_connections = max_connections
        self._lifecycle = threading.Lock()
        self._acceptor: Acceptor | None = None
        self._is_stopped = False
        self._state = threading.Lock()  # guards everything below
        self._changed = Condition()
        self._answers: deque[Answer] = deque()
        self._requests: list[RecordedRequest] = []
        self._connections: list[Connection] = []
        self._open: list[Connection] = []
        self._accepted = 0
        self._refused = 0
        self._failures: list[Exception] = []
        self.play(*answers)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._raise_failures(unless=exc)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):  # its own limiter: all shared threads may be taken
            await anyio.to_thread.run_sync(self.stop, limiter=anyio.CapacityLimiter(1))
        self._raise_failures(unless=exc)

    def start(self) -> None:
        """Listen on a free port; does nothing if it already does.

        Raises:
            RuntimeError: The server was stopped.
        """
        with self._lifecycle:
            if self._is_stopped:
                raise RuntimeError("this server was stopped: make a new one")
            if self._acceptor is None:
                self._acceptor = Acceptor(self._admit)

    def stop(self) -> None:
        """Close all connections and end all threads; does nothing if that is done.

        Raises:
            RuntimeError: An answering function did not return within 5 s.
        """
        with self._lifecycle:
            self._is_stopped = True
            if self._acceptor is not None:
                self._acceptor.close()

    @property
    def url(self) -> str:
        """Where it listens, such as "http://127.0.0.1:43210"; after stopping, where it did.

        Raises:
            RuntimeError: The server was not started.
        """
        if self._acceptor is None:
            raise RuntimeError("this server was not started: enter it with `with` or `async with`")
        return f"http://127.0.0.1:{self._acceptor.port}"

    def play(self, *answers: Answer) -> None:
        """Add answers for the requests to come, each for one request, in order of arrival.

        Args:
            answers: Responses, or functions that are called with the request and return one.

        Raises:
            TypeError: An answer is neither.
        """
        for answer in answers:
            if not (isinstance(answer, ScriptedResponse) or callable(answer)):
                raise TypeError(f"{answer!r} is no answer: expected a ScriptedResponse or function")
        with self._state:
            self._answers.extend(answers)

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far, in order of arrival; the first 10,000 of them."""
        with self._state:
            return list(self._requests)

    @property
    def connections(self) -> list[ConnectionRecord]:
        """How the connections stand now, in order of acceptance; the first 10,000 of them."""
        with self._state:
            return [connection.record for connection in self._connections]

    @property
    def refused(self) -> int:
        """How many connections were closed at once because too many were open."""
        return self._refused

    async def until_idle(self, *, timeout: float = PATIENCE) -> None:
        """Wait until no connection is in the middle of a response; cancelling leaves no trace.

        A request still on its way does not count: first read something of its response.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            TimeoutError: One still is; the message lists the connections.
        """
        await self._changed.wait_for_async(
            self._is_idle,
            timeout=timeout,
            report=self._report,
        )

    def wait_idle(self, *, timeout: float = PATIENCE) -> None:
        """Like `until_idle`, blocking this thread: for tests without an event loop."""
        self._changed.wait_for(
            self._is_idle,
            timeout=timeout,
            report=self._report,
        )

    async def until_closed(
        self,
        connection: int = 0,
        *,
        timeout: float = PATIENCE,
    ) -> ConnectionRecord:
        """Wait until a connection was made and ended; the record that comes back says by whom.

        Args:
            connection: Its index, counted from 0.
            timeout: Seconds to wait at most; cancelling leaves no trace.

        Raises:
            TimeoutError: It is still open, or was never made; the message lists the connections.
        """
        await self._changed.wait_for_async(
            lambda: self._is_closed(connection),
            timeout=timeout,
            report=self._report,
        )
        return self.connections[connection]

    def wait_closed(self, connection: int = 0, *, timeout: float = PATIENCE) -> ConnectionRecord:
        """Like `until_closed`, blocking this thread: for tests without an event loop."""
        self._changed.wait_for(
            lambda: self._is_closed(connection),
            timeout=timeout,
            report=self._report,
        )
        return self.connections[connection]

    def _is_idle(self) -> bool:
        return all(connection.state != "responding" for connection in self.connections)

    def _is_closed(self, index: int) -> bool:
        connections = self.connections
        return index < len(connections) and not connections[index].is_open

    def _report(self) -> str:
        connections = self.connections
        lines = [f"  {c.index}: {c.state}, {c.requests} requests" for c in connections[-_REPORTED:]]
        return "\n".join([f"{len(connections)} connections were made, of them", *lines])

    def _admit(self, client: socket.socket, stop: socket.socket) -> Callable[[], None] | None:
        with self._state:
            self._open = [connection for connection in self._open if connection.record.is_open]
            if len(self._open) >= self._max_connections:
                self._refused += 1
                return None
            connection = Connection(
                self._accepted, client, stop=stop, answer=self._answer, changed=self._changed
            )
            self._accepted += 1
            self._open.append(connection)
            if len(self._connections) < _MAX_RECORDS:
                self._connections.append(connection)
            return connection.run

    def _answer(self, request: RecordedRequest) -> ScriptedResponse:
        with self._state:
            if len(self._requests) < _MAX_RECORDS:
                self._requests.append(request)
            answer = self._next_answer(request)
        if isinstance(answer, ScriptedResponse):
            return answer
        try:
            return _checked(answer(request))
        except Exception as exc:  # noqa: BLE001  # raised again where the test can see it
            with self._state:
                self._failures.append(exc)
            return _server_error(f"the function that answers {_title(request)} raised {exc!r}")

    def _next_answer(self, request: RecordedRequest) -> Answer:
        if not self._answers:
            return _server_error(f"no answer is left for {_title(request)}: add one with play()")
        if self._repeat and len(self._answers) == 1:
            return self._answers[0]
        return self._answers.popleft()

    def _raise_failures(self, *, unless: BaseException | None) -> None:
        if self._failures and unless is None:
            raise ExceptionGroup("functions that answer requests raised", self._failures)


def _checked(response: object) -> ScriptedResponse:
    if not isinstance(response, ScriptedResponse):
        raise TypeError(f"an answering function returned {response!r}, expected a ScriptedResponse")
    return response


def _title(request: RecordedRequest) -> str:
    return f"{request.method} {request.path}"


def _server_error(text: str) -> ScriptedResponse:
    return ScriptedResponse(
        [f"Scripted server: {text}.".encode()],
        500,
        content_type="text/plain; charset=utf-8",
        framing="length",
    )
