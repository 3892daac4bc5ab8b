"""The rules of the house: who imports whom, what is public, and what importing costs."""

import ast
import importlib
import importlib.metadata
import inspect
import io
import pkgutil
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

import streamsession
import streamsession._framing._more
import streamsession._public
import streamsession.aiohttp
import streamsession.http2
import streamsession.testing
from tests.planted import FAULTS

SRC = Path(streamsession.__file__).parent
ROOM_FILES = sorted(SRC.rglob("*.py"))
HTTP_LIBRARIES = {"aiohttp", "h11", "h2", "httpcore", "httpcore2", "httpx", "httpx2", "respx"}
TRANSPORTS = {"aiohttp": "aiohttp", "http2": "h2"}
"""The rooms of optional transports, and the library that each is for."""
LIBRARY_OF = {**TRANSPORTS, "_transport": "httpcore"}
"""The library that a room may know besides httpx."""


def name_of(path: Path) -> str:
    """The module in a file."""
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [name_of(path) for path in ROOM_FILES]
PATHS = dict(zip(MODULES, ROOM_FILES, strict=True))


PATHS_IN_SRC = {path.relative_to(SRC).as_posix(): path for path in ROOM_FILES}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(PATHS[module].read_text(encoding="utf-8"))


def imported_by(module: str) -> Iterator[str]:
    """The modules that a module imports anywhere in its text, ours resolved to full names."""
    package = module if PATHS[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in PATHS else base


def ours(module: str) -> set[str]:
    return {name for name in imported_by(module) if name in PATHS}


def room_of(module: str) -> str:
    """The part of the house that a module is in, as DESIGN draws it."""
    return module.removeprefix("streamsession.").partition(".")[0]


# What is public

HAVE_ALL = [module for module in MODULES if not module.endswith("__main__")]


def rank(name: str) -> tuple[int, str]:
    """Where a name stands in `__all__`: constants, classes, functions, each by the alphabet."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("name", HAVE_ALL)
def test_a_module_says_what_it_offers(name: str) -> None:
    module = importlib.import_module(name)
    exported: list[str] | None = getattr(module, "__all__", None)
    if exported is None:
        assert room_of(name).startswith("_"), "a public module has __all__"
        return
    assert exported == sorted(set(exported), key=rank)
    assert [each for each in exported if not hasattr(module, each)] == []


PUBLIC = [
    streamsession._public,
    streamsession._framing._more,
    streamsession.aiohttp,
    streamsession.http2,
    streamsession.testing,
]
every_public_module = pytest.mark.parametrize("module", PUBLIC, ids=lambda each: each.__name__)


def offers(module: ModuleType) -> list[str]:
    names: list[str] = attrgetter("__all__")(module)
    return names


@every_public_module
def test_nothing_public_is_left_out_of_all(module: ModuleType) -> None:
    submodules = {
        info.name for info in pkgutil.iter_modules(getattr(module, "__path__", None) or [])
    }
    public = {name for name in vars(module) if not name.startswith("_")} - submodules
    assert public <= set(offers(module))


def test_the_package_offers_what_its_public_modules_do() -> None:
    offered: dict[str, object] = {}
    for module in (streamsession._public, streamsession._framing._more):
        offered |= {name: getattr(module, name) for name in offers(module)}
    assert offers(streamsession) == dir(streamsession) == sorted(offered, key=rank)
    for name, value in offered.items():
        assert getattr(streamsession, name) is value
    assert not hasattr(streamsession, "nothing")


def documented(module: ModuleType) -> Iterator[tuple[str, object]]:
    for name in offers(module):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield f"{module.__name__}.{name}", value
        if inspect.isclass(value):
            for attribute, member in vars(value).items():
                is_public = not attribute.startswith("_")
                if is_public and (inspect.isfunction(member) or isinstance(member, property)):
                    yield f"{module.__name__}.{name}.{attribute}", member


@every_public_module
def test_everything_public_has_a_docstring(module: ModuleType) -> None:
    assert [name for name, value in documented(module) if not inspect.getdoc(value)] == []


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_for(name: str) -> None:
    if PATHS[name].stat().st_size:
        assert ast.get_docstring(tree_of(name))


def test_public_classes_say_that_they_are_public() -> None:
    """Tracebacks and reprs name a class by its module: one that is importable."""
    for name in offers(streamsession):
        module = getattr(getattr(streamsession, name), "__module__", "streamsession")
        assert module.partition(".")[0] in {"streamsession", "typing", "types"}


# Who imports whom


def test_there_is_no_circle() -> None:
    graph = {module: {each for each in ours(module) if each != module} for module in MODULES}
    # A package's __init__ is run before its modules, but gathers from them: it is their roof.
    for module in MODULES:
        graph[module] -= {each for each in graph[module] if module.startswith(f"{each}.")}
    assert list(TopologicalSorter(graph).static_order())


ORDER = [
    "_errors",
    "_framing",
    "_events",
    "_retry",
    "_auth",
    "_http",
    "_stream",
    "_session",
]
"""The rooms of DESIGN from the ground up."""


@cache
def all_under(module: str) -> frozenset[str]:
    """What a module imports of ours, directly or through others; packages count as their rooms."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for each in ours(waiting.pop()):
            if each not in found and each != "streamsession":
                found.add(each)
                waiting.append(each)
    return frozenset(found)


@pytest.mark.parametrize("room", ORDER)
def test_imports_point_down(room: str) -> None:
    above = set(ORDER[ORDER.index(room) + 1 :])
    for module in MODULES:
        if room_of(module) == room:
            assert {room_of(each) for each in all_under(module)}.isdisjoint(above), module


def test_the_errors_import_nothing_of_ours() -> None:
    assert ours("streamsession._errors") == set()


@pytest.mark.parametrize("name", MODULES)
def test_only_the_http_room_and_the_test_kit_know_the_http_library(name: str) -> None:
    libraries = {each.partition(".")[0] for each in imported_by(name)} & HTTP_LIBRARIES
    if room_of(name) in {"testing", "_http", *LIBRARY_OF}:
        assert libraries <= {"httpx", LIBRARY_OF.get(room_of(name), "httpx")}
    else:
        assert libraries == set()


@pytest.mark.parametrize("name", MODULES)
def test_nothing_of_the_library_needs_its_test_kit(name: str) -> None:
    if room_of(name) not in {"testing", "__main__", "_demo"}:
        assert not [each for each in ours(name) if room_of(each) == "testing"]


# What a room may not do

SANS_IO = ["_framing", "_events", "_retry"]
IO = {"anyio", "asyncio", "trio", "socket", "selectors", "ssl", "threading", "subprocess"}


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name) in SANS_IO])
def test_a_room_without_io_has_no_async(name: str) -> None:
    asynchronous = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not [node for node in ast.walk(tree_of(name)) if isinstance(node, asynchronous)]
    assert {each.partition(".")[0] for each in imported_by(name)}.isdisjoint(IO)


@pytest.mark.parametrize("room", ["_validate", "_request", "_resume", "_reports", "_errors"])
def test_a_room_that_only_computes_imports_no_io(room: str) -> None:
    imported = {each.partition(".")[0] for each in imported_by(f"streamsession.{room}")}
    assert imported.isdisjoint(IO | {"time", "random"})


def calls_in(module: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call):
            names.add(ast.unparse(node.func))
    return names


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name) in SANS_IO])
def test_a_room_without_a_clock_looks_at_none(name: str) -> None:
    assert calls_in(name).isdisjoint({"time.time", "time.monotonic", "time.sleep", "sleep", "open"})


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_left_to_a_destructor(name: str) -> None:
    functions = [node for node in ast.walk(tree_of(name)) if isinstance(node, ast.FunctionDef)]
    assert "__del__" not in {function.name for function in functions}


@pytest.mark.parametrize("name", MODULES)
def test_no_type_is_hidden_from_the_runtime(name: str) -> None:
    if name == "streamsession":
        pytest.skip(
            "the package loads its names when they are first used, and must tell their types"
        )
    assert "TYPE_CHECKING" not in PATHS[name].read_text(encoding="utf-8")


# Size

NOT_NEEDED = {"testing", "__main__", "_demo", "_scaffold", "_proxies", *LIBRARY_OF}
MORE_FRAMINGS = {
    f"streamsession._framing.{name}"
    for name in ("_event_stream", "_json_array", "_json_seq", "_more")
}
CORE = [name for name in MODULES if room_of(name) not in NOT_NEEDED and name not in MORE_FRAMINGS]


def lines_of_code(module: str) -> int:
    """Lines that are neither blank, nor comments, nor docstrings."""
    text = PATHS[module].read_text(encoding="utf-8")
    words = tokenize.generate_tokens(io.StringIO(text).readline)
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    for word in words:
        if word.type not in {*silent, tokenize.ENDMARKER}:
            lines.update(range(word.start[0], word.end[0] + 1))
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


@pytest.mark.parametrize("name", [each for each in MODULES if room_of(each) != "testing"])
def test_no_room_is_too_large(name: str) -> None:
    assert lines_of_code(name) < 300


def test_what_a_copier_needs_grows_on_purpose_only() -> None:
    assert sum(map(lines_of_code, CORE)) < 3550


# Importing it


OPTIONAL = {"pytest", "respx", "httpx2", "hypothesis", "trio", "streamsession.testing"} | {
    *TRANSPORTS.values()
}


def loaded_after(*statements: str) -> set[str]:
    """The modules that a fresh interpreter has after running these."""
    code = "\n".join([*statements, "import sys", "print(*sys.modules)"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def loaded_by(*modules: str) -> set[str]:
    return loaded_after(*(f"import {module}" for module in modules))


def test_importing_it_loads_no_test_tools_and_no_other_library() -> None:
    assert OPTIONAL.isdisjoint(loaded_by("streamsession._public"))


def test_importing_it_alone_loads_nothing() -> None:
    assert {"httpx", "pydantic", "anyio", "asyncio"}.isdisjoint(loaded_by("streamsession"))


def test_using_it_loads_no_test_tools_and_no_other_library() -> None:
    apart = {"testing", "__main__", "_demo", *LIBRARY_OF}  # httpcore loads trio where it is
    loaded = loaded_by(*(name for name in MODULES if room_of(name) not in apart))
    assert OPTIONAL.isdisjoint(loaded)


@pytest.mark.parametrize("room", TRANSPORTS)
def test_using_a_transport_loads_its_library_only(room: str) -> None:
    loaded = loaded_by(f"streamsession.{room}")
    assert loaded & OPTIONAL - {"trio"} == {TRANSPORTS[room]}  # httpcore loads trio where it is


@cache
def loaded_by_a_session() -> frozenset[str]:
    """What declaring events and a session loads, besides what the package stands on."""
    # httpx and anyio put off what the first request needs of them and of asyncio.
    stands_on = loaded_after(
        "import asyncio, httpx, pydantic",
        "from anyio import CancelScope, Event, Lock, Semaphore, fail_after",
        "class Token(pydantic.BaseModel): text: str",
        "httpx.AsyncClient, pydantic.TypeAdapter(Token)",
    )
    loaded = loaded_after(
        "import asyncio, streamsession",
        "class Token(streamsession.Event): text: str",
        "class Acme(streamsession.AsyncSession[Token]): pass",
    )
    return frozenset(loaded - stands_on)


def test_a_session_loads_nothing_besides_itself_and_what_it_stands_on() -> None:
    others = {name for name in loaded_by_a_session() if name not in MODULES}
    assert len(others) < 4, sorted(others)  # none with most versions of Python and the libraries


def test_a_session_loads_what_a_copier_needs_and_no_more() -> None:
    mine = loaded_by_a_session() & {*MODULES}
    assert mine <= {*CORE}
    assert len(mine) < 42, "what importing costs grows on purpose only"


@pytest.mark.parametrize("name", offers(streamsession._framing._more))
def test_a_framing_that_few_apis_send_is_loaded_when_it_is_used(name: str) -> None:
    assert loaded_after(f"from streamsession import {name}") >= MORE_FRAMINGS


# The distribution


def test_the_metadata_say_what_it_is() -> None:
    distribution = importlib.metadata.distribution("streamsession")
    metadata = distribution.metadata
    assert distribution.version == streamsession.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_all("License-File") == ["LICENSE"]


def test_it_needs_four_libraries_at_run_time() -> None:
    requirements = importlib.metadata.requires("streamsession") or []
    needed = [Requirement(each) for each in requirements]
    assert {each.name for each in needed if each.marker is None} == {
        "anyio",
        "httpx",
        "pydantic",
        "typing-extensions",
    }


def test_its_types_are_for_others_too() -> None:
    assert (SRC / "py.typed").exists()


# What proves the tests


def test_every_planted_fault_finds_its_place() -> None:
    for fault in FAULTS:
        assert PATHS_IN_SRC[fault.file].read_text(encoding="utf-8").count(fault.right) == 1, fault
