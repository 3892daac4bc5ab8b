"""Answers to the questions, and what is made of them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamsession._scaffold._new import new

PACKAGE = Path(__file__).parents[2] / "src" / "streamsession"

RUFF = shutil.which("ruff", path=Path(sys.executable).parent) or "ruff"

FRAMINGS = ["sse", "json-lines", "json-seq", "event-stream", "json-array"]
AUTHS = ["bearer", "header", "none", "custom"]


def _ends(framing: str) -> list[str]:
    return ["final-event", "none", *(["marker"] if framing in ("sse", "json-lines") else [])]


EVERY: list[dict[str, Any]] = [
    {"framing": framing, "end": end, "auth": auth, "vendor": vendor}
    for framing in FRAMINGS
    for end in _ends(framing)
    for auth in AUTHS
    for vendor in (False, True)
]
"""All that can be combined."""

SOME = [
    {"framing": framing, "end": end, "auth": AUTHS[index % 4], "vendor": index % 5 == 0}
    for index, (framing, end) in enumerate(
        (framing, end) for framing in FRAMINGS for end in _ends(framing)
    )
]
"""Each framing with each end, and in turn with each way to prove who is asking."""

NAMED: list[dict[str, Any]] = [
    {"name": "ab", "title": "AB", "author": "Zoë & daughters", "auth": "custom"},
    {"name": "Zeta.Zulu-9", "title": "Zeta Zulu 9", "auth": "custom", "vendor": True},
    {
        "name": "the-longest-of-all-the-names-x",
        "title": "The Longest Of All The Names X",
        "base_url": "https://the-longest.example:8443/of/all/the/urls/that/are/taken/v1",
        "auth": "custom",
    },
    {"name": "long", "title": "The Longest Of All The Names X", "auth": "none", "vendor": True},
    {
        "name": "odd",
        "auth": "header",
        "auth_header": "X-Odd-Key",
        "end": "marker",
        "marker": "<END>",
    },
]
"""Names that are sorted in another place, that are long, or short."""


def make(folder: Path, answers: Mapping[str, Any]) -> Path:
    """An SDK in a folder, from the template of this checkout as it stands."""
    given = {"name": folder.name, **answers}
    return new(given, into=folder, template=PACKAGE)


def name_of(answers: Mapping[str, Any]) -> str:
    """What to call a test with these answers."""
    return "-".join(str(value) for value in answers.values()).lower().replace(" ", "-")


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """What a program says; it must succeed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(*arguments: str | Path, cwd: Path) -> str:
    """What a program says that runs in an SDK as if it were installed."""
    return run(sys.executable, *arguments, cwd=cwd, PYTHONPATH=str(cwd / "src"))
