"""SDKs from the template, as their authors and users have them: built, installed, tested, checked.

Takes minutes, so `make test-template` runs it apart. Nothing here is as in this checkout but the
wheel that is built of it: all else comes from the package index, into clean environments.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.test_scaffold.sdks import EVERY, RUFF, make, run
from tests.test_scaffold.test_update import (
    commit,
    expect_both,
    git,
    origin,
    release_next,
    write_as_author,
)

ROOT = Path(__file__).parents[2]

SDKS: dict[str, list[str]] = {
    "acme": [],
    "lines": ["--framing", "json-lines", "--end", "marker", "--auth", "header", "--vendor"],
    "texts": ["--framing", "json-seq", "--end", "none", "--auth", "custom", "--vendor"],
    "messages": ["--framing", "event-stream", "--auth", "none"],
    "elements": ["--framing", "json-array", "--end", "none", "--auth", "custom"],
}
"""Each framing, way to prove who asks, end and mode at least once."""


def clean_environment(wheels: Path) -> dict[str, str]:
    """The variables of this process, but for those of its environment, and with our wheel."""
    ours = ("COVERAGE_", "GIT_", "MAKE", "PYTEST_", "PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    index = kept.get("PIP_FIND_LINKS", "")
    return {**kept, "PIP_FIND_LINKS": f"{wheels.as_posix()} {index}".strip()}


class Machine:
    """A machine on which streamsession was never checked out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder / "wheels"
        self.environment = clean_environment(self.wheels)
        self.build(ROOT)
        self.tool = self.venv("tool", "streamsession[new]")

    def run(self, *command: str | Path, cwd: Path) -> str:
        """What a program says; it must succeed."""
        done = subprocess.run(
            command, cwd=cwd, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def build(self, checkout: Path, into: Path | None = None) -> Path:
        """A wheel of streamsession."""
        folder = into or self.wheels
        command = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
        self.run(*command, cwd=checkout)
        return max(folder.glob("*.whl"))

    def venv(self, name: str, *requirements: str | Path) -> Path:
        """The Python of a new environment with these."""
        folder = self.folder / name
        self.run(sys.executable, "-m", "venv", folder, cwd=self.folder)
        python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        self.run(python, "-m", "pip", "install", "--quiet", *requirements, cwd=self.folder)
        return python


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp())
    yield Machine(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", SDKS)
def test_an_sdk_does_all_that_its_makefile_says(name: str, machine: Machine) -> None:
    machine.run(
        machine.tool,
        "-m",
        "streamsession",
        "new",
        name,
        "--defaults",
        *SDKS[name],
        cwd=machine.folder,
    )
    sdk = machine.folder / name
    demo = machine.run("make", "demo", f"PYTHON={sys.executable}", cwd=sdk)
    assert demo.endswith("\nHello, world!\n")
    tested = machine.run("make", "test", cwd=sdk)
    assert " passed" in tested
    machine.run("make", "check", cwd=sdk)


@pytest.mark.parametrize("mode", ["depending", "vendored"])
def test_every_combination_of_answers_is_clean(mode: str, tmp_path: Path) -> None:
    sdks = [
        make(tmp_path / f"sdk{number}", answers)
        for number, answers in enumerate(EVERY)
        if answers["vendor"] is (mode == "vendored")
    ]
    run(RUFF, "format", "--no-cache", "--check", ".", cwd=tmp_path)
    run(RUFF, "check", "--no-cache", ".", cwd=tmp_path)
    packages = os.pathsep.join(str(sdk / "src") for sdk in sdks)
    imports = "; ".join(f"import {sdk.name}" for sdk in sdks)
    run(sys.executable, "-W", "error", "-c", imports, cwd=tmp_path, PYTHONPATH=packages)


@pytest.mark.parametrize("name", ["acme", "lines"])
def test_what_an_sdk_publishes_is_whole(name: str, machine: Machine, tmp_path: Path) -> None:
    """Its wheel is installed alone, with what it says that it needs, and can be imported."""
    new = (machine.tool, "-m", "streamsession", "new", name, "--defaults")
    machine.run(*new, *SDKS[name], cwd=tmp_path)
    pip = (machine.tool, "-m", "pip")
    machine.run(*pip, "wheel", "--quiet", "--no-deps", "-w", tmp_path, f"./{name}", cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    package = name.replace("-", "_")
    assert f"{package}/py.typed" in names
    assert [each for each in names if "test" in each] == []
    user = machine.venv(f"user-of-{name}", wheel)
    machine.run(user, "-m", "pip", "check", cwd=tmp_path)
    machine.run(user, "-W", "error", "-c", f"from {package} import *", cwd=tmp_path)
    installed = machine.run(user, "-m", "pip", "list", cwd=tmp_path)
    assert bool(re.search("^streamsession ", installed, re.MULTILINE)) is (name == "acme")
    licences = [each for each in names if each.endswith("/LICENSE") and "dist-info" in each]
    assert len(licences) == (1 if name == "acme" else 2)


def test_a_newer_release_updates_what_an_older_one_wrote(machine: Machine, tmp_path: Path) -> None:
    """From wheel to wheel, without a repository and without a network."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "src", checkout / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "README.md", "copier.yml", "hatch_build.py", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    commit(checkout)
    git(checkout, "tag", "v0.1.0")
    older = machine.build(checkout, tmp_path / "older")
    release_next(checkout)
    newer = machine.build(checkout, tmp_path / "newer")
    shutil.rmtree(checkout)
    first = machine.venv("older", f"{older}[new]")
    machine.run(first, "-m", "streamsession", "new", "acme", "--defaults", cwd=tmp_path)
    sdk = tmp_path / "acme"
    commit(sdk)
    write_as_author(sdk)
    second = machine.venv("newer", f"{newer}[new]")
    said = machine.run(second, "-m", "streamsession", "update", "--defaults", cwd=sdk)
    assert said == "Updated. To see what has changed:  git diff\n"
    expect_both(sdk)
    assert origin(sdk) == ("v9.9.0", "streamsession::template.git")
