"""Over aiohttp: what becomes of connections and bodies, however a stream is cancelled."""

import pytest

from tests import test_closing, test_connections, test_connections_bodies, test_connections_cancel
from tests.test_transports.mirror import same_as
from tests.test_transports.over_aiohttp import anyio_backend, over_aiohttp

__all__ = ["anyio_backend", "over_aiohttp", "phase", "server"]

pytestmark = pytest.mark.anyio

phase = test_connections_cancel.phase
server = test_closing.server

globals().update(
    same_as(
        test_closing,
        only=[
            "test_a_session_is_left_with_streams_of_all_kinds",
            "test_a_stream_is_left_in_this_way",
        ],
    )
)
globals().update(same_as(test_connections))
globals().update(same_as(test_connections_bodies))
globals().update(
    same_as(
        test_connections_cancel,
        without=[
            # These watch the steps of httpcore, and transports of their own.
            "test_a_scope_cancels_at_every_step_of_httpcore",
            "test_a_task_is_cancelled_at_every_step_of_httpcore",
            "test_a_transport_cleans_up_however_often_it_is_cancelled",
            "test_a_transport_cleans_up_when_its_own_scope_is_cancelled_with_its_task",
            "test_an_answer_that_comes_as_its_task_is_cancelled_is_closed",
            # It is of trio.
            "test_no_connection_is_lost_in_a_thousand_random_scopes",
        ],
    )
)
