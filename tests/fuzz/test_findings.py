"""What fuzzing has found, kept from coming back: the cases as they were printed, and what they are.

And that the fuzzers work.
"""

import subprocess
import sys
import tracemalloc
from pathlib import Path
from random import Random

import pytest

from streamsession import ServerSentEvent
from streamsession._resume import ReplayFilter

from . import resume, retry_after, session
from .__main__ import TARGETS
from .engine import Case, Target, shrunk

ROOT = Path(__file__).parent.parent.parent

FOUND: list[tuple[str, Target, Case]] = [
    ("a wait behind white space that float() does not strip", retry_after, (b"\x1f7",)),
    ("a redirect to what httpx refuses as a URL", session, (b"307\nlocation:a:a",)),
    (
        "an error status in a compression that was not asked for",
        session,
        (b"503\ncontent-encoding:br", b"x"),
    ),
    (
        "an answer without a body in a compression that was not asked for",
        session,
        (b"200\ncontent-encoding:br",),
    ),
    (
        "a token behind an id that came without data is sent again",
        resume,
        (b"\x04\x08", bytes([60])),
    ),
    (
        "a token after an id that came without data is left out",
        resume,
        (b"\x00\x08\x04\x08", bytes([98])),
    ),
]


@pytest.mark.parametrize(
    ("target", "case"), [pytest.param(*found, id=what) for what, *found in FOUND]
)
def test_a_case_that_was_found_keeps_the_laws(target: Target, case: Case) -> None:
    target.check(case)


def test_long_ids_are_remembered_in_little_memory() -> None:
    replay = ReplayFilter()
    tracemalloc.start()
    try:
        for number in range(100):
            assert replay.new(ServerSentEvent(id=str(number) * 50_000))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 500_000


# The fuzzers


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_same_seed_makes_the_same_case_and_another_one_another(target: Target) -> None:
    cases = [target.make(Random(seed)) for seed in (*range(20), *range(20))]  # noqa: S311 - to be had again
    assert cases[:20] == cases[20:]
    assert len(set(cases)) > 10


def test_a_case_that_fails_is_made_as_small_as_it_can_be() -> None:
    case = (b"some", b"bytes: ab", b"c", b"", b"more")
    assert shrunk(case, lambda smaller: b"b" in b"".join(smaller)[1:]) == (b"ab",)


def test_a_run_tells_what_it_did_and_ends_in_time() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", "0.2", "--seed", "7", "inflate"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.startswith("inflate: ")
    assert " cases in 0 s, seed 7, " in run.stdout
