"""What is new in the template, merged into an SDK by copier and git."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ._asking import require_copier
from ._bundle import SYMBOL
from ._checkout import checkout
from ._refused import Refused

__all__ = ["update"]

_BUNDLE: Final = Path(__file__).parent / "template.bundle"  # made when the package is built
_ANSWERS: Final = ".copier-answers.yml"
_UNKNOWN: Final = re.compile("(?:invalid reference|Unknown revision): '?([^'\\s]+)")
_ORIGIN: Final = re.compile("^_src_path: *(.*)$", re.MULTILINE)


def update(folder: Path, *, ask: bool = False, template: Path | None = None) -> list[str]:
    """Merge into the repository of an SDK what has changed in the template; commits nothing.

    Args:
        folder: The repository.
        ask: Whether to ask what the template asks now and did not before.
        template: A git repository or bundle; None is that of this package.

    Returns:
        The files in which both sides changed the same lines, with git's marks of a conflict.

    Raises:
        Refused: It cannot be updated.
    """
    require_copier()
    if shutil.which("git") is None:
        raise Refused("git is not installed, and merges what is new")
    _check(folder)
    command = [sys.executable, "-m", "copier", "update", "--skip-answered", "--quiet"]
    command += ["--vcs-ref=HEAD", *([] if ask else ["--defaults"]), str(folder)]
    with TemporaryDirectory() as cache:
        environment = {**_naming(template or _own_template()), "COPIER_CACHE_DIR": cache}
        done = subprocess.run(  # noqa: S603 - ours
            command, env=environment, stderr=subprocess.PIPE, text=True, check=False
        )
    if done.returncode:
        raise Refused(_reason(done.stderr))
    return _conflicts(folder)


def _check(folder: Path) -> None:
    try:
        answers = (folder / _ANSWERS).read_text(encoding="utf-8")
    except OSError:
        raise Refused(f"{folder} has no {_ANSWERS}: it is no SDK from this template") from None
    origin = _ORIGIN.search(answers)
    if origin is None or origin[1] != SYMBOL:
        raise Refused(f"{folder} was not made by `streamsession new`: run `copier update` there")


def _own_template() -> Path:
    template = checkout() or _BUNDLE
    if not template.exists():
        raise Refused("this copy of streamsession was built without the history of the template")
    return template


def _naming(template: Path) -> Mapping[str, str]:
    """The environment in which git finds the template by the name that SDKs have for it.

    https://git-scm.com/docs/git-config#Documentation/git-config.txt-urlltbasegtinsteadOf
    """
    count = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    return {
        **os.environ,
        "GIT_CONFIG_COUNT": str(count + 1),
        f"GIT_CONFIG_KEY_{count}": f"url.{template.absolute().as_posix()}.insteadOf",
        f"GIT_CONFIG_VALUE_{count}": SYMBOL,
    }


def _reason(stderr: str) -> str:
    """What copier or git said last."""
    if found := _UNKNOWN.search(stderr):
        return f"{found[1]} of the template is not known here: use a newer streamsession"
    lines = stderr.split("\n")
    return next((line.strip(" |") for line in reversed(lines) if line.strip(" |")), "copier failed")


def _conflicts(folder: Path) -> list[str]:
    command = ["git", "-C", str(folder), "diff", "--name-only", "--diff-filter=U"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    return done.stdout.splitlines()
