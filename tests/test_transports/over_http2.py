"""For tests of other modules: what they send goes over HTTP/2, through a gateway."""

from collections.abc import Iterator

import pytest

from streamsession.http2 import HTTP2Transport
from tests import test_connections_cancel
from tests.acme import Acme
from tests.test_faults import apis, test_ends
from tests.test_transports.gateway import ServerBehindAGateway
from tests.test_transports.mirror import use

__all__ = ["over_http2", "scripted_server"]


@pytest.fixture(autouse=True)
def over_http2(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, HTTP2Transport)
    monkeypatch.setattr(test_connections_cancel, "ScriptedServer", ServerBehindAGateway)
    for module in (apis, test_ends):
        monkeypatch.setattr(module, "works", works_on_any_connection)


@pytest.fixture
def scripted_server() -> Iterator[ServerBehindAGateway]:
    with ServerBehindAGateway() as server:
        yield server


_works = apis.works


async def works_on_any_connection(
    session: Acme, *, reused: bool | None = None, text: str = "next"
) -> None:
    """A stream that breaks does not break its connection, which is used again."""
    del reused
    await _works(session, text=text)
