"""The tool calls of one turn, running all at once and telling how it goes."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Event,
    create_memory_object_stream,
    create_task_group,
    move_on_after,
)
from pydantic import JsonValue

from agent_events import ToolEvent, ToolProgress, ToolResult, ToolStarted
from agent_tools import Tool, ToolError
from streamsession import ToolCall

log: Final = logging.getLogger("agent")


class ToolBatch(AsyncIterator[ToolEvent]):
    """The tool calls of one turn, all at once; iterate it for their events, in the order they come.

    Whoever makes one has `run` run in a task group, and awaits `aclose` in the end.

    Attributes:
        results: What is known of the calls, by their places.
    """

    def __init__(self, tools: Mapping[str, Tool], calls: Sequence[ToolCall], turn: int) -> None:
        self.results: dict[int, ToolResult] = {}
        self._tools = tools
        self._calls = calls
        self._turn = turn
        self._send, self._receive = create_memory_object_stream[ToolEvent]()
        self._scope = CancelScope()
        self._ended = Event()

    async def __anext__(self) -> ToolEvent:
        try:
            return await self._receive.receive()
        except (EndOfStream, ClosedResourceError):
            raise StopAsyncIteration from None

    async def run(self) -> None:
        """Run the calls, each in a task of its own."""
        try:
            with self._send, self._scope:
                async with create_task_group() as tasks:
                    for place, call in enumerate(self._calls):
                        tasks.start_soon(self._run, place, call, name=call.name)
        finally:
            self._ended.set()

    async def aclose(self, seconds: float) -> None:
        """Cancel what still runs, and wait for it so long; what a tool shields may take longer."""
        self._scope.cancel()
        self._receive.close()
        with move_on_after(seconds, shield=True):
            await self._ended.wait()

    async def _run(self, place: int, call: ToolCall) -> None:
        turn, call_id, name = self._turn, call.id, call.name

        async def tell(progress: JsonValue, /) -> None:
            with suppress(BrokenResourceError):  # nobody listens any more
                await self._send.send(
                    ToolProgress(turn=turn, id=call_id, name=name, progress=progress)
                )

        try:
            tool = self._find(name)
            arguments = tool.read(call)
            await self._send.send(ToolStarted(turn=turn, id=call_id, name=name))
            content, is_error = await tool.run(arguments, tell), False
        except ToolError as exc:
            log.debug("tool call %s of %s failed", call_id, name, exc_info=True)
            content, is_error = f"Error: {exc}", True
        result = ToolResult(turn=turn, id=call_id, name=name, content=content, is_error=is_error)
        self.results[place] = result
        await self._send.send(result)

    def _find(self, name: str) -> Tool:
        if name not in self._tools:
            raise ToolError(f"there is no tool {name!r}; there are: {', '.join(self._tools)}")
        return self._tools[name]
