"""What the examples of APIs are as programs: they ask a live API, or a server inside the program.

Which one is said by environment variables, here for OpenAI:
`OPENAI_API_KEY`, `OPENAI_BASE_URL` (any server that speaks the same), `OPENAI_MODEL`.
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from streamsession import AsyncSession, Stream
from streamsession.testing import ScriptedResponse, ScriptedServer


@asynccontextmanager
async def open_session(
    kind: type[AsyncSession[Any]], offline: ScriptedResponse, variables: str
) -> AsyncGenerator[AsyncSession[Any]]:
    """A session with the API if its variables hold a key or a URL, else with one that plays it."""
    url = os.environ.get(f"{variables}_BASE_URL")
    key = os.environ.get(f"{variables}_API_KEY")
    if url or key:
        async with kind(base_url=url, api_key=key) as session:
            yield session
    else:
        async with ScriptedServer(offline) as server, kind(base_url=server.url) as session:
            yield session


def answer(session: AsyncSession[Any], prompt: str, variables: str, **options: Any) -> Stream[Any]:
    """The answer to a prompt, of the model that the variables name, or else the session's own."""
    if model := os.environ.get(f"{variables}_MODEL"):
        options["model"] = model
    return session.stream(prompt, **options)


def ask(kind: type[AsyncSession[Any]], offline: ScriptedResponse, variables: str) -> None:
    """Ask what the command line says; print the answer while it comes, then what came with it."""
    prompt = " ".join(sys.argv[1:]) or "Say hello."

    async def main() -> None:
        async with open_session(kind, offline, variables) as session:
            stream = answer(session, prompt, variables)
            async for text in stream.text():
                print(text, end="", flush=True)
        reply = stream.reply
        print(f"\n{reply.reasoning=}\n{reply.tool_calls=}\n{reply.usage=}\n{reply.finish_reason=}")

    asyncio.run(main())
