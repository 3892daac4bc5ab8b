"""Where conversations are kept: in memory, or in a SQLite file."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Final, Protocol

from anyio import to_thread
from pydantic_core import from_json

from agent_conversation import Conversation
from streamsession import SessionError


class ConversationConflict(SessionError):
    """Someone else has saved the conversation since it was loaded: load it anew."""


class Store(Protocol):
    """Where conversations are kept."""

    async def load(self, conversation_id: str) -> Conversation | None:
        """A conversation as it was last saved; None if it never was."""
        ...

    async def save(self, conversation: Conversation) -> None:
        """Keep a conversation as it is now, all or nothing, and count its `version` up.

        Raises:
            ConversationConflict: Another version is kept than was loaded; it stays.
        """
        ...


def _conflict(conversation: Conversation) -> ConversationConflict:
    return ConversationConflict(
        f"conversation {conversation.id!r} was saved by someone else after version "
        f"{conversation.version}: let one agent at a time use it, and load it anew"
    )


class MemoryStore:
    """Keeps conversations as long as it lives."""

    def __init__(self) -> None:
        self._saved: dict[str, Conversation] = {}

    async def load(self, conversation_id: str) -> Conversation | None:
        """See `Store.load`."""
        saved = self._saved.get(conversation_id)
        return saved and saved.model_copy(deep=True)

    async def save(self, conversation: Conversation) -> None:
        """See `Store.save`."""
        saved = self._saved.get(conversation.id)
        if conversation.version != (saved.version if saved else 0):
            raise _conflict(conversation)
        conversation.version += 1
        self._saved[conversation.id] = conversation.model_copy(deep=True)


_CREATE: Final = """
CREATE TABLE IF NOT EXISTS conversations (id TEXT PRIMARY KEY, version INTEGER, said TEXT)
"""
_SAVE: Final = """
INSERT INTO conversations VALUES (:id, :version + 1, :said)
ON CONFLICT (id) DO UPDATE SET version = version + 1, said = :said WHERE version = :version
"""
_LOAD: Final = "SELECT version, said FROM conversations WHERE id = ?"


class SQLiteStore:
    """Keeps conversations in a file, which any number of processes may share.

    Each save is one short transaction, in a worker thread; cancelling waits for it.

    Args:
        path: The file; made if there is none.
        timeout: Seconds to wait at most for another's transaction; then it is a `sqlite3.Error`.
    """

    def __init__(self, path: str | Path, *, timeout: float = 5.0) -> None:
        self._path = path
        self._timeout = timeout
        self._lock = threading.Lock()

    async def load(self, conversation_id: str) -> Conversation | None:
        """See `Store.load`."""
        return await to_thread.run_sync(self._load, conversation_id)

    async def save(self, conversation: Conversation) -> None:
        """See `Store.save`."""
        said = conversation.model_dump_json(exclude={"id", "version"})
        await to_thread.run_sync(self._save, conversation, said)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=self._timeout, isolation_level=None)
        database.execute(_CREATE)
        return database

    def _load(self, conversation_id: str) -> Conversation | None:
        with closing(self._connect()) as database:
            row = database.execute(_LOAD, [conversation_id]).fetchone()
        if row is None:
            return None
        version, said = row
        return Conversation(id=conversation_id, version=version, **from_json(said))

    def _save(self, conversation: Conversation, said: str) -> None:
        # The version is counted here, under the lock: whoever awaited it may be cancelled by now.
        with self._lock, closing(self._connect()) as database:
            values = {"id": conversation.id, "version": conversation.version, "said": said}
            if not database.execute(_SAVE, values).rowcount:
                raise _conflict(conversation)
            conversation.version += 1
