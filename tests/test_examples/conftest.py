"""The examples as programs: each by itself, and each with a live server in the environment."""

import os
import runpy
import sys

import pytest

from tests.test_examples.programs import EXAMPLES, Live, Programs

_ABOUT_A_SERVER = ("_BASE_URL", "_API_KEY", "_MODEL", "_PROXY", "_proxy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Try the contract of each example on one event loop, in turn: what they add knows of none."""
    classes: list[str] = []
    for item in items.copy():
        if item.path.name == "test_contract.py" and item.path.parent.name == "test_examples":
            name = item.nodeid.split("::")[1]
            classes += [] if name in classes else [name]
            other = "trio" if classes.index(name) % 2 else "asyncio"
            if f"[{other}" in item.name:
                items.remove(item)


@pytest.fixture(scope="session")
def programs(_one_certificate: None) -> Programs:
    """What each example prints as a program of its own, offline; it runs when it is asked for."""
    offline = {key: value for key, value in os.environ.items() if not key.endswith(_ABOUT_A_SERVER)}
    return Programs(offline)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Live:
    """Runs an example as `python examples/<name> <arguments>`, in this process; what it prints.

    Environment variables are keywords; no other one says where an API is or holds its key.
    """

    def start(name: str, *arguments: str, **environment: str) -> str:
        for key in os.environ:
            if key.endswith(_ABOUT_A_SERVER):
                monkeypatch.delenv(key)
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return start
