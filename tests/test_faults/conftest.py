"""Certificates for the tests that need them."""

from pathlib import Path

import pytest

from tests.test_faults.fronts import Certificates


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture
def trusted(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Certificates:
    """Certificates whose authority every new httpx client trusts, as the user's own would."""
    path = tmp_path / "authority.pem"
    path.write_bytes(certificates.authority)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return certificates
