"""What is built for the package index."""

import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import streamsession

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "streamsession/py.typed" in source
    assert names == source


def test_the_metadata_says_what_it_is_and_needs(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith("/METADATA"))
        metadata = message_from_string(archive.read(name).decode())
        licences = [each for each in archive.namelist() if each.endswith("licenses/LICENSE")]
    needed = {
        requirement.split(">")[0].split("<")[0].split("=")[0].split(" ")[0]
        for requirement in metadata.get_all("Requires-Dist", [])
        if "extra ==" not in requirement
    }
    assert metadata["Version"] == streamsession.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert needed == {"anyio", "httpx", "pydantic", "typing-extensions"}
    assert len(licences) == 1


def test_the_source_distribution_can_be_tested_and_copied(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "examples/quickstart.py",
        "pyproject.toml",
        "src/streamsession/py.typed",
        "tests/test_distribution.py",
    }
