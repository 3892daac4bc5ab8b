"""Bytes on their way to the server, sent by whoever comes first. It knows nothing of HTTP."""

from typing import Final

from anyio import BrokenResourceError, CancelScope, Lock
from anyio.abc import ByteStream

from .._runtime import close_within

__all__ = ["Outbox"]

_PIECE: Final = 9 + 16 * 1024  # bytes sent at a time: a frame, as large as every server takes it
_PIECE_SECONDS: Final = 5.0  # for one of them; a server that takes none is gone
_MOST_UNSENT: Final = 1024 * 1024  # bytes that may wait without anyone waiting with them


class Outbox:
    """Sends a piece at a time; a task that is cancelled goes on to the end of its piece.

    Half of one would end TLS, and with it all streams.
    """

    def __init__(self, socket: ByteStream) -> None:
        self._socket = socket
        self._unsent = bytearray()
        self._turn = Lock(fast_acquire=True)

    async def send(self, data: bytes, *, waits: bool) -> None:
        """Send these, and what others have left; another task does that if it is sending already.

        Args:
            data: What to send.
            waits: Whether to return only when they are sent; so it is for whoever makes more.

        Raises:
            BrokenResourceError: The connection is broken, or the server takes no more.
            ClosedResourceError: It was closed.
        """
        self._unsent += data
        is_turn = waits or not self._turn.locked() or len(self._unsent) > _MOST_UNSENT
        if self._unsent and is_turn:
            with CancelScope(shield=not waits):
                async with self._turn:
                    await self._send_all()

    async def _send_all(self) -> None:
        while self._unsent:
            piece = bytes(self._unsent[:_PIECE])
            del self._unsent[:_PIECE]
            if not await close_within(_PIECE_SECONDS, self._socket.send(piece)):
                raise BrokenResourceError("the server takes no more data")
