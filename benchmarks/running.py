"""Starts the server and the workers, and has these measure in turns.

All are forked off one process that has imported whatever any of them needs (`preloaded`): nothing
is imported while something is measured.
"""

import multiprocessing
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any, Final

from .reading import Address
from .results import Table
from .server import serve
from .worker import work
from .workloads import Workload

__all__ = ["measured", "server"]

_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["benchmarks.preloaded"])


@contextmanager
def _process(
    target: Callable[..., None], *args: Any, **options: Any
) -> Generator["Connection[Any, Any]"]:
    """A pipe to a process, which is ended with the block."""
    ours, theirs = _FORKS.Pipe()
    process = _FORKS.Process(target=target, args=(theirs, *args), kwargs=options, daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join()


@contextmanager
def server() -> Generator[Address]:
    """Where a server is."""
    with _process(serve) as pipe:
        yield pipe.recv()


def measured(workload: Workload, address: Address, *, rounds: int, quick: bool) -> Table:
    """Every row of a workload measured in its turn, so many times."""
    table = Table(workload, {row: [] for row in workload.rows})
    with ExitStack() as stack:
        workers = [
            stack.enter_context(_process(work, workload.name, number, address, quick=quick))
            for number in range(len(workload.rows))
        ]
        for _ in range(min(rounds, workload.rounds)):
            for row, worker in zip(workload.rows, workers, strict=True):
                worker.send("measure")
                table.rounds[row].append(worker.recv())
    return table
