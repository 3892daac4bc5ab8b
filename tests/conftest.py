"""What all tests share."""

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import certifi
import pytest

from streamsession import Timeouts
from streamsession.testing import Pause

pytest_plugins = ["streamsession.testing.fixtures", "tests.canary"]

# httpx sends a body from an async generator; trio tells of one that was cancelled on its way.
_THEIR_GENERATOR = r"ignore:Async generator 'httpx2?\._content\.ByteStream\.:ResourceWarning"

_CERTIFICATE_ENDS = "-----END CERTIFICATE-----\n"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", _THEIR_GENERATOR)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while thousands of tests are made, which all stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture(scope="session", autouse=True)
def _one_certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Spare every httpx client from loading all of them, which takes longer than most tests."""
    first, end, _ = Path(certifi.where()).read_text(encoding="utf-8").partition(_CERTIFICATE_ENDS)
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    path.write_text(first + end, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> None:  # pyright: ignore[reportUnusedFunction]
    """Make collecting fast: what is there before the tests of a module is no garbage of theirs.

    To look at thousands of tests, and at all that was imported, takes a tenth of a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the contract wait for a third of the time that it takes with other people's sessions."""
    module, soon = "streamsession.testing._contract._waits", 0.05
    monkeypatch.setattr(f"{module}._SOON", soon)
    monkeypatch.setattr(f"{module}._SHORT", Timeouts(connect=10, first_event=soon, idle=soon))
    monkeypatch.setattr(f"{module}._BRIEF", Timeouts(connect=10, first_event=10, idle=soon))
    monkeypatch.setattr(f"{module}._BETWEEN_PINGS", Pause(soon / 6))


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are processors: every third second of a test is a wait.

    Not under coverage, where the tests work twice as long in as many seconds of waiting.
    """
    return (os.cpu_count() or 1) + ("coverage" not in sys.modules)
