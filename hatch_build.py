"""Puts the history of the template into what is built, for `streamsession update`."""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TemplateHistory(BuildHookInterface[Any]):
    """Bundles it in a checkout; elsewhere it is among the sources, where a checkout put it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the bundle, and have it included."""
        root = Path(self.root)
        if version == "editable" or not (root / ".git").exists():
            return
        if shutil.which("git") is None:
            self.app.display_warning("There is no git: what is built cannot update SDKs")
            return
        sys.path.insert(0, str(root / "src"))  # it needs nothing that is not here
        from streamsession._scaffold._bundle import write_bundle  # noqa: PLC0415

        self._folder = TemporaryDirectory()
        bundle = Path(self._folder.name) / "template.bundle"
        try:
            write_bundle(root, self.metadata.version, bundle)
        except subprocess.CalledProcessError as exc:  # pip, for one, clones without the past
            self.app.display_warning(f"The former templates are not included: {exc.stderr}")
            write_bundle(root, self.metadata.version, bundle, releases=False)
        inside = "src/" if self.target_name == "sdist" else ""
        build_data["force_include"][str(bundle)] = (
            f"{inside}streamsession/_scaffold/template.bundle"
        )

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the bundle again."""
        if folder := getattr(self, "_folder", None):
            folder.cleanup()
