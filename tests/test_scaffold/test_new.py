"""`streamsession new`: all of an SDK, or nothing and one clear line."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamsession.__main__ import main
from tests.test_scaffold.sdks import AUTHS, FRAMINGS, PACKAGE

PATIENCE = 20.0  # seconds


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COPIER_SETTINGS_PATH", raising=False)


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_it_says_where_the_sdk_is_and_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "acme", "--defaults"]) == 0
    assert capsys.readouterr() == (
        "acme is a new SDK. To go on:  cd acme && make demo test check\n",
        "",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["acme"]
    assert (tmp_path / "acme" / "src" / "acme" / "py.typed").exists()
    (tmp_path / "other").mkdir()
    assert (tmp_path / "acme").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_every_answer_is_an_option(tmp_path: Path) -> None:
    options = [
        *("--into", "sdks", "--package", "brave", "--title", "Brave New"),
        *("--base-url", "https://brave.example/api", "--auth", "header"),
        *("--auth-header", "x-brave", "--framing", "json-lines", "--end", "marker"),
        *("--marker", "<END>", "--author", "Somebody", "--no-vendor", "--defaults"),
    ]
    assert main(["new", "brave-new", *options]) == 0
    package = tmp_path / "sdks" / "src" / "brave"
    session = (package / "_session.py").read_text(encoding="utf-8")
    for line in (
        "class BraveNew(AsyncSession[AnswerEvent]):",
        '    base_url = "https://brave.example/api"',
        '    api_key_header = "x-brave"',
        "    framing = JSONLinesDecoder",
        '    final_marker = "<END>"',
    ):
        assert f"\n{line}\n" in session
    pyproject = (tmp_path / "sdks" / "pyproject.toml").read_text(encoding="utf-8")
    assert 'name = "brave-new"\n' in pyproject
    assert 'authors = [{ name = "Somebody" }]\n' in pyproject


def test_the_options_are_the_questions() -> None:
    text = (PACKAGE / "_scaffold" / "questions.yml").read_text(encoding="utf-8")
    asked = re.findall(r"^([a-z_]+):\n(?:  .*\n)*?  help:", text, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-m", "streamsession", "new", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    options = set(re.findall("--([a-z-]+)", done.stdout))
    questions = {name.replace("_", "-") for name in asked} - {"name"}
    assert questions == options - {"help", "into", "defaults", "no-vendor"}
    for choice in (*FRAMINGS, *AUTHS):
        assert f": {choice}\n" in text


REFUSED = [
    (["class"], "--package: 'class' is a keyword of Python"),
    (["3scale"], "--package: '3scale' is no name of a package: use lower-case letters, digits"),
    (["json"], "--package: 'json' is a module of the standard library"),
    (["x", "--package", "streamsession"], "--package: 'streamsession' is the name of another"),
    (["Stream_Session", "--package", "no-name"], "--package: 'no-name' is no name of a package"),
    (["typing.extensions"], "NAME: 'typing.extensions' is the name of another package"),
    (["_x", "--package", "x"], "NAME: '_x' is no name of a distribution"),
    (["x" * 31], f"NAME: '{'x' * 31}' is too long: use up to 30 characters"),
    (["acme", "--title", "Token"], "--title: 'Token' would name two classes of the SDK alike"),
    (["acme", "--title", "3Scale"], "--title: '3Scale' cannot name a class"),
    (["acme", "--base-url", "acme.example"], "--base-url: 'acme.example' is no base URL"),
    (["acme", "--base-url", "https://acme.example?a=b"], "is no base URL"),
    (["acme", "--author", 'An "author"'], "--author: 'An \"author\"' is no name"),
    (["acme", "--framing", "json-seq", "--end", "marker"], "--end: a marker goes with"),
    (["acme", "--end", "marker", "--marker", "the end"], "--marker: 'the end' is no marker"),
    (["acme", "--auth", "header", "--auth-header", "x key"], "--auth-header: 'x key' is no name"),
    (["acme", "--into", "not/there"], "not/there cannot be written: No such file or directory"),
]


@pytest.mark.parametrize(("arguments", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_cannot_be_is_refused_in_one_line(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "--defaults", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("streamsession new: ")
    assert err.count("\n") == 1
    assert says in err
    assert everything(tmp_path) == []


@pytest.mark.parametrize("kind", ["folder", "file", "link to nowhere"])
def test_what_exists_is_never_overwritten(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "acme"
    if kind == "folder":
        there.mkdir()
    elif kind == "file":
        there.write_text("mine")
    else:
        there.symlink_to("nowhere")
    assert main(["new", "acme", "--defaults"]) == 1
    assert capsys.readouterr().err == (
        "streamsession new: acme exists already: take another name, or another folder with --into\n"
    )
    assert everything(tmp_path) == ["acme"]


def test_without_copier_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "copier", None)
    assert main(["new", "acme", "--defaults"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("streamsession new: copier is not installed: ")
    assert "uvx 'streamsession[new]'" in err
    assert "pip install 'streamsession[new]'" in err
    assert everything(tmp_path) == []


def test_without_git_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["new", "acme", "--defaults"]) == 0
    answers = (tmp_path / "acme" / ".copier-answers.yml").read_text(encoding="utf-8")
    assert "\n_commit: v" in answers
    assert "\n_src_path: streamsession::template.git\n" in answers


def test_without_a_terminal_it_does_not_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path(os.devnull).open(encoding="utf-8") as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        assert main(["new", "acme"]) == 1
    err = capsys.readouterr().err
    assert err == "streamsession new: there is no terminal to ask on: add --defaults\n"
    assert everything(tmp_path) == []


class Terminal:
    """A program with a terminal of its own, and what it has shown so far."""

    def __init__(self, process: "subprocess.Popen[bytes]", keyboard: int) -> None:
        self.process = process
        self._keyboard = keyboard
        self.shown = ""

    def until(self, text: str) -> None:
        """Wait until it shows a text that it has not shown before."""
        deadline = time.monotonic() + PATIENCE
        begun = len(self.shown)
        while text not in self.shown[begun:]:
            ready, _, _ = select.select([self._keyboard], [], [], deadline - time.monotonic())
            assert ready, f"{text!r} is not in what came: {self.shown}"
            self.shown += os.read(self._keyboard, 65536).decode(errors="replace")

    def type(self, keys: str) -> None:
        os.write(self._keyboard, keys.encode())

    def end(self) -> int:
        """Its exit status, once it has ended."""
        self.process.wait(PATIENCE)
        while select.select([self._keyboard], [], [], 0)[0]:
            try:
                self.shown += os.read(self._keyboard, 65536).decode(errors="replace")
            except OSError:  # so does Linux say that there is no more
                break
        return self.process.returncode


@contextmanager
def terminal(*command: str) -> Generator[Terminal]:
    keyboard, screen = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "streamsession", *command],
        stdin=screen,
        stdout=screen,
        stderr=screen,
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(screen)
        try:
            yield Terminal(process, keyboard)
        finally:
            process.kill()
            os.close(keyboard)


def test_it_asks_for_what_no_option_says(tmp_path: Path) -> None:
    with terminal("new", "acme", "--framing", "json-lines", "--author", "Somebody") as user:
        for question in ("What will be imported", "What is the API called", "Where is it"):
            user.until(question)
            user.type("\r")
        user.until("How does a request prove")
        user.type("\x1b[B\r")  # one down: a header of its own
        user.until("In which header")
        user.type("\r")
        user.until("What proves that a stream is complete")
        user.type("\r")
        user.until("Copy the core")
        user.type("\r")
        assert user.end() == 0
    assert "is a new SDK" in user.shown
    session = (tmp_path / "acme" / "src" / "acme" / "_session.py").read_text(encoding="utf-8")
    assert 'api_key_header = "x-api-key"' in session
    assert "framing = JSONLinesDecoder" in session


@pytest.mark.parametrize("keys", ["\x03", "\x04"], ids=["ctrl-c", "ctrl-d"])
def test_breaking_off_the_questions_leaves_nothing(keys: str, tmp_path: Path) -> None:
    with terminal("new", "acme") as user:
        user.until("What will be imported")
        if keys == "\x04":
            user.type("\x15")  # an empty line, on which it means the end
        user.type(keys)
        assert user.end() == 130
    assert "streamsession new: interrupted; nothing was written" in user.shown
    assert "Traceback" not in user.shown
    assert everything(tmp_path) == []


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_breaking_off_the_writing_leaves_nothing(by: signal.Signals, tmp_path: Path) -> None:
    """The template has a file that cannot be read before somebody writes it: a named pipe."""
    template, work = tmp_path / "template", tmp_path / "work"
    template.mkdir()
    work.mkdir()
    (template / "copier.yml").write_text("_exclude: [copier.yml]\n")
    (template / "a.txt").write_text("written")
    os.mkfifo(template / "b.txt")
    program = (
        "import sys; from pathlib import Path; from streamsession._scaffold import _new; "
        "from streamsession.__main__ import main; _new._PACKAGE = Path(sys.argv[1]); "
        "sys.exit(main(['new', 'acme', '--defaults']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, template], cwd=work, stderr=subprocess.PIPE, text=True
    ) as process:
        pipe = os.open(template / "b.txt", os.O_WRONLY)  # waits until it is being read
        assert everything(work)
        process.send_signal(by)
        _, err = process.communicate(timeout=PATIENCE)
        os.close(pipe)
    assert err == "streamsession new: interrupted; nothing was written\n"
    assert process.returncode == 130
    assert everything(work) == []
