"""One turn of an agent: the model's answer and the tools it calls, however the turn is left."""

from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Final, Self

from anyio import move_on_after
from anyio.abc import TaskGroup

from agent_calls import ToolBatch
from agent_events import ToolResult
from agent_tools import Tool
from openai_chat import ChatEvent
from streamsession import Reply, Stream, StreamClosed, TimedOut, ToolCall

_INTERRUPTED: Final = "Error: interrupted before it ended; part of it may have been done"


class Turn:
    """What the model says and does in one go; leaving it stops both and keeps what came.

    Args:
        number: Counted from 1.
        answer: What the model says.
        tools: What it may call, by name.
        tasks: Where the tools run.
        keep: Awaited with the turn when it has ended.
        close_timeout: Seconds to wait for cancelled tools, and for `keep`.
    """

    def __init__(
        self,
        number: int,
        answer: Stream[ChatEvent],
        *,
        tools: Mapping[str, Tool],
        tasks: TaskGroup,
        keep: Callable[["Turn"], Awaitable[None]],
        close_timeout: float,
    ) -> None:
        self.number = number
        self.answer = answer
        self.calls: list[ToolCall] = []
        self._tools = tools
        self._tasks = tasks
        self._keep = keep
        self._close_timeout = close_timeout
        self._batch: ToolBatch | None = None
        self._has_ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; see `end`.

        Raises:
            StreamClosed: The agent was left during the turn.
        """
        if exc is None:
            self._check()
        await self.end(exc)

    @property
    def reply(self) -> Reply[ChatEvent]:
        """What the model has said so far: text, reasoning, usage."""
        return self.answer.reply

    @property
    def results(self) -> list[ToolResult]:
        """What the model is told of its calls, in their order."""
        known = self._batch.results if self._batch else {}
        return [known.get(i) or self._interrupted(call) for i, call in enumerate(self.calls)]

    def call_tools(self) -> ToolBatch:
        """Run what the complete answer calls, all at once; iterate for the events as they come.

        Raises:
            StreamClosed: The agent was left during the turn.
        """
        self._check()
        self.calls = [self._whole(call) for call in self.reply.tool_calls if not call.choice]
        self._batch = ToolBatch(self._tools, self.calls, self.number)
        self._tasks.start_soon(self._batch.run)
        return self._batch

    async def end(self, reason: BaseException | None) -> None:
        """Stop what is under way, and keep what came; nothing if that is done.

        What fails here is noted on the error that is the reason, or raised if there is none.
        """
        if self._has_ended:
            return
        self._has_ended = True
        try:
            try:
                await self._stop()
            finally:
                await self._keep_in_time()
        except Exception as failure:
            if not isinstance(reason, Exception):
                raise
            reason.add_note(f"Keeping the turn failed too: {failure!r}")

    async def _stop(self) -> None:
        if self._batch is None:
            await self.answer.aclose()
        else:  # it began when the answer was complete
            await self._batch.aclose(self._close_timeout)

    async def _keep_in_time(self) -> None:
        seconds = self._close_timeout
        with move_on_after(seconds, shield=True) as limit:
            await self._keep(self)
        if limit.cancelled_caught:
            message = f"the store took longer than {seconds:g} s to keep the turn"
            raise TimedOut(message, clock="close", seconds=seconds)

    def _check(self) -> None:
        if self._has_ended:
            raise StreamClosed("the agent was left during its run", partial=self.reply)

    def _whole(self, call: ToolCall) -> ToolCall:
        # No arguments at all may also mean that the answer was over before them.
        is_cut = not call.raw_arguments and self.reply.finish_reason == "length"
        return call.model_copy(update={"arguments": None}) if is_cut else call

    def _interrupted(self, call: ToolCall) -> ToolResult:
        return ToolResult(
            turn=self.number, id=call.id, name=call.name, content=_INTERRUPTED, is_error=True
        )
