"""A promise as a test: what it says, and when it is broken, what happened and how to mend it.

Needs no plugin: each test runs an event loop of its own. Knows no session and no server.
"""

import importlib.util
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from unittest import SkipTest

import anyio

__all__ = ["LOOPS", "BrokenPromise", "promise"]

LOOPS: Final = ["asyncio", *(["trio"] if importlib.util.find_spec("trio") else [])]
"""The event loops that are installed."""

_PATIENCE: Final = 20.0  # seconds; a promise takes a fraction of one, unless something hangs

ContractT = TypeVar("ContractT")


class BrokenPromise(AssertionError):
    """A session broke a promise; the message says which, what happened, and how to mend it."""


def promise(
    mend: str,
) -> Callable[[Callable[[ContractT], Awaitable[None]]], Callable[[ContractT, str], None]]:
    """Make a test of an async method whose docstring says the promise in one sentence.

    Args:
        mend: What the author of a session that breaks it should do.
    """

    def make(check: Callable[[ContractT], Awaitable[None]]) -> Callable[[ContractT, str], None]:
        async def in_time(contract: ContractT) -> None:
            with anyio.fail_after(_PATIENCE):
                await check(contract)

        def test(contract: ContractT, backend: str) -> None:
            try:
                anyio.run(in_time, contract, backend=backend)
            except SkipTest:
                raise
            except Exception as exc:  # noqa: BLE001 - raised again
                message = (
                    f"{check.__doc__}\n  What happened: {_happened(exc)}\n  To mend it: {mend}"
                )
                told = isinstance(exc, BrokenPromise)  # and where we found out helps nobody
                raise BrokenPromise(message) from (None if told else exc)

        # Not functools.wraps: pytest would then look for the arguments of what is wrapped.
        test.__name__, test.__qualname__ = check.__name__, check.__qualname__
        test.__doc__, test.__module__ = check.__doc__, check.__module__
        return test

    return make


def _happened(exc: BaseException) -> str:
    """The exception in one line; that of a task group by the first that it holds."""
    inner: list[Any] = list(getattr(exc, "exceptions", ()))
    if inner:
        return _happened(inner[0])
    if isinstance(exc, BrokenPromise):
        return str(exc)
    if type(exc) is TimeoutError and not str(exc):
        return f"it hung: nothing came of it within {_PATIENCE:g} s"
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
