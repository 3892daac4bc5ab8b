"""The examples as programs: each by itself, and each with a live server in the environment."""

import os
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.test_examples.programs import EXAMPLES, Live, Programs, run

_ABOUT_A_SERVER = ("_BASE_URL", "_API_KEY", "_MODEL", "_PROXY", "_proxy")


@pytest.fixture(scope="session")
def programs(_one_certificate: None) -> Programs:
    """What each example prints as a program of its own, offline; all of them run at once."""
    offline = {key: value for key, value in os.environ.items() if not key.endswith(_ABOUT_A_SERVER)}
    names = [path.name for path in EXAMPLES.glob("[!_]*.py")]
    with ThreadPoolExecutor() as pool:
        ended = pool.map(partial(run, environment=offline), names)
        return dict(zip(names, ended, strict=True))


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
