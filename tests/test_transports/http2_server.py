"""An HTTP/2 server over TLS on 127.0.0.1, in a thread of its own.

Its streams are answered by coroutines on that thread's event loop: so it is the same for asyncio
and trio, and goes on while the tested loop is blocked or cancelled.
"""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from h2.settings import SettingCodes, Settings

from streamsession.testing._waiting import PATIENCE, Condition

Answer: TypeAlias = Callable[["Http2Stream"], Awaitable[None]]

SSE: Final = {"content-type": "text/event-stream"}
_READ: Final = 64 * 1024  # bytes
_FRAME: Final = 16 * 1024


class Http2Stream:
    """One request, and what is done about it."""

    def __init__(
        self, connection: "Http2Connection", stream_id: int, headers: list[tuple[str, str]]
    ) -> None:
        self.connection = connection
        self.id = stream_id
        self.headers = dict(headers)
        self.names = [name for name, _ in headers]
        self.body = b""
        self.is_whole = asyncio.Event()
        """Set when the request has ended."""
        self.sent = 0
        """How many bytes of the response the client had room for."""
        self.task: asyncio.Task[None] | None = None

    @property
    def path(self) -> str:
        return self.headers[":path"]

    async def respond(self, status: int = 200, headers: dict[str, str] = SSE) -> None:
        self.connection.h2.send_headers(self.id, [(":status", str(status)), *headers.items()])
        await self.connection.flush()

    async def send(self, data: bytes) -> None:
        """Send data as the client has room for it."""
        http, left = self.connection.h2, memoryview(data)
        while left:
            size = min(len(left), http.local_flow_control_window(self.id), _FRAME)
            if size:
                http.send_data(self.id, left[:size].tobytes())
                await self.connection.flush()
                left = left[size:]
                self.sent += size
            else:
                await self.connection.until_changed()

    async def end(self) -> None:
        self.connection.h2.end_stream(self.id)
        await self.connection.flush()

    async def reset(self, code: int) -> None:
        self.connection.h2.reset_stream(self.id, code)
        await self.connection.flush()

    async def play(self, *pieces: bytes) -> None:
        """Answer with a whole body."""
        await self.respond()
        for piece in pieces:
            await self.send(piece)
        await self.end()


class Http2Connection:
    """One client, until either side ends it."""

    def __init__(
        self, server: "Http2Server", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.writer = writer
        self.streams: dict[int, Http2Stream] = {}
        """Those that are being answered."""
        self.resets: list[int] = []
        """Those that the client has reset."""
        self.opened = 0
        self.most_open = 0
        self.is_open = True
        self.heard: list[h2.events.Event] = []
        """What else came."""
        self.error: Exception | None = None
        self.task: asyncio.Task[None] | None = None
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._reader = reader
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Serve until either side hangs up."""
        try:
            with suppress(ConnectionError, ssl.SSLError):
                await self._serve()
        finally:
            self.is_open = False
            for stream_id in list(self.streams):
                self._drop(stream_id)
            self.writer.transport.abort()
            self._note()

    async def flush(self) -> None:
        if data := self.h2.data_to_send():
            self.writer.write(data)
        await self.writer.drain()

    async def until_changed(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _serve(self) -> None:
        self.h2.local_settings = Settings(client=False, initial_values=self.server.settings)
        self.h2.initiate_connection()
        await self.flush()
        while data := await self._reader.read(_READ):
            try:
                events = self.h2.receive_data(data)
            except h2.exceptions.ProtocolError as exc:
                self.error = exc
                return
            for event in events:
                self._take(event)
            await self.flush()
            self._note()

    def _note(self) -> None:
        self._changed.set()
        self.server.changed.notify_all()

    def _take(self, event: h2.events.Event) -> None:
        stream = self.streams.get(getattr(event, "stream_id", None) or 0)
        match event:
            case h2.events.RequestReceived(stream_id=int(stream_id), headers=list(headers)):
                self._open(stream_id, [(_text(name), _text(value)) for name, value in headers])
            case h2.events.DataReceived(stream_id=int(stream_id), data=bytes(data)):
                if stream is not None:
                    stream.body += data
                if self.server.takes_bodies:
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, stream_id)
            case h2.events.StreamEnded():
                if stream is not None:
                    stream.is_whole.set()
            case h2.events.StreamReset(stream_id=int(stream_id)):
                self.resets.append(stream_id)
                self._drop(stream_id)
            case _:
                self.heard.append(event)

    def _open(self, stream_id: int, headers: list[tuple[str, str]]) -> None:
        self.streams[stream_id] = stream = Http2Stream(self, stream_id, headers)
        self.opened += 1
        self.most_open = max(self.most_open, len(self.streams))
        stream.task = asyncio.ensure_future(self._answer(stream))

    async def _answer(self, stream: Http2Stream) -> None:
        try:
            await self.server.answer(stream)
        except (ConnectionError, h2.exceptions.ProtocolError):
            pass  # the client is gone
        finally:
            self.streams.pop(stream.id, None)
            self._note()

    def _drop(self, stream_id: int) -> None:
        stream = self.streams.pop(stream_id, None)
        if stream is not None and stream.task is not None:
            stream.task.cancel()


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


class Http2Server:
    """Answers each request with a coroutine; `with` starts and ends it.

    Args:
        answer: Called with each request as it begins.
        tls: With the certificate that is shown.
        max_streams: How many it allows on a connection at once.
        takes_bodies: Whether it makes room for more of a request's body.
    """

    def __init__(
        self,
        answer: Answer,
        tls: ssl.SSLContext,
        *,
        max_streams: int = 100,
        takes_bodies: bool = True,
    ) -> None:
        self.answer = answer
        self.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: max_streams}
        self.takes_bodies = takes_bodies
        self.connections: list[Http2Connection] = []
        """All of them, in order of acceptance."""
        self.changed = Condition()
        tls.set_alpn_protocols(["h2"])
        self._tls = tls
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._is_up = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        self._thread.start()
        assert self._is_up.wait(PATIENCE)

    def stop(self) -> None:
        """Close all connections and end the thread; does nothing if that is done."""
        if self._thread.is_alive():
            self.do(self._stop.set)
            self._thread.join(PATIENCE)
            assert not self._thread.is_alive()

    def do(self, function: Callable[[], object]) -> None:
        """Have its event loop call something."""
        self._loop.call_soon_threadsafe(function)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Have its event loop run something."""
        asyncio.run_coroutine_threadsafe(work, self._loop)

    def send_raw(self, data: bytes) -> None:
        """Have the last connection say something that h2 would not."""
        self.do(lambda: self.connections[-1].writer.write(data))

    async def until_done(self) -> None:
        """Wait until it has done all that it was told before."""
        done = asyncio.Event()

        def finish() -> None:
            done.set()
            self.changed.notify_all()

        self.do(finish)
        await self.until(done.is_set)

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait until something is true of its connections."""
        await self.changed.wait_for_async(predicate, timeout=PATIENCE, report=self._report)

    async def until_answering(self, number: int) -> None:
        """Wait until so many streams are being answered on the last connection."""
        await self.until(
            lambda: bool(self.connections) and len(self.connections[-1].streams) == number
        )

    def _report(self) -> str:
        each = [
            f"{'open' if c.is_open else 'closed'}, {c.opened} streams, {len(c.streams)} of them "
            f"open, resets {c.resets}, {c.error!r}"
            for c in self.connections
        ]
        return "\n".join(each) or "no connection was made"

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        def admit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = Http2Connection(self, reader, writer)
            self.connections.append(connection)
            connection.task = asyncio.ensure_future(connection.run())

        server = await asyncio.start_server(admit, "127.0.0.1", 0, ssl=self._tls, backlog=1000)
        self._port = server.sockets[0].getsockname()[1]
        self._is_up.set()
        await self._stop.wait()
        # What is accepted but not yet begun with when a server closes, asyncio never closes.
        self._loop.remove_reader(server.sockets[0])
        await _turns(3)
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in self.connections:
            connection.writer.transport.abort()
        await _turns(3)  # each layer closes a turn after it was told so


async def _turns(number: int) -> None:
    """Let the event loop turn so many times."""
    for _ in range(number):
        await asyncio.sleep(0)
