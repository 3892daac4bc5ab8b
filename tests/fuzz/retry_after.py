"""What a server asks to wait: whatever its headers hold, a time that can be waited, or none."""

import math
import time
from random import Random
from typing import Final

import httpx

from streamsession import RetryPolicy
from streamsession._retry import retry_after

from .engine import Case, mutated

__all__ = ["PARTS", "SEEDS", "check", "make"]

NOW: Final = 1764000000.0

SEEDS: Final = [
    *(b"0", b"120", b"1.5", b"-3", b"1e9", b"inf", b"nan", b"0x10", b"1_000", b" 7 "),
    b"Mon, 24 Nov 2025 16:00:10 GMT",
    b"Monday, 24-Nov-25 16:00:10 GMT",
    b"Mon Nov 24 16:00:10 2025",
    b"Fri, 31 Dec 9999 23:59:59 -2359",
    b"Sat, 01 Jan 0001 00:00:00 +2359",
    b"24 Nov 2025 16:00 PST",
    b"9" * 400,
    b"9" * 5000,
]
PARTS: Final = [
    *(b"0", b"9", b"-", b"+", b".", b":", b",", b" ", b"\t", b"(", b")", b'"', b"\\", b"[", b"<"),
    *(b"GMT", b"Nov", b"Mon,", b"2025", b"00:00:60", b"-0000", b"+9999", b"am", b"e9", b"\xb2"),
    *(b"\xe9", b"\xd9\xa3", b"\0", b"99999999999999999999", b"T", b"Z"),
]


def make(rng: Random) -> Case:
    value = mutated(rng, SEEDS, PARTS)
    return (value, mutated(rng, SEEDS, PARTS)) if rng.random() < 0.3 else (value,)


def check(case: Case) -> None:
    names = ("retry-after", "retry-after-ms")
    headers = httpx.Headers(
        [(name.encode(), value) for name, value in zip(names, case, strict=False)]
    )
    seconds = retry_after(headers, NOW)
    assert seconds is None or (0 <= seconds < math.inf)
    if (case or (b"",))[0].isdigit() and len(case) == 1 and len(case[0]) < 300:
        assert seconds == float(case[0])
    delay = RetryPolicy(clock=time.time).delay(1, seconds)
    assert delay is None or 0 <= delay <= 60
