"""A new SDK: all of it, or nothing."""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from ._asking import copy, interruptible
from ._checkout import described
from ._refused import Refused

__all__ = ["new"]

_PACKAGE: Final = Path(__file__).parent.parent  # with the template, and the core that it may copy


def new(
    answers: Mapping[str, Any],
    *,
    into: Path | None = None,
    ask: bool = False,
    template: Path | None = None,
) -> Path:
    """Write an SDK and return its folder.

    It is written beside its folder and moved there when it is whole: whatever interrupts that,
    nothing is left.

    Args:
        answers: By the names of the questions; `name` at least.
        into: The folder, which must not exist; None is that of the name.
        ask: Whether to ask for the other answers; else they are the defaults.
        template: A folder with a `copier.yml`; None is that of this package.

    Raises:
        Refused: It cannot be written.
        KeyboardInterrupt: The user, or a signal, interrupted it.
    """
    folder = into or Path(answers["name"])
    if os.path.lexists(folder):
        raise Refused(f"{folder} exists already: take another name, or another folder with --into")
    if template is None:
        template, answers = _PACKAGE, {**_origin(), **answers}
    try:
        with interruptible(), _draft(folder) as draft:
            copy(template, draft, answers, ask=ask)
            draft.rename(folder)
    except OSError as exc:
        raise Refused(f"{folder} cannot be written: {exc.strerror or exc}") from exc
    return folder


def _origin() -> dict[str, str]:
    """The answer that says which template it is; an installed one is that of its version."""
    commit = described()
    return {} if commit is None else {"origin": commit}


@contextmanager
def _draft(folder: Path) -> Generator[Path]:
    """A folder of the same name, not made yet, in another beside it."""
    with TemporaryDirectory(dir=folder.absolute().parent, prefix=f".{folder.name}.") as beside:
        yield Path(beside) / folder.name
