"""The handbook's program: a session that says when it is set up, used and torn down.

Offline, against a server inside this program:  python examples/handbook.py
The same, with a block that raises half-way:    python examples/handbook.py --fail
Live, against any server that speaks the same:  AGENT_BASE_URL=... AGENT_API_KEY=... python ...
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

from streamsession import AsyncSession, Done, TextDelta
from streamsession.testing import ScriptedResponse, ScriptedServer


class SetupSession(AsyncSession):
    """A guarded session: what `connect` set up, `disconnect` tears down, whatever happens."""

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        super().__init__(base_url=base_url, api_key=api_key)
        print("[Init] Session object created, nothing is open yet")

    async def connect(self) -> None:
        """Awaited on entering the block, with the connection pool open."""
        print("[Enter] Connection pool open")

    async def disconnect(self) -> None:
        """Awaited on leaving the block, also when it raises or is cancelled."""
        print("[Exit] Connection pool closing")

    def get_id(self) -> str:
        """What names this session in its logs."""
        return self.id


async def run_agent(session: SetupSession) -> AsyncGenerator[str]:
    """The tokens of one run as they come; close it, as `aclosing` does, when leaving early."""
    print("[Stream] Waiting for tokens")
    async with session.stream("POST", "/run") as stream:
        async for token in stream.text():
            yield token


async def main(base_url: str, api_key: str | None = None, *, fail: bool = False) -> None:
    """Run the agent once within a session; `fail` raises as soon as a token has come."""
    async with SetupSession(base_url, api_key) as session:
        print(f"[Logic] Session Active: {session.get_id()}")
        async with aclosing(run_agent(session)) as tokens:
            async for token in tokens:
                print(f"[Received] {token}")
                if fail:
                    raise RuntimeError("the block has raised: [Exit] was printed all the same")


TOKENS = [TextDelta(text=text) for text in ("Hello", "Human", "!")]
OFFLINE = ScriptedResponse.sse(*TOKENS, Done(), pause=0.05)

if __name__ == "__main__":
    fail = "--fail" in sys.argv
    if url := os.environ.get("AGENT_BASE_URL"):
        asyncio.run(main(url, os.environ.get("AGENT_API_KEY"), fail=fail))
    else:
        with ScriptedServer(OFFLINE) as server:
            asyncio.run(main(server.url, fail=fail))
