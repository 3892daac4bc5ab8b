"""The history of the template in one file: a git bundle, which can be cloned like a repository.

It has a commit and a tag for each release, and one for the version at hand. Without the templates
of former versions an SDK could not be updated: what its author has changed is what it differs in
from the template that it was made from. Needs nothing but git and the standard library, for it is
run when the package is built.
"""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

__all__ = ["SYMBOL", "write_bundle"]

SYMBOL: Final = "streamsession::template.git"
"""How an SDK names where its template is, which differs from machine to machine."""

_PACKAGE: Final = "src/streamsession"
_SOMEBODY: Final = {  # at a fixed time: the same history has the same commits
    "GIT_AUTHOR_NAME": "streamsession",
    "GIT_AUTHOR_EMAIL": "streamsession@localhost",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "streamsession",
    "GIT_COMMITTER_EMAIL": "streamsession@localhost",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
}


def write_bundle(checkout: Path, version: str, bundle: Path, *, releases: bool = True) -> None:
    """Write the history of the template in a checkout.

    Args:
        checkout: Its root.
        version: What the template there is the template of.
        bundle: The file.
        releases: Whether those of former versions go with it.

    Raises:
        OSError: There is no git.
        subprocess.CalledProcessError: The checkout cannot be read, or is a partial clone, which
            lacks the releases.
    """
    with TemporaryDirectory() as folder:
        history = _History(checkout, Path(folder))
        for tag, tree in history.releases().items() if releases else ():
            if tag != f"v{version}":
                history.add(tag, tree)
        history.add(f"v{version}", history.at_hand())
        history.git("bundle", "create", "--quiet", str(bundle.absolute()), "HEAD", "--all")


class _History:
    """A repository of its own, which borrows what the checkout's has."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self._checkout = checkout
        self._parent: list[str] = []
        objects = self._ask("rev-parse", "--path-format=absolute", "--git-path", "objects")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            **_SOMEBODY,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
            "GIT_DIR": str(folder / "history.git"),
            "GIT_WORK_TREE": str(checkout / _PACKAGE),
        }
        self.git("init", "--quiet", "--initial-branch=main")

    def releases(self) -> dict[str, str]:
        """The trees of the released versions that have a template, the oldest first."""
        tags = self._ask("tag", "--list", "v[0-9]*", "--sort=version:refname").split()
        return {
            tag: self._ask("rev-parse", f"{tag}:{_PACKAGE}")
            for tag in tags
            if self._ask("ls-tree", tag, f"{_PACKAGE}/copier.yml")
        }

    def at_hand(self) -> str:
        """The tree of the package as it is there, committed or not."""
        self.git("add", "--all", "--", ".", ":(exclude,glob)**/__pycache__/**")
        return self.git("write-tree")

    def add(self, tag: str, tree: str) -> None:
        """Append the template of a version."""
        commit = self.git("commit-tree", tree, *self._parent, "-m", f"The template of {tag}")
        self.git("update-ref", f"refs/tags/{tag}", commit)
        self.git("update-ref", "refs/heads/main", commit)
        self._parent = ["-p", commit]

    def git(self, *arguments: str) -> str:
        """What git says of it."""
        command = ["git", "-c", "core.autocrlf=false", *arguments]
        done = subprocess.run(  # noqa: S603 - ours
            command,
            cwd=self._checkout,
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def _ask(self, *arguments: str) -> str:
        """What git says of the checkout."""
        command = ["git", *arguments]
        done = subprocess.run(  # noqa: S603 - ours
            command, cwd=self._checkout, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()
