"""Random cases, and the smallest of those that fail. Knows no target."""

import base64
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Protocol, TypeAlias

Case: TypeAlias = tuple[bytes, ...]

_DATA = Path(__file__).parent.parent / "data"
_LONGEST = 4096
_LINE_END = re.compile(rb"[\r\n]+")


class Target(Protocol):
    """A module that fuzzes one thing."""

    def make(self, rng: Random) -> Case:
        """A random case."""
        ...

    def check(self, case: Case) -> None:
        """Raises anything at all if the case breaks a law."""
        ...


def bodies_of(name: str) -> list[bytes]:
    """The bodies of a file of conformance cases."""
    cases = json.loads((_DATA / name).read_text(encoding="utf-8"))
    return [b"".join(map(base64.b64decode, case["chunks"])) for case in cases]


def mutated(rng: Random, seeds: Sequence[bytes], parts: Sequence[bytes]) -> bytes:
    """One of the seeds, or nothing, after some accidents."""
    body = rng.choice(seeds) if rng.random() < 0.8 else b""
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        start, end = sorted((rng.randint(0, len(body)), rng.randint(0, len(body))))
        end = min(end, start + rng.choice((1, 8, 4096)))
        middle = body[start:end]
        changed: Callable[[], bytes] = rng.choice(
            (
                lambda: b"",
                lambda middle=middle: middle * rng.choice((2, 3, 30)),
                lambda middle=middle: middle + rng.choice(parts),
                lambda middle=middle: b"".join(rng.choices(parts, k=5)) + middle,
                lambda: rng.choice(parts),
                lambda middle=middle: rng.choice(seeds)[: rng.choice((8, 4096))] + middle,
                lambda: rng.randbytes(rng.randint(1, 4)),
            )
        )
        body = (body[:start] + changed() + body[end:])[:_LONGEST]
    return body


def cut(rng: Random, body: bytes) -> Case:
    """The body in one chunk, byte by byte, or in a few, of which some may be empty."""
    if (way := rng.random()) < 0.2:
        return (body,)
    places: Sequence[int] = range(len(body) + 1)
    if way > 0.7:  # between lines, where decoders take short cuts
        places = [0, 1, 2, *(end.end() for end in _LINE_END.finditer(body)), len(body)]
    if way > 0.4:
        places = sorted(rng.choices(places, k=rng.randint(1, 6)))
    return tuple(body[i:j] for i, j in zip([0, *places], [*places, len(body)], strict=True))


def shrunk(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The smallest case to be had that fails, by leaving out and simplifying ever less."""
    while (smaller := next(filter(fails, _smaller(case)), None)) is not None:
        case = smaller
    return case


def _smaller(case: Case) -> Iterator[Case]:
    for i in range(len(case)):
        yield case[:i] + case[i + 1 :]
    for i in range(len(case) - 1):
        yield *case[:i], case[i] + case[i + 1], *case[i + 2 :]
    for i, chunk in enumerate(case):
        size = len(chunk)
        while size:
            for start in range(0, len(chunk), size):
                yield *case[:i], chunk[:start] + chunk[start + size :], *case[i + 1 :]
            size //= 2
    for i, chunk in enumerate(case):
        for at, byte in enumerate(chunk):
            if byte > ord("a"):
                yield *case[:i], chunk[:at] + b"a" + chunk[at + 1 :], *case[i + 1 :]
