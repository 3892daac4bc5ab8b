"""The commands `new` and `update`, as the command line has them: an option for each question."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ._new import new
from ._refused import Refused
from ._update import update

__all__ = ["prepare_new", "prepare_update"]

_NOT_ANSWERS: Final = {"command", "run", "into", "defaults"}
_INTERRUPTED: Final = {
    "new": "interrupted; nothing was written",
    "update": "interrupted; `git status` shows what was written",
}


def prepare_new(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `new`, and a `run` that returns the exit status."""
    parser.description = (
        "Write the repository of a new SDK, ready to be tested and published. What no option says "
        "is asked for, or with --defaults taken as it comes."
    )
    add = parser.add_argument
    add("name", metavar="NAME", help="what it is called on the package index, such as acme")
    add("--into", type=Path, metavar="FOLDER", help="where to write it; by default ./NAME")
    add("--package", help="what is imported; by default NAME with underscores")
    add("--title", help="what the API is called; names the class, such as Acme")
    add("--base-url", metavar="URL", help="where the API is")
    add("--auth", choices=["bearer", "header", "none", "custom"], help="what proves who is asking")
    add("--auth-header", metavar="HEADER", help="with --auth header: by default x-api-key")
    add(
        "--framing",
        choices=["sse", "json-lines", "json-seq", "event-stream", "json-array"],
        help="how the events are written",
    )
    add(
        "--end",
        choices=["final-event", "marker", "none"],
        help="what proves that a stream is complete",
    )
    add("--marker", help="with --end marker: by default [DONE]")
    add(
        "--vendor",
        action=argparse.BooleanOptionalAction,
        help="copy the core into the package, to depend on httpx, anyio and pydantic only",
    )
    add("--author", help="who holds the copyright")
    add("--defaults", action="store_true", help="ask nothing")
    parser.set_defaults(run=_reported(_new))


def prepare_update(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `update`, and a `run` that returns the exit status."""
    parser.description = (
        "Merge into the repository of an SDK what has changed in the template since it was made, "
        "or last updated. Nothing is committed."
    )
    add = parser.add_argument
    add("folder", type=Path, nargs="?", default=Path(), metavar="FOLDER", help="the repository")
    add("--defaults", action="store_true", help="ask nothing, not even what is newly asked")
    parser.set_defaults(run=_reported(_update))


def _new(options: argparse.Namespace) -> int:
    answers = {
        name: value
        for name, value in vars(options).items()
        if value is not None and name not in _NOT_ANSWERS
    }
    folder = new(answers, into=options.into, ask=_may_ask(options))
    print(f"{folder} is a new SDK. To go on:  cd {folder} && make demo test check")
    return 0


def _update(options: argparse.Namespace) -> int:
    conflicts = update(options.folder, ask=_may_ask(options))
    if conflicts:
        print(f"Updated, but both sides have changed the same lines in: {', '.join(conflicts)}")
        return 1
    print("Updated. To see what has changed:  git diff")
    return 0


def _may_ask(options: argparse.Namespace) -> bool:
    """Whether to ask.

    Raises:
        Refused: There is nobody to ask.
    """
    if not options.defaults and not sys.stdin.isatty():
        raise Refused("there is no terminal to ask on: add --defaults")
    return not options.defaults


def _reported(run: Callable[[Any], int]) -> Callable[[Any], int]:
    """The command with its failures in one line."""

    def reported(options: argparse.Namespace) -> int:
        try:
            return run(options)
        except Refused as exc:
            message, status = str(exc), 1
        except KeyboardInterrupt:
            message, status = _INTERRUPTED[options.command], 130
        print(f"streamsession {options.command}: {message}", file=sys.stderr)
        return status

    return reported
