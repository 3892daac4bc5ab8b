"""What a resumed stream repeats, kept from being handed over twice. No I/O, no clock."""

from typing import Any, Final

from ._framing import ServerSentEvent

__all__ = ["ReplayFilter"]

_REMEMBERED: Final = 1024  # ids; a server that goes back further was not asked to


class ReplayFilter:
    """Tells the frames that a resumed stream sends again from those that are new.

    A frame with an id is known by it. Frames without one, after the id that was resumed from, are
    counted: what follows that id comes again in the same order. Only server-sent events have ids.

    Attributes:
        last_id: The last id the server gave with a frame; "" if it gave none, or took it back.
    """

    def __init__(self) -> None:
        self.last_id = ""
        self._seen: dict[str, None] = {}  # ids in the order they came
        self._id: str = ""  # of the frame before
        self._since_id = 0  # frames without an id since then
        self._to_skip = 0
        self._catching_up = False

    def resume(self, *, after_last_id: bool) -> None:
        """The next frame comes from a new response.

        Args:
            after_last_id: Whether it sends what follows the last id; else it may start anywhere,
                and only ids are told from each other.
        """
        self._catching_up = True
        self._to_skip = self._since_id if after_last_id else 0
        self._id = ""  # which is not the server taking back an id

    def is_new(self, frame: Any) -> bool:
        """Whether the frame was not handed over before; asked once for each."""
        if not isinstance(frame, ServerSentEvent):
            return True
        named = frame.id != self._id
        self._id = frame.id
        if self._catching_up:
            if self._is_repeated(frame.id, named=named):
                return False
            self._catching_up = False
        if named:
            self.last_id = frame.id
            self._since_id = 0
            self._seen.pop(frame.id, None)  # it is the newest again
            self._seen[frame.id] = None
            if len(self._seen) > _REMEMBERED:
                del self._seen[next(iter(self._seen))]
        else:
            self._since_id += 1
        return True

    def _is_repeated(self, id: str, *, named: bool) -> bool:  # noqa: A002
        if named:
            return id in self._seen
        if id not in ("", next(reversed(self._seen), "")):
            return True  # it belongs to an older id than the one resumed from
        self._to_skip -= 1
        return self._to_skip >= 0
