"""Fixtures for pytest: `pytest_plugins = ["streamsession.testing.fixtures"]` in `conftest.py`.

They are synchronous, so any async plugin of pytest will do, and none is needed.
"""

from collections.abc import Iterator

import pytest

from ._server import ScriptedServer

__all__ = ["scripted_server"]


@pytest.fixture
def scripted_server() -> Iterator[ScriptedServer]:
    """A running `ScriptedServer` without answers; the test adds them with `play`."""
    with ScriptedServer() as server:
        yield server
