"""What every framing offers. Nothing here knows a format."""

from collections.abc import Sequence
from typing import ClassVar, Final, Protocol, TypeVar

__all__ = ["DEFAULT_MAX_EVENT_BYTES", "Decoder"]

# What smithy-python allows a message of an AWS event stream.
DEFAULT_MAX_EVENT_BYTES: Final = 16 * 1024 * 1024

FrameT_co = TypeVar("FrameT_co", covariant=True)


class Decoder(Protocol[FrameT_co]):
    """Cuts the frames out of one body, which comes in chunks of any size.

    Chunking changes nothing: the same bytes give the same frames, and then the same error if they
    break the limit or the framing, wherever they are cut. What is held stays within about the limit
    and one chunk.

    A framing whose standard has elements that cannot be read dropped counts these in an attribute
    `skipped`, which `StreamStats.skipped` then adds up.
    """

    content_types: ClassVar[tuple[str, ...]]
    """The media types that carry this framing, in lower case, in order of preference."""

    def __init__(self, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        """Begin a body, of which no event may be larger than this, in bytes, inclusive."""
        ...

    def decode(self, data: bytes) -> Sequence[FrameT_co]:
        """The frames that these bytes complete, in order.

        Raises:
            EventTooLarge: An event exceeds the limit, whether or not all of it has come. If the
                same bytes complete frames before it, these are returned and the next call raises;
                once it was raised, every call raises it.
            DecodeError: The bytes break the framing, if it can be broken; in the same way.
        """
        ...

    def flush(self) -> Sequence[FrameT_co]:
        """The frames that the end of the body completes.

        Raises:
            DecodeError: As `decode`.
            StreamTruncated: The framing shows that the body was cut short.
        """
        ...
