"""Over HTTP/2: programs are interrupted, and event loops end."""

import pytest

from tests import test_closing_kinds
from tests.test_transports.mirror import same_as
from tests.test_transports.over_http2 import over_http2, scripted_server

__all__ = ["over_http2", "scripted_server", "server"]

pytestmark = pytest.mark.anyio

server = test_closing_kinds.server

globals().update(
    same_as(
        test_closing_kinds,
        # The event loop itself complains of its connection.
        without=["test_asyncio_ends_with_a_session_that_was_never_left"],
    )
)
