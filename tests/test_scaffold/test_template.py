"""What the template makes of answers: a repository that could have been written by hand."""

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import streamsession
import streamsession._public
from streamsession import SessionError
from tests.test_scaffold.sdks import NAMED, PACKAGE, RUFF, SOME, make, name_of, python, run

ROOT = PACKAGE.parent.parent
SIGNS_OF_JINJA = ("{=", "=}", "{%", "%}", "{#", "#}")
NOT_COPIED = {"__main__.py", "_demo.py", "_scaffold", "aiohttp", "http2"}

of_each = pytest.mark.parametrize("answers", [*SOME, *NAMED], ids=name_of)


def texts(folder: Path) -> dict[str, str]:
    """The files of an SDK, without the core that it may hold."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "_streamsession" not in path.parts
    }


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


@of_each
def test_an_sdk_is_clean(answers: dict[str, Any], tmp_path: Path) -> None:
    """It tells ruff nothing, and a reader nothing of where it comes from."""
    sdk = make(tmp_path / "acme", answers)
    for name, text in texts(sdk).items():
        assert not [sign for sign in SIGNS_OF_JINJA if sign in text], name
        assert not re.search(r"[ \t]\n|\n\n\n\n|\A\n|[^\n]\Z|\n\n\Z", text), name
        if not name.endswith((".py", ".toml", ".jsonl", ".yml")):
            assert "\n\n\n" not in text, name
        if name.endswith(".py"):
            assert ast.get_docstring(ast.parse(text)), name
    run(RUFF, "format", "--no-cache", "--check", ".", cwd=sdk)
    run(RUFF, "check", "--no-cache", ".", cwd=sdk)


SPEAKING = [
    {"framing": "sse", "end": "marker", "auth": "custom"},
    {"framing": "event-stream", "end": "final-event", "auth": "none", "vendor": True},
]


@pytest.mark.parametrize("answers", SPEAKING, ids=name_of)
def test_the_tests_of_an_sdk_pass(answers: dict[str, Any], tmp_path: Path) -> None:
    """All but those of the contract, which take longer: `make test-template` runs them, too."""
    sdk = make(tmp_path / "acme", answers)
    python("-m", "pytest", "-q", "tests/test_session.py", "tests/test_quickstart.py", cwd=sdk)


def test_the_core_is_copied_as_it_is(tmp_path: Path) -> None:
    sdk = make(tmp_path / "acme", {"vendor": True})
    core = sdk / "src" / "acme" / "_streamsession"
    copied = {path.relative_to(core).as_posix() for path in core.rglob("*") if path.is_file()}
    rooms = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if NOT_COPIED.isdisjoint(path.relative_to(PACKAGE).parts)
    }
    assert copied == {*rooms, "LICENSE"}
    for room in rooms:
        assert (core / room).read_bytes() == (PACKAGE / room).read_bytes(), room
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert (core / "LICENSE").read_text(encoding="utf-8").endswith(f"\n\n{licence}")


def test_an_sdk_with_the_core_knows_nothing_of_the_package(tmp_path: Path) -> None:
    sdk = make(tmp_path / "acme", {"vendor": True})
    for name, text in texts(sdk).items():
        if name.endswith((".py", ".toml", "Makefile")):
            assert "streamsession" not in text.replace("_streamsession", ""), name


def test_an_sdk_needs_what_the_core_needs(tmp_path: Path) -> None:
    ours = project(ROOT)
    with_core = project(make(tmp_path / "acme", {"vendor": True}))
    without = project(make(tmp_path / "bare", {}))
    version = streamsession.__version__
    assert with_core["project"]["dependencies"] == ours["project"]["dependencies"]
    assert without["project"]["dependencies"] == [f"streamsession~={version}"]
    assert with_core["project"]["requires-python"] == ours["project"]["requires-python"]
    tools = [*ours["dependency-groups"]["test"], *ours["dependency-groups"]["check"]]
    for group in without["dependency-groups"].values():
        assert set(group) <= set(tools)


def test_an_sdk_offers_every_error_and_explains_it(tmp_path: Path) -> None:
    sdk = make(tmp_path / "acme", {})
    offered = python("-c", "import acme; print(*acme.__all__)", cwd=sdk).split()
    readme = (sdk / "README.md").read_text(encoding="utf-8")
    errors = [
        name
        for name in streamsession._public.__all__
        if isinstance(kind := getattr(streamsession, name), type) and issubclass(kind, SessionError)
    ]
    assert set(errors) <= set(offered)
    table = readme.partition("## Errors")[2].partition("## Develop")[0]
    assert [name for name in errors if f"`{name}`" not in table] == ["StreamError"]


def test_only_what_the_answers_need_is_there(tmp_path: Path) -> None:
    sdk = texts(make(tmp_path / "acme", {"auth": "none", "end": "none"}))
    assert "src/acme/_auth.py" not in sdk
    everything = "".join(text for name, text in sdk.items() if name.endswith((".py", ".md")))
    for word in ("api_key", "API_KEY", "Auth", "Done", "marker", "framing"):
        assert word not in everything.replace("AuthenticationError", ""), word


def test_no_module_of_the_standard_library_is_forgotten() -> None:
    names = (PACKAGE / "_scaffold" / "names.yml").read_text(encoding="utf-8").split()
    modules = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    assert {name for name in modules if name.islower()} <= set(names)


def test_the_questions_are_the_same_wherever_the_template_is() -> None:
    installed = (PACKAGE / "copier.yml").read_text(encoding="utf-8")
    in_repository = (ROOT / "copier.yml").read_text(encoding="utf-8")
    asked = re.findall("^!include (.*)$", installed, re.MULTILINE)
    assert asked == ["_scaffold/names.yml", "_scaffold/questions.yml"]
    for name in asked:
        assert f"!include src/streamsession/{name}\n" in in_repository
