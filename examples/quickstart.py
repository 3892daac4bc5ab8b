"""A first subclass: an API's events, its session, and tokens printed as they come.

Offline, against a server inside this program:  python examples/quickstart.py
Live, against any server that speaks the same:  ACME_BASE_URL=... ACME_API_KEY=... python ...
"""

import asyncio
import os
from typing import Literal

from streamsession import AsyncSession, Event, Stream, Usage
from streamsession.testing import ScriptedResponse, ScriptedServer


class Token(Event):
    """A piece of the answer."""

    type: Literal["token"] = "token"
    text: str


class Done(Event):
    """The answer is complete."""

    type: Literal["done"] = "done"
    usage: Usage


class Acme(AsyncSession[Token | Done]):
    """A session with Acme."""

    base_url = "https://api.acme.example/v1"
    final_events = (Done,)

    def stream(self, prompt: str, *, model: str = "acme-1") -> Stream[Token | Done]:
        """The answer to a prompt, token by token."""
        return self.open_stream("POST", "/generate", json={"prompt": prompt, "model": model})


async def main(base_url: str, api_key: str | None = None) -> None:
    """Ask once and print the answer while it comes."""
    async with Acme(base_url=base_url, api_key=api_key) as session:
        async for event in session.stream("Say hello."):
            match event:
                case Token():
                    print(event.text, end="", flush=True)
                case Done():
                    print(f"\n[{event.usage.output_tokens} tokens]")


OFFLINE = ScriptedResponse.sse(
    *(Token(text=text) for text in ("Hello", ",", " world", "!")),
    Done(usage=Usage(input_tokens=3, output_tokens=4)),
    pause=0.05,
)

if __name__ == "__main__":
    if url := os.environ.get("ACME_BASE_URL"):
        asyncio.run(main(url, os.environ.get("ACME_API_KEY")))
    else:
        with ScriptedServer(OFFLINE) as server:
            asyncio.run(main(server.url))
