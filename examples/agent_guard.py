"""The guard of an agent: what is open while it runs, and is closed and kept however it is left."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from anyio import create_task_group
from anyio.abc import TaskGroup

from agent_conversation import Conversation
from agent_store import MemoryStore, Store
from agent_tools import Tool, ToolFunction
from agent_turn import Turn
from openai_chat import OpenAIChat
from streamsession import SessionStateError


class Agent:
    """A model with tools and a conversation, to be run by `run_agent` while its block is open.

    It owns the task group of the tools. Leaving the block ends a run that is under way: its tools
    are cancelled, the model's stream is closed, what came is kept. Each of that takes at most
    `close_timeout` seconds, but for tools that shield themselves from cancellation: leaving a run
    goes on without them, leaving the block waits, for no task outlives its group.

    The conversation stays such that the API takes it. A whole turn is kept as it is. Of an answer
    that was cut short its text is kept, noted in `Conversation.cut`, and none of its tool calls.
    Of tools that were interrupted the results that came are kept, and of the others that they were
    interrupted, so that the model knows what may have been done.

    Attributes:
        conversation: What was said, as far as it is kept.
        turns: Those of the latest run, as far as they have come, also when it was cancelled or
            failed: `turns[-1].reply` has the text and the usage.
    """

    close_timeout: float = 5.0
    """Seconds to wait for cancelled tools, and for the store to keep what came."""

    conversation: Conversation

    def __init__(
        self,
        session: OpenAIChat,
        *,
        tools: Iterable[Tool | ToolFunction] = (),
        instructions: str | None = None,
        max_turns: int = 10,
        store: Store | None = None,
        conversation_id: str | None = None,
        **options: Any,
    ) -> None:
        """Nothing is opened yet: that is what entering does.

        Args:
            session: Asks the model; neither entered nor left here.
            tools: What the model may call: async functions, see `Tool`.
            instructions: What the model is told before the conversation; not kept with it.
            max_turns: How often the model may be asked in a run.
            store: Keeps the conversation after each step; None keeps it in memory.
            conversation_id: The one to go on with, or to begin under this id; None begins one.
            options: Go into each request as they are, such as `model`.

        Raises:
            ValueError: Two tools have one name, the session keeps no replies, or no turn is
                allowed.
        """
        if not session.keep_reply or max_turns < 1:
            raise ValueError("an agent needs a session with keep_reply, and at least one turn")
        each = [tool if isinstance(tool, Tool) else Tool(tool) for tool in tools]
        self.tools = {tool.name: tool for tool in each}
        if len(self.tools) < len(each):
            raise ValueError(f"tools share a name: {', '.join(tool.name for tool in each)}")
        self.session = session
        self.instructions = instructions
        self.max_turns = max_turns
        self.store = store or MemoryStore()
        self.conversation_id = conversation_id or uuid4().hex
        self.options = options
        self.turns: list[Turn] = []
        self._tasks: TaskGroup | None = None
        self._is_running = False

    async def __aenter__(self) -> Self:
        """Load the conversation, and open the task group.

        Raises:
            SessionStateError: The agent is open already.
        """
        if self._tasks is not None:
            raise SessionStateError("the agent is open already: enter another one")
        saved = await self.store.load(self.conversation_id)
        self.conversation = saved or Conversation(id=self.conversation_id)
        self._tasks = await create_task_group().__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the run under way, if there is one, and wait for its tools."""
        tasks, self._tasks = self._open_tasks(), None
        try:
            for turn in self.turns[-1:]:
                await turn.end(exc)
        finally:
            await tasks.__aexit__(None, None, None)  # given `exc`, it would raise it in a group

    @contextmanager
    def running(self) -> Generator[None]:
        """A run is under way, and no other one.

        Raises:
            SessionStateError: Another one is, or the agent is not open.
        """
        self._open_tasks()
        if self._is_running:
            raise SessionStateError("a run is under way: read it to its end, or close it first")
        self._is_running = True
        self.turns = []
        try:
            yield
        finally:
            self._is_running = False

    async def hear(self, prompt: str) -> None:
        """The user says something."""
        self.conversation.add_prompt(prompt)
        await self.store.save(self.conversation)

    def next_turn(self) -> Turn:
        """The model is asked to go on; nothing is sent yet.

        Raises:
            SessionStateError: The agent was left.
        """
        said: list[Any] = list(self.conversation.messages)
        if self.instructions is not None:
            said.insert(0, {"role": "system", "content": self.instructions})
        tools = [tool.definition for tool in self.tools.values()]
        options: dict[str, Any] = {"tools": tools, **self.options} if tools else self.options
        turn = Turn(
            len(self.turns) + 1,
            self.session.stream(said, **options),
            tools=self.tools,
            tasks=self._open_tasks(),
            keep=self._keep,
            close_timeout=self.close_timeout,
        )
        self.turns.append(turn)
        return turn

    def _open_tasks(self) -> TaskGroup:
        if self._tasks is None:
            raise SessionStateError("the agent is not open: use `async with` on it")
        return self._tasks

    async def _keep(self, turn: Turn) -> None:
        before = len(self.conversation.messages)
        if turn.calls:
            self.conversation.add_calls(turn.reply, turn.calls, turn.results)
        else:
            self.conversation.add_answer(turn.reply)
        if len(self.conversation.messages) > before:
            await self.store.save(self.conversation)
