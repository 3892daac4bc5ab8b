"""One row of a table, in a process of its own: measures whenever it is told to."""

import asyncio
from contextlib import aclosing, suppress
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from .reading import Address
from .workloads import workloads

__all__ = ["work"]


def work(
    pipe: "Connection[Any, Any]", name: str, number: int, address: Address, *, quick: bool
) -> None:
    """Answer each message with a measurement, until the other end is closed.

    Args:
        pipe: To whom it answers.
        name: Of the workload.
        number: Of the row in it, from 0.
        address: Of the server.
        quick: Whether the workload is.
    """
    over = workloads(quick=quick)[name].rows[number].over
    loop = uvloop.new_event_loop if over.endswith("uvloop") else None
    with asyncio.Runner(loop_factory=loop) as runner, suppress(EOFError):
        runner.run(_work(pipe, name, number, address, quick=quick))


async def _work(
    pipe: "Connection[Any, Any]", name: str, number: int, address: Address, *, quick: bool
) -> None:
    workload = workloads(quick=quick)[name]
    async with aclosing(workload.measure(workload.rows[number], address)) as measurements:
        while True:
            pipe.recv()
            pipe.send(await anext(measurements))
