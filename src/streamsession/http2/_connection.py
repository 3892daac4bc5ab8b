"""One connection to one server, and the streams on it.

It has no task of its own: of the tasks that wait for something to arrive, one reads for all. So
nothing outlives a task that was cancelled, and nothing is read while nobody waits.
"""

import logging
import re
import selectors
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import httpx
from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    Event,
    aclose_forcefully,
    move_on_after,
)
from anyio.abc import ByteStream, SocketAttribute
from h2.connection import ConnectionInputs
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings

from ._outbox import Outbox

__all__ = ["GONE", "Connection", "Headers", "Stream", "Unseen"]

Headers: TypeAlias = list[tuple[bytes, bytes]]

_READ: Final = 64 * 1024  # bytes at a time, as many as httpcore reads
_WINDOW: Final = 1024 * 1024  # bytes that may wait on a stream which nobody reads
_MAX_WINDOW: Final = 2**31 - 1  # of a connection, so that such streams do not stop the others
_FIRST_WINDOW: Final = 2**16 - 1  # https://www.rfc-editor.org/rfc/rfc9113#section-6.9.2
_LAST_STREAM: Final = 2**31 - 1  # https://www.rfc-editor.org/rfc/rfc9113#section-5.1.1
_MOST_SAID: Final = 200  # bytes that are shown of what a server says in its farewell
_FRAME: Final = 16 * 1024  # bytes of a body, which every server takes at once
_STATUS: Final = re.compile(rb"[2-9][0-9][0-9]")  # what begins with 1 is not the response yet
_MOST_BEGUN: Final = 100  # streams that a server begins itself, before it is hung up on
_CATCH_UP_SECONDS: Final = 1.0  # for what came to be whole
GONE: Final = (BrokenResourceError, ClosedResourceError, EndOfStream, OSError)  # OSError: TLS too


for _name in ("hpack.hpack", "hpack.table"):  # which log whole headers, credentials among them
    logging.getLogger(_name).addFilter(lambda record: record.levelno > logging.DEBUG)


class _States(h2.connection.H2ConnectionStateMachine):
    def process_input(self, input_: ConnectionInputs) -> list[h2.events.Event]:
        return [] if input_ is ConnectionInputs.RECV_GOAWAY else super().process_input(input_)


class _HTTP(h2.connection.H2Connection):
    """What h2 makes of it, except that a farewell (GOAWAY) is not the end.

    The server still answers the streams up to the last one that it names there
    (https://www.rfc-editor.org/rfc/rfc9113#section-6.8).
    """

    def __init__(self) -> None:
        config = h2.config.H2Configuration(validate_inbound_headers=False)  # as httpcore has it
        super().__init__(config)
        self.state_machine = _States()

    def clear_outbound_data_buffer(self) -> None:
        """Keep what is to be sent, which h2 would throw away at a farewell."""


class Unseen(httpx.RemoteProtocolError):
    """The server left before it saw the request, which may so be sent again elsewhere."""


class Stream:
    """One request and its answer; made by `Connection.open`, and to be closed.

    Attributes:
        id: Its number on the connection.
        status: Of the response; 0 before its head has come.
        headers: Of the response.
    """

    def __init__(self, connection: "Connection", stream_id: int) -> None:
        self.id: Final = stream_id
        self.status = 0
        self.headers: Headers = []
        self._connection = connection
        self._data = bytearray()  # of the body, yet to be read
        self._owed = 0  # bytes that were read, of which the server does not know yet
        self._is_sent = False
        self._has_ended = False
        self._error: httpx.TransportError | None = None

    @property
    def _is_over(self) -> bool:
        return self._has_ended or self._error is not None

    async def send(self, body: AsyncIterable[bytes] | None) -> None:
        """Send the request; leaves off when the server has answered without reading all of it."""
        connection = self._connection
        await connection.flush(waits=True)
        if body is not None:
            await self._send_body(body)
            if self._is_over:
                return
            connection.http.end_stream(self.id)
            await connection.flush(waits=True)
        self._is_sent = True

    async def _send_body(self, body: AsyncIterable[bytes]) -> None:
        pieces = aiter(body)
        try:
            async for piece in pieces:
                await self._send_piece(memoryview(piece))
                if self._is_over:
                    break
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    async def _send_piece(self, piece: memoryview) -> None:
        connection = self._connection
        while piece:
            await connection.until(self, lambda: self._is_over or connection.room_for(self.id) > 0)
            if self._is_over:
                return
            room = connection.room_for(self.id)
            connection.http.send_data(self.id, piece[:room].tobytes())
            piece = piece[room:]
            await connection.flush(waits=True)

    async def receive_head(self) -> None:
        """Wait for `status` and `headers`."""
        await self._connection.until(self, lambda: self.status > 0 or self._is_over)
        if not self.status:
            raise self._error or httpx.RemoteProtocolError("the stream ended without a response")

    async def receive(self) -> bytes:
        """What has come of the body, at least one byte; b"" at its end."""
        if self._owed >= _READ:
            size, self._owed = self._owed, 0
            self._connection.http.acknowledge_received_data(size, self.id)
            await self._connection.flush()
        if not self._data:
            await self._connection.until(self, lambda: bool(self._data) or self._is_over)
        if self._data:
            data = bytes(self._data[:_READ])
            del self._data[:_READ]
            self._owed += len(data)
            return data
        if self._error is not None:
            raise self._error
        return b""

    async def aclose(self) -> None:
        """Tell the server that nobody reads on, unless all was read; the connection stays."""
        is_whole = self._is_sent and self._has_ended
        unread = self._owed + len(self._data)
        self.fail(httpx.ReadError("the stream was closed"))
        await self._connection.close_stream(self, unread=unread, is_whole=is_whole)

    def take(self, event: h2.events.Event) -> None:
        """Take what has come for this stream."""
        match event:
            case h2.events.DataReceived(data=bytes(data), flow_controlled_length=int(size)):
                self._data += data
                if padding := size - len(data):
                    self._connection.http.acknowledge_received_data(padding, self.id)
            case h2.events.ResponseReceived(headers=list(headers)):
                self._take_head([(bytes(name), bytes(value)) for name, value in headers])
            case h2.events.StreamEnded():
                self._has_ended = True
            case h2.events.StreamReset(error_code=code):
                why = f"the server reset the stream: {_named(code)}"
                self.fail(httpx.RemoteProtocolError(why))
            case _:
                pass

    def _take_head(self, headers: Headers) -> None:
        status = dict(headers).get(b":status", b"")
        if _STATUS.fullmatch(status):
            self.status = int(status)
            self.headers = [each for each in headers if not each[0].startswith(b":")]
        else:
            self.fail(httpx.RemoteProtocolError("the response has no status"))

    def fail(self, error: httpx.TransportError) -> None:
        """End it, unless it has ended; what has come can still be read."""
        if not self._has_ended:
            self._error = self._error or error


class Connection:
    """One connection, once it is `start`ed.

    Attributes:
        http: The state of the protocol.
        idle_since: When its last stream ended, by `time.monotonic`.
    """

    def __init__(self, socket: ByteStream) -> None:
        self.http = _HTTP()
        self.idle_since = time.monotonic()
        self._socket = socket
        self._streams: dict[int, Stream] = {}
        self._reader: Stream | None = None
        self._waiting: dict[Stream, Event] = {}  # while another one reads
        self._outbox = Outbox(socket)
        self._is_settled = False
        self._is_leaving = False
        self._broken: Callable[[], httpx.TransportError] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether it has streams."""
        return bool(self._streams)

    @property
    def has_room(self) -> bool:
        """Whether `open` may be called."""
        is_open = self._is_settled and not self._is_leaving and self._broken is None
        is_left = self.http.highest_outbound_stream_id < _LAST_STREAM
        most = self.http.remote_settings.max_concurrent_streams
        return is_open and is_left and len(self._streams) < most

    async def start(self) -> None:
        """Exchange settings with the server."""
        self.http.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.MAX_CONCURRENT_STREAMS: _MOST_BEGUN,
                SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: self.http.DEFAULT_MAX_HEADER_LIST_SIZE,
            },
        )
        # Some servers hang up when they read of what they do not know.
        del self.http.local_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL]
        self.http.initiate_connection()
        self.http.increment_flow_control_window(_MAX_WINDOW - _FIRST_WINDOW)
        await self.flush()
        while not self._is_settled and self._broken is None:
            await self.read()
        if not self.has_room:
            self._break(httpx.RemoteProtocolError, "the server takes no streams")
        if self._broken is not None:
            raise self._broken()

    def open(self, headers: Headers, *, ends: bool) -> Stream:
        """A stream, whose head is not sent yet.

        Args:
            headers: With those of HTTP/2 itself, first.
            ends: Whether there is no body.
        """
        stream = Stream(self, self.http.get_next_available_stream_id())
        try:
            self.http.send_headers(stream.id, headers, end_stream=ends)
        except h2.exceptions.ProtocolError as exc:
            self._is_leaving = True  # the next ones would be compressed by what was never sent
            raise httpx.LocalProtocolError("HTTP/2 has no such header") from exc
        self._streams[stream.id] = stream
        return stream

    def room_for(self, stream_id: int) -> int:
        """How many bytes the server takes now; none, or less, if that is to be waited for."""
        return min(self.http.local_flow_control_window(stream_id), _FRAME)

    async def close_stream(self, stream: Stream, *, unread: int, is_whole: bool) -> None:
        """Forget a stream, and let the server do so."""
        if self._streams.pop(stream.id, None) is None:
            return
        self._wake(stream)
        self.idle_since = time.monotonic()
        if self._broken is None:
            with suppress(h2.exceptions.ProtocolError):  # the server has closed it already
                self.http.acknowledge_received_data(unread, stream.id)
                if not is_whole:
                    self.http.reset_stream(stream.id, ErrorCodes.CANCEL)
            await self.flush()
        if not self._streams and not self.has_room:
            await aclose_forcefully(self._socket)

    async def aclose(self) -> None:
        """Say farewell and close the socket."""
        try:
            if self._broken is None:
                self._break(httpx.ReadError, "the connection was closed")
                self.http.close_connection()
                await self.flush()
        finally:
            await aclose_forcefully(self._socket)

    # Receiving

    async def until(self, stream: Stream, is_ready: Callable[[], bool]) -> None:
        """Wait for something to come for a stream; read for all the others if nobody does."""
        try:
            while not is_ready():
                if self._reader is None or self._reader is stream:
                    self._reader = stream
                    await self.read()
                else:
                    self._waiting[stream] = news = Event()
                    await news.wait()
        finally:
            self._waiting.pop(stream, None)
            if self._reader is stream:
                self._reader = None
            if self._reader is None and self._waiting:
                self._wake(next(iter(self._waiting)))

    async def catch_up(self) -> bool:
        """Whether it still takes streams, once what came while it was idle is read."""
        socket = self._socket.extra(SocketAttribute.raw_socket)  # noqa: S610 - not Django's
        with move_on_after(_CATCH_UP_SECONDS) as scope:
            while self.has_room and self._reader is None and _is_readable(socket):
                await self.read()
        return self.has_room and not scope.cancelled_caught

    async def read(self) -> None:
        """Read once, and hand everything to its stream; whoever calls it is the only one."""
        try:
            data = await self._socket.receive(_READ)
        except EndOfStream:
            self._break(httpx.RemoteProtocolError, "Server disconnected")
        except GONE as exc:
            self._break(httpx.ReadError, str(exc.__cause__ or exc))
        else:
            self._take(data)
        await self.flush()

    def _take(self, data: bytes) -> None:
        try:
            events = self.http.receive_data(data)
        except h2.exceptions.ProtocolError as exc:
            self._break(httpx.RemoteProtocolError, str(exc))
            return
        for event in events:
            stream = self._streams.get(getattr(event, "stream_id", None) or 0)
            if stream is not None:
                stream.take(event)
                self._wake(stream)
            elif isinstance(event, h2.events.RemoteSettingsChanged | h2.events.WindowUpdated):
                self._is_settled = True  # settings come first
                self._wake(*self._waiting)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self._leave(event)

    def _leave(self, farewell: h2.events.ConnectionTerminated) -> None:
        self._is_leaving = True
        said = (farewell.additional_data or b"")[:_MOST_SAID]
        why = f"{_named(farewell.error_code)} {said.decode(errors='replace')!r}"
        for stream in self._streams.values():
            if stream.id > (farewell.last_stream_id or 0):
                stream.fail(Unseen(f"the server takes no more: {why}"))
        self._wake(*self._waiting)

    def _break(self, kind: type[httpx.TransportError], why: str) -> None:
        self._broken = self._broken or partial(kind, why)
        for stream in self._streams.values():
            stream.fail(self._broken())
        self._wake(*self._waiting)

    def _wake(self, *streams: Stream) -> None:
        for stream in streams:
            if news := self._waiting.pop(stream, None):
                news.set()

    # Sending

    async def flush(self, *, waits: bool = False) -> None:
        """Send what is to be sent, see `Outbox.send`; if that fails, all streams fail."""
        try:
            await self._outbox.send(self.http.data_to_send(), waits=waits)
        except GONE as exc:
            self._break(httpx.WriteError, str(exc.__cause__ or exc))
        if self._broken is not None:
            await aclose_forcefully(self._socket)  # who reads from it sees that it is broken


def _named(code: ErrorCodes | int | None) -> str:
    return code.name if isinstance(code, ErrorCodes) else f"code {code}"


def _is_readable(socket: Any) -> bool:
    """Whether something has come, be it the end."""
    with selectors.DefaultSelector() as selector:
        try:
            selector.register(socket, selectors.EVENT_READ)
        except (OSError, ValueError):  # it has broken, and is closed already
            return True
        return bool(selector.select(0))
