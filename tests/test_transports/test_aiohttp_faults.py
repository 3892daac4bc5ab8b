"""Over aiohttp: failures have the same names, and tell no secrets."""

import pytest

from tests import test_secrets
from tests.test_faults import (
    test_compression,
    test_connecting,
    test_ends,
    test_redirects,
    test_stalls,
)
from tests.test_faults.conftest import certificates, trusted
from tests.test_transports.mirror import same_as
from tests.test_transports.over_aiohttp import anyio_backend, over_aiohttp

__all__ = ["anyio_backend", "certificates", "over_aiohttp", "silent_port", "trusted"]

pytestmark = pytest.mark.anyio

silent_port = test_secrets.silent_port

globals().update(same_as(test_compression))
globals().update(
    same_as(
        test_connecting,
        without=[
            # asyncio's TLS drops what came in the same piece as the damage.
            "test_a_stream_over_tls_that_is_damaged_is_interrupted",
            # It fails only over httpcore.
            "test_a_handshake_that_fails_in_a_tunnel_does_not_block_the_pool",
        ],
    )
)
globals().update(same_as(test_ends, without=["test_what_is_no_http_is_interrupted"]))
globals().update(same_as(test_redirects))
globals().update(same_as(test_stalls))
globals().update(
    same_as(
        test_secrets,
        only=[
            "test_a_body_that_fails_on_its_way_tells_nothing",
            "test_a_header_that_the_library_refuses_is_not_told",
            "test_a_proxy_sees_what_is_not_encrypted_as_it_must",
            "test_a_proxy_that_cannot_be_used_is_an_error_of_ours",
            "test_cookies_do_not_pile_up",
            "test_neither_closing_nor_cancelling_tells_a_secret",
            "test_no_cookie_is_kept",
            "test_no_failure_tells_a_secret",
            "test_no_failure_tells_what_is_in_a_query",
            "test_no_failure_to_connect_tells_a_secret",
            "test_what_a_failure_came_from_is_pickled_without_a_secret",
        ],
    )
)
