"""One secret for all tests, and a search for it in all that the run prints and logs.

A pytest plugin: a test fails whose output, log or failure tells `CANARY`, and so does one that
catches a `StreamError` which tells it, be it by the variables in its traceback. The loggers of this
package and of what it stands on are listened to down to DEBUG, at the cost of a look at each line:
nothing is formatted or kept that nobody else has asked for.
"""

import base64
import logging
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from streamsession import StreamError

__all__ = ["CANARY", "chain", "is_told_in", "told_by"]

CANARY: Final = "canary7Qm2xV9cKe4RtB8nWz3"
"""The key, token, prompt or parameter of a test; nothing but letters and digits, so that no
escaping changes it."""

_TESTS: Final = str(Path(__file__).parent)
_HEARD: Final = logging.DEBUG - 1  # a level that no test sets: lines go no further than to us
_LOGGERS: Final = (
    "aiohttp.client", "aiohttp.internal", "asyncio", "httpcore.connection", "httpcore.http11",
    "httpcore.proxy", "httpcore2.connection", "httpcore2.http11", "httpcore2.proxy", "httpx",
    "httpx2", "streamsession", "trio",
)  # fmt: skip


def _written() -> Iterator[str]:
    """What betrays it: its beginning, for who cuts values short, and Base64 at every alignment."""
    yield CANARY[:12]
    for before in range(3):
        yield base64.b64encode(bytes(before) + CANARY.encode()).decode()[4:-4]


_WRITTEN: Final = tuple(_written())


def is_told_in(text: str) -> bool:
    """Whether a text holds the canary, or enough of it."""
    return any(each in text for each in _WRITTEN)


def chain(exc: BaseException) -> Iterator[BaseException]:
    """An exception and all that it came from."""
    left: list[BaseException | None] = [exc]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            left += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]


def told_by(exc: BaseException, tells: Callable[[str], bool] = is_told_in) -> Iterator[str]:
    """Where an exception or what it came from tells the canary, also to who shows variables.

    Those of the tests' own frames, which have it from here, are left out.
    """
    for each in chain(exc):
        name = type(each).__name__
        if tells(f"{each} {each!r} {each.args} {vars(each)}"):
            yield f"the {name}"
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if frame.f_code.co_filename.startswith(_TESTS):
                continue
            for variable, value in frame.f_locals.items():
                if tells(_shown(value)):
                    function = frame.f_code.co_name
                    yield f"the variable {variable} of {function} in the traceback of {name}"


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - what was never finished may have no repr
        return ""


class _Ear(logging.Filter):
    """Hears what a logger says, and hands on what would be said without it.

    Attributes:
        told_by: Who has told the canary since the last report.
    """

    def __init__(self) -> None:
        super().__init__()
        self.told_by: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if is_told_in(record.getMessage()):
            self.told_by.add(f"the log of {record.name}")
        is_asked_for = logging.getLogger(record.name).level != _HEARD
        return is_asked_for or record.levelno >= logging.WARNING


_ear: Final = _Ear()


def pytest_configure(config: pytest.Config) -> None:
    """Listen, and look at what `pytest.raises` catches."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(_HEARD)
        logger.addFilter(_ear)
    leave: Callable[..., bool] = pytest.RaisesExc.__exit__

    def look_and_leave(self: pytest.RaisesExc[BaseException], *raised: Any) -> bool:
        if isinstance(raised[1], StreamError):
            _ear.told_by.update(told_by(raised[1]))
        return leave(self, *raised)

    patch = pytest.MonkeyPatch()
    patch.setattr(pytest.RaisesExc, "__exit__", look_and_leave)
    config.add_cleanup(patch.undo)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that told the canary, whatever else became of it."""
    report = yield
    told_by = sorted(_ear.told_by)
    _ear.told_by.clear()
    told_by += [
        name for name, text in report.sections if name.endswith(call.when) and is_told_in(text)
    ]
    told_by += ["its failure"] if is_told_in(report.longreprtext) else []
    told_by += ["its name"] if is_told_in(report.nodeid) else []
    if told_by:
        message = f"{report.when} told the canary: {', '.join(told_by)}"
        if report.passed:
            report.longrepr = message
        else:
            report.sections.append(("The canary", message))
        report.outcome = "failed"
    return report
