"""Examples as programs, and the sessions in them fed with bodies."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, TypeVar

import httpx
import pytest

from streamsession import RetryPolicy, Stream, StreamError
from streamsession.testing import Pause, ScriptedResponse, Step, mock_stream

EXAMPLES = Path(__file__).parents[2] / "examples"

EventT = TypeVar("EventT")


class Programs(dict[str, subprocess.CompletedProcess[str]]):
    """What the examples print, by their files; see the fixture `programs`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        self._environment = environment

    def __missing__(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run it, once."""
        self[name] = ended = run(name, self._environment)
        return ended


Live: TypeAlias = Callable[..., str]
"""Runs an example with arguments and environment variables; see the fixture `live`."""

ONCE = RetryPolicy(attempts=1)
ONE_LOOP = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""For what tries hundreds of bodies, and is the same on every event loop."""


def run(name: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What `python examples/<name>` prints from the root of the project."""
    return subprocess.run(
        [sys.executable, "-W", "error", f"examples/{name}"],
        cwd=EXAMPLES.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def at_once(response: ScriptedResponse) -> ScriptedResponse:
    """A response without its pauses."""
    steps = tuple(step for step in response.steps if not isinstance(step, Pause))
    return replace(response, steps=steps)


def playing(*steps: Step) -> httpx.MockTransport:
    """A transport that answers every request with an event stream of these steps."""
    return httpx.MockTransport(mock_stream(*steps))


def playing_each(
    bodies: Iterable[Sequence[Step]], *, content_type: str = "text/event-stream"
) -> httpx.MockTransport:
    """A transport that answers each request with a stream of the steps that come next."""
    answers = (mock_stream(*steps, content_type=content_type) for steps in bodies)

    def answer(request: httpx.Request) -> httpx.Response:
        return next(answers)(request)

    return httpx.MockTransport(answer)


async def ending(stream: Stream[EventT]) -> StreamError | None:
    """How a stream ends: None once it is complete. Nothing but a `StreamError` may come instead."""
    try:
        await stream.collect()
    except StreamError as exc:
        return exc
    return None
