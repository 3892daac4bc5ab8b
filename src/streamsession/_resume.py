"""What a resumed stream repeats, kept from being handed over twice. No I/O, no clock."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final, Literal

from ._errors import DecodeError
from ._framing import InheritedId, ServerSentEvent

__all__ = ["ReplayFilter"]

# Of ids, and of frames without one: the first, to see that a server begins anew, and the last.
_FIRST: Final = 32
_LAST: Final = 1024


class ReplayFilter:
    """Tells the frames that a resumed stream sends again from those that are new.

    Servers go on after the id that they were given, or anywhere before it; many ignore it and begin
    anew. A frame with an id of its own is known by it. One without is known by what it says: those
    after the last id may come again or not, those before it only together with that id. So one that
    looks like these is held until the next frame tells. Only server-sent events have ids.

    Attributes:
        last_id: The last id the server gave, with a frame or without; "" if it gave none, or took
            it back.
        held: Frames that are new if the body ends here and is complete.
    """

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.held: list[ServerSentEvent] = []
        # Where the response is: all is new; not known; in front of the last id; past it.
        self._place: Literal["new", "anywhere", "before", "after"] = "new"
        self._id = ""  # of the frame before
        self._is_named: bool = False  # there was an id in this response
        # Marks, which are hashes: what they are of may be long.
        # By the mark of an id, that of its frame; None if it came without one.
        self._by_id: dict[int, int | None] = {}
        self._before: dict[int, None] = {}  # of frames without an id, before the last id
        self._since: list[int] = []  # the same after it: the first of them
        self._more = 0  # and how many more
        self._expected: list[int] = []  # those of them that may come again
        self._more_expected = 0

    @property
    def is_behind(self) -> bool:
        """Whether the response still repeats what came before the last id."""
        return self._place == "before"

    @property
    def is_settled(self) -> bool:
        """Whether all that is new so far was handed over."""
        return not self.is_behind and not self.held

    def end(self, last_id: str) -> None:
        """A response ended; its last id may have come without a frame."""
        is_known = last_id == self.last_id or hash(last_id) in self._by_id
        if self.is_settled and not is_known and (last_id or self._is_named):
            self._move_on(last_id, None)

    def resume(self, *, after: str | None) -> None:
        """The next frame comes from a new response.

        Args:
            after: The id that this was asked to go on after; None if it was asked in another way,
                and only ids are told from each other.
        """
        self._place = "after" if after is None else "anywhere"
        self._expect(again=after == self.last_id)
        self._id, self._is_named, self.held = "", False, []

    def new(self, frame: Any) -> Sequence[Any]:
        """What is known to be new now that this frame has come; asked once for each.

        Raises:
            DecodeError: The stream is not the one that broke.
        """
        if not isinstance(frame, ServerSentEvent) or frame.event == "error":
            return [frame]  # an error that came before would have been the end
        mark = hash((frame.event, frame.data))
        is_own = frame.id != self._id and not isinstance(frame.id, InheritedId)
        self._is_named |= frame.id != self._id
        self._id = frame.id
        last_id = frame.id if self._is_named else self.last_id
        if self._place != "new":
            if is_own and self._by_id.get(hash(last_id)) not in (mark, None):
                reason = f"id {last_id!r} came again with other data: the server began anew"
                raise DecodeError(f"cannot resume: {reason}", frame=frame, reason=reason)
            if self._is_repeated(last_id, mark, is_own=is_own):
                return []
            if self._place == "anywhere" and mark in self._before:
                self.held.append(frame)
                return []
        frames, self.held = [*self.held, frame], []
        for each in frames[:-1]:
            self._add(hash((each.event, each.data)))
        if is_own or last_id != self.last_id:
            self._move_on(last_id, mark if is_own else None)
        if not is_own:
            self._add(mark)
        return frames

    def _is_repeated(self, last_id: str, mark: int, *, is_own: bool) -> bool:
        if last_id != self.last_id:
            is_known = self.is_behind or hash(last_id) in self._by_id
            self._place = "before" if is_known else "new"
            self.held = [] if is_known else self.held
            return is_known
        if is_own or (self._is_named and self._place != "after"):  # it has come to where it broke
            self._place, self.held = "after", []
            self._expect(again=True)
        if is_own:
            return self._by_id.get(hash(last_id)) is not None
        if mark in self._expected:
            self._expected.remove(mark)
            return True
        if self._expected or not self._more_expected:
            return False
        self._more_expected -= 1
        return True

    def _expect(self, *, again: bool) -> None:
        self._expected = self._since.copy() if again else []
        self._more_expected = self._more if again else 0

    def _add(self, mark: int) -> None:
        if len(self._since) < _LAST:
            self._since.append(mark)
        else:
            self._more += 1

    def _move_on(self, last_id: str, mark: int | None) -> None:
        self._before |= dict.fromkeys(self._since)
        self._since, self._more = [], 0
        self.last_id = last_id
        self._by_id.pop(hash(last_id), None)  # it is the newest again
        self._by_id[hash(last_id)] = mark
        for remembered in (self._before, self._by_id):
            while len(remembered) > _FIRST + _LAST:
                del remembered[next(islice(remembered, _FIRST, None))]
