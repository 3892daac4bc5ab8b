"""The repository that this package runs from, if it is not installed: there its template grows."""

import shutil
import subprocess
from pathlib import Path

__all__ = ["checkout", "described"]


def checkout() -> Path | None:
    """Its root; None if the package is installed, or there is no git to read it with."""
    root = Path(__file__).parents[3]
    is_one = (root / ".git").exists() and (root / "copier.yml").is_file()
    return root if is_one and shutil.which("git") else None


def described() -> str | None:
    """What git calls the commit that is checked out there, as copier does; None if not in one."""
    root = checkout()
    if root is None:
        return None
    command = ["git", "-C", str(root), "describe", "--tags", "--always"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    return done.stdout.strip() or None
