"""The server's side of HTTP/2, over whatever carries its bytes."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, WindowUpdated

from .bodies import parts
from .playing import Paced, asked_for

__all__ = ["HTTP2", "PREFACE"]

PREFACE: Final = b"PRI * HTTP/2.0\r\n"


class HTTP2:
    """A connection that carries many streams."""

    def __init__(self, transport: asyncio.Transport, paced: Paced) -> None:
        self._transport = transport
        self._paced = paced
        self.http = H2Connection(H2Configuration(client_side=False))
        self.http.initiate_connection()
        self._streams: dict[int, Stream] = {}

    def receive(self, data: bytes) -> None:
        """Answer the requests that are complete with these bytes."""
        for event in self.http.receive_data(data):
            match event:
                case RequestReceived(stream_id=number, headers=headers):
                    path = dict(headers)[b":path"].decode()
                    self._streams[number] = Stream(self, number, path)
                case DataReceived(stream_id=number, data=body, flow_controlled_length=size):
                    self._streams[number].body += body
                    self.http.acknowledge_received_data(size, number)
                case StreamEnded(stream_id=number):
                    self._streams[number].answer(self._paced)
                case StreamReset(stream_id=number):
                    self._forget(number)
                case WindowUpdated():
                    for stream in tuple(self._streams.values()):
                        stream.flush()
                case _:
                    pass
        self.write()

    def drop(self) -> None:
        """The connection was lost, and all that was under way."""
        for number in tuple(self._streams):
            self._forget(number)

    def write(self) -> None:
        """Hand to the transport what there is to send."""
        self._transport.write(self.http.data_to_send())

    def end(self, number: int) -> None:
        """End an answer."""
        self.http.end_stream(number)
        del self._streams[number]

    def _forget(self, number: int) -> None:
        if stream := self._streams.pop(number, None):
            self._paced.drop(stream)


class Stream:
    """A request, and its answer."""

    def __init__(self, connection: HTTP2, number: int, path: str) -> None:
        self.body = b""
        self._connection = connection
        self._http = connection.http
        self._number = number
        self._path = path
        self._pieces: deque[bytes] = deque()  # that wait for the client to make room
        self._ended = False

    def answer(self, paced: Paced) -> None:
        """Begin the answer to the request, which is complete."""
        headers = [(":status", "200"), ("content-type", "text/event-stream")]
        self._http.send_headers(self._number, headers)
        model = asked_for(self.body)
        if model == "paced":
            paced.begin(self, self._path)
        else:
            self.send(parts(self._path, model), ended=True)

    def send(self, pieces: Iterable[bytes], *, ended: bool = False) -> None:
        """Send what follows of the answer, each piece as a frame."""
        self._pieces += pieces
        self._ended = ended
        self.flush()
        self._connection.write()

    def flush(self) -> None:
        """Give as much as there is room for."""
        while self._pieces:
            window = self._http.local_flow_control_window(self._number)
            room = min(window, self._http.max_outbound_frame_size)
            if not room:
                return
            piece = self._pieces.popleft()
            self._http.send_data(self._number, piece[:room])
            if rest := piece[room:]:
                self._pieces.appendleft(rest)
        if self._ended:
            self._connection.end(self._number)
