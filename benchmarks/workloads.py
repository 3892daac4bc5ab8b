"""What is measured: each workload is a table, each of its rows a process of its own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from .measures import Measure, Row, alone, burst, held, imported, paced, short

__all__ = ["Workload", "workloads"]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A table.

    Attributes:
        name: What it is called on the command line.
        title: What it is called for people.
        about: What is measured, in a sentence or two.
        columns: What the values are called for people; the first one is compared.
        rows: Who takes part, in this order.
        measure: How each is measured.
        rounds: How often, at most.
    """

    name: str
    title: str
    about: str
    columns: Mapping[str, str]
    rows: tuple[Row, ...]
    measure: Measure
    rounds: int = 100


def _rows(of: str, *contenders: str) -> tuple[Row, ...]:
    """Contenders as "name/over"."""
    return tuple(Row(of, *each.split("/")) for each in contenders)


_CPU: Final = {"cpu": "µs of CPU per event"}

# Who stands on httpx: by hand on its own transport and on that of ours, and a session.
_HTTPX: Final = ("floor/httpx", "floor, our transport/httpx", "ours/httpx")
_AIOHTTP: Final = ("floor/aiohttp", "floor, our transport/aiohttp", "ours/aiohttp")
_HTTP2: Final = ("floor/http2", "floor, our transport/http2", "ours/http2")
_VARIED: Final = (
    "ours, httpx.AsyncClient/httpx",
    "floor, own classes/httpx",
    "ours, own classes/httpx",
    "ours, neutral events/httpx",
)
_BURST: Final = (
    *_rows("tokens", *_HTTPX, "ours, httpx.AsyncClient/httpx", "ours, keep_reply=False/httpx"),
    *_rows("tokens", "httpx-sse/httpx", "httpx2/httpx2", "floor/socket", *_AIOHTTP),
    *_rows("tokens", "floor/httpx, uvloop", "ours/httpx, uvloop", *_HTTP2),
    *_rows("openai", *_HTTPX, "openai/httpx2", *_VARIED, *_AIOHTTP, "openai/aiohttp"),
    *_rows("anthropic", *_HTTPX, "anthropic/httpx2", *_VARIED, *_AIOHTTP, "anthropic/aiohttp"),
)
_BYTES: Final = (
    *_rows("tokens", "floor/httpx", "ours/httpx", "httpx-sse/httpx", "httpx2/httpx2"),
    *_rows("openai", "floor/httpx", "ours/httpx", "openai/httpx2"),
    *_rows("anthropic", "floor/httpx", "ours/httpx", "anthropic/httpx2"),
)
_PACED: Final = (
    *_rows("openai", *_HTTPX, "openai/httpx2"),
    *_rows("openai", "floor/aiohttp", "ours/aiohttp", "openai/aiohttp", "floor/socket"),
    *_rows("openai", "floor/aiohttp, uvloop", "ours/aiohttp, uvloop"),
)
_PACED_100: Final = (
    *_PACED,
    *_rows("openai", "ours, httpx.AsyncClient/httpx", "floor, our transport/aiohttp"),
    *_rows("anthropic", "floor/httpx", "ours/httpx", "anthropic/httpx2"),
    *_rows("tokens", *_HTTP2),  # all in one connection
)
_SHORT: Final = (
    *_rows("tokens", *_HTTPX, "httpx-sse/httpx", "httpx2/httpx2"),
    *_rows("tokens", "floor/aiohttp", "ours/aiohttp", "floor/socket", "floor/http2", "ours/http2"),
    *_rows("openai", *_HTTPX, "openai/httpx2"),
    *_rows("anthropic", *_HTTPX, "anthropic/httpx2"),
)
_COLLECT: Final = _rows("tokens", "floor, collecting/httpx", "ours, collect()/httpx")
_LARGE: Final = _rows("tokens", "floor/httpx", "ours/httpx", "httpx-sse/httpx", "httpx2/httpx2")
_LARGE_SDKS: Final = (
    *_rows("openai", "floor/httpx", "ours/httpx", "openai/httpx2"),
    *_rows("anthropic", "floor/httpx", "ours/httpx", "anthropic/httpx2"),
)
_SSE: Final = ("floor", "ours", "httpx-sse", "httpx2", "openai", "anthropic")
_DECODERS: Final = (
    *_rows("data", *_SSE),
    *_rows("event and data", *_SSE),
    *_rows("JSON Lines", "floor", "ours"),
    *_rows("JSON text sequence", "floor", "ours"),
    *_rows("JSON array", "floor", "ours"),
    *_rows("AWS event stream", "floor", "ours", "botocore"),
)
_IMPORTS: Final = {
    "python": "",
    # httpx puts off what it takes of anyio until its first request
    "floor": """
import asyncio, httpx, pydantic
from anyio import CancelScope, Event, Lock, Semaphore, fail_after
class Token(pydantic.BaseModel): text: str
pydantic.TypeAdapter(Token)
httpx.AsyncClient
""",
    "ours": """
import asyncio, streamsession
class Token(streamsession.Event): text: str
class Acme(streamsession.AsyncSession[Token]): pass
""",
    # and with whatever else is put off until then
    "floor, read": """
import asyncio, os, httpx, pydantic
class Token(pydantic.BaseModel): text: str = ""
validate = pydantic.TypeAdapter(Token).validate_json
async def main():
    async with httpx.AsyncClient(base_url=os.environ["URL"]) as client:
        request = {"model": "burst-1-1"}
        async with client.stream("POST", "/generate", json=request) as response:
            assert [validate(line[5:]) async for line in response.aiter_lines() if line]
asyncio.run(main())
""",
    "ours, read": """
import asyncio, os, streamsession
class Token(streamsession.Event): text: str = ""
class Acme(streamsession.AsyncSession[Token]): final_events = None
async def main():
    async with Acme(base_url=os.environ["URL"]) as session:
        request = {"model": "burst-1-1"}
        async with session.open_stream("POST", "/generate", json=request) as stream:
            assert [token async for token in stream]
asyncio.run(main())
""",
    "floor, alone": "import httpx, pydantic",
    "ours, alone": "import streamsession",
    "openai": "from openai import AsyncOpenAI",
    "anthropic": "from anthropic import AsyncAnthropic",
}


def workloads(*, quick: bool) -> dict[str, Workload]:
    """All of them by name, in order; quick ones measure less, more coarsely."""
    groups = (_bursts, _many_streams, _short_streams, _of_size, _without_streams)
    return {each.name: each for group in groups for each in group(quick=quick)}


def _bursts(*, quick: bool) -> Iterator[Workload]:
    for per_chunk, tokens in ((1, 1000 if quick else 3000), (50, 2000 if quick else 5000)):
        events = "one event" if per_chunk == 1 else f"{per_chunk} events"
        yield Workload(
            name=f"burst-{per_chunk}",
            title=f"Burst, {events} per chunk",
            about=f"A long answer that is there at once, {events} in each chunk of HTTP.",
            columns=_CPU,
            rows=_BURST,
            measure=burst(f"burst-{tokens}-{per_chunk}", tokens=tokens),
        )
    tokens = 20 if quick else 50
    yield Workload(
        name="bytes",
        title="Byte by byte",
        about="An answer that is there at once, one byte in each chunk of HTTP.",
        columns=_CPU,
        rows=_BYTES,
        measure=burst(f"bytes-{tokens}", tokens=tokens),
    )


def _many_streams(*, quick: bool) -> Iterator[Workload]:
    seconds = 1.0 if quick else 5.0
    for streams in (100,) if quick else (100, 1000):
        yield Workload(
            name=f"paced-{streams}",
            title=f"Paced, {streams:,} streams",
            about=f"{streams:,} streams at once, each with ten events a second for {seconds:g} s, "
            "evenly one after the other. First with opening and ending them, then without.",
            columns={**_CPU, "paced": "µs of it while open", "busy": "% of a core"},
            rows=_PACED_100 if streams == 100 else _PACED,
            measure=paced(streams=streams, rate=10, seconds=seconds),
            rounds=1 if quick else 2,
        )
    yield Workload(
        name="memory",
        title="Memory per open stream",
        about="What each of many streams holds that have had their first token and wait for more.",
        columns={"traced": "KiB by tracemalloc", "resident": "KiB resident"},
        rows=_SHORT,
        measure=held(streams=30 if quick else 100),  # httpx has no more over HTTP/2
        rounds=1,
    )


def _short_streams(*, quick: bool) -> Iterator[Workload]:
    measure = short(streams=30 if quick else 200)
    yield Workload(
        name="first",
        title="Time to the first event",
        about="By the clock, from the request to the first event, on a connection kept alive.",
        columns={"first": "µs"},
        rows=_SHORT,
        measure=measure,
        rounds=5,
    )
    yield Workload(
        name="open",
        title="Opening and closing",
        about="Streams of one token, one after the other, on a connection kept alive.",
        columns={"cpu": "µs of CPU per stream"},
        rows=_SHORT,
        measure=measure,
        rounds=5,
    )


def _of_size(*, quick: bool) -> Iterator[Workload]:
    for tokens in (1000, 10_000) if quick else (10_000, 100_000):
        yield Workload(
            name=f"collect-{tokens}",
            title=f"Collecting {tokens:,} events",
            about="All events of an answer in a list, and their text; 50 events per chunk.",
            columns=_CPU,
            rows=_COLLECT,
            measure=burst(f"burst-{tokens}-50", tokens=tokens),
        )
    for size in (1, 8) if quick else (8, 64):
        yield Workload(
            name=f"large-{size}",
            title=f"An event of {size} MiB",
            about="One event in chunks of 4 KiB.",
            columns={"cpu": "µs of CPU per MiB"},
            rows=_LARGE if size > 8 else (*_LARGE, *_LARGE_SDKS),
            measure=burst(f"large-{size}", tokens=1, per=size),
            rounds=3,
        )


def _without_streams(*, quick: bool) -> Iterator[Workload]:
    for per_chunk in (1, 50):
        events = "one event" if per_chunk == 1 else f"{per_chunk} events"
        yield Workload(
            name=f"decoder-{per_chunk}",
            title=f"Decoder alone, {events} per chunk",
            about="From chunks in memory to frames, without a socket, and without typed events.",
            columns=_CPU,
            rows=_DECODERS,
            measure=alone(events=2000 if quick else 10_000, per_chunk=per_chunk),
        )
    yield Workload(
        name="import",
        title="Import",
        about="A fresh interpreter that declares an event and a client of its own, or imports one; "
        "one that reads a stream with it, too; and one that does no more than import.",
        columns={"cpu": "ms of CPU"},
        rows=_rows("", *_IMPORTS),
        measure=imported(_IMPORTS),
    )
