"""Copier, which asks the questions and fills in the template. The only room that knows it."""

import re
import signal
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from ._refused import Refused

__all__ = ["copy", "interruptible", "require_copier"]

_INVALID: Final = re.compile("(?:Validation error for question|Invalid choice for) '([a-z_]+)': ")


def require_copier() -> None:
    """Raises Refused if copier is not installed."""
    if find_spec("copier") is None:
        raise Refused(
            "copier is not installed: run it as `uvx 'streamsession[new]'`, "
            "or pip install 'streamsession[new]'"
        )


def copy(template: Path, folder: Path, answers: Mapping[str, Any], *, ask: bool) -> None:
    """Fill in the template, in a folder that does not exist yet.

    Raises:
        Refused: An answer is not valid, or there is no copier.
        KeyboardInterrupt: The user broke off.
    """
    require_copier()
    from copier import run_copy  # noqa: PLC0415 - of the extra `new`
    from copier.errors import (  # noqa: PLC0415
        CopierAnswersInterrupt,
        CopierError,
        InteractiveSessionError,
    )

    try:
        run_copy(str(template), folder, dict(answers), defaults=not ask, quiet=True)
    except (CopierAnswersInterrupt, InteractiveSessionError):  # Ctrl-C, Ctrl-D
        raise KeyboardInterrupt from None
    except (CopierError, ValueError) as exc:
        raise Refused(_in_one_line(exc)) from exc


def _in_one_line(exc: Exception) -> str:
    """What is wrong with an answer, by the option that gives it."""
    text = " ".join(str(exc).split())
    return _INVALID.sub(lambda found: f"{_option(found[1])}: ", text)


def _option(question: str) -> str:
    return "NAME" if question == "name" else f"--{question.replace('_', '-')}"


@contextmanager
def interruptible() -> Generator[None]:
    """Let the signals that end a program do so as Ctrl-C does, so that it can clean up."""
    names = ("SIGTERM", "SIGHUP")  # Windows lacks the second
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {each: signal.signal(each, _interrupt) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
