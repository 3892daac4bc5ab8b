"""Updates of an SDK: what is new in the template comes, and what its author wrote stays."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from copier import run_copy, run_update

from streamsession import __version__
from streamsession.__main__ import main
from streamsession._scaffold._bundle import write_bundle
from streamsession._scaffold._new import new
from streamsession._scaffold._refused import Refused
from streamsession._scaffold._update import update
from tests.test_scaffold.sdks import PACKAGE, run

ROOT = PACKAGE.parent.parent
NEXT = "9.9.0"
TEMPLATE = Path("src/streamsession/_scaffold/template")


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@localhost")
    return run("git", *identity, *arguments, cwd=folder)


def commit(folder: Path) -> None:
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=Something")


def edit(path: Path, old: str, changed: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, changed), encoding="utf-8")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository like ours, at its first release."""
    root = tmp_path / "checkout"
    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, root / "src" / "streamsession", ignore=without_caches)
    shutil.copy(ROOT / "copier.yml", root)
    commit(root)
    git(root, "tag", f"v{__version__}")
    return root


def release_next(checkout: Path) -> None:
    """Release a version with a better template and core."""
    edit(
        checkout / TEMPLATE / "Makefile.jinja",
        "clean: ##",
        "wheel: ## Build what is published\n\tpipx run build\n\nclean: ##",
    )
    edit(checkout / "src" / "streamsession" / "_version.py", __version__, NEXT)
    commit(checkout)
    git(checkout, "tag", f"v{NEXT}")


def write_as_author(sdk: Path) -> None:
    """What an author does with a new SDK: an endpoint, another model, a file less."""
    session = sdk / "src" / "acme" / "_session.py"
    edit(session, '"POST", "/generate"', '"POST", "/v2/answers"')
    edit(session, 'model: str = "default"', 'model: str = "acme-1"')
    (sdk / "tests" / "record.py").unlink()
    commit(sdk)


def expect_both(sdk: Path) -> None:
    """Expect that the author's work is there, and the better template."""
    session = (sdk / "src" / "acme" / "_session.py").read_text(encoding="utf-8")
    assert '"POST", "/v2/answers"' in session
    assert 'model: str = "acme-1"' in session
    assert not (sdk / "tests" / "record.py").exists()
    assert "pipx run build" in (sdk / "Makefile").read_text(encoding="utf-8")
    changed = git(sdk, "status", "--porcelain").split("\n")
    assert [line for line in changed if line and not line.startswith(" M ")] == []


def origin(sdk: Path) -> tuple[str, str]:
    """The version of the template that an SDK is of, and where that is."""
    answers = (sdk / ".copier-answers.yml").read_text(encoding="utf-8")
    found = re.search("^_commit: (.*)\n_src_path: (.*)$", answers, re.MULTILINE)
    assert found
    return found[1], found[2]


def test_an_installed_package_updates_what_an_older_one_wrote(
    checkout: Path, tmp_path: Path
) -> None:
    """The one was built and installed, the other later, elsewhere, and with the history of both."""
    sdk = new({"name": "acme", "vendor": True}, into=tmp_path / "acme", template=PACKAGE)
    assert origin(sdk) == (f"v{__version__}", "streamsession::template.git")
    commit(sdk)
    write_as_author(sdk)
    release_next(checkout)
    bundle = tmp_path / "template.bundle"
    write_bundle(checkout, NEXT, bundle)
    shutil.rmtree(checkout)
    assert update(sdk, template=bundle) == []
    expect_both(sdk)
    assert origin(sdk) == (f"v{NEXT}", "streamsession::template.git")
    version = (sdk / "src" / "acme" / "_streamsession" / "_version.py").read_text(encoding="utf-8")
    assert NEXT in version


def test_what_both_have_changed_is_told(checkout: Path, tmp_path: Path) -> None:
    sdk = new({"name": "acme"}, into=tmp_path / "acme", template=PACKAGE)
    edit(sdk / "Makefile", "clean: ##", "remove: ##")
    commit(sdk)
    release_next(checkout)
    assert update(sdk, template=checkout) == ["Makefile"]
    assert "<<<<<<< before updating\n" in (sdk / "Makefile").read_text(encoding="utf-8")


def test_copier_copies_from_the_repository_and_updates(checkout: Path, tmp_path: Path) -> None:
    sdk = tmp_path / "acme"
    run_copy(str(checkout), sdk, defaults=True, quiet=True)
    assert origin(sdk) == (f"v{__version__}", str(checkout))
    written = new({"name": "acme"}, into=tmp_path / "other", template=PACKAGE)
    for path in written.rglob("*"):
        if path.is_file() and path.name != ".copier-answers.yml":
            assert path.read_bytes() == (sdk / path.relative_to(written)).read_bytes(), path
    commit(sdk)
    write_as_author(sdk)
    release_next(checkout)
    run_update(sdk, defaults=True, overwrite=True, quiet=True)
    expect_both(sdk)
    assert origin(sdk) == (f"v{NEXT}", str(checkout))


def test_a_bundle_can_be_copied_and_updated_from(checkout: Path, tmp_path: Path) -> None:
    """By copier alone, if that is how somebody wants to keep it."""
    bundle = tmp_path / "template.bundle"
    write_bundle(checkout, __version__, bundle)
    sdk = tmp_path / "acme"
    run_copy(str(bundle), sdk, defaults=True, quiet=True)
    assert origin(sdk) == (f"v{__version__}", str(bundle))
    commit(sdk)
    write_as_author(sdk)
    release_next(checkout)
    write_bundle(checkout, NEXT, bundle)
    run_update(sdk, defaults=True, overwrite=True, quiet=True)
    expect_both(sdk)


def heads(bundle: Path) -> dict[str, str]:
    lines = run("git", "bundle", "list-heads", bundle, cwd=bundle.parent).splitlines()
    return {name: commit for commit, _, name in (line.partition(" ") for line in lines)}


def test_a_bundle_holds_every_release_and_what_is_at_hand(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "tag", "not-a-version")
    release_next(checkout)
    edit(checkout / TEMPLATE / "Makefile.jinja", "wheel: ##", "dist: ##")  # not committed
    cache = checkout / "src" / "streamsession" / "__pycache__"
    cache.mkdir()
    (cache / "_errors.pyc").write_bytes(b"")
    one, other = tmp_path / "one.bundle", tmp_path / "other.bundle"
    write_bundle(checkout, "9.10.0.dev1", one)
    write_bundle(checkout, "9.10.0.dev1", other)
    assert heads(one) == heads(other)
    tags = {f"refs/tags/v{version}" for version in (__version__, NEXT, "9.10.0.dev1")}
    assert set(heads(one)) == {*tags, "refs/heads/main", "HEAD"}
    run("git", "clone", "--quiet", one, "clone", cwd=tmp_path)
    clone = tmp_path / "clone"
    assert "dist: ##" in (clone / "_scaffold" / "template" / "Makefile.jinja").read_text()
    assert not list(clone.rglob("__pycache__"))
    changed = git(checkout, "diff", "--name-only").splitlines()
    assert changed == [f"{TEMPLATE}/Makefile.jinja"]


def test_a_clone_without_the_past_still_gives_the_template_at_hand(
    checkout: Path, tmp_path: Path
) -> None:
    """As pip clones what it is to install from a repository."""
    release_next(checkout)
    git(checkout, "config", "uploadpack.allowFilter", "true")
    partial = ("clone", "--quiet", "--filter=blob:none", checkout.as_uri(), "partial")
    run("git", *partial, cwd=tmp_path)
    shutil.rmtree(checkout)
    bundle = tmp_path / "template.bundle"
    with pytest.raises(subprocess.CalledProcessError):
        write_bundle(tmp_path / "partial", NEXT, bundle)
    write_bundle(tmp_path / "partial", NEXT, bundle, releases=False)
    assert set(heads(bundle)) == {f"refs/tags/v{NEXT}", "refs/heads/main", "HEAD"}


# The command


def test_the_command_says_that_nothing_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "acme", "--defaults"]) == 0
    commit(tmp_path / "acme")
    assert main(["update", "acme", "--defaults"]) == 0
    out, err = capfd.readouterr()
    assert out.endswith("\nUpdated. To see what has changed:  git diff\n")
    assert err == ""
    assert git(tmp_path / "acme", "status", "--porcelain") == ""


def refused(folder: Path, template: Path | None = None) -> str:
    with pytest.raises(Refused) as caught:
        update(folder, template=template)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_cannot_be_updated_is_refused(checkout: Path, tmp_path: Path) -> None:
    assert "no .copier-answers.yml" in refused(tmp_path)
    sdk = new({"name": "acme"}, into=tmp_path / "acme", template=PACKAGE)
    commit(sdk)
    (sdk / "Makefile").write_text("")
    assert "dirty" in refused(sdk, checkout)
    git(sdk, "checkout", "Makefile")
    answers = sdk / ".copier-answers.yml"
    edit(answers, f"_commit: v{__version__}", "_commit: v0.0.1")
    commit(sdk)
    message = "v0.0.1 of the template is not known here: use a newer streamsession"
    assert refused(sdk, checkout) == message
    edit(answers, "_src_path: streamsession::template.git", f"_src_path: {checkout}")
    assert refused(sdk).endswith("run `copier update` there")


def test_without_git_an_update_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["update", "--defaults"]) == 1
    assert capsys.readouterr().err == (
        "streamsession update: git is not installed, and merges what is new\n"
    )
