"""Where conversations are kept: what is saved when, by whom, and how one goes on."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import aclosing, closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from anyio.to_thread import current_default_thread_limiter

from agent import run_agent
from agent_conversation import Conversation
from agent_store import ConversationConflict, MemoryStore, SQLiteStore, Store
from streamsession import StreamTruncated, TimedOut
from streamsession.testing import ScriptedResponse, ScriptedServer
from tests.test_examples.agents import (
    FINAL,
    PATIENCE,
    calling,
    ending,
    events_of,
    open_agent,
    sent,
    text,
)

pytestmark = pytest.mark.anyio

KINDS: list[Callable[[Path], Store]] = [lambda _: MemoryStore(), SQLiteStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "conversations.db"


@pytest.fixture(params=KINDS, ids=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, path: Path) -> Store:
    made: Store = request.param(path)
    return made


async def look() -> str:
    """Look."""
    return "seen"


def said(conversation: Conversation | None) -> list[str]:
    assert conversation is not None
    return [str(message["content"]) for message in conversation.messages]


# The stores


async def test_a_conversation_that_was_saved_is_loaded_as_it_was(store: Store) -> None:
    conversation = Conversation(id="a", cut=[1])
    conversation.add_prompt("Grüße\0\n'")
    await store.save(conversation)
    conversation.messages.append({"role": "assistant", "content": None, "x": [1, {"y": 0.5}]})
    await store.save(conversation)

    loaded = await store.load("a")

    assert loaded == conversation
    assert loaded is not conversation
    assert conversation.version == 2
    assert await store.load("b") is None


async def test_what_is_not_saved_is_not_loaded(store: Store) -> None:
    conversation = Conversation(id="a")
    await store.save(conversation)
    conversation.add_prompt("Hello")
    loaded = await store.load("a")
    assert loaded is not None
    loaded.add_prompt("Hi")

    assert said(await store.load("a")) == []


async def test_who_saves_late_is_told_and_what_is_kept_stays(store: Store) -> None:
    await store.save(Conversation(id="a"))
    one, two = await store.load("a"), await store.load("a")
    assert one is not None
    assert two is not None
    one.add_prompt("One.")
    two.add_prompt("Two.")
    await store.save(one)

    with pytest.raises(ConversationConflict, match="'a' was saved by someone else after version 1"):
        await store.save(two)
    with pytest.raises(ConversationConflict):  # nor one that was never loaded
        await store.save(Conversation(id="a"))

    assert said(await store.load("a")) == ["One."]
    assert (one.version, two.version) == (2, 1)


async def test_of_many_who_save_at_once_one_is_kept(store: Store) -> None:
    conversations = [Conversation(id="a", messages=[{"content": str(n)}]) for n in range(20)]
    refused: list[int] = []

    async def save(place: int) -> None:
        try:
            await store.save(conversations[place])
        except ConversationConflict:
            refused.append(place)

    async with anyio.create_task_group() as tasks:
        for place in range(20):
            tasks.start_soon(save, place)

    (kept,) = set(range(20)) - set(refused)
    assert said(await store.load("a")) == [str(kept)]


async def test_saves_of_one_conversation_at_the_same_time_follow_each_other(store: Store) -> None:
    conversation = Conversation(id="a")
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(store.save, conversation)

    assert conversation.version == 20
    assert await store.load("a") == conversation


async def test_a_file_is_shared_by_several_stores(path: Path) -> None:
    conversation = Conversation(id="a")
    await SQLiteStore(path).save(conversation)
    conversation.add_prompt("Hello")
    await SQLiteStore(str(path)).save(conversation)

    assert await SQLiteStore(path).load("a") == conversation


async def test_a_file_that_is_locked_for_too_long_is_an_error_and_keeps_what_it_had(
    path: Path,
) -> None:
    store = SQLiteStore(path, timeout=0.01)
    conversation = Conversation(id="a")
    await store.save(conversation)
    conversation.add_prompt("Hello")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        before = anyio.current_time()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await store.save(conversation)
        assert anyio.current_time() < before + 2  # seconds; without a limit it waits for five

    assert conversation.version == 1
    await store.save(conversation)
    assert said(await store.load("a")) == ["Hello"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_save_whose_task_is_cancelled_conflicts_with_no_later_one(path: Path) -> None:
    store = SQLiteStore(path)
    conversation = Conversation(id="a")
    await store.save(conversation)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        cancelled = asyncio.create_task(store.save(conversation))
        await until_a_thread_runs()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        conversation.add_prompt("Hello")
        later = asyncio.create_task(store.save(conversation))
        await until_a_thread_runs()  # besides the first, which nobody awaits
        other.execute("ROLLBACK")
        await later

    assert said(await store.load("a")) == ["Hello"]


async def until_a_thread_runs() -> None:
    """Wait until a call is in a worker thread."""
    with anyio.fail_after(PATIENCE):
        while not current_default_thread_limiter().borrowed_tokens:
            await anyio.lowlevel.checkpoint()


# What an agent keeps


async def test_each_step_is_kept_once_it_is_complete(store: Store) -> None:
    async with (
        ScriptedServer(calling(("look", "{}")), FINAL) as server,
        open_agent(server, look, store=store, conversation_id="a") as agent,
        aclosing(run_agent(agent, "Go.")) as events,
    ):
        kept = [(event.type, said(await store.load("a"))) async for event in events]

    after = dict(kept)  # the last of each type
    assert kept[0] == ("turn_started", ["Go."])
    assert after["tool_result"] == ["Go."]
    assert after["turn_started"] == after["text"] == ["Go.", "None", "seen"]
    assert after["agent_done"] == ["Go.", "None", "seen", "It is done."]


async def test_a_restart_goes_on_with_the_conversation(store: Store) -> None:
    async with ScriptedServer(calling(("look", "{}")), FINAL, FINAL) as server:
        async with open_agent(server, look, store=store, conversation_id="a") as agent:
            await events_of(agent, "One.")
        async with open_agent(server, look, store=store, conversation_id="a") as agent:
            await events_of(agent, "Two.")

    first = sent(server, 1)
    answer = {"role": "assistant", "content": "It is done."}
    assert sent(server, 2) == [*first, answer, {"role": "user", "content": "Two."}]


async def test_a_crash_loses_no_more_than_the_step_under_way(path: Path) -> None:
    async with (
        ScriptedServer(calling(("look", "{}")), ScriptedResponse(status=500), FINAL) as server,
        open_agent(server, look, store=SQLiteStore(path), conversation_id="a") as agent,
    ):
        with pytest.raises(Exception, match="500"):
            await events_of(agent)
        # As another process finds the file at this moment:
        async with open_agent(server, look, store=SQLiteStore(path), conversation_id="a") as after:
            await events_of(after, None)

    assert sent(server, 2) == sent(server, 1)
    assert said(await SQLiteStore(path).load("a")) == ["Go.", "None", "seen", "It is done."]


async def test_two_agents_with_one_conversation_are_noticed_before_the_model_is_asked(
    store: Store,
) -> None:
    async with (
        ScriptedServer(FINAL, FINAL) as server,
        open_agent(server, store=store, conversation_id="a") as one,
        open_agent(server, store=store, conversation_id="a") as two,
    ):
        await events_of(one, "One.")
        with pytest.raises(ConversationConflict):
            await events_of(two, "Two.")

    assert len(server.requests) == 1
    assert said(await store.load("a")) == ["One.", "It is done."]


async def test_without_an_id_each_agent_has_a_conversation_of_its_own(store: Store) -> None:
    async with ScriptedServer(FINAL, FINAL) as server:
        for prompt in ("One.", "Two."):
            async with open_agent(server, store=store) as agent:
                await events_of(agent, prompt)

    assert [len(sent(server, request)) for request in (0, 1)] == [1, 1]


class Full(MemoryStore):
    """A store that takes the prompt and nothing more."""

    async def save(self, conversation: Conversation) -> None:
        if conversation.version:
            raise OSError("no space left")
        await super().save(conversation)


class Stuck(MemoryStore):
    """A store that takes the prompt and then never ends."""

    async def save(self, conversation: Conversation) -> None:
        if conversation.version:
            await anyio.sleep_forever()
        await super().save(conversation)


async def test_a_turn_that_cannot_be_kept_is_an_error() -> None:
    async with ScriptedServer(FINAL) as server, open_agent(server, store=Full()) as agent:
        with pytest.raises(OSError, match="no space left"):
            await events_of(agent)


async def test_what_cannot_be_kept_of_a_failed_turn_is_noted_on_its_failure() -> None:
    cut = ScriptedResponse.sse(text("I have"))
    async with ScriptedServer(cut) as server, open_agent(server, store=Full()) as agent:
        with pytest.raises(StreamTruncated) as caught:
            await events_of(agent)

    assert caught.value.__notes__ == ["Keeping the turn failed too: OSError('no space left')"]


async def test_what_cannot_be_kept_is_noted_on_the_error_that_leaves_the_block() -> None:
    async def fail(server: ScriptedServer) -> None:
        async with open_agent(server, store=Full()) as agent:
            events = run_agent(agent, "Go.")
            while (await anext(events)).type != "text":
                pass
            raise LookupError("mine")

    async with ScriptedServer(FINAL) as server:
        with pytest.raises(LookupError, match="mine") as caught:
            await fail(server)

    assert caught.value.__notes__ == ["Keeping the turn failed too: OSError('no space left')"]


async def test_a_store_that_is_stuck_is_not_waited_for_any_longer() -> None:
    async with ScriptedServer(FINAL) as server, open_agent(server, store=Stuck()) as agent:
        agent.close_timeout = 0.05
        with pytest.raises(TimedOut, match=r"the store took longer than 0\.05 s"):
            await events_of(agent)


async def test_an_empty_answer_is_not_kept(store: Store) -> None:
    async with (
        ScriptedServer(ending()) as server,
        open_agent(server, store=store, conversation_id="a") as agent,
    ):
        await events_of(agent)

    assert said(await store.load("a")) == ["Go."]
