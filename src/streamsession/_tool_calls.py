"""Tool calls, put together from the fragments in which an API sends them. No I/O, no clock."""

from collections.abc import Hashable, Iterator

from ._events import ToolCall, ToolCallDelta, ToolCallStart

__all__ = ["ToolCalls"]


class ToolCalls:
    """The tool calls of one answer as far as they have come: a local variable of a `decode`.

    Each goes by a key, which is whatever the API repeats with its fragments: an index, an id.

    Args:
        choice: Which of several answers to the same prompt they belong to, counted from 0.
    """

    def __init__(self, *, choice: int = 0) -> None:
        self._choice = choice
        self._open: dict[Hashable, tuple[ToolCallStart, str, list[str]]] = {}

    def __contains__(self, key: Hashable) -> bool:
        """Whether a call has begun under this key and not been finished."""
        return key in self._open

    def begin(
        self,
        key: Hashable,
        *,
        id: str,  # noqa: A002 - the field's name
        name: str,
        arguments: str = "",
        wire: object = None,
    ) -> ToolCallStart:
        """A call begins.

        Args:
            key: What its fragments will name.
            id: What its result is to name.
            name: The tool.
            arguments: All of them, if no fragments follow.
            wire: The object of the API that says all this.
        """
        start = ToolCallStart(id=id, name=name, choice=self._choice).of(wire)
        self._open[key] = start, arguments, []
        return start

    def add(self, key: Hashable, arguments: str, wire: object = None) -> ToolCallDelta:
        """A fragment of the arguments of a call that has begun.

        Raises:
            KeyError: None has, under this key.
        """
        start, _, fragments = self._open[key]
        fragments.append(arguments)
        return ToolCallDelta(id=start.id, arguments=arguments, choice=self._choice).of(wire)

    def finish(self, key: Hashable) -> ToolCall:
        """The call is whole.

        Raises:
            KeyError: None has begun under this key, or it is finished.
        """
        start, arguments, fragments = self._open.pop(key)
        return start.finish("".join(fragments) or arguments)

    def finish_all(self) -> Iterator[ToolCall]:
        """The calls that are not finished yet, in the order in which they began."""
        while self._open:
            yield self.finish(next(iter(self._open)))
