"""What a run gave, as Markdown: a table for each workload, and what was demanded."""

import os
import platform
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from .bars import Bar, bars
from .results import FLOOR, OURS, Results, Table, bytes_of

__all__ = ["demands", "page", "table_of"]

_PACKAGES: Final = (
    *("streamsession", "httpx", "httpcore", "h11", "anyio", "pydantic", "openai", "anthropic"),
    *("httpx-sse", "httpx2", "aiohttp", "httpx-aiohttp", "uvloop", "h2", "botocore"),
)
_HEAD: Final = """\
# What a stream costs

`make bench` made this page. All numbers are from one run on one machine, and only their ratios say
much. A server in a process of its own plays ready-made bytes over loopback; every row is a client
in a process of its own, and the rows of a table are measured in turns. A row shows its best round;
the spread is how far above it the median was.

The **floor** is what one writes by hand for the API, on the same library: `floors.py`. On the
bytes of OpenAI and Anthropic, the floor, **ours** and the SDK all hand over objects of the SDK's
own classes; with "own classes", of a few that one would declare for oneself; "neutral events" are
those of the examples. Costs are per token that the server sent, so that it makes no difference how
many objects a client makes of it. `÷ floor` and `÷ ours` compare on the same bytes and over the
same library; over httpx what stands on httpx2, as the SDKs do, or on a socket.

Every client stands on its library as that comes: the floor over httpx on httpx's own transport,
**ours** on the one it brings, which is httpx on other sockets. "floor, our transport" is the loop
of the floor on the transport of the session: what it gains is the transport's, and how ours
compares with it stands below the table. "ours, httpx.AsyncClient" is a session that was handed
httpx's own client, and so stands on what the floor does. Over aiohttp, the floor has the transport
of httpx-aiohttp, and the SDKs their own copy of that. "http2" is HTTP/2 over TLS with all streams
in one connection; there the floor has httpx's own. SDKs and sessions have their default settings,
so only these watch a clock.
"""


def table_of(table: Table) -> str:
    """One workload: its rows, what they cost, and how often that of the floor and of ours."""
    workload = table.workload
    _, *rest = workload.columns
    unit, *units = workload.columns.values()
    lines = [_line("bytes", "who", "over", unit, "÷ floor", "÷ ours", "spread", *units)]
    lines.append(_line("---", "---", "---", *["---:"] * (4 + len(units))))
    for row in table.rounds:
        names = bytes_of(row), f"**{OURS}**" if row.name == OURS else row.name
        costs = _number(table.best(row)), *(_ratio(table.ratio(row, to)) for to in (FLOOR, OURS))
        others = (_number(table.best(row, column)) for column in rest)
        lines.append(_line(*names, row.over, *costs, f"{table.spread(row):.0f} %", *others))
    notes = [f"{note}\n" for note in _on_our_transport(table)]
    return "\n".join([f"## {workload.title}", "", workload.about, "", *lines, "", *notes])


def _on_our_transport(table: Table) -> Iterator[str]:
    """What ours costs besides its transport."""
    ratios: list[str] = []
    for row in table.rounds:
        if row.name == f"{FLOOR}, our transport":
            ratio = table.best(row._replace(name=OURS)) / table.best(row)
            ratios.append(f"{ratio:.2f} over {row.over} on {bytes_of(row)}")
    if ratios:
        yield f"Ours ÷ floor, both on our transport: {', '.join(ratios)}."


def demands(results: Results) -> str:
    """What was demanded, and whether it was met."""
    lines = [_line("workload", "demanded", "measured", "met"), _line("---", "---", "---:", "---")]
    lines += map(_demand, bars(results))
    return "\n".join(["## What was demanded", "", *lines, ""])


def page(results: Results, *, picture: str) -> str:
    """All of it, with the date, the machine and the versions; `picture` is the name of a file."""
    parts = [_HEAD, *_conditions(), f"\n![CPU per event]({picture})\n", demands(results)]
    return "\n".join([*parts, *map(table_of, results.values())])


def _conditions() -> Iterator[str]:
    yield f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield f"- {python}, {ssl.OPENSSL_VERSION}, {platform.system()}"
    yield f"- {os.cpu_count()} × {_processor()}"
    yield "- " + ", ".join(f"{name} {version(name)}" for name in _PACKAGES)


def _processor() -> str:
    """What Linux says the processor is (`man 5 proc_cpuinfo`); else its kind."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _demand(bar: Bar) -> str:
    met = {True: "yes", False: "**no**", None: "not demanded"}[bar.is_met]
    return _line(bar.workload, bar.claim, f"{_number(bar.value)} {bar.unit}".strip(), met)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _number(value: float) -> str:
    """Three digits, or all of those before the point."""
    before = len(str(int(abs(value))))
    return f"{value:,.{max(0, 3 - before)}f}"
