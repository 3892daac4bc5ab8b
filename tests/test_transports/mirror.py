"""Running the tests of other modules once more, over another transport."""

from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any

import pytest

from streamsession import AsyncSession
from streamsession._http import Transport


def same_as(
    module: ModuleType, *, only: Collection[str] | None = None, without: Collection[str] = ()
) -> dict[str, Any]:
    """The tests of a module, for the `globals()` of another, which needs their fixtures too.

    Args:
        module: Whose tests.
        only: Their names; None takes all.
        without: The names of those that are left out.
    """
    found = {name: each for name, each in vars(module).items() if name.startswith("test_")}
    unknown = {*(only or ()), *without} - set(found)
    assert not unknown, unknown
    chosen = set(found if only is None else only) - set(without)
    return {name: each for name, each in found.items() if name in chosen}


def use(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Transport]) -> None:
    """Have every session take a new transport, as if its constructor had got it."""
    construct = AsyncSession.__init__

    def construct_over_it(self: AsyncSession[Any], **options: Any) -> None:
        if options.get("transport") is None and options.get("http_client") is None:
            options["transport"] = make()
        construct(self, **options)

    monkeypatch.setattr(AsyncSession, "__init__", construct_over_it)
