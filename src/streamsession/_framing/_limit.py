"""How a decoder fails: on an event that is too large, or is no event. Knows no format."""

from collections.abc import Sized
from typing import TypeVar

from .._errors import DecodeError, EventTooLarge

__all__ = ["EventLimit"]

FramesT = TypeVar("FramesT", bound=Sized)


class EventLimit:
    """Lets the frames before an event that cannot be read come out before the error does.

    Attributes:
        max_bytes: The largest event allowed, inclusive.
        exceeded: True once an event is known to be larger. The decoder sets it and then cuts no
            more.
        handed_over: How many frames came out.
        damage: What is wrong with the framing, so that nothing behind it can be cut out; "" while
            nothing is. The decoder sets it and then cuts no more.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.exceeded = False
        self.damage = ""
        self.handed_over = 0

    def hand_over(self, frames: FramesT) -> FramesT:
        """The same frames, counted.

        Raises:
            EventTooLarge: The limit is exceeded and there are no frames to come before the error.
            DecodeError: The same of damage.
        """
        if self.exceeded and not frames:
            # Made anew each time: one kept on self would hold its traceback and so, in a cycle, us.
            raise EventTooLarge(
                f"Expected events of at most {self.max_bytes} bytes, but event {self.handed_over},"
                " counted from 0, is larger; raise max_event_bytes if it is meant to be",
                limit=self.max_bytes,
                index=self.handed_over,
            )
        if self.damage and not frames:
            raise DecodeError(
                f"event {self.handed_over}, counted from 0, cannot be cut out: {self.damage}",
                reason=self.damage,
                index=self.handed_over,
            )
        self.handed_over += len(frames)
        return frames
