"""No tokens, no SSE: a build server that follows a build over JSON Lines.

Offline, against a server inside this program:  python examples/jsonlines.py
Live, against any server that speaks the same:  FORGE_BASE_URL=... FORGE_API_KEY=... python ...
"""

import asyncio
import os
from typing import Literal, TypeAlias
from urllib.parse import quote

from pydantic import BaseModel

from streamsession import AsyncSession, Event, JSONLinesDecoder, Stream
from streamsession.testing import ScriptedResponse, ScriptedServer


class Build(BaseModel):
    """A build that was accepted."""

    id: str
    commit: str


class Step(Event):
    """A step of the build begins."""

    type: Literal["step"] = "step"
    name: str


class Output(Event):
    """A line that the step under way has printed."""

    type: Literal["output"] = "output"
    text: str


class Finished(Event):
    """The build is over."""

    type: Literal["finished"] = "finished"
    status: Literal["passed", "failed"]
    seconds: float


BuildEvent: TypeAlias = Step | Output | Finished


class Forge(AsyncSession[BuildEvent]):
    """A session with a build server."""

    base_url = "https://forge.example/api"
    framing = JSONLinesDecoder
    final_events = (Finished,)
    idempotency_header = "idempotency-key"  # tried again, `start` still starts one build

    async def start(self, commit: str) -> Build:
        """Have a commit built; a plain call, answered at once."""
        return await self.request("POST", "/builds", json={"commit": commit}, result=Build)

    def stream(self, build_id: str) -> Stream[BuildEvent]:
        """What a build does, from its first step until it has finished."""
        return self.open_stream("GET", f"/builds/{quote(build_id, safe='')}/log")


async def main(base_url: str, api_key: str | None = None) -> None:
    """Start a build and print what it does."""
    async with Forge(base_url=base_url, api_key=api_key) as session:
        build = await session.start(commit="main")
        print(f"build {build.id} of {build.commit}")
        async for event in session.stream(build.id):
            match event:
                case Step():
                    print(f"== {event.name}")
                case Output():
                    print(f"   {event.text}")
                case Finished():
                    print(f"{event.status} after {event.seconds} s")


OFFLINE = (
    ScriptedResponse.json(Build(id="b/17", commit="main")),
    ScriptedResponse.json_lines(
        Step(name="compile"),
        Output(text="214 files"),
        Step(name="test"),
        Output(text="1 of 96: sums are right"),
        Output(text="96 of 96: nothing is left over"),
        Finished(status="passed", seconds=41.5),
        pause=0.05,
    ),
)

if __name__ == "__main__":
    if url := os.environ.get("FORGE_BASE_URL"):
        asyncio.run(main(url, os.environ.get("FORGE_API_KEY")))
    else:
        with ScriptedServer(*OFFLINE) as server:
            asyncio.run(main(server.url))
