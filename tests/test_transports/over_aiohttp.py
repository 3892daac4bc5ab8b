"""For tests of other modules: aiohttp carries what they send."""

import pytest

from streamsession.aiohttp import AiohttpTransport
from tests.test_faults import test_connecting
from tests.test_faults.fronts import HOST
from tests.test_transports.mirror import use

__all__ = ["anyio_backend", "over_aiohttp"]


@pytest.fixture
def anyio_backend() -> str:
    """It runs on no other; tests that name uvloop run on that too."""
    return "asyncio"


@pytest.fixture(autouse=True)
def over_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, AiohttpTransport)
    monkeypatch.setattr(test_connecting, "behind_a_proxy", behind_a_proxy)


def behind_a_proxy(port: int) -> AiohttpTransport:
    return AiohttpTransport(proxy=f"http://{HOST}:{port}")
