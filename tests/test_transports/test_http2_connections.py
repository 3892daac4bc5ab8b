"""Over HTTP/2: what becomes of streams, however they break, are left or are cancelled."""

import pytest

from tests import test_connections, test_connections_cancel, test_secrets
from tests.test_faults import test_ends
from tests.test_transports.mirror import same_as
from tests.test_transports.over_http2 import over_http2, scripted_server

__all__ = ["over_http2", "phase", "scripted_server"]

pytestmark = pytest.mark.anyio

phase = test_connections_cancel.phase

globals().update(
    same_as(
        test_connections,
        without=[
            # These count connections, of which one is enough here.
            "test_a_connection_is_used_again_after_a_request",
            "test_a_connection_is_used_again_after_an_error_status",
            "test_a_connection_is_used_again_after_the_final_event",
            "test_a_connection_is_used_again_whatever_completes_a_stream",
            "test_a_connection_is_used_again_when_the_loop_was_left_at_the_final_event",
            "test_a_stream_waits_for_its_turn",
            # These are of HTTP/1.1, or of origins without TLS.
            "test_a_connection_that_the_server_dropped_while_idle_is_replaced",
            "test_neither_credentials_nor_body_reach_another_origin",
        ],
    )
)
globals().update(
    same_as(
        test_connections_cancel,
        only=[
            "test_a_crowd_of_streams_that_end_in_all_ways_leaves_nothing_behind",
            "test_a_scope_cancels_at_every_phase",
            "test_a_task_is_cancelled_at_every_phase",
            "test_a_task_is_cancelled_at_every_step",
            "test_a_task_is_cancelled_at_every_step_of_a_longer_way",
            "test_closing_in_another_task_ends_a_stream_at_every_phase",
            "test_leaving_the_session_ends_a_stream_at_every_phase",
            "test_no_connection_is_lost_in_a_thousand_random_cancels",
            "test_no_connection_is_lost_in_a_thousand_random_scopes",
        ],
    )
)
globals().update(
    same_as(
        test_ends,
        only=[
            "test_a_body_that_is_shorter_than_announced_is_interrupted",
            "test_a_response_that_is_cut_off_at_any_byte_is_interrupted",
            "test_a_stream_ends_with_its_final_event_whatever_comes_after_it",
        ],
    )
)
globals().update(
    same_as(test_secrets, only=["test_a_proxy_that_cannot_be_used_is_an_error_of_ours"])
)
