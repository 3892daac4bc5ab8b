"""A first subclass: an API's events, its session, and tokens printed as they come.

Offline, against a server inside this program:  python examples/quickstart.py
Live, against any server that speaks the same:  ACME_BASE_URL=... ACME_API_KEY=... python ...
"""
# ruff: noqa: D101, D102 - the classes are the 15 lines of the README, as they stand there

import asyncio
import os
from typing import Literal

from streamsession import AsyncSession, Event, Stream
from streamsession.testing import ScriptedResponse, ScriptedServer


class Token(Event):
    type: Literal["token"] = "token"
    text: str


class Done(Event):
    type: Literal["done"] = "done"


class Acme(AsyncSession[Token | Done]):
    base_url = "https://api.acme.example/v1"
    final_events = (Done,)

    def stream(self, prompt: str, *, model: str = "acme-1") -> Stream[Token | Done]:
        return self.open_stream("POST", "/generate", json={"prompt": prompt, "model": model})


async def main(base_url: str, api_key: str | None = None) -> None:
    """Ask once and print the answer while it comes."""
    async with Acme(base_url=base_url, api_key=api_key) as session:
        async for event in session.stream("Say hello."):
            print(event.as_token(), end="", flush=True)
    print()


TOKENS = [Token(text=text) for text in ("Hello", ",", " world", "!")]
OFFLINE = ScriptedResponse.sse(*TOKENS, Done(), pause=0.05)

if __name__ == "__main__":
    if url := os.environ.get("ACME_BASE_URL"):
        asyncio.run(main(url, os.environ.get("ACME_API_KEY")))
    else:
        with ScriptedServer(OFFLINE) as server:
            asyncio.run(main(server.url))
