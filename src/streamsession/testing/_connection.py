"""One accepted connection: reads requests, plays the answers, and says how it ended.

Runs in a thread of its own and keeps no state but its record, which others may read at any time.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, NoReturn, TypeAlias, assert_never

from ._peer import End, Ended, Peer
from ._script import Ending, Pause, RecordedRequest, ScriptedResponse, Step, steps_to_play
from ._waiting import Condition, Gate
from ._wire import (
    LAST_CHUNK,
    BadRequest,
    RequestHead,
    asks_to_close,
    chunk,
    parse_chunk_size,
    parse_head,
    response_head,
)

__all__ = ["Connection", "ConnectionRecord", "ConnectionState"]

_MAX_HEAD_BYTES: Final = 64 * 1024  # what h11 and uvicorn allow
_MAX_BODY_BYTES: Final = 16 * 1024 * 1024

ConnectionState: TypeAlias = Literal["idle", "responding"] | End


@dataclass(frozen=True)
class ConnectionRecord:
    """What had become of a connection at the moment of looking.

    Attributes:
        index: Its place in the order of acceptance, counted from 0.
        requests: How many requests came on it.
        state: "idle" while it waits for a request, "responding" from there to the end of the
            response; afterwards how it ended. "client closed" is any end by the client, also a
            reset, and also the closing of only its sending half.
    """

    index: int
    requests: int = 0
    state: ConnectionState = "idle"

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state in {"idle", "responding"}


class Connection:
    """Serves one client until either side ends it."""

    def __init__(
        self,
        index: int,
        client: socket.socket,
        *,
        stop: socket.socket,
        answer: Callable[[RecordedRequest], ScriptedResponse],
        changed: Condition,
    ) -> None:
        self._record = ConnectionRecord(index)
        self._client = client
        self._stop = stop
        self._answer = answer
        self._changed = changed

    @property
    def record(self) -> ConnectionRecord:
        """How it stands now."""
        return self._record

    def run(self) -> None:
        """Serve to the end; the socket is closed before the record says so."""
        end: End = "server hung up"
        try:
            with Peer(self._client, stop=self._stop) as peer:
                end = self._serve(peer)
        finally:
            self._update(replace(self._record, state=end))

    def _serve(self, peer: Peer) -> End:
        try:
            while True:
                self._serve_request(peer)
                self._update(replace(self._record, state="idle"))
        except Ended as ended:
            return ended.end

    def _serve_request(self, peer: Peer) -> None:
        try:
            request = self._read_request(peer)
        except BadRequest as exc:
            self._refuse(peer, str(exc))
        requests = self._record.requests + 1
        self._update(replace(self._record, requests=requests, state="responding"))
        response = self._answer(request)
        peer.send(response_head(response))
        if request.method != "HEAD" or response.framing == "raw":
            _play(peer, response)
        if response.framing == "close" or asks_to_close(request.headers, response.headers):
            raise Ended("server hung up")

    def _read_request(self, peer: Peer) -> RecordedRequest:
        head = parse_head(peer.read_until(b"\r\n\r\n", limit=_MAX_HEAD_BYTES))
        body = _read_chunks(peer) if head.is_chunked else _read_length(peer, head)
        return RecordedRequest(head.method, head.path, head.headers, body, self._record.index)

    def _refuse(self, peer: Peer, reason: str) -> NoReturn:
        text = f"The scripted server cannot take this request: {reason}."
        response = ScriptedResponse(
            [text.encode()], 400, content_type="text/plain; charset=utf-8", framing="close"
        )
        peer.send(response_head(response))
        _play(peer, response)
        peer.linger()
        raise Ended("server hung up")

    def _update(self, record: ConnectionRecord) -> None:
        self._record = record
        self._changed.notify_all()


def _read_length(peer: Peer, head: RequestHead) -> bytes:
    _check_body_size(head.content_length)
    return peer.read(head.content_length)


def _read_chunks(peer: Peer) -> bytes:
    body = bytearray()
    while size := parse_chunk_size(peer.read_until(b"\r\n", limit=_MAX_HEAD_BYTES)):
        _check_body_size(len(body) + size)
        body += peer.read(size)
        if peer.read(2) != b"\r\n":
            raise BadRequest(f"a chunk is longer than the {size} bytes it announced")
    while peer.read_until(b"\r\n", limit=_MAX_HEAD_BYTES):
        pass  # trailers are dropped
    return bytes(body)


def _check_body_size(size: int) -> None:
    if size > _MAX_BODY_BYTES:
        raise BadRequest(f"the body is larger than {_MAX_BODY_BYTES} bytes")


def _play(peer: Peer, response: ScriptedResponse) -> None:
    is_chunked = response.framing == "chunked" and response.has_body
    for step in steps_to_play(response):
        _play_step(peer, step, is_chunked=is_chunked)
    if is_chunked:
        peer.send(LAST_CHUNK)


def _play_step(peer: Peer, step: Step, *, is_chunked: bool) -> None:
    match step:
        case bytes():
            if step:
                peer.send(chunk(step) if is_chunked else step)
        case Pause():
            peer.pause(step.seconds)
        case Gate():
            peer.wait_at(step)
        case Ending.HANG_UP:
            raise Ended("server hung up")
        case Ending.RESET:
            peer.reset()
        case Ending.HOLD:
            peer.hold()
        case _:
            assert_never(step)
