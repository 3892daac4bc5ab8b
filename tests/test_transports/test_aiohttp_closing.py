"""Over aiohttp: programs are interrupted, and event loops end."""

import pytest

from tests import test_closing_kinds
from tests.test_transports.mirror import same_as
from tests.test_transports.over_aiohttp import anyio_backend, over_aiohttp

__all__ = ["anyio_backend", "over_aiohttp", "server"]

pytestmark = pytest.mark.anyio

server = test_closing_kinds.server

globals().update(
    same_as(
        test_closing_kinds,
        without=[
            # aiohttp itself complains of what was never closed.
            "test_asyncio_ends_with_a_session_that_was_never_left",
        ],
    )
)
