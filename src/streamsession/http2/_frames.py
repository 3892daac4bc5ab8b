"""Farewells (GOAWAY frames), taken out of what a server sends. No I/O.

h2 takes each for the end of the connection, and would refuse what comes after it of the streams
that the server still answers (https://www.rfc-editor.org/rfc/rfc9113#section-6.8).
"""

from dataclasses import dataclass
from typing import Final

from h2.exceptions import FrameTooLargeError

__all__ = ["Farewell", "Frames"]

_HEAD: Final = 9  # bytes; https://www.rfc-editor.org/rfc/rfc9113#section-4.1
_MAX_SIZE: Final = 16384  # bytes after the head, as long as nobody asks for more
_FAREWELL: Final = 7  # the type of the frame
_NUMBERS: Final = 8  # bytes of its two numbers
_MOST_SAID: Final = 200  # bytes that are shown of what the server adds


@dataclass(frozen=True)
class Farewell:
    """The server takes no more requests on this connection.

    Attributes:
        last_stream: It still answers the streams up to this one, and knows of no later one.
        why: An error code of HTTP/2, or what the server added to it.
    """

    last_stream: int
    why: str


class Frames:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> tuple[bytes, list[Farewell]]:
        """The frames that are whole now, and the farewells that were among them.

        Raises:
            FrameTooLargeError: A frame is larger than allowed; h2 would first wait for all of it.
        """
        rest = self._rest
        rest += data
        farewells: list[Farewell] = []
        end = 0
        while len(rest) - end >= _HEAD:
            size = int.from_bytes(rest[end : end + 3])
            following = end + _HEAD + size
            if size > _MAX_SIZE:
                raise FrameTooLargeError(f"a frame of {size} bytes")
            if following > len(rest):
                break
            if rest[end + 3] == _FAREWELL and size >= _NUMBERS:
                farewells.append(_farewell(bytes(rest[end + _HEAD : following])))
                del rest[end:following]
            else:
                end = following
        whole = bytes(rest[:end])
        del rest[:end]
        return whole, farewells


def _farewell(payload: bytes) -> Farewell:
    last_stream = int.from_bytes(payload[:4]) & 0x7FFFFFFF  # the first bit is reserved
    code = int.from_bytes(payload[4:_NUMBERS])
    said = payload[_NUMBERS:][:_MOST_SAID].decode(errors="replace")
    return Farewell(last_stream, why=f"code {code} {said!r}" if said else f"code {code}")
