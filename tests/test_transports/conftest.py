"""Whom the clients of these tests trust, and what is left out for the sake of time."""

from pathlib import Path

import pytest

from tests.test_transports.gateway import authority

_HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    """Trust the servers of these tests, and only them."""
    path = tmp_path / "authority.pem"
    path.write_bytes(authority().cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what cannot be here, and what tells no more here than elsewhere."""
    items[:] = [item for item in items if _HERE not in item.path.parents or _belongs(item)]


def _belongs(item: pytest.Item) -> bool:
    of_aiohttp_on_trio = "aiohttp" in item.path.name and "trio" in item.name
    return not of_aiohttp_on_trio and "JSON Lines" not in item.name
