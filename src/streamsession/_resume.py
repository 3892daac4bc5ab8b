"""What a resumed stream repeats, kept from being handed over twice. No I/O, no clock."""

from typing import Any, Final

from ._framing import InheritedId, ServerSentEvent

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
        self._seen: dict[int, None] = {}  # hashes of ids, which may be long, as they came
        self._id: str = ""  # of the frame before
        self._since_id = 0  # frames since then that it did not come with
        self._to_skip = 0
        self._catching_up = False

    def resume(self, *, after: str | None) -> None:
        """The next frame comes from a new response.

        Args:
            after: The id that this sends what follows; None if it may start anywhere, and only ids
                are told from each other.
        """
        if after is not None and after != self.last_id:
            self._remember(after)  # it came without a frame
            self._since_id = 0
        self._catching_up = True
        self._to_skip = 0 if after is None else self._since_id
        self._id = ""  # which is not the server taking back an id

    def is_new(self, frame: Any) -> bool:
        """Whether the frame was not handed over before; asked once for each."""
        if not isinstance(frame, ServerSentEvent):
            return True
        changed = frame.id != self._id
        self._id = frame.id
        inherited = not changed or isinstance(frame.id, InheritedId)
        if self._catching_up:
            if self._is_repeated(frame.id, changed=changed, inherited=inherited):
                return False
            self._catching_up = False
        if changed:
            self._remember(frame.id)
            self._since_id = 0
        self._since_id += inherited
        return True

    def _remember(self, id: str) -> None:  # noqa: A002
        self.last_id = id
        self._seen.pop(hash(id), None)  # it is the newest again
        self._seen[hash(id)] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def _is_repeated(self, id: str, *, changed: bool, inherited: bool) -> bool:  # noqa: A002
        if changed and not (inherited and id == self.last_id):
            return hash(id) in self._seen
        if id not in ("", self.last_id):
            return True  # it belongs to an older id than the one resumed from
        self._to_skip -= 1
        return self._to_skip >= 0
