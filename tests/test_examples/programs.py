"""Examples as programs, and the sessions in them fed with bodies."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TypeVar

import httpx

from streamsession import RetryPolicy, Stream, StreamError
from streamsession.testing import Step, mock_stream

ROOT = Path(__file__).parents[2]

EventT = TypeVar("EventT")

ONCE = RetryPolicy(attempts=1)


def run(name: str, *arguments: str, **live: str) -> subprocess.CompletedProcess[str]:
    """What `python examples/<name>` prints from the root of the project.

    Args:
        name: The file.
        arguments: Of the command line.
        live: Environment variables; no other one says where an API is or holds its key.
    """
    settings = ("_BASE_URL", "_API_KEY", "_MODEL", "_PROXY", "_proxy")
    offline = {name: value for name, value in os.environ.items() if not name.endswith(settings)}
    return subprocess.run(
        [sys.executable, "-W", "error", f"examples/{name}", *arguments],
        cwd=ROOT,
        env={**offline, **live},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def playing(*steps: Step) -> httpx.MockTransport:
    """A transport that answers every request with an event stream of these steps."""
    return httpx.MockTransport(mock_stream(*steps))


async def ending(stream: Stream[EventT]) -> StreamError | None:
    """How a stream ends: None once it is complete. Nothing but a `StreamError` may come instead."""
    try:
        await stream.collect()
    except StreamError as exc:
        return exc
    return None
