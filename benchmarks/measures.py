"""How a workload is measured, in the process of the row that is measured.

What is counted is CPU time of that process, all its threads included, for each token that the
server sent, so that it makes no difference how many objects a client makes of it. Before each
measurement rubbish is collected; the collector stays on, as it is for a user. Each measure has
opened its client and read before the first one; and where one stream is measured, a short one was
read just before, so that its connection is there: those that are idle for long are closed.
"""

import asyncio
import gc
import os
import resource
import statistics
import sys
import time
import tracemalloc
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from .reading import Address, Open, Read, Reading, order, settle

__all__ = ["Measure", "Row", "Values", "alone", "burst", "held", "imported", "paced", "short"]

_MOST_BESIDES: Final = 10  # events of an answer that are no tokens


class Row(NamedTuple):
    """A contender in a table.

    Attributes:
        of: The API whose bytes it reads, or the framing.
        name: Who it is.
        over: The HTTP library it stands on, and the event loop, if that is not asyncio's own.
    """

    of: str
    name: str
    over: str = ""


Values: TypeAlias = dict[str, float]
"""What one measurement gave, by the names of columns."""

Measure: TypeAlias = Callable[[Row, Address], AsyncGenerator[Values]]
"""Measures a row against the server there, once for each item."""


def _opened(row: Row, address: Address) -> AbstractAsyncContextManager[Read]:
    contenders: dict[str, Open] = import_module(f".apis.{row.of}", __package__).CONTENDERS
    return contenders[f"{row.name}/{row.over.partition(',')[0]}"](address)


def _check(reading: Reading, tokens: int) -> None:
    if not tokens <= reading.events <= tokens + _MOST_BESIDES:
        raise AssertionError(f"{tokens} tokens were sent, {reading.events} events came")


def _check_all(answers: int, streams: int) -> None:
    if answers != streams:
        raise AssertionError(f"of {streams} streams, {answers} were open")


def burst(model: str, *, tokens: int, per: int = 0) -> Measure:
    """An answer that is there at once; its cost is that per token, or per so much else."""

    async def measure(row: Row, address: Address) -> AsyncGenerator[Values]:
        async with _opened(row, address) as read:
            _check(await read(model), tokens)
            while True:
                await read("burst-1-1")
                gc.collect()
                began = time.process_time()
                reading = await read(model)
                spent = time.process_time() - began
                _check(reading, tokens)
                yield {"cpu": spent / (per or tokens) * 1e6}

    return measure


def short(*, streams: int) -> Measure:
    """Answers of one token, one after the other on a connection that is kept alive."""

    async def measure(row: Row, address: Address) -> AsyncGenerator[Values]:
        async with _opened(row, address) as read:
            while True:
                reading = await read("burst-1-1")
                gc.collect()
                waits: list[float] = []
                began = time.process_time()
                for _ in range(streams):
                    asked = time.perf_counter()
                    reading = await read("burst-1-1")
                    waits.append(reading.first - asked)
                spent = time.process_time() - began
                _check(reading, 1)
                yield {"cpu": spent / streams * 1e6, "first": statistics.median(waits) * 1e6}

    return measure


def paced(*, streams: int, rate: float, seconds: float) -> Measure:
    """Many answers at once, so many tokens a second each, from opening them to their end.

    `paced` is what a token cost without opening and ending, `busy` how much of a core that took, in
    percent: near 100 the client cannot keep up, and reads several tokens at a time.
    """
    each = round(rate * seconds)  # tokens of an answer, besides the first

    async def measure(row: Row, address: Address) -> AsyncGenerator[Values]:
        async with _opened(row, address) as read:
            await read("burst-100-1")
            while True:
                gc.collect()
                began = time.process_time()
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(_read(read, "paced")) for _ in range(streams)]
                    await settle()
                    opened, since = time.process_time(), time.monotonic()
                    _check_all(await order(address, f"/pace/{rate}/{seconds}"), streams)
                    busy = (time.process_time() - opened) / (time.monotonic() - since)
                    await settle()
                    told = time.process_time()
                    await order(address, "/finish")
                spent = time.process_time() - began
                for task in tasks:
                    _check(task.result(), each + 1)
                yield {
                    "cpu": spent / (streams * (each + 1)) * 1e6,
                    "paced": (told - opened) / (streams * each) * 1e6,
                    "busy": busy * 100,
                }

    return measure


async def _read(read: Read, model: str) -> Reading:
    return await read(model)


def held(*, streams: int) -> Measure:
    """What each of many streams holds while nothing comes: `traced` by Python, and in all, in KiB.

    All have handed over what came with the first token, and wait for the second. Only the first
    measurement counts: later ones find memory that was in use before.
    """

    async def measure(row: Row, address: Address) -> AsyncGenerator[Values]:
        resident = await _growth(row, address, streams, _resident)
        tracemalloc.start()
        traced = await _growth(row, address, streams, _traced)
        yield {"traced": traced / streams / 1024, "resident": resident / streams / 1024}

    return measure


async def _growth(row: Row, address: Address, streams: int, size: Callable[[], int]) -> int:
    """How much larger it is while so many streams of one client are open."""
    async with _opened(row, address) as read:
        await read("burst-100-1")
        gc.collect()
        before = size()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_read(read, "paced")) for _ in range(streams)]
            await settle()
            gc.collect()
            grown, told = size() - before, time.perf_counter()
            _check_all(await order(address, "/finish"), streams)
        for task in tasks:
            _check(task.result(), 1)
            if task.result().first > told:
                raise AssertionError("a stream had not handed over its first event")
        return grown


def _traced() -> int:
    return tracemalloc.get_traced_memory()[0]


def _resident() -> int:
    """Bytes of memory in use, as Linux tells it (`man 5 proc_pid_statm`), but for files."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")


def alone(*, events: int, per_chunk: int) -> Measure:
    """A decoder, on a body that is in memory already."""

    async def measure(row: Row, _: Address) -> AsyncGenerator[Values]:
        decoders: Any = import_module(".decoders", __package__)
        chunks = decoders.chunks_of(row.of, events=events, per_chunk=per_chunk)
        decode = decoders.DECODERS[row.of][row.name]
        while True:
            gc.collect()
            began = time.process_time()
            frames = decode(chunks)
            spent = time.process_time() - began
            _check(Reading(frames, 0.0), events)
            yield {"cpu": spent / events * 1e6}

    return measure


def imported(statements: dict[str, str]) -> Measure:
    """Statements, in an interpreter of their own; `cpu` is in milliseconds.

    Whatever they import is compiled by the end of the first round, as it is where it is installed.
    Those that ask the server find its URL in their environment.
    """

    async def measure(row: Row, address: Address) -> AsyncGenerator[Values]:
        command = [sys.executable, "-c", statements[row.name]]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "URL": address.http}
        while True:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            child = await asyncio.create_subprocess_exec(*command, env=environment)
            if await child.wait():
                raise ImportError(statements[row.name])
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            yield {"cpu": spent * 1000}

    return measure
