"""A whole body as one JSON text: the framing of a response that does not stream."""

from typing import ClassVar

from ._decoder import DEFAULT_MAX_EVENT_BYTES
from ._limit import EventLimit

__all__ = ["JSONBodyDecoder"]


class JSONBodyDecoder:
    """Cuts a body into its one frame, the bytes of a JSON text; `null` if it is empty."""

    content_types: ClassVar[tuple[str, ...]] = ("application/json",)

    def __init__(self, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._limit = EventLimit(max_event_bytes)
        self._body = bytearray()

    def decode(self, data: bytes) -> list[bytes]:
        """Nothing: the frame is complete when the body is. Raises as `Decoder.decode`."""
        self._limit.exceeded |= len(self._body) + len(data) > self._limit.max_bytes
        if not self._limit.exceeded:
            self._body += data
        return self._limit.hand_over([])

    def flush(self) -> list[bytes]:
        """The body. Raises as `Decoder.flush`."""
        return self._limit.hand_over([] if self._limit.exceeded else [bytes(self._body) or b"null"])
