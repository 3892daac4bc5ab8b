"""A session over HTTP/2 keeps every promise of the contract."""

from typing import Any, ClassVar

import pytest

from streamsession.http2 import HTTP2Transport
from streamsession.testing import SessionContract
from streamsession.testing._contract import _bench
from tests.acme import Acme, chat
from tests.test_transports.gateway import ServerBehindAGateway

pytestmark = pytest.mark.usefixtures("hurried")


@pytest.fixture(autouse=True)
def _behind_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(_bench, "ScriptedServer", ServerBehindAGateway)


class TestContract(SessionContract):
    body: ClassVar[bytes] = chat("Hello", " ", "world")
    # Behind the gateway, each stream has a connection of its own.
    test_the_connection_is_used_again_after_a_whole_stream: ClassVar[Any] = None

    def session(self, url: str) -> Acme:
        return Acme(base_url=url, api_key=self.secret, transport=HTTP2Transport())
