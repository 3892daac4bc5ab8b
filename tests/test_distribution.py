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
    assert names == source | {"streamsession/_scaffold/template.bundle"}


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
        "copier.yml",
        "examples/quickstart.py",
        "hatch_build.py",
        "pyproject.toml",
        "src/streamsession/_scaffold/template.bundle",
        "src/streamsession/py.typed",
        "tests/test_distribution.py",
    }


def test_a_wheel_of_the_source_distribution_is_the_same(built: Path, tmp_path: Path) -> None:
    """Also in the history of the template, which it can take from no repository."""
    (sdist,) = built.glob("*.tar.gz")
    (wheel,) = built.glob("*.whl")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (root,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (again,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert set(one.namelist()) == set(other.namelist())


def test_what_is_built_holds_the_template_of_its_version(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        bundle = archive.extract("streamsession/_scaffold/template.bundle", tmp_path)
    command = ["git", "bundle", "list-heads", bundle]
    heads = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert f" refs/tags/v{streamsession.__version__}\n" in heads
