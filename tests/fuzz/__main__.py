"""Runs the targets for so many seconds: `python -m tests.fuzz [--seconds 60] [TARGET...]`.

Prints what it did and with which seed; the same seed makes the same cases again. A case that fails
is made as small as possible and printed as a test to paste. It takes a POSIX system, whose signals
end a case that hangs.
"""

import argparse
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from random import Random, SystemRandom
from types import FrameType
from typing import Final

from . import (
    cost,
    event_stream,
    events,
    inflate,
    json_array,
    json_lines,
    json_seq,
    resume,
    retry_after,
    session,
    sse,
)
from .engine import Case, Target, shrunk

TARGETS: Final[dict[str, Target]] = {
    "sse": sse,
    "json_lines": json_lines,
    "json_seq": json_seq,
    "json_array": json_array,
    "event_stream": event_stream,
    "events": events,
    "retry_after": retry_after,
    "inflate": inflate,
    "resume": resume,
    "session": session,
    "cost": cost,
}
_HANGS_AFTER: Final = 20  # seconds of CPU time that one case may take
_SHRINKS_FOR: Final = 30  # seconds

_unraisable: list[BaseException | None] = []


class Hung(BaseException):
    """A case did not come to an end."""


def failure_of(target: Target, case: Case) -> BaseException | None:
    """What is wrong with a case, be it raised or only warned of; None if it is right."""
    _unraisable.clear()
    signal.setitimer(signal.ITIMER_PROF, _HANGS_AFTER)
    try:
        target.check(case)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # noqa: BLE001 - whatever it is, it was found
        return exc
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return _unraisable[0] if _unraisable else None


def fuzz(name: str, *, seed: int, seconds: float) -> bool:
    """Whether a target kept its laws for so long."""
    target = TARGETS[name]
    began = time.monotonic()
    number = 0
    slowest = 0.0
    while (started := time.monotonic()) < began + seconds:
        case = target.make(Random(f"{seed} {name} {number}"))  # noqa: S311 - to be had again
        if failure := failure_of(target, case):
            print(f"{name}: case {number} of seed {seed} FAILED")
            report(name, target, case, failure)
            return False
        slowest = max(slowest, time.monotonic() - started)
        number += 1
    took = f"{started - began:.0f} s, seed {seed}, the slowest took {slowest * 1000:.0f} ms"
    print(f"{name}: {number} cases in {took}", flush=True)
    return True


def report(name: str, target: Target, case: Case, failure: BaseException) -> None:
    """Print the smallest case that fails in the same way, as a test, and how it fails."""
    until = time.monotonic() + _SHRINKS_FOR

    def fails(smaller: Case) -> bool:
        late = time.monotonic() > until or isinstance(failure, Hung)
        return not late and type(failure_of(target, smaller)) is type(failure)

    case = shrunk(case, fails)
    again = failure_of(target, case) or failure
    print("".join(traceback.format_exception(again)))
    print(f"from tests.fuzz import {name}\n\n\ndef test_what_fuzzing_found() -> None:")
    print(f"    {name}.check({case!r})\n")


def _on_alarm(signal_number: int, frame: FrameType | None) -> None:
    raise Hung(f"no end after {_HANGS_AFTER} s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Attack at random.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**6))
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - TARGETS.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    warnings.simplefilter("error")
    sys.unraisablehook = lambda told: _unraisable.append(told.exc_value)
    signal.signal(signal.SIGPROF, _on_alarm)
    names: Sequence[str] = options.targets or list(TARGETS)
    seconds = options.seconds / len(names)
    kept = [fuzz(each, seed=options.seed, seconds=seconds) for each in names]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
